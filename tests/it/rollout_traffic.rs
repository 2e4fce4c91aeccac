//! What the traffic of a rollout tells the judge, and what it must not tell.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::support::http1::Client;
use super::support::rollouts::{act, failing, rollout, rollout_of_many, until, view};
use super::support::upstream::{next_request, reply};
use super::support::{Serin, Upstream};

/// Half of the traffic on the canary for longer than any test.
const HALF: &str = "pace: evidence\nanalysis: {interval: 10m, threshold: 5, stepWeights: [50]}";

fn until_half(serin: &Serin) -> Value {
    until(serin, "half of the traffic", |view| view["weight_ppm"] == 500_000)
}

/// Sum of the samples of a metric whose line has all of these.
fn metric(serin: &Serin, parts: &[&str]) -> f64 {
    let text = serin.admin("/metrics").text();
    let lines = text.lines().filter(|line| !line.starts_with('#') && parts.iter().all(|part| line.contains(part)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn a_retry_leaves_an_arm_that_lost_its_weight_meanwhile() {
    let serin: Arc<OnceLock<Serin>> = Arc::default();
    let sprung = Arc::new(AtomicBool::new(false));
    let canary = {
        let (serin, sprung) = (Arc::clone(&serin), Arc::clone(&sprung));
        Upstream::raw(move |wire, seen, index| {
            // the first answer makes the connection one that has served before
            for exchange in 0.. {
                if next_request(wire, seen, index).is_none() {
                    return;
                }
                if exchange > 0 && !sprung.swap(true, Ordering::SeqCst) {
                    let answer = act(serin.get().unwrap(), "abort", json!({}));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    return; // closed without an answer, when nobody is sent here any more
                }
                if wire.send(reply(200, &["x-origin: v2"], "")).is_err() {
                    return;
                }
            }
        })
    };
    let primary = Upstream::named("v1");
    let started = rollout(&primary.endpoint(), &canary.endpoint(), HALF).top("workers: 1").start();
    let serin = serin.get_or_init(|| started);
    until_half(serin);
    let mut client = Client::connect(serin.address());
    let mut origins = Vec::new();
    while !sprung.load(Ordering::SeqCst) {
        let answer = client.get("world", "/", &[]);
        assert_eq!(answer.status, 200, "after {origins:?}");
        origins.push(answer.field("x-origin").unwrap());
        assert!(origins.len() < 1_000, "the canary was never asked twice");
    }
    assert_eq!(origins.last().map(String::as_str), Some("v1"), "{origins:?}");
    assert_eq!(metric(serin, &["serin_retries_total", "v2"]), 1.0);
    assert_eq!(client.get("world", "/", &[]).field("x-origin").as_deref(), Some("v1"));
}

#[test]
fn testers_failures_neither_count_nor_eject_what_users_are_served_by() {
    let canary = Upstream::reply(|request| {
        reply(if request.field("x-fail").is_some() { 500 } else { 200 }, &["x-origin: v2"], "")
    });
    let primary = Upstream::named("v1");
    let serin = rollout(&primary.endpoint(), &canary.endpoint(), HALF).start();
    until_half(&serin);
    let override_ = "l5d-dtab: /host/world => /#/clusters/v2";
    // what the testers go by is ejected soon, on each worker, and the override falls back to what users go by
    let tests: Vec<u16> = (0..50).map(|_| serin.get_with("world", "/", &[override_, "x-fail: 1"]).status).collect();
    assert!(tests.iter().filter(|status| **status == 500).count() >= 5, "{tests:?}");
    let users: Vec<_> = (0..100).map(|_| serin.get("world", "/")).collect();
    assert!(users.iter().all(|answer| answer.status == 200));
    let from = |name: &str| users.iter().filter(|answer| answer.field("x-origin").as_deref() == Some(name)).count();
    // at half of the traffic each: fewer than twenty of a hundred would be one chance in a billion
    assert!(from("v1") > 20 && from("v2") > 20, "{} {}", from("v1"), from("v2"));
    assert_eq!(view(&serin)["weight_ppm"], 500_000);
    assert_eq!(metric(&serin, &["serin_rollout_failures_total", "canary"]), 0.0);
    let by_arm = |arm: &str| metric(&serin, &["serin_requests_total", &format!("arm=\"{arm}\"")]);
    assert_eq!((by_arm("canary") + by_arm("primary"), by_arm("")), (100.0, 50.0));
    assert_eq!(by_arm("canary"), from("v2") as f64);
}

/// Everything that users see of a canary until it is rolled back: how many failures, of how many requests.
fn until_rolled_back(serin: &Serin) -> (usize, usize) {
    let (mut failures, mut requests) = (0, 0);
    while view(serin)["phase"] != "rolled-back" {
        requests += 1;
        failures += usize::from(serin.get("world", "/").status >= 500);
        assert!(requests < 2_000, "{failures} of {requests} failed, and nobody rolls back: {:#}", view(serin));
    }
    (failures, requests)
}

#[test]
fn a_canary_of_many_endpoints_that_refuses_everything_is_down_after_a_few_failures() {
    let refused: Vec<String> = {
        let listeners: Vec<_> = (0..20).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
    };
    let primary = Upstream::named("v1");
    let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
    let serin = rollout_of_many(&primary.endpoint(), &refused, HALF).top("workers: 2").start();
    until_half(&serin);
    let (failures, requests) = until_rolled_back(&serin);
    assert!(failures <= 24, "{failures} of {requests}");
}

#[test]
fn a_canary_that_fails_one_in_five_is_rolled_back_by_evidence() {
    let (primary, canary) = (Upstream::named("v1"), failing(5));
    let serin = rollout(&primary.endpoint(), &canary.endpoint(), HALF).top("workers: 1").start();
    until_half(&serin);
    let (failures, requests) = until_rolled_back(&serin);
    let code = view(&serin)["last"]["code"].as_str().unwrap_or_default().to_owned();
    assert_ne!(code, "canary-down", "{failures} of {requests}");
}

#[test]
fn both_arms_refusing_is_nobodys_fault() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let out = Arc::new(AtomicUsize::new(0));
    let origin = |name: &'static str| {
        let out = Arc::clone(&out);
        Upstream::reply(move |_| {
            let down = out.load(Ordering::SeqCst) > 0;
            reply(if down { 503 } else { 200 }, &[&format!("x-origin: {name}")], "")
        })
    };
    let (primary, canary) = (origin("v1"), origin("v2"));
    let serin = rollout(&primary.endpoint(), &canary.endpoint(), HALF).start();
    until_half(&serin);
    let ask = |times: usize| {
        for _ in 0..times {
            seen.lock().unwrap().push(serin.get("world", "/").status);
        }
    };
    ask(100);
    out.store(1, Ordering::SeqCst);
    ask(200);
    let stands = view(&serin);
    assert_eq!(stands["phase"], "progressing", "{stands:#}");
    assert!(seen.lock().unwrap()[100..].iter().all(|status| *status == 503));
}
