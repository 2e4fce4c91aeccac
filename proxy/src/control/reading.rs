//! From a path to a legal configuration, or to a text that says why not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serin_config::Config;
use serin_config::diagnostic::{Diagnostic, Diagnostics, render};
use serin_config::source::{SOURCE_BYTES_MAX, Source, Span};
use serin_config::teams::{self, Merged, TeamFile, TeamOutcome};

use super::ConfigSource;
use super::folder::{self, Files, MAIN_FILE, TeamBytes};
use crate::{outside, plain_file, sticky};

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
    /// A folder of several files, none of which is the main one.
    #[error("the folder {} has {} in .yaml or .yml: call the main one {MAIN_FILE}", path.display(), ending(*files))]
    NoMain {
        /// The folder.
        path: PathBuf,
        /// How many there are.
        files: usize,
    },
    /// A folder with two main files, which differ in their endings.
    #[error("{} and {} are both the main file: remove one of them", first.display(), second.display())]
    TwoMains {
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

/// So many files, before how they end.
fn ending(files: usize) -> String {
    if files == 0 { "no file that ends".to_owned() } else { format!("{files} files that end") }
}

/// The bytes of a configuration, with a name for diagnostics.
///
/// # Errors
/// The file is not there, not ours to read, or too large.
pub fn load(source: &ConfigSource) -> Result<Vec<u8>, ReadError> {
    match source {
        ConfigSource::Text { text, .. } => Ok(text.clone().into_bytes()),
        ConfigSource::File(path) => load_file(path, |path| File::open(path)),
        ConfigSource::Folder(path) => load_file(&folder::main_file(path)?, plain_file::open),
    }
}

pub(super) fn load_file(path: &Path, open: impl FnOnce(&Path) -> io::Result<File>) -> Result<Vec<u8>, ReadError> {
    let failed = |cause| ReadError::Io { path: path.to_owned(), cause };
    let file = open(path).map_err(failed)?;
    read_capped(file).map_err(failed)?.ok_or_else(|| ReadError::TooLarge { path: path.to_owned() })
}

/// All files of a configuration.
///
/// # Errors
/// As [`load`]; a team file of a folder is never a reason.
pub fn read(source: &ConfigSource) -> Result<Files, ReadError> {
    match source {
        ConfigSource::Folder(path) => folder::read(path),
        _ => Ok(Files { main: load(source)?, ..Files::default() }),
    }
}

/// Everything a reader holds; `None` if that is more than a configuration may be.
pub(crate) fn read_capped(reader: impl Read) -> io::Result<Option<Vec<u8>>> {
    let bytes = read_at_most(reader, SOURCE_BYTES_MAX + 1)?;
    Ok((bytes.len() <= SOURCE_BYTES_MAX).then_some(bytes))
}

pub(super) fn read_at_most(reader: impl Read, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
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
    /// All texts that are in it: what warnings point into.
    pub source: Arc<Source>,
    /// How it went for each team file of a folder.
    pub teams: Vec<TeamOutcome>,
}

/// Bytes and their name as a text that diagnostics can point into.
pub fn text(source: &ConfigSource, bytes: Vec<u8>) -> Source {
    match source {
        ConfigSource::Text { name, .. } => Source::from_bytes(name, bytes),
        ConfigSource::File(path) => text_of(path, bytes),
        ConfigSource::Folder(path) => {
            // Read a moment ago; if it is gone by now its usual name will do for messages.
            let main = folder::main_file(path).unwrap_or_else(|_| path.join(MAIN_FILE));
            text_of(&main, bytes)
        }
    }
}

fn text_of(path: &Path, bytes: Vec<u8>) -> Source {
    let folder = path.parent().unwrap_or(Path::new(""));
    Source::from_bytes(path.display().to_string(), bytes).in_folder(folder)
}

/// Parses and checks everything.
///
/// # Errors
/// All mistakes of the text.
pub fn parse(source: &Source) -> Result<Loaded, Diagnostics> {
    merge(source, &[], &LastGood::new())
}

/// The texts of teams that served last, by the name of the team.
pub type LastGood = BTreeMap<String, Arc<str>>;

/// The main file of what was read, as a text.
pub fn main_text(source: &ConfigSource, files: &Files) -> Source {
    match &files.main_path {
        Some(path) => text_of(path, files.main.clone()),
        None => text(source, files.main.clone()),
    }
}

/// Parses and checks the main file `main` of `files`, and all team files with it.
///
/// # Errors
/// All mistakes of the main file. A team file is no reason: [`Loaded::teams`] says how it went.
pub fn parse_files(main: &Source, files: &Files, last_good: &LastGood) -> Result<Loaded, Diagnostics> {
    let teams: Vec<TeamFile> = files.teams.iter().map(TeamBytes::file).collect();
    merge(main, &teams, last_good)
}

fn merge(main: &Source, files: &[TeamFile], last_good: &LastGood) -> Result<Loaded, Diagnostics> {
    let refuse = |config: &Config| {
        let message = outside::refusal(config)?;
        let at = main.text().find("metricTemplates").unwrap_or_default();
        Some(Diagnostic::error("config/not-built", Span::at(at), message))
    };
    let merged = teams::merge(main, files, last_good, &|folder| folder.is_dir(), &refuse)?;
    let Merged { config, warnings, source, teams } = merged;
    let revision = format!("{:016x}", sticky::draw(b"", source.text().as_bytes())).into();
    Ok(Loaded { config: Arc::new(config), revision, warnings, source, teams })
}

/// [`parse_files`], with the mistakes as one text for a log or a page.
pub(super) fn parse_or_text(source: &ConfigSource, files: &Files, last_good: &LastGood) -> Result<Loaded, Arc<str>> {
    let main = main_text(source, files);
    parse_files(&main, files, last_good).map_err(|mistakes| render(&mistakes, &main, false).trim_end().into())
}
