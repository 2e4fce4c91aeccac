//! Both arms of a rollout, with a canary that fails when told to, and clients that ask without a pause worth the name.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use serin::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::{client, upstream};

/// Between two answers and requests of a client, at least.
const PAUSE: Duration = Duration::from_millis(1);
/// Path of the requests that are looked at.
const WATCHED: &str = "/watched";

/// Moments in µs of [`clock::now_us`], oldest first.
#[derive(Debug, Default)]
pub struct Log {
    /// Arrivals at the primary.
    pub primary: Vec<u64>,
    /// Arrivals at the canary.
    pub canary: Vec<u64>,
    /// When a failure of the canary was about to be written.
    pub failures: Vec<u64>,
}

/// Two services.
#[derive(Debug)]
pub struct Arms {
    /// Where the primary listens.
    pub primary: SocketAddr,
    /// Where the canary does.
    pub canary: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    log: Mutex<Log>,
    bad: AtomicBool,
    stop: AtomicBool,
    failures_apart_us: u64,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nobody panics with it")
    }

    /// Notes an arrival; whether it is to fail.
    fn arrived(&self, canary: bool) -> bool {
        let now_us = clock::now_us();
        let mut log = self.log();
        if !canary {
            log.primary.push(now_us);
            return false;
        }
        log.canary.push(now_us);
        let apart = log.failures.last().is_none_or(|last| now_us - last >= self.failures_apart_us);
        let fails = apart && self.bad.load(Ordering::Relaxed);
        if fails {
            log.failures.push(now_us);
        }
        fails
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl Arms {
    /// Starts both. A bad canary fails once in so long.
    pub fn start(failures_apart: Duration) -> Self {
        let runtime = runtime();
        let bind = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let listeners = [bind(), bind()];
        let [primary, canary] = [0, 1].map(|arm: usize| listeners[arm].local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            log: Mutex::default(),
            bad: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            failures_apart_us: failures_apart.as_micros() as u64,
        });
        let known = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            LocalSet::new().block_on(&runtime, async move {
                let [primary, canary] = listeners;
                while !known.stop.load(Ordering::Relaxed) {
                    let (accepted, canary) = tokio::select! {
                        accepted = primary.accept() => (accepted, false),
                        accepted = canary.accept() => (accepted, true),
                        () = tokio::time::sleep(Duration::from_millis(50)) => continue,
                    };
                    let (stream, _) = accepted.expect("a connection");
                    stream.set_nodelay(true).expect("a socket option");
                    tokio::task::spawn_local(serve(stream, canary, Arc::clone(&known)));
                }
            });
        });
        Self { primary, canary, shared, thread: Some(thread) }
    }

    /// From now on the canary is good or bad; what was noted until now.
    pub fn turn(&self, bad: bool) -> Log {
        let mut log = self.shared.log();
        self.shared.bad.store(bad, Ordering::Relaxed);
        std::mem::take(&mut log)
    }

    /// Watched requests that the canary had since it was turned.
    pub fn of_canary(&self) -> usize {
        self.shared.log().canary.len()
    }
}

impl Drop for Arms {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the arms live");
        }
    }
}

async fn serve(mut stream: TcpStream, canary: bool, shared: Arc<Shared>) {
    let mut buffer = [0; 4096];
    loop {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        let watched = buffer[..count].windows(WATCHED.len()).any(|part| part == WATCHED.as_bytes());
        let fails = watched && shared.arrived(canary);
        let status = if fails { "500 Internal Server Error" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Connections that ask again and again, until they are stopped.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Traffic {
    /// So many connections to the first of these services, watched, and so many that ask the others in turn.
    pub fn start(proxy: SocketAddr, services: Vec<String>, watched: usize, others: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let requests: Arc<[Vec<u8>]> = services.iter().map(|service| get(service, "/")).collect();
            let first: Arc<[Vec<u8>]> = Arc::new([get(&services[0], WATCHED)]);
            let all = LocalSet::new();
            for _ in 0..watched {
                all.spawn_local(ask(proxy, Arc::clone(&first), 0, Arc::clone(&stopped)));
            }
            for at in 0..others {
                let from = at * requests.len() / others;
                all.spawn_local(ask(proxy, Arc::clone(&requests), from, Arc::clone(&stopped)));
            }
            runtime().block_on(all);
        });
        Self { stop, thread }
    }

    /// No more requests; waits for those under way.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the clients live");
    }
}

fn get(service: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {service}\r\n\r\n").into_bytes()
}

async fn ask(proxy: SocketAddr, requests: Arc<[Vec<u8>]>, mut at: usize, stop: Arc<AtomicBool>) {
    let mut stream = connect(proxy).await;
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&requests[at % requests.len()]).await.expect("the proxy reads");
        at += 1;
        let mut read = 0;
        // every answer, of the proxy's own too, is short and ends where its length says
        while !is_whole(&buffer[..read]) {
            let count = stream.read(&mut buffer[read..]).await.expect("an answer");
            assert_ne!(count, 0, "a whole answer");
            read += count;
        }
        if client::says_close(&buffer[..read]) {
            stream = connect(proxy).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn connect(proxy: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(proxy).await.expect("the proxy accepts");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

fn is_whole(answer: &[u8]) -> bool {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    head.is_some_and(|head| answer.len() >= head + 4 + upstream::content_length(&answer[..head]))
}
