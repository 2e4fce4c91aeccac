//! `serin run`: a file, standard input, or targets given as arguments.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serin_config::Diagnostics;
use serin_config::source::Source;
use serin_config::teams::TeamState;

use super::{RunArgs, failed, no_command, print, shares, usage};
use crate::control::{self, ConfigSource, Files, LastGood, Loaded, ReadError, StartOptions, StartupError};
use crate::logging;

/// The file that is served if none is named.
const DEFAULT_FILE: &str = "serin.yaml";

pub(super) fn run(args: &RunArgs) -> ExitCode {
    if !args.to.is_empty() {
        return run_targets(args);
    }
    let source = match source(args.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE))) {
        Ok(source) => source,
        Err(error) => return failed(&error),
    };
    if let (ConfigSource::File(path), true) = (&source, args.file.as_deref().is_some_and(looks_like_a_command)) {
        let path = path.display();
        return usage(&no_command(&path.to_string()));
    }
    serve(source)
}

/// A word that is no file and could not be meant as one.
pub(super) fn looks_like_a_command(file: &Path) -> bool {
    file.to_str().is_some_and(|word| !word.contains(['.', '/']) && !word.starts_with('-') && !file.exists())
}

/// A file is watched; standard input is read once, here.
pub(super) fn source(file: &Path) -> Result<ConfigSource, ReadError> {
    if file != Path::new("-") {
        let of = if file.is_dir() { ConfigSource::Folder } else { ConfigSource::File };
        return Ok(of(file.to_owned()));
    }
    let named = || PathBuf::from("standard input");
    let bytes =
        control::read_capped(std::io::stdin().lock()).map_err(|cause| ReadError::Io { path: named(), cause })?;
    let bytes = bytes.ok_or_else(|| ReadError::TooLarge { path: named() })?;
    let text = String::from_utf8(bytes).map_err(|error| ReadError::Io {
        path: named(),
        cause: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
    })?;
    Ok(ConfigSource::Text { name: "-".into(), text })
}

/// The main file of what a command was given, and what it means together with the team files beside it.
pub(super) fn configuration(
    file: &Path,
    last_good: &LastGood,
) -> Result<(Source, Files, Result<Loaded, Diagnostics>), ReadError> {
    let from = source(file)?;
    let files = control::read(&from)?;
    let main = control::main_text(&from, &files);
    let loaded = control::parse_files(&main, &files, last_good);
    Ok((main, files, loaded))
}

/// Teams that a command goes on without, for people.
pub(super) fn warn_of_teams(loaded: &Loaded) {
    for team in loaded.teams.iter().filter(|team| team.state != TeamState::Current) {
        eprintln!("warning: without the team file of `{}`, which has mistakes\n{}", team.name, team.report());
    }
}

fn run_targets(args: &RunArgs) -> ExitCode {
    let listen = args.listen.unwrap_or_else(|| ([127, 0, 0, 1], 4140).into());
    let text = match shares::parse(&args.to) {
        Ok(targets) => shares::config(&targets, listen),
        Err(error) => return usage(&error),
    };
    if args.print_config {
        return print(&text);
    }
    serve(ConfigSource::Text { name: "--to".into(), text })
}

fn serve(source: ConfigSource) -> ExitCode {
    if let Err(error) = logging::init("info") {
        return usage(&error);
    }
    let options = match StartOptions::from_env(source) {
        Ok(options) => options,
        Err(error) => return usage(&error),
    };
    match control::start(options) {
        Ok(running) => ExitCode::from(running.wait()),
        // already a text with its own headlines
        Err(StartupError::Config(text)) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
        Err(StartupError::Read(ReadError::Io { path, cause })) if path == Path::new(DEFAULT_FILE) => {
            eprintln!("error: cannot read {DEFAULT_FILE}: {cause}");
            eprintln!(
                "help: name a file, try `serin demo`, or serve without one: serin run --to v1=http://127.0.0.1:8081"
            );
            ExitCode::FAILURE
        }
        Err(error) => failed(&with_cause(&error)),
    }
}

/// The error and what caused it, each said once.
fn with_cause(error: &StartupError) -> String {
    match error {
        StartupError::System { cause, .. } => format!("{error}: {cause}"),
        _ => error.to_string(),
    }
}
