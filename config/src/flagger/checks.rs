//! `analysis.metrics`, `webhooks` and `alerts`: who is asked and told.

use crate::diagnostic::Diagnostic;
use crate::raw::{Cx, Fields, shown};
use crate::yaml::{Entry, Node, Value};

use super::analysis::{scalar, seconds, time_ms};
use super::canary::{Fill, Known, filled, left_out, lost};
use super::out::{Out, Pair};

const HOOKS: [&str; 8] = [
    "rollout",
    "confirm-rollout",
    "pre-rollout",
    "confirm-traffic-increase",
    "confirm-promotion",
    "post-rollout",
    "rollback",
    "event",
];

fn items<'n, 's>(cx: &Cx<'_>, entry: &'n Entry<'s>) -> &'n [Node<'s>] {
    match &entry.value.value {
        Value::List(items) => items,
        _ => {
            cx.push(lost(entry.value.span, "this is not a list"));
            &[]
        }
    }
}

/// The metrics, and whether one has a query of its own.
pub(super) fn metrics(cx: &Cx<'_>, entry: &Entry<'_>, known: &Known, fill: &Fill) -> (Vec<Out>, bool) {
    let mut asks = false;
    let metrics = items(cx, entry).iter().filter_map(|item| metric(cx, item, known, fill, &mut asks)).collect();
    (metrics, asks)
}

fn metric(cx: &Cx<'_>, item: &Node<'_>, known: &Known, fill: &Fill, asks: &mut bool) -> Option<Out> {
    let mut fields = Fields::open(cx, "metrics", item, "{name: request-success-rate, thresholdRange: {min: 99}}")?;
    let name = fields.require(cx, "name", "a metric", "Flagger's schema refuses that too")?;
    let name = scalar(name).unwrap_or_default().to_owned();
    let mut pairs = vec![Pair::new("name", Out::word(&name))];
    let template = fields.take(cx, "templateRef");
    let query = fields.take(cx, "query").filter(|_| template.is_none());
    let built_in = template.is_none() && query.is_none();
    if built_in && !["request-success-rate", "request-duration"].contains(&name.as_str()) {
        let message = format!("`{}` is no built-in metric and has neither `templateRef` nor `query`", shown(&name));
        cx.push(lost(item.span, &message).help("such a check always fails in Flagger"));
    }
    if let Some(entry) = template {
        pairs.push(reference(cx, "templateRef", entry, &known.templates, "MetricTemplate"));
    }
    if let Some(entry) = query {
        *asks = true;
        pairs.push(Pair::new("query", Out::word(&filled(scalar(entry).unwrap_or_default(), fill))));
    }
    if let Some(entry) = fields.take(cx, "interval") {
        match scalar(entry).and_then(time_ms) {
            Some(ms) => pairs.push(Pair::new("interval", Out::word(&seconds(ms.max(1_000))))),
            None => cx.push(left_out(entry.key_span, "this is no time: the interval of the analysis is the window")),
        }
    }
    let limits = limits(cx, &mut fields, item, &name, built_in);
    if let Some(entry) = fields.take(cx, "templateVariables") {
        pairs.push(Pair::new("templateVariables", Out::of(&entry.value)));
    }
    fields.finish(cx);
    pairs.push(limits?);
    Some(Out::Map(pairs))
}

/// What Flagger makes of a metric without limits is written out, or said.
fn limits(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, item: &Node<'_>, name: &str, built_in: bool) -> Option<Pair> {
    let range =
        fields.take(cx, "thresholdRange").filter(|entry| matches!(&entry.value.value, Value::Map(m) if !m.is_empty()));
    let old = fields.take(cx, "threshold");
    if let Some(entry) = range {
        if let Some(old) = old {
            cx.push(left_out(old.key_span, "`threshold` has no effect beside `thresholdRange`, in Flagger neither"));
        }
        return Some(Pair::new("thresholdRange", Out::of(&entry.value)));
    }
    let success_rate = built_in && name == "request-success-rate";
    match old {
        Some(entry) => {
            let limit = Out::of(&entry.value);
            let side = if success_rate { "min" } else { "max" };
            let pair = Pair::new("thresholdRange", Out::Map(vec![Pair::new(side, limit)]));
            Some(pair.comment("from the old `threshold`"))
        }
        None if success_rate => {
            let message = "without a limit this metric passes always: it is left out";
            cx.push(left_out(item.span, message).help("write `thresholdRange: {min: 99}`"));
            None
        }
        None => {
            let message = "without a limit this metric fails at any value above 0, as `max: 0` says";
            cx.push(
                Diagnostic::warning("import/decided", item.span, message).help("write `thresholdRange` with a limit"),
            );
            Some(Pair::new("thresholdRange", Out::Map(vec![Pair::new("max", Out::number(0))])))
        }
    }
}

/// A reference to an object that must be among those given.
fn reference(cx: &Cx<'_>, key: &str, entry: &Entry<'_>, known: &[String], kind: &str) -> Pair {
    let name = super::documents::text(&entry.value, "name").unwrap_or_default();
    if !known.contains(&name) {
        let message = format!("the {kind} `{}` is not among the files", shown(&name));
        cx.push(
            lost(entry.value.span, &message).help("give its file too: serin rollout import canary.yaml template.yaml"),
        );
    }
    Pair::new(key, Out::Map(vec![Pair::new("name", Out::word(&name))]))
}

pub(super) fn webhooks(cx: &Cx<'_>, entry: &Entry<'_>) -> Vec<Out> {
    items(cx, entry).iter().filter_map(|item| webhook(cx, item)).collect()
}

fn webhook(cx: &Cx<'_>, item: &Node<'_>) -> Option<Out> {
    let mut fields = Fields::open(cx, "webhooks", item, "{name: load-test, url: \"http://tester/\"}")?;
    let mut pairs = Vec::new();
    for key in ["name", "url"] {
        let entry = fields.require(cx, key, "a webhook", "Flagger's schema refuses that too");
        pairs.extend(entry.map(|entry| Pair::new(key, Out::of(&entry.value))));
    }
    if let Some(entry) = fields.take(cx, "type") {
        let kind = scalar(entry).unwrap_or_default();
        if !HOOKS.contains(&kind) {
            cx.push(lost(entry.value.span, &format!("there is no webhook of type `{}`", shown(kind))));
        }
        pairs.push(Pair::new("type", Out::word(kind)));
    }
    if let Some(entry) = fields.take(cx, "timeout") {
        match scalar(entry).and_then(time_ms) {
            Some(ms) => pairs.push(Pair::new("timeout", Out::word(&seconds(ms)))),
            None => cx.push(left_out(entry.key_span, "this is no time: 10 s are taken, as in Flagger")),
        }
    }
    for key in ["retries", "disableTLS", "muteAlert", "metadata"] {
        pairs.extend(fields.take(cx, key).map(|entry| Pair::new(key, Out::of(&entry.value))));
    }
    fields.finish(cx);
    Some(Out::Map(pairs))
}

pub(super) fn alerts(cx: &Cx<'_>, entry: &Entry<'_>, known: &Known) -> Vec<Out> {
    items(cx, entry).iter().filter_map(|item| alert(cx, item, known)).collect()
}

fn alert(cx: &Cx<'_>, item: &Node<'_>, known: &Known) -> Option<Out> {
    let mut fields = Fields::open(cx, "alerts", item, "{name: team, providerRef: {name: slack}}")?;
    let name = fields.require(cx, "name", "an alert", "Flagger's schema refuses that too");
    let provider = fields.require(cx, "providerRef", "an alert", "Flagger's schema refuses that too");
    let severity = fields.take(cx, "severity");
    fields.finish(cx);
    let mut pairs = vec![Pair::new("name", Out::of(&name?.value))];
    pairs.push(match severity {
        Some(entry) => Pair::new("severity", Out::of(&entry.value)),
        None => {
            Pair::new("severity", Out::word("info")).comment("as documented; Flagger itself sends nothing without one")
        }
    });
    pairs.push(reference(cx, "providerRef", provider?, &known.providers, "AlertProvider"));
    Some(Out::Map(pairs))
}
