//! What a coming tick may ask of the outside, so that the caller asks nothing else.

use crate::machine::{Pace, Rollout};
use crate::plan::{HookKind, Plan};
use crate::state::{Phase, Revision};
use crate::{Policy, Ppm};

impl Rollout {
    /// The hooks, as indices into the plan's list, that a tick with this target may consult as things stand: the caller
    /// asks these and brings their answers with the tick. Answers belong to one step: where
    /// [`Rollout::step_started`] changed while they were on their way, they are asked anew.
    ///
    /// Hooks that are told of the end are never among them. They are told when [`crate::Decision::asked`] names them.
    #[must_use]
    pub fn wanted_hooks(&self, target: &Revision) -> Vec<usize> {
        let kinds = match &self.pace {
            Pace::Evidence(policy) => self.wanted_by_evidence(policy, target),
            Pace::Interval(plan, _) => self.wanted_by_interval(plan, target),
        };
        let hooks = self.hooks().iter().enumerate();
        hooks.filter(|(_, hook)| kinds.contains(&hook.kind)).map(|(at, _)| at).collect()
    }

    /// Whether the coming tick may look at readings.
    #[must_use]
    pub fn wants_readings(&self) -> bool {
        match self.pace {
            // The weight may leave 0 while the readings are on their way.
            Pace::Evidence(_) => self.state.phase.is_active(),
            Pace::Interval(..) => self.is_analysed() && !self.is_frozen() && !self.before_traffic(),
        }
    }

    fn wanted_by_evidence(&self, policy: &Policy, target: &Revision) -> Vec<HookKind> {
        let known = [&self.state.applied, &self.state.promoted].iter().any(|known| known.as_ref() == Some(target));
        let last = policy.step_above(self.state.weight).is_none();
        match self.state.phase {
            Phase::Initializing => Vec::new(),
            Phase::Initialized | Phase::Promoted | Phase::RolledBack if known || self.paused => Vec::new(),
            Phase::Initialized | Phase::Promoted | Phase::RolledBack => vec![HookKind::ConfirmRollout],
            Phase::Waiting if self.paused => vec![HookKind::Rollback],
            Phase::Waiting => vec![HookKind::ConfirmRollout, HookKind::Rollback],
            Phase::Progressing if self.state.weight == Ppm::ZERO => {
                vec![HookKind::ConfirmTrafficIncrease, HookKind::PreRollout, HookKind::Rollback]
            }
            Phase::Progressing if !last => {
                vec![HookKind::ConfirmTrafficIncrease, HookKind::Rollback, HookKind::Rollout]
            }
            Phase::Progressing | Phase::WaitingPromotion => {
                vec![HookKind::ConfirmPromotion, HookKind::Rollback, HookKind::Rollout]
            }
            Phase::Promoting | Phase::Finalising => vec![HookKind::Rollback, HookKind::Rollout],
        }
    }

    fn wanted_by_interval(&self, plan: &Plan, target: &Revision) -> Vec<HookKind> {
        let changed = self.state.is_change(target);
        if !self.is_analysed() {
            let starts = self.state.phase == Phase::Waiting || (changed && !self.state.phase.is_active());
            return if starts && !self.is_frozen() { vec![HookKind::ConfirmRollout] } else { Vec::new() };
        }
        if changed {
            return Vec::new(); // it begins again, and asks from the next tick on
        }
        if self.is_frozen() {
            return vec![HookKind::Rollback];
        }
        let check = if self.before_traffic() { HookKind::PreRollout } else { HookKind::Rollout };
        let mut kinds = vec![HookKind::Rollback, check];
        if plan.iterations() == 0 && self.state.phase == Phase::Progressing && !self.state.mirrored {
            kinds.push(HookKind::ConfirmTrafficIncrease);
        }
        let rounds_over = plan.iterations() > 0 && self.state.iterations >= plan.iterations();
        if rounds_over || (plan.iterations() == 0 && self.state.weight >= plan.weight_max()) {
            kinds.push(HookKind::ConfirmPromotion);
        }
        kinds
    }

    fn is_analysed(&self) -> bool {
        matches!(self.state.phase, Phase::Progressing | Phase::WaitingPromotion)
    }

    /// Whether pace `interval` makes the check before the first traffic.
    fn before_traffic(&self) -> bool {
        let Pace::Interval(plan, _) = &self.pace else { return false };
        let mirrored = plan.mirror() && self.state.mirrored;
        self.state.weight == Ppm::ZERO && self.state.iterations == 0 && !mirrored
    }

    /// Whether a person or the guard holds pace `interval`.
    pub(crate) fn is_frozen(&self) -> bool {
        self.paused || self.held.is_some()
    }
}
