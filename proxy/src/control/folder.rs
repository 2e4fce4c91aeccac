//! A folder of configuration files: one main file, and one for each team.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serin_config::limits::{TEAM_BYTES_MAX, TEAMS_MAX};
use serin_config::source::Source;
use serin_config::teams::TeamFile;

use super::reading::{ReadError, load_file, read_at_most};
use crate::plain_file;

/// Entries of a folder that are looked at.
pub const FOLDER_ENTRIES_MAX: usize = 10_000;

/// The main file of a folder, where there are others beside it. It may end in `.yml` too.
pub const MAIN_FILE: &str = "serin.yaml";

/// How files of a folder end that count.
const ENDINGS: [&str; 2] = ["yaml", "yml"];

/// The files of a configuration as they were read: equal ones mean the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The main file, or the only one.
    pub(super) main: Vec<u8>,
    /// Where it is, if it is in a folder.
    pub(super) main_path: Option<PathBuf>,
    /// In the order of their names.
    pub(super) teams: Vec<TeamBytes>,
}

impl Files {
    /// The texts of the team files, in the order of their names.
    pub fn teams(&self) -> Vec<Source> {
        self.teams.iter().map(|team| team.file().source).collect()
    }
}

/// A team file as it was read, or why it was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TeamBytes {
    name: String,
    path: PathBuf,
    bytes: Result<Vec<u8>, String>,
}

impl TeamBytes {
    /// A text that diagnostics can point into.
    pub(super) fn file(&self) -> TeamFile {
        let shown = self.path.display().to_string();
        let (bytes, unreadable) = match &self.bytes {
            Ok(bytes) => (bytes.clone(), None),
            Err(why) => (Vec::new(), Some(why.clone())),
        };
        TeamFile { unreadable, ..TeamFile::new(self.name.clone(), Source::from_bytes(shown, bytes)) }
    }
}

/// Reads all files of a folder. A team file that cannot be read is told as such, and is no error.
pub(super) fn read(dir: &Path) -> Result<Files, ReadError> {
    let mut paths = list(dir)?;
    let main = main_of(dir, &paths)?;
    paths.retain(|path| *path != main);
    let main_bytes = load_file(&main, plain_file::open)?;
    Ok(Files { main: main_bytes, teams: teams(paths), main_path: Some(main) })
}

/// The main file of a folder: the one called [`MAIN_FILE`], or the only one there is.
pub(super) fn main_file(dir: &Path) -> Result<PathBuf, ReadError> {
    main_of(dir, &list(dir)?)
}

fn main_of(dir: &Path, paths: &[PathBuf]) -> Result<PathBuf, ReadError> {
    let named = paths.iter().filter(|path| path.file_stem() == Path::new(MAIN_FILE).file_stem());
    match (named.collect::<Vec<_>>().as_slice(), paths) {
        ([main], _) => Ok((*main).clone()),
        ([first, second, ..], _) => Err(ReadError::TwoMains { first: (*first).clone(), second: (*second).clone() }),
        ([], [only]) => Ok(only.clone()),
        ([], _) => Err(ReadError::NoMain { path: dir.to_owned(), files: paths.len() }),
    }
}

/// What is watched of a folder: its files, and the place of the main file even if there is none. One symbolic link may
/// lead far, so the number of files is bounded.
pub(super) fn watched(dir: &Path) -> Vec<PathBuf> {
    let files = list(dir).unwrap_or_default().into_iter().take(TEAMS_MAX);
    [dir.join(MAIN_FILE)].into_iter().chain(files).collect()
}

/// The files `*.yaml` and `*.yml`, sorted. Hidden ones are the editor's.
fn list(dir: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let failed = |cause| ReadError::Io { path: dir.to_owned(), cause };
    let mut paths = Vec::new();
    for (at, entry) in fs::read_dir(dir).map_err(failed)?.enumerate() {
        if at == FOLDER_ENTRIES_MAX {
            let cause = io::Error::other(format!("the folder has more than {FOLDER_ENTRIES_MAX} entries"));
            return Err(failed(cause));
        }
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_bytes().starts_with(b"."));
        let counts = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        if !hidden && counts && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// One for each name, in the order of the names. Of two files for one team neither counts: nobody could say which is meant.
fn teams(paths: Vec<PathBuf>) -> Vec<TeamBytes> {
    let mut by_name: BTreeMap<String, TeamBytes> = BTreeMap::new();
    for path in paths {
        // A name that is no text is no name of a team, which is told like any other that is none.
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(first) = by_name.get_mut(&name) {
            let [first_path, path] = [&first.path, &path].map(|path| path.display().to_string());
            first.bytes =
                Err(format!("{first_path} and {path} are both the file of the team `{name}`: remove one of them"));
        } else {
            let team = team(name.clone(), path);
            by_name.insert(name, team);
        }
    }
    by_name.into_values().collect()
}

fn team(name: String, path: PathBuf) -> TeamBytes {
    // One byte too many is enough to tell that there are too many.
    let read = plain_file::open(&path).and_then(|file| read_at_most(file, TEAM_BYTES_MAX + 1));
    let bytes = read.map_err(|cause| format!("cannot read {}: {cause}", path.display()));
    TeamBytes { name, path, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(dir.path().join(file), "x").unwrap();
        }
        dir
    }

    #[track_caller]
    fn check_main(files: &[&str], expected: Option<&str>) {
        let dir = folder(files);
        let main = main_file(dir.path()).ok();
        assert_eq!(main.as_ref().and_then(|path| path.file_name()?.to_str()), expected);
    }

    #[test]
    fn the_main_file_is_the_one_called_so_or_the_only_one() {
        check_main(&["a.yaml", "serin.yaml"], Some("serin.yaml"));
        check_main(&["a.yaml"], Some("a.yaml"));
        check_main(&["a.yaml", "b.yaml"], None);
        check_main(&["a.yml", "a.yaml~"], Some("a.yml"));
        check_main(&["a.yaml", "serin.yml"], Some("serin.yml"));
        check_main(&["a.yaml", "a.yml"], None);
        check_main(&["a.yaml~", "a.YML", "yml", ".yml"], None);
    }

    #[test]
    fn two_main_files_are_told_by_name() {
        let dir = folder(&["serin.yaml", "serin.yml"]);
        let error = main_file(dir.path()).unwrap_err().to_string();
        assert!(error.contains("serin.yaml and") && error.contains("serin.yml are both the main file"), "{error}");
    }

    #[test]
    fn of_two_files_of_a_team_neither_counts() {
        let dir = folder(&["serin.yml", "a.yaml", "a.yb.yaml", "a.yml", "b.yml"]);
        let teams = read(dir.path()).unwrap().teams;
        let told: Vec<(String, bool)> = teams.iter().map(|team| (team.name.clone(), team.bytes.is_ok())).collect();
        assert_eq!(told, [("a".to_owned(), false), ("a.yb".to_owned(), true), ("b".to_owned(), true)]);
        let why = teams[0].file().unreadable.unwrap();
        assert!(why.contains("a.yaml and") && why.contains("a.yml are both the file of the team `a`"), "{why}");
    }

    #[test]
    fn teams_come_sorted_and_hidden_files_and_folders_do_not_count() {
        let dir = folder(&["b.yaml", "serin.yaml", "a.yaml", ".c.yaml", "d.txt"]);
        fs::create_dir(dir.path().join("e.yaml")).unwrap();
        let names: Vec<String> = read(dir.path()).unwrap().teams.into_iter().map(|team| team.name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_file_whose_name_is_no_text_is_told_too() {
        let dir = folder(&["serin.yaml", "a.yaml"]);
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.yaml")), "x").unwrap();
        let names: Vec<String> = read(dir.path()).unwrap().teams.into_iter().map(|team| team.name).collect();
        assert_eq!(names, ["a", "\u{fffd}"]);
    }

    #[test]
    fn a_team_file_that_leads_nowhere_is_told_and_no_error() {
        let dir = folder(&["serin.yaml"]);
        std::os::unix::fs::symlink("nowhere", dir.path().join("a.yaml")).unwrap();
        let files = read(dir.path()).unwrap();
        assert!(files.teams[0].file().unreadable.is_some_and(|why| why.contains("cannot read")));
    }

    /// It would hold the thread that reads it, and with it every reload and the end of the process.
    #[test]
    fn a_team_file_that_is_a_pipe_is_told_and_not_waited_for() {
        let dir = folder(&["serin.yaml"]);
        let made = std::process::Command::new("mkfifo").arg(dir.path().join("a.yaml")).status().unwrap();
        assert!(made.success());
        let files = read(dir.path()).unwrap();
        assert!(files.teams[0].file().unreadable.is_some_and(|why| why.contains("a.yaml: it is no plain file")));
    }

    #[test]
    fn a_team_file_is_read_up_to_one_byte_too_many() {
        let dir = folder(&["serin.yaml"]);
        fs::write(dir.path().join("a.yaml"), vec![b'#'; TEAM_BYTES_MAX + 5]).unwrap();
        let files = read(dir.path()).unwrap();
        assert_eq!(files.teams[0].bytes.as_ref().map(Vec::len), Ok(TEAM_BYTES_MAX + 1));
    }
}
