//! Notices that the configuration file or a watched folder may have changed. The only part of this crate with IO.
//!
//! Editors write in place or rename a new file over the old one; ConfigMaps swap a symlink to a folder two hops away.
//! All of these are changes of some folder, so folders are watched, never files: the folder of the file, the folder of
//! every symlink on the way to it, and the extra folders with those inside them. An event only means "look again": the
//! caller reads again and compares bytes. A slow poll stands behind it, for file systems that send no events.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Symlinks followed on the way to one file, as Linux does.
pub const SYMLINKS_MAX: usize = 40;
/// Folders watched at once; those beyond are left to the poll.
pub const FOLDERS_MAX: usize = 1024;
/// Levels of folders inside an extra folder.
pub const FOLDER_DEPTH_MAX: usize = 8;

/// Events are gathered until so long nothing happens.
const QUIET: Duration = Duration::from_millis(50);
/// But not longer than so many times [`QUIET`]: half a second.
const QUIET_ROUNDS_MAX: u32 = 10;
/// Without any event, the caller is asked to look again so often.
const POLL: Duration = Duration::from_secs(5);

/// Watches until it is dropped.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// let watcher = serin_config::watch::Watcher::new("serin.yaml", Vec::new(), || println!("look again"))?;
/// # drop(watcher); Ok(()) }
/// ```
#[derive(Debug)]
pub struct Watcher {
    /// Dropped first: a closed channel ends the thread.
    stop: Option<SyncSender<Stop>>,
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
    degraded: Option<String>,
}

/// Never sent: the thread hears the channel close.
#[derive(Debug)]
enum Stop {}

impl Watcher {
    /// Watches `file` and the folders of `folders`, and calls `look_again` on a thread of its own after events, and every
    /// five seconds without any. Calls may be for nothing: compare bytes. What happens between `new` and its return is noticed.
    ///
    /// # Errors
    /// No thread could be started. If the system gives no events, [`Watcher::degraded`] says why and only the poll is left.
    pub fn new(
        file: impl Into<PathBuf>,
        folders: Vec<PathBuf>,
        look_again: impl Fn() + Send + 'static,
    ) -> io::Result<Watcher> {
        Watcher::of_files(vec![file.into()], folders, look_again)
    }

    /// The same for several files.
    ///
    /// # Errors
    /// As [`Watcher::new`].
    pub fn of_files(
        files: Vec<PathBuf>,
        folders: Vec<PathBuf>,
        look_again: impl Fn() + Send + 'static,
    ) -> io::Result<Watcher> {
        // One waiting signal says all there is to say, so the channel needs one place.
        let (wake, woken) = sync_channel(1);
        let events = notifier(wake.clone());
        Watcher::start(files, folders, look_again, events, (wake, woken), POLL)
    }

    fn start(
        files: Vec<PathBuf>,
        folders: Vec<PathBuf>,
        look_again: impl Fn() + Send + 'static,
        events: notify::Result<RecommendedWatcher>,
        (wake, woken): (SyncSender<()>, Receiver<()>),
        poll: Duration,
    ) -> io::Result<Watcher> {
        let (stop, stopped) = sync_channel(1);
        let degraded = events.as_ref().err().map(ToString::to_string);
        let mut watched = Watched { events: events.ok(), files, folders, armed: Vec::new() };
        watched.rearm();
        let run = move || run(&mut watched, &woken, &stopped, poll, &look_again);
        let thread = std::thread::Builder::new().name("serin-watch".to_owned()).spawn(run)?;
        Ok(Watcher { stop: Some(stop), wake, thread: Some(thread), degraded })
    }

    /// Why the system sends no events, if so: then changes are noticed only by the poll.
    pub fn degraded(&self) -> Option<&str> {
        self.degraded.as_deref()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        // A full channel already wakes the thread.
        let _ = self.wake.try_send(());
        let own = std::thread::current().id();
        // Dropped by its own callback, the thread ends behind it; it cannot wait for itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != own) {
            // It only fails if the callback panicked, which has been reported where it happened.
            let _ = thread.join();
        }
    }
}

fn notifier(wake: SyncSender<()>) -> notify::Result<RecommendedWatcher> {
    let handler = move |event: notify::Result<Event>| {
        // Reading the file is an event too: answering it would never end. An error may have lost events: look again.
        if !matches!(&event, Ok(Event { kind: EventKind::Access(_), .. })) {
            let _ = wake.try_send(());
        }
    };
    notify::recommended_watcher(handler)
}

fn run(watched: &mut Watched, woken: &Receiver<()>, stopped: &Receiver<Stop>, poll: Duration, look_again: &impl Fn()) {
    loop {
        let news = woken.recv_timeout(poll);
        if news.is_ok() {
            // Rounds instead of a clock: each lasts at least QUIET, a round without events ends it.
            for _ in 0..QUIET_ROUNDS_MAX {
                if !matches!(stopped.recv_timeout(QUIET), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
                if woken.try_recv().is_err() {
                    break;
                }
            }
        }
        if !matches!(stopped.try_recv(), Err(TryRecvError::Empty)) {
            return;
        }
        // Before looking: what changes from here on is a new event.
        watched.rearm();
        look_again();
    }
}

/// What is watched now.
struct Watched {
    events: Option<RecommendedWatcher>,
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    armed: Vec<PathBuf>,
}

impl Watched {
    /// Watches everything anew. A folder that was removed and made again may even have the same inode and yet no watch,
    /// so nothing old is trusted; what happens in between is seen by the look that follows.
    fn rearm(&mut self) {
        let Some(events) = &mut self.events else { return };
        for folder in self.armed.drain(..) {
            // It may be gone already, and the watch with it.
            let _ = events.unwatch(&folder);
        }
        let mut wanted: BTreeSet<PathBuf> = self.files.iter().flat_map(|file| folders_on_the_way(file)).collect();
        for folder in &self.folders {
            wanted.extend(folders_on_the_way(folder));
            add_folders_inside(folder, 0, &mut wanted);
        }
        // One folder under two names (behind a symlink) has one watch only.
        let mut seen = HashSet::new();
        for folder in wanted {
            let fresh = identity(&folder).is_some_and(|id| seen.insert(id));
            if fresh && events.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                self.armed.push(folder);
            }
        }
    }
}

/// Device and inode of a folder.
fn identity(folder: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(folder).ok().filter(std::fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

/// The folder of `path`, and the folder of every symlink between here and there.
fn folders_on_the_way(path: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut symlinks = 0;
    let mut done = if path.is_absolute() { PathBuf::from("/") } else { PathBuf::from(".") };
    // What is still to walk, last part first.
    let mut left: Vec<OsString> = parts(path);
    while let Some(part) = left.pop() {
        if part == ".." {
            done.push(part);
            continue;
        }
        let next = done.join(&part);
        let Ok(metadata) = std::fs::symlink_metadata(&next) else {
            // Not there: its making is a change of this folder.
            folders.insert(done);
            return folders;
        };
        if metadata.is_symlink() {
            folders.insert(done.clone());
            symlinks += 1;
            let Ok(target) = std::fs::read_link(&next) else { return folders };
            if symlinks > SYMLINKS_MAX {
                return folders;
            }
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            left.extend(parts(&target));
        } else if left.is_empty() {
            folders.insert(done.clone());
        } else {
            done = next;
        }
    }
    folders
}

fn parts(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().rev().filter_map(part).collect()
}

fn add_folders_inside(folder: &Path, depth: usize, folders: &mut BTreeSet<PathBuf>) {
    if depth > FOLDER_DEPTH_MAX || folders.len() >= FOLDERS_MAX || !folder.is_dir() {
        return;
    }
    folders.insert(folder.to_owned());
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        // Follows symlinks on purpose: a ConfigMap's files lie behind one. The depth ends loops.
        // Plain files, of which there may be many, are told by the entry alone.
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file && entry.path().is_dir() {
            add_folders_inside(&entry.path(), depth + 1, folders);
        }
    }
}

#[cfg(test)]
mod tests;
