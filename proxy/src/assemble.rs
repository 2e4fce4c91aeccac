//! PURE: a configuration, its listeners and what the namers know become the structure and the weights of a snapshot.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use serin_config::dtab::{SplitId, SplitShape, Table, Weight};
use serin_config::model::{Config, Router, SplitRule};

use crate::dtabs::Namespaces;
use crate::listener::Listener;
use crate::resolve::NameTable;
use crate::resolve::Remote;
use crate::router::RouteTable;
use crate::snapshot::{
    RouterStructure, Routings, ServerStructure, Snapshot, SplitInfo, SplitWeights, StoredPart, Structure,
};

mod rollouts;

/// What a snapshot is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The file.
    pub config: &'a Arc<Config>,
    /// One listener for each server of each router, in the order of the file.
    pub listeners: &'a [Arc<Listener>],
    /// The admin listener: never dialled.
    pub admin: std::net::SocketAddr,
    /// The listeners of `interfaces`: never dialled.
    pub interfaces: &'a [std::net::SocketAddr],
    /// What the namers know.
    pub names: &'a Arc<NameTable>,
    /// Workers that share each listener's limits.
    pub workers: usize,
    /// The snapshot in force.
    pub previous: Option<&'a Snapshot>,
    /// What the judge wants of its rollouts: it decides which name is the primary.
    pub routings: &'a Routings,
    /// The stored dtabs.
    pub stored: &'a Namespaces,
}

/// Builds what [`crate::snapshot::World::publish`] wants.
///
/// Weights that were set while the process runs live as long as the configuration they were set on: another set of
/// names keeps them, another file or another stored dtab starts with its own.
pub fn assemble(parts: &Parts<'_>) -> (Arc<Structure>, Arc<SplitWeights>) {
    let mut splits = Vec::new();
    let mut written = Vec::new();
    let routers = parts.config.routers.iter().map(|router| router_structure(parts, router, &mut splits, &mut written));
    let routers: Vec<_> = routers.collect();
    let owned =
        splits.iter().zip(0..).filter_map(|(info, id)| Some((Arc::clone(&info.rollout.as_ref()?.name), SplitId(id))));
    let rollouts = owned.collect();
    debug_assert_eq!(splits.len(), written.len(), "every split has weights");
    let servers = servers(parts);
    let own = servers
        .iter()
        .filter(|server| server.listener.unix.is_none())
        .map(|server| server.listener.address)
        .chain([parts.admin]);
    let own = own.chain(parts.interfaces.iter().copied()).collect();
    let names = Arc::clone(parts.names);
    let structure = Structure { config: Arc::clone(parts.config), routers, servers, names, splits, rollouts, own };
    let weights = weights(parts, &structure, written);
    (Arc::new(structure), weights)
}

/// The part of its split's requests that each branch is meant to get, from 0 to 1. All are 0 if all weights are.
pub fn shares(weights: &[Weight]) -> Vec<f64> {
    let sum: f64 = weights.iter().map(|weight| weight.get()).sum();
    weights.iter().map(|weight| if sum > 0.0 { weight.get() / sum } else { 0.0 }).collect()
}

fn router_structure(
    parts: &Parts<'_>,
    router: &Router,
    splits: &mut Vec<SplitInfo>,
    written: &mut Vec<Arc<[Weight]>>,
) -> RouterStructure {
    let stored = stored_part(parts, router);
    let mut dtab = router.dtab.clone();
    let mut owned = rollouts::place(parts, router, &mut dtab);
    // in front of all that the file says, so that it is tried last
    if let Some(first) = stored.as_ref().and_then(|part| part.dtab.as_ref()) {
        dtab.0.splice(0..0, first.0.iter().cloned());
        owned.move_by(first.0.len());
    }
    let mut naming = Naming::new(router);
    let first = u32::try_from(splits.len()).unwrap_or(u32::MAX);
    for shape in dtab.assign_splits(first) {
        debug_assert_eq!(shape.id.0 as usize, splits.len(), "split ids are places in the list");
        written.push(shape.weights.as_slice().into());
        let rollout = owned.take(&shape);
        splits.push(naming.info(shape, rollout));
    }
    let table = Table::new(Arc::new(dtab));
    let remote = router.interpreter.namerd().map(Remote::new);
    let rules = RouteTable::new(&router.rules);
    RouterStructure { label: naming.label, table, remote, stored, rules, overrides: router.overrides.clone() }
}

/// The same pointers as long as the stored dtab is the same.
fn stored_part(parts: &Parts<'_>, router: &Router) -> Option<StoredPart> {
    let namespace = router.interpreter.namespace()?;
    Some(StoredPart { namespace: namespace.into(), dtab: parts.stored.dtab(namespace).cloned() })
}

/// Gives the splits of one router their names and rules.
struct Naming<'a> {
    router: &'a Router,
    label: Arc<str>,
    rules: HashMap<&'a str, &'a SplitRule>,
    /// Unions met so far of each prefix: it may stand in several dentries, and a dentry may have several unions.
    unions_of: HashMap<String, u32>,
}

impl<'a> Naming<'a> {
    fn new(router: &'a Router) -> Self {
        let rules = router.splits.iter().map(|rule| (rule.path.as_str(), rule)).collect();
        Self { router, label: router.label.as_str().into(), rules, unions_of: HashMap::new() }
    }

    fn info(&mut self, shape: SplitShape, rollout: Option<rollouts::Owned<'_>>) -> SplitInfo {
        let prefix = shape.prefix.to_string();
        let rule = self.rules.get(prefix.as_str());
        // what a rollout says of its own dentry is nearer than a rule for all dentries of that prefix
        let (said_sticky, said_unhealthy) = match &rollout {
            Some(owned) => (owned.file.stickiness.clone(), owned.file.on_unhealthy),
            None => (None, None),
        };
        let sticky = said_sticky.or_else(|| rule.and_then(|rule| rule.stickiness.clone()));
        let on_unhealthy =
            said_unhealthy.or(rule.and_then(|rule| rule.on_unhealthy)).unwrap_or(self.router.on_unhealthy);
        let rollout = rollout.map(|owned| owned.split);
        let nth = self.unions_of.entry(prefix.clone()).and_modify(|n| *n += 1).or_insert(1);
        let name = if *nth == 1 { prefix } else { format!("{prefix}#{nth}") };
        let branches = shape.arms.into_iter().map(Arc::from).collect();
        SplitInfo { router: Arc::clone(&self.label), name: name.into(), branches, sticky, on_unhealthy, rollout }
    }
}

fn servers(parts: &Parts<'_>) -> Vec<ServerStructure> {
    let routers = parts.config.routers.iter().enumerate();
    let servers = routers.flat_map(|(router, config)| config.servers.iter().map(move |server| (router, server)));
    let paired = servers.zip(parts.listeners).map(|((router, server), listener)| ServerStructure {
        listener: Arc::clone(listener),
        router,
        server: server.clone(),
        requests_max: requests_max(server.requests_max, listener.requests_max, parts.workers),
        in_flight: server.requests_max.map(|_| Arc::clone(&listener.in_flight)),
    });
    paired.collect()
}

/// A limit that was written holds over all workers. Of the one that was not, each has its part, so that they need not
/// share a counter.
fn requests_max(total: Option<NonZeroU32>, unwritten: u32, workers: usize) -> u32 {
    let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
    total.map_or(unwritten.div_ceil(workers), NonZeroU32::get)
}

fn weights(parts: &Parts<'_>, structure: &Structure, written: Vec<Arc<[Weight]>>) -> Arc<SplitWeights> {
    match parts.previous {
        Some(previous) if previous.structure.is_of(structure) => Arc::clone(&previous.weights),
        Some(previous) => {
            Arc::new(SplitWeights { epoch: previous.weights.epoch + 1, weights: written, mirrored: Vec::new() })
        }
        None => Arc::new(SplitWeights { epoch: 1, weights: written, mirrored: Vec::new() }),
    }
}

#[cfg(test)]
mod tests;
