//! A panic costs one request. Where it happens is asked for by a field that only this build knows.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::control::{self, ConfigSource, Running, StartOptions};
use crate::exchange::Exchange;

const FIELD: &str = "x-panic";

/// Panics in the call itself, or says that its future is to.
pub(super) fn panics(exchange: &Exchange) -> bool {
    match exchange.parts.headers.get(FIELD).map(|value| value.as_bytes()) {
        Some(b"call") => panic!("asked for, in a call"),
        wanted => wanted.is_some(),
    }
}

pub(super) async fn then_panic<F: Future>(panics: bool, inner: F) -> F::Output {
    let output = inner.await;
    assert!(!panics, "asked for, in a future");
    output
}

/// Answers each request of each connection.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buf = [0; 4096];
                while let Ok(1..) = stream.read(&mut buf) {
                    let _gone_or_not = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                }
            });
        }
    });
    address
}

fn proxy() -> Running {
    let text = format!(
        "admin: {{port: 0}}\nworkers: 1\nclusters: {{web: {{endpoints: [\"{}\"]}}}}\nrouters:\n- servers: [{{port: 0}}]\n  \
         dtab: /svc => /#/clusters\n",
        origin()
    );
    control::start(StartOptions::embedded(ConfigSource::Text { name: "test".into(), text })).unwrap()
}

/// One request on a connection that stays open, up to the end of its head.
fn ask(stream: &mut TcpStream, fields: &str) -> String {
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: web\r\n{fields}\r\n").as_bytes()).unwrap();
    let (mut said, mut buf) = (String::new(), [0; 4096]);
    while !said.contains("\r\n\r\n") {
        let count = stream.read(&mut buf).unwrap();
        assert!(count > 0, "closed after {said:?}");
        said.push_str(std::str::from_utf8(&buf[..count]).unwrap());
    }
    said
}

#[test]
fn a_panic_costs_one_request_and_not_the_worker() {
    let proxy = proxy();
    let mut stream = TcpStream::connect(proxy.addresses[0].1).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    for place in ["call", "future"] {
        assert!(ask(&mut stream, "").starts_with("HTTP/1.1 200 "));
        let said = ask(&mut stream, &format!("{FIELD}: {place}\r\n"));
        assert!(said.starts_with("HTTP/1.1 500 ") && said.contains("l5d-err: "), "{said}");
        let call = ask(&mut stream, &format!("content-type: application/grpc\r\n{FIELD}: {place}\r\n"));
        assert!(call.starts_with("HTTP/1.1 200 ") && call.contains("grpc-status: 13"), "{call}");
    }
    // the same worker, the same connection, and nothing that the lost requests held is still held
    assert!(ask(&mut stream, "").starts_with("HTTP/1.1 200 "));
    drop(stream);
    proxy.stop();
    assert_eq!(proxy.wait(), 0);
}
