//! Rules: which request goes where, with which path, host and headers, and which is sent elsewhere; over HTTP/1.1 and
//! HTTP/2, towards upstreams of both.

use http::Response;
use serde_json::{Value, json};

use super::support::h2peer::{H2Upstream, exchange, get as h2_get};
use super::support::outside::{program, require_peer, stdout_of};
use super::support::serin::run;
use super::support::{Client, Serin, Setup, Upstream, eventually};

/// Origins `a` and `b`, and a router with these rules.
struct Stand {
    serin: Serin,
    origins: [Upstream; 2],
}

fn stand(rules: &str) -> Stand {
    let origins = [Upstream::named("a"), Upstream::named("b")];
    let serin = setup(&origins, rules).start();
    Stand { serin, origins }
}

fn setup(origins: &[Upstream; 2], rules: &str) -> Setup {
    let setup = Setup::new().cluster("a", &[&origins[0].endpoint()]).cluster("b", &[&origins[1].endpoint()]);
    setup.router(&format!("rules:\n{rules}"))
}

/// What came back, whatever the version.
struct Seen {
    status: u16,
    fields: Vec<(String, String)>,
    body: Value,
}

impl Seen {
    fn field(&self, name: &str) -> String {
        let values =
            self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
        values.collect::<Vec<_>>().join("|")
    }

    /// Which origin, and the target it saw; otherwise the status and the place of a redirect.
    fn place(&self) -> String {
        match self.body["name"].as_str() {
            Some(name) => format!("{name} {}", self.body["target"].as_str().unwrap()),
            None => format!("{} {}", self.status, self.field("location")).trim_end().to_owned(),
        }
    }
}

fn ask(stand: &Stand, method: &str, host: &str, target: &str, fields: &[&str]) -> [Seen; 2] {
    let mut client = Client::connect(stand.serin.address());
    let lines: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n"));
    let answer = client.read(method);
    let first = Seen {
        status: answer.status,
        fields: answer
            .fields
            .0
            .iter()
            .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
            .collect(),
        body: serde_json::from_slice(&answer.body).unwrap_or_default(),
    };
    let mut request = h2_get(host, target).method(method);
    for line in fields {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let answer = exchange(stand.serin.address(), request.body(()).unwrap(), None).unwrap();
    let second = Seen {
        status: answer.status,
        fields: answer
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: serde_json::from_slice(&answer.body).unwrap_or_default(),
    };
    [first, second]
}

#[track_caller]
fn check(stand: &Stand, method: &str, host: &str, target: &str, fields: &[&str], expected: &str) {
    for seen in ask(stand, method, host, target, fields) {
        assert_eq!(seen.place(), expected, "{method} {host}{target} {fields:?}");
    }
}

#[test]
fn host_path_method_headers_and_query_choose_a_name() {
    let stand = stand(
        "- {match: {host: shop.test, path: {prefix: /v1}}, name: /svc/a}\n\
         - {match: {host: shop.test, path: {exact: /v1/special}}, name: /svc/b}\n\
         - {match: {host: '*.shop.test', path: {regex: '/[0-9]+'}}, name: /svc/a}\n\
         - {match: {host: shop.test, method: POST}, name: /svc/b}\n\
         - {match: {headers: {x-to: b}}, name: /svc/b}\n\
         - {match: {query: {to: {prefix: a}}}, name: /svc/a}",
    );
    check(&stand, "GET", "Shop.test:80", "/v1/x?q", &[], "a /v1/x?q");
    check(&stand, "GET", "shop.test", "/v1/special", &[], "b /v1/special");
    check(&stand, "GET", "eu.shop.test", "/123", &[], "a /123");
    check(&stand, "GET", "eu.shop.test", "/123x", &[], "404");
    check(&stand, "GET", "shop.test", "/v10", &[], "404");
    check(&stand, "GET", "any.test", "/", &["x-to: b"], "b /");
    check(&stand, "GET", "any.test", "/?x=1&to=any", &[], "a /?x=1&to=any");
    // no rule: the identifier
    check(&stand, "GET", "b", "/x", &[], "b /x");
    let mut client = Client::connect(stand.serin.address());
    client.send("POST /any HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(client.read("POST").field("x-origin").as_deref(), Some("b"));
}

#[test]
fn a_name_of_a_rule_is_bound_by_the_dtab_and_may_be_overridden() {
    let stand = stand("- {match: {host: x.test}, name: /svc/a}");
    check(&stand, "GET", "x.test", "/", &["l5d-dtab: /svc/a => /#/clusters/b"], "b /");
    check(&stand, "GET", "x.test", "/", &[], "a /");
}

#[test]
fn a_name_of_a_rule_reaches_what_the_file_may() {
    let origin = Upstream::named("local");
    let name = format!("/$/inet/127.0.0.1/{}", origin.address.port());
    let rules = format!("rules: [{{match: {{host: x.test}}, name: {name}}}]");
    let serin = Setup::new().router(&rules).router("identifier: {kind: io.l5d.header, header: x-name}").start();
    assert_eq!(serin.get("x.test", "/").status, 200);
    // the same name, made by a request, is closed
    assert_eq!(serin.get_with("other", "/", &[&format!("x-name: {name}")]).status, 404);
    let setup = Setup::new().dtab("/svc => /").router("identifier: {kind: io.l5d.header, header: x-name}");
    assert_eq!(setup.start().get_with("other", "/", &[&format!("x-name: {name}")]).status, 503);
}

#[test]
fn path_and_host_are_rewritten_and_the_query_kept() {
    let stand = stand(
        "- {match: {host: x.test, path: {prefix: /api}}, name: /svc/a, rewrite: {host: 'inner.test:81', path: {prefix: /}}}\n\
         - {match: {host: y.test}, rewrite: {path: /one}}\n\
         - {match: {host: b}, rewrite: {host: c.test}}",
    );
    for seen in ask(&stand, "GET", "X.test:80", "/api/v1%2F/x?q=%41", &[]) {
        assert_eq!(seen.place(), "a /v1%2F/x?q=%41");
        assert_eq!(seen.body["headers"]["host"], json!(["inner.test:81"]));
        assert_eq!(seen.body["headers"]["x-forwarded-host"], json!(["X.test:80"]));
    }
    check(&stand, "GET", "x.test", "/api", &[], "a /");
    check(&stand, "GET", "x.test", "/api//y", &[], "a //y");
    check(&stand, "GET", "y.test", "/any", &[], "404");
    for seen in ask(&stand, "GET", "b", "/x", &[]) {
        assert_eq!((seen.place().as_str(), &seen.body["headers"]["host"]), ("b /x", &json!(["c.test"])));
    }
}

#[test]
fn a_rewritten_request_goes_over_http2_too() {
    let origin = H2Upstream::start(|mut exchange| async move {
        let told = exchange.request.uri().to_string();
        exchange.reply(Response::builder().header("x-saw", told), "");
    });
    let rules = "rules:\n- match: {host: x.test, path: {prefix: /api}}\n  name: /svc/a\n  rewrite: {host: inner.test, path: {prefix: /v2}}";
    let setup = Setup::new().cluster("a", &[&origin.endpoint()]).router(rules);
    let serin = setup.router("client: {protocol: h2}").start();
    let answer = exchange(serin.address(), h2_get("x.test", "/api/y?q=1").body(()).unwrap(), None).unwrap();
    assert_eq!(answer.header("x-saw").as_deref(), Some("http://inner.test/v2/y?q=1"));
    assert_eq!(serin.get("x.test", "/api").field("x-saw").as_deref(), Some("http://inner.test/v2"));
}

#[test]
fn segments_that_name_a_request_are_consumed_unless_the_rule_rewrites() {
    let origins = [Upstream::named("a"), Upstream::named("b")];
    let rules = "- {match: {path: {prefix: /a/x}}, rewrite: {path: {prefix: /y}}}\n- {match: {path: {prefix: /b}}, headers: {request: {set: {x-a: b}}}}";
    let serin = setup(&origins, rules).router("identifier: {kind: io.l5d.path, consume: true}").start();
    let stand = Stand { serin, origins };
    check(&stand, "GET", "w", "/a/x/z", &[], "a /y/z");
    check(&stand, "GET", "w", "/a/w", &[], "a /w");
    for seen in ask(&stand, "GET", "w", "/b/w", &[]) {
        assert_eq!((seen.place().as_str(), &seen.body["headers"]["x-a"]), ("b /w", &json!(["b"])));
    }
}

#[test]
fn headers_of_request_and_answer_are_changed() {
    let stand = stand(
        "- match: {host: a}\n\
        \x20 headers:\n\
        \x20   request: {set: {X-Env: test}, add: {x-more: two}, remove: [cookie, x-gone]}\n\
        \x20   response: {set: {content-type: text/x}, add: {x-origin: again}, remove: x-nothing}",
    );
    let fields = ["x-env: mine", "x-env: yours", "x-more: one", "cookie: a=b", "x-gone: 1", "x-kept: 2"];
    for seen in ask(&stand, "GET", "a", "/", &fields) {
        let headers = &seen.body["headers"];
        assert_eq!((&headers["x-env"], &headers["x-more"]), (&json!(["test"]), &json!(["one", "two"])));
        assert_eq!(
            (&headers["cookie"], &headers["x-gone"], &headers["x-kept"]),
            (&Value::Null, &Value::Null, &json!(["2"]))
        );
        assert_eq!((seen.field("content-type").as_str(), seen.field("x-origin").as_str()), ("text/x", "a|again"));
    }
    for seen in ask(&stand, "GET", "b", "/", &["cookie: a=b"]) {
        assert_eq!((&seen.body["headers"]["cookie"], seen.field("x-origin").as_str()), (&json!(["a=b"]), "b"));
    }
}

#[test]
fn redirects_are_answered_here() {
    let stand = stand(
        "- {match: {host: a}, redirect: {status: 301, scheme: https}}\n\
         - {match: {host: old.test, path: {prefix: /x}}, redirect: {host: new.test, port: 8443, path: {prefix: /y}}, headers: \
         {response: {set: {cache-control: no-cache}}}}",
    );
    check(&stand, "GET", "a", "/p%2F?q=1", &[], "301 https://a/p%2F?q=1");
    check(&stand, "GET", "A:80", "/", &[], "301 https://A/");
    check(&stand, "HEAD", "a", "/", &[], "301 https://a/");
    for seen in ask(&stand, "GET", "old.test", "/x/z?q", &[]) {
        assert_eq!(seen.place(), "302 http://new.test:8443/y/z?q");
        assert_eq!((seen.field("cache-control").as_str(), seen.field("x-origin").as_str()), ("no-cache", ""));
    }
    assert_eq!(stand.origins[0].count(), 0);
    let mut client = Client::connect(stand.serin.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.read("POST").status, 301);
}

#[test]
fn an_absolute_target_is_redirected_by_its_own_host() {
    let stand = stand("- {match: {host: old.test}, redirect: {scheme: https}}");
    let answer = Client::connect(stand.serin.address()).get("other", "http://old.test:80/x", &[]);
    assert_eq!((answer.status, answer.field("location").as_deref()), (302, Some("https://old.test/x")));
}

#[test]
fn a_redirect_that_stays_on_the_host_needs_one() {
    let rules = "- {match: {path: {prefix: /s}}, redirect: {scheme: https}}\n- {match: {path: {prefix: /h}}, redirect: {host: n.test}}";
    let stand = stand(rules);
    let old = |target: &str, lines: &str| {
        let mut client = Client::connect(stand.serin.address());
        client.send(format!("GET {target} HTTP/1.0\r\n{lines}\r\n"));
        let answer = client.read("GET");
        (answer.status, answer.field("location"))
    };
    assert_eq!(old("/s//evil.test/x", ""), (400, None));
    assert_eq!(old("/s//evil.test/x", "Host: o.test\r\n"), (302, Some("https://o.test/s//evil.test/x".into())));
    assert_eq!(old("/h", ""), (302, Some("http://n.test/h".into())));
}

#[test]
fn rules_change_while_requests_run() {
    let stand = stand("- {match: {host: x.test}, name: /svc/a}");
    check(&stand, "GET", "x.test", "/", &[], "a /");
    stand.serin.rewrite(&setup(&stand.origins, "- {match: {host: x.test}, name: /svc/b}").text());
    eventually("the new rule", || stand.serin.get("x.test", "/").field("x-origin").as_deref() == Some("b"));
}

#[test]
fn curl_follows_a_redirect_to_another_service() {
    if !require_peer("curl") {
        return;
    }
    let stand = stand("- {match: {host: old.test}, redirect: {host: b, status: 308}}");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut curl = program("curl");
        let to = format!("::127.0.0.1:{}", stand.serin.address().port());
        curl.args(["-sSL", "--max-time", "10", version, "--connect-to", &to, "http://old.test/path?x=1"]);
        let seen: Value = serde_json::from_str(&stdout_of(&mut curl)).unwrap();
        assert_eq!((seen["name"].as_str(), seen["target"].as_str()), (Some("b"), Some("/path?x=1")), "{version}");
    }
}

#[test]
fn ten_thousand_rules_route() {
    let origins = [Upstream::named("a"), Upstream::named("b")];
    let line = |n: usize| {
        format!("- {{match: {{host: h{n}.test, path: {{prefix: /v{n}}}}}, name: /svc/{}}}\n", ["a", "b"][n % 2])
    };
    let serin = setup(&origins, &(0..10_000).map(line).collect::<String>()).start();
    for (n, place) in [(0, "a"), (4711, "b"), (9_999, "b")] {
        let answer = serin.get(&format!("h{n}.test"), &format!("/v{n}/x"));
        assert_eq!(answer.field("x-origin").as_deref(), Some(place));
        assert_eq!(serin.get(&format!("h{n}.test"), "/other").status, 404);
    }
}

#[test]
fn explain_says_which_rule_a_request_meets() {
    let file = "clusters: {a: {endpoints: [\"127.0.0.1:1\"]}}\nrouters:\n- servers: [{port: 0}]\n  dtab: /svc => /#/clusters\n  \
                rules:\n  - {match: {host: x.test, path: {prefix: /api}}, name: /svc/a, rewrite: {host: y.test, path: {prefix: \
                /}}}\n  - {match: {host: old.test}, redirect: {scheme: https}}\n  - {match: {query: {v: 2}}, headers: \
                {response: {set: {x-v: two}}}}\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.yaml");
    std::fs::write(&path, file).unwrap();
    let explain = |more: &[&str]| {
        let all: Vec<&str> = ["explain", path.to_str().unwrap()].iter().chain(more).copied().collect();
        String::from_utf8(run(&all).stdout).unwrap()
    };
    let story = explain(&["-H", "Host: x.test", "--uri", "/api/v1?q"]);
    assert!(
        story.contains("  rules[1] matches\n  sent on with the path /v1\n  sent on with the host y.test\n"),
        "{story}"
    );
    let json: Value =
        serde_json::from_str(&explain(&["-H", "Host: x.test", "--uri", "/api/v1", "-o", "json"])).unwrap();
    assert_eq!(json["namedBy"], json!({"rule": 1, "sendsPath": "/v1", "sendsHost": "y.test"}));
    assert_eq!(json["path"], json!("/svc/a"));
    let story = explain(&["-H", "Host: old.test", "--uri", "/p"]);
    assert!(story.contains("rules[2] redirects: 302 to https://old.test/p\n"), "{story}");
    let json: Value = serde_json::from_str(&explain(&["-H", "Host: a", "--uri", "/?v=2", "-o", "json"])).unwrap();
    assert_eq!(json["namedBy"], json!({"rule": 3, "identifier": 1, "kind": "io.l5d.header.token"}));
}
