//! Rollouts.

pub mod event;
mod interval;
mod machine;
mod plan;
mod ppm;
mod state;

pub use event::Event;
pub use interval::{Readiness, Reading, Tick};
pub use machine::{Decision, Rollout};
pub use plan::{
    Analysis, Answer, Hazard, Hook, HookKind, Metric, MetricSource, PLAN_ENTRIES_MAX, Plan, PlanError, Router,
};
pub use ppm::{Ppm, PpmError, TimestampMs};
pub use state::{Phase, Revision, RevisionError, State};
