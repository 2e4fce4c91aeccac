//! Retries of answers that failed: by classifier, within their budget and their time, over HTTP/1.1 and gRPC; and settings
//! by prefix.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::support::h2peer::{Exchange, H2Upstream, exchange, grpc, message, status_trailers};
use super::support::http1::request;
use super::support::scrape::Scrape;
use super::support::upstream::{Request, reply};
use super::support::{Client, Serin, Setup, Upstream};

/// Fails the first `failures` requests.
fn flaky(failures: u64, script: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Upstream {
    let count = Arc::new(AtomicU64::new(0));
    Upstream::reply(move |request| {
        if count.fetch_add(1, Ordering::AcqRel) < failures { script(request) } else { reply(200, &[], "ok") }
    })
}

fn broken(status: u16) -> impl Fn(&Request) -> Vec<u8> + Send + Sync {
    move |_| reply(status, &[], "broken")
}

fn service(keys: &str) -> String {
    format!("service: {{{keys}}}")
}

fn classified(kind: &str) -> String {
    service(&format!("responseClassifier: {{kind: {kind}}}"))
}

fn send(serin: &Serin, method: &str, lines: &[&str], body: &str) -> u16 {
    let mut client = Client::connect(serin.address());
    client.send(request(method, "/", "web", lines, body));
    client.read(method).status
}

/// The status that a caller sees whose first answer is `status`, and how often the origin was asked.
#[track_caller]
fn check(kind: &str, status: u16, method: &str, body: &str, expected: (u16, usize)) {
    let origin = flaky(1, broken(status));
    let serin = Setup::web(&origin.endpoint()).router(&classified(kind)).start();
    let seen = send(&serin, method, &[], body);
    assert_eq!((seen, origin.count()), expected, "{kind}: {method} {status}");
    let bodies: Vec<Vec<u8>> = origin.requests().into_iter().map(|request| request.body.data).collect();
    assert!(bodies.iter().all(|seen| seen == body.as_bytes()), "each attempt is whole: {bodies:?}");
}

#[test]
fn a_classifier_says_which_failures_are_asked_for_again() {
    check("io.l5d.http.retryableRead5XX", 503, "GET", "", (200, 2));
    check("io.l5d.http.retryableRead5XX", 500, "GET", "", (200, 2));
    check("io.l5d.http.retryableRead5XX", 404, "GET", "", (404, 1));
    check("io.l5d.http.retryableRead5XX", 503, "PUT", "hello", (503, 1));
    check("io.l5d.http.retryableIdempotent5XX", 503, "PUT", "hello", (200, 2));
    check("io.l5d.http.retryableIdempotent5XX", 503, "POST", "hello", (503, 1));
    check("io.l5d.http.retryableAll5XX", 503, "POST", "hello", (200, 2));
    check("io.l5d.h2.retryableAll5XX", 503, "PATCH", "hello", (200, 2));
    check("io.l5d.http.nonRetryable5XX", 503, "GET", "", (503, 1));
    check("io.l5d.http.allSuccessful", 503, "GET", "", (503, 1));
}

#[test]
fn a_body_that_is_not_held_is_sent_once() {
    let origin = flaky(9, broken(503));
    let keys = "retryBufferSize: {requestBytes: 5}, responseClassifier: {kind: io.l5d.http.retryableAll5XX}";
    let serin = Setup::web(&origin.endpoint()).router(&service(keys)).start();
    assert_eq!(send(&serin, "POST", &[], "sixsix"), 503);
    assert_eq!(origin.count(), 1, "one octet too many");
    let mut client = Client::connect(serin.address());
    client.send("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    assert_eq!(client.read("POST").status, 503);
    assert_eq!(origin.count(), 2, "nobody announced its length");
}

#[test]
fn one_request_is_sent_six_times_at_most() {
    let origin = flaky(u64::MAX, broken(503));
    let serin = Setup::web(&origin.endpoint()).router(&classified("io.l5d.http.retryableRead5XX")).start();
    assert_eq!((send(&serin, "GET", &[], ""), origin.count()), (503, 6));
    let retries = Scrape::of(&serin).sum("serin_retries_total", &[]);
    assert!((retries - 5.0).abs() < 0.5, "{retries}");
}

#[test]
fn a_budget_that_is_spent_ends_retries() {
    let origin = flaky(u64::MAX, broken(503));
    let keys = "retries: {budget: {minRetriesPerSec: 0, percentCanRetry: 0.5}}, \
                responseClassifier: {kind: io.l5d.http.retryableRead5XX}";
    let serin = Setup::web(&origin.endpoint()).router(&service(keys)).top("workers: 1").start();
    let mut client = Client::connect(serin.address());
    for _ in 0..20 {
        assert_eq!(client.get("web", "/", &[]).status, 503);
    }
    assert_eq!(origin.count(), 30, "half of twenty");
}

#[test]
fn no_retry_begins_that_could_not_end_in_time() {
    let origin = flaky(u64::MAX, broken(503));
    let keys = "totalTimeoutMs: 3000, retries: {backoff: {kind: constant, ms: 5000}}, \
                responseClassifier: {kind: io.l5d.http.retryableRead5XX}";
    let serin = Setup::web(&origin.endpoint()).router(&service(keys)).start();
    assert_eq!((send(&serin, "GET", &[], ""), origin.count()), (503, 1), "the answer, not a timeout");
}

#[test]
fn retries_wait_as_long_as_they_are_told() {
    let origin = flaky(2, broken(503));
    let keys = "retries: {backoff: {kind: jittered, minMs: 40, maxMs: 60}}, \
                responseClassifier: {kind: io.l5d.http.retryableRead5XX}";
    let serin = Setup::web(&origin.endpoint()).router(&service(keys)).start();
    let start = super::support::now();
    assert_eq!((send(&serin, "GET", &[], ""), origin.count()), (200, 3));
    assert!(start.elapsed().as_millis() >= 80, "{:?}", start.elapsed());
}

#[test]
fn an_origin_that_says_so_is_asked_again_whatever_the_method() {
    for (status, said, count) in [
        (503, "l5d-retryable: true", 2),
        (503, "l5d-retryable: false", 1),
        (500, "l5d-retryable: true", 2),
        (503, "finagle-http-nack: true", 2),
        (503, "Retry-After: 0", 2),
        (503, "Retry-After: 1", 1),
        (500, "finagle-http-nack: true", 1),
        (500, "Retry-After: 0", 1),
    ] {
        let origin = flaky(1, move |_| reply(status, &[said], "busy"));
        let serin = Setup::web(&origin.endpoint()).start();
        send(&serin, "POST", &[], "hello");
        assert_eq!(origin.count(), count, "{said}");
    }
}

#[test]
fn a_connection_that_breaks_is_a_failure_too() {
    let origin = Upstream::raw(|wire, seen, index| {
        while super::support::upstream::next_request(wire, seen, index).is_some() {
            if index == 0 || wire.send(reply(200, &[], "ok")).is_err() {
                return;
            }
        }
    });
    let serin = Setup::web(&origin.endpoint()).router(&classified("io.l5d.http.retryableRead5XX")).start();
    assert_eq!((send(&serin, "GET", &[], ""), origin.count()), (200, 2));
}

/// A call whose first answer ends with this status; `message_first` puts a message before it.
#[track_caller]
fn check_call(kind: &str, code: u32, message_first: bool, expected: (u32, usize)) {
    let origin = H2Upstream::start(move |mut stream: Exchange| async move {
        let _ = stream.read().await;
        if stream.index > 0 {
            stream.grpc(&["good"], 0);
            return;
        }
        let head = http::Response::builder().header("content-type", "application/grpc");
        let mut send = stream.respond.send_response(head.body(()).unwrap(), false).unwrap();
        if message_first {
            let _ = send.send_data(message("part"), false);
        }
        let _ = send.send_trailers(status_trailers(code));
    });
    let serin = Setup::new().cluster("rpc", &[&origin.endpoint()]).router(&classified(kind)).start();
    let call = grpc("rpc", "/pkg.S/M").body(()).unwrap();
    let answer = exchange(serin.address(), call, Some(message("x"))).unwrap();
    assert_eq!((answer.grpc_status().unwrap(), origin.count()), expected, "{kind}: {code}");
}

#[test]
fn calls_are_asked_for_again_by_their_status() {
    check_call("io.l5d.h2.grpc.default", 14, false, (0, 2));
    check_call("io.l5d.h2.grpc.default", 13, false, (13, 1));
    check_call("io.l5d.h2.grpc.compliant", 14, false, (0, 2));
    check_call("io.l5d.h2.grpc.alwaysRetryable", 5, false, (0, 2));
    check_call("io.l5d.h2.grpc.neverRetryable", 14, false, (14, 1));
    check_call("io.l5d.h2.grpc.retryableStatusCodes, retryableStatusCodes: [8]", 8, false, (0, 2));
    check_call("io.l5d.h2.grpc.alwaysRetryable, successStatusCodes: [5]", 5, false, (5, 1));
    check_call("io.l5d.h2.grpc.default", 14, true, (14, 1));
}

#[test]
fn a_call_that_streams_is_not_held_back() {
    let origin = H2Upstream::start(|mut stream: Exchange| async move {
        let head = http::Response::builder().header("content-type", "application/grpc");
        let mut send = stream.respond.send_response(head.body(()).unwrap(), false).unwrap();
        let _ = stream.read().await;
        let _ = send.send_data(message("first"), false);
        stream.seen.go_on.notified().await;
        let _ = send.send_trailers(status_trailers(0));
    });
    let setup = Setup::new().cluster("rpc", &[&origin.endpoint()]);
    let keys = "classificationTimeoutMs: 60000, responseClassifier: {kind: io.l5d.h2.grpc.alwaysRetryable}";
    let serin = setup.router(&service(keys)).start();
    super::support::h2peer::block_on(async {
        let mut send = super::support::h2peer::connect(serin.address()).await;
        let (response, mut upload) = send.send_request(grpc("rpc", "/pkg.S/M").body(()).unwrap(), false).unwrap();
        upload.send_data(message("x"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), message("first"), "before the end of the call");
        origin.seen.go_on.notify_one();
        assert!(body.trailers().await.unwrap().is_some());
    });
}

#[test]
fn names_have_settings_of_their_own() {
    let (a, b) = (flaky(1, broken(503)), flaky(1, broken(503)));
    let setup = Setup::new().cluster("a", &[&a.endpoint()]).cluster("b", &[&b.endpoint()]);
    let keys = "service:\n  kind: io.l5d.static\n  configs:\n  - prefix: /svc/a\n    responseClassifier: {kind: \
                io.l5d.http.retryableRead5XX}\n  - {prefix: '/svc/{x}', totalTimeoutMs: 60000}";
    let serin = setup.router(keys).start();
    assert_eq!((serin.get("a", "/").status, a.count()), (200, 2));
    assert_eq!((serin.get("b", "/").status, b.count()), (503, 1));
    let shown = serin.admin("/config.json").text();
    assert!(shown.contains("io.l5d.static") && shown.contains("/svc/{x}"), "{shown}");
}

#[test]
fn endpoints_take_turns_where_the_file_says_so() {
    let origins: Vec<Upstream> = ["a", "b", "c"].map(Upstream::named).into_iter().collect();
    let endpoints: Vec<String> = origins.iter().map(Upstream::endpoint).collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let setup = Setup::new().cluster("web", &endpoints).top("workers: 1");
    let serin = setup.router("client: {loadBalancer: {kind: roundRobin}}").start();
    let mut client = Client::connect(serin.address());
    (0..9).for_each(|_| assert_eq!(client.get("web", "/", &[]).status, 200));
    assert_eq!(origins.iter().map(Upstream::count).collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn a_slow_endpoint_gets_little_where_time_counts() {
    let slow = Upstream::reply(|_| {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        reply(200, &[], "ok")
    });
    let fast = Upstream::named("fast");
    let setup = Setup::new().cluster("web", &[&slow.endpoint(), &fast.endpoint()]).top("workers: 1");
    let serin = setup.router("client: {loadBalancer: {kind: ewma, decayTimeMs: 60000}}").start();
    let mut client = Client::connect(serin.address());
    (0..50).for_each(|_| assert_eq!(client.get("web", "/", &[]).status, 200));
    assert!(slow.count() <= 15, "{} of 50 go to the slow one", slow.count());
}
