//! How requests come to the canary, from outside: A/B by match, sessions by cookie, copies, and the switch of blue/green.

use std::time::Duration;

use super::support::h2peer::{exchange, get as h2_get};
use super::support::outside::{program, require_peer, stdout_of};
use super::support::rollouts::rollout;
use super::support::scrape::Scrape;
use super::support::upstream::{next_request, reply};
use super::support::{Client, Serin, Setup, Upstream, now};

/// Flagger's clock ticks every 10 s at most, and the first tick only starts.
const TICKS: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A rollout from one to the other with these further keys.
fn between(primary: &Upstream, canary: &Upstream, keys: &str) -> Setup {
    rollout(&primary.endpoint(), &canary.endpoint(), keys)
}

/// Polls for as long as a few ticks take.
#[track_caller]
fn in_some_ticks(what: &str, mut holds: impl FnMut() -> bool) {
    let end = now() + TICKS;
    while !holds() {
        assert!(now() < end, "not within {TICKS:?}: {what}");
        std::thread::park_timeout(POLL);
    }
}

fn origin(serin: &Serin, lines: &[&str]) -> String {
    serin.get_with("world", "/", lines).field("x-origin").unwrap_or_default()
}

fn h2_origin(serin: &Serin, fields: &[(&str, &str)]) -> String {
    let request = fields.iter().fold(h2_get("world", "/"), |request, (name, value)| request.header(*name, *value));
    let answer = exchange(serin.address(), request.body(()).unwrap(), None).expect("an answer");
    answer.header("x-origin").unwrap_or_default()
}

#[test]
fn ab_sends_requests_by_header_cookie_expression_and_query() {
    let (v1, v2) = (Upstream::named("v1"), Upstream::named("v2"));
    let keys = "analysis:\n  interval: 10s\n  threshold: 2\n  iterations: 100\n  match:\n  \
                - headers: {x-canary: {exact: insider}}\n  \
                - headers: {cookie: {regex: '^(.*?; )?(canary=always)(;.*)?$'}}\n  \
                - headers: {user-agent: {regex: 'Robot/[0-9]+'}}\n    queryParams: {v: {prefix: '2.'}}\n";
    let serin = between(&v1, &v2, keys).start();
    assert_eq!(origin(&serin, &["x-canary: insider"]), "v1", "the run has not begun");
    in_some_ticks("the first round", || origin(&serin, &["x-canary: insider"]) == "v2");
    let check = |lines: &[&str], target: &str, name: &str| {
        let answer = serin.get_with("world", target, lines);
        assert_eq!(answer.field("x-origin").unwrap_or_default(), name, "{lines:?} {target}");
    };
    for _ in 0..5 {
        check(&["x-canary: insider"], "/", "v2");
        check(&["x-canary: insiders"], "/", "v1");
        check(&["cookie: a=1; canary=always; b=2"], "/", "v2");
        check(&["cookie: a=1; canary=alwaysnot"], "/", "v1");
        check(&["user-agent: Robot/7"], "/?v=2.1", "v2");
        check(&["user-agent: Robot/7"], "/?v=3", "v1");
        check(&["user-agent: A Robot/7"], "/?v=2.1", "v1");
        check(&[], "/", "v1");
    }
    // over HTTP/2 each cookie may come in a field of its own
    assert_eq!(h2_origin(&serin, &[("x-canary", "insider")]), "v2");
    assert_eq!(h2_origin(&serin, &[("cookie", "a=1"), ("cookie", "canary=always")]), "v2");
    assert_eq!(h2_origin(&serin, &[("cookie", "a=1")]), "v1");
}

/// One user with curl and a jar: where the answers came from.
fn curl(serin: &Serin, jar: &str, version: &str) -> String {
    let mut command = program("curl");
    let url = format!("http://{}/some/where", serin.address());
    command.current_dir(serin.dir.path());
    command.args(["-sS", version, "-H", "Host: world", "-b", jar, "-c", jar, "-o", "/dev/null"]);
    stdout_of(command.args(["-w", "%header{x-origin}", &url]))
}

#[test]
fn curl_with_a_cookie_jar_stays_where_it_came_to() {
    if !require_peer("curl") {
        return;
    }
    let (v1, v2) = (Upstream::named("v1"), Upstream::named("v2"));
    let keys = "pace: evidence\nanalysis:\n  interval: 10m\n  threshold: 5\n  stepWeights: [40, 60]\n  \
                sessionAffinity: {cookieName: serin-world}\n";
    let serin = between(&v1, &v2, keys).start();
    in_some_ticks("the first step", || !serin.get("world", "/").fields.all("set-cookie").is_empty());
    let cookie = serin.get("world", "/").fields.get("set-cookie").unwrap_or_default();
    assert!(cookie.starts_with("serin-world=") && cookie.ends_with("; Max-Age=86400; Path=/"), "{cookie}");
    let mut places = Vec::new();
    for user in 0..24 {
        let jar = format!("jar-{user}");
        let first = curl(&serin, &jar, "--http1.1");
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            assert_eq!(curl(&serin, &jar, version), first, "user {user} moved");
        }
        places.push(first);
    }
    places.sort();
    places.dedup();
    assert_eq!(places, ["v1", "v2"], "24 users at 40 %");
}

#[test]
fn copies_of_a_blue_green_run_hang_and_nobody_notices() {
    let v1 = Upstream::named("v1");
    let v2 = Upstream::raw(|wire, seen, index| {
        next_request(wire, seen, index);
        wire.at_end();
    });
    let keys = "analysis: {interval: 10s, threshold: 50, iterations: 50, mirror: true}\n";
    let serin = between(&v1, &v2, keys).start();
    let mut client = Client::connect(serin.address());
    let mut sent = 0;
    in_some_ticks("more copies than may be in flight", || {
        // each answer comes before the next request, whatever the copies do
        let answer = client.get("world", "/", &["x-user: jo"]);
        assert_eq!((answer.status, answer.field("x-origin").as_deref()), (200, Some("v1")));
        sent += 1;
        Scrape::of(&serin).sum("serin_mirror_requests_total", &[("class", "skipped")]) > 0.0
    });
    assert_eq!(v1.count(), sent);
    let copy = v2.requests().remove(0);
    assert_eq!((copy.field("l5d-mirrored").as_deref(), copy.field("x-user").as_deref()), (Some("1"), Some("jo")));
    // copies are no requests of users, and nobody waits for them
    let requests = Scrape::of(&serin).sum("serin_requests_total", &[("client", "/#/clusters/v2")]);
    assert_eq!(requests, 0.0);
    drop(client);
    let mut serin = serin;
    serin.signal("TERM");
    assert!(serin.wait().success());
}

#[test]
fn blue_green_copies_then_switches_all_users_at_once() {
    let v1 = Upstream::named("v1");
    let v2 = Upstream::reply(|_| reply(200, &["x-origin: v2"], ""));
    let keys = "analysis: {interval: 10s, threshold: 2, iterations: 1, mirror: true}\n";
    let serin = between(&v1, &v2, keys).start();
    let mut users_on_v2 = 0;
    in_some_ticks("the switch", || {
        users_on_v2 += u32::from(origin(&serin, &[]) == "v2");
        users_on_v2 > 0
    });
    let copies = v2.requests().iter().filter(|request| request.fields.has("l5d-mirrored")).count();
    assert!(copies > 0 && v2.count() == copies + 1, "{copies} copies of {} requests", v2.count());
    let before = v1.count();
    for _ in 0..20 {
        assert_eq!(origin(&serin, &[]), "v2");
    }
    assert_eq!(v1.count(), before, "nobody goes to the old version");
    let scrape = Scrape::of(&serin);
    assert_eq!(scrape.sum("serin_mirror_requests_total", &[("class", "success")]), copies as f64);
}
