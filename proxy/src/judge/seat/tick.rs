//! What happens once an interval.

use serin_config::model::{Judge as Mode, MetricSource as Source};
use serin_rollout::{Answer, Command, Event, HookKind, Phase, Readiness, Reading, Revision, Tick, TimestampMs};

use super::{Act, Seat};
use crate::judge::readiness::Presence;
use crate::judge::rounds;
use crate::judge::story;
use crate::judge::wanted::revision_of;

/// The next round where an arm's name was not resolved yet at this one.
const UNKNOWN_MS: u64 = 250;

impl Seat {
    /// When the interval has something to do; `None`: nobody judges here, or a raise is on its way.
    pub(crate) fn next_tick(&self) -> Option<u64> {
        (self.file.judge != Mode::Off && self.pending.is_none()).then(|| self.round.next())
    }

    /// Is there something to do for the interval?
    pub(crate) fn is_tick_due(&self, now: u64) -> bool {
        self.next_tick().is_some() && (self.round.is_due(now) || self.round.is_complete(now))
    }

    /// Begins a round, or ends it with the tick. `presence`: of the canary and the primary.
    pub(crate) fn interval(&mut self, presence: [Presence; 2], now: u64, acts: &mut Vec<Act>) {
        let step = self.rollout.step_started();
        if self.round.is_due(now) || (self.round.is_complete(now) && self.round.is_outdated(step)) {
            let questions = rounds::questions(&self.file, &self.rollout);
            self.round.begin(&self.file, &questions, step, now);
            let number = self.round.number();
            acts.extend(questions.hooks.into_iter().map(|at| Act::AskHook(at, number)));
            acts.extend(questions.metrics.into_iter().map(|at| Act::AskMetric(at, number)));
        }
        if self.round.is_complete(now) {
            self.tick(presence, now, acts);
            self.reconcile(now, acts);
            let interval_ms = story::interval_ms(&self.file.pace);
            // who is only not known yet is asked again when that is over: after moments, not after an interval
            let unknown = presence.contains(&Presence::Unknown);
            self.round.end(if unknown { interval_ms.min(UNKNOWN_MS) } else { interval_ms }, now);
        }
    }

    /// A hook answered: at a tick it counts; after an end it is only told.
    pub(crate) fn hook_answered(
        &mut self,
        round: u64,
        index: usize,
        answer: Answer,
        why: &str,
        now: u64,
        acts: &mut Vec<Act>,
    ) {
        let Some(hook) = story::hooks(&self.file.pace).get(index) else { return };
        let (name, kind) = (hook.name.clone(), hook.kind);
        if kind == HookKind::PostRollout {
            if answer == Answer::Refused {
                let text = format!("Post-rollout check {name} of {} failed {why}", self.name);
                acts.push(self.note(Event::PostRolloutError.code(), text, "Warning", now));
            }
            return;
        }
        self.round.hook(round, index, &name, answer, why);
    }

    /// A metric provider answered.
    pub(crate) fn metric_answered(&mut self, round: u64, index: usize, reading: Reading, why: &str) {
        let Some(metric) = story::metrics(&self.file.pace).get(index) else { return };
        let name = metric.name.clone();
        self.round.metric(round, index, &name, reading, why);
    }

    fn tick(&mut self, presence: [Presence; 2], now: u64, acts: &mut Vec<Act>) {
        // what the workers counted until now belongs to what ran until now
        self.refresh(now, acts);
        if self.pending.is_some() {
            return;
        }
        self.measure(now);
        if self.fresh && self.serve_canary(presence, now, acts) {
            return;
        }
        let deadline = u64::try_from(self.file.progress_deadline.as_millis()).unwrap_or(u64::MAX);
        let mut ready = [Readiness::Ready; 2];
        for (at, slot) in ready.iter_mut().enumerate() {
            *slot = self.waiting[at].readiness(presence[at], deadline, now);
        }
        let [canary, primary] = ready;
        let (target, origin) = (self.file.revision.clone(), self.origin());
        let tick = Tick {
            target: &target,
            origin: &origin,
            canary,
            primary,
            answers: self.round.answers(),
            readings: self.round.readings(),
            skip_analysis: self.file.skip_analysis,
            suspended: self.file.suspend,
        };
        let decision = self.rollout.tick(&tick, TimestampMs(now));
        self.settle(decision, None, now, acts);
    }

    /// Looks without waiting for the time of a look, also where nothing is under way: totals go on growing there.
    pub(super) fn refresh(&mut self, now: u64, acts: &mut Vec<Act>) {
        self.look(now, acts);
    }

    /// What the file calls primary, as a revision.
    pub(super) fn origin(&self) -> Revision {
        // a printed path is a revision: at most 253 octets of it would not be, and the compiler refuses such
        revision_of(&self.file.primary).unwrap_or_else(|| self.file.revision.clone())
    }

    fn measure(&mut self, now: u64) {
        let Some(evidence) = self.evidence.clone() else { return };
        let metrics = story::metrics(&self.file.pace).iter().zip(&self.file.metrics).enumerate();
        for (at, (metric, source)) in metrics {
            if let Source::Own { window } = source {
                let reading = self.counts.reading(metric.source, *window, &evidence, now);
                self.round.measured(at, reading);
            }
        }
    }

    /// A volume without any state, a primary that is not there and a canary that is: the canary was promoted before the
    /// state was lost, or there never was another one. It serves.
    fn serve_canary(&mut self, presence: [Presence; 2], now: u64, acts: &mut Vec<Act>) -> bool {
        if presence != [Presence::Some, Presence::None] || self.file.judge != Mode::Here {
            // once the primary was there, its absence means something else
            self.fresh &= presence[1] != Presence::Some && self.rollout.state().phase == Phase::Initialized;
            return false;
        }
        self.fresh = false;
        let by = ("serin", "no state, the primary has no endpoint, the canary has");
        let start = Command::Start(self.file.revision.clone());
        let Ok(mut decision) = self.rollout.command(&start, by.0, by.1, TimestampMs(now)) else { return false };
        let (target, origin) = (self.file.revision.clone(), self.origin());
        let ready = Readiness::Ready;
        let tick = Tick {
            target: &target,
            origin: &origin,
            canary: ready,
            primary: ready,
            answers: &[],
            readings: &[],
            skip_analysis: true,
            suspended: false,
        };
        let promoted = self.rollout.tick(&tick, TimestampMs(now));
        decision.events = promoted.events;
        decision.asked = promoted.asked;
        decision.entries.extend(promoted.entries);
        for entry in &mut decision.entries {
            entry.by = Some((by.0.to_owned(), by.1.to_owned()));
        }
        self.settle(decision, Some(by), now, acts);
        let text = format!(
            "Warning {} has no state and its primary {} has no endpoint: {} serves",
            self.name, self.file.primary, self.file.canary
        );
        acts.push(self.note("primary-missing", text, "Warning", now));
        true
    }
}
