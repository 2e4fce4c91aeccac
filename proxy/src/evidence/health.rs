//! Is an arm down: has it nobody who could serve, as the traffic of the split saw it.
//!
//! Failures alone do not make an arm down, however many they are: they are evidence, and the guard weighs it. An arm is
//! down if it stopped working, so that no request of it succeeds any more while the other arm works:
//!
//! * a draw found **no endpoint at all** (scaled to zero, its name unknown), or
//! * an endpoint of it was **ejected**, and since its last success it has failed so often in a row, over all workers,
//!   that its own failure rate before and that of the other arm do not explain it, or
//! * the same without an ejection, after [`STREAK_ALONE`] failures: a canary of many endpoints that refuses everything
//!   is known before one of them has failed often enough.
//!
//! In each case the other arm has served a request that was routed after the trouble began. So an outage of both makes
//! neither down, and an arm that fails one in five is ejected now and then by bad luck, but not down.

use std::sync::atomic::{AtomicU64, Ordering};

/// Failures of one worker that are remembered.
const MARKS: usize = 32;
/// Failures in a row, after an ejection, that are enough where hardly anything failed before.
const STREAK_MIN: u64 = 3;
/// Without an ejection.
const STREAK_ALONE: u64 = 10;
/// How unlikely a streak must be by the failure rate there was.
const CHANCE: f64 = 1e-6;
/// A failure rate below this is taken to be this.
const RATE_MIN: f64 = 0.005;
/// What happened longer ago says nothing of now: after an undone rollback a canary gets a fresh chance.
const MEMORY_US: u64 = 10_000_000;
/// A failure rate follows its last requests, about so many.
const RATE_REQUESTS: u64 = 64;
const WHOLE_PPM: u64 = 1_000_000;

/// What one worker saw of one arm. One writer.
#[derive(Debug, Default)]
pub struct Health {
    good_us: AtomicU64,
    bad_us: [AtomicU64; MARKS],
    out_us: AtomicU64,
    absent_us: AtomicU64,
    absent_seen_us: AtomicU64,
    /// Of the requests before the failures that run: parts per million, times [`RATE_REQUESTS`].
    rate: AtomicU64,
    /// Failures since the last success, and all there were: only the writer reads them.
    pending: AtomicU64,
    marks: AtomicU64,
}

/// The same as plain numbers; moments in microseconds, 0: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// When the newest request that succeeded was routed.
    good_us: u64,
    /// When those that failed were routed, the newest of them, in no order.
    bad_us: [u64; MARKS],
    /// When an endpoint was last ejected, or all were last found ejected.
    out_us: u64,
    /// Since when draws find no endpoint at all, and when one last did.
    absent_us: u64,
    absent_seen_us: u64,
    /// How often requests failed before the failures that run.
    rate_ppm: u64,
}

impl Health {
    /// A request of the arm succeeded.
    pub fn succeeded(&self, routed_us: u64) {
        let failed = self.pending.load(Ordering::Relaxed);
        let mut rate = self.rate.load(Ordering::Relaxed);
        if failed > 0 {
            for _ in 0..failed.min(RATE_REQUESTS * 4) {
                rate += WHOLE_PPM - rate / RATE_REQUESTS;
            }
            self.pending.store(0, Ordering::Relaxed);
        }
        rate -= rate / RATE_REQUESTS;
        if rate != self.rate.load(Ordering::Relaxed) {
            self.rate.store(rate, Ordering::Relaxed);
        }
        if self.absent_us.load(Ordering::Relaxed) != 0 && routed_us > self.absent_us.load(Ordering::Relaxed) {
            self.absent_us.store(0, Ordering::Relaxed);
        }
        if routed_us > self.good_us.load(Ordering::Relaxed) {
            // who sees it sees the rate as well
            self.good_us.store(routed_us, Ordering::Release);
        }
    }

    /// The first attempt of a request to the arm failed.
    pub fn failed(&self, routed_us: u64) {
        let marks = self.marks.load(Ordering::Relaxed);
        self.bad_us[(marks % MARKS as u64) as usize].store(routed_us.max(1), Ordering::Release);
        self.marks.store(marks + 1, Ordering::Relaxed);
        self.pending.store(self.pending.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A request of the arm had one of its endpoints ejected, or a draw found all of them ejected.
    pub fn ejected(&self, now_us: u64) {
        self.out_us.store(now_us.max(1), Ordering::Release);
    }

    /// A draw found no endpoint at all.
    pub fn absent(&self, now_us: u64) {
        if self.absent_us.load(Ordering::Relaxed) == 0 {
            self.absent_us.store(now_us.max(1), Ordering::Release);
        }
        self.absent_seen_us.store(now_us.max(1), Ordering::Release);
    }

    /// A draw found an endpoint again.
    pub fn present(&self) {
        if self.absent_us.load(Ordering::Relaxed) != 0 {
            self.absent_us.store(0, Ordering::Release);
        }
    }

    pub(super) fn read(&self) -> Marks {
        let good_us = self.good_us.load(Ordering::Acquire);
        let mut bad_us = [0; MARKS];
        bad_us.iter_mut().zip(&self.bad_us).for_each(|(bad, mark)| *bad = mark.load(Ordering::Acquire));
        Marks {
            good_us,
            bad_us,
            out_us: self.out_us.load(Ordering::Acquire),
            absent_us: self.absent_us.load(Ordering::Acquire),
            absent_seen_us: self.absent_seen_us.load(Ordering::Acquire),
            rate_ppm: self.rate.load(Ordering::Relaxed) / RATE_REQUESTS,
        }
    }
}

impl Marks {
    /// When the newest request that succeeded was routed, microseconds; 0: none ever did.
    pub(super) fn good_us(&self) -> u64 {
        self.good_us
    }
}

/// Do draws find no endpoint of the arm at all.
pub(super) fn is_absent(arm: &[Marks], now_us: u64) -> bool {
    let newest_us = now_us.saturating_sub(MEMORY_US).max(1);
    let good_us = arm.iter().map(|marks| marks.good_us).max().unwrap_or(0);
    arm.iter().any(|marks| marks.absent_us > good_us && marks.absent_seen_us >= newest_us)
}

/// Is the arm down, by what the workers saw of it and of the other arm.
pub(super) fn is_down(arm: &[Marks], other: &[Marks], now_us: u64) -> bool {
    let newest_us = now_us.saturating_sub(MEMORY_US).max(1);
    let good_us = arm.iter().map(|marks| marks.good_us).max().unwrap_or(0);
    let works_since = |us: u64| other.iter().any(|marks| marks.good_us >= us);
    let absent = arm
        .iter()
        .any(|marks| marks.absent_us > good_us && marks.absent_seen_us >= newest_us && works_since(marks.absent_us));
    if absent {
        return true;
    }
    let bad = || arm.iter().flat_map(|marks| marks.bad_us).filter(|us| *us > good_us);
    let out_us = arm.iter().map(|marks| marks.out_us).max().unwrap_or(0);
    let (Some(first_us), Some(last_us)) = (bad().min(), bad().max()) else { return false };
    let rate_ppm = arm.iter().chain(other).map(|marks| marks.rate_ppm).max().unwrap_or(0);
    let Some(streak) = unexplained(rate_ppm) else { return false };
    let streak = if out_us > good_us { streak } else { streak.max(STREAK_ALONE) };
    bad().count() as u64 >= streak && last_us.max(out_us) >= newest_us && works_since(first_us)
}

/// How many failures in a row this rate does not explain. `None`: more than are remembered.
fn unexplained(rate_ppm: u64) -> Option<u64> {
    let rate = (rate_ppm as f64 / WHOLE_PPM as f64).clamp(RATE_MIN, 1.0 - RATE_MIN);
    let streak = (CHANCE.ln() / rate.ln()).ceil() as u64;
    (streak <= MARKS as u64).then_some(streak.max(STREAK_MIN))
}

#[cfg(test)]
mod tests;
