//! HTTP/2 connections to an origin from which nothing comes any more: a machine that went, a firewall that forgot.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::support::frames::{DATA, END_STREAM, Frames, HEADERS, PING};
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

fn seen_flag(origin: &Upstream) -> bool {
    origin.seen.flag.load(Ordering::Acquire)
}
