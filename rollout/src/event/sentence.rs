//! Events as sentences: the story that people know from Flagger, with the figures that decided.

use crate::event::{Cause, Event, Gate, Halt, Hold};
use crate::guard::Standing;
use crate::{Decision, Kind, Ppm, Rollout};

/// What exactly failed a check.
#[derive(Clone, Debug, PartialEq)]
pub enum HaltDetail {
    /// A hook refused, or has not answered.
    Hook {
        /// Its name.
        name: String,
    },
    /// A metric was outside its limit, or had no value.
    Metric {
        /// Its name.
        name: String,
        /// What was measured.
        value: Option<f64>,
        /// The limit that it missed.
        limit: Option<Limit>,
    },
}

/// One end of a range; it passes itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Values above it fail.
    Max(f64),
    /// Values below it fail.
    Min(f64),
}

/// What a sentence tells besides the event.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The rollout's name.
    pub name: &'a str,
    /// The revision that is judged, or was judged last.
    pub revision: &'a str,
    /// What serves without the canary.
    pub primary: &'a str,
    /// The canary's weight after the event.
    pub weight: Ppm,
    /// Rounds done of A/B and blue/green.
    pub iterations: i32,
    /// Failed checks that roll back.
    pub failed_checks_max: u32,
    /// The evidence at the last look.
    pub standing: &'a Standing,
    /// The score that rolls back.
    pub sure: f64,
    /// What failed a check, if one failed.
    pub detail: Option<&'a HaltDetail>,
}

impl Rollout {
    /// The sentence for one event of a decision that this rollout has just made. `name`: the rollout's.
    #[must_use]
    pub fn describe(&self, event: Event, name: &str, decision: &Decision) -> String {
        let state = self.state();
        let facts = Facts {
            name,
            revision: state.applied.as_ref().map_or("-", |revision| revision.as_str()),
            primary: state.proven().map_or("-", |revision| revision.as_str()),
            weight: if event == Event::WeightSet { state.canary_share() } else { state.weight },
            iterations: state.iterations,
            failed_checks_max: self.failed_checks_max(),
            standing: self.standing(),
            sure: self.pace.guard().map_or(f64::INFINITY, crate::GuardPolicy::sure),
            detail: decision.detail.as_ref(),
        };
        let by_a_person = [Event::Aborted, Event::Paused, Event::Resumed, Event::WeightSet].contains(&event);
        let prefix = if self.is_dry() && !by_a_person { "Dry run: " } else { "" };
        format!("{prefix}{}", describe(event, &facts))
    }
}

/// The sentence for an event. One line, without a full stop; weights are percents without the sign, as Flagger has them.
#[must_use]
pub fn describe(event: Event, facts: &Facts<'_>) -> String {
    let Facts { name, revision, primary, .. } = facts;
    let weight = percent(facts.weight);
    match event {
        Event::Aborted => format!("Abort {name}, all traffic goes to {primary}"),
        Event::Advance => format!("Advance {name} canary weight {weight}"),
        Event::Cancelled => format!("Cancel {name}, {revision} is promoted already"),
        Event::CompatHazard => {
            format!("Flagger's rule sends traffic of {name} to a side that is not proven or not ready")
        }
        Event::ConfirmSteps => format!("Halt {name} advancement the changed steps go higher, resume confirms them"),
        Event::Finalising => format!("Routing all traffic of {name} to {revision}"),
        Event::ForcedIterations => format!("Progressive traffic is not supported for {name}, rounds are used instead"),
        Event::Halt(halt) => format!("Halt {name} advancement {}", halted(halt, facts)),
        Event::Hold(hold) => format!("Hold {name} canary weight {weight}: {}", held(hold, facts)),
        Event::Initialized => format!("Initialization done! {name}"),
        Event::Iteration => format!("Advance {name} canary iteration {}", facts.iterations),
        Event::NewRevision => format!("New revision detected! Starting {name} with {revision}"),
        Event::Paused => format!("Pause {name} canary weight {weight}, the guard stays on"),
        Event::PostRolloutError => format!("Post-rollout hook of {name} failed"),
        Event::PrimaryChanged => format!("The primary of {name} is {primary} now, what ran has ended"),
        Event::Promoting => format!("Promoting {name} with {revision}"),
        Event::PromotionFailed => format!("Promotion of {name} failed, primary is not ready: traffic goes to canary"),
        Event::PromotionStep => format!("Advance {name} promotion weight {weight}"),
        Event::Released => format!("Release {name} canary weight {weight}"),
        Event::Restart => format!("Restarting analysis for {name} with {revision}"),
        Event::Resumed => format!("Resume {name} canary weight {weight}"),
        Event::Rollback(cause) => format!("Rolling back {name}{}", rolled_back(cause, facts)),
        Event::Skipped => format!("Promotion completed! Canary analysis was skipped for {name}"),
        Event::Start => format!("Starting canary analysis for {name}"),
        Event::StillWaitingPromotion => format!("Halt {name} advancement still waiting for promotion approval"),
        Event::StuckNoStep => format!("Halt {name} advancement no step leads on from weight {weight}"),
        Event::StuckPromotion => format!("Halt {name} promotion no weight is left to move"),
        Event::Succeeded => format!("Promotion completed! {name} is {revision}"),
        Event::Suspended => format!("{name} is suspended"),
        Event::Switch => format!("Routing all traffic of {name} to canary"),
        Event::Undone => format!("Undo {name} canary weight {weight}"),
        Event::Waiting(Gate::Promotion) => format!("Halt {name} advancement waiting for promotion approval"),
        Event::Waiting(Gate::Rollout) => format!("Halt {name} advancement waiting for approval"),
        Event::Waiting(Gate::TrafficIncrease) => {
            format!("Halt {name} advancement waiting for traffic increase approval")
        }
        Event::WeightSet => format!("Set {name} canary weight {weight}"),
    }
}

fn halted(halt: Halt, facts: &Facts<'_>) -> String {
    let named = match facts.detail {
        Some(HaltDetail::Hook { name } | HaltDetail::Metric { name, .. }) => name.as_str(),
        None => "-",
    };
    match halt {
        Halt::CanaryNotReady => "canary is not ready".into(),
        Halt::Custom => format!("{named}{}", measured(facts.detail, "")),
        Halt::Duration => format!("request duration{}", measured(facts.detail, "ms")),
        Halt::NoTemplate => format!("metric {named} is neither built in nor has a query or template"),
        Halt::NoValues if matches!(facts.detail, Some(HaltDetail::Hook { .. })) => {
            format!("no answer from {named} yet")
        }
        Halt::NoValues => {
            format!("no values found for metric {named}, probably {} is not receiving traffic", facts.name)
        }
        Halt::PreRolloutHook => format!("pre-rollout check {named} failed"),
        Halt::PrimaryNotReady => "primary is not ready".into(),
        Halt::ProviderError => format!("metric {named}: the provider failed"),
        Halt::RolloutHook => format!("external check {named} failed"),
        Halt::SuccessRate => format!("success rate{}", measured(facts.detail, "%")),
    }
}

/// ` 69.12% < 99%`
fn measured(detail: Option<&HaltDetail>, unit: &str) -> String {
    let Some(HaltDetail::Metric { value: Some(value), limit: Some(limit), .. }) = detail else {
        return " is outside its limit".into();
    };
    let (sign, limit) = match limit {
        Limit::Max(limit) => ('>', limit),
        Limit::Min(limit) => ('<', limit),
    };
    format!(" {}{unit} {sign} {}{unit}", number(*value), number(*limit))
}

fn held(hold: Hold, facts: &Facts<'_>) -> String {
    match hold {
        Hold::BothFailing => "both arms are failing".into(),
        Hold::Evidence => {
            format!("evidence {} against the canary{}", score(facts.standing.score), blame(facts.standing.blamed))
        }
        Hold::FailedCheck => "a check failed".into(),
        Hold::Insufficient => "the time of this step is over and the evidence is not there".into(),
        Hold::NoData => "a check has no data".into(),
        Hold::PrimaryDown => "primary has no endpoint".into(),
        Hold::Storage => "the journal cannot be written".into(),
    }
}

fn rolled_back(cause: Cause, facts: &Facts<'_>) -> String {
    let Standing { requests, failures, .. } = facts.standing;
    match cause {
        Cause::CanaryDown => ": canary has no endpoint left, primary has".into(),
        Cause::Deadline => " progress deadline exceeded, canary is not ready".into(),
        Cause::Evidence => format!(
            ": evidence {} >= {}{} after {failures} failures of {requests} requests",
            score(facts.standing.score),
            score(facts.sure),
            blame(facts.standing.blamed),
        ),
        Cause::Hook => " manual webhook invoked".into(),
        Cause::Insufficient => ": the time of a step is over and the evidence is not there".into(),
        Cause::Primary => " progress deadline exceeded, primary is not ready".into(),
        Cause::Threshold => format!(" failed checks threshold reached {}", facts.failed_checks_max),
    }
}

/// What the evidence is about, where it is not failures.
fn blame(kind: Option<Kind>) -> &'static str {
    match kind {
        None | Some(Kind::Failure) => "",
        Some(Kind::ClientError) => " of answers 4xx",
        Some(Kind::Custom) => " of the counter of your own",
        Some(Kind::Slow50) => " of answers slower than the primary's p50",
        Some(Kind::Slow90) => " of answers slower than the primary's p90",
        Some(Kind::Slow99) => " of answers slower than the primary's p99",
    }
}

fn percent(share: Ppm) -> String {
    share.to_string().trim_end_matches('%').to_owned()
}

/// At most two decimals, and none that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn score(score: f64) -> String {
    match score {
        huge if huge > SCORE_TOLD_MAX => format!("{SCORE_TOLD_MAX:.0}"),
        large if large >= 10.0 => format!("{large:.0}"),
        small => format!("{small:.1}"),
    }
}

/// Above this one score is as sure as the other.
const SCORE_TOLD_MAX: f64 = 1e6;

#[cfg(test)]
mod tests;
