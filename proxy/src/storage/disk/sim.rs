//! A disk for tests, in memory: it fails when it is told to, has a capacity, stands still, and forgets at a loss of power
//! whatever it was not made to keep.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};

use super::{Disk, Identity};

/// The disk.
#[derive(Default)]
pub(crate) struct SimDisk {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    files: Vec<File>,
    names: HashMap<PathBuf, usize>,
    kept_names: HashMap<PathBuf, usize>,
    /// Changes of names that a loss of power may take back, oldest first.
    loose: Vec<(PathBuf, Option<PathBuf>, Option<usize>)>,
    plan: Plan,
    /// Calls that change something, so far.
    calls: u64,
    draws: fastrand::Rng,
    stands_still: bool,
    waiting: usize,
}

#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    kept: Vec<u8>,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// These calls fail, having done a part of it.
    pub(crate) failing: HashSet<u64>,
    /// From this call on nothing works any more.
    pub(crate) dead_from: Option<u64>,
    /// Bytes of all files together, at most.
    pub(crate) capacity: Option<usize>,
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        let disk = Self::default();
        disk.state().draws = fastrand::Rng::with_seed(seed);
        disk
    }

    pub(crate) fn plan(&self, plan: Plan) {
        self.state().plan = plan;
    }

    /// Calls so far that change something.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    pub(crate) fn text(&self, path: &Path) -> Option<String> {
        let state = self.state();
        state.names.get(path).map(|&file| String::from_utf8(state.files[file].now.clone()).unwrap())
    }

    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let file = state.named(path);
        state.files[file] = File { now: bytes.to_vec(), kept: bytes.to_vec() };
    }

    /// From now on no call that changes something comes back, until the disk is told to go on.
    pub(crate) fn stand_still(&self, stands_still: bool) {
        self.state().stands_still = stands_still;
        self.bell.notify_all();
    }

    /// Waits until a caller waits for the disk.
    pub(crate) fn has_caller(&self) {
        let mut state = self.state();
        while state.waiting == 0 {
            state = self.bell.wait(state).unwrap();
        }
    }

    /// What was not kept is gone, or is there in part.
    pub(crate) fn lose_power(&self) {
        let state = &mut *self.state();
        let surviving = state.draws.usize(..=state.loose.len());
        for (path, from, file) in std::mem::take(&mut state.loose).into_iter().take(surviving) {
            name(&mut state.kept_names, &path, from.as_deref(), file);
        }
        state.names.clone_from(&state.kept_names);
        for file in &mut state.files {
            file.kept = after_loss(file, &mut state.draws);
            file.now.clone_from(&file.kept);
        }
        state.plan = Plan::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Begins a call that changes something; the error is for after a part of it.
    fn call(&self) -> (MutexGuard<'_, State>, io::Result<()>) {
        let mut state = self.state();
        state.waiting += 1;
        self.bell.notify_all();
        while state.stands_still {
            state = self.bell.wait(state).unwrap();
        }
        state.waiting -= 1;
        let call = state.calls;
        state.calls += 1;
        let fails = state.plan.failing.contains(&call) || state.plan.dead_from.is_some_and(|from| call >= from);
        (state, if fails { Err(io::Error::other("input/output error")) } else { Ok(()) })
    }
}

impl State {
    fn named(&mut self, path: &Path) -> usize {
        if let Some(&file) = self.names.get(path) {
            return file;
        }
        self.files.push(File::default());
        let file = self.files.len() - 1;
        self.names.insert(path.to_owned(), file);
        self.loose.push((path.to_owned(), None, Some(file)));
        file
    }

    fn used(&self) -> usize {
        self.names.values().map(|&file| self.files[file].now.len()).sum()
    }

    /// Whether a call that fails has been done nevertheless.
    fn does_it(&mut self, result: &io::Result<()>) -> bool {
        result.is_ok() || (self.plan.dead_from.is_none() && self.draws.bool())
    }
}

fn name(names: &mut HashMap<PathBuf, usize>, path: &Path, from: Option<&Path>, file: Option<usize>) {
    from.map(|from| names.remove(from));
    match file {
        Some(file) => names.insert(path.to_owned(), file),
        None => names.remove(path),
    };
}

/// Of what was written since the last sync: nothing, all, a part, or a part with zeros behind it.
fn after_loss(file: &File, draws: &mut fastrand::Rng) -> Vec<u8> {
    let same = file.now.iter().zip(&file.kept).take_while(|(now, kept)| now == kept).count();
    match draws.u8(..4) {
        0 => file.kept.clone(),
        1 => file.now.clone(),
        choice => {
            let mut bytes = file.now[..draws.usize(same..=file.now.len())].to_vec();
            if choice == 3 && bytes.len() < file.now.len() {
                bytes.resize(file.now.len(), 0);
            }
            bytes
        }
    }
}

impl Disk for SimDisk {
    fn look(&self, path: &Path) -> io::Result<Option<u64>> {
        let state = self.state();
        Ok(state.names.get(path).map(|&file| state.files[file].now.len() as u64))
    }

    fn read_end(&self, path: &Path, max: usize) -> io::Result<Option<(u64, Vec<u8>)>> {
        let state = self.state();
        let Some(&file) = state.names.get(path) else { return Ok(None) };
        let bytes = &state.files[file].now;
        Ok(Some((bytes.len() as u64, bytes[bytes.len().saturating_sub(max)..].to_vec())))
    }

    fn identity(&self, _folder: &Path) -> io::Result<Option<Identity>> {
        Ok(Some((0, 0, None)))
    }

    fn list(&self, folder: &Path, max: usize) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.names.keys().filter(|path| path.parent() == Some(folder));
        let names: Vec<String> = inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        if names.len() > max { Err(io::Error::other("too many files")) } else { Ok(names) }
    }

    fn write(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut state, mut result) = self.call();
        let room = state.plan.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(state.used()));
        let mut done = bytes.len();
        if result.is_err() {
            // All of it is written and only the sync fails, or a part is written.
            done = state.draws.usize(..=bytes.len());
        } else if room < bytes.len() {
            (done, result) = (room, Err(io::ErrorKind::StorageFull.into()));
        }
        let file = state.named(path);
        let file = &mut state.files[file];
        let at = usize::try_from(at).unwrap();
        let end = file.now.len().max(at + done);
        if done > 0 {
            file.now.resize(end, 0);
            file.now[at..at + done].copy_from_slice(&bytes[..done]);
        }
        if result.is_ok() {
            file.kept.clone_from(&file.now);
        }
        result
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let (mut state, result) = self.call();
        if state.does_it(&result) {
            let file = state.named(path);
            state.files[file].now.truncate(usize::try_from(len).unwrap());
        }
        result
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, result) = self.call();
        if state.does_it(&result) {
            let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            name(&mut state.names, to, Some(from), Some(file));
            state.loose.push((to.to_owned(), Some(from.to_owned()), Some(file)));
        }
        result
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, result) = self.call();
        if state.does_it(&result) && state.names.remove(path).is_some() {
            state.loose.push((path.to_owned(), None, None));
        }
        result
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        let (mut state, result) = self.call();
        if result.is_ok() {
            state.loose.clear();
            state.kept_names = state.names.clone();
        }
        result
    }
}
