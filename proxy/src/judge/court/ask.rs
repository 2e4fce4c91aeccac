//! What leaves the process: questions to hooks and providers, alerts, events. Nothing is waited for.

use std::sync::Arc;

use serin_config::model;
use serin_metrics::RolloutOutcome;
use serin_rollout::{Answer, Event, Hook, HookKind, Pace, Reading};

use super::Court;
use crate::judge::seat::{Seat, Story};
use crate::judge::story;
use crate::judge::view::Told;
use crate::outside::{Answered, EventPayload, HookPayload, Job, Ticket, checksum};

impl Court {
    /// Asks a hook of a round. Where it cannot be asked nobody waits for it, and what needs it holds.
    pub(super) fn ask_hook(&mut self, name: &Arc<str>, index: usize, round: u64, now: u64) {
        let Some(seat) = self.seats.get(name) else { return };
        let submitted = hook_job(name, seat, index, round)
            .is_some_and(|job| self.outside.as_ref().is_some_and(|outside| outside.submit(job)));
        if !submitted {
            self.hook_answered(name, round, index, Answer::Pending, "there was no room to ask", now);
        }
    }

    /// Takes what came back from outside.
    pub(super) fn answered(&mut self, answered: Answered, now: u64) {
        match answered {
            Answered::Hook { ticket, answer, why, took_ms } => {
                if let Some(hook) = self.seats.get(&ticket.rollout).and_then(|seat| hook_of(seat, ticket.index)) {
                    let result = match answer {
                        Answer::Passed => "passed",
                        Answer::Refused => "refused",
                        Answer::Pending => "failed",
                    };
                    self.doors.metrics.rollouts().hook(&ticket.rollout, &hook.name, result, took_ms as f64 / 1000.0);
                }
                self.hook_answered(&ticket.rollout, ticket.round, ticket.index, answer, &why, now);
            }
            Answered::Metric { ticket, reading, why, .. } => {
                self.metric_answered(&ticket.rollout, ticket.round, ticket.index, reading, &why);
            }
        }
    }

    /// Asks a provider for a metric of a round.
    pub(super) fn ask_metric(&mut self, name: &Arc<str>, index: usize, round: u64, _now: u64) {
        self.metric_answered(name, round, index, Reading::ProviderError, "there was no room to ask");
    }

    /// Tells alerts, event hooks and counters, and after an end the hooks that are told of it.
    pub(super) fn spread(&mut self, name: &Arc<str>, story: &Story, told: &Arc<Told>) {
        let Some(seat) = self.seats.get(name) else { return };
        if let Some((outcome, skipped)) = story.event.and_then(outcome) {
            let seconds = seat.run_ended_seconds(story.at_ms);
            let strategy = strategy_word(&seat.file);
            self.doors.metrics.rollouts().ended(name, &seat.file.router, outcome, strategy, skipped, seconds);
        }
        let Some(outside) = &self.outside else { return };
        let payload = EventPayload {
            hook: payload(seat),
            message: told.text.clone(),
            kind: told.kind.clone(),
            timestamp_ms: told.at_ms,
        };
        for (index, hook) in story::hooks(&seat.file.pace).iter().enumerate() {
            let Some(address) = seat.file.hooks.get(index) else { continue };
            if hook.kind == HookKind::Event {
                // one that is lost is counted there
                let _counted = outside.submit(Job::Event { hook: Arc::new(address.clone()), payload: payload.clone() });
            }
            if hook.kind == HookKind::PostRollout && story.event.and_then(outcome).is_some() {
                let _counted = hook_job(name, seat, index, 0).map(|job| outside.submit(job));
            }
        }
    }

    fn hook_answered(&mut self, name: &Arc<str>, round: u64, index: usize, answer: Answer, why: &str, now: u64) {
        let mut acts = Vec::new();
        if let Some(seat) = self.seats.get_mut(name) {
            seat.hook_answered(round, index, answer, why, now, &mut acts);
        }
        self.perform(name, acts, now);
    }

    fn metric_answered(&mut self, name: &Arc<str>, round: u64, index: usize, reading: Reading, why: &str) {
        if let Some(seat) = self.seats.get_mut(name) {
            seat.metric_answered(round, index, reading, why);
        }
    }
}

fn hook_of(seat: &Seat, index: usize) -> Option<&Hook> {
    story::hooks(&seat.file.pace).get(index)
}

fn hook_job(name: &Arc<str>, seat: &Seat, index: usize, round: u64) -> Option<Job> {
    let (hook, address) = (hook_of(seat, index)?, seat.file.hooks.get(index)?);
    Some(Job::Hook {
        ticket: Ticket { rollout: Arc::clone(name), round, index },
        hook: Arc::new(address.clone()),
        name: hook.name.clone(),
        kind: hook.kind,
        payload: payload(seat),
    })
}

fn payload(seat: &Seat) -> HookPayload {
    HookPayload {
        name: seat.file.name.clone(),
        namespace: seat.file.router.clone(),
        phase: seat.rollout.state().phase.flagger_name().to_owned(),
        checksum: checksum(seat.file.revision.as_str()),
    }
}

/// How a run ended, and whether without being judged; `None` for what is no end.
fn outcome(event: Event) -> Option<(RolloutOutcome, bool)> {
    match event {
        Event::Succeeded => Some((RolloutOutcome::Promoted, false)),
        Event::Skipped => Some((RolloutOutcome::Promoted, true)),
        Event::Aborted | Event::PromotionFailed | Event::Rollback(_) => Some((RolloutOutcome::RolledBack, false)),
        _ => None,
    }
}

/// Flagger's words for the strategies.
fn strategy_word(file: &model::Rollout) -> &'static str {
    match (&file.strategy, &file.pace) {
        (model::Strategy::Match(_), _) => "ab-testing",
        (_, Pace::Interval(plan, _)) if plan.steps().is_empty() => "blue-green",
        _ => "canary",
    }
}
