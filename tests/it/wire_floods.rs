//! HTTP/2 peers that send too much that serves nothing: their connection ends, with a reason, and nobody else notices.

use http::{Request, Response};

use super::support::frames::{self, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
use super::support::h2peer::{self, H2Upstream, block_on, call, connect, exchange};
use super::support::scrape::Scrape;
use super::support::{Serin, Setup, Upstream, eventually};

const PRIORITY: u8 = 2;
const WINDOW_UPDATE: u8 = 8;
const ENHANCE_YOUR_CALM: u32 = 0xb;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const PSEUDO: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];
/// Upstreams of this router are spoken to in HTTP/2.
const H2: &str = "client: {protocol: h2}";

fn get() -> Request<()> {
    h2peer::get("web", "/").body(()).unwrap()
}

fn floods(serin: &Serin, peer: &str, reason: &str) -> f64 {
    Scrape::of(serin).sum("serin_http2_floods_total", &[("peer", peer), ("reason", reason)])
}

/// The code of the GOAWAY that follows these octets, sent over and over at most `times` times.
fn check_ended(serin: &Serin, what: &str, octets: &[u8], times: usize) {
    let mut frames = Frames::connect(serin.address());
    let _until_it_is_gone = (0..times).take_while(|_| frames.write(octets)).count();
    let last = frames.until(|frame| frame.kind == GOAWAY).map(|frame| frame.code());
    assert_eq!(last, Some(ENHANCE_YOUR_CALM), "{what}");
}

#[test]
fn frames_that_serve_nothing_end_the_connection_beyond_their_budget() {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    let kinds: [(&str, u8, u8, u32, &[u8]); 6] = [
        ("PING", PING, 0, 0, &[0; 8]),
        ("the answer to no PING", PING, 1, 0, &[0; 8]),
        ("SETTINGS", SETTINGS, 0, 0, &[]),
        ("PRIORITY", PRIORITY, 0, 3, &[0, 0, 0, 0, 1]),
        ("a window that nobody waits for", WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        ("a frame that nobody knows", 0xfe, 0, 0, &[]),
    ];
    for (index, (what, kind, flags, stream, payload)) in kinds.into_iter().enumerate() {
        let frame = frames::encode(kind, flags, stream, payload);
        check_ended(&serin, what, &frame.repeat(100), 200);
        // the smallest frames may meet the limit of answers first
        let counted = floods(&serin, "downstream", "frames") + floods(&serin, "downstream", "unread");
        assert_eq!(counted, (index + 1) as f64, "{what}");
    }
    assert_eq!(exchange(serin.address(), get(), None).unwrap().status, 200);
}

#[test]
fn frames_within_their_budget_end_nothing() {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    let mut frames = Frames::connect(serin.address());
    assert!(frames.write(&frames::encode(PING, 0, 0, &[7; 8]).repeat(900)));
    assert!(frames.headers(1, END_STREAM, &PSEUDO));
    let answer = frames.until(|frame| frame.kind == HEADERS || frame.kind == GOAWAY).unwrap();
    assert!(answer.has_status(200), "{answer:?}");
}

#[test]
fn a_peer_that_floods_and_reads_nothing_costs_little_and_goes() {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    let ping = frames::encode(PING, 0, 0, &[0; 8]).repeat(100);
    let mut floods: Vec<Frames> = (0..20).map(|_| Frames::connect(serin.address())).collect();
    for frames in &mut floods {
        let sent = (0..100_000).take_while(|_| frames.write(&ping)).count();
        assert!(sent < 100_000, "somebody read ten million PINGs");
    }
    assert_eq!(exchange(serin.address(), get(), None).unwrap().status, 200);
    eventually("all of them are closed", || {
        Scrape::of(&serin).sum("serin_connections_active", &[]) <= 1.0 // the page may come by one
    });
    assert!(serin.peak_kib() < 100 * 1024, "{} KiB", serin.peak_kib());
}

#[test]
fn a_header_block_in_empty_pieces_ends_the_connection() {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    let empty = frames::encode(frames::CONTINUATION, 0, 1, b"");
    let block = [frames::encode(HEADERS, END_STREAM, 1, &frames::block(&PSEUDO)), empty.repeat(3)].concat();
    check_ended(&serin, "empty CONTINUATION", &block, 1);
    assert_eq!(floods(&serin, "downstream", "header_block"), 1.0);
}

/// Waits for the peer, and answers nothing.
async fn never(mut exchange: h2peer::Exchange) {
    exchange.until_reset().await;
}

#[test]
fn resets_of_streams_that_have_no_answer_are_counted() {
    let origin = H2Upstream::start(never);
    let serin = Setup::web(&origin.endpoint()).router(H2).start();
    let mut frames = Frames::connect(serin.address());
    for n in 0..101_u32 {
        assert!(frames.headers(2 * n + 1, END_STREAM, &PSEUDO));
        eventually("the origin has the request", || origin.count() == n as usize + 1);
        assert!(frames.send(RST_STREAM, 0, 2 * n + 1, &CANCEL));
        eventually("the origin is told", || origin.resets().len() == n as usize + 1);
    }
    let last = frames.until(|frame| frame.kind == GOAWAY).map(|frame| frame.code());
    assert_eq!(last, Some(ENHANCE_YOUR_CALM));
    assert_eq!(floods(&serin, "downstream", "resets"), 1.0);
    assert_eq!(origin.running(), 0);
}

/// Answers, and goes on for ever.
async fn answer_without_end(mut exchange: h2peer::Exchange) {
    let _open = exchange.respond.send_response(Response::new(()), false);
    exchange.until_reset().await;
}

#[test]
fn who_has_heard_enough_may_hang_up_as_often_as_they_like() {
    let origin = H2Upstream::start(answer_without_end);
    let serin = Setup::web(&origin.endpoint()).router(H2).start();
    block_on(async {
        let mut send = connect(serin.address()).await;
        for _ in 0..300 {
            h2peer::futures_ready(&mut send).await.unwrap();
            let response = send.send_request(get(), true).unwrap().0.await.unwrap();
            assert_eq!(response.status(), 200);
        }
    });
    eventually("the origin is told of each", || origin.resets().len() == 300);
}

#[test]
fn twenty_thousand_rapid_resets_open_few_connections_upstream() {
    let origin = Upstream::raw(|wire, _, _| while wire.fill().is_ok_and(|read| read > 0) {}); // never answers
    let serin = Setup::web(&origin.endpoint()).start();
    let block = frames::block(&PSEUDO);
    let (mut sent, mut connections) = (0, 0);
    while sent < 20_000 {
        let mut frames = Frames::connect(serin.address());
        connections += 1;
        let pair = |n: u32| {
            let head = frames::encode(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &block);
            [head, frames::encode(RST_STREAM, 0, 2 * n + 1, &CANCEL)].concat()
        };
        sent += (0..2_000).take_while(|n| frames.write(&pair(*n))).count();
    }
    eventually("all of it is given up", || origin.open() == 0);
    assert!(origin.connections() <= 100, "{} connections for {sent} resets on {connections}", origin.connections());
    eventually("nothing stays in flight", || Scrape::of(&serin).sum("serin_requests_active", &[]) == 0.0);
}

#[test]
fn an_origin_that_floods_loses_its_connection() {
    let origin = Upstream::raw(|wire, _, _| {
        let ping = frames::encode(PING, 0, 0, &[0; 8]).repeat(100);
        let _settings = wire.send(frames::encode(SETTINGS, 0, 0, &[]));
        while wire.send(&ping[..]).is_ok() {}
    });
    let serin = Setup::web(&origin.endpoint()).router(H2).start();
    let status = block_on(async { call(&mut connect(serin.address()).await, get(), None).await.unwrap().status });
    assert!(matches!(status, 502..=504), "{status}");
    assert!(floods(&serin, "upstream", "frames") >= 1.0);
}
