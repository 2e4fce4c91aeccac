//! Rules of requests, against the hosts that teams own.

use crate::diagnostic::Diagnostic;
use crate::dtab::Path;
use crate::model::HostMatch;
use crate::raw::{Cx, shown};
use crate::source::Span;
use crate::yaml::{Node, Value};

use super::super::route_rules;
use super::names::{Host, Name};
use super::{Claims, entry, scalar, text};

/// Every match of a team's rule is for hosts that it owns. The name may be any: who owns a host says where its requests go,
/// as a dentry may lead anywhere. What does not parse is told by who compiles it.
pub(super) fn check_rule(cx: &Cx<'_>, rule: &Node<'_>, claims: &Claims) {
    if !matches!(rule.value, Value::Map(_)) {
        return;
    }
    let Some(matches) = entry(rule, "match") else { return every_host(cx, rule.span, claims) };
    for one in cx.one_or_more(&matches.value) {
        if matches!(one.value, Value::Map(_)) && entry(one, "host").is_none() {
            every_host(cx, one.span, claims);
        }
        for (host, span) in hosts(cx, one) {
            if !claims.covers_host(&host) {
                let message = format!("requests for `{}` are not owned by this file", shown(&host.written()));
                claims.host_not_owned(cx, span, message);
            }
        }
    }
}

fn every_host(cx: &Cx<'_>, span: Span, claims: &Claims) {
    let message = "a rule for every host, in a file that owns some: it needs `host`".to_owned();
    claims.host_not_owned(cx, span, message);
}

/// Hosts of a match that can be read, with their places.
fn hosts<'n>(cx: &Cx<'_>, one: &'n Node<'_>) -> impl Iterator<Item = (HostMatch, Span)> + use<'n> {
    items(cx, one, "host").iter().filter_map(|item| Some((route_rules::host(scalar(item)?).ok()?, item.span)))
}

/// What a key holds, one or several.
fn items<'n, 's>(cx: &Cx<'_>, map: &'n Node<'s>, key: &str) -> &'n [Node<'s>] {
    entry(map, key).map(|entry| cx.one_or_more(&entry.value)).unwrap_or_default()
}

/// Rules of a router of the main file for all hosts below one, and the names they give.
pub(super) fn wild_rules(cx: &Cx<'_>, router: &Node<'_>) -> Vec<(Host, Name)> {
    let mut all = Vec::new();
    for rule in items(cx, router, "rules") {
        let Some(Ok(name)) = text(rule, "name").map(Path::parse) else { continue };
        for (host, _) in items(cx, rule, "match").iter().flat_map(|one| hosts(cx, one)) {
            if let HostMatch::Under(text) = host {
                all.push((Host { text, is_wild: true }, Name::of(&name)));
            }
        }
    }
    all
}

/// Hosts that the main file has rules for, by their text from its end: those below a host stand together.
pub(super) struct MainHosts(Vec<(String, Span)>);

impl MainHosts {
    pub(super) fn of(cx: &Cx<'_>, root: &Node<'_>) -> MainHosts {
        let rules = items(cx, root, "routers").iter().flat_map(|router| items(cx, router, "rules"));
        let matches = rules.flat_map(|rule| items(cx, rule, "match"));
        let text = |(host, span): (HostMatch, Span)| match host {
            HostMatch::Exact(text) | HostMatch::Under(text) => (reversed(&text), span),
        };
        let mut all: Vec<(String, Span)> = matches.flat_map(|one| hosts(cx, one)).map(text).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0)); // the first in the file stays the first of equals
        MainHosts(all)
    }

    /// No team owns a host that the main file has a rule for. Said once for each claim.
    pub(super) fn check(&self, cx: &Cx<'_>, claims: &Claims) {
        for (text, is_wild, written, span) in claims.hosts() {
            let claimed = reversed(text);
            let first = self.0.get(self.0.partition_point(|(host, _)| *host < claimed));
            let taken = first.filter(|(host, _)| *host == claimed || (is_wild && host.starts_with(&claimed)));
            if let Some((_, main)) = taken {
                let message = format!("`{}` belongs to the main file, which has a rule for it", shown(written));
                let theft = Diagnostic::error("teams/conflict", span, message).label("wanted here");
                let help = "own another host, or take the rule out of the main file first";
                cx.push(theft.related(*main, "its rule is here").help(help));
            }
        }
    }
}

fn reversed(host: &str) -> String {
    host.chars().rev().collect()
}
