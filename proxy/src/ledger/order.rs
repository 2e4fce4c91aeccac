//! The slab of a ledger, and the lists of its open requests in the order of their routing.

use serin_rollout::Arm;

use super::{Entry, IN_FLIGHT_MAX, Ledger, List, Place, SETTLED, Ticket};

impl Ledger {
    /// Its caller keeps the request from being whole: as while a connection is made for it, that is no answer time, and its
    /// age counts from the moment at which [`Ledger::dialled`] is called.
    pub fn unsent(&mut self, ticket: &Ticket, now_us: u64) {
        self.dialling(ticket);
        let entry = &self.slab[ticket.0 as usize];
        let settled = now_us.saturating_sub(entry.routed_us) > self.ages_us[SETTLED];
        if entry.place == Place::Overdue || (entry.place == Place::Listed && settled) {
            self.leave(ticket.0);
        }
    }

    pub(super) fn oldest_us(&self, arm: Arm) -> u64 {
        self.list(arm).oldest.map_or(u64::MAX, |oldest| self.slab[oldest as usize].routed_us)
    }

    pub(super) fn list(&self, arm: Arm) -> &List {
        &self.lists[arm as usize]
    }

    pub(super) fn list_mut(&mut self, arm: Arm) -> &mut List {
        &mut self.lists[arm as usize]
    }

    pub(super) fn take_entry(&mut self, entry: Entry) -> Option<u32> {
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

    pub(super) fn link(&mut self, at: u32) {
        let list = &mut self.lists[self.slab[at as usize].drawn.arm as usize];
        let entry = &mut self.slab[at as usize];
        entry.place = Place::Listed;
        entry.older = list.newest;
        match list.newest.replace(at) {
            Some(newest) => self.slab[newest as usize].newer = Some(at),
            None => list.oldest = Some(at),
        }
        list.len += 1;
        list.cursors.iter_mut().for_each(|cursor| *cursor = cursor.or(Some(at)));
        self.check_ends(at);
    }

    /// Out of the order, or no longer overdue.
    pub(super) fn leave(&mut self, at: u32) {
        let entry = &mut self.slab[at as usize];
        let (arm, share) = (entry.drawn.arm, entry.drawn.share);
        match std::mem::replace(&mut entry.place, Place::Apart) {
            Place::Apart => return,
            Place::Overdue => return self.tally().remove_overdue(arm, share),
            Place::Listed => {}
        }
        let (older, newer) = (entry.older.take(), entry.newer.take());
        let list = &mut self.lists[arm as usize];
        list.len -= 1;
        list.cursors.iter_mut().filter(|cursor| **cursor == Some(at)).for_each(|cursor| *cursor = newer);
        match newer {
            Some(newer) => self.slab[newer as usize].older = older,
            None => list.newest = older,
        }
        match older {
            Some(older) => self.slab[older as usize].newer = newer,
            None => {
                list.oldest = newer;
                self.tally().set_oldest(arm, self.oldest_us(arm));
            }
        }
        self.check_ends(at);
    }

    /// What can be told without walking the list; the tests walk it.
    fn check_ends(&self, at: u32) {
        let list = self.list(self.slab[at as usize].drawn.arm);
        debug_assert_eq!(list.oldest.is_some(), list.len > 0, "an arm's list and its count disagree");
        debug_assert_eq!(list.oldest.is_some(), list.newest.is_some(), "a list has one end");
        debug_assert!(list.oldest.is_none_or(|at| self.slab[at as usize].older.is_none()), "older than the oldest");
        debug_assert!(list.newest.is_none_or(|at| self.slab[at as usize].newer.is_none()), "newer than the newest");
    }
}
