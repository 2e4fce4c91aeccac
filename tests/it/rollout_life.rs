//! The life of a rollout from outside: real requests, a real file, the admin server's word for where it stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::support::h2peer::{self, H2Upstream};
use super::support::http1::{Client, request};
use super::support::rollouts::{Users, act, failing, hanging, rollout, steps, until, until_phase, view, with_storage};
use super::support::upstream::{next_request, reply};
use super::support::{Serin, Setup, Upstream, eventually};

/// Answered by the origin that says so.
fn named(name: &str) -> Upstream {
    Upstream::named(name)
}

fn origin(serin: &Serin) -> String {
    serin.get("world", "/").field("x-origin").unwrap_or_default()
}

/// All of some requests are answered by this one.
#[track_caller]
fn check_all_from(serin: &Serin, name: &str) {
    for _ in 0..20 {
        assert_eq!(origin(serin), name);
    }
}

/// A port that refuses.
fn refusing() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// So many steps take longer than any test: who waits for the end waits in vain.
fn slow(steps: &str) -> String {
    format!("pace: evidence\nanalysis: {{interval: 10m, threshold: 5, stepWeights: [{steps}]}}")
}

#[test]
fn a_good_canary_is_promoted_and_nobody_sees_a_failure() {
    let (v1, v2) = (named("v1"), named("v2"));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &steps("5, 50")).start();
    let users = Users::start(&serin, 4);
    let end = until_phase(&serin, "promoted");
    assert_eq!((end["weight_ppm"].as_u64(), users.failed()), (Some(1_000_000), 0));
    drop(users);
    check_all_from(&serin, "v2");
    assert!(serin.admin("/metrics").text().contains("serin_rollout_phase{rollout=\"world\",phase=\"promoted\"} 1"));
}

/// Rolled back, and at most so many users saw why.
#[track_caller]
fn check_rolled_back(canary: &str, keys: &str, failures_max: u64, codes: &[&str]) {
    let v1 = named("v1");
    let serin = rollout(&v1.endpoint(), canary, keys).start();
    let users = Users::start(&serin, 4);
    let end = until_phase(&serin, "rolled-back");
    let code = end["last"]["code"].as_str().unwrap_or_default().to_owned();
    assert!(codes.contains(&code.as_str()), "{code}: {end:#}");
    let failed = users.failed();
    assert!((1..=failures_max).contains(&failed), "{failed} of {} failed", users.sent());
    drop(users);
    check_all_from(&serin, "v1");
}

#[test]
fn a_canary_that_fails_half_of_its_requests_is_out_after_a_handful() {
    let bad = failing(2);
    check_rolled_back(&bad.endpoint(), &steps("10, 50"), 40, &["rollback:evidence"]);
}

#[test]
fn a_canary_that_refuses_is_out_at_the_first_ejection() {
    check_rolled_back(&refusing(), &steps("10, 50"), 40, &["rollback:canary-down", "rollback:evidence"]);
}

#[test]
fn a_canary_that_hangs_is_out_without_waiting_for_a_timeout() {
    let (v1, v4) = (named("v1"), hanging());
    let keys = format!("suspend: true\n{}", steps("10, 50"));
    let setup = rollout(&v1.endpoint(), &v4.endpoint(), &keys);
    let serin = setup.start();
    // until the primary's p99 is known there is nothing to be slower than
    let warm = Users::start(&serin, 4);
    eventually("the primary has a history", || warm.sent() > 2_000);
    drop(warm);
    let users = Users::start(&serin, 16);
    serin.rewrite(&std::fs::read_to_string(serin.file()).unwrap().replace("suspend: true", "suspend: false"));
    until_phase(&serin, "rolled-back");
    drop(v4); // who still waits for it gets an end
    drop(users);
    check_all_from(&serin, "v1");
}

#[test]
fn a_paused_canary_stays_where_it_is_and_is_guarded() {
    let broken = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&broken);
    let status = move || if seen.load(Ordering::Relaxed) { 500 } else { 200 };
    let (v1, v2) = (named("v1"), Upstream::reply(move |_| reply(status(), &[], "")));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &slow("10, 50")).start();
    let users = Users::start(&serin, 2);
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    assert_eq!(act(&serin, "pause", json!({})).status, 200);
    let paused = view(&serin);
    assert_eq!((&paused["paused"], &paused["weight_ppm"]), (&json!(true), &json!(100_000)));
    broken.store(true, Ordering::Relaxed);
    until_phase(&serin, "rolled-back");
    drop(users);
    check_all_from(&serin, "v1");
}

#[test]
fn people_set_weights_promote_undo_and_abort() {
    let (v1, v2) = (named("v1"), named("v2"));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &slow("10, 50")).start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    let set = act(&serin, "weight", json!({"weight": "100%"}));
    assert_eq!(set.status, 200, "{}", set.text());
    assert_eq!(view(&serin)["weight_ppm"], 1_000_000);
    check_all_from(&serin, "v2");
    assert_eq!(act(&serin, "abort", json!({})).status, 200);
    assert_eq!(view(&serin)["phase"], "rolled-back");
    check_all_from(&serin, "v1");
    // the same canary again, because a person says so
    assert_eq!(act(&serin, "start", json!({})).status, 200);
    until(&serin, "the first step again", |view| view["weight_ppm"] == 100_000);
    assert_eq!(act(&serin, "abort", json!({})).status, 200);
    assert_eq!(act(&serin, "undo", json!({})).status, 200);
    until(&serin, "as before the abort", |view| view["phase"] == "progressing" && view["weight_ppm"] == 100_000);
    let last = view(&serin)["last"].clone();
    assert_eq!((last["who"].as_str(), last["why"].as_str()), (Some("tester"), Some("a test")), "{last}");
    let history: Value = serde_json::from_slice(&serin.admin("/api/v1/rollouts/world/history").body).unwrap();
    let text = history.to_string();
    assert!(text.contains("tester") && text.contains("a test"), "{history:#}");
}

#[test]
fn a_promotion_is_undone_by_one_command() {
    let (v1, v2) = (named("v1"), named("v2"));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &steps("50")).start();
    let users = Users::start(&serin, 4);
    until_phase(&serin, "promoted");
    drop(users);
    check_all_from(&serin, "v2");
    assert_eq!(act(&serin, "undo", json!({})).status, 200);
    check_all_from(&serin, "v1");
}

#[test]
fn commands_that_mean_nothing_now_are_refused_and_change_nothing() {
    let (v1, v2) = (named("v1"), named("v2"));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &format!("suspend: true\n{}", slow("10, 50"))).start();
    until(&serin, "it is there", |view| view["phase"] == "initialized");
    for action in ["abort", "promote", "undo"] {
        let refused = act(&serin, action, json!({}));
        assert_eq!(refused.status, 409, "{action}: {}", refused.text());
    }
    for weight in ["101%", "-1%", "much", ""] {
        assert_eq!(act(&serin, "weight", json!({"weight": weight})).status, 400, "{weight}");
    }
    assert_eq!(view(&serin)["weight_ppm"], 0);
}

fn edited(serin: &Serin, edit: impl Fn(String) -> String) {
    serin.rewrite(&edit(std::fs::read_to_string(serin.file()).unwrap()));
}

fn three(v1: &Upstream, v2: &Upstream, v3: &Upstream, keys: &str) -> Setup {
    rollout(&v1.endpoint(), &v2.endpoint(), keys).cluster("v3", &[&v3.endpoint()])
}

#[test]
fn another_canary_in_the_file_starts_from_its_first_step() {
    let (v1, v2, v3) = (named("v1"), named("v2"), named("v3"));
    let serin = three(&v1, &v2, &v3, &slow("10, 50")).start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    assert_eq!(act(&serin, "weight", json!({"weight": "50%"})).status, 200);
    edited(&serin, |text| text.replace("canary: /#/clusters/v2", "canary: /#/clusters/v3"));
    until(&serin, "version 3 at its first step", |view| {
        view["canary"] == "/#/clusters/v3" && view["weight_ppm"] == 100_000
    });
    v2.forget();
    for _ in 0..50 {
        serin.get("world", "/");
    }
    assert_eq!(v2.count(), 0, "nobody is sent to the canary that was given up");
}

#[test]
fn a_file_that_changes_the_primary_wins() {
    let (v1, v2, v3) = (named("v1"), named("v2"), named("v3"));
    let serin = three(&v1, &v2, &v3, &slow("10, 50")).start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    edited(&serin, |text| {
        text.replace("primary: /#/clusters/v1", "primary: /#/clusters/v3")
            .replace("suspend: false", "suspend: true")
            .replace("/host/world => /#/clusters/v1", "/host/world => /#/clusters/v3")
    });
    until(&serin, "version 3 is the primary", |view| view["primary"] == "/#/clusters/v3");
    v1.forget();
    for _ in 0..50 {
        serin.get("world", "/");
    }
    assert_eq!(v1.count(), 0, "nobody is sent to the old primary");
}

#[test]
fn a_rollout_that_leaves_the_file_leaves_everything_to_the_dtab() {
    let (v1, v2) = (named("v1"), named("v2"));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &slow("10, 50")).start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    assert_eq!(act(&serin, "weight", json!({"weight": "100%"})).status, 200);
    let plain = Setup::new()
        .cluster("v1", &[&v1.endpoint()])
        .cluster("v2", &[&v2.endpoint()])
        .dtab("/svc => /host ;\n/host/world => /#/clusters/v1 ;")
        .top("storage: {kind: file, dir: state}");
    serin.rewrite(&plain.text());
    eventually("the rollout is gone", || serin.admin("/api/v1/rollouts/world").status == 404);
    check_all_from(&serin, "v1");
}

#[test]
fn judge_off_moves_only_by_hand() {
    let (v1, v2) = (named("v1"), named("v2"));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &format!("judge: off\n{}", steps("50"))).start();
    let users = Users::start(&serin, 2);
    eventually("some traffic", || users.sent() > 1_000);
    drop(users);
    assert_eq!((view(&serin)["weight_ppm"].as_u64(), v2.count()), (Some(0), 0));
    assert_eq!(act(&serin, "weight", json!({"weight": "100%"})).status, 200);
    check_all_from(&serin, "v2");
    assert_eq!(act(&serin, "abort", json!({})).status, 200);
    check_all_from(&serin, "v1");
}

#[test]
fn memory_storage_judges_and_forgets() {
    let (v1, v2) = (named("v1"), failing(2));
    let setup = with_storage(&v1.endpoint(), &v2.endpoint(), &steps("10, 50"), "{kind: memory}");
    let serin = setup.start();
    let users = Users::start(&serin, 4);
    until_phase(&serin, "rolled-back");
    drop(users);
    assert!(!serin.dir.path().join("state").exists());
}

#[test]
fn writes_need_the_token_from_loopback_too() {
    let (v1, v2) = (named("v1"), named("v2"));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &slow("10, 50")).start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    let address = serin.admin_address();
    let mut client = Client::connect(address);
    let body = json!({"who": "x", "why": "y"}).to_string();
    client.send(request(
        "POST",
        "/api/v1/rollouts/world/abort",
        &address.to_string(),
        &["content-type: application/json"],
        &body,
    ));
    assert_eq!(client.read("POST").status, 401);
    assert_eq!(view(&serin)["phase"], "progressing");
}

#[test]
fn a_dry_run_moves_nothing_not_even_over_a_kill() {
    let (v1, v2) = (named("v1"), named("v2"));
    let setup = rollout(&v1.endpoint(), &v2.endpoint(), &format!("dryRun: true\n{}", steps("50")));
    let mut serin = setup.start();
    for _ in 0..2 {
        until(&serin, "it is there", |view| view["judge"] == "dry-run");
        let users = Users::start(&serin, 2);
        eventually("some traffic", || users.sent() > 1_500);
        drop(users);
        let dir = Arc::clone(&serin.dir);
        serin.signal("KILL");
        serin.wait();
        serin = Serin::start_in(dir, &setup.text());
    }
    assert_eq!(v2.count(), 0, "the judge of a dry run moves nothing");
}

#[test]
fn a_canary_that_hangs_is_out_although_the_primary_has_little_history() {
    let (v1, v2) = (named("v1"), hanging());
    let setup = rollout(&v1.endpoint(), &v2.endpoint(), &steps("10, 50"));
    let serin = setup.server("limits: {connectionsPerSource: 10000}").start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    // users who do not wait for each other
    let mut open = Vec::new();
    while view(&serin)["phase"] != "rolled-back" {
        assert!(open.len() < 3_000, "nobody takes it back: {:#}", view(&serin));
        let mut client = Client::connect(serin.address());
        client.send(request("GET", "/", "world", &[], ""));
        open.push(client);
    }
    drop((v2, open));
    check_all_from(&serin, "v1");
}

/// Calls of one user, each with a deadline, until told to stop.
fn call_on(address: std::net::SocketAddr, calls: &AtomicUsize, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        h2peer::block_on(async {
            let mut send = h2peer::connect(address).await;
            for _ in 0..10 {
                let call = h2peer::grpc("world", "/a/b").header("grpc-timeout", "250m").body(()).unwrap();
                let _ = h2peer::call(&mut send, call, Some(h2peer::message("hello"))).await;
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

#[test]
fn a_canary_that_hangs_is_out_although_all_its_callers_have_short_deadlines() {
    let v1 = H2Upstream::start(|mut exchange| async move { exchange.grpc(&["done"], 0) });
    let v2 = H2Upstream::start(|_hung| async move { std::future::pending::<()>().await });
    let keys = format!("suspend: true\n{}", steps("10, 50"));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &keys).start();
    let (address, calls, stop) = (serin.address(), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| call_on(address, &calls, &stop));
        }
        // until the primary's p99 is known there is nothing to be slower than
        eventually("the primary has a history", || calls.load(Ordering::Relaxed) > 2_000);
        serin.rewrite(&std::fs::read_to_string(serin.file()).unwrap().replace("suspend: true", "suspend: false"));
        let rolled_back = std::panic::catch_unwind(|| until_phase(&serin, "rolled-back"));
        stop.store(true, Ordering::Relaxed);
        assert!(rolled_back.is_ok(), "it is not found");
    });
    assert!(!serin.log().contains("Ejected"), "no deadline was long enough to say something of an endpoint");
}

/// Another file for the same process: without any endpoint for this one.
fn scale_to_zero(serin: &Serin, endpoint: &str) {
    let file = std::fs::read_to_string(serin.file()).unwrap();
    assert!(file.contains(&format!("\"{endpoint}\"")), "{file}");
    serin.rewrite(&file.replace(&format!("\"{endpoint}\""), ""));
}

#[test]
fn a_canary_that_goes_away_with_all_of_the_traffic_gives_it_back() {
    let (v1, v2) = (named("v1"), named("v2"));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &slow("10, 50")).start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    assert_eq!(act(&serin, "promote", json!({})).status, 200);
    check_all_from(&serin, "v2");
    let users = Users::start(&serin, 2);
    scale_to_zero(&serin, &v2.endpoint());
    let end = until_phase(&serin, "rolled-back");
    assert_eq!(end["last"]["code"], "rollback:canary-down", "{end:#}");
    drop(users);
    check_all_from(&serin, "v1");
}

#[test]
fn a_canary_that_answers_nobody_any_more_with_all_of_the_traffic_gives_it_back() {
    let hangs = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&hangs);
    let v1 = named("v1");
    let v2 = Upstream::raw(move |wire, requests, index| {
        while next_request(wire, requests, index).is_some() {
            if seen.load(Ordering::Relaxed) {
                wire.at_end();
                return;
            }
            if wire.send(reply(200, &["x-origin: v2"], "")).is_err() {
                return;
            }
        }
    });
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &slow("10, 50")).start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    // until the primary's p99 is known there is nothing to be slower than
    let users = Users::start(&serin, 8);
    eventually("the primary has a history", || users.sent() > 2_000);
    assert_eq!(act(&serin, "promote", json!({})).status, 200);
    hangs.store(true, Ordering::Relaxed);
    until_phase(&serin, "rolled-back");
    drop((v2, users)); // who still waits for it gets an end
    check_all_from(&serin, "v1");
}

#[test]
fn nobody_is_sent_by_hand_to_a_version_without_endpoints() {
    let (v1, v2) = (named("v1"), named("v2"));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &slow("10, 50")).start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    scale_to_zero(&serin, &v2.endpoint());
    let refused = |action: &str, body: Value| {
        eventually(&format!("{action} is refused"), || {
            let answer = act(&serin, action, body.clone());
            answer.status == 409 && answer.text().contains("no endpoint")
        });
    };
    refused("weight", json!({"weight": "50%"}));
    refused("promote", json!({}));
    assert_eq!(act(&serin, "weight", json!({"weight": "0%"})).status, 200);
    assert_eq!(act(&serin, "abort", json!({})).status, 200);
    refused("undo", json!({}));
    check_all_from(&serin, "v1");
}

/// An origin of HTTP/1.1 alone: it meets the preface of HTTP/2 as any request it cannot read, and closes.
fn without_calls() -> Upstream {
    Upstream::raw(|wire, seen, index| {
        while let Some(request) = next_request(wire, seen, index) {
            let status = if request.method == "PRI" { 400 } else { 200 };
            if wire.send(reply(status, &[], "")).is_err() || status == 400 {
                return;
            }
        }
    })
}

#[test]
fn a_canary_that_takes_no_calls_is_out_where_the_primary_takes_them() {
    let (v1, v2) = (H2Upstream::start(|mut exchange| async move { exchange.grpc(&["done"], 0) }), without_calls());
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &slow("10, 50")).start();
    let (address, calls, stop) = (serin.address(), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| call_on(address, &calls, &stop));
        let rolled_back = std::panic::catch_unwind(|| until_phase(&serin, "rolled-back"));
        stop.store(true, Ordering::Relaxed);
        let end = rolled_back.expect("it is found");
        let made = calls.load(Ordering::Relaxed);
        assert!(made < 1_000, "found after {made} calls: {end:#}");
    });
}

#[test]
fn who_calls_a_service_that_is_not_for_calls_takes_no_canary_back() {
    // the primary speaks HTTP/2 as well, and says to a stranger's call that it knows no such method
    let v1 = H2Upstream::start(|mut exchange| async move { exchange.grpc(&[], 12) });
    let v2 = without_calls();
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &slow("50")).start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 500_000);
    let (address, calls, stop) = (serin.address(), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| call_on(address, &calls, &stop));
        eventually("many calls", || calls.load(Ordering::Relaxed) > 100);
        stop.store(true, Ordering::Relaxed);
    });
    let after = view(&serin);
    assert_eq!((&after["phase"], &after["canary_arm"]["failed"]), (&json!("progressing"), &json!(0)), "{after:#}");
}
