//! Teams as the control thread keeps them: which version of each serves, what of them outlives the process, and who is
//! told about one that was refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use serin_config::Config;
use serin_config::model::Storage;
use serin_config::source::Source;
use serin_config::teams::{TeamOutcome, TeamState};
use serin_metrics::{Metrics, TeamGauge};

use super::folder::Files;
use super::reading::{LastGood, Loaded};
use super::setup::seconds;
use crate::clock;
use crate::storage::{self, Store};

/// What the admin pages show of one team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamStatus {
    /// Its name: that of its file, without the ending.
    pub name: String,
    /// Which version serves.
    pub state: TeamState,
    /// Since when it does, in milliseconds of Unix time; `None` if none does.
    pub since_ms: Option<u64>,
    /// Why the file as last read does not serve.
    pub report: Option<Arc<str>>,
}

/// Teams in the order of their names, for who shows them.
pub type TeamBoard = Arc<ArcSwap<Vec<TeamStatus>>>;

/// The teams of a folder; nothing for other sources.
#[derive(Debug, Default)]
pub(super) struct Teams {
    last_good: LastGood,
    /// When the last good version of each came into force, in milliseconds of Unix time.
    since: BTreeMap<String, u64>,
    /// What the storage has.
    kept: LastGood,
    /// How it went in the configuration that was read last and is not in force yet.
    pending: Option<Vec<TeamOutcome>>,
    board: TeamBoard,
}

impl Teams {
    /// With what the storage has of these teams, if the main file names one that can be read.
    pub(super) fn at_start(main: &Source, files: &Files) -> Self {
        let mut teams = Self::default();
        // A main file with mistakes is told by who reads it next.
        let storage = Config::parse(main).ok().and_then(|(config, _)| config.storage);
        if let (Some(Storage::File { dir }), false) = (storage, files.teams.is_empty()) {
            for (name, (text, since)) in storage::kept_teams(&dir) {
                teams.since.insert(name.clone(), since);
                teams.last_good.insert(name.clone(), Arc::clone(&text));
                teams.kept.insert(name, text);
            }
        }
        teams
    }

    pub(super) fn last_good(&self) -> &LastGood {
        &self.last_good
    }

    pub(super) fn board(&self) -> TeamBoard {
        Arc::clone(&self.board)
    }

    /// Notes how it went, until the configuration is in force or refused.
    ///
    /// # Errors
    /// A team that serves would lose its place. Only a change of the main file can do that, and it is refused whole.
    pub(super) fn judge(&mut self, loaded: &Loaded) -> Result<(), String> {
        self.pending = None;
        let serving: BTreeSet<String> =
            self.board.load().iter().filter(|team| team.since_ms.is_some()).map(|team| team.name.clone()).collect();
        let out = |team: &&TeamOutcome| team.state == TeamState::Out && serving.contains(&team.name);
        if let Some(lost) = loaded.teams.iter().find(out) {
            return Err(format!(
                "the main file as it is now leaves no version of the team `{}` that works, so it is refused: change it, \
                 or remove the team's file first\n\n{}",
                lost.name,
                lost.report()
            ));
        }
        self.pending = Some(loaded.teams.clone());
        Ok(())
    }

    /// The configuration that was judged last is in force: keeps, counts and tells what that means for each team.
    pub(super) fn commit(&mut self, metrics: &Metrics, store: Option<&Store>) {
        let Some(outcomes) = self.pending.take() else { return };
        let names: BTreeSet<&str> = outcomes.iter().map(|team| team.name.as_str()).collect();
        self.last_good.retain(|name, _| names.contains(name.as_str()));
        self.since.retain(|name, _| names.contains(name.as_str()));
        let now = clock::unix_ms();
        for team in &outcomes {
            let Some(text) = &team.text else { continue };
            if self.last_good.get(&team.name) != Some(text) {
                self.last_good.insert(team.name.clone(), Arc::clone(text));
                self.since.insert(team.name.clone(), now);
            }
        }
        self.keep(store);
        let shown: Vec<TeamStatus> = outcomes.iter().map(|team| self.status(team, now)).collect();
        tell(&self.board.load(), &shown);
        let gauges = shown.iter().map(|team| TeamGauge {
            team: &team.name,
            states: TeamState::ALL.map(|state| (state.as_str(), state == team.state)),
            since: team.since_ms.map(seconds),
        });
        metrics.control().replace_teams(gauges);
        self.board.store(Arc::new(shown));
    }

    fn status(&mut self, team: &TeamOutcome, now: u64) -> TeamStatus {
        let serves = team.state != TeamState::Out;
        let since_ms = serves.then(|| *self.since.entry(team.name.clone()).or_insert(now));
        let report = Some(team.report()).filter(|report| !report.is_empty()).map(Into::into);
        TeamStatus { name: team.name.clone(), state: team.state, since_ms, report }
    }

    /// Writes what is new, and takes away what is gone.
    fn keep(&mut self, store: Option<&Store>) {
        let Some(store) = store else { return };
        for (name, text) in self.last_good.iter().filter(|(name, text)| self.kept.get(*name) != Some(text)) {
            if let Err(error) = store.keep_team(name, text) {
                tracing::error!(team = name, %error, "the last good version of a team cannot be kept: it is lost at a restart");
            }
        }
        for name in self.kept.keys().filter(|name| !self.last_good.contains_key(*name)) {
            if let Err(error) = store.forget_team(name) {
                tracing::error!(team = name, %error, "what was kept of a team that is gone cannot be removed");
            }
        }
        self.kept.clone_from(&self.last_good);
    }
}

/// Into the log: what changed for whom.
fn tell(before: &[TeamStatus], now: &[TeamStatus]) {
    for team in now {
        let old = before.iter().find(|old| old.name == team.name);
        let same = old.is_some_and(|old| old.state == team.state && old.report == team.report);
        let (name, report) = (team.name.as_str(), team.report.as_deref().unwrap_or_default());
        match team.state {
            _ if same => {}
            TeamState::Current if old.is_some_and(|old| old.state == TeamState::Current) => {}
            TeamState::Current => tracing::info!(team = name, "team file in force"),
            TeamState::LastGood => {
                tracing::error!(team = name, "team file rejected, its last good version keeps serving\n{report}")
            }
            TeamState::Out => tracing::error!(team = name, "team file rejected, and no version of it serves\n{report}"),
        }
    }
    for gone in before.iter().filter(|old| !now.iter().any(|team| team.name == old.name)) {
        tracing::info!(team = gone.name, "team file removed");
    }
}
