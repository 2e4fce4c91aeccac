//! Connections over the workers: the kernel spreads them by a hash, and whoever has more hands over to whoever has fewer.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::support::frames::{END_STREAM, Frames, HEADERS};
use super::support::http1::request;
use super::support::ports::free_port;
use super::support::scrape::Scrape;
use super::support::upstream::reply;
use super::support::{Client, Serin, Setup, Upstream, eventually, now};

fn setup(origin: &Upstream, workers: usize) -> Setup {
    Setup::web(&origin.endpoint()).top(&format!("workers: {workers}"))
}

fn origin() -> Upstream {
    Upstream::reply(|_| reply(200, &[], "ok"))
}

/// Connections that each worker has, sorted.
fn loads(serin: &Serin) -> Vec<u64> {
    let scrape = Scrape::of(serin);
    let mut loads: Vec<u64> = scrape.find("serin_connections_active", &[]).iter().map(|one| one.value as u64).collect();
    loads.sort_unstable();
    loads
}

/// So many rounds of new connections, which have ports of their own each time: they never lie more than one apart.
fn check_even<C>(serin: &Serin, workers: usize, connections: usize, connect: impl Fn(SocketAddr) -> C) {
    const ROUNDS: usize = 6;
    let mut even = vec![(connections / workers) as u64; workers];
    even.iter_mut().rev().take(connections % workers).for_each(|load| *load += 1);
    for _ in 0..ROUNDS {
        eventually("the last round is gone", || loads(serin).iter().sum::<u64>() == 0);
        let _held: Vec<C> = (0..connections).map(|_| connect(serin.address())).collect();
        eventually(&format!("{even:?}"), || loads(serin) == even);
    }
}

fn check_http2(workers: usize, connections: usize) {
    let origin = origin();
    let serin = setup(&origin, workers).start();
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "web"), (":path", "/")];
    check_even(&serin, workers, connections, |address| {
        let mut frames = Frames::connect(address);
        assert!(frames.headers(1, END_STREAM, &pseudo));
        let answer = frames.until(|frame| frame.kind == HEADERS).expect("an answer");
        assert!(answer.has_status(200));
        frames
    });
}

#[test]
fn four_http2_connections_are_two_for_each_of_two_workers() {
    check_http2(2, 4);
}

#[test]
fn eight_http2_connections_are_four_for_each_of_two_workers() {
    check_http2(2, 8);
}

#[test]
fn few_http2_connections_leave_none_of_four_workers_idle() {
    check_http2(4, 4);
}

#[test]
fn connections_that_do_not_divide_lie_at_most_one_apart() {
    check_http2(4, 10);
}

#[test]
fn connections_that_say_nothing_are_spread_as_well() {
    let origin = origin();
    let serin = setup(&origin, 2).start();
    check_even(&serin, 2, 8, |address| TcpStream::connect(address).unwrap());
}

#[test]
fn idle_connections_that_have_served_are_spread_as_well() {
    let origin = origin();
    let serin = setup(&origin, 4).start();
    check_even(&serin, 4, 8, |address| {
        let mut client = Client::connect(address);
        assert_eq!(client.get("web", "/", &[]).status, 200);
        client
    });
}

#[test]
fn connections_to_a_unix_socket_are_spread_as_well() {
    let origin = origin();
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let text = format!(
        "admin: {{ip: 127.0.0.1, port: 0}}\nworkers: 2\nclusters: {{web: {{endpoints: [\"{}\"]}}}}\nrouters:\n\
         - label: outgoing\n  servers: [{{unix: serin.sock}}]\n  dtab: /svc => /#/clusters\n",
        origin.endpoint()
    );
    let serin = Serin::start_in(Arc::clone(&dir), &text);
    let _held: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(dir.path().join("serin.sock")).unwrap()).collect();
    eventually("four each", || loads(&serin) == [4, 4]);
}

/// Callers that open a connection for each request and ask nothing twice.
fn burst(address: SocketAddr, callers: usize, each: usize) -> Vec<std::thread::JoinHandle<()>> {
    let ask = move || {
        for turn in 0..each {
            let mut client = Client::connect(address);
            client.send(request("GET", &format!("/{turn}"), "web", &["connection: close"], ""));
            assert_eq!(client.read("GET").status, 200);
            assert!(client.at_end());
        }
    };
    (0..callers).map(|_| std::thread::spawn(ask)).collect()
}

#[test]
fn a_burst_of_a_thousand_short_connections_loses_none() {
    let origin = origin();
    let serin = setup(&origin, 4).start();
    burst(serin.address(), 20, 50).into_iter().for_each(|caller| caller.join().unwrap());
    assert_eq!(origin.count(), 1000);
    eventually("none is counted that is gone", || loads(&serin) == [0; 4]);
    check_even(&serin, 4, 4, |address| TcpStream::connect(address).unwrap());
}

/// With a second listener.
fn with_second(setup: &Setup, port: u16) -> String {
    setup.text()
        + &format!(
            "- label: second\n  protocol: http\n  servers: [{{ip: 127.0.0.1, port: {port}}}]\n  dtab: /svc => /#/clusters\n"
        )
}

#[test]
fn a_listener_that_comes_and_goes_loses_no_connection() {
    let origin = origin();
    let setup = setup(&origin, 2);
    let serin = setup.start();
    let calling = burst(serin.address(), 8, 100);
    for _ in 0..4 {
        let port = free_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        serin.rewrite(&with_second(&setup, port));
        eventually("it is there", || TcpStream::connect(address).is_ok());
        let mut asked: Vec<Client> = (0..16).map(|_| asking(address)).collect();
        serin.rewrite(&setup.text());
        for client in &mut asked {
            assert_eq!(client.read("GET").status, 200, "who came before the listener went is served");
        }
        eventually("it is gone", || TcpStream::connect(address).is_err());
    }
    calling.into_iter().for_each(|caller| caller.join().unwrap());
    eventually("none is counted that is gone", || loads(&serin) == [0; 2]);
}

/// Opens connections as fast as it can until there are none to be had, and asks something on each: who got one gets an answer.
fn check_calls_until_refused<C: io::Read + io::Write>(connect: impl Fn() -> io::Result<C>) -> usize {
    let mut served = 0;
    loop {
        let start = now();
        let Ok(mut client) = connect() else { return served };
        let mut answer = [0; 12];
        let asked = client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
        // a new connection of a listener that is gone is waited for, but not for ever
        let in_time = now() - start < Duration::from_millis(500);
        match asked.and_then(|()| client.read_exact(&mut answer)) {
            Ok(()) => assert_eq!(&answer, b"HTTP/1.1 200"),
            Err(error) if in_time => panic!("the connection was there, an answer was not: {error}"),
            Err(_) => {}
        }
        served += 1;
    }
}

/// Rounds in which callers open connections while the listener goes.
fn check_goes_under_calls<C: io::Read + io::Write>(
    (serin, setup): (&Serin, &Setup),
    listener: impl Fn() -> (String, Box<dyn Fn() -> io::Result<C> + Send + Sync>),
) {
    for _ in 0..6 {
        let (with, connect) = listener();
        serin.rewrite(&with);
        eventually("it is there", || connect().is_ok());
        let (connect, served) = (Arc::new(connect), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| served.fetch_add(check_calls_until_refused(|| connect()), Ordering::Relaxed));
            }
            serin.rewrite(&setup.text());
        });
        assert!(served.into_inner() > 0, "somebody was served before it went");
    }
    eventually("none is counted that is gone", || loads(serin).iter().sum::<u64>() == 0);
}

#[test]
fn whoever_could_connect_to_a_listener_that_goes_is_served() {
    let origin = origin();
    let setup = setup(&origin, 2);
    let serin = setup.start();
    check_goes_under_calls((&serin, &setup), || {
        let port = free_port();
        let connect = move || TcpStream::connect(("127.0.0.1", port));
        (with_second(&setup, port), Box::new(connect))
    });
}

#[test]
fn whoever_could_connect_to_a_unix_socket_that_goes_is_served() {
    let origin = origin();
    let setup = setup(&origin, 2);
    let serin = setup.start();
    let folder = tempfile::tempdir().unwrap();
    check_goes_under_calls((&serin, &setup), || {
        let path = folder.path().join("second.sock");
        let with = setup.text()
            + &format!("- label: second\n  servers: [{{unix: {}}}]\n  dtab: /svc => /#/clusters\n", path.display());
        (with, Box::new(move || UnixStream::connect(&path)))
    });
}

/// A new connection with a request on the way.
fn asking(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send(request("GET", "/", "web", &[], ""));
    client
}

#[test]
fn a_drain_serves_who_is_on_the_way_between_workers() {
    for _ in 0..3 {
        let origin = origin();
        let mut serin = setup(&origin, 4).start();
        let mut asked: Vec<Client> = (0..40).map(|_| asking(serin.address())).collect();
        serin.signal("TERM");
        for client in &mut asked {
            assert_eq!(client.read("GET").status, 200);
            assert!(client.at_end(), "closed after the answer");
        }
        assert_eq!(serin.wait().code(), Some(0), "{}", serin.log());
    }
}

#[test]
fn limits_count_a_connection_wherever_it_is_served() {
    let origin = origin();
    let serin = setup(&origin, 2).server("limits: {connectionsPerSource: 6, connections: 6}").start();
    for _ in 0..3 {
        let mut held: Vec<Client> = (0..6).map(|_| asking(serin.address())).collect();
        held.iter_mut().for_each(|client| assert_eq!(client.read("GET").status, 200));
        let mut seventh = asking(serin.address());
        assert_eq!(loads(&serin), [3, 3]);
        drop(held.pop());
        let start = now();
        let answered = seventh.try_read("GET").is_ok();
        assert!(answered, "the seventh waits until there is room, not refused after {:?}", now() - start);
        drop((held, seventh));
        eventually("all are gone", || loads(&serin) == [0; 2]);
    }
}
