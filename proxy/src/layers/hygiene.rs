//! Nothing inside this layer sees a field it should not, and nothing leaves with one.
//!
//! One pass over the fields finds out what there is; fields are then taken out only where something was found, so an
//! ordinary request costs a look at each name and no more. Rules: RFC 9110 section 7.6, RFC 9112 sections 3.2 and 6.

use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderName, MAX_FORWARDS, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Response, Version, request};
use serin_config::model::{Exposure, Limits, Trust};
use tower::Service;

use super::Early;
use super::diagnosis::Question;
use crate::body::Body;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::worker::Worker;

mod fields;
#[cfg(test)]
mod laws;

pub use fields::{
    clean_trailers, has_malformed, is_context, strip_hop_by_hop, strip_proxy_credentials, strip_response_context,
};
use fields::{has_token, is_forwarding, is_old_hop_by_hop, remove_matching};

/// Beside its name and its value a field has a colon, a blank and the end of its line.
const FIELD_EXTRA: usize = 4;

/// Octets of a method; the longest registered one has 17.
const METHOD_BYTES_MAX: usize = 64;

/// Says what certificate a client showed.
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Said of a request whose target had a fragment, which is gone by now.
#[derive(Clone, Copy, Debug)]
pub struct HadFragment;

/// Cleans a request on its way in.
#[derive(Clone, Debug)]
pub struct Hygiene<S> {
    inner: S,
    worker: Rc<Worker>,
}

impl<S> Hygiene<S> {
    /// Around `inner`.
    pub fn new(inner: S, worker: Rc<Worker>) -> Self {
        Self { inner, worker }
    }
}

impl<S> Service<Exchange> for Hygiene<S>
where
    S: Service<Exchange, Response = Response<Body>, Error = ProxyError, Future: 'static>,
{
    type Response = Response<Body>;
    type Error = ProxyError;
    type Future = Early<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut exchange: Exchange) -> Self::Future {
        if exchange.parts.method == Method::TRACE {
            return self.trace(exchange);
        }
        match clean(&mut exchange, &self.worker) {
            Ok(()) => Early::inner(self.inner.call(exchange)),
            Err(error) => {
                decide_trust(&exchange, &self.worker);
                Early::refused(error)
            }
        }
    }
}

impl<S> Hygiene<S>
where
    S: Service<Exchange, Response = Response<Body>, Error = ProxyError, Future: 'static>,
{
    /// Sent on only for a trusted peer that wants a diagnosis: an origin that answers it shows the request's own fields.
    fn trace(&mut self, mut exchange: Exchange) -> Early<S::Future> {
        // of the request as it came: cleaning takes out what says whether there is trust
        let question = Question::of(&exchange);
        if let Err(error) = clean(&mut exchange, &self.worker) {
            decide_trust(&exchange, &self.worker);
            return Early::refused(error);
        }
        let Some(question) = question.filter(|_| exchange.trusted) else {
            return Early::refused(ProxyError::MethodRefused);
        };
        if !exchange.body.is_end() {
            return Early::refused(ProxyError::BadRequest("a TRACE has no body"));
        }
        let worker = Rc::clone(&self.worker);
        if question.is_last() {
            return Early::boxed(Box::pin(async move { Ok(question.answer(&worker)) }));
        }
        Early::boxed(Box::pin(question.told(worker, self.inner.call(exchange))))
    }
}

/// May the peer of a request that is refused early see details of the error.
pub fn decide_trust(exchange: &Exchange, worker: &Worker) {
    let fronted = exchange.parts.headers.keys().any(|name| *name == VIA || is_forwarding(name));
    if let Some(handle) = exchange.handle {
        let trusted = is_trusted(&exchange.server().server.trust, exchange.peer(), fronted);
        worker.in_flight.set_trusted(handle, trusted);
    }
}

fn clean(exchange: &mut Exchange, worker: &Worker) -> Result<(), ProxyError> {
    let limits = exchange.server().server.limits;
    let target = exchange.parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let found = look(&exchange.parts.headers, target, &limits)?;
    if exchange.parts.version == Version::HTTP_2 && has_malformed(&exchange.parts.headers) {
        return Err(ProxyError::BadRequest("a field is malformed"));
    }
    if let Some(max) = limits.body_bytes_max {
        if found.length.is_some_and(|length| length > max) {
            return Err(ProxyError::BodyTooLarge);
        }
        exchange.body.limit(max);
    }
    if found.coded {
        check_coding(&exchange.parts)?;
    }
    check_target(&exchange.parts)?;
    check_method(&exchange.parts.method, &mut exchange.parts.headers, &found)?;
    check_host(exchange, &found)?;
    let server = &exchange.server().server;
    if found.via > server.call_depth_max {
        return Err(ProxyError::CallDepth);
    }
    let trusted = is_trusted(&server.trust, exchange.peer(), found.front || found.via > 0);
    let (edge, unset) = (server.exposure == Exposure::Edge, server.trust == Trust::Loopback);
    let headers = &mut exchange.parts.headers;
    let upgrade = found.upgrade && asks_for_websocket(&exchange.parts.method, exchange.parts.version, headers);
    if found.hop {
        strip_hop_by_hop(headers);
    }
    if found.context && !trusted {
        let removed = remove_matching(headers, is_context);
        worker.shard.worker().context_headers_stripped.add(removed);
        worker.links.note_stripped(exchange.link.peer.ip(), unset);
    }
    if found.front && edge {
        remove_matching(headers, is_forwarding);
    } else if found.front {
        // only who ended the TLS of the caller knows its certificate
        headers.remove(CLIENT_CERT);
    }
    if found.via > 0 {
        append_via(headers, exchange.parts.version);
    }
    if found.expect {
        exchange.expects = expects(headers, exchange.parts.version, exchange.body.is_end());
    }
    exchange.upgrade = upgrade && exchange.body.is_end();
    exchange.trusted = trusted;
    if let Some(handle) = exchange.handle {
        worker.in_flight.set_trusted(handle, trusted);
    }
    exchange.context = found.context && trusted;
    exchange.forwarded = edge;
    Ok(())
}

/// What the fields of a request contain.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Fields for this hop only.
    hop: bool,
    /// `Transfer-Encoding`.
    coded: bool,
    /// Context fields.
    context: bool,
    /// Fields that a proxy in front writes, `Via` apart.
    front: bool,
    expect: bool,
    /// `Upgrade`.
    upgrade: bool,
    max_forwards: bool,
    hosts: u32,
    /// `Content-Length`.
    length: Option<u64>,
    /// Entries over all `Via` fields.
    via: u32,
}

fn look(headers: &HeaderMap, target: usize, limits: &Limits) -> Result<Found, ProxyError> {
    if target > limits.target_bytes_max as usize {
        return Err(ProxyError::UriTooLong);
    }
    if headers.len() > limits.head_fields_max as usize {
        return Err(ProxyError::HeadersTooLarge);
    }
    let (mut found, mut size) = (Found::default(), target);
    for (name, value) in headers {
        let field = name.as_str().len() + value.len() + FIELD_EXTRA;
        if field > limits.field_bytes_max as usize {
            return Err(ProxyError::HeadersTooLarge);
        }
        size += field;
        match *name {
            HOST => found.hosts += 1,
            // beyond 63 bits not everybody reads the same number
            CONTENT_LENGTH => {
                let length = number_of_63_bits(value);
                found.length = Some(length.ok_or(ProxyError::BadRequest("content-length is not a number below 2^63"))?);
            }
            VIA => found.via += value.as_bytes().split(|&byte| byte == b',').count() as u32,
            EXPECT => found.expect = true,
            MAX_FORWARDS => found.max_forwards = true,
            FORWARDED => found.front = true,
            // what gRPC sends with each request, and what is sent on
            TE if value == "trailers" => {}
            TRANSFER_ENCODING => (found.hop, found.coded) = (true, true),
            UPGRADE => (found.hop, found.upgrade) = (true, true),
            CONNECTION | TE => found.hop = true,
            _ => {
                found.hop |= is_old_hop_by_hop(name);
                found.context |= is_context(name);
                found.front |= is_forwarding(name);
            }
        }
    }
    if size > limits.head_bytes_max as usize { Err(ProxyError::HeadersTooLarge) } else { Ok(found) }
}

/// `chunked`, once: any other coding would have to be undone by somebody, and not everybody agrees by whom (RFC 9112
/// section 6.1).
fn check_coding(parts: &request::Parts) -> Result<(), ProxyError> {
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), _) => Err(ProxyError::BadRequest("transfer-encoding is not chunked, once")),
    }
}

/// `/…`, or `*` to ask about the server itself, over HTTP.
fn check_target(parts: &request::Parts) -> Result<(), ProxyError> {
    if parts.extensions.get::<HadFragment>().is_some() {
        return Err(ProxyError::BadRequest("the target has a fragment"));
    }
    let path = parts.uri.path();
    let asterisk = path == "*" && parts.method == Method::OPTIONS;
    let scheme = parts.uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    if scheme && (path.is_empty() || path.starts_with('/') || asterisk) {
        Ok(())
    } else {
        Err(ProxyError::BadRequest("the target is malformed"))
    }
}

fn number_of_63_bits(length: &HeaderValue) -> Option<u64> {
    let digits = length.to_str().ok().filter(|length| length.bytes().all(|octet| octet.is_ascii_digit()))?;
    u64::try_from(digits.parse::<i64>().ok()?).ok()
}

fn check_method(method: &Method, headers: &mut HeaderMap, found: &Found) -> Result<(), ProxyError> {
    if *method == Method::CONNECT || method.as_str().len() > METHOD_BYTES_MAX {
        return Err(ProxyError::MethodRefused);
    }
    if found.max_forwards && (*method == Method::OPTIONS || *method == Method::TRACE) {
        let mut fields = headers.get_all(MAX_FORWARDS).iter();
        let left = fields.next().and_then(number_of_63_bits).filter(|_| fields.next().is_none());
        match left {
            None => return Err(ProxyError::BadRequest("Max-Forwards is not a number, once")),
            // a TRACE is answered by its diagnosis
            Some(0) if *method == Method::TRACE => {}
            // the last hop that may see it is this one, and it has nothing to say about the resource
            Some(0) => return Err(ProxyError::MethodRefused),
            Some(left) => drop(headers.insert(MAX_FORWARDS, HeaderValue::from(left - 1))),
        }
    }
    Ok(())
}

/// Exactly one valid host. An absolute-form target replaces the field (RFC 9112 section 3.2.2); in HTTP/2 the two must
/// agree.
fn check_host(exchange: &mut Exchange, found: &Found) -> Result<(), ProxyError> {
    let parts = &mut exchange.parts;
    if found.hosts > 1 {
        return Err(ProxyError::BadRequest("more than one Host"));
    }
    match parts.uri.authority() {
        // it needs none; a name that takes one is not found then
        None if found.hosts == 0 && parts.version == Version::HTTP_10 => Ok(()),
        None if found.hosts == 0 => Err(ProxyError::BadRequest("no Host")),
        None => {
            let host = parts.headers.get(HOST).map_or(b"".as_slice(), |host| host.as_bytes());
            if is_host(host) { Ok(()) } else { Err(ProxyError::BadRequest("Host is malformed")) }
        }
        // without a scheme it is the authority form, which only CONNECT may use (RFC 9112 section 3.2.3)
        Some(_) if parts.uri.scheme().is_none() && parts.version != Version::HTTP_2 => {
            Err(ProxyError::BadRequest("the target is malformed"))
        }
        Some(authority) => {
            if !is_host(authority.as_str().as_bytes()) {
                return Err(ProxyError::BadRequest("the authority is malformed"));
            }
            if found.hosts == 1 {
                let differs =
                    parts.headers.get(HOST).is_some_and(|host| host.as_bytes() != authority.as_str().as_bytes());
                if differs && parts.version == Version::HTTP_2 {
                    return Err(ProxyError::BadRequest("Host and :authority differ"));
                }
                parts.headers.remove(HOST);
            }
            Ok(())
        }
    }
}

/// `host [":" port]` of RFC 3986 without user information: what can be read in one way only.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host.iter().rposition(|&byte| byte == b':') {
        Some(at) if host.first() != Some(&b'[') || host[..at].last() == Some(&b']') => (&host[..at], &host[at + 1..]),
        _ => (host, b"".as_slice()),
    };
    let plain = |byte: &u8| IN_HOST[usize::from(*byte)];
    let name_ok = match name.strip_prefix(b"[").map(|rest| rest.strip_suffix(b"]")) {
        Some(Some(literal)) => {
            !literal.is_empty() && literal.iter().all(|b| b.is_ascii_hexdigit() || b":.vV%".contains(b) || plain(b))
        }
        Some(None) => false,
        None => !name.is_empty() && name.iter().all(plain),
    };
    name_ok && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

/// Octets of a registered name (RFC 3986 section 3.2.2) but the comma, which would make a list of it.
const IN_HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
            );
        byte += 1;
    }
    table
};

/// Are the context fields of this request obeyed. A front on the same host is not the user, so loopback counts by itself only
/// where nothing says that there is one. Networks that somebody wrote down hold from hop to hop: the proxies in them write
/// `Via`, and take out on their edge what strangers send.
fn is_trusted(trust: &Trust, peer: SocketAddr, fronted: bool) -> bool {
    match trust {
        Trust::Everybody => true,
        Trust::Nobody => false,
        Trust::Loopback => !fronted && peer.ip().to_canonical().is_loopback(),
        Trust::Sources(networks) => {
            let peer = peer.ip().to_canonical();
            networks.iter().any(|network| network.contains(&peer))
        }
    }
}

/// Would the context fields of a request with these fields be obeyed: for explanations.
pub fn obeys(trust: &Trust, peer: SocketAddr, headers: &HeaderMap) -> bool {
    look(headers, 0, &Limits::mesh()).is_ok_and(|found| is_trusted(trust, peer, found.front || found.via > 0))
}

/// Our entry at the end of the list that came, in one field: a field for each hop would meet the limit of fields before a
/// loop meets that of hops.
fn append_via(headers: &mut HeaderMap, version: Version) {
    let mut list = Vec::new();
    for value in headers.get_all(VIA) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(via(version).as_bytes());
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(list)) {
        headers.insert(VIA, value);
    }
}

/// Our pseudonym behind the version that the message came in (RFC 9110 section 7.6.3).
pub fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 serin",
        Version::HTTP_10 => "1.0 serin",
        _ => "1.1 serin",
    })
}

/// A WebSocket is asked for by a GET over HTTP/1.1 whose `Connection` names the `Upgrade` (RFC 6455 section 4.1), and for
/// nothing beside it. Nothing else is ever switched to: least of all `h2c`, behind which nobody would look at requests any
/// more.
fn asks_for_websocket(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    let nominated = || headers.get_all(CONNECTION).iter().any(|value| has_token(value.as_bytes(), b"upgrade"));
    let mut asked = headers.get_all(UPGRADE).iter();
    let only = asked.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    *method == Method::GET && version == Version::HTTP_11 && only && asked.next().is_none() && nominated()
}

/// Does the caller wait before it sends its body. An expectation that cannot be meant is not sent on (RFC 9110 section
/// 10.1.1); one that we do not know is the origin's to refuse.
fn expects(headers: &mut HeaderMap, version: Version, no_body: bool) -> bool {
    let waits = headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits && (no_body || version == Version::HTTP_10) {
        headers.remove(EXPECT);
        return false;
    }
    waits
}

#[cfg(test)]
#[path = "hygiene_tests.rs"]
mod tests;
