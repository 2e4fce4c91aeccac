//! The part of namerd's HTTP control API that routers use: watch streams of what a name is bound to, and of where a bound
//! id is served. Strict: a question that namerd would not understand is noted.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use super::registry::{Registry, is_gone, target};
use super::wire::{Head, Wire};

pub(crate) struct Namerd {
    pub(crate) server: Registry,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    data: Mutex<Data>,
    changed: Condvar,
}

#[derive(Default)]
struct Data {
    version: u64,
    /// Path and dtab to tree, bound id to addresses.
    trees: BTreeMap<(String, String), Value>,
    addrs: BTreeMap<String, Value>,
    mood: Mood,
    asked: Vec<String>,
    faults: Vec<String>,
}

/// How it answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// This status, and the end.
    Status(u16),
    /// The stream says this, and the end.
    Says(String),
}

/// A leaf of a tree.
pub(crate) fn leaf(id: &str) -> Value {
    json!({"type": "leaf", "bound": {"addr": {"type": "pending"}, "id": id, "path": "/"}})
}

impl Namerd {
    pub(crate) fn start() -> Namerd {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        Namerd { server: Registry::start(move |wire, head| shared.answer(wire, head)), state }
    }

    /// An interpreter that asks it, with retries that a test can wait for.
    pub(crate) fn interpreter(&self) -> String {
        let retry = "retry: {baseSeconds: 1, maxSeconds: 1}";
        let port = self.server.port();
        format!("interpreter: {{kind: io.l5d.namerd.http, dst: /$/inet/127.0.0.1/{port}, namespace: web, {retry}}}")
    }

    /// What a name is bound to under a dtab.
    pub(crate) fn bind(&self, path: &str, dtab: &str, tree: Value) {
        self.change(|data| drop(data.trees.insert((path.to_owned(), dtab.to_owned()), tree)));
    }

    /// Where a bound id is served.
    pub(crate) fn serve(&self, id: &str, endpoints: &[&str]) {
        let addr = |endpoint: &&str| {
            let (ip, port) = endpoint.rsplit_once(':').unwrap();
            json!({"ip": ip, "port": port.parse::<u16>().unwrap(), "meta": {}})
        };
        let addrs: Vec<Value> = endpoints.iter().map(addr).collect();
        let addr = json!({"type": "bound", "addrs": addrs, "meta": {}});
        self.change(|data| drop(data.addrs.insert(id.to_owned(), addr)));
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.change(|data| data.mood = mood);
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    pub(crate) fn check_no_faults(&self) {
        assert_eq!(self.lock().faults, Vec::<String>::new());
    }

    fn change(&self, change: impl FnOnce(&mut Data)) {
        let mut data = self.lock();
        change(&mut data);
        data.version += 1;
        self.state.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Data> {
        self.state.data.lock().unwrap()
    }
}

impl State {
    fn answer(&self, wire: &mut Wire, head: &Head) -> bool {
        let (path, query) = target(head);
        let of = |key: &str| query.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let (name, dtab) = (of("path").unwrap_or_default(), of("dtab").unwrap_or_default());
        let mut data = self.data.lock().unwrap();
        data.asked.push(format!("{path} {name} {dtab}"));
        let binds = path == "/api/1/bind/web";
        if !(binds || path == "/api/1/addr/web") || of("watch").as_deref() != Some("1") || !name.starts_with('/') {
            data.faults.push(head.first.clone());
            return false;
        }
        if let Mood::Status(status) = data.mood {
            let _ = wire.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\nsorry"));
            return false;
        }
        let type_line = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = wire.send(type_line);
        let mut last = None;
        loop {
            if let Mood::Says(text) = &data.mood {
                let _ = wire.send(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()));
                return false;
            }
            if matches!(data.mood, Mood::Status(_)) || is_gone(wire) {
                return false;
            }
            let document = match binds {
                true => data.trees.get(&(name.clone(), dtab.clone())).cloned().unwrap_or(json!({"type": "neg"})),
                false => data.addrs.get(&name).cloned().unwrap_or(json!({"type": "neg"})),
            };
            if last.as_ref() != Some(&document) {
                let text = format!("{document}\n");
                // in two pieces, as a network would
                let (a, b) = text.split_at(text.len() / 2);
                let _ = wire.send(format!("{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n", a.len(), b.len()));
                last = Some(document);
            }
            (data, _) = self.changed.wait_timeout(data, LOOK).unwrap();
        }
    }
}

const LOOK: Duration = Duration::from_millis(10);
