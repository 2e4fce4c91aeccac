//! Names that a namerd binds: its trees and addresses count, and the last ones outlive it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::support::namerd::{Mood, Namerd, leaf};
use super::support::ports::free_port;
use super::support::serin::run;
use super::support::{Serin, Setup, Upstream, eventually};

fn setup(namerd: &Namerd) -> Setup {
    Setup::new().dtab("").router(&namerd.interpreter())
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
fn trees_and_addresses_count_as_they_change() {
    let (namerd, a, b) = (Namerd::start(), Upstream::named("a"), Upstream::named("b"));
    namerd.bind("/svc/web", "", leaf("/#/io.l5d.fs/a"));
    namerd.serve("/#/io.l5d.fs/a", &[&a.endpoint()]);
    let serin = setup(&namerd).start();
    assert_eq!(place(&serin, "web"), "a");
    assert_eq!(place(&serin, "other"), "404");
    namerd.bind("/svc/web", "", leaf("/#/io.l5d.fs/b"));
    namerd.serve("/#/io.l5d.fs/b", &[&b.endpoint()]);
    check_moves_to(&serin, "web", "b");
    namerd.serve("/#/io.l5d.fs/b", &[&a.endpoint()]);
    check_moves_to(&serin, "web", "a");
    namerd.bind("/svc/other", "", leaf("/#/io.l5d.fs/b"));
    check_moves_to(&serin, "other", "a");
    for _ in 0..20 {
        assert_eq!(place(&serin, "web"), "a");
    }
    assert_eq!(namerd.asked().iter().filter(|asked| asked.starts_with("/api/1/bind/web /svc/web ")).count(), 1);
    namerd.check_no_faults();
}

#[test]
fn unions_share_and_alternatives_fall_back() {
    let (namerd, a, b) = (Namerd::start(), Upstream::named("a"), Upstream::named("b"));
    let union = json!([{"weight": 9.0, "tree": leaf("/#/a")}, {"weight": 1.0, "tree": leaf("/#/b")}]);
    namerd.bind("/svc/web", "", json!({"type": "union", "union": union}));
    namerd.bind("/svc/alt", "", json!({"type": "alt", "alt": [leaf("/#/gone"), leaf("/#/b")]}));
    namerd.serve("/#/a", &[&a.endpoint()]);
    namerd.serve("/#/b", &[&b.endpoint()]);
    let serin = setup(&namerd).start();
    assert_eq!(place(&serin, "alt"), "b");
    b.forget();
    let mut client = super::support::Client::connect(serin.address());
    for _ in 0..1_000 {
        assert_eq!(client.get("web", "/", &[]).status, 200);
    }
    // 900 are expected, with a deviation of 9.5
    assert!((840..=960).contains(&a.count()), "{} of 1000", a.count());
}

#[test]
fn the_dtab_of_router_and_request_goes_with_the_question() {
    let (namerd, a, b) = (Namerd::start(), Upstream::named("a"), Upstream::named("b"));
    namerd.bind("/svc/web", "/svc=>/host", leaf("/#/a"));
    namerd.bind("/svc/web", "/svc=>/host;/host=>/canary", leaf("/#/b"));
    namerd.serve("/#/a", &[&a.endpoint()]);
    namerd.serve("/#/b", &[&b.endpoint()]);
    let serin = setup(&namerd).dtab("/svc => /host").start();
    assert_eq!(place(&serin, "web"), "a");
    let response = serin.get_with("web", "/", &["l5d-dtab: /host => /canary"]);
    assert_eq!(response.field("x-origin").as_deref(), Some("b"));
    assert_eq!(b.only().field("l5d-ctx-dtab").as_deref(), Some("/host=>/canary"));
}

/// Whatever namerd does, the last good state serves; when it is well again, what it says counts.
#[track_caller]
fn check_survives(hurt: impl FnOnce(&Namerd), heal: impl FnOnce(&Namerd)) {
    let (namerd, a, b) = (Namerd::start(), Upstream::named("a"), Upstream::named("b"));
    namerd.bind("/svc/web", "", leaf("/#/a"));
    namerd.serve("/#/a", &[&a.endpoint()]);
    let serin = setup(&namerd).start();
    assert_eq!(place(&serin, "web"), "a");
    hurt(&namerd);
    eventually("its streams ended", || {
        assert_eq!(place(&serin, "web"), "a");
        namerd.server.open() == 0
    });
    namerd.bind("/svc/web", "", leaf("/#/b"));
    namerd.serve("/#/b", &[&b.endpoint()]);
    assert_eq!(place(&serin, "web"), "a");
    heal(&namerd);
    check_moves_to(&serin, "web", "b");
    namerd.check_no_faults();
}

#[test]
fn the_last_state_outlives_the_death_of_namerd() {
    check_survives(|namerd| namerd.server.stop(), |namerd| namerd.server.again());
}

#[test]
fn the_last_state_outlives_bad_answers() {
    for mood in [Mood::Status(500), Mood::Says("{\"type\":\"what\"}\n".to_owned()), Mood::Says("}{".to_owned())] {
        check_survives(|namerd| namerd.mood(mood), |namerd| namerd.mood(Mood::Well));
    }
}

#[test]
fn without_any_answer_the_error_says_why_until_there_is_one() {
    let (namerd, a) = (Namerd::start(), Upstream::named("a"));
    namerd.bind("/svc/web", "", leaf("/#/a"));
    namerd.serve("/#/a", &[&a.endpoint()]);
    namerd.mood(Mood::Status(503));
    let serin = setup(&namerd).start();
    let response = serin.get("web", "/");
    assert_eq!(response.status, 502);
    let said = response.field("l5d-err").unwrap_or_default().replace('+', " ");
    assert!(said.contains("it answers 503"), "{said}");
    namerd.mood(Mood::Well);
    check_moves_to(&serin, "web", "a");
}

/// A namerd that binds this name under this dtab to loopback, and the origin there.
fn inward(name: &str, dtab: &str) -> (Namerd, Upstream, String) {
    let (namerd, a) = (Namerd::start(), Upstream::named("a"));
    let id = format!("/$/inet/127.0.0.1/{}", a.address.port());
    namerd.bind(name, dtab, leaf(&id));
    namerd.serve(&id, &[&a.endpoint()]);
    (namerd, a, id)
}

#[test]
fn loopback_that_the_operator_of_a_namerd_wrote_is_reached() {
    let (namerd, _a, _) = inward("/svc/web", "");
    assert_eq!(place(&setup(&namerd).start(), "web"), "a");
}

#[test]
fn loopback_that_a_request_named_is_not_reached_by_a_namerd_either() {
    let (namerd, a, _) = inward("/svc/127.0.0.1", "");
    assert_eq!(place(&setup(&namerd).start(), "127.0.0.1"), "503");
    assert_eq!(a.count(), 0);
    let serin = setup(&namerd).top("egress: {allow: [127.0.0.0/8]}").start();
    assert_eq!(place(&serin, "127.0.0.1"), "a");
    // the port alone is enough
    let (namerd, a, id) = inward("/svc/web", "");
    let port = a.address.port().to_string();
    namerd.bind(&format!("/svc/{port}"), "", leaf(&id));
    let serin = setup(&namerd).start();
    assert_eq!((place(&serin, &port), place(&serin, "web")), ("503".to_owned(), "a".to_owned()));
    assert_eq!(a.count(), 1);
}

/// The dtab of a request may have made what the namerd answers, also where the operator wrote the same.
#[test]
fn a_dtab_that_a_request_sent_opens_nothing_by_way_of_a_namerd() {
    for operator_first in [true, false] {
        let (namerd, a, id) = inward("/svc/web", "");
        namerd.bind("/svc/web", &format!("/svc=>{id}"), leaf(&id));
        let serin = setup(&namerd).start();
        let sends = format!("l5d-dtab: /svc => {id}");
        let mut statuses = Vec::new();
        for own in [operator_first, !operator_first, operator_first, !operator_first] {
            let lines: &[&str] = if own { &[] } else { &[&sends] };
            statuses.push((own, serin.get_with("web", "/", lines).status));
        }
        assert!(statuses.iter().all(|(own, status)| *status == if *own { 200 } else { 503 }), "{statuses:?}");
        assert_eq!(a.count(), 2);
    }
}

/// The namerd API of another Serin, with a stored dtab that changes.
#[test]
fn another_serin_is_a_namerd() {
    let (a, b, port) = (Upstream::named("a"), Upstream::named("b"), free_port());
    let store = format!(
        "storage: {{kind: file, dir: state}}\ninterfaces: [{{kind: io.l5d.httpController, ip: 127.0.0.1, port: {port}}}]"
    );
    let clusters = Setup::new().cluster("a", &[&a.endpoint()]).cluster("b", &[&b.endpoint()]);
    let binder = clusters.top(&store).router("interpreter: {kind: default, namespace: web}").start();
    let put = |dtab: &str| {
        let request = super::support::http1::request(
            "PUT",
            "/api/1/dtabs/web",
            &format!("127.0.0.1:{port}"),
            &["content-type: application/dtab"],
            dtab,
        );
        let address = ([127, 0, 0, 1], port).into();
        assert_eq!(super::support::http1::exchange(address, request).unwrap().status, 204);
    };
    put("/svc/web => /#/clusters/a");
    let retry = "retry: {baseSeconds: 1, maxSeconds: 1}";
    let keys = format!("kind: io.l5d.namerd.http, dst: /$/inet/127.0.0.1/{port}, namespace: web, {retry}");
    let serin = Setup::new().dtab("").router(&format!("interpreter: {{{keys}}}")).start();
    assert_eq!(place(&serin, "web"), "a");
    put("/svc/web => /#/clusters/b");
    check_moves_to(&serin, "web", "b");
    let (dir, text) = (Arc::clone(&binder.dir), std::fs::read_to_string(binder.file()).unwrap());
    drop(binder);
    assert_eq!(place(&serin, "web"), "b");
    let _binder = Serin::start_in(dir, &text);
    put("/svc/web => /#/clusters/a");
    check_moves_to(&serin, "web", "a");
}

#[test]
fn names_that_strangers_make_up_hold_no_stream_of_a_namerd() {
    let (namerd, a) = (Namerd::start(), Upstream::named("a"));
    namerd.bind("/svc/web", "", leaf("/#/a"));
    namerd.bind("/svc/late", "", leaf("/#/a"));
    namerd.serve("/#/a", &[&a.endpoint()]);
    let serin = setup(&namerd).start();
    assert_eq!(place(&serin, "web"), "a");
    let mut client = super::support::Client::connect(serin.address());
    for n in 0..600 {
        assert_eq!(client.get(&format!("stranger-{n}"), "/", &[]).status, 404);
    }
    // 32 questions in turn, and those whose end a busy server has not seen yet
    assert!(namerd.server.most() <= 150, "{} streams", namerd.server.most());
    assert_eq!((place(&serin, "late"), place(&serin, "web")), ("a".to_owned(), "a".to_owned()));
    // two trees and the addresses of one bound id
    eventually("only what exists is watched", || namerd.server.open() == 3);
    assert_eq!(namerd.asked().iter().filter(|asked| asked.starts_with("/api/1/bind/web /svc/web ")).count(), 1);
    assert!(!serin.admin("/metrics").text().contains("stranger"));
    namerd.check_no_faults();
}

#[test]
fn what_namerd_says_instead_of_a_tree_is_told_to_who_asks_and_is_no_outage() {
    let namerd = Namerd::start();
    namerd.mood(Mood::Says("Unknown namer: foo for path: /$/foo\n".to_owned()));
    let serin = setup(&namerd).start();
    let response = serin.get("web", "/");
    let said = response.field("l5d-err").unwrap_or_default().replace('+', " ");
    assert!(response.status == 502 && said.contains("Unknown namer%3A foo"), "{}: {said}", response.status);
    assert!(!serin.log().contains("a namer does not answer"), "{}", serin.log());
    namerd.mood(Mood::Status(500));
    eventually("the outage is told", || serin.log().contains("a namer does not answer"));
}

/// Who wants to know is told what requests get: the running process asks its namerd for them too.
#[test]
fn explanations_tell_what_a_namerd_says() {
    let (namerd, a) = (Namerd::start(), Upstream::named("a"));
    let union = json!([{"weight": 3.0, "tree": leaf("/#/a")}, {"weight": 1.0, "tree": leaf("/#/b")}]);
    namerd.bind("/svc/web", "/svc=>/host", json!({"type": "union", "union": union}));
    namerd.bind("/svc/web", "/svc=>/host;/host=>/canary", leaf("/$/inet/127.0.0.1/1"));
    namerd.bind("/svc/teapot", "/svc=>/host", leaf("/$/io.buoyant.http.status/418"));
    for id in ["/#/a", "/#/b", "/$/inet/127.0.0.1/1"] {
        namerd.serve(id, &[&a.endpoint()]);
    }
    let serin = setup(&namerd).dtab("/svc => /host").start();
    let told = |target: &str| serde_json::from_str::<Value>(&serin.admin(target).text()).unwrap();
    let web = told("/api/v1/explain?host=web");
    assert_eq!(web["traffic"], json!({"/#/a": 0.75, "/#/b": 0.25}), "{web}");
    assert_eq!(web["steps"], json!([{"depth": 0, "path": "/svc/web", "result": "namerd: 3.00*/#/a & /#/b"}]));
    assert_eq!(told("/api/v1/explain?host=teapot")["goesTo"], "/$/io.buoyant.http.status/418");
    assert_eq!(told("/api/v1/explain?host=nobody")["goesTo"], "~");
    // What a request brings along goes with the question, and closes what its dtab may have made.
    let sent = told("/api/v1/explain?host=web&dtab=/host%3D%3E/canary");
    assert_eq!(sent["goesTo"], "/$/inet/127.0.0.1/1", "{sent}");
    assert!(sent["notes"].to_string().contains("no endpoint that can serve"), "{sent}");
    let tree = told("/delegator.json?namespace=outgoing&path=/svc/web");
    assert_eq!((&tree["type"], &tree["path"]), (&json!("delegate"), &json!("/svc/web")), "{tree}");
    let branch = &tree["delegate"]["union"][0];
    assert_eq!((&branch["weight"], &branch["tree"]["bound"]["id"]), (&json!(3.0), &json!("/#/a")), "{tree}");
    assert_eq!(branch["tree"]["bound"]["addr"]["addrs"].as_array().map(Vec::len), Some(1), "{tree}");
    // A file alone does not say where its namerd leads.
    let offline = run(&["explain", serin.file().to_str().unwrap(), "-H", "Host: web"]);
    let text = String::from_utf8_lossy(&offline.stdout);
    assert!(text.contains("100 %  waits for a namer") && text.contains("only a running Serin knows"), "{text}");
    namerd.check_no_faults();
}
