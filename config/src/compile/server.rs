//! `servers`: where a router listens, and whom it trusts there.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use crate::diagnostic::Diagnostic;
use crate::model::{Exposure, Limits, SERVER_KEYS, Server, Trust, UnixSocket};
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units;
use crate::yaml::Node;

/// `Via` entries that can be allowed.
pub const CALL_DEPTH_MAX: u64 = 1000;
const CALL_DEPTH: u32 = 100;
/// Of a Unix socket: its owner and its group.
const MODE: u32 = 0o660;

const NOT_BUILT: &[(&str, &str)] = &[
    ("tls", "remove the block; put the listener on loopback or a private network and terminate TLS in front of it"),
    ("label", "remove the line: metrics are labelled by router; make it a router of its own"),
    ("timeoutMs", "write `service: {totalTimeoutMs: 2000}` in the router"),
    ("announce", "remove the line: nothing is announced"),
];

/// Keys of Linkerd that have another name among the limits.
const LIMITS: [(&str, &str); 5] = [
    ("headerTableBytes", "headerTableBytes"),
    ("initialStreamWindowBytes", "streamWindowBytes"),
    ("maxConcurrentStreamsPerConnection", "concurrentStreams"),
    ("maxFrameBytes", "frameBytes"),
    ("maxHeaderListBytes", "headBytes"),
];
const IDLE: [(&str, &str); 1] = [("idleTimeMs", "idleTimeoutMs")];

/// One server and the place of its address.
pub(super) fn server(cx: &Cx<'_>, item: &Node<'_>, default_port: u16) -> Option<(Server, Span)> {
    let mut fields = Fields::open(cx, "servers", item, "{ip: 127.0.0.1, port: 4140}")?;
    let mut span = fields.span;
    if let Some(port) = fields.get("port") {
        span = port.key_span;
    }
    let unix = unix(cx, &mut fields);
    let errors_before = cx.errors();
    let ip = fields.scalar(cx, "ip", units::ip).unwrap_or(super::LOOPBACK);
    let port = fields.scalar(cx, "port", units::listen_port).unwrap_or(default_port);
    // An address that could not be read clashes with nothing.
    let port = if cx.errors() == errors_before && unix.is_none() { port } else { 0 };
    let exposures = [("edge", Exposure::Edge), ("mesh", Exposure::Mesh)];
    let exposure = fields.scalar(cx, "exposure", |text| units::choice(text, &exposures)).unwrap_or_default();
    let trust = trust(cx, &mut fields, ip, span);
    let requests_max =
        fields.scalar(cx, "maxConcurrentRequests", |text| units::whole(text, 1..=u64::from(u32::MAX), "10000"));
    let call_depth = fields.scalar(cx, "maxCallDepth", |text| units::whole(text, 1..=CALL_DEPTH_MAX, "100"));
    let mut limits = super::limits::server(cx, &mut fields, Limits::of(exposure));
    session(cx, &mut fields, &mut limits);
    let forwarded = super::headers::forwarded(cx, &mut fields);
    let timestamp_header = super::headers::timestamp(cx, &mut fields);
    socket_options(cx, &mut fields);
    fields.not_built(cx, NOT_BUILT);
    fields.finish(cx);
    let server = Server {
        address: SocketAddr::new(ip, port),
        unix,
        exposure,
        trust,
        requests_max: requests_max.and_then(|max| NonZeroU32::new(u32::try_from(max).ok()?)),
        call_depth_max: call_depth.and_then(|depth| u32::try_from(depth).ok()).unwrap_or(CALL_DEPTH),
        limits,
        forwarded,
        timestamp_header,
    };
    Some((server, span))
}

/// `unix` and `mode`, in place of `ip` and `port`.
fn unix(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Option<UnixSocket> {
    let (key, mode_key) = (fields.get("unix"), fields.get("mode"));
    let path = fields.scalar(cx, "unix", units::unix_path);
    let mode = fields.scalar(cx, "mode", units::file_mode);
    let Some(key) = key else {
        if let Some(mode) = mode_key {
            let alone = Diagnostic::error("config/conflict", mode.key_span, "`mode` is for Unix sockets");
            cx.push(alone.help("remove it, or write `unix: PATH` in place of `ip` and `port`"));
        }
        return None;
    };
    for name in ["ip", "port"] {
        if let Some(entry) = fields.get(name) {
            let message = format!("a server has `unix` or `{name}`, not both");
            let conflict = Diagnostic::error("config/conflict", entry.key_span, message);
            cx.push(conflict.related(key.key_span, "it listens here").help("make them two servers"));
        }
    }
    Some(UnixSocket { path: cx.source.folder().join(path?), mode: mode.unwrap_or(MODE) })
}

/// What Linkerd writes in place of `limits`.
fn session(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, limits: &mut Limits) {
    super::limits::aliases(cx, fields, SERVER_KEYS, &LIMITS, limits);
    limits.h2.stream_window_bytes = limits.h2.stream_window_bytes.min(limits.h2.connection_window_bytes);
    fields.unneeded(cx, &[("windowUpdateRatio", "windows are given back as octets are passed on")]);
    if let Some(mut session) = fields.map(cx, "serverSession", "{idleTimeMs: 60000}") {
        super::limits::aliases(cx, &mut session, SERVER_KEYS, &IDLE, limits);
        let instead = "write `limits: {requestsPerConnection: 10000}`: connections end after so many requests";
        session.not_built(cx, &[("lifeTimeMs", instead)]);
        session.finish(cx);
    }
}

/// Whose context headers count. Linkerd believed everybody; unset, we believe our own host, and say so.
fn trust(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, ip: IpAddr, span: Span) -> Trust {
    let clear = fields.scalar(cx, "clearContext", units::boolean);
    let cleared = fields.get("clearContext").map(|entry| entry.key_span);
    let mut unset = Trust::Loopback;
    let written = fields.take(cx, "trustedSources");
    if let Some(entry) = written {
        let items = cx.list("trustedSources", &entry.value, "[10.0.0.0/8]");
        unset = Trust::Sources(cx.scalars("trustedSources", items, units::cidr));
        if let Some(cleared) = cleared {
            let message = "`trustedSources` has no effect beside `clearContext`, which decides for all peers";
            let conflict = Diagnostic::error("config/conflict", entry.key_span, message);
            cx.push(conflict.related(cleared, "decided here").help("remove one of the two"));
        }
    }
    if cleared.is_none() && written.is_none() && !ip.is_loopback() {
        let message = "`clearContext` is not set: `l5d-dtab` and `l5d-ctx-*` headers are obeyed only from this host";
        let help = "add `clearContext: true` to obey nobody, `clearContext: false` to obey everybody as Linkerd does, \
                    or `trustedSources: [10.0.0.0/8]` to obey these";
        cx.push(Diagnostic::warning("config/clear-context", span, message).help(help));
    }
    match clear {
        Some(true) => Trust::Nobody,
        Some(false) => Trust::Everybody,
        None => unset,
    }
}

/// `socketOptions`: what we do anyway is accepted with a word, all else is refused.
pub(super) fn socket_options(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) {
    let Some(mut options) = fields.map(cx, "socketOptions", "{noDelay: true}") else { return };
    for key in ["noDelay", "reuseAddr", "reusePort"] {
        match options.scalar(cx, key, units::boolean) {
            Some(true) => options.unneeded(cx, &[(key, "it is always on")]),
            Some(false) if key != "reusePort" => options.not_built(cx, &[(key, "it is always on: remove the line")]),
            Some(false) => options.unneeded(cx, &[(key, "each worker has a listening socket of its own")]),
            None => {}
        }
    }
    let timeouts = "write timeouts as `service: {totalTimeoutMs: 2000}`";
    let missing = [
        ("keepAlive", "write `limits: {idleTimeoutMs: 60000}`: idle connections are closed after it"),
        ("readTimeoutMs", timeouts),
        ("writeTimeoutMs", timeouts),
        ("backlog", "remove the line: how many wait to be accepted is not set by the file"),
    ];
    options.not_built(cx, &missing);
    options.finish(cx);
}
