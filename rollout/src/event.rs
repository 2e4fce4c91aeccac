//! What happened, in words that are also metric labels: exact, comparable, printed by one table.

use std::fmt;
use std::str::FromStr;

mod sentence;

pub use sentence::{Facts, HaltDetail, Limit, describe};

/// Something a rollout did, or did not do, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A person ended the rollout: all traffic to the primary.
    Aborted,
    /// The canary's weight rose to the next step.
    Advance,
    /// The primary is what now runs as canary: nothing is left to judge.
    Cancelled,
    /// Flagger's rule was followed although it sends traffic to a side that is not ready.
    CompatHazard,
    /// A changed plan asks for more than the old one allowed: a person must confirm it.
    ConfirmSteps,
    /// Traffic is back, the end is near.
    Finalising,
    /// Steps were written, but this router shifts nothing: rounds are used instead.
    ForcedIterations,
    /// A check failed or could not be made.
    Halt(Halt),
    /// The weight stays while something is unclear.
    Hold(Hold),
    /// The primary was set up.
    Initialized,
    /// One more round passed.
    Iteration,
    /// A new revision came while none was judged.
    NewRevision,
    /// A person froze the weight; the guard stays on.
    Paused,
    /// The file calls something else primary: what ran is over, and that is what serves.
    PrimaryChanged,
    /// The last step passed.
    Promoting,
    /// The new primary never became ready: traffic went to the canary.
    PromotionFailed,
    /// The primary got some traffic back.
    PromotionStep,
    /// A hook that is told of the end refused to hear of it.
    PostRolloutError,
    /// What held the weight is over.
    Released,
    /// A newer revision came in mid-run, or a person started again: from the beginning.
    Restart,
    /// A person let the weight move again.
    Resumed,
    /// All traffic to the primary.
    Rollback(Cause),
    /// Promoted without being judged, as written.
    Skipped,
    /// The analysis begins.
    Start,
    /// A gate is still closed.
    StillWaitingPromotion,
    /// No step leads on from this weight.
    StuckNoStep,
    /// The primary has all traffic already, so a promotion in steps never ends.
    StuckPromotion,
    /// The canary is the new version.
    Succeeded,
    /// Nothing is done while suspended.
    Suspended,
    /// All traffic to the canary, as blue/green does.
    Switch,
    /// What was rolled back or promoted last was undone by a person.
    Undone,
    /// A gate is closed.
    Waiting(Gate),
    /// A person set the weight.
    WeightSet,
}

/// Which check stopped the analysis for this tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each name says it: the check that failed")]
pub enum Halt {
    CanaryNotReady,
    Custom,
    Duration,
    NoTemplate,
    NoValues,
    PreRolloutHook,
    PrimaryNotReady,
    ProviderError,
    RolloutHook,
    SuccessRate,
}

/// Why the weight stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// The canary is over its budget, and so is the primary: a shared fault, not the canary's.
    BothFailing,
    /// The evidence against the canary is worth a second look.
    Evidence,
    /// A metric check failed; enough of them roll back.
    FailedCheck,
    /// The step's time is over and the evidence is not there.
    Insufficient,
    /// A provider did not answer, or had nothing to say.
    NoData,
    /// The primary has no endpoint: traffic is not sent to it.
    PrimaryDown,
    /// The journal cannot be written: a raise would not survive a stop.
    Storage,
}

/// What rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The canary has no endpoint left, the primary has one.
    CanaryDown,
    /// The canary was never ready.
    Deadline,
    /// The guard is sure.
    Evidence,
    /// A rollback hook said so.
    Hook,
    /// The step's time is over, and the policy says to give up then.
    Insufficient,
    /// The primary was never ready.
    Primary,
    /// Too many failed checks.
    Threshold,
}

/// A gate that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// `confirm-promotion`
    Promotion,
    /// `confirm-rollout`
    Rollout,
    /// `confirm-traffic-increase`
    TrafficIncrease,
}

/// How loud an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the usual three")]
pub enum Severity {
    Info,
    Warn,
    Error,
}

impl Event {
    /// Every event there is.
    pub fn all() -> impl Iterator<Item = Event> {
        CODES.iter().map(|(event, _)| *event)
    }

    /// Its code: lower case, stable, without spaces.
    #[must_use]
    pub fn code(self) -> &'static str {
        CODES.iter().find(|(event, _)| *event == self).map_or("unknown", |(_, code)| code)
    }

    /// How loud a person should hear of it; `None` for what only the story tells. Every end is told (and so is what
    /// keeps a rollout from ending).
    #[must_use]
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Event::Aborted | Event::CompatHazard | Event::ConfirmSteps | Event::Hold(_) | Event::PostRolloutError => {
                Some(Severity::Warn)
            }
            Event::StuckNoStep | Event::StuckPromotion | Event::Waiting(_) => Some(Severity::Warn),
            Event::Rollback(Cause::Hook) => Some(Severity::Warn), // somebody asked for it
            Event::PromotionFailed | Event::Rollback(_) => Some(Severity::Error),
            Event::Cancelled | Event::Initialized | Event::NewRevision | Event::PrimaryChanged => Some(Severity::Info),
            Event::Skipped | Event::Succeeded | Event::Undone => Some(Severity::Info),
            Event::Advance | Event::Finalising | Event::ForcedIterations | Event::Halt(_) | Event::Iteration => None,
            Event::Paused | Event::Promoting | Event::PromotionStep | Event::Released | Event::Restart => None,
            Event::Resumed | Event::Start | Event::StillWaitingPromotion | Event::Suspended | Event::Switch => None,
            Event::WeightSet => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Event {
    type Err = ();

    fn from_str(text: &str) -> Result<Event, ()> {
        CODES.iter().find(|(_, code)| *code == text).map(|(event, _)| *event).ok_or(())
    }
}

const CODES: &[(Event, &str)] = &[
    (Event::Aborted, "aborted"),
    (Event::Advance, "advance"),
    (Event::Cancelled, "cancelled"),
    (Event::CompatHazard, "compat-hazard"),
    (Event::ConfirmSteps, "confirm-steps"),
    (Event::Finalising, "finalising"),
    (Event::ForcedIterations, "forced-iterations"),
    (Event::Halt(Halt::CanaryNotReady), "halt:canary-not-ready"),
    (Event::Halt(Halt::Custom), "halt:custom"),
    (Event::Halt(Halt::Duration), "halt:duration"),
    (Event::Halt(Halt::NoTemplate), "halt:no-template"),
    (Event::Halt(Halt::NoValues), "halt:no-values"),
    (Event::Halt(Halt::PreRolloutHook), "halt:pre-rollout-hook"),
    (Event::Halt(Halt::PrimaryNotReady), "halt:primary-not-ready"),
    (Event::Halt(Halt::ProviderError), "halt:provider-error"),
    (Event::Halt(Halt::RolloutHook), "halt:rollout-hook"),
    (Event::Halt(Halt::SuccessRate), "halt:success-rate"),
    (Event::Hold(Hold::BothFailing), "hold:both-failing"),
    (Event::Hold(Hold::Evidence), "hold:evidence"),
    (Event::Hold(Hold::FailedCheck), "hold:failed-check"),
    (Event::Hold(Hold::Insufficient), "hold:insufficient"),
    (Event::Hold(Hold::NoData), "hold:no-data"),
    (Event::Hold(Hold::PrimaryDown), "hold:primary-down"),
    (Event::Hold(Hold::Storage), "hold:storage"),
    (Event::Initialized, "initialized"),
    (Event::Iteration, "iteration"),
    (Event::NewRevision, "new-revision"),
    (Event::Paused, "paused"),
    (Event::PostRolloutError, "post-rollout-error"),
    (Event::PrimaryChanged, "primary-changed"),
    (Event::Promoting, "promoting"),
    (Event::PromotionFailed, "promotion-failed"),
    (Event::PromotionStep, "promotion-step"),
    (Event::Released, "released"),
    (Event::Restart, "restart"),
    (Event::Resumed, "resumed"),
    (Event::Rollback(Cause::CanaryDown), "rollback:canary-down"),
    (Event::Rollback(Cause::Deadline), "rollback:deadline"),
    (Event::Rollback(Cause::Evidence), "rollback:evidence"),
    (Event::Rollback(Cause::Hook), "rollback:hook"),
    (Event::Rollback(Cause::Insufficient), "rollback:insufficient"),
    (Event::Rollback(Cause::Primary), "rollback:primary"),
    (Event::Rollback(Cause::Threshold), "rollback:threshold"),
    (Event::Skipped, "skipped"),
    (Event::Start, "start"),
    (Event::StillWaitingPromotion, "still-waiting:promotion"),
    (Event::StuckNoStep, "stuck:no-step"),
    (Event::StuckPromotion, "stuck:promotion"),
    (Event::Succeeded, "succeeded"),
    (Event::Suspended, "suspended"),
    (Event::Switch, "switch"),
    (Event::Undone, "undone"),
    (Event::Waiting(Gate::Promotion), "waiting:promotion"),
    (Event::Waiting(Gate::Rollout), "waiting:rollout"),
    (Event::Waiting(Gate::TrafficIncrease), "waiting:traffic-increase"),
    (Event::WeightSet, "weight-set"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_is_one_word() {
        for event in Event::all() {
            let code = event.to_string();
            assert_eq!(code.parse(), Ok(event));
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b':'), "{code}");
        }
        assert_eq!("".parse::<Event>(), Err(()));
    }

    #[test]
    fn every_rollback_alerts() {
        for event in Event::all() {
            if matches!(event, Event::Rollback(_) | Event::PromotionFailed) {
                assert!(event.severity() >= Some(Severity::Warn), "{event}");
            }
        }
    }
}
