//! How a rollout comes to its seat, and what another file means for it.

use std::sync::Arc;

use serin_config::model::{self, MetricSource as Source};
use serin_rollout::{Phase, Rollout, State, TimestampMs};

use super::{Act, Durability, Seat};
use crate::judge::own::Counts;
use crate::judge::rounds::Round;
use crate::judge::wanted;
use crate::snapshot::Routing;
use crate::storage::Recovered;

/// A rollout as its journal left it, before anything of it runs.
#[derive(Debug)]
pub struct Opening {
    rollout: Rollout,
    fresh: bool,
    /// It stands elsewhere than its journal says.
    moved: bool,
    /// What people should know of how it was found.
    notes: Vec<(&'static str, String)>,
}

impl Opening {
    /// What the journal of a rollout means. Without one, the file's primary serves and the first tick begins a run.
    pub fn new(file: &model::Rollout, recovered: &Recovered, now: TimestampMs) -> Self {
        let mut notes = Vec::new();
        let pace = file.pace.clone();
        if recovered.is_unreadable() {
            let why =
                recovered.trouble.clone().unwrap_or_else(|| format!("{} lines make no sense", recovered.unreadable));
            let text = format!(
                "Paused {} at canary weight 0: its journal cannot be read ({why}); `serin rollout resume {}` goes on",
                file.name, file.name
            );
            notes.push(("journal-unreadable", text));
            let rollout = Rollout::recover(pace, None, false, now);
            return Self { rollout, fresh: false, moved: true, notes };
        }
        let Some(last) = &recovered.last else {
            let rollout = Rollout::new(pace, first_state(file), now);
            return Self { rollout, fresh: !recovered.existed, moved: false, notes };
        };
        if recovered.unreadable > 0 {
            let lines = recovered.unreadable;
            notes.push((
                "journal-torn",
                format!("{}: {lines} torn lines at the end of its journal were passed over", file.name),
            ));
        }
        let rollout = Rollout::recover(pace, Some(last), recovered.clean, now);
        if last.state.phase.is_active() {
            let (from, to) = (last.state.canary_share(), rollout.state().canary_share());
            let stop = if recovered.clean { "a clean" } else { "an unclean" };
            notes.push((
                "recovered",
                format!("{} goes on after {stop} stop, canary weight {from} before and {to} now", file.name),
            ));
        }
        Self { rollout, fresh: false, moved: !recovered.clean, notes }
    }

    /// What the world gets before the first structure is made.
    pub fn routing(&self, file: &model::Rollout) -> Routing {
        wanted::routing(file, self.rollout.state(), self.rollout.rolled_back(), None)
    }
}

/// Nothing has happened: the file's primary is what was promoted last.
fn first_state(file: &model::Rollout) -> State {
    let primary = wanted::revision_of(&file.primary);
    State {
        phase: Phase::Initialized,
        applied: primary.clone(),
        promoted: primary.clone(),
        serving: primary.clone(),
        origin: primary,
        ..State::default()
    }
}

impl Seat {
    /// Takes a rollout that is new here.
    pub(crate) fn new(file: Arc<model::Rollout>, opening: Opening, now: u64, acts: &mut Vec<Act>) -> Self {
        let published = opening.routing(&file);
        let Opening { mut rollout, fresh, moved, notes } = opening;
        rollout.set_dry(file.judge == model::Judge::DryRun);
        let state = rollout.state().clone();
        let mut seat = Self {
            name: file.name.as_str().into(),
            counts: Counts::new(own_windows(&file)),
            run_started_ms: state.phase.is_active().then_some(now),
            file,
            rollout,
            evidence: None,
            linked: None,
            published: published.clone(),
            state,
            pending: None,
            owed: Vec::new(),
            ticket: 0,
            newest: None,
            seen: None,
            waiting_since: None,
            durability: Durability::Good,
            retry_at: 0,
            round: Round::default(),
            waiting: Default::default(),
            held: Default::default(),
            arms_up: [true; 2],
            deserted: false,
            fresh,
            dirty: false,
            looked_at: 0,
            slow_told: None,
            step_started_ms: now,
            last: None,
            stale: true,
        };
        acts.push(Act::Publish(published));
        for (code, text) in notes {
            let kind = if code == "recovered" { "Normal" } else { "Warning" };
            acts.push(seat.note(code, text, kind, now));
        }
        if moved {
            let entry = seat.rollout.checkpoint(TimestampMs(now));
            seat.write(vec![entry], acts);
        }
        seat.round.hurry(now);
        seat
    }

    /// Another file has this rollout, perhaps in other words. What changed of its names is taken up by the next tick.
    pub(crate) fn take_file(&mut self, file: Arc<model::Rollout>, now: u64, acts: &mut Vec<Act>) {
        if *self.file == *file {
            self.file = file;
            return;
        }
        let before = std::mem::replace(&mut self.file, Arc::clone(&file));
        if before.pace != file.pace {
            self.rollout.set_pace(file.pace.clone());
        }
        if before.metrics != file.metrics {
            self.counts = Counts::new(own_windows(&file));
        }
        self.round = Round::default();
        self.round.hurry(now);
        self.stale = true;
        self.rollout.set_dry(file.judge == model::Judge::DryRun);
        if is_other_traffic(&before, &file) {
            self.begin_anew(now, acts);
        }
        self.reconcile(now, acts);
    }
}

/// Would the same share be other requests, or all of them? Then it was given for something else.
pub(crate) fn is_other_traffic(before: &model::Rollout, now: &model::Rollout) -> bool {
    let kind = |file: &model::Rollout| std::mem::discriminant(&file.strategy);
    before.path != now.path || before.router != now.router || kind(before) != kind(now)
}

fn own_windows(file: &model::Rollout) -> impl Iterator<Item = std::time::Duration> + '_ {
    file.metrics.iter().filter_map(|source| match source {
        Source::Own { window } => Some(*window),
        Source::Template { .. } | Source::Query { .. } => None,
    })
}
