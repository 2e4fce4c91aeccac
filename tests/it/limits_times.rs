//! Limits of the file on the wire: what waits for whom, and for how long. Sweeps come once a second, so a limit of one
//! second is over within three.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::support::frames::{DATA, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM, WINDOW_UPDATE};
use super::support::h2peer::{self, H2Upstream, block_on, connect};
use super::support::http1::{End, request};
use super::support::upstream::{Seen, next_head, next_request, reply};
use super::support::wire::Wire;
use super::support::{Client, Serin, Setup, Upstream, eventually, now};

const PSEUDO: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];
const POST: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "web")];
const ENHANCE_YOUR_CALM: u32 = 0xb;

fn front(origin: &Upstream, limits: &str) -> Serin {
    Setup::web(&origin.endpoint()).server(&format!("limits: {{{limits}}}")).start()
}

#[test]
fn a_slow_head_is_408_and_an_idle_connection_closes() {
    let origin = Upstream::named("web");
    let serin = front(&origin, "headTimeoutMs: 1000, idleTimeoutMs: 1000");
    let mut slow = Client::connect(serin.address());
    slow.send("GET / HTTP/1.1\r\nHost: w");
    let mut silent = Client::connect(serin.address());
    let mut idle = Client::connect(serin.address());
    assert_eq!(idle.get("web", "/", &[]).status, 200);
    let mut second = Client::connect(serin.address());
    assert_eq!(second.get("web", "/", &[]).status, 200);
    second.send("GET / HT");
    let mut frames = Frames::connect(serin.address());
    assert!(frames.headers(1, END_STREAM, &PSEUDO));
    for client in [&mut slow, &mut second] {
        let answer = client.read("GET");
        assert_eq!((answer.status, answer.field("connection").as_deref()), (408, Some("close")));
        assert!(client.at_end());
    }
    assert!(silent.at_end() && idle.at_end());
    assert_eq!(frames.until(|frame| frame.kind == GOAWAY).map(|frame| frame.code()), Some(0));
}

/// Does a connection end that has sent this behind its first request, in the same write, and nothing since.
#[track_caller]
fn check_ends(behind: &str) {
    let origin = Upstream::named("web");
    let serin = front(&origin, "headTimeoutMs: 1000, idleTimeoutMs: 1000");
    let mut client = Client::connect(serin.address());
    client.send(format!("GET / HTTP/1.1\r\nHost: web\r\n\r\n{behind}"));
    assert_eq!(client.read("GET").status, 200);
    // half a head may be told that it took too long
    assert!(client.try_read("GET").map_or(true, |answer| answer.status == 408), "{behind:?}");
    assert!(client.at_end(), "{behind:?}");
}

#[test]
fn what_stands_behind_a_request_keeps_no_connection_open() {
    check_ends("\r\n");
    check_ends("GE");
}

#[test]
fn a_client_that_answers_no_ping_is_not_waited_for() {
    let origin = Upstream::named("web");
    let serin = front(&origin, "idleTimeoutMs: 1000, requestsPerConnection: 2");
    let mut silent = Frames::connect(serin.address());
    let mut busy = Frames::connect(serin.address());
    // `read` answers nothing
    let told = std::iter::from_fn(|| silent.read()).filter(|frame| frame.kind == GOAWAY).count();
    assert!(told >= 1, "it ends, and says so");
    let mut stream = 1;
    eventually("a stream is refused, or all is over", || {
        let sent = busy.headers(stream, END_STREAM, &PSEUDO);
        let of_it = |frame: &Frame| [HEADERS, RST_STREAM].contains(&frame.kind) && frame.stream == stream;
        let answer = std::iter::from_fn(|| busy.read()).find(of_it);
        stream += 2;
        !sent || answer.is_none_or(|frame| frame.kind == RST_STREAM)
    });
}

#[test]
fn an_answer_cut_short_is_a_reset_for_http_1_0() {
    let origin = Upstream::raw(|wire, seen, index| {
        let _ = next_request(wire, seen, index);
        let _ = wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf");
    });
    let serin = front(&origin, "");
    let mut client = Client::connect(serin.address());
    client.send("GET / HTTP/1.0\r\nHost: web\r\n\r\n");
    let mut all = Vec::new();
    let ended = std::io::Read::read_to_end(&mut client.wire.stream, &mut all);
    assert!(ended.is_err(), "{}", String::from_utf8_lossy(&all));
}

#[test]
fn an_answer_that_is_given_up_is_a_reset_for_http_1_0() {
    let origin = Upstream::raw(|wire, seen, index| {
        let _ = next_request(wire, seen, index);
        let _ = wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
        let _ = wire.read_to_end();
    });
    let mut serin = Setup::web(&origin.endpoint()).top("drain: {deadlineMs: 300}").start();
    let mut client = Client::connect(serin.address());
    client.send("GET / HTTP/1.0\r\nHost: web\r\n\r\n");
    let mut begun = [0; 1];
    std::io::Read::read_exact(&mut client.wire.stream, &mut begun).unwrap();
    serin.signal("TERM");
    serin.wait();
    let mut all = Vec::new();
    let ended = std::io::Read::read_to_end(&mut client.wire.stream, &mut all);
    assert!(ended.is_err(), "{}", String::from_utf8_lossy(&all));
}

/// Takes a head and waits for the end of its connection.
fn waits(wire: &mut Wire, seen: &Seen, index: usize) {
    let _ = next_request(wire, seen, index);
    let _ = wire.read_to_end();
}

#[test]
fn an_upload_that_does_not_go_on_is_408_and_ends_upstream() {
    let origin = Upstream::raw(waits);
    let serin = front(&origin, "stallTimeoutMs: 1000");
    for lines in ["Content-Length: 1000\r\n\r\nbegun", "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n"] {
        let mut client = Client::connect(serin.address());
        client.send(format!("POST / HTTP/1.1\r\nHost: web\r\n{lines}"));
        let answer = client.read("POST");
        assert_eq!((answer.status, answer.field("connection").as_deref()), (408, Some("close")), "{lines}");
        assert!(client.at_end());
    }
    let mut frames = Frames::connect(serin.address());
    assert!(frames.headers(1, 0, &POST) && frames.send(DATA, 0, 1, b"begun"));
    assert!(frames.until(|frame| frame.kind == HEADERS).expect("an answer").has_status(408));
    eventually("nothing is left upstream", || origin.open() == 0);
}

#[test]
fn a_grpc_client_may_be_silent() {
    let origin = H2Upstream::start(|mut exchange| async move {
        let _ = exchange.request.body_mut().data().await;
        exchange.grpc(&["done"], 0);
    });
    let serin = front_h2(&origin, "stallTimeoutMs: 100, idleTimeoutMs: 100, headTimeoutMs: 100");
    let answer = block_on(async {
        let mut send = connect(serin.address()).await;
        let call = h2peer::grpc("web", "/a/b").body(()).unwrap();
        let (response, mut upload) = send.send_request(call, false).unwrap();
        // three sweeps
        tokio::time::sleep(std::time::Duration::from_millis(3500)).await;
        upload.send_data(h2peer::message("late"), true).unwrap();
        h2peer::read_answer(response.await.unwrap()).await.unwrap()
    });
    assert_eq!(answer.grpc_status(), Some(0));
}

/// Whoever writes more than the other side reads waits: that is no end of a call that goes on.
#[test]
fn an_origin_that_answers_may_take_its_time_with_the_upload() {
    let origin = Upstream::raw(|wire, seen, _| {
        let Some(mut frames) = Frames::accept(wire.stream.try_clone().unwrap()) else { return };
        let asked = frames.until(|frame| frame.kind == HEADERS).expect("a call").stream;
        frames.headers(asked, 0, &[(":status", "200"), ("content-type", "application/grpc")]);
        // eight sweeps
        for _ in 0..40 {
            std::thread::park_timeout(std::time::Duration::from_millis(100));
            frames.send(DATA, 0, asked, &[0, 0, 0, 0, 0]);
        }
        frames.send(WINDOW_UPDATE, 0, 0, &100_000_u32.to_be_bytes());
        frames.send(WINDOW_UPDATE, 0, asked, &100_000_u32.to_be_bytes());
        let mut taken = 0;
        let ended = frames.until(|frame| {
            taken += if frame.kind == DATA { frame.payload.len() } else { 0 };
            frame.kind == RST_STREAM || frame.kind == DATA && frame.flags & END_STREAM != 0
        });
        seen.add(taken);
        if ended.is_some_and(|frame| frame.kind == DATA) {
            frames.headers(asked, END_STREAM, &[("grpc-status", "0")]);
        }
    });
    let setup = Setup::web(&origin.endpoint()).router("client: {protocol: h2, limits: {stallTimeoutMs: 1000}}");
    let serin = setup.start();
    let call = h2peer::grpc("web", "/a/b").body(()).unwrap();
    let message = h2peer::message(&"x".repeat(100_000));
    let answer = h2peer::exchange(serin.address(), call, Some(message.clone())).unwrap();
    assert_eq!((answer.grpc_status(), origin.seen.counter.load(Ordering::Acquire)), (Some(0), message.len() as u64));
}

fn front_h2(origin: &H2Upstream, limits: &str) -> Serin {
    let setup = Setup::web(&origin.endpoint()).server(&format!("limits: {{{limits}}}"));
    setup.router("client: {protocol: h2, limits: {stallTimeoutMs: 100}}").start()
}

/// Sends until nobody takes it.
fn pours(wire: &mut Wire, seen: &Seen, index: usize) {
    let asked = next_head(wire, seen, index);
    if asked.is_some_and(|request| request.target == "/small") {
        let _ = wire.send(reply(200, &["connection: close"], "small"));
        return;
    }
    let _ = wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 65_536], b"\r\n"].concat();
    while wire.send(&chunk).is_ok() {
        seen.add(65_536);
    }
}

#[test]
fn a_client_that_takes_nothing_is_cut_and_its_origin_let_go() {
    let origin = Upstream::raw(pours);
    let serin = front(&origin, "stallTimeoutMs: 1000");
    let mut client = Client::connect(serin.address());
    client.send(request("GET", "/", "web", &[], ""));
    client.read_head().unwrap();
    eventually("the origin is let go", || origin.open() == 0 && origin.connections() == 1);
    let body = client.wire.read_chunked().unwrap();
    assert!(!body.complete, "what it then reads is no whole message");
}

#[test]
fn a_client_without_window_loses_the_stream_and_no_other() {
    let origin = Upstream::raw(pours);
    let serin = front(&origin, "stallTimeoutMs: 1000");
    let mut frames = Frames::connect(serin.address());
    assert!(frames.headers(1, END_STREAM, &PSEUDO));
    let reset = frames.until(|frame| frame.kind == RST_STREAM).expect("a reset");
    assert_eq!((reset.stream, reset.code()), (1, ENHANCE_YOUR_CALM));
    eventually("the origin is let go", || origin.open() == 0);
    // the window of the connection is used up: an answer without a body needs none
    assert!(frames.headers(3, END_STREAM, &[PSEUDO[0], PSEUDO[1], (":path", "/small"), PSEUDO[3]]));
    let head = frames.until(|frame| frame.kind == HEADERS && frame.stream == 3).expect("the connection serves on");
    assert!(head.has_status(200));
}

#[test]
fn a_slow_reader_is_not_a_stalled_one() {
    let origin = Upstream::raw(pours);
    let serin = front(&origin, "stallTimeoutMs: 2000");
    let mut client = Client::connect(serin.address());
    client.send(request("GET", "/", "web", &[], ""));
    client.read_head().unwrap();
    let start = now();
    while now() - start < std::time::Duration::from_secs(7) {
        assert!(client.wire.fill().unwrap() > 0, "it is cut although it reads");
        client.wire.buf.clear();
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    assert_eq!(origin.open(), 1);
}

#[test]
fn an_origin_that_takes_nothing_is_504() {
    let origin = Upstream::raw(|wire, seen, index| {
        let _ = next_head(wire, seen, index);
        eventually("the test is over", || seen.flag.load(Ordering::Acquire));
    });
    let setup = Setup::web(&origin.endpoint()).router("client: {limits: {stallTimeoutMs: 1000}}");
    let serin = setup.start();
    let mut client = Client::connect(serin.address());
    client.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000000\r\n\r\n");
    let mut up = client.wire.stream.try_clone().unwrap();
    let uploader = std::thread::spawn(move || while std::io::Write::write_all(&mut up, &[b'u'; 65_536]).is_ok() {});
    let answer = client.read("POST");
    assert_eq!((answer.status, answer.end), (504, End::Clean));
    assert!(answer.field("l5d-err").is_some());
    drop(client);
    uploader.join().unwrap();
    origin.seen.flag.store(true, Ordering::Release);
}

#[test]
fn an_origin_may_be_silent_unless_the_file_says_otherwise() {
    let script = |wire: &mut Wire, seen: &Seen, index: usize| {
        let _ = next_head(wire, seen, index);
        let _ = wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        eventually("the test lets it go on", || seen.flag.load(Ordering::Acquire));
        let _ = wire.send("4\r\nlast\r\n0\r\n\r\n");
    };
    let (patient, strict) = (Upstream::raw(script), Upstream::raw(script));
    let serin = front(&patient, "stallTimeoutMs: 100, idleTimeoutMs: 100");
    let limited = Setup::web(&strict.endpoint()).router("client: {limits: {silenceTimeoutMs: 1000}}").start();
    let mut waiting = Client::connect(serin.address());
    waiting.send(request("GET", "/", "web", &[], ""));
    let cut = limited.get("web", "/");
    assert_eq!((cut.status, cut.end, cut.body.as_slice()), (200, End::Cut, b"first".as_slice()));
    patient.seen.flag.store(true, Ordering::Release);
    strict.seen.flag.store(true, Ordering::Release);
    let whole = waiting.read("GET");
    assert_eq!((whole.end, whole.text().as_str()), (End::Clean, "firstlast"));
}

#[test]
fn a_silent_origin_of_http_2_is_reset_if_the_file_says_so() {
    let origin = H2Upstream::start(|mut exchange| async move {
        let response = http::Response::new(());
        let mut stream = exchange.respond.send_response(response, false).unwrap();
        let _ = stream.send_data(Bytes::from_static(b"first"), false);
        let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
        exchange.seen.resets.lock().unwrap().push(reset.unwrap_or(h2::Reason::CANCEL));
    });
    let setup = Setup::web(&origin.endpoint()).router("client: {protocol: h2, limits: {silenceTimeoutMs: 1000}}");
    let serin = setup.start();
    let answer = h2peer::exchange(serin.address(), h2peer::get("web", "/").body(()).unwrap(), None).unwrap();
    assert_eq!((answer.body.as_slice(), answer.reset), (b"first".as_slice(), Some(h2::Reason::INTERNAL_ERROR)));
    eventually("the origin's stream is reset", || !origin.resets().is_empty());
}

#[test]
fn a_tunnel_whose_origin_takes_nothing_is_ended_and_a_quiet_one_is_not() {
    let origin = Upstream::raw(|wire, seen, index| {
        let asked = next_head(wire, seen, index);
        let _ = wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        if asked.is_some_and(|request| request.target == "/quiet") {
            let _ = wire.fill();
            let _ = wire.send("heard");
        }
        eventually("the test is over", || seen.flag.load(Ordering::Acquire));
    });
    let serin = Setup::web(&origin.endpoint()).router("client: {limits: {stallTimeoutMs: 1000}}").start();
    let switched = |target: &str| {
        let mut client = Client::connect(serin.address());
        let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
        client.send(format!("GET {target} HTTP/1.1\r\nHost: web\r\n{lines}\r\n\r\n"));
        assert!(client.read_head().unwrap().first.starts_with("HTTP/1.1 101"));
        client
    };
    let (mut quiet, full) = (switched("/quiet"), switched("/full"));
    let mut up = full.wire.stream.try_clone().unwrap();
    up.set_write_timeout(None).unwrap();
    let writer = std::thread::spawn(move || while std::io::Write::write_all(&mut up, &[b'u'; 65_536]).is_ok() {});
    eventually("the tunnel is ended", || writer.is_finished());
    quiet.send("speak");
    let heard = quiet.wire.read_length("heard".len()).unwrap();
    assert_eq!(heard.data, b"heard");
    origin.seen.flag.store(true, Ordering::Release);
}

/// Streams messages until nobody takes them.
fn streams() -> H2Upstream {
    H2Upstream::start(|mut exchange| async move {
        let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = exchange.respond.send_response(head, false).unwrap();
        while stream.send_data(h2peer::message("more"), false).is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
}

#[test]
fn a_deadline_is_no_clean_end_for_who_cannot_read_a_status() {
    let origin = streams();
    let serin = Setup::web(&origin.endpoint()).router("service: {totalTimeoutMs: 600}").start();
    let call = h2peer::grpc("web", "/a/b").body(()).unwrap();
    assert_eq!(h2peer::exchange(serin.address(), call, None).unwrap().grpc_status(), Some(4));
    // hyper sends no trailers to who does not ask for them: the last chunk would be all
    let mut client = Client::connect(serin.address());
    client.send(request("POST", "/a/b", "web", &["content-type: application/grpc"], ""));
    let answer = client.read("POST");
    assert_eq!((answer.status, answer.end), (200, End::Cut));
}
