//! `overrides` and `splits`: what requests change of the dtab, and how weighted unions are drawn.

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::dtab::{Dtab, Prefix};
use crate::model::{OnUnhealthy, OverrideRule, SplitRule, StickyKey, When};
use crate::raw::{Cx, Fields, shown};
use crate::source::Span;
use crate::units::{self, Wrong, closest};
use crate::yaml::{Entry, Node};

use super::dtabs::{self, Known};

/// Override rules of one router: every request is compared with each.
pub const OVERRIDES_MAX: usize = 1000;
/// The longest value a cookie, a header or a path is compared with, in bytes.
pub const VALUE_BYTES_MAX: usize = 4096;

const WHEN: &str = "{cookie: {dogfood: yes}}";
const RULE: &str = "{when: {cookie: {dogfood: yes}}, dtab: /host/web => /srv/web-v2}";
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];

pub(super) fn overrides(
    cx: &Cx<'_>,
    fields: &mut Fields<'_, '_>,
    known: &Known<'_>,
    base: Option<&Dtab>,
) -> Vec<OverrideRule> {
    let Some(entry) = fields.take(cx, "overrides") else { return Vec::new() };
    let items =
        cx.list("overrides", &entry.value, "[{when: {cookie: {dogfood: yes}}, dtab: /host/web => /srv/web-v2}]");
    if items.len() > OVERRIDES_MAX {
        let message = format!("a router has {} override rules, {OVERRIDES_MAX} are allowed", items.len());
        let many = Diagnostic::error("config/too-many", entry.key_span, message);
        cx.push(many.help("send `l5d-dtab` from what knows the user: one header replaces any number of rules"));
    }
    items.iter().take(OVERRIDES_MAX).filter_map(|item| override_rule(cx, item, known, base)).collect()
}

fn override_rule(cx: &Cx<'_>, item: &Node<'_>, known: &Known<'_>, base: Option<&Dtab>) -> Option<OverrideRule> {
    let mut fields = Fields::open(cx, "overrides", item, RULE)?;
    let conditions = fields.require(cx, "when", "an override rule", &format!("write `when: {WHEN}`"));
    let when = conditions.and_then(|entry| when(cx, entry));
    let help = "write `dtab: /host/web => /srv/web-v2`";
    let dtab = fields.require(cx, "dtab", "an override rule", help).and_then(|entry| {
        let dtab = dtabs::dtab(cx, &entry.value, known, base)?;
        if dtab.is_empty() {
            let empty = Diagnostic::error("config/empty-override", entry.value.span, "this dtab has no dentry");
            cx.push(empty.help(help));
        }
        Some(dtab)
    });
    fields.finish(cx);
    Some(OverrideRule { when: when?, dtab: dtab? })
}

pub(super) fn when(cx: &Cx<'_>, entry: &Entry<'_>) -> Option<When> {
    let mut fields = Fields::open(cx, "when", &entry.value, WHEN)?;
    let errors_before = cx.errors();
    let mut when = When::default();
    if let Some(entry) = fields.take(cx, "cookie") {
        let name = |text: &str| units::token(text, "the name of a cookie", "dogfood");
        when.cookies = pairs(cx, "cookie", entry, "{dogfood: yes}", name, cookie_value);
    }
    if let Some(entry) = fields.take(cx, "header") {
        when.headers = pairs(cx, "header", entry, "{x-tester: ann}", units::header_name, header_value);
        check_headers(cx, entry, &when.headers);
    }
    if let Some(entry) = fields.take(cx, "method") {
        let items = cx.one_or_more(&entry.value);
        when.methods = cx.scalars("method", items, method);
    }
    when.path_prefix = fields.scalar(cx, "pathPrefix", request_path);
    if let Some(entry) = fields.take(cx, "source") {
        let items = cx.one_or_more(&entry.value);
        when.sources = cx.scalars("source", items, units::cidr);
    }
    fields.finish(cx);
    // `cookie: {}` or `method: []` looks like a condition and is none.
    if cx.errors() == errors_before && when == When::default() {
        let message = "an override rule needs a condition: this one would hold for every request";
        let none = Diagnostic::error("config/no-condition", entry.key_span, message);
        cx.push(none.help(format!("write `when: {WHEN}`, or put the dentry into the router's `dtab`")));
    }
    Some(when)
}

/// A map of names and exact values.
pub(super) fn pairs(
    cx: &Cx<'_>,
    key: &'static str,
    entry: &Entry<'_>,
    example: &'static str,
    name: impl Fn(&str) -> Result<String, Wrong>,
    value: impl Fn(&str) -> Result<String, Wrong>,
) -> Vec<(String, String)> {
    let read = |entry: &Entry<'_>| {
        let read = name(&entry.key);
        let name = read.map_err(|wrong| {
            let message = format!("`{}` is not {}, for example `{}`", shown(&entry.key), wrong.allowed, wrong.example);
            cx.push(Diagnostic::error("config/wrong-value", entry.key_span, message));
        });
        let value = cx.scalar(&entry.key, &entry.value, &value);
        Some((name.ok()?, value?))
    };
    cx.entries(key, &entry.value, example).into_iter().filter_map(read).collect()
}

/// `X-A` and `x-a` are one header: two values for it can never both hold.
pub(super) fn check_headers(cx: &Cx<'_>, entry: &Entry<'_>, headers: &[(String, String)]) {
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
        let message = format!("the header `{}` is written twice: case does not matter", pair[0]);
        cx.push(Diagnostic::error("config/duplicate-key", entry.value.span, message).help("keep one of them"));
    }
}

/// RFC 6265 section 4.1.1, without quotes.
fn cookie_value(text: &str) -> Result<String, Wrong> {
    let legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
    let wrong = || {
        let allowed =
            format!("at most {VALUE_BYTES_MAX} visible ASCII characters without quotes, comma, semicolon, backslash");
        Wrong::new(allowed, "dogfood")
    };
    if text.len() <= VALUE_BYTES_MAX && text.bytes().all(legal) { Ok(text.to_owned()) } else { Err(wrong()) }
}

pub(super) fn header_value(text: &str) -> Result<String, Wrong> {
    let value = units::visible(text, VALUE_BYTES_MAX, "the value of a header", "ann")?;
    if value.trim() == value {
        return Ok(value);
    }
    Err(Wrong::new("a text without white space around it", "ann"))
}

pub(super) fn method(text: &str) -> Result<String, Wrong> {
    let method = units::token(text, "a method", "GET")?;
    let upper = method.to_ascii_uppercase();
    if method != upper && METHODS.contains(&upper.as_str()) {
        return Err(Wrong::new("a method", "GET").help(format!("methods are upper case: write `{upper}`")));
    }
    Ok(method)
}

pub(super) fn request_path(text: &str) -> Result<String, Wrong> {
    let legal = text.starts_with('/') && text.len() <= VALUE_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    if legal && !text.contains(['?', '#']) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new("the beginning of a request path, without query, escaped as it is sent", "/admin"))
}

pub(super) fn on_unhealthy(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Option<OnUnhealthy> {
    let words = [("redistribute", OnUnhealthy::Redistribute), ("fail", OnUnhealthy::Fail)];
    fields.scalar(cx, "onUnhealthy", |text| units::choice(text, &words))
}

pub(super) fn splits(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, base: Option<&Dtab>) -> Vec<SplitRule> {
    let Some(entry) = fields.take(cx, "splits") else { return Vec::new() };
    // Built once: a split rule is looked up among what may be a hundred thousand dentries.
    let mut prefixes: HashMap<String, bool> = HashMap::new();
    for dentry in base.iter().flat_map(|dtab| &dtab.0) {
        *prefixes.entry(dentry.prefix.to_string()).or_default() |= dtabs::has_union(&dentry.destination);
    }
    let mut seen: HashMap<String, Span> = HashMap::new();
    let mut rules = Vec::new();
    for item in cx.list("splits", &entry.value, "[{path: /host/web, stickiness: {cookie: user}}]") {
        let Some((rule, span)) = split_rule(cx, item) else { continue };
        if let Some(earlier) = seen.get(&rule.path) {
            let message = format!("two split rules are for `{}`", shown(&rule.path));
            let twice = Diagnostic::error("config/duplicate-split", span, message);
            cx.push(twice.related(*earlier, "the first one").help("keep one of them"));
            continue;
        }
        seen.insert(rule.path.clone(), span);
        // A dtab that could not be read has said so already.
        if base.is_some() {
            check_split(cx, &rule.path, span, &prefixes);
        }
        rules.push(rule);
    }
    rules
}

fn split_rule(cx: &Cx<'_>, item: &Node<'_>) -> Option<(SplitRule, Span)> {
    let mut fields = Fields::open(cx, "splits", item, "{path: /host/web, stickiness: {cookie: user}}")?;
    let help = "write `path: /host/web`: the left side of a dentry whose right side is a union";
    let entry = fields.require(cx, "path", "a split rule", help);
    let prefix = |text: &str| {
        let parsed = Prefix::parse(text);
        parsed.map_err(|errors| Wrong::new("the left side of a dentry", "/host/web").help(errors.in_text(text)))
    };
    let path = entry.and_then(|entry| Some((cx.scalar("path", &entry.value, prefix)?, entry.value.span)));
    let stickiness = fields.map(cx, "stickiness", "{cookie: user}").and_then(|fields| stickiness(cx, fields));
    let on_unhealthy = on_unhealthy(cx, &mut fields);
    fields.finish(cx);
    let (prefix, span) = path?;
    Some((SplitRule { path: prefix.to_string(), stickiness, on_unhealthy }, span))
}

pub(super) fn stickiness(cx: &Cx<'_>, mut fields: Fields<'_, '_>) -> Option<StickyKey> {
    let span = fields.span;
    let cookie = |text: &str| units::token(text, "the name of a cookie", "user");
    let written = ["cookie", "header", "source"].iter().filter(|key| fields.has(key)).count();
    let cookie = fields.scalar(cx, "cookie", cookie).map(StickyKey::Cookie);
    let header = fields.scalar(cx, "header", units::header_name).map(StickyKey::Header);
    let source = fields.scalar(cx, "source", |text| units::choice(text, &[("address", ())]));
    fields.finish(cx);
    if written != 1 {
        let message = "`stickiness` needs exactly one of `cookie`, `header` and `source`";
        cx.push(Diagnostic::error("config/stickiness", span, message).help("write `stickiness: {cookie: user}`"));
    }
    cookie.or(header).or(source.map(|()| StickyKey::Source))
}

fn check_split(cx: &Cx<'_>, path: &str, span: Span, prefixes: &HashMap<String, bool>) {
    match prefixes.get(path) {
        Some(true) => {}
        Some(false) => {
            let message = format!("the dentry `{}` has no union: there is nothing to split", shown(path));
            let help = format!("write `{} => 9 * /srv/web-v1 & 1 * /srv/web-v2` in the `dtab`", shown(path));
            cx.push(Diagnostic::error("config/no-split", span, message).help(help));
        }
        None => {
            let message = format!("no dentry of the router's `dtab` has the prefix `{}`", shown(path));
            let mut unions: Vec<&str> = prefixes.iter().filter(|(_, split)| **split).map(|(path, _)| &**path).collect();
            unions.sort_unstable();
            let help = match closest(path, unions.iter().copied().take(NEAR_PREFIXES_MAX)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write the left side of a dentry whose right side is a union".to_owned(),
            };
            cx.push(Diagnostic::error("config/no-split", span, message).help(help));
        }
    }
}

/// Prefixes compared with a path that is none, for "did you mean".
const NEAR_PREFIXES_MAX: usize = 10_000;
