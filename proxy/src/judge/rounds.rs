//! What is asked outside before a tick: hooks and metrics. The tick runs when all have answered, or their time is over.

use serin_config::model::{self, MetricSource as Source};
use serin_rollout::{Answer, HookKind, Reading, Rollout, TimestampMs};

use super::story;

/// Time beyond its own that a hook or a provider gets before it counts as silent.
const GRACE_MS: u64 = 1_000;
/// Time that metrics get in all.
const METRICS_MS: u64 = 15_000;
/// No round takes longer, whatever the timeouts of its hooks add up to.
const ROUND_MS_MAX: u64 = 3_600_000;
/// Between two tries of a hook, at most: it waits longer after each.
const BACKOFF_MS_MAX: u64 = 30_000;

/// One round, or the time between two.
#[derive(Debug, Default)]
pub(crate) struct Round {
    number: u64,
    /// Since when it is under way, and how long it may last.
    until: Option<u64>,
    answers: Vec<Answer>,
    readings: Vec<Reading>,
    hooks_open: Vec<usize>,
    metrics_open: Vec<usize>,
    refusals: Vec<(String, String)>,
    /// When the next one begins.
    next_at: u64,
    /// The step that was asked for.
    step: TimestampMs,
    asked_hooks: bool,
}

/// What a round asks outside.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    pub(crate) hooks: Vec<usize>,
    pub(crate) metrics: Vec<usize>,
}

impl Round {
    /// The next round begins at once.
    pub(crate) fn hurry(&mut self, now: u64) {
        self.next_at = self.next_at.min(now);
    }

    /// Its number: answers to others are of no use any more.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// What the hooks said, in the plan's order.
    pub(crate) fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// What the metrics said, in the plan's order.
    pub(crate) fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// Names and words of what did not pass.
    pub(crate) fn refusals(&self) -> &[(String, String)] {
        &self.refusals
    }

    /// When there is something to do.
    pub(crate) fn next(&self) -> u64 {
        self.until.unwrap_or(self.next_at)
    }

    /// Has all that was asked answered, or is its time over?
    pub(crate) fn is_complete(&self, now: u64) -> bool {
        self.until.is_some_and(|until| now >= until || (self.hooks_open.is_empty() && self.metrics_open.is_empty()))
    }

    /// Is it time to begin one?
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.until.is_none() && now >= self.next_at
    }

    /// Begins: what is not asked counts as it would by itself.
    pub(crate) fn begin(&mut self, file: &model::Rollout, questions: &Questions, step: TimestampMs, now: u64) {
        (self.step, self.asked_hooks) = (step, !questions.hooks.is_empty());
        self.number += 1;
        let kinds = story::hooks(&file.pace).iter().map(|hook| hook.kind);
        // these are told and not asked: nothing waits for them
        let told = |kind| matches!(kind, HookKind::Event | HookKind::PostRollout);
        self.answers = kinds.map(|kind| if told(kind) { Answer::Passed } else { Answer::Pending }).collect();
        self.readings = vec![Reading::NoValues; story::metrics(&file.pace).len()];
        self.refusals.clear();
        self.hooks_open.clone_from(&questions.hooks);
        self.metrics_open.clone_from(&questions.metrics);
        let hooks = questions.hooks.iter().filter_map(|at| file.hooks.get(*at)).map(patience_ms);
        let patience = hooks.chain((!questions.metrics.is_empty()).then_some(METRICS_MS)).max().unwrap_or(0);
        self.until = Some(now + patience.saturating_add(GRACE_MS).min(ROUND_MS_MAX));
    }

    /// Answers of hooks hold for one step: was another one begun while they were on their way?
    pub(crate) fn is_outdated(&self, step: TimestampMs) -> bool {
        self.until.is_some() && self.asked_hooks && self.step != step
    }

    /// Ends: the next one begins an interval after this one did, or at once if that is behind us.
    pub(crate) fn end(&mut self, interval_ms: u64, now: u64) {
        self.until = None;
        let next = self.next_at.saturating_add(interval_ms);
        self.next_at = if next > now { next } else { now + interval_ms };
        self.hooks_open.clear();
        self.metrics_open.clear();
    }

    /// A hook answered. `false`: nobody waits for it.
    pub(crate) fn hook(&mut self, round: u64, index: usize, name: &str, answer: Answer, why: &str) -> bool {
        if round != self.number || !take(&mut self.hooks_open, index) {
            return false;
        }
        if let Some(slot) = self.answers.get_mut(index) {
            *slot = answer;
        }
        if answer != Answer::Passed {
            self.refusals.push((name.to_owned(), why.to_owned()));
        }
        true
    }

    /// A provider answered. `false`: nobody waits for it.
    pub(crate) fn metric(&mut self, round: u64, index: usize, name: &str, reading: Reading, why: &str) -> bool {
        if round != self.number || !take(&mut self.metrics_open, index) {
            return false;
        }
        self.measured(index, reading);
        if !matches!(reading, Reading::Value(_)) {
            self.refusals.push((name.to_owned(), why.to_owned()));
        }
        true
    }

    /// One of our own metrics.
    pub(crate) fn measured(&mut self, index: usize, reading: Reading) {
        if let Some(slot) = self.readings.get_mut(index) {
            *slot = reading;
        }
    }
}

/// What the next tick may consult. A hook is an act of somebody else's: none is asked that cannot matter now.
pub(crate) fn questions(file: &model::Rollout, rollout: &Rollout) -> Questions {
    let outside = file.metrics.iter().enumerate().filter(|(_, source)| !matches!(source, Source::Own { .. }));
    Questions {
        hooks: rollout.wanted_hooks(&file.revision),
        metrics: if rollout.wants_readings() { outside.map(|(at, _)| at).collect() } else { Vec::new() },
    }
}

/// How long a hook may take with all of its tries.
fn patience_ms(hook: &model::Webhook) -> u64 {
    let timeout = u64::try_from(hook.timeout.as_millis()).unwrap_or(u64::MAX);
    let retries = u64::from(hook.retries);
    timeout.saturating_mul(retries + 1).saturating_add(retries * BACKOFF_MS_MAX)
}

fn take(list: &mut Vec<usize>, index: usize) -> bool {
    let at = list.iter().position(|one| *one == index);
    at.map(|at| list.swap_remove(at)).is_some()
}
