//! What one worker knows of one split: who is in flight on which arm since when, and how requests ended by weight epoch.
//!
//! The guard reads it: a request that gets no answer is seen by its age, not when it times out, and outcomes are counted
//! under the weights that were in force when the arm was drawn.
//!
//! ```text
//!   slab     [0: arm 1, started 5] [1: free] [2: arm 0, started 6] [3: arm 1, started 9] ...
//!   arm 1    oldest ─▶ 0 ⇄ 3 ◀─ newest         free ─▶ 1
//! ```
//!
//! Starting and finishing a request cost a few writes each. Nothing is allocated once the slab has grown to the number
//! of requests in flight, at most [`IN_FLIGHT_MAX`].

use serin_metrics::Class;

/// Arms of a split.
pub const ARMS_MAX: usize = 64;
/// Weight epochs whose totals are kept apart; older ones are added up.
pub const EPOCHS_MAX: usize = 8;
/// Requests in flight that one ledger lists. Those beyond are counted like all others but have no place in the order;
/// [`Ledger::unlisted`] says how many.
pub const IN_FLIGHT_MAX: usize = 65_536;

/// How requests of one arm went, over some epochs. A request counts in the epoch in which its arm was drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests drawn.
    pub started: u64,
    /// Ended as a failure.
    pub failure: u64,
    /// Ended without saying anything about the arm.
    pub ignored: u64,
    /// Ended well.
    pub success: u64,
    /// Microseconds from start to end of all that have ended, summed up.
    pub elapsed_us: u64,
}

/// One worker's book of one split.
#[derive(Debug)]
pub struct Ledger {
    slab: Vec<Entry>,
    /// First free entry; free entries are chained by `newer`.
    free: Option<u32>,
    arms: Box<[Arm]>,
    /// Newest last.
    epochs: Vec<Epoch>,
    unlisted: u64,
}

/// The right to finish one request, once. Whoever holds it must finish it, however the request ends: a ticket that is
/// dropped leaves its request in flight for ever.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a request that is started must be finished"]
pub struct Ticket {
    /// `None`: counted but not listed.
    entry: Option<u32>,
    arm: u8,
    epoch: u64,
    started_us: u64,
}

/// A request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Weights in force when its arm was drawn.
    pub epoch: u64,
    /// When it began.
    pub started_us: u64,
}

#[derive(Debug)]
struct Entry {
    running: Running,
    older: Option<u32>,
    newer: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct Arm {
    oldest: Option<u32>,
    newest: Option<u32>,
    listed: usize,
    /// Of all epochs that are no longer kept apart.
    before: Totals,
}

#[derive(Debug)]
struct Epoch {
    number: u64,
    arms: Box<[Totals]>,
}

impl Ledger {
    /// An empty book for `arms` arms, at least 1. If there are more than [`ARMS_MAX`], those from the last place on share
    /// it.
    pub fn new(arms: usize) -> Self {
        Self {
            slab: Vec::new(),
            free: None,
            arms: vec![Arm::default(); arms.clamp(1, ARMS_MAX)].into(),
            epochs: Vec::with_capacity(EPOCHS_MAX),
            unlisted: 0,
        }
    }

    /// A request was drawn for `arm` under the weights of `epoch`.
    ///
    /// `now_us` is the worker's clock; one that ran backwards counts as having stood still. An epoch older than the
    /// newest and not kept any more counts among those before. An arm that is not there counts as the last one.
    pub fn start(&mut self, arm: usize, epoch: u64, now_us: u64) -> Ticket {
        let arm = arm.min(self.arms.len() - 1);
        self.open_epoch(epoch);
        self.totals_mut(arm, epoch).started += 1;
        let newest_us = self.arms[arm].newest.map_or(0, |newest| self.slab[newest as usize].running.started_us);
        let started_us = now_us.max(newest_us);
        let entry = self.take_entry(Running { epoch, started_us });
        match entry {
            Some(entry) => self.link(arm, entry),
            None => self.unlisted += 1,
        }
        self.check_ends(arm);
        Ticket { entry, arm: arm as u8, epoch, started_us }
    }

    /// The request has ended.
    pub fn finish(&mut self, ticket: Ticket, class: Class, now_us: u64) {
        let arm = usize::from(ticket.arm).min(self.arms.len() - 1);
        let totals = self.totals_mut(arm, ticket.epoch);
        match class {
            Class::Failure => totals.failure += 1,
            Class::Ignored => totals.ignored += 1,
            Class::Success => totals.success += 1,
        }
        totals.elapsed_us = totals.elapsed_us.saturating_add(now_us.saturating_sub(ticket.started_us));
        match ticket.entry {
            Some(entry) => self.unlink(arm, entry),
            None => self.unlisted = self.unlisted.saturating_sub(1),
        }
        self.check_ends(arm);
    }

    /// When the oldest request in flight on `arm` began.
    pub fn oldest(&self, arm: usize) -> Option<u64> {
        self.running(arm).next().map(|running| running.started_us)
    }

    /// Requests in flight on `arm`, the oldest first; those that are not listed are missing.
    pub fn running(&self, arm: usize) -> impl Iterator<Item = Running> + '_ {
        let mut next = self.arms.get(arm).and_then(|arm| arm.oldest);
        std::iter::from_fn(move || {
            let entry = self.slab.get(next? as usize)?;
            next = entry.newer;
            Some(entry.running)
        })
    }

    /// How many requests are listed in flight on `arm`.
    pub fn in_flight(&self, arm: usize) -> usize {
        self.arms.get(arm).map_or(0, |arm| arm.listed)
    }

    /// How many requests are in flight beyond [`IN_FLIGHT_MAX`], on all arms.
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// How many arms there are.
    pub fn arms(&self) -> usize {
        self.arms.len()
    }

    /// Totals of `arm` by epoch, the newest last.
    pub fn totals(&self, arm: usize) -> impl Iterator<Item = (u64, Totals)> + '_ {
        self.epochs.iter().filter_map(move |epoch| epoch.arms.get(arm).map(|totals| (epoch.number, *totals)))
    }

    /// Totals of `arm` over all epochs that are no longer kept apart.
    pub fn before(&self, arm: usize) -> Totals {
        self.arms.get(arm).map_or_else(Totals::default, |arm| arm.before)
    }

    /// Makes room for an epoch newer than all others; the oldest one gives way and its memory is used again.
    fn open_epoch(&mut self, number: u64) {
        if self.epochs.last().is_some_and(|newest| newest.number >= number) {
            return;
        }
        let arms = if self.epochs.len() < EPOCHS_MAX {
            vec![Totals::default(); self.arms.len()].into()
        } else {
            let mut oldest = self.epochs.remove(0);
            for (arm, totals) in self.arms.iter_mut().zip(&mut oldest.arms) {
                arm.before.add(std::mem::take(totals));
            }
            oldest.arms
        };
        self.epochs.push(Epoch { number, arms });
        debug_assert!(self.epochs.is_sorted_by(|a, b| a.number < b.number), "epochs out of order");
    }

    fn totals_mut(&mut self, arm: usize, epoch: u64) -> &mut Totals {
        // Nearly always the newest: look from that end.
        match self.epochs.iter_mut().rev().find(|kept| kept.number == epoch) {
            Some(kept) => &mut kept.arms[arm],
            None => &mut self.arms[arm].before,
        }
    }

    fn take_entry(&mut self, running: Running) -> Option<u32> {
        let entry = Entry { running, older: None, newer: None };
        if let Some(free) = self.free {
            let slot = &mut self.slab[free as usize];
            self.free = slot.newer;
            *slot = entry;
            return Some(free);
        }
        if self.slab.len() == IN_FLIGHT_MAX {
            return None;
        }
        self.slab.push(entry);
        u32::try_from(self.slab.len() - 1).ok()
    }

    fn link(&mut self, arm: usize, entry: u32) {
        let arm = &mut self.arms[arm];
        self.slab[entry as usize].older = arm.newest;
        match arm.newest.replace(entry) {
            Some(newest) => self.slab[newest as usize].newer = Some(entry),
            None => arm.oldest = Some(entry),
        }
        arm.listed += 1;
    }

    fn unlink(&mut self, arm: usize, entry: u32) {
        let slot = &mut self.slab[entry as usize];
        let (older, newer) = (slot.older.take(), std::mem::replace(&mut slot.newer, self.free));
        self.free = Some(entry);
        let arm = &mut self.arms[arm];
        match older {
            Some(older) => self.slab[older as usize].newer = newer,
            None => arm.oldest = newer,
        }
        match newer {
            Some(newer) => self.slab[newer as usize].older = older,
            None => arm.newest = older,
        }
        arm.listed -= 1;
    }

    /// What can be told without walking the list; the tests walk it.
    fn check_ends(&self, arm: usize) {
        let list = &self.arms[arm];
        debug_assert_eq!(list.oldest.is_some(), list.listed > 0, "an arm's list and its count disagree");
        debug_assert_eq!(list.oldest.is_some(), list.newest.is_some(), "a list has one end");
        debug_assert!(list.oldest.is_none_or(|at| self.slab[at as usize].older.is_none()), "older than the oldest");
        debug_assert!(list.newest.is_none_or(|at| self.slab[at as usize].newer.is_none()), "newer than the newest");
    }
}

impl Totals {
    /// Requests that have ended.
    pub fn ended(&self) -> u64 {
        self.failure + self.ignored + self.success
    }

    /// Adds what others counted, as the judge does over workers.
    pub fn add(&mut self, other: Totals) {
        self.started += other.started;
        self.failure += other.failure;
        self.ignored += other.ignored;
        self.success += other.success;
        self.elapsed_us = self.elapsed_us.saturating_add(other.elapsed_us);
    }
}

const _: () = assert!(ARMS_MAX <= u8::MAX as usize && IN_FLIGHT_MAX <= u32::MAX as usize);

#[cfg(test)]
mod tests;
