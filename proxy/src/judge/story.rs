//! PURE: what goes with a sentence of the story, and what both paces have.

use serin_rollout::event::{Gate, Halt, Hold, Severity};
use serin_rollout::{Event, Hook, HookKind, Metric, Pace};

/// The words of whoever said no, behind the sentence of an event: `refusals` are names of hooks and metrics with what
/// was said; `journal`: why it cannot be written.
pub(crate) fn because(event: Event, pace: &Pace, refusals: &[(String, String)], journal: Option<&str>) -> String {
    let of_hooks = |kind: HookKind| {
        let mut hooks = hooks(pace).iter().filter(|hook| hook.kind == kind);
        hooks.find_map(|hook| refusals.iter().find(|(name, _)| *name == hook.name))
    };
    let of_metrics = || refusals.iter().find(|(name, _)| metrics(pace).iter().any(|metric| metric.name == *name));
    let said = match event {
        Event::Hold(Hold::Storage) => return journal.map_or_else(String::new, |why| format!(", {why}")),
        Event::Halt(Halt::PreRolloutHook) => of_hooks(HookKind::PreRollout),
        Event::Halt(Halt::RolloutHook) => of_hooks(HookKind::Rollout),
        Event::Halt(Halt::NoValues | Halt::ProviderError) => of_metrics(),
        Event::Waiting(Gate::Rollout) => of_hooks(HookKind::ConfirmRollout),
        Event::Waiting(Gate::TrafficIncrease) => of_hooks(HookKind::ConfirmTrafficIncrease),
        Event::Waiting(Gate::Promotion) | Event::StillWaitingPromotion => of_hooks(HookKind::ConfirmPromotion),
        _ => None,
    };
    said.map_or_else(String::new, |(name, why)| format!(" ({name}: {why})"))
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
pub(crate) fn hooks(pace: &Pace) -> &[Hook] {
    match pace {
        Pace::Evidence(policy) => &policy.settings().hooks,
        Pace::Interval(plan, _) => plan.hooks(),
    }
}

/// Between two ticks.
pub(crate) fn interval_ms(pace: &Pace) -> u64 {
    match pace {
        Pace::Evidence(policy) => policy.settings().interval_ms,
        Pace::Interval(plan, _) => plan.interval_ms(),
    }
}
