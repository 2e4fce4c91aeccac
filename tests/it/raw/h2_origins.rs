//! What an HTTP/2 origin may not say: h2 takes it, and no client may be given it.

use h2::Reason;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use crate::support::h2peer::{self, Answer, H2Upstream, message, status_trailers};
use crate::support::http1::{self, End, request};
use crate::support::{Client, Serin, Setup};

fn front(origin: &H2Upstream) -> Serin {
    Setup::web(&origin.endpoint()).router("client: {protocol: h2}").start()
}

fn get(serin: &Serin, method: Method) -> Answer {
    let request = h2peer::get("web", "/").method(method).body(()).unwrap();
    h2peer::exchange(serin.address(), request, None).unwrap()
}

#[test]
fn an_answer_that_is_reset_is_never_a_clean_end() {
    for said in [Reason::NO_ERROR, Reason::REFUSED_STREAM, Reason::HTTP_1_1_REQUIRED] {
        let origin = H2Upstream::start(move |mut exchange| async move {
            let mut send = exchange.respond.send_response(Response::new(()), false).unwrap();
            send.send_data("part of it".into(), false).unwrap();
            exchange.seen.go_on.notified().await;
            send.send_reset(said);
        });
        let serin = front(&origin);
        let answer = h2peer::block_on(async {
            let mut send = h2peer::connect(serin.address()).await;
            let (response, _) = send.send_request(h2peer::get("web", "/").body(()).unwrap(), true).unwrap();
            let response = response.await.unwrap();
            origin.seen.go_on.notify_one();
            h2peer::read_answer(response).await.unwrap()
        });
        assert_eq!(answer.reset, Some(Reason::INTERNAL_ERROR), "{said:?}");
    }
}

#[test]
fn octets_behind_a_head_without_a_body_are_nobodys() {
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304)] {
        let origin = H2Upstream::start(move |mut exchange| async move {
            exchange.reply(Response::builder().status(status), "HTTP/1.1 200 OK\r\n\r\n");
        });
        let serin = front(&origin);
        let answer = get(&serin, method.clone());
        assert_eq!((answer.status, answer.text().as_str(), answer.reset), (status, "", None), "{method}");
        let mut client = Client::connect(serin.address());
        for _ in 0..2 {
            client.send(request(method.as_str(), "/", "web", &[], ""));
            let answer = client.read(method.as_str());
            assert_eq!((answer.status, answer.text().as_str()), (status, ""), "{method}");
        }
    }
}

#[test]
fn heads_have_no_more_fields_than_over_http_1() {
    let origin = H2Upstream::start(|mut exchange| async move {
        let count: usize = exchange.request.uri().path()[1..].parse().unwrap();
        let fields = (0..count).map(|n| (format!("x-{n}").parse().unwrap(), HeaderValue::from_static("a")));
        let mut head = Response::new(());
        *head.headers_mut() = fields.collect::<HeaderMap>();
        let _may_be_reset = exchange.respond.send_response(head, true);
    });
    let serin = front(&origin);
    assert_eq!(serin.get("web", "/200").status, 200);
    assert_eq!(serin.get("web", "/201").status, 502);
}

#[test]
fn a_call_that_ends_without_a_status_has_not_ended_well() {
    let origin = H2Upstream::start(|mut exchange| async move {
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut send = exchange.respond.send_response(head, false).unwrap();
        let path = exchange.request.uri().path().to_owned();
        send.send_data(message("hello"), path == "/none/data").unwrap();
        match path.as_str() {
            "/none/data" => {}
            "/none/trailers" => drop(
                send.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("1"))])),
            ),
            _ => drop(send.send_trailers(status_trailers(0))),
        }
    });
    let serin = front(&origin);
    let call = |path| h2peer::exchange(serin.address(), h2peer::grpc("web", path).body(()).unwrap(), None).unwrap();
    assert_eq!(call("/a/b").grpc_status(), Some(0));
    for path in ["/none/data", "/none/trailers"] {
        assert_eq!(call(path).reset, Some(Reason::INTERNAL_ERROR), "{path}");
    }
    // not of gRPC: the clients know what to make of it
    let other = H2Upstream::start(|mut exchange| async move {
        exchange.reply(Response::builder().status(StatusCode::NOT_FOUND).header("content-type", "text/html"), "<p>");
    });
    let serin = front(&other);
    let answer = h2peer::exchange(serin.address(), h2peer::grpc("web", "/a/b").body(()).unwrap(), None).unwrap();
    assert_eq!((answer.status, answer.reset), (404, None));
}

#[test]
fn the_scheme_is_that_of_our_connection() {
    let origin = H2Upstream::start(|mut exchange| async move { exchange.reply(Response::builder(), "") });
    let serin = front(&origin);
    let seen = || origin.seen.heads.lock().unwrap().last().unwrap().uri.scheme_str().unwrap().to_owned();
    let secure = Request::get("https://web/x").body(()).unwrap();
    assert_eq!(h2peer::exchange(serin.address(), secure, None).unwrap().status, 200);
    assert_eq!(seen(), "http");
    let answer = http1::exchange(serin.address(), "GET https://web/x HTTP/1.1\r\nHost: web\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.end), (200, End::Clean));
    assert_eq!(seen(), "http");
}

#[test]
fn calls_that_wait_for_a_stream_get_one() {
    let origin = H2Upstream::start_with(
        |settings| {
            settings.max_concurrent_streams(1);
        },
        |mut exchange| async move {
            let (body, _) = exchange.read().await.unwrap();
            exchange.reply(Response::builder(), body.len().to_string());
        },
    );
    let client = "client: {protocol: h2, limits: {h2Connections: 1}}";
    let serin = Setup::web(&origin.endpoint()).router(client).start();
    // larger than a window: each has to be woken while others wait
    let upload = || {
        let request = h2peer::get("web", "/").method(Method::POST).body(()).unwrap();
        h2peer::exchange(serin.address(), request, Some(vec![0; 2 << 20].into())).unwrap().text()
    };
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(upload)).collect();
        for call in calls {
            assert_eq!(call.join().unwrap(), (2 << 20).to_string());
        }
    });
}
