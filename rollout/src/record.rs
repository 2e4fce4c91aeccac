//! What the data plane tells the judge: single events, and how many requests there were.

use crate::{Ppm, TimestampMs};

/// One arm of the split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arm {
    /// The new version.
    Canary,
    /// The old one.
    Primary,
}

impl Arm {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Arm {
        match self {
            Arm::Canary => Arm::Primary,
            Arm::Primary => Arm::Canary,
        }
    }
}

/// What happened to a request that the guard counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An answer of class 4xx. Off unless the policy gives it a stake.
    ClientError,
    /// A counter of the user's own.
    Custom,
    /// Failed: 5xx, an error of the proxy's, reset, refused, timed out, a gRPC status that says so, or a draw that the
    /// arm could not serve.
    Failure,
    /// No response head after the primary's p50.
    Slow50,
    /// No response head after the primary's p90.
    Slow90,
    /// No response head after the primary's p99.
    Slow99,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] =
        [Kind::ClientError, Kind::Custom, Kind::Failure, Kind::Slow50, Kind::Slow90, Kind::Slow99];

    /// Its place in [`Kind::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it is an age: told of at a fixed time after the routing, so always in routing order.
    #[must_use]
    pub const fn is_age(self) -> bool {
        matches!(self, Kind::Slow50 | Kind::Slow90 | Kind::Slow99)
    }

    /// Its name, as in journals and metric labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::ClientError => "client-error",
            Kind::Custom => "custom",
            Kind::Failure => "failure",
            Kind::Slow50 => "slow50",
            Kind::Slow90 => "slow90",
            Kind::Slow99 => "slow99",
        }
    }
}

/// Events of one key count once: a session that fails ten times, or a lost connection with fifty streams, is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A lost upstream connection.
    Connection(u64),
    /// A session, by the hash of what names it.
    Session(u64),
}

/// One event of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// The arm that the draw chose, whoever answered in the end.
    pub arm: Arm,
    /// The canary's share in force at the draw.
    pub share: Ppm,
    /// When the request was routed.
    pub routed_at: TimestampMs,
    /// What happened.
    pub kind: Kind,
    /// What it counts once for, if anything.
    pub key: Option<Key>,
    /// Whether this split drew the request, at its first attempt. Retries, copies, health checks and requests that
    /// asked for an arm by name are not randomised: they never blame the canary.
    pub randomised: bool,
}

/// Requests of one arm since the rollout began: sums over all workers, so never falling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArmTotals {
    /// Sent to this arm.
    pub routed: u64,
    /// Of those: over, well or not. One whose caller went away before says nothing, and is never counted here.
    pub completed: u64,
    /// Of those: failed. Every failure, also the second of a session.
    pub failed: u64,
}

/// Requests of one arm that are not over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// When the oldest was routed of those that are not overdue.
    pub oldest: Option<TimestampMs>,
    /// How many are older than the primary's p99 (or than a longer time, where more than a few usually are), by the
    /// canary's share in force at their draw. At most [`OVERDUE_SHARES_MAX`] shares are read; leave the rest open.
    pub overdue: Vec<(Ppm, u32)>,
}

/// Shares read of [`Open::overdue`].
pub const OVERDUE_SHARES_MAX: usize = 64;

impl Open {
    /// How many are overdue.
    #[must_use]
    pub fn overdue_total(&self) -> u64 {
        self.overdue.iter().map(|(_, count)| u64::from(*count)).sum()
    }
}
