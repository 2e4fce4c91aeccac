//! `io.l5d.fs`: a folder in which each file is a name and each line an address.
//!
//! ```text
//! # disco/web
//! 10.0.0.1 8080
//! 10.0.0.2 8080 * 0.5   # half the share
//! web.test 8080         # asked of DNS, by its TTL
//! unix:/run/web.sock    # a socket of this host
//! ```
//!
//! The file `disco/web` is `/#/io.l5d.fs/web`, the file `disco/eu/web` is `/#/io.l5d.fs/eu/web`. A file that is gone is
//! no name; an empty file is a name that nobody serves. One bad line makes the whole file bad: then the last good
//! addresses stay, and log and counter say so. Dot files are no names, so that a mounted ConfigMap reads as its keys.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serin_config::dtab::Path;
use serin_config::model::Host;

use super::ResolverStats;
use super::inet::{parse_host, parse_port, shown};
use super::names::{Content, NAME_LABELS_MAX, NameSet, Namer};
use super::targets::Target;
use crate::plain_file;

/// One watched folder.
pub(super) struct FsNamer {
    prefix: Path,
    root_dir: PathBuf,
    files: HashMap<Path, File>,
    names: Arc<HashSet<Path>>,
    /// Why the folder could not be read at the last look.
    problem: Option<String>,
    stats: Arc<ResolverStats>,
}

struct File {
    stamp: Stamp,
    /// The file was read again after its stamp had stood still for one look, so nothing hides behind a coarse clock.
    settled: bool,
    content: Content,
    error: Option<Arc<str>>,
}

/// Tells two states of a file apart without reading it. Through a link it is that of the linked file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device_and_inode: (u64, u64),
    size_bytes: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device_and_inode: (metadata.dev(), metadata.ino()),
            size_bytes: metadata.size(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl FsNamer {
    pub(super) fn new(prefix: Path, root_dir: PathBuf, stats: Arc<ResolverStats>) -> Self {
        Self { prefix, root_dir, files: HashMap::new(), names: Arc::default(), problem: None, stats }
    }

    /// Reads what is new or changed among the files found. What could not be looked at stays as it was.
    fn take(&mut self, walk: Walk) {
        let mut old = std::mem::take(&mut self.files);
        let mut told = 0;
        for Found { name, path, stamp } in walk.found {
            let before = old.remove(&name);
            if let Some(file) = before.as_ref().filter(|file| file.settled && file.stamp == stamp) {
                let File { content, error, .. } = file;
                let (content, error) = (content.clone(), error.clone());
                self.files.insert(name, File { stamp, settled: true, content, error });
                continue;
            }
            let read = match read_targets(&path) {
                Err(ReadError::Gone) => continue,
                Err(ReadError::Bad(why)) => Err(Arc::<str>::from(why)),
                Ok(targets) => Ok(targets),
            };
            let settled = before.as_ref().is_some_and(|file| file.stamp == stamp);
            let file = merge(before, stamp, settled, read);
            if let Some(why) = file.1 {
                told += 1;
                self.tell(told, &why);
            }
            self.files.insert(name, file.0);
        }
        let is_unseen = |name: &Path| (1..=name.len()).any(|labels| walk.unseen.contains(&name.take(labels)));
        self.files.extend(old.into_iter().filter(|(name, _)| is_unseen(name)));
        if told > TOLD_MAX {
            tracing::warn!(folder = %self.root_dir.display(), more = told - TOLD_MAX, "further bad files");
        }
    }

    /// Counts and logs what is wrong with the folder, when that is new.
    fn tell_problem(&mut self, problem: Option<String>) {
        if let Some(error) = problem.as_ref().filter(|_| self.problem != problem) {
            self.stats.file_errors.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(folder = %self.root_dir.display(), error, "not read, the names there stay");
        }
        self.problem = problem;
    }

    /// Counts each new error, logs the first few of a look.
    fn tell(&self, nth: usize, why: &str) {
        self.stats.file_errors.fetch_add(1, Ordering::Relaxed);
        if nth <= TOLD_MAX {
            tracing::warn!(error = why, "bad address file; its last good addresses stay, if it had any");
        }
    }
}

/// The state of a file after reading it, and its error if that is new.
fn merge(
    before: Option<File>,
    stamp: Stamp,
    settled: bool,
    read: Result<Arc<[Target]>, Arc<str>>,
) -> (File, Option<Arc<str>>) {
    match read {
        Ok(targets) => (File { stamp, settled, content: Content::Targets(targets), error: None }, None),
        Err(why) => {
            let (last, told) = before.map_or((None, None), |file| (Some(file.content), file.error));
            let content = match last {
                Some(good @ Content::Targets(_)) => good,
                Some(Content::Absent(_) | Content::Failed(_)) | None => Content::Failed(Arc::clone(&why)),
            };
            let new = (told.as_ref() != Some(&why)).then(|| Arc::clone(&why));
            (File { stamp, settled, content, error: Some(why) }, new)
        }
    }
}

impl Namer for FsNamer {
    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn refresh(&mut self) -> bool {
        let mut walk = Walk::default();
        let read = walk.folder(&self.root_dir, &Path::root(), &mut Vec::new());
        self.tell_problem(read.as_ref().err().map(ToString::to_string).or(walk.problem.take()));
        if read.is_err() {
            // A folder that cannot be read says nothing about its names: all of them stay.
            return false;
        }
        self.take(walk);
        if self.files.len() == self.names.len() && self.names.iter().all(|name| self.files.contains_key(name)) {
            return false;
        }
        self.names = Arc::new(self.files.keys().cloned().collect());
        true
    }

    fn names(&self) -> Arc<dyn NameSet> {
        Arc::clone(&self.names) as Arc<dyn NameSet>
    }

    fn each(&self, tell: &mut dyn FnMut(&Path, &Content)) {
        self.files.iter().for_each(|(name, file)| tell(name, &file.content));
    }
}

/// A file that is a name.
struct Found {
    name: Path,
    path: PathBuf,
    stamp: Stamp,
}

/// Goes through a folder and those in it.
struct Walk {
    found: Vec<Found>,
    /// Files and folders that could not be looked at, as the names that they are, or that begin so.
    unseen: HashSet<Path>,
    /// Why, of the first of them.
    problem: Option<String>,
    entries_left: usize,
}

impl Default for Walk {
    fn default() -> Self {
        Self { found: Vec::new(), unseen: HashSet::new(), problem: None, entries_left: ENTRIES_MAX }
    }
}

impl Walk {
    /// `above`: the folders on the way here, so that a link back up is not followed round and round.
    fn folder(&mut self, folder: &FilePath, name: &Path, above: &mut Vec<(u64, u64)>) -> io::Result<()> {
        let (own, listed) = match fs::metadata(folder).and_then(|own| Ok((own, fs::read_dir(folder)?))) {
            Err(error) if !above.is_empty() => {
                self.fail(folder, name, &error);
                return Ok(());
            }
            read => read?,
        };
        let own = Stamp::of(&own).device_and_inode;
        if above.contains(&own) {
            return Ok(());
        }
        above.push(own);
        for entry in listed {
            self.entries_left = self.entries_left.checked_sub(1).ok_or_else(too_many)?;
            let entry = entry?;
            let Some(name) = label(entry.file_name().as_bytes()).map(|label| name.join(&label)) else { continue };
            let path = entry.path();
            let metadata = match fs::metadata(&path) {
                Err(error) => {
                    self.fail(&path, &name, &error);
                    continue;
                }
                Ok(metadata) => metadata,
            };
            let stamp = Stamp::of(&metadata);
            if metadata.is_file() {
                self.found.push(Found { name, path, stamp });
            } else if metadata.is_dir() && name.len() <= DEPTH_MAX {
                self.folder(&path, &name, above)?;
            }
        }
        above.pop();
        Ok(())
    }

    /// One entry cannot be looked at, such as a link to itself or a folder that is not ours to read: all others can.
    fn fail(&mut self, path: &FilePath, name: &Path, error: &io::Error) {
        // gone, or a link to nothing
        if error.kind() != io::ErrorKind::NotFound {
            self.problem.get_or_insert_with(|| format!("{}: {error}", path.display()));
            self.unseen.insert(name.clone());
        }
    }
}

fn too_many() -> io::Error {
    io::Error::other(format!("more than {ENTRIES_MAX} files and folders"))
}

/// The label that a file name is. Names with characters that a path would have to escape are none: those of editors'
/// backups, mostly.
fn label(file_name: &[u8]) -> Option<Path> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_:.#$%-".contains(b);
    let is_name = !file_name.starts_with(b".") && file_name.iter().all(plain);
    if is_name { Path::from_labels([file_name]) } else { None }
}

enum ReadError {
    Bad(String),
    Gone,
}

/// What a line may be.
const LINE_FORM: &str = "`ip port`, `name port` or `unix:/path`";

fn read_targets(path: &FilePath) -> Result<Arc<[Target]>, ReadError> {
    let mut bytes = Vec::new();
    let read = plain_file::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ReadError::Gone),
        Err(error) => Err(ReadError::Bad(format!("{}: {error}", path.display()))),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => {
            Err(ReadError::Bad(format!("{}: larger than {} KB", path.display(), FILE_BYTES_MAX / 1_024)))
        }
        Ok(_) => parse(&bytes).map_err(|bad| {
            let (line, text) = (bad.line, shown(bad.text));
            ReadError::Bad(format!("{}:{line}: malformed address: {text}, write {LINE_FORM}", path.display()))
        }),
    }
}

/// The first line that is no address.
#[derive(Debug, PartialEq)]
struct BadLine<'a> {
    /// From 1.
    line: usize,
    text: &'a [u8],
}

fn parse(bytes: &[u8]) -> Result<Arc<[Target]>, BadLine<'_>> {
    let mut targets = Vec::new();
    for (index, text) in bytes.split(|b| *b == b'\n').enumerate() {
        let code = text.split(|b| *b == b'#').next().unwrap_or_default();
        let bad = BadLine { line: index + 1, text: text.trim_ascii() };
        let Ok(code) = str::from_utf8(code) else { return Err(bad) };
        if !code.trim().is_empty() {
            targets.push(parse_line(code).ok_or(bad)?);
        }
    }
    Ok(targets.into())
}

/// `host port` or `unix:/path`, and perhaps `* weight`.
fn parse_line(code: &str) -> Option<Target> {
    let (place, weight) = match code.split_once('*') {
        Some((place, weight)) => (place, weight.trim().parse().ok()?),
        None => (code, 1.0),
    };
    if let Some(path) = place.trim().strip_prefix("unix:") {
        let legal = path.starts_with('/') && path.len() <= UNIX_PATH_BYTES_MAX && (0.0..=WEIGHT_MAX).contains(&weight);
        let host = Host::Unix(FilePath::new(path).into());
        return legal.then_some(Target { host, port: 0, weight, rank: 0 });
    }
    let mut words = place.split_whitespace();
    let (host, port) = (words.next()?, words.next()?);
    if words.next().is_some() || !(0.0..=WEIGHT_MAX).contains(&weight) {
        return None;
    }
    Some(Target { host: parse_host(host.as_bytes()).ok()?, port: parse_port(port.as_bytes()).ok()?, weight, rank: 0 })
}

/// What the kernel has room for.
const UNIX_PATH_BYTES_MAX: usize = 107;
/// A file larger than this is bad.
const FILE_BYTES_MAX: u64 = 500 * 1_024;
/// Files and folders under one root. With more, the folder counts as unreadable.
const ENTRIES_MAX: usize = 100_000;
/// Folders in folders; deeper ones are not looked at.
const DEPTH_MAX: usize = 8;
const _: () = assert!(DEPTH_MAX < NAME_LABELS_MAX);
/// The heaviest address.
const WEIGHT_MAX: f64 = 1_000_000.0;
/// Bad files that one look names in the log.
const TOLD_MAX: usize = 10;

#[cfg(test)]
mod tests;
