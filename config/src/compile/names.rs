//! `clusters` and `namers`: what names can be bound to.

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::dtab::Path;
use crate::model::{Cluster, HostPort, Namer, NamerKind};
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::{Entry, Node};

/// The prefix under `/#` of the clusters of the file.
pub(crate) const CLUSTERS: &str = "clusters";

const NAMERS_NOT_BUILT: &[&str] = &[
    "io.l5d.consul",
    "io.l5d.curator",
    "io.l5d.dnssrv",
    "io.l5d.k8s",
    "io.l5d.k8s.external",
    "io.l5d.k8s.istio",
    "io.l5d.k8s.ns",
    "io.l5d.marathon",
    "io.l5d.rancher",
    "io.l5d.rewrite",
    "io.l5d.serversets",
    "io.l5d.zkLeader",
];

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
        let Some(endpoint) = cx.item("endpoints", item, units::endpoint) else { continue };
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

/// The namers, and whether none was refused.
pub(super) fn namers(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> (Vec<Namer>, bool) {
    let Some(entry) = fields.take(cx, "namers") else { return (Vec::new(), true) };
    let items = cx.list("namers", &entry.value, "[{kind: io.l5d.fs, rootDir: disco}]");
    let namers: Vec<Namer> = items.iter().filter_map(|item| namer(cx, item)).collect();
    let all = namers.len() == items.len();
    (namers, all)
}

fn namer(cx: &Cx<'_>, item: &Node<'_>) -> Option<Namer> {
    let mut fields = Fields::open(cx, "namers", item, "{kind: io.l5d.fs, rootDir: disco}")?;
    let instead = "until then, list addresses under `clusters`, keep them in files (`io.l5d.fs`), \
                   or let DNS answer: `/$/inet/<name>/<port>`";
    let Some(kind) = super::kind(cx, &mut fields, "namers", &["io.l5d.fs"], NAMERS_NOT_BUILT, instead) else {
        fields.abandon();
        return None;
    };
    fields.scalar(cx, "experimental", units::boolean);
    fields.not_built(cx, &[("transformers", "")]);
    let prefix = fields.scalar(cx, "prefix", prefix).or_else(|| prefix(kind).ok())?;
    let help = "write `rootDir: disco`: a folder with one file of addresses for each name";
    let root_dir = fields.require(cx, "rootDir", "a namer of kind `io.l5d.fs`", help);
    fields.finish(cx);
    let entry = root_dir?;
    let text =
        cx.scalar("rootDir", &entry.value, |text| units::visible(text, 4096, "the path of a folder", "disco"))?;
    let root_dir = cx.source.folder().join(text);
    if !(cx.exists)(&root_dir) {
        let message = format!("the folder `{}` does not exist", root_dir.display());
        let missing = Diagnostic::error("config/no-folder", entry.value.span, message);
        cx.push(missing.help("create it; a relative path starts from the folder of the configuration file"));
    }
    Some(Namer { prefix, kind: NamerKind::Fs { root_dir } })
}

/// `io.l5d.fs` or `/io.l5d.fs`, as Linkerd files have both.
fn prefix(text: &str) -> Result<Path, Wrong> {
    let wrong = || Wrong::new("one or more elements of a path", "io.l5d.fs");
    let path = if text.starts_with('/') { Path::parse(text) } else { Path::parse(&format!("/{text}")) };
    let path = path.map_err(|_| wrong())?;
    match path.label(0) {
        None => Err(wrong()),
        Some(first) if first == CLUSTERS.as_bytes() => {
            Err(wrong().help("`/#/clusters` is taken by the `clusters` of this file: choose another prefix"))
        }
        Some(_) => Ok(path),
    }
}
