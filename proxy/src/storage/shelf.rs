//! All journals of a process, on a disk or in memory.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serin_rollout::Entry;

use super::disk::{Disk, RealDisk};
use super::folder::Sequences;
use super::journal::{Journal, LIMITS, Tail};
use super::scribe::ROLLOUTS_MAX;

/// Where journals are.
#[derive(Debug)]
pub(super) enum Shelf {
    /// Files in a folder.
    Files(Files),
    /// The newest entries of each rollout.
    Memory(Mutex<HashMap<Arc<str>, VecDeque<Entry>>>),
}

type Written = HashMap<Arc<str>, Option<u64>>;

/// Journals in a folder.
pub(super) struct Files {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    /// Where rollouts stood at the end of the run before this one, if it was a clean end.
    before: Sequences,
    /// Of each rollout that this run wrote of: the number of its newest entry, or none if that is not on the disk.
    written: Mutex<Written>,
}

impl Shelf {
    pub(super) fn of_folder(folder: PathBuf, before: Sequences) -> Self {
        Self::of_disk(Arc::new(RealDisk), folder, before)
    }

    pub(super) fn of_disk(disk: Arc<dyn Disk>, folder: PathBuf, before: Sequences) -> Self {
        Self::Files(Files { folder, disk, before, written: Mutex::default() })
    }

    pub(super) fn of_memory() -> Self {
        Self::Memory(Mutex::default())
    }

    /// See [`super::Store::recover`].
    pub(super) fn recover(&self, rollout: &str) -> Recovered {
        match self {
            Self::Files(files) => files.recover(rollout),
            Self::Memory(rings) => {
                let last = locked(rings).get(rollout).and_then(|ring| ring.back().cloned());
                Recovered { existed: last.is_some(), clean: last.is_some(), last, ..Recovered::default() }
            }
        }
    }

    /// See [`super::Store::history`].
    pub(super) fn history(&self, rollout: &str, max: usize) -> Vec<Entry> {
        let mut newest: Vec<Entry> = match self {
            Self::Files(files) => {
                let tail = files.tail(rollout).unwrap_or_default();
                tail.entries().flatten().take(max).collect()
            }
            Self::Memory(rings) => {
                let rings = locked(rings);
                rings.get(rollout).map_or(Vec::new(), |ring| ring.iter().rev().take(max).cloned().collect())
            }
        };
        newest.reverse();
        newest
    }

    /// Of each rollout whose newest entry is in its journal, the number of that entry; and whether that is all of them.
    pub(super) fn clean(&self) -> (HashMap<Arc<str>, u64>, bool) {
        let Self::Files(files) = self else { return (HashMap::new(), true) };
        let written = locked(&files.written);
        let mut clean = HashMap::clone(&files.before);
        clean.retain(|rollout, _| !written.contains_key(rollout));
        clean.extend(written.iter().filter_map(|(rollout, sequence)| Some((Arc::clone(rollout), (*sequence)?))));
        (clean, written.values().all(Option::is_some))
    }
}

impl Files {
    fn path(&self, rollout: &str) -> Option<PathBuf> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = (1..=NAME_BYTES_MAX).contains(&rollout.len()) && rollout.bytes().all(is_plain);
        is_name.then(|| self.folder.join(format!("{rollout}.journal")))
    }

    fn tail(&self, rollout: &str) -> Result<Tail, String> {
        let path = self.path(rollout).ok_or("it is no name of a rollout")?;
        Tail::read(self.disk.as_ref(), &path).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn recover(&self, rollout: &str) -> Recovered {
        let written = locked(&self.written).get(rollout).copied();
        let newest = written.unwrap_or_else(|| self.before.get(rollout).copied());
        match self.tail(rollout) {
            Ok(tail) => {
                let unreadable = tail.entries().take_while(Result::is_err).count();
                let last = tail.entries().flatten().next();
                // Of a long file without a line end there is nothing to count.
                let unreadable = if last.is_none() && tail.has_text() { unreadable.max(1) } else { unreadable };
                let clean = unreadable == 0 && last.as_ref().is_some_and(|last| newest == Some(last.sequence));
                Recovered { last, existed: tail.existed(), unreadable, trouble: None, clean }
            }
            Err(why) => Recovered { existed: true, trouble: Some(why), ..Recovered::default() },
        }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What a journal says of a rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// The last entry that can be read.
    pub last: Option<Entry>,
    /// Whether there was a journal, or something in its place.
    pub existed: bool,
    /// Lines behind the last entry that cannot be read. One is what a stop in mid-write leaves.
    pub unreadable: usize,
    /// Why the file could not be read at all.
    pub trouble: Option<String>,
    /// Whether `last` is certainly where the rollout stood in the end: the last run ended cleanly, or this one wrote it.
    pub clean: bool,
}

impl Recovered {
    /// Whether there is something that nobody can read: nothing is known of the rollout, and it must not go on by
    /// itself.
    pub fn is_unreadable(&self) -> bool {
        self.last.is_none() && (self.unreadable > 0 || self.trouble.is_some())
    }
}

/// The writers of all journals; there is one for each shelf, on the thread of the scribe.
#[derive(Debug, Default)]
pub(super) struct Writers(HashMap<Arc<str>, Journal>);

impl Writers {
    /// Appends an entry. After `Ok` it outlives a loss of power, as far as the shelf does.
    pub(super) fn append(&mut self, shelf: &Shelf, rollout: &Arc<str>, entry: Entry) -> Result<(), String> {
        let files = match shelf {
            Shelf::Files(files) => files,
            Shelf::Memory(rings) => {
                remember(&mut locked(rings), rollout, entry);
                return Ok(());
            }
        };
        // Before the disk is touched: from here on what the journal says may be old.
        if !note(&mut locked(&files.written), rollout, None) {
            return Err(format!("{ROLLOUTS_MAX} rollouts of this run could not be written"));
        }
        let sequence = entry.sequence;
        let path = files.path(rollout).ok_or("it is no name of a rollout")?;
        if self.0.len() >= ROLLOUTS_MAX && !self.0.contains_key(rollout) {
            self.0.clear();
        }
        let new = || Journal::new(&files.folder, path.clone(), LIMITS);
        let journal = self.0.entry(Arc::clone(rollout)).or_insert_with(new);
        journal.append(files.disk.as_ref(), &entry).map_err(|error| format!("{}: {error}", path.display()))?;
        note(&mut locked(&files.written), rollout, Some(sequence));
        Ok(())
    }
}

/// Notes how far a rollout is written. Of too many rollouts one that is written is forgotten; if there is none, nothing
/// is noted.
fn note(written: &mut Written, rollout: &Arc<str>, sequence: Option<u64>) -> bool {
    if written.len() >= ROLLOUTS_MAX && !written.contains_key(rollout) {
        let Some(other) = written.iter().find(|(_, written)| written.is_some()).map(|(name, _)| Arc::clone(name))
        else {
            return false;
        };
        written.remove(&other);
    }
    written.insert(Arc::clone(rollout), sequence);
    true
}

/// Keeps the newest entries of a rollout: fewer of each, the more rollouts there are.
fn remember(rings: &mut HashMap<Arc<str>, VecDeque<Entry>>, rollout: &Arc<str>, entry: Entry) {
    if rings.len() >= ROLLOUTS_MAX && !rings.contains_key(rollout) {
        let other = rings.keys().next().cloned();
        other.map(|other| rings.remove(&other));
    }
    let max = (RINGS_MAX / (rings.len() + 1)).clamp(1, RING_MAX);
    let ring = rings.entry(Arc::clone(rollout)).or_default();
    let over = (ring.len() + 1).saturating_sub(max);
    ring.drain(..over);
    ring.push_back(entry);
}

/// Entries of one rollout that are kept in memory.
pub const RING_MAX: usize = 1_024;
/// Roughly, entries of all rollouts that are kept in memory.
const RINGS_MAX: usize = 64 * RING_MAX;
/// The longest name of a rollout.
const NAME_BYTES_MAX: usize = 63;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
