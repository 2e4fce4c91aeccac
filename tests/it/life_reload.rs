//! The file changes while it serves: every way to change it, bad files, listeners that come and go, and load beside it.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::support::h2peer;
use super::support::ports::free_port;
use super::support::scrape::Scrape;
use super::support::upstream::{Upstream, next_request, reply};
use super::support::{Client, Serin, Setup, eventually, now};

/// `web` leads to the cluster of that one origin.
fn to(origin: &Upstream) -> Setup {
    Setup::web(&origin.endpoint())
}

/// Which origin answered.
#[track_caller]
fn origin_of(response: &super::support::Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    response.field("x-origin").expect("an origin answered")
}

#[track_caller]
fn check_serves(serin: &Serin, name: &str) {
    assert_eq!(origin_of(&serin.get("web", "/")), name);
}

fn wait_serves(serin: &Serin, name: &str) {
    eventually(&format!("{name} answers"), || origin_of(&serin.get("web", "/")) == name);
}

fn wait_last_reload(serin: &Serin, value: f64) {
    eventually(&format!("serin_config_last_reload_successful is {value}"), || {
        Scrape::of(serin).sum("serin_config_last_reload_successful", &[]) == value
    });
}

fn verbose(serin: &Serin) -> String {
    let response = serin.admin("/readyz?verbose");
    assert_eq!(response.status, 200, "a rejected file leaves the proxy ready: {}", response.text());
    response.text()
}

/// Starts with version 1 in the way `put` writes it, replaces it the same way, and waits for version 2.
fn check_change_is_noticed(put: impl Fn(&Path, &str, usize)) {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let dir = Arc::new(tempfile::tempdir().unwrap());
    put(dir.path(), &to(&one).text(), 1);
    let mut serin = Serin::spawn(Arc::clone(&dir), &["run", "mount/serin.yaml"], &[]);
    serin.wait_ready();
    check_serves(&serin, "one");
    put(dir.path(), &to(&two).text(), 2);
    wait_serves(&serin, "two");
    put(dir.path(), &to(&one).text(), 3);
    wait_serves(&serin, "one");
    wait_last_reload(&serin, 1.0);
}

fn mount(dir: &Path) -> std::path::PathBuf {
    let mount = dir.join("mount");
    std::fs::create_dir_all(&mount).unwrap();
    mount
}

#[test]
fn a_write_in_place_is_noticed() {
    check_change_is_noticed(|dir, text, _| std::fs::write(mount(dir).join("serin.yaml"), text).unwrap());
}

#[test]
fn a_rename_over_the_file_is_noticed() {
    check_change_is_noticed(|dir, text, _| {
        let mount = mount(dir);
        std::fs::write(mount.join(".serin.yaml.swp"), text).unwrap();
        std::fs::rename(mount.join(".serin.yaml.swp"), mount.join("serin.yaml")).unwrap();
    });
}

/// Some editors move the old file away first.
#[test]
fn a_file_moved_away_and_written_anew_is_noticed() {
    check_change_is_noticed(|dir, text, _| {
        let file = mount(dir).join("serin.yaml");
        let _ = std::fs::rename(&file, file.with_extension("yaml~"));
        std::fs::write(file, text).unwrap();
    });
}

/// The way of a mounted ConfigMap: file -> ..data/file, ..data -> ..<time>, and ..data is swapped by a rename.
#[test]
fn a_symlink_swap_is_noticed() {
    check_change_is_noticed(|dir, text, turn| {
        let mount = mount(dir);
        let folder = format!("..2024_{turn}");
        std::fs::create_dir(mount.join(&folder)).unwrap();
        std::fs::write(mount.join(&folder).join("serin.yaml"), text).unwrap();
        std::os::unix::fs::symlink(&folder, mount.join("..data_tmp")).unwrap();
        std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        let _ = std::os::unix::fs::symlink("..data/serin.yaml", mount.join("serin.yaml"));
        let _ = std::fs::remove_dir_all(mount.join(format!("..2024_{}", turn - 1)));
    });
}

/// The file itself is a link to a file in a folder elsewhere, which is written in place.
#[test]
fn a_write_behind_a_symlink_is_noticed() {
    check_change_is_noticed(|dir, text, _| {
        let elsewhere = dir.join("elsewhere");
        std::fs::create_dir_all(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("real.yaml"), text).unwrap();
        let _ = std::os::unix::fs::symlink("../elsewhere/real.yaml", mount(dir).join("serin.yaml"));
    });
}

/// After `bad` the origin `one` still serves, and every place says what is wrong; afterwards `repair` is in force.
fn check_bad_file(bad: &str, place: &str, repaired_to: &str) {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let serin = to(&one).start();
    check_serves(&serin, "one");
    wait_last_reload(&serin, 1.0);
    serin.rewrite(bad);
    wait_last_reload(&serin, 0.0);
    let text = verbose(&serin);
    let caret = text.lines().any(|line| line.contains('^') && line.trim_start_matches(['|', ' ']).starts_with('^'));
    assert!(caret, "a caret under the mistake: {text}");
    assert!(text.contains(place), "{place} is named: {text}");
    assert!(serin.log().contains(place), "the log says so too");
    assert_eq!(serin.admin("/readyz").status, 200);
    check_serves(&serin, "one");
    assert!(Scrape::of(&serin).sum("serin_config_reloads_total", &[("outcome", "rejected")]) >= 1.0);
    serin.rewrite(&to(if repaired_to == "one" { &one } else { &two }).text());
    wait_last_reload(&serin, 1.0);
    wait_serves(&serin, repaired_to);
    assert!(!verbose(&serin).contains('^'), "the mistake is gone: {}", verbose(&serin));
}

#[test]
fn a_bad_file_keeps_serving_and_is_shown_until_it_is_repaired() {
    check_bad_file("admin: {ip: 127.0.0.1, port: 0}\nrouters:\n- label: outgoing\n  protocl: http\n", "4:3", "two");
}

#[test]
fn a_bad_dtab_is_shown_and_the_old_bytes_repair_it() {
    let bad = to(&Upstream::named("gone")).dtab("/svc = /srv").text();
    check_bad_file(&bad, "serin.yaml:9:", "one");
}

#[test]
fn a_file_that_is_gone_keeps_serving() {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let serin = to(&one).start();
    std::fs::remove_file(serin.file()).unwrap();
    wait_last_reload(&serin, 0.0);
    check_serves(&serin, "one");
    serin.rewrite(&to(&two).text());
    wait_serves(&serin, "two");
    wait_last_reload(&serin, 1.0);
}

#[test]
fn sighup_reads_again_and_disturbs_nobody() {
    let one = Upstream::named("one");
    let mut serin = to(&one).start();
    let mut client = Client::connect(serin.address());
    assert_eq!(client.get("web", "/", &[]).status, 200);
    let reloads = |serin: &Serin| Scrape::of(serin).sum("serin_config_reloads_total", &[]);
    let before = reloads(&serin);
    serin.signal("HUP");
    eventually("SIGHUP reads the file", || reloads(&serin) > before);
    wait_last_reload(&serin, 1.0);
    assert_eq!(client.get("web", "/", &[]).status, 200, "the connection lives on");
    assert!(serin.is_running());
}

fn second(port: u16, target: &str) -> String {
    format!("- label: second\n  servers: [{{ip: 127.0.0.1, port: {port}}}]\n  dtab: /svc => {target}\n")
}

fn answers(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

#[test]
fn a_listener_that_cannot_be_bound_changes_nothing_until_sighup() {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let serin = to(&one).start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    serin.rewrite(&(to(&two).text() + &second(port, "/#/clusters")));
    wait_last_reload(&serin, 0.0);
    check_serves(&serin, "one");
    assert!(verbose(&serin).contains(&port.to_string()), "the port is named: {}", verbose(&serin));
    drop(taken);
    serin.signal("HUP");
    wait_last_reload(&serin, 1.0);
    wait_serves(&serin, "two");
    assert!(answers(SocketAddr::from(([127, 0, 0, 1], port))));
}

#[test]
fn listeners_come_and_go_and_other_connections_stay() {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let (port, other) = (free_port(), free_port());
    let alone = to(&one).ports(port, 0).cluster("web2", &[&two.endpoint()]).text();
    let serin = Serin::start(&alone);
    let other = SocketAddr::from(([127, 0, 0, 1], other));
    let mut kept = Client::connect(serin.address());
    assert_eq!(origin_of(&kept.get("web", "/", &[])), "one");
    assert!(!answers(other));
    serin.rewrite(&(alone.clone() + &second(other.port(), "/#/clusters")));
    eventually("the new listener accepts", || answers(other));
    assert_eq!(origin_of(&Client::connect(other).get("web2", "/", &[])), "two");
    assert_eq!(origin_of(&kept.get("web", "/", &[])), "one");
    serin.rewrite(&alone);
    eventually("the removed listener refuses", || !answers(other));
    assert_eq!(origin_of(&kept.get("web", "/", &[])), "one");
    assert_eq!(one.connections(), 1, "what stays is not touched, upstream either");
    serin.rewrite(&(alone + &second(other.port(), "/#/clusters")));
    eventually("the listener is back", || answers(other));
    assert_eq!(origin_of(&kept.get("web", "/", &[])), "one");
}

/// An origin that answers when the test says so.
fn held() -> Upstream {
    Upstream::raw(|wire, seen, index| {
        while let Some(_request) = next_request(wire, seen, index) {
            eventually("the test lets the origin go on", || seen.flag.load(Ordering::Acquire));
            if wire.send(reply(200, &["x-origin: held"], "late")).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_request_on_a_removed_listener_and_cluster_finishes() {
    let (one, late) = (Upstream::named("one"), held());
    let port = free_port();
    let both = to(&one).cluster("late", &[&late.endpoint()]).text() + &second(port, "/#/clusters");
    let serin = Serin::start(&both);
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    client.send("GET / HTTP/1.1\r\nHost: late\r\n\r\n");
    eventually("the request is with the origin", || late.count() == 1);
    serin.rewrite(&to(&one).text());
    eventually("the listener is gone", || !answers(SocketAddr::from(([127, 0, 0, 1], port))));
    late.seen.flag.store(true, Ordering::Release);
    assert_eq!(origin_of(&client.read("GET")), "held");
    eventually("the cluster is gone", || serin.get("late", "/").status == 404);
}

fn weighted(one: &Upstream, two: &Upstream, weights: (u32, u32)) -> Setup {
    let union = format!("/svc/web => {} * /#/clusters/one & {} * /#/clusters/two", weights.0, weights.1);
    Setup::new().cluster("one", &[&one.endpoint()]).cluster("two", &[&two.endpoint()]).dtab(&union)
}

#[test]
fn a_changed_weight_reaches_an_old_keep_alive_connection() {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let serin = weighted(&one, &two, (1, 0)).start();
    let mut client = Client::connect(serin.address());
    for _ in 0..50 {
        assert_eq!(origin_of(&client.get("web", "/", &[])), "one");
    }
    serin.rewrite(&weighted(&one, &two, (0, 1)).text());
    eventually("the new weight is in force", || origin_of(&client.get("web", "/", &[])) == "two");
    for _ in 0..50 {
        assert_eq!(origin_of(&client.get("web", "/", &[])), "two");
    }
}

#[test]
fn a_changed_weight_reaches_an_old_http2_connection() {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let serin = weighted(&one, &two, (1, 0)).start();
    let address = serin.address();
    h2peer::block_on(async {
        let mut send = h2peer::connect(address).await;
        let mut rewritten = false;
        loop {
            let request = h2peer::get("web", "/").body(()).unwrap();
            let answer = h2peer::call(&mut send, request, None).await.unwrap();
            match answer.header("x-origin").as_deref() {
                Some("two") => break assert!(rewritten, "weight 0 means none"),
                Some("one") if !rewritten => serin.rewrite(&weighted(&one, &two, (0, 1)).text()),
                other => assert_eq!(other, Some("one")),
            }
            rewritten = true;
        }
    });
}

/// Callers that ask on and on, each on connections that live for a while, and count what went wrong.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<std::thread::JoinHandle<Result<usize, String>>>,
}

impl Load {
    fn start(address: SocketAddr, hosts: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |seed: usize| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || ask_http1(address, &stop, seed, hosts))
        };
        let mut callers = vec![one(0), one(7)];
        let flag = Arc::clone(&stop);
        callers.push(std::thread::spawn(move || ask_http2(address, &flag, hosts)));
        Load { stop, callers }
    }

    /// Stops, and fails on the first request that failed.
    fn finish(self) -> usize {
        self.stop.store(true, Ordering::Release);
        let answers: Vec<_> = self.callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        answers.into_iter().map(|answer| answer.unwrap_or_else(|failure| panic!("a request failed: {failure}"))).sum()
    }
}

fn ask_http1(address: SocketAddr, stop: &AtomicBool, seed: usize, hosts: usize) -> Result<usize, String> {
    let mut count = 0;
    while !stop.load(Ordering::Acquire) {
        let mut client = Client::connect(address);
        for _ in 0..REQUESTS_OF_A_CONNECTION {
            let host = format!("h{}", (seed + count * 13) % hosts);
            client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            let answer = client.try_read("GET").map_err(|error| format!("{host}, after {count}: {error}"))?;
            if answer.status != 200 {
                return Err(format!("{host}, after {count}: {} {}", answer.status, answer.text()));
            }
            count += 1;
            std::thread::park_timeout(PACE);
        }
    }
    Ok(count)
}

fn ask_http2(address: SocketAddr, stop: &AtomicBool, hosts: usize) -> Result<usize, String> {
    let mut count = 0;
    while !stop.load(Ordering::Acquire) {
        h2peer::block_on(async {
            let mut send = h2peer::connect(address).await;
            for _ in 0..REQUESTS_OF_A_CONNECTION {
                let host = format!("h{}", count * 17 % hosts);
                let request = h2peer::get(&host, "/").body(()).unwrap();
                let answer = h2peer::call(&mut send, request, None).await;
                let answer = answer.map_err(|reset| format!("HTTP/2 {host}, after {count}: {reset:?}"))?;
                if answer.status != 200 || answer.reset.is_some() {
                    return Err(format!("HTTP/2 {host}, after {count}: {} {}", answer.status, answer.text()));
                }
                count += 1;
                tokio::time::sleep(PACE).await;
            }
            Ok(())
        })?;
    }
    Ok(count)
}

/// A table of this many dentries; cluster and destinations change with every turn, so that nothing of the old one is
/// left. Host `probe` tells the turn by its status.
fn table(origin: &Upstream, dentries: usize, turn: usize) -> String {
    let cluster = format!("turn-{turn}");
    let mut dtab = format!("/srv => /#/clusters ; /svc/probe => /$/io.buoyant.http.status/{}\n", status_of(turn));
    for at in 0..dentries {
        writeln!(dtab, "; /svc/h{at} => /srv/{cluster}").unwrap();
    }
    Setup::new().cluster(&cluster, &[&origin.endpoint()]).dtab(&dtab).text()
}

fn status_of(turn: usize) -> u16 {
    u16::try_from(210 + turn).unwrap()
}

/// Replaces the file with the table of this turn and waits until it is in force; gives back how long that took.
fn reload(serin: &Serin, text: &str, turn: usize) -> Duration {
    let start = now();
    let new = serin.file().with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, serin.file()).unwrap();
    eventually("the new file is in force", || serin.get("probe", "/").status == status_of(turn));
    now() - start
}

/// Reloads that all succeed beside requests that all succeed. A table whose reloads would take longer than the budget
/// (a debug build needs seconds for a hundred thousand dentries) shrinks after its first reload.
fn check_reloads_under_load(dentries: usize, hosts: usize, reloads: usize) {
    let origin = Upstream::named("one");
    let serin = Serin::start(&table(&origin, dentries, 0));
    let load = Load::start(serin.address(), hosts);
    let first = reload(&serin, &table(&origin, dentries, 1), 1);
    let rest = u32::try_from(reloads).unwrap().saturating_sub(1);
    let mut size = dentries;
    if first * rest > BUDGET {
        size = (dentries as f64 * (BUDGET.as_secs_f64() / (first * rest).as_secs_f64())) as usize;
        println!("a reload of {dentries} dentries took {first:?}: the other {rest} have {size}");
    }
    for turn in 2..=reloads {
        reload(&serin, &table(&origin, size.max(hosts), turn), turn);
        origin.forget();
    }
    let answered = load.finish();
    println!("{answered} requests beside {reloads} reloads");
    assert!(answered > reloads, "{answered} requests are no load");
    let scrape = Scrape::of(&serin);
    assert_eq!(scrape.sum("serin_config_reloads_total", &[("outcome", "rejected")]), 0.0);
    assert!(scrape.sum("serin_config_reloads_total", &[("outcome", "applied")]) >= reloads as f64);
    assert_eq!(scrape.sum("serin_requests_total", &[("class", "failure")]), 0.0);
    assert_eq!(scrape.sum("serin_response_failures_total", &[]), 0.0);
}

#[test]
fn no_request_fails_during_100_reloads() {
    check_reloads_under_load(20, 20, 100);
}

#[test]
fn no_request_fails_during_100_reloads_of_100_000_dentries() {
    check_reloads_under_load(100_000, 500, 100);
}

const REQUESTS_OF_A_CONNECTION: usize = 20;
/// Callers that never pause would take the processors from the reloads, and from the tests beside this one.
const PACE: Duration = Duration::from_millis(2);
/// What a hundred reloads may take: an optimised build stays far below it with the whole table.
const BUDGET: Duration = Duration::from_secs(20);
