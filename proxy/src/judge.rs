//! The judge: a thread of its own that sees what the workers tell of rollouts, decides by `serin_rollout`, and moves the
//! shares. It does no IO.

pub mod view;

pub use view::{ArmView, EvidenceView, Told, View};
