//! What the workers tell the judge of the split of a rollout: totals, open requests, ages, and single events.
//!
//! Each worker writes its own tally, which nobody else writes; the judge adds them up. Events go through one bounded ring
//! for each worker. Nothing here waits.

use std::sync::atomic::{AtomicU64, Ordering};

/// The evidence of one split, as long as it keeps its arms.
#[derive(Debug)]
pub struct SplitEvidence {
    id: u64,
    workers: usize,
}

impl SplitEvidence {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self { id: IDS.fetch_add(1, Ordering::Relaxed), workers }
    }

    /// Told apart by this from every other one that this process ever had.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How many workers tell of it.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }
}
