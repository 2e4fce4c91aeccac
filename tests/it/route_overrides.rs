//! Requests that choose another way: rules of the file, headers of trusted peers, and what travels on.

use std::net::{IpAddr, Ipv4Addr};

use http::Response as HttpResponse;

use super::support::h2peer::{Exchange, H2Upstream, exchange, get as h2_get, grpc, message};
use super::support::http1::request;
use super::support::scrape::Scrape;
use super::support::serin::run;
use super::support::upstream::{Request, reply};
use super::support::{Client, Response, Serin, Setup, Upstream, outside};

/// Two origins; host `web` leads to `a`, and dtabs may lead it to `b` by `/b` or to `c` by `/c`.
struct World {
    a: Upstream,
    b: Upstream,
    c: Upstream,
    setup: Setup,
}

fn world() -> World {
    let (a, b, c) = (Upstream::named("a"), Upstream::named("b"), Upstream::named("c"));
    let setup =
        Setup::new().cluster("a", &[&a.endpoint()]).cluster("b", &[&b.endpoint()]).cluster("c", &[&c.endpoint()]);
    let setup = setup.dtab("/b => /#/clusters/b ; /c => /#/clusters/c ; /svc/web => /#/clusters/a");
    World { a, b, c, setup }
}

impl World {
    fn with_rule(&self, when: &str) -> Serin {
        self.setup.clone().router(&format!("overrides:\n- when: {when}\n  dtab: /svc/web => /b")).start()
    }

    /// The newest request, wherever it came out.
    fn only(&self) -> Request {
        let all: Vec<Request> = [&self.a, &self.b, &self.c].iter().flat_map(|origin| origin.requests()).collect();
        assert_eq!(all.len(), 1, "one request reaches one origin");
        all.into_iter().next().unwrap()
    }

    fn forget(&self) {
        [&self.a, &self.b, &self.c].iter().for_each(|origin| origin.forget());
    }
}

fn place(response: &Response) -> String {
    response.field("x-origin").unwrap_or_else(|| response.status.to_string())
}

/// The dentries of a dtab, without the white space of one printer or another.
fn dentries(dtab: &str) -> Vec<String> {
    let bare = dtab.split(';').map(|dentry| dentry.split_whitespace().collect::<String>());
    bare.filter(|dentry| !dentry.is_empty()).collect()
}

/// `lines` with `method` and `target` must lead to `b` when they match the rule, and to `a` when they do not.
fn check_rule(when: &str, matching: &[(&str, &str, &[&str])], other: &[(&str, &str, &[&str])]) {
    let world = world();
    let serin = world.with_rule(when);
    let mut client = Client::connect(serin.address());
    for (cases, expected) in [(matching, "b"), (other, "a")] {
        for (method, target, lines) in cases {
            client.send(request(method, target, "web", lines, ""));
            assert_eq!(place(&client.read(method)), expected, "HTTP/1.1 {when}: {method} {target} {lines:?}");
            let mut head = h2_get("web", target).method(*method);
            for line in *lines {
                let (name, value) = line.split_once(": ").unwrap();
                head = head.header(name.to_ascii_lowercase(), value);
            }
            let answer = exchange(serin.address(), head.body(()).unwrap(), None).unwrap();
            assert_eq!(
                answer.header("x-origin").as_deref(),
                Some(expected),
                "HTTP/2 {when}: {method} {target} {lines:?}"
            );
        }
    }
}

#[test]
fn a_rule_by_cookie() {
    check_rule(
        "{cookie: {dogfood: \"true\"}}",
        &[
            ("GET", "/", &["Cookie: dogfood=true"]),
            ("GET", "/", &["Cookie: a=b; dogfood=true; c=d"]),
            ("GET", "/", &["Cookie: a=b", "Cookie: dogfood=true"]),
        ],
        &[
            ("GET", "/", &[]),
            ("GET", "/", &["Cookie: dogfood=false"]),
            ("GET", "/", &["Cookie: dogfood=truer"]),
            ("GET", "/", &["Cookie: xdogfood=true"]),
            ("GET", "/", &["Cookie: a=dogfood=true"]),
            ("GET", "/", &["X-Cookie: dogfood=true"]),
        ],
    );
}

#[test]
fn a_rule_by_header() {
    check_rule(
        "{header: {X-Version: \"2\"}}",
        &[("GET", "/", &["x-version: 2"]), ("GET", "/", &["X-VERSION: 2"]), ("POST", "/x", &["x-version: 2"])],
        &[("GET", "/", &[]), ("GET", "/", &["x-version: 22"]), ("GET", "/", &["x-versions: 2"])],
    );
}

#[test]
fn a_rule_by_method() {
    check_rule("{method: PUT}", &[("PUT", "/", &[])], &[("GET", "/", &[]), ("POST", "/", &[])]);
    check_rule("{method: [GET, HEAD]}", &[("GET", "/", &[]), ("HEAD", "/", &[])], &[("DELETE", "/", &[])]);
}

#[test]
fn a_rule_by_path_prefix_ends_at_a_slash() {
    check_rule(
        "{pathPrefix: /v2}",
        &[("GET", "/v2", &[]), ("GET", "/v2/", &[]), ("GET", "/v2/x?y", &[]), ("GET", "/v2?y", &[])],
        &[("GET", "/", &[]), ("GET", "/v20", &[]), ("GET", "/x/v2", &[]), ("GET", "/?p=/v2", &[])],
    );
}

#[test]
fn all_conditions_of_a_rule_must_hold() {
    check_rule(
        "{cookie: {user: ann}, header: {x-a: \"1\", x-b: \"2\"}, method: GET}",
        &[("GET", "/", &["Cookie: user=ann", "x-a: 1", "x-b: 2"])],
        &[
            ("GET", "/", &["Cookie: user=ann", "x-a: 1"]),
            ("GET", "/", &["x-a: 1", "x-b: 2"]),
            ("POST", "/", &["Cookie: user=ann", "x-a: 1", "x-b: 2"]),
        ],
    );
}

#[test]
fn a_rule_by_source() {
    for when in ["{source: 127.0.2.0/24}", "{source: [192.0.2.0/24, 127.0.2.0/24]}"] {
        let world = world();
        let serin = world.with_rule(when);
        for (last, expected) in
            [([127, 0, 2, 1], "b"), ([127, 0, 2, 200], "b"), ([127, 0, 3, 1], "a"), ([127, 0, 0, 1], "a")]
        {
            let mut client = Client::connect_from(IpAddr::V4(Ipv4Addr::from(last)), serin.address());
            assert_eq!(place(&client.get("web", "/", &["X-Forwarded-For: 127.0.2.1"])), expected, "{when} {last:?}");
        }
    }
}

#[test]
fn rules_hold_for_untrusted_peers_too_and_the_later_one_wins() {
    let world = world();
    let rules = "overrides:\n- when: {header: {x-b: \"1\"}}\n  dtab: /svc/web => /b\n\
                 - when: {header: {x-c: \"1\"}}\n  dtab: /svc/web => /c";
    let serin = world.setup.clone().server("clearContext: true").router(rules).start();
    for (lines, expected) in [(vec!["x-b: 1"], "b"), (vec!["x-c: 1"], "c"), (vec!["x-c: 1", "x-b: 1"], "c")] {
        assert_eq!(place(&serin.get_with("web", "/", &lines)), expected, "{lines:?}");
    }
}

#[test]
fn a_rule_travels_on_as_context() {
    let world = world();
    let serin = world.with_rule("{cookie: {dogfood: \"true\"}}");
    serin.get_with("web", "/", &["Cookie: dogfood=true"]);
    let seen = world.only();
    assert_eq!(dentries(&seen.field("l5d-ctx-dtab").unwrap()), ["/svc/web=>/b"]);
    world.forget();
    serin.get("web", "/");
    assert_eq!(world.only().fields.starting_with("l5d-ctx-dtab"), Vec::<String>::new(), "nothing added, nothing sent");
}

#[test]
fn more_overrides_than_are_remembered_still_hold() {
    let world = world();
    let serin = world.setup.start();
    let mut client = Client::connect(serin.address());
    for round in 0..2 {
        for number in 0..300 {
            let (target, expected) = if number % 2 == 0 { ("/b", "b") } else { ("/c", "c") };
            let line = format!("l5d-dtab: /n{number} => {target} ; /svc/web => /n{number}");
            assert_eq!(place(&client.get("web", "/", &[&line])), expected, "round {round}, override {number}");
        }
    }
    assert_eq!(place(&client.get("web", "/", &[])), "a");
}

#[test]
fn a_later_source_of_dentries_wins() {
    let world = world();
    let serin = world.with_rule("{header: {x-b: \"1\"}}");
    let cases: [(&[&str], &str); 6] = [
        (&["l5d-ctx-dtab: /svc/web => /c"], "c"),
        (&["l5d-dtab: /svc/web => /c"], "c"),
        (&["x-b: 1", "l5d-ctx-dtab: /svc/web => /c"], "c"),
        (&["x-b: 1", "l5d-dtab: /svc/web => /c"], "c"),
        (&["l5d-dtab: /svc/web => /b", "l5d-ctx-dtab: /svc/web => /c"], "b"),
        (&["l5d-dtab: /svc/web => /b", "l5d-dtab: /svc/web => /c"], "c"),
    ];
    for (lines, expected) in cases {
        assert_eq!(place(&serin.get_with("web", "/", lines)), expected, "{lines:?}");
    }
    let answer = serin.get_with("new", "/", &["L5D-Dtab: /svc/new => /fresh ; /fresh => /c"]);
    assert_eq!(place(&answer), "c", "an override can add names");
    assert_eq!(
        place(&serin.get_with("web", "/", &["l5d-dtab: /svc/web => /nowhere"])),
        "a",
        "and fall back to the file"
    );
    assert_eq!(serin.get_with("web", "/", &["l5d-dtab: /svc/web => !"]).status, 404);
}

#[test]
fn what_was_added_travels_on_in_order_and_l5d_dtab_ends_here() {
    let world = world();
    let serin = world.with_rule("{header: {x-b: \"1\"}}");
    let lines = [
        "l5d-dtab: /d=>/4; /e=>/5",
        "x-b: 1",
        "l5d-ctx-dtab: /c => /2",
        "l5d-ctx-dtab: /c => /3 ;",
        "l5d-dtab: /f => 0.333 * /6 & /7",
    ];
    serin.get_with("web", "/", &lines);
    let seen = world.only();
    let passed = dentries(&seen.field("l5d-ctx-dtab").unwrap());
    assert_eq!(passed[..5], ["/svc/web=>/b", "/c=>/2", "/c=>/3", "/d=>/4", "/e=>/5"]);
    assert!(passed[5].starts_with("/f=>0.333*/6&"), "weights are not rounded: {}", passed[5]);
    assert!(!seen.fields.has("l5d-dtab"));
}

/// Reads a request and answers it in a way that a plain client and a gRPC client both understand.
async fn answer_h2(mut stream: Exchange) {
    let _ = stream.read().await;
    if stream.request.headers().contains_key("te") {
        stream.grpc(&["done"], 0);
    } else {
        stream.reply(HttpResponse::builder().header("x-origin", "h2"), "");
    }
}

#[test]
fn what_was_added_travels_on_over_http2() {
    let origin = H2Upstream::start(answer_h2);
    let serin = Setup::web(&origin.endpoint()).router("client: {protocol: h2}").start();
    let lines = ["l5d-ctx-dtab: /c => /2", "l5d-dtab: /d => /3"];
    assert_eq!(place(&serin.get_with("web", "/", &lines)), "h2");
    check_passed_on(&origin, "HTTP/1.1 to HTTP/2");
    let request =
        h2_get("web", "/").header("l5d-ctx-dtab", "/c => /2").header("l5d-dtab", "/d => /3").body(()).unwrap();
    assert_eq!(exchange(serin.address(), request, None).unwrap().status, 200);
    check_passed_on(&origin, "HTTP/2 to HTTP/2");
}

#[test]
fn what_was_added_travels_on_with_grpc() {
    let (first, second) = (H2Upstream::start(answer_h2), H2Upstream::start(answer_h2));
    let setup = Setup::new().cluster("first", &[&first.endpoint()]).cluster("second", &[&second.endpoint()]);
    let serin = setup.dtab("/svc/web => /#/clusters/first").start();
    let call = grpc("web", "/pkg.Service/Method").header("l5d-ctx-dtab", "/c => /2");
    let call = call.header("l5d-dtab", "/d => /3").body(()).unwrap();
    assert_eq!(exchange(serin.address(), call, Some(message("x"))).unwrap().grpc_status(), Some(0));
    check_passed_on(&first, "gRPC");
    let call =
        grpc("web", "/pkg.Service/Method").header("l5d-dtab", "/svc/web => /#/clusters/second").body(()).unwrap();
    assert_eq!(exchange(serin.address(), call, Some(message("x"))).unwrap().grpc_status(), Some(0));
    assert_eq!((first.count(), second.count()), (1, 1));
}

fn check_passed_on(origin: &H2Upstream, what: &str) {
    assert_eq!(dentries(&origin.last_header("l5d-ctx-dtab").expect(what)), ["/c=>/2", "/d=>/3"], "{what}");
    assert_eq!(origin.last_header("l5d-dtab"), None, "{what}");
}

#[test]
fn an_override_reaches_the_next_proxy() {
    let world = world();
    let inner = world.setup.clone().server("exposure: mesh, clearContext: false").start();
    let outer = Setup::web(&inner.address().to_string()).server("exposure: mesh").start();
    assert_eq!(place(&outer.get("web", "/")), "a");
    assert_eq!(place(&outer.get_with("web", "/", &["l5d-dtab: /svc/web => /b"])), "b");
    let call = h2_get("web", "/").header("l5d-dtab", "/svc/web => /b").body(()).unwrap();
    assert_eq!(exchange(outer.address(), call, None).unwrap().header("x-origin").as_deref(), Some("b"));
}

#[test]
fn curl_sends_an_override() {
    if !outside::require_peer("curl") {
        return;
    }
    let world = world();
    let serin = world.setup.start();
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let mut curl = outside::program("curl");
        curl.args(["-sS", "--max-time", "10", protocol, "-H", "Host: web", "-H", "l5d-dtab: /svc/web => /b"]);
        let seen: serde_json::Value =
            serde_json::from_str(&outside::stdout_of(curl.arg(format!("http://{}/", serin.address())))).unwrap();
        assert_eq!(seen["name"], "b", "{protocol}");
    }
}

/// Context fields in every spelling: none may have an effect, and none may pass.
const CONTEXT: [&str; 9] = [
    "l5d-dtab: /svc/web => /b",
    "L5D-CTX-DTAB: /svc/web => /b",
    "l5d-ctx-deadline: 1 2",
    "l5d-sample: 1.0",
    "l5d-dst-service: x",
    "L5d-Anything: x",
    "dtab-local: /svc/web => /b",
    "x-dtab-00-a: L3N2Yy93ZWI=",
    "x-dtab-00-b: L2I=",
];

/// These lines with context fields must lead to `a`, and no context field may reach it.
fn check_stripped(world: &World, serin: &Serin, client: &mut Client, front: &[&str]) {
    world.forget();
    let before = Scrape::of(serin).sum("serin_context_headers_stripped_total", &[]);
    let mut lines: Vec<&str> = CONTEXT.to_vec();
    lines.extend(front);
    assert_eq!(place(&client.get("web", "/", &lines)), "a", "{front:?}");
    let seen = world.only();
    for start in ["l5d-ctx-d", "l5d-dtab", "l5d-sample", "l5d-anything", "dtab-local", "x-dtab-"] {
        assert_eq!(seen.fields.starting_with(start), Vec::<String>::new(), "{front:?}");
    }
    assert_ne!(seen.field("l5d-dst-service").as_deref(), Some("x"), "{front:?}");
    let stripped = Scrape::of(serin).sum("serin_context_headers_stripped_total", &[]) - before;
    assert!((stripped - 9.0).abs() < 0.5, "{front:?}: {stripped} of 9 are counted");
}

#[test]
fn clear_context_strips_what_anybody_sends() {
    let world = world();
    let serin = world.setup.clone().server("clearContext: true").start();
    check_stripped(&world, &serin, &mut Client::connect(serin.address()), &[]);
    let call = h2_get("web", "/").header("l5d-dtab", "/svc/web => /b").header("l5d-ctx-dtab", "/svc/web => /b");
    let answer = exchange(serin.address(), call.body(()).unwrap(), None).unwrap();
    assert_eq!(answer.header("x-origin").as_deref(), Some("a"));
}

#[test]
fn a_front_on_the_same_host_is_not_the_user() {
    let world = world();
    let serin = world.setup.start();
    let mut client = Client::connect(serin.address());
    let fronts = [
        "X-Forwarded-For: 192.0.2.1",
        "Via: 1.1 front",
        "Forwarded: for=192.0.2.1",
        "X-Forwarded-Proto: https",
        "x-forwarded-host: web",
        "X-Real-IP: 192.0.2.1",
    ];
    for front in fronts {
        check_stripped(&world, &serin, &mut client, &[front]);
    }
    assert_eq!(place(&client.get("web", "/", &["l5d-dtab: /svc/web => /b"])), "b", "trust is decided for each request");
    for front in [("via", "1.1 front"), ("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")] {
        let call = h2_get("web", "/").header(front.0, front.1).header("l5d-dtab", "/svc/web => /b");
        let answer = exchange(serin.address(), call.body(()).unwrap(), None).unwrap();
        assert_eq!(answer.header("x-origin").as_deref(), Some("a"), "HTTP/2 {front:?}");
    }
}

#[test]
fn a_misspelled_context_field_does_not_pass() {
    let world = world();
    let serin = world.setup.clone().server("clearContext: true").start();
    assert_eq!(place(&serin.get_with("web", "/", &["l5d_dtab: /svc/web => /b", "l5d_ctx_dtab: /svc/web => /b"])), "a");
    assert_eq!(world.only().fields.starting_with("l5d_"), Vec::<String>::new());
}

#[test]
fn context_fields_in_trailers_do_not_pass() {
    let world = world();
    let serin = world.setup.clone().server("clearContext: true").start();
    let mut client = Client::connect(serin.address());
    client.send(
        "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nl5d-dtab: /svc/web => /b\r\n\
         L5d-Ctx-Dtab: /svc/web => /b\r\nx-sum: 7\r\n\r\n",
    );
    assert_eq!(place(&client.read("POST")), "a");
    let seen = world.only();
    assert_eq!(seen.body.trailers.starting_with("l5d-"), Vec::<String>::new());
    assert_eq!(seen.fields.starting_with("l5d-ctx-d"), Vec::<String>::new());
}

#[test]
fn trusted_sources_are_obeyed_and_others_are_not() {
    let world = world();
    let serin = world.setup.clone().server("trustedSources: [127.0.2.0/24, 192.0.2.0/24]").start();
    let from = |last: [u8; 4]| Client::connect_from(IpAddr::V4(Ipv4Addr::from(last)), serin.address());
    assert_eq!(place(&from([127, 0, 2, 9]).get("web", "/", &["l5d-dtab: /svc/web => /b"])), "b");
    let fronted = ["Via: 1.1 linkerd", "X-Real-IP: 203.0.113.9", "l5d-dtab: /svc/web => /b"];
    assert_eq!(place(&from([127, 0, 2, 9]).get("web", "/", &fronted)), "b");
    check_stripped(&world, &serin, &mut from([127, 0, 0, 1]), &["Via: 1.1 serin", "X-Forwarded-For: 127.0.2.9"]);
}

#[test]
fn clear_context_false_trusts_everybody_behind_any_front() {
    let world = world();
    let serin = world.setup.clone().server("clearContext: false").start();
    let lines = ["l5d-dtab: /svc/web => /b", "Via: 1.1 front", "X-Forwarded-For: 192.0.2.1"];
    assert_eq!(place(&serin.get_with("web", "/", &lines)), "b");
}

#[test]
fn trusted_sources_beside_clear_context_are_refused() {
    let world = world();
    let text = world.setup.clone().server("trustedSources: [127.0.0.0/8], clearContext: true").text();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    std::fs::write(&file, text).unwrap();
    let output = run(&["validate", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", outside::both(&output));
    assert!(outside::both(&output).contains("trustedSources"), "{}", outside::both(&output));
}

#[test]
fn a_bad_dtab_header_is_refused_only_where_it_counts() {
    let world = world();
    let serin = world.setup.start();
    for line in [
        "l5d-dtab: nonsense",
        "l5d-ctx-dtab: /svc/web =>",
        "l5d-dtab: /svc => /b ; ! => /c",
        "l5d-dtab: /svc/web => /\\xzz",
    ] {
        let answer = serin.get_with("web", "/", &[line]);
        assert_eq!(answer.status, 400, "{line}");
        assert!(answer.field("l5d-err").is_some(), "{line}");
        assert_eq!(
            place(&serin.get_with("web", "/", &[line, "Via: 1.1 front"])),
            "a",
            "junk of strangers is no error: {line}"
        );
    }
    assert_eq!(world.a.count(), 4);
}

#[test]
fn dtab_headers_have_limits() {
    let world = world();
    let serin = world.setup.start();
    let dentries = |count: usize| format!("l5d-dtab: {}/svc/web => /b", "/x=>/y;".repeat(count - 1));
    let octets = |count: usize| {
        let value = format!("/svc/web => /b ; /x => /{}", "y".repeat(4000));
        let rest = count - value.len();
        (format!("l5d-dtab: {value}"), format!("l5d-ctx-dtab: /x => /{}", "y".repeat(rest - "/x => /".len())))
    };
    assert_eq!(place(&serin.get_with("web", "/", &[&dentries(100)])), "b");
    assert_eq!(serin.get_with("web", "/", &[&dentries(101)]).status, 400);
    let (within, beyond) = (octets(8192), octets(8193));
    assert_eq!(place(&serin.get_with("web", "/", &[&within.0, &within.1])), "b");
    assert_eq!(serin.get_with("web", "/", &[&beyond.0, &beyond.1]).status, 400);
}

#[test]
fn answers_to_strangers_carry_no_internal_fields() {
    let lines = ["l5d-err: secret", "L5D-Success-Class: 1.0", "l5d-retryable: true", "l5d-any: x", "x-kept: 1"];
    let origin = Upstream::reply(move |_| reply(200, &lines, "ok"));
    for (server, kept) in [("clearContext: true", false), ("clearContext: false", true)] {
        let serin = Setup::web(&origin.endpoint()).server(server).start();
        let one = serin.get("web", "/");
        let body = if kept { "ok" } else { "" };
        assert_eq!((one.text().as_str(), one.field("x-kept").as_deref()), (body, Some("1")), "{server}");
        let two = exchange(serin.address(), h2_get("web", "/").body(()).unwrap(), None).unwrap();
        for name in ["l5d-err", "l5d-success-class", "l5d-retryable", "l5d-any"] {
            assert_eq!(one.fields.has(name), kept, "HTTP/1.1, {server}: {name}");
            assert_eq!(two.headers.contains_key(name), kept, "HTTP/2, {server}: {name}");
        }
    }
    let serin = Setup::web(&origin.endpoint()).start();
    assert!(serin.get("web", "/").fields.has("l5d-any"), "loopback is trusted");
    assert!(
        !serin.get_with("web", "/", &["Via: 1.1 front"]).fields.has("l5d-any"),
        "what stands behind a front is not"
    );
}

#[test]
fn grpc_answers_to_strangers_carry_no_internal_fields() {
    let origin = H2Upstream::start(|mut stream: Exchange| async move {
        let _ = stream.read().await;
        let head = HttpResponse::builder().header("content-type", "application/grpc").header("l5d-any", "x");
        let mut send = stream.respond.send_response(head.body(()).unwrap(), false).unwrap();
        let _ = send.send_data(message("x"), false);
        let mut trailers = super::support::h2peer::status_trailers(0);
        trailers.insert("l5d-end", http::HeaderValue::from_static("x"));
        let _ = send.send_trailers(trailers);
    });
    let serin = Setup::web(&origin.endpoint()).server("clearContext: true").start();
    let call = grpc("web", "/pkg.Service/Method").body(()).unwrap();
    let answer = exchange(serin.address(), call, Some(message("x"))).unwrap();
    assert_eq!(answer.grpc_status(), Some(0));
    assert!(!answer.headers.contains_key("l5d-any"));
    assert!(!answer.trailers.unwrap().contains_key("l5d-end"), "trailers are fields too");
}
