//! Every kind of identifier, over HTTP/1.1 and HTTP/2: where a request goes, and with which path.

use http::Response;

use super::support::h2peer::{Answer, H2Upstream, exchange, get as h2_get, grpc};
use super::support::http1;
use super::support::serin::run;
use super::support::{Client, Serin, Setup, Upstream};

/// Origins `a` and `b`, and a router with these identifiers.
struct Stand {
    serin: Serin,
    _origins: [Upstream; 2],
}

fn stand(identifier: &str, dtab: &str) -> Stand {
    let origins = [Upstream::named("a"), Upstream::named("b")];
    let setup = Setup::new().cluster("a", &[&origins[0].endpoint()]).cluster("b", &[&origins[1].endpoint()]);
    let serin = setup.dtab(dtab).router(&format!("identifier: {identifier}")).start();
    Stand { serin, _origins: origins }
}

fn over_h2(stand: &Stand, host: &str, target: &str, fields: &[&str]) -> Answer {
    let mut request = h2_get(host, target);
    for line in fields {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    exchange(stand.serin.address(), request.body(()).unwrap(), None).unwrap()
}

/// The sentence of `l5d-err` without its details.
fn plain(text: &str) -> String {
    text.split(['%', ':']).next().unwrap_or_default().replace('+', " ")
}

/// Where it went and with which target; for an answer of Serin's own its status and label.
fn place(status: u16, label: Option<String>, body: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(seen) => format!("{} {}", seen["name"].as_str().unwrap(), seen["target"].as_str().unwrap()),
        Err(_) => format!("{status} {}", label.unwrap_or_default()),
    }
}

/// The same over both versions.
#[track_caller]
fn check(stand: &Stand, host: &str, target: &str, fields: &[&str], expected: &str) {
    let answer = Client::connect(stand.serin.address()).get(host, target, fields);
    let label = answer.field("l5d-err").map(|text| plain(&text));
    assert_eq!(place(answer.status, label, &answer.body), expected, "HTTP/1.1 {host}{target} {fields:?}");
    let answer = over_h2(stand, host, target, fields);
    let label = answer.header("l5d-err").map(|text| plain(&text));
    assert_eq!(place(answer.status, label, &answer.body), expected, "HTTP/2 {host}{target} {fields:?}");
}

const NOBODY: &str = "400 the request names no service";

#[test]
fn a_header_may_hold_a_path() {
    let stand = stand("{kind: io.l5d.header}", "/svc/x => /#/clusters");
    check(&stand, "w", "/t?q=1", &["l5d-name: /x/a"], "a /t?q=1");
    check(&stand, "w", "/t", &["l5d-name: /x/b"], "b /t");
    check(&stand, "w", "/t", &["l5d-name: x/b"], NOBODY);
    check(&stand, "w", "/t", &[], NOBODY);
}

#[test]
fn a_name_in_a_header_of_a_stranger_is_not_obeyed() {
    let origin = Upstream::named("a");
    let setup = Setup::new().cluster("a", &[&origin.endpoint()]).router("identifier: {kind: io.l5d.header}");
    let serin = setup.server("clearContext: true").start();
    let answer = serin.get_with("w", "/", &["l5d-name: /a"]);
    assert_eq!((answer.status, answer.field("l5d-err").as_deref()), (400, Some("unidentified")));
    assert_eq!(origin.count(), 0);
}

#[test]
fn segments_of_the_path_name_a_service() {
    let stand = stand("{kind: io.l5d.path, segments: 2}", "/svc/team => /#/clusters");
    check(&stand, "w", "/team/a/b?x=%2f", &[], "a /team/a/b?x=%2f");
    check(&stand, "w", "/team", &[], NOBODY);
    check(&stand, "w", "//a", &[], NOBODY);
    check(&stand, "w", "/team/c", &[], "404 no route for this name");
}

#[test]
fn consumed_segments_are_taken_from_what_is_sent() {
    let stand = stand("{kind: io.l5d.path, consume: true}", "/svc => /#/clusters");
    check(&stand, "w", "/a/b%2Fc//d/?q=1", &[], "a /b%2Fc//d/?q=1");
    check(&stand, "w", "/a/?q", &[], "a /?q");
    check(&stand, "w", "/b", &[], "b /");
    let origin = Upstream::named("a");
    let setup = Setup::new().cluster("a", &[&origin.endpoint()]);
    let serin = setup.router("identifier: {kind: io.l5d.path, consume: true}").start();
    let answer = Client::connect(serin.address()).get("w", "http://other.test:81/a/rest", &[]);
    assert_eq!(answer.status, 200);
    let seen = origin.only();
    assert_eq!((seen.target.as_str(), seen.field("host").as_deref()), ("/rest", Some("other.test:81")));
}

#[test]
fn method_and_host_are_elements() {
    let stand =
        stand("{kind: io.l5d.methodAndHost}", "/svc/1.1/*/web => /#/clusters/a ; /svc/1.1/GET/v2 => /#/clusters/b");
    check(&stand, "Web:80", "/x", &[], "a /x");
    check(&stand, "v2", "/x", &[], "b /x");
    let with_path = self::stand("{kind: io.l5d.methodAndHost, httpUriInDst: true}", "/svc/1.1/GET/web => /#/clusters");
    check(&with_path, "web", "/a", &[], "a /a");
    check(&with_path, "web", "/b?q=1", &[], "b /b?q=1");
    check(&with_path, "web", "/b/", &[], NOBODY);
}

#[test]
fn a_request_of_http_1_0_needs_no_host_where_its_name_needs_none() {
    let origin = Upstream::named("a");
    let setup = Setup::new().cluster("a", &[&origin.endpoint()]).dtab("/svc/1.0/GET => /#/clusters/a");
    let serin = setup.router("identifier: {kind: io.l5d.methodAndHost}").start();
    let answer = http1::exchange(serin.address(), "GET /x HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(answer.status, 200);
    let seen = origin.only();
    assert_eq!((seen.target.as_str(), seen.field("host").as_deref()), ("/x", Some("")));
    assert_eq!(seen.field("x-forwarded-host"), None);
}

#[test]
fn a_request_without_host_has_no_authority_over_http_2() {
    let origin = H2Upstream::start(|mut exchange| async move {
        let (uri, host) = (exchange.request.uri(), exchange.request.headers().get("host"));
        let said = format!("{} {:?} {host:?}", uri.path(), uri.authority());
        exchange.reply(Response::builder(), said);
    });
    let setup = Setup::new().cluster("a", &[&origin.endpoint()]).dtab("/svc/1.0/GET => /#/clusters/a");
    let serin = setup.router("identifier: {kind: io.l5d.methodAndHost}").router("client: {protocol: h2}").start();
    let answer = http1::exchange(serin.address(), "GET /x HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((answer.status, &*answer.text()), (200, "/x None None"));
}

#[test]
fn a_static_name_is_everybodys() {
    let stand = stand("{kind: io.l5d.static, path: /all}", "/svc/all => /#/clusters/b");
    check(&stand, "anything", "/x", &[], "b /x");
}

#[test]
fn the_path_of_a_call_names_its_service() {
    let stand =
        stand("{kind: io.l5d.header.path, segments: 1}", "/svc/shop.Cart => /#/clusters/a ; /svc/x => /#/clusters/b");
    check(&stand, "w", "/shop.Cart/Add", &[], "a /shop.Cart/Add");
    check(&stand, "w", "/x/?q=1", &[], "b /x/?q=1");
    check(&stand, "w", "/", &[], NOBODY);
}

#[test]
fn a_call_without_name_is_unimplemented() {
    let stand = stand("{kind: io.l5d.header.path, segments: 3}", "/svc => /#/clusters");
    let answer =
        exchange(stand.serin.address(), grpc("w", "/shop.Cart/Add").body(()).unwrap(), Some(bytes::Bytes::new()))
            .unwrap();
    assert_eq!((answer.status, answer.grpc_status(), answer.reset), (200, Some(12), None));
}

#[test]
fn the_first_of_a_list_that_finds_a_name_wins() {
    let list = "[{kind: io.l5d.header.token, header: x-service}, {kind: io.l5d.path}, {kind: io.l5d.static, path: /b}]";
    let stand = stand(list, "/svc => /#/clusters");
    check(&stand, "w", "/b", &["x-service: a"], "a /b");
    check(&stand, "w", "/a", &[], "a /a");
    check(&stand, "w", "/", &[], "b /");
}

#[test]
fn an_unnamed_request_leaves_its_connection_open() {
    let stand = stand("{kind: io.l5d.header.token, header: x-service}", "/svc => /#/clusters");
    let mut client = Client::connect(stand.serin.address());
    assert_eq!(client.get("w", "/", &[]).status, 400);
    assert_eq!(client.get("w", "/", &["x-service: a"]).status, 200);
}

#[test]
fn explain_says_what_named_a_request() {
    let file = "clusters: {a: {endpoints: [\"127.0.0.1:1\"]}}\nrouters:\n- servers: [{port: 0}]\n  identifier:\n  - {kind: \
                io.l5d.header.token, header: x-name}\n  - {kind: io.l5d.path, consume: true}\n  dtab: /svc => /#/clusters\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.yaml");
    std::fs::write(&path, file).unwrap();
    let path = path.to_str().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    let story = text(run(&["explain", path, "--uri", "/a/rest?q=1", "-H", "Host: w"]).stdout);
    let told = "  named by identifier 2, io.l5d.path\n  sent on with the path /rest\n";
    assert!(story.contains(told), "{story}");
    let json = run(&["explain", path, "--uri", "/a/rest", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let expected = serde_json::json!({"identifier": 2, "kind": "io.l5d.path", "sendsPath": "/rest"});
    assert_eq!((&json["path"], &json["namedBy"]), (&serde_json::json!("/svc/a"), &expected));
    let nobody = run(&["explain", path, "--uri", "/"]);
    assert!(!nobody.status.success());
    assert!(text(nobody.stderr).contains("the request names no service"));
}

/// `io.l5d.rewrite`: what its pattern does not match is nothing, and what is behind the match is dropped.
#[test]
fn a_namer_of_the_file_makes_names_of_names() {
    let origins = [Upstream::named("a"), Upstream::named("b")];
    let setup = Setup::new().cluster("a", &[&origins[0].endpoint()]).cluster("v1-b", &[&origins[1].endpoint()]);
    let namers = "namers:\n\
                  - {kind: io.l5d.rewrite, prefix: books, pattern: \"/{service}/api\", name: \"/srv/{service}\"}\n\
                  - {kind: io.l5d.rewrite, prefix: /old/books, pattern: \"/{version}:{service}\", name: \"/srv/{version}-{service}\"}";
    let dtab = "/srv => /#/clusters ; /svc => /#/old/books ; /svc => /#/books";
    let setup = setup.top(namers).dtab(dtab).router("failover: names\nidentifier: {kind: io.l5d.path, segments: 2}");
    let stand = Stand { serin: setup.start(), _origins: origins };
    for (target, expected) in [
        ("/a/api", "a /a/api"),
        ("/a/api/more", "a /a/api/more"),
        ("/v1:b/x", "b /v1:b/x"),
        ("/a/other", "404 no route for this name"),
        ("/c/api", "404 no route for this name"),
    ] {
        check(&stand, "w", target, &[], expected);
    }
    let explained = stand.serin.admin("/api/v1/explain?path=/svc/a/api").json();
    assert_eq!(explained["traffic"]["/#/clusters/a"], 1.0, "{explained}");
}
