//! What one worker counts of the copies that its canary got. They are no evidence: the judge's own metrics read them
//! while nobody but copies goes to the canary.

use std::sync::atomic::{AtomicU64, Ordering};

use serin_metrics::Class;

use super::heads::{HeadTimes, Histogram};
use super::tally::add;

/// How copies went, over all workers, since the evidence was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Answered well.
    pub success: u64,
    /// Failed: refused, reset, timed out, 5xx.
    pub failure: u64,
    /// How long the heads took. A copy that got none counts with the time it was waited for.
    pub heads: HeadTimes,
}

/// The same of one worker, while it writes. Aligned like the tallies of arms.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Copies {
    success: AtomicU64,
    failure: AtomicU64,
    heads: Histogram,
}

impl Mirrored {
    /// What came between `earlier` and this; readings of the same evidence only.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            success: self.success.saturating_sub(earlier.success),
            failure: self.failure.saturating_sub(earlier.failure),
            heads: self.heads.since(&earlier.heads),
        }
    }
}

impl Copies {
    /// A head came after so long, or was waited for so long in vain.
    pub fn head(&self, us: u64) {
        self.heads.record(us);
    }

    /// A copy is over. One that says nothing of the canary is not counted.
    pub fn ended(&self, class: Class) {
        match class {
            Class::Failure => add(&self.failure),
            Class::Ignored => {}
            Class::Success => add(&self.success),
        }
    }

    pub(super) fn add_to(&self, sum: &mut Mirrored) {
        sum.success += self.success.load(Ordering::Acquire);
        sum.failure += self.failure.load(Ordering::Acquire);
        self.heads.add_to(&mut sum.heads);
    }
}
