//! What a view, a log line or a metric asks of a rollout: nothing here changes anything.

use crate::event::{Gate, Hold};
use crate::guard::{Guard, Standing};
use crate::machine::{Pace, Rollout};
use crate::plan::{Hook, Metric};
use crate::state::{Phase, Revision, State};
use crate::{Ppm, TimestampMs};

impl Rollout {
    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The evidence at the last look. It stays after an end, until the next run.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Has an event of the canary been told that no look has counted, as an older request of the primary is still open?
    /// Then another look is worth it soon, though nothing new happens.
    #[must_use]
    pub fn is_waiting_for_older(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_waiting)
    }

    /// How it goes.
    #[must_use]
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Why the weight stays, if it does.
    #[must_use]
    pub fn held(&self) -> Option<Hold> {
        self.held.or(self.check).or(self.storage_told.then_some(Hold::Storage))
    }

    /// The gate it waits for.
    #[must_use]
    pub fn waiting(&self) -> Option<Gate> {
        match self.state.phase {
            Phase::Waiting => Some(Gate::Rollout),
            Phase::WaitingPromotion => Some(Gate::Promotion),
            _ => self.waiting,
        }
    }

    /// Whether a person froze the weight.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// What a changed plan may not pass without a person's word.
    #[must_use]
    pub fn ceiling(&self) -> Option<Ppm> {
        self.ceiling
    }

    /// Whether an end could be taken back.
    #[must_use]
    pub fn can_undo(&self) -> bool {
        self.state.phase.is_end() && self.ended.is_some()
    }

    /// What the last run rolled back; `None`: it ended otherwise, or goes on, or nobody knows any more.
    #[must_use]
    pub fn rolled_back(&self) -> Option<&Revision> {
        let ended = self.ended.as_ref().filter(|_| self.state.phase == Phase::RolledBack);
        ended.and_then(|ended| ended.applied.as_ref())
    }

    /// When this run began, or when this process took it up. `None`: nothing runs.
    #[must_use]
    pub fn run_started(&self) -> Option<TimestampMs> {
        self.run_at
    }

    /// When the weight became what it is, or when this process took it up.
    #[must_use]
    pub fn step_started(&self) -> TimestampMs {
        self.step_at
    }

    /// The shares it goes through before the promotion, rising. Empty for A/B and blue/green, which have none.
    #[must_use]
    pub fn steps(&self) -> Vec<Ppm> {
        match &self.pace {
            Pace::Evidence(policy) => policy.settings().steps.clone(),
            Pace::Interval(plan, _) => plan.steps(),
        }
    }

    /// Failed checks that roll back.
    #[must_use]
    pub fn failed_checks_max(&self) -> u32 {
        match &self.pace {
            Pace::Evidence(policy) => policy.settings().failed_checks_max,
            Pace::Interval(plan, _) => plan.failed_checks_max(),
        }
    }

    /// Time between two ticks, milliseconds.
    #[must_use]
    pub fn interval_ms(&self) -> u64 {
        match &self.pace {
            Pace::Evidence(policy) => policy.settings().interval_ms,
            Pace::Interval(plan, _) => plan.interval_ms(),
        }
    }

    /// The metrics in their order: a tick brings one reading for each.
    #[must_use]
    pub fn metrics(&self) -> &[Metric] {
        match &self.pace {
            Pace::Evidence(policy) => &policy.settings().metrics,
            Pace::Interval(plan, _) => plan.metrics(),
        }
    }

    /// The hooks in their order: a tick brings one answer for each.
    #[must_use]
    pub fn hooks(&self) -> &[Hook] {
        match &self.pace {
            Pace::Evidence(policy) => &policy.settings().hooks,
            Pace::Interval(plan, _) => plan.hooks(),
        }
    }
}
