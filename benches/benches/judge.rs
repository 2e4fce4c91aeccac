//! How soon a verdict is in force, and what judging costs.
//!
//! ```text
//! cargo bench -p serin-benches --bench judge [-- ROLLBACKS]
//! ```
//!
//! A Serin with 100,000 dentries, a journal on a disk that is full, hooks and alerts to a peer that never answers, and
//! traffic on several connections. A canary goes bad, is rolled back, and begins again, many times. Measured is the time
//! from the failing answer that decides, when the canary writes it, to the first request, when it arrives at the primary,
//! after which none goes to the canary.
//!
//! The canary fails once in [`FAILURES_APART`], which is longer than the judge may sleep: its last failure before the
//! verdict is the one that decides. Times include two ways through the proxy and the wait for a request.
#![allow(clippy::expect_used, reason = "a benchmark that cannot go on stops loudly")]

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serin::clock;
use serin::judge::{LOOK_MS, View};
use serin_benches::arms::{Arms, Log, Traffic};
use serin_benches::children::{self, Kind};
use serin_benches::disk::SmallDisk;
use serin_benches::proxy::{self, Proxy};
use serin_benches::threads::Threads;
use serin_benches::{measures, tables};
use serin_rollout::Command;
use tokio::runtime::{Builder, Runtime};

/// Rollbacks that are measured, unless the command line says.
const ROLLBACKS: usize = 100;
/// The same beside many other rollouts.
const ROLLBACKS_AMONG_MANY: usize = 20;
/// Rollouts of one process that must do.
const MANY: usize = 1_000;
const DENTRIES: usize = 100_000;
/// From the failure that decides to the first request by the new weights, of 99 in 100.
const P99_MAX_US: u64 = 20_000;
/// One look at each of [`MANY`] rollouts.
const LOOKS_MAX: Duration = Duration::from_millis(LOOK_MS);
/// Part of a processor that the judge of one rollout may take.
const JUDGE_MAX: f64 = 0.01;
const FAILURES_APART: Duration = Duration::from_millis(LOOK_MS + 25);
/// What a verdict may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// What was under way at a verdict has arrived then.
const SETTLED: Duration = Duration::from_millis(30);
/// Clients whose requests are timed, and clients of all other rollouts.
const CLIENTS: [usize; 2] = [8, 4];

fn main() -> ExitCode {
    if children::run() {
        return ExitCode::SUCCESS;
    }
    let wanted = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let few = !measures();
    let rollbacks = if few { 1 } else { wanted.unwrap_or(ROLLBACKS) };
    let mut kept = verdicts(1, rollbacks);
    kept &= verdicts(if few { 10 } else { MANY }, rollbacks.min(ROLLBACKS_AMONG_MANY));
    kept &= cost(if few { 1 } else { 11 }, if few { 10 } else { 5_000 });
    if kept || few { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Times so many rollbacks of one of so many rollouts.
fn verdicts(rollouts: usize, rollbacks: usize) -> bool {
    let stand = Stand::start(rollouts);
    let disk = if stand.disk.is_some() { "a full disk" } else { "a disk with room (only root may mount a full one)" };
    println!("{DENTRIES} dentries, rollouts: {rollouts}, {disk}, hooks and alerts that hang:");
    let mut kept = true;
    if rollouts > 1 {
        kept &= stand.looks(rollouts);
    }
    let mut unwritten = 0;
    let mut took: Vec<u64> = Vec::with_capacity(rollbacks);
    for _ in 0..rollbacks {
        let verdict = stand.roll_back();
        unwritten += usize::from(verdict.unwritten);
        took.push(verdict.took_us);
    }
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    let (p50, p99, max) = (at(50), at(99), at(100));
    kept &= p99 <= P99_MAX_US;
    println!(
        "  failure to first request by the new weights: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms of {rollbacks} (p99 at most \
         {:.0} ms{}); the journal refused {unwritten} of them",
        ms(p50),
        ms(p99),
        ms(max),
        ms(P99_MAX_US),
        verdict(p99 <= P99_MAX_US),
    );
    stand.stop();
    kept
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

fn verdict(kept: bool) -> &'static str {
    if kept { ": ok" } else { ": OVER" }
}

/// One rollback.
struct Verdict {
    took_us: u64,
    /// The journal could not be written.
    unwritten: bool,
}

struct Stand {
    proxy: Proxy,
    threads: Threads,
    arms: Arms,
    traffic: Traffic,
    disk: Option<SmallDisk>,
    folder: PathBuf,
    runtime: Runtime,
}

impl Stand {
    fn start(rollouts: usize) -> Self {
        let folder = std::env::temp_dir().join(format!("serin-judge-{}-{rollouts}", std::process::id()));
        let disk = if rollouts == 1 { SmallDisk::mount(&folder) } else { None };
        let storage = match rollouts {
            1 => format!("{{kind: file, dir: \"{}\"}}", folder.join("state").display()),
            _ => "{kind: memory}".to_owned(),
        };
        let arms = Arms::start(FAILURES_APART);
        let before = Threads::now();
        let proxy = Proxy::start(config(&arms, rollouts, &storage, hanging()));
        let threads = Threads::now().without(&before);
        let services = (0..rollouts).map(|rollout| format!("world-{rollout}")).collect();
        let others = if rollouts > 1 { CLIENTS[1] } else { 0 };
        let traffic = Traffic::start(proxy.address, services, CLIENTS[0], others);
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let stand = Self { proxy, threads, arms, traffic, disk, folder, runtime };
        until("all have begun", || stand.views().iter().all(|view| view.weight_ppm > 0));
        stand
    }

    fn views(&self) -> Vec<std::sync::Arc<View>> {
        self.proxy.running.judge.views().to_vec()
    }

    fn watched(&self) -> std::sync::Arc<View> {
        self.views().into_iter().find(|view| &*view.name == "world-0").expect("the rollout")
    }

    /// The canary goes bad, is out, and begins again.
    fn roll_back(&self) -> Verdict {
        until("the canary has requests", || self.arms.of_canary() > 0);
        if let Some(disk) = &self.disk {
            disk.fill();
        }
        self.arms.turn(true);
        until("it is out", || self.watched().phase == "rolled-back");
        std::thread::sleep(SETTLED);
        let log = self.arms.turn(false);
        let told = self.proxy.running.judge.recent();
        let told = told.iter().rfind(|told| &*told.rollout == "world-0" && told.code.starts_with("rollback:"));
        let told = told.expect("it is told");
        assert_eq!(told.code, "rollback:evidence", "{}", told.text);
        let took_us = took_us(&log, told.at_ms);
        if self.disk.is_some() {
            // what the last page of the journal takes is written although the disk is full
            std::thread::sleep(SETTLED);
        }
        let unwritten = self.disk.is_some() && self.watched().storage != "durable";
        assert_eq!(self.arms.of_canary(), 0, "none goes to the canary");
        if let Some(disk) = &self.disk {
            disk.empty();
        }
        self.begin_again();
        Verdict { took_us, unwritten }
    }

    /// The same revision once more. A disk that was full a moment ago may refuse it for a while.
    fn begin_again(&self) {
        let judge = &self.proxy.running.judge;
        let snapshot = self.proxy.running.world.load();
        let rollouts = &snapshot.structure.config.rollouts;
        let revision = &rollouts.iter().find(|rollout| rollout.name == "world-0").expect("the rollout").revision;
        until("it may begin again", || {
            let start = judge.command("world-0", Command::Start(revision.clone()), "bench", "once more");
            self.runtime.block_on(start).is_ok()
        });
        until("it begins again", || self.watched().weight_ppm > 0);
    }

    /// What the judge spends on one look at each rollout, with everything it does beside it.
    fn looks(&self, rollouts: usize) -> bool {
        let time = if measures() { Duration::from_secs(5) } else { Duration::from_millis(100) };
        let (then, from_us) = (Threads::now(), clock::now_us());
        std::thread::sleep(time);
        let (now, took_us) = (Threads::now(), clock::now_us() - from_us);
        let then = then.of(&self.threads);
        let spent = then.spent(&now, Some("serin-judge"));
        let looks = took_us as f64 / (LOOK_MS * 1_000) as f64;
        let one = spent.div_f64(looks);
        let kept = one <= LOOKS_MAX.mul_f64(0.9);
        println!(
            "  the judge's thread takes {:.2} ms of a processor in {LOOK_MS} ms, in which it looks once at each of \
             {rollouts}{}",
            one.as_secs_f64() * 1e3,
            verdict(kept)
        );
        kept
    }

    fn stop(self) {
        self.traffic.stop();
        self.proxy.stop();
        drop((self.arms, self.disk));
        // with memory for a journal there is none
        let _none = std::fs::remove_dir_all(self.folder);
    }
}

/// From the failure that decided, which is the last before the verdict, to the first request at the primary behind the
/// last at the canary.
fn took_us(log: &Log, verdict_ms: u64) -> u64 {
    let before = |at: &&u64| clock::steady_ms_of(**at) <= verdict_ms;
    let decided = *log.failures.iter().rfind(before).expect("a failure before the verdict");
    let last = log.canary.last().map_or(decided, |last| decided.max(*last));
    let first = *log.primary.iter().find(|at| **at > last).expect("a request after the verdict");
    first - decided
}

fn until(what: &str, done: impl Fn() -> bool) {
    let from_us = clock::now_us();
    while !done() {
        assert!(clock::now_us() - from_us < PATIENCE.as_micros() as u64, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A peer that accepts and never answers.
fn hanging() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let accepted: Vec<_> = listener.incoming().map_while(Result::ok).collect();
        drop(accepted);
    });
    address
}

/// Only failures count: how slow an arm is, is chance on a machine that does other things too.
fn config(arms: &Arms, rollouts: usize, storage: &str, hanging: SocketAddr) -> String {
    let text = tables::text(DENTRIES, 100);
    let mut text = proxy::config_of(&text, arms.primary, arms.canary, hanging);
    text += &format!(
        "storage: {storage}\nalertProviders: [{{name: hangs, type: slack, address: \"http://{hanging}/\"}}]\nrollouts:\n"
    );
    for rollout in 0..rollouts {
        text += &format!(
            "- name: world-{rollout}\n  router: gateway\n  path: /host/world-{rollout}\n  primary: /#/clusters/hello\n  canary: \
             /#/clusters/other\n  pace: evidence\n  guard: {{errorBudget: 0.05%, stakes: {{failure: 100%, slow50: 0%, slow90: 0%, \
             slow99: 0%}}}}\n  analysis:\n    interval: 1s\n    threshold: 1000\n    stepWeights: [50]\n    alerts: [{{name: \
             hangs, providerRef: {{name: hangs}}}}]\n    webhooks:\n    - {{name: load, type: rollout, timeout: 1s, url: \
             \"http://{hanging}/\"}}\n    - {{name: event, type: event, url: \"http://{hanging}/\"}}\n    - {{name: after, type: \
             post-rollout, url: \"http://{hanging}/\"}}\n"
        );
    }
    text
}

/// A proxy whose processor time is counted.
struct Counted {
    proxy: Proxy,
    threads: Threads,
    load: children::Other,
    /// Processor time of each request, one value a turn, in µs.
    each_us: Vec<f64>,
    /// Part of a processor that the judge took, likewise.
    judge: Vec<f64>,
}

impl Counted {
    fn start(text: String) -> Self {
        let before = Threads::now();
        let proxy = Proxy::start(text);
        let load = children::load(Kind::Get128, proxy.address);
        let threads = Threads::now().without(&before);
        Self { proxy, threads, load, each_us: Vec::new(), judge: Vec::new() }
    }

    fn turn(&mut self, requests: u64) {
        let (then, from_us) = (Threads::now().of(&self.threads), clock::now_us());
        self.load.send(requests);
        let (now, took_us) = (Threads::now(), clock::now_us() - from_us);
        self.each_us.push(then.spent(&now, None).as_secs_f64() * 1e6 / requests as f64);
        self.judge.push(then.spent(&now, Some("serin-judge")).as_secs_f64() * 1e6 / took_us as f64);
    }

    fn end(self) -> [f64; 2] {
        drop(self.load);
        self.proxy.stop();
        [self.each_us, self.judge].map(|mut values| {
            values.sort_unstable_by(f64::total_cmp);
            values[values.len() / 2]
        })
    }
}

/// What a request costs without rollouts, with one of another service, and with one of its own; in turns.
fn cost(turns: usize, requests: u64) -> bool {
    let (_upstreams, http1, grpc) = children::upstreams();
    let plain = proxy::config(&tables::text(100, 10), http1, grpc);
    let own = proxy::with_rollout(&plain).replace("judge: off", "judge: here");
    let other = own.replace("path: /host/hello", "path: /host/nobody");
    let names = ["without a rollout", "with one of another service", "with one of this service"];
    let mut proxies = [plain, other, own].map(Counted::start);
    for _ in 0..turns {
        proxies.iter_mut().for_each(|proxy| proxy.turn(requests));
    }
    let figures = proxies.map(Counted::end);
    let mut kept = true;
    println!("processor time of a GET, medians of {turns} turns of {requests} requests:");
    for (name, [each_us, judge]) in names.into_iter().zip(figures) {
        let more = (each_us / figures[0][0] - 1.0) * 100.0;
        let within = judge <= JUDGE_MAX;
        kept &= within;
        println!(
            "  {name}: {each_us:.1} µs ({more:+.1} %), the judge's thread {:.2} % of a processor{}",
            judge * 100.0,
            verdict(within)
        );
    }
    kept
}
