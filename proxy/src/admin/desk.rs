//! What the pages ask of whoever runs the rollouts.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serin_rollout::{Command, CommandError, Entry};
use tokio::sync::broadcast;

use crate::judge::view::{Told, View};

/// Runs the rollouts.
pub trait Desk: Debug + Send + Sync {
    /// All of them, sorted by name.
    fn views(&self) -> Arc<Vec<Arc<View>>>;
    /// The last things that happened, oldest first.
    fn recent(&self) -> Vec<Arc<Told>>;
    /// What happens from now on.
    fn subscribe(&self) -> broadcast::Receiver<Arc<Told>>;
    /// Does it; answers once it is done and written down.
    fn command<'a>(&'a self, name: &'a str, command: Command, who: &'a str, why: &'a str) -> Doing<'a>;
    /// The last entries of a journal, oldest first. May wait for a disk.
    fn history(&self, name: &str, max: usize) -> Vec<Entry>;
}

/// A command under way.
pub type Doing<'a> = Pin<Box<dyn Future<Output = Result<Arc<View>, NotDone>> + Send + 'a>>;

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// No rollout has this name.
    Unknown {
        /// Those that have one.
        known: Vec<String>,
    },
    /// It means nothing now.
    Refused(CommandError),
    /// The journal cannot be written, and without it the weight does not rise.
    NotDurable(String),
    /// Another process judges this rollout.
    NotHere,
    /// Traffic would go to a version without any endpoint, while the other one has some.
    NoEndpoint,
    /// Another revision than the one that the file names.
    NotInFile {
        /// The file's revision.
        canary: String,
    },
    /// The process is about to end.
    Gone,
}

/// One line of a journal as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Counts the entries of one rollout, from 1.
    pub sequence: u64,
    /// When, ms since 1970.
    pub at_ms: u64,
    /// What happened, by code.
    pub events: Vec<String>,
    /// Where the rollout stood after it.
    pub phase: String,
    /// The canary's share after it, parts per million.
    pub weight_ppm: u32,
    /// Frozen by a person.
    pub paused: bool,
    /// The revision that is judged, or was judged last.
    pub applied: Option<String>,
    /// The revision that is proven.
    pub promoted: Option<String>,
    /// Failed checks of the run.
    pub failed_checks: u32,
    /// The score against the canary.
    #[serde(deserialize_with = "crate::judge::view::number")]
    pub score: f64,
    /// Requests of the canary in the run.
    pub requests: u64,
    /// Of those: failed.
    pub failures: u64,
    /// Who asked for it, if a person did.
    pub who: Option<String>,
    /// And why.
    pub why: Option<String>,
}

impl From<&Entry> for Past {
    fn from(entry: &Entry) -> Self {
        let state = &entry.state;
        let (who, why) = entry.by.clone().unzip();
        Self {
            sequence: entry.sequence,
            at_ms: entry.at.0,
            events: entry.events.iter().map(ToString::to_string).collect(),
            phase: state.phase.to_string(),
            weight_ppm: state.weight.get(),
            paused: entry.paused,
            applied: state.applied.as_ref().map(ToString::to_string),
            promoted: state.promoted.as_ref().map(ToString::to_string),
            failed_checks: state.failed_checks,
            score: entry.score,
            requests: entry.capital.requests,
            failures: entry.capital.failures,
            who,
            why,
        }
    }
}
