//! What leaves the process: questions to hooks and providers, alerts, events. Nothing is waited for.

use std::sync::Arc;

use serin_config::model::{self, Config};
use serin_metrics::RolloutOutcome;
use serin_rollout::event::{Gate, Severity};
use serin_rollout::{Answer, Event, Hook, HookKind, Pace, Reading};

use super::Court;
use crate::judge::seat::{Seat, Story};
use crate::judge::story;
use crate::judge::view::Told;
use crate::outside::{AlertMessage, Answered, EventPayload, HookPayload, Job, Query, Ticket, checksum};

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
    pub(super) fn ask_metric(&mut self, name: &Arc<str>, index: usize, round: u64) {
        let (Some(seat), Some(config)) = (self.seats.get(name), &self.config) else { return };
        let why = match Query::of(config, &seat.file, index) {
            None => "there is no such metric".to_owned(),
            Some(Err(error)) => error.to_string(),
            Some(Ok(query)) => {
                let ticket = Ticket { rollout: Arc::clone(name), round, index };
                let job = Job::Metric { ticket, source: Arc::new(query) };
                if self.outside.as_ref().is_some_and(|outside| outside.submit(job)) {
                    return;
                }
                "there was no room to ask".to_owned()
            }
        };
        self.metric_answered(name, round, index, Reading::ProviderError, &why);
    }

    /// Tells a hook that the run is over. One that is lost is counted there.
    pub(super) fn tell_hook(&mut self, name: &Arc<str>, index: usize) {
        let Some(seat) = self.seats.get(name) else { return };
        if let (Some(outside), Some(job)) = (&self.outside, hook_job(name, seat, index, 0)) {
            let _counted = outside.submit(job);
        }
    }

    /// Tells alerts, event hooks and counters.
    pub(super) fn spread(&mut self, name: &Arc<str>, story: &Story, told: &Arc<Told>) {
        let Some(seat) = self.seats.get(name) else { return };
        if let Some((outcome, skipped)) = story.event.and_then(outcome) {
            let seconds = seat.run_ended_seconds(story.at_ms);
            let strategy = strategy_word(&seat.file);
            self.doors.metrics.rollouts().ended(name, &seat.file.router, outcome, strategy, skipped, seconds);
        }
        let (Some(outside), Some(config)) = (&self.outside, &self.config) else { return };
        for job in event_jobs(seat, told).into_iter().chain(alert_jobs(config, seat, story, told)) {
            // one that is lost is counted there
            let _counted = outside.submit(job);
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

/// Hooks that are told of every event.
fn event_jobs(seat: &Seat, told: &Told) -> Vec<Job> {
    let hooks = story::hooks(&seat.file.pace).iter().zip(&seat.file.hooks);
    let hooks = hooks.filter(|(hook, _)| hook.kind == HookKind::Event);
    let job = |(_, address): (_, &model::Webhook)| Job::Event {
        hook: Arc::new(address.clone()),
        payload: EventPayload {
            hook: payload(seat),
            message: told.text.clone(),
            kind: told.kind.clone(),
            timestamp_ms: told.at_ms,
        },
    };
    hooks.map(job).collect()
}

/// Alerts of an event that a person should hear of, unless the hook it is about is mute.
fn alert_jobs(config: &Config, seat: &Seat, story: &Story, told: &Told) -> Vec<Job> {
    let severity = match story.event {
        Some(event) => event.severity(),
        None => (story.kind == "Warning").then_some(Severity::Warn),
    };
    let (Some(severity), false) = (severity, story.event.is_some_and(|event| is_mute(seat, event))) else {
        return Vec::new();
    };
    let message = AlertMessage {
        rollout: Arc::clone(&seat.name),
        namespace: seat.file.router.clone(),
        revision: seat.file.revision.to_string(),
        phase: seat.rollout.state().phase.flagger_name().to_owned(),
        code: told.code.clone(),
        text: told.text.clone(),
        severity,
        fields: AlertMessage::fields_of(&seat.file),
        weight_ppm: told.weight_ppm,
        run_started_ms: seat.run_started_ms.unwrap_or_default(),
        at_ms: told.at_ms,
    };
    let alerts = seat.file.alerts.iter();
    let jobs = alerts.filter_map(|alert| {
        let provider = Arc::new(config.alert_providers.get(alert.provider)?.clone());
        Some(Job::Alert { provider, least: alert.severity, alert: message.clone() })
    });
    jobs.collect()
}

/// A gate whose hooks are all marked `muteAlert`.
fn is_mute(seat: &Seat, event: Event) -> bool {
    let kind = match event {
        Event::Waiting(Gate::Rollout) => HookKind::ConfirmRollout,
        Event::Waiting(Gate::TrafficIncrease) => HookKind::ConfirmTrafficIncrease,
        Event::Waiting(Gate::Promotion) => HookKind::ConfirmPromotion,
        _ => return false,
    };
    let mut hooks = story::hooks(&seat.file.pace).iter().zip(&seat.file.hooks).filter(|(hook, _)| hook.kind == kind);
    hooks.all(|(_, address)| address.mute_alert)
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
