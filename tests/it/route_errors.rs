//! What each failure returns, over HTTP/1.1, HTTP/2 and to a gRPC call, to peers who are trusted and to others.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use http::request;
use socket2::{Domain, Socket, Type};

use super::support::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM, block,
};
use super::support::h2peer::{Answer, block_on, call, connect, exchange, futures_ready, get as h2_get, grpc, message};
use super::support::http1;
use super::support::ports::free_port;
use super::support::upstream::{Seen, next_head};
use super::support::wire::Wire;
use super::support::{Client, DEADLINE, Serin, Setup, Upstream, eventually, now};

/// A failure as it must show.
struct Expect {
    label: &'static str,
    status: u16,
    /// `grpc-status`; `None` where a gRPC call fails in another way.
    grpc: Option<u32>,
}

const fn expect(label: &'static str, status: u16, grpc: u32) -> Expect {
    Expect { label, status, grpc: Some(grpc) }
}

/// Who asks, by the keys of the listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Peer {
    Trusted,
    Stranger,
}

const PEERS: [Peer; 2] = [Peer::Trusted, Peer::Stranger];

impl Peer {
    fn keys(self) -> &'static str {
        if self == Peer::Trusted { "clearContext: false" } else { "clearContext: true" }
    }

    /// `l5d-err` is a sentence for the trusted and the label for others; a body is one line that gives nothing away.
    #[track_caller]
    fn check_words(self, what: &str, marker: Option<String>, body: Option<&str>, label: &str) {
        let marker = marker.unwrap_or_else(|| panic!("{what}: no l5d-err"));
        match self {
            Peer::Trusted => assert!(marker.len() > label.len(), "{what}: l5d-err has no details: {marker:?}"),
            Peer::Stranger => assert_eq!(marker, label, "{what}"),
        }
        let Some(body) = body else { return };
        let line = body.strip_suffix('\n').unwrap_or(body);
        assert!(!line.is_empty() && !line.contains('\n'), "{what}: not one line of text: {body:?}");
        if self == Peer::Stranger {
            let secret = ["127.0.0.1", "/#/", "/svc", "secret", "error:"].into_iter().find(|word| body.contains(word));
            assert_eq!(secret, None, "{what}: a stranger reads {body:?}");
        }
    }
}

/// A host must fail like this in all three protocols.
fn check_host(serin: &Serin, peer: Peer, host: &str, lines: &[(&str, &str)], expected: &Expect) {
    let what = format!("{host}, {peer:?}");
    let text: Vec<String> = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let text: Vec<&str> = text.iter().map(String::as_str).collect();
    let one = serin.get_with(host, "/", &text);
    assert_eq!(one.status, expected.status, "HTTP/1.1, {what}: {}", one.text());
    peer.check_words(&format!("HTTP/1.1, {what}"), one.field("l5d-err"), Some(&one.text()), expected.label);
    let with_lines = |head: request::Builder| {
        lines.iter().fold(head, |head, (name, value)| head.header(*name, *value)).body(()).unwrap()
    };
    let two = exchange(serin.address(), with_lines(h2_get(host, "/")), None).unwrap();
    assert_eq!(two.status, expected.status, "HTTP/2, {what}: {}", two.text());
    peer.check_words(&format!("HTTP/2, {what}"), two.header("l5d-err"), Some(&two.text()), expected.label);
    assert_eq!(two.text(), one.text(), "one body in both protocols, {what}");
    let Some(code) = expected.grpc else { return };
    let call = exchange(serin.address(), with_lines(grpc(host, "/pkg.Service/Method")), Some(message("x"))).unwrap();
    check_grpc(&call, peer, &what, code, expected.label);
}

/// Trailers only: 200, the gRPC content type, status and message, no body.
fn check_grpc(call: &Answer, peer: Peer, what: &str, code: u32, label: &str) {
    assert_eq!((call.status, call.body.len()), (200, 0), "gRPC, {what}");
    assert!(call.trailers_only, "gRPC, {what}: trailers only");
    assert!(call.header("content-type").is_some_and(|kind| kind.starts_with("application/grpc")), "gRPC, {what}");
    assert_eq!(call.grpc_status(), Some(code), "gRPC, {what}: {:?}", call.headers);
    let said = call.header("grpc-message").unwrap_or_else(|| panic!("gRPC, {what}: no grpc-message"));
    assert!(said.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "grpc-message is percent-encoded: {said:?}");
    peer.check_words(&format!("gRPC, {what}"), call.header("l5d-err"), Some(&said), label);
}

/// One host, served by nothing but this file, must fail like this whoever asks.
fn check_setup(setup: &Setup, host: &str, expected: &Expect) {
    for peer in PEERS {
        check_host(&setup.clone().server(peer.keys()).start(), peer, host, &[], expected);
    }
}

// --- names

#[test]
fn a_name_that_leads_nowhere_is_404() {
    let expected = expect("no-route", 404, 12);
    let setup = Setup::new().cluster("secret", &["127.0.0.1:9"]).dtab(
        "/s => /#/clusters ; /svc/none => /nowhere ; /svc/neg => ~ ; /svc/fail => ! ; /svc/nil => /$/fail ; /svc/gone => /s/gone",
    );
    for peer in PEERS {
        let serin = setup.clone().server(peer.keys()).start();
        for host in ["unknown.example", "none", "neg", "fail", "nil", "gone"] {
            check_host(&serin, peer, host, &[], &expected);
        }
    }
}

#[test]
fn a_name_that_never_ends_is_502() {
    let expected = expect("binding-failed", 502, 14);
    let setup = Setup::new().dtab("/svc/deep => /svc/deep/er ; /svc/wide => /svc/wide & /svc/wide | /svc/wide");
    for peer in PEERS {
        let serin = setup.clone().server(peer.keys()).start();
        for host in ["deep", "wide"] {
            check_host(&serin, peer, host, &[], &expected);
        }
    }
}

#[test]
fn a_namer_that_is_not_there_is_502() {
    let serin = Setup::new().dtab("/svc/x => /y").start();
    let line = [("l5d-dtab", "/svc/web => /$/nobody/web")];
    check_host(&serin, Peer::Trusted, "web", &line, &expect("binding-failed", 502, 14));
    let line = [("l5d-dtab", "/svc/web => /#/nobody/web")];
    check_host(&serin, Peer::Trusted, "web", &line, &expect("no-route", 404, 12));
}

#[test]
fn a_name_without_endpoints_is_503() {
    let setup =
        Setup::new().cluster("secret", &[]).dtab("/svc/a => /#/clusters/secret ; /svc/b => $ ; /svc/c => /$/nil");
    for peer in PEERS {
        let serin = setup.clone().server(peer.keys()).start();
        for host in ["a", "b", "c"] {
            check_host(&serin, peer, host, &[], &expect("no-endpoint", 503, 14));
        }
    }
}

#[test]
fn too_many_names_of_one_source_are_503() {
    let dns = dns_that_knows_nobody();
    let setup = Setup::new().dtab("/svc => /$/io.buoyant.rinet/80").server("clearContext: true").top("workers: 1");
    let serin = start_with_dns(&setup, dns);
    let mut client = Client::connect(serin.address());
    let mut ask = |name: u32| {
        let answer = client.get(&format!("made-up-{name}.example"), "/", &[]);
        (answer.status, answer.field("l5d-err").unwrap())
    };
    let first: Vec<_> = (0..64).map(&mut ask).collect();
    assert!(first.iter().all(|(_, label)| label != "too-many-names"), "64 new names are looked up: {first:?}");
    let next: Vec<_> = (64..72).map(&mut ask).collect();
    assert!(next.contains(&(503, "too-many-names".to_owned())), "and no more: {next:?}");
    let mut other = Client::connect_from([127, 0, 0, 2].into(), serin.address());
    assert_ne!(
        other.get("made-up-99.example", "/", &[]).field("l5d-err").as_deref(),
        Some("too-many-names"),
        "another source"
    );
}

/// A DNS server that answers every question at once: there is no such name.
fn dns_that_knows_nobody() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut packet) {
            // The question as it came, without additional records, and NXDOMAIN.
            let question = packet[12..length].iter().position(|&byte| byte == 0).map_or(length, |end| 12 + end + 5);
            packet[2..12].copy_from_slice(&[0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]);
            let _ = socket.send_to(&packet[..question.min(length)], peer);
        }
    });
    address
}

fn start_with_dns(setup: &Setup, dns: SocketAddr) -> Serin {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("serin.yaml"), setup.text()).unwrap();
    let mut serin = Serin::spawn(dir, &["run", "serin.yaml"], &[("SERIN_DNS", &dns.to_string())]);
    serin.wait_ready();
    serin
}

#[test]
fn a_name_that_leads_back_here_is_508() {
    let (port, admin) = (free_port(), free_port());
    let setup = Setup::web(&format!("127.0.0.1:{port}")).ports(port, admin);
    check_setup(&setup, "web", &expect("loop", 508, 14));
}

// --- upstreams

#[test]
fn a_refused_connection_is_503() {
    let setup = Setup::web(&format!("127.0.0.1:{}", free_port())).top("workers: 1");
    check_setup(&setup, "web", &expect("connect-refused", 503, 14));
}

#[test]
fn an_endpoint_that_is_alone_is_tried_although_ejected() {
    let origin = Upstream::raw(|wire, seen, index| {
        let _ = next_head(wire, seen, index);
        if index >= 3 {
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        }
    });
    let backoff = "backoff: {kind: constant, ms: 60000}";
    let client = format!("client: {{failureAccrual: {{kind: io.l5d.consecutiveFailures, failures: 2, {backoff}}}}}");
    let serin = Setup::web(&origin.endpoint()).router(&client).top("workers: 1").start();
    let statuses: Vec<u16> = (0..6).map(|_| serin.get("web", "/").status).collect();
    assert_eq!(statuses, [502, 502, 502, 200, 200, 200], "ejected after the second, tried all the same");
}

#[test]
fn a_connection_that_nobody_accepts_is_504() {
    let hole = Blackhole::new();
    let setup = Setup::web(&hole.address.to_string()).router("client: {connectTimeoutMs: 200}").top("workers: 1");
    check_setup(&setup, "web", &expect("connect-timeout", 504, 14));
}

/// A listener whose queue is full: the system drops what else comes.
struct Blackhole {
    address: SocketAddr,
    _listener: TcpListener,
    _fill: Vec<Socket>,
}

impl Blackhole {
    fn new() -> Blackhole {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let fill = (0..8).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into()); // in progress, or queued
            socket
        });
        Blackhole { address, _fill: fill.collect(), _listener: listener }
    }
}

/// An origin that reads a head, does this, and closes.
fn after_head(script: impl Fn(&mut Wire, &Seen) + Send + Sync + 'static) -> Upstream {
    Upstream::raw(move |wire, seen, index| {
        if next_head(wire, seen, index).is_some() {
            script(wire, seen);
        }
    })
}

#[test]
fn an_origin_that_closes_before_a_head_is_502() {
    let origin = after_head(|_, _| {});
    check_setup(&Setup::web(&origin.endpoint()), "web", &Expect { label: "upstream-closed", status: 502, grpc: None });
    let half = after_head(|wire, _| wire.send("HTTP/1.1 200 OK\r\ncontent-le").unwrap());
    check_setup(&Setup::web(&half.endpoint()), "web", &Expect { label: "upstream-closed", status: 502, grpc: None });
}

#[test]
fn an_origin_that_speaks_no_http_is_502() {
    for nonsense in
        ["220 secret ESMTP\r\n\r\n", "HTTP/1.1 99 Low\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\nx"]
    {
        let origin = after_head(move |wire, _| wire.send(nonsense).unwrap());
        let expected = Expect { label: "upstream-protocol", status: 502, grpc: None };
        check_setup(&Setup::web(&origin.endpoint()), "web", &expected);
    }
}

#[test]
fn a_reset_before_a_head_is_502() {
    use super::support::h2peer::H2Upstream;
    let origin = H2Upstream::start(|mut stream| async move {
        stream.respond.send_reset(h2::Reason::INTERNAL_ERROR);
    });
    let setup = Setup::web(&origin.endpoint()).router("client: {protocol: h2}");
    check_setup(&setup, "web", &expect("upstream-reset", 502, 13));
}

#[test]
fn an_origin_too_slow_for_an_attempt_is_504() {
    let origin = after_head(|wire, _| drop(wire.read_to_end()));
    let setup = Setup::web(&origin.endpoint()).router("client: {requestAttemptTimeoutMs: 200}");
    check_setup(&setup, "web", &Expect { label: "attempt-timeout", status: 504, grpc: None });
}

#[test]
fn a_request_over_its_total_time_is_504() {
    let origin = after_head(|wire, _| drop(wire.read_to_end()));
    let setup = Setup::web(&origin.endpoint()).router("service: {totalTimeoutMs: 200}");
    let start = now();
    check_setup(&setup, "web", &expect("timeout", 504, 4));
    assert!(now() - start < DEADLINE);
}

#[test]
fn a_name_that_does_not_resolve_in_time_is_504() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap(); // a DNS server that never answers
    let setup = Setup::web("slow.invalid.example:80").router("bindingTimeoutMs: 200");
    for peer in PEERS {
        let serin = start_with_dns(&setup.clone().server(peer.keys()), silent.local_addr().unwrap());
        check_host(&serin, peer, "web", &[], &expect("binding-timeout", 504, 14));
    }
}

// --- requests

#[test]
fn a_bad_dtab_header_is_400() {
    let serin = Setup::web("127.0.0.1:9").start();
    for name in ["l5d-dtab", "l5d-ctx-dtab"] {
        check_host(&serin, Peer::Trusted, "web", &[(name, "/svc => ;; nonsense")], &expect("bad-context", 400, 3));
    }
}

/// Raw bytes must get this answer, whoever sends them.
fn check_raw(bytes: &str, label: &str, status: u16) {
    let origin = Upstream::named("web");
    for peer in PEERS {
        let serin = Setup::web(&origin.endpoint()).server(peer.keys()).start();
        let first: String = bytes.chars().take(60).collect();
        let answer = http1::exchange(serin.address(), bytes).unwrap_or_else(|error| panic!("{first:?}: {error}"));
        assert_eq!(answer.status, status, "{first:?}: {}", answer.text());
        peer.check_words(&format!("{first:?}"), answer.field("l5d-err"), Some(&answer.text()), label);
    }
    assert_eq!((origin.count(), origin.connections()), (0, 0), "nothing reaches an origin");
}

#[test]
fn a_request_without_one_valid_host_is_400() {
    check_raw("GET / HTTP/1.1\r\n\r\n", "bad-request", 400);
    check_raw("GET / HTTP/1.1\r\nHost: web\r\nHost: web\r\n\r\n", "bad-request", 400);
    check_raw("GET / HTTP/1.0\r\n\r\n", "unidentified", 400);
    check_raw("GET / HTTP/1.1\r\nHost: \r\n\r\n", "bad-request", 400);
    check_raw("GET / HTTP/1.1\r\nHost: web, web\r\n\r\n", "bad-request", 400);
    check_raw(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "w".repeat(513)), "unidentified", 400);
}

#[test]
fn a_request_in_two_readings_is_400() {
    let head = "POST / HTTP/1.1\r\nHost: web\r\n";
    check_raw(&format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "bad-request", 400);
}

#[test]
fn a_refused_method_is_405() {
    check_raw("CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n", "method-refused", 405);
    check_raw("TRACE / HTTP/1.1\r\nHost: web\r\n\r\n", "method-refused", 405);
}

#[test]
fn a_target_too_long_is_414() {
    check_raw(&format!("GET /{} HTTP/1.1\r\nHost: web\r\n\r\n", "x".repeat(17_000)), "uri-too-long", 414);
}

#[test]
fn headers_too_large_are_431() {
    let line = format!("x-filler: {}\r\n", "x".repeat(8_000));
    check_raw(&format!("GET / HTTP/1.1\r\nHost: web\r\n{}\r\n", line.repeat(5)), "headers-too-large", 431);
}

#[test]
fn too_many_headers_are_431() {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: web\r\n{}\r\n", "x: y\r\n".repeat(count - 1));
    assert_eq!(http1::exchange(serin.address(), fields(100)).unwrap().status, 200);
    assert_eq!(http1::exchange(serin.address(), fields(101)).unwrap().status, 431);
    assert_eq!(origin.count(), 1);
}

/// An HTTP/2 request must be answered with this status; a reset is no answer.
fn check_h2(fields: &[(&str, &str)], status: u16) {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    let mut frames = Frames::connect(serin.address());
    let whole = block(fields);
    let parts: Vec<&[u8]> = whole.chunks(16_000).collect();
    for (at, part) in parts.iter().enumerate() {
        let kind = if at == 0 { HEADERS } else { CONTINUATION };
        let end = if at + 1 == parts.len() { END_HEADERS } else { 0 };
        assert!(frames.send(kind, end | if at == 0 { END_STREAM } else { 0 }, 1, part));
    }
    let about = |frame: &Frame| matches!(frame.kind, HEADERS | RST_STREAM) || frame.kind == GOAWAY && frame.code() != 0;
    let answer = frames.until(about).expect("an answer");
    assert!(answer.kind == HEADERS && answer.has_status(status), "expected {status}, got {answer:?}");
    assert_eq!((origin.count(), origin.connections()), (0, 0), "nothing reaches an origin");
}

#[test]
fn http2_requests_are_refused_alike() {
    let head = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let with = |more: &[(&'static str, &'static str)]| [&head[..], more].concat();
    check_h2(&head, 400);
    check_h2(&with(&[(":authority", "web"), ("host", "other")]), 400);
    check_h2(&[(":method", "TRACE"), (":scheme", "http"), (":path", "/"), (":authority", "web")], 405);
    check_h2(&[(":method", "CONNECT"), (":authority", "web:80")], 405);
    let long = format!("/{}", "x".repeat(17_000));
    check_h2(&[(":method", "GET"), (":scheme", "http"), (":path", &long), (":authority", "web")], 414);
    let filler = "x".repeat(8_000);
    let large: Vec<(&str, &str)> =
        with(&[(":authority", "web")]).into_iter().chain((0..5).map(|_| ("x-filler", filler.as_str()))).collect();
    check_h2(&large, 431);
}

#[test]
fn more_calls_deep_than_allowed_is_508() {
    let origin = Upstream::named("web");
    let setup = Setup::web(&origin.endpoint()).server("maxCallDepth: 3");
    for peer in PEERS {
        let serin = setup.clone().server(peer.keys()).start();
        let deep = [("via", "1.1 a, 1.1 b"), ("via", "2 c, 1.1 d")];
        check_host(&serin, peer, "web", &deep, &expect("call-depth", 508, 14));
        assert_eq!(serin.get_with("web", "/", &["Via: 1.1 a, 1.1 b", "Via: 2 c"]).status, 200);
    }
}

#[test]
fn more_requests_than_allowed_is_503_with_retry_after() {
    let origin = after_head(|wire, _| drop(wire.read_to_end()));
    let setup = Setup::web(&origin.endpoint()).server("maxConcurrentRequests: 1");
    for peer in PEERS {
        let serin = setup.clone().server(peer.keys()).start();
        let before = origin.count();
        let mut held = TcpStream::connect(serin.address()).unwrap();
        std::io::Write::write_all(&mut held, b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").unwrap();
        eventually("the first request is at the origin", || origin.count() > before);
        check_host(&serin, peer, "web", &[], &expect("overloaded", 503, 14));
        assert_eq!(serin.get("web", "/").field("retry-after").as_deref(), Some("1"));
        drop(held);
    }
}

#[test]
fn the_limit_counts_all_workers_together() {
    let origin = after_head(|wire, _| drop(wire.read_to_end()));
    let serin = Setup::web(&origin.endpoint()).server("maxConcurrentRequests: 4").top("workers: 2").start();
    block_on(async {
        let mut connection = connect(serin.address()).await;
        let mut held = Vec::new();
        for let_in in 1..=4 {
            futures_ready(&mut connection).await.unwrap();
            let request = h2_get("web", "/").body(()).unwrap();
            let mut response = Box::pin(connection.send_request(request, true).unwrap().0);
            while origin.count() < let_in {
                let answer = tokio::time::timeout(POLL, &mut response).await;
                assert!(answer.is_err(), "request {let_in} of 4 on one worker is refused: {answer:?}");
            }
            held.push(response);
        }
        let answer = call(&mut connection, h2_get("web", "/").body(()).unwrap(), None).await.unwrap();
        assert_eq!(answer.status, 503);
    });
}

const POLL: Duration = Duration::from_millis(10);
