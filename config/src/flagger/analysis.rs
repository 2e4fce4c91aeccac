//! `spec.analysis`: copied where Serin reads it alike, mended where Flagger's reading has a trap.

use crate::diagnostic::Diagnostic;
use crate::raw::{Cx, Fields, shown};
use crate::source::Span;
use crate::yaml::{Entry, Node, Value};

use super::canary::{Fill, Known, left_out, lost};
use super::checks;
use super::out::{Out, Pair};

/// The block of a rollout.
pub(super) struct Block {
    pub(super) pairs: Vec<Pair>,
    /// A metric has a query of its own.
    pub(super) asks_server: bool,
}

const INTERVAL_MS_MIN: u64 = 10_000;
const INTERVAL_MS: u64 = 60_000;

pub(super) fn block(cx: &Cx<'_>, entry: &Entry<'_>, known: &Known, fill: &Fill) -> Option<Block> {
    let mut fields = Fields::open(cx, "analysis", &entry.value, "{interval: 1m, threshold: 5, stepWeight: 10}")?;
    let mut pairs = vec![interval(cx, &mut fields), threshold(cx, &mut fields)];
    steps(cx, &mut fields, entry.key_span, &mut pairs);
    matches(cx, &mut fields, &mut pairs);
    mirror(cx, &mut fields, &mut pairs);
    affinity(cx, &mut fields, &mut pairs);
    for key in ["primaryReadyThreshold", "canaryReadyThreshold"] {
        if let Some(entry) = fields.take(cx, key) {
            let left = left_out(entry.key_span, &format!("`{key}` is left out"));
            cx.push(left.help("an arm is ready when one of its endpoints can serve"));
        }
    }
    let metrics = fields.take(cx, "metrics").map(|entry| checks::metrics(cx, entry, known, fill));
    let hooks = fields.take(cx, "webhooks").map(|entry| checks::webhooks(cx, entry));
    let alerts = fields.take(cx, "alerts").map(|entry| checks::alerts(cx, entry, known));
    fields.finish(cx);
    let (metrics, asks_server) = metrics.unwrap_or_default();
    for (key, list) in
        [("metrics", metrics), ("webhooks", hooks.unwrap_or_default()), ("alerts", alerts.unwrap_or_default())]
    {
        if !list.is_empty() {
            pairs.push(Pair::new(key, Out::List(list)));
        }
    }
    Some(Block { pairs, asks_server })
}

/// As Flagger reads it: 60 s if it is missing or means nothing, never below 10 s.
fn interval(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Pair {
    let Some(entry) = fields.take(cx, "interval") else {
        return Pair::new("interval", Out::word("60s")).comment("Flagger's default");
    };
    match scalar(entry).and_then(time_ms) {
        None => {
            let message = "this is no time, and Flagger takes 60 s for it";
            cx.push(Diagnostic::warning("import/decided", entry.value.span, message));
            Pair::new("interval", Out::word(&seconds(INTERVAL_MS)))
        }
        Some(ms) if ms < INTERVAL_MS_MIN => {
            let comment =
                format!("{} in Flagger's file, which never goes below 10 s", scalar(entry).unwrap_or_default());
            Pair::new("interval", Out::word(&seconds(INTERVAL_MS_MIN))).comment(comment)
        }
        Some(ms) => Pair::new("interval", Out::word(&seconds(ms))),
    }
}

fn threshold(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Pair {
    match whole(cx, fields, "threshold") {
        Some(number) if number > 0 => Pair::new("threshold", Out::number(number)),
        _ => Pair::new("threshold", Out::number(1)).comment("what Flagger makes of 0 or nothing"),
    }
}

fn steps(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, span: Span, pairs: &mut Vec<Pair>) {
    let place = |fields: &Fields<'_, '_>, key: &str| fields.get(key).map_or(span, |entry| entry.key_span);
    let list_span = place(fields, "stepWeights");
    let step_span = place(fields, "stepWeight");
    let max_span = place(fields, "maxWeight");
    let rounds = whole(cx, fields, "iterations").filter(|rounds| *rounds > 0);
    let step = whole(cx, fields, "stepWeight");
    let max = whole(cx, fields, "maxWeight");
    let list = fields.take(cx, "stepWeights").map(|entry| numbers(cx, entry));
    let back = whole(cx, fields, "stepWeightPromotion").filter(|back| *back > 0);
    match (rounds, list, step) {
        (Some(_), Some(_), _) | (Some(_), _, Some(1..)) => {
            cx.push(
                lost(span, "steps and `iterations` are both there, which Flagger's schema refuses").help("keep one"),
            );
        }
        (Some(rounds), ..) => pairs.push(Pair::new("iterations", Out::number(rounds))),
        (None, Some(_), Some(1..)) => {
            let both = lost(span, "`stepWeight` and `stepWeights` are both there, which Flagger's schema refuses");
            cx.push(both.help("keep one"));
        }
        (None, Some(list), _) => listed_steps(cx, &list, list_span, max.is_some().then_some(max_span), pairs),
        (None, None, Some(step @ 1..=100)) => linear(step, max.filter(|max| *max > 0).unwrap_or(100).min(100), pairs),
        (None, None, Some(_)) => {
            cx.push(lost(step_span, "this step is not from 1 to 100: Flagger would wait for ever"))
        }
        (None, None, None) => {
            let none = lost(span, "`analysis` has neither `stepWeight`, `stepWeights` nor `iterations`");
            cx.push(none.help("Flagger's schema refuses that too"));
        }
    }
    pairs.extend(back.map(|back| Pair::new("stepWeightPromotion", Out::number(back.min(100)))));
}

/// Falling and repeated steps hang in Flagger.
fn listed_steps(cx: &Cx<'_>, list: &[i64], span: Span, max: Option<Span>, pairs: &mut Vec<Pair>) {
    let capped: Vec<i64> = list.iter().map(|step| (*step).min(100)).collect();
    if capped.is_empty() || capped[0] < 1 || !capped.is_sorted_by(|a, b| a < b) {
        let message = "these steps do not rise: Flagger would wait at one of them for ever";
        cx.push(lost(span, message).help("write each step above the one before it"));
    }
    if let Some(max) = max {
        cx.push(left_out(max, "`maxWeight` has no effect beside `stepWeights`, in Flagger neither"));
    }
    pairs.push(Pair::new("stepWeights", Out::List(capped.into_iter().map(Out::number).collect())));
}

/// A last step that would pass the maximum ends at it.
fn linear(step: i64, max: i64, pairs: &mut Vec<Pair>) {
    if max % step == 0 {
        pairs.push(Pair::new("stepWeight", Out::number(step)));
        pairs.push(Pair::new("maxWeight", Out::number(max)));
        return;
    }
    let count = (max + step - 1) / step;
    let steps = (1..=count).map(|at| Out::number((at * step).min(max))).collect();
    let comment = format!("stepWeight {step}, maxWeight {max}: the last step ends at the maximum, Flagger's passes it");
    pairs.push(Pair::new("stepWeights", Out::List(steps)).comment(comment));
}

fn matches(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, pairs: &mut Vec<Pair>) {
    let has_rounds = fields.has("iterations");
    let Some(entry) = fields.take(cx, "match") else { return };
    if !has_rounds {
        let message = "`match` without `iterations`: weights inside of a rule are not built";
        cx.push(lost(entry.key_span, message).help("write `iterations` for A/B, or remove `match`"));
        return;
    }
    let Value::List(rules) = &entry.value.value else { return };
    for rule in rules {
        let Some(mut fields) = Fields::open(cx, "match", rule, "{headers: {x-canary: {exact: insider}}}") else {
            continue;
        };
        for key in ["headers", "queryParams"] {
            fields.take(cx, key);
        }
        if let Some(entry) = fields.take(cx, "sourceLabels") {
            let message = "`sourceLabels` cannot be carried over: a request does not say the labels of its sender";
            cx.push(lost(entry.key_span, message).help("match a header, or `when: {source: 10.0.0.0/8}`"));
        }
        for key in ["authority", "method", "scheme", "uri"] {
            if let Some(entry) = fields.take(cx, key) {
                cx.push(lost(entry.key_span, &format!("a condition on `{key}` is not built")).help("match a header"));
            }
        }
        fields.finish(cx);
    }
    let kept = rules.iter().map(|rule| only(rule, &["headers", "queryParams"]));
    // a rule of which nothing is left would match everybody
    let kept = kept.filter(|rule| !matches!(rule, Out::Map(pairs) if pairs.is_empty())).collect();
    pairs.push(Pair::new("match", Out::List(kept)));
}

/// The entries of a map with these keys.
fn only(node: &Node<'_>, keys: &[&str]) -> Out {
    match &node.value {
        Value::Map(entries) => {
            let kept = entries.iter().filter(|entry| keys.contains(&&*entry.key));
            Out::Map(kept.map(|entry| Pair::new(&entry.key, Out::of(&entry.value))).collect())
        }
        _ => Out::of(node),
    }
}

fn mirror(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, pairs: &mut Vec<Pair>) {
    let on = fields.take(cx, "mirror").is_some_and(|entry| scalar(entry) == Some("true"));
    let weight = whole(cx, fields, "mirrorWeight").filter(|weight| *weight > 0);
    if !on {
        return;
    }
    let comment =
        "GET and HEAD are copied; Flagger's meshes copy everything: `mirrorMethods`, `mirrorUnsafe` add methods";
    pairs.push(Pair::new("mirror", Out::word("true")).comment(comment));
    pairs.extend(weight.map(|weight| Pair::new("mirrorWeight", Out::number(weight.min(100)))));
}

fn affinity(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, pairs: &mut Vec<Pair>) {
    let has_rounds = fields.has("iterations");
    let Some(entry) = fields.take(cx, "sessionAffinity") else { return };
    if has_rounds {
        cx.push(left_out(entry.key_span, "`sessionAffinity` is left out: beside `iterations` nobody is drawn"));
        return;
    }
    let keys = ["cookieName", "domain", "path", "maxAge", "httpOnly", "secure", "partitioned", "sameSite"];
    let Value::Map(entries) = &entry.value.value else { return };
    for entry in entries {
        if entry.key == "primaryCookieName" {
            let left = left_out(entry.key_span, "`primaryCookieName` is not needed");
            cx.push(left.help("Serin's cookie keeps users on both sides, and the share exact"));
        } else if !keys.contains(&&*entry.key) {
            let message = format!("`sessionAffinity.{}` is not known", shown(&entry.key));
            cx.push(lost(entry.key_span, &message));
        }
    }
    let comment = "users are drawn by a hash of the cookie: raising the weight only ever moves them to the canary";
    pairs.push(Pair::new("sessionAffinity", only(&entry.value, &keys)).comment(comment));
}

fn numbers(cx: &Cx<'_>, entry: &Entry<'_>) -> Vec<i64> {
    let Value::List(items) = &entry.value.value else {
        cx.push(lost(entry.value.span, "this is not a list"));
        return Vec::new();
    };
    items.iter().filter_map(|item| number(cx, item)).collect()
}

/// A whole number, below 0 too.
fn whole(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, key: &'static str) -> Option<i64> {
    fields.take(cx, key).and_then(|entry| number(cx, &entry.value))
}

fn number(cx: &Cx<'_>, node: &Node<'_>) -> Option<i64> {
    let text = match &node.value {
        Value::Scalar(scalar) => &*scalar.text,
        _ => "",
    };
    let number = text.parse().ok();
    if number.is_none() {
        cx.push(lost(node.span, "this is not a whole number"));
    }
    number
}

pub(super) fn scalar<'n>(entry: &'n Entry<'_>) -> Option<&'n str> {
    match &entry.value.value {
        Value::Scalar(scalar) => Some(&scalar.text),
        _ => None,
    }
}

/// Times as Go reads them: `1m30s`, `0.5h`. Milliseconds.
pub(super) fn time_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let length = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        sum += number
            * match &unit[..length] {
                "ms" => 1.0,
                "s" => 1_000.0,
                "m" => 60_000.0,
                "h" => 3_600_000.0,
                _ => return None,
            };
        rest = &unit[length..];
    }
    (1.0..=MS_MAX).contains(&sum).then_some(sum as u64)
}

const MS_MAX: f64 = 1e12;

/// A time with one unit, as short as it is exact.
pub(super) fn seconds(ms: u64) -> String {
    match ms {
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}
