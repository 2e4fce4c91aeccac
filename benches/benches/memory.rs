//! Resident memory of the real program: idle, and for each connection that waits. Exit code 1 if idle is too much.
//!
//! The program is `SERIN_BIN`, or a release build made here and now.
#![allow(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on stops loudly")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use serin_benches::client::{self, Http1, Http2};
use serin_benches::program::Serin;
use serin_benches::{measures, upstream};

/// Most resident memory, in octets, of a program that has started and does nothing.
const IDLE_MAX: u64 = 20_000_000;
/// HTTP/1.1 connections opened.
const HTTP1_CONNECTIONS: usize = 5_000;
/// HTTP/2 connections opened.
const HTTP2_CONNECTIONS: usize = 1_000;
/// An idle HTTP/1.1 connection is parked after half a second, by a sweep as often; the allocator gives back what is free for a second.
const PARKED_AFTER: Duration = Duration::from_secs(4);
/// The first moments of a process are not what it is like idle.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    if !measures() {
        println!("skipped: measures only under `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let program = program();
    let idle = http1(&program);
    http2(&program);
    if idle * 1024 > IDLE_MAX {
        println!("too much: {idle} KiB idle are more than {IDLE_MAX} octets");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Returns the KiB of the idle program.
fn http1(program: &Path) -> u64 {
    let serin = start(program);
    std::thread::sleep(SETTLED_AFTER);
    let idle = serin.resident_kib();
    println!("idle: {idle} KiB resident (bound {} KiB)", IDLE_MAX / 1024);
    let request = client::get("hello", 128);
    // the program's own buffers have their size before the count begins
    let mut first = Http1::connect(serin.address);
    (0..1_000).for_each(|_| assert_eq!(first.round_trip(&request), 128));
    let before = serin.resident_kib();
    let mut open = Vec::with_capacity(HTTP1_CONNECTIONS);
    for _ in 0..HTTP1_CONNECTIONS {
        let mut connection = Http1::connect(serin.address);
        assert_eq!(connection.round_trip(&request), 128);
        connection.shrink();
        open.push(connection);
    }
    report("HTTP/1.1, after one request each", before, serin.resident_kib(), HTTP1_CONNECTIONS);
    std::thread::sleep(PARKED_AFTER);
    report("HTTP/1.1, parked", before, serin.resident_kib(), HTTP1_CONNECTIONS);
    // parked is not closed
    open.iter_mut().step_by(500).for_each(|connection| assert_eq!(connection.round_trip(&request), 128));
    idle
}

fn http2(program: &Path) {
    let serin = start(program);
    let first = Http2::connect(serin.address, 1);
    (0..1_000).for_each(|_| assert_eq!(first.get(0, "hello", 128), 128));
    let before = serin.resident_kib();
    let open = Http2::connect(serin.address, HTTP2_CONNECTIONS);
    (0..HTTP2_CONNECTIONS).for_each(|connection| assert_eq!(open.get(connection, "hello", 128), 128));
    report("HTTP/2, after one request each", before, serin.resident_kib(), HTTP2_CONNECTIONS);
    open.idle(PARKED_AFTER);
    report("HTTP/2, idle for a while", before, serin.resident_kib(), HTTP2_CONNECTIONS);
    (0..HTTP2_CONNECTIONS).step_by(100).for_each(|connection| assert_eq!(open.get(connection, "hello", 128), 128));
}

fn report(what: &str, before: u64, after: u64, connections: usize) {
    let each = after.saturating_sub(before) as f64 / connections as f64;
    println!("{what}: {each:.2} KiB a connection ({connections} open, {after} KiB resident)");
}

/// The first example, with free ports and an upstream of ours, for a single client with many connections.
fn start(program: &Path) -> Serin {
    let mut config = include_str!("../../examples/hello.yaml").to_owned();
    let upstream = upstream::http1().to_string();
    let server = "port: 0, limits: {connectionsPerSource: 20000}";
    for (here, there) in [("port: 4140", server), ("port: 9990", "port: 0"), ("127.0.0.1:8080", upstream.as_str())] {
        assert!(config.contains(here), "the example has `{here}`");
        config = config.replacen(here, there, 1);
    }
    Serin::start(program, &config)
}

/// `SERIN_BIN`, or the release build, never older than its sources.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("SERIN_BIN") {
        return std::path::absolute(path).expect("a path");
    }
    let this = std::env::current_exe().expect("this program");
    let target = this.ancestors().nth(3).expect("<target>/<profile>/deps/<this>");
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(project).args(["build", "--quiet", "--release", "--package", "serin", "--bin", "serin"]);
    command.arg("--target-dir").arg(target);
    assert!(command.status().expect("cargo runs").success(), "the program builds");
    target.join("release/serin")
}
