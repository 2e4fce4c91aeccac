//! How soon a bad canary is out and a good one is in, over real sockets: failures of the canary that users saw, the time
//! from the first of them, and the time to promotion.
//!
//! ```text
//! cargo bench -p serin-benches --bench guard [-- RUNS [WORD …]]
//! ```
//!
//! Requests arrive by chance, the primary fails one in a thousand. With words only the lines that have one of them are
//! run. Every line prints its mean over the runs and the worst of them. All lines take half an hour for a run each; the
//! simulator has the same with thousands of runs (`figures` of the crate `rollout`), and those that take hours here.
#![allow(clippy::expect_used, reason = "a benchmark that cannot go on stops loudly")]

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serin::clock;
use serin::control::{self, ConfigSource, Running, StartOptions};
use serin_benches::crowd::{Fault, Origin, PATIENCE, Users, Wire};

/// Requests a second, where a line does not say.
const RPS: f64 = 100.0;
/// A run that takes longer has failed.
const RUN_MAX: Duration = Duration::from_secs(1_200);
/// Of the primary, so that its p99 is known.
const WARM_UP: u64 = 1_500;
/// For what ends at its patience to be counted.
const SETTLED: Duration = Duration::from_millis(200);
/// The primary fails so often.
const BASE: f64 = 0.001;

/// A bad canary.
struct Line {
    wire: Wire,
    fault: Fault,
    percent: u32,
    budget: &'static str,
    /// Failed requests, at most, on average; for a hang seconds beyond the primary's p99. Infinite: only printed.
    bound: f64,
}

const fn line(wire: Wire, fault: Fault, percent: u32, budget: &'static str, bound: f64) -> Line {
    Line { wire, fault, percent, budget, bound }
}

const LINES: &[Line] = &[
    line(Wire::Http1, Fault::Fails(0.5), 2, "0.2%", 3.0),
    line(Wire::Http1, Fault::Fails(0.5), 10, "0.2%", 4.7),
    line(Wire::Http1, Fault::Fails(0.5), 50, "0.2%", 12.5),
    line(Wire::Http1, Fault::Fails(0.05), 2, "0.2%", 4.7),
    line(Wire::Http1, Fault::Fails(0.05), 10, "0.2%", 5.6),
    line(Wire::Http1, Fault::Fails(0.05), 50, "0.2%", 13.5),
    line(Wire::Http1, Fault::Fails(0.01), 10, "0.2%", 12.5),
    line(Wire::Http1, Fault::Fails(0.01), 50, "0.2%", 20.0),
    line(Wire::Http1, Fault::Fails(0.5), 10, "default", f64::INFINITY),
    line(Wire::Http1, Fault::Fails(0.05), 10, "default", f64::INFINITY),
    line(Wire::Grpc, Fault::Fails(0.5), 10, "default", f64::INFINITY),
    line(Wire::Grpc, Fault::Fails(0.5), 50, "default", f64::INFINITY),
    line(Wire::Grpc, Fault::Fails(0.05), 10, "default", f64::INFINITY),
    line(Wire::Http1, Fault::Hangs, 10, "default", 3.0),
    line(Wire::Http1, Fault::Hangs, 50, "default", 3.0),
    line(Wire::Grpc, Fault::Hangs, 10, "default", 3.0),
    line(Wire::Http1, Fault::Refuses, 10, "default", 10.0),
];

/// Requests a second at which a canary that is like the primary is promoted.
const PROMOTIONS: [f64; 2] = [1_000.0, 100.0];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs = arguments.first().and_then(|first| first.parse::<u32>().ok());
    let words = &arguments[usize::from(runs.is_some())..];
    let runs = runs.unwrap_or(1).max(1);
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    println!("{runs} runs a line, {RPS} requests a second where a line says nothing else");
    let mut held = true;
    for line in LINES {
        let name = format!("{:?} {:?} at {} %, budget {}", line.wire, line.fault, line.percent, line.budget);
        if wanted(&name) {
            held &= rolls_back(line, &name, runs);
        }
    }
    for rps in PROMOTIONS {
        let name = format!("identical canary, {rps} requests a second, steps 1, 5, 10, 25, 50 %");
        if wanted(&name) {
            promotes(rps, &name, runs);
        }
    }
    assert!(held, "a line is over its bound");
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn rolls_back(line: &Line, name: &str, runs: u32) -> bool {
    let seen: Vec<Seen> = (0..runs).map(|_| roll_back(line)).collect();
    let failed: Vec<f64> = seen.iter().map(|one| one.failed as f64).collect();
    let took: Vec<f64> = seen.iter().map(|one| one.seconds).collect();
    let held = if line.fault == Fault::Hangs { worst(&took) } else { mean(&failed) } <= line.bound;
    let verdict = match line.bound {
        f64::INFINITY => String::new(),
        bound if held => format!(" (bound {bound}: ok)"),
        bound => format!(" (bound {bound}: OVER)"),
    };
    println!(
        "{name}: {:.1} failed requests on average, at most {:.0}; out {:.2} s after the first on average, at most \
         {:.2}{verdict}",
        mean(&failed),
        worst(&failed),
        mean(&took),
        worst(&took),
    );
    held
}

fn promotes(rps: f64, name: &str, runs: u32) {
    let seen: Vec<Option<f64>> = (0..runs).map(|_| promotion(rps)).collect();
    let took: Vec<f64> = seen.iter().flatten().copied().collect();
    let away = seen.len() - took.len();
    if took.is_empty() {
        println!("{name}: rolled back in all {away} runs");
    } else {
        let (mean, worst) = (mean(&took), worst(&took));
        println!(
            "{name}: promoted after {mean:.1} s on average, at most {worst:.1} s; rolled back in {away} of {runs} runs"
        );
    }
}

/// What users saw of one bad canary.
struct Seen {
    failed: u64,
    /// From the first failure of the canary, or the first request that hung, to the rollback.
    seconds: f64,
}

fn roll_back(line: &Line) -> Seen {
    let guard = match line.budget {
        "default" => String::new(),
        budget => format!("  guard: {{errorBudget: {budget}}}\n"),
    };
    let stand = Stand::start(line.wire, line.fault, RPS, &format!("{}", line.percent), &guard);
    assert_eq!(stand.end().1, "rolled-back", "{:?} is in", line.fault);
    let ended_us = stand.users.now_us();
    // those that hang are known when users lose their patience
    std::thread::sleep(PATIENCE + SETTLED);
    let first_us = stand.users.first_bad_us.load(Ordering::Relaxed);
    let failed = stand.users.failed.load(Ordering::Relaxed);
    // only what is refused is tried elsewhere before users see it
    assert!(failed > 0 || line.fault == Fault::Refuses, "users saw the reason of a rollback");
    let first_us = if failed == 0 { ended_us } else { first_us.min(ended_us) };
    stand.stop();
    Seen { failed, seconds: (ended_us - first_us) as f64 / 1e6 }
}

/// Seconds until a canary like the primary is promoted; `None`: it was rolled back.
fn promotion(rps: f64) -> Option<f64> {
    let stand = Stand::start(Wire::Http1, Fault::Fails(BASE), rps, "1, 5, 10, 25, 50", "");
    let (took, phase) = stand.end();
    stand.stop();
    (phase == "promoted").then_some(took.as_secs_f64())
}

/// A rollout under way, with traffic.
struct Stand {
    folder: PathBuf,
    running: Running,
    users: Users,
    began_us: u64,
    /// Primary and canary, until the end.
    _origins: [Origin; 2],
}

impl Stand {
    /// The primary has a history when the rollout begins.
    fn start(wire: Wire, fault: Fault, rps: f64, steps: &str, guard: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("serin-guard-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let origins = [Origin::start(wire, Fault::Fails(BASE), "primary"), Origin::start(wire, fault, "canary")];
        let file = folder.join("serin.yaml");
        let text = |suspend: bool| config(suspend, &origins, steps, guard);
        std::fs::write(&file, text(true)).expect("a file");
        let running = control::start(StartOptions::embedded(ConfigSource::File(file.clone()))).expect("it starts");
        let proxy = running.addresses[0].1;
        let users = Users::start(wire, proxy, rps.max(500.0));
        while users.sent.load(Ordering::Relaxed) < WARM_UP {
            std::thread::sleep(Duration::from_millis(1));
        }
        users.stop();
        let users = Users::start(wire, proxy, rps);
        replace(&file, &text(false));
        Self { folder, running, users, began_us: clock::now_us(), _origins: origins }
    }

    /// Waits for the end of the rollout: how long it took, and the phase it ended in.
    fn end(&self) -> (Duration, String) {
        loop {
            let phase = self.running.judge.views().first().map(|view| view.phase.clone()).unwrap_or_default();
            if phase == "rolled-back" || phase == "promoted" {
                return (self.took(), phase);
            }
            assert!(self.took() < RUN_MAX, "no end: {:?}", self.running.judge.views());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn took(&self) -> Duration {
        Duration::from_micros(clock::now_us().saturating_sub(self.began_us))
    }

    fn stop(self) {
        self.users.stop();
        self.running.stop();
        assert_eq!(self.running.wait(), 0);
        std::fs::remove_dir_all(self.folder).expect("the folder is ours");
    }
}

fn config(suspend: bool, [primary, canary]: &[Origin; 2], steps: &str, guard: &str) -> String {
    let (primary, canary) = (primary.address, canary.address);
    format!(
        "admin: {{ip: 127.0.0.1, port: 0}}\nstorage: {{kind: memory}}\nclusters:\n  v1: {{endpoints: [\"{primary}\"]}}\n  \
         v2: {{endpoints: [\"{canary}\"]}}\nrouters:\n- protocol: http\n  servers: [{{ip: 127.0.0.1, port: 0}}]\n  dtab: |\n    \
         /svc/world => /#/clusters/v1 ;\nrollouts:\n- name: world\n  router: http\n  path: /svc/world\n  primary: /#/clusters/v1\n  \
         canary: /#/clusters/v2\n  pace: evidence\n  suspend: {suspend}\n{guard}  analysis: {{interval: 1s, threshold: 5, \
         stepWeights: [{steps}]}}\n"
    )
}

fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).expect("a file");
    std::fs::rename(beside, file).expect("a file");
}
