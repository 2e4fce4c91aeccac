//! What names are: bound trees, addresses and explanations, right now and as they change.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use serin_config::dtab::{
    self, BindError, Bound, Branch, Delegation, Dtab, Explained, Layers, Limits, NameTree, Path, Settled, Table, Union,
    Weight,
};
use tokio::sync::watch;

use super::answer;
use super::stream::Watched;
use crate::admin::delegation::{self, Addr, Node};
use crate::clock;
use crate::dtabs::Dtabs;
use crate::endpoints::{Addresses, Cluster, EndpointTable};
use crate::resolve::inet;
use crate::snapshot::{Phase, World};

/// Indexed dtabs that are kept for the next question.
const TABLES_MAX: usize = 16;

/// Where answers are found.
#[derive(Debug)]
pub(super) struct Book {
    world: Arc<World>,
    endpoints: Arc<EndpointTable>,
    dtabs: Arc<Dtabs>,
    /// Newest first. The lock is held for moments, on the thread of this API.
    tables: Mutex<VecDeque<Arc<Table>>>,
}

/// What is asked: a name, bound with a stored dtab and what is said besides, which is tried first.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) namespace: Option<String>,
    pub(super) path: Path,
    pub(super) extra: Dtab,
    /// Who asks.
    pub(super) peer: IpAddr,
}

/// What a name is bound to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Binding {
    Ready(NameTree<Bound>),
    Pending,
    Failed(String),
}

impl Book {
    pub(super) fn new(world: Arc<World>, endpoints: Arc<EndpointTable>, dtabs: Arc<Dtabs>) -> Self {
        Self { world, endpoints, dtabs, tables: Mutex::default() }
    }

    pub(super) fn dtabs(&self) -> &Arc<Dtabs> {
        &self.dtabs
    }

    /// Hears of everything a binding depends on.
    pub(super) fn news(&self) -> News {
        News { dtabs: self.dtabs.subscribe(), world: self.world.subscribe() }
    }

    /// What a name is bound to; `held` gets the names whose existence that depends on.
    fn bind(&self, question: &Question, held: &mut Held) -> Binding {
        let table = self.table(question.namespace.as_deref());
        let layers = Layers { base: &table, written: &[&question.extra], sent: &[] };
        let snapshot = self.world.load();
        let tree = dtab::bind(&layers, &*snapshot.structure.names, &question.path, &Limits::default());
        match dtab::settled(&self.as_it_is(&tree, question.peer, held)) {
            Settled::Error(error) => Binding::Failed(error.to_string()),
            Settled::Pending => Binding::Pending,
            Settled::Tree(tree) => Binding::Ready(tree),
        }
    }

    /// A name of a namer exists as long as the namer says so: one that it does not have is `~`, one that it is still asked
    /// for is waited for.
    fn as_it_is(&self, tree: &NameTree<Bound>, peer: IpAddr, held: &mut Held) -> NameTree<Bound> {
        match tree {
            NameTree::Leaf(Bound::Name { id, .. }) if id.label(0) == Some(b"#") => {
                let place = self.place(id, peer);
                let (addresses, version) = place.now();
                if let Place::Moving(cluster) = place {
                    held.0.push((cluster, version));
                }
                match addresses {
                    Addresses::Absent(_) | Addresses::Neg => NameTree::Neg,
                    Addresses::Pending => NameTree::Leaf(Bound::Pending),
                    Addresses::Bound(_) | Addresses::Failed(_) => tree.clone(),
                }
            }
            NameTree::Alt(children) => {
                NameTree::Alt(children.iter().map(|child| self.as_it_is(child, peer, held)).collect())
            }
            NameTree::Union(union) => {
                let branch = |branch: &Branch<Bound>| Branch {
                    weight: branch.weight,
                    index: branch.index,
                    tree: self.as_it_is(&branch.tree, peer, held),
                };
                NameTree::Union(Union { split: union.split, branches: union.branches.iter().map(branch).collect() })
            }
            NameTree::Leaf(_) | NameTree::Neg | NameTree::Fail | NameTree::Empty => tree.clone(),
        }
    }

    /// Every way of a name. `None`: a namer does not know yet.
    pub(super) fn delegate(&self, question: &Question) -> Result<Option<Node>, BindError> {
        let table = self.table(question.namespace.as_deref());
        let layers = Layers { base: &table, written: &[&question.extra], sent: &[] };
        let snapshot = self.world.load();
        let found = dtab::explain(&layers, &*snapshot.structure.names, &question.path, &Limits::default())?;
        let node = (!is_pending(&found)).then(|| delegation::node(found, &|id| self.known(id, question.peer)));
        Ok(node)
    }

    pub(super) fn tree(&self, tree: &NameTree<Bound>, peer: IpAddr) -> Node {
        delegation::bound(tree, &|id| self.known(id, peer))
    }

    fn known(&self, id: &Path, peer: IpAddr) -> Addr {
        self.place(id, peer).told()
    }

    /// Where a concrete name is served. Names that only a request could have made count as such: so many of them, from so
    /// many sources, as for requests.
    pub(super) fn place(&self, id: &Path, peer: IpAddr) -> Place {
        let id = &without_transformers(id);
        let from_request = match id.label(0) {
            Some(b"#") => false,
            Some(b"$") => {
                let (first, needs_dns) = inet::first_addresses(id, None);
                if !needs_dns {
                    return Place::Fixed(first);
                }
                self.endpoints.find(id).is_none_or(|cluster| cluster.from_request)
            }
            _ => return Place::Fixed(Addresses::Neg),
        };
        match self.endpoints.get(id, from_request, Some(peer), clock::now_ms()) {
            Ok(cluster) => Place::Moving(cluster),
            Err(error) => Place::Fixed(Addresses::Failed(error.to_string().into())),
        }
    }

    pub(super) fn bound_names(&self) -> Vec<String> {
        self.endpoints.configured_names()
    }

    /// The stored dtab with its index. A namespace that is not there is an empty one.
    fn table(&self, namespace: Option<&str>) -> Arc<Table> {
        let view = self.dtabs.view();
        let Some(dtab) = namespace.and_then(|namespace| view.namespaces.dtab(namespace)) else {
            return Arc::new(Table::new(Arc::default()));
        };
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.iter().find(|table| Arc::ptr_eq(table.dtab(), dtab)) {
            return Arc::clone(table);
        }
        let table = Arc::new(Table::new(Arc::clone(dtab)));
        tables.truncate(TABLES_MAX - 1);
        tables.push_front(Arc::clone(&table));
        table
    }
}

/// A concrete name behind transformers is what stands behind them.
pub(super) fn without_transformers(id: &Path) -> Path {
    match id.label(0) {
        Some(b"%") => {
            let at = id.labels().position(|label| label == b"#" || label == b"$");
            id.skip(at.unwrap_or(id.len()))
        }
        _ => id.clone(),
    }
}

fn is_pending(found: &Delegation) -> bool {
    match &found.is {
        Explained::Pending => true,
        Explained::Alt(children) => children.iter().any(is_pending),
        Explained::Delegate(child) => is_pending(child),
        Explained::Union(branches) => branches.iter().any(|(_, child)| is_pending(child)),
        Explained::Empty | Explained::Exception(_) | Explained::Fail | Explained::Leaf { .. } | Explained::Neg => false,
    }
}

/// The addresses of a name.
#[derive(Debug)]
pub(super) enum Place {
    Fixed(Addresses),
    Moving(Arc<Cluster>),
}

impl Place {
    /// What is known, and a number that tells it from what comes later.
    pub(super) fn now(&self) -> (Addresses, u64) {
        match self {
            Self::Fixed(addresses) => (addresses.clone(), 0),
            Self::Moving(cluster) => {
                let set = cluster.addresses().load();
                (set.addresses.clone(), set.version)
            }
        }
    }

    /// What peers are told of it.
    pub(super) fn told(&self) -> Addr {
        let authority = match self {
            Self::Fixed(_) => None,
            Self::Moving(cluster) => cluster.authority(),
        };
        Addr::for_peers(&self.now().0, authority.as_ref())
    }

    /// Completes once something is known.
    pub(super) async fn ready(&self) {
        if let Self::Moving(cluster) = self {
            cluster.ready().await;
        }
    }

    async fn changed_since(&self, version: u64) {
        match self {
            Self::Fixed(_) => std::future::pending().await,
            Self::Moving(cluster) => cluster.changed_since(version).await,
        }
    }
}

/// Hears of changes of dtabs and of what namers know.
#[derive(Debug)]
pub(super) struct News {
    dtabs: watch::Receiver<u64>,
    world: watch::Receiver<(u64, Phase)>,
}

impl News {
    /// What changed until now is known; to be called before it is looked at.
    pub(super) fn seen(&mut self) {
        self.dtabs.mark_unchanged();
        self.world.mark_unchanged();
    }

    /// Completes when something changed since. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let over = tokio::select! {
            changed = self.dtabs.changed() => changed.is_err(),
            changed = self.world.changed() => changed.is_err(),
        };
        if over {
            std::future::pending().await
        }
    }
}

/// Names that a binding depends on, as they were when it was made.
#[derive(Debug, Default)]
struct Held(Vec<(Arc<Cluster>, u64)>);

impl Held {
    /// Completes when one of them is not as it was. Cancel safe.
    async fn changed(&self) {
        let wait = |(cluster, version): &(Arc<Cluster>, u64)| {
            let (cluster, version) = (Arc::clone(cluster), *version);
            Box::pin(async move { cluster.changed_since(version).await })
        };
        let mut waits: Vec<_> = self.0.iter().map(wait).collect();
        std::future::poll_fn(|cx| {
            let any = waits.iter_mut().any(|wait| wait.as_mut().poll(cx).is_ready());
            if any { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}

/// A question that is asked again and again.
pub(super) struct Look {
    pub(super) book: Arc<Book>,
    pub(super) question: Question,
    news: News,
    held: Held,
}

impl Look {
    pub(super) fn new(book: Arc<Book>, question: Question) -> Self {
        let news = book.news();
        Self { book, question, news, held: Held::default() }
    }

    pub(super) fn bind(&mut self) -> Binding {
        self.news.seen();
        let mut held = Held::default();
        let binding = self.book.bind(&self.question, &mut held);
        self.held = held;
        binding
    }

    /// Completes when [`Look::bind`] may say something else. Cancel safe.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            () = self.news.changed() => {}
            () = self.held.changed() => {}
        }
    }
}

/// Watches what a name is bound to. Addresses are looked at when the tree is another; they have watches of their own.
pub(super) struct BindWatch {
    pub(super) look: Look,
    pub(super) last: Option<(NameTree<Bound>, String)>,
}

impl Watched for BindWatch {
    fn document(&mut self) -> Result<Option<String>, String> {
        match self.look.bind() {
            Binding::Failed(why) => Err(why),
            Binding::Pending => Ok(None),
            Binding::Ready(tree) => {
                if self.last.as_ref().is_none_or(|(last, _)| *last != tree) {
                    let line = answer::line(&self.look.book.tree(&tree, self.look.question.peer));
                    self.last = Some((tree, line));
                }
                Ok(self.last.as_ref().map(|(_, line)| line.clone()))
            }
        }
    }

    async fn changed(&mut self) {
        self.look.changed().await;
    }
}

/// Whose addresses are watched.
pub(super) enum Whose {
    /// Those of a concrete name.
    Id(Path),
    /// Those of what a name is bound to: of a union one branch, drawn anew when the tree changes.
    Name { bound: Option<NameTree<Bound>>, id: Option<Path> },
}

/// Watches addresses.
pub(super) struct AddrWatch {
    look: Look,
    whose: Whose,
    place: (Place, u64),
}

impl AddrWatch {
    pub(super) fn new(book: Arc<Book>, question: Question, whose: Whose) -> Self {
        Self { look: Look::new(book, question), whose, place: (Place::Fixed(Addresses::Pending), 0) }
    }

    /// The concrete name now; `None`: there is none, for this reason or because it is not known yet.
    fn id(&mut self) -> Result<Option<Path>, Option<String>> {
        let (bound, id) = match &mut self.whose {
            Whose::Id(id) => return Ok(Some(id.clone())),
            Whose::Name { bound, id } => (bound, id),
        };
        match self.look.bind() {
            Binding::Failed(why) => Err(Some(why)),
            Binding::Pending => Err(None),
            Binding::Ready(tree) => {
                if bound.as_ref() != Some(&tree) {
                    *id = drawn(&tree);
                    *bound = Some(tree);
                }
                Ok(id.clone())
            }
        }
    }
}

impl Watched for AddrWatch {
    fn document(&mut self) -> Result<Option<String>, String> {
        self.look.news.seen();
        let place = match self.id() {
            Err(Some(why)) => return Err(why),
            Err(None) => Place::Fixed(Addresses::Pending),
            Ok(None) => Place::Fixed(Addresses::Neg),
            Ok(Some(id)) => self.look.book.place(&id, self.look.question.peer),
        };
        // the version before what is told: what comes in between is told again
        let (addresses, version) = place.now();
        let line = (addresses != Addresses::Pending).then(|| answer::line(&place.told()));
        self.place = (place, version);
        Ok(line)
    }

    async fn changed(&mut self) {
        let (place, version) = &self.place;
        tokio::select! {
            () = self.look.changed() => {}
            () = place.changed_since(*version) => {}
        }
    }
}

/// One name of a bound tree: of a union one branch by chance and weight.
pub(super) fn drawn(tree: &NameTree<Bound>) -> Option<Path> {
    match tree {
        NameTree::Leaf(Bound::Name { id, .. }) => Some(id.clone()),
        NameTree::Leaf(_) | NameTree::Neg | NameTree::Fail | NameTree::Empty => None,
        NameTree::Alt(children) => children.iter().find_map(drawn),
        NameTree::Union(union) => {
            let sum: f64 = union.branches.iter().map(|branch| branch.weight.get()).sum();
            let mut rest = fastrand::f64() * sum;
            let mut with_share = union.branches.iter().filter(|branch| branch.weight > Weight::ZERO).peekable();
            while let Some(branch) = with_share.next() {
                rest -= branch.weight.get();
                if rest < 0.0 || with_share.peek().is_none() {
                    return drawn(&branch.tree);
                }
            }
            None
        }
    }
}
