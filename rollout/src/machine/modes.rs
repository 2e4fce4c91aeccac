//! Dry runs, rollouts that somebody else judges, and what begins a run again.

use crate::event::Event;
use crate::guard::Traffic;
use crate::interval;
use crate::machine::{Decision, Rollout};
use crate::state::{Phase, Revision, State};
use crate::{Ppm, TimestampMs};

impl Rollout {
    /// Judge only, never move: from the next look or tick on, see the crate page. What is routed then stays as it is
    /// until a person sets it. Without it again, a run begins anew from no weight at all, and so does a canary that
    /// only the dry run promoted; one that it rolled back waits for [`crate::Command::Start`].
    pub fn set_dry(&mut self, dry: bool) {
        self.dry = dry;
    }

    /// Whether it only tells what it would do.
    #[must_use]
    pub fn is_dry(&self) -> bool {
        self.state.dry.is_some()
    }

    /// Somebody else judges (`judge: off`): looks decide nothing, ticks only follow the file's primary, no guard stands
    /// here. A person starts, sets the weight, promotes, aborts and takes back.
    pub fn set_off(&mut self, off: bool) {
        self.off = off;
        if off {
            self.guard = None;
        }
    }

    /// Whether somebody else judges.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.off
    }

    /// Makes the state what the modes say.
    pub(crate) fn fit(&mut self, now: TimestampMs, told: &mut interval::Told) {
        self.fit_pace(now, told);
        if self.dry && !self.is_dry() {
            self.state.dry = Some(self.state.canary_share());
        } else if !self.dry && self.is_dry() {
            self.leave_dry_run(now, told);
        }
        if !self.off && self.guard.is_none() && self.state.phase.is_active() && self.pace.guard().is_some() {
            self.arm_guard(now);
            let (share, slow) = (self.state.canary_share(), self.slow);
            if let Some(guard) = self.guard.as_mut().filter(|_| share > Ppm::ZERO) {
                guard.step(share, slow, now);
            }
        }
    }

    fn leave_dry_run(&mut self, now: TimestampMs, told: &mut interval::Told) {
        let proven = self.state.is_promoted();
        self.state.dry = None;
        self.ended = None; // it never happened
        if self.state.phase.is_active() {
            self.begin_again(now, told);
        } else if !proven {
            self.state.route(Ppm::ZERO, false);
            self.state.serving.clone_from(&self.state.promoted);
            if self.state.phase == Phase::Promoted {
                self.state.phase = Phase::Initialized;
                self.state.applied.clone_from(&self.state.promoted);
            }
        }
    }

    /// The file wins: another primary ends whatever runs, and is what serves from now on.
    pub(crate) fn follow_origin(&mut self, origin: &Revision, told: &mut interval::Told) -> bool {
        let known = self.state.origin.replace(origin.clone());
        if self.state.phase == Phase::Initializing || known.is_none_or(|known| known == *origin) {
            return false;
        }
        let primary = Some(origin.clone());
        self.state = State {
            phase: Phase::Initialized,
            applied: primary.clone(),
            promoted: primary.clone(),
            serving: primary.clone(),
            origin: primary,
            dry: self.state.dry.map(|_| Ppm::ZERO),
            ..State::default()
        };
        (self.ended, self.ceiling, self.check) = (None, None, None);
        told.events.push(Event::PrimaryChanged);
        true
    }

    /// A run under way begins again from nothing: what was routed by its weight until now was other traffic, or was
    /// counted elsewhere. `traffic`: the totals from now on.
    pub fn begin_anew(&mut self, traffic: &Traffic, now: TimestampMs) -> Decision {
        self.traffic.clone_from(traffic);
        self.run(now, |rollout, told| {
            if rollout.state.phase.is_active() {
                rollout.begin_again(now, told);
                rollout.state.dry = rollout.state.dry.map(|_| Ppm::ZERO);
            }
        })
    }

    /// The same canary, from the beginning.
    pub(crate) fn begin_again(&mut self, now: TimestampMs, told: &mut interval::Told) {
        self.state.start_over();
        self.state.failed_checks = 0;
        self.arm_guard(now);
        told.events.push(Event::Restart);
    }
}
