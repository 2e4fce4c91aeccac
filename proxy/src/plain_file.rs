//! Opens files that others may have put there: a pipe without a writer, or a device, would hold whoever reads it for ever.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// `O_NONBLOCK` of Linux: a pipe opens at once, and for a plain file it means nothing.
const NONBLOCK: i32 = 0o4000;

/// Opens a plain file, through symbolic links, without ever waiting for a peer.
///
/// # Errors
/// As [`File::open`]; it is something else than a plain file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // What is open stays what it is, whatever takes its name meanwhile.
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no plain file")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::process::Command;

    #[test]
    fn only_plain_files_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        let mut text = String::new();
        open(&at("link")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        for path in [at("pipe"), "/dev/zero".into(), folder.path().to_owned()] {
            assert_eq!(open(&path).unwrap_err().to_string(), "it is no plain file", "{}", path.display());
        }
        assert_eq!(open(&at("nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
