//! Secrets, read when they are needed, so that a rotated one is used at the next try.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderValue;
use serin_config::model::Secret;

use crate::plain_file;

/// Longest secret.
pub(super) const SECRET_OCTETS_MAX: u64 = 64 * 1024;
/// A file on a network disk that hangs is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no secret. Says where it should have come from, never what it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("environment variable {0} is not set, or not UTF-8")]
    Env(String),
    #[error("{}: {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error("a secret is empty, or has characters that a header cannot carry")]
    NoHeader,
}

/// Reads it.
pub(super) async fn read(secret: &Secret) -> Result<String, SecretError> {
    match secret {
        Secret::Env(name) => std::env::var(name).map_err(|_| SecretError::Env(name.clone())),
        Secret::File(path) => {
            let failed = |why| SecretError::File { path: path.clone(), why };
            let octets = read_file(path.clone(), SECRET_OCTETS_MAX).await.map_err(failed)?;
            let mut text = String::from_utf8(octets).map_err(|_| failed("it is not UTF-8".into()))?;
            if text.ends_with('\n') {
                text.pop();
                if text.ends_with('\r') {
                    text.pop();
                }
            }
            Ok(text)
        }
        Secret::Plain(text) => Ok(text.clone()),
    }
}

/// A header with this text, which logs of libraries do not show.
pub(super) fn header(text: &str) -> Result<HeaderValue, SecretError> {
    let mut value = HeaderValue::from_str(text.trim_matches([' ', '\t'])).map_err(|_| SecretError::NoHeader)?;
    if value.is_empty() {
        return Err(SecretError::NoHeader);
    }
    value.set_sensitive(true);
    Ok(value)
}

/// A whole file of at most so many octets, read off this thread.
pub(super) async fn read_file(path: PathBuf, octets_max: u64) -> Result<Vec<u8>, String> {
    let reading = tokio::task::spawn_blocking(move || read_now(&path, octets_max));
    match tokio::time::timeout(READ_TIMEOUT, reading).await {
        Ok(Ok(read)) => read,
        Ok(Err(_)) => Err("reading failed".into()),
        Err(_) => Err(format!("not read within {} s", READ_TIMEOUT.as_secs())),
    }
}

fn read_now(path: &Path, octets_max: u64) -> Result<Vec<u8>, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut octets = Vec::new();
    let file = plain_file::open(path).map_err(text)?;
    file.take(octets_max + 1).read_to_end(&mut octets).map_err(text)?;
    if octets.len() as u64 > octets_max {
        return Err(format!("it is longer than {octets_max} octets"));
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_file(content: &[u8], wanted: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = runtime.block_on(read(&Secret::File(path)));
        assert_eq!(read.as_ref().ok().map(String::as_str), wanted);
        if let Err(error) = read {
            assert!(error.to_string().contains("secret: it is"), "{error}");
        }
    }

    #[test]
    fn one_line_end_does_not_belong_to_a_secret() {
        check_file(b"hunter2", Some("hunter2"));
        check_file(b"hunter2\n", Some("hunter2"));
        check_file(b"hunter2\r\n", Some("hunter2"));
        check_file(b" hunter2\n\n", Some(" hunter2\n"));
        check_file(b"", Some(""));
    }

    #[test]
    fn size_is_bounded() {
        let most = usize::try_from(SECRET_OCTETS_MAX).unwrap();
        let text = "x".repeat(most);
        check_file(text.as_bytes(), Some(&text));
        check_file("x".repeat(most + 1).as_bytes(), None);
        check_file(b"\xff", None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(read(&Secret::Env("SERIN_NOT_SET_ANYWHERE".into()))).unwrap_err();
        assert!(error.to_string().contains("SERIN_NOT_SET_ANYWHERE"));
        let error = runtime.block_on(read(&Secret::File("/nowhere/at/all".into()))).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/at/all: No such file"), "{error}");
        let error = runtime.block_on(read(&Secret::File("/dev/zero".into()))).unwrap_err();
        assert_eq!(error.to_string(), "/dev/zero: it is no plain file");
    }

    #[test]
    fn header_is_one_line_and_hidden() {
        assert!(header("Bearer x").unwrap().is_sensitive());
        for bad in ["", " ", "a\nb", "a\rb", "\0"] {
            let error = header(bad).unwrap_err().to_string();
            assert!(bad.trim().is_empty() || !error.contains(bad), "{error}");
        }
    }
}
