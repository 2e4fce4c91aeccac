//! Peers that die, stall, hurry and talk nonsense: nothing is made up, nothing grows, nobody works for nothing.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response as Head};
use socket2::{Domain, Socket, Type};

use super::support::h2peer::{self, H2Upstream, block_on, connect};
use super::support::http1::{End, request};
use super::support::ports::free_port;
use super::support::upstream::{Seen, next_head, next_request, reply};
use super::support::wire::Wire;
use super::support::{Client, DEADLINE, Response, Setup, Upstream, eventually, now, standstill};

const H2: &str = "client: {protocol: h2}";
/// Errors then say only their label.
const STRANGERS: &str = "clearContext: true";

fn label(answer: &Response) -> (u16, String) {
    (answer.status, answer.field("l5d-err").unwrap_or_default())
}

fn error(status: u16, label: &str) -> (u16, String) {
    (status, label.to_owned())
}

/// An origin that serves one request on each connection and closes at the second, after it came whole.
fn closes_at_the_second() -> Upstream {
    Upstream::raw(|wire, seen, index| {
        if next_request(wire, seen, index).is_some() && wire.send(reply(200, &[], "first")).is_ok() {
            next_request(wire, seen, index);
        }
    })
}

#[test]
fn an_idle_connection_that_dies_under_a_get_is_replaced_unseen() {
    let origin = closes_at_the_second();
    let serin = Setup::web(&origin.endpoint()).start();
    let mut client = Client::connect(serin.address());
    for method in ["GET", "GET", "PUT", "DELETE", "OPTIONS", "GET"] {
        client.send(request(method, "/", "web", &[], if method == "PUT" { "small" } else { "" }));
        let answer = client.read(method);
        assert_eq!((answer.status, answer.text().as_str()), (200, "first"), "{method}: {}", answer.text());
    }
    assert!(origin.connections() >= 4, "it was replaced");
}

#[test]
fn an_idle_connection_that_dies_under_a_post_is_an_error_and_sent_once() {
    let origin = closes_at_the_second();
    let serin = Setup::web(&origin.endpoint()).server(STRANGERS).start();
    let mut client = Client::connect(serin.address());
    assert_eq!(client.get("web", "/", &[]).status, 200);
    client.send(request("POST", "/once", "web", &[], "money"));
    let answer = client.read("POST");
    let times = origin.requests().iter().filter(|request| request.target == "/once").count();
    assert_eq!((times, label(&answer)), (1, error(502, "upstream-closed")), "a POST goes at most once");
}

#[test]
fn an_idle_connection_the_origin_closed_costs_nobody_anything() {
    let origin = Upstream::raw(|wire, seen, index| {
        if next_request(wire, seen, index).is_some() {
            let _ = wire.send(reply(200, &[], "and goodbye")); // without saying so
        }
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let mut client = Client::connect(serin.address());
    for n in 1..=20 {
        assert_eq!(client.get("web", "/", &[]).status, 200, "request {n}");
        eventually("the origin has closed", || origin.open() == 0);
    }
    assert_eq!(origin.count(), 20);
    client.send(request("POST", "/once", "web", &[], "money"));
    assert!(matches!(client.read("POST").status, 200 | 502));
    assert!(origin.count() <= 21, "at most once");
}

#[test]
fn a_body_larger_than_the_replay_buffer_is_not_sent_twice() {
    let origin = closes_at_the_second();
    let serin = Setup::web(&origin.endpoint()).start();
    let mut client = Client::connect(serin.address());
    assert_eq!(client.get("web", "/", &[]).status, 200);
    client.send(request("PUT", "/large", "web", &[], &"x".repeat(200_000)));
    let status = client.read("PUT").status;
    let large: Vec<_> = origin.requests().into_iter().filter(|request| request.target == "/large").collect();
    let whole = large.last().is_some_and(|request| request.body.data.len() == 200_000);
    assert!(status == 502 && large.len() == 1 || status == 200 && whole, "{status}, {} times", large.len());
}

/// Bodies that end before they should, by an HTTP/1.1 origin.
const TRUNCATED: [(&str, &[u8]); 4] = [
    ("length", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"),
    ("chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nonly this"),
    ("last chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n"),
    ("trailers", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n0\r\nx-sum: 9\r\n"),
];

#[test]
fn a_truncated_body_is_never_a_clean_end() {
    for (what, bytes) in TRUNCATED {
        let origin = Upstream::raw(move |wire, seen, index| {
            if next_request(wire, seen, index).is_some() {
                let _ = wire.send(bytes);
            }
        });
        let serin = Setup::web(&origin.endpoint()).start();
        let mut client = Client::connect(serin.address());
        client.send(request("GET", "/", "web", &[], ""));
        let cut = client.try_read("GET").map_or(true, |answer| (answer.status, answer.end) == (200, End::Cut));
        assert!(cut, "{what}, HTTP/1.1"); // or not even begun
        let answer = h2peer::exchange(serin.address(), h2peer::get("web", "/").body(()).unwrap(), None);
        assert!(answer.map_or(true, |answer| answer.reset.is_some()), "{what}, HTTP/2: a clean end");
        assert_eq!(origin.count(), 2, "a begun answer is not asked for again");
    }
}

#[test]
fn a_truncated_http_2_body_is_never_a_clean_end() {
    let origin = H2Upstream::start(|mut exchange| async move {
        let mut send = exchange.respond.send_response(Head::new(()), false).unwrap();
        send.send_data(Bytes::from_static(b"only this"), false).unwrap();
        exchange.seen.go_on.notified().await;
        send.send_reset(Reason::INTERNAL_ERROR);
    });
    let serin = Setup::web(&origin.endpoint()).router(H2).start();
    let mut client = Client::connect(serin.address());
    client.send(request("GET", "/", "web", &[], ""));
    let head = client.read_head().unwrap();
    assert_eq!(head.fields.all("transfer-encoding"), ["chunked"]);
    origin.seen.go_on.notify_one();
    assert!(client.wire.read_chunked().is_ok_and(|body| !body.complete && body.data == b"only this"));
    block_on(async {
        let mut send = connect(serin.address()).await;
        let request = h2peer::get("web", "/").body(()).unwrap();
        let response = send.send_request(request, true).unwrap().0.await.unwrap();
        origin.seen.go_on.notify_one();
        let answer = h2peer::read_answer(response).await.unwrap();
        assert!(answer.reset.is_some_and(|reason| reason != Reason::NO_ERROR), "{:?}", answer.reset);
    });
}

/// Takes a request, begins an answer where `begun`, and waits until the proxy gives the connection up.
fn waits(begun: bool) -> Upstream {
    Upstream::raw(move |wire, seen, index| {
        let _ = next_head(wire, seen, index);
        if begun {
            let _ = wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n");
        }
        while wire.fill().is_ok_and(|read| read > 0) {}
    })
}

#[test]
fn a_caller_who_goes_away_ends_the_upstream_request() {
    for begun in [false, true] {
        let origin = waits(begun);
        let serin = Setup::web(&origin.endpoint()).start();
        let mut client = Client::connect(serin.address());
        client.send(request("GET", "/", "web", &[], ""));
        eventually("the request arrives", || origin.count() == 1);
        if begun {
            client.read_head().unwrap();
        }
        assert_eq!(origin.open(), 1);
        drop(client);
        eventually("the upstream connection is closed", || origin.open() == 0);
        block_on(async {
            let mut send = connect(serin.address()).await;
            let request = h2peer::get("web", "/").body(()).unwrap();
            let (response, mut upload) = send.send_request(request, true).unwrap();
            while origin.count() < 2 {
                tokio::task::yield_now().await;
            }
            upload.send_reset(Reason::CANCEL);
            let _ = response.await;
            while origin.open() > 0 {
                tokio::task::yield_now().await;
            }
        });
    }
}

#[test]
fn a_caller_who_goes_away_cancels_the_http_2_stream() {
    let origin = H2Upstream::start(|mut exchange| async move { exchange.until_reset().await });
    let serin = Setup::web(&origin.endpoint()).router(H2).start();
    let mut client = Client::connect(serin.address());
    client.send(request("GET", "/", "web", &[], ""));
    eventually("the request arrives", || origin.running() == 1);
    drop(client);
    eventually("the stream is reset", || origin.resets() == [Reason::CANCEL]);
    assert_eq!(origin.connections(), 1, "the connection stays");
}

#[test]
fn an_upload_that_breaks_off_is_never_a_whole_one() {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    for framing in ["Content-Length: 100\r\n\r\nonly this", "Transfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n"] {
        let mut client = Client::connect(serin.address());
        client.send(format!("POST / HTTP/1.1\r\nHost: web\r\n{framing}"));
        eventually("it is on its way", || origin.open() == 1);
        drop(client);
        eventually("the upstream side is given up", || origin.open() == 0);
    }
    assert!(origin.requests().iter().all(|request| !request.body.complete));
}

/// Sends without end, counting, until the connection fails or `flag` asks for an end.
fn pours(wire: &mut Wire, seen: &Seen, index: usize) {
    let _ = next_head(wire, seen, index);
    let _ = wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 65_536], b"\r\n"].concat();
    while !seen.flag.load(Ordering::Acquire) && wire.send(&chunk).is_ok() {
        seen.add(65_536);
    }
    let _ = wire.send("0\r\n\r\n");
}

/// What may lie between two peers: windows, and the buffers that the kernel grows on both connections.
const BETWEEN: u64 = 24 << 20;
/// A body that does not fit there.
const LARGE: usize = 32 << 20;
/// How much the proxy itself may grow, in KiB.
const GROWTH: u64 = 24 << 10;

#[test]
fn a_stalled_reader_stops_the_origin() {
    let origin = Upstream::raw(pours);
    let serin = Setup::web(&origin.endpoint()).start();
    let before = serin.peak_kib();
    let mut client = Client::connect(serin.address());
    client.send(request("GET", "/", "web", &[], ""));
    client.read_head().unwrap();
    let poured = || origin.seen.counter.load(Ordering::Acquire);
    let stood = standstill("the origin is stopped", Duration::from_millis(300), poured);
    assert!(stood > 0 && stood < BETWEEN, "{stood} octets under way");
    assert!(serin.peak_kib() < before + GROWTH, "{} -> {} KiB", before, serin.peak_kib());
    origin.seen.flag.store(true, Ordering::Release);
    let body = client.wire.read_chunked().unwrap();
    assert!(body.complete && body.data.len() as u64 >= stood, "what was held back arrives");
    block_on(async {
        origin.seen.flag.store(false, Ordering::Release);
        origin.seen.counter.store(0, Ordering::Release);
        let mut send = connect(serin.address()).await;
        let request = h2peer::get("web", "/").body(()).unwrap();
        let _response = send.send_request(request, true).unwrap().0.await.unwrap();
        let stood = tokio::task::spawn_blocking(move || {
            standstill("the origin is stopped", Duration::from_millis(300), || {
                origin.seen.counter.load(Ordering::Acquire)
            })
        });
        assert!(stood.await.unwrap() < BETWEEN, "HTTP/2");
    });
    assert!(serin.peak_kib() < before + GROWTH, "HTTP/2: {} -> {} KiB", before, serin.peak_kib());
}

#[test]
fn a_stalled_origin_stops_the_uploader() {
    let origin = Upstream::raw(|wire, seen, index| {
        let _ = next_head(wire, seen, index);
        while !seen.flag.load(Ordering::Acquire) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let held = wire.buf.len();
        let body = wire.read_length(LARGE).unwrap();
        let _ = wire.send(reply(200, &[], &format!("{} {}", held < body.data.len(), body.data.len())));
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let before = serin.peak_kib();
    let mut client = Client::connect(serin.address());
    client.send(format!("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n", LARGE));
    let mut up = client.wire.stream.try_clone().unwrap();
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&sent);
    let uploader = std::thread::spawn(move || {
        for _ in 0..LARGE / 65_536 {
            up.write_all(&[b'u'; 65_536]).unwrap();
            counted.fetch_add(65_536, Ordering::AcqRel);
        }
    });
    let stood = standstill("the uploader is stopped", Duration::from_millis(300), || sent.load(Ordering::Acquire));
    assert!(stood > 0 && stood < BETWEEN, "{stood} octets under way");
    origin.seen.flag.store(true, Ordering::Release);
    assert_eq!(client.read("POST").text(), format!("true {}", LARGE), "then all of it arrives");
    uploader.join().unwrap();
    assert!(serin.peak_kib() < before + GROWTH, "{} -> {} KiB", before, serin.peak_kib());
}

/// Answers from the head alone; then reads on, or not.
fn hasty(wire: &mut Wire, seen: &Seen, index: usize) {
    let Some(request) = next_head(wire, seen, index) else { return };
    let _ = wire.send(reply(413, &["Connection: close"], &"too large ".repeat(1000)));
    if request.target == "/reads-on" {
        let _ = wire.stream.shutdown(Shutdown::Write);
        while wire.fill().is_ok_and(|read| read > 0) {
            wire.buf.clear();
        }
    }
    if request.target == "/holds" {
        eventually("the test goes on", || seen.flag.load(Ordering::Acquire));
    }
}

#[test]
fn an_early_answer_to_an_upload_is_delivered_whole() {
    let origin = Upstream::raw(hasty);
    let serin = Setup::web(&origin.endpoint()).start();
    for target in ["/reads-on", "/holds", "/closes"] {
        origin.seen.flag.store(false, Ordering::Release);
        let mut client = Client::connect(serin.address());
        client.send(format!("POST {target} HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n", 16 << 20));
        let mut up = client.wire.stream.try_clone().unwrap();
        let uploader = std::thread::spawn(move || (0..256).all(|_| up.write_all(&[b'u'; 65_536]).is_ok()));
        let answer = client.read("POST");
        assert_eq!((answer.status, answer.body.len(), answer.end), (413, 10_000, End::Clean), "{target}, HTTP/1.1");
        origin.seen.flag.store(true, Ordering::Release);
        drop(client);
        let _ = uploader.join();
        origin.seen.flag.store(false, Ordering::Release);
        let request = Request::post(format!("http://web{target}")).body(()).unwrap();
        let body = Some(Bytes::from(vec![b'u'; 4 << 20]));
        let answer = h2peer::exchange(serin.address(), request, body).unwrap();
        assert_eq!((answer.status, answer.body.len()), (413, 10_000), "{target}, HTTP/2");
        assert!(answer.reset.is_none_or(|reason| reason == Reason::NO_ERROR), "{target}: {:?}", answer.reset);
        origin.seen.flag.store(true, Ordering::Release);
    }
}

#[test]
fn large_bodies_pass_both_ways_in_bounded_memory() {
    let origin = Upstream::raw(|wire, seen, index| {
        let Some(_) = next_head(wire, seen, index) else { return };
        let _ = wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 << 20));
        let mut block = wire.buf.split_off(0);
        let mut left = (64 << 20) - block.len();
        while wire.send(&block).is_ok() && left > 0 {
            block.resize(65_536, 0);
            let Ok(read @ 1..) = wire.stream.read(&mut block) else { return };
            block.truncate(read);
            left -= read;
        }
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let before = serin.peak_kib();
    let mut client = Client::connect(serin.address());
    client.send(format!("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n", 64 << 20));
    let mut up = client.wire.stream.try_clone().unwrap();
    let uploader = std::thread::spawn(move || (0..1024_u32).all(|n| up.write_all(&[n as u8; 65_536]).is_ok()));
    let answer = client.read("POST");
    assert_eq!((answer.status, answer.body.len(), answer.end), (200, 64 << 20, End::Clean));
    assert!(answer.body.chunks(65_536).zip(0_u32..).all(|(chunk, n)| chunk.iter().all(|&byte| byte == n as u8)));
    assert!(uploader.join().unwrap());
    assert!(serin.peak_kib() < before + GROWTH, "{} -> {} KiB", before, serin.peak_kib());
}

/// A listener whose queue is full: it neither accepts nor refuses.
fn blackhole() -> (Socket, Vec<Socket>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let queued = (0..8).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        socket
    });
    let queued = queued.collect();
    (listener, queued, address.as_socket().unwrap())
}

#[test]
fn refused_and_timed_out_connects_are_told_apart() {
    let (_listener, _queued, hole) = blackhole();
    let dead = format!("127.0.0.1:{}", free_port());
    let setup = Setup::web(&hole.to_string()).cluster("dead", &[&dead]).server(STRANGERS);
    let serin = setup.router("client: {connectTimeoutMs: 200}").start();
    let start = now();
    assert_eq!(label(&serin.get("dead", "/")), error(503, "connect-refused"));
    assert_eq!(label(&serin.get("web", "/")), error(504, "connect-timeout"));
    assert!(now() - start < DEADLINE / 2, "three attempts of 200 ms");
}

#[test]
fn an_endpoint_that_answers_is_found_behind_one_that_refuses() {
    let origin = Upstream::named("web");
    let dead = format!("127.0.0.1:{}", free_port());
    let serin = Setup::new().cluster("web", &[&dead, &origin.endpoint()]).start();
    for n in 0..30 {
        let mut client = Client::connect(serin.address());
        client.send(request("POST", "/", "web", &[], "body"));
        assert_eq!(client.read("POST").status, 200, "request {n}: nothing of it was delivered before");
    }
    assert_eq!(origin.count(), 30);
}

/// An origin that answers each request with these bytes and closes.
fn says(bytes: Vec<u8>) -> Upstream {
    Upstream::raw(move |wire, seen, index| {
        if next_request(wire, seen, index).is_some() {
            let _ = wire.send(&bytes);
            let _ = wire.stream.shutdown(Shutdown::Write);
            while wire.fill().is_ok_and(|read| read > 0) {}
        }
    })
}

#[test]
fn nonsense_of_an_origin_is_502() {
    let with = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\nhello").into_bytes();
    let line = |line: &str| format!("{line}\r\nContent-Length: 0\r\n\r\n").into_bytes();
    let cases = [
        ("no HTTP", b"hello\r\n\r\n".to_vec()),
        ("HTTP/0.9", b"<html>hello</html>".to_vec()),
        ("a status of letters", line("HTTP/1.1 abc OK")),
        ("status 99", line("HTTP/1.1 099 Low")),
        ("status 600", line("HTTP/1.1 600 High")),
        ("status 2000", line("HTTP/1.1 2000 Long")),
        ("another version", line("HTTP/2.0 200 OK")),
        ("101 unasked", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec()),
        ("two lengths", with("Content-Length: 5\r\nContent-Length: 6")),
        ("a length that is none", with("Content-Length: five")),
        ("a negative length", with("Content-Length: -1")),
        ("an unknown coding", with("Transfer-Encoding: gzip")),
        ("chunked twice", with("Transfer-Encoding: chunked, chunked")),
        ("a name that is no token", with("X A: b\r\nContent-Length: 5")),
        ("a space before the colon", with("Content-Length : 5")),
        ("a control in a value", with("X-A: b\0c\r\nContent-Length: 5")),
        ("65 KiB of head", with(&format!("X-A: {}\r\nContent-Length: 5", "x".repeat(65 * 1024)))),
        ("201 fields", with(&("X-A: b\r\n".repeat(200) + "Content-Length: 5"))),
        (
            "nine interim answers",
            ["HTTP/1.1 103 Early\r\n\r\n".repeat(9).into_bytes(), with("Content-Length: 5")].concat(),
        ),
        ("nothing", Vec::new()),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
    ];
    let mut wrong = Vec::new();
    for (what, bytes) in cases {
        let origin = says(bytes);
        let serin = Setup::web(&origin.endpoint()).server(STRANGERS).start();
        let (status, error) = label(&serin.get("web", "/"));
        let closed = matches!(what, "nothing" | "half a head") && error == "upstream-closed";
        if status != 502 || !(closed || error == "upstream-protocol") {
            wrong.push(format!("{what}: {status} {error}"));
        }
        eventually("the connection is not kept", || origin.open() == 0);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let origin = says([b"HTTP/1.1 100 Continue\r\n\r\n".repeat(8), with("Content-Length: 5")].concat());
    assert_eq!(Setup::web(&origin.endpoint()).start().get("web", "/").text(), "hello", "eight are passed over");
}

#[test]
fn octets_nobody_asked_for_answer_nobody() {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let origin = Upstream::reply(move |request| match (request.method.as_str(), request.target.as_str()) {
        ("HEAD", _) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{evil}", evil.len()).into_bytes(),
        (_, "/204") => format!("HTTP/1.1 204 No Content\r\n\r\n{evil}").into_bytes(),
        (_, "/304") => format!("HTTP/1.1 304 Not Modified\r\n\r\n{evil}").into_bytes(),
        (_, "/more") => [reply(200, &[], "good"), evil.as_bytes().to_vec()].concat(),
        _ => reply(200, &[], "mine"),
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let mut client = Client::connect(serin.address());
    for (method, target) in [("HEAD", "/"), ("GET", "/204"), ("GET", "/304"), ("GET", "/more")] {
        client.send(request(method, target, "web", &[], ""));
        assert!(client.read(method).status < 400, "{method} {target}");
        for _ in 0..3 {
            assert_eq!(client.get("web", "/next", &[]).text(), "mine", "after {method} {target}");
        }
    }
}

#[test]
fn time_limits_answer_504_and_end_the_upstream_request() {
    for (router, wanted) in
        [("service: {totalTimeoutMs: 500}", "timeout"), ("client: {requestAttemptTimeoutMs: 500}", "attempt-timeout")]
    {
        let origin = waits(false);
        let serin = Setup::web(&origin.endpoint()).server(STRANGERS).router(router).start();
        let start = now();
        assert_eq!(label(&serin.get("web", "/")), error(504, wanted));
        assert!(now() - start >= Duration::from_millis(500) && now() - start < DEADLINE / 2);
        eventually("the upstream request is ended", || origin.open() == 0);
        let answer = h2peer::exchange(serin.address(), h2peer::get("web", "/").body(()).unwrap(), None).unwrap();
        assert_eq!((answer.status, answer.header("l5d-err").as_deref()), (504, Some(wanted)));
        assert!(origin.count() <= 2, "a GET that was sent is not sent again");
    }
}
