//! The last good versions of team files: `<dir>/teams/<name>.yaml`, each replaced whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serin_config::limits::{TEAM_BYTES_MAX, TEAMS_MAX};

use super::Store;
use super::disk::{Disk, RealDisk, make_folder, read_some, replace};

/// Entries of the folder that are looked at: those that are kept, and what a crash may have left beside them.
const ENTRIES_MAX: usize = 4 * TEAMS_MAX;
const TEAMS: &str = "teams";
const ENDING: &str = "yaml";

impl Store {
    /// Keeps the last good version of a team; on the disk when this returns. Does nothing in memory.
    ///
    /// # Errors
    /// The disk says no: what was kept before is still there.
    pub fn keep_team(&self, name: &str, text: &str) -> io::Result<()> {
        let Some(folder) = self.folder() else { return Ok(()) };
        let dir = folder.join(TEAMS);
        if make_folder(&dir)? {
            RealDisk.sync_folder(folder)?;
        }
        replace(&RealDisk, &file(&dir, name), text.as_bytes())?;
        RealDisk.sync_folder(&dir)
    }

    /// Forgets a team. That nothing was kept is no error.
    ///
    /// # Errors
    /// The disk says no.
    pub fn forget_team(&self, name: &str) -> io::Result<()> {
        let Some(folder) = self.folder() else { return Ok(()) };
        let dir = folder.join(TEAMS);
        match RealDisk.remove(&file(&dir, name)) {
            Ok(()) if dir.is_dir() => RealDisk.sync_folder(&dir),
            other => other,
        }
    }
}

fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.{ENDING}"))
}

/// What a storage folder keeps of teams: the text of each, and when it was written in milliseconds of Unix time. Nothing
/// is locked or changed. What cannot be read is left out: it is as if it had never been kept.
pub fn kept_teams(dir: &Path) -> BTreeMap<String, (Arc<str>, u64)> {
    let Ok(entries) = fs::read_dir(dir.join(TEAMS)) else { return BTreeMap::new() };
    let kept = entries.take(ENTRIES_MAX).filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?.strip_suffix(ENDING)?.strip_suffix('.')?.to_owned();
        let bytes = read_some(&File::open(&path).ok()?, TEAM_BYTES_MAX + 1).ok()?;
        let text = String::from_utf8(bytes).ok().filter(|text| text.len() <= TEAM_BYTES_MAX)?;
        let written = fs::metadata(&path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some((name, (text.into(), u64::try_from(written.as_millis()).ok()?)))
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serin_config::model::Storage;

    fn texts(dir: &Path) -> Vec<(String, String)> {
        kept_teams(dir).into_iter().map(|(name, (text, _))| (name, text.to_string())).collect()
    }

    #[track_caller]
    fn check_kept(dir: &Path, expected: &[(&str, &str)]) {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        assert_eq!(texts(dir), expected);
    }

    #[test]
    fn what_is_kept_is_there_for_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let store = Store::open(&Storage::File { dir: state.clone() }).unwrap();
        check_kept(&state, &[]);
        store.keep_team("web", "one").unwrap();
        store.keep_team("api.v1", "two").unwrap();
        store.keep_team("web", "three").unwrap();
        check_kept(&state, &[("api.v1", "two"), ("web", "three")]);
        store.forget_team("web").unwrap();
        store.forget_team("web").unwrap();
        check_kept(&state, &[("api.v1", "two")]);
    }

    #[test]
    fn what_a_crash_left_half_written_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Storage::File { dir: dir.path().to_owned() }).unwrap();
        store.keep_team("web", "whole").unwrap();
        fs::write(dir.path().join("teams/web.yaml.new"), "ha").unwrap();
        fs::write(dir.path().join("teams/bad.yaml"), b"\xff").unwrap();
        check_kept(dir.path(), &[("web", "whole")]);
        store.keep_team("web", "again").unwrap();
        check_kept(dir.path(), &[("web", "again")]);
    }

    #[test]
    fn a_text_as_long_as_a_team_file_may_be_is_kept_and_one_byte_more_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Storage::File { dir: dir.path().to_owned() }).unwrap();
        store.keep_team("fits", &"x".repeat(TEAM_BYTES_MAX)).unwrap();
        store.keep_team("long", &"x".repeat(TEAM_BYTES_MAX + 1)).unwrap();
        assert_eq!(kept_teams(dir.path()).into_keys().collect::<Vec<_>>(), ["fits"]);
    }

    #[test]
    fn memory_keeps_nothing_and_says_nothing() {
        let store = Store::open(&Storage::Memory).unwrap();
        store.keep_team("web", "one").unwrap();
        store.forget_team("web").unwrap();
    }
}
