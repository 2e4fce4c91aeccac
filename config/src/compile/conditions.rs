//! Conditions on texts: exact, by prefix, by suffix, by regular expression.

use crate::diagnostic::Diagnostic;
use crate::model::TextMatch;
use crate::raw::{Cx, Fields, listed};
use crate::units::{self, Wrong};
use crate::yaml::{Entry, Node, Value};

use super::PAIRS_MAX;
use super::rules::{self, VALUE_BYTES_MAX};

/// The longest regular expression, in bytes.
pub const REGEX_BYTES_MAX: usize = 1024;

/// A map of names and conditions. `plain`: a text alone is a condition too, the whole value.
pub(super) fn conditions(
    cx: &Cx<'_>,
    (key, plain): (&'static str, bool),
    entry: &Entry<'_>,
    name: impl Fn(&str) -> Result<String, Wrong>,
) -> Vec<(String, TextMatch)> {
    let entries = cx.entries(key, &entry.value, "{x-canary: {exact: insider}}");
    if entries.len() > PAIRS_MAX {
        let message = format!("`{key}` has {} entries, {PAIRS_MAX} are allowed", entries.len());
        cx.push(Diagnostic::error("config/too-many", entry.key_span, message));
    }
    let read = |entry: &&Entry<'_>| {
        let name = name(&entry.key).map_err(|wrong| {
            let shown = crate::raw::shown(&entry.key);
            let message = format!("`{shown}` is not {}, for example `{}`", wrong.allowed, wrong.example);
            cx.push(Diagnostic::error("config/wrong-value", entry.key_span, message));
        });
        let condition = condition(cx, entry, plain);
        Some((name.ok()?, condition?))
    };
    let mut conditions: Vec<_> = entries.iter().take(PAIRS_MAX).filter_map(read).collect();
    // All must hold, in whatever order.
    conditions.sort_by(|(a, _), (b, _)| a.cmp(b));
    conditions
}

/// Exactly one of the four ways to compare.
fn condition(cx: &Cx<'_>, entry: &Entry<'_>, plain: bool) -> Option<TextMatch> {
    if plain && matches!(entry.value.value, Value::Scalar(_)) {
        return cx.scalar(&entry.key, &entry.value, rules::header_value).map(TextMatch::Exact);
    }
    let mut fields = Fields::open(cx, &entry.key, &entry.value, "{exact: insider}")?;
    let span = entry.value.span;
    let value = |text: &str| units::visible(text, VALUE_BYTES_MAX, "a text", "insider");
    let written = ["exact", "prefix", "regex", "suffix"].iter().filter(|key| fields.has(key)).count();
    let found = [
        fields.scalar(cx, "exact", value).map(TextMatch::Exact),
        fields.scalar(cx, "prefix", value).map(TextMatch::Prefix),
        fields.scalar(cx, "suffix", value).map(TextMatch::Suffix),
        fields.take(cx, "regex").and_then(|entry| regex(cx, &entry.value)),
    ];
    fields.finish(cx);
    if written != 1 {
        let message = format!("a condition needs exactly one of {}", listed(&["exact", "prefix", "regex", "suffix"]));
        cx.push(Diagnostic::error("config/condition", span, message).help("write `{exact: insider}`"));
        return None;
    }
    found.into_iter().flatten().next()
}

/// An expression that has to match the whole text, as Envoy reads them.
pub(super) fn regex(cx: &Cx<'_>, node: &Node<'_>) -> Option<TextMatch> {
    let text =
        cx.scalar("regex", node, |text| units::visible(text, REGEX_BYTES_MAX, "a regular expression", "canary-.*"))?;
    match TextMatch::regex(&text) {
        Ok(regex) => Some(regex),
        Err(regex::Error::CompiledTooBig(_)) => {
            let message = "this regular expression needs too much memory once it is compiled";
            let help = "repeat less: `x{1000}` is a thousand steps";
            cx.push(Diagnostic::error("config/regex", node.span, message).help(help));
            None
        }
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let message = format!("this is no regular expression: {why}");
            let help = "the syntax is RE2's: no look-around and no back-references";
            cx.push(Diagnostic::error("config/regex", node.span, message).help(help));
            None
        }
    }
}
