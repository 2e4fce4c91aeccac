//! `addForwardedHeader`, `timestampHeader`, `tracePropagator`: what is written into requests.

use crate::diagnostic::Diagnostic;
use crate::model::{ForwardedHeader, Labeler, Propagator};
use crate::raw::{Cx, Fields};
use crate::units::{self, Wrong};

/// The longest label of a `static` labeler, in bytes.
pub const STATIC_LABEL_BYTES_MAX: usize = 128;

const PROPAGATORS: [&str; 2] = ["io.l5d.default", "io.l5d.zipkin"];
const LABELERS: [&str; 6] = ["requestRandom", "connectionRandom", "ip", "ip:port", "router", "static"];

/// Fields that say where a message ends or who gets it.
const NOT_FOR_STAMPS: [&str; 19] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "dtab-local",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-real-ip",
];

/// Beginnings of such names; with `-` or `_`, since many applications read both as one.
const NOT_FOR_STAMPS_PREFIXES: [&str; 6] = ["grpc-", "l5d-", "proxy-", "x-b3-", "x-dtab-", "x-forwarded-"];

pub(super) fn propagator(cx: &Cx<'_>, router: &mut Fields<'_, '_>) -> Propagator {
    let Some(mut fields) = router.map(cx, "tracePropagator", "{kind: io.l5d.default}") else {
        return Propagator::default();
    };
    let Some(kind) = super::kind(cx, &mut fields, "tracePropagator", &PROPAGATORS, &[], "") else {
        fields.abandon();
        return Propagator::default();
    };
    fields.finish(cx);
    if kind == "io.l5d.zipkin" { Propagator::Zipkin } else { Propagator::Linkerd }
}

pub(super) fn forwarded(cx: &Cx<'_>, server: &mut Fields<'_, '_>) -> Option<ForwardedHeader> {
    let mut fields = server.map(cx, "addForwardedHeader", "{by: {kind: router}, for: {kind: ip}}")?;
    let (by, source) = (labeler(cx, &mut fields, "by"), labeler(cx, &mut fields, "for"));
    fields.finish(cx);
    Some(ForwardedHeader { by, source })
}

fn labeler(cx: &Cx<'_>, forwarded: &mut Fields<'_, '_>, key: &'static str) -> Labeler {
    let Some(mut fields) = forwarded.map(cx, key, "{kind: ip}") else { return Labeler::default() };
    let Some(kind) = super::kind(cx, &mut fields, key, &LABELERS, &[], "") else {
        fields.abandon();
        return Labeler::default();
    };
    let labeler = match kind {
        "ip" => Labeler::Ip,
        "ip:port" => Labeler::IpPort,
        "connectionRandom" => Labeler::ConnectionRandom,
        "router" => Labeler::Router,
        "static" => {
            let entry = fields.require(cx, "label", "a static labeler", "write `{kind: static, label: edge}`");
            let label = entry.and_then(|entry| cx.scalar("label", &entry.value, node));
            Labeler::Static(label.unwrap_or_default())
        }
        _ => Labeler::RequestRandom,
    };
    fields.finish(cx);
    labeler
}

/// What may stand behind the `_` of an obfuscated node (RFC 7239 section 6.3).
fn node(text: &str) -> Result<String, Wrong> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=STATIC_LABEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(legal);
    if fits { Ok(text.to_owned()) } else { Err(Wrong::new("letters, digits, `.`, `_` and `-`", "edge")) }
}

pub(super) fn timestamp(cx: &Cx<'_>, server: &mut Fields<'_, '_>) -> Option<String> {
    let span = server.get("timestampHeader")?.value.span;
    let name = server.scalar(cx, "timestampHeader", units::header_name)?;
    let plain = name.replace('_', "-");
    let taken = NOT_FOR_STAMPS_PREFIXES.iter().any(|prefix| plain.starts_with(prefix));
    if taken || NOT_FOR_STAMPS.contains(&plain.as_str()) {
        let message = format!("`timestampHeader` is `{name}`, which says something else");
        let wrong = Diagnostic::error("config/wrong-value", span, message);
        cx.push(wrong.help("choose a name of your own, for example `x-request-start`"));
        return None;
    }
    Some(name)
}
