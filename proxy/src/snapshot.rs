//! What the control plane hands to the workers: one immutable snapshot behind one pointer.
//!
//! A snapshot is *structure* (tables, listeners, rules) plus *weights by split*. Publishing weights replaces only the
//! weights: the structure is shared, no table is walked and no binding cache is emptied, so it costs the same for ten
//! dentries and for a hundred thousand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serin_config::dtab::{SplitId, Weight, Weights};
use serin_config::model::{Config, OnUnhealthy, OverrideRule, Server, StickyKey};
use tokio::sync::watch;

use crate::listener::Listener;
use crate::resolve::NameTable;

/// The routing world at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with each publication.
    pub version: u64,
    /// Changes with the configuration or with the set of names, not with weights.
    pub structure: Arc<Structure>,
    /// Weights in force.
    pub weights: Arc<SplitWeights>,
}

/// Everything of a snapshot that is not a weight.
#[derive(Debug)]
pub struct Structure {
    /// What it was assembled from.
    pub config: Arc<Config>,
    /// In the order of the file.
    pub routers: Vec<RouterStructure>,
    /// Every listener of every router. A connection finds its own by [`Listener::id`].
    pub servers: Vec<ServerStructure>,
    /// What the namers know.
    pub names: Arc<NameTable>,
    /// Every split of every router, by [`SplitId`].
    pub splits: Vec<SplitInfo>,
    /// Listeners and the admin port: never dialled.
    pub own: Vec<std::net::SocketAddr>,
}

/// One router, ready to bind names.
#[derive(Debug)]
pub struct RouterStructure {
    /// Its label.
    pub label: Arc<str>,
    /// The base dtab with its index; split ids are assigned.
    pub table: serin_config::dtab::Table,
    /// Override rules in file order.
    pub overrides: Vec<OverrideRule>,
}

/// One listener with the configuration in force for it.
#[derive(Debug)]
pub struct ServerStructure {
    /// The bound sockets, shared with later snapshots that keep the listener.
    pub listener: Arc<Listener>,
    /// Index into [`Structure::routers`].
    pub router: usize,
    /// Its configuration.
    pub server: Server,
    /// Requests in flight that are admitted: over all workers if `in_flight` is there, else by each of them.
    pub requests_max: u32,
    /// Counts over all workers; only for a limit that was written, because it makes the cores share a cache line.
    pub in_flight: Option<Arc<AtomicU32>>,
}

/// What a split is called and how it draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitInfo {
    /// Label of its router.
    pub router: Arc<str>,
    /// Prefix of its dentry, and `#n` behind it for all but the first union of that dentry.
    pub name: Arc<str>,
    /// Printed branches, as labels of metrics.
    pub branches: Vec<Arc<str>>,
    /// Draw by a key of the user.
    pub sticky: Option<StickyKey>,
    /// What happens to the share of a branch without a usable endpoint.
    pub on_unhealthy: OnUnhealthy,
}

/// Weights in force, by split and branch.
#[derive(Clone, Debug, Default)]
pub struct SplitWeights {
    /// Grows by one with each change of weights: requests and evidence carry it.
    pub epoch: u64,
    /// Index: split, then branch as written.
    pub weights: Vec<Arc<[Weight]>>,
}

impl Weights for SplitWeights {
    fn weight(&self, split: SplitId, index: u16) -> Option<Weight> {
        self.weights.get(split.0 as usize)?.get(usize::from(index)).copied()
    }
}

/// Which part of its life the process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Serving.
    Running,
    /// Accepts no more, ends connections politely, lets running requests finish.
    Draining,
    /// The deadline has passed: what still runs is cut.
    Cut,
}

/// The pointer between the planes. One writer (the control thread), any number of readers.
#[derive(Debug)]
pub struct World {
    current: ArcSwap<Snapshot>,
    version: AtomicU64,
    signal: watch::Sender<(u64, Phase)>,
}

impl World {
    /// A world that starts with this snapshot.
    pub fn new(first: Snapshot) -> Arc<Self> {
        let (signal, _) = watch::channel((first.version, Phase::Running));
        Arc::new(Self { version: AtomicU64::new(first.version), current: ArcSwap::from_pointee(first), signal })
    }

    /// The newest snapshot. Workers ask [`World::version`] first and come here only when it moved.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Version of the newest snapshot: one plain load.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Tells of new snapshots and phases.
    pub fn subscribe(&self) -> watch::Receiver<(u64, Phase)> {
        self.signal.subscribe()
    }

    /// Publishes a new structure with its weights. Control thread only.
    pub fn publish(&self, structure: Arc<Structure>, weights: Arc<SplitWeights>) -> u64 {
        let version = self.version() + 1;
        self.store(Snapshot { version, structure, weights });
        version
    }

    /// Publishes weights alone: the structure stays as it is. Control thread only. Splits that the structure does not
    /// have are left out of no account: the caller makes `weights` from [`Snapshot::weights`].
    pub fn publish_weights(&self, weights: SplitWeights) -> u64 {
        let structure = Arc::clone(&self.current.load().structure);
        self.publish(structure, Arc::new(weights))
    }

    /// Moves to another part of life. Never back.
    pub fn enter(&self, phase: Phase) {
        self.signal.send_modify(|state| state.1 = phase);
    }

    fn store(&self, snapshot: Snapshot) {
        let version = snapshot.version;
        self.current.store(Arc::new(snapshot));
        self.version.store(version, Ordering::Release);
        self.signal.send_modify(|state| state.0 = version);
    }
}
