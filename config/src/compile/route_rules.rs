//! `rules`: what a request is like → its name, and what is changed on the way.

mod effects;
mod reach;

use crate::diagnostic::Diagnostic;
use crate::dtab::Path;
use crate::model::{HostMatch, PathMatch, RouteMatch, RouteRule, TextMatch};
use crate::raw::{Cx, Fields, listed, shown};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::{Node, Value};

use super::rules::{VALUE_BYTES_MAX, check_headers, method, request_path};
use super::{PAIRS_MAX, conditions};

pub use reach::SAME_PLACE_MAX;

/// Rules of one router.
pub const ROUTE_RULES_MAX: usize = 50_000;
/// Matches of one rule, and hosts of one match.
pub const ROUTE_MATCHES_MAX: usize = 64;
/// Regular expressions of all rules of one router, because none of them can be looked up.
pub const ROUTE_REGEXES_MAX: usize = 256;

const RULE: &str = "{match: {host: api.example.com, path: {prefix: /v2}}, name: /svc/api-v2}";
const MATCH: &str = "{host: api.example.com, path: {prefix: /v2}}";

pub(super) fn rules(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Vec<RouteRule> {
    let Some(entry) = fields.take(cx, "rules") else { return Vec::new() };
    let items = cx.list("rules", &entry.value, "[{match: {host: api.example.com}, name: /svc/api}]");
    if items.len() > ROUTE_RULES_MAX {
        let message = format!("a router has {} rules, {ROUTE_RULES_MAX} are allowed", items.len());
        let help = "let the identifier make names of hosts, and the dtab say where they lead";
        cx.push(Diagnostic::error("config/too-many", entry.key_span, message).help(help));
    }
    let mut reach = reach::Reach::default();
    let mut regexes = Regexes { found: 0, said: false };
    let mut all = Vec::with_capacity(items.len().min(ROUTE_RULES_MAX));
    for item in items.iter().take(ROUTE_RULES_MAX) {
        if cx.is_full() {
            break;
        }
        let Some((rule, spans)) = rule(cx, item) else { continue };
        regexes.count(cx, &rule, item.span);
        reach.check(cx, &rule, &spans);
        all.push(rule);
    }
    all
}

/// A rule, and where each of its matches stands.
fn rule(cx: &Cx<'_>, item: &Node<'_>) -> Option<(RouteRule, Vec<Span>)> {
    let mut fields = Fields::open(cx, "rules", item, RULE)?;
    let errors_before = cx.errors();
    let span = fields.span;
    let (matches, spans) = match fields.take(cx, "match") {
        Some(entry) => matches(cx, &entry.value, entry.key_span),
        None => (vec![RouteMatch::default()], vec![span]),
    };
    let name = fields.scalar(cx, "name", logical_name);
    let mut rule = RouteRule { matches, name, ..RouteRule::default() };
    effects::read(cx, &mut fields, &mut rule);
    fields.finish(cx);
    if cx.errors() != errors_before {
        return None;
    }
    effects::check(cx, &rule, span);
    (cx.errors() == errors_before).then_some((rule, spans))
}

/// One match or a list of them, any of which will do.
fn matches(cx: &Cx<'_>, node: &Node<'_>, key_span: Span) -> (Vec<RouteMatch>, Vec<Span>) {
    let items = cx.one_or_more(node);
    if items.is_empty() {
        let none = Diagnostic::error("config/no-condition", key_span, "`match` is empty: no request would match");
        cx.push(none.help(format!("write `match: {MATCH}`, or remove it: then every request matches")));
    }
    if items.len() > ROUTE_MATCHES_MAX {
        let message = format!("a rule has {} matches, {ROUTE_MATCHES_MAX} are allowed", items.len());
        cx.push(Diagnostic::error("config/too-many", key_span, message).help("write several rules"));
    }
    let found = items.iter().take(ROUTE_MATCHES_MAX).filter_map(|item| Some((one_match(cx, item)?, item.span)));
    found.unzip()
}

fn one_match(cx: &Cx<'_>, item: &Node<'_>) -> Option<RouteMatch> {
    let mut fields = Fields::open(cx, "match", item, MATCH)?;
    let mut found = RouteMatch::default();
    let errors_before = cx.errors();
    if let Some(entry) = fields.take(cx, "host") {
        let items = cx.one_or_more(&entry.value);
        if items.len() > ROUTE_MATCHES_MAX {
            let message = format!("`host` has {} entries, {ROUTE_MATCHES_MAX} are allowed", items.len());
            cx.push(Diagnostic::error("config/too-many", entry.key_span, message).help("write several rules"));
        }
        found.hosts = cx.scalars("host", &items[..items.len().min(ROUTE_MATCHES_MAX)], host);
        found.hosts.sort_unstable();
        found.hosts.dedup();
        not_empty(cx, "host", items.is_empty(), entry.key_span);
    }
    if let Some(entry) = fields.take(cx, "path") {
        found.path = path(cx, &entry.value);
    }
    if let Some(entry) = fields.take(cx, "method") {
        let items = cx.one_or_more(&entry.value);
        found.methods = cx.scalars("method", items, method);
        not_empty(cx, "method", items.is_empty(), entry.key_span);
    }
    if let Some(entry) = fields.take(cx, "headers") {
        found.headers = conditions::conditions(cx, ("headers", true), entry, units::header_name);
        let names: Vec<(String, String)> =
            found.headers.iter().map(|(name, _)| (name.clone(), String::new())).collect();
        check_headers(cx, entry, &names);
        not_empty(cx, "headers", found.headers.is_empty() && cx.errors() == errors_before, entry.key_span);
    }
    if let Some(entry) = fields.take(cx, "query") {
        let parameter = |text: &str| units::visible(text, VALUE_BYTES_MAX, "the name of a query parameter", "beta");
        found.query = conditions::conditions(cx, ("query", true), entry, parameter);
        not_empty(cx, "query", found.query.is_empty() && cx.errors() == errors_before, entry.key_span);
    }
    fields.finish(cx);
    debug_assert!(found.headers.len() <= PAIRS_MAX && found.query.len() <= PAIRS_MAX, "conditions are bounded");
    (cx.errors() == errors_before).then_some(found)
}

/// `method: []` looks like a condition and is none.
fn not_empty(cx: &Cx<'_>, key: &str, empty: bool, span: Span) {
    if empty {
        let none = Diagnostic::error("config/no-condition", span, format!("`{key}` is empty: it would always hold"));
        cx.push(none.help("remove the line"));
    }
}

/// Exactly one of the three ways to compare a path.
fn path(cx: &Cx<'_>, node: &Node<'_>) -> Option<PathMatch> {
    if let Value::Scalar(scalar) = &node.value {
        let text = shown(&scalar.text);
        let message = format!("`path` is `{text}`, and does not say how it is compared");
        let help = format!("write `path: {{prefix: {text}}}` for all below it, or `path: {{exact: {text}}}`");
        cx.push(Diagnostic::error("config/condition", node.span, message).help(help));
        return None;
    }
    let mut fields = Fields::open(cx, "path", node, "{prefix: /v2}")?;
    let written = ["exact", "prefix", "regex"].iter().filter(|key| fields.has(key)).count();
    let found = [
        fields.scalar(cx, "exact", request_path).map(PathMatch::Exact),
        fields.scalar(cx, "prefix", request_path).map(|text| PathMatch::Prefix(text.trim_end_matches('/').to_owned())),
        fields.take(cx, "regex").and_then(|entry| conditions::regex(cx, &entry.value)).map(PathMatch::Regex),
    ];
    fields.finish(cx);
    if written != 1 {
        let message = format!("`path` needs exactly one of {}", listed(&["exact", "prefix", "regex"]));
        cx.push(Diagnostic::error("config/condition", node.span, message).help("write `path: {prefix: /v2}`"));
        return None;
    }
    found.into_iter().flatten().next()
}

/// `name`, `*.name`, or an address; without port.
pub(super) fn host(text: &str) -> Result<HostMatch, Wrong> {
    let wrong = || Wrong::new("a host without port, or `*.` and one", "api.example.com");
    if text == "*" {
        return Err(wrong().help("remove the line: without `host` a rule is for every host"));
    }
    let (wild, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    if name.contains('*') {
        return Err(wrong().help("`*` stands for one or more labels, at the beginning: `*.example.com`"));
    }
    match units::host(name) {
        Some(name) if wild => Ok(HostMatch::Under(format!(".{name}"))),
        Some(name) => Ok(HostMatch::Exact(name)),
        None => match name.rsplit_once(':').and_then(|(name, _)| units::host(name)) {
            Some(name) => {
                Err(wrong().help(format!("write `{}{name}`: ports play no part", if wild { "*." } else { "" })))
            }
            None => Err(wrong()),
        },
    }
}

fn logical_name(text: &str) -> Result<Path, Wrong> {
    let wrong = || Wrong::new("a logical name, which the dtab looks up", "/svc/web");
    match Path::parse(text) {
        Ok(path) if crate::identify::written_key(&path).is_none() => Err(wrong().help("it is too long for a name")),
        Ok(path) if path.is_empty() => Err(wrong()),
        Ok(path) => Ok(path),
        Err(errors) => Err(wrong().help(errors.in_text(text))),
    }
}

/// Counts the expressions of a router.
struct Regexes {
    found: usize,
    said: bool,
}

impl Regexes {
    fn count(&mut self, cx: &Cx<'_>, rule: &RouteRule, span: Span) {
        let is_regex = |condition: &&TextMatch| matches!(condition, TextMatch::Regex(_));
        for one in &rule.matches {
            let path = usize::from(matches!(one.path, Some(PathMatch::Regex(_))));
            let pairs = one.headers.iter().chain(&one.query).map(|(_, condition)| condition);
            self.found += path + pairs.filter(is_regex).count();
        }
        if self.found > ROUTE_REGEXES_MAX && !self.said {
            self.said = true;
            let message = format!("the rules of a router have more than {ROUTE_REGEXES_MAX} regular expressions");
            let help = "each is tried until one matches: write prefixes where they will do";
            cx.push(Diagnostic::error("config/too-many", span, message).help(help));
        }
    }
}
