//! Shows a program what it will have to do: some of everything, over HTTP/1.1 and HTTP/2, for a build that records which of
//! its paths are taken (`benches/pgo`).
//!
//! `train PROGRAM`: the program is asked to end, because only then it writes down what it has recorded.
#![allow(clippy::expect_used, clippy::panic, reason = "a training that cannot go on stops loudly")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;

use serin_benches::children::{self, Kind};
use serin_benches::program::Serin;
use serin_benches::{proxy, tables, upstream};

/// Clients at once of each kind: enough that the proxy finds several things to do whenever it looks.
const CLIENTS: usize = 16;
/// Requests of each client on a connection that stays.
const REQUESTS: usize = 4_000;
/// Requests of each client with a connection for each: few enough that ports are never short.
const SHORT_REQUESTS: usize = 800;

fn main() {
    let program = std::env::args_os().nth(1).expect("the program as first argument");
    let serin =
        Serin::start(Path::new(&program), &proxy::config(&tables::text(100, 10), upstream::http1(), upstream::grpc()));
    let address = serin.address;
    for kind in Kind::ALL {
        clients(kind.label(), REQUESTS, move || children::requester(kind, address));
    }
    clients("new connections", SHORT_REQUESTS, move || Box::new(move || short(address, "service-9", "200")));
    clients("to nobody", SHORT_REQUESTS, move || Box::new(move || short(address, "nobody", "404")));
    assert!(serin.end().success(), "a good end");
}

/// All at once, each on a thread of its own.
fn clients(what: &str, requests: usize, client: impl Fn() -> Box<dyn FnMut()> + Copy + Send + 'static) {
    let run = move || {
        let mut request = client();
        (0..requests).for_each(|_| request());
    };
    let running: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(run)).collect();
    running.into_iter().for_each(|client| client.join().expect("all requests are answered"));
    println!("{what}: {} requests", CLIENTS * requests);
}

/// One request on a connection of its own.
fn short(address: SocketAddr, host: &str, status: &str) {
    let mut stream = TcpStream::connect(address).expect("the proxy accepts");
    write!(stream, "GET /128 HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").expect("the proxy reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
}
