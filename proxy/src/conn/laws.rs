//! What must hold for any octets on a downstream connection. The tests and the fuzz targets call the same checks; each of
//! them panics where its law is broken.
//!
//! A connection is served as in a worker, by one task on one thread, from a socket pair; what stands behind hygiene is an
//! origin that takes each request as HTTP/1.1 octets and reads them again by the letter.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, Response};
use serin_config::model::Config;
use serin_config::source::Source;
use tower::service_fn;

use super::{Link, Links, Stack, serve};
use crate::assemble::{Parts, assemble};
use crate::body::{Body, Piece};
use crate::endpoints::EndpointTable;
use crate::error::ProxyError;
use crate::evidence::Records;
use crate::exchange::Exchange;
use crate::h1::laws::{Read, read_request};
use crate::h1::{CHUNK_END, Framing, RequestHead, encode_chunk_head, encode_last_chunk, encode_request};
use crate::handover::Handover;
use crate::layers::{admit::Admit, hygiene::Hygiene, hygiene::has_malformed, observe::Observe, respond::Respond};
use crate::listener::Listener;
use crate::local::Local;
use crate::snapshot::{Routings, Snapshot, World};
use crate::stream::Detached;
use crate::worker::{Worker, WorkerSeed};

/// No more octets than these are sent to a connection.
pub(crate) const OCTETS_MAX: usize = 64 << 10;
/// Turns that every task gets for each write of the client: enough for all that follows from one.
const TURNS: usize = 48;
/// So many without a word, and nothing more follows.
const QUIET: usize = 6;
/// So many writes at most.
const WRITES_MAX: usize = 32;
/// More than any of these connections answers.
const ANSWER_MAX: usize = 4 << 20;

/// A server for strangers, with small limits so that few octets meet them.
const CONFIG: &str = "clusters: {web: {endpoints: []}}\nrouters:\n- servers:\n  - port: 0\n    exposure: edge\n    clearContext: true\n    \
limits: {targetBytes: 256, fieldBytes: 512, headBytes: 4096, headFields: 32, bodyBytes: 20000}\n  dtab: /svc => /#/clusters\n";

/// A request as the origin saw it.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// `None`: its body did not come to its end.
    pub(crate) body: Option<Vec<u8>>,
}

/// What came of a connection.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Requests that came through, in order.
    pub(crate) seen: Vec<Seen>,
    /// What the client read.
    pub(crate) answer: Vec<u8>,
}

/// Serves `octets`, cut into writes of these sizes, over and over, on a connection of its own. Whatever they are, each
/// request that comes through is one message without a field that ends here, and nothing is held when it is over.
pub(crate) fn check_connection(octets: &[u8], sizes: &[usize]) -> Outcome {
    thread_local!(static BENCH: Bench = Bench::new());
    BENCH.with(|bench| bench.play(&octets[..octets.len().min(OCTETS_MAX)], sizes))
}

/// A worker without a thread.
struct Bench {
    runtime: tokio::runtime::Runtime,
    worker: Rc<Worker>,
    listener: u64,
}

impl Bench {
    fn new() -> Self {
        // each turn looks at the sockets
        let runtime = tokio::runtime::Builder::new_current_thread().event_interval(1).enable_all().build().unwrap();
        let config = Arc::new(Config::parse(&Source::new("laws", CONFIG)).unwrap().0);
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
        let (names, routings) = (Arc::default(), Routings::default());
        let (structure, weights) = assemble(&Parts {
            config: &config,
            listeners: std::slice::from_ref(&listener),
            admin: listener.address,
            interfaces: &[],
            names: &names,
            workers: 1,
            previous: None,
            routings: &routings,
            stored: &Default::default(),
        });
        let (handover, mut inboxes) = Handover::new(1);
        let (worker, _inbox) = Worker::new(WorkerSeed {
            index: 0,
            workers: 1,
            world: World::new(Snapshot { version: 1, structure, weights }, routings),
            metrics: serin_metrics::Metrics::new(1, 100),
            endpoints: Arc::new(EndpointTable::default()),
            records: Arc::new(Records::new(1, Box::new(|| {}))),
            handover,
            inbox: inboxes.remove(0),
        });
        Self { runtime, worker, listener: listener.id }
    }

    fn play(&self, octets: &[u8], sizes: &[usize]) -> Outcome {
        let tasks = tokio::task::LocalSet::new();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let answer = self.runtime.block_on(tasks.run_until(self.talk(octets, sizes, &seen)));
        drop(tasks);
        assert!(seen.borrow().iter().all(|seen| seen.method != BROKEN), "{BROKEN}");
        assert!(self.worker.in_flight.is_empty(), "a request is held when its connection is gone");
        assert!(self.worker.links.is_empty(), "a connection is held when it is gone");
        Outcome { seen: seen.take(), answer }
    }

    async fn talk(&self, octets: &[u8], sizes: &[usize], seen: &Rc<RefCell<Vec<Seen>>>) -> Vec<u8> {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        let local: Rc<Local> = self.worker.current();
        let server_index = local.shape.server(self.listener).unwrap();
        let link = Link::new(self.listener, SocketAddr::from(([192, 0, 2, 1], 1)), (local, server_index), &self.worker);
        let held = Links::open(&self.worker, &link);
        let io = Detached::Unix(server).attach().unwrap();
        let stack = Rc::new(stack(&self.worker, seen));
        let mut answer = Vec::new();
        tokio::task::spawn_local(serve(io, link, Rc::clone(&self.worker), stack, held));
        let (mut rest, mut sizes) = (octets, sizes.iter().cycle());
        for written in 1.. {
            let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len().max(1)).min(rest.len()));
            let size = if written < WRITES_MAX { size } else { rest.len() };
            let (now, later) = rest.split_at(size);
            // one that is closed takes nothing
            let taken = client.write(now).unwrap_or(now.len());
            rest = if taken < now.len() { &rest[taken..] } else { later };
            turn(&mut client, &mut answer).await;
            if rest.is_empty() || written > 4 * WRITES_MAX {
                break;
            }
        }
        let _closed_or_not = client.shutdown(std::net::Shutdown::Write);
        turn(&mut client, &mut answer).await;
        answer
    }
}

/// Lets every task run, and takes what they say.
async fn turn(client: &mut UnixStream, answer: &mut Vec<u8>) {
    let mut block = [0; 4096];
    let mut quiet = 0;
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
        // at the end and after a reset nothing comes either
        let count = client.read(&mut block).unwrap_or(0);
        answer.extend_from_slice(&block[..count]);
        quiet = if count == 0 { quiet + 1 } else { 0 };
        if quiet == QUIET {
            return;
        }
        assert!(answer.len() < ANSWER_MAX, "the answer has no end");
    }
}

/// The layers up to hygiene, and the origin behind them.
fn stack(worker: &Rc<Worker>, seen: &Rc<RefCell<Vec<Seen>>>) -> impl Stack + use<> {
    let seen = Rc::clone(seen);
    let origin =
        service_fn(move |exchange: Exchange| -> Pin<Box<dyn Future<Output = Result<Response<Body>, ProxyError>>>> {
            Box::pin(take(exchange, Rc::clone(&seen)))
        });
    let clean = Hygiene::new(origin, Rc::clone(worker));
    let admit = Admit::new(clean, Rc::clone(worker));
    Observe::new(Respond::new(admit, Rc::clone(worker)), Rc::clone(worker))
}

/// The layers make an answer of a panic: that there was one is noted.
struct Told(Rc<RefCell<Vec<Seen>>>);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let broken = Seen { method: BROKEN.into(), target: String::new(), fields: Vec::new(), body: None };
            self.0.borrow_mut().push(broken);
        }
    }
}

/// Stands for a request that broke a law.
const BROKEN: &str = "a law is broken, see above";

/// Reads a request to its end, writes it as HTTP/1.1, and reads that again. Answers with its body.
async fn take(mut exchange: Exchange, seen: Rc<RefCell<Vec<Seen>>>) -> Result<Response<Body>, ProxyError> {
    let _told = Told(Rc::clone(&seen));
    let (head, announced) = written_head(&exchange);
    assert!(!has_malformed(&exchange.parts.headers), "a field that HTTP/1.1 cannot carry");
    let read = read_request(&head);
    check_head(&exchange, &read);
    let at = seen.borrow().len();
    let fields = read.fields.clone();
    seen.borrow_mut().push(Seen {
        method: read.method,
        target: String::from_utf8(read.target).unwrap(),
        fields,
        body: None,
    });
    let (mut data, mut trailers, mut chunks) = (Vec::new(), None, Vec::new());
    while let Some(piece) = poll_fn(|cx| exchange.body.poll_piece(cx)).await {
        match piece.map_err(|_| ProxyError::DownstreamBody)? {
            Piece::Data(piece) => {
                assert!(!piece.is_empty(), "data without data");
                encode_chunk_head(&mut chunks, piece.len());
                chunks.extend_from_slice(&piece);
                chunks.extend_from_slice(CHUNK_END);
                data.extend_from_slice(&piece);
            }
            Piece::Trailers(fields) => {
                check_trailers(&fields);
                trailers = Some(fields);
            }
        }
        assert!(data.len() <= OCTETS_MAX, "more data than octets");
    }
    if let Some(length) = announced {
        assert_eq!(data.len() as u64, length, "a whole body of another length than was announced");
    } else {
        encode_last_chunk(&mut chunks, trailers.as_ref());
        assert_eq!(read_chunks(&chunks), data, "another body behind the head");
    }
    seen.borrow_mut()[at].body = Some(data.clone());
    Ok(Response::new(Body::full(data)))
}

/// The head as an HTTP/1.1 origin gets it, and the length it has.
fn written_head(exchange: &Exchange) -> (Vec<u8>, Option<u64>) {
    let parts = &exchange.parts;
    let announced = parts.headers.get(CONTENT_LENGTH).map(|length| length.to_str().unwrap().parse().unwrap());
    let length = announced.or(exchange.body.length());
    let framing = match length {
        Some(0) if announced.is_none() => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let host = match parts.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => parts.headers.get(HOST).map_or(b"".as_slice(), |host| host.as_bytes()),
    };
    let mut out = Vec::new();
    encode_request(
        &mut out,
        &RequestHead {
            method: &parts.method,
            target: parts.uri.path_and_query().map_or("", |target| target.as_str()),
            host,
            headers: &parts.headers,
            extra: &[],
            upgrade: false,
            framing,
        },
    );
    (out, length)
}

fn check_head(exchange: &Exchange, read: &Read) {
    let parts = &exchange.parts;
    assert_eq!(read.method, parts.method.as_str());
    assert!(read.target.starts_with(b"/") || (read.target == b"*" && read.method == "OPTIONS"), "{:?}", parts.uri);
    assert!(!read.target.contains(&b'#'), "a fragment");
    assert!(!["CONNECT", "TRACE"].contains(&&*read.method), "{} goes on", read.method);
    assert_eq!(read.fields.iter().filter(|(name, _)| name == "host").count(), 1, "one host");
    assert!(exchange.body.length().is_none() || read.fields.iter().all(|(name, _)| name != "transfer-encoding"));
    for (name, value) in &read.fields {
        let own = match &**name {
            "connection" => value == b"te",
            "te" => value == b"trailers",
            "keep-alive" | "proxy-connection" | "upgrade" | "forwarded" | "x-real-ip" | "dtab-local" => false,
            name => {
                !["l5d-", "l5d_", "x-forwarded-", "x_forwarded_", "x-dtab-"].iter().any(|own| name.starts_with(own))
            }
        };
        assert!(own, "{name}: {value:?} of a stranger goes on");
    }
}

fn check_trailers(fields: &HeaderMap) {
    for name in fields.keys() {
        let framing =
            ["content-length", "transfer-encoding", "host", "connection", "te", "trailer", "upgrade", "authorization"];
        assert!(!framing.contains(&name.as_str()), "{name} in trailers");
        let folded = name.as_str().replace('_', "-");
        assert!(!folded.starts_with("l5d-") && !folded.starts_with("x-forwarded-"), "{name} in trailers");
    }
}

/// A chunked body to its end, by the letter of RFC 9112 section 7.1.
fn read_chunks(mut octets: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let end = octets.windows(2).position(|pair| pair == b"\r\n").expect("a chunk has a line");
        let digits = std::str::from_utf8(&octets[..end]).expect("a size is ASCII");
        assert!(digits.len() <= 16 && digits.bytes().all(|octet| octet.is_ascii_hexdigit()), "{digits}");
        let size = usize::from_str_radix(digits, 16).expect("a size has digits");
        octets = &octets[end + 2..];
        if size == 0 {
            let trailers = octets.strip_suffix(b"\r\n").expect("an empty line is the end");
            assert!(trailers.is_empty() || trailers.ends_with(b"\r\n"), "a trailer has an end");
            assert!(!trailers.windows(4).any(|four| four == b"\r\n\r\n"), "two ends");
            return data;
        }
        data.extend_from_slice(&octets[..size]);
        octets = octets[size..].strip_prefix(b"\r\n").expect("data has an end");
    }
}

/// Frames as few octets: kind, flags, stream and length of each, and then its payload. All of it behind preface and SETTINGS.
pub(crate) fn frames_of(mut octets: &[u8]) -> Vec<u8> {
    let mut out = PREFACE_AND_SETTINGS.to_vec();
    while let [kind, flags, stream, length, rest @ ..] = octets {
        let (payload, later) = rest.split_at(usize::from(*length).min(rest.len()));
        push_frame(&mut out, kind % 12, *flags, u32::from(stream % 16), payload);
        octets = later;
    }
    out
}

/// A request over HTTP/2 of these fields, then this body, then these trailers. Lines are `name:value`; the pseudo-fields that
/// none of them has are those of `POST / HTTP/2` to `web`.
pub(crate) fn request_of(fields: &[u8], data: &[u8], trailers: &[u8]) -> Vec<u8> {
    let lines = lines_of(fields);
    let mut block = Vec::new();
    for (name, value) in [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "web")] {
        if !lines.iter().any(|(have, _)| *have == name.as_bytes()) {
            push_literal(&mut block, name.as_bytes(), value.as_bytes());
        }
    }
    lines.iter().for_each(|(name, value)| push_literal(&mut block, name, value));
    let trailers = lines_of(trailers);
    let (whole, last) = (data.is_empty() && trailers.is_empty(), trailers.is_empty());
    let mut out = PREFACE_AND_SETTINGS.to_vec();
    push_frame(&mut out, 1, 4 | u8::from(whole), 1, &block);
    if !whole {
        push_frame(&mut out, 0, u8::from(last), 1, data);
    }
    if !last {
        block.clear();
        trailers.iter().for_each(|(name, value)| push_literal(&mut block, name, value));
        push_frame(&mut out, 1, 5, 1, &block);
    }
    out
}

const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A name may begin with a colon. Few enough for one frame.
fn lines_of(octets: &[u8]) -> Vec<(&[u8], &[u8])> {
    let lines = octets[..octets.len().min(8 << 10)].split(|&octet| octet == b'\n').filter(|line| !line.is_empty());
    let halves = |line: &'_ [u8]| line.iter().skip(1).position(|&octet| octet == b':').map_or(line.len(), |at| at + 1);
    lines
        .take(100)
        .map(|line| line.split_at(halves(line)))
        .map(|(name, value)| (name, value.get(1..).unwrap_or(b"")))
        .collect()
}

/// A field without index and without Huffman's code (RFC 7541 section 6.2.2).
fn push_literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    for text in [name, value] {
        // an integer with a prefix of seven bits
        if text.len() < 127 {
            out.push(text.len() as u8);
        } else {
            let mut rest = text.len() - 127;
            out.push(127);
            while rest >= 128 {
                out.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            out.push(rest as u8);
        }
        out.extend_from_slice(text);
    }
}

fn push_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let payload = &payload[..payload.len().min(16_384)];
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}
