//! `--state DIR`: what the journals of a storage folder say, beside a file. Nothing is locked or changed: Serin may run.

use std::path::Path;

use serin_config::Config;
use serin_config::model::Rollout;
use serin_rollout::{Revision, TimestampMs};

use crate::clock;
use crate::control::LastGood;
use crate::dtabs::Namespaces;
use crate::judge::Opening;
use crate::snapshot::Routings;
use crate::storage::{HistoryReader, Recovered, kept_teams, stored_dtabs};

/// The journals of a folder that must be there.
pub(super) fn journals(dir: &Path) -> Result<HistoryReader, String> {
    let shown = dir.display();
    let metadata = std::fs::metadata(dir).map_err(|error| format!("cannot read {shown}: {error}"))?;
    if metadata.is_dir() { Ok(HistoryReader::of_folder(dir)) } else { Err(format!("{shown} is no folder")) }
}

/// The dtabs of a folder that must be there; what cannot be read counts as empty, and is said.
pub(super) fn dtabs(dir: &Path) -> Result<Namespaces, String> {
    journals(dir)?;
    let found = stored_dtabs(dir).map_err(|error| format!("cannot read the dtabs in {}: {error}", dir.display()))?;
    for (namespace, why) in found.unreadable() {
        eprintln!("warning: the stored dtab `{namespace}` cannot be read and counts as empty: {why}");
    }
    Ok(found)
}

/// The last good versions of teams in a folder, if there is one.
pub(super) fn last_good(dir: &Path) -> LastGood {
    kept_teams(dir).into_iter().map(|(name, (text, _))| (name, text)).collect()
}

/// Between which names each rollout moves, and the share of its canary, as its process last wrote them down.
pub(super) fn routings(config: &Config, journals: &HistoryReader) -> Routings {
    let now = TimestampMs(clock::steady_ms());
    let routing = |file: &Rollout| {
        // as of the running process: what a stop would change is another question
        let recovered = Recovered { clean: true, ..journals.recover(&file.name) };
        (file.name.as_str().into(), Opening::new(file, &recovered, now).routing(file))
    };
    config.rollouts.iter().map(routing).collect()
}

/// Where file and journals differ, and what to do: a sentence each.
pub(super) fn differences(config: &Config, journals: &HistoryReader) -> Vec<String> {
    config.rollouts.iter().filter_map(|file| difference(file, &journals.recover(&file.name))).collect()
}

fn difference(file: &Rollout, recovered: &Recovered) -> Option<String> {
    let name = &file.name;
    if recovered.is_unreadable() {
        return Some(format!("rollout {name}: its journal cannot be read: the canary gets nothing, and it is paused"));
    }
    let state = &recovered.last.as_ref()?.state;
    let primary = file.primary.to_string();
    let promoted = path(state.promoted.as_ref()?);
    if promoted == primary {
        return None;
    }
    Some(match state.origin.as_ref().map(path) {
        Some(origin) if origin != primary => format!(
            "rollout {name}: the file says `primary: {primary}`, which is neither {origin}, where it began, nor \
             {promoted}, which was promoted: the file wins, and it begins anew"
        ),
        _ => format!(
            "rollout {name}: {promoted} was promoted and serves; the file still says `primary: {primary}`: change it there"
        ),
    })
}

/// Where the traffic of a revision goes.
fn path(revision: &Revision) -> &str {
    let text = revision.as_str();
    text.split_once('@').map_or(text, |(path, _)| path)
}

#[cfg(test)]
mod tests {
    use serin_config::source::Source;
    use serin_rollout::{Entry, Phase, State};

    use super::*;

    const FILE: &str = "\
storage: {kind: memory}
clusters: {v1: {endpoints: []}, v2: {endpoints: []}}
routers: [{label: out, servers: [{port: 1}], dtab: /svc => /host ; /host => /#/clusters}]
rollouts:
- {name: web, router: out, path: /host/web, primary: /#/clusters/v1, canary: /#/clusters/v2}
";

    fn config() -> Config {
        Config::parse(&Source::new("t", FILE)).unwrap().0
    }

    fn promoted(origin: &str, promoted: &str) -> Recovered {
        let state = State {
            phase: Phase::Promoted,
            origin: origin.parse().ok(),
            promoted: promoted.parse().ok(),
            ..State::default()
        };
        let at = TimestampMs(1);
        let entry = Entry { sequence: 1, at, state, paused: false, events: Vec::new(), score: 0.0, ..Entry::default() };
        Recovered { last: Some(entry), existed: true, ..Recovered::default() }
    }

    #[test]
    fn a_file_that_is_behind_or_elsewhere_is_told() {
        let config = config();
        let said = |recovered: &Recovered| difference(&config.rollouts[0], recovered);
        assert_eq!(said(&Recovered::default()), None);
        assert_eq!(said(&promoted("/#/clusters/v0", "/#/clusters/v1@7")), None, "the file was changed as it should be");
        let behind = said(&promoted("/#/clusters/v1", "/#/clusters/v2@7")).unwrap();
        assert!(
            behind.contains("/#/clusters/v2 was promoted") && behind.contains("`primary: /#/clusters/v1`"),
            "{behind}"
        );
        let elsewhere = said(&promoted("/#/clusters/v0", "/#/clusters/v2")).unwrap();
        assert!(elsewhere.contains("the file wins"), "{elsewhere}");
        let torn = Recovered { existed: true, unreadable: 3, ..Recovered::default() };
        assert!(said(&torn).unwrap().contains("cannot be read"));
    }

    #[test]
    fn a_folder_without_journals_says_what_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let journals = journals(dir.path()).unwrap();
        let routings = routings(&config(), &journals);
        assert_eq!(routings["web"].share.get(), 0);
        assert!(differences(&config(), &journals).is_empty());
        assert!(super::journals(&dir.path().join("none")).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is made");
    }
}
