//! Many connections, few descriptors, large bodies: what the limits are for.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::http1::request;
use super::support::scrape::Scrape;
use super::support::upstream::{Seen, next_head, next_request, reply};
use super::support::wire::Wire;
use super::support::{Client, Serin, Setup, Upstream, eventually, now};

/// Resident memory that nothing here may need, in KiB.
const RESIDENT_MAX: u64 = 64 << 10;

/// A connection from one of the addresses of this host.
fn connect(serin: &Serin, index: usize) -> Client {
    let source = Ipv4Addr::new(127, 0, 1, u8::try_from(index % 40).unwrap() + 1);
    Client::connect_from(IpAddr::V4(source), serin.address())
}

/// Times of so many requests of good clients, sorted.
fn times(serin: &Serin, requests: usize) -> Vec<Duration> {
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(serin.address())).collect();
    let mut times: Vec<Duration> = (0..requests)
        .map(|index| {
            let start: Instant = now();
            assert_eq!(clients[index % 4].get("web", "/", &[]).status, 200);
            now() - start
        })
        .collect();
    times.sort_unstable();
    times
}

#[test]
fn idle_and_slow_connections_do_not_hinder_good_clients() {
    const IDLE: usize = 10_000;
    const SLOW: usize = 2000;
    let origin = Upstream::reply(|_| reply(200, &[], "ok"));
    let serin = Setup::web(&origin.endpoint()).server("limits: {headTimeoutMs: 60000, idleTimeoutMs: 600000}").start();
    let alone = times(&serin, 1000);
    let mut held: Vec<Client> = (0..IDLE)
        .map(|index| {
            let mut client = connect(&serin, index);
            assert_eq!(client.get("web", "/", &[]).status, 200);
            client
        })
        .collect();
    let slow: Vec<Client> = (0..SLOW)
        .map(|index| {
            let mut client = connect(&serin, index);
            client.send("GET / HTTP/1.1\r\nHost: web\r\nslow: ");
            client
        })
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let dripping = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut slow = slow;
            while !stop.load(Ordering::Acquire) {
                for client in &mut slow {
                    client.send("x");
                }
                std::thread::park_timeout(Duration::from_millis(500));
            }
            slow
        })
    };
    let crowded = times(&serin, 1000);
    stop.store(true, Ordering::Release);
    let mut slow = dripping.join().unwrap();
    let middle = |times: &[Duration]| times[times.len() / 2];
    let most = (middle(&alone) * 5).max(Duration::from_millis(20));
    assert!(middle(&crowded) < most, "{:?} alone, {:?} in the crowd", middle(&alone), middle(&crowded));
    // nobody was given up meanwhile
    for index in [0, IDLE - 1] {
        assert_eq!(held[index].get("web", "/", &[]).status, 200);
    }
    slow[SLOW - 1].send("\r\n\r\n");
    assert_eq!(slow[SLOW - 1].read("GET").status, 200);
}

/// Resident memory of the process now, in KiB.
fn resident_kib(serin: &Serin) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", serin.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Opens connections that have `served` a request, or say nothing, and waits until they take less than two KiB each.
fn check_idle_memory(served: bool) {
    const IDLE: usize = 4000;
    let origin = Upstream::reply(|_| reply(200, &[], "ok"));
    let serin = Setup::web(&origin.endpoint()).top("workers: 1").start();
    let open = |count: usize| -> Vec<Client> {
        let one = |index| {
            let mut client = connect(&serin, index);
            if served {
                assert_eq!(client.get("web", "/", &[]).status, 200);
            }
            client
        };
        (0..count).map(one).collect()
    };
    // what is needed once is no part of it
    drop(open(64));
    let before = resident_kib(&serin);
    let held = open(IDLE);
    let most = before + 2 * IDLE as u64;
    eventually("idle connections let go of their buffers", || {
        let active = Scrape::of(&serin).sum("serin_connections_active", &[]);
        active == held.len() as f64 && resident_kib(&serin) < most
    });
}

#[test]
fn idle_connections_that_have_served_take_little_memory() {
    check_idle_memory(true);
}

#[test]
fn connections_that_say_nothing_take_little_memory() {
    check_idle_memory(false);
}

/// Processor time of the process so far, in ticks of 10 ms.
fn ticks(serin: &Serin) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", serin.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn allow_files(serin: &Serin, files: usize) {
    let lowered = std::process::Command::new("prlimit")
        .args(["--pid", &serin.pid().to_string(), &format!("--nofile={files}:")])
        .status();
    assert!(lowered.expect("prlimit is there").success());
}

fn open_files(serin: &Serin) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", serin.pid())).unwrap().count()
}

#[test]
fn without_descriptors_idle_connections_make_room() {
    let origin = Upstream::reply(|_| reply(200, &[], "ok"));
    let serin = Setup::web(&origin.endpoint()).start();
    assert_eq!(serin.get("web", "/").status, 200);
    allow_files(&serin, open_files(&serin) + 30);
    let mut held = Vec::new();
    // three times as many as there is room for: each is served, and some that were idle are closed for it
    for _ in 0..90 {
        let mut client = Client::connect(serin.address());
        let answer = client.get("web", "/", &[]).status;
        assert!(answer == 200 || answer == 503, "{answer}");
        held.push(client);
    }
    eventually("it says so", || serin.log().contains("no sockets left"));
    allow_files(&serin, 1000);
    assert_eq!(serin.get("web", "/").status, 200);
}

#[test]
fn without_descriptors_and_without_idle_connections_nobody_spins() {
    let origin = Upstream::raw(|wire, seen, index| {
        let _ = next_request(wire, seen, index);
        eventually("the test lets the origin go on", || seen.flag.load(Ordering::Acquire));
        let _ = wire.send(reply(200, &["connection: close"], "late"));
    });
    let serin = Setup::web(&origin.endpoint()).start();
    let mut busy: Vec<Client> = (0..5).map(|_| asking(&serin)).collect();
    eventually("all are with the origin", || origin.count() == 5);
    allow_files(&serin, open_files(&serin));
    let mut waiting: Vec<Client> = (0..5).map(|_| asking(&serin)).collect();
    let before = ticks(&serin);
    std::thread::park_timeout(Duration::from_secs(2));
    assert!(ticks(&serin) - before < 50, "{} ticks in two seconds", ticks(&serin) - before);
    allow_files(&serin, 1000);
    origin.seen.flag.store(true, Ordering::Release);
    for client in &mut busy {
        assert_eq!(client.read("GET").status, 200, "who was served is served on");
    }
    // a descriptor may have been left for one of them, and none for its way upstream
    let statuses: Vec<u16> = waiting.iter_mut().map(|client| client.read("GET").status).collect();
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "who waited is answered: {statuses:?}");
}

fn asking(serin: &Serin) -> Client {
    let mut client = Client::connect(serin.address());
    client.send(request("GET", "/", "web", &[], ""));
    client
}

/// So much crosses.
const LARGE: u64 = 1 << 30;
const BLOCK: usize = 1 << 20;

/// Sends [`LARGE`] octets to who asks, and counts what comes.
fn heavy(wire: &mut Wire, seen: &Seen, index: usize) {
    let Some(asked) = next_head(wire, seen, index) else { return };
    let block = vec![b'x'; BLOCK];
    if asked.method == "GET" {
        let _ = wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n"));
        let _all = (0..LARGE / BLOCK as u64).take_while(|_| wire.send(&block).is_ok()).count();
        return;
    }
    let (mut got, mut block) = (wire.buf.len() as u64, block);
    while got < LARGE {
        match wire.stream.read(&mut block) {
            Ok(count @ 1..) => got += count as u64,
            _ => return,
        }
        if seen.flag.load(Ordering::Acquire) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    let _ = wire.send(reply(200, &[], &got.to_string()));
}

#[test]
fn a_gigabyte_each_way_needs_little_memory() {
    let origin = Upstream::raw(heavy);
    let serin = Setup::web(&origin.endpoint()).start();
    // a reader who stops now and then
    let mut down = Client::connect(serin.address());
    down.send(request("GET", "/", "web", &[], ""));
    down.read_head().unwrap();
    let (mut got, mut block) = (down.wire.buf.len() as u64, vec![0; BLOCK]);
    while got < LARGE {
        let count = down.wire.stream.read(&mut block).unwrap();
        assert!(count > 0, "cut after {got}");
        if got >> 27 != (got + count as u64) >> 27 {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        got += count as u64;
    }
    assert_eq!(got, LARGE);
    // an origin that reads slowly
    origin.seen.flag.store(true, Ordering::Release);
    let mut up = Client::connect(serin.address());
    up.send(format!("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: {LARGE}\r\n\r\n"));
    for sent in 0..LARGE / BLOCK as u64 {
        up.wire.stream.write_all(&block).unwrap();
        if sent == 256 {
            origin.seen.flag.store(false, Ordering::Release);
        }
    }
    assert_eq!(up.read("POST").text(), LARGE.to_string());
    assert!(serin.peak_kib() < RESIDENT_MAX, "{} KiB", serin.peak_kib());
}
