//! Team files: what each may write, and how what it writes joins the main file.
//!
//! A team file is checked against what it says it `owns`, then its entries are put behind those of the main file, in the
//! tree and with their own places. One compilation reads the result: a key means the same in every file.

mod claims;
mod hosts;
mod names;
mod ways;
mod written;

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::raw::{Cx, FILE, Fields, listed, shown};
use crate::source::Source;
use crate::units::closest;
use crate::yaml::{self, Entry, Node, Value};

pub(crate) use claims::Claims;
pub use claims::OWNED_MAX;
pub use ways::WAYS_MAX;
pub(crate) use ways::Ways;

/// The longest team file, in bytes.
pub const TEAM_BYTES_MAX: usize = 1024 * 1024;
/// Nodes (scalars, lists, maps; keys too) of one team file.
pub const TEAM_NODES_MAX: usize = 100_000;

/// Top-level keys of a team file.
const TEAM_KEYS: &[&str] = &["owns", "clusters", "metricTemplates", "rollouts", "routers", "tests"];
/// What a team file may add to a router, beside its `label`.
const ROUTER_KEYS: &[&str] = &["dtab", "overrides", "rules", "splits"];
const ROUTER: &str = "{label: outgoing, dtab: /host/web => /srv/web}";

/// What team files add that has no place in the tree of the main file.
#[derive(Default)]
pub(super) struct Additions<'s> {
    /// By label of the router, in the order of the files.
    dtabs: HashMap<String, Vec<Node<'s>>>,
}

impl<'s> Additions<'s> {
    /// The dtabs that teams add to a router.
    pub(super) fn dtabs(&self, label: &str) -> &[Node<'s>] {
        self.dtabs.get(label).map_or(&[], Vec::as_slice)
    }
}

/// Reads the team files that are joined behind the main file, checks each, and puts what they write into `root`.
pub(super) fn merge<'s>(cx: &Cx<'_>, source: &'s Source, root: &mut Node<'s>) -> Additions<'s> {
    let mut additions = Additions::default();
    if source.teams() == 0 {
        return additions;
    }
    let routers = Routers::of(root);
    let ways = Ways::of(cx, root);
    let main_hosts = hosts::MainHosts::of(cx, root);
    let mut owned: Vec<Claims> = Vec::new();
    for file in 1..=source.teams() {
        let read = |sink: &mut _| yaml::read_file(source, file, TEAM_BYTES_MAX, TEAM_NODES_MAX, sink);
        let Some(mut team) = cx.with_sink(read) else { continue };
        let Some(claims) = check(cx, &team, &routers, &ways) else { continue };
        for earlier in &owned {
            earlier.check_against(cx, &claims);
        }
        written::check_main(cx, root, &ways, &claims);
        main_hosts.check(cx, &claims);
        owned.push(claims);
        add(root, &mut team, &routers, &mut additions.dtabs);
    }
    additions
}

/// What a lone team file says it owns, beside the main file of these ways. For somebody who only wants to know that: mistakes
/// of the file are said elsewhere.
pub(crate) fn claims_of(source: &Source, ways: &Ways) -> Option<Claims> {
    let mut sink = crate::diagnostic::Sink::default();
    let root = yaml::read_file(source, 0, TEAM_BYTES_MAX, TEAM_NODES_MAX, &mut sink)?;
    let cx = Cx::new(source, &|_| true, sink);
    let mut fields = Fields::open(&cx, FILE, &root, "owns: {prefixes: [/host/web]}")?;
    Some(Claims::read(&cx, &mut fields, ways))
}

/// Where a main file leads names.
pub(crate) fn ways_of(main: &Source) -> Ways {
    let mut sink = crate::diagnostic::Sink::default();
    let Some(root) = yaml::read(main, &mut sink) else { return Ways::default() };
    Ways::of(&Cx::new(main, &|_| true, sink), &root)
}

/// What team files need to know of the routers of the main file.
pub(super) struct Routers {
    /// Label and place in the list.
    by_label: HashMap<String, usize>,
}

impl Routers {
    fn of(root: &Node<'_>) -> Routers {
        let mut routers = Routers { by_label: HashMap::new() };
        let Some(Value::List(items)) = entry(root, "routers").map(|entry| &entry.value.value) else { return routers };
        for (index, item) in items.iter().enumerate() {
            // The label's default is the protocol, and that has a default too.
            let label = text(item, "label").or_else(|| text(item, "protocol")).unwrap_or("http");
            routers.by_label.entry(label.to_owned()).or_insert(index);
        }
        routers
    }
}

/// Everything that is said of a team file by itself. `None`: it is no map.
fn check(cx: &Cx<'_>, root: &Node<'_>, routers: &Routers, ways: &Ways) -> Option<Claims> {
    let mut fields = Fields::open(cx, FILE, root, "owns: {prefixes: [/host/web]}")?;
    if !fields.has("owns") {
        let missing = Diagnostic::error("teams/no-owns", fields.span, "a team file needs `owns`: what it may write");
        let help = "write `owns: {prefixes: [/svc/web], hosts: [web.example.com], clusters: [\"web-*\"]}`; \
                    the main file of a folder is the one called `serin.yaml`";
        cx.push(missing.help(help));
    }
    let claims = Claims::read(cx, &mut fields, ways);
    if let Some(entry) = fields.take(cx, "clusters") {
        for cluster in cx.entries("clusters", &entry.value, "{web-v1: {endpoints: [\"127.0.0.1:8081\"]}}") {
            claims.check_cluster(cx, &cluster.key, cluster.key_span);
        }
    }
    for (key, example) in [("metricTemplates", "[]"), ("tests", "[]")] {
        if let Some(entry) = fields.take(cx, key) {
            cx.list(key, &entry.value, example);
        }
    }
    if let Some(entry) = fields.take(cx, "rollouts") {
        for rollout in cx.list("rollouts", &entry.value, "[{name: web, path: /host/web}]") {
            written::check_path(cx, rollout, &claims);
        }
    }
    if let Some(entry) = fields.take(cx, "routers") {
        for router in cx.list("routers", &entry.value, ROUTER) {
            check_router(cx, router, routers, &claims);
        }
    }
    for entry in fields.unseen() {
        refuse(cx, entry, "a team file", TEAM_KEYS);
    }
    Some(claims)
}

/// A key that only the main file may have, or nobody.
fn refuse(cx: &Cx<'_>, entry: &Entry<'_>, holder: &str, known: &[&'static str]) {
    let message = format!("`{}` has no place in {holder}", shown(&entry.key));
    let help = match closest(&entry.key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("keys here: {}; everything else stands in the main file", listed(known)),
    };
    cx.push(Diagnostic::error("teams/not-here", entry.key_span, message).help(help));
}

fn check_router(cx: &Cx<'_>, item: &Node<'_>, routers: &Routers, claims: &Claims) {
    let Some(mut fields) = Fields::open(cx, "routers", item, ROUTER) else { return };
    let help = "write `label: outgoing`: the label of a router of the main file";
    let label = fields.require(cx, "label", "a router in a team file", help);
    let known = |text: &str| routers.by_label.contains_key(text);
    if let Some(entry) = label.filter(|entry| !scalar(&entry.value).is_some_and(known)) {
        let name = scalar(&entry.value).unwrap_or_default();
        let message = format!("the main file has no router labelled `{}`", shown(name));
        let near = closest(name, routers.by_label.keys().map(String::as_str));
        let unknown = Diagnostic::error("teams/unknown-router", entry.value.span, message);
        cx.push(unknown.maybe_help(near.map(|near| format!("did you mean `{near}`?"))));
    }
    if let Some(entry) = fields.take(cx, "dtab") {
        written::check_dtab(cx, &entry.value, claims);
    }
    if let Some(entry) = fields.take(cx, "overrides") {
        for rule in cx.list("overrides", &entry.value, "[{when: {cookie: {dogfood: yes}}, dtab: /host/web => /srv/b}]")
        {
            if let Some(dtab) = self::entry(rule, "dtab") {
                written::check_dtab(cx, &dtab.value, claims);
            }
        }
    }
    if let Some(entry) = fields.take(cx, "rules") {
        for rule in cx.list("rules", &entry.value, "[{match: {host: web.example.com}, name: /host/web}]") {
            hosts::check_rule(cx, rule, claims);
        }
    }
    if let Some(entry) = fields.take(cx, "splits") {
        for split in cx.list("splits", &entry.value, "[{path: /host/web, stickiness: {cookie: user}}]") {
            written::check_path(cx, split, claims);
        }
    }
    for entry in fields.unseen() {
        refuse(cx, entry, "a router of a team file", ROUTER_KEYS);
    }
}

/// Moves the entries of a checked team file behind those of the main file.
fn add<'s>(root: &mut Node<'s>, team: &mut Node<'s>, routers: &Routers, dtabs: &mut HashMap<String, Vec<Node<'s>>>) {
    for key in ["clusters", "metricTemplates", "rollouts", "tests"] {
        if let Some(entry) = remove(team, key) {
            append(root, entry);
        }
    }
    let Some(Entry { value: Node { value: Value::List(items), .. }, .. }) = remove(team, "routers") else { return };
    for mut item in items {
        let Some(label) = text(&item, "label").map(str::to_owned) else { continue };
        let Some(&index) = routers.by_label.get(&label) else { continue };
        if let Some(entry) = remove(&mut item, "dtab") {
            dtabs.entry(label).or_default().push(entry.value);
        }
        let Some(Value::List(routers)) = entry_mut(root, "routers").map(|entry| &mut entry.value.value) else { return };
        let Some(router) = routers.get_mut(index) else { continue };
        for key in ROUTER_KEYS {
            if let Some(entry) = remove(&mut item, key) {
                append(router, entry);
            }
        }
    }
}

/// Puts a list behind a list, a map behind a map; what does not fit together was told already.
fn append<'s>(map: &mut Node<'s>, added: Entry<'s>) {
    let Some(entry) = entry_mut(map, &added.key) else {
        if let Value::Map(entries) = &mut map.value {
            entries.push(added);
        }
        return;
    };
    match (&mut entry.value.value, added.value.value) {
        (Value::List(items), Value::List(more)) => items.extend(more),
        (Value::Map(entries), Value::Map(more)) => entries.extend(more),
        _ => {}
    }
}

fn entry<'n, 's>(map: &'n Node<'s>, key: &str) -> Option<&'n Entry<'s>> {
    let Value::Map(entries) = &map.value else { return None };
    entries.iter().find(|entry| entry.key == key)
}

fn entry_mut<'n, 's>(map: &'n mut Node<'s>, key: &str) -> Option<&'n mut Entry<'s>> {
    let Value::Map(entries) = &mut map.value else { return None };
    entries.iter_mut().find(|entry| entry.key == key)
}

fn remove<'s>(map: &mut Node<'s>, key: &str) -> Option<Entry<'s>> {
    let Value::Map(entries) = &mut map.value else { return None };
    let at = entries.iter().position(|entry| entry.key == key)?;
    Some(entries.remove(at))
}

/// The text of a key, if it has one.
fn text<'n>(map: &'n Node<'_>, key: &str) -> Option<&'n str> {
    scalar(&entry(map, key)?.value)
}

fn scalar<'n>(node: &'n Node<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
        _ => None,
    }
}

/// The place where a team says what it owns, for messages.
pub(super) fn owns_help(owned: &[String]) -> String {
    match owned {
        [] => "this file owns nothing of that kind: say so under `owns`".to_owned(),
        owned => format!("this file owns {}: add it to `owns`, or leave it to its owner", owned.join(", ")),
    }
}
