//! Bound names of one worker, for one router and one structure.
//!
//! Binding is pure and takes microseconds, so a worker does it itself, once for each name, and keeps the tree. Three
//! small caches keep strangers apart: plain names, names with an override, and names that lead nowhere, so that neither a
//! scan for hosts nor a flood of override headers evicts what users are served by.

mod remote;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;
use serin_config::dtab::{self, Bound, Dtab, Layers, LeafState, Limits, Logical, NameTree, Path};
use serin_config::identify;
use serin_config::model::{Binding as Caps, Classifier, Router, Service};
use serin_metrics::{RequestLabels, Shard};
use serin_rollout::Arm;

use crate::context::Destination;
use crate::endpoints::Cluster;
use crate::error::ProxyError;
use crate::inflight::Series;
use crate::local::{Local, UNBOUND};
use crate::pool::LocalCluster;
use crate::retry::Budget;
use crate::worker::Worker;

pub(crate) use remote::made_by;

/// Names with an override that one worker keeps for one router.
const OVERRIDDEN_MAX: usize = 256;
/// Names that lead nowhere, likewise.
const UNBOUND_MAX: usize = 256;
/// A name with a part that its namer does not have is forgotten after this time without a request, and then nobody asks for
/// that part any more.
const ABSENT_IDLE_MS: u64 = 5_000;

/// The caches of one router.
#[derive(Debug)]
pub struct Bindings {
    plain: Cache,
    overridden: Cache,
    unbound: Cache,
}

/// A name, bound: what each request to it shares.
#[derive(Debug)]
pub struct Binding {
    /// The logical name.
    pub path: Path,
    /// Alternatives and unions are kept: the pick decides for each request.
    pub tree: NameTree<Target>,
    /// The override that travels on as `l5d-ctx-dtab`.
    pub context: Option<HeaderValue>,
    /// How it is treated.
    pub service: LocalService,
    /// Where the tree comes from, if somebody else binds, and which of its versions it is.
    remote: Option<(Arc<Cluster>, u64)>,
}

/// How a logical name is treated, on one worker.
#[derive(Debug)]
pub struct LocalService {
    /// As the file has it for this name.
    pub model: Service,
    /// Its classifier, unless that is the usual one.
    pub classifier: Option<Rc<Classifier>>,
    /// What retries of failed answers may cost.
    pub budget: RefCell<Budget>,
}

impl LocalService {
    /// A full budget.
    pub fn new(model: Service, workers: usize) -> Self {
        let own = model.classifier != Classifier::default();
        let classifier = own.then(|| Rc::new(model.classifier.clone()));
        Self { budget: RefCell::new(Budget::new(&model.budget, workers)), classifier, model }
    }
}

/// A leaf of a bound tree.
#[derive(Debug)]
pub enum Target {
    /// Binding this branch failed.
    Failed(ProxyError),
    /// A concrete name.
    Name(Rc<Leaf>),
    /// Somebody else binds, and has not answered yet.
    Asked(Arc<Cluster>),
    /// The namer has not answered yet.
    Pending,
}

/// A concrete name with what a request to it needs.
#[derive(Debug)]
pub struct Leaf {
    /// Its endpoints.
    pub cluster: Rc<LocalCluster>,
    /// What upstreams are told of it.
    pub to: Rc<Destination>,
    /// Its counters: those of no arm and of each arm of a rollout. Made when a request first counts there: a name that
    /// never served has none.
    counted: Rc<Counted>,
}

#[derive(Debug)]
struct Counted {
    labels: RequestLabels,
    series: [OnceCell<Rc<Series>>; 3],
}

/// What a request adds to the router's dtab.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Rules that matched, by index.
    pub rules: Vec<u16>,
    /// What the peer sent, parsed.
    pub sent: Option<Dtab>,
}

impl Binding {
    /// Somebody else binds, and says something else by now.
    fn is_stale(&self) -> bool {
        self.remote.as_ref().is_some_and(|(question, version)| question.addresses().load().version != *version)
    }

    /// Is there a part whose namer was asked and does not have it, or has not said.
    fn lacks_a_name(&self) -> bool {
        let lacks = |target: &Target| !target.exists();
        match &self.tree {
            // whoever binds elsewhere may bind it to something the next time
            NameTree::Neg | NameTree::Leaf(Target::Failed(_)) => self.remote.is_some(),
            NameTree::Leaf(target) => lacks(target),
            tree => tree.leaves().into_iter().any(lacks),
        }
    }

    /// Is there anything but nothing: a name that exists, as far as is known, or an end that somebody wrote.
    fn leads_somewhere(&self) -> bool {
        match &self.tree {
            NameTree::Neg => false,
            NameTree::Fail | NameTree::Empty => true,
            NameTree::Leaf(Target::Failed(_)) => self.remote.is_none(),
            NameTree::Leaf(target) => target.exists(),
            tree => tree.leaves().into_iter().any(Target::exists),
        }
    }
}

impl Leaf {
    /// A name whose requests count under these labels.
    pub fn new(cluster: Rc<LocalCluster>, labels: RequestLabels, residual: &Path) -> Self {
        let to = Destination::new(&labels.service, &labels.client, residual);
        Self { cluster, to, counted: Rc::new(Counted { labels, series: Default::default() }) }
    }

    /// The same name with endpoints of another kind.
    pub fn with_cluster(&self, cluster: Rc<LocalCluster>) -> Self {
        Self { cluster, to: Rc::clone(&self.to), counted: Rc::clone(&self.counted) }
    }

    /// The counters of requests that it serves as this arm of a rollout; `None`: as no arm.
    pub fn series_of(&self, arm: Option<Arm>, shard: &Shard) -> &Rc<Series> {
        let (place, label) = match arm {
            None => (0, ""),
            Some(Arm::Canary) => (1, "canary"),
            Some(Arm::Primary) => (2, "primary"),
        };
        let made = || Rc::new(Series(shard.requests(&RequestLabels { arm: label, ..self.counted.labels.clone() })));
        self.counted.series[place].get_or_init(made)
    }
}

impl Target {
    /// Does the name exist; one that its namer is still asked for does not yet.
    fn exists(&self) -> bool {
        match self {
            Self::Failed(_) | Self::Pending => true,
            Self::Asked(_) => false,
            Self::Name(leaf) => leaf.cluster.exists(),
        }
    }

    /// Can a request go here now.
    pub fn state(&self, worker: &Worker) -> LeafState {
        match self {
            Self::Failed(_) => LeafState::Error,
            Self::Name(leaf) => leaf.cluster.state(worker),
            Self::Asked(_) | Self::Pending => LeafState::Pending,
        }
    }
}

impl Bindings {
    /// Empty caches.
    pub fn new(caps: &Caps) -> Self {
        let idle_ms = u64::try_from(caps.idle.as_millis()).unwrap_or(u64::MAX);
        let cache = |max| Cache { entries: RefCell::default(), max, idle_ms };
        Self { plain: cache(caps.names_max.get()), overridden: cache(OVERRIDDEN_MAX), unbound: cache(UNBOUND_MAX) }
    }

    /// The binding of a plain name, if it is known.
    pub fn plain(&self, name: &[u8], now_ms: u64) -> Option<Rc<Binding>> {
        if let Some(known) = self.plain.get(name, now_ms) {
            return Some(known);
        }
        let found = self.unbound.get(name, now_ms)?;
        if found.leads_somewhere() {
            self.unbound.remove(name);
            self.plain.insert(name, &found, now_ms);
        }
        Some(found)
    }

    /// The binding of a name with an override, if it is known.
    pub fn overridden(&self, key: &[u8], now_ms: u64) -> Option<Rc<Binding>> {
        self.overridden.get(key, now_ms)
    }

    /// Keeps a binding. Returns whether another had to go.
    pub fn keep(&self, key: &[u8], overridden: bool, binding: &Rc<Binding>, now_ms: u64) -> bool {
        let cache = match overridden {
            true => &self.overridden,
            // a name that its namer is still asked for may not exist: a scan of such must evict nobody
            false if !binding.leads_somewhere() => {
                self.make_room(now_ms);
                &self.unbound
            }
            false => &self.plain,
        };
        cache.insert(key, binding, now_ms)
    }

    /// Names of which there has been a good answer since give no way to unknown ones.
    fn make_room(&self, now_ms: u64) {
        if self.unbound.is_full() {
            for (key, entry) in self.unbound.take(|known| known.leads_somewhere()) {
                self.plain.insert(&key, &entry.binding, now_ms);
            }
        }
    }

    /// A name that had been unknown has served: it is one of those that users are served by.
    pub fn promote(&self, binding: &Rc<Binding>, now_ms: u64) {
        let found = self.unbound.take(|known| Rc::ptr_eq(known, binding));
        for (key, entry) in found {
            self.plain.insert(&key, &entry.binding, now_ms);
        }
    }

    /// Forgets what was not used for long.
    pub fn sweep(&self, now_ms: u64) {
        for cache in [&self.plain, &self.overridden, &self.unbound] {
            cache.entries.borrow_mut().retain(|_, entry| {
                let idle_ms = now_ms.saturating_sub(entry.used_ms.get());
                idle_ms <= cache.idle_ms && (idle_ms <= ABSENT_IDLE_MS || !entry.binding.lacks_a_name())
            });
        }
    }
}

/// Binds the name of this key under its overrides. Cold: once for each name and structure.
///
/// # Errors
/// The name is longer than a path may be, or its source made up too many.
pub fn bind(
    worker: &Worker,
    local: &Local,
    router: usize,
    key: &[u8],
    overrides: &Overrides,
    peer: SocketAddr,
) -> Result<Binding, ProxyError> {
    let structure = &local.snapshot.structure;
    let (table, model) = (&structure.routers[router], &structure.config.routers[router]);
    let path = identify::path(key).ok_or_else(|| ProxyError::NoRoute("the name is too long".into()))?;
    let written: Vec<&Dtab> = overrides.rules.iter().map(|rule| &table.overrides[usize::from(*rule)].dtab).collect();
    let sent: Vec<&Dtab> = overrides.sent.iter().collect();
    if let Some(remote) = &table.remote {
        return remote::bind(
            worker,
            &remote::Asking {
                remote,
                table,
                model,
                path,
                by_file: identify::is_written(key),
                written: &written,
                sent: &sent,
                peer,
            },
        );
    }
    let layers = Layers { base: &table.table, written: &written, sent: &sent };
    let name = Logical { path: &path, written: identify::is_written(key) };
    let tree = dtab::bind(&layers, &*structure.names, name, &Limits::default());
    let service: Arc<str> = if matches!(tree, NameTree::Neg) { UNBOUND.into() } else { path.to_string().into() };
    let travels = dtab::travelling(&written, &sent);
    let mut refused = false;
    let tree = tree.map(&mut |bound| {
        let caller = Caller { label: &table.label, router: model, peer, overridden: !travels.is_empty() };
        let target = target(worker, &caller, &service, bound);
        refused |= matches!(target, Target::Failed(ProxyError::TooManyNames));
        target
    });
    if refused {
        // not kept: the same name may be welcome a moment later
        return Err(ProxyError::TooManyNames);
    }
    let context = (!travels.is_empty()).then(|| HeaderValue::try_from(dtab::context_text(&travels)).ok()).flatten();
    let service = LocalService::new(model.service_of(&path), worker.workers);
    Ok(Binding { path, tree, context, service, remote: None })
}

/// Who binds a name, and how it calls.
struct Caller<'a> {
    label: &'a Arc<str>,
    router: &'a Router,
    peer: SocketAddr,
    overridden: bool,
}

fn target(worker: &Worker, caller: &Caller<'_>, service: &Arc<str>, bound: &Bound) -> Target {
    let (id, residual, made) = match bound {
        Bound::Pending => return Target::Pending,
        Bound::Error(error) => return Target::Failed(ProxyError::BindingFailed(error.to_string())),
        Bound::Name { id, residual, written } => (id, residual, !written),
    };
    named(worker, caller, service, (id, id), residual, made)
}

/// A concrete name, and the cluster that has its addresses.
fn named(
    worker: &Worker,
    caller: &Caller<'_>,
    service: &Arc<str>,
    (id, at): (&Path, &Path),
    residual: &Path,
    made: bool,
) -> Target {
    let client = caller.router.client_of(id);
    match worker.cluster(at, (made, caller.overridden), caller.label, &client, caller.peer) {
        Err(_) => Target::Failed(ProxyError::TooManyNames),
        Ok(cluster) => {
            let labels = RequestLabels {
                router: Arc::clone(caller.label),
                service: Arc::clone(service),
                client: id.to_string().into(),
                arm: "",
            };
            Target::Name(Rc::new(Leaf::new(cluster, labels, residual)))
        }
    }
}

#[derive(Debug)]
struct Cache {
    entries: RefCell<HashMap<Box<[u8]>, Entry, foldhash::fast::RandomState>>,
    max: usize,
    idle_ms: u64,
}

#[derive(Debug)]
struct Entry {
    binding: Rc<Binding>,
    used_ms: Cell<u64>,
}

impl Cache {
    fn get(&self, key: &[u8], now_ms: u64) -> Option<Rc<Binding>> {
        let entries = self.entries.borrow();
        let entry = entries.get(key)?;
        entry.used_ms.set(now_ms);
        Some(Rc::clone(&entry.binding)).filter(|binding| !binding.is_stale())
    }

    fn remove(&self, key: &[u8]) {
        self.entries.borrow_mut().remove(key);
    }

    fn is_full(&self) -> bool {
        self.entries.borrow().len() >= self.max
    }

    fn take(&self, wanted: impl Fn(&Rc<Binding>) -> bool) -> Vec<(Box<[u8]>, Entry)> {
        self.entries.borrow_mut().extract_if(|_, entry| wanted(&entry.binding)).collect()
    }

    fn insert(&self, key: &[u8], binding: &Rc<Binding>, now_ms: u64) -> bool {
        let mut entries = self.entries.borrow_mut();
        let full = entries.len() >= self.max && !entries.contains_key(key);
        if full {
            // only when a new name comes to a full cache, and the cache is small
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.used_ms.get()).map(|(key, _)| key.clone());
            oldest.and_then(|key| entries.remove(&key));
        }
        entries.insert(key.into(), Entry { binding: Rc::clone(binding), used_ms: Cell::new(now_ms) });
        debug_assert!(entries.len() <= self.max, "a cache outgrew its bound");
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serin_config::model::Config;
    use serin_config::source::Source;

    use crate::endpoints::Addresses;

    fn service() -> LocalService {
        LocalService::new(Service::default(), 1)
    }

    fn binding() -> Rc<Binding> {
        Rc::new(Binding { path: Path::root(), tree: NameTree::Fail, context: None, service: service(), remote: None })
    }

    fn cache(max: usize) -> Cache {
        Cache { entries: RefCell::default(), max, idle_ms: 10 }
    }

    #[test]
    fn a_full_cache_loses_the_name_used_longest_ago() {
        let cache = cache(2);
        assert!(!cache.insert(b"a", &binding(), 1) && !cache.insert(b"b", &binding(), 2));
        assert!(cache.get(b"a", 3).is_some());
        assert!(cache.insert(b"c", &binding(), 4));
        assert!(cache.get(b"a", 5).is_some() && cache.get(b"b", 5).is_none() && cache.get(b"c", 5).is_some());
    }

    #[test]
    fn unknown_names_do_not_evict_known_ones() {
        let caps = Caps {
            timeout: std::time::Duration::from_secs(1),
            names_max: std::num::NonZeroUsize::MIN,
            idle: std::time::Duration::from_secs(1),
        };
        let bindings = Bindings::new(&caps);
        bindings.keep(b"known", false, &binding(), 1);
        let nowhere = Rc::new(Binding {
            path: Path::root(),
            tree: NameTree::Neg,
            context: None,
            service: service(),
            remote: None,
        });
        for host in 0..1000_u32 {
            bindings.keep(&host.to_be_bytes(), false, &nowhere, 2);
        }
        assert!(bindings.plain(b"known", 3).is_some());
        assert_eq!(bindings.unbound.entries.borrow().len(), UNBOUND_MAX);
    }

    fn asked_leaf(addresses: Addresses) -> (Arc<Cluster>, Rc<Binding>) {
        let table = crate::endpoints::EndpointTable::default();
        table.set_asked(vec!["/#/reg".parse().unwrap()]);
        let id: Path = "/#/reg/web".parse().unwrap();
        let shared = table.get(&id, false, None, 1).unwrap();
        shared.publish(addresses);
        let text = "routers: [{label: r, servers: [{port: 1}], dtab: /svc => /#/clusters}]";
        let config = Config::parse(&Source::new("t", text)).unwrap().0;
        let cluster = LocalCluster::new(Arc::clone(&shared), config.routers[0].client_of(&id), 1, true);
        let labels =
            RequestLabels { router: "r".into(), service: "/svc/web".into(), client: "/#/reg/web".into(), arm: "" };
        let leaf = Leaf::new(cluster, labels, &Path::root());
        let tree = NameTree::Leaf(Target::Name(Rc::new(leaf)));
        (shared, Rc::new(Binding { path: Path::root(), tree, context: None, service: service(), remote: None }))
    }

    #[test]
    fn a_name_with_its_first_good_answer_gives_no_way_to_unknown_ones() {
        let caps = Caps {
            timeout: std::time::Duration::from_secs(1),
            names_max: std::num::NonZeroUsize::new(8).unwrap(),
            idle: std::time::Duration::from_secs(600),
        };
        let bindings = Bindings::new(&caps);
        let (web, binding) = asked_leaf(Addresses::Pending);
        bindings.keep(b"web", false, &binding, 1);
        web.publish(Addresses::Bound(Arc::default()));
        let (_gone, absent) = asked_leaf(Addresses::Absent("no".into()));
        for host in 0..1000_u32 {
            bindings.keep(&host.to_be_bytes(), false, &absent, 2);
        }
        assert!(bindings.plain.get(b"web", 3).is_some());
        bindings.sweep(ABSENT_IDLE_MS + 2);
        assert_eq!(bindings.unbound.entries.borrow().len(), UNBOUND_MAX);
        bindings.sweep(ABSENT_IDLE_MS + 3);
        assert!(bindings.unbound.entries.borrow().is_empty(), "what does not exist is soon forgotten");
        assert!(bindings.plain.get(b"web", ABSENT_IDLE_MS + 3).is_some(), "what exists is not");
    }
}
