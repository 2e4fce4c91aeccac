//! What outlives the process: a journal for each rollout, stored dtabs, the token, and whether the last end was a clean
//! one.
//!
//! ```text
//! <dir>/lock                      held by the one process that uses the folder
//! <dir>/clean                     the number of each rollout's last entry; written at a clean end, taken away at every start
//! <dir>/token                     the secret of the administration
//! <dir>/rollouts/<name>.journal   one line for each decision, newest last
//! <dir>/dtabs/<name>.dtab         one stored dtab with its version
//! <dir>/dtabs/retired             no version up to this one is used again
//! <dir>/teams/<name>.yaml         the last good version of each team file
//! ```
//!
//! A line is on the disk before its writer says so. Files are only appended to, or replaced whole: whenever the process or
//! the machine stops, the last line that can be read is one that was acknowledged, or a newer one.

mod disk;
mod dtabs;
mod error;
mod folder;
mod journal;
mod scribe;
mod shelf;
mod teams;

#[cfg(test)]
pub(crate) use disk::sim as disk_sim;

use std::path::Path;
use std::sync::Arc;

use serin_config::model::Storage;
use serin_rollout::Entry;

pub use dtabs::DTAB_FILES_MAX;
pub(crate) use dtabs::DtabFiles;
pub use error::{StorageError, TOKEN_BYTES_MAX};
pub use scribe::{ROLLOUTS_MAX, STOP_WAIT, Scribe, TICKETS_MAX, Written};
pub use shelf::{RING_MAX, Recovered};
pub use teams::kept_teams;

use folder::Folder;
use shelf::Shelf;

/// The storage of this process. Clones share it; the folder is free again when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None`: in memory.
    folder: Option<Folder>,
    shelf: Arc<Shelf>,
}

impl Store {
    /// Opens it. A folder is made if it is missing (only the last one of the path, mode 0700), and locked.
    ///
    /// # Errors
    /// The folder is in use, or cannot be used: each error says why and what to do.
    pub fn open(storage: &Storage) -> Result<Self, StorageError> {
        let inner = match storage {
            Storage::File { dir } => {
                let folder = Folder::open(dir)?;
                let shelf = Arc::new(Shelf::of_folder(folder.rollouts(), folder.clean()));
                Inner { folder: Some(folder), shelf }
            }
            Storage::Memory => Inner { folder: None, shelf: Arc::new(Shelf::of_memory()) },
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Where a rollout stood. A journal that cannot be read is not the same as none: see [`Recovered`].
    pub fn recover(&self, rollout: &str) -> Recovered {
        self.0.shelf.recover(rollout)
    }

    /// Up to `max` of a rollout's newest entries, newest last. What cannot be read is left out.
    pub fn history(&self, rollout: &str, max: usize) -> Vec<Entry> {
        self.0.shelf.history(rollout, max)
    }

    /// Reads journals beside their writer; does not keep the folder locked.
    pub fn reader(&self) -> HistoryReader {
        HistoryReader(Arc::clone(&self.0.shelf))
    }

    /// The files of stored dtabs; `None` in memory.
    ///
    /// # Errors
    /// Their folder cannot be made or used.
    pub(crate) fn dtabs(&self) -> Result<Option<DtabFiles>, StorageError> {
        let dir = self.0.folder.as_ref().map(Folder::dir);
        dir.map(|dir| DtabFiles::open(dir).map_err(StorageError::of("used for dtabs", dir))).transpose()
    }

    /// The secret of the administration; `None` without a folder.
    pub fn token(&self) -> Option<&str> {
        self.0.folder.as_ref().map(Folder::token)
    }

    /// What whoever runs this should know: each a sentence for the log.
    pub fn warnings(&self) -> Vec<String> {
        self.0.folder.as_ref().map_or(Vec::new(), Folder::warnings)
    }

    /// Where everything lies; `None` in memory.
    fn folder(&self) -> Option<&Path> {
        self.0.folder.as_ref().map(Folder::dir)
    }

    /// From now on only [`Self::end`] makes the end a clean one.
    fn begin_writing(&self) {
        if let Some(folder) = &self.0.folder {
            folder.begin_writing();
        }
    }

    /// Marks the end as clean for every rollout whose newest entry is written. Gives back whether those are all.
    fn end(&self) -> bool {
        let (clean, are_all) = self.0.shelf.clean();
        self.0.folder.as_ref().is_none_or(|folder| folder.end(&clean).is_ok()) && are_all
    }
}

/// The stored dtabs of a folder that may be in use: nothing is locked, made or changed.
///
/// # Errors
/// The folder cannot be read.
pub fn stored_dtabs(dir: &Path) -> std::io::Result<crate::dtabs::Namespaces> {
    DtabFiles::of_folder(dir).load()
}

/// Reads the history of rollouts, for threads that answer people: it waits for the disk.
#[derive(Clone, Debug)]
pub struct HistoryReader(Arc<Shelf>);

impl HistoryReader {
    /// The journals of a folder that may be in use: nothing is locked, made or changed.
    pub fn of_folder(dir: &Path) -> Self {
        Self(Arc::new(Shelf::of_folder(dir.join(folder::ROLLOUTS), Arc::default())))
    }

    /// Where a rollout stands by its journal. Whether its process still runs, or ended cleanly, is not known here.
    pub fn recover(&self, rollout: &str) -> Recovered {
        self.0.recover(rollout)
    }

    /// Up to `max` of a rollout's newest entries, newest last. What cannot be read is left out.
    pub fn history(&self, rollout: &str, max: usize) -> Vec<Entry> {
        self.0.history(rollout, max)
    }
}

#[cfg(test)]
mod tests;
