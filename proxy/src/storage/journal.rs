//! One journal: a file of lines, written by one writer, read from its end.

use std::io;
use std::path::{Path, PathBuf};

use serin_rollout::Entry;
use serin_rollout::journal::LINE_BYTES_MAX;

use super::disk::{Disk, replace};

/// How large journals get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Above so many bytes a journal is rewritten.
    pub(super) bytes: u64,
    /// At so many lines too.
    pub(super) lines: usize,
    /// The newest lines that a rewritten journal keeps.
    pub(super) kept: usize,
    /// Of the older ones, the newest of people.
    pub(super) kept_of_people: usize,
    /// But not more bytes than these.
    pub(super) kept_bytes: usize,
    /// Where rewriting fails, the journal grows up to here; then writing fails.
    pub(super) bytes_max: u64,
}

/// Of every journal.
pub(super) const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    lines: 4_096,
    kept: 1_024,
    kept_of_people: 256,
    kept_bytes: 512 << 10,
    bytes_max: 2 << 20,
};

/// The end of a journal.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Its length, where there is one.
    len: Option<u64>,
    /// Whole lines and, behind the last line end, what may be half of one. At most [`LIMITS`]`.bytes` and a line.
    bytes: Vec<u8>,
}

impl Tail {
    /// Reads it; bounded, whatever lies there.
    pub(super) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let Some((len, mut bytes)) = disk.read_end(path, TAIL_BYTES_MAX)? else { return Ok(Self::default()) };
        if len > TAIL_BYTES_MAX as u64 {
            let whole = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| end + 1);
            bytes.drain(..whole);
        }
        Ok(Self { len: Some(len), bytes })
    }

    /// Whether there is a journal.
    pub(super) fn existed(&self) -> bool {
        self.len.is_some()
    }

    /// Whether there is anything in it.
    pub(super) fn has_text(&self) -> bool {
        self.len > Some(0)
    }

    /// What can be read, newest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<Entry, ()>> {
        self.lines().map(|line| entry(line).ok_or(()))
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.rsplit(|&byte| byte == b'\n').filter(|line| !line.is_empty())
    }

    /// The text of the journal after it was rewritten: the newest lines, and the newest of people before those, in
    /// their order, without what cannot be read; and how many.
    fn shortened(&self, limits: &Limits, line: &[u8]) -> (Vec<u8>, usize) {
        let (mut kept, mut of_people, mut bytes) = (vec![line], 0, line.len() + 1);
        for line in self.lines() {
            let Some(entry) = entry(line) else { continue };
            let old = kept.len() >= limits.kept;
            if old && (entry.by.is_none() || of_people >= limits.kept_of_people) {
                continue;
            }
            bytes += line.len() + 1;
            if bytes > limits.kept_bytes {
                break;
            }
            of_people += usize::from(old);
            kept.push(line);
        }
        let text = kept.iter().rev().flat_map(|line| line.iter().copied().chain([b'\n'])).collect();
        (text, kept.len())
    }
}

fn entry(line: &[u8]) -> Option<Entry> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

/// More is never read of a journal.
const TAIL_BYTES_MAX: usize = (1 << 20) + LINE_BYTES_MAX + 1;

/// The writer of one journal. After any failure the next line is tried afresh.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    path: PathBuf,
    limits: Limits,
    known: Option<Known>,
    /// The name of the file is known to outlive a loss of power.
    is_named: bool,
}

/// What the writer knows of its file.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Up to here it is as it should be.
    len: u64,
    lines: usize,
    /// The last line has no end: the next one begins with a line end.
    is_torn: bool,
    /// Behind `len` may be what a write that failed has left.
    is_soiled: bool,
}

impl Journal {
    /// Touches nothing yet.
    pub(super) fn new(folder: &Path, path: PathBuf, limits: Limits) -> Self {
        Self { folder: folder.to_owned(), path, limits, known: None, is_named: false }
    }

    /// Appends the line of an entry. After `Ok` it outlives a loss of power. After an error it may be there or not, but
    /// whatever was there before still is.
    pub(super) fn append(&mut self, disk: &dyn Disk, entry: &Entry) -> io::Result<()> {
        let line = line_of(entry)?;
        let known = match self.examine(disk)? {
            Some(known) if !self.is_full(known, &line, self.limits.bytes) && known.lines < self.limits.lines => {
                Some(known)
            }
            Some(known) => match self.rewrite(disk, &line) {
                Ok(()) => None,
                Err(error) if self.is_full(known, &line, self.limits.bytes_max) => return Err(error),
                Err(error) => Some(self.examine(disk)?.ok_or(error)?),
            },
            None => {
                self.rewrite(disk, &line)?;
                None
            }
        };
        if let Some(known) = known {
            self.add(disk, known, &line)?;
        }
        self.name(disk)
    }

    fn is_full(&self, known: Known, line: &[u8], bytes_max: u64) -> bool {
        known.len + line.len() as u64 + 2 > bytes_max
    }

    /// Where the next line goes; `None` if there is no file.
    fn examine(&mut self, disk: &dyn Disk) -> io::Result<Option<Known>> {
        let Some(len) = disk.look(&self.path)? else {
            self.known = None;
            return Ok(None);
        };
        if let Some(known) = &mut self.known {
            if known.is_soiled && len > known.len && disk.cut(&self.path, known.len).is_ok() {
                return Ok(Some(*known));
            }
            if len == known.len {
                return Ok(Some(*known));
            }
        }
        // New to us, or others wrote into it, or what failed cannot be cut off.
        let tail = Tail::read(disk, &self.path)?;
        // Not the length from above: a cut that failed may have been made.
        let Some(len) = tail.len else { return Ok(None) };
        let is_torn = tail.bytes.last().map_or(len > 0, |&last| last != b'\n');
        let known = Known { len, lines: tail.lines().count(), is_torn, is_soiled: false };
        self.known = Some(known);
        Ok(Some(known))
    }

    fn add(&mut self, disk: &dyn Disk, known: Known, line: &[u8]) -> io::Result<()> {
        let start = if known.is_torn { "\n" } else { "" };
        let bytes = [start.as_bytes(), line, b"\n"].concat();
        if let Err(error) = disk.write(&self.path, known.len, &bytes) {
            let is_soiled = disk.cut(&self.path, known.len).is_err();
            self.known = Some(Known { is_soiled, ..known });
            return Err(error);
        }
        let len = known.len + bytes.len() as u64;
        self.known = Some(Known { len, lines: known.lines + 1, is_torn: false, is_soiled: false });
        Ok(())
    }

    /// Writes the journal anew, shorter, with the line at its end. If it fails before the new one has the name, the old
    /// one is there as it was.
    fn rewrite(&mut self, disk: &dyn Disk, line: &[u8]) -> io::Result<()> {
        let tail = Tail::read(disk, &self.path)?;
        let (text, lines) = tail.shortened(&self.limits, line);
        let before = self.known.take();
        self.is_named = false;
        if let Err(error) = replace(disk, &self.path, &text) {
            self.known = before;
            return Err(error);
        }
        self.known = Some(Known { len: text.len() as u64, lines, is_torn: false, is_soiled: false });
        Ok(())
    }

    fn name(&mut self, disk: &dyn Disk) -> io::Result<()> {
        if !self.is_named {
            disk.sync_folder(&self.folder)?;
            self.is_named = true;
        }
        Ok(())
    }
}

/// The line of an entry, if it will read back.
fn line_of(entry: &Entry) -> io::Result<Vec<u8>> {
    let line = entry.to_string();
    match line.parse::<Entry>() {
        Ok(_) => Ok(line.into_bytes()),
        Err(error) => Err(io::Error::other(format!("its line would not read back: {error}"))),
    }
}

#[cfg(test)]
mod tests;
