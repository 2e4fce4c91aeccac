//! The rollout: one state, two paces, one guard.
//!
//! Nothing here waits, reads a clock or touches traffic. What comes in is an event record, a look at the totals, a tick
//! of the interval or a person's command; what comes out is a [`Decision`], which changes nothing until the caller acts
//! on it.

use crate::analysis::{Situation, Verdict, judge};
use crate::command::{Command, CommandError};
use crate::event::{Cause, Event, Gate, HaltDetail, Hold, Severity};
use crate::guard::{Capital, Guard, SlowShares, Standing, Traffic};
use crate::interval::{self, Tick};
use crate::journal::Entry;
use crate::plan::{Answer, HookKind, Plan};
use crate::policy::{GuardPolicy, Policy};
use crate::record::EventRecord;
use crate::state::{Phase, Revision, State};
use crate::{Ppm, TimestampMs};

/// How a rollout goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// As long at each step as the evidence needs.
    Evidence(Policy),
    /// By Flagger's clock and counters; the guard stands beside it unless it is off.
    Interval(Plan, Option<GuardPolicy>),
}

/// Which of the two: a state of one means nothing to the other while a canary is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PaceKind {
    /// [`Pace::Evidence`]
    #[default]
    Evidence,
    /// [`Pace::Interval`]
    Interval,
}

impl PaceKind {
    /// Its name, as in the file and in journals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PaceKind::Evidence => "evidence",
            PaceKind::Interval => "interval",
        }
    }
}

impl Pace {
    /// Which of the two.
    #[must_use]
    pub const fn kind(&self) -> PaceKind {
        match self {
            Pace::Evidence(_) => PaceKind::Evidence,
            Pace::Interval(..) => PaceKind::Interval,
        }
    }

    pub(crate) fn guard(&self) -> Option<&GuardPolicy> {
        match self {
            Pace::Evidence(policy) => Some(&policy.settings().guard),
            Pace::Interval(_, guard) => guard.as_ref(),
        }
    }
}

/// What the data plane knows at one moment.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    /// Totals and open requests of both arms.
    pub traffic: &'a Traffic,
    /// Whether the canary has an endpoint that is not ejected, by traffic this split drew. Once one of its endpoints is
    /// ejected, one that was tried since the rollout began and never answered does not count as being there: a canary
    /// of many endpoints that refuses everything is known at the first ejection, not at the last.
    pub canary_up: bool,
    /// Whether the primary has one.
    pub primary_up: bool,
    /// How many of the primary's requests are slow, where its history is long enough.
    pub slow: Option<SlowShares>,
}

/// What a rollout decided: nothing of it has happened yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What happened, in order.
    pub events: Vec<Event>,
    /// Hooks whose answers were looked at, as indices into the plan's list. Those of kind [`HookKind::PostRollout`] are
    /// to be told now: the rollout has ended.
    pub asked: Vec<usize>,
    /// The weight, where it changed: from, to.
    pub weight: Option<(Ppm, Ppm)>,
    /// What is to be routed to the canary, where that changed: from, to. See [`State::canary_share`].
    pub share: Option<(Ppm, Ppm)>,
    /// What exactly failed the check, where one of the events is [`Event::Halt`] for a metric or a hook.
    pub detail: Option<HaltDetail>,
    /// What the journal is to keep. A raise is durable before it is published, a fall published before it is durable.
    pub entries: Vec<Entry>,
}

impl Decision {
    /// The alerts to send: one for each event that a person should hear of.
    pub fn alerts(&self) -> impl Iterator<Item = Severity> + '_ {
        self.events.iter().filter_map(|event| event.severity())
    }

    /// Whether more traffic goes to the canary: then the journal comes first.
    #[must_use]
    pub fn is_raise(&self) -> bool {
        self.share.is_some_and(|(from, to)| to > from)
    }
}

/// A rollout.
#[derive(Clone, Debug)]
pub struct Rollout {
    pub(crate) pace: Pace,
    pub(crate) state: State,
    pub(crate) guard: Option<Guard>,
    pub(crate) held: Option<Hold>,
    pub(crate) paused: bool,
    /// Whether the last metric check lets the rollout go on.
    pub(crate) check: Option<Hold>,
    pub(crate) answers: Vec<Answer>,
    /// The weight changed since: what the hooks of a step said belongs to the step before.
    pub(crate) answers_stale: bool,
    pub(crate) waiting: Option<Gate>,
    /// Since when the weight is what it is, and how many canary requests there had been.
    pub(crate) step_at: TimestampMs,
    pub(crate) step_from: u64,
    /// Set by a changed plan: no higher without a person's word.
    pub(crate) ceiling: Option<Ppm>,
    pub(crate) traffic: Traffic,
    pub(crate) slow: Option<SlowShares>,
    /// Whether the guard has them in this step.
    pub(crate) slow_taken: Option<SlowShares>,
    pub(crate) standing: Standing,
    /// What should run, as the last tick said.
    pub(crate) desired: Option<Revision>,
    /// What an end ended, for undoing it.
    pub(crate) ended: Option<State>,
    pub(crate) sequence: u64,
    /// Since when this run goes on, as far as this process knows.
    pub(crate) run_at: Option<TimestampMs>,
    /// Whether the journal can be written, and whether it was told that it cannot.
    pub(crate) storage_ok: bool,
    pub(crate) storage_told: bool,
    /// Another pace took over: its next input begins the run again.
    pub(crate) refit: bool,
    /// Judge only; and not even that.
    pub(crate) dry: bool,
    pub(crate) off: bool,
}

impl Rollout {
    /// A rollout that stands at `state`.
    #[must_use]
    pub fn new(pace: Pace, state: State, now: TimestampMs) -> Rollout {
        let mut rollout = Rollout {
            pace,
            state,
            guard: None,
            held: None,
            paused: false,
            check: None,
            answers: Vec::new(),
            answers_stale: false,
            waiting: None,
            step_at: now,
            step_from: 0,
            ceiling: None,
            traffic: Traffic::default(),
            slow: None,
            slow_taken: None,
            standing: Standing::default(),
            desired: None,
            ended: None,
            sequence: 0,
            run_at: None,
            storage_ok: true,
            storage_told: false,
            refit: false,
            dry: false,
            off: false,
        };
        rollout.dry = rollout.is_dry();
        if rollout.state.phase.is_active() {
            rollout.arm_guard(now);
        }
        rollout
    }

    /// Takes one event of a request, or `times` equal ones without a key.
    pub fn observe(&mut self, record: EventRecord, times: u64) {
        if let Some(guard) = &mut self.guard {
            guard.observe(record, times);
        }
    }

    /// Looks at the totals and decides. To be called at most 10 ms after a canary event, and every 50 ms.
    pub fn look(&mut self, look: &Look<'_>, now: TimestampMs) -> Decision {
        self.traffic.clone_from(look.traffic);
        self.slow = look.slow;
        let decision = self.run(now, |rollout, told| {
            rollout.fit(now, told);
            rollout.take_slow(now);
            rollout.judge_now(look, now, told);
        });
        debug_assert!(self.storage_ok || !decision.is_raise(), "a look raised what could not be written down");
        decision
    }

    /// One tick of the interval: what is not known from the traffic.
    pub fn tick(&mut self, tick: &Tick<'_>, now: TimestampMs) -> Decision {
        self.desired = Some(tick.target.clone());
        let before = (!self.storage_ok).then(|| self.clone());
        let decision = self.run(now, |rollout, told| {
            let was_dry = rollout.is_dry();
            rollout.fit(now, told);
            // What was asked for this tick was asked of the run before.
            let fresh = told.events.contains(&Event::Restart) || (was_dry && !rollout.is_dry());
            if rollout.follow_origin(tick.origin, told) || rollout.off || fresh {
                return;
            }
            match rollout.pace.clone() {
                Pace::Evidence(policy) => rollout.evidence_tick(&policy, tick, now, told),
                Pace::Interval(plan, _) => rollout.interval_tick(&plan, tick, told),
            }
        });
        match before {
            // What cannot be written down does not happen; the next tick tries again.
            Some(before) if decision.is_raise() => {
                *self = before;
                Decision { asked: decision.asked, ..self.run(now, |_, _| {}) }
            }
            _ => decision,
        }
    }

    /// Does what a person asks, in any phase, and writes down who asked and why.
    ///
    /// # Errors
    /// [`CommandError`], if there is nothing it could mean now, or if it would raise the weight while the journal cannot
    /// be written; nothing has changed then.
    pub fn command(
        &mut self,
        command: &Command,
        who: &str,
        why: &str,
        now: TimestampMs,
    ) -> Result<Decision, CommandError> {
        let mut refused = None;
        let before = (!self.storage_ok).then(|| self.clone());
        let mut decision = self.run(now, |rollout, told| match rollout.obey(command, now) {
            Ok(event) => told.events.push(event),
            Err(error) => refused = Some(error),
        });
        if let Some(error) = refused {
            return Err(error);
        }
        if let Some(before) = before
            && decision.is_raise()
        {
            *self = before;
            return Err(CommandError::Storage);
        }
        for entry in &mut decision.entries {
            entry.by = Some((who.chars().take(WORDS_MAX).collect(), why.chars().take(WORDS_MAX).collect()));
        }
        Ok(decision)
    }

    /// Another plan for the same canary. The weight stays; the next step is the first of the new ones above it, and
    /// what lies above the old plan waits for [`Command::Resume`]. With another kind of pace the run begins again, from
    /// no weight at all, at the next look or tick.
    pub fn set_pace(&mut self, pace: Pace) {
        self.refit |= self.pace.kind() != pace.kind();
        if let (Pace::Evidence(old), Pace::Evidence(_)) = (&self.pace, &pace)
            && self.state.phase.is_active()
        {
            self.ceiling = Some(self.ceiling.unwrap_or(old.last_step()));
        }
        self.pace = pace;
    }

    /// What the router really does, where somebody else changed it. Pace `interval` believes it, as Flagger does.
    pub fn set_routing(&mut self, weight: Ppm, mirrored: bool) {
        if matches!(self.pace, Pace::Interval(..)) {
            self.state.route(weight, mirrored);
        }
    }

    /// Runs one input to its decision, and checks that what must hold holds.
    pub(crate) fn run(&mut self, now: TimestampMs, input: impl FnOnce(&mut Rollout, &mut interval::Told)) -> Decision {
        let before = self.state.clone();
        let was_paused = self.paused;
        let mut told = interval::Told::default();
        input(self, &mut told);
        if self.is_dry() && self.state.applied != before.applied {
            self.state.dry = Some(Ppm::ZERO); // what a person set was for another canary
        }
        self.follow_weight(&before, now);
        self.note_storage(&mut told);
        if self.state.phase.is_end() && !before.phase.is_end() {
            self.ended = Some(before.clone());
            self.tell_of_the_end(&mut told);
        }
        debug_assert!(
            self.state.weight <= before.weight || !told.events.is_empty(),
            "a weight rose and nobody was told why"
        );
        let changed = |from: Ppm, to: Ppm| (from != to).then_some((from, to));
        let weight = changed(before.weight, self.state.weight);
        let share = changed(before.canary_share(), self.state.canary_share());
        let noted = self.state != before || self.paused != was_paused;
        let entries = if noted || !told.events.is_empty() { vec![self.entry(&told.events, now)] } else { Vec::new() };
        Decision { events: told.events, asked: told.asked, weight, share, detail: told.detail, entries }
    }

    /// Hooks that are told of the end; Flagger's own clock has done so where it ended the run.
    fn tell_of_the_end(&self, told: &mut interval::Told) {
        let hooks = self.hooks().iter().enumerate();
        let post = hooks.filter(|(_, hook)| hook.kind == HookKind::PostRollout).map(|(at, _)| at);
        let post: Vec<usize> = post.collect();
        if !post.iter().any(|at| told.asked.contains(at)) {
            told.asked.extend(post);
        }
    }

    /// A run of the other pace begins again: its weight, its rounds and its counters mean something else there.
    pub(crate) fn fit_pace(&mut self, now: TimestampMs, told: &mut interval::Told) {
        if !std::mem::take(&mut self.refit) {
            return;
        }
        if let Some(ended) = self.ended.as_mut().filter(|ended| ended.phase.is_active()) {
            ended.start_over();
        }
        if self.state.phase.is_active() {
            self.begin_again(now, told);
        }
    }

    /// The primary's history became long enough in mid-step, or longer: the slow kinds begin with a block of their own.
    fn take_slow(&mut self, now: TimestampMs) {
        let share = self.state.canary_share();
        let is_news = match (self.slow_taken, self.slow) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(taken), Some(slow)) => taken.rough && !slow.rough,
        };
        if let Some(guard) = self.guard.as_mut().filter(|_| is_news && share > Ppm::ZERO) {
            self.slow_taken = self.slow;
            guard.step(share, self.slow, now);
        }
    }

    /// After a change of weight: a new step, a new block, a new start; for a new run a new guard.
    fn follow_weight(&mut self, before: &State, now: TimestampMs) {
        let runs = self.state.phase.is_active();
        let new_run = self.state.applied != before.applied || (runs && !before.phase.is_active());
        if new_run && runs {
            self.slow_taken = None;
            let check = self.check; // of the tick that began the run: what is not ready gets nothing
            self.arm_guard(now);
            self.check = check;
        } else if !runs {
            (self.guard, self.held, self.waiting, self.run_at) = (None, None, None, None);
        }
        let (was, share) = (before.canary_share(), self.state.canary_share());
        if share != was || self.state.weight != before.weight || new_run {
            self.step_at = now;
            self.step_from = self.traffic.canary.routed;
            self.answers_stale = true;
        } else if self.state.phase != before.phase && self.state.phase == Phase::Promoting {
            self.step_at = now;
        }
        if (share != was || new_run)
            && let Some(guard) = self.guard.as_mut().filter(|_| share > Ppm::ZERO)
        {
            self.slow_taken = self.slow;
            guard.step(share, self.slow, now);
        }
    }

    pub(crate) fn arm_guard(&mut self, now: TimestampMs) {
        let policy = self.pace.guard().cloned().filter(|_| !self.off);
        self.guard = policy.map(|policy| Guard::new(policy, self.traffic.clone(), now));
        self.standing = Standing::default();
        (self.held, self.check, self.waiting) = (None, None, None);
        self.step_at = now;
        self.run_at = Some(now);
    }

    pub(crate) fn entry(&mut self, events: &[Event], now: TimestampMs) -> Entry {
        self.sequence += 1;
        let capital = match &mut self.guard {
            Some(guard) => guard.capital(&self.traffic),
            // The figures that ended it.
            None if self.state.phase.is_end() => {
                let (requests, failures) = (self.standing.requests, self.standing.failures);
                Capital { requests, failures, ..Capital::default() }
            }
            None => Capital::default(),
        };
        Entry {
            sequence: self.sequence,
            at: now,
            state: self.state.clone(),
            pace: self.pace.kind(),
            paused: self.paused,
            held: self.held.or(self.check),
            ceiling: self.ceiling,
            ended: self.ended.clone(),
            events: events.to_vec(),
            score: self.standing.score,
            capital,
            by: None,
        }
    }

    fn interval_tick(&mut self, plan: &Plan, tick: &Tick<'_>, told: &mut interval::Told) {
        let frozen = self.is_frozen();
        *told = interval::tick(plan, &mut self.state, tick, frozen);
        let gate = Event::Waiting(Gate::TrafficIncrease);
        self.waiting = told.events.contains(&gate).then_some(Gate::TrafficIncrease);
    }

    fn judge_now(&mut self, look: &Look<'_>, now: TimestampMs, told: &mut interval::Told) {
        let Some(guard) = &mut self.guard else { return };
        self.standing = guard.look(look.traffic, now);
        let Some(policy) = self.pace.guard().cloned() else { return };
        let settings = if let Pace::Evidence(policy) = &self.pace { Some(policy.clone()) } else { None };
        let requests = look.traffic.canary.routed.saturating_sub(self.step_from);
        let promoting = self.state.phase == Phase::Promoting;
        let situation = Situation {
            canary_up: look.canary_up || self.state.canary_share() == Ppm::ZERO,
            primary_up: look.primary_up,
            held: self.held,
            dwell_over: settings
                .as_ref()
                .is_some_and(|policy| now.since(self.step_at) >= policy.settings().interval_ms),
            requests_enough: promoting
                || settings.as_ref().is_some_and(|policy| requests >= u64::from(policy.settings().requests_min)),
        };
        let verdict = judge(&policy, &self.standing, &situation);
        if let Some(policy) = settings {
            self.act(&policy, verdict, now, told);
        } else if let Verdict::Fail(cause) = verdict {
            self.roll_back(cause, told);
        } else {
            self.note_hold(verdict, told);
        }
    }

    pub(crate) fn roll_back(&mut self, cause: Cause, told: &mut interval::Told) {
        self.state.route(Ppm::ZERO, false);
        self.state.end(Phase::RolledBack);
        self.state.serving.clone_from(&self.state.promoted);
        told.events.push(Event::Rollback(cause));
    }

    pub(crate) fn gate_open(&self, hooks: &[crate::Hook], kind: HookKind) -> Answer {
        let answers = hooks.iter().enumerate().filter(|(_, hook)| hook.kind == kind);
        let stale = self.answers_stale && kind != HookKind::ConfirmRollout;
        let mut all = Answer::Passed;
        for (at, _) in answers {
            match self.answers.get(at).copied().unwrap_or_default() {
                _ if stale => return Answer::Pending,
                Answer::Refused => return Answer::Refused,
                Answer::Pending => all = Answer::Pending,
                Answer::Passed => {}
            }
        }
        all
    }

    pub(crate) fn restart(&mut self, target: &Revision, now: TimestampMs) {
        self.state.route(Ppm::ZERO, false);
        self.state.begin(target);
        self.ceiling = None;
        self.arm_guard(now);
    }
}

mod modes;
mod recovery;
mod shown;
mod wanted;

/// The longest name and reason kept of a command, in characters.
pub const WORDS_MAX: usize = 200;

#[cfg(test)]
mod tests;
