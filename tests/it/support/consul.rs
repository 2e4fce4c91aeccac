//! The part of Consul's HTTP API that proxies use, as its documentation has it: the catalog and health of a service with
//! blocking queries, and the agent's own settings. Strict: a question that Consul would not understand is noted.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use super::registry::{Registry, is_gone, target};
use super::wire::{Head, Wire};

pub(crate) struct Consul {
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
    index: u64,
    /// Datacenter and name to instances.
    services: BTreeMap<(String, String), Vec<Instance>>,
    mood: Mood,
    token: Option<String>,
    asked: Vec<String>,
    faults: Vec<String>,
}

/// How it answers questions for services.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// Reads and says nothing.
    Hang,
    /// This status.
    Status(u16),
    /// This status and text for one service, and well for all others.
    StatusOf(String, u16, String),
    /// 200 with this body.
    Body(String),
    /// 200 with a body of so many octets.
    Huge(usize),
    NoIndex,
}

/// An instance of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Instance {
    pub(crate) node_address: String,
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) tags: Vec<String>,
    /// Statuses of its checks.
    pub(crate) checks: Vec<String>,
}

impl Instance {
    /// At `ip:port`, passing.
    pub(crate) fn at(endpoint: &str) -> Instance {
        let (ip, port) = endpoint.rsplit_once(':').unwrap();
        let (node_address, address) = ("192.0.2.1".to_owned(), ip.to_owned());
        let checks = vec!["passing".to_owned()];
        Instance { node_address, address, port: port.parse().unwrap(), tags: Vec::new(), checks }
    }

    pub(crate) fn tagged(mut self, tag: &str) -> Instance {
        self.tags.push(tag.to_owned());
        self
    }

    pub(crate) fn check(mut self, status: &str) -> Instance {
        self.checks.push(status.to_owned());
        self
    }
}

impl Consul {
    pub(crate) fn start() -> Consul {
        let state = Arc::new(State::default());
        state.data.lock().unwrap().index = 100;
        let shared = Arc::clone(&state);
        Consul { server: Registry::start(move |wire, head| shared.answer(wire, head)), state }
    }

    /// `host: 127.0.0.1, port: N`
    pub(crate) fn keys(&self) -> String {
        format!("host: 127.0.0.1, port: {}", self.server.port())
    }

    /// Replaces the instances of a service in `dc1`.
    pub(crate) fn set(&self, service: &str, instances: &[Instance]) {
        let key = ("dc1".to_owned(), service.to_owned());
        self.change(|data| drop(data.services.insert(key, instances.to_vec())));
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.change(|data| data.mood = mood);
    }

    pub(crate) fn require_token(&self, token: &str) {
        self.change(|data| data.token = Some(token.to_owned()));
    }

    /// Begins to count anew, as after a restore of its servers.
    pub(crate) fn reset_index(&self, index: u64) {
        let mut data = self.lock();
        data.index = index;
        self.state.changed.notify_all();
    }

    /// Targets asked for so far, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    /// Nothing was asked that Consul would not understand.
    pub(crate) fn check_no_faults(&self) {
        assert_eq!(self.lock().faults, Vec::<String>::new());
    }

    fn change(&self, change: impl FnOnce(&mut Data)) {
        let mut data = self.lock();
        change(&mut data);
        data.index += 1;
        self.state.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Data> {
        self.state.data.lock().unwrap()
    }
}

impl State {
    fn answer(&self, wire: &mut Wire, head: &Head) -> bool {
        let (path, query) = target(head);
        let mut data = self.data.lock().unwrap();
        data.asked.push(head.first.split(' ').nth(1).unwrap().to_owned());
        let faults = faults(head, &path, &query);
        data.faults.extend(faults);
        if data.token.is_some() && data.token != head.fields.get("x-consul-token") {
            return send(wire, 403, None, "Permission denied");
        }
        if path == "/v1/agent/self" {
            let own =
                json!({"Config": {"Datacenter": "dc1", "NodeName": "n"}, "DebugConfig": {"DNSDomain": "consul."}});
            return send(wire, 200, None, &own.to_string());
        }
        let of = |key: &str| query.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        if let Some(index) = of("index").and_then(|text| text.parse::<u64>().ok()) {
            let wait = of("wait").and_then(|text| text.strip_suffix('s')?.parse().ok()).map_or(300, |wait: u64| wait);
            let mut left = Duration::from_secs(wait);
            while data.index == index && !left.is_zero() {
                (data, _) = self.changed.wait_timeout(data, LOOK).unwrap();
                left = left.saturating_sub(LOOK);
                if is_gone(wire) {
                    return false;
                }
            }
        }
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        match data.mood.clone() {
            Mood::StatusOf(service, status, text) if service == name => return send(wire, status, None, &text),
            Mood::Well | Mood::StatusOf(..) => {}
            Mood::Hang => {
                while data.mood == Mood::Hang && !is_gone(wire) {
                    (data, _) = self.changed.wait_timeout(data, LOOK).unwrap();
                }
                return false;
            }
            Mood::Status(status) => return send(wire, status, None, "no cluster leader"),
            Mood::Body(body) => return send(wire, 200, Some(data.index), &body),
            Mood::Huge(octets) => return send(wire, 200, Some(data.index), &format!("[{}]", " ".repeat(octets))),
            Mood::NoIndex => return send(wire, 200, None, "[]"),
        }
        let datacenter = of("dc").unwrap_or_else(|| "dc1".to_owned());
        let all = data.services.get(&(datacenter, name)).cloned().unwrap_or_default();
        let tag = of("tag");
        let wanted = all.iter().filter(|one| tag.as_ref().is_none_or(|tag| one.tags.contains(tag)));
        let health = path.starts_with("/v1/health/");
        let passing = |one: &&Instance| !health || of("passing").is_none() || one.checks.iter().all(|c| c == "passing");
        let list: Vec<Value> =
            wanted.filter(passing).map(|one| if health { one.health() } else { one.catalog() }).collect();
        let index = data.index;
        drop(data);
        send(wire, 200, Some(index), &Value::Array(list).to_string())
    }
}

impl Instance {
    fn catalog(&self) -> Value {
        json!({
            "ID": "", "Node": "n", "Address": self.node_address, "Datacenter": "dc1", "TaggedAddresses": null,
            "NodeMeta": null, "ServiceID": "s", "ServiceName": "s", "ServiceTags": self.tags,
            "ServiceAddress": self.address, "ServicePort": self.port, "ServiceMeta": {}, "CreateIndex": 1,
        })
    }

    fn health(&self) -> Value {
        let check =
            |(nth, status): (usize, &String)| json!({"Node": "n", "CheckID": format!("c{nth}"), "Status": status});
        json!({
            "Node": {"ID": "", "Node": "n", "Address": self.node_address, "Meta": null},
            "Service": {"ID": "s", "Service": "s", "Tags": self.tags, "Address": self.address, "Port": self.port},
            "Checks": self.checks.iter().enumerate().map(check).collect::<Vec<_>>(),
        })
    }
}

fn faults(head: &Head, path: &str, query: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    if !head.first.starts_with("GET /v1/") || !head.fields.has("host") {
        faults.push(format!("not a question for Consul: {}", head.first));
    }
    let service = path.starts_with("/v1/catalog/service/") || path.starts_with("/v1/health/service/");
    if service && path != path.to_lowercase() {
        faults.push(format!("upper case: {path}"));
    }
    for (key, value) in query {
        let known = match key.as_str() {
            "dc" | "tag" => !value.is_empty(),
            "index" => value.parse::<u64>().is_ok_and(|index| index > 0),
            "wait" => value.ends_with('s'),
            "passing" => value == "true" && path.starts_with("/v1/health/"),
            "stale" | "consistent" => value.is_empty(),
            _ => false,
        };
        if !known {
            faults.push(format!("{key}={value} in {}", head.first));
        }
    }
    faults
}

fn send(wire: &mut Wire, status: u16, index: Option<u64>, body: &str) -> bool {
    let index = index.map_or_else(String::new, |index| format!("X-Consul-Index: {index}\r\n"));
    let length = body.len();
    wire.send(format!(
        "HTTP/1.1 {status} X\r\n{index}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .is_ok()
}

const LOOK: Duration = Duration::from_millis(10);
