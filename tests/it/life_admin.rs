//! The admin server from outside: every endpoint, who may read it, and what the metrics say of splits and reloads.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use serde_json::{Value, json};

use super::support::http1::{Response, get, request};
use super::support::outside::{both, program, require_module, require_peer, stdout_of};
use super::support::scrape::Scrape;
use super::support::serin::run;
use super::support::{Client, Serin, Setup, Upstream, eventually};

const PAGES: [&str; 11] = [
    "/",
    "/livez",
    "/readyz",
    "/readyz?verbose",
    "/metrics",
    "/admin/metrics/prometheus",
    "/admin/ping",
    "/config.json",
    "/bound-names.json",
    "/delegator.json?namespace=outgoing&path=/svc/web",
    "/api/v1/explain?router=outgoing&path=/svc/web",
];

fn setup() -> Setup {
    Setup::new()
        .cluster("one", &["127.0.0.1:8081"])
        .cluster("two", &["127.0.0.1:8082"])
        .dtab("/srv => /#/clusters ;\n/svc/web => 9 * /srv/one & 1 * /srv/two ;\n/svc/old => /srv/gone | /srv/one ;")
}

/// Sends these bytes' method to the admin server.
fn ask(serin: &Serin, method: &str, target: &str, lines: &[&str], body: &str) -> Response {
    let address = serin.admin_address();
    let mut client = Client::connect(address);
    client.send(request(method, target, &address.to_string(), lines, body));
    client.read(method)
}

fn content_type(response: &Response) -> String {
    response.field("content-type").unwrap_or_default()
}

#[test]
fn every_page_answers() {
    let serin = setup().start();
    for page in PAGES {
        let answer = serin.admin(page);
        assert_eq!(answer.status, 200, "{page}");
        assert!(!answer.body.is_empty(), "{page}");
        let json = page.contains(".json") || page.contains("explain");
        assert_eq!(content_type(&answer).starts_with("application/json"), json, "{page}: {}", content_type(&answer));
        if json {
            answer.json();
        }
        let head = ask(&serin, "HEAD", page, &[], "");
        assert_eq!((head.status, head.body.len()), (200, 0), "HEAD {page}");
    }
    assert_eq!(serin.admin("/admin/ping").text().trim_end(), "pong");
    let list = serin.admin("/").text();
    for page in PAGES {
        let path = page.split('?').next().unwrap();
        assert!(list.contains(path), "`/` lists {path}");
    }
}

#[test]
fn a_page_that_is_not_there_is_404_and_nothing_can_be_written() {
    let serin = setup().start();
    for page in ["/nowhere", "/livez/x", "/admin", "/metrics.json", "/config.jso", "/../config.json", "//livez"] {
        assert_eq!(serin.admin(page).status, 404, "{page}");
    }
    for page in PAGES {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            if method == "POST" && page.starts_with("/delegator.json") {
                continue;
            }
            let answer = ask(&serin, method, page, &[], "");
            // below /api/ the token is asked for before anything else
            if page.starts_with("/api/") {
                assert_eq!(answer.status, 401, "{method} {page}");
                continue;
            }
            assert_eq!(answer.status, 405, "{method} {page}");
            assert!(answer.field("allow").is_some_and(|allow| allow.contains("GET")), "{method} {page}");
        }
    }
    assert!(Scrape::of(&serin).len() > 20, "it still answers");
}

#[test]
fn hosts_of_somebody_else_are_refused() {
    let serin = setup().start();
    let address = serin.admin_address();
    for page in PAGES {
        for host in ["evil.example", "evil.example:9990", "127.0.0.1.evil.example", "localhost.evil.example", ""] {
            let answer = get(address, host, page, &[]);
            assert!((400..500).contains(&answer.status), "{host:?} {page}: {}", answer.status);
            assert!(!answer.text().contains("clusters"), "{page} tells nothing");
        }
    }
    for host in ["localhost", "LOCALHOST:9990", "127.0.0.1", "[::1]:9990", "10.1.2.3:9990"] {
        assert_eq!(get(address, host, "/config.json", &[]).status, 200, "{host}");
    }
    let absolute = "GET http://evil.example/config.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = Client::connect(address);
    client.send(absolute);
    assert!((400..500).contains(&client.read("GET").status), "an absolute target is a host too");
}

#[track_caller]
fn check_format(serin: &Serin, accept: &[&str], openmetrics: bool) {
    for page in ["/metrics", "/admin/metrics/prometheus"] {
        let answer = serin.admin_with(page, accept);
        let kind = if openmetrics { "application/openmetrics-text" } else { "text/plain" };
        assert_eq!(answer.status, 200);
        assert!(content_type(&answer).starts_with(kind), "{accept:?}: {}", content_type(&answer));
        assert_eq!(answer.text().ends_with("# EOF\n"), openmetrics, "{accept:?}");
    }
}

#[test]
fn accept_chooses_the_format_of_metrics() {
    let serin = setup().start();
    check_format(&serin, &[], false);
    check_format(&serin, &["Accept: */*"], false);
    check_format(&serin, &["Accept: text/plain"], false);
    check_format(&serin, &["Accept: text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.2"], false);
    check_format(&serin, &["Accept: application/openmetrics-text; version=1.0.0"], true);
    let prometheus = "Accept: application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;\
                      version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3";
    check_format(&serin, &[prometheus], true);
    check_format(&serin, &["Accept: application/openmetrics-text;q=0, text/plain"], false);
    check_format(&serin, &["Accept: image/png"], false);
    check_format(&serin, &["Accept: ;;q=x,,"], false);
}

/// A proxy that has seen good, bad and unknown requests, with label values that need escapes.
fn used() -> (Serin, Upstream) {
    let origin = Upstream::named("one");
    let serin = Setup::web(&origin.endpoint()).cluster("none", &["127.0.0.1:9"]).start();
    for host in ["web", "none", "unknown", "a\"b", "web"] {
        let _ = serin.get(host, "/");
    }
    (serin, origin)
}

#[test]
fn promtool_finds_nothing_to_say() {
    if !require_peer("promtool") {
        return;
    }
    let (serin, _origin) = used();
    let text = serin.admin("/metrics").text();
    let file = serin.dir.path().join("metrics.txt");
    std::fs::write(&file, text).unwrap();
    let mut promtool = program("promtool");
    promtool.args(["check", "metrics"]).stdin(std::fs::File::open(&file).unwrap());
    let output = promtool.output().unwrap();
    assert!(output.status.success() && both(&output).trim().is_empty(), "{}", both(&output));
}

#[test]
fn a_strict_openmetrics_reader_reads_all() {
    if !require_module("prometheus_client") {
        return;
    }
    let (serin, _origin) = used();
    let text = serin.admin_with("/metrics", &["Accept: application/openmetrics-text"]).text();
    let file = serin.dir.path().join("metrics.txt");
    std::fs::write(&file, text).unwrap();
    let code = "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
                print(len(list(read(open(sys.argv[1]).read()))))";
    let count = stdout_of(program("python3").arg("-c").arg(code).arg(&file));
    assert!(count.trim().parse::<usize>().unwrap() > 15, "{count} families");
}

#[test]
fn every_family_is_there_and_described() {
    let (serin, _origin) = used();
    let text = serin.admin("/metrics").text();
    Scrape::parse(&text);
    // Flagger's names are there for rollouts that go by its clock
    for family in serin_metrics::FAMILIES.iter().filter(|family| !family.name.starts_with("flagger_")) {
        assert!(text.contains(&format!("# TYPE {} ", family.name)), "{}", family.name);
        assert!(text.contains(&format!("# HELP {} ", family.name)), "{}", family.name);
    }
}

#[test]
fn config_json_is_a_file_that_says_the_same() {
    let splits = "splits:\n- path: /svc/web\n  stickiness: {cookie: user}\noverrides:\n\
                  - when: {cookie: {dogfood: \"true\"}, method: [GET], source: [10.0.0.0/8]}\n  dtab: /svc/web => /srv/two\n\
                  service: {totalTimeoutMs: 1234}\nfailover: names";
    let serin = setup().router(splits).top("drain: {delayMs: 5, deadlineMs: 77}").start();
    let shown = serin.admin("/config.json");
    let config = shown.json();
    assert_eq!(config["drain"], json!({"delayMs": 5, "deadlineMs": 77}));
    assert_eq!(config["routers"][0]["service"]["totalTimeoutMs"], 1234);
    let again = Serin::start(&shown.text());
    assert_eq!(again.admin("/config.json").json(), config);
    let file = again.file();
    let output = run(&["validate", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", both(&output));
}

#[test]
fn config_json_shows_the_defaults() {
    let config = setup().start().admin("/config.json").json();
    let router = &config["routers"][0];
    let expected = [
        ("/dstPrefix", json!("/svc")),
        ("/identifier/kind", json!("io.l5d.header.token")),
        ("/identifier/host", json!("normalized")),
        ("/failover", json!("health")),
        ("/onUnhealthy", json!("redistribute")),
        ("/servers/0/exposure", json!("edge")),
        ("/servers/0/maxCallDepth", json!(100)),
        ("/client/protocol", json!("auto")),
        ("/client/loadBalancer/kind", json!("p2c")),
        ("/client/failureAccrual/failures", json!(5)),
        ("/bindingTimeoutMs", json!(10_000)),
        ("/bindingCache/paths", json!(1000)),
        ("/bindingCache/idleTtlSecs", json!(600)),
    ];
    let missing: Vec<_> = expected.iter().filter(|(at, value)| router.pointer(at) != Some(value)).collect();
    assert!(missing.is_empty(), "not filled in: {missing:?}\n{router:#}");
    assert_eq!(config["drain"], json!({"delayMs": 0, "deadlineMs": 30_000}));
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// The explanation tree of a name under the dtab given, without namespace.
fn tree(serin: &Serin, path: &str, dtab: &str) -> Value {
    let answer = serin.admin(&format!("/delegator.json?path={}&dtab={}", percent(path), percent(dtab)));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let posted = json!({"path": path, "dtab": dtab}).to_string();
    let post = ask(serin, "POST", "/delegator.json", &["Content-Type: application/json"], &posted);
    assert_eq!(post.json(), answer.json(), "POST says the same");
    answer.json()
}

#[test]
fn the_delegator_shows_delegates_leaves_and_addresses() {
    let serin = setup().start();
    let leaf = json!({"type": "leaf", "path": "/#/clusters/one/x", "dentry": {"prefix": "/svc", "dst": "/#/clusters"},
        "bound": {"id": "/#/clusters/one", "path": "/x", "addr": {"type": "bound", "meta": {},
            "addrs": [{"ip": "127.0.0.1", "port": 8081, "meta": {}}]}}});
    let expected = json!({"type": "delegate", "path": "/svc/one/x", "delegate": leaf});
    assert_eq!(tree(&serin, "/svc/one/x", "/svc => /#/clusters"), expected);
}

#[test]
fn the_delegator_shows_the_latest_dentry_first() {
    let shown = tree(&setup().start(), "/svc/one", "/svc => /#/clusters ; /svc/one => /#/clusters/two");
    assert_eq!((&shown["type"], &shown["path"]), (&json!("alt"), &json!("/svc/one")));
    assert!(shown.get("dentry").is_none(), "the root has none");
    assert_eq!(shown["alt"][0]["bound"]["id"], "/#/clusters/two");
    assert_eq!(shown["alt"][0]["dentry"], json!({"prefix": "/svc/one", "dst": "/#/clusters/two"}));
    assert_eq!(shown["alt"][1]["bound"]["id"], "/#/clusters/one");
    assert_eq!(shown["alt"].as_array().unwrap().len(), 2);
}

#[test]
fn the_delegator_shows_unions_with_weights_and_every_kind_of_end() {
    let serin = setup().start();
    let shown = tree(&serin, "/a", "/a => 9 * /#/clusters/one & 1 * /#/clusters/nowhere");
    let union = &shown; // a delegate whose child has the same path gives way to the child
    assert_eq!((&union["type"], &union["path"]), (&json!("union"), &json!("/a")));
    assert_eq!(union["union"][0]["weight"], json!(9.0));
    assert_eq!(union["union"][0]["tree"]["type"], "leaf");
    assert_eq!(union["union"][1]["tree"]["type"], "neg", "bad branches are shown too");
    let ends = tree(&serin, "/a", "/a => ! | ~ | $ | /$/fail | /$/nil | /#/unheard/x | /b");
    let kinds: Vec<_> = ends["alt"].as_array().unwrap().iter().map(|one| &one["type"]).collect();
    assert_eq!(kinds, ["fail", "neg", "empty", "fail", "empty", "neg", "neg"], "{ends:#}");
    assert_eq!(ends["alt"][0]["path"], "!");
    assert_eq!(ends["alt"][1]["path"], "~");
}

/// The depth of a hundred is deeper than some readers of JSON go, so this looks at the text.
#[test]
fn the_delegator_shows_an_endless_dtab_as_exception() {
    let dtab = percent("/a => /#/clusters/one | /a/a");
    let answer = setup().start().admin(&format!("/delegator.json?path=/a&dtab={dtab}"));
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let exception = text.find("\"type\":\"exception\"").expect("an exception node");
    assert!(text[exception..].contains("\"message\":\""), "with a message");
}

#[test]
fn the_delegator_uses_the_dtab_of_a_router_and_refuses_nonsense() {
    let serin = setup().start();
    let shown = serin.admin("/delegator.json?namespace=outgoing&path=/svc/web").json();
    assert_eq!(shown["type"], "union", "{shown:#}");
    for (target, status) in [
        ("/delegator.json?path=svc", 400),
        ("/delegator.json?path=/svc&dtab=x", 400),
        ("/delegator.json?namespace=nobody&path=/svc", 404),
    ] {
        assert_eq!(serin.admin(target).status, status, "{target}");
    }
    let json = ["Content-Type: application/json"];
    assert_eq!(ask(&serin, "POST", "/delegator.json", &json, "{bad").status, 400);
    assert_eq!(ask(&serin, "POST", "/delegator.json", &["Content-Type: text/plain"], "x").status, 415);
    assert_eq!(ask(&serin, "PUT", "/delegator.json", &json, "{}").status, 405);
}

#[test]
fn bound_names_follow_clusters_and_folders() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join("disco")).unwrap();
    std::fs::write(dir.path().join("disco/web"), "127.0.0.1 8081\n").unwrap();
    let file = setup().top("namers:\n- {kind: io.l5d.fs, rootDir: disco}").text();
    let serin = Serin::start_in(Arc::clone(&dir), &file);
    let names = |serin: &Serin| -> BTreeSet<String> {
        serde_json::from_value(serin.admin("/bound-names.json").json()).unwrap()
    };
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names(&serin), set(&["/#/clusters/one", "/#/clusters/two", "/#/io.l5d.fs/web"]));
    std::fs::write(dir.path().join("disco/api"), "127.0.0.1 8082\n").unwrap();
    eventually("a new file is a name", || names(&serin).contains("/#/io.l5d.fs/api"));
    std::fs::remove_file(dir.path().join("disco/web")).unwrap();
    eventually("a removed file is none", || !names(&serin).contains("/#/io.l5d.fs/web"));
}

fn weight(serin: &Serin, branch: &str) -> Option<f64> {
    let scrape = Scrape::of(serin);
    let of_branch = |one: &&super::support::scrape::Series| one.labels["branch"].ends_with(branch);
    let series = scrape.find("serin_split_weight", &[("router", "outgoing")]);
    series.into_iter().find(of_branch).map(|one| one.value)
}

#[test]
fn split_weights_are_shares_and_follow_reloads() {
    let serin = setup().start();
    assert_eq!((weight(&serin, "one"), weight(&serin, "two")), (Some(0.9), Some(0.1)));
    serin.rewrite(&setup().text().replace("9 * /srv/one", "1 * /srv/one"));
    eventually("the new weight shows", || (weight(&serin, "one"), weight(&serin, "two")) == (Some(0.5), Some(0.5)));
    serin.rewrite(&setup().text().replace("9 * /srv/one & 1 * /srv/two", "/srv/one"));
    eventually("a split that is gone is gone", || weight(&serin, "two").is_none());
}

#[test]
fn reloads_are_counted_by_outcome() {
    let serin = setup().start();
    let value = |name: &str, labels: &[(&str, &str)]| Scrape::of(&serin).sum(name, labels);
    let outcome = |outcome: &str| value("serin_config_reloads_total", &[("outcome", outcome)]);
    let version = value("serin_snapshot_version", &[]);
    let applied_at = value("serin_config_last_reload_timestamp_seconds", &[]);
    assert!(applied_at > 1.7e9 && value("serin_config_last_reload_successful", &[]) == 1.0);
    let applied = outcome("applied");
    serin.rewrite(&(setup().text() + "  failover: names\n"));
    eventually("applied", || outcome("applied") == applied + 1.0);
    assert!(value("serin_snapshot_version", &[]) > version);
    assert!(value("serin_config_last_reload_timestamp_seconds", &[]) >= applied_at);
    serin.rewrite("routers: [");
    eventually("rejected", || outcome("rejected") >= 1.0);
    assert_eq!(outcome("applied"), applied + 1.0);
    assert_eq!(value("serin_config_last_reload_successful", &[]), 0.0);
    // back to what serves: nothing is applied, and the alarm is over
    serin.rewrite(&(setup().text() + "  failover: names\n"));
    eventually("unchanged", || outcome("unchanged") >= 1.0);
    assert_eq!(outcome("applied"), applied + 1.0);
    assert_eq!(value("serin_config_last_reload_successful", &[]), 1.0);
}

/// An address of this host that is not loopback, if there is one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?; // sends nothing
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[test]
fn peers_from_elsewhere_see_health_and_metrics_and_with_the_token_the_rest() {
    let Some(ip) = own_address() else {
        println!("skipped: needs an address that is not loopback");
        return;
    };
    let dir = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("serin.yaml"), setup().text()).unwrap();
    let environment = [("SERIN_ADMIN", "0.0.0.0:0"), ("SERIN_TOKEN", "s3cret")];
    let mut serin = Serin::spawn(dir, &["run", "serin.yaml"], &environment);
    serin.wait_ready();
    let address = SocketAddr::new(ip, serin.admin_address().port());
    let ask = |page: &str, lines: &[&str]| get(address, &address.to_string(), page, lines);
    for page in PAGES {
        let open = ["/livez", "/readyz", "/metrics"].contains(&page);
        if !page.contains('?') || page.starts_with("/delegator") || page.starts_with("/api") {
            let status = ask(page, &[]).status;
            assert_eq!(status == 200, open || page == "/admin/metrics/prometheus" && status == 200, "{page}: {status}");
            assert!((400..500).contains(&status) || status == 200, "{page}: {status}");
        }
        assert_eq!(ask(page, &["Authorization: Bearer s3cret"]).status, 200, "{page} with the token");
    }
    assert_ne!(ask("/config.json", &["Authorization: Bearer s3cre"]).status, 200);
    assert_ne!(ask("/config.json", &["Authorization: Bearer "]).status, 200);
    assert_ne!(ask("/config.json", &["Authorization: Basic s3cret"]).status, 200);
}
