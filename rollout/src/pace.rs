//! Pace `evidence`: a step lasts until it is sure that the canary is good enough.
//!
//! ```text
//!  Initialized ──new revision──▶ Waiting ──gate open──▶ Progressing ──last step passed──▶ Promoting ──judged──▶ Promoted
//!      ▲                                                │ steps      ▲                      │ whole
//!      │ back at the promoted revision: cancelled       │            │ gate open            │
//!      └────────────────────────────────────────────────┤     WaitingPromotion              │
//!                                                       ▼                                   ▼
//!                RolledBack ◀── guard, failed checks, rollback hook, deadline, a person ── (any of them)
//! ```

use crate::analysis::{Gap, Verdict};
use crate::event::{Cause, Event, Gate, Halt, HaltDetail, Hold};
use crate::interval::{self, Readiness, Reading, Tick, check_metric};
use crate::machine::Rollout;
use crate::plan::{Answer, Hook, HookKind};
use crate::policy::{OnInsufficient, Policy};
use crate::state::Phase;
use crate::{Ppm, TimestampMs};

impl Rollout {
    /// What a judgement means for the weight.
    pub(crate) fn act(&mut self, policy: &Policy, verdict: Verdict, now: TimestampMs, told: &mut interval::Told) {
        match (self.state.phase, verdict) {
            (phase, Verdict::Fail(cause)) if phase.is_active() => self.roll_back(cause, told),
            (Phase::Progressing, _) if self.state.weight == Ppm::ZERO => {
                self.note_hold(verdict, told);
                self.begin_steps(policy, told);
            }
            (Phase::Progressing | Phase::WaitingPromotion, Verdict::Pass) => {
                self.note_hold(verdict, told);
                self.advance(policy, told);
            }
            (Phase::Promoting, Verdict::Pass | Verdict::Inconclusive(Gap::NotShown)) => {
                self.note_hold(verdict, told);
                self.promote_on(policy, told);
            }
            (_, Verdict::Inconclusive(gap)) => {
                self.note_hold(verdict, told);
                self.check_deadline(policy, gap, now, told);
            }
            (_, Verdict::Pass | Verdict::Fail(_)) => {} // ends stay ends
        }
    }

    /// Tells of a hold when it begins and when it ends, not at each look.
    pub(crate) fn note_hold(&mut self, verdict: Verdict, told: &mut interval::Told) {
        let held = if let Verdict::Inconclusive(Gap::Held(hold)) = verdict { Some(hold) } else { None };
        if held == self.held || (held.is_none() && self.held == Some(Hold::Insufficient)) {
            return;
        }
        told.events.push(held.map_or(Event::Released, Event::Hold));
        self.held = held;
    }

    /// One tick of the interval.
    pub(crate) fn evidence_tick(
        &mut self,
        policy: &Policy,
        tick: &Tick<'_>,
        now: TimestampMs,
        told: &mut interval::Told,
    ) {
        self.answers = tick.answers.iter().copied().take(crate::PLAN_ENTRIES_MAX).collect();
        self.answers_stale = false;
        let before = self.state.clone();
        self.follow_target(policy, tick, now, told);
        let begun = self.state.applied != before.applied; // what was asked before was not asked of this run
        self.answers_stale = begun;
        if !self.state.phase.is_active() && self.state.phase != Phase::Waiting {
            return;
        }
        let rollback_asked = policy.settings().hooks.iter().zip(tick.answers);
        let asked = !begun && (before.phase.is_active() || before.phase == Phase::Waiting);
        if asked && rollback_asked.into_iter().any(|(hook, a)| hook.kind == HookKind::Rollback && *a == Answer::Passed)
        {
            if self.state.phase == Phase::Waiting {
                self.state.applied = Some(tick.target.clone()); // what waited is what was given up
            }
            return self.roll_back(Cause::Hook, told);
        }
        if self.state.phase == Phase::Waiting {
            return;
        }
        if self.ready(tick, told) && self.state.phase != Phase::Waiting {
            if tick.skip_analysis {
                return self.succeed(Event::Skipped, told);
            }
            if !begun {
                self.check(policy, tick, told);
            }
        }
    }

    /// What should run and what runs may differ: a revision is only taken up when it can be judged, and not forgotten
    /// before.
    fn follow_target(&mut self, policy: &Policy, tick: &Tick<'_>, now: TimestampMs, told: &mut interval::Told) {
        let promoted = self.state.promoted.as_ref() == Some(tick.target);
        let applied = self.state.applied.as_ref() == Some(tick.target);
        match self.state.phase {
            Phase::Initializing if tick.primary == Readiness::Ready => {
                self.state.applied = Some(tick.target.clone());
                self.state.promoted = Some(tick.target.clone());
                self.state.serving = Some(tick.target.clone());
                self.state.phase = Phase::Initialized;
                told.events.push(Event::Initialized);
            }
            Phase::Initializing => {}
            Phase::Progressing | Phase::WaitingPromotion | Phase::Promoting | Phase::Finalising | Phase::Waiting
                if promoted && (!applied || self.state.phase == Phase::Waiting) =>
            {
                self.state.route(Ppm::ZERO, false);
                self.state.phase = Phase::Initialized;
                self.state.applied = Some(tick.target.clone());
                told.events.push(Event::Cancelled);
            }
            Phase::Progressing | Phase::WaitingPromotion | Phase::Promoting | Phase::Finalising if !applied => {
                self.restart(tick.target, now);
                told.events.push(Event::Restart);
            }
            Phase::Progressing | Phase::WaitingPromotion | Phase::Promoting | Phase::Finalising => {}
            Phase::Initialized | Phase::Promoted | Phase::RolledBack | Phase::Waiting if promoted || applied => {}
            Phase::Initialized | Phase::Promoted | Phase::RolledBack | Phase::Waiting => {
                if self.paused || tick.suspended || tick.primary != Readiness::Ready {
                    return;
                }
                if self.gate_open(&policy.settings().hooks, HookKind::ConfirmRollout) == Answer::Passed {
                    self.restart(tick.target, now);
                    told.events.push(Event::NewRevision);
                } else if self.state.phase != Phase::Waiting {
                    self.state.route(Ppm::ZERO, false); // what was promoted serves; the newcomer has nothing yet
                    self.state.phase = Phase::Waiting;
                    told.events.push(Event::Waiting(Gate::Rollout));
                }
            }
        }
    }

    /// Whether both sides can be judged. Traffic is never sent to a side that is not ready while the other is.
    fn ready(&mut self, tick: &Tick<'_>, told: &mut interval::Told) -> bool {
        if tick.primary != Readiness::Ready {
            self.check = Some(Hold::PrimaryDown);
            told.events.push(Event::Halt(Halt::PrimaryNotReady));
            return false;
        }
        if tick.canary != Readiness::Ready {
            self.check = Some(Hold::NoData);
            told.events.push(Event::Halt(Halt::CanaryNotReady));
            if tick.canary == Readiness::Deadline {
                self.roll_back(Cause::Deadline, told);
            }
            return false;
        }
        true
    }

    /// The limits of the metrics and the hooks of a check. What nobody knows holds, and is no failed check.
    fn check(&mut self, policy: &Policy, tick: &Tick<'_>, told: &mut interval::Told) {
        let settings = policy.settings();
        let before_traffic = self.state.weight == Ppm::ZERO;
        let kind = if before_traffic { HookKind::PreRollout } else { HookKind::Rollout };
        let mut failed = None;
        let mut unknown = None;
        let hook = || HaltDetail::Hook { name: self.closed(&settings.hooks, kind) };
        match self.gate_open(&settings.hooks, kind) {
            Answer::Refused if before_traffic => failed = Some((Halt::PreRolloutHook, hook())),
            Answer::Refused => failed = Some((Halt::RolloutHook, hook())),
            Answer::Pending => unknown = Some((Halt::NoValues, hook())),
            Answer::Passed => {}
        }
        for (at, metric) in settings.metrics.iter().enumerate().filter(|_| !before_traffic) {
            match check_metric(metric, tick.readings.get(at).copied().unwrap_or(Reading::NoValues)) {
                Ok(()) => {}
                Err(halt @ (Halt::NoValues | Halt::ProviderError, _)) => unknown = unknown.or(Some(halt)),
                Err(halt) => failed = failed.or(Some(halt)),
            }
        }
        let has_failed = failed.is_some();
        self.check = match (&failed, &unknown) {
            (Some(_), _) => Some(Hold::FailedCheck),
            (None, Some(_)) => Some(Hold::NoData),
            (None, None) => None,
        };
        if let Some((halt, detail)) = failed.or(unknown) {
            told.events.push(Event::Halt(halt));
            told.detail = Some(detail);
        }
        if has_failed {
            self.state.failed_checks = self.state.failed_checks.saturating_add(1);
            if self.state.failed_checks >= settings.failed_checks_max {
                self.roll_back(Cause::Threshold, told);
            }
        }
    }

    /// The first hook of a kind that is not open.
    fn closed(&self, hooks: &[Hook], kind: HookKind) -> String {
        let shut = |at: usize| self.answers.get(at).copied().unwrap_or_default() != Answer::Passed;
        let hook = hooks.iter().enumerate().find(|(at, hook)| hook.kind == kind && shut(*at));
        hook.map_or_else(String::new, |(_, hook)| hook.name.clone())
    }

    fn begin_steps(&mut self, policy: &Policy, told: &mut interval::Told) {
        let ready = self.gate_open(&policy.settings().hooks, HookKind::PreRollout) == Answer::Passed;
        if ready && !self.frozen() && self.gate(policy, HookKind::ConfirmTrafficIncrease, Gate::TrafficIncrease, told) {
            told.events.push(Event::Start);
            self.raise(policy, told);
        }
    }

    fn advance(&mut self, policy: &Policy, told: &mut interval::Told) {
        if self.frozen() {
            return;
        }
        if policy.step_above(self.state.weight).is_some() {
            if self.state.phase == Phase::Progressing
                && self.gate(policy, HookKind::ConfirmTrafficIncrease, Gate::TrafficIncrease, told)
            {
                self.raise(policy, told);
            }
            return;
        }
        if self.ceiling.is_some_and(|ceiling| self.state.weight < ceiling) {
            return self.ask_for_steps(told);
        }
        if self.gate(policy, HookKind::ConfirmPromotion, Gate::Promotion, told) {
            self.state.phase = Phase::Promoting;
            told.events.push(Event::Promoting);
            self.promote_on(policy, told);
        } else {
            self.state.phase = Phase::WaitingPromotion;
        }
    }

    fn raise(&mut self, policy: &Policy, told: &mut interval::Told) {
        let Some(step) = policy.step_above(self.state.weight) else { return };
        if self.ceiling.is_some_and(|ceiling| step > ceiling) {
            return self.ask_for_steps(told);
        }
        self.state.route(step, false);
        told.events.push(Event::Advance);
    }

    fn ask_for_steps(&mut self, told: &mut interval::Told) {
        self.paused = true;
        told.events.push(Event::ConfirmSteps);
    }

    /// The canary's share on the way to the whole. It is judged all the way, and for an interval once it is there.
    fn promote_on(&mut self, policy: &Policy, told: &mut interval::Told) {
        if self.frozen() {
            return;
        }
        if self.state.weight == Ppm::WHOLE {
            return self.succeed(Event::Succeeded, told);
        }
        let step = policy.settings().promotion_step.unwrap_or(Ppm::WHOLE);
        self.state.route(Ppm::clamped(i64::from(self.state.weight.get()) + i64::from(step.get())), false);
        told.events.push(Event::PromotionStep);
    }

    pub(crate) fn succeed(&mut self, event: Event, told: &mut interval::Told) {
        self.state.route(Ppm::WHOLE, false);
        self.state.promote();
        let failed_checks = self.state.failed_checks;
        self.state.end(Phase::Promoted);
        self.state.failed_checks = failed_checks;
        told.events.push(event);
    }

    fn check_deadline(&mut self, policy: &Policy, gap: Gap, now: TimestampMs, told: &mut interval::Told) {
        let settings = policy.settings();
        let over = settings.step_deadline_ms.is_some_and(|deadline| now.since(self.step_at) >= deadline);
        let short = matches!(gap, Gap::NotShown | Gap::TooFewRequests);
        if !over || !short || self.state.phase != Phase::Progressing || self.state.weight == Ppm::ZERO {
            return;
        }
        match settings.on_insufficient {
            OnInsufficient::Advance => self.advance(policy, told),
            OnInsufficient::Rollback => self.roll_back(Cause::Insufficient, told),
            OnInsufficient::Hold if self.held.is_none() => {
                self.held = Some(Hold::Insufficient);
                told.events.push(Event::Hold(Hold::Insufficient));
            }
            OnInsufficient::Hold => {}
        }
    }

    /// Whether the weight must not rise, whatever the evidence says.
    fn frozen(&self) -> bool {
        self.paused || self.check.is_some() || !self.storage_ok
    }

    /// Whether a gate is open; told of once when it is not.
    fn gate(&mut self, policy: &Policy, kind: HookKind, gate: Gate, told: &mut interval::Told) -> bool {
        if self.gate_open(&policy.settings().hooks, kind) == Answer::Passed {
            self.waiting = None;
            return true;
        }
        // Between a raise and the next tick nobody has been asked yet.
        if self.waiting != Some(gate) && !self.answers_stale {
            self.waiting = Some(gate);
            told.events.push(Event::Waiting(gate));
        }
        false
    }
}
