//! Clusters of which only so many exist: a new one takes the place of the one bound longest ago that nobody uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use serin_config::dtab::Path;

use super::{Cluster, EndpointError};

/// A bounded map of clusters.
pub(super) struct Evicting {
    clusters: DashMap<Path, Arc<Cluster>>,
    count: AtomicUsize,
    max: usize,
}

impl Evicting {
    pub(super) fn new(max: usize) -> Self {
        Self { clusters: DashMap::new(), count: AtomicUsize::new(0), max }
    }

    pub(super) fn len(&self) -> usize {
        self.clusters.len()
    }

    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn get(&self, id: &Path) -> Option<Arc<Cluster>> {
        self.clusters.get(id).map(|cluster| Arc::clone(&cluster))
    }

    /// Takes a new cluster in, or gives the one that another thread has put there meanwhile.
    pub(super) fn insert(
        &self,
        id: &Path,
        fresh: impl FnOnce() -> Arc<Cluster>,
    ) -> Result<Arc<Cluster>, EndpointError> {
        self.reserve()?;
        let mut inserted = false;
        let cluster = Arc::clone(&self.clusters.entry(id.clone()).or_insert_with(|| {
            inserted = true;
            fresh()
        }));
        if !inserted {
            // Another thread was faster; its reservation stands for both.
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(cluster)
    }

    pub(super) fn list(&self) -> Vec<Arc<Cluster>> {
        self.clusters.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// Takes out what `gone` says.
    pub(super) fn remove(&self, gone: impl Fn(&Path) -> bool) -> Vec<Arc<Cluster>> {
        let ids: Vec<Path> = self.clusters.iter().map(|entry| entry.key().clone()).filter(|id| gone(id)).collect();
        let removed: Vec<_> =
            ids.iter().filter_map(|id| self.clusters.remove(id)).map(|(_, cluster)| cluster).collect();
        self.count.fetch_sub(removed.len(), Ordering::Relaxed);
        removed
    }

    /// Takes out what nobody uses, of what `idle` says.
    pub(super) fn retain_used(&self, idle: impl Fn(&Cluster) -> bool) {
        self.clusters.retain(|_, cluster| {
            let gone = Arc::strong_count(cluster) == 1 && idle(cluster);
            self.count.fetch_sub(usize::from(gone), Ordering::Relaxed);
            !gone
        });
    }

    /// Takes one of the `max` places, where needed from the name bound longest ago that nobody uses.
    fn reserve(&self) -> Result<(), EndpointError> {
        let below = |count: usize| (count < self.max).then_some(count + 1);
        if self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).is_ok() {
            return Ok(());
        }
        // Another thread may take the victim into use or evict it first; a few tries are enough.
        for _ in 0..EVICTION_TRIES {
            let unused = self.clusters.iter().filter(|entry| Arc::strong_count(entry.value()) == 1);
            let oldest = unused.min_by_key(|entry| entry.bound_at_ms.load(Ordering::Relaxed));
            let Some(victim) = oldest.map(|entry| entry.key().clone()) else { break };
            if self.clusters.remove_if(&victim, |_, cluster| Arc::strong_count(cluster) == 1).is_some() {
                return Ok(()); // its place is ours
            }
        }
        Err(EndpointError::Full { max: self.max })
    }
}

/// Tries to find a name to evict before the table counts as full.
const EVICTION_TRIES: usize = 4;
