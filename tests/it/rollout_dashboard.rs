//! The dashboard of `examples/grafana`: a real Prometheus scrapes a live Serin, and every query finds what it asks for.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::support::http1::get;
use super::support::outside::{Guard, program, require_peer};
use super::support::ports::free_port;
use super::support::rollouts::{self, Users, failing, rollout, steps};
use super::support::serin::project;
use super::support::{Serin, eventually};

/// Queries that rightly find nothing while a good canary goes its way.
const MAY_BE_EMPTY: [&str; 4] = [
    "serin_rollout_held",
    "serin_rollout_gate_wait_seconds",
    "serin_rollout_hook_duration",
    "serin_response_failures_total",
];

/// Every query of the dashboard, its variables filled in.
fn queries() -> Vec<String> {
    let text = std::fs::read_to_string(project().join("examples/grafana/serin-rollouts.json")).unwrap();
    let mut found = Vec::new();
    collect(&serde_json::from_str(&text).unwrap(), &mut found);
    let fill = |query: String| {
        let all = ["$rollout", "$instance", "$router"].iter().fold(query, |query, name| query.replace(name, ".*"));
        all.replace("$__rate_interval", "60s")
    };
    found.into_iter().map(fill).collect()
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

fn start_prometheus(folder: &Path, serin: &Serin) -> (Guard, std::net::SocketAddr) {
    let file = folder.join("prometheus.yml");
    let target = serin.admin_address();
    let text = format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}\nscrape_configs:\n- job_name: serin\n  \
         static_configs: [{{targets: ['{target}']}}]\n"
    );
    std::fs::write(&file, text).unwrap();
    let address: std::net::SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let child = program("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (Guard(child), address)
}

/// What a query finds now: how many series.
fn found(prometheus: std::net::SocketAddr, query: &str) -> Result<usize, String> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let response = get(prometheus, "prometheus", &format!("/api/v1/query?query={encoded}"), &[]);
    let answer: Value = serde_json::from_slice(&response.body).map_err(|error| error.to_string())?;
    match answer["data"]["result"].as_array() {
        Some(series) if answer["status"] == "success" => Ok(series.len()),
        _ => Err(answer.to_string()),
    }
}

#[test]
fn every_query_of_the_dashboard_finds_something_in_a_real_prometheus() {
    if !require_peer("prometheus") {
        return;
    }
    let (primary, canary) = (failing(0), failing(0));
    let serin = rollout(&primary.endpoint(), &canary.endpoint(), &steps("5, 50")).start();
    let users = Users::start(&serin, 4);
    let folder = tempfile::tempdir().unwrap();
    let (_prometheus, address) = start_prometheus(folder.path(), &serin);
    eventually("prometheus has scraped", || {
        std::net::TcpStream::connect(address).is_ok() && found(address, "up == 1").is_ok_and(|series| series == 1)
    });
    rollouts::until_phase(&serin, "promoted");
    let queries = queries();
    assert!(queries.len() > 20, "the dashboard has queries");
    for query in queries {
        let optional = MAY_BE_EMPTY.iter().any(|name| query.contains(name)) || query.contains("rollback:");
        eventually(&format!("{query}: {:?}", found(address, &query)), || match found(address, &query) {
            Ok(series) => series > 0 || optional,
            Err(error) => panic!("{query}: {error}"),
        });
    }
    assert_eq!(users.failed(), 0, "users saw nothing of it");
}
