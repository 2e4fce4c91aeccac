//! Why a folder cannot be used, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the folder of `storage.dir` cannot be used. Each is one sentence that says what to do.
#[derive(Debug, Error)]
pub enum StorageError {
    /// Another process has it.
    #[error("the folder {} is in use by another Serin{}: stop that one, or give this one another `storage.dir`",
        .dir.display(), .pid.map_or(String::new(), |pid| format!(" (process {pid})")))]
    Busy {
        /// The folder.
        dir: PathBuf,
        /// Who has it, if it said so.
        pid: Option<u32>,
    },
    /// The folder above it is missing: only the last folder of the path is made.
    #[error("{} cannot be made because the folder {} does not exist: make that one, or correct `storage.dir`",
        .dir.display(), .above.display())]
    NoParent {
        /// The folder.
        dir: PathBuf,
        /// What is missing.
        above: PathBuf,
    },
    /// Something else has the name of the folder.
    #[error("{} is not a folder: move it away, or set `storage.dir` to a folder", .path.display())]
    NotAFolder {
        /// What should be a folder.
        path: PathBuf,
    },
    /// The user of this process may not write there.
    #[error("{} may not be read and written by the user that Serin runs as: give that user the folder (chown), with mode 0700",
        .path.display())]
    NotAllowed {
        /// What may not be written.
        path: PathBuf,
    },
    /// Mounted without the right to write.
    #[error("{} is on a file system that is mounted read-only: mount it writable, or set `storage.kind: memory`",
        .path.display())]
    ReadOnly {
        /// What cannot be written.
        path: PathBuf,
    },
    /// No space left, or no quota.
    #[error("there is no space left for {}: make room there, or set `storage.dir` to another disk", .path.display())]
    Full {
        /// What could not be written.
        path: PathBuf,
    },
    /// The file of the token cannot be used.
    #[error("the token in {} cannot be used, {why}: write 1 to {TOKEN_BYTES_MAX} printable ASCII characters into it, or remove it and a new one is made",
        .path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Anything else the system says.
    #[error("{} cannot be {doing}, {source}: see to the disk, or set `storage.dir` to another one", .path.display())]
    Io {
        /// What was tried: "locked", "written", …
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 512;

impl StorageError {
    /// The stored dtabs cannot be read.
    pub(crate) fn of_dtabs(storage: &serin_config::model::Storage, error: io::Error) -> Self {
        let dir = match storage {
            serin_config::model::Storage::File { dir } => dir.join("dtabs"),
            serin_config::model::Storage::Memory => PathBuf::new(),
        };
        Self::of("read", &dir)(error)
    }

    /// For `map_err`: the error that the system's answer means.
    pub(super) fn of(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotAllowed { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::NotADirectory => Self::NotAFolder { path },
            _ => Self::Io { doing, path, source },
        }
    }
}
