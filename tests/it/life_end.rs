//! Starts that must not succeed, and ends: drain, polite closes, deadline, second signal, exit codes.

use std::net::{SocketAddr, TcpStream};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::support::frames::{DATA, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, SETTINGS};
use super::support::http1::{End, request};
use super::support::outside::both;
use super::support::ports::free_port;
use super::support::upstream::{Upstream, next_request, reply};
use super::support::wire::Wire;
use super::support::{Client, DEADLINE, Serin, Setup, eventually, now, standstill};

/// An origin that answers when the test sets its flag.
fn held() -> Upstream {
    Upstream::raw(|wire, seen, index| {
        while next_request(wire, seen, index).is_some() {
            eventually("the test lets the origin go on", || seen.flag.load(Ordering::Acquire));
            if wire.send(reply(200, &[], "late")).is_err() {
                return;
            }
        }
    })
}

/// An origin that never answers; its connection ends when the proxy lets go.
fn silent() -> Upstream {
    Upstream::raw(|wire, seen, index| {
        let _ = next_request(wire, seen, index);
        let _ = wire.read_to_end();
    })
}

/// A request on its own connection that is with the origin by now.
fn running(serin: &Serin, origin: &Upstream) -> Client {
    let mut client = Client::connect(serin.address());
    client.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    eventually("the request is with the origin", || origin.count() == 1);
    client
}

fn wait_not_ready(serin: &Serin) {
    eventually("/readyz says 503", || serin.admin("/readyz").status == 503);
}

fn wait_refuses(address: SocketAddr) {
    eventually("new connections are refused", || TcpStream::connect(address).is_err());
}

#[track_caller]
fn check_exit_0(serin: &mut Serin) {
    assert_eq!(serin.wait().code(), Some(0), "{}", serin.log());
}

/// A start that fails with exit code 1 before the deadline, as its output.
fn failed_start(dir: Arc<tempfile::TempDir>, file: &str) -> String {
    let mut serin = Serin::spawn(dir, &["run", file], &[]);
    assert_eq!(serin.wait().code(), Some(1), "{}", serin.log());
    standstill("what it says", Duration::from_millis(100), || serin.log().len() as u64);
    serin.log()
}

fn check_second_process(port: u16, admin: u16, second: &Setup, named: u16) {
    let origin = Upstream::named("one");
    let first = Setup::web(&origin.endpoint()).ports(port, admin).start();
    let dir = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("serin.yaml"), second.text()).unwrap();
    let text = failed_start(dir, "serin.yaml");
    assert!(text.contains(&named.to_string()), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    for _ in 0..20 {
        assert_eq!(first.get("web", "/").status, 200, "the first process loses nothing");
    }
}

#[test]
fn a_second_process_on_the_port_is_told_which() {
    let port = free_port();
    check_second_process(port, 0, &Setup::web("127.0.0.1:9").ports(port, 0), port);
}

#[test]
fn a_second_process_on_the_admin_port_is_told_which() {
    let admin = free_port();
    check_second_process(0, admin, &Setup::web("127.0.0.1:9").ports(0, admin), admin);
}

#[test]
fn a_missing_file_is_named_and_exits_1() {
    let text = failed_start(Arc::new(tempfile::tempdir().unwrap()), "nowhere.yaml");
    assert!(text.contains("nowhere.yaml"), "{text}");
}

#[test]
fn a_bad_file_at_start_exits_1_with_the_caret() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let text = Setup::web("127.0.0.1:9").text() + "  failovr: names\n";
    std::fs::write(dir.path().join("bad.yaml"), &text).unwrap();
    let log = failed_start(dir, "bad.yaml");
    let line = text.lines().count();
    assert!(log.contains(&format!("bad.yaml:{line}:3")), "{log}");
    assert!(log.contains("^^^^^^^"), "{log}");
    assert!(log.contains("`failover`"), "advice: {log}");
}

#[test]
fn sigterm_lets_a_running_request_finish() {
    check_drain("TERM");
}

#[test]
fn sigint_drains_too() {
    check_drain("INT");
}

/// Not ready, alive, no new connections; the running request gets its whole answer and a polite close; exit code 0.
fn check_drain(signal: &str) {
    let origin = held();
    let mut serin = Setup::web(&origin.endpoint()).start();
    let mut client = running(&serin, &origin);
    assert_eq!(serin.admin("/readyz").status, 200);
    serin.signal(signal);
    wait_not_ready(&serin);
    assert_eq!(serin.admin("/livez").status, 200);
    wait_refuses(serin.address());
    assert!(serin.is_running(), "a request still runs");
    origin.seen.flag.store(true, Ordering::Release);
    let answer = client.read("GET");
    assert_eq!((answer.status, answer.text().as_str(), answer.end), (200, "late", End::Clean));
    assert_eq!(answer.field("connection").as_deref(), Some("close"));
    assert!(client.at_end(), "the connection closes after the answer");
    check_exit_0(&mut serin);
}

#[test]
fn an_idle_keep_alive_connection_closes_and_nothing_delays_the_exit() {
    let origin = Upstream::named("one");
    let mut serin = Setup::web(&origin.endpoint()).start();
    let mut client = Client::connect(serin.address());
    assert_eq!(client.get("web", "/", &[]).status, 200);
    let mut untouched = Client::connect(serin.address());
    serin.signal("TERM");
    assert!(client.at_end(), "closed without another byte");
    check_exit_0(&mut serin);
    let _ = untouched.read_to_end();
}

/// While `delayMs` passes, requests are still taken: the load balancer in front has not heard yet.
#[test]
fn the_delay_keeps_accepting_and_a_second_signal_ends_it() {
    let origin = Upstream::named("one");
    let mut serin = Setup::web(&origin.endpoint()).top("drain: {delayMs: 60000, deadlineMs: 60000}").start();
    let mut kept = Client::connect(serin.address());
    assert_eq!(kept.get("web", "/", &[]).status, 200);
    serin.signal("TERM");
    wait_not_ready(&serin);
    assert_eq!(serin.get("web", "/").status, 200, "a new connection");
    assert_eq!(kept.get("web", "/", &[]).status, 200, "an old one");
    assert!(serin.is_running());
    serin.signal("TERM");
    check_exit_0(&mut serin);
}

#[test]
fn a_second_signal_cuts_at_once() {
    let origin = silent();
    let mut serin = Setup::web(&origin.endpoint()).top("drain: {deadlineMs: 60000}").start();
    let mut client = running(&serin, &origin);
    serin.signal("TERM");
    wait_refuses(serin.address());
    assert!(serin.is_running());
    serin.signal("TERM");
    check_exit_0(&mut serin);
    if let Ok(answer) = client.try_read("GET") {
        assert!(answer.status >= 500, "never a good answer: {}", answer.status);
    }
}

#[test]
fn the_deadline_cuts_what_still_runs_and_not_before() {
    let origin = silent();
    let deadline = Duration::from_millis(700);
    let mut serin = Setup::web(&origin.endpoint()).top("drain: {deadlineMs: 700}").start();
    let mut client = running(&serin, &origin);
    let start = now();
    serin.signal("TERM");
    check_exit_0(&mut serin);
    let took = now() - start;
    assert!(took >= deadline && took < DEADLINE, "{took:?}");
    if let Ok(answer) = client.try_read("GET") {
        assert!(answer.status >= 500, "never a good answer: {}", answer.status);
    }
}

/// A client whose kernel takes little while nobody reads.
fn slow_client(address: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.connect_timeout(&address.into(), DEADLINE).unwrap();
    Client { wire: Wire::new(socket.into()) }
}

#[test]
fn a_drain_waits_for_readers_that_have_their_last_octets_to_come() {
    let origin = Upstream::raw(|wire, seen, index| {
        while let Some(request) = next_request(wire, seen, index) {
            let length = request.target[1..].parse().unwrap();
            if wire.send(reply(200, &[], &"x".repeat(length))).is_err() {
                return;
            }
        }
    });
    let mut serin = Setup::web(&origin.endpoint()).top("drain: {deadlineMs: 30000}").start();
    // among these are some of which the kernel has not all, and hyper has the rest
    let lengths: Vec<usize> = (200_000..1_000_000).step_by(16_000).collect();
    let mut clients: Vec<_> = lengths.iter().map(|_| slow_client(serin.address())).collect();
    for (client, length) in clients.iter_mut().zip(&lengths) {
        client.send(request("GET", &format!("/{length}"), "web", &[], ""));
    }
    eventually("all are under way", || origin.count() == lengths.len());
    serin.signal("TERM");
    eventually("it drains", || serin.log().contains("drain"));
    // some sweeps: connections that only wait are closed by then
    std::thread::park_timeout(Duration::from_secs(4));
    for (client, length) in clients.iter_mut().zip(&lengths) {
        let answer = client.read("GET");
        assert_eq!((answer.status, answer.body.len()), (200, *length));
    }
    check_exit_0(&mut serin);
}

#[test]
fn a_body_cut_by_the_deadline_is_no_clean_end() {
    let origin = Upstream::raw(|wire, seen, index| {
        let _ = next_request(wire, seen, index);
        let _ = wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n");
        let _ = wire.read_to_end();
    });
    let mut serin = Setup::web(&origin.endpoint()).top("drain: {deadlineMs: 300}").start();
    let mut client = running(&serin, &origin);
    serin.signal("TERM");
    let answer = client.read("GET");
    assert_eq!((answer.status, answer.text().as_str(), answer.end), (200, "part", End::Cut));
    check_exit_0(&mut serin);
}

/// Reads on until a frame fits, and answers each PING: the round trip between the two GOAWAYs of a polite end.
fn until(frames: &mut Frames, fits: impl Fn(&Frame) -> bool) -> Option<Frame> {
    loop {
        let frame = frames.until(|frame| fits(frame) || frame.kind == PING && frame.flags & 1 == 0)?;
        if fits(&frame) {
            return Some(frame);
        }
        frames.send(PING, 1, 0, &frame.payload);
    }
}

#[test]
fn http2_gets_goaway_and_its_running_stream_finishes() {
    let origin = held();
    let mut serin = Setup::web(&origin.endpoint()).start();
    let mut frames = Frames::connect(serin.address());
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "web"), (":path", "/")];
    assert!(frames.headers(1, END_STREAM, &fields));
    eventually("the request is with the origin", || origin.count() == 1);
    serin.signal("TERM");
    let goaway = until(&mut frames, |frame| frame.kind == GOAWAY).expect("GOAWAY before the end");
    assert_eq!(goaway.code(), 0, "NO_ERROR");
    let last = u32::from_be_bytes(goaway.payload[..4].try_into().unwrap()) & 0x7fff_ffff;
    assert!(last >= 1, "stream 1 is among those that are served");
    origin.seen.flag.store(true, Ordering::Release);
    let head = until(&mut frames, |frame| frame.kind == HEADERS).expect("an answer");
    assert!(head.stream == 1 && head.has_status(200));
    let end = until(&mut frames, |frame| frame.kind == DATA && frame.flags & END_STREAM != 0).expect("its end");
    assert_eq!(end.stream, 1);
    assert!(until(&mut frames, |frame| frame.kind == HEADERS).is_none(), "then the connection ends");
    check_exit_0(&mut serin);
}

#[test]
fn an_idle_http2_connection_gets_goaway_and_ends() {
    let mut serin = Setup::web("127.0.0.1:9").start();
    let mut frames = Frames::connect(serin.address());
    assert!(frames.until(|frame| frame.kind == SETTINGS).is_some());
    serin.signal("TERM");
    assert!(until(&mut frames, |frame| frame.kind == GOAWAY).is_some_and(|frame| frame.code() == 0));
    assert!(until(&mut frames, |frame| frame.kind == HEADERS).is_none());
    check_exit_0(&mut serin);
}

/// What the command says when it is run to its end.
fn output_of(arguments: &[&str]) -> (Option<i32>, String) {
    let output: Output = super::support::serin::run(arguments);
    (output.status.code(), both(&output))
}

#[test]
fn a_folder_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (code, text) = output_of(&["run", dir.path().to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}
