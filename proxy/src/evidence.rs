//! What the workers tell the judge of the split of a rollout: totals, open requests, ages, and single events.
//!
//! Each worker writes its own tally, which nobody else writes; the judge adds them up. Events go through one bounded ring
//! for each worker. Nothing here waits.
//!
//! **Order of reading.** A worker tells an event before it says that its request is no longer open. So whoever reads
//! [`SplitEvidence::traffic`] first and takes the events of [`Records`] afterwards has every event of each request that
//! the traffic no longer shows as open.

mod copies;
mod heads;
mod health;
mod records;
mod tally;

use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serin_rollout::{Arm, ArmTotals, Open, Ppm, TimestampMs, Traffic};

pub use copies::{Copies, Mirrored};
pub use heads::{BUCKETS, HeadTimes};
pub use health::Health;
pub use records::{RING_MAX, Record, Records};
pub use tally::{Tally, Unlisted};

use crate::clock;
use tally::ArmTally;

/// The arms of a split, in the order of its branches.
const ARMS: [Arm; 2] = [Arm::Canary, Arm::Primary];

/// The evidence of one split, as long as it keeps its arms.
#[derive(Debug)]
pub struct SplitEvidence {
    id: u64,
    tallies: Box<[Tally]>,
    slow: ArcSwap<Slow>,
    /// Version of `slow`: one plain load tells a worker that nothing changed.
    slow_version: AtomicU64,
}

/// So many requests wait in vain where an arm is silent: fewer may be a few slow ones.
pub const SILENT_MIN: u32 = 5;

/// The ages in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Grows with each change.
    pub version: u64,
    /// In microseconds, rising; `None`: slow events are off.
    pub ages_us: Option<[u64; 3]>,
}

impl SplitEvidence {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            tallies: (0..workers.max(1)).map(|_| Tally::default()).collect(),
            slow: ArcSwap::from_pointee(Slow { version: 0, ages_us: None }),
            slow_version: AtomicU64::new(0),
        }
    }

    /// Told apart by this from every other one that this process ever had.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How many workers tell of it.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.tallies.len()
    }

    /// Totals and open requests of both arms, summed over workers, since this was made. To be read before the events are
    /// taken: see the page of this module.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let [canary, primary] = ARMS.map(|arm| (self.totals(arm), self.open(arm)));
        Traffic { canary: canary.0, primary: primary.0, canary_open: canary.1, primary_open: primary.1 }
    }

    /// Has the arm an endpoint that can serve, as traffic that this split drew saw it in the last seconds. Without
    /// traffic it is taken to be there.
    #[must_use]
    pub fn is_up(&self, arm: Arm) -> bool {
        let marks = |arm| self.of(arm).map(|tally| tally.health.read()).collect::<Vec<_>>();
        !health::is_down(&marks(arm), &marks(arm.other()), clock::now_us())
    }

    /// Do draws find no endpoint of the arm, whatever is known of the other one.
    #[must_use]
    pub fn is_absent(&self, arm: Arm) -> bool {
        health::is_absent(&self.of(arm).map(|tally| tally.health.read()).collect::<Vec<_>>(), clock::now_us())
    }

    /// Does the arm answer nobody: no request that was routed in this many microseconds has succeeded, none that is
    /// younger than the oldest overdue one, and at least [`SILENT_MIN`] are overdue.
    #[must_use]
    pub fn is_silent(&self, arm: Arm, for_us: u64) -> bool {
        let (mut overdue, mut oldest_us) = (0_u32, u64::MAX);
        for (_, count, us) in self.of(arm).flat_map(ArmTally::overdue) {
            overdue = overdue.saturating_add(count);
            oldest_us = oldest_us.min(us);
        }
        let good_us = self.of(arm).map(|tally| tally.health.read().good_us()).max().unwrap_or(0);
        overdue >= SILENT_MIN && good_us < oldest_us && clock::now_us().saturating_sub(good_us) >= for_us
    }

    /// How long response heads of the arm took, cumulative since this was made. An attempt that failed before its head
    /// counts with the time to its failure: it ended the wait as well.
    #[must_use]
    pub fn heads(&self, arm: Arm) -> HeadTimes {
        let mut sum = HeadTimes::default();
        self.of(arm).for_each(|tally| tally.heads.add_to(&mut sum));
        sum
    }

    /// How the copies went that the canary got, and how long their heads took, cumulative since this was made. They are
    /// part of nothing else here.
    #[must_use]
    pub fn mirrored(&self) -> Mirrored {
        let mut sum = Mirrored::default();
        self.tallies.iter().for_each(|tally| tally.copies().add_to(&mut sum));
        sum
    }

    /// Ages in microseconds after which a request without a response head is slow50, slow90, slow99: edges of
    /// [`HeadTimes`], rising. `None`: slow events are off. They hold for requests that are routed from now on; what
    /// runs already says nothing more of its age, but is overdue by the new ages.
    pub fn set_slow(&self, ages_us: Option<[u64; 3]>) {
        if self.slow.load().ages_us == ages_us {
            return;
        }
        let version = self.slow_version.load(Ordering::Relaxed) + 1;
        self.slow.store(std::sync::Arc::new(Slow { version, ages_us }));
        self.slow_version.store(version, Ordering::Release);
    }

    /// The ages in force.
    #[must_use]
    pub fn slow(&self) -> Slow {
        **self.slow.load()
    }

    /// Version of the ages in force.
    #[must_use]
    pub fn slow_version(&self) -> u64 {
        self.slow_version.load(Ordering::Acquire)
    }

    /// The tally that this worker alone writes. A worker that nobody counted on shares the last one, and loses counts.
    #[must_use]
    pub fn tally(&self, worker: usize) -> &Tally {
        debug_assert!(worker < self.tallies.len(), "a worker without a tally of its own");
        &self.tallies[worker.min(self.tallies.len() - 1)]
    }

    /// Requests of the arm that are over and say nothing of it: in no total but the routed ones.
    #[must_use]
    pub fn abandoned(&self, arm: Arm) -> u64 {
        self.of(arm).map(ArmTally::abandoned).sum()
    }

    /// Has the arm ever answered a gRPC call with OK, so that calls are what its service is for.
    #[must_use]
    pub fn answers_calls(&self, arm: Arm) -> bool {
        self.of(arm).any(ArmTally::answers_calls)
    }

    fn of(&self, arm: Arm) -> impl Iterator<Item = &ArmTally> {
        self.tallies.iter().map(move |tally| tally.arm(arm))
    }

    fn totals(&self, arm: Arm) -> ArmTotals {
        let mut sum = ArmTotals::default();
        for tally in self.of(arm) {
            let one = tally.totals();
            sum.routed += one.routed;
            sum.completed += one.completed;
            sum.failed += one.failed;
        }
        sum
    }

    /// More shares than are read stay open: the oldest of all requests then holds the order back.
    fn open(&self, arm: Arm) -> Open {
        let mut oldest_us = u64::MAX;
        let mut shares: Vec<(Ppm, u32)> = Vec::new();
        for tally in self.of(arm) {
            // in this order: a request that becomes overdue is counted as such before it leaves the order
            oldest_us = oldest_us.min(tally.oldest_us());
            for (share, count, oldest_overdue_us) in tally.overdue() {
                match shares.iter().position(|(known, _)| *known == share) {
                    Some(at) => shares[at].1 = shares[at].1.saturating_add(count),
                    None if shares.len() < serin_rollout::OVERDUE_SHARES_MAX => shares.push((share, count)),
                    None => oldest_us = oldest_us.min(oldest_overdue_us),
                }
            }
        }
        let oldest = (oldest_us != u64::MAX).then(|| TimestampMs(clock::steady_ms_of(oldest_us)));
        Open { oldest, overdue: shares }
    }
}

/// A name for something that was lost at once with all requests on it, such as a connection: [`serin_rollout::Key`]. No
/// two are the same in one process.
#[must_use]
pub fn lost_id() -> u64 {
    static IDS: AtomicU64 = AtomicU64::new(1);
    IDS.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
