//! A temporary folder with one file in it, gone when dropped.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Names that are tried before giving up.
const TRIES: u32 = 16;

pub(super) struct Folder {
    path: PathBuf,
    file: PathBuf,
}

impl Folder {
    /// A new folder that only we may enter.
    pub(super) fn create() -> io::Result<Self> {
        let mut error = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TRIES {
            let path = std::env::temp_dir().join(format!("serin-demo-{:08x}", fastrand::u32(..)));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { file: path.join("serin.yaml"), path }),
                Err(again) if again.kind() == io::ErrorKind::AlreadyExists => error = again,
                Err(other) => return Err(other),
            }
        }
        Err(error)
    }

    /// The file, as editors write: beside it, then renamed over it.
    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        let beside = self.path.join("serin.yaml.new");
        fs::write(&beside, text)?;
        fs::rename(beside, &self.file)
    }

    pub(super) fn read(&self) -> io::Result<String> {
        fs::read_to_string(&self.file)
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // a folder that somebody else removed is removed
        let _already_gone = fs::remove_dir_all(&self.path);
    }
}
