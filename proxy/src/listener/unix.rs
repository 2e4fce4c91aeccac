//! A Unix socket to listen on: a file that must not be in the way of the next start, nor of another process.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serin_config::model::UnixSocket;

/// The file of a socket that is listened on. Removed with it, unless somebody put another one in its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

/// Listens. A file that a process left behind which is gone is replaced; one that is served, or is no socket, is not.
///
/// The socket is made under another name and moved, so that nobody sees it with the wrong permissions.
pub(super) fn bind(socket: &UnixSocket) -> io::Result<(UnixListener, SocketFile)> {
    let path = &socket.path;
    check_free(path)?;
    let mut beside = path.clone().into_os_string();
    beside.push(format!(".{:x}", std::process::id() & 0xffff));
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    let placed = fs::set_permissions(&beside, Permissions::from_mode(socket.mode)).and_then(|()| {
        listener.set_nonblocking(true)?;
        let metadata = fs::metadata(&beside)?;
        fs::rename(&beside, path)?;
        Ok((metadata.dev(), metadata.ino()))
    });
    match placed {
        Ok(device_and_inode) => Ok((listener, SocketFile { path: path.clone(), device_and_inode })),
        Err(error) => {
            let _nothing_to_remove = fs::remove_file(&beside);
            Err(error)
        }
    }
}

/// Gives a socket that stays other permissions.
pub(crate) fn set_mode(socket: &UnixSocket) -> io::Result<()> {
    fs::set_permissions(&socket.path, Permissions::from_mode(socket.mode))
}

fn check_free(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file is there and is no socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let own = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.device_and_inode);
        if own {
            let _gone_or_not = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(folder: &Path) -> UnixSocket {
        UnixSocket { path: folder.join("serin.sock"), mode: 0o640 }
    }

    #[test]
    fn a_socket_has_its_permissions_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let socket = socket(folder.path());
        let bound = bind(&socket).unwrap();
        assert_eq!(fs::metadata(&socket.path).unwrap().mode() & 0o777, 0o640);
        assert!(UnixStream::connect(&socket.path).is_ok());
        drop(bound);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let socket = socket(folder.path());
        drop(UnixListener::bind(&socket.path).unwrap());
        let (_listener, file) = bind(&socket).unwrap();
        let error = bind(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        fs::remove_file(&socket.path).unwrap();
        fs::write(&socket.path, "mine").unwrap();
        assert_eq!(bind(&socket).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(file);
        assert_eq!(fs::read_to_string(&socket.path).unwrap(), "mine", "what somebody else put there stays");
    }
}
