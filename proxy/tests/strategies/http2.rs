#![allow(clippy::disallowed_methods, reason = "peers of a test run beside it")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use serin_config::model::{Affinity, MatchRule, Mirror, Strategy, TextMatch, When};
use serin_rollout::Ppm;

use crate::stand::{PATIENCE, Setting, Stand};
use crate::upstream::{OK, Script, Upstream};

/// Runs it on a thread of this test.
fn block_on<T>(task: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, task).await.expect("in time") })
}

/// One call over HTTP/2: the head of its answer, and the trailers behind its body.
async fn call(to: SocketAddr, fields: &[(&str, &str)], body: Option<&'static [u8]>) -> (Response<()>, HeaderMap) {
    let io = tokio::net::TcpStream::connect(to).await.unwrap();
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    let connection = tokio::task::spawn(connection);
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut request = Request::builder().method(method).uri("http://x/a?b=c");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut client = client.ready().await.unwrap();
    let (answer, mut stream) = client.send_request(request.body(()).unwrap(), body.is_none()).unwrap();
    if let Some(body) = body {
        stream.send_data(Bytes::from_static(body), true).unwrap();
    }
    let (head, mut body) = answer.await.unwrap().into_parts();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data.unwrap().len()).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    connection.abort();
    (Response::from_parts(head, ()), trailers)
}

fn get(stand: &Stand, fields: &[(&str, &str)]) -> Response<()> {
    block_on(call(stand.address, fields, None)).0
}

#[test]
fn ab_reads_fields_and_cookies_of_http2() {
    let is = |name: &str, value: &str| (name.to_owned(), TextMatch::Exact(value.into()));
    let rule = |header| MatchRule { headers: vec![header], query: Vec::new(), when: When::default() };
    let strategy = Strategy::Match(vec![rule(is("x-canary", "insider")), rule(is("cookie", "a=1; canary=always"))]);
    let canary = Upstream::start(Script::Answer("HTTP/1.1 200 OK\r\nx-arm: canary", 1));
    let (primary, canary) = (Some(Upstream::start(OK).address), Some(canary.address));
    let stand = Setting { primary, canary, strategy, ..Setting::default() }.start();
    stand.route(100, false);
    let is_canary = |fields: &[(&str, &str)]| get(&stand, fields).headers().contains_key("x-arm");
    assert!(is_canary(&[("x-canary", "insider")]));
    // each cookie in a field of its own, as HTTP/2 may send them
    assert!(is_canary(&[("cookie", "a=1"), ("cookie", "canary=always")]));
    assert!(!is_canary(&[("cookie", "canary=always"), ("cookie", "a=1")]));
    assert!(!is_canary(&[]));
}

#[test]
fn a_session_is_issued_and_kept_over_http2() {
    let canary = Upstream::start(Script::Answer("HTTP/1.1 200 OK\r\nx-arm: canary", 1));
    let stand = Setting {
        primary: Some(Upstream::start(OK).address),
        canary: Some(canary.address),
        affinity: Some(Affinity { cookie: "id".into(), attributes: "; Path=/".into() }),
        ..Setting::default()
    }
    .start();
    stand.route(50, false);
    for _ in 0..20 {
        let first = get(&stand, &[("cookie", "other=1")]);
        let cookie = first.headers()["set-cookie"].to_str().unwrap().strip_suffix("; Path=/").unwrap();
        let again = get(&stand, &[("cookie", "other=1"), ("cookie", cookie)]);
        assert!(!again.headers().contains_key("set-cookie"));
        assert_eq!(first.headers().contains_key("x-arm"), again.headers().contains_key("x-arm"), "{cookie}");
    }
}

/// A gRPC service of one answer, and what it was asked: `l5d-mirrored`, and the body.
type Calls = Arc<Mutex<Vec<(bool, Vec<u8>)>>>;

fn service(status: &'static str) -> (SocketAddr, Calls) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (address, calls) = (listener.local_addr().unwrap(), Calls::default());
    let seen = Arc::clone(&calls);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((io, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                tokio::task::spawn(async move {
                    let mut connection = h2::server::handshake(io).await.unwrap();
                    while let Some(Ok((request, answer))) = connection.accept().await {
                        tokio::task::spawn(serve(request, answer, status, Arc::clone(&seen)));
                    }
                });
            }
        });
    });
    (address, calls)
}

async fn serve(
    request: Request<h2::RecvStream>,
    mut answer: h2::server::SendResponse<Bytes>,
    status: &'static str,
    seen: Calls,
) {
    let (head, mut body) = request.into_parts();
    let mut octets = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        octets.extend_from_slice(&data);
    }
    seen.lock().unwrap().push((head.headers.contains_key("l5d-mirrored"), octets));
    let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = answer.send_response(response, false).unwrap();
    let trailers = [(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))];
    stream.send_data(Bytes::from_static(b"\0\0\0\0\0"), false).unwrap();
    stream.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
}

#[test]
fn a_grpc_call_that_is_held_whole_is_copied_and_its_trailers_count() {
    let methods = vec!["POST".to_owned()];
    for (status, class) in [("0", "success"), ("14", "failure")] {
        let ((primary, originals), (canary, copies)) = (service("0"), service(status));
        let strategy = Strategy::Mirror(Mirror { share: Ppm::WHOLE, methods: methods.clone() });
        let stand = Setting { primary: Some(primary), canary: Some(canary), strategy, ..Setting::default() }.start();
        stand.route(0, true);
        let fields = [("content-type", "application/grpc"), ("te", "trailers")];
        let (_, trailers) = block_on(call(stand.address, &fields, Some(b"\0\0\0\0\x02hi")));
        assert_eq!(trailers["grpc-status"], "0");
        stand.eventually("a copy", |stand| stand.copies(class) == 1.0);
        assert_eq!(*originals.lock().unwrap(), [(false, b"\0\0\0\0\x02hi".to_vec())]);
        assert_eq!(*copies.lock().unwrap(), [(true, b"\0\0\0\0\x02hi".to_vec())]);
    }
}
