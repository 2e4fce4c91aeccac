//! Limits of the file on the wire: sizes and counts, at the limit and one beyond, over HTTP/1.1 and HTTP/2.

use bytes::Bytes;

use super::support::frames::{END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, SETTINGS};
use super::support::h2peer::{self, H2Upstream};
use super::support::http1::{End, exchange, request};
use super::support::scrape::Scrape;
use super::support::upstream::{next_head, reply};
use super::support::{Client, Serin, Setup, Upstream, eventually, standstill};

const PSEUDO: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];

fn front(limits: &str) -> (Upstream, Serin) {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).server(&format!("limits: {{{limits}}}")).start();
    (origin, serin)
}

/// The status of a request with this target and these lines, over HTTP/1.1 and then over HTTP/2.
fn statuses(serin: &Serin, target: &str, lines: &[(String, String)]) -> (u16, u16) {
    let text: Vec<String> = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let text: Vec<&str> = text.iter().map(String::as_str).collect();
    let first = exchange(serin.address(), request("GET", target, "web", &text, "")).unwrap().status;
    let request = lines.iter().fold(h2peer::get("web", target), |request, (name, value)| request.header(name, value));
    let second = h2peer::exchange(serin.address(), request.body(()).unwrap(), None).unwrap();
    (first, second.status)
}

fn field(name: &str, octets: usize) -> (String, String) {
    (name.to_owned(), "x".repeat(octets - name.len() - 4))
}

#[test]
fn heads_end_at_their_limits() {
    let (origin, serin) = front("targetBytes: 256, fieldBytes: 512, headBytes: 1024, headFields: 8");
    let check = |what: &str, target: usize, lines: &[(String, String)], status: u16| {
        let target = format!("/{}", "t".repeat(target - 1));
        assert_eq!(statuses(&serin, &target, lines), (status, status), "{what}");
    };
    check("the longest target", 256, &[], 200);
    check("a longer target", 257, &[], 414);
    check("the largest field", 1, &[field("a", 512)], 200);
    check("a larger field", 1, &[field("a", 513)], 431);
    let many = |count: usize| -> Vec<_> { (0..count).map(|n| field(&format!("f{n}"), 8)).collect() };
    // HTTP/1.1 has its Host beside them
    check("the most fields", 1, &many(7), 200);
    check("more fields", 1, &many(9), 431);
    check("a larger head", 256, &[field("a", 500), field("b", 400)], 431);
    assert_eq!(origin.count(), 6, "what is refused goes nowhere");
}

#[test]
fn larger_heads_than_usual_can_be_allowed() {
    let (_origin, serin) = front("fieldBytes: 100000, headBytes: 200000, headFields: 300");
    let many: Vec<_> = (0..250).map(|n| field(&format!("f{n}"), 100)).collect();
    assert_eq!(statuses(&serin, "/", &many), (200, 200));
    assert_eq!(statuses(&serin, "/", &[field("a", 60_000), field("b", 60_000)]).0, 200);
}

#[test]
fn bodies_end_at_their_limit_as_announced_and_as_counted() {
    let (origin, serin) = front("bodyBytes: 1000");
    check_bodies_of_1000(&origin, &serin);
}

#[test]
fn bodies_end_at_the_limit_of_their_name_as_announced_and_as_counted() {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).router("service: {bodyBytes: 1000}").start();
    check_bodies_of_1000(&origin, &serin);
}

fn check_bodies_of_1000(origin: &Upstream, serin: &Serin) {
    let post = |lines: &[&str], rest: &str| {
        let mut client = Client::connect(serin.address());
        client.send(request("POST", "/", "web", lines, "") + rest);
        let answer = client.read("POST");
        (answer.status, answer.field("connection"), client)
    };
    let chunked = |octets: usize| format!("{octets:x}\r\n{}\r\n0\r\n\r\n", "b".repeat(octets));
    assert_eq!(post(&["Content-Length: 1000"], &"b".repeat(1000)).0, 200);
    assert_eq!(post(&["Transfer-Encoding: chunked"], &chunked(1000)).0, 200);
    let seen = origin.count();
    // not an octet of it is waited for
    let (status, connection, mut client) = post(&["Content-Length: 1001"], "");
    assert_eq!((status, connection.as_deref(), client.at_end()), (413, Some("close"), true));
    assert_eq!(origin.count(), seen, "an announced one goes nowhere");
    let (status, connection, mut client) = post(&["Transfer-Encoding: chunked"], &chunked(1001));
    assert_eq!((status, connection.as_deref(), client.at_end()), (413, Some("close"), true));
    let over_h2 = |octets: usize| {
        let request = h2peer::get("web", "/").method("POST").body(()).unwrap();
        h2peer::exchange(serin.address(), request, Some(Bytes::from(vec![b'b'; octets]))).unwrap().status
    };
    assert_eq!((over_h2(1000), over_h2(1001)), (200, 413));
    let call = h2peer::grpc("web", "/a/b").header("content-length", "1001").body(()).unwrap();
    let answer = h2peer::exchange(serin.address(), call, Some(Bytes::from(vec![b'b'; 1001]))).unwrap();
    assert_eq!((answer.status, answer.grpc_status()), (200, Some(8)));
    assert_eq!(Scrape::of(serin).sum("serin_response_failures_total", &[("reason", "body-too-large")]), 4.0);
}

/// The status of a `POST` of so many octets, announced or in one chunk, on a connection of its own.
fn posted(serin: &Serin, host: &str, octets: usize, chunked: bool) -> u16 {
    let body = "b".repeat(octets);
    let text = if chunked {
        request("POST", "/", host, &["Transfer-Encoding: chunked"], "") + &format!("{octets:x}\r\n{body}\r\n0\r\n\r\n")
    } else {
        request("POST", "/", host, &[], &body)
    };
    exchange(serin.address(), text).unwrap().status
}

#[track_caller]
fn check_most(serin: &Serin, host: &str, most: usize) {
    for chunked in [false, true] {
        let statuses = (posted(serin, host, most, chunked), posted(serin, host, most + 1, chunked));
        assert_eq!(statuses, (200, 413), "{host}, {most}, chunked: {chunked}");
    }
}

#[test]
fn each_name_has_its_limit_of_bodies_and_the_servers_holds_for_all() {
    let origin = Upstream::named("web");
    let endpoint = origin.endpoint();
    let names = ["small", "large", "other"];
    let setup = names.iter().fold(Setup::new(), |setup, name| setup.cluster(name, &[&endpoint]));
    let setup = setup.server("limits: {bodyBytes: 500}").router(
        "service:\n  kind: io.l5d.static\n  configs:\n  - {prefix: /svc/small, bodyBytes: 100}\n  \
         - {prefix: /svc/large, bodyBytes: 1000}",
    );
    let serin = setup.start();
    check_most(&serin, "small", 100);
    check_most(&serin, "large", 500);
    check_most(&serin, "other", 500);
}

#[test]
fn a_call_that_is_counted_larger_than_its_name_bears_is_resource_exhausted() {
    let origin = H2Upstream::start(|mut exchange| async move {
        if exchange.read().await.is_ok() {
            exchange.grpc(&["hi"], 0);
        }
    });
    let serin = Setup::web(&origin.endpoint()).router("service: {bodyBytes: 1000}").start();
    let call = |octets: usize| {
        let call = h2peer::grpc("web", "/a/b").body(()).unwrap();
        let answer = h2peer::exchange(serin.address(), call, Some(Bytes::from(vec![b'b'; octets]))).unwrap();
        (answer.status, answer.grpc_status())
    };
    assert_eq!((call(1000), call(1001)), ((200, Some(0)), (200, Some(8))));
    eventually("what was begun upstream is over", || origin.running() == 0);
}

#[test]
fn an_upload_that_runs_keeps_its_limit_over_a_reload() {
    let origin = Upstream::named("web");
    let setup = Setup::web(&origin.endpoint());
    let of = |octets: usize| setup.clone().router(&format!("service: {{bodyBytes: {octets}}}")).text();
    let serin = Serin::start(&of(1000));
    let begun = || {
        let mut client = Client::connect(serin.address());
        let chunk = format!("258\r\n{}\r\n", "b".repeat(600));
        client.send(request("POST", "/", "web", &["Transfer-Encoding: chunked"], "") + &chunk);
        client
    };
    let end = |client: &mut Client, octets: usize| {
        client.send(format!("{octets:x}\r\n{}\r\n0\r\n\r\n", "b".repeat(octets)));
        client.read("POST").status
    };
    let running = || Scrape::of(&serin).sum("serin_requests_active", &[]) == 3.0;
    let (mut whole, mut larger, mut after) = (begun(), begun(), begun());
    eventually("all three run", running);
    serin.rewrite(&of(100));
    eventually("a lower limit holds", || posted(&serin, "web", 101, false) == 413);
    assert_eq!(end(&mut whole, 400), 200, "as large as was allowed when it began");
    serin.rewrite(&of(5000));
    eventually("a higher limit holds", || posted(&serin, "web", 5000, false) == 200);
    assert_eq!(end(&mut larger, 401), 413, "and no larger");
    assert_eq!(end(&mut after, 400), 200);
}

#[test]
fn the_last_places_are_for_connections_that_have_nothing_under_way() {
    let origin = Upstream::raw(|wire, seen, index| {
        let _ = next_head(wire, seen, index);
        let _ = wire.read_to_end();
    });
    let serin = Setup::web(&origin.endpoint()).server("maxConcurrentRequests: 32").start();
    let reached = |count: usize| eventually(&format!("{count} reach the origin"), || origin.count() == count);
    let mut busy = Frames::connect(serin.address());
    (0..31).for_each(|n| assert!(busy.headers(2 * n + 1, END_STREAM, &PSEUDO)));
    let refused = busy.until(|frame| frame.kind == HEADERS).expect("an answer");
    assert_eq!((refused.stream, refused.has_status(503)), (61, true), "30 of 32 places are for those that have others");
    reached(30);
    let mut second = Frames::connect(serin.address());
    assert!(second.headers(1, END_STREAM, &PSEUDO));
    reached(31);
    assert!(second.headers(3, END_STREAM, &PSEUDO));
    assert!(second.until(|frame| frame.kind == HEADERS && frame.stream == 3).expect("an answer").has_status(503));
    let ask = || {
        let mut client = Client::connect(serin.address());
        client.send(request("GET", "/", "web", &[], ""));
        client
    };
    let _last = ask();
    reached(32);
    let beyond = ask().read("GET");
    assert_eq!((beyond.status, beyond.field("retry-after").as_deref()), (503, Some("1")), "nobody has one more");
    assert!(busy.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
    eventually("a place is free", || Scrape::of(&serin).sum("serin_requests_active", &[]) == 31.0);
    assert!(busy.headers(63, END_STREAM, &PSEUDO));
    let answered = busy.until(|frame| frame.kind == HEADERS && frame.stream == 63);
    assert!(answered.is_some(), "refused: the origin answers nobody");
    let _next = ask();
    reached(33);
}

#[test]
fn a_connection_ends_politely_after_its_requests() {
    let (_origin, serin) = front("requestsPerConnection: 3");
    let mut client = Client::connect(serin.address());
    let said: Vec<_> = (0..3).map(|_| client.get("web", "/", &[]).field("connection")).collect();
    assert_eq!(said, [None, None, Some("close".to_owned())]);
    assert!(client.at_end());
    let mut frames = Frames::connect(serin.address());
    for stream in [1, 3, 5] {
        assert!(frames.headers(stream, END_STREAM, &PSEUDO));
    }
    let (mut answers, mut codes) = (0, Vec::new());
    while let Some(frame) = frames.until(|frame| matches!(frame.kind, HEADERS | GOAWAY)) {
        match frame.kind {
            HEADERS => answers += 1,
            _ => codes.push(frame.code()),
        }
        if answers == 3 && !codes.is_empty() {
            break;
        }
    }
    assert_eq!((answers, codes.first()), (3, Some(&0)), "all are answered, and GOAWAY is no error");
}

#[test]
fn settings_advertise_the_limits() {
    let (_origin, serin) = front("concurrentStreams: 7, streamWindowBytes: 20000, frameBytes: 20000, headBytes: 9000");
    let mut frames = Frames::connect(serin.address());
    let settings = frames.until(|frame| frame.kind == SETTINGS && frame.flags == 0).unwrap().payload;
    let value = |id: u16| {
        let found = settings.chunks(6).find(|entry| entry[..2] == id.to_be_bytes())?;
        Some(u32::from_be_bytes(found[2..].try_into().unwrap()))
    };
    assert_eq!((value(3), value(4), value(5), value(6)), (Some(7), Some(20_000), Some(20_000), Some(9000)));
}

/// What a client gets of an origin that says this, with these limits of upstreams.
fn check_answer(limits: &str, said: &str, status: u16, end: End) {
    let said = said.to_owned();
    let origin = Upstream::reply(move |_| said.clone().into_bytes());
    let serin = Setup::web(&origin.endpoint()).router(&format!("client: {{limits: {{{limits}}}}}")).start();
    let answer = serin.get("web", "/");
    assert_eq!((answer.status, answer.end), (status, end), "{limits}");
}

#[test]
fn answers_end_at_their_limits() {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let head = |value: usize| text(reply(200, &[&format!("a: {}", "x".repeat(value))], "hi"));
    let rest = head(0).len() - "hi".len();
    check_answer("headBytes: 2000", &head(2000 - rest), 200, End::Clean);
    check_answer("headBytes: 2000", &head(2001 - rest), 502, End::Clean);
    let fields = |count: usize| text(reply(200, &vec!["a: 1"; count - 1], "hi"));
    check_answer("headFields: 300", &fields(300), 200, End::Clean);
    check_answer("headFields: 300", &fields(301), 502, End::Clean);
    let early = |count: usize| "HTTP/1.1 103 Early\r\n\r\n".repeat(count) + &text(reply(200, &[], "hi"));
    check_answer("interimResponses: 2", &early(2), 200, End::Clean);
    check_answer("interimResponses: 2", &early(3), 502, End::Clean);
    let chunked = |line: &str, trailers: &str| {
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{line}\r\nhi\r\n0\r\n{trailers}\r\n")
    };
    check_answer("chunkLineBytes: 20", &chunked(&format!("2;{}", "e".repeat(18)), ""), 200, End::Clean);
    check_answer("chunkLineBytes: 20", &chunked(&format!("2;{}", "e".repeat(19)), ""), 200, End::Cut);
    check_answer("trailerFields: 2", &chunked("2", "a: 1\r\nb: 2\r\n"), 200, End::Clean);
    check_answer("trailerFields: 2", &chunked("2", "a: 1\r\nb: 2\r\nc: 3\r\n"), 200, End::Cut);
}

/// A connection from this address that has had an answer and stays open; `None` if it was closed instead.
fn kept(serin: &Serin, source: &str) -> Option<Client> {
    let mut client = Client::connect_from(source.parse().unwrap(), serin.address());
    let asked = client.wire.send(request("GET", "/", "web", &[], ""));
    (asked.is_ok() && client.try_read("GET").is_ok()).then_some(client)
}

#[test]
fn a_source_has_its_share_of_the_connections() {
    let (_origin, serin) = front("connectionsPerSource: 3");
    let mut held: Vec<Client> = (0..3).map(|_| kept(&serin, "127.0.0.2").expect("within its share")).collect();
    assert!(kept(&serin, "127.0.0.2").is_none(), "one more is closed");
    assert!(kept(&serin, "127.0.0.3").is_some(), "another source has its own");
    held.pop();
    eventually("its place is free again", || kept(&serin, "127.0.0.2").is_some());
    assert!(Scrape::of(&serin).sum("serin_connections_refused_total", &[]) >= 1.0);
}

#[test]
fn a_full_listener_lets_connections_wait() {
    let (origin, serin) = front("connections: 2");
    let mut held: Vec<Client> = (0..2).map(|_| kept(&serin, "127.0.0.1").unwrap()).collect();
    let mut waiting = Client::connect(serin.address());
    waiting.send(request("GET", "/", "web", &[], ""));
    let count = || origin.count() as u64;
    assert_eq!(standstill("it waits", std::time::Duration::from_millis(300), count), 2);
    held.pop();
    assert_eq!(waiting.read("GET").status, 200, "and is served when there is room");
}
