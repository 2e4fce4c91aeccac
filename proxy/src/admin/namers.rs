//! What is known of the names of a namer: `/namer_state/<prefix>.json`, and the gauges of namers that are asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use serin_config::dtab::Path;
use serin_metrics::{Metrics, NamerGauge};

use crate::clock;
use crate::endpoints::{Addresses, Cluster, EndpointTable};
use crate::resolve::bound_id;

/// What stands in place of a prefix for names that a namerd has.
const NAMERD: &str = "namerd";

/// One name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    /// `bound`, `absent`, `failed`, `gone` or `pending`.
    state: &'static str,
    /// Where it is served.
    addresses: Vec<Address>,
    /// Why it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What a name is bound to, if somebody else binds.
    #[serde(skip_serializing_if = "Option::is_none")]
    tree: Option<String>,
    /// Since the namer last answered for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
    /// Why it did not answer since.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// How often it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
    /// What the namer calls this state: the index of Consul.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Address {
    address: String,
    weight: f64,
}

/// Every name under a prefix. `None`: there is none.
pub(super) fn states(table: &EndpointTable, prefix: &str) -> Option<BTreeMap<String, State>> {
    let clusters = table.list();
    let first = if prefix == NAMERD { Path::from_labels(["@"]) } else { Path::parse(&format!("/#/{prefix}")).ok() };
    let (first, now_ms) = (first?, clock::unix_ms());
    let of = |cluster: &Arc<Cluster>| (cluster.id.skip(first.len()).to_string(), state(cluster, now_ms));
    let states: BTreeMap<_, _> = clusters.iter().filter(|cluster| cluster.id.starts_with(&first)).map(of).collect();
    (!states.is_empty()).then_some(states)
}

fn state(cluster: &Cluster, now_ms: u64) -> State {
    let (state, addresses, reason) = match &cluster.addresses().load().addresses {
        Addresses::Absent(why) => ("absent", Vec::new(), Some(why.to_string())),
        Addresses::Bound(list) => {
            let shown = list.iter().map(|one| Address { address: one.socket.to_string(), weight: one.weight });
            ("bound", shown.collect(), None)
        }
        Addresses::Failed(why) => ("failed", Vec::new(), Some(why.to_string())),
        Addresses::Neg => ("gone", Vec::new(), None),
        Addresses::Pending => ("pending", Vec::new(), None),
    };
    let tree = cluster.tree().map(|tree| (*tree).clone().map(&mut |leaf| leaf.to_string()).to_string());
    let told = cluster.told();
    let told = told.as_deref();
    State {
        state,
        addresses,
        reason,
        tree,
        age_ms: told.filter(|told| told.answered_at_ms > 0).map(|told| now_ms.saturating_sub(told.answered_at_ms)),
        error: told.and_then(|told| told.error.as_ref().map(ToString::to_string)),
        failures: told.map(|told| told.failures).filter(|failures| *failures > 0),
        version: told.map(|told| told.version).filter(|version| *version > 0),
    }
}

/// Ages and failures by namer, of the names that somebody uses.
pub(super) fn report(metrics: &Metrics, table: &EndpointTable, clusters: &[Arc<Cluster>]) {
    let namers = by_namer(table, clusters);
    metrics.control().replace_namers(namers.iter().map(|(namer, of)| (namer.as_str(), of.gauge)));
}

/// A line for each namer that is asked for names in use. One that does not answer makes nobody unready: what it said last serves.
pub(super) fn ready_lines(text: &mut String, table: &EndpointTable) {
    for (namer, of) in by_namer(table, &table.list()) {
        let names = of.names;
        // writing to a string cannot fail
        let _ = match of.error {
            None => writeln!(text, "[+] namer {namer}: answers for the {names} names in use"),
            Some(why) => {
                let failing = of.gauge.failing;
                writeln!(
                    text,
                    "[-] namer {namer}: no answer for {failing} of {names} names in use, what was known of them serves: {why}"
                )
            }
        };
    }
}

/// What is known of a namer by the names in use.
#[derive(Default)]
struct Of {
    gauge: NamerGauge,
    names: u64,
    /// Why one of them has no answer.
    error: Option<Arc<str>>,
}

fn by_namer(table: &EndpointTable, clusters: &[Arc<Cluster>]) -> BTreeMap<String, Of> {
    let now_ms = clock::unix_ms();
    let mut namers: BTreeMap<String, Of> = BTreeMap::new();
    for cluster in clusters.iter().filter(|cluster| !cluster.is_asleep()) {
        let (Some(told), Some(prefix)) = (cluster.told(), table.asked_prefix(&cluster.id)) else { continue };
        let name = prefix.skip(1).to_string();
        let of = namers.entry(name.trim_start_matches('/').to_owned()).or_default();
        of.names += 1;
        if told.failures > 0 {
            of.gauge.failing += 1;
            of.error = of.error.take().or_else(|| told.error.clone());
        }
        if told.answered_at_ms > 0 {
            let age_s = now_ms.saturating_sub(told.answered_at_ms) as f64 / 1000.0;
            of.gauge.age_s = Some(of.gauge.age_s.map_or(age_s, |oldest: f64| oldest.max(age_s)));
        }
    }
    namers
}

/// Is it a question for a namerd and no name of its own.
pub(super) fn is_question(cluster: &Cluster) -> bool {
    bound_id(&cluster.id).is_none()
}
