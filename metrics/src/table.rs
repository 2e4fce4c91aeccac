//! The series of one family: labels to one cell per worker, with a cap. Cold: workers come here when a name is bound,
//! never per request; a scrape holds the lock only to drop unused series and to copy the list of the others, about a
//! millisecond for a full table.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Longest label value in bytes; a longer one is cut and ends in `…`. Values that agree so far share a series.
pub const LABEL_BYTES_MAX: usize = 256;

/// How long a series stays after the last handle to it was seen gone, in milliseconds: several scrapes, so that its
/// last counts are not lost.
pub const IDLE_MS_MAX: u64 = 10 * 60 * 1_000;

/// How many overflow series one family may have on top of its cap; the next overflow shares the last series.
pub const OVERFLOW_SERIES_MAX: usize = 256;

/// The label value that stands for names which came after the cap.
pub const OVERFLOW: &str = "(overflow)";

/// The labels of one family.
pub(crate) trait LabelSet: Ord + Clone + Debug {
    /// The same with every value within [`LABEL_BYTES_MAX`].
    fn limited(&self) -> Self;
    /// The labels under which this set is counted when the family is full.
    fn overflow(&self) -> Self;
    /// The one set that is left when even the overflow series are too many.
    fn overflow_last() -> Self;
}

/// All series of one family, over all workers.
#[derive(Debug)]
pub(crate) struct Table<L, C> {
    entries: Mutex<BTreeMap<L, Entry<C>>>,
    workers: usize,
    series_max: usize,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Entry<C> {
    series: Arc<Series<C>>,
    /// When a sweep first found that nobody holds a handle any more.
    idle_since_ms: Option<u64>,
}

/// One series: a cell for each worker that asked for one.
#[derive(Debug)]
pub(crate) struct Series<C> {
    cells: Box<[OnceLock<Arc<C>>]>,
}

impl<L: LabelSet, C: Default> Table<L, C> {
    /// An empty table. `dropped` counts the requests that ended in an overflow series.
    pub(crate) fn new(workers: usize, series_max: usize, dropped: Arc<AtomicU64>) -> Self {
        Self { entries: Mutex::default(), workers, series_max, dropped }
    }

    /// The cell of `worker` (below the number of workers) for `labels`, or for the overflow series when full.
    pub(crate) fn cell(&self, worker: usize, labels: &L) -> Arc<C> {
        let labels = labels.limited();
        let mut entries = lock(&self.entries);
        let labels = if entries.contains_key(&labels) { labels } else { self.admit(labels, entries.len(), &entries) };
        let entry = entries.entry(labels).or_insert_with(|| Entry::new(self.workers));
        entry.idle_since_ms = None;
        Arc::clone(entry.series.cells[worker].get_or_init(Arc::default))
    }

    /// Removes the series that nobody has held a handle of for [`IDLE_MS_MAX`].
    ///
    /// Without a handle nothing can be counted, so such a series has not changed for as long either. Handles are given
    /// out under the same lock, so none can appear while this looks.
    pub(crate) fn sweep(&self, now_ms: u64) {
        lock(&self.entries).retain(|_, entry| {
            if entry.series.is_held() {
                entry.idle_since_ms = None;
                return true;
            }
            let since_ms = *entry.idle_since_ms.get_or_insert(now_ms);
            now_ms.saturating_sub(since_ms) < IDLE_MS_MAX
        });
    }

    /// The series of now, in label order, for reading without the lock.
    pub(crate) fn series(&self) -> Vec<(L, Arc<Series<C>>)> {
        lock(&self.entries).iter().map(|(labels, entry)| (labels.clone(), Arc::clone(&entry.series))).collect()
    }

    /// One series, if it exists.
    pub(crate) fn get(&self, labels: &L) -> Option<Arc<Series<C>>> {
        lock(&self.entries).get(&labels.limited()).map(|entry| Arc::clone(&entry.series))
    }

    fn admit(&self, labels: L, held: usize, entries: &BTreeMap<L, Entry<C>>) -> L {
        if held < self.series_max {
            return labels;
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        let overflow = labels.overflow();
        let room = held < self.series_max.saturating_add(OVERFLOW_SERIES_MAX);
        if room || entries.contains_key(&overflow) { overflow } else { L::overflow_last() }
    }
}

impl<C> Series<C> {
    /// Adds up what `read` gives for each worker's cell.
    pub(crate) fn fold<T: Default>(&self, read: impl Fn(T, &C) -> T) -> T {
        self.cells.iter().filter_map(OnceLock::get).fold(T::default(), |sum, cell| read(sum, cell))
    }

    fn is_held(&self) -> bool {
        self.cells.iter().filter_map(OnceLock::get).any(|cell| Arc::strong_count(cell) > 1)
    }
}

impl<C> Entry<C> {
    fn new(workers: usize) -> Self {
        let cells = (0..workers).map(|_| OnceLock::new()).collect();
        Self { series: Arc::new(Series { cells }), idle_since_ms: None }
    }
}

/// A label value within [`LABEL_BYTES_MAX`].
pub(crate) fn limit(value: &Arc<str>) -> Arc<str> {
    if value.len() <= LABEL_BYTES_MAX { Arc::clone(value) } else { limited(value).into() }
}

/// The same for a borrowed value.
pub(crate) fn limited(value: &str) -> String {
    if value.len() <= LABEL_BYTES_MAX {
        return value.to_owned();
    }
    let end = value.floor_char_boundary(LABEL_BYTES_MAX - CUT_MARK.len_utf8());
    let mut cut = value[..end].to_owned();
    cut.push(CUT_MARK);
    cut
}

/// Nothing under these locks can be left half done, so a panic elsewhere must not stop the counting.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const CUT_MARK: char = '…';

#[cfg(test)]
mod tests;
