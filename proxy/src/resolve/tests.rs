use std::fs as files;

use serin_config::dtab::{Answer, Names, Pattern};
use serin_config::model::{Egress, Host, HostPort, NamerKind};

use super::*;

mod dnsmasq;

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn cluster(name: &str, endpoints: &[&str]) -> model::Cluster {
    let endpoint = |text: &&str| {
        let (host, port) = text.rsplit_once(':').unwrap();
        let host = host.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Ip);
        HostPort { host, port: port.parse().unwrap() }
    };
    model::Cluster { name: name.to_owned(), endpoints: endpoints.iter().map(endpoint).collect() }
}

fn shown(addresses: &Addresses) -> String {
    match addresses {
        Addresses::Absent(why) => format!("absent: {why}"),
        Addresses::Bound(list) => list.iter().map(|a| a.socket.to_string()).collect::<Vec<_>>().join(" "),
        Addresses::Failed(why) => format!("failed: {why}"),
        Addresses::Neg => "neg".to_owned(),
        Addresses::Pending => "pending".to_owned(),
    }
}

/// A resolver with its table, and the last configuration it was given.
struct Fixture {
    table: Arc<EndpointTable>,
    resolver: Resolver,
    names: Arc<NameTable>,
}

impl Fixture {
    /// The DNS server of the default answers nobody.
    fn new() -> Self {
        Self::with_dns("127.0.0.1:1")
    }

    fn with_dns(server: &str) -> Self {
        let table = Arc::new(EndpointTable::default());
        let resolver = Resolver::new(Arc::clone(&table), DnsConfig::server(server.parse().unwrap()));
        Self { table, resolver, names: Arc::default() }
    }

    fn configure(&mut self, clusters: &[model::Cluster], namers: &[model::Namer]) {
        self.names = self.resolver.configure(clusters, namers, &Egress::default());
    }

    fn allow(&mut self, net: &str) {
        let egress = Egress { allow: vec![net.parse().unwrap()] };
        self.names = self.resolver.configure(&[], &[], &egress);
    }

    fn get(&self, id: &str, from_request: bool) -> Arc<Cluster> {
        self.table.get(&path(id), from_request, None, 0).unwrap()
    }

    /// Compares the addresses of a configured name.
    #[track_caller]
    fn check(&self, id: &str, expected: &str) {
        assert_eq!(shown(&self.get(id, false).addresses().load().addresses), expected, "{id}");
    }

    /// Compares what binding hears of a name.
    #[track_caller]
    fn check_name(&self, name: &str, expected: Option<usize>) {
        match (self.names.lookup(&path(name)), expected) {
            (Answer::Bound { id_len }, Some(expected)) => assert_eq!(id_len, expected, "{name}"),
            (Answer::Neg, None) => {}
            (answer, expected) => panic!("{name}: {answer:?} instead of {expected:?}"),
        }
    }
}

fn fs_namer(prefix: &str, root_dir: &std::path::Path) -> model::Namer {
    model::Namer { prefix: path(prefix), kind: NamerKind::Fs { root_dir: root_dir.to_owned() } }
}

#[test]
fn a_rewriting_namer_gives_another_name_or_none() {
    let mut fixture = Fixture::new();
    let pattern = Pattern::parse("/{port}/{ns}/{svc}").unwrap();
    let kind = NamerKind::Rewrite { pattern, name: "/k8s/{ns}/{port}/{svc}".to_owned() };
    fixture.configure(&[], &[model::Namer { prefix: path("/re"), kind }]);
    match fixture.names.lookup(&path("/#/re/http/prod/web/rest")) {
        Answer::Rewrite(name) => assert_eq!(name, path("/k8s/prod/http/web")),
        answer => panic!("{answer:?}"),
    }
    fixture.check_name("/#/re/http/prod", None);
}

#[test]
fn static_clusters_are_names_with_addresses() {
    let mut fixture = Fixture::new();
    fixture.configure(&[cluster("web", &["10.0.0.1:80"]), cluster("empty", &[])], &[]);
    fixture.check_name("/#/clusters/web", Some(3));
    fixture.check_name("/#/clusters/web/a/b", Some(3));
    for gone in ["/#/clusters/other", "/#/clusters", "/#", "/svc/web", "/"] {
        fixture.check_name(gone, None);
    }
    fixture.check("/#/clusters/web", "10.0.0.1:80");
    fixture.check("/#/clusters/empty", "");
}

#[test]
fn clusters_that_stay_are_kept_and_those_that_go_are_neg() {
    let mut fixture = Fixture::new();
    fixture.configure(&[cluster("stays", &["10.0.0.1:80"]), cluster("goes", &["10.0.0.2:80"])], &[]);
    let (stays, goes) = (fixture.get("/#/clusters/stays", false), fixture.get("/#/clusters/goes", false));
    fixture.configure(&[cluster("stays", &["10.0.0.3:80"])], &[]);
    assert_eq!(shown(&stays.addresses().load().addresses), "10.0.0.3:80");
    assert_eq!(shown(&goes.addresses().load().addresses), "neg");
    assert_eq!(stays.addresses().load().version, 2);
    fixture.check_name("/#/clusters/goes", None);
    fixture.configure(&[cluster("stays", &["10.0.0.3:80"]), cluster("goes", &["10.0.0.2:80"])], &[]);
    assert_eq!(stays.addresses().load().version, 2, "nothing changed for it");
    assert_eq!(shown(&goes.addresses().load().addresses), "10.0.0.2:80");
}

#[test]
fn names_that_went_leave_nothing_behind() {
    let mut fixture = Fixture::new();
    for n in 0..10 {
        fixture.configure(&[cluster(&format!("c{n}"), &["web.test:80"])], &[]);
    }
    assert_eq!((fixture.table.list().len(), fixture.resolver.tracked.len(), fixture.resolver.hosts.len()), (1, 1, 1));
}

#[test]
fn files_are_names_and_their_changes_are_published() {
    let dir = tempfile::tempdir().unwrap();
    files::write(dir.path().join("web"), "10.0.0.1 80").unwrap();
    let mut fixture = Fixture::new();
    fixture.configure(&[], &[fs_namer("/io.l5d.fs", dir.path())]);
    assert_eq!(fixture.resolver.folders(), [dir.path()]);
    fixture.check_name("/#/io.l5d.fs/web/rest", Some(3));
    let web = fixture.get("/#/io.l5d.fs/web", false);
    assert_eq!(shown(&web.addresses().load().addresses), "10.0.0.1:80");
    files::write(dir.path().join("web"), "10.0.0.2 8080").unwrap();
    assert!(fixture.resolver.fs_changed().is_none(), "the same names");
    assert_eq!(shown(&web.addresses().load().addresses), "10.0.0.2:8080");
    files::remove_file(dir.path().join("web")).unwrap();
    fixture.names = fixture.resolver.fs_changed().unwrap();
    fixture.check_name("/#/io.l5d.fs/web", None);
    assert_eq!(shown(&web.addresses().load().addresses), "neg");
}

#[test]
fn a_file_that_turned_bad_before_a_reload_keeps_its_addresses() {
    let dir = tempfile::tempdir().unwrap();
    files::write(dir.path().join("web"), "10.0.0.1 80").unwrap();
    let mut fixture = Fixture::new();
    fixture.configure(&[], &[fs_namer("/io.l5d.fs", dir.path())]);
    files::write(dir.path().join("web"), "oops").unwrap();
    fixture.configure(&[cluster("more", &[])], &[fs_namer("/io.l5d.fs", dir.path())]);
    fixture.check("/#/io.l5d.fs/web", "10.0.0.1:80");
}

#[test]
fn later_namers_are_asked_first() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    files::write(first.path().join("web"), "10.0.0.1 80").unwrap();
    files::write(first.path().join("only"), "10.0.0.1 80").unwrap();
    files::write(second.path().join("web"), "10.0.0.2 80").unwrap();
    let mut fixture = Fixture::new();
    fixture.configure(&[], &[fs_namer("/a/b", first.path()), fs_namer("/a/b", second.path())]);
    fixture.check_name("/#/a/b/web", Some(4));
    fixture.check("/#/a/b/web", "10.0.0.2:80");
    fixture.check("/#/a/b/only", "10.0.0.1:80");
    files::remove_file(second.path().join("web")).unwrap();
    fixture.resolver.fs_changed().unwrap();
    fixture.check("/#/a/b/web", "10.0.0.1:80");
}

#[test]
fn another_allow_list_judges_known_names_anew() {
    let mut fixture = Fixture::new();
    let made = fixture.get("/$/inet/127.0.0.1/80", true);
    assert!(shown(&made.addresses().load().addresses).starts_with("failed: egress"));
    fixture.allow("127.0.0.0/8");
    assert_eq!(shown(&made.addresses().load().addresses), "127.0.0.1:80");
    fixture.allow("10.0.0.0/8");
    assert!(shown(&made.addresses().load().addresses).starts_with("failed: egress"));
}

#[test]
fn literal_addresses_do_not_wait_for_names_beside_them() {
    let mut fixture = Fixture::new();
    fixture.configure(&[cluster("mixed", &["web.test:80", "10.0.0.1:80"]), cluster("named", &["web.test:80"])], &[]);
    fixture.check("/#/clusters/mixed", "10.0.0.1:80");
    fixture.check("/#/clusters/named", "pending");
}

#[tokio::test]
async fn names_that_nobody_uses_are_not_asked_for() {
    let mut fixture = Fixture::new();
    fixture.configure(&[cluster("web", &["web.test:80"])], &[]);
    fixture.resolver.start_due();
    assert!(fixture.resolver.lookups.is_empty());
    assert_eq!(fixture.resolver.hosts.next_due_ms(), None);
    let used = fixture.get("/#/clusters/web", false);
    let woken = fixture.resolver.wakes.try_recv().unwrap();
    fixture.resolver.wake_all(woken);
    fixture.resolver.start_due();
    assert_eq!(fixture.resolver.lookups.len(), 1);
    drop(used);
}

#[tokio::test]
async fn questions_in_flight_end_at_their_limit() {
    let mut fixture = Fixture::new();
    let name = |n: usize| format!("/$/inet/n{n}.test/80");
    let _used: Vec<_> = (0..LOOKUPS_MAX + 1).map(|n| fixture.get(&name(n), false)).collect();
    let first = fixture.resolver.wakes.try_recv().unwrap();
    fixture.resolver.wake_all(first);
    fixture.resolver.start_due();
    assert_eq!(fixture.resolver.lookups.len(), LOOKUPS_MAX);
    assert!(fixture.resolver.hosts.next_due_ms().is_some());
}

#[test]
fn written_names_beyond_the_channel_are_found_all_the_same() {
    let mut fixture = Fixture::new();
    let count = WAKES_MAX + 10;
    let _used: Vec<_> = (0..count).map(|n| fixture.get(&format!("/$/inet/n{n}.test/80"), false)).collect();
    let first = fixture.resolver.wakes.try_recv().unwrap();
    fixture.resolver.wake_all(first);
    assert_eq!(fixture.resolver.hosts.len(), count);
}

#[test]
fn clusters_that_no_longer_exist_are_swept_out() {
    let mut fixture = Fixture::new();
    for n in 0..4 * SWEEP_MIN {
        drop(fixture.get(&format!("/$/inet/n{n}.test/80"), true));
        if let Ok(cluster) = fixture.resolver.wakes.try_recv() {
            fixture.resolver.wake_all(cluster);
        }
    }
    assert!(fixture.resolver.tracked.len() <= 2 * SWEEP_MIN, "{}", fixture.resolver.tracked.len());
    assert_eq!(fixture.resolver.hosts.len(), fixture.resolver.tracked.len());
}
