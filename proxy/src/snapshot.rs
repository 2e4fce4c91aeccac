//! What the control plane hands to the workers: one immutable snapshot behind one pointer.
//!
//! A snapshot is *structure* (tables, listeners, rules) plus *weights by split*. Publishing weights replaces only the
//! weights: the structure is shared, no table is walked and no binding cache is emptied, so it costs the same for ten
//! dentries and for a hundred thousand.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serin_config::dtab::{Dtab, Path, SplitId, Weight, Weights};
use serin_config::model::{Affinity, Config, OnUnhealthy, OverrideRule, Server, StickyKey, Strategy};
use serin_rollout::Ppm;
use tokio::sync::watch;

use crate::evidence::SplitEvidence;
use crate::listener::{Listener, Socket};
use crate::resolve::{NameTable, Remote};
use crate::router::RouteTable;

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
    /// The splits that rollouts own, by name of the rollout.
    pub rollouts: HashMap<Arc<str>, SplitId>,
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
    /// Who binds its names, if it is not this process.
    pub remote: Option<Remote>,
    /// The stored dtab at its beginning.
    pub stored: Option<StoredPart>,
    /// What requests are like, and what becomes of them.
    pub rules: RouteTable,
    /// Override rules in file order.
    pub overrides: Vec<OverrideRule>,
}

/// The part of a router's dtab that comes from a stored namespace: its first dentries.
#[derive(Clone, Debug)]
pub struct StoredPart {
    /// The namespace.
    pub namespace: Arc<str>,
    /// What it holds; `None` if there is nothing, or nothing that can be read.
    pub dtab: Option<Arc<Dtab>>,
}

impl StoredPart {
    /// How many dentries these are.
    pub fn len(&self) -> usize {
        self.dtab.as_ref().map_or(0, |dtab| dtab.0.len())
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
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
    /// The rollout that owns it: branch 0 is the canary, branch 1 the primary.
    pub rollout: Option<Arc<RolloutSplit>>,
}

/// The split of a rollout.
#[derive(Debug)]
pub struct RolloutSplit {
    /// Name of the rollout.
    pub name: Arc<str>,
    /// The two names it chooses between.
    pub arms: Arms,
    /// How requests come to the canary.
    pub strategy: Strategy,
    /// The cookie that Serin issues.
    pub affinity: Option<Affinity>,
    /// What the workers count and the judge reads. Lives as long as the rollout keeps its arms.
    pub evidence: Arc<SplitEvidence>,
}

/// The same evidence is the same split: a worker then keeps its book of it.
impl PartialEq for RolloutSplit {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.evidence, &other.evidence)
    }
}

impl Eq for RolloutSplit {}

/// The two names of a rollout's dentry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arms {
    /// Gets what the canary does not.
    pub primary: Path,
    /// Gets its share.
    pub canary: Path,
}

/// What the judge wants of one rollout's traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// What the file called primary when this began. A file that says otherwise wins.
    pub origin: Path,
    /// The version that is proven: the primary, or after a promotion what was the canary.
    pub proven: Path,
    /// Between which names the share holds.
    pub arms: Arms,
    /// The canary's share.
    pub share: Ppm,
    /// Copies go to the canary.
    pub mirrored: bool,
}

/// What the judge wants, by name of the rollout.
pub type Routings = HashMap<Arc<str>, Routing>;

/// Weights in force, by split and branch.
#[derive(Clone, Debug, Default)]
pub struct SplitWeights {
    /// Grows by one with each change of weights: requests and evidence carry it.
    pub epoch: u64,
    /// Index: split, then branch as written.
    pub weights: Vec<Arc<[Weight]>>,
    /// Splits whose canary gets copies.
    pub mirrored: Vec<SplitId>,
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

/// The pointer between the planes. The control thread writes structure, the judge the shares of its rollouts; neither
/// waits for the other, and none loses what the other wrote.
#[derive(Debug)]
pub struct World {
    current: ArcSwap<Snapshot>,
    routings: ArcSwap<Routings>,
    version: AtomicU64,
    missed: ArcSwap<Vec<Missed>>,
    signal: watch::Sender<(u64, Phase)>,
}

/// A listener that was removed before every worker had its socket.
#[derive(Clone, Debug)]
pub struct Missed {
    /// The sockets that are left.
    pub listener: Arc<Listener>,
    /// The last one that has the listener.
    pub snapshot: Arc<Snapshot>,
}

impl World {
    /// A world that starts with this snapshot and these rollouts.
    pub fn new(mut first: Snapshot, routings: Routings) -> Arc<Self> {
        let weights = with_routings(&first.structure, SplitWeights::clone(&first.weights), &routings);
        first.weights = Arc::new(weights);
        let (signal, _) = watch::channel((first.version, Phase::Running));
        Arc::new(Self {
            version: AtomicU64::new(first.version),
            current: ArcSwap::from_pointee(first),
            routings: ArcSwap::from_pointee(routings),
            missed: ArcSwap::default(),
            signal,
        })
    }

    /// The newest snapshot. Workers ask [`World::version`] first and come here only when it moved.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// What the judge wants of its rollouts.
    pub fn routings(&self) -> Arc<Routings> {
        self.routings.load_full()
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

    /// Publishes a new structure. `weights` are those of the file, or those in force where the file is the same; what
    /// the judge wants goes over them. Control thread only.
    pub fn publish(&self, structure: &Arc<Structure>, weights: &Arc<SplitWeights>) -> u64 {
        self.swap(|now| {
            let kept = if now.structure.is_of(structure) { &now.weights } else { weights };
            // a split may have come or gone with the judge's word for it: the place in the list tells
            let base = if kept.weights.len() == weights.weights.len() { kept } else { weights };
            let weights = SplitWeights { epoch: now.weights.epoch + 1, ..SplitWeights::clone(base) };
            Some((Arc::clone(structure), with_routings(structure, weights, &self.routings.load())))
        })
    }

    /// Says, before a structure is published without them, which listeners have sockets that no worker took: workers see
    /// the newest structure only, and one that was busy may never see what came and went. Control thread only.
    pub fn remove_all_but(&self, kept: &[Arc<Listener>]) {
        let snapshot = self.load();
        let servers = snapshot.structure.servers.iter().map(|server| &server.listener);
        let gone = servers.filter(|listener| !kept.iter().any(|kept| kept.id == listener.id) && !listener.is_taken());
        let gone = gone.map(|listener| Missed { listener: Arc::clone(listener), snapshot: Arc::clone(&snapshot) });
        let gone: Vec<Missed> = gone.collect();
        if !gone.is_empty() {
            self.missed.rcu(|missed| [&missed[..], &gone[..]].concat());
        }
    }

    /// Sockets of listeners that are gone, for this worker to serve who has connected to them. Each is given out once.
    pub fn take_missed(&self, worker: usize) -> Vec<(Missed, Socket)> {
        let missed = self.missed.load_full();
        if missed.is_empty() {
            return Vec::new();
        }
        let take = |missed: &Missed| Some((missed.clone(), missed.listener.take(worker)?));
        let taken = missed.iter().filter_map(take).collect();
        self.missed
            .rcu(|missed| missed.iter().filter(|missed| !missed.listener.is_taken()).cloned().collect::<Vec<_>>());
        taken
    }

    /// Publishes weights alone: the structure stays as it is. `change` sees the weights in force and may run again if
    /// another thread published meanwhile; `None` leaves everything as it is.
    pub fn publish_weights(&self, change: impl Fn(&Snapshot) -> Option<SplitWeights>) -> u64 {
        self.swap(|now| {
            let weights = SplitWeights { epoch: now.weights.epoch + 1, ..change(now)? };
            Some((Arc::clone(&now.structure), weights))
        })
    }

    /// Publishes what the judge wants of one rollout; `None`: nothing any more. Judge only. It holds from the next
    /// request on, and in every structure that comes after. Says whether the structure in force has these arms: if
    /// not, all of its traffic goes to the primary until one does.
    pub fn publish_routing(&self, rollout: &Arc<str>, routing: Option<&Routing>) -> bool {
        self.routings.rcu(|all| {
            let mut all = Routings::clone(all);
            match routing {
                Some(routing) => all.insert(Arc::clone(rollout), routing.clone()),
                None => all.remove(rollout),
            };
            all
        });
        self.swap(|now| {
            let weights = SplitWeights { epoch: now.weights.epoch + 1, ..SplitWeights::clone(&now.weights) };
            Some((Arc::clone(&now.structure), with_routings(&now.structure, weights, &self.routings.load())))
        });
        let structure = &self.load().structure;
        routing.is_none_or(|routing| structure.rollout(rollout).is_some_and(|(_, split)| split.arms == routing.arms))
    }

    /// Nobody judges any more: what is not proven gets nothing. What was promoted keeps serving.
    pub fn abandon_canaries(&self) {
        for (rollout, routing) in &*self.routings() {
            if routing.proven != routing.arms.canary {
                let nothing = Routing { share: Ppm::ZERO, mirrored: false, ..routing.clone() };
                self.publish_routing(rollout, Some(&nothing));
            }
        }
    }

    /// Moves to another part of life. Never back.
    pub fn enter(&self, phase: Phase) {
        self.signal.send_modify(|state| state.1 = phase);
    }

    fn swap(&self, next: impl Fn(&Snapshot) -> Option<(Arc<Structure>, SplitWeights)>) -> u64 {
        let mut version = 0;
        self.current.rcu(|now| match next(now) {
            Some((structure, weights)) => {
                version = now.version + 1;
                Arc::new(Snapshot { version, structure, weights: Arc::new(weights) })
            }
            None => {
                version = now.version;
                Arc::clone(now)
            }
        });
        // two writers may come here in either order
        self.version.fetch_max(version, Ordering::AcqRel);
        self.signal.send_modify(|state| state.0 = state.0.max(version));
        version
    }
}

impl Structure {
    /// Was it made from the same file and the same stored dtabs? Then its splits are the same.
    pub fn is_of(&self, other: &Structure) -> bool {
        let dtabs = |structure: &Structure| -> Vec<_> {
            let part =
                |router: &RouterStructure| router.stored.as_ref().and_then(|part| part.dtab.as_ref()).map(Arc::as_ptr);
            structure.routers.iter().map(part).collect()
        };
        Arc::ptr_eq(&self.config, &other.config) && dtabs(self) == dtabs(other)
    }

    /// The split of a rollout, and its place.
    pub fn rollout(&self, name: &str) -> Option<(SplitId, &Arc<RolloutSplit>)> {
        let rollouts = self.rollouts.get(name)?;
        let info = self.splits.get(rollouts.0 as usize)?;
        info.rollout.as_ref().map(|rollout| (*rollouts, rollout))
    }
}

/// The judge's word over what the file says. A rollout whose arms are not those of the structure gives its canary
/// nothing.
fn with_routings(structure: &Structure, mut weights: SplitWeights, routings: &Routings) -> SplitWeights {
    weights.mirrored.clear();
    for (name, split) in &structure.rollouts {
        let Some((rollout, slot)) = structure
            .splits
            .get(split.0 as usize)
            .and_then(|info| info.rollout.as_ref())
            .zip(weights.weights.get_mut(split.0 as usize))
        else {
            continue;
        };
        let routing = routings.get(name).filter(|routing| routing.arms == rollout.arms);
        let share = routing.map_or(Ppm::ZERO, |routing| routing.share);
        let promoted = routing.is_some_and(|routing| routing.proven == routing.arms.canary);
        let wanted = rollout_weights(&rollout.strategy, share, promoted);
        if slot[..] != wanted {
            *slot = wanted.into();
        }
        if routing.is_some_and(|routing| routing.mirrored) {
            weights.mirrored.push(*split);
        }
    }
    weights
}

/// The weights of canary and primary. In A/B both have some, because each request is sent by what it is like; once the
/// canary is promoted all of them go to it.
fn rollout_weights(strategy: &Strategy, share: Ppm, promoted: bool) -> [Weight; 2] {
    let parts = match strategy {
        Strategy::Match(_) if share > Ppm::ZERO && !promoted => [1, 1],
        Strategy::Match(_) | Strategy::Mirror(_) | Strategy::Weights => [share.get(), share.rest().get()],
    };
    parts.map(|part| Weight::new(f64::from(part)).unwrap_or(Weight::ZERO))
}

#[cfg(test)]
mod tests;
