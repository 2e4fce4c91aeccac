//! Services that misbehave, and users whose requests arrive by chance.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serin::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::upstream::{self, MESSAGE};

/// A request that is open for longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Requests of one user crowd that are open together; those that come then are not sent, and counted as none.
const OPEN_MAX: u32 = 1_000;
/// Calls on one connection: fewer than the proxy ends one after.
const CALLS_MAX: u32 = 5_000;
/// Longest answer.
const ANSWER_MAX: usize = 16 << 10;
/// gRPC: the service failed.
const INTERNAL: &str = "13";
/// Who answered, so that failures of the primary are told from those of the canary.
const WHO: &str = "x-who";

/// What is spoken, on both sides of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1; a failure is a 500.
    Http1,
    /// gRPC over HTTP/2 without TLS; a failure is status 13.
    Grpc,
}

/// How a service misbehaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// This part of its answers are failures.
    Fails(f64),
    /// It accepts and never answers.
    Hangs,
    /// Nobody listens.
    Refuses,
}

/// A service, until it is dropped.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl Origin {
    /// Starts one that says `who` it is with each answer.
    pub fn start(wire: Wire, fault: Fault, who: &'static str) -> Self {
        let runtime = runtime();
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
                    let Ok(Ok((stream, _))) = accepted else { continue };
                    stream.set_nodelay(true).expect("a socket option");
                    match wire {
                        Wire::Http1 => tokio::task::spawn_local(serve_http1(stream, fault, who)),
                        Wire::Grpc => tokio::task::spawn_local(serve_grpc(stream, fault, who)),
                    };
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

/// Whether this answer is a failure; never returns for who hangs.
async fn fails(fault: Fault) -> bool {
    match fault {
        Fault::Fails(rate) => fastrand::f64() < rate,
        Fault::Hangs | Fault::Refuses => std::future::pending().await,
    }
}

async fn serve_http1(mut stream: TcpStream, fault: Fault, who: &'static str) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let status = if fails(fault).await { "500 Internal Server Error" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\n{WHO}: {who}\r\ncontent-length: 2\r\n\r\nok");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn serve_grpc(stream: TcpStream, fault: Fault, who: &'static str) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        tokio::task::spawn_local(async move {
            let failed = fails(fault).await;
            let mut response = Response::new(());
            let fields = response.headers_mut();
            fields.insert("content-type", HeaderValue::from_static("application/grpc"));
            fields.insert(WHO, HeaderValue::from_static(who));
            if failed {
                fields.insert("grpc-status", HeaderValue::from_static(INTERNAL));
            }
            // the caller may have gone
            let Ok(mut out) = respond.send_response(response, failed) else { return };
            if !failed && out.send_data(Bytes::from_static(MESSAGE), false).is_ok() {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let _gone = out.send_trailers(trailers);
            }
        });
    }
}

/// Requests that arrive by chance, until they are stopped.
#[derive(Debug)]
pub struct Users {
    began_us: u64,
    /// Requests that are over.
    pub sent: Arc<AtomicU64>,
    /// Those of them that failed, but for those of which the primary said so.
    pub failed: Arc<AtomicU64>,
    /// When the first of those failed, or was sent if it hung, in µs since the beginning. `u64::MAX`: none.
    pub first_bad_us: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Well,
    /// The primary failed.
    Primary,
    /// The canary failed, or nobody said who did.
    Other,
}

impl End {
    fn of(failed: bool, who: Option<&[u8]>) -> Self {
        match (failed, who) {
            (false, _) => Self::Well,
            (true, Some(b"primary")) => Self::Primary,
            (true, _) => Self::Other,
        }
    }
}

impl Users {
    /// So many a second on average, to the service `world`.
    pub fn start(wire: Wire, proxy: SocketAddr, rps: f64) -> Self {
        let began_us = clock::now_us();
        let since_us = move || clock::now_us().saturating_sub(began_us);
        let (sent, failed, stop) =
            (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let first_bad_us = Arc::new(AtomicU64::new(u64::MAX));
        let seen = (Arc::clone(&sent), Arc::clone(&failed), Arc::clone(&first_bad_us));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            LocalSet::new().block_on(&runtime(), async move {
                let line = Rc::new(Line::open(wire, proxy).await);
                let open = Rc::new(Cell::new(0_u32));
                let mut at = tokio::time::Instant::now();
                while !stopped.load(Ordering::Relaxed) {
                    at += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / rps);
                    tokio::time::sleep_until(at).await;
                    if open.get() == OPEN_MAX {
                        continue;
                    }
                    open.set(open.get() + 1);
                    let (sent, failed, first_bad_us) = seen.clone();
                    let (line, open) = (Rc::clone(&line), Rc::clone(&open));
                    tokio::task::spawn_local(async move {
                        let sent_us = since_us();
                        let end = tokio::time::timeout(PATIENCE, line.ask()).await;
                        sent.fetch_add(1, Ordering::Relaxed);
                        if !matches!(end, Ok(End::Well | End::Primary)) {
                            failed.fetch_add(1, Ordering::Relaxed);
                            // one that hung was bad from the beginning
                            let bad_us = if end.is_err() { sent_us } else { since_us() };
                            first_bad_us.fetch_min(bad_us, Ordering::Relaxed);
                        }
                        open.set(open.get() - 1);
                    });
                }
            });
        });
        Self { began_us, sent, failed, first_bad_us, stop, thread }
    }

    /// On the clock of `first_bad_us`.
    pub fn now_us(&self) -> u64 {
        clock::now_us().saturating_sub(self.began_us)
    }

    /// No more requests.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the users live");
    }
}

/// The users' way to the proxy.
enum Line {
    /// Connections that are idle.
    Http1(SocketAddr, RefCell<Vec<TcpStream>>),
    /// One connection for all, and how many requests it may still carry.
    Grpc(SocketAddr, RefCell<(SendRequest<Bytes>, u32)>),
}

impl Line {
    async fn open(wire: Wire, proxy: SocketAddr) -> Self {
        match wire {
            Wire::Http1 => Self::Http1(proxy, RefCell::default()),
            Wire::Grpc => Self::Grpc(proxy, RefCell::new((handshake(proxy).await, CALLS_MAX))),
        }
    }

    async fn ask(&self) -> End {
        match self {
            Self::Http1(proxy, idle) => {
                let known = idle.borrow_mut().pop();
                let answer = match known {
                    // one that the proxy closed while it was idle is no failure
                    Some(stream) => match get(stream).await {
                        None => get_anew(*proxy).await,
                        answer => answer,
                    },
                    None => get_anew(*proxy).await,
                };
                let Some((end, stream)) = answer else { return End::Other };
                idle.borrow_mut().push(stream);
                end
            }
            Self::Grpc(proxy, line) => {
                let (send, left) = line.borrow().clone();
                line.borrow_mut().1 = left.saturating_sub(1);
                if left == 0 {
                    // others use the old one meanwhile
                    line.borrow_mut().1 = CALLS_MAX;
                    let fresh = handshake(*proxy).await;
                    line.borrow_mut().0 = fresh;
                }
                call(send).await.unwrap_or(End::Other)
            }
        }
    }
}

async fn handshake(proxy: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(proxy).await.expect("the proxy accepts");
    stream.set_nodelay(true).expect("a socket option");
    let (send, connection) = h2::client::handshake(stream).await.expect("the proxy speaks HTTP/2");
    tokio::task::spawn_local(connection);
    send
}

async fn get_anew(proxy: SocketAddr) -> Option<(End, TcpStream)> {
    let stream = TcpStream::connect(proxy).await.ok()?;
    stream.set_nodelay(true).ok()?;
    get(stream).await
}

/// `None`: the connection ended before the answer did.
async fn get(mut stream: TcpStream) -> Option<(End, TcpStream)> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: world\r\n\r\n").await.ok()?;
    let mut answer = Vec::with_capacity(512);
    loop {
        if stream.read_buf(&mut answer).await.ok()? == 0 || answer.len() > ANSWER_MAX {
            return None;
        }
        let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        if answer.len() < head + 4 + upstream::content_length(&answer[..head]) {
            continue;
        }
        let text = std::str::from_utf8(&answer[..head]).ok()?;
        let mut fields = text.lines().filter_map(|line| line.split_once(": "));
        let who = fields.find(|(name, _)| name.eq_ignore_ascii_case(WHO)).map(|(_, who)| who.as_bytes());
        return Some((End::of(!text.starts_with("HTTP/1.1 200"), who), stream));
    }
}

async fn call(send: SendRequest<Bytes>) -> Result<End, h2::Error> {
    let mut send = send.ready().await?;
    let request = Request::builder().method(Method::POST).uri("http://world/bench.Bench/Call");
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let (response, mut out) = send.send_request(request.body(()).expect("a legal request"), false)?;
    out.send_data(Bytes::from_static(MESSAGE), true)?;
    let response = response.await?;
    let good = |fields: &HeaderMap| fields.get("grpc-status").is_some_and(|status| status.as_bytes() == b"0");
    let who = response.headers().get(WHO).cloned();
    let mut well = response.status() == StatusCode::OK;
    let ended_by_head = response.headers().contains_key("grpc-status");
    well &= !ended_by_head || good(response.headers());
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let octets = data?.len();
        body.flow_control().release_capacity(octets)?;
    }
    if let Some(trailers) = body.trailers().await? {
        well &= good(&trailers);
    } else {
        well &= ended_by_head;
    }
    Ok(End::of(!well, who.as_ref().map(|who| who.as_bytes())))
}
