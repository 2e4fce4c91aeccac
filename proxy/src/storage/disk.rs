//! The few things that journals and stored dtabs ask of a disk, behind a trait: so that tests have disks that fill up, fail, stop and
//! forget.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

/// A disk. Every call waits for the disk; what a call has done when it fails is open.
pub(crate) trait Disk: Send + Sync {
    /// How long the file is; `None` if there is none. Anything but a plain file is an error, a symbolic link too.
    fn look(&self, path: &Path) -> io::Result<Option<u64>>;
    /// How long the file is, and its last `max` bytes or fewer; otherwise as [`Self::look`].
    fn read_end(&self, path: &Path, max: usize) -> io::Result<Option<(u64, Vec<u8>)>>;
    /// The names in a folder, of which there may be `max`; more is an error. No folder has none.
    fn list(&self, folder: &Path, max: usize) -> io::Result<Vec<String>>;
    /// Writes `bytes` at `at`, into a file that is made if there is none, and waits until they outlive a loss of power.
    fn write(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file to `len` bytes.
    fn cut(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Gives a file another name, in place of the file that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a file away. That there is none is no error.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Which folder it is that has this name now; `None`: there is none.
    fn identity(&self, folder: &Path) -> io::Result<Option<Identity>>;
    /// Waits until the names in a folder outlive a loss of power.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// Tells a folder from one that was made in its place: file system, number, and when it was made, since numbers come again.
pub(crate) type Identity = (u64, u64, Option<SystemTime>);

/// The disk of this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn look(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() => Ok(Some(found.len())),
            Ok(found) => Err(io::Error::other(format!("it is {}, not a file", kind(&found)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_end(&self, path: &Path, max: usize) -> io::Result<Option<(u64, Vec<u8>)>> {
        if self.look(path)?.is_none() {
            return Ok(None);
        }
        // One file from here on, should another take its name.
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(max as u64)))?;
        Ok(Some((len, read_some(&file, max)?)))
    }

    fn list(&self, folder: &Path, max: usize) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            if names.len() >= max {
                return Err(io::Error::other(format!("it has more than {max} files")));
            }
            // a name that is no text is none of ours
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn write(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.write_all_at(bytes, at)?;
        file.sync_data()
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(len)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn identity(&self, folder: &Path) -> io::Result<Option<Identity>> {
        match fs::metadata(folder) {
            Ok(found) if found.is_dir() => Ok(Some((found.dev(), found.ino(), found.created().ok()))),
            Ok(found) => Err(io::Error::other(format!("{} is {}, not a folder", folder.display(), kind(&found)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// What something in place of a file is.
pub(super) fn kind(found: &fs::Metadata) -> &'static str {
    match found.file_type() {
        kind if kind.is_dir() => "a folder",
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_file() => "a file",
        _ => "a device, a pipe or a socket",
    }
}

/// Makes a folder that only its owner may enter. `Ok(false)`: there is something of that name already.
pub(super) fn make_folder(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a small file anew: either the old text or the new one is there, whatever happens.
pub(super) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    disk.remove(beside)?;
    disk.write(beside, 0, bytes)?;
    disk.rename(beside, path)
}

/// Up to `max` bytes, from where the file stands.
pub(super) fn read_some(file: &File, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same as [`RealDisk::write`] for a file that is open: its text is `bytes` afterwards.
pub(super) fn rewrite(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
pub(crate) mod sim;
