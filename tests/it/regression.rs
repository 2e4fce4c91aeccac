//! Faults that were there once, each with the way it was met.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::support::serin::Serin;
use super::support::setup::Setup;
use super::support::upstream::{Upstream, next_request, reply};
use super::support::{Client, eventually};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";

/// Sends one request and returns the first octets of its answer.
fn ask(socket: &mut TcpStream) -> String {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(REQUEST).unwrap();
    let mut octets = [0; 1024];
    let count = socket.read(&mut octets).unwrap();
    String::from_utf8_lossy(&octets[..count]).into_owned()
}

#[test]
fn regression_0001_a_connection_that_was_parked_serves_again() {
    let origin = Upstream::named("web");
    let serin = Setup::web(&origin.endpoint()).start();
    let mut socket = TcpStream::connect(serin.address()).unwrap();
    for _ in 0..2 {
        assert!(ask(&mut socket).starts_with("HTTP/1.1 200 "));
        // longer than a connection keeps its buffers; nothing may come, and it may not close
        socket.set_read_timeout(Some(Duration::from_secs(7))).unwrap();
        let kind = socket.read(&mut [0; 1]).unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind:?}");
    }
    assert!(ask(&mut socket).starts_with("HTTP/1.1 200 "));
    assert_eq!(origin.count(), 3);
}

#[test]
fn regression_0002_an_empty_override_field_is_not_taken_for_a_rule() {
    let (a, b) = (Upstream::named("a"), Upstream::named("b"));
    let text = format!(
        "admin: {{port: 0}}\nclusters: {{a: {{endpoints: [\"{}\"]}}, b: {{endpoints: [\"{}\"]}}}}\nrouters:\n- label: outgoing\n  \
         protocol: http\n  servers: [{{port: 0}}]\n  dtab: \"/svc => /#/clusters/a\"\n  overrides:\n  - {{when: {{cookie: {{x: one}}}}, \
         dtab: \"/other => /#/clusters/a\"}}\n  - {{when: {{cookie: {{x: two}}}}, dtab: \"/svc => /#/clusters/b\"}}\n",
        a.endpoint(),
        b.endpoint()
    );
    let serin = Serin::start(&text);
    assert_eq!(serin.get_with("web", "/", &["l5d-ctx-dtab: "]).status, 200);
    assert_eq!(serin.get_with("web", "/", &["l5d-dtab: "]).status, 200);
    assert_eq!(serin.get_with("web", "/", &["Cookie: x=two"]).status, 200);
    assert_eq!((a.count(), b.count()), (2, 1));
}

#[test]
fn regression_0003_a_connection_of_a_removed_router_ends_without_harm() {
    let origin = Upstream::named("web");
    let head = format!("admin: {{port: 0}}\nclusters: {{web: {{endpoints: [\"{}\"]}}}}\nrouters:\n", origin.endpoint());
    let router = |label: &str| {
        format!("- label: {label}\n  protocol: http\n  servers: [{{port: 0}}]\n  dtab: \"/svc => /#/clusters/web\"\n")
    };
    let serin = Serin::start(&format!("{head}{}{}", router("outgoing"), router("second")));
    let mut socket = TcpStream::connect(serin.address_of("second")).unwrap();
    assert!(ask(&mut socket).starts_with("HTTP/1.1 200 "));
    let mut fresh = TcpStream::connect(serin.address_of("second")).unwrap();
    serin.rewrite(&format!("{head}{}", router("outgoing")));
    // the kept connection is closed politely; the fresh one had no answer yet and gets one
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
    let answer = ask(&mut fresh);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(serin.get("web", "/").status, 200);
}

#[test]
fn regression_0004_an_origin_that_sends_a_body_to_head_is_found_out() {
    let origin = Upstream::raw(|wire, seen, index| {
        while let Some(request) = next_request(wire, seen, index) {
            let _ = wire.send(reply(200, &[], if request.method == "HEAD" { "" } else { "sound" }));
            if request.target == "/bad" {
                let _ = wire.send(reply(200, &[], "poison"));
                seen.flag.store(true, Ordering::Release);
            }
        }
    });
    let serin = Setup::web(&origin.endpoint()).top("workers: 1").start();
    let mut client = Client::connect(serin.address());
    let mut head = |target: &str| {
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: web\r\n\r\n"));
        assert_eq!(client.read("HEAD").status, 200);
    };
    head("/bad");
    eventually("the poison is on its way", || origin.seen.flag.load(Ordering::Acquire));
    assert_eq!(serin.get("web", "/").text(), "sound");
    // what was given away once may come later next time: nobody else gets a connection on which HEAD was answered
    head("/");
    assert_eq!(serin.get("web", "/").text(), "sound");
    assert_eq!(origin.connections(), 3);
}
