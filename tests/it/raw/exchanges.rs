//! Exchanges that are more than a request and its answer: 100 and other interim responses, uploads answered early,
//! WebSockets, clients that half-close.

use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response, StatusCode};
use socket2::{Domain, Socket, Type};

use crate::support::h2peer::{self, H2Upstream, block_on, connect};
use crate::support::scrape::Scrape;
use crate::support::upstream::{Seen, next_head, next_request, reply};
use crate::support::wire::Wire;
use crate::support::{Client, Serin, Setup, Upstream, eventually, now};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const EXPECTING: &str = "POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

/// An origin that does this with each connection, behind host `web`.
fn front(script: impl Fn(&mut Wire, &Seen, usize) + Send + Sync + 'static) -> (Upstream, Serin) {
    let origin = Upstream::raw(script);
    let serin = Setup::web(&origin.endpoint()).start();
    (origin, serin)
}

#[test]
fn an_origin_that_says_100_gets_the_body_at_once() {
    let (origin, serin) = front(|wire, seen, index| {
        while let Some(request) = next_head(wire, seen, index) {
            assert_eq!(request.field("expect").as_deref(), Some("100-continue"), "the expectation is sent on");
            assert!(wire.buf.is_empty(), "no body before 100");
            wire.send(CONTINUE).unwrap();
            assert_eq!(wire.read_length(5).unwrap().data, b"hello");
            wire.send(reply(200, &[], "got it")).unwrap();
        }
    });
    let mut client = Client::connect(serin.address());
    for _ in 0..3 {
        client.send(EXPECTING);
        assert!(client.read_head().unwrap().first.starts_with("HTTP/1.1 100"));
        client.send("hello");
        let answer = client.read("POST");
        assert_eq!((answer.status, answer.interim.len()), (200, 0), "100 once");
    }
    assert_eq!(origin.connections(), 1, "the connection is good for the next");
}

#[test]
fn an_origin_that_says_nothing_gets_the_body_after_a_short_while() {
    let (origin, serin) = front(|wire, seen, index| {
        while next_request(wire, seen, index).is_some() {
            wire.send(reply(200, &[], "got it")).unwrap();
        }
    });
    let (start, mut client) = (now(), Client::connect(serin.address()));
    client.send(EXPECTING);
    assert!(client.read_head().unwrap().first.starts_with("HTTP/1.1 100"));
    assert!(start.elapsed() < Duration::from_secs(2), "it does not take long");
    client.send("hello");
    assert_eq!(client.read("POST").text(), "got it");
    assert_eq!(origin.only().body.data, b"hello");
}

#[test]
fn after_a_final_answer_the_body_goes_nowhere() {
    let (origin, serin) = front(|wire, seen, index| {
        while next_head(wire, seen, index).is_some() {
            wire.send(reply(417, &[], "no")).unwrap();
            // whatever comes now is no part of that request
            if let Ok(1..) = wire.fill() {
                seen.add(wire.buf.len());
            }
        }
    });
    for _ in 0..2 {
        let mut client = Client::connect(serin.address());
        client.send(EXPECTING);
        let answer = client.read("POST");
        assert_eq!((answer.status, answer.text().as_str(), answer.interim.len()), (417, "no", 0));
        assert_eq!(answer.field("connection").as_deref(), Some("close"), "nobody knows whether the body will come");
        let _may_be_closed = client.wire.send("hello");
        assert!(client.at_end());
    }
    eventually("the upstream connections are closed", || origin.open() == 0);
    assert_eq!(origin.seen.counter.load(Ordering::Acquire), 0, "not an octet of the body reaches the origin");
    assert_eq!(origin.connections(), 2, "no connection is used again");
}

#[test]
fn an_error_of_our_own_asks_for_no_body() {
    let serin = Setup::new().start();
    let mut client = Client::connect(serin.address());
    client.send(EXPECTING.replace("web", "nobody"));
    let answer = client.read("POST");
    assert_eq!((answer.status, answer.interim.len()), (404, 0));
    assert!(client.at_end());
}

#[test]
fn an_expectation_without_a_body_or_over_http_1_0_is_not_sent_on() {
    let origin = Upstream::reply(|_| reply(200, &[], ""));
    let serin = Setup::web(&origin.endpoint()).start();
    assert_eq!(serin.get_with("web", "/", &["Expect: 100-continue"]).status, 200);
    let mut client = Client::connect(serin.address());
    client.send(EXPECTING.replace("HTTP/1.1", "HTTP/1.0") + "hello");
    let answer = client.read("POST");
    assert_eq!((answer.status, answer.interim.len()), (200, 0), "HTTP/1.0 knows no 1xx");
    let seen = origin.requests();
    assert!(seen.iter().all(|request| !request.fields.has("expect")));
    assert_eq!(seen[1].body.data, b"hello");
}

/// Interim responses and the answer, as a client on HTTP/2 sees them.
fn over_h2(serin: &Serin, request: Request<()>, body: Option<&'static str>) -> (Vec<(u16, Option<String>)>, u16) {
    block_on(async {
        let mut send = connect(serin.address()).await;
        let (mut response, mut upload) = send.send_request(request, body.is_none()).unwrap();
        let mut interim = Vec::new();
        while let Some(Ok(early)) = std::future::poll_fn(|cx| response.poll_informational(cx)).await {
            let link = early.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
            interim.push((early.status().as_u16(), link));
            if let (StatusCode::CONTINUE, Some(body)) = (early.status(), body) {
                upload.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
            }
        }
        let status = response.await.unwrap().status().as_u16();
        (interim, status)
    })
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nl5d-err: secret\r\nConnection: x\r\nX: y\r\n\r\n";

#[test]
fn early_hints_reach_clients_on_http_2_and_nobody_else_is_confused() {
    let (_origin, serin) = front(|wire, seen, index| {
        while next_request(wire, seen, index).is_some() {
            // 100 is for somebody who expects it
            let interim = [CONTINUE, HINTS.as_bytes(), b"HTTP/1.1 102 Processing\r\n\r\n"].concat();
            wire.send(interim).unwrap();
            wire.send(reply(200, &[], "late")).unwrap();
        }
    });
    let (interim, status) = over_h2(&serin, h2peer::get("web", "/").body(()).unwrap(), None);
    assert_eq!(interim, [(103, Some("</a.css>".to_owned())), (102, None)]);
    assert_eq!(status, 200);
    let mut client = Client::connect(serin.address());
    for _ in 0..2 {
        assert_eq!(client.get("web", "/", &[]).text(), "late");
    }
    client.send("GET / HTTP/1.0\r\nHost: web\r\n\r\n");
    let answer = client.read("GET");
    assert_eq!((answer.status, answer.interim.len()), (200, 0), "none towards HTTP/1.0");
}

#[test]
fn interim_responses_of_an_http_2_origin_travel_too() {
    let origin = H2Upstream::start(|mut exchange| async move {
        let early = Response::builder().status(103).header("link", "</b.css>").body(()).unwrap();
        exchange.respond.send_informational(early).unwrap();
        if exchange.request.headers().contains_key("expect") {
            let go_on = Response::builder().status(100).body(()).unwrap();
            exchange.respond.send_informational(go_on).unwrap();
            assert_eq!(exchange.read().await.unwrap().0, b"hello");
        }
        exchange.reply(Response::builder(), "done");
    });
    let serin = Setup::web(&origin.endpoint()).router("client: {protocol: h2}").start();
    let hint = (103, Some("</b.css>".to_owned()));
    assert_eq!(over_h2(&serin, h2peer::get("web", "/").body(()).unwrap(), None), (vec![hint.clone()], 200));
    let post = h2peer::get("web", "/").method("POST").header("expect", "100-continue").body(()).unwrap();
    assert_eq!(over_h2(&serin, post, Some("hello")), (vec![hint, (100, None)], 200));
    let mut client = Client::connect(serin.address());
    client.send(EXPECTING);
    assert!(client.read_head().unwrap().first.starts_with("HTTP/1.1 100"));
    client.send("hello");
    assert_eq!(client.read("POST").text(), "done");
}

#[test]
fn a_client_on_http_2_that_expects_100_gets_it() {
    for says in [true, false] {
        let (_origin, serin) = front(move |wire, seen, index| {
            while next_head(wire, seen, index).is_some() {
                if says {
                    wire.send(CONTINUE).unwrap();
                }
                assert!(wire.read_chunked().unwrap().complete);
                wire.send(reply(200, &[], "got it")).unwrap();
            }
        });
        let post = h2peer::get("web", "/").method("POST").header("expect", "100-continue").body(()).unwrap();
        assert_eq!(over_h2(&serin, post, Some("hello")), (vec![(100, None)], 200), "the origin says 100: {says}");
    }
}

#[test]
fn more_than_eight_interim_responses_are_too_many() {
    for (count, status) in [(8, 200), (9, 502)] {
        let (_origin, serin) = front(move |wire, seen, index| {
            while next_request(wire, seen, index).is_some() {
                let _may_be_gone = wire.send([CONTINUE.repeat(count), reply(200, &[], "")].concat());
            }
        });
        assert_eq!(serin.get("web", "/").status, status, "{count}");
    }
}

#[test]
fn an_early_answer_reaches_a_client_on_http_2_whole() {
    let (_origin, serin) = front(|wire, seen, index| {
        if next_head(wire, seen, index).is_some() {
            wire.send(reply(413, &[], &"too large. ".repeat(1000))).unwrap();
        }
    });
    block_on(async {
        let mut send = connect(serin.address()).await;
        let post = h2peer::get("web", "/").method("POST").body(()).unwrap();
        let (response, mut upload) = send.send_request(post, false).unwrap();
        upload.send_data(Bytes::from(vec![0; 60_000]), false).unwrap();
        let answer = h2peer::read_answer(response.await.unwrap()).await.unwrap();
        assert_eq!((answer.status, answer.body.len(), answer.reset), (413, 11_000, None));
        let reset = std::future::poll_fn(|cx| upload.poll_reset(cx)).await.unwrap();
        assert_eq!(reset, Reason::NO_ERROR, "the rest is not wanted");
    });
}

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: web\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Agrees to a WebSocket, greets in the same octets, and sends back what it reads, until its end.
fn chat(wire: &mut Wire, seen: &Seen, index: usize) {
    while let Some(request) = next_head(wire, seen, index) {
        if request.field("upgrade").is_none() {
            wire.send(reply(200, &[], "plain")).unwrap();
            continue;
        }
        wire.send([SWITCH, b"hi"].concat()).unwrap();
        loop {
            let block = std::mem::take(&mut wire.buf);
            let _ = wire.send(&block);
            seen.add(block.len());
            if !matches!(wire.fill(), Ok(1..)) {
                break;
            }
        }
        let _ = wire.send("bye");
        return;
    }
}

/// A client past the 101.
fn switched(serin: &Serin, more: &str) -> Client {
    let mut client = Client::connect(serin.address());
    client.send(format!("{ASK}{more}"));
    let head = client.read_head().unwrap();
    assert!(head.first.starts_with("HTTP/1.1 101"), "{}", head.first);
    assert_eq!(head.fields.get("upgrade").unwrap().to_ascii_lowercase(), "websocket");
    assert_eq!(head.fields.get("connection").unwrap().to_ascii_lowercase(), "upgrade");
    assert_eq!(head.fields.get("sec-websocket-accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(!head.fields.has("content-length") && !head.fields.has("transfer-encoding"));
    client
}

fn expect(client: &mut Client, text: &str) {
    let read = client.wire.read_length(text.len()).unwrap();
    assert_eq!(String::from_utf8_lossy(&read.data), text);
}

#[test]
fn a_websocket_carries_octets_both_ways_until_both_ends() {
    let (origin, serin) = front(chat);
    let mut client = switched(&serin, "early");
    expect(&mut client, "hiearly");
    for n in 0..100 {
        client.send(format!("message {n};"));
        expect(&mut client, &format!("message {n};"));
    }
    let active = || Scrape::of(&serin).sum("serin_requests_active", &[]);
    assert!((active() - 1.0).abs() < 0.1, "it counts as a request that runs: {}", active());
    client.wire.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end(), "bye", "the end of one direction leaves the other");
    let seen = origin.only();
    assert_eq!(seen.field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(seen.field("connection").map(|value| value.to_ascii_lowercase()).as_deref(), Some("upgrade"));
    assert_eq!(seen.field("sec-websocket-version").as_deref(), Some("13"));
    eventually("it is over", || active() < 0.5 && origin.open() == 0);
    let done = Scrape::of(&serin).sum("serin_requests_total", &[("class", "success")]);
    assert!((done - 1.0).abs() < 0.1, "{done}");
}

#[test]
fn a_websocket_that_nobody_reads_stops_the_writer() {
    let (origin, serin) = front(|wire, seen, index| {
        next_head(wire, seen, index);
        wire.send(SWITCH).unwrap();
        while wire.stream.write_all_counted(&[7; 65_536], seen) {}
    });
    let client = switched(&serin, "");
    let sent = || origin.seen.counter.load(Ordering::Acquire);
    let stood = crate::support::standstill("octets sent", Duration::from_millis(500), sent);
    assert!(stood < 32 << 20, "{stood} octets are on the way");
    assert!(serin.peak_kib() < 128 << 10, "{} KiB", serin.peak_kib());
    drop(client);
    eventually("the origin is told", || origin.open() == 0);
}

/// Writes and counts; false when the peer is gone.
trait Counted {
    fn write_all_counted(&mut self, block: &[u8], seen: &Seen) -> bool;
}

impl Counted for std::net::TcpStream {
    fn write_all_counted(&mut self, block: &[u8], seen: &Seen) -> bool {
        use std::io::Write as _;
        self.set_write_timeout(None).unwrap();
        let sent = self.write(block).unwrap_or(0);
        seen.add(sent);
        sent > 0
    }
}

#[test]
fn what_is_not_a_websocket_goes_back_to_requests() {
    // refused by the origin: the connection goes on as HTTP
    let (origin, serin) = front(|wire, seen, index| {
        while let Some(request) = next_request(wire, seen, index) {
            let status = if request.field("upgrade").is_some() { 426 } else { 200 };
            wire.send(reply(status, &["Upgrade: websocket"], "no")).unwrap();
        }
    });
    let mut client = Client::connect(serin.address());
    client.send(ASK);
    assert_eq!(client.read("GET").status, 426);
    assert_eq!(client.get("web", "/next", &[]).status, 200, "the next request is read as one");
    origin.forget();
    for lines in [
        ["Connection: Upgrade", "Upgrade: h2c"],
        ["Connection: close", "Upgrade: websocket"],
        ["Connection: Upgrade", "Upgrade: foo/2"],
    ] {
        assert_eq!(serin.get_with("web", "/", &lines).status, 200, "{lines:?}");
    }
    let mut client = Client::connect(serin.address());
    client.send(ASK.replace("GET", "POST"));
    assert_eq!(client.read("POST").status, 200, "POST is no WebSocket");
    assert!(origin.requests().iter().all(|request| !request.fields.has("upgrade")));
}

#[test]
fn a_switch_that_nobody_asked_for_is_502() {
    let other: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n";
    let bare: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    for (answer, ask) in [(SWITCH, "GET / HTTP/1.1\r\nHost: web\r\n\r\n"), (other, ASK), (bare, ASK)] {
        let (origin, serin) = front(move |wire, seen, index| {
            while next_head(wire, seen, index).is_some() {
                wire.send(answer).unwrap();
            }
        });
        let mut client = Client::connect(serin.address());
        client.send(ask);
        assert_eq!(client.read("GET").status, 502);
        eventually("that connection is closed", || origin.open() == 0);
    }
}

#[test]
fn an_origin_that_breaks_a_websocket_is_noticed_by_the_client() {
    let (_origin, serin) = front(|wire, seen, index| {
        next_head(wire, seen, index);
        wire.send(SWITCH).unwrap();
    });
    let mut client = switched(&serin, "");
    assert!(client.at_end());
}

#[test]
fn a_websocket_lasts_through_a_drain_until_its_deadline() {
    let origin = Upstream::raw(chat);
    let mut serin = Setup::web(&origin.endpoint()).top("drain: {deadlineMs: 1500}").start();
    let mut client = switched(&serin, "");
    expect(&mut client, "hi");
    let start = now();
    serin.signal("TERM");
    eventually("it drains", || serin.log().contains("drain"));
    client.send("still there");
    expect(&mut client, "still there");
    assert!(client.at_end(), "then it is cut");
    assert!(start.elapsed() >= Duration::from_secs(1), "not before the deadline");
    serin.wait();
}

#[test]
fn a_client_that_half_closes_gets_its_answer() {
    let (_origin, serin) = front(|wire, seen, index| {
        while let Some(request) = next_request(wire, seen, index) {
            if request.target == "/slow" {
                std::thread::park_timeout(Duration::from_millis(1200));
            }
            let body = "x".repeat(if request.target == "/large" { 3 << 20 } else { 5 });
            if wire.send(reply(200, &[], &body)).is_err() {
                return;
            }
        }
    });
    for (head, length) in [
        ("GET / HTTP/1.1\r\nHost: web\r\n\r\n", 5),
        ("GET / HTTP/1.0\r\nHost: web\r\n\r\n", 5),
        ("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nab", 5),
        ("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 5),
        ("GET /slow HTTP/1.1\r\nHost: web\r\n\r\n", 5),
        ("GET /slow HTTP/1.0\r\nHost: web\r\n\r\n", 5),
        ("GET /large HTTP/1.1\r\nHost: web\r\n\r\n", 3 << 20),
    ] {
        let mut client = Client::connect(serin.address());
        client.send(head);
        client.wire.stream.shutdown(Shutdown::Write).unwrap();
        let answer = client.read("GET");
        assert_eq!((answer.status, answer.body.len()), (200, length), "{head}");
        assert!(client.at_end(), "{head}");
    }
    let mut client = Client::connect(serin.address());
    client.send("GET /1 HTTP/1.1\r\nHost: web\r\n\r\nGET /2 HTTP/1.1\r\nHost: web\r\n\r\n");
    client.wire.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!((client.read("GET").status, client.read("GET").status), (200, 200), "both of a pipeline");
    assert!(client.at_end());
}

/// The queue of the listener is full for a while, so that the connection to the upstream takes longer than a client that
/// has gone would be noticed.
#[test]
fn a_client_that_half_closes_gets_its_answer_from_an_upstream_that_is_slow_to_accept() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let fill = (0..8).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address); // in progress, or queued
        socket
    });
    let fill: Vec<Socket> = fill.collect();
    let setup = Setup::web(&address.as_socket().unwrap().to_string());
    let serin = setup.router("client: {connectTimeoutMs: 30000}").start();
    let bodies = ["Content-Length: 2\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"];
    let clients = bodies.map(|body| {
        let mut client = Client::connect(serin.address());
        client.send(format!("POST / HTTP/1.1\r\nHost: web\r\n{body}"));
        client.wire.stream.shutdown(Shutdown::Write).unwrap();
        client.wire.stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client
    });
    eventually("they wait", || Scrape::of(&serin).sum("serin_requests_active", &[]) >= 2.0);
    std::thread::park_timeout(Duration::from_millis(1500));
    drop(fill);
    listener.listen(128).unwrap();
    let listener = TcpListener::from(listener);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let (mut wire, seen) = (Wire::new(stream), Seen::default());
                while let Some(request) = next_request(&mut wire, &seen, 0) {
                    let _ = wire.send(reply(200, &[], std::str::from_utf8(&request.body.data).unwrap()));
                }
            });
        }
    });
    for mut client in clients {
        let answer = client.read("POST");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ab"));
        assert!(client.at_end());
    }
}

#[test]
fn a_client_that_closes_before_its_answer_ends_the_upstream_request() {
    let (origin, serin) = front(|wire, seen, index| {
        next_request(wire, seen, index);
        let _until_closed = wire.fill();
    });
    for head in ["GET / HTTP/1.1\r\nHost: web\r\n\r\n", "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 9\r\n\r\nab"] {
        origin.forget();
        let mut client = Client::connect(serin.address());
        client.send(head);
        eventually("the origin has it", || origin.open() == 1);
        let start = now();
        drop(client);
        eventually("the upstream side is given up", || origin.open() == 0);
        assert!(start.elapsed() < Duration::from_secs(3), "soon");
    }
}
