//! Stored dtabs: namespaces with versions, changed while Serin runs, by compare-and-swap where whoever asks wants it.
//!
//! [`Dtabs`] is what everybody shares. A change is planned, made durable, and then in force: readers see it at once, and
//! the control thread hears of it and builds the structure of the routers that use the namespace. Reading never waits for
//! a disk; changes are made one after the other, each on a thread that may wait.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serin_metrics::{DtabWrite, Metrics};
use tokio::sync::{Notify, Semaphore, watch};

use crate::storage::DtabFiles;

mod state;
pub mod text;
mod version;

pub use state::{
    Change, Content, DTAB_BYTES_MAX, Draft, Effect, NAMESPACES_MAX, Namespaces, Refused, Stored, TOTAL_BYTES_MAX,
};
pub use version::Version;

/// Changes that may wait for their turn; one more is told to come back.
pub const CHANGES_MAX: usize = 64;
/// How long a change that is durable waits to be in force before its writer is answered all the same.
const IN_FORCE_WAIT: Duration = Duration::from_secs(2);

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotChanged {
    /// By what is there.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The disk may not be written.
    #[error("the storage may not be written: {0}")]
    Forbidden(String),
    /// The disk failed, or is full.
    #[error("the storage cannot be written: {0}")]
    Failed(String),
    /// [`CHANGES_MAX`] others wait already.
    #[error("{CHANGES_MAX} changes wait for the disk already: come back later")]
    Busy,
}

/// All stored dtabs of this process.
#[derive(Debug)]
pub struct Dtabs {
    /// One change at a time, with the disk in it. Never taken by a worker.
    writing: Mutex<()>,
    files: Option<DtabFiles>,
    view: ArcSwap<View>,
    news: watch::Sender<u64>,
    in_force: watch::Sender<u64>,
    turns: Semaphore,
    metrics: Arc<Metrics>,
    changed: Arc<Notify>,
}

/// The namespaces at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// They.
    pub namespaces: Namespaces,
    /// Changes before it, so that a reader sees a change by comparing one number.
    pub generation: u64,
}

impl Dtabs {
    /// Those of a storage; `None`: in memory. `changed` is told of each change.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn open(files: Option<DtabFiles>, metrics: Arc<Metrics>, changed: Arc<Notify>) -> io::Result<Self> {
        let namespaces = files.as_ref().map_or_else(|| Ok(Namespaces::default()), DtabFiles::load)?;
        for (namespace, why) in namespaces.unreadable() {
            tracing::error!(%namespace, "a stored dtab cannot be read and counts as empty: {why}");
        }
        metrics.control().set_dtab_namespaces(namespaces.len());
        Ok(Self {
            writing: Mutex::default(),
            files,
            view: ArcSwap::from_pointee(View { namespaces, generation: 0 }),
            news: watch::Sender::new(0),
            in_force: watch::Sender::new(0),
            turns: Semaphore::new(CHANGES_MAX),
            metrics,
            changed,
        })
    }

    /// What is in force for readers.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Tells the generation of each change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Would a restart find them. Looks at the disk, without waiting for it.
    ///
    /// # Errors
    /// Their folder is gone, or is another one.
    pub fn check(&self) -> io::Result<()> {
        self.files.as_ref().map_or(Ok(()), DtabFiles::check)
    }

    /// Changes one namespace and gives its new version; `None` if it is gone. Waits for the disk, and a moment for the
    /// change to reach routing: who is answered sees it in the next request.
    ///
    /// # Errors
    /// Nothing has changed; see [`NotChanged`].
    pub async fn change(self: &Arc<Self>, name: String, change: Change) -> Result<Option<Version>, NotChanged> {
        let turn = self.turns.try_acquire().map_err(|_| NotChanged::Busy)?;
        let dtabs = Arc::clone(self);
        let changed = tokio::task::spawn_blocking(move || dtabs.change_now(&name, &change)).await;
        drop(turn);
        // a change that panicked has not been committed
        let (version, generation) = changed.unwrap_or_else(|error| Err(NotChanged::Failed(error.to_string())))?;
        let mut in_force = self.in_force.subscribe();
        let _late = tokio::time::timeout(IN_FORCE_WAIT, in_force.wait_for(|now| *now >= generation)).await;
        Ok(version)
    }

    /// The same for whoever may wait for a disk; does not wait for routing. Gives the generation too.
    ///
    /// # Errors
    /// As [`Dtabs::change`].
    pub fn change_now(&self, name: &str, change: &Change) -> Result<(Option<Version>, u64), NotChanged> {
        let done = self.make(name, change);
        let outcome = match (&done, change) {
            (Ok(_), Change::Create(_)) => DtabWrite::Created,
            (Ok(_), Change::Put(_) | Change::Replace(..)) => DtabWrite::Updated,
            (Ok(_), Change::Delete | Change::Remove(_)) => DtabWrite::Deleted,
            (Err(NotChanged::Refused(_) | NotChanged::Busy), _) => DtabWrite::Refused,
            (Err(NotChanged::Forbidden(_) | NotChanged::Failed(_)), _) => DtabWrite::Failed,
        };
        self.metrics.control().dtab_write(outcome);
        if let Err(error @ (NotChanged::Forbidden(_) | NotChanged::Failed(_))) = &done {
            tracing::error!(namespace = name, %error, "a stored dtab stays as it is");
        }
        done
    }

    fn make(&self, name: &str, change: &Change) -> Result<(Option<Version>, u64), NotChanged> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut view = View::clone(&self.view.load());
        let effect = view.namespaces.plan(name, change)?;
        if let Some(files) = &self.files {
            if files.recover(&view.namespaces).map_err(not_written)? {
                tracing::warn!("the folder of the stored dtabs was gone: it is made, and all of them are written anew");
            }
            let before = view.namespaces.get(name);
            match &effect {
                Effect::Write(stored) => files.write(name, stored, before),
                Effect::Remove { retired } => files.remove(name, *retired, before),
            }
            .map_err(not_written)?;
        }
        view.namespaces.commit(name, &effect);
        view.generation += 1;
        let generation = view.generation;
        self.metrics.control().set_dtab_namespaces(view.namespaces.len());
        self.view.store(Arc::new(view));
        self.news.send_replace(generation);
        self.changed.notify_one();
        let version = match effect {
            Effect::Write(stored) => Some(stored.version),
            Effect::Remove { .. } => None,
        };
        tracing::info!(
            namespace = name,
            version = version.map(|version| version.to_string()),
            "{}",
            if version.is_some() { "stored dtab written" } else { "stored dtab deleted" }
        );
        Ok((version, generation))
    }

    /// Routing has everything up to this generation. Control thread only.
    pub(crate) fn set_in_force(&self, generation: u64) {
        self.in_force.send_replace(generation);
    }
}

fn not_written(error: io::Error) -> NotChanged {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => NotChanged::Forbidden(error.to_string()),
        _ => NotChanged::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
