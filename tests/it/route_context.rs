//! What travels with a request beyond its own fields: traces, deadlines, where it was routed to; and what answers say.
//! Each over HTTP/1.1, HTTP/2 and gRPC.

use http::{HeaderMap, HeaderValue, Response as HttpResponse};

use super::support::h2peer::{self, Exchange, H2Upstream, exchange, grpc, message, status_trailers};
use super::support::upstream::reply;
use super::support::{Serin, Setup, Upstream};

/// One origin for HTTP/1.1 and one for gRPC, behind the hosts `web` and `rpc`.
struct World {
    web: Upstream,
    rpc: H2Upstream,
    serin: Serin,
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Http1, Protocol::Http2, Protocol::Grpc];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
    Grpc,
}

/// What a client saw, and what the origin saw.
struct Seen {
    answer: HeaderMap,
    at_origin: Vec<(String, String)>,
}

impl Seen {
    fn sent(&self, name: &str) -> Option<&str> {
        let mut values = self.at_origin.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {:?}", self.at_origin);
        value
    }

    fn answered(&self, name: &str) -> Option<&str> {
        self.answer.get(name).map(|value| value.to_str().unwrap())
    }
}

impl World {
    fn new(server: &str, router: &str) -> World {
        let web = Upstream::reply(|_| reply(200, &["content-type: text/plain"], "ok"));
        let rpc = H2Upstream::start(|mut stream: Exchange| async move {
            let _ = stream.read().await;
            stream.grpc(&["answer"], 0);
        });
        let setup = Setup::new().cluster("web", &[&web.endpoint()]).cluster("rpc", &[&rpc.endpoint()]);
        let setup = setup.dtab("/svc => /#/clusters ; /svc/more => /#/clusters/web/of/it");
        let setup = if server.is_empty() { setup } else { setup.server(server) };
        let serin = setup.router(router).start();
        World { web, rpc, serin }
    }

    fn send(&self, protocol: Protocol, lines: &[(&'static str, &str)]) -> Seen {
        self.send_to(protocol, if protocol == Protocol::Grpc { "rpc" } else { "web" }, lines)
    }

    fn send_to(&self, protocol: Protocol, host: &str, lines: &[(&'static str, &str)]) -> Seen {
        self.web.forget();
        if protocol == Protocol::Http1 {
            let texts: Vec<String> = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let answer = self.serin.get_with(host, "/", &texts);
            assert_eq!(answer.status, 200, "{answer:?}");
            let mut fields = HeaderMap::new();
            for (name, value) in &answer.fields.0 {
                let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                fields.append(name, HeaderValue::from_bytes(value).unwrap());
            }
            return Seen { answer: fields, at_origin: self.at_web() };
        }
        let mut head = if protocol == Protocol::Grpc { grpc(host, "/pkg.S/M") } else { h2peer::get(host, "/") };
        for (name, value) in lines {
            head = head.header(*name, *value);
        }
        let body = (protocol == Protocol::Grpc).then(|| message("x"));
        let answer = exchange(self.serin.address(), head.body(()).unwrap(), body).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let at_origin = if protocol == Protocol::Grpc { self.at_rpc() } else { self.at_web() };
        Seen { answer: answer.headers, at_origin }
    }

    fn at_web(&self) -> Vec<(String, String)> {
        let request = self.web.only();
        let field = |(name, value): &(String, Vec<u8>)| {
            (name.to_ascii_lowercase(), String::from_utf8_lossy(value).into_owned())
        };
        request.fields.0.iter().map(field).collect()
    }

    fn at_rpc(&self) -> Vec<(String, String)> {
        let heads = self.rpc.seen.heads.lock().unwrap();
        let fields = heads.last().unwrap().headers.iter();
        fields.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }
}

/// Span, parent, trace and flags, in hexadecimal: what the text of a trace says.
fn ids(text: &str) -> [u64; 4] {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert_eq!(text.len(), 44, "{text}");
    let mut bits = 0_u32;
    let mut octets = Vec::new();
    for (place, c) in text.trim_end_matches('=').chars().enumerate() {
        bits = bits << 6 | ALPHABET.find(c).unwrap() as u32;
        if place % 4 == 3 {
            octets.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    octets.extend_from_slice(&(bits << 6).to_be_bytes()[1..3]);
    std::array::from_fn(|word| u64::from_be_bytes(octets[8 * word..][..8].try_into().unwrap()))
}

#[test]
fn upstreams_are_told_what_a_request_was_routed_to() {
    let world = World::new("", "");
    for protocol in PROTOCOLS {
        let forged = [("l5d-dst-service", "/forged"), ("l5d-dst-client", "/forged"), ("l5d-dst-residual", "/forged")];
        for lines in [&forged[..0], &forged[..]] {
            let seen = world.send(protocol, lines);
            let host = if protocol == Protocol::Grpc { "rpc" } else { "web" };
            assert_eq!(seen.sent("l5d-dst-service"), Some(&*format!("/svc/{host}")), "{protocol:?}");
            assert_eq!(seen.sent("l5d-dst-client"), Some(&*format!("/#/clusters/{host}")), "{protocol:?}");
            assert_eq!(seen.sent("l5d-dst-residual"), None, "{protocol:?}");
        }
    }
    let more = world.send_to(Protocol::Http1, "more", &[]);
    assert_eq!(more.sent("l5d-dst-client"), Some("/#/clusters/web"));
    assert_eq!(more.sent("l5d-dst-residual"), Some("/of/it"));
}

#[test]
fn a_trace_begins_here_and_has_an_id_of_its_own() {
    let world = World::new("", "");
    for protocol in PROTOCOLS {
        let seen = world.send(protocol, &[]);
        let [span, parent, id, flags] = ids(seen.sent("l5d-ctx-trace").unwrap());
        assert_eq!((span, parent, flags), (id, id, 0), "{protocol:?}");
        assert_eq!(seen.sent("l5d-reqid").unwrap(), format!("{id:016x}"));
        let next = world.send(protocol, &[]);
        assert_ne!(next.sent("l5d-reqid"), seen.sent("l5d-reqid"), "{protocol:?}");
    }
}

const SPAN_1_OF_3: &str = "AAAAAAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAY=";

#[test]
fn the_trace_of_a_trusted_peer_goes_on() {
    let world = World::new("", "");
    for protocol in PROTOCOLS {
        let seen = world.send(protocol, &[("l5d-ctx-trace", SPAN_1_OF_3), ("l5d-reqid", "f"), ("l5d-sample", "0.0")]);
        let [span, parent, id, flags] = ids(seen.sent("l5d-ctx-trace").unwrap());
        assert_eq!((parent, id, flags), (1, 3, 6), "{protocol:?}");
        assert!(span != 1 && span != 3);
        assert_eq!(seen.sent("l5d-reqid"), Some("0000000000000003"));
        assert_eq!(seen.sent("l5d-sample"), None);
    }
}

#[test]
fn a_sample_rate_decides_for_a_trace_that_nobody_decided_about() {
    let world = World::new("", "");
    for (rate, flags) in [("1.0", 6), ("0", 2), ("9", 6), ("junk", 0)] {
        let seen = world.send(Protocol::Http1, &[("l5d-sample", rate)]);
        assert_eq!(ids(seen.sent("l5d-ctx-trace").unwrap())[3], flags, "{rate}");
        assert_eq!(seen.sent("l5d-sample"), None);
    }
}

#[test]
fn what_strangers_send_along_influences_nothing() {
    let lines = [
        ("l5d-ctx-trace", SPAN_1_OF_3),
        ("l5d-ctx-deadline", "1 9"),
        ("l5d-sample", "1.0"),
        ("l5d-reqid", "forged"),
        ("l5d-ctx-other", "x"),
    ];
    for (server, front) in [("clearContext: true", ""), ("", "1.1 front")] {
        let world = World::new(server, "");
        for protocol in PROTOCOLS {
            let via = [("via", front)];
            let lines: Vec<_> = lines.iter().chain(via.iter().filter(|_| !front.is_empty())).copied().collect();
            let seen = world.send(protocol, &lines);
            let [span, parent, id, flags] = ids(seen.sent("l5d-ctx-trace").unwrap());
            assert_eq!((span, parent, flags), (id, id, 0), "{protocol:?} {server}");
            assert_eq!(seen.sent("l5d-reqid").unwrap(), format!("{id:016x}"));
            assert_eq!((seen.sent("l5d-ctx-deadline"), seen.sent("l5d-ctx-other")), (None, None), "{protocol:?}");
        }
    }
}

#[test]
fn fields_that_are_nobodys_business_pass() {
    let world = World::new("clearContext: false", "");
    for protocol in PROTOCOLS {
        let seen = world.send(protocol, &[("dtab-local", "/svc => /x"), ("l5d-ctx-other", "1"), ("x-b3-traceid", "7")]);
        assert_eq!(seen.sent("dtab-local"), Some("/svc => /x"), "{protocol:?}");
        assert_eq!(seen.sent("l5d-ctx-other"), Some("1"), "{protocol:?}");
        assert_eq!(seen.sent("x-b3-traceid"), Some("7"), "{protocol:?}");
    }
}

#[test]
fn a_deadline_travels_and_is_never_widened() {
    let (far, near) = (u64::MAX, 7_u64);
    let numbers = |text: &str| {
        let (set, until) = text.split_once(' ').unwrap();
        (set.parse::<u64>().unwrap(), until.parse::<u64>().unwrap())
    };
    let plain = World::new("", "");
    let limited = World::new("", "service: {totalTimeoutMs: 5000}");
    for protocol in PROTOCOLS {
        assert_eq!(plain.send(protocol, &[]).sent("l5d-ctx-deadline"), None, "{protocol:?}");
        let lines = [("l5d-ctx-deadline", "3 9"), ("l5d-ctx-deadline", "junk"), ("l5d-ctx-deadline", "5 20")];
        assert_eq!(plain.send(protocol, &lines).sent("l5d-ctx-deadline"), Some("5 9"), "past, and still advice");
        let own = limited.send(protocol, &[("l5d-ctx-deadline", &format!("1 {far}"))]);
        let (set, until) = numbers(own.sent("l5d-ctx-deadline").unwrap());
        assert!(until > set && until - set <= 5_000_000_000, "{protocol:?}: {set} {until}");
        let theirs = limited.send(protocol, &[("l5d-ctx-deadline", &format!("1 {near}"))]);
        assert_eq!(numbers(theirs.sent("l5d-ctx-deadline").unwrap()).1, near, "{protocol:?}");
    }
}

#[test]
fn zipkin_fields_take_the_place_of_the_others() {
    let world = World::new("", "tracePropagator: {kind: io.l5d.zipkin}");
    let lines = [
        ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
        ("x-b3-sampled", "1"),
        ("l5d-ctx-trace", SPAN_1_OF_3),
    ];
    for protocol in PROTOCOLS {
        let seen = world.send(protocol, &lines);
        assert_eq!(seen.sent("x-b3-traceid"), Some("463ac35c9f6413ad48485a3953bb6124"), "{protocol:?}");
        assert_eq!(seen.sent("x-b3-parentspanid"), Some("a2fb4a1d1a96d312"), "{protocol:?}");
        assert_ne!(seen.sent("x-b3-spanid"), Some("a2fb4a1d1a96d312"), "{protocol:?}");
        assert_eq!(seen.sent("x-b3-sampled"), Some("1"), "{protocol:?}");
        assert_eq!((seen.sent("l5d-ctx-trace"), seen.sent("l5d-reqid")), (None, None), "{protocol:?}");
        let mut fronted = lines.to_vec();
        fronted.push(("via", "1.1 front"));
        let stranger = world.send(protocol, &fronted);
        assert_ne!(stranger.sent("x-b3-traceid"), Some("463ac35c9f6413ad48485a3953bb6124"), "{protocol:?}");
        assert_eq!(stranger.sent("x-b3-sampled"), None, "{protocol:?}");
    }
}

#[test]
fn both_directions_say_who_passed_them_on() {
    let world = World::new("", "");
    for protocol in PROTOCOLS {
        let seen = world.send(protocol, &[]);
        let (came, answered) = match protocol {
            Protocol::Http1 => ("1.1 serin", "1.1 serin"),
            Protocol::Http2 => ("2 serin", "1.1 serin"),
            Protocol::Grpc => ("2 serin", "2 serin"),
        };
        assert_eq!((seen.sent("via"), seen.answered("via")), (Some(came), Some(answered)), "{protocol:?}");
    }
    let origin = Upstream::reply(|_| reply(200, &["Via: 1.0 cache"], "ok"));
    let serin = Setup::web(&origin.endpoint()).start();
    assert_eq!(serin.get("web", "/").fields.all("via"), ["1.0 cache", "1.1 serin"]);
}

#[test]
fn trusted_peers_are_told_how_an_answer_counts() {
    let origin = Upstream::reply(|request| reply(if request.target == "/bad" { 500 } else { 404 }, &[], "ok"));
    for (server, told) in [("clearContext: false", true), ("clearContext: true", false)] {
        let serin = Setup::web(&origin.endpoint()).server(server).start();
        let class = |target| serin.get("web", target).field("l5d-success-class");
        let expected = |text: &str| told.then(|| text.to_owned());
        assert_eq!((class("/"), class("/bad")), (expected("1.0"), expected("0.0")), "{server}");
    }
    for (server, told) in [("clearContext: false", true), ("clearContext: true", false)] {
        for (status, class) in [(0, "1.0"), (14, "0.0")] {
            let rpc = H2Upstream::start(move |mut stream: Exchange| async move {
                let _ = stream.read().await;
                stream.grpc(&["a"], status);
            });
            let serin = Setup::new().cluster("rpc", &[&rpc.endpoint()]).server(server).start();
            let call = grpc("rpc", "/pkg.S/M").body(()).unwrap();
            let answer = exchange(serin.address(), call, Some(message("x"))).unwrap();
            let trailers = answer.trailers.unwrap();
            let said = trailers.get("l5d-success-class").map(|value| value.to_str().unwrap());
            assert_eq!(said, told.then_some(class), "{server}, status {status}");
        }
    }
}

#[test]
fn the_class_of_a_call_is_not_the_origins_to_say() {
    let rpc = H2Upstream::start(|mut stream: Exchange| async move {
        let _ = stream.read().await;
        let head = HttpResponse::builder().header("content-type", "application/grpc");
        let mut send = stream.respond.send_response(head.body(()).unwrap(), false).unwrap();
        let mut trailers = status_trailers(14);
        trailers.insert("l5d-success-class", HeaderValue::from_static("1.0"));
        let _ = send.send_trailers(trailers);
    });
    let serin = Setup::new().cluster("rpc", &[&rpc.endpoint()]).start();
    let call = grpc("rpc", "/pkg.S/M").body(()).unwrap();
    let answer = exchange(serin.address(), call, Some(message("x"))).unwrap();
    assert_eq!(answer.trailers.unwrap().get("l5d-success-class").unwrap(), "0.0");
}

#[test]
fn an_answer_of_nobody_may_be_asked_for_again() {
    let setup = Setup::new().cluster("none", &[]);
    let refused = |server: &str, host: &str| {
        let answer = setup.clone().server(server).start().get(host, "/");
        (answer.status, answer.field("l5d-retryable"))
    };
    assert_eq!(refused("clearContext: false", "none"), (503, Some("true".into())));
    assert_eq!(refused("clearContext: true", "none"), (503, None));
    assert_eq!(refused("clearContext: false", "unknown"), (404, None), "asking again does not help");
}

#[test]
fn a_server_may_write_forwarded_and_the_time() {
    let keys = "addForwardedHeader: {by: {kind: router}, for: {kind: ip}}, timestampHeader: X-At";
    let world = World::new(keys, "");
    for protocol in PROTOCOLS {
        let seen = world.send(protocol, &[("x-at", "forged"), ("forwarded", "for=forged")]);
        let host = if protocol == Protocol::Grpc { "rpc" } else { "web" };
        let proto = if protocol == Protocol::Http1 { "" } else { ";proto=http" };
        let expected = format!("by=_outgoing;for=127.0.0.1;host={host}{proto}");
        assert_eq!(seen.sent("forwarded"), Some(&*expected), "{protocol:?}");
        let ms: u64 = seen.sent("x-at").unwrap().parse().unwrap();
        assert!(ms > 1_600_000_000_000, "{protocol:?}: {ms}");
    }
    let mesh = World::new(&format!("exposure: mesh, {keys}"), "");
    let seen = mesh.web_fields(&[("forwarded", "for=front")]);
    assert_eq!(seen, ["for=front", "by=_outgoing;for=127.0.0.1;host=web"], "added, not merged");
}

impl World {
    fn web_fields(&self, lines: &[(&str, &str)]) -> Vec<String> {
        let texts: Vec<String> = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.serin.get_with("web", "/", &texts);
        self.web.only().fields.all("forwarded")
    }
}

#[test]
fn nobody_forwards_the_certificate_of_somebody() {
    for server in ["exposure: mesh, clearContext: false", "exposure: edge"] {
        let world = World::new(server, "");
        for protocol in PROTOCOLS {
            let seen = world.send(protocol, &[("x-forwarded-client-cert", "Hash=1;SAN=a")]);
            assert_eq!(seen.sent("x-forwarded-client-cert"), None, "{protocol:?} {server}");
        }
    }
}
