//! The desk of a running process: the judge, and the journals of its storage.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serin_rollout::{Command, Entry};
use tokio::sync::broadcast;

use super::desk::{Desk, Doing, NotDone};
use crate::judge::{CommandFailure, Judge, Told, View};
use crate::storage::HistoryReader;

/// Asks the judge, and reads journals once there are some.
#[derive(Debug)]
pub struct Office {
    judge: Judge,
    journals: Arc<ArcSwapOption<HistoryReader>>,
}

impl Office {
    /// `journals` may come later than the process: with the first configuration that has a storage.
    pub fn new(judge: Judge, journals: Arc<ArcSwapOption<HistoryReader>>) -> Self {
        Self { judge, journals }
    }
}

impl Desk for Office {
    fn views(&self) -> Arc<Vec<Arc<View>>> {
        self.judge.views()
    }

    fn recent(&self) -> Vec<Arc<Told>> {
        self.judge.recent()
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Told>> {
        self.judge.subscribe()
    }

    fn command<'a>(&'a self, name: &'a str, command: Command, who: &'a str, why: &'a str) -> Doing<'a> {
        Box::pin(async move { self.judge.command(name, command, who, why).await.map_err(not_done) })
    }

    fn history(&self, name: &str, max: usize) -> Vec<Entry> {
        self.journals.load().as_ref().map(|reader| reader.history(name, max)).unwrap_or_default()
    }
}

fn not_done(failure: CommandFailure) -> NotDone {
    match failure {
        CommandFailure::Unknown { known } => NotDone::Unknown { known },
        CommandFailure::Refused(why) => NotDone::Refused(why),
        CommandFailure::NotDurable(why) => NotDone::NotDurable(why),
        CommandFailure::NotHere => NotDone::NotHere,
        CommandFailure::NoEndpoint => NotDone::NoEndpoint,
        CommandFailure::NotInFile { canary } => NotDone::NotInFile { canary },
        CommandFailure::Gone => NotDone::Gone,
    }
}
