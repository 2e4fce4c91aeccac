//! Names that their namer must be asked for, one by one: watched while somebody uses them, and no longer.
//!
//! ```text
//!            bound                    the namer answers
//!  (unknown) ─────▶ watched, pending ───────────────────▶ watched, known
//!      ▲                 nobody holds it any more           │
//!      └──────────────────────◀─────────────────────────────┘
//! ```
//!
//! Each watch is a task of the control thread's runtime. It tells what it learns through a bounded channel, so a
//! registry that talks fast is read slowly.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;
use serin_config::dtab::{NameTree, Path};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::namerd::RemoteLeaf;
use super::names::Content;
use crate::clock;
use crate::endpoints::{Cluster, Told};

/// The life of a watch: it ends when it is dropped.
pub(super) type Watching = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A namer that is asked for each name.
pub(super) trait Source: Send + Sync {
    /// Watches the name behind the namer's prefix and tells what it learns, for ever.
    fn watch(self: Arc<Self>, name: Path, teller: Teller) -> Watching;
}

/// What a watch learned.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct News {
    /// Where the name is served.
    pub(super) content: Content,
    /// The `Host` of requests to it.
    pub(super) authority: Option<HeaderValue>,
    /// What the name is bound to, where somebody else binds.
    pub(super) tree: Option<Arc<NameTree<RemoteLeaf>>>,
}

/// The name, the number of the watch, and what it learned.
type Heard = (Path, u64, News);

/// How a watch tells what it learned.
pub(super) struct Teller {
    cluster: Weak<Cluster>,
    number: u64,
    news: mpsc::Sender<Heard>,
    last: Option<News>,
    outage: Arc<Outage>,
    /// Counted in the outage.
    failing: bool,
}

/// How many names of one namer have no answer now. The first and the last of them are told in the log.
struct Outage {
    namer: Path,
    names: AtomicUsize,
}

impl Outage {
    /// Says whether it begins.
    fn enter(&self, why: &str) -> bool {
        let begins = self.names.fetch_add(1, Ordering::Relaxed) == 0;
        if begins {
            tracing::warn!(namer = %self.namer.skip(1), error = why, "a namer does not answer; names keep their last good state");
        }
        begins
    }

    /// Says whether it is over.
    fn leave(&self) -> bool {
        self.names.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.failing {
            self.outage.leave();
        }
    }
}

impl Teller {
    /// A good answer: equal ones are told once. `version` is what the namer calls this state.
    pub(super) async fn tell(&mut self, news: News, version: u64) {
        let told = Told { answered_at_ms: clock::unix_ms(), error: None, failures: 0, version };
        self.answers();
        let Some(id) = self.note(told) else { return };
        if self.last.as_ref() == Some(&news) {
            return;
        }
        self.last = Some(news.clone());
        // the receiver goes only with the resolver, and this task with it
        let _gone = self.news.send((id, self.number, news)).await;
    }

    /// The namer has said why it has nothing for this name. It answers, so this is no outage: any client can ask for what
    /// a namer refuses. The last good answer stays; a name that never had one is absent, for this reason.
    pub(super) async fn refuse(&mut self, why: Arc<str>) {
        self.answers();
        let Some(cluster) = self.cluster.upgrade() else { return };
        let before = cluster.told().unwrap_or_default();
        drop(cluster);
        tracing::debug!(error = %why, "a namer has nothing for a name; its last good state stays, if it had any");
        let told =
            Told { error: Some(Arc::clone(&why)), answered_at_ms: clock::unix_ms(), failures: 0, ..(*before).clone() };
        let Some(id) = self.note(told) else { return };
        self.last.take_if(|news| !news.is_there());
        if self.last.is_none() {
            let _gone = self.news.send((id, self.number, News::absent(why))).await;
        }
    }

    fn answers(&mut self) {
        if std::mem::take(&mut self.failing) && self.outage.leave() {
            tracing::info!(namer = %self.outage.namer.skip(1), "the namer answers again");
        }
    }

    /// No answer. The last good one stays; a name that never had one is absent until then, so that nobody waits for a
    /// registry that is down.
    pub(super) async fn fail(&mut self, why: Arc<str>) {
        let Some(cluster) = self.cluster.upgrade() else { return };
        let before = cluster.told().unwrap_or_default();
        drop(cluster);
        if !std::mem::replace(&mut self.failing, true) {
            self.outage.enter(&why);
        }
        if before.failures == 0 {
            tracing::debug!(error = %why, "no answer for a name; its last good state stays, if it had any");
        }
        let told =
            Told { error: Some(Arc::clone(&why)), failures: before.failures.saturating_add(1), ..(*before).clone() };
        let Some(id) = self.note(told) else { return };
        if self.last.is_none() {
            let _gone = self.news.send((id, self.number, News::absent(why))).await;
        }
    }

    fn note(&self, told: Told) -> Option<Path> {
        let cluster = self.cluster.upgrade()?;
        cluster.note(told);
        Some(cluster.id.clone())
    }
}

impl News {
    /// Is there such a name: addresses, or a tree that leads to some.
    pub(super) fn is_there(&self) -> bool {
        match (&self.tree, &self.content) {
            (Some(tree), _) => tree.leaves().into_iter().any(|leaf| matches!(leaf, RemoteLeaf::Name { .. })),
            (None, content) => matches!(content, Content::Targets(_)),
        }
    }

    /// There is no such name.
    pub(super) fn absent(why: Arc<str>) -> Self {
        Self { content: Content::Absent(why), authority: None, tree: None }
    }
}

/// All watches that run.
pub(super) struct Watches {
    tasks: JoinSet<()>,
    by_id: HashMap<Path, Watch>,
    /// By what all names of a namer begin with; those of namers that nobody asks any more go with the next one.
    outages: HashMap<Path, Weak<Outage>>,
    news: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
    started: u64,
    look_at: Instant,
    /// There is something to look for, besides what is watched.
    looks_on: bool,
}

struct Watch {
    cluster: Weak<Cluster>,
    number: u64,
    task: AbortHandle,
}

impl Watches {
    pub(super) fn new() -> Self {
        Self {
            tasks: JoinSet::new(),
            by_id: HashMap::new(),
            outages: HashMap::new(),
            news: mpsc::channel(NEWS_MAX),
            started: 0,
            look_at: Instant::now() + LOOK,
            looks_on: false,
        }
    }

    /// Begins to watch a name, if nobody does.
    pub(super) fn start(&mut self, cluster: &Arc<Cluster>, source: &Arc<dyn Source>, name: Path) {
        let same = |watch: &Watch| watch.cluster.as_ptr() == Arc::as_ptr(cluster) && !watch.task.is_finished();
        if self.by_id.get(&cluster.id).is_some_and(same) {
            return;
        }
        self.stop(&cluster.id);
        self.started += 1;
        let (number, weak) = (self.started, Arc::downgrade(cluster));
        let outage = self.outage(cluster.id.take(cluster.id.len().saturating_sub(name.len())));
        let news = self.news.0.clone();
        let teller = Teller { cluster: weak.clone(), number, news, last: None, outage, failing: false };
        let task = self.tasks.spawn(Arc::clone(source).watch(name, teller));
        self.by_id.insert(cluster.id.clone(), Watch { cluster: weak, number, task });
    }

    fn outage(&mut self, namer: Path) -> Arc<Outage> {
        if let Some(outage) = self.outages.get(&namer).and_then(Weak::upgrade) {
            return outage;
        }
        self.outages.retain(|_, outage| outage.strong_count() > 0);
        let outage = Arc::new(Outage { namer: namer.clone(), names: AtomicUsize::new(0) });
        self.outages.insert(namer, Arc::downgrade(&outage));
        outage
    }

    /// Ends the watch of a name.
    pub(super) fn stop(&mut self, id: &Path) {
        if let Some(watch) = self.by_id.remove(id) {
            watch.task.abort();
        }
    }

    /// Ends watches that `gone` names, and gives their clusters.
    pub(super) fn stop_all(&mut self, gone: impl Fn(&Path) -> bool) -> Vec<Weak<Cluster>> {
        let ended = self.by_id.extract_if(|id, _| gone(id));
        ended
            .map(|(_, watch)| {
                watch.task.abort();
                watch.cluster
            })
            .collect()
    }

    /// What a watch learned, and of which cluster.
    pub(super) async fn next(&mut self) -> (Arc<Cluster>, News) {
        loop {
            // a sender is kept here, so there is always one
            let Some((id, number, news)) = self.news.1.recv().await else { return std::future::pending().await };
            let watch = self.by_id.get(&id).filter(|watch| watch.number == number);
            if let Some(cluster) = watch.and_then(|watch| watch.cluster.upgrade()) {
                return (cluster, news);
            }
        }
    }

    /// When to look for names that nobody uses.
    pub(super) fn look_at(&self) -> Option<Instant> {
        (self.looks_on || !self.by_id.is_empty()).then_some(self.look_at)
    }

    /// Whether to look again although nothing is watched.
    pub(super) fn look_on(&mut self, looks_on: bool) {
        self.looks_on = looks_on;
    }

    /// Ends the watches of names that nobody uses; gives their ids, and their clusters where those still exist. A watch
    /// that broke although its name is used (it never should) is not among them: it begins anew by [`Watches::start`].
    pub(super) fn look(&mut self) -> Vec<(Path, Option<Arc<Cluster>>)> {
        while self.tasks.try_join_next().is_some() {}
        self.look_at = Instant::now() + LOOK;
        let unused = |watch: &Watch| !Cluster::in_use(&watch.cluster) && Cluster::fall_asleep(&watch.cluster);
        let ended = self.by_id.extract_if(|_, watch| unused(watch));
        let stopped = ended.map(|(id, watch)| {
            watch.task.abort();
            (id, watch.cluster.upgrade())
        });
        stopped.collect()
    }

    /// Watches that broke.
    pub(super) fn broken(&self) -> Vec<Arc<Cluster>> {
        self.by_id
            .values()
            .filter(|watch| watch.task.is_finished())
            .filter_map(|watch| watch.cluster.upgrade())
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// News that wait for the control thread; a watch that has more waits with them.
const NEWS_MAX: usize = 256;
/// Between two looks for names that nobody uses.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_with_its_first_name_and_ends_with_its_last() {
        let mut watches = Watches::new();
        let namer = Path::parse("/#/io.l5d.consul").unwrap();
        let outage = watches.outage(namer.clone());
        assert!(Arc::ptr_eq(&outage, &watches.outage(namer)), "one for all names");
        assert_eq!([outage.enter("down"), outage.enter("down")], [true, false]);
        assert_eq!([outage.leave(), outage.leave()], [false, true]);
        assert!(outage.enter("down"), "another one");
        drop(outage);
        watches.outage(Path::parse("/#/other").unwrap());
        assert_eq!(watches.outages.len(), 1, "forgotten with its last name");
    }
}
