//! From bound names to addresses: namers, files, DNS.
//!
//! The [`Resolver`] lives on the control thread. It owns the sources of names (`Namer`), gives binding an immutable
//! [`NameTable`], and fills each [`Cluster`] of the [`EndpointTable`] with addresses: at once where they are written,
//! through DNS where names are. DNS answers are kept by their TTL, within 1 s and 300 s; after a failure or a negative
//! answer the last good addresses stay, and the next question waits 1 s to 30 s. Names that nobody has bound are not asked
//! for: a cluster that is bound (again) wakes its names through a bounded channel.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ipnet::IpNet;
use serin_config::dtab::Path;
use serin_config::model;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::endpoints::{Addresses, Cluster, EndpointTable};
use asked::asked_prefixes;
use consul::ConsulSource;
use dns::DnsClient;
use fs::FsNamer;
use hosts::{Answer, Family, Hosts, User};
use namerd::NamerdSource;
use names::{AskedNamer, Content, Namer, StaticClusters};
use rewrite::RewriteNamer;
use slots::Registries;
use srv::SrvSource;
use targets::compose;
use watches::{Source, Watches};

pub use consul::{
    BODY_OCTETS_MAX as CONSUL_BODY_OCTETS_MAX, HELD_MAX as CONSUL_HELD_MAX, INSTANCES_MAX as CONSUL_INSTANCES_MAX,
};
pub use dns::{DnsConfig, LOOKUP_MS_MAX, LOOKUPS_MAX};
pub use hosts::{HOSTS_MAX, RECORDS_MAX, TTL_S_MAX, TTL_S_MIN};
pub use namerd::{DOCUMENT_OCTETS_MAX, HELD_MAX as NAMERD_HELD_MAX, Remote, RemoteLeaf, TREE_NODES_MAX, bound_id};
pub(crate) use namerd::{REMOTE_LABELS, is_made, is_remote};
pub use names::NameTable;
pub use slots::TURNS_MAX;
pub use srv::RECORDS_MAX as SRV_RECORDS_MAX;
pub use targets::{ADDRESSES_MAX, Target};

mod asked;
mod consul;
mod dns;
mod fs;
mod hosts;
pub mod inet;
mod namerd;
mod names;
mod peer;
mod rewrite;
mod slots;
mod srv;
mod targets;
mod watches;

/// What went wrong so far, for metrics. Counts only grow.
#[derive(Debug, Default)]
pub struct ResolverStats {
    /// Questions asked of DNS, one for each name and refresh.
    pub dns_lookups: AtomicU64,
    /// Of these, how many brought no address.
    pub dns_failures: AtomicU64,
    /// Address files and folders that turned bad.
    pub file_errors: AtomicU64,
}

/// Fills clusters with addresses. Owned by the control thread.
pub struct Resolver {
    table: Arc<EndpointTable>,
    namers: Vec<Configured>,
    names: Arc<NameTable>,
    /// What each configured name was filled from.
    assigned: HashMap<Path, Content>,
    /// Clusters that have DNS names in them.
    tracked: HashMap<User, Tracked>,
    /// At this many, those that are gone are swept out.
    sweep_at: usize,
    hosts: Hosts,
    allow: Vec<IpNet>,
    dns: DnsConfig,
    client: Option<DnsClient>,
    lookups: JoinSet<Answer>,
    asked: HashMap<Id, Arc<str>>,
    /// Whoever binds for a router, by the prefix of their questions.
    remotes: Vec<(Path, Arc<NamerdSource>)>,
    watches: Watches,
    registries: Registries,
    wakes: mpsc::Receiver<Weak<Cluster>>,
    stats: Arc<ResolverStats>,
    started: Instant,
}

/// A namer, and the part of the configuration it comes from.
struct Configured {
    written: Option<model::Namer>,
    namer: Box<dyn Namer>,
}

struct Tracked {
    cluster: Weak<Cluster>,
    targets: Arc<[Target]>,
    dns_names: HashSet<Arc<str>>,
}

impl Resolver {
    /// A resolver that knows no names yet and hears of every cluster of `table` that needs DNS.
    pub fn new(table: Arc<EndpointTable>, dns: DnsConfig) -> Self {
        let (sender, wakes) = mpsc::channel(WAKES_MAX);
        table.attach(sender);
        Self {
            table,
            namers: Vec::new(),
            names: Arc::default(),
            assigned: HashMap::new(),
            tracked: HashMap::new(),
            sweep_at: SWEEP_MIN,
            hosts: Hosts::new(HOSTS_MAX),
            allow: Vec::new(),
            dns,
            client: None,
            lookups: JoinSet::new(),
            asked: HashMap::new(),
            remotes: Vec::new(),
            watches: Watches::new(),
            registries: Registries::default(),
            wakes,
            stats: Arc::default(),
            started: Instant::now(),
        }
    }

    /// Takes a new configuration in: reads folders now, publishes what is known now, and gives the names for binding.
    /// Clusters and namers that stay keep what they know. The system's DNS settings are read again.
    pub fn configure(
        &mut self,
        clusters: &[model::Cluster],
        namers: &[model::Namer],
        egress: &model::Egress,
    ) -> Arc<NameTable> {
        self.client = None;
        let mut old = std::mem::take(&mut self.namers);
        let before = asked_prefixes(&old);
        self.namers.push(Configured { written: None, namer: Box::new(StaticClusters::new(clusters)) });
        for written in namers {
            let kept = old.iter().position(|namer| namer.written.as_ref() == Some(written));
            let configured = kept.map(|index| old.swap_remove(index));
            let configured = match configured {
                Some(kept) => kept,
                None => self.open(written),
            };
            self.namers.push(configured);
        }
        for configured in &mut self.namers {
            configured.namer.refresh();
        }
        self.apply();
        self.set_asked(&before);
        self.set_egress(egress);
        self.picture()
    }

    /// Looks at the folders again and publishes what changed. `Some`: names came or went, so binding needs the new table.
    pub fn fs_changed(&mut self) -> Option<Arc<NameTable>> {
        if self.namers.iter().all(|configured| configured.written.is_none()) {
            return None; // no folders
        }
        let mut changed = false;
        for configured in &mut self.namers {
            changed |= configured.namer.refresh();
        }
        self.apply();
        changed.then(|| self.picture())
    }

    /// Waits for DNS: asks for names whose time has come, and completes when an answer was taken in.
    /// The control loop calls it again and again, and may drop it at any point.
    pub async fn next(&mut self) {
        loop {
            self.start_due();
            let next_due = self.hosts.next_due_ms().filter(|_| self.lookups.len() < LOOKUPS_MAX);
            let due_at = next_due.map(|at_ms| self.started + Duration::from_millis(at_ms));
            let look_at = self.watches.look_at();
            let wait = async {
                match due_at.into_iter().chain(look_at).min() {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(answered) = self.lookups.join_next_with_id(), if !self.lookups.is_empty() => {
                    self.take_answer(answered);
                    return;
                }
                (cluster, news) = self.watches.next() => {
                    self.take_news(&cluster, news);
                    return;
                }
                Some(cluster) = self.wakes.recv() => self.wake_all(cluster),
                () = pin!(wait) => self.look_at_watches(),
            }
        }
    }

    /// The folders whose changes [`Resolver::fs_changed`] wants to be called for.
    pub fn folders(&self) -> Vec<PathBuf> {
        let written = self.namers.iter().filter_map(|namer| namer.written.as_ref());
        let folder = |written: &model::Namer| match &written.kind {
            model::NamerKind::Fs { root_dir } => Some(root_dir.clone()),
            model::NamerKind::Consul(_) | model::NamerKind::DnsSrv(_) | model::NamerKind::Rewrite { .. } => None,
        };
        written.filter_map(folder).collect()
    }

    /// The names as of the last change.
    pub fn names(&self) -> &Arc<NameTable> {
        &self.names
    }

    /// What went wrong so far.
    pub fn stats(&self) -> &Arc<ResolverStats> {
        &self.stats
    }

    fn open(&mut self, written: &model::Namer) -> Configured {
        let asked = |source: Arc<dyn Source>| {
            let labels = written.kind.asked_labels().unwrap_or_default();
            Box::new(AskedNamer::new(written.prefix.clone(), labels, source)) as Box<dyn Namer>
        };
        let namer = match &written.kind {
            model::NamerKind::Consul(settings) => {
                let slots = self.registries.at(&settings.agent, CONSUL_HELD_MAX);
                asked(Arc::new(ConsulSource::new((**settings).clone(), self.dns, slots)))
            }
            model::NamerKind::DnsSrv(settings) => asked(Arc::new(SrvSource::new(settings.clone(), self.dns))),
            model::NamerKind::Fs { root_dir } => {
                Box::new(FsNamer::new(written.prefix.clone(), root_dir.clone(), Arc::clone(&self.stats)))
            }
            model::NamerKind::Rewrite { pattern, name } => {
                Box::new(RewriteNamer::new(written.prefix.clone(), pattern.clone(), name.clone()))
            }
        };
        Configured { written: Some(written.clone()), namer }
    }

    fn picture(&mut self) -> Arc<NameTable> {
        self.names = Arc::new(NameTable::of(self.namers.iter().map(|configured| &configured.namer)));
        Arc::clone(&self.names)
    }

    /// Publishes the difference between what was assigned and what the namers say now.
    fn apply(&mut self) {
        let now_ms = self.now_ms();
        let mut wanted = HashMap::new();
        for Configured { namer, .. } in &self.namers {
            let root = Path::from_labels(["#"]).unwrap_or_default().join(namer.prefix());
            // Later namers are asked first, so what they say of a name stands.
            namer.each(&mut |name, content| drop(wanted.insert(root.join(name), content.clone())));
        }
        let before = std::mem::replace(&mut self.assigned, wanted);
        for id in before.keys().filter(|id| !self.assigned.contains_key(*id)) {
            untrack(&mut self.tracked, &mut self.hosts, &(id.clone(), false));
            self.table.configured(id).publish(Addresses::Neg);
        }
        let assigned = std::mem::take(&mut self.assigned);
        for (id, content) in assigned.iter().filter(|(id, content)| before.get(*id) != Some(content)) {
            let cluster = self.table.configured(id);
            match content {
                Content::Absent(why) => cluster.publish(Addresses::Absent(Arc::clone(why))),
                Content::Failed(why) => {
                    untrack(&mut self.tracked, &mut self.hosts, &(id.clone(), false));
                    cluster.publish(Addresses::Failed(Arc::clone(why)));
                }
                Content::Targets(targets) => self.track(&cluster, Arc::clone(targets), now_ms),
            }
        }
        self.assigned = assigned;
        self.table.prune_written(|id| self.assigned.contains_key(id));
    }

    /// Judges the addresses of names made by requests anew if other networks are allowed now.
    fn set_egress(&mut self, egress: &model::Egress) {
        if self.allow == egress.allow {
            return;
        }
        self.allow.clone_from(&egress.allow);
        self.table.set_allowed(&self.allow);
        for cluster in self.table.list().into_iter().filter(|cluster| cluster.from_request) {
            if is_remote(&cluster.id) {
                self.watches.stop(&cluster.id);
                self.watch(&cluster);
            } else if self.tracked.contains_key(&(cluster.id.clone(), true)) {
                self.publish(&cluster);
            } else if let (addresses, false) = inet::first_addresses(&cluster.id, Some(&self.allow)) {
                cluster.publish(addresses);
            }
        }
    }

    /// Fills a cluster from targets and keeps it fresh.
    fn track(&mut self, cluster: &Arc<Cluster>, targets: Arc<[Target]>, now_ms: u64) {
        let user = (cluster.id.clone(), cluster.from_request);
        let dns_names: HashSet<Arc<str>> = targets.iter().filter_map(Target::dns_name).map(Arc::from).collect();
        for name in &dns_names {
            self.hosts.add(name, &user, now_ms);
        }
        // New names before old ones go, so that a name in both keeps what it knows.
        if let Some(before) = self.tracked.remove(&user) {
            before.dns_names.difference(&dns_names).for_each(|name| self.hosts.remove(name, &user));
        }
        if dns_names.is_empty() {
            cluster.publish(self.compose(&targets, cluster.from_request));
            return;
        }
        self.tracked.insert(user, Tracked { cluster: Arc::downgrade(cluster), targets, dns_names });
        self.publish(cluster);
        self.sweep();
    }

    /// Forgets clusters that no longer exist, each time their number has doubled.
    fn sweep(&mut self) {
        if self.tracked.len() < self.sweep_at {
            return;
        }
        let gone = self.tracked.iter().filter(|(_, tracked)| tracked.cluster.strong_count() == 0);
        let gone: Vec<User> = gone.map(|(user, _)| user.clone()).collect();
        for user in &gone {
            untrack(&mut self.tracked, &mut self.hosts, user);
        }
        self.sweep_at = (self.tracked.len() * 2).max(SWEEP_MIN);
    }

    /// Takes in every wake that waits.
    fn wake_all(&mut self, first: Weak<Cluster>) {
        let now_ms = self.now_ms();
        self.wake(&first, now_ms);
        for _ in 1..WAKES_MAX {
            let Ok(cluster) = self.wakes.try_recv() else { break };
            self.wake(&cluster, now_ms);
        }
        for cluster in self.table.missed() {
            self.wake(&cluster, now_ms);
        }
    }

    fn wake(&mut self, cluster: &Weak<Cluster>, now_ms: u64) {
        let Some(cluster) = cluster.upgrade() else { return };
        if self.watch(&cluster) {
            return;
        }
        let tracked = self.tracked.get(&(cluster.id.clone(), cluster.from_request));
        let targets = tracked.map(|tracked| Arc::clone(&tracked.targets));
        let written = || inet::target(&cluster.id).and_then(Result::ok).map(|target| Arc::from([target]));
        if let Some(targets) = targets.or_else(written) {
            self.track(&cluster, targets, now_ms);
        }
    }

    /// Asks for names whose time has come, as many as may be in flight.
    fn start_due(&mut self) {
        let now_ms = self.now_ms();
        while self.lookups.len() < LOOKUPS_MAX {
            let Some(name) = self.hosts.take_due(now_ms) else { return };
            if !self.is_used(&name) {
                self.hosts.rest(&name);
                continue;
            }
            let client = self.client();
            let asked = Arc::clone(&name);
            let lookup = self.lookups.spawn(async move {
                match client {
                    Ok(client) => client.ask(&asked).await,
                    Err(why) => Answer::none(&Family::Failed(why)),
                }
            });
            self.asked.insert(lookup.id(), name);
            self.stats.dns_lookups.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Does anybody hold a cluster with this name? If not, all of them fall asleep.
    fn is_used(&self, name: &str) -> bool {
        let clusters = || self.hosts.users(name).filter_map(|user| Some(&self.tracked.get(user)?.cluster));
        // One that is bound in this moment does not fall asleep, and then the name goes on for all.
        clusters().any(Cluster::in_use) || clusters().any(|cluster| !Cluster::fall_asleep(cluster))
    }

    /// The client, made on first use so that it lives in the runtime that drives it.
    fn client(&mut self) -> Result<DnsClient, Arc<str>> {
        if self.client.is_none() {
            let made = DnsClient::new(self.dns).map_err(|error| format!("DNS settings of the system: {error}"))?;
            self.client = Some(made);
        }
        self.client.clone().ok_or_else(|| "no DNS client".into())
    }

    fn take_answer(&mut self, answered: Result<(Id, Answer), JoinError>) {
        let (id, answer) = match answered {
            Ok(answered) => answered,
            Err(error) => (error.id(), Answer::none(&Family::Failed("the DNS lookup broke off".into()))),
        };
        let Some(name) = self.asked.remove(&id) else { return };
        if let (Family::Failed(why) | Family::Nothing(why), Family::Failed(_) | Family::Nothing(_)) =
            (&answer.v4, &answer.v6)
        {
            self.stats.dns_failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(host = %name, error = %why, "no addresses from DNS");
        }
        let now_ms = self.now_ms();
        if !self.hosts.answered(&name, answer, now_ms) {
            return;
        }
        let users = self.hosts.users(&name).filter_map(|user| self.tracked.get(user)?.cluster.upgrade());
        users.for_each(|cluster| self.publish(&cluster));
    }

    /// Publishes what is known of a cluster with DNS names. Until something is known, older addresses serve.
    fn publish(&self, cluster: &Cluster) {
        let Some(tracked) = self.tracked.get(&(cluster.id.clone(), cluster.from_request)) else { return };
        let addresses = self.compose(&tracked.targets, cluster.from_request);
        let serves = matches!(cluster.addresses().load().addresses, Addresses::Bound(_));
        if serves && addresses == Addresses::Pending {
            return;
        }
        cluster.publish(addresses);
    }

    fn compose(&self, targets: &[Target], from_request: bool) -> Addresses {
        compose(targets, |name| self.hosts.known(name), from_request.then_some(&self.allow))
    }

    /// The runtime's clock, which tests can pause.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, tracked, hosts, watches, .. } = self;
        let (tracked, hosts, watches) = (tracked.len(), hosts.len(), watches.len());
        write!(f, "Resolver of {names:?}: {tracked} clusters with {hosts} DNS names, {watches} watches")
    }
}

fn untrack(tracked: &mut HashMap<User, Tracked>, hosts: &mut Hosts, user: &User) {
    let Some(before) = tracked.remove(user) else { return };
    before.dns_names.iter().for_each(|name| hosts.remove(name, user));
}

/// Clusters that may wait to be woken; beyond, names made by requests are refused and written ones looked for.
pub const WAKES_MAX: usize = 1_024;
/// Tracked clusters before the first sweep.
const SWEEP_MIN: usize = 1_024;

#[cfg(test)]
mod tests;
