use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::*;

fn small() -> TableLimits {
    TableLimits { made_max: 2, asked_max: 2, written_max: 2, new_names_max: 3, window_ms: 1_000, sources_max: 2 }
}

fn path(text: &str) -> Path {
    text.parse().unwrap()
}

fn host(n: u32) -> Path {
    path(&format!("/$/inet/10.0.0.{n}/80"))
}

fn source(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn addresses(list: &[&str]) -> Addresses {
    Addresses::Bound(
        list.iter().map(|text| Address { socket: Place::Inet(text.parse().unwrap()), weight: 1.0 }).collect(),
    )
}

/// What a new table knows of a name at once.
#[track_caller]
fn check_first(id: &str, from_request: bool, expected: Addresses) {
    let cluster = EndpointTable::default().get(&path(id), from_request, None, 0).unwrap();
    assert_eq!(cluster.addresses().load().addresses, expected, "{id}");
}

#[test]
fn literal_addresses_are_bound_at_once() {
    check_first("/$/inet/10.0.0.1/80", false, addresses(&["10.0.0.1:80"]));
    check_first("/$/inet/10.0.0.1/80", true, addresses(&["10.0.0.1:80"]));
    check_first("/$/inet/8080", false, addresses(&["127.0.0.1:8080"]));
    check_first("/$/inet/localhost/80", false, addresses(&["127.0.0.1:80", "[::1]:80"]));
    check_first("/$/inet/web.test/80", false, Addresses::Pending);
}

#[test]
fn names_made_by_requests_do_not_reach_loopback() {
    let refused = "egress to 127.0.0.1 is not open to names made by requests (egress.allow can name it)";
    for id in ["/$/inet/8080", "/$/inet/127.0.0.1/80", "/$/inet/localhost/80"] {
        check_first(id, true, Addresses::Failed(refused.into()));
    }
    let table = EndpointTable::default();
    table.set_allowed(&["127.0.0.0/8".parse().unwrap()]);
    let cluster = table.get(&path("/$/inet/8080"), true, None, 0).unwrap();
    assert_eq!(cluster.addresses().load().addresses, addresses(&["127.0.0.1:8080"]));
}

#[test]
fn a_bad_host_fails_at_once() {
    let why = "`127.1` is neither an address nor a host name";
    check_first("/$/inet/127.1/80", true, Addresses::Failed(why.into()));
}

#[test]
fn one_name_is_one_cluster_but_requests_have_their_own() {
    let table = EndpointTable::default();
    let written = table.get(&host(1), false, None, 0).unwrap();
    let made = table.get(&host(1), true, None, 0).unwrap();
    assert!(Arc::ptr_eq(&written, &table.get(&host(1), false, None, 1).unwrap()));
    assert!(Arc::ptr_eq(&made, &table.get(&host(1), true, None, 1).unwrap()));
    assert!(!Arc::ptr_eq(&written, &made));
    assert_eq!((written.from_request, made.from_request), (false, true));
    let list: Vec<_> = table.list().iter().map(|c| (c.id.to_string(), c.from_request)).collect();
    assert_eq!(list, [("/$/inet/10.0.0.1/80".to_owned(), false), ("/$/inet/10.0.0.1/80".to_owned(), true)]);
}

#[test]
fn a_configured_name_is_never_made_by_a_request() {
    let table = EndpointTable::default();
    let id = path("/#/clusters/web");
    let configured = table.configured(&id);
    assert!(Arc::ptr_eq(&configured, &table.get(&id, true, source("10.9.9.9"), 0).unwrap()));
    assert!(!configured.from_request);
}

#[test]
fn a_configured_name_that_is_gone_is_neg_and_not_kept() {
    let table = EndpointTable::default();
    let cluster = table.get(&path("/#/clusters/gone"), false, None, 0).unwrap();
    assert_eq!(cluster.addresses().load().addresses, Addresses::Neg);
    assert!(table.list().is_empty());
}

#[test]
fn the_name_bound_longest_ago_gives_way() {
    let table = EndpointTable::with_limits(small());
    for (n, now_ms) in [(1, 1), (2, 2), (1, 3), (3, 4)] {
        table.get(&host(n), true, None, now_ms).unwrap();
    }
    let left: Vec<_> = table.list().iter().map(|cluster| cluster.id.clone()).collect();
    assert_eq!(left, [host(1), host(3)]);
}

#[test]
fn names_in_use_do_not_give_way() {
    let table = EndpointTable::with_limits(small());
    let held = [table.get(&host(1), true, None, 1).unwrap(), table.get(&host(2), true, None, 2).unwrap()];
    assert_eq!(table.get(&host(3), true, None, 3).unwrap_err(), EndpointError::Full { max: 2 });
    assert!(table.get(&host(1), true, None, 4).is_ok(), "a name that exists is not refused");
    drop(held);
    assert!(table.get(&host(3), true, None, 5).is_ok());
}

#[test]
fn written_names_end_at_their_limit_until_pruned() {
    let table = EndpointTable::with_limits(small());
    let _held = table.get(&host(1), false, None, 0).unwrap();
    table.get(&host(2), false, None, 0).unwrap();
    assert_eq!(table.get(&host(3), false, None, 0).unwrap_err(), EndpointError::Full { max: 2 });
    table.prune_written(|_| false);
    assert!(table.get(&host(3), false, None, 0).is_ok());
    assert_eq!(table.list().len(), 2);
}

/// Asks for new names from one source after the other; compares who was let in.
#[track_caller]
fn check_sources(asks: &[(&str, u64, bool)]) {
    let table = EndpointTable::with_limits(TableLimits { made_max: 1_000, ..small() });
    for (n, (from, now_ms, admitted)) in asks.iter().enumerate() {
        let got = table.get(&path(&format!("/$/inet/n{n}.test/80")), true, source(from), *now_ms);
        assert_eq!(got.is_ok(), *admitted, "ask {n} from {from} at {now_ms}: {got:?}");
    }
    assert!(table.sources.len() <= small().sources_max + 1);
}

#[test]
fn a_source_makes_so_many_new_names_within_a_window() {
    let ask = |now_ms, admitted| ("10.0.0.1", now_ms, admitted);
    check_sources(&[ask(0, true), ask(0, true), ask(999, true), ask(999, false), ask(1_000, true)]);
}

#[test]
fn sources_do_not_pay_for_each_other() {
    let full = [("10.0.0.1", 0, true); 3];
    check_sources(&[&full[..], &[("10.0.0.1", 0, false), ("10.0.0.2", 0, true)]].concat());
}

#[test]
fn a_host_is_one_source_whatever_it_calls_itself() {
    check_sources(&[("fd00::1", 0, true), ("fd00::2", 0, true), ("fd00::3", 0, true), ("fd00::4", 0, false)]);
    check_sources(&[
        ("10.0.0.1", 0, true),
        ("::ffff:10.0.0.1", 0, true),
        ("10.0.0.1", 0, true),
        ("10.0.0.1", 0, false),
    ]);
}

#[test]
fn sources_beyond_the_map_share_a_window() {
    let known = [("10.0.0.1", 1, true), ("10.0.0.2", 1, true)];
    let beyond = [("10.0.0.3", 1, true), ("10.0.0.4", 1, true), ("10.0.0.5", 1, true), ("10.0.0.6", 1, false)];
    let still = [("10.0.0.1", 1, true), ("10.0.0.7", 2_000, true)];
    check_sources(&[&known[..], &beyond, &still].concat());
}

#[test]
fn a_name_that_exists_costs_its_source_nothing() {
    let table = EndpointTable::with_limits(small());
    for _ in 0..10 {
        assert!(table.get(&host(1), true, source("10.0.0.1"), 0).is_ok());
    }
}

#[test]
fn equal_addresses_are_no_change() {
    let cluster = EndpointTable::default().configured(&path("/#/clusters/web"));
    for (addresses, version) in
        [(addresses(&["10.0.0.1:80"]), 1), (addresses(&["10.0.0.1:80"]), 1), (Addresses::Neg, 2)]
    {
        cluster.publish(addresses);
        assert_eq!(cluster.addresses().load().version, version);
    }
}

#[test]
fn all_waiters_on_all_threads_are_woken() {
    let cluster = EndpointTable::default().configured(&path("/#/clusters/web"));
    let start = Barrier::new(5);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                start.wait();
                let many = async { tokio::join!(cluster.ready(), cluster.ready(), cluster.ready()) };
                let deadline = Duration::from_secs(20);
                assert!(runtime.block_on(async { tokio::time::timeout(deadline, many).await }).is_ok());
            });
        }
        start.wait();
        cluster.publish(addresses(&[]));
    });
}

/// A table whose resolver lets `capacity` names wait.
fn attached(capacity: usize) -> (EndpointTable, mpsc::Receiver<Weak<Cluster>>) {
    let table = EndpointTable::default();
    let (sender, wakes) = mpsc::channel(capacity);
    table.attach(sender);
    (table, wakes)
}

#[test]
fn the_resolver_hears_of_a_name_once() {
    let (table, mut wakes) = attached(8);
    let id = path("/$/inet/web.test/80");
    let cluster = table.get(&id, true, None, 0).unwrap();
    table.get(&id, true, None, 1).unwrap();
    table.get(&host(1), true, None, 1).unwrap();
    assert!(wakes.try_recv().unwrap().ptr_eq(&Arc::downgrade(&cluster)));
    assert!(wakes.try_recv().is_err(), "an address needs no resolver");
}

#[test]
fn a_name_made_by_a_request_is_refused_while_the_resolver_is_behind() {
    let (table, mut wakes) = attached(1);
    let [first, second] = ["/$/inet/a.test/80", "/$/inet/b.test/80"].map(path);
    table.get(&first, true, None, 0).unwrap();
    assert_eq!(table.get(&second, true, None, 0).unwrap_err(), EndpointError::ResolverBusy);
    wakes.try_recv().unwrap();
    assert!(table.get(&second, true, None, 0).is_ok());
    assert!(wakes.try_recv().is_ok());
}

#[test]
fn a_written_name_is_found_when_the_resolver_catches_up() {
    let (table, mut wakes) = attached(1);
    for id in ["/$/inet/a.test/80", "/$/inet/b.test/80"] {
        table.get(&path(id), false, None, 0).unwrap();
    }
    assert_eq!(wakes.try_recv().unwrap().upgrade().unwrap().id, path("/$/inet/a.test/80"));
    let missed: Vec<_> = table.missed().iter().map(|cluster| cluster.upgrade().unwrap().id.clone()).collect();
    assert_eq!(missed, [path("/$/inet/b.test/80")]);
    assert!(table.missed().is_empty());
}

#[test]
fn a_name_in_use_does_not_fall_asleep() {
    let (table, mut wakes) = attached(8);
    let id = path("/$/inet/web.test/80");
    let held = table.get(&id, true, None, 0).unwrap();
    let weak = wakes.try_recv().unwrap();
    assert!(!Cluster::fall_asleep(&weak));
    drop(held);
    assert!(Cluster::fall_asleep(&weak));
    let _held = table.get(&id, true, None, 0).unwrap();
    assert!(wakes.try_recv().is_ok(), "bound again, woken again");
    assert!(!Cluster::fall_asleep(&weak));
}

#[test]
fn threads_agree_on_one_cluster_and_on_the_limit() {
    let table = EndpointTable::with_limits(TableLimits { made_max: 8, ..TableLimits::default() });
    let start = Barrier::new(4);
    let clusters: HashSet<usize> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4u32)
            .map(|thread| {
                let (table, start) = (&table, &start);
                scope.spawn(move || {
                    start.wait();
                    let first = table.get(&host(0), true, None, u64::MAX).unwrap();
                    for n in 1..200 {
                        let _ = table.get(&host(thread * 40 + n % 40 + 1), true, None, u64::from(n));
                        assert!(table.made.len() <= 8 + 4);
                    }
                    Arc::as_ptr(&first) as usize
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(clusters.len(), 1);
    assert_eq!(table.made.len(), table.made.reserved());
    assert!(table.made.len() <= 8);
}
