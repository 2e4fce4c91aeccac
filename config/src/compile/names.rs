//! `clusters` and `namers`: what names can be bound to.

mod namers;

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::dtab::Path;
use crate::model::{Cluster, HostPort};
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units;
use crate::yaml::{Entry, Node};

pub(super) use namers::namers;
pub use namers::{DNS_HOSTS_MAX, REFRESH_S_MAX, TAG_WEIGHTS_MAX};

/// The prefix under `/#` of the clusters of the file.
pub(crate) const CLUSTERS: &str = "clusters";

pub(super) fn clusters(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Vec<Cluster> {
    let Some(entry) = fields.take(cx, "clusters") else { return Vec::new() };
    let entries = cx.entries("clusters", &entry.value, "{world-v1: {endpoints: [\"127.0.0.1:8081\"]}}");
    entries.into_iter().filter_map(|entry| cluster(cx, entry)).collect()
}

fn cluster(cx: &Cx<'_>, entry: &Entry<'_>) -> Option<Cluster> {
    let name = entry.key.to_string();
    // One element as it is written in a dtab, without escapes: so a name looks the same wherever it stands.
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '#' | '$' | '%' | '-');
    let named = !name.is_empty() && name.chars().all(legal) && Path::from_labels([name.as_bytes()]).is_some();
    if !named {
        let allowed = "one element of a path: letters, digits and `_:.#$%-`";
        let message = format!("a cluster's name is {allowed}; this is `{}`", crate::raw::shown(&name));
        cx.push(Diagnostic::error("config/cluster-name", entry.key_span, message));
    }
    let mut endpoints = Vec::new();
    if let Some(mut fields) = Fields::open(cx, &name, &entry.value, "{endpoints: [\"127.0.0.1:8081\"]}") {
        fields.span = entry.key_span;
        let help = "write `endpoints: [\"127.0.0.1:8081\"]`, or `endpoints: []` for none";
        let written = fields.require(cx, "endpoints", "a cluster", help);
        endpoints = written.map_or_else(Vec::new, |entry| read_endpoints(cx, &entry.value));
        fields.finish(cx);
    }
    named.then_some(Cluster { name, endpoints })
}

fn read_endpoints(cx: &Cx<'_>, list: &Node<'_>) -> Vec<HostPort> {
    let items = cx.list("endpoints", list, "[\"127.0.0.1:8081\"]");
    let mut first: HashMap<HostPort, Span> = HashMap::with_capacity(items.len());
    let mut endpoints = Vec::with_capacity(items.len());
    for item in items {
        let Some(endpoint) = cx.item("endpoints", item, units::cluster_endpoint) else { continue };
        if let Some(earlier) = first.get(&endpoint) {
            let twice = Diagnostic::error("config/duplicate-endpoint", item.span, "this endpoint is written twice");
            cx.push(twice.label("again here").related(*earlier, "first here").help("keep one of them"));
            continue;
        }
        first.insert(endpoint.clone(), item.span);
        endpoints.push(endpoint);
    }
    endpoints
}
