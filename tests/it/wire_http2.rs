//! HTTP/2 on both sides: translated without loss, refused where it is malformed, and unimpressed by resets and GOAWAY.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response};

use super::support::frames::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
};
use super::support::h2peer::{self, H2Upstream, block_on, call, connect, exchange};
use super::support::http1::{self, End};
use super::support::scrape::Scrape;
use super::support::wire::Wire;
use super::support::{Client, DEADLINE, Serin, Setup, Upstream, eventually, now};

/// Upstreams of this router are spoken to in HTTP/2.
const H2: &str = "client: {protocol: h2}";

/// An echoing HTTP/1.1 origin behind host `web`.
fn front() -> (Upstream, Serin) {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    (origin, serin)
}

fn get() -> Request<()> {
    h2peer::get("web", "/").body(()).unwrap()
}

/// The pseudo-fields of `GET http://web/`.
const PSEUDO: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];

/// `GET http://web/` with further fields.
fn fields<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    PSEUDO.iter().chain(more).copied().collect()
}

/// The same with one pseudo-field replaced, or left out.
fn pseudo<'a>(name: &str, value: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let changed = PSEUDO.iter().map(|&(key, old)| (key, if key == name { value } else { Some(old) }));
    changed.filter_map(|(key, value)| Some((key, value?))).collect()
}

#[test]
fn both_versions_are_spoken_on_one_port() {
    let (origin, serin) = front();
    let answer = exchange(serin.address(), get(), None).unwrap();
    assert_eq!((answer.status, answer.header("x-origin").as_deref()), (200, Some("web")));
    assert_eq!(serin.get("web", "/").status, 200);
    let seen = origin.requests();
    assert_eq!(seen[0].version, "HTTP/1.1", "towards an HTTP/1.1 origin");
    assert_eq!(seen[0].fields.all("host"), ["web"], ":authority becomes the one Host");
    assert!(seen[0].fields.starting_with(":").is_empty());
    assert!(answer.headers.get("connection").is_none() && answer.headers.get("transfer-encoding").is_none());
}

#[test]
fn an_upload_with_trailers_crosses_from_http_2_to_http_1() {
    let (origin, serin) = front();
    block_on(async {
        let mut send = connect(serin.address()).await;
        let request = Request::post("http://web/up?a=%2F").body(()).unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"hello "), false).unwrap();
        body.send_data(Bytes::from_static(b"world"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", 11.into());
        trailers.insert("l5d-ctx-dtab", "/svc=>!".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
    let seen = origin.only();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/up?a=%2F"));
    assert_eq!(seen.body.data, b"hello world");
    assert_eq!(seen.body.trailers.all("x-sum"), ["11"], "trailers travel");
    assert!(!seen.body.trailers.has("l5d-ctx-dtab"));
}

#[test]
fn a_response_with_trailers_crosses_from_http_1_to_http_2() {
    let origin = Upstream::reply(|request| match request.target.as_str() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/head" => b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n\
               Set-Cookie: a\r\nSet-Cookie: b\r\nTrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n"
            .to_vec(),
    });
    let serin = Setup::web(&origin.endpoint()).start();
    block_on(async {
        let mut send = connect(serin.address()).await;
        let answer = call(&mut send, get(), None).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str(), answer.reset), (200, "hello", None));
        assert_eq!(answer.trailers.unwrap()["x-sum"], "5");
        assert_eq!(answer.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a", "b"]);
        for name in ["connection", "transfer-encoding", "x-hop", "keep-alive"] {
            assert!(!answer.headers.contains_key(name), "{name}");
        }
        let empty = call(&mut send, h2peer::get("web", "/204").body(()).unwrap(), None).await.unwrap();
        assert_eq!((empty.status, empty.body.len(), empty.reset), (204, 0, None));
        let head = Request::head("http://web/head").body(()).unwrap();
        let head = call(&mut send, head, None).await.unwrap();
        assert_eq!((head.status, head.header("content-length").as_deref(), head.reset), (200, Some("7"), None));
    });
}

/// An HTTP/2 origin that answers with what it got, trailers included.
fn echo() -> H2Upstream {
    H2Upstream::start(|mut exchange| async move {
        let Ok((body, trailers)) = exchange.read().await else { return };
        let head = Response::builder().header("trailer", "x-sum").header("x-length", body.len()).body(()).unwrap();
        let mut send = exchange.respond.send_response(head, false).unwrap();
        send.send_data(body.into(), false).unwrap();
        let mut echoed = trailers.unwrap_or_default();
        echoed.insert("x-done", 1.into());
        let _ = send.send_trailers(echoed);
    })
}

#[test]
fn http_1_crosses_to_an_http_2_origin_with_trailers_both_ways() {
    let origin = echo();
    let serin = Setup::web(&origin.endpoint()).router(H2).start();
    let mut client = Client::connect(serin.address());
    let head = "POST /a%2Fb HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: x-sum\r\n";
    client.send(format!("{head}Connection: TE, x-hop\r\nX-Hop: 1\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n"));
    let answer = client.read("POST");
    assert_eq!((answer.status, answer.text().as_str(), answer.end), (200, "hello", End::Clean));
    assert_eq!(origin.last_header("x-hop"), None);
    let heads = origin.seen.heads.lock().unwrap();
    assert_eq!(heads[0].uri.path(), "/a%2Fb");
    assert_eq!(heads[0].uri.authority().unwrap().as_str(), "web", "Host becomes :authority");
    assert!(!heads[0].headers.contains_key("host") && !heads[0].headers.contains_key("transfer-encoding"));
    assert_eq!(answer.trailers.all("x-sum"), ["5"], "up and back");
    drop(heads);
    let small = client.get("web", "/", &[]);
    assert_eq!((small.status, small.field("x-length").as_deref()), (200, Some("0")), "and the connection goes on");
}

#[test]
fn http_2_passes_through_with_trailers_both_ways() {
    let origin = echo();
    let serin = Setup::web(&origin.endpoint()).router(H2).start();
    block_on(async {
        let mut send = connect(serin.address()).await;
        let request = Request::post("http://web/").header("te", "trailers").body(()).unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        body.send_data(Bytes::from(vec![b'x'; 30_000]), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", 30_000.into());
        body.send_trailers(trailers).unwrap();
        let answer = h2peer::read_answer(response.await.unwrap()).await.unwrap();
        assert_eq!((answer.body.len(), answer.reset), (30_000, None));
        let trailers = answer.trailers.unwrap();
        assert_eq!((&trailers["x-sum"], &trailers["x-done"]), (&30_000.into(), &1.into()));
    });
    assert_eq!(origin.last_header("te").as_deref(), Some("trailers"));
}

#[test]
fn cookie_crumbs_are_joined() {
    let (origin, serin) = front();
    let request = h2peer::get("web", "/").header("cookie", "a=1").header("x-y", "z");
    let request = request.header("cookie", "b=2; c=3").header("cookie", "d=4").body(()).unwrap();
    assert_eq!(exchange(serin.address(), request, None).unwrap().status, 200);
    assert_eq!(origin.only().fields.all("cookie"), ["a=1; b=2; c=3; d=4"]);
}

#[test]
fn too_many_or_too_large_fields_are_431_and_a_long_path_414() {
    let (origin, serin) = front();
    let long = "x".repeat(10_000);
    let statuses = |request: Request<()>| exchange(serin.address(), request, None).map(|answer| answer.status);
    let many = (0..102).fold(h2peer::get("web", "/"), |request, n| request.header(format!("x-{n}"), "y"));
    let crumbs = (0..102).fold(h2peer::get("web", "/"), |request, n| request.header("cookie", format!("c{n}=y")));
    let large = ["a", "b", "c", "d"].iter().fold(h2peer::get("web", "/"), |request, name| request.header(*name, &long));
    for (what, request) in [("102 fields", many), ("crumbs count", crumbs), ("40 KB", large)] {
        let status = statuses(request.body(()).unwrap());
        assert!(matches!(status, Ok(431) | Err(Some(Reason::ENHANCE_YOUR_CALM))), "{what}: {status:?}");
    }
    let path = format!("/{}", "p".repeat(16_384));
    assert_eq!(statuses(h2peer::get("web", &path).body(()).unwrap()), Ok(414));
    assert_eq!(statuses(h2peer::get("web", &path[..16_384]).body(()).unwrap()), Ok(200), "16 KiB are allowed");
    assert_eq!(origin.count(), 1);
}

/// The stream is reset or answered 400, or the connection ends.
fn check_stream_refused(serin: &Serin, what: &str, block: &[u8], after: &[(u8, u8, &[u8])]) -> Result<(), String> {
    let (start, mut frames) = (now(), Frames::connect(serin.address()));
    let flags = if after.is_empty() { END_STREAM } else { 0 };
    frames.send(HEADERS, flags | END_HEADERS, 1, block);
    for (kind, flags, payload) in after {
        frames.send(*kind, *flags, 1, payload);
    }
    let answer =
        frames.until(|frame| frame.stream == 1 && matches!(frame.kind, HEADERS | RST_STREAM) || frame.kind == GOAWAY);
    match answer {
        Some(frame) if frame.kind == HEADERS && !frame.has_status(400) => Err(format!("{what}: answered {frame:?}")),
        _ if now() - start >= DEADLINE => Err(format!("{what}: nothing happened")),
        _ => Ok(()),
    }
}

#[test]
fn malformed_requests_are_stream_errors_and_go_nowhere() {
    let (origin, serin) = front();
    let cases = [
        ("connection", fields(&[("connection", "close")])),
        ("keep-alive", fields(&[("keep-alive", "1")])),
        ("proxy-connection", fields(&[("proxy-connection", "x")])),
        ("transfer-encoding", fields(&[("transfer-encoding", "chunked")])),
        ("upgrade", fields(&[("upgrade", "h2c")])),
        ("te other than trailers", fields(&[("te", "gzip")])),
        ("an upper case name", fields(&[("X-Upper", "1")])),
        ("a name that is no token", fields(&[("x y", "1")])),
        ("an empty name", fields(&[("", "1")])),
        ("CR LF in a value", fields(&[("x-a", "b\r\nx-evil: 1")])),
        ("LF in a value", fields(&[("x-a", "b\nc")])),
        ("NUL in a value", fields(&[("x-a", "b\0c")])),
        ("CR LF in a name", fields(&[("x-a: b\r\nx-evil", "1")])),
        ("CR LF in :path", pseudo(":path", Some("/ HTTP/1.1\r\nx-evil: 1\r\n\r\n"))),
        ("a space in :path", pseudo(":path", Some("/a b"))),
        ("CR LF in :method", pseudo(":method", Some("GET / HTTP/1.1\r\nx: y\r\n"))),
        ("a space in :method", pseudo(":method", Some("GET /x"))),
        ("CR LF in :authority", pseudo(":authority", Some("web\r\nx-evil: 1"))),
        ("CR LF in :scheme", pseudo(":scheme", Some("http\r\n"))),
        (":scheme of another protocol", pseudo(":scheme", Some("ftp"))),
        ("a relative :path", pseudo(":path", Some("relative"))),
        ("an empty :path", pseudo(":path", Some(""))),
        ("an absolute :path", pseudo(":path", Some("http://other/"))),
        ("* without OPTIONS", pseudo(":path", Some("*"))),
        ("no :method", pseudo(":method", None)),
        ("no :path", pseudo(":path", None)),
        ("no :scheme", pseudo(":scheme", None)),
        ("no :authority, no host", pseudo(":authority", None)),
        ("an empty :authority", pseudo(":authority", Some(""))),
        ("userinfo in :authority", pseudo(":authority", Some("me@web"))),
        ("two authorities", pseudo(":authority", Some("web,other"))),
        ("a pseudo-field twice", fields(&[(":path", "/other")])),
        ("an unknown pseudo-field", fields(&[(":unknown", "1")])),
        (":status in a request", fields(&[(":status", "200")])),
        ("a pseudo-field behind a field", [("x-a", "b")].into_iter().chain(PSEUDO).collect()),
        ("another host than :authority", fields(&[("host", "other")])),
        ("two hosts", fields(&[("host", "web"), ("host", "other")])),
        ("two lengths", fields(&[("content-length", "0"), ("content-length", "1")])),
        ("a length that is none", fields(&[("content-length", "+0")])),
        (":protocol unasked", fields(&[(":protocol", "websocket")])),
    ];
    let refused = cases.iter().map(|(what, fields)| check_stream_refused(&serin, what, &frames::block(fields), &[]));
    let wrong: Vec<String> = refused.filter_map(Result::err).collect();
    assert_eq!(exchange(serin.address(), get(), None).unwrap().status, 200, "the proxy goes on");
    assert!(wrong.is_empty(), "not refused: {wrong:#?}");
    assert_eq!(origin.count(), 1, "{:?}", origin.requests());
}

#[test]
fn a_host_field_that_agrees_is_enough() {
    let (origin, serin) = front();
    let without: Vec<_> =
        PSEUDO.iter().copied().filter(|(name, _)| *name != ":authority").chain([("host", "web")]).collect();
    for fields in [fields(&[("host", "web")]), without] {
        let mut frames = Frames::connect(serin.address());
        frames.headers(1, END_STREAM, &fields);
        let head = frames.until(|frame| matches!(frame.kind, HEADERS | RST_STREAM)).unwrap();
        assert!(head.has_status(200), "{fields:?}: {head:?}");
    }
    assert!(origin.requests().iter().all(|request| request.fields.all("host") == ["web"]));
}

#[test]
fn a_length_that_disagrees_with_the_data_is_never_a_whole_body() {
    for (declared, sent) in [("5", "four"), ("3", "four"), ("5", "")] {
        let (origin, serin) = front();
        let block = frames::block(&fields(&[("content-length", declared)]));
        let what = format!("{declared} declared, {} sent", sent.len());
        let refused = check_stream_refused(&serin, &what, &block, &[(DATA, END_STREAM, sent.as_bytes())]);
        assert_eq!(refused, Ok(()), "{what}");
        eventually("the upstream side is given up", || origin.open() == 0);
        assert!(origin.requests().iter().all(|request| !request.body.complete), "{what}: {:?}", origin.requests());
    }
}

#[test]
#[ignore = "the h2 crate drops pseudo-fields of trailers before anybody can see them; it takes an own frame reader"]
fn pseudo_fields_in_trailers_are_refused() {
    let (origin, serin) = front();
    let post = frames::block(&pseudo(":method", Some("POST")));
    let trailers = frames::block(&[(":path", "/other")]);
    let after: [(u8, u8, &[u8]); 2] = [(DATA, 0, b"body"), (HEADERS, END_STREAM | END_HEADERS, &trailers)];
    assert_eq!(check_stream_refused(&serin, "a pseudo-field in trailers", &post, &after), Ok(()));
    assert!(origin.requests().iter().all(|request| !request.body.complete));
}

#[test]
fn floods_end_the_connection_and_nothing_else() {
    let (_origin, serin) = front();
    let mut endless = Frames::connect(serin.address());
    endless.send(HEADERS, END_STREAM, 1, &frames::block(&PSEUDO));
    let one = frames::block(&[("x", &"y".repeat(1000))]);
    let ended = (0..100_000).any(|_| !endless.send(CONTINUATION, 0, 1, &one));
    assert!(ended || endless.until(|frame| frame.kind == GOAWAY).is_some(), "an endless header block is ended");
    let mut empty = Frames::connect(serin.address());
    empty.headers(1, 0, &PSEUDO);
    let ended = (0..100_000).any(|_| !empty.send(DATA, 0, 1, b""));
    assert!(ended || empty.until(|frame| matches!(frame.kind, GOAWAY | RST_STREAM)).is_some(), "empty DATA is ended");
    assert_eq!(exchange(serin.address(), get(), None).unwrap().status, 200);
    assert!(serin.peak_kib() < 200 * 1024, "{} KiB", serin.peak_kib());
}

#[test]
fn a_hundred_streams_at_once_are_all_served() {
    let (http1, origin) = (Upstream::named("web"), H2Upstream::start(hold_until_all));
    for (endpoint, router) in [(http1.endpoint(), "client: {protocol: http1}"), (origin.endpoint(), H2)] {
        let serin = Setup::web(&endpoint).router(router).start();
        check_all_served(&serin, 100);
    }
}

/// So many requests at once on one connection, all answered.
fn check_all_served(serin: &Serin, streams: usize) {
    block_on(async {
        let mut send = connect(serin.address()).await;
        let mut responses = Vec::new();
        for _ in 0..streams {
            h2peer::futures_ready(&mut send).await.unwrap();
            responses.push(send.send_request(get(), true).unwrap().0);
        }
        for response in responses {
            let answer = h2peer::read_answer(response.await.unwrap()).await.unwrap();
            assert_eq!((answer.status, answer.reset), (200, None));
        }
    });
}

/// Answers when a hundred streams are there.
async fn hold_until_all(mut exchange: h2peer::Exchange) {
    if exchange.seen.counter.fetch_add(1, Ordering::AcqRel) + 1 == 100 {
        exchange.seen.go_on.notify_waiters();
    } else {
        exchange.seen.go_on.notified().await;
    }
    exchange.reply(Response::builder(), "all are here");
}

#[test]
fn rapid_resets_do_not_multiply_work() {
    let origin = Upstream::raw(|wire, _, _| while wire.fill().is_ok_and(|read| read > 0) {}); // never answers
    let serin = Setup::web(&origin.endpoint()).start();
    let mut wire = Client::connect(serin.address()).wire;
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    wire.send(frames::encode(SETTINGS, 0, 0, &[])).unwrap();
    let together = |stream: u32| {
        let head = frames::encode(HEADERS, END_STREAM | END_HEADERS, stream, &frames::block(&PSEUDO));
        [head, frames::encode(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    let sent = (0..5_000).take_while(|n| wire.send(together(2 * n + 1)).is_ok()).count();
    drop(wire);
    eventually("all of it is given up", || origin.open() == 0);
    assert!(origin.connections() <= 100, "{} upstream connections for {sent} resets", origin.connections());
    eventually("nothing stays in flight", || Scrape::of(&serin).sum("serin_requests_active", &[]) == 0.0);
}

#[test]
fn few_streams_at_the_origin_make_requests_wait_not_fail() {
    let origin = H2Upstream::start_with(
        |settings| _ = settings.max_concurrent_streams(2),
        |mut exchange| async move {
            tokio::task::yield_now().await;
            exchange.reply(Response::builder(), "served");
        },
    );
    let serin = Setup::web(&origin.endpoint()).router(H2).start();
    check_all_served(&serin, 60);
    assert_eq!(origin.count(), 60);
}

#[test]
fn a_refused_stream_is_sent_again_unseen() {
    let origin = H2Upstream::start(|mut exchange| async move {
        if exchange.index % 2 == 0 {
            exchange.respond.send_reset(Reason::REFUSED_STREAM);
        } else {
            let (body, _) = exchange.read().await.unwrap();
            exchange.reply(Response::builder(), body);
        }
    });
    let serin = Setup::web(&origin.endpoint()).router(H2).start();
    let mut client = Client::connect(serin.address());
    for round in 1..=3 {
        client.send(http1::request("POST", "/", "web", &[], "small body"));
        let answer = client.read("POST");
        assert_eq!((answer.status, answer.text().as_str()), (200, "small body"), "round {round}");
        assert_eq!(origin.count(), 2 * round, "sent once more, not more often");
    }
}

#[test]
fn a_stream_refused_for_ever_or_reset_otherwise_is_an_error() {
    for (reason, times) in [(Reason::REFUSED_STREAM, 3), (Reason::INTERNAL_ERROR, 1)] {
        let origin = H2Upstream::start(move |mut exchange| async move { exchange.respond.send_reset(reason) });
        let serin = Setup::web(&origin.endpoint()).router(H2).server("clearContext: true").start();
        let answer = serin.get("web", "/");
        assert_eq!((answer.status, answer.field("l5d-err").as_deref()), (502, Some("upstream-reset")), "{reason:?}");
        assert_eq!(origin.count(), times, "{reason:?}: two replays of what was refused, none of what was worked on");
    }
}

#[test]
fn a_length_that_disagrees_with_the_data_of_an_origin_is_no_clean_end() {
    for (declared, body) in [("100", "only this"), ("3", "only this"), ("5", "")] {
        let origin = H2Upstream::start(move |mut exchange| async move {
            exchange.reply(Response::builder().header("content-length", declared), body);
        });
        let serin = Setup::web(&origin.endpoint()).router(H2).start();
        let mut client = Client::connect(serin.address());
        client.send(http1::request("GET", "/", "web", &[], ""));
        let answer = client.try_read("GET");
        assert!(answer.map_or(true, |answer| answer.status == 502 || answer.end == End::Cut), "{declared}, HTTP/1.1");
        let answer = exchange(serin.address(), get(), None);
        assert!(answer.map_or(true, |answer| answer.status == 502 || answer.reset.is_some()), "{declared}, HTTP/2");
    }
}

#[test]
fn an_origin_that_does_not_speak_http_2_is_an_error_soon() {
    let silent = Upstream::raw(|wire, _, _| while wire.fill().is_ok_and(|read| read > 0) {});
    let old = Upstream::raw(|wire, _, _| {
        let _ = wire.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        while wire.fill().is_ok_and(|read| read > 0) {}
    });
    let setup = Setup::web(&silent.endpoint()).cluster("old", &[&old.endpoint()]);
    let serin = setup.router("client: {protocol: h2, connectTimeoutMs: 200}").start();
    assert_eq!(serin.get("web", "/").status, 504, "never ready");
    assert_eq!(serin.get("old", "/").status, 502, "no HTTP/2");
}

/// The next frame of a scripted origin.
fn next_frame(wire: &mut Wire) -> Option<Frame> {
    loop {
        if let Some(&[_, high, low, kind, flags, _, _, _, stream]) = wire.buf.first_chunk::<9>() {
            let end = 9 + usize::from(high) * 256 + usize::from(low);
            if wire.buf.len() >= end {
                let payload = wire.buf.drain(..end).skip(9).collect();
                return Some(Frame { kind, flags, stream: u32::from(stream), payload });
            }
        }
        if wire.fill().ok()? == 0 {
            return None;
        }
    }
}

#[test]
fn requests_beyond_a_goaway_move_to_another_connection_unseen() {
    let origin = Upstream::raw(|wire, _, index| {
        while wire.buf.len() < 24 && wire.fill().is_ok_and(|read| read > 0) {}
        wire.buf.drain(..24); // the preface
        let _ = wire.send(frames::encode(SETTINGS, 0, 0, &[]));
        while let Some(frame) = next_frame(wire) {
            let _ = wire.send(match (frame.kind, frame.flags, index) {
                (PING, 0, _) => frames::encode(PING, 1, 0, &frame.payload),
                (HEADERS, _, 0) => frames::encode(GOAWAY, 0, 0, &[0; 8]), // the last was stream 0: nothing was worked on
                (HEADERS, ..) => frames::encode(HEADERS, END_HEADERS | END_STREAM, frame.stream, &[0x88]),
                _ => Vec::new(),
            });
        }
    });
    let serin = Setup::web(&origin.endpoint()).router(H2).start();
    let mut client = Client::connect(serin.address());
    client.send(http1::request("POST", "/", "web", &[], "small body"));
    assert_eq!(client.read("POST").status, 200, "a request that was not worked on is sent again, POST too");
    assert_eq!(client.get("web", "/", &[]).status, 200);
    assert_eq!(origin.connections(), 2, "the second connection stays in use");
}

#[test]
fn a_graceful_goaway_lets_streams_end_and_moves_new_ones() {
    let origin = H2Upstream::start(|mut exchange| async move {
        if exchange.index == 0 {
            exchange.seen.goaway.notify_one();
            exchange.seen.go_on.notified().await;
        }
        exchange.reply(Response::builder(), format!("{}", exchange.index));
    });
    let serin = Setup::web(&origin.endpoint()).router(H2).start();
    block_on(async {
        let mut send = connect(serin.address()).await;
        let first = send.send_request(get(), true).unwrap().0;
        while origin.connections() < 2 {
            assert_eq!(call(&mut send, get(), None).await.unwrap().status, 200);
        }
        origin.seen.go_on.notify_one();
        let first = h2peer::read_answer(first.await.unwrap()).await.unwrap();
        assert_eq!((first.status, first.text().as_str(), first.reset), (200, "0", None), "it ends where it began");
    });
}
