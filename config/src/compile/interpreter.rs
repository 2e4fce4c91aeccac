//! `interpreter: {kind: io.l5d.namerd.http}`.

use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::dtab::Path;
use crate::model::{Host, HostPort, Namerd};
use crate::raw::{Cx, Fields};
use crate::units::{self, Wrong};
use crate::yaml::Value;

const BASE_S: u64 = 5;
const MAX_S: u64 = 600;
/// The longest wait that can be asked for.
const RETRY_S_MAX: u64 = 86_400;

/// The keys of a namerd, except its kind.
pub(super) fn namerd(
    cx: &Cx<'_>,
    fields: &mut Fields<'_, '_>,
    namespace: impl FnOnce(&str) -> Result<String, Wrong>,
) -> Option<Namerd> {
    fields.scalar(cx, "experimental", units::boolean);
    let help = "write `dst: /$/inet/127.0.0.1/4180`: where namerd's HTTP controller listens";
    let entry = fields.require(cx, "dst", "an interpreter of kind `io.l5d.namerd.http`", help);
    let at = entry.and_then(|entry| cx.scalar("dst", &entry.value, dst));
    let namespace = fields.scalar(cx, "namespace", namespace).unwrap_or_else(|| "default".to_owned());
    let retry = retry(cx, fields);
    let tls = "reach namerd on loopback or a private network, or through a proxy that adds TLS";
    fields.not_built(cx, &[("tls", tls), super::TRANSFORMERS]);
    Some(Namerd { at: at?, namespace, retry })
}

/// For a namerd asked over another of its interfaces: the same one over HTTP, with its host if that can be read.
pub(super) fn by_http(fields: &Fields<'_, '_>) -> Option<String> {
    let text = |key| match &fields.get(key)?.value.value {
        Value::Scalar(scalar) => Some(&*scalar.text),
        _ => None,
    };
    let written = super::written_kind(fields)?;
    if !["io.l5d.namerd", "io.l5d.mesh"].contains(&written) {
        return None;
    }
    let host = match text("dst").and_then(|text| dst(text).ok()).map(|at| at.host) {
        Some(Host::Ip(ip)) => ip.to_string(),
        Some(Host::Name(name)) => name,
        Some(Host::Unix(_)) | None => "<host>".to_owned(),
    };
    Some(format!(
        "write `kind: io.l5d.namerd.http` and `dst: /$/inet/{host}/4180`: the same namerd is asked over its HTTP \
         interface, `io.l5d.httpController`; or keep the dtab here, without a namerd: `kind: default` with `namespace`"
    ))
}

fn retry(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> (Duration, Duration) {
    let (mut base, mut max) = (BASE_S, MAX_S);
    if let Some(mut retry) = fields.map(cx, "retry", "{baseSeconds: 5, maxSeconds: 600}") {
        let seconds = |text: &str| units::whole(text, 1..=RETRY_S_MAX, "5");
        let span = retry.span;
        base = retry.scalar(cx, "baseSeconds", seconds).unwrap_or(base);
        max = retry.scalar(cx, "maxSeconds", seconds).unwrap_or(max.max(base));
        retry.finish(cx);
        if base > max {
            let message = format!("`baseSeconds` is {base}, more than `maxSeconds`, which is {max}");
            let wrong = Diagnostic::error("config/wrong-value", span, message);
            cx.push(wrong.help("the wait grows from `baseSeconds` to `maxSeconds`"));
        }
    }
    (Duration::from_secs(base), Duration::from_secs(max))
}

/// `/$/inet/<host>/<port>`, or `/$/inet/<port>` for this host.
fn dst(text: &str) -> Result<HostPort, Wrong> {
    let wrong = || Wrong::new("the name of one address, `/$/inet/<host>/<port>`", "/$/inet/127.0.0.1/4180");
    let path = Path::parse(text).map_err(|_| wrong())?;
    let labels: Vec<&str> = path.labels().filter_map(|label| std::str::from_utf8(label).ok()).collect();
    let (host, port) = match labels.as_slice() {
        ["$", "inet", port] => ("127.0.0.1", *port),
        ["$", "inet", host, port] => (*host, *port),
        ["#", ..] => return Err(wrong().help("namerd itself is found without namers: write its address")),
        _ => return Err(wrong()),
    };
    if let Ok(ip) = host.parse() {
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        return Ok(HostPort { host: Host::Ip(ip), port });
    }
    units::endpoint(&format!("{host}:{port}")).map_err(|_| wrong())
}
