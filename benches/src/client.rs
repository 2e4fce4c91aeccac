//! Clients that ask one thing at a time and look at the answer.

use std::cell::RefCell;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, StatusCode};
use tokio::runtime::{Builder, Runtime};

use crate::upstream::{self, MESSAGE};

/// No answer takes longer; then the benchmark fails instead of hanging.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// One HTTP/1.1 connection, and the next when the proxy says that it ends: it does after some thousand requests.
#[derive(Debug)]
pub struct Http1 {
    address: SocketAddr,
    stream: TcpStream,
    read: Vec<u8>,
}

/// A `GET` for so many octets, ready to send.
pub fn get(host: &str, octets: usize) -> Vec<u8> {
    format!("GET /{octets} HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench\r\naccept: */*\r\n\r\n").into_bytes()
}

/// A `POST` of so many octets, answered with as many as `answered`.
pub fn post(host: &str, octets: usize, answered: usize) -> Vec<u8> {
    let head =
        format!("POST /{answered} HTTP/1.1\r\nhost: {host}\r\nuser-agent: bench\r\ncontent-length: {octets}\r\n\r\n");
    let mut request = head.into_bytes();
    request.resize(request.len() + octets, b'x');
    request
}

impl Http1 {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        Self { address, stream: open(address), read: Vec::new() }
    }

    /// Sends a request and reads the whole answer, which must be a 200. Returns the length of its body.
    pub fn round_trip(&mut self, request: &[u8]) -> usize {
        self.stream.write_all(request).expect("the proxy reads");
        let head = upstream::read_head(&mut self.stream, &mut self.read).expect("an answer").expect("a whole head");
        let start = &self.read[..head];
        assert!(start.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(start));
        let octets = upstream::content_length(start);
        let last = says_close(start);
        while self.read.len() < head + octets {
            let count = upstream::more(&mut self.stream, &mut self.read).expect("a body");
            assert_ne!(count, 0, "a whole body");
        }
        // by the last answer nothing is left over; the buffer itself goes, so that thousands of clients stay small
        assert_eq!(self.read.len(), head + octets, "one answer a request");
        self.read.clear();
        if last {
            self.stream = open(self.address);
        }
        octets
    }

    /// Gives up the memory of a connection that will be idle.
    pub fn shrink(&mut self) {
        self.read = Vec::new();
    }
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the proxy accepts");
    stream.set_nodelay(true).expect("a socket option");
    stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket option");
    stream
}

/// Whether this head says that its connection ends.
pub(crate) fn says_close(head: &[u8]) -> bool {
    const CLOSE: &[u8] = b"connection: close";
    head.windows(CLOSE.len()).any(|part| part.eq_ignore_ascii_case(CLOSE))
}

/// HTTP/2 connections without TLS, driven by the thread that asks. One that the proxy ends, as it does after some thousand
/// requests, is replaced.
#[derive(Debug)]
pub struct Http2 {
    address: SocketAddr,
    runtime: Runtime,
    connections: RefCell<Vec<SendRequest<Bytes>>>,
}

impl Http2 {
    /// Opens so many connections.
    pub fn connect(address: SocketAddr, connections: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connections = (0..connections).map(|_| handshake(&runtime, address)).collect();
        Self { address, runtime, connections: RefCell::new(connections) }
    }

    /// `GET` for so many octets on one of the connections. Returns the length of the body.
    pub fn get(&self, connection: usize, host: &str, octets: usize) -> usize {
        let request = Request::builder().uri(format!("http://{host}/{octets}")).header("user-agent", "bench");
        self.round_trip(connection, request.body(()).expect("a legal request"), None)
    }

    /// One gRPC call on one of the connections. Returns the length of the answer, with its prefix.
    pub fn call(&self, connection: usize, host: &str) -> usize {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{host}/bench.Bench/Call"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        self.round_trip(connection, request.body(()).expect("a legal request"), Some(MESSAGE))
    }

    /// Lets the connections read and answer what the proxy sends on its own.
    pub fn idle(&self, time: Duration) {
        // made inside the runtime: a timer wants one around it
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    fn round_trip(&self, connection: usize, request: Request<()>, message: Option<&'static [u8]>) -> usize {
        let ask = || {
            let send = self.connections.borrow()[connection].clone();
            let answer = async { tokio::time::timeout(ANSWER_MAX, round_trip(send, request.clone(), message)).await };
            self.runtime.block_on(answer).expect("an answer in time")
        };
        if let Ok(octets) = ask() {
            return octets;
        }
        self.connections.borrow_mut()[connection] = handshake(&self.runtime, self.address);
        ask().expect("a whole answer")
    }
}

fn handshake(runtime: &Runtime, address: SocketAddr) -> SendRequest<Bytes> {
    let (send, connection) = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("the proxy accepts");
        stream.set_nodelay(true).expect("a socket option");
        h2::client::handshake(stream).await.expect("the proxy speaks HTTP/2")
    });
    runtime.spawn(connection);
    send
}

async fn round_trip(
    send: SendRequest<Bytes>,
    request: Request<()>,
    message: Option<&'static [u8]>,
) -> Result<usize, h2::Error> {
    let mut send = send.ready().await?;
    let (response, mut out) = send.send_request(request, message.is_none())?;
    if let Some(message) = message {
        out.send_data(Bytes::from_static(message), true)?;
    }
    let response = response.await?;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    let mut octets = 0;
    while let Some(data) = body.data().await {
        let count = data?.len();
        octets += count;
        body.flow_control().release_capacity(count)?;
    }
    if let Some(trailers) = body.trailers().await? {
        assert_eq!(trailers.get("grpc-status").map(|status| status.as_bytes()), Some(&b"0"[..]));
    } else {
        assert!(message.is_none(), "a call ends with trailers");
    }
    Ok(octets)
}
