//! From what is written to a legal [`Pace`]: which keys go together, and what each pace can do.

use std::time::Duration;

use serin_rollout::{Analysis, Hazard, OnInsufficient, Pace, Plan, PlanError, Policy, PolicyError, Ppm, Settings};

use crate::diagnostic::Diagnostic;
use crate::model::Strategy;
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units::{self, Wrong};

use super::analysis::{At, Block};
use super::guard;

/// `pace`, before anything else is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    Evidence,
    Interval,
}

impl Clock {
    /// `analysis.interval`: the least time at a step, or the time between two ticks.
    pub(super) fn interval(self, text: &str) -> Result<Duration, Wrong> {
        match self {
            Clock::Evidence => units::duration(text, 1_000, "10s"),
            Clock::Interval => units::duration(text, 10_000, "1m"),
        }
    }
}

/// Keys beside the block that only pace `evidence` obeys.
pub(super) struct Waiting {
    /// `Some(None)`: as long as it takes.
    step_deadline: At<Option<Duration>>,
    on_insufficient: At<OnInsufficient>,
    requests_min: At<u32>,
}

pub(super) fn waiting(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Waiting {
    let at = |fields: &Fields<'_, '_>, key: &str| fields.get(key).map(|entry| entry.key_span);
    let span = at(fields, "stepDeadline");
    let deadline = |text: &str| match text {
        "off" => Ok(None),
        _ => units::duration(text, 1_000, "1h").map(Some).map_err(|wrong| {
            let allowed = format!("`off` or {}", wrong.allowed);
            Wrong { allowed: allowed.into(), ..wrong }
        }),
    };
    let step_deadline = fields.scalar(cx, "stepDeadline", deadline).zip(span);
    let span = at(fields, "onInsufficient");
    let words =
        [("hold", OnInsufficient::Hold), ("advance", OnInsufficient::Advance), ("rollback", OnInsufficient::Rollback)];
    let on_insufficient = fields.scalar(cx, "onInsufficient", |text| units::choice(text, &words)).zip(span);
    let span = at(fields, "minRequests");
    let requests = fields.scalar(cx, "minRequests", |text| units::whole(text, 0..=REQUESTS_MIN_MAX, "200"));
    let requests_min = requests.and_then(|requests| u32::try_from(requests).ok()).zip(span);
    Waiting { step_deadline, on_insufficient, requests_min }
}

/// Canary requests a step can be made to wait for.
const REQUESTS_MIN_MAX: u64 = 1_000_000_000;

/// As long at each step as the evidence needs. `None` after a mistake, which was told.
pub(super) fn evidence(cx: &Cx<'_>, block: &Block, waiting: &Waiting, guard: guard::Written) -> Option<Pace> {
    let errors_before = cx.errors();
    refuse_strategies(cx, block);
    if let Some(span) = guard.off {
        let message = "`pace: evidence` goes by the guard: it cannot be off";
        let off = Diagnostic::error("rollout/contradiction", span, message);
        cx.push(off.help("remove `guard: off`, or write `pace: interval`"));
    }
    let steps = steps(cx, block);
    let mut errors_found = Vec::new();
    let settings = guard.settings.clone().unwrap_or_default();
    let analysis = Analysis { metrics: block.metrics.clone(), hooks: block.hooks.clone(), ..Analysis::default() };
    let settings = Settings::from_analysis(&analysis, settings).map_err(|errors| errors_found = errors).ok();
    let settings = settings.map(|settings| {
        let interval_ms = ms(block.interval());
        let deadline = waiting
            .step_deadline
            .map_or_else(|| Some(STEP_DEADLINE_MS.max(interval_ms)), |(deadline, _)| deadline.map(ms));
        Settings {
            steps,
            interval_ms,
            failed_checks_max: block.threshold.map_or(FAILED_CHECKS_MAX, |(threshold, _)| threshold),
            requests_min: waiting.requests_min.map_or(settings.requests_min, |(requests, _)| requests),
            step_deadline_ms: deadline,
            on_insufficient: waiting.on_insufficient.map_or(settings.on_insufficient, |(word, _)| word),
            promotion_step: block.promotion_step.map(|(step, _)| step).filter(|step| *step > Ppm::ZERO),
            ..settings
        }
    });
    let policy = settings.and_then(|settings| Policy::new(settings).map_err(|errors| errors_found = errors).ok());
    let said = block.refused || cx.errors() > errors_before;
    for error in errors_found {
        // Steps that were refused above are not there: that is no second mistake.
        if error == PolicyError::Steps && said {
            continue;
        }
        let span = place(error, block, waiting).or_else(|| guard.place(error)).unwrap_or(block.span);
        cx.push(Diagnostic::error("rollout/policy", span, error.to_string()).maybe_help(advice(error)));
    }
    policy.filter(|_| cx.errors() == errors_before).map(Pace::Evidence)
}

/// Flagger's own default is 1, which rolls back at the first doubt; by evidence the guard does that better.
const FAILED_CHECKS_MAX: u32 = 5;
const STEP_DEADLINE_MS: u64 = 3_600_000;

/// What has no shares to go through.
fn refuse_strategies(cx: &Cx<'_>, block: &Block) {
    let iterations = block.iterations.map(|(_, span)| span);
    let found = [
        (iterations, "`iterations` counts ticks"),
        (block.matches, "`match` splits by rules, and nothing is drawn"),
        (block.mirror, "`mirror` judges copies"),
    ];
    for (span, why) in found.into_iter().filter_map(|(span, why)| Some((span?, why))) {
        let message = format!("{why}: `pace: evidence` has shares to go through");
        let wrong = Diagnostic::error("rollout/pace", span, message);
        cx.push(wrong.help("write `pace: interval`, or remove this and write `stepWeights`"));
    }
}

/// The steps below the whole; a whole at the end is the promotion itself.
fn steps(cx: &Cx<'_>, block: &Block) -> Vec<Ppm> {
    refuse_two_kinds_of_steps(cx, block);
    let mut steps = match (&block.step_weights, block.step_weight) {
        (Some((steps, _)), _) => {
            warn_of_maximum(cx, block);
            steps.clone()
        }
        (None, Some((step, span))) => linear(cx, block, step, span),
        (None, None) => {
            refuse_lone_maximum(cx, block);
            Settings::default().steps
        }
    };
    if steps.len() > 1 {
        steps.retain(|step| *step < Ppm::WHOLE);
    }
    steps
}

fn linear(cx: &Cx<'_>, block: &Block, step: Ppm, span: Span) -> Vec<Ppm> {
    let max = maximum(cx, block, step, span);
    let count = max.get().div_ceil(step.get().max(1));
    if count as usize > serin_rollout::PLAN_ENTRIES_MAX {
        let message = format!("{step} at a time makes {count} steps, {} are allowed", serin_rollout::PLAN_ENTRIES_MAX);
        let many = Diagnostic::error("rollout/steps", span, message);
        cx.push(many.help("write the steps themselves: `stepWeights: [1, 5, 10, 25, 50]`"));
        return Vec::new();
    }
    (1..=count).map(|at| Ppm::clamped((i64::from(at) * i64::from(step.get())).min(i64::from(max.get())))).collect()
}

fn maximum(cx: &Cx<'_>, block: &Block, step: Ppm, step_span: Span) -> Ppm {
    let Some((max, span)) = block.max_weight else { return Ppm::WHOLE };
    if max < step {
        let message = format!("`maxWeight` is {max}, and the first step is {step} already");
        let low = Diagnostic::error("rollout/steps", span, message);
        cx.push(low.related(step_span, "the step").help(format!("write `maxWeight: 50`, or a step of at most {max}")));
    }
    max.max(step)
}

fn refuse_two_kinds_of_steps(cx: &Cx<'_>, block: &Block) {
    if let (Some((_, span)), Some((_, earlier))) = (&block.step_weights, block.step_weight) {
        let message = "`stepWeight` and `stepWeights` contradict";
        let both = Diagnostic::error("rollout/contradiction", *span, message);
        cx.push(both.related(earlier, "the other one").help("keep one of the two"));
    }
}

fn warn_of_maximum(cx: &Cx<'_>, block: &Block) {
    if let Some((_, span)) = block.max_weight {
        let message = "`maxWeight` has no effect beside `stepWeights`: the last step is the maximum";
        cx.push(Diagnostic::warning("config/no-effect", span, message).help("remove the line"));
    }
}

fn refuse_lone_maximum(cx: &Cx<'_>, block: &Block) {
    if let Some((_, span)) = block.max_weight {
        let message = "`maxWeight` has no effect without `stepWeight`";
        cx.push(Diagnostic::error("rollout/no-effect", span, message).help("add `stepWeight: 10`, or remove it"));
    }
}

/// Flagger's clock and counters.
pub(super) fn interval(
    cx: &Cx<'_>,
    block: &Block,
    waiting: &Waiting,
    guard: &guard::Written,
    rollout: Span,
) -> Option<Pace> {
    let errors_before = cx.errors();
    refuse_waiting(cx, waiting);
    require(cx, block);
    refuse_two_kinds_of_steps(cx, block);
    check_rounds(cx, block);
    match (&block.step_weights, block.step_weight) {
        (Some(_), _) => warn_of_maximum(cx, block),
        (None, Some((step, span))) => {
            maximum(cx, block, step, span);
        }
        (None, None) => refuse_lone_maximum(cx, block),
    }
    let whole = |share: Ppm| i64::from(share.get() / PPM_PER_PERCENT);
    let analysis = Analysis {
        interval_ms: block.interval.map(|(interval, _)| ms(interval)),
        threshold: block.threshold.map(|(threshold, _)| i64::from(threshold)),
        step_weight: block.step_weight.map(|(step, _)| whole(step)),
        step_weights: block.step_weights.as_ref().map(|(steps, _)| steps.iter().copied().map(whole).collect()),
        max_weight: block.max_weight.filter(|_| block.step_weights.is_none()).map(|(max, _)| whole(max)),
        step_weight_promotion: block.promotion_step.map(|(step, _)| whole(step)),
        iterations: block.iterations.map(|(rounds, _)| i64::from(rounds)),
        matches: matches!(block.strategy, Strategy::Match(_)),
        mirror: matches!(block.strategy, Strategy::Mirror(_)),
        metrics: block.metrics.clone(),
        hooks: block.hooks.clone(),
        cookies: block.cookies.as_ref().map(|cookies| (cookies.affinity.cookie.clone(), cookies.primary.clone())),
        router: serin_rollout::Router::Full,
    };
    let policy = guard.policy(cx, rollout);
    // What could not be read is not there: that it is missing would be a second word on one mistake.
    if block.refused || cx.errors() > errors_before {
        return None;
    }
    let plan = match Plan::new(analysis) {
        Ok(plan) => plan,
        Err(error) => {
            cx.push(Diagnostic::error("rollout/plan", plan_place(error, block), error.to_string()));
            return None;
        }
    };
    let hazards = plan.hazards();
    for hazard in &hazards {
        cx.push(refused_hazard(*hazard, block));
    }
    hazards.is_empty().then_some(Pace::Interval(plan, policy))
}

/// What Flagger's own schema requires.
fn require(cx: &Cx<'_>, block: &Block) {
    for key in &block.missing {
        let (what, help) = match *key {
            "interval" => ("`interval`: the time between two checks", "add `interval: 1m`"),
            "threshold" => ("`threshold`: how many failed checks roll back", "add `threshold: 5`"),
            _ => (
                "`stepWeights`, `stepWeight` or `iterations`",
                "add `stepWeights: [1, 5, 10, 25, 50]`, or `iterations: 10` for blue/green",
            ),
        };
        let missing = Diagnostic::error("config/missing-key", block.span, format!("`analysis` needs {what}"));
        cx.push(missing.help(help));
    }
}

/// `iterations` takes the place of steps, and `match` needs it.
fn check_rounds(cx: &Cx<'_>, block: &Block) {
    let steps = block.step_weights.as_ref().map(|(_, span)| *span).or(block.step_weight.map(|(_, span)| span));
    match (block.iterations, steps, block.matches) {
        (Some((_, span)), Some(steps), _) => {
            let message = "`iterations` and steps contradict: A/B and blue/green switch all at once";
            let both = Diagnostic::error("rollout/contradiction", span, message);
            cx.push(both.related(steps, "the steps").help("remove `iterations` for a canary with steps"));
        }
        (None, _, Some(span)) => {
            let message = "`match` needs `iterations`: those who match all reach the canary, for so many ticks";
            cx.push(Diagnostic::error("rollout/pace", span, message).help("write `iterations: 10` instead of steps"));
        }
        _ => {}
    }
    if let (Some((_, rounds)), Some(cookies)) = (block.iterations, &block.cookies) {
        let message = "`sessionAffinity` has no effect beside `iterations`: nobody is drawn";
        let useless = Diagnostic::error("rollout/no-effect", cookies.span, message);
        cx.push(useless.related(rounds, "A/B or blue/green").help("remove `sessionAffinity`"));
    }
}

fn refuse_waiting(cx: &Cx<'_>, waiting: &Waiting) {
    let spans = [
        (waiting.step_deadline.map(|(_, span)| span), "stepDeadline"),
        (waiting.on_insufficient.map(|(_, span)| span), "onInsufficient"),
        (waiting.requests_min.map(|(_, span)| span), "minRequests"),
    ];
    for (span, key) in spans.into_iter().filter_map(|(span, key)| Some((span?, key))) {
        let message = format!("`{key}` has no effect beside `pace: interval`: its steps last one interval each");
        cx.push(Diagnostic::error("rollout/no-effect", span, message).help("write `pace: evidence`, or remove it"));
    }
}

/// The key a mistake is about.
fn place(error: PolicyError, block: &Block, waiting: &Waiting) -> Option<Span> {
    match error {
        PolicyError::Deadline => waiting.step_deadline.map(|(_, span)| span),
        PolicyError::Interval => block.interval.map(|(_, span)| span),
        PolicyError::PromotionStep => block.promotion_step.map(|(_, span)| span),
        PolicyError::Steps | PolicyError::TooMany => {
            block.step_weights.as_ref().map(|(_, span)| *span).or(block.step_weight.map(|(_, span)| span))
        }
        PolicyError::Threshold => block.threshold.map(|(_, span)| span),
        PolicyError::MetricUnknown | PolicyError::MetricWithoutLimit | PolicyError::Strategy => Some(block.span),
        PolicyError::Alpha | PolicyError::Beta | PolicyError::Budget | PolicyError::Stakes | PolicyError::Tolerance => {
            None
        }
    }
}

pub(super) fn advice(error: PolicyError) -> Option<String> {
    let text = match error {
        PolicyError::Deadline => "write a longer `stepDeadline`, or `off` for as long as it takes",
        PolicyError::Steps => "write `stepWeights: [1, 5, 10, 25, 50]`: after the last step comes the promotion",
        PolicyError::Alpha => "write `alpha: 1%`",
        PolicyError::Beta => "write `beta: 5%`",
        PolicyError::Budget => "write `errorBudget: 0.5%`",
        PolicyError::Stakes => {
            "those that are not written have 60% (failure), 15% (slow99), 10% (slow90), 5% (slow50): lower one"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn plan_place(error: PlanError, block: &Block) -> Span {
    let cookies = block.cookies.as_ref().map(|cookies| cookies.span);
    match error {
        PlanError::CookiesEqual | PlanError::CookieUnnamed => cookies.unwrap_or(block.span),
        PlanError::NoInterval | PlanError::NoThreshold | PlanError::NotOneStrategy | PlanError::TooMany => block.span,
    }
}

fn refused_hazard(hazard: Hazard, block: &Block) -> Diagnostic {
    let steps = block.step_weights.as_ref().map(|(_, span)| *span).or(block.step_weight.map(|(_, span)| span));
    let (span, help) = match hazard {
        Hazard::StepAboveMaximum => {
            let span = block.max_weight.map(|(_, span)| span).or(steps);
            (span, "make `maxWeight` a multiple of `stepWeight`, or write the steps: `stepWeights: [20, 40, 50]`")
        }
        Hazard::StepsNotRising => (steps, "write `stepWeights: [1, 5, 10, 25, 50]`"),
        Hazard::MirrorImpossible => (block.mirror, "remove `mirror`"),
        Hazard::MetricWithoutLimit | Hazard::MetricUnknown => (None, "write `thresholdRange: {min: 99}`"),
    };
    Diagnostic::error("rollout/hazard", span.unwrap_or(block.span), hazard.to_string()).help(help)
}

const PPM_PER_PERCENT: u32 = 10_000;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
