//! HTTP/2 connections to origins that are better left: nothing comes any more, because a machine went or a firewall forgot,
//! or what comes is malformed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::support::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, block, encode};
use super::support::h2peer;
use super::support::upstream::Seen;
use super::support::wire::Wire;
use super::support::{Client, Serin, Setup, Upstream, eventually, now};

const ACK: u8 = 1;

fn front(origin: &Upstream, client: &str) -> Serin {
    Setup::web(&origin.endpoint()).router(&format!("client: {{protocol: h2, {client}}}")).start()
}

/// The connection as an origin sees it.
fn accept(wire: &Wire) -> Option<Frames> {
    Frames::accept(wire.stream.try_clone().unwrap())
}

fn answer(frames: &mut Frames, stream: u32) {
    assert!(frames.headers(stream, 0, &[(":status", "200")]) && frames.send(DATA, END_STREAM, stream, b"web"));
}

/// The first connection answers one request, and then nothing more, to nothing; all others answer everything.
fn falls_silent(wire: &mut Wire, seen: &Seen, index: usize) {
    let Some(mut frames) = accept(wire) else { return };
    while let Some(asked) = frames.until(|frame| frame.kind == HEADERS) {
        answer(&mut frames, asked.stream);
        if index == 0 {
            let pings =
                std::iter::from_fn(|| frames.read()).filter(|frame| frame.kind == PING && frame.flags & ACK == 0);
            seen.add(pings.count());
            // it has been closed
            seen.flag.store(true, Ordering::Release);
        }
    }
}

#[test]
fn an_origin_that_has_gone_silent_is_asked_and_then_given_up() {
    let origin = Upstream::raw(falls_silent);
    let serin = front(&origin, "limits: {pingAfterMs: 1000}");
    let mut client = Client::connect(serin.address());
    assert_eq!(client.get("web", "/", &[]).status, 200);
    // what may be sent again is: nobody sees more of it than the time
    assert_eq!(client.get("web", "/", &[]).status, 200);
    assert_eq!(origin.connections(), 2);
    eventually("the silent connection is closed", || seen_flag(&origin));
    assert_eq!(origin.seen.counter.load(Ordering::Acquire), 1, "it was asked once");
}

#[test]
fn what_may_not_be_sent_again_fails_when_its_connection_is_given_up() {
    let origin = Upstream::raw(falls_silent);
    let serin = front(&origin, "limits: {pingAfterMs: 1000}");
    let mut client = Client::connect(serin.address());
    assert_eq!(client.get("web", "/", &[]).status, 200);
    client.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nnew");
    assert_eq!(client.read("POST").status, 502);
    assert_eq!((client.get("web", "/", &[]).status, origin.connections()), (200, 2));
}

#[test]
fn after_an_attempt_without_an_answer_a_silent_connection_takes_no_more() {
    let origin = Upstream::raw(falls_silent);
    // nothing is given up for its silence in the time of this test
    let serin = front(&origin, "requestAttemptTimeoutMs: 2000, limits: {pingAfterMs: 600000}");
    let mut client = Client::connect(serin.address());
    assert_eq!(client.get("web", "/", &[]).status, 200);
    assert_eq!(client.get("web", "/", &[]).status, 504);
    for _ in 0..3 {
        assert_eq!(client.get("web", "/", &[]).status, 200);
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn it_takes_them_again_when_the_origin_is_heard() {
    let origin = Upstream::raw(|wire, seen, _| {
        let Some(mut frames) = accept(wire) else { return };
        while let Some(asked) = frames.until(|frame| frame.kind == HEADERS) {
            let nth = seen.counter.fetch_add(1, Ordering::AcqRel);
            if nth != 1 {
                answer(&mut frames, asked.stream);
            }
        }
    });
    let serin = front(&origin, "requestAttemptTimeoutMs: 2000, limits: {pingAfterMs: 600000}");
    let mut client = Client::connect(serin.address());
    assert_eq!(client.get("web", "/", &[]).status, 200);
    assert_eq!(client.get("web", "/", &[]).status, 504);
    let start = now();
    eventually("the answer to the PING has come", || now() - start > Duration::from_millis(500));
    assert_eq!((client.get("web", "/", &[]).status, origin.connections()), (200, 1));
}

/// gRPC servers close a connection at the third PING that they find needless.
#[test]
fn an_origin_that_answers_pings_may_be_silent_and_is_asked_twice() {
    let origin = Upstream::raw(|wire, seen, _| {
        let Some(mut frames) = accept(wire) else { return };
        let Some(asked) = frames.until(|frame| frame.kind == HEADERS) else { return };
        for _ in 0..2 {
            assert!(frames.until(|frame| frame.kind == PING && frame.flags & ACK == 0).is_some());
            seen.add(1);
        }
        wire.stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        if frames.until(|frame| frame.kind == PING && frame.flags & ACK == 0).is_some() {
            seen.add(1);
        }
        answer(&mut frames, asked.stream);
        let _ = wire.read_to_end();
    });
    let serin = front(&origin, "limits: {pingAfterMs: 1000}");
    let mut client = Client::connect(serin.address());
    assert_eq!(client.get("web", "/", &[]).status, 200);
    assert_eq!((origin.seen.counter.load(Ordering::Acquire), origin.connections()), (2, 1));
}

/// The first request waits for the test; to all others the answer is malformed.
fn answers_badly(wire: &mut Wire, seen: &Seen, index: usize) {
    let Some(mut frames) = accept(wire) else { return };
    let held = (index == 0).then(|| frames.until(|frame| frame.kind == HEADERS)).flatten();
    std::thread::scope(|scope| {
        if let Some(held) = held {
            seen.add(1);
            let mut stream = wire.stream.try_clone().unwrap();
            scope.spawn(move || {
                eventually("the test lets it go on", || seen.flag.load(Ordering::Acquire));
                let head = encode(HEADERS, END_HEADERS | END_STREAM, held.stream, &block(&[(":status", "204")]));
                let _ = std::io::Write::write_all(&mut stream, &head);
            });
        }
        while let Some(asked) = frames.until(|frame| frame.kind == HEADERS) {
            frames.headers(asked.stream, END_STREAM, &[(":status", "200"), ("content-length", "5")]);
        }
    });
}

#[test]
fn malformed_answers_do_not_end_the_streams_beside_them() {
    let origin = Upstream::raw(answers_badly);
    let serin = front(&origin, "limits: {provokedResets: 6}");
    let held = h2peer::block_on(async {
        let get = || h2peer::get("web", "/").body(()).unwrap();
        let mut send = h2peer::connect(serin.address()).await;
        let (held, _) = send.send_request(get(), true).unwrap();
        while origin.seen.counter.load(Ordering::Acquire) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..10 {
            assert_eq!(h2peer::call(&mut send, get(), None).await.unwrap().status, 502);
        }
        origin.seen.flag.store(true, Ordering::Release);
        held.await.expect("it is not cut").status()
    });
    assert_eq!(held, 204);
    // three on each
    assert_eq!(origin.connections(), 4);
}

fn seen_flag(origin: &Upstream) -> bool {
    origin.seen.flag.load(Ordering::Acquire)
}
