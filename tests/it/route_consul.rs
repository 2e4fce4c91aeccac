//! Names of a Consul catalog: they come, move and go as it says, and outlive it.

use super::support::consul::{Consul, Instance, Mood};
use super::support::h2peer::{self, H2Upstream};
use super::support::scrape::Scrape;
use super::support::upstream::reply;
use super::support::{Serin, Setup, Upstream, eventually};

/// A router whose names are services of this Consul, with further keys of the namer.
fn setup(consul: &Consul, keys: &str) -> Setup {
    let namer = format!("namers: [{{kind: io.l5d.consul, {}{keys}}}]", consul.keys());
    Setup::new().top(&namer).dtab("/svc => /#/io.l5d.consul/dc1")
}

fn place(serin: &Serin, host: &str) -> String {
    let response = serin.get(host, "/");
    response.field("x-origin").unwrap_or_else(|| response.status.to_string())
}

#[track_caller]
fn check_moves_to(serin: &Serin, host: &str, expected: &str) {
    eventually(&format!("{host} is served by {expected}"), || place(serin, host) == expected);
}

#[test]
fn a_service_comes_moves_and_goes() {
    let (consul, a, b) = (Consul::start(), Upstream::named("a"), Upstream::named("b"));
    let serin = setup(&consul, "").start();
    assert_eq!(place(&serin, "web"), "404", "nobody has registered it");
    consul.set("web", &[Instance::at(&a.endpoint())]);
    check_moves_to(&serin, "web", "a");
    consul.set("web", &[Instance::at(&b.endpoint())]);
    check_moves_to(&serin, "web", "b");
    consul.set("web", &[]);
    check_moves_to(&serin, "web", "404");
    let said = serin.get("web", "/").field("l5d-err").unwrap_or_default().replace("+", " ");
    assert!(said.contains("Consul has no instance of it"), "{said}");
    consul.check_no_faults();
}

#[test]
fn one_question_is_asked_for_many_requests_and_waits_for_changes() {
    let (consul, a) = (Consul::start(), Upstream::named("a"));
    consul.set("web", &[Instance::at(&a.endpoint())]);
    let serin = setup(&consul, "").start();
    for _ in 0..50 {
        assert_eq!(place(&serin, "WEB"), "a");
    }
    let asked = consul.asked();
    assert_eq!(asked.first().map(String::as_str), Some("/v1/catalog/service/web?dc=dc1"));
    eventually("a question that waits", || consul.asked().len() == 2);
    assert_eq!(consul.asked()[1], "/v1/catalog/service/web?dc=dc1&index=101&wait=60s");
    consul.check_no_faults();
}

#[test]
fn a_service_that_is_not_there_is_passed_over() {
    let (consul, a, b) = (Consul::start(), Upstream::named("a"), Upstream::named("b"));
    consul.set("web", &[Instance::at(&a.endpoint())]);
    let dtab = "/svc => /#/clusters/b ; /svc => /#/io.l5d.consul/dc1";
    let serin = setup(&consul, "").cluster("b", &[&b.endpoint()]).dtab(dtab).router("failover: names").start();
    assert_eq!((place(&serin, "web"), place(&serin, "other")), ("a".to_owned(), "b".to_owned()));
    consul.set("web", &[]);
    check_moves_to(&serin, "web", "b");
    consul.set("other", &[Instance::at(&a.endpoint())]);
    check_moves_to(&serin, "other", "a");
}

#[test]
fn a_branch_that_is_not_there_takes_no_share() {
    let (consul, a) = (Consul::start(), Upstream::named("a"));
    consul.set("web", &[Instance::at(&a.endpoint())]);
    let dtab = "/svc/web => 1 * /#/io.l5d.consul/dc1/web & 9 * /#/io.l5d.consul/dc1/gone";
    let serin = setup(&consul, "").dtab(dtab).router("onUnhealthy: fail").start();
    for _ in 0..50 {
        assert_eq!(place(&serin, "web"), "a");
    }
}

#[test]
fn health_tags_weights_token_and_consistency_are_asked_for() {
    let (consul, a, b) = (Consul::start(), Upstream::named("a"), Upstream::named("b"));
    consul.require_token("s3cret");
    let (good, bad) =
        (Instance::at(&a.endpoint()).tagged("v1").check("warning"), Instance::at(&b.endpoint()).tagged("v1"));
    consul.set("web", &[good, bad.check("critical")]);
    let keys = ", token: s3cret, includeTag: true, useHealthCheck: true, healthStatuses: [warning, passing], \
                consistencyMode: stale, weights: [{tag: v1, weight: 3}]";
    let serin = setup(&consul, keys).dtab("/svc => /#/io.l5d.consul/.local/v1").start();
    for _ in 0..20 {
        assert_eq!(place(&serin, "web"), "a", "the critical one is left out");
    }
    assert_eq!(consul.asked()[0], "/v1/health/service/web?tag=v1&stale");
    let shown = serin.admin("/config.json").text();
    assert!(!shown.contains("s3cret") && shown.contains("(set)"), "{shown}");
    consul.check_no_faults();
}

#[test]
fn weights_by_tag_share_the_requests() {
    let (consul, a, b) = (Consul::start(), Upstream::named("a"), Upstream::named("b"));
    consul.set("web", &[Instance::at(&a.endpoint()).tagged("big").tagged("small"), Instance::at(&b.endpoint())]);
    let keys = ", weights: [{tag: small, weight: 2}, {tag: big, weight: 9}]";
    let serin = setup(&consul, keys).start();
    let mut client = super::support::Client::connect(serin.address());
    for _ in 0..1_000 {
        assert_eq!(client.get("web", "/", &[]).status, 200);
    }
    // 900 are expected, with a deviation of 9.5
    assert!((840..=960).contains(&a.count()), "{} of 1000", a.count());
    assert_eq!(a.count() + b.count(), 1_000);
}

#[test]
fn the_address_of_the_node_serves_where_it_is_preferred_or_the_only_one() {
    let (consul, a) = (Consul::start(), Upstream::named("a"));
    let mut instance = Instance::at(&a.endpoint());
    instance.node_address = std::mem::replace(&mut instance.address, "192.0.2.9".to_owned());
    consul.set("web", &[instance.clone()]);
    instance.address = String::new();
    consul.set("bare", &[instance]);
    let serin = setup(&consul, ", preferServiceAddress: false").start();
    assert_eq!((place(&serin, "web"), place(&serin, "bare")), ("a".to_owned(), "a".to_owned()));
    let serin = setup(&consul, "").start();
    assert_eq!(place(&serin, "bare"), "a");
}

/// Whatever Consul does, the last good state serves; when it is well again, what it says counts.
#[track_caller]
fn check_survives(consul: &Consul, hurt: impl FnOnce(&Consul), heal: impl FnOnce(&Consul)) {
    let (a, b) = (Upstream::named("a"), Upstream::named("b"));
    consul.set("web", &[Instance::at(&a.endpoint())]);
    let serin = setup(consul, "").start();
    assert_eq!(place(&serin, "web"), "a");
    hurt(consul);
    let asked = consul.asked().len();
    eventually("it was tried again", || {
        assert_eq!(place(&serin, "web"), "a");
        consul.asked().len() > asked || consul.server.open() == 0
    });
    assert_eq!(place(&serin, "web"), "a");
    consul.set("web", &[Instance::at(&b.endpoint())]);
    heal(consul);
    check_moves_to(&serin, "web", "b");
    consul.check_no_faults();
}

#[test]
fn the_last_state_outlives_every_kind_of_bad_answer() {
    for mood in [
        Mood::Status(500),
        Mood::Status(403),
        Mood::Body("<html>".to_owned()),
        Mood::Body("{}".to_owned()),
        Mood::Body("[[]]".to_owned()),
        Mood::Huge(5_000_000),
        Mood::NoIndex,
    ] {
        check_survives(&Consul::start(), |consul| consul.mood(mood), |consul| consul.mood(Mood::Well));
    }
}

#[test]
fn the_last_state_outlives_the_death_of_the_agent() {
    check_survives(&Consul::start(), |consul| consul.server.stop(), |consul| consul.server.again());
}

#[test]
fn an_index_that_falls_begins_anew() {
    let (consul, a, b) = (Consul::start(), Upstream::named("a"), Upstream::named("b"));
    consul.set("web", &[Instance::at(&a.endpoint())]);
    let serin = setup(&consul, "").start();
    assert_eq!(place(&serin, "web"), "a");
    eventually("a question that waits", || consul.asked().len() == 2);
    consul.reset_index(7);
    eventually("a question without an index", || {
        consul.asked().iter().skip(2).any(|target| target == "/v1/catalog/service/web?dc=dc1")
    });
    eventually("and one with the new index", || consul.asked().iter().any(|target| target.contains("index=7&")));
    consul.set("web", &[Instance::at(&b.endpoint())]);
    check_moves_to(&serin, "web", "b");
    consul.check_no_faults();
}

#[test]
fn without_any_answer_a_name_is_not_there_until_there_is_one() {
    let (consul, a) = (Consul::start(), Upstream::named("a"));
    consul.set("web", &[Instance::at(&a.endpoint())]);
    consul.mood(Mood::Status(500));
    let serin = setup(&consul, "").start();
    let response = serin.get("web", "/");
    assert_eq!(response.status, 404);
    let said = response.field("l5d-err").unwrap_or_default().replace("+", " ");
    assert!(said.contains("Consul answers 500"), "{said}");
    consul.mood(Mood::Well);
    check_moves_to(&serin, "web", "a");
}

#[test]
fn a_question_that_hangs_ends_with_the_binding_timeout() {
    let consul = Consul::start();
    consul.mood(Mood::Hang);
    let serin = setup(&consul, "").router("bindingTimeoutMs: 100").start();
    assert_eq!(serin.get("web", "/").status, 504);
    assert_eq!(serin.get("web", "/").status, 504);
    assert_eq!(consul.asked().len(), 1, "waiting requests share a question");
}

#[test]
fn the_host_is_that_of_consuls_dns_and_redirects_are_mapped_back() {
    let consul = Consul::start();
    let origin = Upstream::reply(|request| {
        let host = request.field("host").unwrap_or_default();
        let lines = [
            format!("x-host: {host}"),
            format!("location: http://{host}/next"),
            format!("refresh: 1; url=http://{host}:99/x"),
        ];
        reply(301, &lines.each_ref().map(String::as_str), "")
    });
    consul.set("web", &[Instance::at(&origin.endpoint()).tagged("v1")]);
    let keys = ", setHost: true, includeTag: true";
    let serin = setup(&consul, keys).dtab("/svc => /#/io.l5d.consul/.local/v1").start();
    let response = serin.get("Web:8080", "/");
    let field = |name: &str| response.field(name).unwrap_or_default();
    assert_eq!(field("x-host"), "v1.web.service.dc1.consul");
    assert_eq!(field("location"), "http://Web:8080/next");
    assert_eq!(field("refresh"), "1; url=http://Web:8080/x");
    consul.check_no_faults();
}

/// The client and the origin speak HTTP/2: the authority goes there and comes back as the fields of HTTP/1.1 do.
#[test]
fn the_host_is_that_of_consuls_dns_over_http2_too() {
    let consul = Consul::start();
    let origin = H2Upstream::start(|mut exchange| async move {
        let uri = exchange.request.uri().clone();
        let host = uri.authority().map(|authority| authority.to_string()).unwrap_or_default();
        let head = http::Response::builder().status(301).header("location", format!("http://{host}/next"));
        exchange.reply(head.header("refresh", format!("1; url=http://{host}/x")).header("x-host", host), "");
    });
    consul.set("web", &[Instance::at(&origin.endpoint())]);
    let serin = setup(&consul, ", setHost: true").router("client: {protocol: h2}").start();
    let answer = h2peer::exchange(serin.address(), h2peer::get("web", "/").body(()).unwrap(), None).unwrap();
    assert_eq!(answer.status, 301);
    assert_eq!(answer.header("x-host").as_deref(), Some("web.service.dc1.consul"));
    assert_eq!(answer.header("location").as_deref(), Some("http://web/next"));
    assert_eq!(answer.header("refresh").as_deref(), Some("1; url=http://web/x"));
    assert_eq!(origin.last_header("host"), None, "one of both is enough");
    // A client of HTTP/1.1 sees the same.
    let response = serin.get("web", "/");
    assert_eq!(response.field("x-host").as_deref(), Some("web.service.dc1.consul"));
    assert_eq!(response.field("location").as_deref(), Some("http://web/next"));
    consul.check_no_faults();
}

/// While nobody listens there: names fail without waiting, keep what they had, and come when the agent does.
#[test]
fn with_fail_fast_names_fail_while_the_agent_is_away_and_come_back() {
    let (consul, a) = (Consul::start(), Upstream::named("a"));
    for name in ["known", "web", "other"] {
        consul.set(name, &[Instance::at(&a.endpoint())]);
    }
    let serin = setup(&consul, ", failFast: true").start();
    assert_eq!(place(&serin, "known"), "a");
    let asked = consul.asked().len();
    consul.server.stop();
    for name in ["web", "other", "web"] {
        let response = serin.get(name, "/");
        assert_eq!(response.status, 404);
        let said = response.field("l5d-err").unwrap_or_default().replace('+', " ");
        assert!(said.contains("no connection"), "{said}");
    }
    assert_eq!(place(&serin, "known"), "a", "its last state stays");
    assert!(consul.asked().len() <= asked + 1, "{:?}", consul.asked());
    consul.server.again();
    check_moves_to(&serin, "web", "a");
    check_moves_to(&serin, "other", "a");
    consul.check_no_faults();
}

#[test]
fn admin_pages_ask_for_a_name_and_show_what_is_known_of_it() {
    let (consul, a) = (Consul::start(), Upstream::named("a"));
    consul.set("web", &[Instance::at(&a.endpoint())]);
    let serin = setup(&consul, "").start();
    let id = "/#/io.l5d.consul/dc1/web";
    let explained = serin.admin("/api/v1/explain?host=web").json();
    assert_eq!(explained["traffic"][id], 1.0, "{explained}");
    let absent = serin.admin("/api/v1/explain?host=other").json();
    assert_eq!(absent["traffic"]["~"], 1.0, "{absent}");
    let tree = serin.admin("/delegator.json?namespace=outgoing&path=/svc/web").json().to_string();
    assert!(tree.contains("\"type\":\"bound\"") && tree.contains(id), "{tree}");
    assert_eq!(place(&serin, "web"), "a");
    let state = serin.admin("/namer_state/io.l5d.consul.json").json();
    assert_eq!((&state["/dc1/web"]["state"], &state["/dc1/other"]["state"]), (&"bound".into(), &"absent".into()));
    assert_eq!(state["/dc1/web"]["addresses"][0]["address"], a.endpoint());
    assert_eq!(serin.admin("/namer_state/io.l5d.other.json").status, 404);
    assert_eq!(serin.admin("/bound-names.json").json(), serde_json::json!([id]), "what is absent is no name");
    let checks = || serin.admin("/readyz?verbose");
    eventually("a check says that Consul answers", || {
        checks().text().contains("[+] namer io.l5d.consul: answers for the")
    });
    consul.server.stop();
    let failing = || Scrape::of(&serin).sum("serin_namer_failing_names", &[("namer", "io.l5d.consul")]);
    eventually("the gauge says that Consul is away", || failing() >= 1.0);
    let age = || Scrape::of(&serin).sum("serin_namer_update_age_seconds", &[("namer", "io.l5d.consul")]);
    eventually("its last word grows old", || age() >= 0.5);
    let said = checks();
    assert_eq!(said.status, 200, "what is known serves: {}", said.text());
    assert!(said.text().contains("[-] namer io.l5d.consul: no answer for"), "{}", said.text());
    consul.server.again();
    eventually("it is back", || failing() == 0.0);
    eventually("and the check says so", || checks().text().contains("[+] namer io.l5d.consul: answers for the"));
}

#[test]
fn names_that_nobody_uses_are_watched_no_more() {
    let (consul, a) = (Consul::start(), Upstream::named("a"));
    consul.set("web", &[Instance::at(&a.endpoint())]);
    let serin = setup(&consul, "").router("bindingCache: {idleTtlSecs: 1}").start();
    assert_eq!((place(&serin, "web"), place(&serin, "other")), ("a".to_owned(), "404".to_owned()));
    eventually("one question that waits", || consul.server.open() == 1);
    eventually("none", || consul.server.open() == 0);
    assert_eq!(place(&serin, "web"), "a", "it is asked for again");
}

/// Many names that a client makes up, over one connection; each must have this answer.
fn ask_for_strangers(serin: &Serin, count: usize, status: u16) {
    let mut client = super::support::Client::connect(serin.address());
    for n in 0..count {
        assert_eq!(client.get(&format!("stranger-{n}"), "/", &[]).status, status, "stranger-{n}");
    }
}

#[test]
fn names_that_strangers_make_up_hold_no_connection_and_displace_nobody() {
    let (consul, a) = (Consul::start(), Upstream::named("a"));
    consul.set("web", &[Instance::at(&a.endpoint())]);
    let serin = setup(&consul, "").start();
    assert_eq!(place(&serin, "web"), "a");
    ask_for_strangers(&serin, 600, 404);
    assert!(consul.server.most() <= 34, "{} connections", consul.server.most());
    consul.set("late", &[Instance::at(&a.endpoint())]);
    assert_eq!((place(&serin, "late"), place(&serin, "web")), ("a".to_owned(), "a".to_owned()));
    eventually("only what exists is asked for", || consul.server.open() == 2);
    let asked = consul.asked();
    let web = asked.iter().filter(|target| target.starts_with("/v1/catalog/service/web?dc=dc1")).count();
    assert!((2..=4).contains(&web), "its question stayed open: {web}");
    let metrics = serin.admin("/metrics").text();
    assert!(!metrics.contains("stranger"), "a series has a name that nobody serves");
    assert!(metrics.contains("service=\"/svc/late\""), "{metrics}");
    let known = || serin.admin("/namer_state/io.l5d.consul.json").text();
    eventually("strangers are forgotten", || !known().contains("stranger"));
    assert!(known().contains("/dc1/late"), "{}", known());
    consul.check_no_faults();
}

#[test]
fn names_that_strangers_make_up_hold_nothing_where_an_alternative_serves_them() {
    let (consul, b) = (Consul::start(), Upstream::named("b"));
    let dtab = "/svc => /#/io.l5d.consul/dc1 | /#/clusters/b";
    let serin = setup(&consul, "").cluster("b", &[&b.endpoint()]).dtab(dtab).start();
    ask_for_strangers(&serin, 300, 200);
    assert!(consul.server.most() <= 33, "{} connections", consul.server.most());
    eventually("nobody is asked for", || consul.server.open() == 0);
    let known = || serin.admin("/namer_state/io.l5d.consul.json").text();
    eventually("strangers are forgotten", || !known().contains("stranger"));
}

#[test]
fn more_services_than_an_agent_takes_connections_are_served_and_followed() {
    let (consul, a, b) = (Consul::start(), Upstream::named("a"), Upstream::named("b"));
    let name = |n: usize| format!("s{n}");
    for n in 0..230 {
        consul.set(&name(n), &[Instance::at(&a.endpoint())]);
    }
    let serin = setup(&consul, "").start();
    for n in 0..230 {
        assert_eq!(place(&serin, &name(n)), "a", "{n}");
    }
    assert!(consul.server.most() < 200, "{} connections", consul.server.most());
    for n in [0, 229] {
        consul.set(&name(n), &[Instance::at(&b.endpoint())]);
        check_moves_to(&serin, &name(n), "b");
    }
    consul.check_no_faults();
}

#[track_caller]
fn check_refusal(status: u16, text: &str) {
    let (consul, a) = (Consul::start(), Upstream::named("a"));
    consul.set("web", &[Instance::at(&a.endpoint())]);
    consul.mood(Mood::StatusOf("odd".to_owned(), status, text.to_owned()));
    let serin = setup(&consul, "").start();
    assert_eq!(place(&serin, "web"), "a");
    let response = serin.get("odd", "/");
    let said = response.field("l5d-err").unwrap_or_default().replace('+', " ");
    assert!(response.status == 404 && said.contains(text), "{}: {said}", response.status);
    let checks = serin.admin("/readyz?verbose").text();
    assert!(checks.contains("[+] namer io.l5d.consul: answers for the"), "{checks}");
    assert!(!serin.log().contains("a namer does not answer"), "{}", serin.log());
    consul.server.stop();
    eventually("the outage is told", || serin.log().contains("a namer does not answer"));
    consul.server.again();
    eventually("and its end", || serin.log().contains("the namer answers again"));
}

#[test]
fn what_consul_refuses_for_one_name_is_no_outage_and_hides_none() {
    check_refusal(404, "no such thing");
    check_refusal(500, "No path to datacenter");
}

#[test]
fn names_of_dots_are_not_asked_for() {
    let consul = Consul::start();
    let serin = setup(&consul, "").start();
    // the final dot of a host counts for nothing
    for (name, status) in [(".", 400), ("..", 404), ("...", 404)] {
        assert_eq!(serin.get(name, "/").status, status, "{name}");
    }
    assert_eq!(consul.asked(), Vec::<String>::new());
}
