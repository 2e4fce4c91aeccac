//! The other ends of a measured proxy as processes of their own: what they allocate is not the proxy's.
//!
//! A benchmark that wants one starts its own program again with `UPSTREAMS` or `LOAD` as first argument, and calls
//! [`run`] first thing in `main`.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::client::{self, Http1, Http2};
use crate::upstream;

/// First argument: be the upstreams.
const UPSTREAMS: &str = "--be-upstreams";
/// First argument: be the client of one kind of request.
const LOAD: &str = "--be-load";

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP/1.1 `GET` of 128 octets.
    Get128,
    /// HTTP/1.1 `GET` of 10 KiB.
    Get10K,
    /// HTTP/1.1 `POST` of 10 KiB.
    Post10K,
    /// HTTP/2 `GET` of 128 octets from an HTTP/1.1 upstream.
    H2ToHttp1,
    /// gRPC call, HTTP/2 on both sides.
    GrpcUnary,
}

impl Kind {
    /// In the order of the report.
    pub const ALL: [Self; 5] = [Self::Get128, Self::Get10K, Self::Post10K, Self::H2ToHttp1, Self::GrpcUnary];

    /// For arguments and reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Get128 => "http1-get-128",
            Self::Get10K => "http1-get-10k",
            Self::Post10K => "http1-post-10k",
            Self::H2ToHttp1 => "h2-get-128-from-http1",
            Self::GrpcUnary => "grpc-unary",
        }
    }
}

/// A child, killed when dropped.
#[derive(Debug)]
pub struct Other {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Both upstreams in one process. Returns the addresses: HTTP/1.1, gRPC.
pub fn upstreams() -> (Other, SocketAddr, SocketAddr) {
    let mut other = Other::start(&[UPSTREAMS]);
    let line = other.line();
    let (http1, grpc) = line.split_once(' ').expect("two addresses");
    let addresses = [http1, grpc].map(|text| text.parse().expect("an address"));
    (other, addresses[0], addresses[1])
}

/// A client with one connection to the proxy, warmed up.
pub fn load(kind: Kind, proxy: SocketAddr) -> Other {
    let mut other = Other::start(&[LOAD, kind.label(), &proxy.to_string()]);
    assert_eq!(other.line(), "warm");
    other
}

impl Other {
    fn start(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, input, output }
    }

    /// Has a load send so many requests, one after the other, and waits for the last answer.
    pub fn send(&mut self, requests: u64) {
        writeln!(self.input, "{requests}").expect("the load lives");
        assert_eq!(self.line(), "done");
    }

    fn line(&mut self) -> String {
        let mut line = String::with_capacity(64);
        self.output.read_line(&mut line).expect("a line of the child");
        line.truncate(line.trim_end().len());
        line
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// If this process is to be one of the others, is it until the parent goes, and returns `true`.
pub fn run() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [UPSTREAMS] => be_upstreams(),
        [LOAD, kind, proxy] => {
            let kind = Kind::ALL.into_iter().find(|known| known.label() == kind).expect("a known kind");
            be_load(kind, proxy.parse().expect("an address"));
        }
        _ => return false,
    }
    true
}

fn be_upstreams() {
    println!("{} {}", upstream::http1(), upstream::grpc());
    // the parent never writes: this returns when it is gone
    std::io::stdin().lines().for_each(drop);
}

/// Requests before the count begins: connections are open, names bound, pools and buffers as large as they get.
const WARM_UP: u64 = 1_000;

fn be_load(kind: Kind, proxy: SocketAddr) {
    let mut request = requester(kind, proxy);
    (0..WARM_UP).for_each(|_| request());
    println!("warm");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let requests: u64 = line.parse().expect("a number");
        (0..requests).for_each(|_| request());
        println!("done");
    }
}

/// A client with one connection to the proxy: each call is one request, and looks at its answer.
pub fn requester(kind: Kind, proxy: SocketAddr) -> Box<dyn FnMut()> {
    let http1 = |request: Vec<u8>, answered: usize| -> Box<dyn FnMut()> {
        let mut client = Http1::connect(proxy);
        Box::new(move || assert_eq!(client.round_trip(&request), answered))
    };
    match kind {
        Kind::Get128 => http1(client::get("hello", 128), 128),
        Kind::Get10K => http1(client::get("hello", 10 << 10), 10 << 10),
        Kind::Post10K => http1(client::post("hello", 10 << 10, 128), 128),
        Kind::H2ToHttp1 => {
            let client = Http2::connect(proxy, 1);
            Box::new(move || assert_eq!(client.get(0, "hello", 128), 128))
        }
        Kind::GrpcUnary => {
            let client = Http2::connect(proxy, 1);
            Box::new(move || assert_eq!(client.call(0, "grpc"), upstream::MESSAGE.len()))
        }
    }
}
