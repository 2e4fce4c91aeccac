//! One rollout as the judge holds it: what comes in goes through the state machine, what comes out is a list of things
//! to do, in order. Nothing here waits, and time is an argument.

use std::sync::Arc;

use serin_config::dtab::Path;
use serin_config::model::{self, Judge as Mode};
use serin_rollout::{
    Arm, Command, Decision, Entry, Event, EventRecord, HookKind, Look, Ppm, Rollout, SlowShares, State, TimestampMs,
    Traffic,
};

use super::own::Counts;
use super::readiness::{Presence, Waiting};
use super::rounds::Round;
use super::story;
use super::wanted::{self, is_raise};
use super::{CommandFailure, Reply};
use crate::endpoints::Cluster;
use crate::evidence::SplitEvidence;
use crate::snapshot::{Arms, Routing};

mod adopt;
mod command;
mod journal;
mod show;
mod tick;

pub use adopt::Opening;
pub(crate) use adopt::is_other_traffic;

/// The longest time between two looks at a rollout under way, milliseconds.
pub const LOOK_MS: u64 = 50;
/// The shortest time between two looks that events bring about: with [`LOOK_MS`] of patience for none of them.
pub(crate) const EVENTS_LOOK_MS: u64 = 5;
/// Where the canary has all of the traffic and nobody was answered for so long, the primary gets it back.
const SILENT_MS: u64 = 5_000;
/// A raise that the journal does not answer within this time is given up.
pub(crate) const WRITE_MS_MAX: u64 = 5_000;

/// Something to be done, in the order of the list.
#[derive(Debug)]
pub(crate) enum Act {
    /// The world gets this routing, now.
    Publish(Routing),
    /// The journal gets this; its answer comes back with the ticket.
    Write(Box<Entry>, u64),
    /// A hook is asked, in this round.
    AskHook(usize, u64),
    /// A hook is told that the run is over.
    TellHook(usize),
    /// A metric is asked for, in this round.
    AskMetric(usize, u64),
    /// People hear of it.
    Tell(Story),
    /// Somebody who asked gets an answer.
    Answer(Reply, Result<(), CommandFailure>),
    /// The structure in force has other arms than the judge wants.
    Assemble,
}

/// An event with its sentence.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) at_ms: u64,
    /// `None`: what only the proxy knows of.
    pub(crate) event: Option<Event>,
    pub(crate) code: &'static str,
    pub(crate) text: String,
    pub(crate) kind: &'static str,
    pub(crate) share: Ppm,
    pub(crate) score: f64,
    pub(crate) by: Option<(String, String)>,
}

/// A raise on its way through the journal.
#[derive(Debug)]
struct Pending {
    /// An answer to this ticket, or a later one, lets it pass.
    ticket: u64,
    since_ms: u64,
    /// Where the rollout goes back to if it does not pass.
    before: State,
    routing: Routing,
    stories: Vec<Story>,
    /// Hooks that are told of the end, once it is in force.
    post: Vec<usize>,
    replies: Vec<Reply>,
}

/// What a decision brings besides the routing.
struct Outcome {
    entries: Vec<Entry>,
    stories: Vec<Story>,
    post: Vec<usize>,
}

/// What the journal said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It takes what it gets.
    Good,
    /// It does not, and why.
    Failing(String),
}

/// One rollout.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) name: Arc<str>,
    pub(crate) file: Arc<model::Rollout>,
    pub(crate) rollout: Rollout,
    pub(crate) evidence: Option<Arc<SplitEvidence>>,
    /// The arms of the structure in force.
    linked: Option<Arms>,
    /// What the world got last.
    pub(crate) published: Routing,
    /// The state after the last input.
    state: State,
    pending: Option<Pending>,
    /// Answers that wait for the journal, by ticket, and since when; what they are about is in force.
    owed: Vec<(u64, u64, Reply)>,
    ticket: u64,
    /// What the journal got last.
    newest: Option<Entry>,
    pub(crate) durability: Durability,
    retry_at: u64,
    /// Totals that were read and not looked at yet.
    seen: Option<Traffic>,
    pub(crate) counts: Counts,
    pub(crate) round: Round,
    pub(crate) waiting: [Waiting; 2],
    /// Names of the arms, kept awake.
    pub(crate) held: [Vec<Arc<Cluster>>; 2],
    pub(crate) arms_up: [bool; 2],
    /// The canary has all of the traffic and no endpoint, or answers nobody, and the primary has one.
    deserted: bool,
    /// No journal was there, and nothing has begun.
    fresh: bool,
    /// An event came since the last look, or waits for its turn to count.
    pub(crate) dirty: bool,
    pub(crate) looked_at: u64,
    /// What the ages in force were worked out from.
    slow_told: Option<SlowShares>,
    pub(crate) step_started_ms: u64,
    pub(crate) run_started_ms: Option<u64>,
    /// Since when a gate is closed.
    waiting_since: Option<u64>,
    pub(crate) last: Option<Arc<super::Told>>,
    /// Something that is shown has changed.
    pub(crate) stale: bool,
}

impl Seat {
    /// Is a canary under way that this process judges?
    pub(crate) fn is_active(&self) -> bool {
        self.file.judge != Mode::Off && self.rollout.state().phase.is_active()
    }

    /// The moment of the next look; `None`: nothing to look at.
    pub(crate) fn next_look(&self) -> Option<u64> {
        let wait = if self.dirty { EVENTS_LOOK_MS } else { LOOK_MS };
        self.is_active().then(|| self.looked_at + wait)
    }

    /// The moment at which there is something to do; `None`: nobody knows of one.
    pub(crate) fn next(&self) -> Option<u64> {
        [self.next_look(), self.next_tick(), self.next_journal()].into_iter().flatten().min()
    }

    /// Takes one event, or several equal ones.
    pub(crate) fn observe(&mut self, record: EventRecord, times: u64) {
        if self.is_active() {
            self.rollout.observe(record, times);
            self.dirty |= record.arm == Arm::Canary;
        }
    }

    /// Reads the totals. The events that belong to them are to be taken between this and the look.
    pub(crate) fn read(&mut self) {
        self.seen = self.evidence.as_ref().map(|evidence| evidence.traffic());
    }

    /// Has the canary all of the traffic, and nobody is there, or nobody is answered? Then no traffic of the primary shows
    /// that it is not everybody's trouble, and its addresses have to tell.
    pub(crate) fn is_deserted(&self, now: u64) -> bool {
        let alone = self.is_active() && self.published.share == Ppm::WHOLE;
        let absent = |evidence: &Arc<SplitEvidence>| evidence.is_absent(Arm::Canary);
        alone && (self.evidence.as_ref().is_some_and(absent) || self.is_silent(now))
    }

    /// Is nobody answered who came while the canary had all of the traffic? Clients that wait for each other's answers soon
    /// send nothing more, so that few events tell of it, however long it lasts.
    fn is_silent(&self, now: u64) -> bool {
        let long = now.saturating_sub(self.step_started_ms) >= SILENT_MS;
        long && self.evidence.as_ref().is_some_and(|evidence| evidence.is_silent(Arm::Canary, SILENT_MS * 1_000))
    }

    /// What the addresses tell: of the canary, of the primary.
    pub(crate) fn note_presence(&mut self, presence: [Presence; 2], now: u64) {
        let [canary, primary] = presence;
        self.deserted = primary == Presence::Some && (canary == Presence::None || self.is_silent(now));
    }

    /// Were totals read that nobody looked at?
    pub(crate) fn has_read(&self) -> bool {
        self.seen.is_some()
    }

    /// Looks at the totals, and does what follows.
    pub(crate) fn look(&mut self, now: u64, acts: &mut Vec<Act>) {
        self.looked_at = now;
        self.dirty = false;
        if self.file.judge == Mode::Off {
            return;
        }
        let Some(evidence) = self.evidence.clone() else { return };
        let traffic = self.seen.take().unwrap_or_else(|| evidence.traffic());
        self.freeze_slow_write(now);
        self.arms_up = super::own::arms_up(&evidence);
        self.arms_up[0] &= !std::mem::take(&mut self.deserted);
        self.counts.sample(&evidence, &traffic, now);
        let [canary_up, primary_up] = self.arms_up;
        let slow = self.slow(&evidence);
        let look = Look { traffic: &traffic, canary_up, primary_up, slow };
        let decision = self.rollout.look(&look, TimestampMs(now));
        // nobody wakes the judge when the older request is over
        self.dirty = self.rollout.is_waiting_for_older();
        self.settle(decision, None, now, acts);
    }

    /// What this look knows of slow requests. Ages are frozen for a step; where the history of the primary became long
    /// enough in the middle of one, they begin there.
    fn slow(&mut self, evidence: &SplitEvidence) -> Option<SlowShares> {
        let weight = self.state.weight;
        let shares = self.counts.slow_shares();
        let is_better = shares.is_some_and(|new| self.slow_told.is_none_or(|told| told.rough && !new.rough));
        if self.is_active() && weight > Ppm::ZERO && is_better {
            evidence.set_slow(self.counts.slow_ages(weight));
            self.slow_told = shares;
        }
        shares
    }

    /// Turns a decision into things to do: what falls is published first, what rises is durable first.
    fn settle(&mut self, decision: Decision, by: Option<(&str, &str)>, now: u64, acts: &mut Vec<Act>) {
        if decision.events.is_empty() && decision.entries.is_empty() && decision.weight.is_none() {
            return;
        }
        self.stale = true;
        let before = std::mem::replace(&mut self.state, self.rollout.state().clone());
        self.follow_run(&before, now);
        self.waiting_since = self.rollout.waiting().map(|_| self.waiting_since.unwrap_or(now));
        let wanted = self.wanted();
        let stories: Vec<Story> =
            decision.events.iter().map(|event| self.story(*event, &decision, wanted.share, by, now)).collect();
        let hooks = story::hooks(&self.file.pace);
        let is_told = |at: &usize| hooks.get(*at).is_some_and(|hook| hook.kind == HookKind::PostRollout);
        let post: Vec<usize> = decision.asked.iter().copied().filter(is_told).collect();
        let outcome = Outcome { entries: decision.entries, stories, post };
        if is_raise(&self.published, &wanted) {
            self.raise(wanted, before, outcome, now, acts);
        } else {
            self.lower(wanted, outcome, now, acts);
        }
    }

    fn raise(&mut self, routing: Routing, before: State, outcome: Outcome, now: u64, acts: &mut Vec<Act>) {
        let Outcome { entries, stories, post } = outcome;
        self.write(entries, acts);
        let ticket = self.ticket;
        match &mut self.pending {
            Some(pending) => {
                pending.stories.extend(stories);
                pending.post.extend(post);
                // where what waits already says the same, any later answer lets it pass
                if pending.routing != routing {
                    (pending.ticket, pending.routing) = (ticket, routing);
                }
            }
            None => {
                let replies = Vec::new();
                self.pending = Some(Pending { ticket, since_ms: now, before, routing, stories, post, replies });
            }
        }
    }

    fn lower(&mut self, routing: Routing, outcome: Outcome, now: u64, acts: &mut Vec<Act>) {
        let Outcome { entries, stories, post } = outcome;
        if routing != self.published {
            self.publish(routing, now, acts);
        }
        self.write(entries, acts);
        if let Some(overtaken) = self.pending.take() {
            // a raise that never came into force is no part of the story
            acts.extend(overtaken.stories.into_iter().filter(|story| !raises(story.event)).map(Act::Tell));
            let failure = || CommandFailure::NotDurable("it was overtaken before the journal had it".into());
            acts.extend(overtaken.replies.into_iter().map(|reply| Act::Answer(reply, Err(failure()))));
        }
        acts.extend(stories.into_iter().map(Act::Tell));
        acts.extend(post.into_iter().map(Act::TellHook));
    }

    fn publish(&mut self, routing: Routing, now: u64, acts: &mut Vec<Act>) {
        if routing.share != self.published.share || routing.arms != self.published.arms {
            self.step_started_ms = now;
        }
        let needs_structure = self.linked.as_ref().is_some_and(|arms| *arms != routing.arms);
        self.published = routing.clone();
        self.stale = true;
        acts.push(Act::Publish(routing));
        if needs_structure {
            acts.push(Act::Assemble);
        }
    }

    /// What the state asks for, as far as this process may move anything.
    fn wanted(&self) -> Routing {
        let rollout = &self.rollout;
        wanted::routing(&self.file, rollout.state(), rollout.rolled_back(), Some(&self.published))
    }

    /// What the state asks for although nothing was decided: the file names other things than before.
    fn reconcile(&mut self, now: u64, acts: &mut Vec<Act>) {
        let wanted = self.wanted();
        if wanted == self.published {
            return;
        }
        if !is_raise(&self.published, &wanted) {
            self.publish(wanted, now, acts);
        } else if self.pending.is_none() && self.durability == Durability::Good {
            let entries = vec![self.rollout.checkpoint(TimestampMs(now))];
            let outcome = Outcome { entries, stories: Vec::new(), post: Vec::new() };
            self.raise(wanted, self.state.clone(), outcome, now, acts);
        }
    }

    /// A new run has counts of its own; a new step has ages of its own.
    fn follow_run(&mut self, before: &State, now: u64) {
        let state = &self.state;
        let active = state.phase.is_active();
        if active && (!before.phase.is_active() || state.applied != before.applied) {
            self.run_started_ms = Some(now);
            self.step_started_ms = now;
            self.fresh = false;
            if let Some(evidence) = &self.evidence {
                self.counts.begin_run(evidence, now);
            }
        } else if !active && !state.phase.is_end() {
            self.run_started_ms = None;
        }
        if let Some(evidence) = &self.evidence {
            let moved = active && state.weight != before.weight;
            if moved && state.weight > Ppm::ZERO {
                evidence.set_slow(self.counts.slow_ages(state.weight));
                self.slow_told = self.counts.slow_shares();
            } else if !active || state.weight == Ppm::ZERO {
                evidence.set_slow(None);
                self.slow_told = None;
            }
        }
    }

    fn story(&self, event: Event, decision: &Decision, share: Ppm, by: Option<(&str, &str)>, now: u64) -> Story {
        let journal = match &self.durability {
            Durability::Failing(why) => Some(why.as_str()),
            Durability::Good => None,
        };
        let mut text = self.rollout.describe(event, &self.name, decision);
        text.push_str(&story::because(event, &self.file.pace, self.round.refusals(), journal));
        Story {
            at_ms: now,
            event: Some(event),
            code: event.code(),
            text,
            kind: story::kind(event),
            share,
            score: self.rollout.standing().score,
            by: by.map(|(who, why)| (who.to_owned(), why.to_owned())),
        }
    }

    /// Something that no state machine knows of.
    fn note(&self, code: &'static str, text: String, kind: &'static str, now: u64) -> Act {
        let score = self.rollout.standing().score;
        Act::Tell(Story { at_ms: now, event: None, code, text, kind, share: self.published.share, score, by: None })
    }

    /// The split of the structure in force, or that it has none.
    pub(crate) fn link(&mut self, split: Option<(&Arms, &Arc<SplitEvidence>)>, now: u64, acts: &mut Vec<Act>) {
        let Some((arms, evidence)) = split else {
            (self.linked, self.evidence) = (None, None);
            return;
        };
        if self.evidence.as_ref().is_none_or(|before| before.id() != evidence.id()) {
            self.evidence = Some(Arc::clone(evidence));
            self.slow_told = None;
            let known = self.linked.as_ref().and_then(|before| match &arms.primary {
                primary if *primary == before.primary => Some(Arm::Primary),
                primary if *primary == before.canary => Some(Arm::Canary),
                _ => None,
            });
            self.counts.rearm(known);
            let counted = self.linked.is_some() && path_of_applied(&self.state).as_ref() == Some(&self.file.canary);
            if counted && self.is_active() {
                self.begin_anew(now, acts); // its counts were the other's
            }
        }
        self.linked = Some(arms.clone());
        if *arms != self.published.arms && self.published.arms == self.wanted().arms {
            acts.push(Act::Assemble);
        }
    }

    /// A run under way begins again from nothing.
    fn begin_anew(&mut self, now: u64, acts: &mut Vec<Act>) {
        self.seen = None;
        let traffic = self.evidence.as_ref().map(|evidence| evidence.traffic()).unwrap_or_default();
        let decision = self.rollout.begin_anew(&traffic, TimestampMs(now));
        self.settle(decision, None, now, acts);
    }

    /// The name that an arm of what is published leads to: canary, primary.
    pub(crate) fn arm_paths(&self) -> [&Path; 2] {
        [&self.file.canary, &self.published.arms.primary]
    }
}

/// The name of what runs, or ran last.
fn path_of_applied(state: &State) -> Option<Path> {
    state.applied.as_ref().and_then(wanted::path_of)
}

/// Does this event say that the canary gets more?
fn raises(event: Option<Event>) -> bool {
    matches!(
        event,
        Some(
            Event::Advance
                | Event::Promoting
                | Event::PromotionStep
                | Event::Skipped
                | Event::Start
                | Event::Succeeded
                | Event::Switch
                | Event::Undone
                | Event::WeightSet
        )
    )
}

/// Says whether a command is only for a rollout that is judged here.
pub(crate) fn is_for_followers(command: &Command) -> bool {
    matches!(command, Command::Abort | Command::Promote | Command::SetWeight(_))
}

#[cfg(test)]
mod tests;
