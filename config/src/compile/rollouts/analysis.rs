//! `analysis`: Flagger's block, read for both paces. Which keys go together is checked in `pace`.

use std::time::Duration;

use serin_rollout::{Hook, Metric, PLAN_ENTRIES_MAX, Ppm};

use crate::diagnostic::Diagnostic;
use crate::model::{Alert, MetricSource, Strategy, Webhook};
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::{Entry, Node};

use super::pace::Clock;
use super::strategy::{self, Cookies};
use super::{Names, Templates, hooks, limited, metrics};

/// Failed checks that can be allowed.
const THRESHOLD_MAX: u64 = 1_000;
/// Rounds of A/B and blue/green that can be asked for.
const ITERATIONS_MAX: u64 = 10_000;
const INTERVAL: Duration = Duration::from_secs(60);
pub(super) const EXAMPLE: &str = "{interval: 1m, threshold: 5, stepWeights: [1, 5, 10, 25, 50]}";

/// A value and the place of its key.
pub(super) type At<T> = Option<(T, Span)>;

/// What the block says.
pub(super) struct Block {
    /// Where it stands, or the rollout without one.
    pub(super) span: Span,
    /// Keys that every block by the clock has, and this one has not.
    pub(super) missing: Vec<&'static str>,
    /// Something in it was refused: what is not there may be what was refused.
    pub(super) refused: bool,
    pub(super) interval: At<Duration>,
    pub(super) threshold: At<u32>,
    pub(super) step_weight: At<Ppm>,
    pub(super) step_weights: At<Vec<Ppm>>,
    pub(super) max_weight: At<Ppm>,
    pub(super) promotion_step: At<Ppm>,
    pub(super) iterations: At<u32>,
    pub(super) strategy: Strategy,
    pub(super) matches: Option<Span>,
    pub(super) mirror: Option<Span>,
    pub(super) cookies: Option<Cookies>,
    pub(super) metrics: Vec<Metric>,
    pub(super) sources: Vec<MetricSource>,
    pub(super) hooks: Vec<Hook>,
    pub(super) webhooks: Vec<Webhook>,
    pub(super) alerts: Vec<Alert>,
}

impl Block {
    /// A rollout without a block.
    pub(super) fn none(span: Span) -> Block {
        Block {
            span,
            missing: Vec::new(),
            refused: false,
            interval: None,
            threshold: None,
            step_weight: None,
            step_weights: None,
            max_weight: None,
            promotion_step: None,
            iterations: None,
            strategy: Strategy::Weights,
            matches: None,
            mirror: None,
            cookies: None,
            metrics: Vec::new(),
            sources: Vec::new(),
            hooks: Vec::new(),
            webhooks: Vec::new(),
            alerts: Vec::new(),
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval.map_or(INTERVAL, |(interval, _)| interval)
    }
}

/// What entries of the block may refer to.
pub(super) struct Scope<'a> {
    pub(super) templates: &'a Templates,
    pub(super) providers: &'a Names,
    pub(super) server: Option<&'a str>,
    pub(super) clock: Clock,
}

pub(super) fn analysis(cx: &Cx<'_>, entry: &Entry<'_>, scope: &Scope<'_>) -> Block {
    let mut block = Block::none(entry.key_span);
    let Some(mut fields) = Fields::open(cx, "analysis", &entry.value, EXAMPLE) else {
        block.refused = true;
        return block;
    };
    let (clock, errors_before) = (scope.clock, cx.errors());
    block.missing.extend(["interval", "threshold"].into_iter().filter(|key| !fields.has(key)));
    if !["iterations", "stepWeight", "stepWeights"].iter().any(|key| fields.has(key)) {
        block.missing.push("stepWeights");
    }
    let at = |fields: &Fields<'_, '_>, key: &str| fields.get(key).map(|entry| entry.key_span);
    let span = at(&fields, "interval");
    block.interval = fields.scalar(cx, "interval", |text| clock.interval(text)).zip(span);
    let span = at(&fields, "threshold");
    let threshold = fields.scalar(cx, "threshold", |text| units::whole(text, 1..=THRESHOLD_MAX, "5"));
    block.threshold = threshold.and_then(|threshold| u32::try_from(threshold).ok()).zip(span);
    let span = at(&fields, "iterations");
    let iterations = fields.scalar(cx, "iterations", |text| units::whole(text, 1..=ITERATIONS_MAX, "10"));
    block.iterations = iterations.and_then(|rounds| u32::try_from(rounds).ok()).zip(span);
    weights(cx, &mut fields, clock, &mut block);
    block.matches = at(&fields, "match");
    let matches = strategy::matches(cx, &mut fields);
    let mirror = strategy::mirror(cx, &mut fields);
    block.mirror = mirror.as_ref().map(|(_, span)| *span);
    block.strategy = strategy::strategy(cx, matches, block.matches, mirror);
    block.cookies = strategy::affinity(cx, &mut fields);
    let metric_scope = metrics::Scope { templates: scope.templates, server: scope.server, interval: block.interval() };
    (block.metrics, block.sources) = metrics::metrics(cx, &mut fields, &metric_scope);
    (block.hooks, block.webhooks) = hooks::webhooks(cx, &mut fields);
    block.alerts = hooks::alerts(cx, &mut fields, scope.providers);
    let why = "an arm is ready when one of its endpoints can serve: there are no pods to count";
    fields.unneeded(cx, &[("primaryReadyThreshold", why), ("canaryReadyThreshold", why)]);
    fields.finish(cx);
    block.refused = cx.errors() > errors_before;
    block
}

fn weights(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, clock: Clock, block: &mut Block) {
    let mut one = |key: &'static str, least: u32| {
        let span = fields.get(key).map(|entry| entry.key_span);
        fields.scalar(cx, key, |text| weight(text, clock, least)).zip(span)
    };
    block.step_weight = one("stepWeight", 1);
    block.max_weight = one("maxWeight", 1);
    block.promotion_step = one("stepWeightPromotion", 0);
    if let Some(entry) = fields.take(cx, "stepWeights") {
        let items = limited(cx, "stepWeights", entry, PLAN_ENTRIES_MAX, "[1, 5, 10, 25, 50]");
        if items.is_empty() && matches!(entry.value.value, crate::yaml::Value::List(_)) {
            let none = Diagnostic::error("rollout/steps", entry.value.span, "`stepWeights` has no step");
            cx.push(none.help("write `stepWeights: [1, 5, 10, 25, 50]`"));
        }
        let steps = rising(cx, items, clock);
        block.step_weights = Some((steps, entry.key_span));
    }
}

/// A weight in percent. Flagger's clock counts whole ones.
fn weight(text: &str, clock: Clock, least: u32) -> Result<Ppm, Wrong> {
    const ALLOWED: &str = "a percentage above 0 and at most 100";
    let share = units::share(text, "5").map_err(|wrong| if least > 0 { Wrong::new(ALLOWED, "5") } else { wrong })?;
    if share.get() < least {
        return Err(Wrong::new(ALLOWED, "5"));
    }
    if clock == Clock::Interval && !share.get().is_multiple_of(PPM_PER_PERCENT) {
        let wrong = Wrong::new("a whole percentage, as Flagger has them", "5");
        return Err(wrong.help("write `pace: evidence`, which takes decimals"));
    }
    Ok(share)
}

/// The steps of a list that rises; each one that does not is an error.
fn rising(cx: &Cx<'_>, items: &[Node<'_>], clock: Clock) -> Vec<Ppm> {
    let mut steps: Vec<(Ppm, Span)> = Vec::with_capacity(items.len());
    for item in items {
        let Some(step) = cx.item("stepWeights", item, |text| weight(text, clock, 1)) else { continue };
        if let Some((before, span)) = steps.last().filter(|(before, _)| *before >= step) {
            let message = if *before == step {
                format!("the step {step} is written twice: a rollout would wait there for ever")
            } else {
                format!("the step {step} comes after {before}: steps rise")
            };
            let fallen = Diagnostic::error("rollout/steps", item.span, message);
            cx.push(fallen.related(*span, "the step before").help("write each step above the one before it"));
            continue;
        }
        steps.push((step, item.span));
    }
    steps.into_iter().map(|(step, _)| step).collect()
}

const PPM_PER_PERCENT: u32 = 10_000;
