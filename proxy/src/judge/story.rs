//! PURE: events as sentences people read.

use serin_config::model;
use serin_rollout::event::{Cause, Gate, Halt, Hold, Severity};
use serin_rollout::{Event, HookKind, Metric, MetricSource, Pace, Ppm, Reading, State};

/// What a sentence may need to know.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    /// The rollout in the file.
    pub(crate) file: &'a model::Rollout,
    /// Its state after the event.
    pub(crate) state: &'a State,
    /// The canary's share that is meant.
    pub(crate) share: Ppm,
    /// The score against the canary.
    pub(crate) score: f64,
    /// What the metrics said at this tick, in their order.
    pub(crate) readings: &'a [Reading],
    /// What hooks and providers said that did not pass: name, words.
    pub(crate) refusals: &'a [(String, String)],
    /// Why the journal cannot be written, if it cannot.
    pub(crate) journal: Option<&'a str>,
}

impl Facts<'_> {
    /// The sentence of an event.
    pub(crate) fn sentence(&self, event: Event) -> String {
        let name = &self.file.name;
        let canary = self.file.revision.as_str();
        let weight = percent(self.share);
        match event {
            Event::Aborted => format!("Rolling back {name} aborted by hand"),
            Event::Advance => format!("Advance {name} canary weight {weight}"),
            Event::Cancelled => format!("Cancelled {name} the target is the promoted version again"),
            Event::CompatHazard => format!("Warning {name} follows the clock although one side is not ready"),
            Event::ConfirmSteps => format!("Halt {name} advancement waiting for approval of a higher step than before"),
            Event::Finalising => format!("Routing all traffic to the new version of {name}"),
            Event::ForcedIterations => format!("Warning {name} uses rounds because nothing shifts its traffic"),
            Event::Halt(halt) => self.halt(halt),
            Event::Hold(hold) => format!("Halt {name} advancement {}", self.hold(hold)),
            Event::Initialized => format!("Initialization done! {name}"),
            Event::Iteration => format!("Advance {name} canary iteration {}/{}", self.state.iterations, self.rounds()),
            Event::NewRevision => format!("New revision detected! Judging {canary} for {name}"),
            Event::Paused => format!("Paused {name} at canary weight {weight}; the guard stays on"),
            Event::PrimaryChanged => {
                format!("Routing all traffic of {name} to the primary that the file names now, {}", self.file.primary)
            }
            Event::Promoting => format!("Promoting {name} {canary}"),
            Event::PromotionFailed => {
                format!("Promotion failed {name} primary not ready; routing all traffic to canary")
            }
            Event::PromotionStep => format!("Advance {name} promotion weight {weight}"),
            Event::PostRolloutError => {
                format!("Post-rollout check of {name} failed{}", self.refused(HookKind::PostRollout))
            }
            Event::Released => format!("Released {name} advancement goes on"),
            Event::Restart => format!("New revision detected! Restarting analysis for {name} with {canary}"),
            Event::Resumed => format!("Resumed {name}"),
            Event::Rollback(cause) => format!("Rolling back {name} {}", self.cause(cause)),
            Event::Skipped => format!("Promotion completed! {name} serves {canary}; the analysis was skipped"),
            Event::Start => format!("Starting canary analysis for {name}"),
            Event::StillWaitingPromotion | Event::Waiting(Gate::Promotion) => {
                format!(
                    "Halt {name} advancement waiting for promotion approval{}",
                    self.refused(HookKind::ConfirmPromotion)
                )
            }
            Event::StuckNoStep => format!("Halt {name} advancement no step leads on from weight {weight}"),
            Event::StuckPromotion => format!("Halt {name} promotion the primary has all traffic already"),
            Event::Succeeded => format!("Promotion completed! {name} serves {canary}"),
            Event::Suspended => format!("Suspended {name}"),
            Event::Switch => format!("Routing all traffic to canary {name}"),
            Event::Undone => format!("Undone {name} canary weight {weight}"),
            Event::Waiting(Gate::Rollout) => {
                format!("Halt {name} advancement waiting for approval{}", self.refused(HookKind::ConfirmRollout))
            }
            Event::Waiting(Gate::TrafficIncrease) => format!(
                "Halt {name} advancement waiting for traffic increase approval{}",
                self.refused(HookKind::ConfirmTrafficIncrease)
            ),
            Event::WeightSet => format!("Set {name} canary weight {weight}"),
        }
    }

    fn halt(&self, halt: Halt) -> String {
        let name = &self.file.name;
        match halt {
            Halt::CanaryNotReady => format!("Halt {name} advancement canary {} has no endpoint", self.file.canary),
            Halt::PrimaryNotReady => format!("Halt {name} advancement primary has no endpoint"),
            Halt::PreRolloutHook => {
                format!("Halt {name} advancement pre-rollout check{}", self.refused(HookKind::PreRollout))
            }
            Halt::RolloutHook => format!("Halt {name} advancement external check{}", self.refused(HookKind::Rollout)),
            Halt::NoValues => format!("Halt {name} advancement no values found{}", self.silent(Reading::NoValues)),
            Halt::ProviderError => {
                format!("Halt {name} advancement a metric provider failed{}", self.silent(Reading::ProviderError))
            }
            Halt::NoTemplate => format!("Halt {name} advancement a metric has no template"),
            Halt::SuccessRate => self.beyond("success rate", "%", |source| source == MetricSource::SuccessRate),
            Halt::Duration => self.beyond("request duration", "ms", |source| source == MetricSource::Duration),
            Halt::Custom => {
                self.beyond("", "", |source| matches!(source, MetricSource::Query | MetricSource::Template))
            }
        }
    }

    /// `Halt world advancement success rate 69.12% < 99%`.
    fn beyond(&self, what: &str, unit: &str, of: impl Fn(MetricSource) -> bool) -> String {
        let name = &self.file.name;
        let metrics = metrics(&self.file.pace).iter().zip(self.readings).filter(|(metric, _)| of(metric.source));
        let mut failed = metrics.filter_map(|(metric, reading)| {
            let Reading::Value(value) = *reading else { return None };
            let (sign, limit) = broken(metric, value)?;
            let what = if what.is_empty() { metric.name.as_str() } else { what };
            Some(format!("{what} {}{unit} {sign} {}{unit}", short(value), short(limit)))
        });
        let why = failed.next().unwrap_or_else(|| format!("{what} check failed"));
        format!("Halt {name} advancement {}", why.trim())
    }

    /// Which metric said nothing, and the words of its provider.
    fn silent(&self, kind: Reading) -> String {
        let metrics = metrics(&self.file.pace);
        let missing = |at: usize| self.readings.get(at).copied().unwrap_or(Reading::NoValues) == kind;
        let Some(metric) = metrics.iter().enumerate().find(|(at, _)| missing(*at)).map(|(_, metric)| metric) else {
            return String::new();
        };
        let words = self.refusals.iter().find(|(name, _)| *name == metric.name);
        words.map_or_else(|| format!(" for metric {}", metric.name), |(name, why)| format!(" for metric {name}: {why}"))
    }

    /// Which hook of a kind did not pass, and its words.
    fn refused(&self, kind: HookKind) -> String {
        let hooks = hooks(&self.file.pace).iter().filter(|hook| hook.kind == kind);
        let mut said = hooks.filter_map(|hook| self.refusals.iter().find(|(name, _)| *name == hook.name));
        said.next().map_or_else(String::new, |(name, why)| format!(" {name} {why}").trim_end().to_owned())
    }

    fn hold(&self, hold: Hold) -> String {
        match hold {
            Hold::BothFailing => "both arms are failing".into(),
            Hold::Evidence => format!("evidence against the canary {}", short(self.score)),
            Hold::FailedCheck => "a check failed".into(),
            Hold::Insufficient => "not enough evidence within the step's time".into(),
            Hold::NoData => "a check could not be made".into(),
            Hold::PrimaryDown => "primary has no endpoint".into(),
            Hold::Storage => match self.journal {
                Some(why) => format!("the journal cannot be written: {why}"),
                None => "the journal is slow".into(),
            },
        }
    }

    fn cause(&self, cause: Cause) -> String {
        match cause {
            Cause::CanaryDown => "canary has no endpoint left".into(),
            Cause::Deadline => {
                format!("canary was not ready within {} s", self.file.progress_deadline.as_secs())
            }
            Cause::Evidence => {
                format!("evidence {} reached {}", short(self.score), short(sure(&self.file.pace).unwrap_or_default()))
            }
            Cause::Hook => format!("rollback hook{}", self.refused(HookKind::Rollback)),
            Cause::Insufficient => "not enough evidence within the step's time".into(),
            Cause::Primary => "primary was not ready in time".into(),
            Cause::Threshold => format!("failed checks threshold reached {}", checks_max(&self.file.pace)),
        }
    }

    fn rounds(&self) -> i32 {
        match &self.file.pace {
            Pace::Evidence(_) => 0,
            Pace::Interval(plan, _) => plan.iterations(),
        }
    }
}

/// `Warning` for what somebody should look at.
pub(crate) fn kind(event: Event) -> &'static str {
    let loud = event.severity() >= Some(Severity::Warn) || matches!(event, Event::Halt(_));
    if loud { "Warning" } else { "Normal" }
}

/// The metrics of either pace.
pub(crate) fn metrics(pace: &Pace) -> &[Metric] {
    match pace {
        Pace::Evidence(policy) => &policy.settings().metrics,
        Pace::Interval(plan, _) => plan.metrics(),
    }
}

/// The hooks of either pace.
pub(crate) fn hooks(pace: &Pace) -> &[serin_rollout::Hook] {
    match pace {
        Pace::Evidence(policy) => &policy.settings().hooks,
        Pace::Interval(plan, _) => plan.hooks(),
    }
}

/// Failed checks that roll back.
pub(crate) fn checks_max(pace: &Pace) -> u32 {
    match pace {
        Pace::Evidence(policy) => policy.settings().failed_checks_max,
        Pace::Interval(plan, _) => plan.failed_checks_max(),
    }
}

/// Between two ticks.
pub(crate) fn interval_ms(pace: &Pace) -> u64 {
    match pace {
        Pace::Evidence(policy) => policy.settings().interval_ms,
        Pace::Interval(plan, _) => plan.interval_ms(),
    }
}

/// The score that rolls back; `None`: the guard is off.
pub(crate) fn sure(pace: &Pace) -> Option<f64> {
    match pace {
        Pace::Evidence(policy) => Some(policy.settings().guard.sure()),
        Pace::Interval(_, guard) => guard.as_ref().map(serin_rollout::GuardPolicy::sure),
    }
}

/// Percent as people write it, without its sign.
pub(crate) fn percent(share: Ppm) -> String {
    share.to_string().trim_end_matches('%').to_owned()
}

/// Two decimals at most.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The limit that a value breaks, and which way.
fn broken(metric: &Metric, value: f64) -> Option<(char, f64)> {
    match metric.range {
        Some((Some(min), _)) if value < min => Some(('<', min)),
        Some((_, Some(max))) if value > max => Some(('>', max)),
        Some(_) => None,
        None if metric.source == MetricSource::SuccessRate => Some(('<', metric.threshold)),
        None => Some(('>', metric.threshold)),
    }
}
