//! `TRACE`: who is told where a request goes, over HTTP/1.1 and HTTP/2.

use http::Request;

use super::support::http1::request;
use super::support::upstream::reply;
use super::support::{Client, Serin, Setup, Upstream, h2peer};

const ASKS: &str = "l5d-add-context: true";
const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

struct Answer {
    status: u16,
    text: String,
    coding: Option<String>,
}

fn send(serin: &Serin, protocol: Protocol, method: &str, lines: &[&str]) -> Answer {
    if protocol == Protocol::Http1 {
        let mut client = Client::connect(serin.address());
        client.send(request(method, "/", "web", lines, ""));
        let answer = client.read(method);
        return Answer { status: answer.status, text: answer.text(), coding: answer.field("content-encoding") };
    }
    let mut head = Request::builder().method(method).uri("http://web/");
    for (name, value) in lines.iter().map(|line| line.split_once(": ").unwrap()) {
        head = head.header(name.to_ascii_lowercase(), value);
    }
    let answer = h2peer::exchange(serin.address(), head.body(()).unwrap(), None).unwrap();
    Answer { status: answer.status, text: answer.text(), coding: answer.header("content-encoding") }
}

/// The line that begins so.
#[track_caller]
fn line<'t>(text: &'t str, start: &str) -> &'t str {
    let found = text.lines().find_map(|line| line.trim_start().strip_prefix(start));
    found.unwrap_or_else(|| panic!("no {start:?} in {text:?}"))
}

#[test]
fn trusted_peers_are_told_where_a_trace_went() {
    for protocol in PROTOCOLS {
        let origin = Upstream::reply(|_| reply(405, &["content-type: text/plain"], "not here"));
        let setup = Setup::web(&origin.endpoint()).dtab("/svc => /host ; /host => /#/clusters");
        let serin = setup.start();
        let answer = send(&serin, protocol, "TRACE", &[ASKS, "Max-Forwards: 7"]);
        assert_eq!(answer.status, 405, "{protocol:?}: {}", answer.text);
        assert!(answer.text.starts_with("not here\n--- Router: outgoing ---\n"), "{protocol:?}: {}", answer.text);
        let took: u64 = line(&answer.text, "request duration: ").strip_suffix(" ms").unwrap().parse().unwrap();
        assert!(took < 10_000, "{took}");
        assert_eq!(line(&answer.text, "service name: "), "/svc/web");
        assert_eq!(line(&answer.text, "client name: "), "/#/clusters/web");
        assert_eq!(line(&answer.text, "addresses: "), format!("[{}]", origin.endpoint()));
        assert_eq!(line(&answer.text, "selected address: "), origin.endpoint());
        assert_eq!(line(&answer.text, "/svc/web "), "(/svc => /host)");
        assert_eq!(line(&answer.text, "/host/web "), "(/host => /#/clusters)");
        let seen = origin.only();
        assert_eq!((&*seen.method, seen.field("max-forwards").as_deref()), ("TRACE", Some("6")), "{protocol:?}");
        assert_eq!(seen.field("l5d-add-context").as_deref(), Some("true"), "passed on");
    }
}

#[test]
fn the_arm_that_was_drawn_is_the_one_that_is_named() {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let setup = Setup::new().cluster("one", &[&one.endpoint()]).cluster("two", &[&two.endpoint()]);
    let serin = setup.dtab("/svc/web => 1 * /#/clusters/one & 1 * /#/clusters/two").start();
    for _ in 0..20 {
        let text = send(&serin, Protocol::Http1, "TRACE", &[ASKS]).text;
        let arm = if text.contains("\"one\"") { ("one", &one) } else { ("two", &two) };
        assert_eq!(line(&text, "client name: "), format!("/#/clusters/{}", arm.0));
        assert_eq!(line(&text, "selected address: "), arm.1.endpoint());
    }
}

#[test]
fn an_override_shows_in_the_resolution() {
    let origin = Upstream::named("other");
    let serin = Setup::new().cluster("other", &[&origin.endpoint()]).start();
    for protocol in PROTOCOLS {
        let lines = [ASKS, "l5d-dtab: /svc/web => /#/clusters/other"];
        let answer = send(&serin, protocol, "TRACE", &lines);
        assert_eq!(line(&answer.text, "client name: "), "/#/clusters/other", "{protocol:?}");
        assert_eq!(line(&answer.text, "/svc/web "), "(/svc/web => /#/clusters/other)", "{protocol:?}");
    }
}

#[test]
fn the_last_hop_answers_itself() {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    for protocol in PROTOCOLS {
        let answer = send(&serin, protocol, "TRACE", &[ASKS, "Max-Forwards: 0"]);
        assert_eq!(answer.status, 200, "{protocol:?}: {}", answer.text);
        assert_eq!(line(&answer.text, "client name: "), "/#/clusters/web", "{protocol:?}");
        assert_eq!(line(&answer.text, "selected address: "), "none", "{protocol:?}");
        assert_eq!(send(&serin, protocol, "OPTIONS", &["Max-Forwards: 0"]).status, 405, "{protocol:?}");
    }
    assert_eq!(origin.count(), 0, "nothing is sent on");
}

#[test]
fn max_forwards_is_a_number_and_one() {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    for protocol in PROTOCOLS {
        for method in ["OPTIONS", "TRACE"] {
            for junk in ["x", "-1", "+1", "1.5", "1, 2", "9223372036854775808"] {
                let answer = send(&serin, protocol, method, &[ASKS, &format!("Max-Forwards: {junk}")]);
                assert_eq!(answer.status, 400, "{protocol:?} {method} {junk}");
            }
            let twice = [ASKS, "Max-Forwards: 1", "Max-Forwards: 2"];
            assert_eq!(send(&serin, protocol, method, &twice).status, 400, "{protocol:?} {method}");
        }
        assert_eq!(origin.count(), 0, "{protocol:?}");
        assert_eq!(send(&serin, protocol, "GET", &["Max-Forwards: x"]).status, 200, "means nothing for GET");
        let most = send(&serin, protocol, "OPTIONS", &["Max-Forwards: 9223372036854775807"]);
        assert_eq!(most.status, 200, "{protocol:?}");
        let left = origin.requests().last().unwrap().field("max-forwards");
        assert_eq!(left.as_deref(), Some("9223372036854775806"), "{protocol:?}");
        origin.forget();
    }
}

#[test]
fn a_body_of_unknown_length_or_in_a_coding_is_replaced() {
    let chunked = |_: &_| {
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\netag: \"a\"\r\n\r\n6\r\nsecret\r\n0\r\n\r\n".to_vec()
    };
    let coded = |_: &_| reply(200, &["content-encoding: gzip"], "secret");
    for origin in [Upstream::reply(chunked), Upstream::reply(coded)] {
        let serin = Setup::web(&origin.endpoint()).start();
        for protocol in PROTOCOLS {
            let answer = send(&serin, protocol, "TRACE", &[ASKS]);
            assert_eq!((answer.status, answer.coding), (200, None), "{protocol:?}");
            assert!(answer.text.starts_with("\n--- Router: outgoing ---\n"), "{protocol:?}: {}", answer.text);
            assert_eq!(line(&answer.text, "selected address: "), origin.endpoint());
        }
    }
}

#[test]
fn nobody_else_is_told() {
    let origin = Upstream::named("web");
    let check = |server: &str, lines: &[&str]| {
        let serin = Setup::web(&origin.endpoint()).server(server).start();
        for protocol in PROTOCOLS {
            let answer = send(&serin, protocol, "TRACE", lines);
            assert_eq!(answer.status, 405, "{protocol:?} {server} {lines:?}: {}", answer.text);
            assert!(!answer.text.contains("clusters"), "{protocol:?}: {}", answer.text);
        }
    };
    check("exposure: edge, clearContext: true", &[ASKS]);
    check("exposure: mesh, clearContext: true", &[ASKS, "Max-Forwards: 0"]);
    check("exposure: edge", &[ASKS, "X-Forwarded-For: 10.0.0.1"]);
    check("exposure: edge", &[ASKS, "Via: 1.1 front"]);
    check("exposure: edge", &[]);
    check("exposure: edge", &["l5d-add-context: false"]);
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_trace_with_a_body_is_malformed() {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    for lines in [&[ASKS][..], &[ASKS, "Max-Forwards: 0"]] {
        let mut client = Client::connect(serin.address());
        client.send(request("TRACE", "/", "web", lines, "body"));
        assert_eq!(client.read("TRACE").status, 400, "{lines:?}");
        let mut client = Client::connect(serin.address());
        let lines: Vec<&str> = lines.iter().copied().chain(["Transfer-Encoding: chunked"]).collect();
        client.send(request("TRACE", "/", "web", &lines, "") + "4\r\nbody\r\n0\r\n\r\n");
        assert_eq!(client.read("TRACE").status, 400, "{lines:?}");
        let head = || Request::builder().method("TRACE").uri("http://web/").header("l5d-add-context", "true");
        let heads = [head(), head().header("max-forwards", "0")];
        for head in heads {
            let body = Some(bytes::Bytes::from_static(b"body"));
            let answer = h2peer::exchange(serin.address(), head.body(()).unwrap(), body).unwrap();
            assert_eq!(answer.status, 400);
        }
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_trace_keeps_to_the_limits_of_every_request() {
    let origin = Upstream::named("web");
    let limits = "limits: {targetBytes: 256, fieldBytes: 512, headBytes: 2048, headFields: 12}";
    let serin = Setup::web(&origin.endpoint()).server(limits).start();
    let long = format!("x-long: {}", "v".repeat(500));
    let longer = format!("x-long: {}", "v".repeat(513));
    let many: Vec<String> = (0..12).map(|at| format!("x-{at}: v")).collect();
    for protocol in PROTOCOLS {
        for last in [&[][..], &["Max-Forwards: 0"]] {
            let with = |lines: &[&str]| {
                let lines: Vec<&str> =
                    [ASKS].into_iter().chain(last.iter().copied()).chain(lines.iter().copied()).collect();
                send(&serin, protocol, "TRACE", &lines).status
            };
            assert_eq!(with(&[&long]), 200, "{protocol:?} {last:?}");
            let before = origin.count();
            assert_eq!(with(&[&longer]), 431, "{protocol:?} {last:?}");
            assert_eq!(with(&many.iter().map(String::as_str).collect::<Vec<_>>()), 431, "{protocol:?} {last:?}");
            assert_eq!(origin.count(), before, "nothing is sent on");
        }
    }
    let target = format!("/{}", "t".repeat(256));
    let mut client = Client::connect(serin.address());
    client.send(request("TRACE", &target, "web", &[ASKS, "Max-Forwards: 0"], ""));
    assert_eq!(client.read("TRACE").status, 414);
}
