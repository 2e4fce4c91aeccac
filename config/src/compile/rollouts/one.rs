//! One entry of `rollouts`.

use std::time::Duration;

use serin_rollout::{Pace, Policy, Revision};

use crate::diagnostic::Diagnostic;
use crate::dtab::{NameTree, Path, Prefix};
use crate::model::{Judge, Rollout, StickyKey};
use crate::raw::{Cx, Fields, listed, shown};
use crate::source::Span;
use crate::units::{self, Wrong, closest};
use crate::yaml::{Entry, Node};

use super::super::LABEL_BYTES_MAX;
use super::super::rules;
use super::analysis::{self, Block};
use super::pace::{self, Clock};
use super::{Names, Templates, World, guard, values};

/// The longest name of a rollout, in bytes: it names files too.
pub const ROLLOUT_NAME_BYTES_MAX: usize = 63;

pub(super) const EXAMPLE: &str =
    "[{name: world, router: outgoing, path: /host/world, primary: /srv/world-v1, canary: /srv/world-v2}]";
const PROGRESS_DEADLINE: Duration = Duration::from_secs(600);

/// What an entry may refer to.
pub(super) struct Scope<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) templates: &'a Templates,
    pub(super) providers: &'a Names,
}

/// A rollout with the places of what may contradict something else.
pub(super) struct Written {
    pub(super) rollout: Rollout,
    pub(super) name: Span,
    pub(super) path: Span,
    pub(super) primary: Span,
    pub(super) canary: Span,
    pub(super) fallback: Option<Span>,
    /// What says how it is drawn: `stickiness`, `sessionAffinity`, `onUnhealthy`.
    pub(super) drawing: Vec<(&'static str, Span)>,
}

pub(super) fn rollout(cx: &Cx<'_>, item: &Node<'_>, scope: &Scope<'_>) -> Option<Written> {
    let mut fields = Fields::open(cx, "rollouts", item, EXAMPLE)?;
    let names = names(cx, &mut fields, scope);
    let errors_before = cx.errors();
    let clock = clock(cx, &mut fields);
    let clock_known = cx.errors() == errors_before;
    let guard = guard::guard(cx, &mut fields, clock);
    let waiting = pace::waiting(cx, &mut fields);
    let drawing: Vec<(&'static str, Span)> =
        ["stickiness", "onUnhealthy"].into_iter().filter_map(|key| Some((key, fields.get(key)?.key_span))).collect();
    let stickiness = fields.map(cx, "stickiness", "{cookie: user}").and_then(|fields| rules::stickiness(cx, fields));
    let on_unhealthy = rules::on_unhealthy(cx, &mut fields);
    let judge = judge(cx, &mut fields);
    let suspend = fields.scalar(cx, "suspend", units::boolean).unwrap_or(false);
    let skip_analysis = fields.scalar(cx, "skipAnalysis", units::boolean).unwrap_or(false);
    let progress_deadline = fields.scalar(cx, "progressDeadlineSeconds", units::seconds).unwrap_or(PROGRESS_DEADLINE);
    let server = fields.scalar(cx, "metricsServer", |text| values::url(text, "http://prometheus:9090"));
    let mut block = block(cx, &mut fields, scope, server.as_deref(), clock);
    if !clock_known {
        block.missing.clear();
    }
    let pace = match clock {
        Clock::Evidence => pace::evidence(cx, &block, &waiting, guard),
        Clock::Interval => pace::interval(cx, &block, &waiting, &guard, fields.span),
    };
    let drawing = check_drawing(cx, &block, stickiness.as_ref(), drawing);
    of_flagger(cx, &mut fields);
    fields.finish(cx);
    let names = names?;
    let rollout = Rollout {
        name: names.name.0,
        router: names.router,
        path: names.path.0,
        primary: names.primary.0,
        canary: names.canary.0,
        revision: names.revision,
        fallback: names.fallback,
        // After a mistake, which was told, any will do to look for contradictions.
        pace: pace.unwrap_or_else(|| Pace::Evidence(Policy::default())),
        strategy: block.strategy,
        stickiness,
        affinity: block.cookies.map(|cookies| cookies.affinity),
        on_unhealthy,
        judge,
        suspend,
        skip_analysis,
        progress_deadline,
        metrics: block.sources,
        hooks: block.webhooks,
        alerts: block.alerts,
    };
    let (name, path, primary, canary) = (names.name.1, names.path.1, names.primary.1, names.canary.1);
    Some(Written { rollout, name, path, primary, canary, fallback: names.fallback_span, drawing })
}

/// What it is called and what it moves between.
struct Identity {
    name: (String, Span),
    router: String,
    path: (Path, Span),
    primary: (Path, Span),
    canary: (Path, Span),
    revision: Revision,
    fallback: NameTree<Path>,
    fallback_span: Option<Span>,
}

fn names(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, scope: &Scope<'_>) -> Option<Identity> {
    let mut need = |key: &'static str, help: &str| fields.require(cx, key, "a rollout", help);
    let name = need("name", "write `name: world`");
    let router = need("router", "write `router: outgoing`: the label of the router whose traffic it moves");
    let path = need("path", "write `path: /host/world`: the left side of the dentry it owns");
    let primary = need("primary", "write `primary: /srv/world-v1`: the name of the old version");
    let canary = need("canary", "write `canary: /srv/world-v2`: the name of the new version");
    let name = name.and_then(|entry| Some((cx.scalar("name", &entry.value, rollout_name)?, entry.value.span)));
    let router = router.and_then(|entry| router_label(cx, entry, scope));
    let arm = |key: &'static str, entry: Option<&Entry<'_>>, example: &'static str| {
        let entry = entry?;
        let read =
            |text: &str| Path::parse(text).map_err(|wrong| Wrong::new("a name", example).help(wrong.in_text(text)));
        Some((cx.scalar(key, &entry.value, read)?, entry.value.span))
    };
    let path = path.and_then(|entry| Some((cx.scalar("path", &entry.value, owned_path)?, entry.value.span)));
    let primary = arm("primary", primary, "/srv/world-v1");
    let canary = arm("canary", canary, "/srv/world-v2");
    let revision = revision(cx, fields, canary.as_ref());
    let fallback_span = fields.get("fallback").map(|entry| entry.value.span);
    let fallback = fields.scalar(cx, "fallback", |text| {
        let wrong = || Wrong::new("the right side of a dentry", "/srv/world-v0");
        NameTree::parse(text).map_err(|errors| wrong().help(errors.in_text(text)))
    });
    Some(Identity {
        name: name?,
        router: router?,
        path: path?,
        primary: primary?,
        canary: canary?,
        revision: revision?,
        fallback: fallback.unwrap_or(NameTree::Fail),
        fallback_span,
    })
}

fn rollout_name(text: &str) -> Result<String, Wrong> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let legal = (1..=ROLLOUT_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b'.'))
        && text.bytes().next().is_some_and(plain);
    if legal {
        return Ok(text.to_owned());
    }
    let allowed =
        format!("1 to {ROLLOUT_NAME_BYTES_MAX} lower case letters, digits, `-` and `.`, with a letter or digit first");
    let wrong = Wrong::new(allowed, "world");
    let lower = text.to_ascii_lowercase();
    let lower_is_legal = lower != text && rollout_name(&lower).is_ok();
    Err(if lower_is_legal { wrong.help(format!("write `{lower}`")) } else { wrong })
}

fn router_label(cx: &Cx<'_>, entry: &Entry<'_>, scope: &Scope<'_>) -> Option<String> {
    let label =
        cx.scalar("router", &entry.value, |text| units::visible(text, LABEL_BYTES_MAX, "a label", "outgoing"))?;
    let labels: Vec<&str> = scope.world.routers.list.iter().map(|router| router.label.as_str()).collect();
    if let Some(router) = scope.world.routers.list.iter().find(|router| router.label == label) {
        if router.interpreter.namerd().is_some() {
            let message =
                format!("the names of the router `{}` are bound by a namerd, out of reach of a rollout", shown(&label));
            let wrong = Diagnostic::error("rollout/bound-elsewhere", entry.value.span, message);
            cx.push(wrong.help("write `interpreter: {kind: default}` at the router"));
        }
        return Some(label);
    }
    let message = format!("no router is labelled `{}`", shown(&label));
    let help = match closest(&label, labels.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("routers here: {}", listed(&labels)),
    };
    cx.push(Diagnostic::error("rollout/unknown-router", entry.value.span, message).help(help));
    None
}

/// A prefix without wildcards, of at least one label.
fn owned_path(text: &str) -> Result<Path, Wrong> {
    let wrong = || Wrong::new("the left side of a dentry, without wildcards", "/host/world");
    let prefix = Prefix::parse(text).map_err(|errors| wrong().help(errors.in_text(text)))?;
    if prefix.is_empty() {
        return Err(wrong().help("`/` is every name: write the one whose traffic moves"));
    }
    let one = "a rollout owns one name: write a rollout for each, so that each has its own verdict";
    prefix.to_path().ok_or_else(|| wrong().help(one))
}

/// The canary's name, and `@` with what the file calls its revision.
fn revision(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, canary: Option<&(Path, Span)>) -> Option<Revision> {
    let word = |text: &str| {
        let legal = (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'@');
        if legal {
            Ok(text.to_owned())
        } else {
            Err(Wrong::new("1 to 100 visible ASCII characters without `@`", "build-17"))
        }
    };
    let span = fields.get("revision").map(|entry| entry.value.span);
    let written = fields.scalar(cx, "revision", word);
    let (canary, canary_span) = canary?;
    let text = match &written {
        Some(revision) => format!("{canary}@{revision}"),
        None => canary.to_string(),
    };
    let revision = text.parse::<Revision>();
    if revision.is_err() {
        let message = format!("`{}` is too long for the name of a version, or not printable", shown(&text));
        let long = Diagnostic::error("rollout/revision", span.unwrap_or(*canary_span), message);
        cx.push(
            long.help("name the canary in fewer than 150 bytes: a dentry can lead from a short name to a long one"),
        );
    }
    revision.ok()
}

/// `pace`; without it Flagger's clock for a block of Flagger's, and evidence where there is none.
fn clock(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Clock {
    let words = [("evidence", Clock::Evidence), ("interval", Clock::Interval)];
    let default = if fields.has("analysis") { Clock::Interval } else { Clock::Evidence };
    fields.scalar(cx, "pace", |text| units::choice(text, &words)).unwrap_or(default)
}

fn judge(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Judge {
    let span = fields.get("dryRun").map(|entry| entry.key_span);
    let words = [("here", Judge::Here), ("off", Judge::Off)];
    let judge = fields.scalar(cx, "judge", |text| units::choice(text, &words)).unwrap_or_default();
    let dry = fields.scalar(cx, "dryRun", units::boolean).unwrap_or(false);
    match (judge, dry, span) {
        (Judge::Off, true, Some(span)) => {
            let message = "`dryRun` and `judge: off` contradict: nobody would judge";
            cx.push(Diagnostic::error("rollout/contradiction", span, message).help("remove one of the two"));
            Judge::Off
        }
        (_, true, _) => Judge::DryRun,
        (judge, false, _) => judge,
    }
}

fn block(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, scope: &Scope<'_>, server: Option<&str>, clock: Clock) -> Block {
    let server_span = fields.get("metricsServer").map(|entry| entry.key_span);
    let rollout = fields.span;
    let block = match fields.take(cx, "analysis") {
        Some(entry) => {
            let scope = analysis::Scope { templates: scope.templates, providers: scope.providers, server, clock };
            analysis::analysis(cx, entry, &scope)
        }
        None => {
            let mut block = Block::none(rollout);
            if clock == Clock::Interval {
                let message = "`pace: interval` needs `analysis`: it goes by what is written there";
                let missing = Diagnostic::error("config/missing-key", rollout, message);
                cx.push(missing.help(format!("add `analysis: {}`, or write `pace: evidence`", analysis::EXAMPLE)));
                block.refused = true;
            }
            block
        }
    };
    let asked = block.sources.iter().any(|source| matches!(source, crate::model::MetricSource::Query { .. }));
    if let Some(span) = server_span.filter(|_| !asked) {
        let message = "`metricsServer` has no effect: no metric of this rollout has a `query`";
        let why = "`request-success-rate` and `request-duration` come from Serin's own counters; remove the line";
        cx.push(Diagnostic::warning("config/no-effect", span, message).help(why));
    }
    block
}

/// What says how users are drawn: one of two, and only where anybody is drawn.
fn check_drawing(
    cx: &Cx<'_>,
    block: &Block,
    stickiness: Option<&StickyKey>,
    mut drawing: Vec<(&'static str, Span)>,
) -> Vec<(&'static str, Span)> {
    let sticky = drawing.iter().find(|(key, _)| *key == "stickiness").map(|(_, span)| *span);
    if let (Some(span), Some(cookies), true) = (sticky, &block.cookies, stickiness.is_some()) {
        let message = "`stickiness` and `sessionAffinity` contradict: users are drawn by one key";
        let both = Diagnostic::error("rollout/contradiction", span, message);
        cx.push(both.related(cookies.span, "the other one").help("keep one of the two"));
    }
    if let (Some(span), Some((_, rounds))) = (sticky, block.iterations) {
        let message = "`stickiness` has no effect beside `iterations`: nobody is drawn";
        let useless = Diagnostic::error("rollout/no-effect", span, message);
        cx.push(useless.related(rounds, "A/B or blue/green").help("remove `stickiness`"));
    }
    drawing.extend(block.cookies.as_ref().map(|cookies| ("sessionAffinity", cookies.span)));
    drawing
}

/// Keys of a `Canary` of Flagger's that have no place here: (key, what does its work).
const OF_FLAGGER: &[(&str, &str)] = &[
    ("autoscalerRef", "Serin does not scale: remove it"),
    ("canaryAnalysis", "write `analysis`"),
    ("ingressRef", "write `router` and `path`"),
    ("provider", "Serin moves the traffic itself: remove it"),
    ("revertOnDeletion", "the primary gets everything when a rollout is removed: remove it"),
    ("routeRef", "write `router` and `path`"),
    ("service", "write `router` and `path`"),
    ("targetRef", "write `primary` and `canary`, the names of two versions"),
    ("upstreamRef", "write `primary` and `canary`"),
];

fn of_flagger(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) {
    for (key, instead) in OF_FLAGGER {
        if let Some(entry) = fields.get(key) {
            let message = format!("`{key}` is a key of Flagger's that speaks of Kubernetes");
            cx.push(Diagnostic::error("rollout/of-flagger", entry.key_span, message).help(*instead));
            fields.mark(key);
        }
    }
}
