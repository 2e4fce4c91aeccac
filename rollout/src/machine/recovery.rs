//! What a rollout survives: a stop, and a journal that cannot be written.

use crate::event::{Event, Hold};
use crate::interval;
use crate::journal::Entry;
use crate::machine::{Decision, Pace, Rollout};
use crate::state::{Phase, State};
use crate::{Ppm, TimestampMs};

impl Rollout {
    /// A rollout as its journal left it. `clean`: nothing can be missing from the journal.
    ///
    /// After a clean stop a canary goes on where it was. After any other, and where the file has another kind of pace
    /// now, it begins again at its first step. Both ways with the evidence that was written down and a fresh start; an
    /// end stays an end and can be undone. Without an entry that can be read the canary gets nothing and the rollout is
    /// paused.
    #[must_use]
    pub fn recover(pace: Pace, last: Option<&Entry>, clean: bool, now: TimestampMs) -> Rollout {
        let Some(last) = last else {
            let mut rollout = Rollout::new(pace, State { phase: Phase::Initialized, ..State::default() }, now);
            rollout.paused = true;
            return rollout;
        };
        let same_pace = last.pace == pace.kind();
        let mut state = last.state.clone();
        if state.phase.is_active() && !(clean && same_pace) {
            let weight = state.canary_share();
            state.start_over();
            if let (Pace::Evidence(policy), true) = (&pace, same_pace) {
                state.weight = weight.min(policy.step_above(Ppm::ZERO).unwrap_or(Ppm::ZERO));
            }
        }
        let mut rollout = Rollout::new(pace, state, now);
        rollout.paused = last.paused;
        rollout.ceiling = last.ceiling;
        rollout.sequence = last.sequence;
        rollout.ended.clone_from(&last.ended);
        if let Some(ended) = rollout.ended.as_mut().filter(|ended| ended.phase.is_active() && !same_pace) {
            ended.start_over();
        }
        if rollout.state.phase.is_active() {
            match last.held {
                Some(hold @ (Hold::FailedCheck | Hold::NoData | Hold::PrimaryDown)) => rollout.check = Some(hold),
                Some(Hold::Storage) | None => {}
                held => rollout.held = held,
            }
        }
        let share = rollout.state.canary_share();
        if let Some(guard) = rollout.guard.take() {
            let mut guard = guard.resume(last.capital, now);
            if share > Ppm::ZERO {
                guard.step(share, None, now);
            }
            rollout.guard = Some(guard);
        }
        debug_assert!(share <= last.state.canary_share(), "a stop raised the share");
        rollout
    }

    /// The journal's entry for this moment, without a decision: written before a clean stop, and now and then, so that
    /// the evidence is not older than that.
    pub fn checkpoint(&mut self, now: TimestampMs) -> Entry {
        self.entry(&[], now)
    }

    /// Whether the journal can be written. While it cannot, nothing raises the weight: a raise that a stop would forget
    /// must not reach users. What lowers it goes on. The next decision tells of it, once.
    pub fn set_storage(&mut self, ok: bool) {
        self.storage_ok = ok;
    }

    /// A raise that was decided could not be written down, and so was never published: the rollout goes back to where
    /// it was `before`, and holds until [`Rollout::set_storage`] says that the journal can be written again.
    ///
    /// Only ever lowers. What happened since wins: after a rollback, an end, a lower weight or another revision nothing
    /// is taken back.
    pub fn withdraw(&mut self, before: &State, now: TimestampMs) -> Decision {
        self.storage_ok = false;
        let share = self.state.canary_share();
        let stands = before.applied == self.state.applied
            && before.origin == self.state.origin
            && before.dry.is_some() == self.is_dry()
            && self.state.phase != Phase::RolledBack
            && before.canary_share() < share;
        let decision = self.run(now, |rollout, _| {
            if stands {
                rollout.state.clone_from(before);
            }
        });
        debug_assert!(!decision.is_raise(), "a withdrawal raised the share");
        decision
    }

    /// Tells when the journal begins to hold the weight, and when it no longer does.
    pub(crate) fn note_storage(&mut self, told: &mut interval::Told) {
        let runs = self.state.phase.is_active();
        let held = !self.storage_ok && runs;
        if std::mem::replace(&mut self.storage_told, held) == held {
            return;
        }
        if held {
            told.events.push(Event::Hold(Hold::Storage));
        } else if runs && self.held().is_none() {
            told.events.push(Event::Released);
        }
    }
}
