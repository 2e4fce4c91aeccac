//! The control thread in this process: reloads, refusals, weights, the end.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serin::control::{self, ConfigSource, Running, StartOptions, StartupError};
use serin::endpoints::Addresses;
use serin::world::Stage;
use serin_config::dtab::{SplitId, Weight};

/// Looks, 5 ms apart, before a condition counts as never met.
const LOOKS_MAX: u32 = 2_000;

fn file(servers: &str, weight: u32) -> String {
    format!(
        "admin: {{port: 0}}\nclusters: {{a: {{endpoints: []}}, b: {{endpoints: []}}}}\nrouters:\n- protocol: http\n  \
         servers: [{servers}]\n  dtab: /svc/x => {weight} * /#/clusters/a & 1 * /#/clusters/b\n"
    )
}

struct Stand {
    running: Running,
    path: PathBuf,
    folder: tempfile::TempDir,
}

fn stand(text: &str) -> Stand {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serin.yaml");
    std::fs::write(&path, text).unwrap();
    let running = control::start(StartOptions::embedded(ConfigSource::File(path.clone()))).unwrap();
    Stand { running, path, folder }
}

impl Stand {
    fn write(&self, text: &str) {
        let beside = self.folder.path().join("beside");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, &self.path).unwrap();
    }

    #[track_caller]
    fn eventually(&self, what: &str, condition: impl Fn(&Running) -> bool) {
        for _ in 0..LOOKS_MAX {
            if condition(&self.running) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("never: {what}; {:?}", self.running.status());
    }

    #[track_caller]
    fn check_end(self) {
        self.running.stop();
        assert_eq!(self.running.wait(), 0);
    }

    fn share_of_a(&self) -> f64 {
        self.running.world.load().weights.weights[0][0].get()
    }

    fn metric(&self, line: &str) -> bool {
        let mut stream = TcpStream::connect(self.running.admin).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.lines().any(|found| found == line)
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn an_edit_is_in_force_and_listeners_come_and_go() {
    let stand = stand(&file("{port: 0}", 3));
    let listeners = |running: &Running| running.world.load().structure.servers.len();
    let first = stand.running.world.load().structure.servers[0].listener.id;
    stand.write(&file("{port: 0}, {port: 0, ip: '::1'}", 4));
    stand.eventually("two listeners", |running| listeners(running) == 2);
    assert_eq!((stand.share_of_a(), stand.running.world.load().weights.epoch), (4.0, 2));
    assert_eq!(stand.running.world.load().structure.servers[0].listener.id, first, "what stays is not touched");
    stand.write(&file("{port: 0}", 4));
    stand.eventually("one listener", |running| listeners(running) == 1);
    stand.check_end();
}

#[test]
fn a_bad_file_changes_nothing_and_is_seen() {
    let stand = stand(&file("{port: 0}", 3));
    stand.write("routerz: []");
    stand.eventually("a rejection", |running| running.status().rejected.is_some());
    assert!(stand.running.status().rejected.as_ref().unwrap().contains("did you mean `routers`?"));
    assert_eq!((stand.running.world.version(), stand.share_of_a()), (1, 3.0));
    assert!(stand.metric("serin_config_last_reload_successful 0"));
    stand.write(&file("{port: 0}", 3));
    stand.eventually("the old file again", |running| running.status().rejected.is_none());
    assert!(stand.metric("serin_config_last_reload_successful 1"));
    assert!(stand.metric("serin_config_reloads_total{outcome=\"unchanged\"} 1"));
    stand.check_end();
}

#[test]
fn a_listener_that_cannot_be_bound_rejects_the_whole_file() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let stand = stand(&file("{port: 0}", 3));
    let port = address.port();
    stand.write(&file(&format!("{{port: 0}}, {{port: 0, ip: '::1'}}, {{port: {port}}}"), 9));
    stand.eventually("a rejection", |running| running.status().rejected.is_some());
    assert!(stand.running.status().rejected.as_ref().unwrap().contains(&address.to_string()));
    assert_eq!((stand.running.world.version(), stand.share_of_a()), (1, 3.0));
    drop(taken);
    stand.running.reload();
    stand.eventually("the port is free now", |running| running.status().rejected.is_none());
    assert_eq!(stand.share_of_a(), 9.0);
    stand.check_end();
}

#[test]
fn a_file_that_is_gone_for_a_while_is_no_end() {
    let stand = stand(&file("{port: 0}", 3));
    std::fs::remove_file(&stand.path).unwrap();
    stand.eventually("a rejection", |running| running.status().rejected.is_some());
    stand.write(&file("{port: 0}", 5));
    stand.eventually("the new file", |running| running.status().rejected.is_none());
    assert_eq!(stand.share_of_a(), 5.0);
    stand.check_end();
}

#[test]
fn the_admin_listener_moves() {
    let stand = stand(&file("{port: 0}", 3));
    let moved = free_port();
    stand.write(&file("{port: 0}", 3).replace("admin: {port: 0}", &format!("admin: {{port: {}}}", moved.port())));
    stand.eventually("the new address", |_| TcpStream::connect(moved).is_ok());
    stand.check_end();
}

#[test]
fn weights_alone_leave_the_structure_as_it_is() {
    let stand = stand(&file("{port: 0}", 3));
    let before = Arc::clone(&stand.running.world.load().structure);
    stand.running.set_weights(SplitId(0), &[Weight::ZERO, Weight::ONE]);
    stand.eventually("other weights", |running| running.world.load().weights.epoch == 2);
    assert!(Arc::ptr_eq(&before, &stand.running.world.load().structure));
    assert!(stand.metric("serin_split_weight{router=\"http\",split=\"/svc/x\",branch=\"/#/clusters/b\"} 1.0"));
    stand.running.set_weights(SplitId(0), &[Weight::ONE]);
    stand.running.set_weights(SplitId(9), &[Weight::ONE]);
    stand.running.set_weights(SplitId(0), &[Weight::ONE, Weight::ONE]);
    stand.eventually("only weights that fit", |running| running.world.load().weights.epoch == 3);
    stand.check_end();
}

#[test]
fn a_taken_port_is_named_and_nothing_is_left_running() {
    let stand = stand(&file("{port: 0}", 3));
    let address = stand.running.addresses[0].1;
    let source = ConfigSource::Text { name: "t".into(), text: file(&format!("{{port: {}}}", address.port()), 3) };
    match control::start(StartOptions::embedded(source)) {
        Err(StartupError::Listen(text)) => assert!(text.contains(&address.to_string()), "{text}"),
        other => panic!("{other:?}"),
    }
    stand.check_end();
}

#[test]
fn a_stop_first_ends_readiness_and_a_second_one_cuts() {
    let stand = stand(&format!("drain: {{delayMs: 600000, deadlineMs: 600000}}\n{}", file("{port: 0}", 3)));
    stand.running.stop();
    stand.eventually("leaving", |running| running.status().stage == Stage::Leaving);
    assert!(TcpStream::connect(stand.running.addresses[0].1).is_ok(), "it still accepts");
    stand.check_end();
}

#[test]
fn a_folder_that_a_reload_brings_is_watched() {
    let stand = stand(&file("{port: 0}", 3));
    let disco = stand.folder.path().join("disco");
    std::fs::create_dir(&disco).unwrap();
    let namers = format!("namers: [{{kind: io.l5d.fs, rootDir: {}}}]\n", disco.display());
    stand.write(&format!("{namers}{}", file("{port: 0}", 3)));
    stand.eventually("the namer", |running| running.world.version() == 2);
    std::fs::write(disco.join("web"), "127.0.0.1 80\n").unwrap();
    stand.eventually("its name", |running| {
        running.endpoints.list().iter().any(|cluster| cluster.id.to_string() == "/#/io.l5d.fs/web")
    });
    stand.eventually("a structure with it", |running| running.world.version() == 3);
    stand.check_end();
}

#[test]
fn a_name_that_a_reload_removes_serves_a_moment_longer() {
    let stand = stand(&file("{port: 0}", 3).replace("a: {endpoints: []}", "a: {endpoints: ['127.0.0.1:9']}"));
    let endpoints = |running: &Running| -> Vec<String> {
        let clusters = running.endpoints.list();
        let bound = clusters.iter().filter(|cluster| {
            matches!(&cluster.addresses().load().addresses, Addresses::Bound(addresses) if !addresses.is_empty())
        });
        bound.map(|cluster| cluster.id.to_string()).collect()
    };
    stand.write(
        &file("{port: 0}", 3).replace("a: {endpoints: []}", "c: {endpoints: ['127.0.0.1:9']}").replace("/a", "/c"),
    );
    stand.eventually("the new structure", |running| running.world.version() == 2);
    assert_eq!(endpoints(&stand.running), ["/#/clusters/a", "/#/clusters/c"]);
    stand.eventually("the old name is gone", |running| endpoints(running) == ["/#/clusters/c"]);
    stand.check_end();
}
