//! What one worker counts of one split. One writer, many readers, no lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serin_rollout::{Arm, ArmTotals, OVERDUE_SHARES_MAX, Ppm};

use super::copies::Copies;
use super::heads::Histogram;
use super::health::Health;

/// The book of one worker.
#[derive(Debug, Default)]
pub struct Tally {
    canary: ArmTally,
    primary: ArmTally,
    copies: Copies,
}

/// There is no room for one more share of overdue requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlisted;

/// One arm of it. Aligned, so that two workers never write to the same cache line, nor to neighbours that are fetched
/// in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct ArmTally {
    routed: AtomicU64,
    completed: AtomicU64,
    abandoned: AtomicU64,
    failed: AtomicU64,
    /// It has answered a gRPC call well.
    answers_calls: AtomicBool,
    /// When the oldest open request was routed; `u64::MAX`: there is none.
    oldest_us: AtomicU64,
    /// The oldest of all that are overdue, as long as there are any: never younger than the truth.
    oldest_overdue_us: AtomicU64,
    /// Share in the upper half, count in the lower; a count of 0 leaves the place free.
    overdue: [AtomicU64; OVERDUE_SHARES_MAX],
    pub(super) heads: Histogram,
    pub(super) health: Health,
}

impl Default for ArmTally {
    fn default() -> Self {
        Self {
            routed: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            answers_calls: AtomicBool::new(false),
            oldest_us: AtomicU64::new(u64::MAX),
            oldest_overdue_us: AtomicU64::new(u64::MAX),
            overdue: [const { AtomicU64::new(0) }; OVERDUE_SHARES_MAX],
            heads: Histogram::default(),
            health: Health::default(),
        }
    }
}

impl Tally {
    pub(super) fn arm(&self, arm: Arm) -> &ArmTally {
        match arm {
            Arm::Canary => &self.canary,
            Arm::Primary => &self.primary,
        }
    }

    /// What the canary got copies of.
    pub fn copies(&self) -> &Copies {
        &self.copies
    }

    /// A request was sent to the arm. `oldest_us`: when the oldest open one was routed, which may be this one.
    pub fn routed(&self, arm: Arm, oldest_us: u64) {
        let arm = self.arm(arm);
        // before the count: who sees the count sees that it is open
        arm.oldest_us.store(oldest_us, Ordering::Release);
        add(&arm.routed);
    }

    /// A request of the arm failed. It may be open still.
    pub fn failed(&self, arm: Arm) {
        add(&self.arm(arm).failed);
    }

    /// A request of the arm is over and says nothing of it: its caller went away, or it went on elsewhere.
    pub fn abandoned(&self, arm: Arm) {
        add(&self.arm(arm).abandoned);
    }

    /// A request of the arm is over, well or not.
    pub fn completed(&self, arm: Arm) {
        add(&self.arm(arm).completed);
    }

    /// The arm answered a gRPC call, and the status was OK.
    pub fn answered_call(&self, arm: Arm) {
        let known = &self.arm(arm).answers_calls;
        if !known.load(Ordering::Relaxed) {
            known.store(true, Ordering::Relaxed);
        }
    }

    /// When the oldest open request of the arm that is not overdue was routed; `u64::MAX`: there is none. Whatever is to
    /// be told of those that are older has been told.
    pub fn set_oldest(&self, arm: Arm, oldest_us: u64) {
        self.arm(arm).oldest_us.store(oldest_us, Ordering::Release);
    }

    /// How long a response head of the arm took.
    pub fn head(&self, arm: Arm, us: u64) {
        self.arm(arm).heads.record(us);
    }

    /// A request of the arm became overdue.
    ///
    /// # Errors
    /// All places are taken by other shares; the request stays open then.
    pub fn add_overdue(&self, arm: Arm, share: Ppm, routed_us: u64) -> Result<(), Unlisted> {
        let arm = self.arm(arm);
        let mut free = None;
        let mut none = true;
        for place in &arm.overdue {
            let (known, count) = unpack(place.load(Ordering::Relaxed));
            none &= count == 0;
            if count > 0 && known == share.get() {
                place.store(pack(known, count.saturating_add(1)), Ordering::Release);
                return Ok(());
            }
            if count == 0 && free.is_none() {
                free = Some(place);
            }
        }
        let place = free.ok_or(Unlisted)?;
        if none {
            arm.oldest_overdue_us.store(routed_us, Ordering::Release);
        }
        place.store(pack(share.get(), 1), Ordering::Release);
        Ok(())
    }

    /// An overdue request of the arm got its head, or ended.
    pub fn remove_overdue(&self, arm: Arm, share: Ppm) {
        for place in &self.arm(arm).overdue {
            let (known, count) = unpack(place.load(Ordering::Relaxed));
            if count > 0 && known == share.get() {
                place.store(pack(known, count - 1), Ordering::Release);
                return;
            }
        }
        debug_assert!(false, "more requests are no longer overdue than were");
    }

    /// What the arm's requests say of its health.
    pub fn health(&self, arm: Arm) -> &Health {
        &self.arm(arm).health
    }
}

impl ArmTally {
    pub(super) fn answers_calls(&self) -> bool {
        self.answers_calls.load(Ordering::Relaxed)
    }

    pub(super) fn totals(&self) -> ArmTotals {
        // in this order, so that a sum never shows more failures than ends, or more ends than starts
        let failed = self.failed.load(Ordering::Acquire);
        let completed = self.completed.load(Ordering::Acquire);
        let routed = self.routed.load(Ordering::Acquire);
        ArmTotals { routed, completed, failed }
    }

    pub(super) fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Acquire)
    }

    pub(super) fn oldest_us(&self) -> u64 {
        self.oldest_us.load(Ordering::Acquire)
    }

    /// By share: how many, and a moment at or before that at which the oldest of all was routed.
    pub(super) fn overdue(&self) -> impl Iterator<Item = (Ppm, u32, u64)> {
        let listed = self.overdue.iter().map(|place| unpack(place.load(Ordering::Acquire)));
        listed.filter(|(_, count)| *count > 0).map(|(share, count)| {
            (Ppm::clamped(i64::from(share)), count, self.oldest_overdue_us.load(Ordering::Acquire))
        })
    }
}

/// By the only writer.
pub(super) fn add(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
}

fn pack(share: u32, count: u32) -> u64 {
    u64::from(share) << 32 | u64::from(count)
}

fn unpack(place: u64) -> (u32, u32) {
    ((place >> 32) as u32, place as u32)
}
