//! A request through two proxies: what the first knows of it, the second believes where somebody said so; and back.

use http::HeaderMap;

use super::support::h2peer::{Exchange, H2Upstream, exchange, get as h2_get, grpc, message};
use super::support::upstream::reply;
use super::support::{Serin, Setup, Upstream};

/// Origins `a` and `b` behind two proxies: the outer sends all to the inner, the inner to `a`.
struct World {
    a: Upstream,
    b: Upstream,
    inner: Serin,
    outer: Serin,
}

const SPAN_1_OF_3: &str = "AAAAAAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAY=";
const CONTEXT: [(&str, &str); 3] =
    [("l5d-dtab", "/svc/web => /#/clusters/b"), ("l5d-ctx-trace", SPAN_1_OF_3), ("l5d-ctx-deadline", "5 9")];

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http2,
}

impl World {
    /// `inner`: keys of the server of the second proxy. The first has what is the default.
    fn new(inner: &str) -> World {
        let (a, b) = (Upstream::reply(|_| reply(200, &["x-origin: a"], "ok")), Upstream::named("b"));
        let setup = Setup::new().cluster("a", &[&a.endpoint()]).cluster("b", &[&b.endpoint()]).cluster("none", &[]);
        let setup = setup.dtab("/svc => /#/clusters ; /svc/web => /#/clusters/a").server(inner);
        let inner = setup.start();
        let next = inner.address().to_string();
        let outer = Setup::new().cluster("next", &[&next]).dtab("/svc => /#/clusters/next").start();
        World { a, b, inner, outer }
    }

    /// The answer's fields, its status first.
    fn send(&self, protocol: Protocol, host: &str, lines: &[(&str, &str)]) -> (u16, HeaderMap) {
        match protocol {
            Protocol::Http1 => {
                let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                let answer = self.outer.get_with(host, "/", &lines);
                let fields = answer.fields.0.iter().map(|(name, value)| {
                    (name.parse::<http::HeaderName>().unwrap(), http::HeaderValue::from_bytes(value).unwrap())
                });
                (answer.status, fields.collect())
            }
            Protocol::Http2 => {
                let call = lines.iter().fold(h2_get(host, "/"), |call, (name, value)| call.header(*name, *value));
                let answer = exchange(self.outer.address(), call.body(()).unwrap(), None).unwrap();
                (answer.status, answer.headers)
            }
        }
    }
}

fn said<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    fields.get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn context_holds_from_proxy_to_proxy_where_their_network_is_trusted() {
    let world = World::new("exposure: mesh, trustedSources: [127.0.0.0/8]");
    for protocol in [Protocol::Http1, Protocol::Http2] {
        world.b.forget();
        assert_eq!(world.send(protocol, "web", &CONTEXT).0, 200, "{protocol:?}");
        let seen = world.b.only().fields;
        assert_eq!(seen.get("l5d-ctx-dtab").as_deref(), Some("/svc/web=>/#/clusters/b"), "{protocol:?}");
        assert_eq!(seen.get("l5d-reqid").as_deref(), Some("0000000000000003"), "{protocol:?}");
        assert_eq!(seen.get("l5d-ctx-deadline").as_deref(), Some("5 9"), "{protocol:?}");
        assert_eq!(seen.get("via").unwrap().split(',').count(), 2, "through two proxies: {seen:?}");
    }
    assert!(!world.inner.log().contains("removed l5d context fields"), "{}", world.inner.log());
}

#[test]
fn nothing_is_believed_of_a_proxy_that_nobody_named() {
    for inner in ["exposure: mesh, trustedSources: [192.0.2.0/24]", "exposure: mesh", "clearContext: true"] {
        let world = World::new(inner);
        for protocol in [Protocol::Http1, Protocol::Http2] {
            world.a.forget();
            let (status, fields) = world.send(protocol, "web", &CONTEXT);
            assert_eq!((status, said(&fields, "x-origin")), (200, Some("a")), "{inner} {protocol:?}");
            let seen = world.a.only().fields;
            assert_eq!(seen.get("l5d-ctx-dtab"), None, "{inner} {protocol:?}");
            assert_ne!(seen.get("l5d-reqid").as_deref(), Some("0000000000000003"), "{inner} {protocol:?}");
            assert_eq!(seen.get("l5d-ctx-deadline"), None, "{inner} {protocol:?}");
        }
        assert!(world.inner.log().contains("trustedSources"), "it says which key: {}", world.inner.log());
    }
}

/// A stranger is stripped by the first proxy; what the second believes is the first's own.
#[test]
fn what_a_stranger_says_does_not_come_through_a_trusted_proxy() {
    let world = World::new("exposure: mesh, trustedSources: [127.0.0.0/8]");
    let lines: Vec<_> = CONTEXT.into_iter().chain([("x-forwarded-for", "192.0.2.7")]).collect();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        world.a.forget();
        let (status, fields) = world.send(protocol, "web", &lines);
        assert_eq!((status, said(&fields, "x-origin")), (200, Some("a")), "{protocol:?}");
        let seen = world.a.only().fields;
        assert_eq!((seen.get("l5d-ctx-dtab"), seen.get("l5d-ctx-deadline")), (None, None), "{protocol:?}");
    }
}

#[test]
fn the_second_proxy_tells_the_first_why() {
    let refused = |inner: &str, protocol| {
        let (status, fields) = World::new(inner).send(protocol, "none", &[]);
        assert_eq!(status, 503, "{inner}");
        let told = |name| said(&fields, name).map(str::to_owned);
        (told("l5d-retryable"), told("l5d-err").unwrap())
    };
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (retryable, why) = refused("exposure: mesh, trustedSources: [127.0.0.0/8]", protocol);
        assert_eq!(retryable.as_deref(), Some("true"), "{protocol:?}");
        assert!(why.contains("none"), "the sentence with details: {why}");
        let (retryable, why) = refused("exposure: mesh, trustedSources: [192.0.2.0/24]", protocol);
        assert_eq!((retryable, why.contains("none")), (None, false), "only a label: {why}");
    }
}

#[test]
fn the_class_of_an_answer_reaches_a_proxy_that_is_trusted() {
    for (inner, told) in [("trustedSources: [127.0.0.0/8]", true), ("trustedSources: [192.0.2.0/24]", false)] {
        let rpc = H2Upstream::start(|mut stream: Exchange| async move {
            let _ = stream.read().await;
            stream.grpc(&["a"], 14);
        });
        let web = Upstream::reply(|_| reply(500, &[], "ok"));
        let setup = Setup::new().cluster("rpc", &[&rpc.endpoint()]).cluster("web", &[&web.endpoint()]);
        let serin = setup.server(inner).start();
        // as a proxy in front asks
        let via = ["Via: 1.1 serin"];
        let expected = told.then_some("0.0");
        assert_eq!(serin.get_with("web", "/", &via).field("l5d-success-class").as_deref(), expected, "{inner}");
        let call = h2_get("web", "/").header("via", "1.1 serin").body(()).unwrap();
        let answer = exchange(serin.address(), call, None).unwrap();
        assert_eq!(said(&answer.headers, "l5d-success-class"), expected, "{inner}");
        let call = grpc("rpc", "/pkg.S/M").header("via", "2 serin").body(()).unwrap();
        let answer = exchange(serin.address(), call, Some(message("x"))).unwrap();
        assert_eq!(said(&answer.trailers.unwrap(), "l5d-success-class"), expected, "{inner}");
    }
}

/// Each hop has the same rule, and each hop's `l5d-ctx-dtab` is what the next one hears.
#[test]
fn a_rule_of_every_hop_travels_once() {
    let origin = Upstream::named("b");
    let rule = "overrides:\n- when: {cookie: {dog: 1}}\n  dtab: /svc/web => /#/clusters/b";
    let mut next = origin.endpoint();
    let mut hops = Vec::new();
    for _ in 0..3 {
        let setup = Setup::new().cluster("b", &[&next]).dtab("/svc/web => !");
        let hop = setup.server("exposure: mesh, trustedSources: [127.0.0.0/8]").router(rule).start();
        next = hop.address().to_string();
        hops.push(hop);
    }
    let lines = ["Cookie: dog=1", "l5d-dtab: /x => /y"];
    assert_eq!(hops.last().unwrap().get_with("web", "/", &lines).status, 200);
    let seen = origin.only().fields.get("l5d-ctx-dtab");
    assert_eq!(seen.as_deref(), Some("/svc/web=>/#/clusters/b;/x=>/y"));
}

/// Every octet of an odd label used to be escaped, so what one hop took the next one refused.
#[test]
fn an_override_that_one_hop_takes_the_next_one_takes() {
    let world = World::new("exposure: mesh, trustedSources: [127.0.0.0/8]");
    let long = format!("/svc/x => /y/{}\\x2f ; /svc/web => /#/clusters/b", "a".repeat(4000));
    assert_eq!(world.send(Protocol::Http1, "web", &[("l5d-dtab", &long)]).0, 200);
    assert!(world.b.only().fields.get("l5d-ctx-dtab").unwrap().len() <= 8 * 1024);
}
