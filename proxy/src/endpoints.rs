//! Bound names and their addresses.
//!
//! Binding ends at a name; where that name is reached changes on its own. So a [`Cluster`] is shared between the control
//! thread, which fills it, and the workers, which read it: its address set is one pointer, and a new endpoint rebuilds no
//! snapshot. The [`EndpointTable`] is touched when names are bound, by the control thread and by admin, never for each
//! request.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::DashMap;
use http::HeaderValue;
use ipnet::IpNet;
use serin_config::dtab::{NameTree, Path};
use tokio::sync::{Notify, mpsc};

use crate::resolve::{REMOTE_LABELS, RemoteLeaf, inet, is_made, is_remote};
use evicting::Evicting;
use sources::Sources;

mod address;
mod evicting;
mod sources;
mod spoken;

pub(crate) use sources::network;

pub use address::{Address, AddressSet, Addresses, Place};
pub use spoken::Spoken;

/// A bound name: interchangeable addresses behind one pointer. One value for each (id, made by a request?) as long as
/// anybody holds it.
pub struct Cluster {
    /// The bound id, such as `/#/clusters/world-v1` or `/$/inet/web.test/80`.
    pub id: Path,
    /// Was the name made by a request? Then its addresses have passed [`crate::egress::permitted`].
    pub from_request: bool,
    set: ArcSwap<AddressSet>,
    settled: Notify,
    /// What `Host` requests to it carry, where the namer says so.
    authority: ArcSwapOption<HeaderValue>,
    told: ArcSwapOption<Told>,
    /// What a name is bound to, where somebody else binds.
    tree: ArcSwapOption<NameTree<RemoteLeaf>>,
    bound_at_ms: AtomicU64,
    /// The resolver looks at the name no more until it is bound again.
    asleep: AtomicBool,
    /// Which versions of HTTP it has answered in.
    pub spoken: Arc<Spoken>,
}

impl Cluster {
    fn new(id: Path, from_request: bool, (addresses, asleep): (Addresses, bool)) -> Arc<Self> {
        Arc::new(Self {
            id,
            from_request,
            set: ArcSwap::from_pointee(AddressSet { addresses, version: 0 }),
            settled: Notify::new(),
            authority: ArcSwapOption::empty(),
            told: ArcSwapOption::empty(),
            tree: ArcSwapOption::empty(),
            bound_at_ms: AtomicU64::new(0),
            asleep: AtomicBool::new(asleep),
            spoken: Arc::default(),
        })
    }

    /// Puts new addresses in place and wakes who waits; equal ones change nothing.
    pub(crate) fn publish(&self, addresses: Addresses) {
        let current = self.set.load();
        if current.addresses == addresses {
            return;
        }
        // The control thread is the only writer once a cluster is shared, so nothing is lost between load and store.
        self.set.store(Arc::new(AddressSet { addresses, version: current.version + 1 }));
        self.settled.notify_waiters();
    }

    /// Puts a new tree in place; each one counts as a change.
    pub(crate) fn publish_tree(&self, tree: Arc<NameTree<RemoteLeaf>>) {
        self.tree.store(Some(tree));
        let version = self.set.load().version + 1;
        self.set.store(Arc::new(AddressSet { addresses: Addresses::Bound(Arc::default()), version }));
        self.settled.notify_waiters();
    }

    /// What the name is bound to, if somebody else binds and has said so.
    pub fn tree(&self) -> Option<Arc<NameTree<RemoteLeaf>>> {
        self.tree.load_full()
    }

    /// Requests carry this `Host` from the next change of addresses on.
    pub(crate) fn set_authority(&self, authority: Option<HeaderValue>) {
        if self.authority.load().as_deref() != authority.as_ref() {
            self.authority.store(authority.map(Arc::new));
        }
    }

    /// What `Host` requests to it carry instead of their own.
    pub fn authority(&self) -> Option<HeaderValue> {
        self.authority.load().as_deref().cloned()
    }

    /// Notes what its namer said last.
    pub(crate) fn note(&self, told: Told) {
        self.told.store(Some(Arc::new(told)));
    }

    /// Does nobody look after it, because nobody uses it.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    /// What its namer said last, if it is asked for one by one.
    pub fn told(&self) -> Option<Arc<Told>> {
        self.told.load_full()
    }

    /// Says that nobody refreshes this name any more. `false`: somebody bound it meanwhile, go on.
    pub(crate) fn fall_asleep(cluster: &Weak<Self>) -> bool {
        let Some(strong) = cluster.upgrade() else { return true };
        strong.asleep.store(true, Ordering::Relaxed);
        drop(strong);
        // Binding takes its reference and then looks at `asleep`; here it is the other way round. With a fence on both
        // sides at least one of the two sees the other.
        fence(Ordering::SeqCst);
        if !Self::in_use(cluster) {
            return true;
        }
        cluster.upgrade().is_none_or(|strong| !strong.asleep.swap(false, Ordering::Relaxed))
    }

    /// Does anybody but the table hold it?
    pub(crate) fn in_use(cluster: &Weak<Self>) -> bool {
        cluster.strong_count() > 1
    }

    /// The address set: one atomic load through a cached or guarded pointer.
    pub fn addresses(&self) -> &ArcSwap<AddressSet> {
        &self.set
    }

    /// Completes once the addresses are known in any way: no longer [`Addresses::Pending`].
    /// Any number of waiters on any thread; dropping it at any point is safe. The caller sets the deadline.
    pub async fn ready(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Listen first, look second: a change between the two is not missed.
            settled.as_mut().enable();
            if !self.is_pending() {
                return;
            }
            settled.await;
        }
    }

    /// Completes once the addresses are others than those of this version. Otherwise as [`Cluster::ready`].
    pub async fn changed_since(&self, version: u64) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.set.load().version != version {
                return;
            }
            settled.await;
        }
    }

    fn is_pending(&self) -> bool {
        matches!(self.set.load().addresses, Addresses::Pending)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (made by a request: {}) {:?}", self.id, self.from_request, self.set.load())
    }
}

/// What the namer of a name said last, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Unix time of the last answer, ms; 0: none yet.
    pub answered_at_ms: u64,
    /// Why the tries since then failed, or what the answer said of this name.
    pub error: Option<Arc<str>>,
    /// Failed tries since then.
    pub failures: u32,
    /// What the namer calls this state: the index of Consul.
    pub version: u64,
}

/// Caps of an [`EndpointTable`].
#[derive(Clone, Copy, Debug)]
pub struct TableLimits {
    /// Names made by requests that exist at once. The one bound longest ago that nobody uses gives way.
    pub made_max: usize,
    /// Names written in the configuration that exist at once.
    pub written_max: usize,
    /// Names that exist at once of namers that are asked for each name, and likewise gives way.
    pub asked_max: usize,
    /// New names one source may make within a window. A source is an IPv4 address or an IPv6 /64.
    pub new_names_max: u32,
    /// Length of that window, ms.
    pub window_ms: u64,
    /// Sources remembered; those beyond share one window.
    pub sources_max: usize,
}

impl Default for TableLimits {
    fn default() -> Self {
        Self {
            made_max: 1_000,
            asked_max: 4_000,
            written_max: 1_000_000,
            new_names_max: 64,
            window_ms: 10_000,
            sources_max: 10_000,
        }
    }
}

/// Why a name gets no cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// All places are taken by names in use.
    #[error("too many bound names: all {max} are in use")]
    Full {
        /// The cap that was met.
        max: usize,
    },
    /// The resolver is far behind.
    #[error("too many names wait for resolution")]
    ResolverBusy,
    /// One source made too many new names in a short time.
    #[error("too many new names from {source_address}: {max} within {window_ms} ms")]
    TooManyNames {
        /// Who asked.
        source_address: IpAddr,
        /// The cap that was met.
        max: u32,
        /// The window it counts in, ms.
        window_ms: u64,
    },
}

/// All bound names that exist, shared by every thread.
pub struct EndpointTable {
    made: Evicting,
    asked: Evicting,
    /// Prefixes of names that are asked for one by one, with `#` in front.
    asked_prefixes: ArcSwap<Vec<Path>>,
    written: DashMap<Path, Arc<Cluster>>,
    sources: Sources,
    allow: ArcSwap<Vec<IpNet>>,
    wakes: OnceLock<mpsc::Sender<Weak<Cluster>>>,
    wake_missed: AtomicBool,
    limits: TableLimits,
}

impl Default for EndpointTable {
    fn default() -> Self {
        Self::with_limits(TableLimits::default())
    }
}

impl EndpointTable {
    /// An empty table with its own caps.
    #[must_use]
    pub fn with_limits(limits: TableLimits) -> Self {
        Self {
            made: Evicting::new(limits.made_max),
            asked: Evicting::new(limits.asked_max),
            asked_prefixes: ArcSwap::default(),
            written: DashMap::new(),
            sources: Sources::default(),
            allow: ArcSwap::default(),
            wakes: OnceLock::new(),
            wake_missed: AtomicBool::new(false),
            limits,
        }
    }

    /// The cluster of a bound id.
    ///
    /// `from_request`: the name, or a part of it, came with a request (binding says so); `source`: whose request;
    /// `now_ms`: the clock. A name of a configured namer (`/#/...`) is never counted as made by a request: the
    /// configuration wrote its addresses, the request only chose among them.
    ///
    /// # Errors
    /// See [`EndpointError`]; a name that already exists is refused only while the resolver could not be told of it.
    pub fn get(
        &self,
        id: &Path,
        from_request: bool,
        source: Option<IpAddr>,
        now_ms: u64,
    ) -> Result<Arc<Cluster>, EndpointError> {
        let cluster = match (is_configured(id), from_request) {
            _ if is_remote(id) => self.get_asked(id, source.filter(|_| from_request), now_ms)?,
            (true, _) if self.is_asked(id) => self.get_asked(id, source.filter(|_| from_request), now_ms)?,
            (false, true) => self.get_made(id, source, now_ms)?,
            _ => self.get_written(id)?,
        };
        cluster.bound_at_ms.store(now_ms, Ordering::Relaxed);
        self.wake(&cluster)?;
        Ok(cluster)
    }

    /// The cluster of a bound id, if there is one: that of the configuration before one that a request made.
    pub fn find(&self, id: &Path) -> Option<Arc<Cluster>> {
        let written = self.written.get(id).map(|entry| Arc::clone(entry.value()));
        written.or_else(|| self.made.get(id)).or_else(|| self.asked.get(id))
    }

    /// Every cluster that exists, in order of id: for admin pages and gauges.
    pub fn list(&self) -> Vec<Arc<Cluster>> {
        let mut list: Vec<_> = self.written.iter().map(|entry| Arc::clone(entry.value())).collect();
        list.extend(self.made.list());
        list.extend(self.asked.list());
        list.sort_by(|a, b| (&a.id, a.from_request).cmp(&(&b.id, b.from_request)));
        list
    }

    /// The names that namers with a list of them have, in order.
    pub fn configured_names(&self) -> Vec<String> {
        shown(self.listed())
    }

    /// The same, with the names in use that namers were asked for and that are served somewhere.
    pub fn bound_names(&self) -> Vec<String> {
        let is_bound = |cluster: &Cluster| matches!(cluster.set.load().addresses, Addresses::Bound(_));
        let in_use = |cluster: &Arc<Cluster>| is_configured(&cluster.id) && !cluster.is_asleep() && is_bound(cluster);
        let asked = self.asked.list().into_iter().filter(in_use).map(|cluster| cluster.id.clone());
        shown(self.listed().into_iter().chain(asked).collect())
    }

    fn listed(&self) -> Vec<Path> {
        let gone = |cluster: &Cluster| matches!(cluster.set.load().addresses, Addresses::Neg);
        let there = self.written.iter().filter(|entry| is_configured(entry.key()) && !gone(entry));
        there.map(|entry| entry.key().clone()).collect()
    }

    /// Names the resolver: it hears of each name that needs it. Only the first call counts.
    pub(crate) fn attach(&self, wakes: mpsc::Sender<Weak<Cluster>>) {
        let _already_attached = self.wakes.set(wakes);
    }

    /// Sets the networks that names made by requests may reach; the resolver re-publishes what exists.
    pub(crate) fn set_allowed(&self, allow: &[IpNet]) {
        self.allow.store(Arc::new(allow.to_vec()));
    }

    /// The cluster of a name that a namer has; made where it is new.
    pub(crate) fn configured(&self, id: &Path) -> Arc<Cluster> {
        let entry = self.written.entry(id.clone());
        Arc::clone(&entry.or_insert_with(|| Cluster::new(id.clone(), false, (Addresses::Pending, false))))
    }

    /// Drops written names that nobody uses and `keep` does not want.
    pub(crate) fn prune_written(&self, keep: impl Fn(&Path) -> bool) {
        self.written.retain(|id, cluster| keep(id) || Arc::strong_count(cluster) > 1);
    }

    /// Names in use that could not be told to the resolver, once each time there are some.
    pub(crate) fn missed(&self) -> Vec<Weak<Cluster>> {
        if !self.wake_missed.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        let asleep = self.written.iter().filter(|entry| entry.asleep.swap(false, Ordering::AcqRel));
        asleep.map(|entry| Arc::downgrade(entry.value())).collect()
    }

    fn get_written(&self, id: &Path) -> Result<Arc<Cluster>, EndpointError> {
        if let Some(cluster) = self.written.get(id) {
            return Ok(Arc::clone(&cluster));
        }
        if is_configured(id) {
            // Bound by an older snapshot to a name that has gone since: nothing to keep.
            return Ok(Cluster::new(id.clone(), false, (Addresses::Neg, false)));
        }
        if self.written.len() >= self.limits.written_max {
            return Err(EndpointError::Full { max: self.limits.written_max });
        }
        let entry = self.written.entry(id.clone());
        Ok(Arc::clone(&entry.or_insert_with(|| Cluster::new(id.clone(), false, inet::first_addresses(id, None)))))
    }

    fn get_made(&self, id: &Path, source: Option<IpAddr>, now_ms: u64) -> Result<Arc<Cluster>, EndpointError> {
        if let Some(cluster) = self.made.get(id) {
            return Ok(cluster);
        }
        self.admit(source, now_ms)?;
        let fresh = || Cluster::new(id.clone(), true, inet::first_addresses(id, Some(self.allow.load().as_slice())));
        self.made.insert(id, fresh)
    }

    /// A name whose namer must be asked: nothing is known of it at first.
    fn get_asked(&self, id: &Path, source: Option<IpAddr>, now_ms: u64) -> Result<Arc<Cluster>, EndpointError> {
        if let Some(cluster) = self.asked.get(id) {
            return Ok(cluster);
        }
        // who may bind which names is limited only when places become few
        if self.asked.len() >= self.limits.asked_max / 2 {
            self.admit(source, now_ms)?;
        }
        self.asked.insert(id, || Cluster::new(id.clone(), is_made(id), (Addresses::Pending, true)))
    }

    fn admit(&self, source: Option<IpAddr>, now_ms: u64) -> Result<(), EndpointError> {
        match source {
            Some(source_address) if !self.sources.admit(source_address, now_ms, &self.limits) => {
                let TableLimits { new_names_max: max, window_ms, .. } = self.limits;
                Err(EndpointError::TooManyNames { source_address, max, window_ms })
            }
            _ => Ok(()),
        }
    }

    /// Is it a name whose namer is asked for it.
    pub fn is_asked(&self, id: &Path) -> bool {
        is_remote(id) || self.asked_prefixes.load().iter().any(|prefix| id.starts_with(prefix))
    }

    /// The prefix, with `#` or as questions for a namerd have it, of a name whose namer is asked for it.
    pub fn asked_prefix(&self, id: &Path) -> Option<Path> {
        if is_remote(id) {
            return Some(id.take(REMOTE_LABELS));
        }
        self.asked_prefixes.load().iter().find(|prefix| id.starts_with(prefix)).cloned()
    }

    /// Sets the prefixes (with `#`) whose names are asked for; names of others are gone.
    pub(crate) fn set_asked(&self, prefixes: Vec<Path>) {
        if **self.asked_prefixes.load() == prefixes {
            return;
        }
        self.asked_prefixes.store(Arc::new(prefixes));
        for cluster in self.asked.remove(|id| !self.is_asked(id)) {
            cluster.publish(Addresses::Neg);
        }
    }

    /// Forgets names that were asked for and that nobody uses. Says whether there are others.
    pub(crate) fn forget_asked(&self) -> bool {
        self.asked.retain_used(Cluster::is_asleep);
        self.asked.len() > 0
    }

    /// Tells the resolver of a name that it does not look after.
    fn wake(&self, cluster: &Arc<Cluster>) -> Result<(), EndpointError> {
        fence(Ordering::SeqCst); // pairs with `fall_asleep`
        let Some(wakes) = self.wakes.get() else { return Ok(()) };
        if !cluster.asleep.load(Ordering::Relaxed) || !cluster.asleep.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        if wakes.try_send(Arc::downgrade(cluster)).is_ok() {
            return Ok(());
        }
        cluster.asleep.store(true, Ordering::Release);
        if !cluster.from_request && !self.is_asked(&cluster.id) {
            // There are only as many as the configuration wrote: the resolver comes for them when it has caught up.
            // The second try is for the case that it did so between the first one and the note.
            self.wake_missed.store(true, Ordering::Release);
            let _noted = wakes.try_send(Arc::downgrade(cluster));
            return Ok(());
        }
        // Old addresses serve until the next try; a name without any is refused.
        if cluster.is_pending() { Err(EndpointError::ResolverBusy) } else { Ok(()) }
    }
}

impl fmt::Debug for EndpointTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointTable").field("made", &self.made.len()).field("written", &self.written.len()).finish()
    }
}

/// In order, each once.
fn shown(mut names: Vec<Path>) -> Vec<String> {
    names.sort();
    names.dedup();
    names.iter().map(ToString::to_string).collect()
}

/// Is it a name of a configured namer?
fn is_configured(id: &Path) -> bool {
    id.labels().next() == Some(b"#".as_slice())
}

#[cfg(test)]
mod tests;
