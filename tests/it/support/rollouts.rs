//! Rollouts from outside: a file with one, users who go on asking, and what the admin server says of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use super::http1::{Client, Response, request};
use super::upstream::reply;
use super::{Serin, Setup, Upstream, eventually_some};

/// Host `world` is led by the rollout `world` between the clusters `v1` and `v2`; `keys` are further keys of it, in
/// block style.
pub(crate) fn rollout(primary: &str, canary: &str, keys: &str) -> Setup {
    with_storage(primary, canary, keys, "{kind: file, dir: state}")
}

/// The same with a canary of many endpoints.
pub(crate) fn rollout_of_many(primary: &str, canary: &[&str], keys: &str) -> Setup {
    setup(primary, canary, keys, "{kind: file, dir: state}")
}

pub(crate) fn with_storage(primary: &str, canary: &str, keys: &str, storage: &str) -> Setup {
    setup(primary, &[canary], keys, storage)
}

fn setup(primary: &str, canary: &[&str], keys: &str, storage: &str) -> Setup {
    let mut lines = format!(
        "storage: {storage}\nrollouts:\n- name: world\n  router: outgoing\n  path: /host/world\n  \
         primary: /#/clusters/v1\n  canary: /#/clusters/v2\n"
    );
    for line in keys.lines() {
        lines.push_str(&format!("  {line}\n"));
    }
    let dtab = "/svc => /host ;\n/host/world => /#/clusters/v1 ;";
    Setup::new().cluster("v1", &[primary]).cluster("v2", canary).dtab(dtab).top(&lines)
}

/// By evidence, with these steps in percent, at least a second each.
pub(crate) fn steps(steps: &str) -> String {
    format!("pace: evidence\nanalysis: {{interval: 1s, threshold: 5, stepWeights: [{steps}]}}")
}

/// An origin whose every `nth` answer is a 500; 0: none.
pub(crate) fn failing(nth: u64) -> Upstream {
    let count = AtomicU64::new(0);
    Upstream::reply(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        let fails = nth > 0 && number.is_multiple_of(nth);
        reply(if fails { 500 } else { 200 }, &[], "")
    })
}

/// An origin that takes requests and never answers.
pub(crate) fn hanging() -> Upstream {
    Upstream::raw(|wire, seen, index| {
        super::upstream::next_request(wire, seen, index);
        wire.at_end();
    })
}

/// Users who ask `GET /` of host `world`, one request after the other on a connection of their own, until dropped.
pub(crate) struct Users {
    seen: Arc<Answers>,
    threads: Vec<JoinHandle<()>>,
}

/// What all of them saw.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    stop: AtomicBool,
    pub(crate) sent: AtomicU64,
    /// Answered with 500 or more, or not at all.
    pub(crate) failed: AtomicU64,
}

impl Users {
    pub(crate) fn start(serin: &Serin, users: usize) -> Users {
        let (address, seen) = (serin.address(), Arc::new(Answers::default()));
        let user = |_| {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                let mut client = None;
                while !seen.stop.load(Ordering::Relaxed) {
                    let well = ask(&mut client, address).is_ok_and(|answer| answer.status < 500);
                    // stopped in mid-request: that says nothing
                    if !seen.stop.load(Ordering::Relaxed) {
                        seen.sent.fetch_add(1, Ordering::Relaxed);
                        seen.failed.fetch_add(u64::from(!well), Ordering::Relaxed);
                    }
                }
            })
        };
        let threads = (0..users).map(user).collect();
        Users { seen, threads }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.seen.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.seen.failed.load(Ordering::Relaxed)
    }
}

/// Asks once, on a new connection where none is left.
fn ask(kept: &mut Option<Client>, address: SocketAddr) -> io::Result<Response> {
    let mut client = kept.take().map_or_else(|| Client::try_connect(address), Ok)?;
    client.wire.send(request("GET", "/", "world", &[], ""))?;
    let answer = client.try_read("GET")?;
    // a connection is ended politely after some thousands of requests
    if answer.field("connection").is_none() {
        *kept = Some(client);
    }
    Ok(answer)
}

impl Drop for Users {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a user failed");
        }
    }
}

/// What the admin server says of the rollout `world`.
pub(crate) fn view(serin: &Serin) -> Value {
    let response = serin.admin("/api/v1/rollouts/world");
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_slice(&response.body).unwrap()
}

/// Waits until the rollout `world` stands in this phase.
pub(crate) fn until_phase(serin: &Serin, phase: &str) -> Value {
    until(serin, &format!("phase {phase}"), |view| view["phase"] == phase)
}

/// Waits until what is said of the rollout `world` is so.
pub(crate) fn until(serin: &Serin, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually_some(what, || {
            last = view(serin);
            holds(&last).then(|| last.clone())
        })
    }));
    found.unwrap_or_else(|_| panic!("not in time: {what}; it stands so: {last:#}"))
}

/// The token of its folder.
pub(crate) fn token(serin: &Serin) -> String {
    std::fs::read_to_string(serin.dir.path().join("state/token")).unwrap().trim().to_owned()
}

/// Asks for an action on the rollout `world`, as `tester`.
pub(crate) fn act(serin: &Serin, action: &str, more: Value) -> Response {
    let mut body = json!({"who": "tester", "why": "a test"});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let body = body.to_string();
    let address = serin.admin_address();
    let lines = [format!("authorization: Bearer {}", token(serin)), "content-type: application/json".to_owned()];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut client = Client::connect(address);
    client.send(request("POST", &format!("/api/v1/rollouts/world/{action}"), &address.to_string(), &lines, &body));
    client.read("POST")
}
