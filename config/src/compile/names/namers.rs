//! `namers`: where names come from that the file does not list itself.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::compile::{TRANSFORMERS, kind};
use crate::diagnostic::Diagnostic;
use crate::dtab::{Path, Pattern, Weight};
use crate::model::{ConsistencyMode, Consul, DnsSrv, HealthStatus, Host, HostPort, Namer, NamerKind};
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::Node;

use super::CLUSTERS;

const BUILT: &[&str] = &["io.l5d.fs", "io.l5d.consul", "io.l5d.dnssrv", "io.l5d.rewrite"];

const NOT_BUILT: &[&str] = &[
    "io.l5d.curator",
    "io.l5d.k8s",
    "io.l5d.k8s.external",
    "io.l5d.k8s.istio",
    "io.l5d.k8s.ns",
    "io.l5d.marathon",
    "io.l5d.rancher",
    "io.l5d.serversets",
    "io.l5d.zkLeader",
];

/// Tags that can have a weight.
pub const TAG_WEIGHTS_MAX: usize = 256;
/// Name servers of one namer.
pub const DNS_HOSTS_MAX: usize = 16;
/// The longest wait between two questions of `io.l5d.dnssrv`.
pub const REFRESH_S_MAX: u64 = 86_400;

const REWRITE: &str = "io.l5d.rewrite";
const CONSUL_PORT: u16 = 8500;
const DNS_PORT: u16 = 53;
const TEXT_BYTES_MAX: usize = 4096;
const REFRESH: Duration = Duration::from_secs(5);

/// The namers, and whether none was refused.
pub(crate) fn namers(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> (Vec<Namer>, bool) {
    let Some(entry) = fields.take(cx, "namers") else { return (Vec::new(), true) };
    let items = cx.list("namers", &entry.value, "[{kind: io.l5d.fs, rootDir: disco}]");
    let read: Vec<(Namer, Span)> = items.iter().filter_map(|item| namer(cx, item)).collect();
    overlaps(cx, &read);
    let namers: Vec<Namer> = read.into_iter().map(|(namer, _)| namer).collect();
    let all = namers.len() == items.len();
    (namers, all)
}

fn namer(cx: &Cx<'_>, item: &Node<'_>) -> Option<(Namer, Span)> {
    let mut fields = Fields::open(cx, "namers", item, "{kind: io.l5d.fs, rootDir: disco}")?;
    let span = fields.get("kind").map_or(fields.span, |entry| entry.value.span);
    let instead = "until then, list addresses under `clusters`, keep them in files (`io.l5d.fs`), \
                   or let DNS answer: `/$/inet/<name>/<port>`";
    let Some(kind) = kind(cx, &mut fields, "namers", BUILT, NOT_BUILT, instead) else {
        fields.abandon();
        return None;
    };
    fields.scalar(cx, "experimental", units::boolean);
    fields.not_built(cx, &[TRANSFORMERS]);
    let prefix = match fields.has("prefix") {
        true => fields.scalar(cx, "prefix", prefix),
        false if kind == REWRITE => {
            fields.require(cx, "prefix", "a namer of kind `io.l5d.rewrite`", "write `prefix: books`");
            None
        }
        false => prefix(kind).ok(),
    };
    let kind = match kind {
        "io.l5d.consul" => consul(cx, &mut fields).map(|consul| NamerKind::Consul(Box::new(consul))),
        "io.l5d.dnssrv" => Some(NamerKind::DnsSrv(dns_srv(cx, &mut fields))),
        REWRITE => rewrite(cx, &mut fields),
        _ => fs(cx, &mut fields),
    };
    fields.finish(cx);
    Some((Namer { prefix: prefix?, kind: kind? }, span))
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

/// Whether a name exists is known only once the namer has been asked, so there is nobody to pass it on to.
fn overlaps(cx: &Cx<'_>, namers: &[(Namer, Span)]) {
    for (index, (namer, span)) in namers.iter().enumerate() {
        let meets = |other: &&(Namer, Span)| {
            let asked = namer.kind.asked_labels().or(other.0.kind.asked_labels());
            asked.is_some() && (namer.prefix.starts_with(&other.0.prefix) || other.0.prefix.starts_with(&namer.prefix))
        };
        if let Some((other, first)) = namers[..index].iter().find(meets) {
            let message = format!(
                "this namer and an earlier one share names: `/#{}` and `/#{}`, and one of them must be asked for each name",
                namer.prefix, other.prefix
            );
            let clash = Diagnostic::error("config/namer-overlap", *span, message);
            cx.push(clash.related(*first, "the earlier one").help("give each a `prefix` of its own"));
        }
    }
}

fn fs(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Option<NamerKind> {
    let help = "write `rootDir: disco`: a folder with one file of addresses for each name";
    let entry = fields.require(cx, "rootDir", "a namer of kind `io.l5d.fs`", help)?;
    let path = |text: &str| units::visible(text, TEXT_BYTES_MAX, "the path of a folder", "disco");
    let root_dir = cx.source.folder().join(cx.scalar("rootDir", &entry.value, path)?);
    if !(cx.exists)(&root_dir) {
        let message = format!("the folder `{}` does not exist", root_dir.display());
        let missing = Diagnostic::error("config/no-folder", entry.value.span, message);
        cx.push(missing.help("create it; a relative path starts from the folder of the configuration file"));
    }
    Some(NamerKind::Fs { root_dir })
}

/// The target is tried with a label for each capture, so that a capture that the pattern lacks shows here.
fn rewrite(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Option<NamerKind> {
    let (what, help) =
        ("a namer of kind `io.l5d.rewrite`", "write `pattern: \"/{service}/api\"` and `name: \"/srv/{service}\"`");
    let pattern_entry = fields.require(cx, "pattern", what, help);
    let name_entry = fields.require(cx, "name", what, help);
    let pattern = cx.scalar("pattern", &pattern_entry?.value, |text| {
        let wrong = || Wrong::new("a pattern of a path", "\"/{service}/api\"");
        Pattern::parse(text).map_err(|error| wrong().help(error.to_string()))
    })?;
    let name = cx.scalar("name", &name_entry?.value, |text| {
        let tried = pattern.names().fold(text.to_owned(), |text, name| text.replace(&format!("{{{name}}}"), "x"));
        let wrong = || Wrong::new("a path with captures of `pattern`", "\"/srv/{service}\"");
        Path::parse(&tried).map(|_| text.to_owned()).map_err(|_| wrong())
    })?;
    Some(NamerKind::Rewrite { pattern, name })
}

fn consul(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Option<Consul> {
    let errors_before = cx.errors();
    let host = fields.scalar(cx, "host", host).unwrap_or(Host::Name("localhost".to_owned()));
    let port = fields.scalar(cx, "port", port).unwrap_or(CONSUL_PORT);
    let flag = |fields: &mut Fields<'_, '_>, key| fields.scalar(cx, key, units::boolean);
    let include_tag = flag(fields, "includeTag").unwrap_or(false);
    let use_health = flag(fields, "useHealthCheck").unwrap_or(false);
    let statuses = health_statuses(cx, fields, use_health);
    let token = |text: &str| units::visible(text, TEXT_BYTES_MAX, "an ACL token", "b1gs33cr3t");
    let consul = Consul {
        agent: HostPort { host, port },
        include_tag,
        health: use_health.then_some(statuses),
        token: fields.scalar(cx, "token", token),
        set_host: flag(fields, "setHost").unwrap_or(false),
        consistency: fields.scalar(cx, "consistencyMode", consistency).unwrap_or_default(),
        fail_fast: flag(fields, "failFast").unwrap_or(false),
        prefer_service_address: flag(fields, "preferServiceAddress").unwrap_or(true),
        weights: tag_weights(cx, fields),
    };
    fields.unneeded(cx, &[("fixedLengthStreamedAfterKB", "every answer is read as a stream, within 4 MB")]);
    if let Some(entry) = fields.take(cx, "transferMetadata")
        && cx.scalar("transferMetadata", &entry.value, units::boolean) == Some(true)
    {
        let message = "`transferMetadata` is not built yet";
        let missing = Diagnostic::error("config/not-built", entry.key_span, message);
        cx.push(missing.help("remove the line: nothing here reads the metadata of a service"));
    }
    let tls = "reach the agent on loopback or a private network, or through a proxy that adds TLS";
    fields.not_built(cx, &[("tls", tls)]);
    (cx.errors() == errors_before).then_some(consul)
}

fn health_statuses(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, used: bool) -> Vec<HealthStatus> {
    let Some(entry) = fields.take(cx, "healthStatuses") else { return vec![HealthStatus::Passing] };
    let read = |text: &str| {
        let words = [
            ("passing", HealthStatus::Passing),
            ("warning", HealthStatus::Warning),
            ("critical", HealthStatus::Critical),
            ("maintenance", HealthStatus::Maintenance),
        ];
        units::choice(text, &words)
    };
    let mut statuses = cx.scalars("healthStatuses", cx.list("healthStatuses", &entry.value, "[passing]"), read);
    statuses.sort_unstable();
    statuses.dedup();
    if !used {
        let message = "`healthStatuses` has no effect without `useHealthCheck: true`";
        let idle = Diagnostic::warning("config/no-effect", entry.key_span, message);
        cx.push(idle.help("write `useHealthCheck: true` beside it, or remove the line"));
    } else if statuses.is_empty() {
        let message = "`healthStatuses` lists nothing, so no instance would ever be used";
        let empty = Diagnostic::error("config/wrong-value", entry.value.span, message);
        cx.push(empty.help("write `[passing]`, or remove the line"));
    }
    statuses
}

fn consistency(text: &str) -> Result<ConsistencyMode, Wrong> {
    let words = [
        ("default", ConsistencyMode::Default),
        ("stale", ConsistencyMode::Stale),
        ("consistent", ConsistencyMode::Consistent),
    ];
    units::choice(text, &words)
}

fn tag_weights(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Vec<(String, Weight)> {
    let Some(entry) = fields.take(cx, "weights") else { return Vec::new() };
    let items = cx.list("weights", &entry.value, "[{tag: primary, weight: 100}]");
    if items.len() > TAG_WEIGHTS_MAX {
        let message = format!("`weights` has {} entries, allowed are {TAG_WEIGHTS_MAX}", items.len());
        cx.push(Diagnostic::error("config/too-many", entry.key_span, message));
        return Vec::new();
    }
    let mut first: HashMap<String, Span> = HashMap::new();
    let mut weights = Vec::with_capacity(items.len());
    for item in items {
        let Some(mut fields) = Fields::open(cx, "weights", item, "{tag: primary, weight: 100}") else { continue };
        let tag = fields.require(cx, "tag", "a weight", "write `{tag: primary, weight: 100}`");
        let weight = fields.require(cx, "weight", "a weight", "write `{tag: primary, weight: 100}`");
        fields.finish(cx);
        let (Some(tag_entry), Some(weight)) = (tag, weight) else { continue };
        let tag = cx.scalar("tag", &tag_entry.value, |text| units::visible(text, 256, "a tag", "primary"));
        let weight = cx.scalar("weight", &weight.value, tag_weight);
        let (Some(tag), Some(weight)) = (tag, weight) else { continue };
        if let Some(earlier) = first.insert(tag.clone(), tag_entry.value.span) {
            let twice = Diagnostic::error("config/duplicate-tag", tag_entry.value.span, "this tag is written twice");
            cx.push(twice.label("again here").related(earlier, "first here").help("keep one of them"));
            continue;
        }
        weights.push((tag, weight));
    }
    weights
}

fn tag_weight(text: &str) -> Result<Weight, Wrong> {
    let number = text.parse().ok().filter(|number| (0.0..=1_000_000.0).contains(number));
    number.and_then(Weight::new).ok_or_else(|| Wrong::new("a number from 0 to 1000000", "100"))
}

fn dns_srv(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> DnsSrv {
    let seconds = |text: &str| units::whole(text, 1..=REFRESH_S_MAX, "5").map(Duration::from_secs);
    let refresh = fields.scalar(cx, "refreshIntervalSeconds", seconds).unwrap_or(REFRESH);
    let mut servers = Vec::new();
    if let Some(entry) = fields.take(cx, "dnsHosts") {
        let items = cx.list("dnsHosts", &entry.value, "[10.0.0.2]");
        if items.len() > DNS_HOSTS_MAX {
            let message = format!("`dnsHosts` has {} entries, allowed are {DNS_HOSTS_MAX}", items.len());
            cx.push(Diagnostic::error("config/too-many", entry.key_span, message));
        } else {
            servers = cx.scalars("dnsHosts", items, dns_host);
        }
    }
    DnsSrv { refresh, servers }
}

/// `ip`, `ip:port` or `[ip]:port`.
fn dns_host(text: &str) -> Result<SocketAddr, Wrong> {
    let wrong = || Wrong::new("the address of a name server, with a port if it is not 53", "10.0.0.2");
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    let parsed = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    parsed.ok_or_else(|| wrong().help("a name would have to be asked of a name server first: write its address"))
}

fn port(text: &str) -> Result<u16, Wrong> {
    let port = units::whole(text, 1..=u64::from(u16::MAX), "8500")?;
    u16::try_from(port).map_err(|_| Wrong::new("a port from 1 to 65535", "8500"))
}

fn host(text: &str) -> Result<Host, Wrong> {
    let wrong = || Wrong::new("an address or a host name", "localhost");
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Host::Ip(ip));
    }
    units::endpoint(&format!("{text}:1")).map(|endpoint| endpoint.host).map_err(|_| wrong())
}
