//! Against a real DNS server.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::Path as FilePath;
use std::process::{Child, ChildStderr, Command, Stdio};

use super::*;

/// A dnsmasq on a free port of loopback; it ends with this value.
struct Server {
    child: Child,
    /// Kept open for what it says later.
    log: Option<BufReader<ChildStderr>>,
    port: u16,
}

impl Server {
    /// `None`: not installed, said so. `records`: `name,ip` each, or `srv:name,target,port,priority,weight`. Whatever else is under `.test` does not exist.
    fn start(port: Option<u16>, ttl_s: u32, records: &[&str]) -> Option<Self> {
        if !FilePath::new(DNSMASQ).exists() {
            assert!(std::env::var_os("SERIN_REQUIRE_PEERS").is_none(), "needs dnsmasq");
            eprintln!("skipped: needs dnsmasq");
            return None;
        }
        let port = port.unwrap_or_else(free_port);
        let mut command = Command::new(DNSMASQ);
        command.args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--local=/test/"]);
        command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--pid-file="]);
        command.arg(format!("--port={port}")).arg(format!("--local-ttl={ttl_s}"));
        let option = |record: &&str| match record.strip_prefix("srv:") {
            Some(srv) => format!("--srv-host={srv}"),
            None => format!("--host-record={record}"),
        };
        command.args(records.iter().map(option));
        let mut server = Self { child: command.stderr(Stdio::piped()).spawn().unwrap(), log: None, port };
        let mut log = BufReader::new(server.child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("started, version") {
            assert_ne!(log.read_line(&mut said).unwrap(), 0, "dnsmasq did not start: {said}");
        }
        server.log = Some(log);
        Some(server)
    }

    fn stop(mut self) -> u16 {
        self.end();
        self.port
    }

    fn end(&mut self) {
        let _ended_before = self.child.kill();
        let _ended_before = self.child.wait();
    }

    fn fixture(&self) -> Fixture {
        Fixture::with_dns(&format!("127.0.0.1:{}", self.port))
    }
}

/// Free for both of the protocols that it speaks.
fn free_port() -> u16 {
    let udp = || UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::iter::repeat_with(udp).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Drives the resolver until the cluster has these addresses.
#[track_caller]
fn check(fixture: &mut Fixture, cluster: &Cluster, expected: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(until(fixture, cluster, expected));
}

async fn until(fixture: &mut Fixture, cluster: &Cluster, expected: &str) {
    let state = || shown(&cluster.addresses().load().addresses);
    let reached = async {
        while state() != expected {
            fixture.resolver.next().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), reached).await;
    assert!(in_time.is_ok(), "{} instead of {expected}", state());
}

#[test]
fn all_addresses_of_a_name_are_bound() {
    let records = ["web.test,127.0.0.3", "web.test,127.0.0.4", "web.test,fd00::3"];
    let Some(server) = Server::start(None, 60, &records) else { return };
    let mut fixture = server.fixture();
    let web = fixture.get("/$/inet/web.test/80", false);
    check(&mut fixture, &web, "127.0.0.3:80 127.0.0.4:80 [fd00::3]:80");
}

#[test]
fn an_answer_too_large_for_a_datagram_is_read_whole() {
    let ips: Vec<_> = (1..=200).map(|n| format!("127.0.1.{n}")).collect();
    let records: Vec<_> = ips.iter().map(|ip| format!("many.test,{ip}")).collect();
    let Some(server) = Server::start(None, 60, &records.iter().map(String::as_str).collect::<Vec<_>>()) else { return };
    let mut fixture = server.fixture();
    let many = fixture.get("/$/inet/many.test/80", false);
    check(&mut fixture, &many, &ips.iter().map(|ip| format!("{ip}:80")).collect::<Vec<_>>().join(" "));
}

#[test]
fn names_in_clusters_and_files_are_asked_for() {
    let Some(server) = Server::start(None, 60, &["web.test,127.0.0.3"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    files::write(dir.path().join("web"), "web.test 80\n10.0.0.9 80").unwrap();
    let mut fixture = server.fixture();
    fixture.configure(&[cluster("web", &["web.test:81"])], &[fs_namer("/io.l5d.fs", dir.path())]);
    let (in_cluster, in_file) = (fixture.get("/#/clusters/web", false), fixture.get("/#/io.l5d.fs/web", false));
    assert_eq!(shown(&in_file.addresses().load().addresses), "10.0.0.9:80");
    check(&mut fixture, &in_cluster, "127.0.0.3:81");
    check(&mut fixture, &in_file, "127.0.0.3:80 10.0.0.9:80");
    assert_eq!(fixture.resolver.stats().dns_lookups.load(Ordering::Relaxed), 1, "one name, one question");
}

#[test]
fn a_changed_answer_is_seen_when_its_ttl_ends_and_the_last_good_one_outlives_the_server() {
    let Some(server) = Server::start(None, 1, &["web.test,127.0.0.3"]) else { return };
    let mut fixture = server.fixture();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let web = fixture.get("/$/inet/web.test/80", false);
        until(&mut fixture, &web, "127.0.0.3:80").await;
        let server = Server::start(Some(server.stop()), 1, &["web.test,127.0.0.4", "web.test,127.0.0.5"]).unwrap();
        until(&mut fixture, &web, "127.0.0.4:80 127.0.0.5:80").await;
        server.stop();
        let failures = |fixture: &Fixture| fixture.resolver.stats().dns_failures.load(Ordering::Relaxed);
        let before = failures(&fixture);
        while failures(&fixture) == before {
            fixture.resolver.next().await;
        }
        assert_eq!(shown(&web.addresses().load().addresses), "127.0.0.4:80 127.0.0.5:80");
    });
}

#[test]
fn a_name_that_does_not_exist_fails_with_the_reason() {
    let Some(server) = Server::start(None, 60, &[]) else { return };
    let mut fixture = server.fixture();
    let web = fixture.get("/$/inet/nobody.test/80", true);
    check(&mut fixture, &web, "failed: nobody.test: no such host");
}

#[test]
fn a_name_that_appears_later_is_found() {
    let Some(server) = Server::start(None, 1, &[]) else { return };
    let mut fixture = server.fixture();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let web = fixture.get("/$/inet/web.test/80", false);
        until(&mut fixture, &web, "failed: web.test: no such host").await;
        let _server = Server::start(Some(server.stop()), 1, &["web.test,127.0.0.4"]).unwrap();
        until(&mut fixture, &web, "127.0.0.4:80").await;
    });
}

#[test]
fn a_name_made_by_a_request_cannot_be_pointed_inside() {
    let records = ["inside.test,169.254.169.254", "both.test,127.0.0.3", "both.test,10.0.0.3"];
    let Some(server) = Server::start(None, 60, &records) else { return };
    let mut fixture = server.fixture();
    let (inside, both) = (fixture.get("/$/inet/inside.test/80", true), fixture.get("/$/inet/both.test/80", true));
    let refused = "egress to 169.254.169.254 is not open to names made by requests (egress.allow can name it)";
    check(&mut fixture, &inside, &format!("failed: {refused}"));
    check(&mut fixture, &both, "10.0.0.3:80");
    fixture.allow("169.254.0.0/16");
    assert_eq!(shown(&inside.addresses().load().addresses), "169.254.169.254:80");
}

#[test]
fn waiters_are_woken_by_the_answer() {
    let Some(server) = Server::start(None, 60, &["web.test,127.0.0.3"]) else { return };
    let mut fixture = server.fixture();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let web = fixture.get("/$/inet/web.test/80", false);
    let waited = async {
        tokio::select! {
            () = async { loop { fixture.resolver.next().await } } => {}
            _ = async { tokio::join!(web.ready(), web.ready()) } => {}
        }
    };
    assert!(runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), waited).await }).is_ok());
    assert_eq!(shown(&web.addresses().load().addresses), "127.0.0.3:80");
}

fn srv_namer(server: &Server) -> model::Namer {
    let servers = vec![([127, 0, 0, 1], server.port).into()];
    let refresh = Duration::from_secs(1);
    model::Namer { prefix: path("/srv"), kind: NamerKind::DnsSrv(model::DnsSrv { refresh, servers }) }
}

fn weights(cluster: &Cluster) -> Vec<f64> {
    match &cluster.addresses().load().addresses {
        Addresses::Bound(list) => list.iter().map(|address| address.weight).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn srv_records_come_change_and_go_with_their_weights_and_priorities() {
    let records = [
        "srv:_web._tcp.test,a.test,81,1,30",
        "srv:_web._tcp.test,b.test,82,1,10",
        "srv:_web._tcp.test,c.test,83,2,10",
        "a.test,127.0.0.3",
        "b.test,127.0.0.4",
        "c.test,127.0.0.5",
    ];
    let Some(server) = Server::start(None, 1, &records) else { return };
    let mut fixture = server.fixture();
    fixture.configure(&[], &[srv_namer(&server)]);
    fixture.check_name("/#/srv/_web._tcp.test/rest", Some(3));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (web, none) = (fixture.get("/#/srv/_web._tcp.test", false), fixture.get("/#/srv/_none._tcp.test", false));
        until(&mut fixture, &web, "127.0.0.3:81 127.0.0.4:82").await;
        assert_eq!(weights(&web), [30.0, 10.0]);
        until(&mut fixture, &none, "absent: _none._tcp.test has no SRV records").await;
        let server = Server::start(Some(server.stop()), 1, &[records[2], records[5]]).unwrap();
        until(&mut fixture, &web, "127.0.0.5:83").await;
        let server = Server::start(Some(server.stop()), 1, &[]).unwrap();
        until(&mut fixture, &web, "absent: _web._tcp.test has no SRV records").await;
        let server = Server::start(Some(server.stop()), 1, &records).unwrap();
        until(&mut fixture, &web, "127.0.0.3:81 127.0.0.4:82").await;
        server.stop();
        let failed = async {
            while web.told().is_none_or(|told| told.failures == 0) {
                // a failure changes nothing that is published: the resolver may have nothing to do
                let _nothing = tokio::time::timeout(Duration::from_millis(20), fixture.resolver.next()).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), failed).await.is_ok(), "the outage is noticed");
        assert_eq!(shown(&web.addresses().load().addresses), "127.0.0.3:81 127.0.0.4:82");
    });
}

#[test]
fn targets_of_a_namer_with_servers_of_its_own_are_known_to_those() {
    let records = ["srv:_web._tcp.test,a.test,81,1,1", "a.test,127.0.0.3", "a.test,fd00::3"];
    let Some(server) = Server::start(None, 60, &records) else { return };
    let mut fixture = Fixture::new();
    fixture.configure(&[], &[srv_namer(&server)]);
    let web = fixture.get("/#/srv/_web._tcp.test", false);
    check(&mut fixture, &web, "127.0.0.3:81 [fd00::3]:81");
    assert_eq!(fixture.resolver.stats().dns_lookups.load(Ordering::Relaxed), 0, "the machine's DNS is not asked");
}

const DNSMASQ: &str = "/usr/sbin/dnsmasq";
