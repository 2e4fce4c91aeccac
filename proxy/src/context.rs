//! What travels with a request from hop to hop: read from peers that are trusted, written anew for the next one.
//!
//! | field | read | written |
//! |---|---|---|
//! | `l5d-ctx-trace` or Zipkin's `x-b3-*` | parent of this hop | this hop, always |
//! | `l5d-sample` | decides about a trace that nobody decided about | never |
//! | `l5d-reqid` | never | the id of the trace |
//! | `l5d-ctx-deadline` | several are the narrowest | with the limit of this hop, where there is any |
//! | `l5d-dst-service`, `-client`, `-residual` | never | what the request was routed to |
//! | `l5d-ctx-dtab`, `l5d-dtab` | by routing | what is left of both, as `l5d-ctx-dtab` |
//!
//! Other fields of the name `l5d-ctx-*`, and `dtab-local`, pass.

pub mod base64;
pub mod deadline;
pub mod forwarded;
pub mod trace;

#[cfg(test)]
mod laws;

use std::rc::Rc;
use std::sync::OnceLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use serin_config::dtab::Path;
use serin_config::model::Propagator;

use crate::clock;
use crate::exchange::Exchange;
use crate::inflight::Handle;
use crate::worker::Worker;
use deadline::{CTX_DEADLINE, Deadline};
use forwarded::Hop;
use trace::{CTX_TRACE, SAMPLE, Trace};

/// The id of the trace, for people and logs.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("l5d-reqid");
/// The logical name.
pub const DST_SERVICE: HeaderName = HeaderName::from_static("l5d-dst-service");
/// The bound name.
pub const DST_CLIENT: HeaderName = HeaderName::from_static("l5d-dst-client");
/// What is left of the name behind the bound one.
pub const DST_RESIDUAL: HeaderName = HeaderName::from_static("l5d-dst-residual");

/// What a request was routed to, as it is written for the upstream. Made when the name is bound.
#[derive(Debug)]
pub struct Destination {
    /// The logical name.
    pub service: HeaderValue,
    /// The bound name.
    pub client: HeaderValue,
    /// What is left of the name, unless that is nothing.
    pub residual: Option<HeaderValue>,
}

impl Destination {
    /// Of a name and what it was bound to.
    pub fn new(service: &str, client: &str, residual: &Path) -> Rc<Self> {
        // names are printed with escapes, so that a field may have every octet of them
        let value = |text: &str| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("/"));
        let residual = (!residual.is_empty()).then(|| value(&residual.to_string()));
        Rc::new(Self { service: value(service), client: value(client), residual })
    }
}

/// What one request takes along.
#[derive(Debug)]
pub struct Travel {
    /// This hop.
    pub trace: Trace,
    /// In which fields it is written.
    pub propagator: Propagator,
    /// Until when somebody waits.
    pub deadline: Option<Deadline>,
    /// When the request came, in milliseconds since 1970, if its server writes that down.
    pub stamp_ms: Option<u64>,
    /// The field `Forwarded`, if its server writes one.
    pub forwarded: Option<HeaderValue>,
}

impl Travel {
    /// Reads what a trusted peer sent along, takes it out of the request, and adds what begins here.
    pub fn take(worker: &Worker, exchange: &mut Exchange, handle: Handle) -> Self {
        let server = exchange.server();
        let propagator = exchange.local.shape.structure.config.routers[server.router].propagator;
        let stamp = server.server.timestamp_header.as_deref();
        let stamp = stamp.map(|name| (HeaderName::from_bytes(name.as_bytes()).ok(), clock::unix_ms()));
        let forwarded = forwarded(worker, exchange);
        let limit_us = worker.in_flight.deadline_us(handle).map(|at_us| at_us.saturating_sub(worker.coarse_us.get()));
        let headers = &mut exchange.parts.headers;
        let sent = if exchange.context { Sent::take(headers, propagator) } else { Sent::default() };
        let before = match propagator {
            Propagator::Linkerd => sent.trace,
            Propagator::Zipkin => take_b3(headers, exchange.trusted),
        };
        if let Some((Some(name), _)) = &stamp {
            headers.remove(name);
        }
        let span = worker.random();
        let mut trace = before.map_or(Trace::root(span), |before| before.child(span));
        if let Some(rate) = sent.rate {
            trace = trace.sampled_at(rate, salt());
        }
        let deadline = limit_us.map_or(sent.deadline, |limit_us| {
            let set_ns = clock::unix_ns();
            let own = Deadline { set_ns, until_ns: set_ns.saturating_add(limit_us.saturating_mul(1000)) };
            Some(sent.deadline.map_or(own, |sent| sent.and(own)))
        });
        Self { trace, propagator, deadline, stamp_ms: stamp.map(|(_, ms)| ms), forwarded }
    }
}

/// What a peer sent that is obeyed.
#[derive(Debug, Default, PartialEq)]
struct Sent {
    trace: Option<Trace>,
    rate: Option<f64>,
    deadline: Option<Deadline>,
}

impl Sent {
    /// Fields that are written anew, or go no further, are taken out.
    fn take(headers: &mut HeaderMap, propagator: Propagator) -> Self {
        let linkerd = propagator == Propagator::Linkerd;
        let decode = |value: &HeaderValue| Trace::decode(value.as_bytes());
        let trace = if linkerd { headers.get_all(CTX_TRACE).iter().find_map(decode) } else { None };
        let rate = if linkerd { trace::rate(headers) } else { None };
        let sent = Self { trace, rate, deadline: Deadline::read(headers) };
        for name in [CTX_TRACE, SAMPLE, REQUEST_ID, CTX_DEADLINE, DST_SERVICE, DST_CLIENT, DST_RESIDUAL] {
            headers.remove(name);
        }
        sent
    }
}

/// Zipkin's fields have no prefix that would mark them as ours, so an untrusted peer's are taken out here.
fn take_b3(headers: &mut HeaderMap, trusted: bool) -> Option<Trace> {
    let sent = if trusted { Trace::from_b3(headers) } else { None };
    for name in &trace::B3 {
        headers.remove(name);
    }
    sent
}

fn forwarded(worker: &Worker, exchange: &Exchange) -> Option<HeaderValue> {
    let server = exchange.server();
    let header = server.server.forwarded.as_ref()?;
    let hop = Hop {
        peer: exchange.peer(),
        local: server.listener.address,
        host: exchange.host().unwrap_or_default(),
        scheme: exchange.parts.uri.scheme_str(),
        router: &exchange.local.shape.structure.routers[server.router].label,
        connection: Rc::as_ptr(&exchange.link) as u64 ^ salt(),
        request: worker.random(),
    };
    forwarded::render(header, &hop)
}

/// Of this process: what a caller cannot know.
fn salt() -> u64 {
    static SALT: OnceLock<u64> = OnceLock::new();
    *SALT.get_or_init(|| fastrand::u64(..))
}

/// The texts of a [`Travel`], as short as one request head lives.
#[derive(Debug)]
pub struct Ink {
    id: ([u8; 32], usize),
    span: [u8; 16],
    parent: [u8; 16],
    trace: ([u8; base64::TEXT_MAX], usize),
    deadline: ([u8; deadline::TEXT_MAX], usize),
    stamp: ([u8; STAMP_MAX], usize),
}

/// The name of a field that travels.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// One that is always the same, so that nobody has to read it as a name again.
    Fixed(&'static HeaderName),
    /// One that the file gives.
    Given(&'a str),
}

static NAME_ID: HeaderName = REQUEST_ID;
static NAME_TRACE: HeaderName = CTX_TRACE;
static NAME_DEADLINE: HeaderName = CTX_DEADLINE;
static NAMES_B3: [HeaderName; 5] = trace::B3;

impl<'a> Name<'a> {
    /// As text.
    pub fn as_str(self) -> &'a str {
        match self {
            Self::Fixed(name) => name.as_str(),
            Self::Given(text) => text,
        }
    }

    /// As the name of a field; `None` if it is none.
    pub fn header(self) -> Option<HeaderName> {
        match self {
            Self::Fixed(name) => Some(name.clone()),
            Self::Given(text) => HeaderName::from_bytes(text.as_bytes()).ok(),
        }
    }
}

/// Digits of milliseconds.
const STAMP_MAX: usize = 20;
/// At most so many fields of a [`Travel`].
pub const FIELDS_MAX: usize = 8;

impl Ink {
    /// Writes everything down.
    pub fn new(travel: &Travel) -> Self {
        let mut ink = Self {
            id: ([0; 32], 16),
            span: [0; 16],
            parent: [0; 16],
            trace: ([0; base64::TEXT_MAX], 0),
            deadline: ([0; deadline::TEXT_MAX], 0),
            stamp: ([0; STAMP_MAX], 0),
        };
        let Trace { span, parent, id, id_high, .. } = travel.trace;
        match (travel.propagator, id_high) {
            (Propagator::Zipkin, Some(high)) => {
                ink.id.0[..16].copy_from_slice(&trace::hex(high));
                ink.id.0[16..].copy_from_slice(&trace::hex(id));
                ink.id.1 = 32;
            }
            _ => ink.id.0[..16].copy_from_slice(&trace::hex(id)),
        }
        match travel.propagator {
            Propagator::Linkerd => ink.trace.1 = travel.trace.encode(&mut ink.trace.0),
            Propagator::Zipkin => (ink.span, ink.parent) = (trace::hex(span), trace::hex(parent)),
        }
        if let Some(deadline) = &travel.deadline {
            ink.deadline.1 = deadline.write(&mut ink.deadline.0);
        }
        if let Some(ms) = travel.stamp_ms {
            ink.stamp.1 = deadline::push_decimal(&mut ink.stamp.0, 0, ms);
        }
        ink
    }

    /// Each field that there is. `stamp` is the name that its server gives the time.
    pub fn each<'a>(&'a self, travel: &Travel, stamp: Option<&'a str>, push: &mut dyn FnMut(Name<'a>, &'a [u8])) {
        let id = &self.id.0[..self.id.1];
        match travel.propagator {
            Propagator::Linkerd => {
                push(Name::Fixed(&NAME_ID), id);
                push(Name::Fixed(&NAME_TRACE), &self.trace.0[..self.trace.1]);
            }
            Propagator::Zipkin => {
                let [trace, span, parent, sampled, flags] = &NAMES_B3;
                push(Name::Fixed(trace), id);
                push(Name::Fixed(span), &self.span);
                push(Name::Fixed(parent), &self.parent);
                if let Some(is_sampled) = travel.trace.sampled() {
                    push(Name::Fixed(sampled), if is_sampled { b"1" } else { b"0" });
                }
                if travel.trace.flags & trace::DEBUG != 0 {
                    push(Name::Fixed(flags), b"1");
                }
            }
        }
        if self.deadline.1 > 0 {
            push(Name::Fixed(&NAME_DEADLINE), &self.deadline.0[..self.deadline.1]);
        }
        if let Some(name) = stamp.filter(|_| self.stamp.1 > 0) {
            push(Name::Given(name), &self.stamp.0[..self.stamp.1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn written(travel: &Travel, stamp: Option<&str>) -> Vec<(String, String)> {
        let (ink, mut all) = (Ink::new(travel), Vec::new());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        ink.each(travel, stamp, &mut |name, value| all.push((name.as_str().to_owned(), text(value))));
        assert!(all.len() <= FIELDS_MAX);
        all
    }

    fn travel(propagator: Propagator) -> Travel {
        let trace = Trace { span: 2, parent: 1, id: 1, id_high: Some(9), flags: 7 };
        let deadline = Some(Deadline { set_ns: 5, until_ns: u64::MAX });
        Travel { trace, propagator, deadline, stamp_ms: Some(17), forwarded: None }
    }

    #[test]
    fn what_is_read_goes_no_further() {
        let trace = "AAAAAAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAY=";
        let mut headers = map(&[
            ("l5d-ctx-trace", "junk"),
            ("l5d-ctx-trace", trace),
            ("l5d-ctx-deadline", "1 9"),
            ("l5d-ctx-deadline", "2 5"),
            ("l5d-sample", "0.5"),
            ("l5d-reqid", "x"),
            ("l5d-dst-service", "/x"),
            ("l5d-dst-client", "/x"),
            ("l5d-dst-residual", "/x"),
            ("l5d-ctx-other", "kept"),
            ("dtab-local", "kept"),
        ]);
        let sent = Sent::take(&mut headers, Propagator::Linkerd);
        let deadline = Some(Deadline { set_ns: 2, until_ns: 5 });
        assert_eq!(sent, Sent { trace: Trace::decode(trace.as_bytes()), rate: Some(0.5), deadline });
        assert_eq!(headers, map(&[("l5d-ctx-other", "kept"), ("dtab-local", "kept")]));
    }

    #[test]
    fn zipkin_ids_of_strangers_are_dropped() {
        let fields = [("x-b3-traceid", "1"), ("x-b3-spanid", "2"), ("x-kept", "1")];
        let mut headers = map(&fields);
        assert_eq!(take_b3(&mut headers, false), None);
        assert_eq!(headers, map(&fields[2..]));
        assert_eq!(take_b3(&mut map(&fields), true).map(|trace| trace.span), Some(2));
    }

    #[test]
    fn each_propagator_writes_its_own_fields() {
        let names = |all: &[(String, String)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let linkerd = written(&travel(Propagator::Linkerd), Some("x-when"));
        assert_eq!(names(&linkerd), ["l5d-reqid", "l5d-ctx-trace", "l5d-ctx-deadline", "x-when"]);
        assert_eq!(linkerd[0].1, "0000000000000001");
        assert_eq!(Trace::decode(linkerd[1].1.as_bytes()), Some(travel(Propagator::Linkerd).trace));
        assert_eq!((&*linkerd[2].1, &*linkerd[3].1), ("5 18446744073709551615", "17"));
        let zipkin = written(&travel(Propagator::Zipkin), None);
        assert_eq!(
            names(&zipkin),
            ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "l5d-ctx-deadline"]
        );
        assert_eq!(zipkin[0].1, "00000000000000090000000000000001");
        assert_eq!((&*zipkin[1].1, &*zipkin[3].1), ("0000000000000002", "1"));
    }

    #[test]
    fn a_residual_that_is_empty_is_not_written() {
        let all = Destination::new("/svc/a", "/#/a", &"/b/\\x20".parse().unwrap());
        assert_eq!(all.residual.as_ref().unwrap(), "/b/\\x20");
        assert!(Destination::new("/svc/a", "/#/a", &Path::root()).residual.is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_value_of_a_context_field_is_read_within_its_bounds_or_passed_over(
            text in "[A-Za-z0-9+/]{40,56}={0,2}",
            lines in "([0-9a-f. -]{0,40}\n){0,14}",
            octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        ) {
            for octets in [text.as_bytes(), lines.as_bytes(), &octets] {
                laws::check_base64(octets);
                laws::check_trace(octets);
                laws::check_deadline(octets);
                laws::check_fields(octets);
            }
        }
    }
}
