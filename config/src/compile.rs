//! From the tree of the file to a legal [`Config`]: every rule is checked here, and every mistake is reported.
//!
//! Each step takes the keys it knows and goes on with a default after a mistake, so that one run shows everything.

mod calls;
mod client;
mod conditions;
mod dtabs;
mod headers;
mod identifier;
mod idle;
mod interpreter;
mod limits;
mod names;
mod request_tests;
mod rollouts;
mod route_rules;
mod router;
mod rules;
mod server;
mod service;
mod stores;
mod teams;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Diagnostics, Sink};
use crate::model::{Admin, Config, Drain, Egress, Server};
use crate::raw::{Cx, FILE, Fields, not_built};
use crate::source::{Source, Span};
use crate::units;
use crate::yaml::{self, Entry, Value};

pub use calls::CONFIGS_MAX;
pub use client::{ACCRUAL_FAILURES_MAX, BUDGET_TTL_SECS_MAX, RETRIES_PER_SECOND_MAX, RETRY_SHARE_MAX};
pub use conditions::REGEX_BYTES_MAX;
pub use headers::STATIC_LABEL_BYTES_MAX;
pub use identifier::IDENTIFIERS_MAX;
pub use names::{DNS_HOSTS_MAX, REFRESH_S_MAX, TAG_WEIGHTS_MAX};
pub use request_tests::TESTS_MAX;
pub use rollouts::{
    ALERT_PROVIDERS_MAX, MATCH_RULES_MAX, METRIC_TEMPLATES_MAX, PAIRS_MAX, QUERY_BYTES_MAX, ROLLOUT_NAME_BYTES_MAX,
    ROLLOUTS_MAX, TEXT_BYTES_MAX, URL_BYTES_MAX,
};
pub use route_rules::{ROUTE_MATCHES_MAX, ROUTE_REGEXES_MAX, ROUTE_RULES_MAX, SAME_PLACE_MAX};
pub use rules::{OVERRIDES_MAX, VALUE_BYTES_MAX};
pub use server::CALL_DEPTH_MAX;
pub use service::{BINDING_NAMES_MAX, BODY_BYTES_MAX, RETRY_BUFFER_BYTES_MAX, STATUS_CODES_MAX};
pub use stores::INTERFACES_MAX;
pub use teams::{OWNED_MAX, TEAM_BYTES_MAX, TEAM_NODES_MAX, WAYS_MAX};
pub(crate) use teams::{Ways, claims_of, ways_of};

/// Worker threads that can be asked for.
pub const WORKERS_MAX: u64 = 1024;
/// The longest label of a router, in bytes: it is part of every metric.
pub const LABEL_BYTES_MAX: usize = 128;

const ADMIN_PORT: u16 = 9990;
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Top-level keys that Linkerd has, and what to do until then.
const NOT_BUILT: &[(&str, &str)] = &[("announcers", NOTHING_ANNOUNCED)];
const NOTHING_ANNOUNCED: &str = "remove the block: nothing is announced";

/// The whole file.
pub(crate) fn compile(
    source: &Source,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
    let mut sink = Sink::default();
    let Some(mut root) = yaml::read(source, &mut sink) else { return sink.finish(None) };
    let cx = Cx::new(source, exists, sink);
    let teams = teams::merge(&cx, source, &mut root);
    let config = Fields::open(&cx, FILE, &root, "routers: [{protocol: http, servers: [{port: 4140}]}]")
        .map(|fields| config(&cx, fields, &teams));
    cx.into_sink().finish(config)
}

fn config(cx: &Cx<'_>, mut fields: Fields<'_, '_>, teams: &teams::Additions<'_>) -> Config {
    let (admin, admin_span) = admin(cx, &mut fields);
    let workers = fields.scalar(cx, "workers", |text| units::whole(text, 1..=WORKERS_MAX, "4"));
    let clusters = names::clusters(cx, &mut fields);
    let (namers, all_namers) = names::namers(cx, &mut fields);
    let egress = egress(cx, &mut fields);
    let drain = drain(cx, &mut fields);
    telemetry(cx, &mut fields);
    let why = "Serin sends nothing home";
    fields.unneeded(cx, &[("usage", why)]);
    fields.not_built(cx, NOT_BUILT);
    let known = dtabs::Known::new(&clusters, &namers, all_namers);
    let mut routers = router::routers(cx, &mut fields, &known, teams);
    let mut doors = Vec::new();
    let interfaces = stores::interfaces(cx, &mut fields, &mut doors);
    stores::check_storage(cx, fields.has("storage"), &routers.stored, &doors);
    routers.listeners.append(&mut doors);
    let parts = rollouts::parts(cx, &mut fields, &rollouts::World { known: &known, routers: &routers });
    let tests = request_tests::tests(cx, &mut fields, &routers.list);
    check_addresses(cx, &routers.listeners, admin.address, admin_span);
    fields.finish(cx);
    Config {
        admin,
        workers: workers.and_then(|workers| NonZeroUsize::new(usize::try_from(workers).ok()?)),
        clusters,
        namers,
        routers: routers.list,
        egress,
        drain,
        rollouts: parts.rollouts,
        metric_templates: parts.metric_templates,
        alert_providers: parts.alert_providers,
        storage: parts.storage,
        tests,
        interfaces,
    }
}

/// The admin listener, and where it is written.
fn admin(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> (Admin, Option<Span>) {
    let (mut ip, mut port, mut span) = (LOOPBACK, ADMIN_PORT, None);
    let errors_before = cx.errors();
    if let Some(mut admin) = fields.map(cx, "admin", "{ip: 127.0.0.1, port: 9990}") {
        span = Some(admin.span);
        ip = admin.scalar(cx, "ip", units::ip).unwrap_or(ip);
        port = admin.scalar(cx, "port", units::listen_port).unwrap_or(port);
        admin.unneeded(cx, &[("workerThreads", "the admin server has one thread of its own")]);
        admin.not_built(
            cx,
            &[
                ("tls", "keep the admin listener on loopback"),
                ("security", "keep the admin listener on loopback"),
                ("httpIdentifierPort", "ask `/delegator.json` instead"),
                ("socketOptions", "remove the block: this listener has none to set"),
                ("shutdownGraceMs", "write `drain: {deadlineMs: 10000}` at the top of the file"),
            ],
        );
        admin.finish(cx);
    }
    // An address that could not be read clashes with nothing.
    let port = if cx.errors() == errors_before { port } else { 0 };
    (Admin { address: SocketAddr::new(ip, port) }, span)
}

fn egress(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Egress {
    let mut allow = Vec::new();
    if let Some(mut egress) = fields.map(cx, "egress", "{allow: [127.0.0.0/8]}") {
        if let Some(entry) = egress.take(cx, "allow") {
            let items = cx.list("allow", &entry.value, "[127.0.0.0/8]");
            allow = cx.scalars("allow", items, units::cidr);
        }
        egress.finish(cx);
    }
    Egress { allow }
}

fn drain(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Drain {
    let mut result = Drain { delay: Duration::ZERO, deadline: DRAIN_DEADLINE };
    if let Some(mut drain) = fields.map(cx, "drain", "{deadlineMs: 30000}") {
        result.delay = drain.scalar(cx, "delayMs", |text| units::millis(text, 0)).unwrap_or(result.delay);
        result.deadline = drain.scalar(cx, "deadlineMs", |text| units::millis(text, 0)).unwrap_or(result.deadline);
        drain.finish(cx);
    }
    result
}

/// `io.l5d.prometheus` is always on; it is accepted because Linkerd files have it.
fn telemetry(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) {
    let Some(Entry { value, .. }) = fields.take(cx, "telemetry") else { return };
    for item in cx.list("telemetry", value, "[{kind: io.l5d.prometheus}]") {
        let Some(mut telemeter) = Fields::open(cx, "telemetry", item, "{kind: io.l5d.prometheus}") else { continue };
        let written = written_kind(&telemeter);
        let missing: Vec<&'static str> = TELEMETERS_NOT_BUILT.iter().map(|(kind, _)| *kind).collect();
        let instead = TELEMETERS_NOT_BUILT.iter().find(|(kind, _)| written == Some(*kind));
        let instead = instead.map_or(METRICS, |(_, instead)| instead);
        let built = ["io.l5d.prometheus", RECENT_REQUESTS];
        match kind(cx, &mut telemeter, "telemetry", &built, &missing, instead) {
            None => {
                telemeter.abandon();
                continue;
            }
            Some(RECENT_REQUESTS) => recent_requests(cx, &mut telemeter),
            Some(_) => {
                telemeter.not_built(cx, &[("path", METRICS), ("prefix", "names of metrics begin with `serin_`")]);
            }
        }
        telemeter.scalar(cx, "experimental", units::boolean);
        telemeter.finish(cx);
    }
}

/// A page of Linkerd's admin server: no request is treated otherwise without it.
fn recent_requests(cx: &Cx<'_>, telemeter: &mut Fields<'_, '_>) {
    let span = telemeter.get("kind").map_or(telemeter.span, |entry| entry.value.span);
    calls::required(cx, telemeter, "sampleRate", "write `sampleRate: 0.02`", client::fraction);
    telemeter.scalar(cx, "capacity", |text| units::whole(text, 1..=u64::from(u32::MAX), "10"));
    let message = format!("`{RECENT_REQUESTS}` has no effect: no table of recent requests is kept");
    let useless = Diagnostic::warning("config/no-effect", span, message);
    cx.push(useless.help(format!("remove this entry; {METRICS}")));
}

const RECENT_REQUESTS: &str = "io.l5d.recentRequests";
const METRICS: &str = "metrics for Prometheus are always served, at `/metrics` of the admin listener";
const SPANS: &str = "remove this entry: headers of a trace are passed on, spans are not reported";

/// Telemeters of Linkerd, and what to do instead.
const TELEMETERS_NOT_BUILT: &[(&str, &str)] = &[
    ("io.l5d.commonMetrics", "write `kind: io.l5d.prometheus`, or remove this entry: `/metrics` is always served"),
    (
        "io.l5d.influxdb",
        "write `kind: io.l5d.prometheus` and let the `prometheus` input of Telegraf read `/metrics` of the admin listener",
    ),
    (
        "io.l5d.statsd",
        "write `kind: io.l5d.prometheus`: nothing is sent out, `/metrics` of the admin listener is there to be read",
    ),
    ("io.l5d.tracelog", SPANS),
    ("io.l5d.zipkin", SPANS),
    ("io.zipkin.http", SPANS),
];

/// The text of `kind`, if it is one, without taking it.
fn written_kind<'n>(fields: &Fields<'n, '_>) -> Option<&'n str> {
    match &fields.get("kind")?.value.value {
        Value::Scalar(scalar) => Some(&scalar.text),
        _ => None,
    }
}

/// `transformers`, of an interpreter and of a namer.
const TRANSFORMERS: (&str, &str) = (
    "transformers",
    "remove the block: requests go to the addresses as they are found; for another port, or for this host alone, \
     write the addresses under `clusters`, or `/$/inet/<host>/<port>` in the dtab",
);

const PLUGIN: &str =
    "plugins of Linkerd cannot be loaded: write one of these kinds, or remove the block for the default";

/// The `kind` of an object: one of `built`, or a refusal that tells what is unknown from what is not built yet.
fn kind(
    cx: &Cx<'_>,
    fields: &mut Fields<'_, '_>,
    what: &str,
    built: &[&'static str],
    missing: &[&'static str],
    instead: &str,
) -> Option<&'static str> {
    let example = format!("write `kind: {}`", built.first().copied().unwrap_or_default());
    let entry = fields.require(cx, "kind", &format!("`{what}`"), &example)?;
    let text = cx.scalar("kind", &entry.value, |text| Ok(text.to_owned()))?;
    if missing.contains(&text.as_str()) {
        let what = format!("`{what}` of kind `{text}`");
        cx.push(not_built(entry.value.span, &what, instead));
        return None;
    }
    let words: Vec<(&'static str, &'static str)> = built.iter().map(|kind| (*kind, *kind)).collect();
    let found = units::choice(&text, &words);
    found
        .map_err(|mut wrong| {
            let near = units::closest(&text, missing.iter().copied());
            wrong.help = wrong.help.or_else(|| match near {
                Some(near) => Some(format!("the nearest kind is `{near}`, which is not built yet")),
                None if text.contains('.') && !text.starts_with("io.l5d.") => Some(PLUGIN.to_owned()),
                None => None,
            });
            cx.wrong("kind", &entry.value, wrong);
        })
        .ok()
}

/// A listener of the file and where it is written.
struct Listener {
    address: SocketAddr,
    span: Span,
}

impl Listener {
    fn new(server: &Server, span: Span) -> Listener {
        Listener { address: server.address, span }
    }

    /// Two listeners clash on one port if their addresses are the same or one of them stands for all.
    fn clashes(&self, other: SocketAddr) -> bool {
        let (a, b) = (self.address, other);
        let same_family = a.is_ipv4() == b.is_ipv4();
        let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && same_family && overlap
    }
}

fn check_addresses(cx: &Cx<'_>, listeners: &[Listener], admin: SocketAddr, admin_span: Option<Span>) {
    let mut by_port: std::collections::HashMap<u16, Vec<&Listener>> = std::collections::HashMap::new();
    for listener in listeners {
        let earlier = by_port.entry(listener.address.port()).or_default();
        if let Some(clash) = earlier.iter().find(|earlier| earlier.clashes(listener.address)) {
            let message = format!("two servers would listen on {}", listener.address);
            let clashing = Diagnostic::error("config/address-in-use", listener.span, message);
            cx.push(clashing.related(clash.span, "the first one").help("give each server a port of its own"));
        } else {
            // Only addresses that do not clash are kept, so there are few per port: no quadratic search.
            earlier.push(listener);
        }
        if listener.clashes(admin) {
            let message = format!("this server would listen on {admin}, where the admin listener is");
            let clashing = Diagnostic::error("config/address-in-use", listener.span, message);
            let clashing = clashing.help("choose another port here, or write `admin: {port: 9991}`");
            cx.push(match admin_span {
                Some(span) => clashing.related(span, "the admin listener"),
                None => clashing,
            });
        }
    }
}

impl Config {
    /// Reads a configuration. What it returns beside the configuration are warnings.
    ///
    /// Folders the file names are taken to exist; [`Config::parse_with`] can be told.
    ///
    /// # Errors
    /// All mistakes of the text, up to [`DIAGNOSTICS_MAX`](crate::diagnostic::DIAGNOSTICS_MAX), and the warnings.
    pub fn parse(source: &Source) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
        Config::parse_with(source, &|_| true)
    }

    /// Reads a configuration, asking `exists` for each folder it names.
    ///
    /// # Errors
    /// As [`Config::parse`], and `config/no-folder` for a folder that does not exist.
    pub fn parse_with(
        source: &Source,
        exists: &dyn Fn(&Path) -> bool,
    ) -> Result<(Config, Vec<Diagnostic>), Diagnostics> {
        compile(source, exists)
    }
}
