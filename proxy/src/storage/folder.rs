//! The folder of `storage.dir`: made, locked, and what lies in it beside the journals.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::{Disk, RealDisk, kind, make_folder, read_some, replace, rewrite};
use super::error::{StorageError, TOKEN_BYTES_MAX};
use super::scribe::ROLLOUTS_MAX;

/// A locked folder.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    /// Held as long as the folder is in use; the system takes it back however the process ends.
    _lock: File,
    /// The name of this run, in the lock and in the mark of a clean end: a mark of another run says nothing.
    run: String,
    clean: Sequences,
    token: String,
    written: AtomicBool,
}

impl Folder {
    /// Makes the folder if it is missing, locks it, and takes the mark of a clean end away.
    pub(super) fn open(dir: &Path) -> Result<Self, StorageError> {
        make(dir)?;
        let lock = lock(dir)?;
        let rollouts = dir.join(ROLLOUTS);
        if !make_folder(&rollouts).map_err(StorageError::of("made", &rollouts))? && !rollouts.is_dir() {
            return Err(StorageError::NotAFolder { path: rollouts });
        }
        let run = random::<16>().map_err(StorageError::of("read", Path::new(RANDOM)))?;
        let token = token(dir)?;
        // Last: a start that fails before leaves the mark as it is.
        let clean = Arc::new(begin(dir, &lock, &run)?);
        Ok(Self { dir: dir.to_owned(), _lock: lock, run, clean, token, written: AtomicBool::new(false) })
    }

    /// What the run before this one said in its mark, if that was its end.
    pub(super) fn clean(&self) -> Sequences {
        Arc::clone(&self.clean)
    }

    /// The secret of the administration.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// From now on only [`Self::end`] makes the end a clean one.
    pub(super) fn begin_writing(&self) {
        self.written.store(true, Ordering::Relaxed);
    }

    /// Marks the end of this run as a clean one for these rollouts.
    pub(super) fn end(&self, clean: &HashMap<Arc<str>, u64>) -> io::Result<()> {
        let mut text = run_line(&self.run);
        for (rollout, sequence) in clean.iter().take(ROLLOUTS_MAX) {
            text.push_str(&format!("{rollout} {sequence}\n"));
        }
        replace(&RealDisk, &self.dir.join(MARK), text.as_bytes())?;
        RealDisk.sync_folder(&self.dir)
    }

    /// What somebody who runs this should know.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mode = |path: &Path| fs::metadata(path).map_or(0, |found| found.permissions().mode());
        let token = self.dir.join(TOKEN);
        let mut warnings = Vec::new();
        if mode(&token) & 0o077 != 0 {
            warnings.push(format!("the token in {} can be read by other users: chmod 600 it", token.display()));
        }
        if mode(&self.dir) & 0o022 != 0 {
            warnings.push(format!("other users can write in the folder {}: chmod 700 it", self.dir.display()));
        }
        warnings
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn rollouts(&self) -> PathBuf {
        self.dir.join(ROLLOUTS)
    }
}

/// A run that never wrote leaves the folder as clean as it found it.
impl Drop for Folder {
    fn drop(&mut self) {
        if !self.clean.is_empty() && !self.written.load(Ordering::Relaxed) {
            let _ = self.end(&self.clean);
        }
    }
}

fn make(dir: &Path) -> Result<(), StorageError> {
    let above = match dir.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => dir,
    };
    match make_folder(dir) {
        Ok(true) => RealDisk.sync_folder(above).map_err(StorageError::of("written", above)),
        Ok(false) if dir.is_dir() => Ok(()),
        Ok(false) => Err(StorageError::NotAFolder { path: dir.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(StorageError::NoParent { dir: dir.to_owned(), above: above.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(StorageError::NotAFolder { path: above.to_owned() })
        }
        Err(error) => Err(StorageError::of("made", dir)(error)),
    }
}

fn lock(dir: &Path) -> Result<File, StorageError> {
    let path = dir.join(LOCK);
    RealDisk.look(&path).map_err(StorageError::of("locked", &path))?;
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = options.map_err(StorageError::of("locked", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let pid = text_of(&path, SMALL_BYTES_MAX).and_then(|text| line_of(&text, "process "));
            let pid = pid.and_then(|pid| pid.parse().ok());
            Err(StorageError::Busy { dir: dir.to_owned(), pid })
        }
        Err(TryLockError::Error(error)) => Err(StorageError::of("locked", &path)(error)),
    }
}

/// Says in the lock who runs now, and takes the mark of the last run away. Gives back what that mark said; nothing if it
/// is of another run than the last.
fn begin(dir: &Path, lock: &File, run: &str) -> Result<HashMap<Arc<str>, u64>, StorageError> {
    let (lock_path, mark) = (dir.join(LOCK), dir.join(MARK));
    let last = text_of(&lock_path, SMALL_BYTES_MAX).and_then(|text| line_of(&text, "run "));
    let marked = text_of(&mark, MARK_BYTES_MAX).unwrap_or_default();
    let is_clean = last.is_some() && last == line_of(&marked, "run ");
    let text = format!("process {}\n{}", std::process::id(), run_line(run));
    rewrite(lock, text.as_bytes()).map_err(StorageError::of("written", &lock_path))?;
    RealDisk.remove(&mark).map_err(StorageError::of("removed", &mark))?;
    RealDisk.sync_folder(dir).map_err(StorageError::of("written", dir))?;
    let sequences = whole_lines(&marked).skip(1).filter_map(|line| {
        let (rollout, sequence) = line.split_once(' ')?;
        Some((rollout.into(), sequence.parse().ok()?))
    });
    Ok(if is_clean { sequences.take(ROLLOUTS_MAX).collect() } else { HashMap::new() })
}

fn run_line(run: &str) -> String {
    format!("run {run}\n")
}

/// The text of a file of ours, `None` where there is none that can be read.
fn text_of(path: &Path, bytes_max: usize) -> Option<String> {
    RealDisk.look(path).ok()??;
    String::from_utf8(read_some(&File::open(path).ok()?, bytes_max).ok()?).ok()
}

/// A line without an end may be half of one.
fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'))
}

/// What stands behind `key`.
fn line_of(text: &str, key: &str) -> Option<String> {
    whole_lines(text).find_map(|line| line.strip_prefix(key)).map(str::to_owned)
}

/// The token of the folder: read, or made if there is none. It may be a symbolic link, as mounted secrets are.
fn token(dir: &Path) -> Result<String, StorageError> {
    let path = dir.join(TOKEN);
    let failed = || StorageError::of("read", &path);
    let found = match fs::metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = random::<32>().map_err(StorageError::of("read", Path::new(RANDOM)))?;
            replace(&RealDisk, &path, format!("{token}\n").as_bytes()).map_err(StorageError::of("written", &path))?;
            RealDisk.sync_folder(dir).map_err(StorageError::of("written", dir))?;
            return Ok(token);
        }
        Err(error) => return Err(failed()(error)),
    };
    if !found.is_file() {
        return Err(failed()(io::Error::other(format!("it is {}, not a file", kind(&found)))));
    }
    let bytes = File::open(&path).and_then(|file| read_some(&file, SMALL_BYTES_MAX)).map_err(failed())?;
    let token = bytes.trim_ascii();
    let why = match token {
        [] => "it is empty",
        token if token.len() > TOKEN_BYTES_MAX => "it is too long",
        token if !token.iter().all(u8::is_ascii_graphic) => "it has other than printable ASCII characters",
        token => return Ok(String::from_utf8_lossy(token).into_owned()),
    };
    Err(StorageError::Token { path, why })
}

/// `N` octets from the system, in hexadecimal digits.
fn random<const N: usize>() -> io::Result<String> {
    let mut octets = [0; N];
    File::open(RANDOM)?.read_exact(&mut octets)?;
    Ok(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}

/// What the mark of a clean end says: the number of the last entry of each rollout.
pub(super) type Sequences = Arc<HashMap<Arc<str>, u64>>;

/// A mark is not longer: a line for each rollout, a name and a number.
const MARK_BYTES_MAX: usize = ROLLOUTS_MAX * 96;
/// The lock and the token are not longer.
const SMALL_BYTES_MAX: usize = 4_096;
const LOCK: &str = "lock";
const MARK: &str = "clean";
pub(super) const ROLLOUTS: &str = "rollouts";
const TOKEN: &str = "token";
const RANDOM: &str = "/dev/urandom";

#[cfg(test)]
mod tests;
