//! `routers`: each a world of names with its listeners.

use std::collections::{HashMap, HashSet};

use crate::diagnostic::Diagnostic;
use crate::dtab::{Dtab, Path};
use crate::model::{Failover, Namerd, OnUnhealthy, Protocol, Router};
use crate::raw::{Cx, Fields, not_built};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::{Node, Value};

use super::dtabs::{self, Known};
use super::teams::Additions;
use super::{LABEL_BYTES_MAX, Listener, client, identifier, idle, route_rules, rules, server, service, stores};

const EXAMPLE: &str = "{protocol: http, servers: [{port: 4140}]}";

const ACCESS_LOG: &str = "remove the line: no access log is written; `/metrics` of the admin listener counts requests";

const NOT_BUILT: &[(&str, &str)] = &[
    ("announcers", super::NOTHING_ANNOUNCED),
    ("tls", "put TLS in front of Serin"),
    ("httpAccessLog", ACCESS_LOG),
    ("httpAccessLogRollPolicy", ACCESS_LOG),
    ("httpAccessLogAppend", ACCESS_LOG),
    ("httpAccessLogRotateCount", ACCESS_LOG),
    ("h2AccessLog", ACCESS_LOG),
    ("h2AccessLogRollPolicy", ACCESS_LOG),
    ("h2AccessLogAppend", ACCESS_LOG),
    ("h2AccessLogRotateCount", ACCESS_LOG),
    ("maxHeadersKB", "write `limits: {headBytes: 32768}` in the server"),
    ("maxInitialLineKB", "write `limits: {targetBytes: 16384}` in the server"),
    ("maxErrResponseKB", "remove the line: the message of an error made here is short"),
    ("streamAfterContentLengthKB", "bodies of every length are streamed"),
    ("compressionLevel", "bodies are passed on as they are"),
    ("retries", "write it under `service`: `service: {retries: {budget: {percentCanRetry: 0.2}}}`"),
];

/// All routers, and all places where they listen.
pub(super) struct Routers {
    pub(super) list: Vec<Router>,
    pub(super) listeners: Vec<Listener>,
    /// Labels of those whose dtab could not be read: nothing can be said of what it leads to.
    pub(super) unread: HashSet<String>,
    /// Where they name stored dtabs.
    pub(super) stored: Vec<Span>,
}

pub(super) fn routers(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, known: &Known<'_>, teams: &Additions<'_>) -> Routers {
    let mut routers = Routers { list: Vec::new(), listeners: Vec::new(), unread: HashSet::new(), stored: Vec::new() };
    let help = format!("write `routers: [{EXAMPLE}]`");
    let Some(entry) = fields.require(cx, "routers", "the file", &help) else { return routers };
    let items = cx.list("routers", &entry.value, "[{protocol: http, servers: [{port: 4140}]}]");
    if matches!(&entry.value.value, Value::List(none) if none.is_empty()) {
        let none = Diagnostic::error("config/missing-key", entry.key_span, "at least one router is needed");
        cx.push(none.help(help));
    }
    let mut labels: HashMap<String, Span> = HashMap::new();
    for item in items {
        let Some((router, span)) = router(cx, item, known, teams, &mut routers) else { continue };
        if let Some(earlier) = labels.get(&router.label) {
            let message = format!("two routers are labelled `{}`", crate::raw::shown(&router.label));
            let twice = Diagnostic::error("config/duplicate-label", span, message);
            cx.push(twice.related(*earlier, "the first one").help("give each router a `label` of its own"));
        } else {
            labels.insert(router.label.clone(), span);
        }
        routers.list.push(router);
    }
    routers
}

/// A router and the place of its label.
fn router(
    cx: &Cx<'_>,
    item: &Node<'_>,
    known: &Known<'_>,
    teams: &Additions<'_>,
    routers: &mut Routers,
) -> Option<(Router, Span)> {
    let mut fields = Fields::open(cx, "routers", item, EXAMPLE)?;
    let (name, protocol, port) = protocol(cx, &mut fields);
    let span = fields.get("label").map_or(fields.span, |entry| entry.value.span);
    let label = |text: &str| units::visible(text, LABEL_BYTES_MAX, "a label", "outgoing");
    let label = fields.scalar(cx, "label", label).unwrap_or_else(|| name.to_owned());
    let dst_prefix = fields.scalar(cx, "dstPrefix", path).or_else(|| path("/svc").ok())?;
    let errors_before = cx.errors();
    let interpreter = stores::interpreter(cx, &mut fields, &mut routers.stored);
    // what namerd knows is not for us to say, nor what an interpreter that is not understood would
    let is_elsewhere = interpreter.namerd().is_some() || cx.errors() > errors_before;
    let elsewhere = is_elsewhere.then(|| known.elsewhere());
    let known = elsewhere.as_ref().unwrap_or(known);
    let base = base_dtab(cx, &mut fields, known, teams.dtabs(&label), interpreter.namerd().is_some());
    if base.is_none() {
        routers.unread.insert(label.clone());
    }
    let written: Vec<&Node<'_>> =
        fields.get("dtab").map(|entry| &entry.value).into_iter().chain(teams.dtabs(&label)).collect();
    let is_read = base.is_some();
    let overrides = rules::overrides(cx, &mut fields, known, base.as_ref());
    // A stored dtab may have the dentry that is meant.
    let in_file = base.as_ref().filter(|_| interpreter.namespace().is_none());
    if let (Some(_), Some(entry)) = (interpreter.namerd(), fields.get("splits")) {
        let message = "`splits` of a router whose names a namerd binds: its unions come without a name";
        let wrong = Diagnostic::error("config/not-here", entry.key_span, message);
        cx.push(wrong.help("remove the line, or write `interpreter: {kind: default}`"));
    }
    let splits = rules::splits(cx, &mut fields, in_file);
    let on_unhealthy = rules::on_unhealthy(cx, &mut fields).unwrap_or(OnUnhealthy::Redistribute);
    let failovers = [("health", Failover::Health), ("names", Failover::Names)];
    let failover = fields.scalar(cx, "failover", |text| units::choice(text, &failovers)).unwrap_or_default();
    let servers = servers(cx, &mut fields, port, &mut routers.listeners);
    let (client, client_parts) = client::client(cx, &mut fields, protocol);
    let (client_parts, client_spans): (Vec<_>, Vec<_>) = client_parts.into_iter().unzip();
    let (service, service_parts) = service::service(cx, &mut fields);
    let (service_parts, service_spans): (Vec<_>, Vec<_>) = service_parts.into_iter().unzip();
    let router = Router {
        label,
        dst_prefix,
        identifiers: identifier::identifiers(cx, &mut fields),
        rules: route_rules::rules(cx, &mut fields),
        dtab: base.unwrap_or(Dtab(Vec::new())),
        overrides,
        splits,
        failover,
        on_unhealthy,
        servers,
        client,
        client_parts,
        service,
        service_parts,
        binding: service::binding(cx, &mut fields),
        interpreter,
        propagator: super::headers::propagator(cx, &mut fields),
    };
    others(cx, &mut fields);
    fields.finish(cx);
    idle::check_parts(cx, &router, known, &client_spans, &service_spans);
    if is_read {
        idle::check_builtins(cx, &router, &written);
    }
    Some((router, span))
}

/// The dtab of the main file, and behind it those of the teams, which are all more specific.
fn base_dtab(
    cx: &Cx<'_>,
    fields: &mut Fields<'_, '_>,
    known: &Known<'_>,
    added: &[Node<'_>],
    travels: bool,
) -> Option<Dtab> {
    let mut base = match fields.take(cx, "dtab") {
        Some(entry) => dtabs::dtab(cx, &entry.value, known, None)?,
        None => Dtab(Vec::new()),
    };
    let mut whole = true;
    for node in added {
        match dtabs::dtab(cx, node, known, Some(&base)) {
            Some(more) => base.0.extend(more.0),
            None => whole = false,
        }
    }
    if travels {
        fits_a_question(cx, fields, &base);
    }
    whole.then_some(base)
}

/// A namerd is sent the router's dtab with each name.
fn fits_a_question(cx: &Cx<'_>, fields: &Fields<'_, '_>, base: &Dtab) {
    let (octets, max) = (Namerd::octets(&base.to_string()), Namerd::DTAB_OCTETS_MAX);
    if octets <= max {
        return;
    }
    let span = fields.get("dtab").map_or(fields.span, |entry| entry.value.span);
    let message =
        format!("a dtab that goes to a namerd with each name may have {max} octets as it is sent, this has {octets}");
    let help = "store it in the namerd's namespace, and write here only what this router adds";
    cx.push(Diagnostic::error("config/too-long", span, message).help(help));
}

/// The protocol's name (the default label), what upstreams speak by default, and the default port: both of Linkerd.
fn protocol(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> (&'static str, Protocol, u16) {
    const HTTP: (&str, Protocol, u16) = ("http", Protocol::Auto, 4140);
    // An h2 router of Linkerd speaks HTTP/2 on both sides.
    const H2: (&str, Protocol, u16) = ("h2", Protocol::H2, 4142);
    let written = fields.get("protocol").map(|entry| entry.value.span);
    let protocol = fields.scalar(cx, "protocol", |text| {
        let missing = ["mux", "thrift", "thriftmux"].into_iter().find(|missing| *missing == text);
        match missing {
            // Its own name, so that it is not mistaken for a second router labelled `http`.
            Some(name) => Ok((name, HTTP.1, HTTP.2)),
            None => units::choice(text, &[("http", HTTP), ("h2", H2)]),
        }
    });
    let protocol = protocol.unwrap_or(HTTP);
    if let (Some(span), true) = (written, protocol.0 != HTTP.0 && protocol.0 != H2.0) {
        let instead = "write `protocol: http`, which speaks HTTP/1.1 and HTTP/2 on one port";
        cx.push(not_built(span, &format!("the protocol `{}`", protocol.0), instead));
    }
    protocol
}

fn path(text: &str) -> Result<Path, Wrong> {
    Path::parse(text).map_err(|errors| Wrong::new("a path", "/svc").help(errors.in_text(text)))
}

fn servers(
    cx: &Cx<'_>,
    fields: &mut Fields<'_, '_>,
    port: u16,
    listeners: &mut Vec<Listener>,
) -> Vec<crate::model::Server> {
    let Some(entry) = fields.require(cx, "servers", "a router", "write `servers: [{port: 4140}]`") else {
        return Vec::new();
    };
    let items = cx.list("servers", &entry.value, "[{port: 4140}]");
    if matches!(&entry.value.value, Value::List(none) if none.is_empty()) {
        let message = "a router needs at least one server";
        cx.push(
            Diagnostic::error("config/missing-key", entry.key_span, message).help("write `servers: [{port: 4140}]`"),
        );
    }
    let servers = items.iter().filter_map(|item| server::server(cx, item, port));
    let keep = |(server, span): (crate::model::Server, Span)| {
        listeners.push(Listener::new(&server, span));
        server
    };
    servers.map(keep).collect()
}

/// Keys that change nothing, or nothing yet.
fn others(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) {
    fields.scalar(cx, "experimental", units::boolean);
    if fields.scalar(cx, "originator", units::boolean) == Some(true) {
        fields.not_built(cx, &[("originator", "remove the line")]);
    }
    match fields.scalar(cx, "streamingEnabled", units::boolean) {
        Some(true) => fields.unneeded(cx, &[("streamingEnabled", "bodies are always streamed")]),
        Some(false) => fields.not_built(cx, &[("streamingEnabled", "bodies are always streamed: remove the line")]),
        None => {}
    }
    let why = "bodies are streamed, their length has no limit";
    fields.unneeded(
        cx,
        &[("maxRequestKB", why), ("maxResponseKB", why), ("threads", "`workers` is set for the process")],
    );
    fields.not_built(cx, NOT_BUILT);
}
