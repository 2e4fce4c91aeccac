//! The scribe: a thread, and the only writer of journals. Whoever decides hands it entries and never waits for a disk.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serin_rollout::Entry;

use super::Store;
use super::shelf::Writers;

/// An entry is on the disk, or could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Of which rollout.
    pub rollout: Arc<str>,
    /// Which entry: what [`Scribe::write`] was given. An answer holds for all earlier tickets of the rollout as well.
    pub ticket: u64,
    /// `Ok`: this entry, or a newer one of the rollout, outlives a loss of power. The error says what the disk said;
    /// nothing is tried again until the next entry comes.
    pub result: Result<(), String>,
}

/// Hands entries to the thread that writes them.
pub struct Scribe {
    desk: Arc<Desk>,
}

impl Scribe {
    /// Starts the thread. `told` is called on it after each entry was written or failed, and must not wait.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(store: Store, told: Box<dyn Fn(Written) + Send>) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let work = Work { desk: Arc::clone(&desk), store, told, writers: Writers::default() };
        thread::Builder::new().name("serin-scribe".into()).spawn(move || work.run())?;
        Ok(Self { desk })
    }

    /// Hands over an entry; never waits for the disk. Of each rollout only the newest waiting entry is written, because
    /// an entry is a whole state: the tickets of those it replaces are answered with its result.
    ///
    /// Waiting are at most [`ROLLOUTS_MAX`] rollouts, each with at most [`TICKETS_MAX`] tickets. One rollout more is not
    /// taken, and never answered: like on a disk that stands still, nobody may count on it. Of too many tickets the oldest
    /// have no answer of their own.
    pub fn write(&self, rollout: Arc<str>, entry: Entry, ticket: u64) {
        let mut tray = self.desk.tray();
        if let Some(waiting) = tray.waiting.get_mut(&rollout) {
            if waiting.tickets.len() >= TICKETS_MAX {
                waiting.tickets.pop_front();
            }
            waiting.tickets.push_back(ticket);
            waiting.entry = entry;
        } else if tray.waiting.len() < ROLLOUTS_MAX {
            tray.order.push_back(Arc::clone(&rollout));
            tray.waiting.insert(rollout, Waiting { entry, tickets: VecDeque::from([ticket]) });
        } else {
            tray.has_lost = true;
        }
        drop(tray);
        self.desk.bell.notify_all();
    }

    /// Writes what waits, and marks the end as clean for every rollout whose newest entry could be written. Gives back
    /// whether those are all; a disk that stands still is waited for at most [`STOP_WAIT`].
    pub fn stop(self) -> bool {
        self.stop_within(STOP_WAIT)
    }

    fn stop_within(self, wait: Duration) -> bool {
        let mut tray = self.desk.tray();
        tray.end.get_or_insert(End::Clean);
        self.desk.bell.notify_all();
        let waited = self.desk.bell.wait_timeout_while(tray, wait, |tray| tray.ended.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.ended.unwrap_or(false)
    }
}

/// Without [`Scribe::stop`] what waits is still written, but the end is not a clean one.
impl Drop for Scribe {
    fn drop(&mut self) {
        self.desk.tray().end.get_or_insert(End::Unclean);
        self.desk.bell.notify_all();
    }
}

impl fmt::Debug for Scribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scribe").finish_non_exhaustive()
    }
}

/// Rollouts that wait, at most.
pub const ROLLOUTS_MAX: usize = 4_096;
/// Tickets of one rollout that wait, at most.
pub const TICKETS_MAX: usize = 1_024;
/// How long an end waits for the disk.
pub const STOP_WAIT: Duration = Duration::from_secs(5);

/// What both sides see. The lock is held for a few moves at a time, never while the disk works.
#[derive(Default)]
struct Desk {
    tray: Mutex<Tray>,
    bell: Condvar,
}

impl Desk {
    fn tray(&self) -> MutexGuard<'_, Tray> {
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Tray {
    waiting: HashMap<Arc<str>, Waiting>,
    /// Whose turn it is; each that waits is in it once.
    order: VecDeque<Arc<str>>,
    has_lost: bool,
    end: Option<End>,
    /// Whether the end was a clean one.
    ended: Option<bool>,
}

struct Waiting {
    entry: Entry,
    tickets: VecDeque<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Clean,
    Unclean,
}

/// The thread's side.
struct Work {
    desk: Arc<Desk>,
    store: Store,
    told: Box<dyn Fn(Written) + Send>,
    writers: Writers,
}

impl Work {
    fn run(mut self) {
        self.store.begin_writing();
        let mut has_lost = false;
        let end = loop {
            match self.next(&mut has_lost) {
                Ok((rollout, waiting)) => self.write(&rollout, waiting),
                Err(end) => break end,
            }
        };
        let is_clean = end == End::Clean && !has_lost && self.store.end();
        // The folder is free before anybody hears of the end.
        let Self { desk, store, told, writers: _ } = self;
        drop((store, told));
        desk.tray().ended = Some(is_clean);
        desk.bell.notify_all();
    }

    /// Waits for an entry. An end comes only when none waits any more.
    fn next(&self, has_lost: &mut bool) -> Result<(Arc<str>, Waiting), End> {
        let mut tray = self.desk.tray();
        loop {
            *has_lost |= mem::take(&mut tray.has_lost);
            if let Some(rollout) = tray.order.pop_front() {
                if let Some(waiting) = tray.waiting.remove(&rollout) {
                    return Ok((rollout, waiting));
                }
            } else if let Some(end) = tray.end {
                return Err(end);
            } else {
                tray = self.desk.bell.wait(tray).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn write(&mut self, rollout: &Arc<str>, waiting: Waiting) {
        let result = self.writers.append(&self.store.0.shelf, rollout, waiting.entry);
        for ticket in waiting.tickets {
            (self.told)(Written { rollout: Arc::clone(rollout), ticket, result: result.clone() });
        }
    }
}

#[cfg(test)]
mod tests;
