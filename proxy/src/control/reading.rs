//! From a path to a legal configuration, or to a text that says why not.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serin_config::Config;
use serin_config::diagnostic::{Diagnostic, Diagnostics, render};
use serin_config::source::{SOURCE_BYTES_MAX, Source, Span};

use super::ConfigSource;
use crate::{outside, sticky};

/// Why a file could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system says no.
    #[error("cannot read {}: {cause}", path.display())]
    Io {
        /// Of what.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// More than [`SOURCE_BYTES_MAX`].
    #[error("{} is larger than {SOURCE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// What.
        path: PathBuf,
    },
}

/// The bytes of a configuration, with a name for diagnostics.
///
/// # Errors
/// The file is not there, not ours to read, or too large.
pub fn load(source: &ConfigSource) -> Result<Vec<u8>, ReadError> {
    match source {
        ConfigSource::Text { text, .. } => Ok(text.clone().into_bytes()),
        ConfigSource::File(path) => {
            let failed = |cause| ReadError::Io { path: path.clone(), cause };
            let file = File::open(path).map_err(failed)?;
            read_capped(file).map_err(failed)?.ok_or_else(|| ReadError::TooLarge { path: path.clone() })
        }
    }
}

/// Everything a reader holds; `None` if that is more than a configuration may be.
pub(crate) fn read_capped(reader: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let limit = SOURCE_BYTES_MAX as u64 + 1;
    reader.take(limit).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= SOURCE_BYTES_MAX).then_some(bytes))
}

/// A legal configuration and what was said about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// It.
    pub config: Arc<Config>,
    /// Fingerprint of the bytes: 16 hexadecimal digits.
    pub revision: Arc<str>,
    /// Accepted, but somebody should know.
    pub warnings: Vec<Diagnostic>,
}

/// Bytes and their name as a text that diagnostics can point into.
pub fn text(source: &ConfigSource, bytes: Vec<u8>) -> Source {
    match source {
        ConfigSource::Text { name, .. } => Source::from_bytes(name, bytes),
        ConfigSource::File(path) => {
            let folder = path.parent().unwrap_or(Path::new(""));
            Source::from_bytes(path.display().to_string(), bytes).in_folder(folder)
        }
    }
}

/// Parses and checks everything.
///
/// # Errors
/// All mistakes of the text.
pub fn parse(source: &Source) -> Result<Loaded, Diagnostics> {
    let (config, warnings) = Config::parse_with(source, &|folder| folder.is_dir())?;
    if let Some(message) = outside::refusal(&config) {
        let at = source.text().find("metricTemplates").unwrap_or_default();
        return Err(Diagnostic::error("config/not-built", Span::at(at), message).into());
    }
    let revision = format!("{:016x}", sticky::draw(b"", source.text().as_bytes())).into();
    Ok(Loaded { config: Arc::new(config), revision, warnings })
}

/// [`parse`], with the mistakes as one text for a log or a page.
pub(super) fn parse_or_text(source: &Source) -> Result<Loaded, Arc<str>> {
    parse(source).map_err(|mistakes| render(&mistakes, source, false).trim_end().into())
}
