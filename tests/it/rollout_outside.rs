//! Hooks, metric providers and alerts of a rollout, as the world sees them: scripted peers, and a real Prometheus and a
//! real Alertmanager where they are installed.

use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use super::support::outside::{Guard, program, require_peer};
use super::support::ports::free_port;
use super::support::rollouts::{Users, failing, hanging, rollout, until, until_phase};
use super::support::upstream::reply;
use super::support::{Upstream, eventually, http1};

/// What a peer was sent, as JSON.
fn bodies(peer: &Upstream) -> Vec<Value> {
    let requests = peer.requests();
    requests.iter().map(|request| serde_json::from_slice(&request.body.data).unwrap()).collect()
}

/// A server of others in a folder of its own; ends with the test.
struct Other {
    _child: Guard,
    _folder: TempDir,
    port: u16,
}

impl Other {
    fn start(name: &str, file: &str, storage: &str, more: &[&str]) -> Other {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        std::fs::write(folder.path().join("config.yml"), file).unwrap();
        let mut command = program(name);
        command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command.args(["--config.file=config.yml", &format!("--web.listen-address=127.0.0.1:{port}")]);
        command.arg(format!("{storage}={}", folder.path().join("data").display())).args(more);
        let other = Other { _child: Guard(command.spawn().unwrap()), _folder: folder, port };
        let ready = || other.get("/-/ready").is_some_and(|(status, _)| status == 200);
        eventually(&format!("{name} is ready"), ready);
        other
    }

    fn get(&self, target: &str) -> Option<(u16, String)> {
        std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let answer = http1::get(([127, 0, 0, 1], self.port).into(), "localhost", target, &[]);
        Some((answer.status, answer.text()))
    }
}

#[test]
fn gate_opens_hooks_hear_of_it_and_alerts_tell_the_story() {
    let (v1, v2) = (Upstream::named("v1"), Upstream::named("v2"));
    let gate = Upstream::raw(|wire, seen, index| {
        while super::support::upstream::next_request(wire, seen, index).is_some() {
            let open = seen.flag.load(std::sync::atomic::Ordering::Acquire);
            if wire.send(reply(if open { 200 } else { 403 }, &[], "ask the captain")).is_err() {
                return;
            }
        }
    });
    let (events, alerts) = (Upstream::named("events"), Upstream::named("alerts"));
    let keys = format!(
        "pace: evidence\n\
         analysis:\n\
         \x20 interval: 1s\n\
         \x20 threshold: 5\n\
         \x20 stepWeights: [50]\n\
         \x20 webhooks:\n\
         \x20 - {{name: captain, type: confirm-rollout, url: 'http://{}/check', metadata: {{who: captain}}}}\n\
         \x20 - {{name: log, type: event, url: 'http://{}/'}}\n\
         \x20 alerts: [{{name: team, providerRef: {{name: team}}}}]",
        gate.endpoint(),
        events.endpoint()
    );
    let provider = format!("alertProviders: [{{name: team, type: slack, address: 'http://{}/x'}}]", alerts.endpoint());
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &keys).top(&provider).start();
    until(&serin, "it waits", |view| view["phase"] == "waiting");
    assert_eq!(v2.count(), 0, "nobody is sent to it before");
    let asked = bodies(&gate).remove(0);
    assert_eq!((&asked["name"], &asked["namespace"]), (&"world".into(), &"outgoing".into()));
    assert_eq!(asked["metadata"]["who"], "captain");
    assert!(asked["checksum"].as_str().is_some_and(|checksum| !checksum.is_empty()), "{asked}");

    gate.seen.flag.store(true, std::sync::atomic::Ordering::Release);
    let users = Users::start(&serin, 4);
    until_phase(&serin, "promoted");
    drop(users);
    let texts = |alerts: &Upstream| -> Vec<String> {
        bodies(alerts).iter().map(|body| body["attachments"][0]["text"].as_str().unwrap().to_owned()).collect()
    };
    eventually("the end is told", || {
        texts(&alerts).iter().any(|text| text.contains("promot") || text.contains("Promot"))
    });
    assert!(texts(&alerts).iter().any(|text| text.contains("waiting")), "{:?}", texts(&alerts));
    let heard = bodies(&events);
    assert!(heard.iter().all(|event| event["metadata"]["timestamp"].as_str().is_some_and(|ms| ms.len() == 13)));
    let types: Vec<&Value> = heard.iter().map(|event| &event["metadata"]["eventType"]).collect();
    assert!(types.iter().all(|kind| **kind == "Normal" || **kind == "Warning"), "{types:?}");
    assert!(heard.iter().any(|event| event["phase"] == "Succeeded"), "{heard:?}");
}

#[test]
fn sinks_that_hang_delay_no_rollback() {
    let (v1, bad, sink) = (Upstream::named("v1"), failing(2), hanging());
    let sink_at = sink.endpoint();
    let keys = format!(
        "pace: evidence\n\
         metricsServer: http://{sink_at}\n\
         analysis:\n\
         \x20 interval: 1s\n\
         \x20 threshold: 5\n\
         \x20 stepWeights: [10, 50]\n\
         \x20 metrics: [{{name: slow, query: up, thresholdRange: {{min: 1}}}}]\n\
         \x20 webhooks:\n\
         \x20 - {{name: load, type: rollout, url: 'http://{sink_at}/', timeout: 1m}}\n\
         \x20 - {{name: log, type: event, url: 'http://{sink_at}/', timeout: 1m}}\n\
         \x20 alerts: [{{name: team, providerRef: {{name: team}}}}]"
    );
    let provider = format!("alertProviders: [{{name: team, type: slack, address: 'http://{sink_at}/x'}}]");
    let serin = rollout(&v1.endpoint(), &bad.endpoint(), &keys).top(&provider).start();
    let users = Users::start(&serin, 4);
    let end = until_phase(&serin, "rolled-back");
    assert_eq!(end["last"]["code"], "rollback:evidence", "{end:#}");
    let failed = users.failed();
    assert!((1..=40).contains(&failed), "{failed} of {} failed", users.sent());
    eventually("they were asked and told", || sink.connections() > 0);
    let before = users.sent();
    eventually("users are served on", || users.sent() > before + 200);
    // each of the four may have had one request under way
    assert!(users.failed() <= failed + 4, "{failed} failed until it was out, then {}", users.failed());
}

#[test]
fn real_prometheus_holds_a_canary_and_real_alertmanager_shows_its_end() {
    if !require_peer("prometheus") || !require_peer("prometheus-alertmanager") {
        return;
    }
    let prometheus = Other::start("prometheus", "global: {}\n", "--storage.tsdb.path", &[]);
    let routes = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";
    let more = ["--cluster.listen-address="];
    let alertmanager = Other::start("prometheus-alertmanager", routes, "--storage.path", &more);
    let (v1, v2) = (Upstream::named("v1"), Upstream::named("v2"));
    let keys = format!(
        "pace: evidence\n\
         metricsServer: http://127.0.0.1:{}\n\
         analysis:\n\
         \x20 interval: 1s\n\
         \x20 threshold: 3\n\
         \x20 stepWeights: [50]\n\
         \x20 metrics:\n\
         \x20 - {{name: seven, query: 'label_replace(vector(7), \"service\", \"{{{{ service }}}}\", \"\", \"\")', \
         thresholdRange: {{max: 5}}}}\n\
         \x20 alerts: [{{name: team, providerRef: {{name: team}}}}]",
        prometheus.port
    );
    let provider = format!(
        "alertProviders: [{{name: team, type: alertmanager, address: 'http://127.0.0.1:{}'}}]",
        alertmanager.port
    );
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &keys).top(&provider).start();
    let users = Users::start(&serin, 2);
    // seven is more than five: three failed checks are the end of it
    let end = until_phase(&serin, "rolled-back");
    assert_eq!(end["last"]["code"], "rollback:threshold", "{end:#}");
    drop(users);
    let standing = || -> Vec<String> {
        let (_, text) = alertmanager.get("/api/v2/alerts?active=true").unwrap();
        let alerts: Vec<Value> = serde_json::from_str(&text).unwrap();
        alerts.iter().map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    };
    eventually("the failure stands there, and nothing else", || standing() == ["SerinRolloutFailed"]);
}
