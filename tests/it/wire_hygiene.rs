//! Which fields travel, which end here, and which are our own; the requests that go round in circles.

use http::Request;

use super::support::frames::{END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, SETTINGS};
use super::support::http1::{Response, request};
use super::support::ports::free_port;
use super::support::scrape::Scrape;
use super::support::upstream::reply;
use super::support::{Client, Serin, Setup, Upstream, h2peer};

const EDGE: &str = "exposure: edge";
const MESH: &str = "exposure: mesh";

/// An echoing origin behind host `web`, with these keys of the listener.
fn front(server: &str) -> (Upstream, Serin) {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).server(server).start();
    (origin, serin)
}

/// An origin that answers with these lines, read through a listener that trusts nobody.
fn answer_with(lines: &'static [&'static str]) -> Response {
    let origin = Upstream::reply(move |_| reply(200, lines, "body"));
    let serin = Setup::web(&origin.endpoint()).server("clearContext: true").start();
    serin.get("web", "/")
}

#[test]
fn hop_by_hop_fields_of_a_request_end_here() {
    let (origin, serin) = front(EDGE);
    let mut client = Client::connect(serin.address());
    let lines = [
        "Connection: keep-alive, X-One",
        "Keep-Alive: timeout=5",
        "Connection: x-TWO , ,HTTP2-Settings, Upgrade, TE",
        "Proxy-Connection: keep-alive",
        "TE: trailers, deflate;q=0.5",
        "Upgrade: h2c, websocket",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "Proxy-Authorization: Basic c2VjcmV0",
        "X-One: 1",
        "x-two: 2",
        "X-TWO: 22",
        "X-Three: 3",
    ];
    assert_eq!(client.get("web", "/", &lines).status, 200);
    let seen = origin.only().fields;
    for name in ["keep-alive", "proxy-authorization", "proxy-connection", "upgrade", "http2-settings", "x-one", "x-two"]
    {
        assert!(!seen.has(name), "{name} ends here: {:?}", seen.all(name));
    }
    assert!(seen.get("te").is_none_or(|te| te == "trailers"), "of TE only trailers is sent again");
    assert!(seen.all("connection").iter().all(|value| !value.contains('-') || value == "keep-alive"));
    assert_eq!(seen.get("x-three").as_deref(), Some("3"), "what nobody named stays");
}

#[test]
fn te_trailers_is_sent_again_and_nothing_else_of_it() {
    let (origin, serin) = front(EDGE);
    assert_eq!(serin.get_with("web", "/", &["TE: trailers", "Connection: TE"]).status, 200);
    assert_eq!(serin.get_with("web", "/", &["TE: gzip", "Connection: TE"]).status, 200);
    assert_eq!(serin.get_with("web", "/", &[]).status, 200);
    let te: Vec<_> = origin.requests().iter().map(|request| request.field("te")).collect();
    assert_eq!(te, [Some("trailers".to_owned()), None, None]);
}

#[test]
fn what_the_proxy_relies_on_cannot_be_nominated_away() {
    let (origin, serin) = front(EDGE);
    let kept = ["Host", "Content-Length", "Authorization", "Cookie", "X-Forwarded-For", "X-Forwarded-Proto", "Via"];
    for name in kept {
        let lines = [&format!("Connection: close, {name}"), "Authorization: me", "Cookie: a=b"];
        let mut client = Client::connect(serin.address());
        client.send(request("POST", "/", "web", &lines, "four"));
        let answer = client.read("POST");
        if answer.status == 400 {
            assert_eq!(origin.count(), 0, "refused means not sent");
            continue;
        }
        assert_eq!(answer.status, 200, "{name}");
        let seen = origin.only();
        assert!(seen.fields.has(name), "{name} must not be removed");
        assert_eq!(seen.body.data, b"four");
        origin.forget();
    }
    let (origin, serin) = front("exposure: mesh, clearContext: false");
    let lines = ["Connection: close, l5d-ctx-dtab", "l5d-ctx-dtab: /a => /b", "X-Forwarded-For: 192.0.2.1"];
    if serin.get_with("web", "/", &lines).status != 400 {
        assert_eq!(origin.only().field("l5d-ctx-dtab").as_deref(), Some("/a=>/b"), "context cannot be nominated away");
    }
}

#[test]
fn hop_by_hop_fields_of_a_response_end_here() {
    let answer = answer_with(&[
        "Connection: keep-alive, X-One",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authenticate: Basic realm=a",
        "Proxy-Authentication-Info: a=b",
        "Upgrade: h2c",
        "X-One: 1",
        "X-Two: 2",
        "Connection: Set-Cookie",
        "TE: trailers",
    ]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "body"));
    for name in ["keep-alive", "proxy-authenticate", "proxy-authentication-info", "upgrade", "x-one", "te"] {
        assert!(!answer.fields.has(name), "{name} ends here");
    }
    assert!(answer.fields.all("connection").iter().all(|value| value == "keep-alive" || value == "close"));
    assert_eq!(answer.field("x-two").as_deref(), Some("2"));
}

#[test]
fn an_edge_listener_says_itself_where_a_request_came_from() {
    let (origin, serin) = front(EDGE);
    let lines = [
        "X-Forwarded-For: 192.0.2.1",
        "x-forwarded-for: 192.0.2.2, 192.0.2.3",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Prefix: /p",
        "X-Forwarded-Client-Cert: Hash=x",
        "X-Real-IP: 192.0.2.4",
        "Forwarded: for=192.0.2.5",
        "X-Forwarded_For: 192.0.2.6",
        "X_Forwarded-Proto: https",
        "X-Real_IP: 192.0.2.7",
    ];
    assert_eq!(serin.get_with("WEB:80", "/", &lines).status, 200);
    let seen = origin.only().fields;
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    let host = seen.get("x-forwarded-host").expect("x-forwarded-host");
    assert!(host.eq_ignore_ascii_case("web:80") || host == "web", "{host}");
    let other_spellings = ["x-forwarded_for", "x_forwarded-proto", "x-real_ip"];
    for name in
        ["x-forwarded-prefix", "x-forwarded-client-cert", "x-real-ip", "forwarded"].iter().chain(&other_spellings)
    {
        assert!(!seen.has(name), "{name} is removed: {:?}", seen.all(name));
    }
    assert_ne!(seen.get("x-forwarded-port").as_deref(), Some("1"));
}

#[test]
fn a_mesh_listener_passes_forwarding_fields_on() {
    let (origin, serin) = front(MESH);
    let lines = [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-For: 192.0.2.2, 192.0.2.3",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop",
        "X-Real-IP: 192.0.2.4",
        "Forwarded: for=192.0.2.5",
    ];
    assert_eq!(serin.get_with("web", "/", &lines).status, 200);
    let seen = origin.only().fields;
    assert_eq!(seen.all("x-forwarded-for"), ["192.0.2.1", "192.0.2.2, 192.0.2.3"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.all("x-forwarded-host"), ["shop"]);
    assert_eq!(seen.all("x-real-ip"), ["192.0.2.4"]);
    assert_eq!(seen.all("forwarded"), ["for=192.0.2.5"]);
    origin.forget();
    assert_eq!(serin.get("web", "/").status, 200);
    assert!(origin.only().fields.starting_with("x-forwarded-").is_empty(), "and sets none");
}

#[test]
fn a_listener_announces_its_limits() {
    for (exposure, streams, window) in [("edge", 100, 65_535), ("mesh", 250, 1 << 20)] {
        let serin = Setup::new().server(&format!("exposure: {exposure}")).start();
        let mut frames = Frames::connect(serin.address());
        let settings = frames.until(|frame| frame.kind == SETTINGS && frame.flags == 0).unwrap();
        let value = |id: u8| {
            let found = settings.payload.chunks(6).find(|one| one[..2] == [0, id]);
            found.map(|one| u32::from_be_bytes(one[2..].try_into().unwrap()))
        };
        assert_eq!(value(3), Some(streams), "{exposure}: MAX_CONCURRENT_STREAMS");
        let announced = value(4).unwrap_or(65_535);
        assert!(announced.abs_diff(window) <= 1, "{exposure}: window of a stream {announced}");
        assert!(value(5).is_none_or(|size| size == 16_384), "{exposure}: frame size");
    }
}

#[test]
fn forwarding_fields_are_replaced_over_http_2_too() {
    let (origin, serin) = front(EDGE);
    let request = h2peer::get("web", "/").header("x-forwarded-for", "192.0.2.1").header("forwarded", "for=x");
    let answer = h2peer::exchange(serin.address(), request.body(()).unwrap(), None).unwrap();
    assert_eq!(answer.status, 200);
    let seen = origin.only().fields;
    assert_eq!((seen.all("x-forwarded-for"), seen.has("forwarded")), (vec!["127.0.0.1".to_owned()], false));
}

#[test]
fn via_is_appended_and_the_chain_kept() {
    let (origin, serin) = front(EDGE);
    assert_eq!(serin.get("web", "/").status, 200);
    assert_eq!(serin.get_with("web", "/", &["Via: 1.0 first, 1.1 second (x, y)", "Via: 2 third"]).status, 200);
    let request = h2peer::get("web", "/").header("via", "1.1 before").body(()).unwrap();
    assert_eq!(h2peer::exchange(serin.address(), request, None).unwrap().status, 200);
    let chains: Vec<String> = origin.requests().iter().map(|one| one.fields.all("via").join(", ")).collect();
    assert!(chains[0].starts_with("1.1 ") && !chains[0].contains(','), "one entry, our own: {chains:?}");
    let own = chains[0].trim_start_matches("1.1 ");
    assert_eq!(chains[1], format!("1.0 first, 1.1 second (x, y), 2 third, 1.1 {own}"));
    assert!([format!("1.1 before, 2 {own}"), format!("1.1 before, 2.0 {own}")].contains(&chains[2]), "{chains:?}");
}

#[test]
fn more_via_entries_than_the_call_depth_are_508() {
    for (server, limit) in [(EDGE, 100), ("maxCallDepth: 3", 3)] {
        let (origin, serin) = front(server);
        let chain = |count: usize| vec!["1.1 a"; count].join(", ");
        assert_eq!(serin.get_with("web", "/", &[&format!("Via: {}", chain(limit))]).status, 200, "{limit} are allowed");
        let lines = [format!("Via: {}", chain(limit)), "Via: 1.1 b".to_owned()];
        let answer = serin.get_with("web", "/", &[&lines[0], &lines[1]]);
        assert_eq!(answer.status, 508, "{server}");
        assert!(answer.field("l5d-err").is_some());
        assert_eq!(origin.count(), 1, "the second goes nowhere");
    }
}

#[test]
fn serin_never_calls_itself() {
    let (port, admin) = (free_port(), free_port());
    let (own, own_admin) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{admin}"));
    let setup = Setup::web(&own).cluster("admin", &[&own_admin]).cluster("name", &[&format!("localhost:{port}")]);
    let serin = setup.ports(port, admin).server("clearContext: true").start();
    for host in ["web", "admin", "name"] {
        let answer = serin.get(host, "/");
        assert_eq!((answer.status, answer.field("l5d-err").as_deref()), (508, Some("loop")), "{host}");
    }
}

#[test]
fn connect_and_trace_are_refused() {
    let (origin, serin) = front(EDGE);
    for line in ["CONNECT web:80 HTTP/1.1", "CONNECT / HTTP/1.1", "TRACE / HTTP/1.1", "TRACE http://web/ HTTP/1.1"] {
        let mut client = Client::connect(serin.address());
        client.send(format!("{line}\r\nHost: web\r\nMax-Forwards: 0\r\nCookie: secret=1\r\n\r\n"));
        let answer = client.read("GET");
        assert!(matches!(answer.status, 400 | 405), "{line}: {}", answer.status);
        assert!(!answer.text().contains("secret"), "{line}: nothing is reflected");
    }
    let mut client = Client::connect(serin.address());
    client.send("TRACE / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(client.read("GET").status, 405);
    for method in ["TRACE", "CONNECT"] {
        let target = if method == "CONNECT" { "web:80" } else { "http://web/" };
        let request = Request::builder().method(method).uri(target).body(()).unwrap();
        if let Ok(answer) = h2peer::exchange(serin.address(), request, None) {
            assert_eq!(answer.status, 405, "{method} over HTTP/2");
        }
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn max_forwards_counts_down_on_options_only() {
    let (origin, serin) = front(EDGE);
    let mut client = Client::connect(serin.address());
    client.send(request("OPTIONS", "/", "web", &["Max-Forwards: 0"], ""));
    let last = client.read("OPTIONS");
    assert!(last.status < 300 || last.status == 405, "an answer of the proxy's own: {}", last.status);
    assert_eq!(origin.count(), 0, "0 goes no further");
    client.send(request("OPTIONS", "/", "web", &["Max-Forwards: 5"], ""));
    assert_eq!(client.read("OPTIONS").status, 200);
    assert_eq!(client.get("web", "/", &["Max-Forwards: 0"]).status, 200, "means nothing for GET");
    let seen: Vec<_> = origin.requests().iter().map(|request| request.field("max-forwards")).collect();
    assert_eq!(seen, [Some("4".to_owned()), Some("0".to_owned())]);
}

/// Every spelling of a context field, and the fields that only look like one.
const CONTEXT: &[&str] = &[
    "l5d-dtab",
    "L5D-Ctx-Dtab",
    "l5d-ctx-deadline",
    "l5d-ctx-trace",
    "L5d-Sample",
    "l5d-reqid",
    "l5d-dst-service",
    "l5d-anything",
    "l5d_dtab",
    "L5D_CTX_DTAB",
    "l5d_ctx-dtab",
    "dtab-local",
    "Dtab-Local",
    "x-dtab-01-a",
    "X-Dtab-01-B",
];

/// Names of that kind, in lower case, but those that Serin writes itself, with a value of its own.
fn context_names(fields: &super::support::wire::Fields) -> Vec<String> {
    let starts = ["l5d-", "l5d_", "dtab-local", "x-dtab-", "dtab_local", "x_dtab_"];
    let own = ["l5d-ctx-trace", "l5d-reqid", "l5d-dst-service", "l5d-dst-client"];
    let is_own =
        |name: &String| own.contains(&name.as_str()) && fields.all(name).iter().all(|value| value != "/svc=>!");
    starts.iter().flat_map(|start| fields.starting_with(start)).filter(|name| !is_own(name)).collect()
}

#[test]
fn context_of_strangers_is_removed_before_anything_looks_at_it() {
    let (origin, serin) = front("clearContext: true");
    let mut lines: Vec<String> = CONTEXT.iter().map(|name| format!("{name}: /svc=>!")).collect();
    lines.extend(lines.clone()); // every repetition
    lines.push("X-L5d-Like: stays".to_owned());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let answer = serin.get_with("web", "/", &lines);
    assert_eq!(answer.status, 200, "the route is not touched: {}", answer.text());
    let seen = origin.only().fields;
    assert_eq!(context_names(&seen), Vec::<String>::new());
    assert!(seen.has("x-l5d-like"));
    let junk = ["l5d-dtab: \x7e\x7e => (((", "l5d-ctx-dtab: /#", "l5d-ctx-deadline: -1", "l5d-sample: 9e999"];
    assert_eq!(serin.get_with("web", "/", &junk).status, 200, "not even parsed");
    assert!(Scrape::of(&serin).sum("serin_context_headers_stripped_total", &[]) >= 1.0, "and counted");
}

#[test]
fn context_of_strangers_is_removed_from_http_2_and_from_trailers() {
    let (origin, serin) = front("clearContext: true");
    let mut request = h2peer::grpc("web", "/s/m").method("GET");
    for name in CONTEXT {
        request = request.header(name.to_ascii_lowercase(), "/svc=>!");
    }
    let request = request.header("content-type", "text/plain").body(()).unwrap();
    let _ = h2peer::exchange(serin.address(), request, None);
    let mut client = Client::connect(serin.address());
    let trailers: String = CONTEXT.iter().map(|name| format!("{name}: /svc=>!\r\n")).collect();
    client.send(request_chunked(&trailers));
    assert_eq!(client.read("POST").status, 200);
    for request in origin.requests() {
        assert_eq!(context_names(&request.fields), Vec::<String>::new());
        assert_eq!(context_names(&request.body.trailers), Vec::<String>::new());
    }
    assert!(origin.requests().iter().any(|request| request.body.trailers.has("x-sum")));
}

fn request_chunked(trailers: &str) -> String {
    let head = "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
    format!("{head}2\r\nab\r\n0\r\nx-sum: 2\r\n{trailers}\r\n")
}

#[test]
fn trailers_of_trusted_peers_bring_no_context_either() {
    let (origin, serin) = front("clearContext: false");
    let mut client = Client::connect(serin.address());
    client.send(request_chunked("l5d-ctx-dtab: /svc => !\r\nl5d-dtab: /svc => !\r\n"));
    assert_eq!(client.read("POST").status, 200);
    assert_eq!(
        context_names(&origin.only().body.trailers),
        Vec::<String>::new(),
        "context fields in trailers are dropped"
    );
}

#[test]
fn strangers_see_no_context_in_answers() {
    let answer = answer_with(&[
        "l5d-err: inner%20details%2010.0.0.1",
        "L5D-Success-Class: 1.0",
        "l5d-retryable: true",
        "l5d-dst-service: /svc/web",
        "l5d-anything: x",
        "x-kept: y",
    ]);
    assert_eq!(answer.fields.starting_with("l5d-"), Vec::<String>::new());
    assert_eq!(answer.field("x-kept").as_deref(), Some("y"));
    let origin = Upstream::reply(|_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, l5d-err\r\n\r\n1\r\nx\r\n0\r\nx-sum: 1\r\n\
          L5d-Err: secret\r\nl5d-success-class: 1\r\n\r\n"
            .to_vec()
    });
    let serin = Setup::web(&origin.endpoint()).server("clearContext: true").start();
    let answer = serin.get_with("web", "/", &["TE: trailers", "Connection: TE"]);
    assert_eq!(answer.trailers.get("x-sum").as_deref(), Some("1"));
    assert_eq!(answer.trailers.starting_with("l5d-"), Vec::<String>::new(), "trailers are fields too");
    let answer = h2peer::exchange(serin.address(), h2peer::get("web", "/").body(()).unwrap(), None).unwrap();
    let names = answer.headers.keys().chain(answer.trailers.iter().flat_map(http::HeaderMap::keys));
    assert!(!names.into_iter().any(|name| name.as_str().starts_with("l5d-")), "nor over HTTP/2");
}

#[test]
fn trailers_of_a_response_bring_no_framing() {
    let origin = Upstream::reply(|_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, content-length, host\r\n\r\n1\r\nx\r\n0\r\n\
          x-sum: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nHost: evil\r\n\r\n"
            .to_vec()
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let answer = serin.get_with("web", "/", &["TE: trailers", "Connection: TE"]);
    let names: Vec<_> = answer.trailers.0.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-sum"]);
    let answer = h2peer::exchange(serin.address(), h2peer::get("web", "/").body(()).unwrap(), None).unwrap();
    assert_eq!((answer.reset, answer.trailers.unwrap().len()), (None, 1), "HTTP/2");
}

#[test]
fn controls_in_values_pass_in_neither_version() {
    let (origin, serin) = front(EDGE);
    for value in ["a\x01b", "a\x1bb", "a\x7fb", "a\0b", "a\rb"] {
        let mut frames = Frames::connect(serin.address());
        let request = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web"), ("x-a", value)];
        frames.headers(1, END_STREAM, &request);
        let end = frames.until(|frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY));
        assert!(end.is_some_and(|frame| frame.kind != HEADERS || frame.has_status(400)), "{value:?}");
    }
    assert_eq!(origin.count(), 0);
    for value in ["a\x01b", "a\x7fb"] {
        let origin = Upstream::reply(move |_| reply(200, &[&format!("x-a: {value}"), "x-b: c"], "body"));
        let serin = Setup::web(&origin.endpoint()).start();
        let answer = serin.get("web", "/");
        assert!(answer.status == 502 || !answer.fields.has("x-a"), "{value:?}: {:?}", answer.field("x-a"));
    }
}

#[test]
fn errors_for_strangers_name_no_addresses() {
    let origin = Upstream::named("web");
    let dead = format!("127.0.0.1:{}", free_port());
    let setup = Setup::web(&origin.endpoint()).cluster("dead", &[&dead]).server("clearContext: true");
    let serin = setup.start();
    let answer = serin.get("dead", "/");
    assert_eq!((answer.status, answer.field("l5d-err").as_deref()), (503, Some("connect-refused")));
    assert!(!answer.text().contains("127.0.0.1") && !answer.text().contains("/#/"), "{}", answer.text());
    let answer = serin.get("nobody", "/");
    assert_eq!((answer.status, answer.field("l5d-err").as_deref()), (404, Some("no-route")));
    assert!(!answer.text().contains("/svc"), "{}", answer.text());
}
