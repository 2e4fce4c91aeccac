//! `analysis.metrics`: what is checked once an interval, and where its value comes from.

use std::time::Duration;

use serin_rollout::{Metric, PLAN_ENTRIES_MAX};

use crate::diagnostic::Diagnostic;
use crate::model::{MetricSource, MetricTemplate};
use crate::raw::{Cx, Fields, shown};
use crate::template::{self, TemplateError};
use crate::units::{self, Wrong, closest};
use crate::yaml::{Entry, Node};

use super::providers::{check_template, query};
use super::values::{self, TEXT_BYTES_MAX};
use super::{Templates, limited};

/// What an entry may refer to.
pub(super) struct Scope<'a> {
    pub(super) templates: &'a Templates,
    /// `metricsServer` of the rollout.
    pub(super) server: Option<&'a str>,
    /// The analysis interval: the window of a metric that names none.
    pub(super) interval: Duration,
}

const SUCCESS_RATE: &str = "request-success-rate";
const DURATION: &str = "request-duration";
const EXAMPLE: &str = "{name: request-success-rate, thresholdRange: {min: 99}}";

pub(super) fn metrics(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, scope: &Scope<'_>) -> (Vec<Metric>, Vec<MetricSource>) {
    let Some(entry) = fields.take(cx, "metrics") else { return (Vec::new(), Vec::new()) };
    let items =
        limited(cx, "metrics", entry, PLAN_ENTRIES_MAX, "[{name: request-success-rate, thresholdRange: {min: 99}}]");
    items.iter().filter_map(|item| metric(cx, item, scope)).unzip()
}

fn metric(cx: &Cx<'_>, item: &Node<'_>, scope: &Scope<'_>) -> Option<(Metric, MetricSource)> {
    let mut fields = Fields::open(cx, "metrics", item, EXAMPLE)?;
    let help = format!("write `name: {SUCCESS_RATE}`");
    let entry = fields.require(cx, "name", "a metric", &help)?;
    let name = cx.scalar("name", &entry.value, |text| units::visible(text, 253, "a name", SUCCESS_RATE));
    let window = fields.scalar(cx, "interval", |text| units::duration(text, 1_000, "1m")).unwrap_or(scope.interval);
    let source = source(cx, &mut fields, entry, name.as_deref(), scope, window);
    let (kind, source) = source.unzip();
    let range = range(cx, &mut fields, entry, kind);
    fields.finish(cx);
    let metric = Metric { name: name?, source: kind?, range: Some(range?), threshold: 0.0 };
    Some((metric, source?))
}

/// Where its value comes from: a built-in counter, a template, or a query.
fn source(
    cx: &Cx<'_>,
    fields: &mut Fields<'_, '_>,
    name_entry: &Entry<'_>,
    name: Option<&str>,
    scope: &Scope<'_>,
    window: Duration,
) -> Option<(serin_rollout::MetricSource, MetricSource)> {
    let template = fields.has("templateRef").then(|| values::reference(cx, fields, "templateRef"));
    let query_entry = fields.take(cx, "query");
    let variables = fields.take(cx, "templateVariables");
    if let (Some(entry), None) = (variables, &template) {
        let message = "`templateVariables` has no effect without `templateRef`";
        cx.push(Diagnostic::error("rollout/no-effect", entry.key_span, message).help("remove it"));
    }
    let pairs = variables.map_or_else(Vec::new, |entry| {
        let name = |text: &str| units::token(text, "the name of a variable", "direction");
        let value = |text: &str| values::text(text, TEXT_BYTES_MAX, "a text", "inbound");
        values::pairs(cx, "templateVariables", entry, "{direction: inbound}", name, value)
    });
    if let (Some(entry), Some(_)) = (query_entry, &template) {
        let message = "`query` and `templateRef` contradict: a metric has one source";
        cx.push(Diagnostic::error("rollout/contradiction", entry.key_span, message).help("keep one of the two"));
        return None;
    }
    if let Some(found) = template {
        let (wanted, node) = found?;
        let template = scope.templates.names.find(cx, &wanted, node)?;
        check_variables(cx, node, scope.templates.list.get(template)?, &pairs);
        let source = MetricSource::Template { template, window, variables: pairs };
        return Some((serin_rollout::MetricSource::Template, source));
    }
    if let Some(entry) = query_entry {
        let text = cx.scalar("query", &entry.value, query);
        let text = text.filter(|text| check_template(cx, &entry.value, text, Some(&[])));
        let Some(address) = scope.server else {
            let message = "`query` needs the rollout's `metricsServer`: it is not said who is asked";
            let help = "add `metricsServer: http://prometheus:9090` to the rollout, or use a `templateRef`";
            cx.push(Diagnostic::error("rollout/no-server", entry.key_span, message).help(help));
            return None;
        };
        let source = MetricSource::Query { address: address.to_owned(), query: text?, window };
        return Some((serin_rollout::MetricSource::Query, source));
    }
    match name? {
        SUCCESS_RATE => Some((serin_rollout::MetricSource::SuccessRate, MetricSource::Own { window })),
        DURATION => Some((serin_rollout::MetricSource::Duration, MetricSource::Own { window })),
        other => {
            let message = format!("no built-in metric is called `{}`, and it has no `templateRef`", shown(other));
            let near = closest(other, [SUCCESS_RATE, DURATION]);
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("built in are `{SUCCESS_RATE}` and `{DURATION}`; add `templateRef: {{name: …}}`"),
            };
            cx.push(Diagnostic::error("rollout/unknown-metric", name_entry.value.span, message).help(help));
            None
        }
    }
}

/// The variables that a template asks for are those that the metric gives.
fn check_variables(cx: &Cx<'_>, node: &Node<'_>, template: &MetricTemplate, variables: &[(String, String)]) {
    match template::check(&template.query, variables) {
        Err(TemplateError::UnknownVariable { key, .. }) => {
            let message = format!("the template `{}` asks for `variables.{key}`", shown(&template.name));
            let missing = Diagnostic::error("rollout/template", node.span, message);
            cx.push(missing.help(format!("add `templateVariables: {{{key}: …}}`")));
        }
        Err(TemplateError::TooLong) => {
            let message = "with these variables the query is too long";
            cx.push(Diagnostic::error("rollout/template", node.span, message).help("shorten them"));
        }
        // What else is wrong with it was said where it stands.
        Err(_) | Ok(()) => {}
    }
}

type Range = (Option<f64>, Option<f64>);

/// `thresholdRange`, or the older `threshold`: least and most. Both ends pass.
fn range(
    cx: &Cx<'_>,
    fields: &mut Fields<'_, '_>,
    name: &Entry<'_>,
    kind: Option<serin_rollout::MetricSource>,
) -> Option<Range> {
    use serin_rollout::MetricSource::{Duration, SuccessRate};
    let old = fields.take(cx, "threshold");
    let written = fields.has("thresholdRange");
    let errors_before = cx.errors();
    let range = fields.map(cx, "thresholdRange", "{min: 99}").map(|mut range| {
        let (min, max) = (range.scalar(cx, "min", number), range.scalar(cx, "max", number));
        range.finish(cx);
        (min, max)
    });
    if let (Some(entry), true) = (old, written) {
        let message = "`threshold` and `thresholdRange` contradict: the old one would have no effect";
        cx.push(Diagnostic::error("rollout/contradiction", entry.key_span, message).help("remove `threshold`"));
        return None;
    }
    let range = match old {
        Some(entry) => {
            let limit = cx.scalar("threshold", &entry.value, number);
            if kind == Some(SuccessRate) { (limit, None) } else { (None, limit) }
        }
        None => range.unwrap_or((None, None)),
    };
    if cx.errors() > errors_before {
        return None;
    }
    let wrong = match (range, kind) {
        ((None, _), Some(SuccessRate)) => Some(("needs a lower limit: without one it always passes", "{min: 99}")),
        ((_, None), Some(Duration)) => Some(("needs an upper limit: without one it always passes", "{max: 500}")),
        ((None, None), _) => Some(("needs a limit: without one it always passes or always fails", "{max: 1}")),
        ((Some(min), Some(max)), _) if min > max => Some(("can never pass: `min` is above `max`", "{min: 1, max: 5}")),
        ((Some(min), _), Some(SuccessRate)) if !(0.0..=100.0).contains(&min) => {
            Some(("is in percent, and its `min` is not", "{min: 99}"))
        }
        _ => None,
    };
    if let Some((why, example)) = wrong {
        let place = fields.get("thresholdRange").map_or(name.value.span, |entry| entry.value.span);
        let shown_name = match &name.value.value {
            crate::yaml::Value::Scalar(scalar) => shown(&scalar.text),
            _ => String::new(),
        };
        let message = format!("the metric `{shown_name}` {why}");
        let help = format!("write `thresholdRange: {example}`");
        cx.push(Diagnostic::error("rollout/limit", place, message).help(help));
        return None;
    }
    Some(range)
}

/// A finite number, without the words that YAML has for others.
fn number(text: &str) -> Result<f64, Wrong> {
    let legal = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) && text.len() <= 64;
    let number = text.parse::<f64>().ok().filter(|number| legal && number.is_finite());
    number.ok_or_else(|| Wrong::new("a number", "99"))
}
