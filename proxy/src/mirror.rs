//! Copies of requests to the canary of a rollout. Nobody sees their answers.
//!
//! A copy is sent beside its request and never in its way: by a task of its own, over connections of its own, after
//! everything about the request has been decided. Nothing waits for a copy, not even the end of the process; what
//! becomes of it is counted and nothing else. It carries [`MIRRORED`], and what carries
//! that is never copied. Endpoints are not ejected for what copies saw of them.
//!
//! | bound | what happens beyond it |
//! |---|---|
//! | [`COPIES_MAX`] in flight on one worker | the copy is not sent, and counted as skipped |
//! | [`ANSWER_MAX`] octets of an answer | the rest is cut; the head decides how the copy went |
//! | [`TIME_MAX`], or what the service may take if that is less | cut; without a head it is a failure |
//! | a body that was not held whole for a replay | the copy is not sent, and counted as skipped |

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::header::EXPECT;
use http::{HeaderValue, Request, StatusCode, request};
use serin_config::dtab::{self, Draw, NameTree, Outcome, Rules, SplitId};
use serin_config::model::{Client, Mirror, Strategy};
use serin_metrics::{Class, MirrorCells};

use crate::bindings::{Binding, Leaf, Target};
use crate::body::{Body, Piece};
use crate::error::ProxyError;
use crate::evidence::SplitEvidence;
use crate::exchange::{Exchange, Route};
use crate::inflight::InFlight;
use crate::layers::route::MIRRORED;
use crate::local::{self, Shape};
use crate::pool::LocalCluster;
use crate::snapshot::{RolloutSplit, SplitInfo};
use crate::worker::Worker;
use crate::{classify, clock, forward, grpc};

/// Copies in flight on one worker.
pub const COPIES_MAX: usize = 64;
/// Octets of an answer that are read.
pub const ANSWER_MAX: usize = 1 << 20;
/// From the start of a copy to its end.
pub const TIME_MAX: Duration = Duration::from_secs(10);
/// Bound names of one canary that keep their connections for copies.
const CLUSTERS_MAX: usize = 16;
/// A split without copies for so long gives up its connections.
const IDLE_US_MAX: u64 = 60_000_000;
/// Branch of the canary in the split of a rollout.
const CANARY: u16 = 0;

/// Where the copies of one worker go.
#[derive(Debug, Default)]
pub struct Mirrors(RefCell<HashMap<u64, Rc<Course>, foldhash::fast::RandomState>>);

/// Where the copies of one split go, as long as it keeps its arms.
#[derive(Debug)]
struct Course {
    cells: Arc<MirrorCells>,
    evidence: Arc<SplitEvidence>,
    worker: usize,
    clusters: RefCell<Vec<Rc<LocalCluster>>>,
    /// What the clusters were made under: another structure may have other listeners of our own.
    shape: RefCell<Weak<Shape>>,
    used_us: Cell<u64>,
}

/// A request of which a copy is due.
#[derive(Debug)]
pub struct Due {
    course: Rc<Course>,
    /// `None`: the canary has nobody who could serve.
    leaf: Option<Rc<Leaf>>,
}

/// Is a copy of this request due. `drawn` are the draws of its route, `random` gives 64 random bits.
pub fn due(
    worker: &Worker,
    exchange: &Exchange,
    binding: &Binding,
    drawn: &[Draw],
    random: &mut dyn FnMut() -> u64,
) -> Option<Box<Due>> {
    let weights = &exchange.local.snapshot.weights;
    // what an override sends somewhere was not drawn among users, and a copy is not copied again
    if weights.mirrored.is_empty() || binding.context.is_some() || exchange.parts.headers.contains_key(MIRRORED) {
        return None;
    }
    let of_primary = |draw: &&Draw| draw.index != CANARY && draw.split.is_some_and(|s| weights.mirrored.contains(&s));
    let split = drawn.iter().find(of_primary)?.split?;
    let info = exchange.local.shape.structure.splits.get(local::index(split))?;
    let rollout = info.rollout.as_ref()?;
    let Strategy::Mirror(mirror) = &rollout.strategy else { return None };
    if !is_wanted(mirror, exchange.parts.method.as_str(), random()) {
        return None;
    }
    let course = worker.mirrors.course(worker, exchange, info, rollout);
    let leaf = match canary(worker, exchange, binding, split, random) {
        Outcome::Leaf(Target::Name(leaf)) => Some(Rc::clone(leaf)),
        Outcome::Unusable(Target::Name(leaf)) if leaf.cluster.has_endpoints() => Some(Rc::clone(leaf)),
        Outcome::Pending(_) => {
            course.skip();
            return None;
        }
        _ => None,
    };
    Some(Box::new(Due { course, leaf }))
}

/// Sends the copy of this request with this body, unless there are too many.
pub fn send(worker: &Rc<Worker>, due: Due, exchange: &Exchange, binding: &Rc<Binding>, body: Body) {
    let Due { course, leaf } = due;
    let Some(leaf) = leaf else { return course.end(Class::Failure) };
    if worker.in_flight.copies() >= COPIES_MAX {
        return course.skip();
    }
    let Some(leaf) = course.leaf(worker, &leaf) else { return course.end(Class::Failure) };
    let ticket = InFlight::open_copy(worker);
    let limit = binding.service.model.total_timeout.map_or(TIME_MAX, |limit| limit.min(TIME_MAX));
    let copy = Exchange {
        parts: head(&exchange.parts),
        body,
        link: Rc::clone(&exchange.link),
        local: Rc::clone(&exchange.local),
        server: exchange.server,
        started_us: worker.coarse_us.get(),
        seed: worker.random(),
        handle: Some(ticket.handle()),
        grpc: exchange.grpc,
        trusted: exchange.trusted,
        expects: false,
        upgrade: false,
        route: Some(Route { binding: Rc::clone(binding), leaf }),
        sends: exchange.sends.clone(),
        context: exchange.context,
        session: None,
        copy: None,
        forwarded: exchange.forwarded,
    };
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let (seen, started_us) = (Cell::new(None), clock::now_us());
        let ended = tokio::time::timeout(limit, run(worker, copy, &course, &seen)).await;
        let class = ended.ok().or(seen.get()).unwrap_or(Class::Failure);
        if seen.get().is_none() && class == Class::Failure {
            // it ended the wait as well
            course.head(clock::now_us().saturating_sub(started_us));
        }
        course.end(class);
        ticket.finish(class);
    });
}

impl Due {
    /// The copy cannot be sent.
    pub fn skip(self) {
        self.course.skip();
    }
}

/// By method and by chance.
fn is_wanted(mirror: &Mirror, method: &str, draw: u64) -> bool {
    let point = (u128::from(draw) * 1_000_000) >> 64;
    point < u128::from(mirror.share.get()) && mirror.methods.iter().any(|wanted| wanted == method)
}

/// What the canary's branch of this split leads to now.
fn canary<'t>(
    worker: &Worker,
    exchange: &Exchange,
    binding: &'t Binding,
    split: SplitId,
    random: &mut dyn FnMut() -> u64,
) -> Outcome<'t, Target> {
    let Some(branch) = branch(&binding.tree, split, CANARY) else { return Outcome::Neg };
    let snapshot = &exchange.local.snapshot;
    let model = &snapshot.structure.config.routers[exchange.server().router];
    let rules = Rules { failover: model.failover, on_unhealthy: &|_| model.on_unhealthy };
    let state = |target: &Target| target.state(worker);
    dtab::pick(branch, &mut |_| random(), &*snapshot.weights, &state, &rules).outcome
}

/// A branch of a union somewhere in a tree. Trees are bounded, so this is.
pub(crate) fn branch<B>(tree: &NameTree<B>, split: SplitId, index: u16) -> Option<&NameTree<B>> {
    match tree {
        NameTree::Alt(children) => children.iter().find_map(|child| branch(child, split, index)),
        NameTree::Union(union) if union.split == Some(split) => {
            union.branches.iter().find(|branch| branch.index == index).map(|branch| &branch.tree)
        }
        NameTree::Union(union) => union.branches.iter().find_map(|inner| branch(&inner.tree, split, index)),
        NameTree::Empty | NameTree::Fail | NameTree::Leaf(_) | NameTree::Neg => None,
    }
}

/// The head as it was cleaned for the request, and the mark.
fn head(of: &request::Parts) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = of.method.clone();
    parts.uri = of.uri.clone();
    parts.version = of.version;
    parts.headers = of.headers.clone();
    // its body is there
    parts.headers.remove(EXPECT);
    parts.headers.insert(MIRRORED, HeaderValue::from_static("1"));
    parts
}

/// Sends it and throws the answer away. `seen` is set with the head: how the copy went if it ends now.
async fn run(worker: Rc<Worker>, copy: Exchange, course: &Course, seen: &Cell<Option<Class>>) -> Class {
    let grpc = copy.grpc;
    let started_us = clock::now_us();
    let response = match forward::forward(worker, copy).await {
        Ok(response) => response,
        Err(error) => return class_of(&error),
    };
    course.head(clock::now_us().saturating_sub(started_us));
    let (parts, mut body) = response.into_parts();
    let cut = class_of_cut(parts.status, grpc);
    seen.set(Some(cut));
    let mut status = if grpc { grpc::status_of(&parts.headers) } else { None };
    let mut octets = 0;
    loop {
        match poll_fn(|cx| body.poll_piece(cx)).await {
            None => break,
            Some(Ok(Piece::Data(data))) => {
                octets += data.len();
                if octets > ANSWER_MAX {
                    return cut;
                }
            }
            Some(Ok(Piece::Trailers(fields))) => {
                status = grpc::status_of(&fields).or(status);
                break;
            }
            Some(Err(_)) => return Class::Failure,
        }
    }
    classify::of_response(parts.status, grpc, status)
}

/// A copy that got no answer: the canary's doing, unless it could not be asked.
fn class_of(error: &ProxyError) -> Class {
    match error {
        ProxyError::BadRequest(_) | ProxyError::DownstreamBody | ProxyError::Loop(_) => Class::Ignored,
        _ => Class::Failure,
    }
}

/// An answer of which we read only a part. The status of a gRPC call comes last.
fn class_of_cut(status: StatusCode, grpc: bool) -> Class {
    match classify::of_response(status, false, None) {
        Class::Success if grpc => Class::Ignored,
        class => class,
    }
}

/// The same name with connections of its own. If there are too many of them, all begin anew.
fn beside(clusters: &mut Vec<Rc<LocalCluster>>, users: &LocalCluster, workers: usize) -> Rc<LocalCluster> {
    if let Some(known) = clusters.iter().find(|cluster| Arc::ptr_eq(&cluster.shared, &users.shared)) {
        return Rc::clone(known);
    }
    if clusters.len() >= CLUSTERS_MAX {
        clusters.clear();
    }
    let client = Client { accrual: None, ..users.client.clone() };
    let fresh = LocalCluster::new(Arc::clone(&users.shared), client, workers, users.is_asked());
    clusters.push(Rc::clone(&fresh));
    fresh
}

impl Mirrors {
    /// Gives up the connections that copies no longer need.
    pub fn sweep(&self, now_us: u64) {
        self.0.borrow_mut().retain(|_, course| {
            course.clusters.borrow().iter().for_each(|cluster| cluster.sweep(now_us));
            // a rollout that is gone, or has other arms now, is held by nobody else
            Arc::strong_count(&course.evidence) > 1 && now_us.saturating_sub(course.used_us.get()) <= IDLE_US_MAX
        });
    }

    fn course(&self, worker: &Worker, exchange: &Exchange, info: &SplitInfo, rollout: &RolloutSplit) -> Rc<Course> {
        let mut courses = self.0.borrow_mut();
        let course =
            courses.entry(rollout.evidence.id()).or_insert_with(|| Rc::new(Course::new(worker, info, rollout)));
        course.used_us.set(worker.coarse_us.get());
        let shape = Rc::downgrade(&exchange.local.shape);
        if !Weak::ptr_eq(&course.shape.borrow(), &shape) {
            course.clusters.borrow_mut().clear();
            *course.shape.borrow_mut() = shape;
        }
        Rc::clone(course)
    }
}

impl Course {
    fn new(worker: &Worker, info: &SplitInfo, rollout: &RolloutSplit) -> Self {
        Self {
            cells: worker.shard.mirror(&info.router, &info.name),
            evidence: Arc::clone(&rollout.evidence),
            worker: worker.index,
            clusters: RefCell::default(),
            shape: RefCell::default(),
            used_us: Cell::new(0),
        }
    }

    /// The same name with connections of its own and without ejection. `None`: nobody is there.
    fn leaf(&self, worker: &Worker, leaf: &Rc<Leaf>) -> Option<Rc<Leaf>> {
        let cluster = beside(&mut self.clusters.borrow_mut(), &leaf.cluster, worker.workers);
        // looks for endpoints that have come or gone
        let _state = cluster.state(worker);
        let served = cluster.has_endpoints() || cluster.answer.is_some();
        served.then(|| Rc::new(leaf.with_cluster(cluster)))
    }

    fn head(&self, us: u64) {
        self.evidence.tally(self.worker).copies().head(us);
    }

    fn end(&self, class: Class) {
        self.cells.of(class).inc();
        self.evidence.tally(self.worker).copies().ended(class);
    }

    fn skip(&self) {
        self.cells.skipped.inc();
    }
}

#[cfg(test)]
mod tests {
    use serin_config::dtab::{Branch, Path, Union, Weight};
    use serin_config::model::Protocol;
    use serin_rollout::Ppm;

    use super::*;
    use crate::endpoints::EndpointTable;

    #[test]
    fn names_beyond_the_bound_begin_anew() {
        let table = EndpointTable::default();
        let client = Client::new(Protocol::Auto);
        let mut clusters = Vec::new();
        let mut take = |name: usize| {
            let id = Path::parse(&format!("/#/clusters/v{name}")).unwrap();
            let users = LocalCluster::new(table.configured(&id), client.clone(), 1, false);
            let one = beside(&mut clusters, &users, 1);
            assert!(!Rc::ptr_eq(&one, &users), "connections of its own");
            (one, clusters.len())
        };
        let (first, _) = take(0);
        assert_eq!((1..CLUSTERS_MAX).map(|name| take(name).1).last(), Some(CLUSTERS_MAX));
        assert!(Rc::ptr_eq(&take(0).0, &first));
        assert_eq!(take(CLUSTERS_MAX).1, 1);
    }

    #[test]
    fn the_share_and_the_methods_decide_what_is_copied() {
        let mirror =
            |share: u32| Mirror { share: Ppm::new(share).unwrap(), methods: vec!["GET".into(), "HEAD".into()] };
        let tenth = u64::MAX / 10;
        assert!(is_wanted(&mirror(100_000), "GET", tenth - 1_000_000) && is_wanted(&mirror(100_000), "HEAD", 0));
        assert!(!is_wanted(&mirror(100_000), "GET", tenth + 1_000_000) && !is_wanted(&mirror(100_000), "POST", 0));
        assert!(is_wanted(&mirror(1_000_000), "GET", u64::MAX) && !is_wanted(&mirror(0), "GET", 0));
    }

    #[test]
    fn a_branch_is_found_however_deep_its_union_lies() {
        let union = |split, first, second| {
            let branch = |index, tree| Branch { weight: Weight::ONE, index, tree };
            NameTree::Union(Union { split: Some(SplitId(split)), branches: vec![branch(0, first), branch(1, second)] })
        };
        let inner = union(7, NameTree::Leaf('c'), NameTree::Leaf('p'));
        let tree = NameTree::Alt(vec![NameTree::Fail, union(6, NameTree::Leaf('x'), NameTree::Alt(vec![inner]))]);
        assert_eq!(branch(&tree, SplitId(7), CANARY), Some(&NameTree::Leaf('c')));
        assert_eq!(branch(&tree, SplitId(6), CANARY), Some(&NameTree::Leaf('x')));
        assert_eq!(branch(&tree, SplitId(8), CANARY), None);
    }
}
