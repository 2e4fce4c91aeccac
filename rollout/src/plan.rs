//! The plan of pace `interval`: what Flagger's `analysis` block says, kept as Flagger reads it.
//!
//! A plan accepts what Flagger accepts, including what it does badly: so a block that was pasted runs as it always
//! ran. [`Plan::hazards`] names what a careful caller refuses.

use std::fmt;

use thiserror::Error;

use crate::Ppm;

/// Metrics, hooks and steps of one plan, each at most this many.
pub const PLAN_ENTRIES_MAX: usize = 64;

/// Flagger's `analysis` block as plain data. Shares are whole percents as written there, wrong ones included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Analysis {
    /// `interval`, in milliseconds. `None`: not written, which is refused.
    pub interval_ms: Option<u64>,
    /// `threshold`: failed checks before the rollback. `None`: not written, which is refused. Below 1 counts as 1.
    pub threshold: Option<i64>,
    /// `stepWeight`, percent.
    pub step_weight: Option<i64>,
    /// `stepWeights`, percent.
    pub step_weights: Option<Vec<i64>>,
    /// `maxWeight`, percent; 100 if absent or 0.
    pub max_weight: Option<i64>,
    /// `stepWeightPromotion`, percent; absent or 0 means all at once.
    pub step_weight_promotion: Option<i64>,
    /// `iterations`.
    pub iterations: Option<i64>,
    /// Whether `match` has a rule.
    pub matches: bool,
    /// `mirror`.
    pub mirror: bool,
    /// `metrics`.
    pub metrics: Vec<Metric>,
    /// `webhooks`.
    pub hooks: Vec<Hook>,
    /// `sessionAffinity`: the cookie and the cookie of the primary.
    pub cookies: Option<(String, Option<String>)>,
    /// What the router can do.
    pub router: Router,
}

/// What moves the traffic: not every router of Flagger's can do everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Router {
    /// Nothing is shifted: provider `kubernetes`.
    None,
    /// Weights, and no copies.
    Weights,
    /// Weights, and copies in blue/green only.
    WeightsMirrorsBlueGreen,
    /// Weights and copies everywhere.
    #[default]
    Full,
}

/// One entry of `metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub source: MetricSource,
    /// `thresholdRange`: least and most; both ends pass.
    pub range: Option<(Option<f64>, Option<f64>)>,
    /// The old `threshold`, used where there is no range; 0 if absent.
    pub threshold: f64,
}

/// Where a metric's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricSource {
    /// `request-duration`: the p99 in milliseconds, fractions dropped.
    Duration,
    /// A query written in place.
    Query,
    /// `request-success-rate`, percent.
    SuccessRate,
    /// A metric template.
    Template,
    /// None of these: such a check always fails.
    Unknown,
}

/// One entry of `webhooks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// When it is asked.
    pub kind: HookKind,
}

/// When a hook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// Before the promotion, at the last weight.
    ConfirmPromotion,
    /// Before the first traffic of a new revision.
    ConfirmRollout,
    /// Before each raise.
    ConfirmTrafficIncrease,
    /// Told of every event, asked nothing.
    Event,
    /// After the end.
    PostRollout,
    /// At weight 0, before the first step.
    PreRollout,
    /// At each tick: a pass rolls back.
    Rollback,
    /// At each check.
    Rollout,
}

/// What a hook said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Passed,
    /// Nothing yet: it holds whatever waits for it, and is no failure.
    #[default]
    Pending,
    /// No.
    Refused,
}

impl Answer {
    /// Flagger's reading of a status: 202 is the last that passes.
    #[must_use]
    pub const fn from_status_as_flagger(status: u16) -> Answer {
        if status >= 200 && status <= 202 { Answer::Passed } else { Answer::Refused }
    }

    /// Serin's own reading: every 2xx passes.
    #[must_use]
    pub const fn from_status(status: u16) -> Answer {
        if status >= 200 && status <= 299 { Answer::Passed } else { Answer::Refused }
    }
}

/// Why an `analysis` block is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// Both cookies of `sessionAffinity` have one name.
    #[error("cookieName and primaryCookieName are equal")]
    CookiesEqual,
    /// `sessionAffinity` without `cookieName`.
    #[error("sessionAffinity needs cookieName")]
    CookieUnnamed,
    /// No interval.
    #[error("analysis needs interval")]
    NoInterval,
    /// No threshold.
    #[error("analysis needs threshold")]
    NoThreshold,
    /// None or several of the three.
    #[error("exactly one of iterations, stepWeight, stepWeights")]
    NotOneStrategy,
    /// More entries than [`PLAN_ENTRIES_MAX`].
    #[error("at most {PLAN_ENTRIES_MAX} steps, metrics or webhooks")]
    TooMany,
}

/// What Flagger accepts and does badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hazard {
    /// A metric without a limit always fails or always passes.
    MetricWithoutLimit,
    /// A metric of an unknown name fails every check.
    MetricUnknown,
    /// The router cannot send copies: the rollout waits for ever at weight 0.
    MirrorImpossible,
    /// The last step passes `maxWeight`.
    StepAboveMaximum,
    /// A list that falls, repeats or has a 0: the rollout waits for ever.
    StepsNotRising,
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hazard::MetricWithoutLimit => {
                "a metric needs a thresholdRange: without one it always fails or always passes"
            }
            Hazard::MetricUnknown => "no built-in metric has this name, and it has neither query nor template",
            Hazard::MirrorImpossible => "this router cannot mirror: the rollout would wait at weight 0 for ever",
            Hazard::StepAboveMaximum => "the last step would pass maxWeight",
            Hazard::StepsNotRising => "steps must rise, each above 0 % and none above 100 %",
        })
    }
}

/// A legal plan for pace `interval`.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    analysis: Analysis,
    interval_ms: u64,
    threshold: u32,
}

impl Plan {
    /// The plan, or why Flagger's own schema refuses it.
    ///
    /// # Errors
    /// [`PlanError`]
    pub fn new(analysis: Analysis) -> Result<Plan, PlanError> {
        let interval_ms = analysis.interval_ms.ok_or(PlanError::NoInterval)?.max(INTERVAL_MS_MIN);
        let threshold = analysis.threshold.ok_or(PlanError::NoThreshold)?;
        let strategies =
            [analysis.iterations.is_some(), analysis.step_weight.is_some(), analysis.step_weights.is_some()];
        if strategies.iter().filter(|written| **written).count() != 1 {
            return Err(PlanError::NotOneStrategy);
        }
        if let Some((canary, primary)) = &analysis.cookies {
            if canary.is_empty() {
                return Err(PlanError::CookieUnnamed);
            }
            if primary.as_ref() == Some(canary) {
                return Err(PlanError::CookiesEqual);
            }
        }
        let longest =
            [analysis.metrics.len(), analysis.hooks.len(), analysis.step_weights.as_ref().map_or(0, Vec::len)];
        if longest.iter().any(|len| *len > PLAN_ENTRIES_MAX) {
            return Err(PlanError::TooMany);
        }
        let threshold = u32::try_from(threshold.max(1)).unwrap_or(u32::MAX);
        Ok(Plan { analysis, interval_ms, threshold })
    }

    /// What Flagger would accept and do badly. Empty for a plan that can be run without a warning.
    #[must_use]
    pub fn hazards(&self) -> Vec<Hazard> {
        let analysis = &self.analysis;
        let mut found = Vec::new();
        let unlimited =
            |m: &Metric| m.range.is_none_or(|(min, max)| min.is_none() && max.is_none()) && m.threshold == 0.0;
        if analysis.metrics.iter().any(|m| m.source == MetricSource::Unknown) {
            found.push(Hazard::MetricUnknown);
        }
        if analysis.metrics.iter().any(unlimited) {
            found.push(Hazard::MetricWithoutLimit);
        }
        if analysis.mirror && !self.can_mirror() {
            found.push(Hazard::MirrorImpossible);
        }
        let steps = analysis.step_weights.as_deref().unwrap_or_default();
        let rising = steps.is_sorted_by(|a, b| a < b) && steps.iter().all(|s| (1..=100).contains(s));
        let linear = analysis.step_weight.is_some_and(|s| !(1..=100).contains(&s));
        if !rising || linear || (analysis.step_weights.is_some() && steps.is_empty()) {
            found.push(Hazard::StepsNotRising);
        }
        let step = analysis.step_weight.unwrap_or(0).min(100);
        if step > 0 && !self.weight_max().get().is_multiple_of(Ppm::clamped(step * PPM_PER_PERCENT).get()) {
            found.push(Hazard::StepAboveMaximum);
        }
        found
    }

    /// Time between two ticks, milliseconds, at least 10 000.
    #[must_use]
    pub const fn interval_ms(&self) -> u64 {
        self.interval_ms
    }

    /// Failed checks before the rollback, at least 1.
    #[must_use]
    pub const fn failed_checks_max(&self) -> u32 {
        self.threshold
    }

    /// What was written.
    #[must_use]
    pub const fn analysis(&self) -> &Analysis {
        &self.analysis
    }

    /// The metrics in their order: a tick brings one reading for each.
    #[must_use]
    pub fn metrics(&self) -> &[Metric] {
        &self.analysis.metrics
    }

    /// The hooks in their order: a tick brings one answer for each.
    #[must_use]
    pub fn hooks(&self) -> &[Hook] {
        &self.analysis.hooks
    }

    /// What the router can do.
    #[must_use]
    pub const fn router(&self) -> Router {
        self.analysis.router
    }

    pub(crate) fn mirror(&self) -> bool {
        self.analysis.mirror
    }

    pub(crate) fn can_mirror(&self) -> bool {
        match self.analysis.router {
            Router::Full => true,
            Router::WeightsMirrorsBlueGreen => self.iterations() > 0,
            Router::None | Router::Weights => false,
        }
    }

    /// Rounds of A/B and blue/green; 0 for a canary with steps. Where nothing can be shifted, 10 unless written.
    #[must_use]
    pub fn iterations(&self) -> i32 {
        let written = i32::try_from(self.analysis.iterations.unwrap_or(0)).unwrap_or(i32::MAX);
        if self.analysis.router == Router::None && written < 1 { ITERATIONS_UNSHIFTED } else { written.max(0) }
    }

    pub(crate) fn is_ab(&self) -> bool {
        self.analysis.matches && self.analysis.router != Router::None && self.iterations() > 0
    }

    pub(crate) fn has_steps(&self) -> bool {
        self.analysis.step_weight.is_some_and(|s| s > 0)
            || self.analysis.step_weights.as_ref().is_some_and(|s| !s.is_empty())
    }

    /// The weight at which the canary is promoted.
    pub(crate) fn weight_max(&self) -> Ppm {
        let written = match self.analysis.step_weights.as_deref() {
            Some([.., last]) => *last,
            _ => self.analysis.max_weight.filter(|max| *max > 0).unwrap_or(100),
        };
        Ppm::clamped(written.clamp(0, 100) * PPM_PER_PERCENT)
    }

    /// By how much the canary's weight rises from `weight`. `None`: by nothing, for ever.
    pub(crate) fn raise(&self, weight: Ppm) -> Option<i64> {
        let step = self.analysis.step_weight.unwrap_or(0).min(100);
        if step > 0 {
            return Some(step * PPM_PER_PERCENT);
        }
        let list = self.analysis.step_weights.as_deref().unwrap_or_default();
        let (weight, room) = (i64::from(weight.get()), i64::from(weight.rest().get()));
        let share = |entry: i64| entry.clamp(-100, 1_000) * PPM_PER_PERCENT;
        let raise = if room == 0 {
            PPM_PER_PERCENT
        } else if weight == 0 {
            list.first().map_or(room, |first| room.min(share(*first)))
        } else {
            match list.iter().position(|entry| share(*entry) == weight) {
                Some(at) if at + 1 < list.len() => room.min(share(list[at + 1]) - weight),
                _ => room,
            }
        };
        (raise > 0).then_some(raise)
    }

    /// The weights a canary with steps goes through, as far as they rise. Empty for rounds.
    #[must_use]
    pub fn steps(&self) -> Vec<Ppm> {
        let mut steps = Vec::new();
        let mut weight = Ppm::ZERO;
        while self.iterations() == 0 && weight < self.weight_max() && steps.len() < STEPS_SHOWN_MAX {
            let Some(raise) = self.raise(weight) else { break };
            weight = Ppm::clamped(i64::from(weight.get()) + raise);
            steps.push(weight);
        }
        steps
    }

    /// By how much the primary gets its traffic back at each tick of a promotion; 0 for all at once.
    pub(crate) fn promotion_step(&self) -> i64 {
        self.analysis.step_weight_promotion.unwrap_or(0).clamp(0, 100) * PPM_PER_PERCENT
    }
}

const INTERVAL_MS_MIN: u64 = 10_000;
/// One percent each: no plan has more.
const STEPS_SHOWN_MAX: usize = 100;
const ITERATIONS_UNSHIFTED: i32 = 10;
const PPM_PER_PERCENT: i64 = 10_000;

#[cfg(test)]
mod tests;
