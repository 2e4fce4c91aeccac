//! Whom a request that fails counts against: no stranger's request says that an endpoint, or a canary, is broken.
//!
//! Host `web` goes to a first name, and to a spare one while the endpoint of the first is ejected, which one failure does.

use std::time::Duration;

use super::support::frames::{DATA, END_STREAM, Frames, GOAWAY, HEADERS};
use super::support::h2peer::{self, H2Upstream};
use super::support::http1::{End, request};
use super::support::scrape::Scrape;
use super::support::upstream::{next_head, next_request, reply};
use super::support::{Client, Serin, Setup, Upstream, eventually, now};

const POST: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "web")];
const ACCRUAL: &str =
    "failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 1, backoff: {kind: constant, ms: 60000}}";

fn front(first: &str, spare: &Upstream, client: &str, service: &str) -> Serin {
    let setup = Setup::new().top("workers: 1").cluster("first", &[first]).cluster("spare", &[&spare.endpoint()]);
    let setup = setup.dtab("/svc/web => /#/clusters/first | /#/clusters/spare ;");
    let setup = setup.server("limits: {stallTimeoutMs: 1000}").router(&format!("client: {{{ACCRUAL}, {client}}}"));
    setup.router(&format!("service: {{{service}}}")).start()
}

fn of_class(serin: &Serin, class: &str) -> f64 {
    let labels = [("class", class), ("service", "/svc/web"), ("client", "/#/clusters/first")];
    Scrape::of(serin).sum("serin_requests_total", &labels)
}

/// So many requests said nothing of the first name, which serves on.
#[track_caller]
fn check_ignored(serin: &Serin, requests: f64) {
    eventually("they are counted", || of_class(serin, "ignored") + of_class(serin, "failure") >= requests);
    assert_eq!(of_class(serin, "failure"), 0.0);
    assert!(!serin.log().contains("Ejected"), "{}", serin.log());
}

/// Octets of a `POST`, some at once and one each time; the answer must be this.
#[track_caller]
fn check_slow(serin: &Serin, head: &str, pieces: usize, every_ms: u64, status: u16) {
    let mut client = Client::connect(serin.address());
    client.send(format!("POST / HTTP/1.1\r\nHost: web\r\n{head}"));
    for _ in 0..pieces {
        std::thread::park_timeout(Duration::from_millis(every_ms));
        if client.wire.send("x").is_err() {
            break;
        }
    }
    let answer = client.read("POST");
    assert_eq!((answer.status, answer.field("connection").as_deref()), (status, Some("close")), "{head}");
    assert!(client.at_end());
}

#[test]
fn an_upload_that_does_not_go_on_is_its_callers_whatever_the_time_to_answer() {
    let (first, spare) = (Upstream::named("first"), Upstream::named("spare"));
    let serin = front(&first.endpoint(), &spare, "requestAttemptTimeoutMs: 100", "totalTimeoutMs: 60000");
    check_slow(&serin, "Content-Length: 10\r\n\r\nx", 0, 0, 408);
    check_slow(&serin, "Transfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n", 0, 0, 408);
    check_slow(&serin, "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n", 0, 0, 408);
    let mut frames = Frames::connect(serin.address());
    assert!(frames.headers(1, 0, &POST) && frames.send(DATA, 0, 1, b"begun"));
    assert!(frames.until(|frame| frame.kind == HEADERS).expect("an answer").has_status(408));
    check_ignored(&serin, 4.0);
    assert_eq!(serin.get("web", "/").field("x-origin").as_deref(), Some("first"));
}

#[test]
fn the_time_of_a_request_that_its_caller_makes_long_is_the_callers() {
    let (first, spare) = (Upstream::named("first"), Upstream::named("spare"));
    let serin = front(&first.endpoint(), &spare, "requestAttemptTimeoutMs: 300", "totalTimeoutMs: 1500");
    check_slow(&serin, "Content-Length: 1000\r\n\r\nx", 100, 100, 408);
    check_ignored(&serin, 1.0);
    assert_eq!(serin.get("web", "/").field("x-origin").as_deref(), Some("first"));
}

#[test]
fn who_gets_a_slow_upload_over_h2_owes_nothing_before_its_end() {
    let (first, spare) =
        (H2Upstream::start(|exchange| async move { drop_later(exchange).await }), Upstream::named("spare"));
    let serin = front(&first.endpoint(), &spare, "protocol: h2, requestAttemptTimeoutMs: 100", "totalTimeoutMs: 60000");
    check_slow(&serin, "Content-Length: 10\r\n\r\nx", 0, 0, 408);
    check_ignored(&serin, 1.0);
}

#[test]
fn a_body_that_is_larger_than_its_name_bears_says_nothing_of_who_got_it() {
    let (first, spare) = (Upstream::named("first"), Upstream::named("spare"));
    let serin = front(&first.endpoint(), &spare, "", "bodyBytes: 10");
    for _ in 0..3 {
        let mut client = Client::connect(serin.address());
        client.send(request("POST", "/", "web", &["Transfer-Encoding: chunked"], "") + "5\r\nbegun\r\n");
        client.send("6\r\nbeyond\r\n0\r\n\r\n");
        assert_eq!(client.read("POST").status, 413);
    }
    check_ignored(&serin, 3.0);
    let mut client = Client::connect(serin.address());
    client.send(request("POST", "/announced", "web", &["Content-Length: 11"], ""));
    assert_eq!(client.read("POST").status, 413);
    assert_eq!(serin.get("web", "/").field("x-origin").as_deref(), Some("first"));
    let reached = first.requests().iter().any(|request| request.target == "/announced");
    assert!(!reached, "what is announced larger goes nowhere");
    assert_eq!((of_class(&serin, "ignored"), of_class(&serin, "failure")), (3.0, 0.0), "and is no request to it");
}

/// Waits for the end of its stream.
async fn drop_later(mut exchange: h2peer::Exchange) {
    while let Some(Ok(_)) = exchange.request.body_mut().data().await {}
}

/// An origin that takes whole requests, and answers nothing.
fn silent() -> Upstream {
    Upstream::raw(|wire, seen, index| {
        let _ = next_head(wire, seen, index);
        let _ = wire.read_to_end();
    })
}

#[test]
fn a_request_that_was_whole_late_leaves_its_upstream_too_little_time() {
    let (first, spare) = (silent(), Upstream::named("spare"));
    let serin = front(&first.endpoint(), &spare, "requestAttemptTimeoutMs: 60000", "totalTimeoutMs: 2500");
    let mut client = Client::connect(serin.address());
    client.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 20\r\n\r\nx");
    for _ in 0..19 {
        std::thread::park_timeout(Duration::from_millis(100));
        // on a busy machine the time may be over before the last octet
        let _ = client.wire.send("x");
    }
    assert!([408, 504].contains(&client.read("POST").status));
    check_ignored(&serin, 1.0);
}

#[test]
fn an_upstream_that_has_the_request_and_does_not_answer_is_ejected() {
    for (client, service) in [("requestAttemptTimeoutMs: 200", ""), ("connectTimeoutMs: 1000", "totalTimeoutMs: 200")] {
        let (first, spare) = (silent(), Upstream::named("spare"));
        let serin = front(&first.endpoint(), &spare, client, service);
        let mut caller = Client::connect(serin.address());
        caller.send(request("POST", "/", "web", &["content-length: 4"], "body"));
        assert_eq!(caller.read("POST").status, 504);
        eventually("it is ejected", || serin.get("web", "/").field("x-origin").as_deref() == Some("spare"));
        assert!(of_class(&serin, "failure") >= 1.0);
    }
}

#[test]
fn an_upstream_that_takes_nothing_is_to_blame_for_a_long_upload() {
    let first = Upstream::raw(|wire, seen, index| {
        let _ = next_head(wire, seen, index);
        eventually("the test is over", || seen.flag.load(std::sync::atomic::Ordering::Acquire));
    });
    let spare = Upstream::named("spare");
    let serin = front(&first.endpoint(), &spare, "requestAttemptTimeoutMs: 60000", "totalTimeoutMs: 1500");
    let mut client = Client::connect(serin.address());
    client.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000000\r\n\r\n");
    let mut up = client.wire.stream.try_clone().unwrap();
    let uploader = std::thread::spawn(move || while std::io::Write::write_all(&mut up, &[b'u'; 65_536]).is_ok() {});
    let answer = client.read("POST");
    assert_eq!((answer.status, answer.field("connection").as_deref()), (504, Some("close")), "its rest is not read");
    drop(client);
    uploader.join().unwrap();
    first.seen.flag.store(true, std::sync::atomic::Ordering::Release);
    eventually("it is ejected", || serin.get("web", "/").field("x-origin").as_deref() == Some("spare"));
}

/// An origin of calls that answers after so many milliseconds, or when the test is over.
fn calls(after_ms: u64) -> H2Upstream {
    H2Upstream::start(move |mut exchange| async move {
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        exchange.grpc(&["done"], 0);
    })
}

/// A call with this deadline; the status that the caller sees.
fn call(serin: &Serin, timeout: &str) -> Option<u32> {
    let call = h2peer::grpc("web", "/a/b").header("grpc-timeout", timeout).body(()).unwrap();
    h2peer::exchange(serin.address(), call, Some(h2peer::message("hello"))).unwrap().grpc_status()
}

#[test]
fn a_callers_deadline_that_is_too_short_for_the_service_says_nothing() {
    let (first, spare) = (calls(300), Upstream::named("spare"));
    let serin = front(&first.endpoint(), &spare, "connectTimeoutMs: 1000", "");
    for timeout in ["1m", "50m", "200m"] {
        assert_eq!(call(&serin, timeout), Some(4), "{timeout}");
    }
    check_ignored(&serin, 3.0);
    assert_eq!(call(&serin, "20S"), Some(0), "the first still serves");
}

#[test]
fn a_callers_deadline_is_held_against_what_the_service_has_shown() {
    // slower than the least deadline that may count, for a service that has answered so slowly before
    let (first, spare) = (calls(700), Upstream::named("spare"));
    let serin = front(&first.endpoint(), &spare, "connectTimeoutMs: 1000", "");
    assert_eq!(call(&serin, "20S"), Some(0));
    assert_eq!(call(&serin, "600m"), Some(4));
    check_ignored(&serin, 1.0);
}

#[test]
fn an_upstream_that_answers_no_call_is_ejected_by_its_callers_deadlines() {
    let (first, spare) = (calls(60_000), Upstream::named("spare"));
    let serin = front(&first.endpoint(), &spare, "connectTimeoutMs: 1000", "");
    assert_eq!(call(&serin, "1500m"), Some(4));
    eventually("it is ejected", || serin.log().contains("Ejected"));
    assert_eq!(of_class(&serin, "failure"), 1.0);
}

#[test]
fn an_upstream_that_keeps_a_short_deadline_itself_is_not_accused_for_it() {
    let first = H2Upstream::start(|mut exchange| async move {
        tokio::time::sleep(Duration::from_millis(60)).await;
        exchange.grpc(&[], 4);
    });
    let spare = Upstream::named("spare");
    let serin = front(&first.endpoint(), &spare, "connectTimeoutMs: 1000", "");
    assert_eq!(call(&serin, "100m"), Some(4));
    check_ignored(&serin, 1.0);
    assert_eq!(call(&serin, "20S"), Some(4), "its own word");
    eventually("it is ejected", || serin.log().contains("Ejected"));
}

#[test]
fn a_deadline_behind_the_head_accuses_nobody() {
    let first = H2Upstream::start(|mut exchange| async move {
        let mut stream = exchange.respond.send_response(http::Response::new(()), false).unwrap();
        let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
    });
    let spare = Upstream::named("spare");
    let serin = front(&first.endpoint(), &spare, "connectTimeoutMs: 1000", "");
    assert_eq!(call(&serin, "1500m"), Some(4));
    check_ignored(&serin, 1.0);
}

/// An origin that answers over HTTP/1.1 and meets the preface of HTTP/2 with these octets, and closes.
fn without_h2(answer: &'static str) -> Upstream {
    Upstream::raw(move |wire, seen, index| {
        while let Some(request) = next_request(wire, seen, index) {
            if request.method == "PRI" {
                let _ = wire.send(answer);
                return;
            }
            if wire.send(reply(200, &["x-origin: first"], "")).is_err() {
                return;
            }
        }
    })
}

#[test]
fn who_calls_a_service_that_speaks_no_http_2_does_not_eject_it() {
    for answer in ["", "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"] {
        let (first, spare) = (without_h2(answer), Upstream::named("spare"));
        let serin = front(&first.endpoint(), &spare, "connectTimeoutMs: 1000", "");
        assert_eq!(serin.get("web", "/").field("x-origin").as_deref(), Some("first"));
        let before = first.connections();
        for _ in 0..4 {
            assert_eq!(call(&serin, "20S"), Some(12));
        }
        check_ignored(&serin, 4.0);
        assert!(first.connections() - before <= 2, "{} connections for 4 calls", first.connections() - before);
        assert_eq!(serin.get("web", "/").field("x-origin").as_deref(), Some("first"));
    }
}

#[test]
fn a_silent_service_of_http_1_is_not_ejected_for_calls() {
    let first = Upstream::raw(|wire, seen, index| {
        while let Some(request) = next_request(wire, seen, index) {
            if request.method == "PRI" {
                let _ = wire.read_to_end();
                return;
            }
            let _ = wire.send(reply(200, &["x-origin: first"], ""));
        }
    });
    let spare = Upstream::named("spare");
    let serin = front(&first.endpoint(), &spare, "connectTimeoutMs: 300", "");
    assert_eq!(serin.get("web", "/").field("x-origin").as_deref(), Some("first"));
    assert_eq!(call(&serin, "20S"), Some(12));
    check_ignored(&serin, 1.0);
}

#[test]
fn a_name_of_which_nothing_is_known_and_that_closes_on_calls_is_ejected() {
    let (first, spare) = (Upstream::raw(|_, _, _| {}), Upstream::named("spare"));
    let serin = front(&first.endpoint(), &spare, "connectTimeoutMs: 1000", "");
    let _ = call(&serin, "20S");
    eventually("it is ejected", || serin.log().contains("Ejected"));
}

/// An origin of HTTP/2 whose first connection answers so many requests, one at most, and goes with this code when there are
/// three more, of which it has looked at none.
fn goes(code: u8, answered: u8) -> Upstream {
    Upstream::raw(move |wire, _, index| {
        let Some(mut frames) = Frames::accept(wire.stream.try_clone().unwrap()) else { return };
        let mut asked = 0;
        while let Some(head) = frames.until(|frame| frame.kind == HEADERS) {
            asked += 1;
            if index > 0 || asked <= answered {
                frames.headers(head.stream, 0, &[(":status", "200"), ("x-origin", "first")]);
                frames.send(DATA, END_STREAM, head.stream, b"first");
            } else if asked == answered + 3 {
                frames.send(GOAWAY, 0, 0, &[0, 0, 0, answered, 0, 0, 0, code]);
                // closing with something unread would reset the connection, and nobody might read why
                let _ = frames.until(|_| false);
                return;
            }
        }
    })
}

/// Whatever made an origin go, streams above the last one that it names were not looked at (RFC 9113 section 6.8).
#[test]
fn an_origin_that_goes_politely_is_asked_anew_and_stays() {
    // NO_ERROR, INTERNAL_ERROR, ENHANCE_YOUR_CALM
    for (code, answered) in [(0, 1), (2, 1), (11, 1), (0, 0)] {
        let (first, spare) = (goes(code, answered), Upstream::named("spare"));
        let serin = front(&first.endpoint(), &spare, "protocol: h2", "");
        for _ in 0..answered {
            assert_eq!(serin.get("web", "/").field("x-origin").as_deref(), Some("first"));
        }
        let mut clients: Vec<_> = (0..3).map(|_| Client::connect(serin.address())).collect();
        for client in &mut clients {
            client.send(request("POST", "/", "web", &["content-length: 4"], "body"));
        }
        for client in &mut clients {
            assert_eq!(client.read("POST").field("x-origin").as_deref(), Some("first"), "code {code}");
        }
        check_ignored(&serin, 0.0);
    }
}

#[test]
fn an_origin_that_goes_again_and_again_and_answers_nothing_is_ejected() {
    let first = Upstream::raw(|wire, _, _| {
        let Some(mut frames) = Frames::accept(wire.stream.try_clone().unwrap()) else { return };
        if frames.until(|frame| frame.kind == HEADERS).is_some() {
            frames.send(GOAWAY, 0, 0, &[0; 8]);
            let _ = frames.until(|_| false);
        }
    });
    let second = H2Upstream::start(|mut exchange| async move { exchange.grpc(&["hi"], 0) });
    // retries find the other one each time, and would hide it
    let budget = "requeueBudget: {minRetriesPerSec: 10000}";
    let setup = Setup::new().top("workers: 1").cluster("web", &[&first.endpoint(), &second.endpoint()]);
    let serin = setup.router(&format!("client: {{protocol: h2, {budget}, {ACCRUAL}}}")).start();
    eventually("it is ejected", || {
        assert_eq!(serin.get("web", "/").status, 200);
        serin.log().contains("Ejected")
    });
}

#[test]
fn who_closes_an_idle_connection_at_a_bad_moment_is_asked_anew_and_stays() {
    let first = Upstream::raw(|wire, seen, index| {
        let mut asked = 0;
        while next_request(wire, seen, index).is_some_and(|_| index > 0 || asked == 0) {
            asked += 1;
            let _ = wire.send(reply(200, &["x-origin: first"], ""));
        }
    });
    let spare = Upstream::named("spare");
    let serin = front(&first.endpoint(), &spare, "connectTimeoutMs: 1000", "");
    for _ in 0..3 {
        assert_eq!(serin.get("web", "/").field("x-origin").as_deref(), Some("first"));
    }
    assert_eq!(first.connections(), 2);
    check_ignored(&serin, 0.0);
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// What a client of a WebSocket sends can be the reason why its origin ends it.
#[test]
fn who_has_the_origin_end_a_websocket_does_not_eject_it() {
    let first = Upstream::raw(|wire, seen, index| {
        while let Some(request) = next_request(wire, seen, index) {
            if request.target == "/socket" {
                // what comes behind is not read: the connection ends with a reset
                let _ = wire.send(SWITCH);
                eventually("the client has sent more", || matches!(wire.stream.peek(&mut [0; 8]), Ok(8)));
                return;
            }
            let _ = wire.send(reply(200, &["x-origin: first"], ""));
        }
    });
    let spare = Upstream::named("spare");
    let serin = front(&first.endpoint(), &spare, "connectTimeoutMs: 1000", "");
    for _ in 0..3 {
        let mut client = Client::connect(serin.address());
        let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
        client.send(format!("GET /socket HTTP/1.1\r\nHost: web\r\n{lines}\r\n\r\n"));
        assert!(client.read_head().unwrap().first.starts_with("HTTP/1.1 101"));
        while client.wire.send("nonsense").is_ok() {}
    }
    eventually("they are over", || {
        ["success", "ignored", "failure"].map(|class| of_class(&serin, class)).iter().sum::<f64>() >= 3.0
    });
    check_ignored(&serin, 0.0);
    assert_eq!(serin.get("web", "/").field("x-origin").as_deref(), Some("first"));
}

/// An origin that waits two seconds for the rest of a request, or for room for the rest of its answer.
fn impatient() -> Upstream {
    Upstream::raw(|wire, seen, index| {
        let patience = Duration::from_secs(2);
        let Some(asked) = next_head(wire, seen, index) else { return };
        if asked.method == "POST" {
            let began = now();
            while began.elapsed() < patience && wire.fill().is_ok_and(|count| count > 0) {}
            return;
        }
        let _ = wire.send("HTTP/1.1 200 OK\r\nx-origin: first\r\ncontent-length: 1000000000\r\n\r\n");
        wire.stream.set_write_timeout(Some(patience)).unwrap();
        while asked.target == "/large" && wire.send([b'x'; 65_536]).is_ok() {}
        seen.flag.store(true, std::sync::atomic::Ordering::Release);
    })
}

#[test]
fn an_origin_that_gives_up_a_slow_upload_is_not_ejected() {
    let (first, spare) = (impatient(), Upstream::named("spare"));
    let serin = front(&first.endpoint(), &spare, "connectTimeoutMs: 1000", "");
    check_slow(&serin, "Content-Length: 1000\r\n\r\nx", 100, 100, 502);
    check_ignored(&serin, 1.0);
}

#[test]
fn an_origin_that_gives_up_a_slow_reader_is_not_ejected() {
    let (first, spare) = (impatient(), Upstream::named("spare"));
    let setup = Setup::new().top("workers: 1").cluster("first", &[&first.endpoint()]);
    let setup = setup.cluster("spare", &[&spare.endpoint()]).router(&format!("client: {{{ACCRUAL}}}"));
    let serin = setup.dtab("/svc/web => /#/clusters/first | /#/clusters/spare ;").start();
    let mut client = Client::connect(serin.address());
    client.send("GET /large HTTP/1.1\r\nHost: web\r\n\r\n");
    eventually("the origin has lost its patience", || first.seen.flag.load(std::sync::atomic::Ordering::Acquire));
    assert_eq!(client.read("GET").end, End::Cut);
    check_ignored(&serin, 1.0);
    // who cuts an answer that is read as it comes has itself to blame
    assert_eq!(serin.get("web", "/short").end, End::Cut);
    eventually("it is ejected", || serin.log().contains("Ejected"));
}
