//! Stored dtabs in the folder of the storage: a file for each namespace, always replaced whole.
//!
//! A file begins with a comment that says its version, the length of what follows and a sum over it, so that half a file
//! is never taken for a whole one; the rest is the dtab, for people and for `serin dtab fmt`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serin_config::model::is_namespace;

use super::disk::{Disk, Identity, RealDisk, make_folder, replace};
use crate::dtabs::{Content, DTAB_BYTES_MAX, Namespaces, Stored, Version, text};
use crate::sticky;

/// Files of dtabs that are read at a start; more is an error of the whole folder.
pub const DTAB_FILES_MAX: usize = 4_096;

/// The folder of stored dtabs. Every call waits for the disk.
pub(crate) struct DtabFiles {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    /// The folder that has what was written. The lock is held for moments.
    known: Mutex<Option<Identity>>,
}

impl DtabFiles {
    /// Those of a storage folder, which is made if it is missing.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let folder = dir.join(FOLDER);
        if !make_folder(&folder)? && !folder.is_dir() {
            return Err(io::Error::other("it is not a folder"));
        }
        RealDisk.sync_folder(dir)?;
        Ok(Self { known: Mutex::new(RealDisk.identity(&folder)?), folder, disk: Arc::new(RealDisk) })
    }

    /// Those of a storage folder that may be in use: only to be read.
    pub(super) fn of_folder(dir: &Path) -> Self {
        Self { folder: dir.join(FOLDER), disk: Arc::new(RealDisk), known: Mutex::default() }
    }

    #[cfg(test)]
    pub(crate) fn of_disk(disk: Arc<dyn Disk>, folder: PathBuf) -> Self {
        Self { known: Mutex::new(disk.identity(&folder).unwrap()), folder, disk }
    }

    /// Everything that is there. What cannot be read is named, and takes nothing else with it.
    ///
    /// # Errors
    /// The folder cannot be read at all, or has more than [`DTAB_FILES_MAX`] files.
    pub(crate) fn load(&self) -> io::Result<Namespaces> {
        let retired = self.retired()?;
        let files = self.disk.list(&self.folder, 2 * DTAB_FILES_MAX)?;
        let names = files.iter().filter_map(|file| file.strip_suffix(SUFFIX)).filter(|name| is_namespace(name));
        let contents: BTreeMap<Arc<str>, Content> = names.map(|name| (name.into(), self.content(name))).collect();
        if contents.len() > DTAB_FILES_MAX {
            return Err(io::Error::other(format!("it has more than {DTAB_FILES_MAX} dtabs")));
        }
        Ok(Namespaces::new(contents, retired))
    }

    /// Is what was written still there.
    ///
    /// # Errors
    /// The folder is gone, or is another one.
    pub(crate) fn check(&self) -> io::Result<()> {
        let why = match self.disk.identity(&self.folder)? {
            None => "is gone",
            now if now != self.known() => "is another one than before",
            Some(_) => return Ok(()),
        };
        Err(io::Error::other(format!("{} {why}", self.folder.display())))
    }

    /// Where the folder is gone, or is another one, it is made, and all dtabs are written into it. Says whether it was so.
    ///
    /// # Errors
    /// It cannot be made or written; the next call tries again.
    pub(crate) fn recover(&self, all: &Namespaces) -> io::Result<bool> {
        let found = self.disk.identity(&self.folder)?;
        if found.is_some() && found == self.known() {
            return Ok(false);
        }
        if found.is_none() {
            if let Some(above) = self.folder.parent() {
                make_folder(above)?;
            }
            make_folder(&self.folder)?;
        }
        if all.retired() > 0 {
            replace(self.disk.as_ref(), &self.folder.join(RETIRED), format!("{}\n", all.retired()).as_bytes())?;
        }
        for name in all.names() {
            if let Some(Content::Readable(stored)) = all.get(name) {
                replace(self.disk.as_ref(), &self.path(name), file_of(stored).as_bytes())?;
            }
        }
        self.disk.sync_folder(&self.folder)?;
        let made = self.disk.identity(&self.folder)?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = made;
        Ok(true)
    }

    fn known(&self) -> Option<Identity> {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one namespace. After `Ok` it outlives a loss of power; after an error what was there before is put back,
    /// as far as the disk lets us.
    pub(crate) fn write(&self, name: &str, stored: &Stored, before: Option<&Content>) -> io::Result<()> {
        let path = self.path(name);
        let done = replace(self.disk.as_ref(), &path, file_of(stored).as_bytes())
            .and_then(|()| self.disk.sync_folder(&self.folder));
        done.inspect_err(|_| self.put_back(name, before))
    }

    /// Takes one namespace away, having noted how far versions are used up.
    pub(crate) fn remove(&self, name: &str, retired: u64, before: Option<&Content>) -> io::Result<()> {
        let note = format!("{retired}\n");
        replace(self.disk.as_ref(), &self.folder.join(RETIRED), note.as_bytes())?;
        self.disk.sync_folder(&self.folder)?;
        let done = self.disk.remove(&self.path(name)).and_then(|()| self.disk.sync_folder(&self.folder));
        done.inspect_err(|_| self.put_back(name, before))
    }

    /// Whoever asked was told that nothing changed: a restart shall not say otherwise.
    fn put_back(&self, name: &str, before: Option<&Content>) {
        let path = self.path(name);
        let back = match before {
            // what nobody could read is not ours to write
            Some(Content::Unreadable { .. }) => Ok(()),
            Some(Content::Readable(stored)) => replace(self.disk.as_ref(), &path, file_of(stored).as_bytes()),
            None => self.disk.remove(&path),
        };
        if let Err(error) = back.and_then(|()| self.disk.sync_folder(&self.folder)) {
            tracing::warn!(namespace = name, %error, "a dtab that was refused may be in force after a restart");
        }
    }

    fn content(&self, name: &str) -> Content {
        let path = self.path(name);
        let unreadable = |why: String, up_to| {
            let why = format!("{}: {why}", path.display()).into();
            Content::Unreadable { why, up_to }
        };
        let bytes = match self.disk.read_end(&path, FILE_BYTES_MAX) {
            Ok(Some((len, _))) if len > FILE_BYTES_MAX as u64 => return unreadable("it is too long".into(), UNKNOWN),
            Ok(Some((_, bytes))) => bytes,
            Ok(None) => return unreadable("it is gone".into(), UNKNOWN),
            Err(error) => return unreadable(error.to_string(), UNKNOWN),
        };
        let Some((version, body)) = parts(&bytes) else {
            return unreadable("its first line is not one that Serin wrote".into(), UNKNOWN);
        };
        let Some(body) = body else {
            return unreadable("it is not as long as it was, or not the same".into(), version.get());
        };
        match text::read(body) {
            Ok(draft) => Content::Readable(Stored { version, draft }),
            Err(error) => unreadable(error.to_string(), version.get()),
        }
    }

    fn retired(&self) -> io::Result<u64> {
        let path = self.folder.join(RETIRED);
        let Some((_, bytes)) = self.disk.read_end(&path, NUMBER_BYTES_MAX)? else { return Ok(0) };
        let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
        Ok(number.filter(|number| *number <= Version::MAX).unwrap_or_else(|| {
            tracing::error!(file = %path.display(), "it cannot be read: new namespaces get high versions");
            UNKNOWN
        }))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{SUFFIX}"))
    }
}

impl fmt::Debug for DtabFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DtabFiles").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn file_of(stored: &Stored) -> String {
    let body = stored.draft.text();
    let (version, sum) = (stored.version, sticky::draw(SALT, body.as_bytes()));
    format!("{START}{version}, bytes {}, sum {sum:016x}\n{body}", body.len())
}

/// The version of a file, and its dtab if it is whole.
fn parts(file: &[u8]) -> Option<(Version, Option<&[u8]>)> {
    let end = file.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&file[..end]).ok()?.strip_prefix(START)?;
    let (version, rest) = line.split_once(", bytes ")?;
    let (bytes, sum) = rest.split_once(", sum ")?;
    let version = Version::parse(version).and_then(|version| Version::new(version.get()))?;
    let body = &file[end + 1..];
    let whole = bytes.parse() == Ok(body.len()) && u64::from_str_radix(sum, 16) == Ok(sticky::draw(SALT, body));
    Some((version, whole.then_some(body)))
}

const FOLDER: &str = "dtabs";
const SUFFIX: &str = ".dtab";
const RETIRED: &str = "retired";
const START: &str = "# serin dtab 1, version ";
const SALT: &[u8] = b"serin dtab";
/// The first line is not longer than this.
const LINE_BYTES_MAX: usize = 128;
const FILE_BYTES_MAX: usize = LINE_BYTES_MAX + DTAB_BYTES_MAX;
const NUMBER_BYTES_MAX: usize = 32;
/// Versions up to here may have been used where nobody knows which were.
const UNKNOWN: u64 = 1 << 32;

#[cfg(test)]
mod tests;
