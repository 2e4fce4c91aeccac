//! The way of single events from the workers to the judge: a bounded ring for each worker.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use serin_rollout::{Arm, EventRecord, Key, Kind, Ppm, TimestampMs};

use crate::clock;

/// Events of one worker that wait for the judge. One too many is counted as dropped: then the judge knows of fewer
/// events than there were, and is more cautious than it had to be.
pub const RING_MAX: usize = 16_384;

/// One event as a worker tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of which split.
    pub evidence: u64,
    /// The arm that the draw chose.
    pub arm: Arm,
    /// The canary's share in force at the draw.
    pub share: Ppm,
    /// When the request was routed, by the worker's clock.
    pub routed_us: u64,
    /// What happened.
    pub kind: Kind,
    /// What it counts once for.
    pub key: Option<Key>,
    /// Whether this split drew the request.
    pub randomised: bool,
    /// How many events are told in one: more than one only without a key.
    pub times: u32,
}

/// The events of all workers on their way to the judge.
pub struct Records {
    /// Made when its worker first tells something: without a rollout there is none.
    rings: Box<[OnceLock<ArrayQueue<Record>>]>,
    dropped: AtomicU64,
    /// The judge was woken, and has not come yet.
    woken: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("rings", &self.rings.len()).field("dropped", &self.dropped).finish()
    }
}

impl Records {
    /// Nothing told yet. `wake` is called after an event of a canary, by the worker that tells it, and not again before
    /// [`Records::drain`]; it must not block.
    #[must_use]
    pub fn new(workers: usize, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let rings = (0..workers.max(1)).map(|_| OnceLock::new()).collect();
        Self { rings, dropped: AtomicU64::new(0), woken: AtomicBool::new(false), wake }
    }

    /// Takes the events told so far, those of one worker in their order: evidence, event, and how many times it
    /// happened. At most [`RING_MAX`] of each worker, so that it ends however fast they tell.
    pub fn drain(&self, f: &mut dyn FnMut(u64, EventRecord, u64)) {
        // first: an event told from here on wakes again
        self.woken.store(false, Ordering::SeqCst);
        for ring in self.rings.iter().filter_map(OnceLock::get) {
            for _ in 0..RING_MAX {
                let Some(record) = ring.pop() else { break };
                f(record.evidence, record.told(), u64::from(record.times));
            }
        }
    }

    /// Events that found their ring full, since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Tells an event. Each worker has a ring of its own; nobody waits.
    pub fn tell(&self, worker: usize, record: Record) {
        let ring = &self.rings[worker.min(self.rings.len() - 1)];
        let ring = ring.get_or_init(|| ArrayQueue::new(RING_MAX));
        if ring.push(record).is_err() {
            self.dropped.fetch_add(u64::from(record.times), Ordering::Relaxed);
        }
        if record.arm == Arm::Canary && !self.woken.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
    }
}

impl Record {
    fn told(&self) -> EventRecord {
        EventRecord {
            arm: self.arm,
            share: self.share,
            routed_at: TimestampMs(clock::steady_ms_of(self.routed_us)),
            kind: self.kind,
            key: self.key,
            randomised: self.randomised,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn record(arm: Arm, routed_us: u64) -> Record {
        Record {
            evidence: 7,
            arm,
            share: Ppm::ZERO,
            routed_us,
            kind: Kind::Failure,
            key: None,
            randomised: true,
            times: 1,
        }
    }

    fn counted() -> (Arc<AtomicUsize>, Records) {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let wake = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        (woken, Records::new(2, Box::new(wake)))
    }

    #[test]
    fn the_judge_is_woken_once_until_it_comes_and_by_canary_events_only() {
        let (woken, records) = counted();
        records.tell(0, record(Arm::Primary, 1));
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        (0..5).for_each(|at| records.tell(at % 2, record(Arm::Canary, 1)));
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        let mut seen = 0;
        records.drain(&mut |_, _, times| seen += times);
        assert_eq!(seen, 6);
        records.tell(1, record(Arm::Canary, 1));
        assert_eq!(woken.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_full_ring_counts_what_it_drops_and_keeps_the_oldest() {
        let (_, records) = counted();
        (0..RING_MAX as u64).for_each(|at| records.tell(0, record(Arm::Primary, at * 1000)));
        assert_eq!(records.dropped(), 0);
        records.tell(0, record(Arm::Primary, u64::MAX / 2));
        records.tell(1, record(Arm::Primary, 0));
        assert_eq!(records.dropped(), 1);
        let mut routed = Vec::new();
        records.drain(&mut |evidence, event, _| {
            assert_eq!(evidence, 7);
            routed.push(event.routed_at);
        });
        assert_eq!(routed.len(), RING_MAX + 1);
        assert!(routed[..RING_MAX].is_sorted());
    }
}
