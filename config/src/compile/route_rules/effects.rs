//! What a rule does: rewrites, redirects, changes of headers.

use crate::diagnostic::Diagnostic;
use crate::model::{HeaderChanges, PathMatch, PathRewrite, Redirect, RouteRule};
use crate::raw::{Cx, Fields, shown};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::{Node, Value};

use super::super::PAIRS_MAX;
use super::super::rules::{VALUE_BYTES_MAX, header_value, pairs};

/// Headers that Serin writes itself, or that say where a message ends.
const OWN: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
const OWN_PREFIXES: &[&str] = &["dtab-", "l5d-", "l5d_", "x-dtab-", "x-forwarded-"];

/// Reads the keys that say what is done.
pub(super) fn read(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, rule: &mut RouteRule) {
    if let Some(mut rewrite) = fields.map(cx, "rewrite", "{path: {prefix: /}}") {
        rule.rewrite_host = rewrite.scalar(cx, "host", host_and_port);
        rule.rewrite_path = rewrite.take(cx, "path").and_then(|entry| path(cx, &entry.value));
        let span = rewrite.span;
        let empty = !rewrite.has("host") && !rewrite.has("path");
        rewrite.finish(cx);
        nothing(cx, empty, "rewrite", span);
    }
    if let Some(redirect) = fields.map(cx, "redirect", "{status: 301, scheme: https}") {
        rule.redirect = Some(self::redirect(cx, redirect));
    }
    if let Some(mut headers) = fields.map(cx, "headers", "{request: {set: {x-env: test}}}") {
        let span = headers.span;
        let empty = !headers.has("request") && !headers.has("response");
        if let Some(request) = headers.map(cx, "request", "{set: {x-env: test}}") {
            rule.request = changes(cx, request);
        }
        if let Some(response) = headers.map(cx, "response", "{remove: [server]}") {
            rule.response = changes(cx, response);
        }
        headers.finish(cx);
        nothing(cx, empty, "headers", span);
    }
}

/// What is legal by itself may contradict the rest of its rule.
pub(super) fn check(cx: &Cx<'_>, rule: &RouteRule, span: Span) {
    let changes = rule.rewrite_host.is_some() || rule.rewrite_path.is_some() || !rule.request.is_empty();
    if let Some(redirect) = &rule.redirect {
        if rule.name.is_some() || changes {
            let message =
                "a rule that redirects sends nothing on: it can have no `name`, `rewrite` or `headers.request`";
            let both = Diagnostic::error("config/contradiction", span, message);
            cx.push(both.help("write two rules, with different matches"));
        }
        let Redirect { scheme, host, port, path, .. } = redirect;
        if scheme.is_none() && host.is_none() && port.is_none() && path.is_none() {
            let message = "this redirect leads to where it came from, for ever";
            let same = Diagnostic::error("config/contradiction", span, message);
            cx.push(same.help("write at least one of `scheme`, `host`, `port`, `path`"));
        }
    } else if rule.name.is_none() && !changes && rule.response.is_empty() {
        let none = Diagnostic::error("config/empty-rule", span, "this rule does nothing");
        cx.push(none.help("write `name: /svc/web`, `redirect`, `rewrite` or `headers`"));
    }
    let rewrites = [rule.rewrite_path.as_ref(), rule.redirect.as_ref().and_then(|redirect| redirect.path.as_ref())];
    let by_prefix = |rule: &RouteRule| rule.matches.iter().all(|one| matches!(one.path, Some(PathMatch::Prefix(_))));
    if rewrites.into_iter().flatten().any(|path| matches!(path, PathRewrite::Prefix(_))) && !by_prefix(rule) {
        let message = "this rule replaces the prefix of a path, and has a match without a prefix";
        let none = Diagnostic::error("config/contradiction", span, message);
        cx.push(none.help("write `path: {prefix: /…}` in each match, or `path: /…` for the whole path"));
    }
}

/// A whole path, or another prefix in place of the one that matched.
fn path(cx: &Cx<'_>, node: &Node<'_>) -> Option<PathRewrite> {
    if let Value::Map(_) = &node.value {
        let mut fields = Fields::open(cx, "path", node, "{prefix: /}")?;
        let help = "write `path: {prefix: /new}`, or `path: /new` for the whole path";
        let entry = fields.require(cx, "prefix", "`path`", help);
        let prefix = entry.and_then(|entry| cx.scalar("prefix", &entry.value, sent_path));
        fields.finish(cx);
        return prefix.map(|text| PathRewrite::Prefix(text.trim_end_matches('/').to_owned()));
    }
    cx.scalar("path", node, sent_path).map(PathRewrite::Full)
}

fn redirect(cx: &Cx<'_>, mut fields: Fields<'_, '_>) -> Redirect {
    let statuses = [("302", 302), ("301", 301), ("303", 303), ("307", 307), ("308", 308)];
    let status = fields.scalar(cx, "status", |text| units::choice(text, &statuses)).unwrap_or(302);
    let scheme = fields.scalar(cx, "scheme", |text| units::choice(text, &[("https", "https"), ("http", "http")]));
    let host = fields.scalar(cx, "host", |text| {
        let wrong = Wrong::new("a host without port", "www.example.com");
        units::host(text).ok_or_else(|| wrong.help("the port has a key of its own: `port`"))
    });
    let port = fields.scalar(cx, "port", |text| {
        let port = units::whole(text, 1..=u64::from(u16::MAX), "443")?;
        u16::try_from(port).map_err(|_| Wrong::new("a port", "443"))
    });
    let path = fields.take(cx, "path").and_then(|entry| path(cx, &entry.value));
    fields.finish(cx);
    Redirect { status, scheme, host, port, path }
}

fn changes(cx: &Cx<'_>, mut fields: Fields<'_, '_>) -> HeaderChanges {
    let (span, empty) = (fields.span, !["set", "add", "remove"].iter().any(|key| fields.has(key)));
    let mut changes = HeaderChanges::default();
    if let Some(entry) = fields.take(cx, "set") {
        changes.set = pairs(cx, "set", entry, "{x-env: test}", units::header_name, header_value);
        limited(cx, "set", changes.set.len(), entry.key_span);
    }
    if let Some(entry) = fields.take(cx, "add") {
        changes.add = pairs(cx, "add", entry, "{x-env: test}", units::header_name, header_value);
        limited(cx, "add", changes.add.len(), entry.key_span);
    }
    if let Some(entry) = fields.take(cx, "remove") {
        let items = cx.one_or_more(&entry.value);
        limited(cx, "remove", items.len(), entry.key_span);
        changes.remove = cx.scalars("remove", items, units::header_name);
    }
    fields.finish(cx);
    nothing(cx, empty, "this", span);
    check_names(cx, &changes, span);
    changes
}

/// A header is changed in one way, and some belong to Serin.
fn check_names(cx: &Cx<'_>, changes: &HeaderChanges, span: Span) {
    let pairs = changes.set.iter().chain(&changes.add).map(|(name, _)| name);
    let mut names: Vec<&String> = pairs.chain(&changes.remove).collect();
    names.sort_unstable();
    for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
        let message = format!("the header `{}` is changed twice", shown(pair[0]));
        cx.push(Diagnostic::error("config/duplicate-key", span, message).help("keep one of `set`, `add`, `remove`"));
    }
    names.dedup();
    for name in names {
        if OWN.contains(&name.as_str()) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            let message = format!("the header `{}` is Serin's to write", shown(name));
            let help = match name.as_str() {
                "host" => "write `rewrite: {host: …}`",
                _ => "remove it here: it follows from the connection, the message or the route",
            };
            cx.push(Diagnostic::error("config/own-header", span, message).help(help));
        }
    }
}

fn limited(cx: &Cx<'_>, key: &str, count: usize, span: Span) {
    if count > PAIRS_MAX {
        let message = format!("`{key}` has {count} entries, {PAIRS_MAX} are allowed");
        cx.push(Diagnostic::error("config/too-many", span, message));
    }
}

fn nothing(cx: &Cx<'_>, empty: bool, what: &str, span: Span) {
    if empty {
        let what = if what == "this" { "this changes".to_owned() } else { format!("`{what}` changes") };
        cx.push(Diagnostic::error("config/empty-rule", span, format!("{what} nothing")).help("remove it"));
    }
}

/// A path as it is sent: the octets that RFC 3986 section 3.3 allows, without query.
fn sent_path(text: &str) -> Result<String, Wrong> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&byte);
    if text.starts_with('/') && text.len() <= VALUE_BYTES_MAX && text.bytes().all(legal) {
        return Ok(text.to_owned());
    }
    let wrong = Wrong::new("a path, without query, escaped as it is sent", "/new");
    Err(if text.contains(['?', '#']) { wrong.help("the query that was asked is kept") } else { wrong })
}

/// `name` or `name:port`, as a `Host` field has it.
fn host_and_port(text: &str) -> Result<String, Wrong> {
    let wrong = || Wrong::new("`name` or `name:port`", "api.internal");
    if let Some(host) = units::host(text) {
        return Ok(host);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = units::host(host).ok_or_else(wrong)?;
    let port = units::whole(port, 1..=u64::from(u16::MAX), "8080").map_err(|_| wrong())?;
    Ok(format!("{host}:{port}"))
}
