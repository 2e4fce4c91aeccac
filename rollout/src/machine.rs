//! The rollout.

use crate::event::{Event, Severity};
use crate::interval::{self, Tick};
use crate::plan::Plan;
use crate::state::State;

/// A rollout.
#[derive(Clone, Debug)]
pub struct Rollout {
    plan: Plan,
    state: State,
}

/// What a rollout decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What happened.
    pub events: Vec<Event>,
    /// Hooks asked.
    pub asked: Vec<usize>,
}

impl Decision {
    /// The alerts to send.
    pub fn alerts(&self) -> impl Iterator<Item = Severity> + '_ {
        self.events.iter().filter_map(|event| event.severity())
    }
}

impl Rollout {
    /// A rollout that stands at `state`.
    #[must_use]
    pub fn new(plan: Plan, state: State) -> Rollout {
        Rollout { plan, state }
    }

    /// One tick.
    pub fn tick(&mut self, tick: &Tick<'_>) -> Decision {
        let told = interval::tick(&self.plan, &mut self.state, tick);
        Decision { events: told.events, asked: told.asked }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A new plan.
    pub fn set_plan(&mut self, plan: Plan) {
        self.plan = plan;
    }

    /// What the router really does, where that was changed from outside.
    pub fn set_routing(&mut self, weight: crate::Ppm, mirrored: bool) {
        self.state.route(weight, mirrored);
    }
}
