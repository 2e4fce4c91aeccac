//! Against a real Prometheus and a real Alertmanager, where they are installed. Missing ones are skipped, unless
//! `SERIN_REQUIRE_PEERS=1`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serin_config::model::{AlertKind, AlertProvider, Secret};
use serin_rollout::Reading;
use serin_rollout::event::Severity;
use tempfile::TempDir;

use super::super::{AlertMessage, Job, JobKind, Outside, Query};
use super::{eventually, start};
use crate::clock;

/// A program of others on a port of its own, in a folder of its own; ends with the test.
struct Real {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Real {
    /// `None`: it is not installed. `arguments` get the folder and the port.
    fn start(names: &[&str], file: &str, arguments: impl Fn(&str, u16) -> Vec<String>) -> Option<Self> {
        let Some(program) = names.iter().find_map(|name| find(name)) else {
            println!("skipped: needs {}", names[0]);
            assert!(std::env::var_os("SERIN_REQUIRE_PEERS").is_none_or(|value| value != "1"), "needs {}", names[0]);
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        std::fs::write(folder.path().join("config.yml"), file).unwrap();
        // Free a moment ago; whoever took it since makes the program stop, and another port is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = Command::new(&program);
            command.args(arguments(&path, port)).current_dir(&path);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let mut gone = false;
            eventually("it is ready, or gone", || {
                gone = child.try_wait().unwrap().is_some();
                gone || get(port, "/-/ready").is_some_and(|(head, _)| head.contains(" 200 "))
            });
            if !gone {
                return Some(Self { child, port, _folder: folder });
            }
        }
        panic!("{} does not stay", program.display());
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Head and body; `None`: nobody answers.
fn get(port: u16, target: &str) -> Option<(String, String)> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection.write_all(format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    connection.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned()))
}

// ── prometheus ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn prometheus_answers_every_kind_of_query() {
    let itself = "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: itself, static_configs: []}]\n";
    let prometheus = Real::start(&["prometheus"], itself, |folder, port| {
        vec![
            format!("--config.file={folder}/config.yml"),
            format!("--storage.tsdb.path={folder}/data"),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ]
    });
    let Some(prometheus) = prometheus else { return };
    let asked = |text: &str| {
        super::super::query::tests::asked(Query::prometheus(prometheus.url(), text.into(), Duration::from_secs(60)))
    };
    #[track_caller]
    fn check((reading, why): (Reading, String), wanted: Reading, why_has: &str) {
        assert_eq!(reading, wanted, "{why}");
        assert!(why.contains(why_has), "{why}");
    }
    check(asked("vector(99.5)"), Reading::Value(99.5), "");
    check(asked("scalar(vector(-1e3))"), Reading::Value(-1000.0), "");
    check(asked("  sum(\n  vector(1) + vector(2) * 1\n)  "), Reading::Value(3.0), "");
    check(asked("label_replace(vector(7), \"a\", \"b+c d\", \"\", \"\")"), Reading::Value(7.0), "");
    check(asked("no_such_metric{a=~\"x.*\"}"), Reading::NoValues, "no values");
    check(asked("vector(0) / 0"), Reading::NoValues, "NaN");
    check(asked("vector(1) / 0"), Reading::NoValues, "inf");
    check(asked("no_such_metric[5m]"), Reading::ProviderError, "matrix");
    check(asked("\"text\""), Reading::ProviderError, "string");
    check(asked("sum(("), Reading::ProviderError, "400: bad_data: ");
    let away = Query::prometheus(format!("{}/not/here", prometheus.url()), "1".into(), Duration::from_secs(60));
    check(super::super::query::tests::asked(away), Reading::ProviderError, "404 Not Found");
}

// ── alertmanager ──────────────────────────────────────────────────────────────────────────────────────────────────────

fn tell(outside: &Outside, provider: &AlertProvider, least: Severity, severity: Severity, text: &str) {
    let alert = AlertMessage {
        rollout: "world".into(),
        namespace: "outgoing".into(),
        revision: "/srv/world-v2".into(),
        phase: "Progressing".into(),
        code: "waiting:promotion".into(),
        text: text.into(),
        severity,
        fields: vec![("Target".into(), "Rollout/world.outgoing".into())],
        weight_ppm: 100_000,
        run_started_ms: 1,
        at_ms: clock::unix_ms(),
    };
    let done = outside.counts(JobKind::Alert).done;
    assert!(outside.submit(Job::Alert { provider: Arc::new(provider.clone()), least, alert }));
    eventually("it is told", || outside.counts(JobKind::Alert).done == done + 1);
}

/// Name and summary of the alerts that stand.
fn standing(port: u16) -> Vec<(String, String)> {
    let (_, body) = get(port, "/api/v2/alerts?active=true").expect("it answers");
    let alerts: Vec<Value> = serde_json::from_str(&body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |alert: &Value| (text(&alert["labels"]["alertname"]), text(&alert["annotations"]["summary"]));
    alerts.iter().map(pair).collect()
}

#[test]
fn alertmanager_has_one_alert_of_a_rollout_at_a_time() {
    let file = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";
    let names = ["prometheus-alertmanager", "alertmanager"];
    let alertmanager = Real::start(&names, file, |folder, port| {
        vec![
            format!("--config.file={folder}/config.yml"),
            format!("--storage.path={folder}/data"),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--cluster.listen-address=".into(),
        ]
    });
    let Some(alertmanager) = alertmanager else { return };
    let provider = AlertProvider {
        name: "alerts".into(),
        kind: AlertKind::Alertmanager,
        address: Secret::Plain(alertmanager.url()),
        channel: None,
        username: "serin".into(),
        token: None,
        proxy: None,
        template: None,
    };
    let (outside, _answers) = start();
    let check = |least, severity, text: &str, wanted: &[(&str, &str)]| {
        tell(&outside, &provider, least, severity, text);
        let wanted: Vec<_> = wanted.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        eventually(&format!("{wanted:?} stand"), || standing(alertmanager.port) == wanted);
    };
    check(Severity::Info, Severity::Info, "starts", &[("SerinRolloutProgress", "starts")]);
    check(Severity::Info, Severity::Warn, "waits", &[("SerinRolloutWaiting", "waits")]);
    check(Severity::Info, Severity::Error, "fails", &[("SerinRolloutFailed", "fails")]);
    check(Severity::Error, Severity::Info, "is well again", &[]);
}
