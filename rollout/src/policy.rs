//! How a rollout by evidence goes and how it is guarded: legal by construction.

use thiserror::Error;

use crate::plan::{Analysis, Hook, Metric, PLAN_ENTRIES_MAX};
use crate::record::Kind;
use crate::{MetricSource, Ppm};

/// What a user wrote about the guard, as plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardSettings {
    /// The chance that a harmless canary is rolled back, over the whole rollout. 0.01 % to 20 %.
    pub alpha: Ppm,
    /// The chance that a canary over its limit passes a step. 0.01 % to 20 %.
    pub beta: Ppm,
    /// The share of requests that may fail before a canary can be blamed, 0.0001 % to 50 %; 0.5 % if `None`.
    pub error_budget: Option<Ppm>,
    /// The share of failures above which nothing advances unless the primary fails as much: used where no budget is
    /// written; 1 % if `None`.
    pub error_limit: Option<Ppm>,
    /// How many times as often as the primary the canary may have events, in thousandths, 1000 to 10 000, by kind.
    pub tolerance_milli: [u32; KINDS],
    /// How much of the whole each kind may bet; together at most everything. A kind with nothing is off.
    pub stakes: [Ppm; KINDS],
}

/// Kinds of events.
pub(crate) const KINDS: usize = Kind::ALL.len();

impl Default for GuardSettings {
    /// alpha 1 %, beta 5 %, budget 0.5 %; as often as the primary for failures, 1.1, 1.15 and 1.25 times for slow ones.
    fn default() -> GuardSettings {
        let mut tolerance_milli = [1_000; KINDS];
        let mut stakes = [Ppm::ZERO; KINDS];
        for (kind, tolerance, stake) in [
            (Kind::Failure, 1_000, 60),
            (Kind::Slow99, 1_250, 15),
            (Kind::Slow90, 1_150, 10),
            (Kind::Slow50, 1_100, 5),
            (Kind::Custom, 1_000, 10),
        ] {
            tolerance_milli[kind.index()] = tolerance;
            stakes[kind.index()] = Ppm::clamped(stake * 10_000);
        }
        GuardSettings {
            alpha: Ppm::clamped(10_000),
            beta: Ppm::clamped(50_000),
            error_budget: None,
            error_limit: None,
            tolerance_milli,
            stakes,
        }
    }
}

/// Legal settings of the guard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuardPolicy(GuardSettings);

impl GuardPolicy {
    /// The policy, or everything that is wrong with the settings.
    ///
    /// # Errors
    /// All mistakes, in the order of the fields.
    pub fn new(settings: GuardSettings) -> Result<GuardPolicy, Vec<PolicyError>> {
        let mut wrong = Vec::new();
        let chance = CHANCE_PPM_MIN..=CHANCE_PPM_MAX;
        if !chance.contains(&settings.alpha.get()) {
            wrong.push(PolicyError::Alpha);
        }
        if !chance.contains(&settings.beta.get()) {
            wrong.push(PolicyError::Beta);
        }
        let budgets = [settings.error_budget, settings.error_limit];
        if budgets.iter().flatten().any(|budget| !(1..=BUDGET_PPM_MAX).contains(&budget.get())) {
            wrong.push(PolicyError::Budget);
        }
        if settings.tolerance_milli.iter().any(|tolerance| !TOLERANCE_MILLI.contains(tolerance)) {
            wrong.push(PolicyError::Tolerance);
        }
        if settings.stakes.iter().map(|stake| stake.get()).sum::<u32>() > Ppm::WHOLE.get() {
            wrong.push(PolicyError::Stakes);
        }
        if wrong.is_empty() { Ok(GuardPolicy(settings)) } else { Err(wrong) }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &GuardSettings {
        &self.0
    }

    /// 1/alpha: the score that rolls back.
    #[must_use]
    pub fn sure(&self) -> f64 {
        1.0 / self.0.alpha.fraction()
    }

    /// 1/beta: the score that lets a step pass.
    #[must_use]
    pub fn shown(&self) -> f64 {
        1.0 / self.0.beta.fraction()
    }

    pub(crate) fn tolerance(&self, kind: Kind) -> f64 {
        f64::from(self.0.tolerance_milli[kind.index()]) / 1_000.0
    }

    pub(crate) fn stake(&self, kind: Kind) -> f64 {
        self.0.stakes[kind.index()].fraction()
    }

    /// The share of requests that may fail before a canary can be blamed.
    #[must_use]
    pub fn error_budget(&self) -> Ppm {
        self.0.error_budget.unwrap_or(Ppm::clamped(BUDGET_PPM_DEFAULT))
    }

    /// The share of failures above which nothing advances unless the primary fails as much.
    #[must_use]
    pub fn error_limit(&self) -> Ppm {
        self.0.error_budget.or(self.0.error_limit).unwrap_or(Ppm::clamped(LIMIT_PPM_DEFAULT))
    }
}

/// What to do when a step's time is over and the evidence is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInsufficient {
    /// Go on all the same, unless the guard holds.
    Advance,
    /// Stay, and say so.
    #[default]
    Hold,
    /// Give up.
    Rollback,
}

/// What a user wrote about a rollout by evidence, as plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The shares to go through, each above the one before, all above 0 and below the whole.
    pub steps: Vec<Ppm>,
    /// The least time at a step, and the time between two checks of `metrics`: 1 s to 1 day.
    pub interval_ms: u64,
    /// Failed checks that roll back, 1 to 1000.
    pub failed_checks_max: u32,
    /// Canary requests a step needs, at least.
    pub requests_min: u32,
    /// The most time at a step; `None` for as long as it takes.
    pub step_deadline_ms: Option<u64>,
    /// What to do then.
    pub on_insufficient: OnInsufficient,
    /// By how much the canary's share rises at each interval once the last step passed; `None` for all at once.
    pub promotion_step: Option<Ppm>,
    /// Limits checked once an interval.
    pub metrics: Vec<Metric>,
    /// Gates and hooks.
    pub hooks: Vec<Hook>,
    /// The guard.
    pub guard: GuardPolicy,
}

impl Default for Settings {
    /// 1, 5, 10, 25 and 50 %, a minute each at least, 200 canary requests a step.
    fn default() -> Settings {
        Settings {
            steps: [1, 5, 10, 25, 50].into_iter().filter_map(Ppm::from_percent).collect(),
            interval_ms: 60_000,
            failed_checks_max: 5,
            requests_min: 200,
            step_deadline_ms: Some(3_600_000),
            on_insufficient: OnInsufficient::Hold,
            promotion_step: None,
            metrics: Vec::new(),
            hooks: Vec::new(),
            guard: GuardPolicy::default(),
        }
    }
}

impl Settings {
    /// Flagger's block as a rollout by evidence: the same steps, none above the maximum; the interval is the least
    /// time at a step, and a lower limit of the success rate is what nothing advances beyond.
    ///
    /// # Errors
    /// [`PolicyError::Strategy`] for A/B, blue/green and mirroring, and what is wrong with the guard's settings.
    pub fn from_analysis(analysis: &Analysis, mut guard: GuardSettings) -> Result<Settings, Vec<PolicyError>> {
        if analysis.matches || analysis.mirror || analysis.iterations.is_some() {
            return Err(vec![PolicyError::Strategy]);
        }
        let percent = |percent: i64| Ppm::clamped(percent.clamp(0, 100) * 10_000);
        let steps = match (&analysis.step_weights, analysis.step_weight) {
            (Some(list), None) => list.iter().map(|step| percent(*step)).collect(),
            (None, Some(step @ 1..=100)) => {
                let max = analysis.max_weight.filter(|max| *max > 0).unwrap_or(100).min(100);
                (1..=(max + step - 1) / step).map(|at| percent((at * step).min(max))).collect()
            }
            _ => Vec::new(),
        };
        let steps: Vec<Ppm> = steps.into_iter().filter(|step| *step != Ppm::WHOLE).collect();
        let floor = |m: &Metric| m.range.and_then(|(min, _)| min).filter(|_| m.source == MetricSource::SuccessRate);
        if let Some(min) = analysis.metrics.iter().find_map(floor) {
            guard.error_limit = guard.error_limit.or(Some(Ppm::clamped(((100.0 - min) * 10_000.0).round() as i64)));
        }
        Ok(Settings {
            steps,
            interval_ms: analysis.interval_ms.unwrap_or(60_000),
            failed_checks_max: u32::try_from(analysis.threshold.unwrap_or(1).max(1)).unwrap_or(u32::MAX),
            promotion_step: analysis.step_weight_promotion.filter(|step| *step > 0).map(percent),
            metrics: analysis.metrics.clone(),
            hooks: analysis.hooks.clone(),
            guard: GuardPolicy::new(guard)?,
            ..Settings::default()
        })
    }
}

/// A legal rollout by evidence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy(Settings);

impl Policy {
    /// The policy, or everything that is wrong with the settings.
    ///
    /// # Errors
    /// All mistakes, in the order of the fields.
    pub fn new(settings: Settings) -> Result<Policy, Vec<PolicyError>> {
        let mut wrong = Vec::new();
        let steps = &settings.steps;
        let inside = steps.iter().all(|step| *step > Ppm::ZERO && *step < Ppm::WHOLE);
        if steps.is_empty() || !inside || !steps.is_sorted_by(|a, b| a < b) {
            wrong.push(PolicyError::Steps);
        }
        if !(INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(&settings.interval_ms) {
            wrong.push(PolicyError::Interval);
        }
        if !(1..=FAILED_CHECKS_MAX).contains(&settings.failed_checks_max) {
            wrong.push(PolicyError::Threshold);
        }
        if settings.step_deadline_ms.is_some_and(|deadline| deadline < settings.interval_ms) {
            wrong.push(PolicyError::Deadline);
        }
        if settings.promotion_step == Some(Ppm::ZERO) {
            wrong.push(PolicyError::PromotionStep);
        }
        let limited = |m: &Metric| m.range.is_some_and(|(min, max)| min.is_some() || max.is_some());
        if settings.metrics.iter().any(|m| m.source == MetricSource::Unknown) {
            wrong.push(PolicyError::MetricUnknown);
        }
        if settings.metrics.iter().any(|m| !limited(m)) {
            wrong.push(PolicyError::MetricWithoutLimit);
        }
        if [steps.len(), settings.metrics.len(), settings.hooks.len()].iter().any(|len| *len > PLAN_ENTRIES_MAX) {
            wrong.push(PolicyError::TooMany);
        }
        if wrong.is_empty() { Ok(Policy(settings)) } else { Err(wrong) }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0
    }

    /// The first step above `share`.
    #[must_use]
    pub fn step_above(&self, share: Ppm) -> Option<Ppm> {
        self.0.steps.iter().copied().find(|step| *step > share)
    }

    /// The last step.
    #[must_use]
    pub fn last_step(&self) -> Ppm {
        self.0.steps.last().copied().unwrap_or(Ppm::ZERO)
    }
}

/// Why settings are not legal.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyError {
    /// See [`GuardSettings::alpha`].
    #[error("alpha is from 0.01% to 20%")]
    Alpha,
    /// See [`GuardSettings::beta`].
    #[error("beta is from 0.01% to 20%")]
    Beta,
    /// See [`GuardSettings::error_budget`].
    #[error("an error budget or limit is from 0.0001% to 50%")]
    Budget,
    /// See [`Settings::step_deadline_ms`].
    #[error("a step's deadline is not shorter than the interval")]
    Deadline,
    /// See [`Settings::interval_ms`].
    #[error("an interval is from 1 s to 1 day")]
    Interval,
    /// A name that is no built-in metric and has neither query nor template.
    #[error("a metric is request-success-rate, request-duration, or has a query or a template")]
    MetricUnknown,
    /// A metric that nothing limits always passes.
    #[error("a metric needs a thresholdRange with min or max")]
    MetricWithoutLimit,
    /// See [`Settings::promotion_step`].
    #[error("a promotion step is above 0%")]
    PromotionStep,
    /// See [`GuardSettings::stakes`].
    #[error("stakes are at most 100% together")]
    Stakes,
    /// See [`Settings::steps`].
    #[error("steps rise, from above 0% to below 100%; at least one")]
    Steps,
    /// Rounds, rules of who sees the canary, or copies: there are no shares to go through, or nobody is drawn.
    #[error("A/B, blue/green and mirroring go by `pace: interval`")]
    Strategy,
    /// See [`Settings::failed_checks_max`].
    #[error("a threshold is from 1 to {FAILED_CHECKS_MAX} failed checks")]
    Threshold,
    /// See [`GuardSettings::tolerance_milli`].
    #[error("a tolerance is from 1 to 10 times the primary's rate")]
    Tolerance,
    /// More entries than [`PLAN_ENTRIES_MAX`].
    #[error("at most {PLAN_ENTRIES_MAX} steps, metrics or hooks")]
    TooMany,
}

const CHANCE_PPM_MIN: u32 = 100;
const CHANCE_PPM_MAX: u32 = 200_000;
const BUDGET_PPM_MAX: u32 = 500_000;
const BUDGET_PPM_DEFAULT: i64 = 5_000;
const LIMIT_PPM_DEFAULT: i64 = 10_000;
const TOLERANCE_MILLI: std::ops::RangeInclusive<u32> = 1_000..=10_000;
const INTERVAL_MS_MIN: u64 = 1_000;
const INTERVAL_MS_MAX: u64 = 86_400_000;
const FAILED_CHECKS_MAX: u32 = 1_000;

#[cfg(test)]
mod tests;
