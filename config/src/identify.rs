//! PURE: what a request is called (Linkerd 1's identifiers).
//!
//! One list serves HTTP/1.1 and HTTP/2 alike: the host is `:authority` or `Host`, the path is that of the target without
//! its query, and HTTP/2 counts as version 1.1 where a name holds the version. The first identifier that finds a name
//! wins. One that cannot read what it finds ends the search where Linkerd raises an exception on purpose; where it does by
//! accident (a doubled slash, a character no path may have) the next one is tried.
//!
//! A name is written as a *key*: bytes that are equal exactly when the names are and come from the same place, which is
//! what caches are keyed by. [`path`] reads it back.

mod ingress;
mod key;

pub use self::ingress::{Ingress, IngressBackend, IngressRule, ingress};
pub use self::key::{NAME_BYTES_MAX, is_written, path, written_key};

use crate::dtab::{Path, is_showable};
use crate::model::{Field, HostRule, Identifier};

/// Octets of a host or of another value that becomes one element. A DNS name has at most 253.
pub const TOKEN_BYTES_MAX: usize = 512;

/// What identifiers look at.
pub trait Request {
    /// The method.
    fn method(&self) -> &[u8];
    /// Is it HTTP/1.0, which need not have a host.
    fn is_http10(&self) -> bool;
    /// Authority of the target, or the `Host` field.
    fn host(&self) -> Option<&[u8]>;
    /// Raw path of the target, without the query.
    fn path(&self) -> &[u8];
    /// The first value of a field, by its name in lower case.
    fn field(&self, name: &str) -> Option<&[u8]>;
}

/// How a request got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identified {
    /// By which of the identifiers.
    pub by: usize,
    /// So many octets of the path are not sent on: see [`rest`].
    pub consumed: usize,
}

/// Names the request: the name's key is left in `out`. `None`: it names nothing.
pub fn identify(
    identifiers: &[Identifier],
    dst_prefix: &Path,
    request: &impl Request,
    out: &mut Vec<u8>,
) -> Option<Identified> {
    for (by, identifier) in identifiers.iter().enumerate() {
        key::begin(out, dst_prefix, matches!(identifier, Identifier::Static { .. }));
        match one(identifier, request, out) {
            Step::Named { consumed } if out.len() <= NAME_BYTES_MAX => return Some(Identified { by, consumed }),
            Step::Named { .. } | Step::Next => {}
            Step::Stop => return None,
        }
    }
    None
}

/// The path that is sent on when the first octets are consumed.
pub fn rest(path: &str, consumed: usize) -> &str {
    match path.get(consumed..) {
        None | Some("") => "/",
        Some(rest) => rest,
    }
}

/// What one identifier says.
enum Step {
    Named {
        consumed: usize,
    },
    /// Not me.
    Next,
    /// Nobody.
    Stop,
}

const NAMED: Step = Step::Named { consumed: 0 };

fn one(identifier: &Identifier, request: &impl Request, out: &mut Vec<u8>) -> Step {
    match identifier {
        Identifier::Header { header } => match request.field(header) {
            None | Some(b"") => Step::Next,
            Some(value) => push_path(value, usize::MAX, out).map_or(Step::Stop, |_| NAMED),
        },
        Identifier::HeaderPath { header, segments } => header_path(header, segments.map(|n| n.get()), request, out),
        Identifier::HeaderToken { header, host } => token(header, *host, request, out),
        Identifier::MethodAndHost { path, host } => method_and_host(*path, *host, request, out),
        Identifier::Path { segments, consume } => match leading(request.path(), segments.get(), out) {
            Some(end) => Step::Named { consumed: if *consume { end } else { 0 } },
            None => Step::Next,
        },
        Identifier::Static { path } => {
            path.labels().for_each(|label| key::push(out, label));
            NAMED
        }
    }
}

fn token(header: &Field, host: HostRule, request: &impl Request, out: &mut Vec<u8>) -> Step {
    let value = match header {
        Field::Host => request.host(),
        Field::Method => Some(request.method()),
        Field::Path => Some(request.path()),
        Field::Named(name) => request.field(name),
    };
    let Some(value) = value.filter(|value| (1..=TOKEN_BYTES_MAX).contains(&value.len())) else { return Step::Next };
    match (header, host) {
        (Field::Host, HostRule::Normalized) => push_host(plain(value), out),
        _ => {
            key::push(out, value);
            NAMED
        }
    }
}

fn push_host(host: &[u8], out: &mut Vec<u8>) -> Step {
    if !(1..=TOKEN_BYTES_MAX).contains(&host.len()) {
        return Step::Next;
    }
    key::push_lower(out, host);
    NAMED
}

fn method_and_host(path: bool, host: HostRule, request: &impl Request, out: &mut Vec<u8>) -> Step {
    key::push(out, if request.is_http10() { b"1.0" } else { b"1.1" });
    key::push(out, request.method());
    if !request.is_http10() {
        let host = request.host().map(|value| match host {
            HostRule::Normalized => plain(value),
            HostRule::Verbatim => value,
        });
        match host.map(|host| push_host(host, out)) {
            Some(Step::Named { .. }) => {}
            _ => return Step::Next,
        }
    }
    match request.path() {
        b"" | b"/" => NAMED,
        written if path => push_path(written, usize::MAX, out).map_or(Step::Stop, |_| NAMED),
        _ => NAMED,
    }
}

fn header_path(header: &Field, segments: Option<usize>, request: &impl Request, out: &mut Vec<u8>) -> Step {
    let value = match header {
        Field::Named(name) => request.field(name),
        Field::Host | Field::Method | Field::Path => Some(request.path()),
    };
    let Some(value) = value else { return Step::Next };
    let value = value.split(|byte| *byte == b'?').next().unwrap_or_default();
    let value = value.strip_suffix(b"/").unwrap_or(value);
    match push_path(value, segments.unwrap_or(usize::MAX), out) {
        Some(found) if found > 0 && segments.is_none_or(|wanted| found >= wanted) => NAMED,
        _ => Step::Next,
    }
}

/// The first segments of a raw path, and where they end. No segment may be empty.
fn leading(path: &[u8], segments: usize, out: &mut Vec<u8>) -> Option<usize> {
    let mut end = 0;
    for _ in 0..segments {
        let rest = path.get(end..)?.strip_prefix(b"/")?;
        let label = rest.split(|byte| *byte == b'/').next().filter(|label| !label.is_empty())?;
        if out.len() + label.len() > NAME_BYTES_MAX {
            return None;
        }
        key::push(out, label);
        end += 1 + label.len();
    }
    Some(end)
}

/// The first labels of a text that is a path, and how many it has. `None`: it is none, or is too long for a name.
fn push_path(text: &[u8], labels_max: usize, out: &mut Vec<u8>) -> Option<usize> {
    if text.len() > NAME_BYTES_MAX {
        return None;
    }
    let plain = text.first() == Some(&b'/') && text.iter().all(|byte| *byte == b'/' || is_showable(*byte));
    if !plain {
        // escapes, or white space around it: rare
        let path = Path::parse(std::str::from_utf8(text).ok()?).ok()?;
        path.labels().take(labels_max).for_each(|label| key::push(out, label));
        return Some(path.len());
    }
    let mut count = 0;
    if text.len() > 1 {
        for label in text[1..].split(|byte| *byte == b'/') {
            if label.is_empty() {
                return None;
            }
            if count < labels_max {
                key::push(out, label);
            }
            count += 1;
        }
    }
    Some(count)
}

/// Without port and without the final dot of a name that is spelled out to the root: rules read it so too.
fn plain(host: &[u8]) -> &[u8] {
    let host = without_port(host);
    host.strip_suffix(b".").unwrap_or(host)
}

/// `example.com:80` and `[::1]:80` lose their port.
#[must_use]
pub fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|&byte| byte == b':') {
        // an IPv6 literal keeps its colons
        Some(at) if host.first() != Some(&b'[') || host[..at].last() == Some(&b']') => &host[..at],
        _ => host,
    }
}

#[cfg(test)]
mod tests;
