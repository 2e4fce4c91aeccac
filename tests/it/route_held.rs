//! What is held of requests so that they can be sent again: bodies in many pieces, trailers, up to the service's buffer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::support::h2peer::{Exchange, H2Upstream, block_on, connect, grpc, read_answer};
use super::support::http1::request;
use super::support::scrape::Scrape;
use super::support::upstream::{next_head, next_request, reply};
use super::support::{Client, Serin, Setup, Upstream, eventually};

const ALL: &str = "io.l5d.http.retryableAll5XX";

/// Requests of up to so many octets are sent again for a failure.
fn service(kind: &str, octets: usize) -> String {
    format!("service: {{retryBufferSize: {{requestBytes: {octets}}}, responseClassifier: {{kind: {kind}}}}}")
}

/// Octets that differ, so that a piece that is lost or in another place is seen.
fn octets(length: usize) -> String {
    (0..length).map(|at| char::from(b'a' + u8::try_from((at / 7 + at) % 26).unwrap())).collect()
}

/// Fails each request once, then answers.
fn fails_once() -> Upstream {
    let failed = Mutex::new(false);
    Upstream::reply(move |_| {
        let mut failed = failed.lock().unwrap();
        *failed = !*failed;
        if *failed { reply(503, &[], "broken") } else { reply(200, &[], "ok") }
    })
}

fn dropped(serin: &Serin, reason: &str) -> f64 {
    Scrape::of(serin).sum("serin_retry_bodies_dropped_total", &[("reason", reason)])
}

/// A `POST` of so many octets: its status, how often it was sent, and what was dropped for its length.
#[track_caller]
fn check_post(length: usize, buffer: usize, expected: (u16, usize, f64)) {
    let origin = fails_once();
    let serin = Setup::web(&origin.endpoint()).router(&service(ALL, buffer)).start();
    let body = octets(length);
    let mut client = Client::connect(serin.address());
    client.send(request("POST", "/", "web", &[], &body));
    let seen = client.read("POST").status;
    let (count, dropped) = (origin.count(), dropped(&serin, "too_long"));
    assert_eq!((seen, count), (expected.0, expected.1), "{length} octets, {buffer} held");
    assert!((dropped - expected.2).abs() < 0.5, "{dropped} dropped");
    assert!(origin.requests().iter().all(|request| request.body.data == body.as_bytes()), "each attempt is whole");
}

#[test]
fn a_post_in_many_pieces_is_sent_again_as_it_was() {
    check_post(60_000, 65_536, (200, 2, 0.0));
    check_post(1 << 20, 1 << 20, (200, 2, 0.0));
}

#[test]
fn a_post_of_one_octet_more_than_the_buffer_is_sent_once_and_counted() {
    check_post(40_000, 40_000, (200, 2, 0.0));
    check_post(40_001, 40_000, (503, 1, 1.0));
}

/// Octets and trailers.
type Call = (Vec<u8>, Option<HeaderMap>);
/// What an origin that fails its first call saw of each.
type Calls = Arc<Mutex<Vec<Call>>>;

fn unavailable_once() -> (H2Upstream, Calls) {
    let calls = Calls::default();
    let seen = Arc::clone(&calls);
    let origin = H2Upstream::start(move |mut stream: Exchange| {
        let seen = Arc::clone(&seen);
        async move {
            let Ok(call) = stream.read().await else { return };
            seen.lock().unwrap().push(call);
            stream.grpc(&[], if stream.index == 0 { 14 } else { 0 });
        }
    });
    (origin, calls)
}

/// A call of these frames, with trailers behind them or without; with its status and the calls that the origin saw.
fn call(buffer: usize, frames: &[String], trailed: bool) -> (Option<u32>, Vec<Call>) {
    let (origin, calls) = unavailable_once();
    let setup = Setup::new().cluster("rpc", &[&origin.endpoint()]);
    let serin = setup.router(&service("io.l5d.h2.grpc.default", buffer)).start();
    let status = block_on(async {
        let mut send = connect(serin.address()).await;
        let (answer, mut upload) = send.send_request(grpc("rpc", "/pkg.S/M").body(()).unwrap(), false).unwrap();
        for frame in frames {
            upload.send_data(Bytes::from(frame.clone()), false).unwrap();
        }
        if trailed {
            let mut fields = HeaderMap::new();
            fields.insert("checksum", "abc".parse().unwrap());
            upload.send_trailers(fields).unwrap();
        } else {
            upload.send_data(Bytes::new(), true).unwrap();
        }
        read_answer(answer.await.unwrap()).await.unwrap().grpc_status()
    });
    let calls = calls.lock().unwrap().clone();
    (status, calls)
}

#[test]
fn a_call_of_many_frames_is_sent_again_with_its_trailers() {
    let frames: Vec<String> = (1..40).map(|at| octets(at * 10)).collect();
    for trailed in [false, true] {
        let (status, calls) = call(16_383, &frames, trailed);
        assert_eq!((status, calls.len()), (Some(0), 2));
        for (body, fields) in calls {
            assert_eq!(body, frames.concat().as_bytes());
            let checksum = fields.and_then(|fields| Some(fields.get("checksum")?.to_str().ok()?.to_owned()));
            assert_eq!(checksum.as_deref(), trailed.then_some("abc"));
        }
    }
}

#[test]
fn a_call_longer_than_the_buffer_is_sent_once() {
    let frames = [octets(5_000), octets(5_000)];
    let (status, calls) = call(9_999, &frames, false);
    assert_eq!((status, calls.len()), (Some(14), 1));
    let (status, calls) = call(10_000, &frames, false);
    assert_eq!((status, calls.len()), (Some(0), 2));
}

#[test]
fn an_answer_that_comes_before_the_body_is_whole_stands() {
    let origin = Upstream::raw(|wire, seen, index| {
        if next_head(wire, seen, index).is_some() {
            let _ = wire.send(reply(503, &[], "no"));
            let _ = wire.read_to_end();
        }
    });
    let serin = Setup::web(&origin.endpoint()).router(&service(ALL, 65_536)).start();
    let mut client = Client::connect(serin.address());
    client.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nhello");
    let answer = client.read("POST");
    assert_eq!((answer.status, origin.count()), (503, 1));
}

/// The first `REQUESTS` fail when all of them are there; later ones succeed, unless the test says otherwise once.
fn waits_for(requests: u64) -> Upstream {
    Upstream::raw(move |wire, seen, index| {
        while next_request(wire, seen, index).is_some() {
            let early = seen.counter.fetch_add(1, Ordering::AcqRel) < requests;
            eventually("every request has come", || seen.counter.load(Ordering::Acquire) >= requests);
            let fails = early || seen.flag.swap(false, Ordering::AcqRel);
            if wire.send(if fails { reply(503, &[], "broken") } else { reply(200, &[], "ok") }).is_err() {
                return;
            }
        }
    })
}

#[test]
fn requests_that_wait_hold_a_bounded_amount_together_and_let_it_go() {
    const REQUESTS: usize = 68;
    let origin = waits_for(REQUESTS as u64);
    let serin = Setup::web(&origin.endpoint()).router(&service(ALL, 1 << 20)).top("workers: 1").start();
    let text = request("POST", "/", "web", &[], &octets(1 << 20));
    let post = || {
        let mut client = Client::connect(serin.address());
        // a busy machine moves this much slowly
        client.wire.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.wire.stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        client.send(&text);
        client.read("POST").status
    };
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let posts: Vec<_> = (0..REQUESTS).map(|_| scope.spawn(post)).collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    let failed = answers.iter().filter(|&&status| status == 503).count();
    assert!((4..REQUESTS).contains(&failed), "{failed} of {REQUESTS} find no room in 64 MiB: {answers:?}");
    assert_eq!(origin.count(), 2 * REQUESTS - failed, "the others are sent again");
    let counted = dropped(&serin, "no_room");
    assert!((counted - failed as f64).abs() < 0.5, "{counted}");

    origin.seen.flag.store(true, Ordering::Release);
    assert_eq!(post(), 200, "there is room again");
}
