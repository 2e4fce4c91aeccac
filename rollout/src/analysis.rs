//! One judgement: what the evidence means for the weight.

use crate::event::{Cause, Hold};
use crate::guard::Standing;
use crate::policy::GuardPolicy;

/// What a judge is told besides the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Whether the canary has an endpoint that is not ejected.
    pub canary_up: bool,
    /// Whether the primary has one.
    pub primary_up: bool,
    /// Whether the last judgement held, and why.
    pub held: Option<Hold>,
    /// Whether the least time at this step is over.
    pub dwell_over: bool,
    /// Whether the canary had enough requests at this step.
    pub requests_enough: bool,
}

/// One judgement. Never two-valued: what is not known holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Roll back.
    Fail(Cause),
    /// Stay.
    Inconclusive(Gap),
    /// The step is passed.
    Pass,
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Something looks wrong.
    Held(Hold),
    /// It is not sure yet that the canary is good enough.
    NotShown,
    /// Too few requests at this step.
    TooFewRequests,
    /// Too little time at this step.
    TooSoon,
}

/// Judges, in this order: an arm that is down; sure evidence; a fault of both arms; a suspicion; what a step needs.
///
/// A suspicion begins at a score of 5 and ends below 2, so that it does not flicker.
#[must_use]
pub fn judge(policy: &GuardPolicy, standing: &Standing, situation: &Situation) -> Verdict {
    if !situation.canary_up && situation.primary_up {
        return Verdict::Fail(Cause::CanaryDown);
    }
    if standing.score >= policy.sure() {
        // Traffic is never sent to an arm that cannot serve while the other can.
        let down = !situation.primary_up && situation.canary_up;
        return if down { Verdict::Inconclusive(Gap::Held(Hold::PrimaryDown)) } else { Verdict::Fail(Cause::Evidence) };
    }
    let both = standing.canary_over >= policy.sure() && standing.primary_over >= policy.sure();
    let both_held = situation.held == Some(Hold::BothFailing) && standing.primary_over_newest >= RELEASE_BELOW;
    if both && standing.primary_over_newest >= RELEASE_BELOW || both_held {
        return Verdict::Inconclusive(Gap::Held(Hold::BothFailing));
    }
    let suspected = situation.held == Some(Hold::Evidence) && standing.score >= RELEASE_BELOW;
    if standing.score >= HOLD_FROM || suspected {
        return Verdict::Inconclusive(Gap::Held(Hold::Evidence));
    }
    if !situation.dwell_over {
        Verdict::Inconclusive(Gap::TooSoon)
    } else if !situation.requests_enough {
        Verdict::Inconclusive(Gap::TooFewRequests)
    } else if standing.shown < policy.shown() {
        Verdict::Inconclusive(Gap::NotShown)
    } else {
        Verdict::Pass
    }
}

const HOLD_FROM: f64 = 5.0;
const RELEASE_BELOW: f64 = 2.0;

#[cfg(test)]
mod tests;
