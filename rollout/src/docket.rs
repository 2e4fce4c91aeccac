//! In which order events count, and which count at all.
//!
//! An event of the accused arm counts once no older request of the other arm is still open: else the arm that fails
//! faster would look worse. Events of one key count once in each start, the first across both arms: else two arms that
//! share one broken client would each be blamed for it.

use std::collections::BTreeMap;

use crate::TimestampMs;
use crate::record::{Arm, EventRecord, Key};

/// Events that wait for their turn, at most.
pub(crate) const PENDING_MAX: usize = 4_096;
/// Keys remembered, at most. One more key: its events of the accused arm do not count.
pub(crate) const KEYS_MAX: usize = 65_536;

/// The events of both arms, as one arm is accused.
#[derive(Clone, Debug)]
pub(crate) struct Docket {
    accused: Arm,
    pending: BTreeMap<(TimestampMs, u64), EventRecord>,
    /// For each key the number of starts there were when it last counted.
    keys: BTreeMap<(usize, bool, Key), u32>,
    /// Events accepted so far: keeps the order of equals.
    sequence: u64,
    /// Events that did not count because something was full.
    dropped: u64,
}

/// An event whose turn has come: it counts in every start numbered above `since`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counted {
    pub(crate) record: EventRecord,
    pub(crate) since: u32,
}

impl Docket {
    pub(crate) fn new(accused: Arm) -> Docket {
        Docket { accused, pending: BTreeMap::new(), keys: BTreeMap::new(), sequence: 0, dropped: 0 }
    }

    /// Takes an event; hands it back if it counts at once. `starts` is how many starts there have been.
    pub(crate) fn take(&mut self, record: EventRecord, starts: u32) -> Option<Counted> {
        if record.arm != self.accused || record.kind.is_age() {
            return self.count(record, starts);
        }
        if self.pending.len() >= PENDING_MAX {
            self.dropped += 1;
            return None;
        }
        self.sequence += 1;
        self.pending.insert((record.routed_at, self.sequence), record);
        None
    }

    /// Hands out the events that no older open request of the other arm holds back.
    pub(crate) fn release(&mut self, oldest_open: Option<TimestampMs>, starts: u32, mut count: impl FnMut(Counted)) {
        while let Some(entry) = self.pending.first_entry() {
            if oldest_open.is_some_and(|oldest| oldest <= entry.key().0) {
                break;
            }
            let record = entry.remove();
            if let Some(counted) = self.count(record, starts) {
                count(counted);
            }
        }
    }

    /// Has an event to wait for an older request.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Events that did not count because something was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn count(&mut self, record: EventRecord, starts: u32) -> Option<Counted> {
        let Some(key) = record.key else { return Some(Counted { record, since: 0 }) };
        let full = self.keys.len() >= KEYS_MAX;
        // What is not randomised must not use up a key of what is.
        let slot = (record.kind.index(), record.randomised, key);
        match self.keys.get_mut(&slot) {
            Some(seen) if *seen >= starts => None,
            Some(seen) => Some(Counted { record, since: std::mem::replace(seen, starts) }),
            None if full && record.arm == self.accused => {
                self.dropped += 1;
                None
            }
            None => {
                if !full {
                    self.keys.insert(slot, starts);
                }
                Some(Counted { record, since: 0 })
            }
        }
    }
}

#[cfg(test)]
mod tests;
