//! PURE: what a field is for, and which ones end here. By name, whatever they say.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderValue};

use crate::h1::{begins, may_be_trailer, reads_as};

/// Names in the `Connection` fields of a request.
const NOMINATIONS_MAX: usize = 100;

/// Is there a field that HTTP/1.1 could not carry, which the readers of HTTP/2 let through: a value that begins or ends with
/// a blank, or a name with a quote. A message with one is malformed (RFC 9113 section 8.2.1). The parsers of HTTP/1.1 leave
/// none.
pub fn has_malformed(fields: &HeaderMap) -> bool {
    fields.iter().any(|(name, value)| is_padded(value) || name.as_str().as_bytes().contains(&b'"'))
}

fn is_padded(value: &HeaderValue) -> bool {
    let blank = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    let value = value.as_bytes();
    blank(value.first()) || blank(value.last())
}

/// Takes out what `Connection` names, then the fields that are hop-by-hop by themselves. `te: trailers` stays: gRPC needs
/// it. A nomination of a field that we rely on is ignored.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let mut nominated: Vec<HeaderName> = Vec::new();
    let mut closes = false;
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if is_option(token) {
                closes |= token.eq_ignore_ascii_case(CLOSE);
                continue;
            }
            match HeaderName::from_bytes(token) {
                Ok(name) if !is_protected(&name) && nominated.len() < NOMINATIONS_MAX => nominated.push(name),
                _ => {}
            }
        }
    }
    let te = headers.get(TE).is_some_and(|te| has_token(te.as_bytes(), b"trailers"));
    for name in nominated.iter().chain(&[CONNECTION, TE, TRANSFER_ENCODING, UPGRADE]) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    if closes {
        headers.remove("close");
    }
    headers.remove("proxy-connection");
    strip_proxy_credentials(headers);
    if te {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Takes out what client and proxy tell each other about who the client is (RFC 9110 section 11.7): it is for this hop, in
/// either direction, and an origin has no use for a password of ours. `Trailer` is not of the kind: it announces fields that
/// we pass on (RFC 9110 section 6.6.2), and hyper sends none without it.
pub fn strip_proxy_credentials(headers: &mut HeaderMap) {
    for name in [PROXY_AUTHENTICATE, PROXY_AUTHORIZATION] {
        headers.remove(name);
    }
    headers.remove(PROXY_AUTHENTICATION_INFO);
}

const PROXY_AUTHENTICATION_INFO: &str = "proxy-authentication-info";

pub(super) fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|entry| entry.trim_ascii().eq_ignore_ascii_case(token))
}

/// Never the name of a field that means anything (RFC 9112 section 9.6).
const CLOSE: &[u8] = b"close";

/// Says what becomes of the connection, and is no reason to make a name of it: by far most of what is there.
fn is_option(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(CLOSE) || token.eq_ignore_ascii_case(b"keep-alive")
}

/// Never removed by a nomination: whoever could take these out could change who a request is from or where it ends.
fn is_protected(name: &HeaderName) -> bool {
    use http::header::{AUTHORIZATION, COOKIE};
    [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, AUTHORIZATION, COOKIE, TE, VIA, TRAILER].contains(name)
        || is_forwarding(name)
        || is_context(name)
}

pub(super) fn is_old_hop_by_hop(name: &HeaderName) -> bool {
    [PROXY_AUTHENTICATE, PROXY_AUTHORIZATION].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | PROXY_AUTHENTICATION_INFO)
}

/// Context fields, by prefix and not by list, in every spelling that some frameworks read as the same name.
pub fn is_context(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    match name.first() {
        Some(b'l') => begins(name, b"l5d-"),
        Some(b'd') => reads_as(name, b"dtab-local"),
        Some(b'x') => begins(name, b"x-dtab-"),
        _ => false,
    }
}

/// Fields that say where a request came from, in every spelling that some frameworks read as the same name.
pub(super) fn is_forwarding(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    match name.first() {
        Some(b'x') => begins(name, b"x-forwarded-") || reads_as(name, b"x-real-ip"),
        Some(b'f') => name == b"forwarded",
        _ => false,
    }
}

pub(super) fn remove_matching(headers: &mut HeaderMap, matches: impl Fn(&HeaderName) -> bool) -> u64 {
    let names: Vec<HeaderName> = headers.keys().filter(|name| matches(name)).cloned().collect();
    for name in &names {
        headers.remove(name);
    }
    names.len() as u64
}

/// Fields of a response that only Serin's own side may read: dropped towards peers that are not trusted.
pub fn strip_response_context(headers: &mut HeaderMap) {
    if headers.keys().any(is_context) {
        remove_matching(headers, is_context);
    }
}

/// Trailers are checked like headers: framing, routing, authentication and context fields in them are dropped. What may
/// stand there is the same behind a body of either protocol.
pub fn clean_trailers(fields: &mut HeaderMap) {
    let dropped = |name: &HeaderName| !may_be_trailer(name.as_str().as_bytes());
    if fields.keys().any(dropped) {
        remove_matching(fields, dropped);
    }
}
