//! The part of the resolver that looks after names that must be asked for one by one.

use std::sync::{Arc, Weak};

use serin_config::dtab::Path;
use serin_config::model;
use tokio::time::Instant;

use super::namerd::NamerdSource;
use super::names::Content;
use super::watches::{News, Source};
use super::{Configured, NAMERD_HELD_MAX, Remote, Resolver, is_remote, untrack};
use crate::endpoints::{Addresses, Cluster};

impl Resolver {
    /// Takes in who binds for which router. Those that stay keep what they know.
    pub fn interpret(&mut self, routers: &[model::Router]) {
        let mut old = std::mem::take(&mut self.remotes);
        for namerd in routers.iter().filter_map(|router| router.interpreter.namerd()) {
            let prefix = Remote::new(namerd).prefix().clone();
            if self.remotes.iter().any(|(known, _)| *known == prefix) {
                continue;
            }
            let kept = old.iter().position(|(known, source)| *known == prefix && source.settings() == namerd);
            let slots = self.registries.at(&namerd.at, NAMERD_HELD_MAX);
            let fresh = || (prefix.clone(), Arc::new(NamerdSource::new(namerd.clone(), self.dns, slots)));
            let remote = kept.map_or_else(fresh, |index| old.swap_remove(index));
            self.remotes.push(remote);
        }
        // those that are gone, or are asked in another way from now on
        let stopped = self.watches.stop_all(|id| old.iter().any(|(prefix, _)| id.starts_with(prefix)));
        for cluster in stopped.iter().filter_map(Weak::upgrade) {
            self.watch(&cluster);
        }
    }

    /// Tells the table which names are asked for, and ends the watches of namers that are gone or other than before.
    pub(super) fn set_asked(&mut self, before: &[(Path, Arc<dyn Source>)]) {
        let now = asked_prefixes(&self.namers);
        self.table.set_asked(now.iter().map(|(prefix, _)| prefix.clone()).collect());
        let same = |(prefix, source): &(Path, Arc<dyn Source>)| {
            now.iter().any(|(kept, other)| kept == prefix && Arc::ptr_eq(source, other))
        };
        let gone: Vec<&Path> = before.iter().filter(|old| !same(old)).map(|(prefix, _)| prefix).collect();
        let stopped = self.watches.stop_all(|id| gone.iter().any(|prefix| id.starts_with(prefix)));
        for cluster in stopped.iter().filter_map(Weak::upgrade) {
            untrack(&mut self.tracked, &mut self.hosts, &(cluster.id.clone(), false));
            // what it had serves until the namer that has the prefix now says otherwise
            self.watch(&cluster);
        }
    }

    /// Has the namer of a name watch it; says whether it has one that must.
    pub(super) fn watch(&mut self, cluster: &Arc<Cluster>) -> bool {
        if is_remote(&cluster.id) {
            let asked = self.remotes.iter().find(|(prefix, _)| cluster.id.starts_with(prefix));
            if let Some((prefix, source)) = asked {
                let source: Arc<dyn Source> = Arc::clone(source) as _;
                self.watches.start(cluster, &source, cluster.id.skip(prefix.len()));
            }
            return true;
        }
        let asked = self.namers.iter().rev().find_map(|Configured { namer, .. }| {
            let source = namer.source()?;
            let name = cluster.id.label(0).filter(|first| *first == b"#").map(|_| cluster.id.skip(1))?;
            name.starts_with(namer.prefix()).then(|| (source, name.skip(namer.prefix().len())))
        });
        let Some((source, name)) = asked else { return false };
        self.watches.start(cluster, &source, name);
        true
    }

    /// Takes in what a watch learned.
    pub(super) fn take_news(&mut self, cluster: &Arc<Cluster>, News { content, authority, tree }: News) {
        if let Some(tree) = tree {
            cluster.publish_tree(tree);
            return;
        }
        cluster.set_authority(authority);
        match content {
            Content::Absent(why) => {
                untrack(&mut self.tracked, &mut self.hosts, &(cluster.id.clone(), cluster.from_request));
                cluster.publish(Addresses::Absent(why));
            }
            Content::Failed(why) => {
                untrack(&mut self.tracked, &mut self.hosts, &(cluster.id.clone(), cluster.from_request));
                cluster.publish(Addresses::Failed(why));
            }
            Content::Targets(targets) => self.track(cluster, targets, self.now_ms()),
        }
    }

    /// Names that nobody uses any more are unknown again: what was true of them once may not be when they are next used.
    pub(super) fn look_at_watches(&mut self) {
        if self.watches.look_at().is_none_or(|at| Instant::now() < at) {
            return;
        }
        for (id, cluster) in self.watches.look() {
            untrack(&mut self.tracked, &mut self.hosts, &(id.clone(), false));
            untrack(&mut self.tracked, &mut self.hosts, &(id, true));
            if let Some(cluster) = cluster {
                cluster.publish(Addresses::Pending);
            }
        }
        // one that somebody looks at right now is forgotten the next time
        self.watches.look_on(self.table.forget_asked());
        for cluster in self.watches.broken() {
            self.watch(&cluster);
        }
    }
}

/// The namers that are asked for each name, by prefix with `#`.
pub(super) fn asked_prefixes(namers: &[Configured]) -> Vec<(Path, Arc<dyn Source>)> {
    let root = Path::from_labels(["#"]).unwrap_or_default();
    let asked = namers.iter().filter_map(|Configured { namer, .. }| Some((namer, namer.source()?)));
    asked.map(|(namer, source)| (root.join(namer.prefix()), source)).collect()
}
