use std::io::{Read, Write};
use std::net::TcpStream;

use serin_config::Config;
use serin_config::source::Source;
use serin_metrics::SERIES_MAX;

use super::*;
use crate::assemble::{Parts, assemble};
use crate::resolve::{DnsConfig, Resolver};
use crate::snapshot::Snapshot;
use crate::world::{Control, Event, Signal};

mod rollouts;

const FILE: &str = "\
clusters: {a: {endpoints: ['127.0.0.1:1']}, b: {endpoints: []}}
drain: {delayMs: 60000}
routers:
- protocol: http
  label: out
  servers: [{port: 4140}]
  dtab: /svc => 3 * /#/clusters/a & 1 * /#/clusters/b
";

struct Stand {
    address: SocketAddr,
    status: Arc<ArcSwap<Status>>,
    control: Control,
    handle: AdminHandle,
}

fn stand() -> Stand {
    stand_with(Tokens::default(), None)
}

fn stand_with(tokens: Tokens, desk: Option<Arc<dyn Desk>>) -> Stand {
    let config = Arc::new(Config::parse(&Source::new("t", FILE)).unwrap().0);
    let endpoints = Arc::new(EndpointTable::default());
    let mut resolver = Resolver::new(Arc::clone(&endpoints), DnsConfig::default());
    let names = resolver.configure(&config.clusters, &config.namers, &config.egress);
    let listener = crate::control::admin_socket(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let parts = Parts {
        config: &config,
        listeners: &[],
        admin: address,
        names: &names,
        workers: 1,
        previous: None,
        routings: &Default::default(),
        stored: &Default::default(),
        interfaces: &[],
    };
    let (structure, weights) = assemble(&parts);
    let control = Control::new(config, "abc".into());
    let status = Arc::new(ArcSwap::from_pointee(control.status().clone()));
    let world = World::new(Snapshot { version: 1, structure, weights }, Default::default());
    let metrics = Metrics::new(1, SERIES_MAX);
    let seed = AdminSeed {
        listener,
        world,
        metrics,
        endpoints,
        status: Arc::clone(&status),
        tokens: Arc::new(ArcSwap::from_pointee(tokens)),
        dtabs: Arc::default(),
        teams: Default::default(),
        desk,
    };
    Stand { address, status, control, handle: start(seed).unwrap() }
}

impl Stand {
    fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(&self, target: &str) -> String {
        self.send(&format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
    }

    #[track_caller]
    fn check(&self, target: &str, status: u16, contains: &str) {
        let answer = self.get(target);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
        assert!(answer.contains(contains), "{target}: {answer}");
    }
}

#[test]
fn every_page_of_the_index_answers() {
    let mut stand = stand();
    stand.check("/", 200, "/bound-names.json");
    stand.check("/livez", 200, "ok");
    stand.check("/readyz", 200, "ready");
    stand.check("/metrics", 200, "serin_build_info");
    stand.check("/metrics", 200, "serin_endpoints{client=\"/#/clusters/a\"} 1");
    stand.check("/admin/metrics/prometheus", 200, "version=0.0.4");
    stand.check("/admin/ping", 200, "pong");
    stand.check("/config.json", 200, "\"dstPrefix\":\"/svc\"");
    stand.check("/bound-names.json", 200, "[\"/#/clusters/a\",\"/#/clusters/b\"]");
    stand.check("/delegator.json?namespace=out&path=/svc/x", 200, "\"type\":\"union\"");
    stand.check("/delegator.json?path=/svc/x&dtab=/svc=%3E/%23/clusters/a", 200, "\"ip\":\"127.0.0.1\"");
    stand.check("/api/v1/explain?path=/svc/x", 200, "\"/#/clusters/a\":1.0");
    stand.check("/nothing", 404, "no such page");
    stand.handle.stop();
}

#[test]
fn questions_that_mean_nothing_are_told_so() {
    let mut stand = stand();
    stand.check("/delegator.json?namespace=x&path=/svc", 404, "there are out");
    stand.check("/delegator.json?path=svc", 400, "no path");
    stand.check("/delegator.json?path=/svc&dtab=/svc", 400, "dtab");
    stand.check("/api/v1/explain?router=x&path=/svc", 404, "there are out");
    stand.check("/api/v1/explain?what=x", 400, "no key here");
    stand.check("/api/v1/explain", 400, "names no service");
    stand.handle.stop();
}

#[test]
fn writes_and_strange_hosts_are_refused() {
    let mut stand = stand();
    let post = "POST /config.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    assert!(stand.send(post).starts_with("HTTP/1.1 405 "));
    let strange = "GET /config.json HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    assert!(stand.send(strange).starts_with("HTTP/1.1 403 "));
    stand.handle.stop();
}

#[test]
fn a_delegator_question_may_be_posted_as_json() {
    let mut stand = stand();
    let body = r#"{"namespace": "out", "path": "/svc/x"}"#;
    let post = |kind: &str| {
        let length = body.len();
        stand.send(&format!(
            "POST /delegator.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {kind}\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
    };
    assert!(post("application/json").contains("\"type\":\"union\""));
    assert!(post("text/plain").starts_with("HTTP/1.1 415 "));
    stand.handle.stop();
}

#[test]
fn readiness_shows_the_rejected_file_and_ends_with_the_stop() {
    let mut stand = stand();
    stand.control.apply(Event::Rejected("serin.yaml:1:1 mistake".into()));
    stand.status.store(Arc::new(stand.control.status().clone()));
    stand.check("/readyz", 200, "ready");
    stand.check("/readyz?verbose", 200, "serin.yaml:1:1 mistake");
    stand.control.apply(Event::Signal(Signal::Stop));
    stand.status.store(Arc::new(stand.control.status().clone()));
    stand.check("/readyz", 503, "not ready: leaving");
    stand.check("/livez", 200, "ok");
    stand.handle.stop();
}

#[test]
fn another_listener_takes_over() {
    let mut stand = stand();
    let other = crate::control::admin_socket(([127, 0, 0, 1], 0).into()).unwrap();
    stand.address = other.local_addr().unwrap();
    stand.handle.replace(other);
    stand.check("/livez", 200, "ok");
    stand.handle.stop();
}
