//! A simulator: streams of requests through the very rollout that production runs.
//!
//! Everything follows from a seed. A stream is thinned: requests that are neither failed nor slow are only counted,
//! so that ten thousand rollouts take seconds. What is told late is told late here too, what is open is open, what
//! belongs to one session has its key.
//!
//! ```
//! use serin_rollout::simulate::{Arms, End, Scenario, simulate};
//! use serin_rollout::Policy;
//!
//! let bad = Scenario { rps: 100.0, canary: Arms::failing(0.5), ..Scenario::new(Policy::default()) };
//! let outcome = simulate(&bad, 1);
//! assert_eq!(outcome.end, End::RolledBack);
//! assert_eq!(outcome, simulate(&bad, 1)); // the same seed, the same story
//! ```

mod rng;
mod world;

use crate::{Policy, TimestampMs};

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The policy.
    pub policy: Policy,
    /// Requests a second, both arms together.
    pub rps: f64,
    /// The primary.
    pub primary: Arms,
    /// The canary.
    pub canary: Arms,
    /// The canary's own faults begin this late, in seconds.
    pub onset_s: f64,
    /// The canary's own faults begin when its share reaches this.
    pub onset_share: crate::Ppm,
    /// A stretch in which both arms fail more.
    pub outage: Option<Outage>,
    /// Whose failures belong together.
    pub clusters: Clusters,
    /// Whether slow requests are simulated: costs time.
    pub slow: bool,
    /// The end of the simulation, in seconds.
    pub horizon_s: f64,
}

/// How one arm behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arms {
    /// The share of requests that fail.
    pub failure_rate: f64,
    /// A failure is known this much after the routing, in milliseconds.
    pub late_ms: u64,
    /// How many times as long each request takes; 1 for the primary's latency.
    pub slowdown: f64,
    /// What else is wrong.
    pub fault: Fault,
}

/// What else is wrong with an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes requests and never answers.
    Hangs,
    /// Nothing.
    None,
    /// It refuses every connection, on this many endpoints; each is ejected after five failures in a row.
    Refuses(u32),
}

/// A stretch of time in which both arms fail with this probability more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outage {
    /// From, in seconds.
    pub from_s: f64,
    /// Until, in seconds.
    pub until_s: f64,
    /// The added rate.
    pub rate: f64,
}

/// Whose failures belong together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clusters {
    /// Nobody's: each request is its own.
    None,
    /// All requests come through so many peers.
    Peers(u32),
    /// A failing session fails so many times on average, on one arm.
    Sessions(f64),
    /// So many users stick to an arm; a share of them, the failure rate, fails at everything.
    Sticky(u32),
}

/// How a simulation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The canary was promoted.
    Promoted,
    /// The canary was rolled back.
    RolledBack,
    /// Neither, in the time there was.
    Undecided,
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The end.
    pub end: End,
    /// When, in milliseconds from the first step.
    pub at: TimestampMs,
    /// From the onset of the canary's fault to the end, in milliseconds.
    pub after_onset_ms: u64,
    /// Requests the canary failed since the onset.
    pub failures: u64,
    /// Requests the canary got since the onset.
    pub requests: u64,
    /// From the first ejection of an endpoint to the end, in milliseconds.
    pub after_ejection_ms: Option<u64>,
    /// The highest score seen.
    pub score_most: f64,
}

impl Scenario {
    /// Two equal arms that never fail, 100 requests a second.
    #[must_use]
    pub fn new(policy: Policy) -> Scenario {
        Scenario {
            policy,
            rps: 100.0,
            primary: Arms::failing(0.0),
            canary: Arms::failing(0.0),
            onset_s: 0.0,
            onset_share: crate::Ppm::ZERO,
            outage: None,
            clusters: Clusters::None,
            slow: false,
            horizon_s: 4.0 * 3_600.0,
        }
    }

    /// Both arms fail at this rate.
    #[must_use]
    pub fn equal(policy: Policy, rps: f64, failure_rate: f64) -> Scenario {
        let arm = Arms::failing(failure_rate);
        Scenario { rps, primary: arm, canary: arm, ..Scenario::new(policy) }
    }
}

impl Arms {
    /// An arm that fails at this rate and is as fast as the primary.
    #[must_use]
    pub const fn failing(failure_rate: f64) -> Arms {
        Arms { failure_rate, late_ms: 0, slowdown: 1.0, fault: Fault::None }
    }
}

/// Runs one rollout from its first step to its end, or to the horizon.
#[must_use]
pub fn simulate(scenario: &Scenario, seed: u64) -> Outcome {
    world::World::new(scenario, seed).run()
}

/// The primary's p50, p90 and p99 in every simulation, milliseconds: a lognormal of median 20 ms, sigma 0.8.
pub const TAU_MS: [u64; 3] = [20, 56, 129];
