//! Tools that people reach for first: curl, h2load, promtool, Prometheus' own client library.

use std::io::Write as _;
use std::process::{Command, Stdio};

use http::Response;
use serde_json::Value;

use crate::support::h2peer::{self, Exchange, H2Upstream};
use crate::support::outside::{Guard, both, program, require_module, require_peer, script, stdout_of};
use crate::support::ports::free_port;
use crate::support::scrape::Scrape;
use crate::support::{Client, Serin, Setup, Upstream, eventually, upstream};

const REQUESTS: u32 = 20_000;
const CLASSES: [&str; 3] = ["success", "failure", "ignored"];

/// curl with this environment and these arguments; its output.
fn curl(environment: &[(&str, &str)], arguments: &[&str]) -> String {
    let mut command = program("curl");
    command.envs(environment.iter().copied());
    stdout_of(command.args(["-sS", "--max-time", "10"]).args(arguments))
}

/// The address of a folder-less origin that costs little: a few bytes, connections kept.
fn small() -> Upstream {
    Upstream::raw(|wire, seen, _| {
        while let Ok(Some(_)) = wire.read_head() {
            seen.add(1);
            if wire.send(upstream::reply(200, &[], "hello\n")).is_err() {
                return;
            }
        }
    })
}

/// Requests by class, all series together.
fn classes(serin: &Serin) -> [f64; 3] {
    let scrape = Scrape::of(serin);
    CLASSES.map(|class| scrape.sum("serin_requests_total", &[("class", class)]))
}

fn check_idle(serin: &Serin) {
    eventually("no connection and no request is left", || {
        let scrape = Scrape::of(serin);
        scrape.sum("serin_connections_active", &[]) == 0.0 && scrape.sum("serin_requests_active", &[]) == 0.0
    });
    eventually("no upstream connection carries a request", || {
        Scrape::of(serin).sum("serin_upstream_connections", &[("state", "active")]) == 0.0
    });
}

// ── curl ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn curl_with_http_proxy_reaches_the_host_it_names() {
    if !require_peer("curl") {
        return;
    }
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    let proxy = serin.address().to_string();
    let body = curl(&[("http_proxy", &proxy)], &["http://WEB:80/a%2Fb?x=1&y=%20", "-H", "X-Mine: yes"]);
    let seen: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&seen["name"], &seen["target"]), (&"web".into(), &"/a%2Fb?x=1&y=%20".into()));
    assert_eq!(seen["headers"]["x-mine"][0], "yes");
    assert!(seen["headers"].get("proxy-connection").is_none(), "it ends at this hop: {seen}");
    let two = curl(&[("http_proxy", &proxy)], &["http://web/1", "http://web/2"]);
    assert!(two.contains("\"/1\"") && two.contains("\"/2\""), "{two}");
    let last: Vec<usize> = origin.requests()[1..].iter().map(|request| request.connection).collect();
    assert!(last.len() == 2 && last[0] == last[1], "one connection on both sides: {last:?}");
    let code = ["-o", "/dev/null", "-w", "%{response_code} %header{l5d-err}", "http://nobody/"];
    let told = curl(&[("http_proxy", &proxy)], &code);
    assert!(told.starts_with("404 ") && told.len() > 4, "{told}");
}

#[test]
fn curl_with_http_proxy_is_refused_a_tunnel() {
    if !require_peer("curl") {
        return;
    }
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    let mut command = program("curl");
    command.args(["-sS", "--max-time", "10", "-p", "-x", &serin.address().to_string(), "http://web/"]);
    command.args(["-o", "/dev/null", "-w", "%{http_connect}"]);
    let output = command.output().unwrap();
    assert!(!output.status.success() && both(&output).contains("405"), "{}", both(&output));
    assert_eq!(origin.count(), 0);
}

#[test]
fn curl_gets_the_same_over_http1_and_http2() {
    if !require_peer("curl") {
        return;
    }
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    let url = format!("http://{}/path?q", serin.address());
    for (flag, version) in [("--http1.0", "1"), ("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        let common = [flag, "-H", "Host: web", "-w", "\n%{http_version} %{response_code}", &url];
        for (arguments, method, length) in [
            (vec![], "GET", 0),
            (vec!["-d", "a=1&b=2"], "POST", 7),
            (vec!["-X", "PATCH", "-H", "Expect: 100-continue", "-d", "body"], "PATCH", 4),
        ] {
            let text = curl(&[], &[&common[..], &arguments[..]].concat());
            let (body, shown) = text.rsplit_once('\n').unwrap();
            let seen: Value = serde_json::from_str(body).unwrap();
            // An answer to HTTP/1.0 may say 1.1: it tells what the server can, not what the message needs.
            let same = shown == format!("{version} 200") || version == "1" && shown == "1.1 200";
            assert!(same, "{flag} {method}: {shown}");
            assert_eq!((&seen["method"], &seen["target"]), (&method.into(), &"/path?q".into()), "{flag}");
            assert_eq!(seen["length"], length, "{flag} {method}");
        }
    }
}

// ── h2load ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// All requests succeed, are counted once each, and leave nothing behind.
fn check_load(arguments: &[&str]) {
    if !require_peer("h2load") {
        return;
    }
    let origin = small();
    // The host that h2load names is the address it connects to.
    let setup = Setup::new().cluster("web", &[&origin.endpoint()]).dtab("/svc/127.0.0.1 => /#/clusters/web");
    let serin = setup.start();
    let mut command = program("h2load");
    command.args(["-n", &REQUESTS.to_string()]).args(arguments);
    let text = stdout_of(command.arg(format!("http://{}/hello", serin.address())));
    let all = format!(
        "requests: {REQUESTS} total, {REQUESTS} started, {REQUESTS} done, {REQUESTS} succeeded, 0 failed, 0 errored"
    );
    assert!(text.contains(&all), "{text}");
    assert!(text.contains(&format!("status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx")), "{text}");
    assert_eq!(origin.seen.counter.load(std::sync::atomic::Ordering::Acquire), u64::from(REQUESTS));

    check_idle(&serin);
    assert_eq!(classes(&serin), [f64::from(REQUESTS), 0.0, 0.0]);
    let scrape = Scrape::of(&serin);
    let labels = [("router", "outgoing"), ("service", "/svc/127.0.0.1"), ("client", "/#/clusters/web"), ("arm", "")];
    assert_eq!(scrape.sum("serin_requests_total", &labels), f64::from(REQUESTS));
    assert_eq!(scrape.sum("serin_request_duration_seconds_count", &labels), f64::from(REQUESTS));
    let last = [&labels[..], &[("le", "+Inf")]].concat();
    assert_eq!(scrape.sum("serin_request_duration_seconds_bucket", &last), f64::from(REQUESTS));
    assert_eq!(scrape.sum("serin_connections_accepted_total", &[]), 16.0);
}

#[test]
fn twenty_thousand_requests_over_http1_all_succeed() {
    check_load(&["--h1", "-c", "16"]);
}

#[test]
fn twenty_thousand_requests_over_http2_all_succeed() {
    check_load(&["-c", "16", "-m", "10"]);
}

// ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A proxy after traffic of every kind that has a family: served, refused, split, overridden, with odd names.
fn busy() -> (Serin, [Upstream; 2]) {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let nobody = format!("127.0.0.1:{}", free_port());
    let setup = Setup::new().cluster("one", &[&one.endpoint()]).cluster("two", &[&two.endpoint()]);
    let setup = setup
        .cluster("down", &[&nobody])
        .cluster("empty", &[])
        .dtab("/svc => /#/clusters ; /svc/split => 3 * /#/clusters/one & 1 * /#/clusters/two & 2 * /#/clusters/empty");
    let serin = setup.start();
    for host in ["one", "two", "down", "empty", "split", "split", "split", "nowhere", "a\"b", "back\\slash"] {
        let mut client = Client::connect(serin.address());
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let _ = client.try_read("GET"); // a host that is none is refused, with or without an answer
    }
    serin.get_with("one", "/", &["l5d-dtab: /svc/one => /#/clusters/two"]);
    serin.get_with("one", "/", &["l5d-dtab: /svc/one => ="]);
    (serin, [one, two])
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics_after_traffic() {
    if !require_peer("promtool") {
        return;
    }
    let (serin, _origins) = busy();
    for (target, accept) in [("/metrics", "*/*"), ("/admin/metrics/prometheus", "text/plain;version=0.0.4")] {
        let response = serin.admin_with(target, &[&format!("Accept: {accept}")]);
        assert_eq!(response.status, 200);
        let kind = response.field("content-type").expect("a content type");
        assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
        let output = fed(program("promtool").args(["check", "metrics"]), &response.body);
        assert!(output.status.success() && both(&output).is_empty(), "{target}: {}", both(&output));
        let scrape = Scrape::parse(&response.text());
        assert!(scrape.len() > 50, "no series twice, and there are some");
        for series in scrape.all().iter().filter(|series| series.name == "serin_requests_total") {
            let labels: Vec<&str> = series.labels.keys().map(String::as_str).collect();
            assert_eq!(labels, ["arm", "class", "client", "router", "service"], "{series:?}");
        }
    }
}

#[test]
fn openmetrics_is_read_by_prometheus_own_strict_parser() {
    if !require_module("prometheus_client.openmetrics.parser") {
        return;
    }
    let (serin, _origins) = busy();
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5";
    let response = serin.admin_with("/metrics", &[accept]);
    let kind = response.field("content-type").expect("a content type");
    assert!(kind.starts_with("application/openmetrics-text") && kind.contains("version=1.0.0"), "{kind}");
    assert!(response.text().ends_with("# EOF\n"));
    let output = fed(program("python3").arg(script("openmetrics.py")), &response.body);
    assert!(output.status.success(), "{}", both(&output));
    let families: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(families["serin_requests"]["type"], "counter");
    assert_eq!(families["serin_request_duration_seconds"]["type"], "histogram");
    assert_eq!(families["serin_split_weight"]["type"], "gauge");
    let samples = families["serin_requests"]["samples"].as_array().unwrap();
    let of_one = samples.iter().filter(|sample| sample[1]["service"] == "/svc/one" && sample[1]["class"] == "success");
    assert!(of_one.count() >= 2, "one series for each client that served it: {samples:?}");
}

#[test]
fn metrics_come_to_anybody_with_curl_in_both_formats() {
    if !require_peer("curl") {
        return;
    }
    let serin = Setup::new().start();
    let url = format!("http://{}/metrics", serin.admin_address());
    let head = curl(&[], &["-I", &url]);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let classic = curl(&[], &[&url]);
    assert!(classic.contains("# TYPE serin_build_info gauge") && !classic.contains("# EOF"), "{classic}");
    let modern = curl(&[], &["-H", "Accept: application/openmetrics-text; version=1.0.0", &url]);
    assert!(modern.ends_with("# EOF\n"), "{modern}");
}

// ── classes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn class_of_an_http_answer_is_its_status() {
    let origin = Upstream::reply(|request| {
        let status = request.target.trim_start_matches('/').parse().unwrap();
        upstream::reply(status, &[], "body")
    });
    let nobody = format!("127.0.0.1:{}", free_port());
    let serin = Setup::web(&origin.endpoint()).cluster("down", &[&nobody]).start();
    for status in [200, 204, 301, 304, 400, 404, 429, 499] {
        assert_eq!(serin.get("web", &format!("/{status}")).status, status);
    }
    eventually("eight that succeed", || classes(&serin) == [8.0, 0.0, 0.0]);
    for status in [500, 501, 502, 503, 504, 599] {
        assert_eq!(serin.get("web", &format!("/{status}")).status, status);
    }
    eventually("six that fail", || classes(&serin) == [8.0, 6.0, 0.0]);
    serin.get("down", "/");
    eventually("refused is failed too", || classes(&serin) == [8.0, 7.0, 0.0]);
    let labels = [("service", "/svc/web"), ("client", "/#/clusters/web"), ("class", "failure")];
    assert_eq!(Scrape::of(&serin).sum("serin_requests_total", &labels), 6.0);
}

/// A gRPC answer with the status that the path asks for: in trailers, or in a head that is all there is.
async fn grpc_status(mut exchange: Exchange) {
    let path = exchange.request.uri().path().to_owned();
    let _ = exchange.read().await;
    let mut parts = path.trim_start_matches('/').split('/');
    let (kind, status) = (parts.next().unwrap(), parts.next().unwrap().parse().unwrap());
    if kind == "trailers" {
        return exchange.grpc(&["message"], status);
    }
    let head = Response::builder().header("content-type", "application/grpc").header("grpc-status", status);
    let _ = exchange.respond.send_response(head.body(()).unwrap(), true);
}

#[test]
fn class_of_a_grpc_answer_is_in_its_trailers() {
    let origin = H2Upstream::start(grpc_status);
    let serin = Setup::web(&origin.endpoint()).start();
    let failures = [2, 4, 13, 14, 15]; // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS
    let mut expected = [0.0; 3];
    for kind in ["trailers", "only"] {
        for status in (0..=16).filter(|status| *status != 1) {
            let request = h2peer::grpc("web", &format!("/{kind}/{status}")).body(()).unwrap();
            let answer = h2peer::exchange(serin.address(), request, Some(h2peer::message("hello"))).unwrap();
            assert_eq!((answer.status, answer.grpc_status()), (200, Some(status)), "{answer:?}");
            expected[usize::from(failures.contains(&status))] += 1.0;
            eventually(&format!("{expected:?} after {kind} {status}"), || classes(&serin) == expected);
        }
    }
    assert_eq!(expected, [22.0, 10.0, 0.0]);
}

#[test]
fn caller_who_goes_away_is_ignored() {
    let origin = H2Upstream::start(|mut exchange: Exchange| async move { exchange.until_reset().await });
    let serin = Setup::web(&origin.endpoint()).start();
    h2peer::block_on(async {
        let mut send = h2peer::connect(serin.address()).await;
        let request = h2peer::grpc("web", "/wait").body(()).unwrap();
        let (response, mut upload) = send.send_request(request, false).unwrap();
        upload.send_data(h2peer::message("hello"), true).unwrap();
        while origin.running() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        upload.send_reset(h2::Reason::CANCEL);
        drop(response);
        while origin.resets().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    eventually("one that nobody can be blamed for", || classes(&serin) == [0.0, 0.0, 1.0]);
    check_idle(&serin);
}

/// Runs a command with this as its standard input.
fn fed(command: &mut Command, input: &[u8]) -> std::process::Output {
    let mut child = Guard(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut stdin = child.0.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            from.read_to_end(&mut all).map(|_| all)
        })
    };
    let stdout = read(Box::new(child.0.stdout.take().unwrap()));
    let stderr = read(Box::new(child.0.stderr.take().unwrap()));
    let _ = writer.join().unwrap(); // a reader that stops early says so in its exit code
    let status = child.0.wait().unwrap();
    std::process::Output { status, stdout: stdout.join().unwrap().unwrap(), stderr: stderr.join().unwrap().unwrap() }
}
