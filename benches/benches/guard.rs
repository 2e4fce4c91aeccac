//! How soon a bad canary is out, over real sockets: failures that users saw, and the time from the first of them.
//!
//! ```text
//! cargo bench -p serin-benches --bench guard [-- RUNS [WORD …]]
//! ```
//!
//! 100 requests a second arrive by chance, the primary fails one in a thousand. With words only the lines that have
//! one of them are run. The simulator has the same lines with thousands of runs (`figures` of the crate `rollout`).

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serin::control::{self, ConfigSource, Running, StartOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// Requests a second.
const RPS: f64 = 100.0;
/// A line that takes longer has failed.
const LINE_MAX: Duration = Duration::from_secs(240);
/// Of the primary, so that its p99 is known.
const WARM_UP: u64 = 1_500;

/// How a canary misbehaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Fails(f64),
    Hangs,
    Refuses,
}

struct Line {
    fault: Fault,
    percent: u32,
    /// Failed requests, at most, on average; for a hang seconds beyond the primary's p99.
    bound: f64,
    budget: &'static str,
}

const LINES: &[Line] = &[
    Line { fault: Fault::Fails(0.5), percent: 2, bound: 3.0, budget: "0.2%" },
    Line { fault: Fault::Fails(0.5), percent: 10, bound: 4.7, budget: "0.2%" },
    Line { fault: Fault::Fails(0.5), percent: 50, bound: 12.5, budget: "0.2%" },
    Line { fault: Fault::Fails(0.05), percent: 10, bound: 5.6, budget: "0.2%" },
    Line { fault: Fault::Fails(0.05), percent: 50, bound: 13.5, budget: "0.2%" },
    Line { fault: Fault::Fails(0.5), percent: 10, bound: f64::INFINITY, budget: "default" },
    Line { fault: Fault::Fails(0.05), percent: 10, bound: f64::INFINITY, budget: "default" },
    Line { fault: Fault::Hangs, percent: 10, bound: 3.0, budget: "default" },
    Line { fault: Fault::Hangs, percent: 50, bound: 3.0, budget: "default" },
    Line { fault: Fault::Refuses, percent: 10, bound: 10.0, budget: "default" },
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs = arguments.first().and_then(|first| first.parse().ok()).unwrap_or(5);
    let words = &arguments[usize::from(arguments.first().is_some_and(|first| first.parse::<u32>().is_ok()))..];
    println!("{runs} runs a line, {RPS} requests a second");
    let mut held = true;
    for line in LINES {
        let name = format!("{:?} at {} %, budget {}", line.fault, line.percent, line.budget);
        if words.is_empty() || words.iter().any(|word| name.contains(word.as_str())) {
            held &= measure(line, &name, runs);
        }
    }
    assert!(held, "a line is over its bound");
}

fn measure(line: &Line, name: &str, runs: u32) -> bool {
    let seen: Vec<Seen> = (0..runs).map(|_| run(line)).collect();
    let mean = |of: fn(&Seen) -> f64| seen.iter().map(of).sum::<f64>() / f64::from(runs);
    let worst = |of: fn(&Seen) -> f64| seen.iter().map(of).fold(0.0, f64::max);
    let (failed, took) = (mean(|one| one.failed as f64), mean(|one| one.seconds));
    let figure = if line.fault == Fault::Hangs { worst(|one| one.seconds) } else { failed };
    let held = figure <= line.bound;
    println!(
        "{} {name}: {failed:.1} failed requests on average (at most {:.0}), out {took:.2} s after the first (at most {:.2})",
        if held { "ok  " } else { "OVER" },
        worst(|one| one.failed as f64),
        worst(|one| one.seconds),
    );
    held
}

/// What users saw of one bad canary.
struct Seen {
    failed: u64,
    /// From the first failure, or the first request that hung, to the rollback.
    seconds: f64,
}

fn run(line: &Line) -> Seen {
    let folder = std::env::temp_dir().join(format!("serin-guard-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let primary = Origin::start(Fault::Fails(0.001));
    let canary = Origin::start(line.fault);
    let file = folder.join("serin.yaml");
    let text = |suspend: bool| config(line, suspend, primary.address, canary.address);
    std::fs::write(&file, text(true)).expect("a file");
    let running = control::start(StartOptions::embedded(ConfigSource::File(file.clone()))).expect("it starts");
    let proxy = running.addresses[0].1;
    let users = Users::start(proxy, 1_000.0);
    until(|| users.sent.load(Ordering::Relaxed) >= WARM_UP);
    users.stop();
    let users = Users::start(proxy, RPS);
    replace(&file, &text(false));
    let phase = |running: &Running| running.judge.views().first().map(|view| view.phase.clone());
    let began = Instant::now();
    while phase(&running).as_deref() != Some("rolled-back") {
        assert!(began.elapsed() < LINE_MAX, "{:?} is not out: {:?}", line.fault, running.judge.views());
        std::thread::sleep(Duration::from_millis(1));
    }
    let ended_us = users.now_us();
    let first_us = users.first_bad_us.load(Ordering::Relaxed).min(ended_us);
    let failed = users.failed.load(Ordering::Relaxed);
    users.stop();
    running.stop();
    assert_eq!(running.wait(), 0);
    drop((primary, canary));
    std::fs::remove_dir_all(folder).expect("the folder is ours");
    Seen { failed, seconds: (ended_us - first_us) as f64 / 1e6 }
}

fn config(line: &Line, suspend: bool, primary: SocketAddr, canary: SocketAddr) -> String {
    let guard = match line.budget {
        "default" => String::new(),
        budget => format!("  guard: {{errorBudget: {budget}}}\n"),
    };
    format!(
        "admin: {{ip: 127.0.0.1, port: 0}}\nstorage: {{kind: memory}}\nclusters:\n  v1: {{endpoints: [\"{primary}\"]}}\n  \
         v2: {{endpoints: [\"{canary}\"]}}\nrouters:\n- protocol: http\n  servers: [{{ip: 127.0.0.1, port: 0}}]\n  dtab: |\n    \
         /svc/world => /#/clusters/v1 ;\nrollouts:\n- name: world\n  router: http\n  path: /svc/world\n  primary: /#/clusters/v1\n  \
         canary: /#/clusters/v2\n  pace: evidence\n  suspend: {suspend}\n{guard}  analysis: {{interval: 1s, threshold: 5, stepWeights: [{}]}}\n",
        line.percent
    )
}

fn replace(file: &PathBuf, text: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).expect("a file");
    std::fs::rename(beside, file).expect("a file");
}

fn until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LINE_MAX, "it takes too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A service that misbehaves, until it is dropped.
struct Origin {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    fn start(fault: Fault) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = Arc::new(AtomicBool::new(false));
        if fault == Fault::Refuses {
            return Self { address, stop, thread: None };
        }
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            LocalSet::new().block_on(&runtime, async move {
                while !stopped.load(Ordering::Relaxed) {
                    let accepted = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
                    if let Ok(Ok((stream, _))) = accepted {
                        tokio::task::spawn_local(serve(stream, fault));
                    }
                }
            });
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the origin lives");
        }
    }
}

async fn serve(mut stream: TcpStream, fault: Fault) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let fails = match fault {
            Fault::Fails(rate) => fastrand::f64() < rate,
            Fault::Hangs | Fault::Refuses => std::future::pending().await,
        };
        let status = if fails { "500 Internal Server Error" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Requests that arrive by chance, each on a connection of its own.
struct Users {
    began: Instant,
    sent: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    first_bad_us: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// A request that is open for longer hangs.
const PATIENCE: Duration = Duration::from_secs(1);

impl Users {
    fn start(proxy: SocketAddr, rps: f64) -> Self {
        let began = Instant::now();
        let (sent, failed, stop) =
            (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let first_bad_us = Arc::new(AtomicU64::new(u64::MAX));
        let seen = (Arc::clone(&sent), Arc::clone(&failed), Arc::clone(&first_bad_us));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, async move {
                let open = Rc::new(Cell::new(0_u32));
                let mut at = began;
                while !stopped.load(Ordering::Relaxed) {
                    at += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / rps);
                    tokio::time::sleep_until(at.into()).await;
                    let (sent, failed, first_bad_us) = seen.clone();
                    let open = Rc::clone(&open);
                    open.set(open.get() + 1);
                    tokio::task::spawn_local(async move {
                        let sent_us = began.elapsed().as_micros() as u64;
                        let well = tokio::time::timeout(PATIENCE, ask(proxy)).await;
                        sent.fetch_add(1, Ordering::Relaxed);
                        if !matches!(well, Ok(true)) {
                            failed.fetch_add(1, Ordering::Relaxed);
                            // one that hung was bad from the beginning
                            let bad_us = if well.is_err() { sent_us } else { began.elapsed().as_micros() as u64 };
                            first_bad_us.fetch_min(bad_us, Ordering::Relaxed);
                        }
                        open.set(open.get() - 1);
                    });
                }
            });
        });
        Self { began, sent, failed, first_bad_us, stop, thread }
    }

    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the users live");
    }
}

async fn ask(proxy: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(proxy).await else { return false };
    let request = b"GET / HTTP/1.1\r\nhost: world\r\nconnection: close\r\n\r\n";
    if stream.write_all(request).await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.is_ok() && answer.starts_with(b"HTTP/1.1 200")
}
