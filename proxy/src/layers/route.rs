//! Names a request, binds the name, draws a leaf.

mod again;
mod rules;
mod watch;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderName, Response};
use pin_project_lite::pin_project;
use serin_config::dtab::{self, LeafState, NameTree, Outcome, Picked, Rules, SplitId, Weights};
use serin_config::model::OnUnhealthy;
use tower::Service;

pub use again::again;

use super::deadline;
use crate::arms::{self, Bases, Session};
use crate::bindings::{self, Binding, Leaf, Overrides, Target};
use crate::body::Body;
use crate::clock;
use crate::endpoints::Cluster;
use crate::error::ProxyError;
use crate::exchange::{Exchange, Route};
use crate::inflight::Handle;
use crate::mirror::{self, Due};
use crate::router::{self, Found, PeerKey};
use crate::worker::Worker;
use rules::{Met, parts};

/// The override that a proxy before us forwarded.
pub const CTX_DTAB: HeaderName = HeaderName::from_static("l5d-ctx-dtab");
/// The override that a user sent.
pub const USER_DTAB: HeaderName = HeaderName::from_static("l5d-dtab");

/// Says that a request is the copy of another one. It came from a rollout that mirrors; nobody copies it once more.
pub const MIRRORED: HeaderName = HeaderName::from_static("l5d-mirrored");

/// Requests of one worker that wait for a name at once.
const WAITERS_MAX: usize = 1024;

/// Gives each request its route.
#[derive(Clone, Debug)]
pub struct Routing<S> {
    inner: S,
    worker: Rc<Worker>,
}

impl<S> Routing<S> {
    /// Around `inner`.
    pub fn new(inner: S, worker: Rc<Worker>) -> Self {
        Self { inner, worker }
    }
}

impl<S> Service<Exchange> for Routing<S>
where
    S: Service<Exchange, Response = Response<Body>, Error = ProxyError> + Clone,
{
    type Response = Response<Body>;
    type Error = ProxyError;
    type Future = RoutingFuture<S, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut exchange: Exchange) -> Self::Future {
        let state = match route(&self.worker, &mut exchange) {
            Ok(Step::Routed) => State::Inner { future: self.inner.call(exchange) },
            Ok(Step::Answered(response)) => State::Answered { response: Some(response) },
            // rare: a name whose addresses are not known yet. Boxed, so that it costs the others nothing
            Ok(Step::Wait(wait)) => {
                let worker = Rc::clone(&self.worker);
                let inner = self.inner.clone();
                State::Waiting { wait: Some(Box::pin(until_known(worker, exchange, wait))), inner }
            }
            Err(error) => State::Refused { error: Some(error) },
        };
        RoutingFuture { state }
    }
}

type Waiting = Pin<Box<dyn Future<Output = Result<Waited, ProxyError>>>>;

pin_project! {
    /// The future of [`Routing`].
    pub struct RoutingFuture<S, F> {
        #[pin]
        state: State<S, F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F> {
        Refused { error: Option<ProxyError> },
        Answered { response: Option<Box<Response<Body>>> },
        Waiting { wait: Option<Waiting>, inner: S },
        Inner { #[pin] future: F },
    }
}

impl<S, F> std::fmt::Debug for RoutingFuture<S, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.state {
            State::Refused { .. } => "Refused",
            State::Answered { .. } => "Answered",
            State::Waiting { .. } => "Waiting",
            State::Inner { .. } => "Inner",
        })
    }
}

impl<S> Future for RoutingFuture<S, S::Future>
where
    S: Service<Exchange, Response = Response<Body>, Error = ProxyError>,
{
    type Output = Result<Response<Body>, ProxyError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let future = match state.as_mut().project() {
                StateProjection::Inner { future } => return future.poll(cx),
                StateProjection::Refused { error } => {
                    return Poll::Ready(Err(error.take().unwrap_or(ProxyError::Cancelled)));
                }
                StateProjection::Answered { response } => {
                    return Poll::Ready(response.take().map(|response| *response).ok_or(ProxyError::Cancelled));
                }
                StateProjection::Waiting { wait, inner } => {
                    let Some(waiting) = wait else { return Poll::Pending };
                    match waiting.as_mut().poll(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(Waited::Routed(exchange))) => inner.call(*exchange),
                        Poll::Ready(Ok(Waited::Answered(response))) => return Poll::Ready(Ok(*response)),
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    }
                }
            };
            state.set(State::Inner { future });
        }
    }
}

/// What a first look gave.
enum Step {
    Routed,
    /// A rule answers itself.
    Answered(Box<Response<Body>>),
    Wait(Wait),
}

/// What came of waiting.
enum Waited {
    Routed(Box<Exchange>),
    Answered(Box<Response<Body>>),
}

/// What a request waits for.
enum Wait {
    /// The addresses of this name.
    Addresses(Rc<Binding>, Rc<Leaf>),
    /// What a name is bound to, of whoever binds it.
    Answer(Arc<Cluster>),
    /// A namer's answer: it comes with a new structure.
    Names,
}

fn route(worker: &Worker, exchange: &mut Exchange) -> Result<Step, ProxyError> {
    exchange.sends = None;
    let ruled = match rules::meet(exchange)? {
        Met::Nothing => None,
        Met::Rule(found) => Some(found),
        Met::Redirect(response) => return Ok(Step::Answered(response)),
    };
    let binding = binding(worker, exchange, ruled)?;
    choose(worker, exchange, binding)
}

fn choose(worker: &Worker, exchange: &mut Exchange, binding: Rc<Binding>) -> Result<Step, ProxyError> {
    if let Some(max) = binding.service.model.body_bytes_max {
        // before anything is drawn: what is refused is nobody's request
        exchange.limit_body(max)?;
    }
    let (mut session, mut copy) = (exchange.session.take(), None);
    let drawn = draw(worker, exchange, &binding, &mut session, &mut copy);
    (exchange.session, exchange.copy) = (session, copy);
    match drawn? {
        Drawn::Leaf(leaf) => {
            if let Some(handle) = exchange.handle {
                count_under(worker, handle, &leaf);
                if let Some(classifier) = &binding.service.classifier {
                    worker.in_flight.set_classifier(handle, classifier);
                }
            }
            if exchange.context {
                // what travels on is written anew, from the parsed form
                exchange.parts.headers.remove(CTX_DTAB);
                exchange.parts.headers.remove(USER_DTAB);
            }
            rules::change(exchange);
            exchange.route = Some(Route { binding, leaf });
            Ok(Step::Routed)
        }
        Drawn::Pending(Some(leaf)) => Ok(Step::Wait(Wait::Addresses(binding, leaf))),
        Drawn::Pending(None) => Ok(Step::Wait(Wait::Names)),
        Drawn::Asked(question) => Ok(Step::Wait(Wait::Answer(question))),
    }
}

async fn until_known(worker: Rc<Worker>, mut exchange: Exchange, mut wait: Wait) -> Result<Waited, ProxyError> {
    let _place = worker.waiters.enter(WAITERS_MAX)?;
    let router = exchange.server().router;
    let timeout = exchange.local.shape.structure.config.routers[router].binding.timeout;
    // a name is part of the whole that the caller waits for
    let service = match &wait {
        Wait::Addresses(binding, _) => binding.service.model.total_timeout,
        Wait::Names | Wait::Answer(_) => deadline::of_all_names(&exchange),
    };
    let limit = deadline::limit(&mut exchange, service).map(|limit| Duration::from_micros(limit.us));
    let limit = limit.filter(|limit| *limit < timeout);
    let error = if limit.is_some() { ProxyError::Timeout } else { ProxyError::BindingTimeout };
    let timeout = limit.unwrap_or(timeout);
    let waiting = async {
        loop {
            let step = match wait {
                Wait::Addresses(binding, leaf) => {
                    leaf.cluster.shared.ready().await;
                    let known = Rc::clone(&binding);
                    let step = choose(&worker, &mut exchange, binding)?;
                    if matches!(step, Step::Routed) {
                        exchange.local.shape.routers[router].bindings.promote(&known, clock::now_ms());
                    }
                    step
                }
                Wait::Answer(question) => {
                    question.ready().await;
                    route(&worker, &mut exchange)?
                }
                Wait::Names => {
                    next_structure(&worker, &mut exchange).await;
                    route(&worker, &mut exchange)?
                }
            };
            match step {
                Step::Routed => return Ok(Waited::Routed(Box::new(exchange))),
                Step::Answered(response) => return Ok(Waited::Answered(response)),
                Step::Wait(again) => wait = again,
            }
        }
    };
    tokio::time::timeout(timeout.max(Duration::from_millis(1)), waiting).await.unwrap_or(Err(error))
}

/// A name that a namer does not know yet comes with the next structure, and the request moves to it. A listener that is
/// gone by then ends the wait by its timeout.
async fn next_structure(worker: &Worker, exchange: &mut Exchange) {
    let mut changes = worker.world.subscribe();
    loop {
        let local = worker.current();
        if local.snapshot.version != exchange.local.snapshot.version
            && let Some(server) = local.shape.server(exchange.link.listener)
        {
            exchange.local = local;
            exchange.server = server;
            return;
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn binding(worker: &Worker, exchange: &mut Exchange, ruled: Option<Found>) -> Result<Rc<Binding>, ProxyError> {
    let local = Rc::clone(&exchange.local);
    let router = exchange.server().router;
    let structure = &local.snapshot.structure;
    let now_ms = exchange.started_us / 1000;
    let mut name = worker.take_scratch();
    let parts = parts(exchange);
    let model = &structure.config.routers[router];
    let Some(consumed) = rules::name(&structure.routers[router], model, &parts, ruled, &mut name) else {
        worker.give_scratch(name);
        return Err(ProxyError::Unidentified);
    };
    let rules = &structure.routers[router].overrides;
    let matched: Vec<u16> =
        (0_u16..).zip(rules).filter(|(_, rule)| router::matches(&rule.when, &parts)).map(|(i, _)| i).collect();
    let headers = &exchange.parts.headers;
    let sends = exchange.context && (headers.contains_key(CTX_DTAB) || headers.contains_key(USER_DTAB));
    let bindings = &local.shape.routers[router].bindings;
    let found = if matched.is_empty() && !sends {
        match bindings.plain(&name, now_ms) {
            Some(known) => Ok((known, true)),
            None => new_binding(worker, exchange, &name, None, &Overrides::default()),
        }
    } else {
        overridden(worker, exchange, &name, matched, sends)
    };
    worker.give_scratch(name);
    rules::rewrite(exchange, ruled, consumed)?;
    let (binding, hit) = found?;
    let cells = worker.shard.worker();
    if hit {
        cells.binding_cache_hits.inc()
    } else {
        cells.binding_cache_misses.inc()
    }
    Ok(binding)
}

/// The name with what rules and the peer add to it. The key holds all of that, so that two overrides never share a tree.
fn overridden(
    worker: &Worker,
    exchange: &mut Exchange,
    name: &[u8],
    rules: Vec<u16>,
    sends: bool,
) -> Result<(Rc<Binding>, bool), ProxyError> {
    let mut key = name.to_vec();
    // no label is empty: here the name ends
    key.extend([0, 0]);
    // their number first: what follows them must not be taken for one of them
    key.extend((rules.len() as u64).to_be_bytes());
    rules.iter().for_each(|rule| key.extend(rule.to_be_bytes()));
    let mut sent = None;
    if sends {
        let headers = &exchange.parts.headers;
        let values = |name| headers.get_all(name).iter().map(|value| value.as_bytes());
        for (mark, name) in [(1, CTX_DTAB), (2, USER_DTAB)] {
            for value in values(name) {
                key.extend([0, mark]);
                key.extend(value);
            }
        }
        sent = dtab::override_dtab(values(CTX_DTAB), values(USER_DTAB))
            .map_err(|error| ProxyError::BadContext(error.to_string()))?;
    }
    let router = exchange.server().router;
    let bindings = &exchange.local.shape.routers[router].bindings;
    if let Some(known) = bindings.overridden(&key, exchange.started_us / 1000) {
        return Ok((known, true));
    }
    new_binding(worker, exchange, name, Some(&key), &Overrides { rules, sent })
}

fn new_binding(
    worker: &Worker,
    exchange: &Exchange,
    name: &[u8],
    key: Option<&[u8]>,
    overrides: &Overrides,
) -> Result<(Rc<Binding>, bool), ProxyError> {
    let router = exchange.server().router;
    let binding = Rc::new(bindings::bind(worker, &exchange.local, router, name, overrides, exchange.peer())?);
    let bindings = &exchange.local.shape.routers[router].bindings;
    // a namer that has not answered will: asked again for each request until then
    let pending = matches!(binding.tree, NameTree::Leaf(Target::Asked(_) | Target::Pending));
    if !pending && bindings.keep(key.unwrap_or(name), key.is_some(), &binding, exchange.started_us / 1000) {
        worker.shard.worker().binding_cache_evictions.inc();
    }
    Ok((binding, false))
}

enum Drawn {
    Leaf(Rc<Leaf>),
    Asked(Arc<Cluster>),
    Pending(Option<Rc<Leaf>>),
}

fn draw(
    worker: &Worker,
    exchange: &Exchange,
    binding: &Binding,
    session: &mut Option<Box<Session>>,
    copy: &mut Option<Box<Due>>,
) -> Result<Drawn, ProxyError> {
    // by far the most names: one leaf, somebody home
    if let NameTree::Leaf(Target::Name(leaf)) = &binding.tree
        && leaf.cluster.state(worker) == LeafState::Usable
    {
        return Ok(Drawn::Leaf(Rc::clone(leaf)));
    }
    // from one seed, so that a request that had to wait for an arm is drawn to it again
    let mut rest = fastrand::Rng::with_seed(exchange.seed);
    let mut bases = Bases::default();
    let weights = &*exchange.local.snapshot.weights;
    let picked = pick(worker, exchange, binding, session, weights, &mut rest, &mut bases);
    if !matches!(picked.outcome, Outcome::Pending(_)) {
        *copy = mirror::due(worker, exchange, binding, picked.draws.as_slice(), &mut || rest.u64(..));
    }
    if let Some(handle) = exchange.handle {
        watch::note(worker, exchange, handle, binding, &picked, &bases);
    }
    leaf(worker, exchange, binding, picked.outcome)
}

/// One pick by these weights. What `session` and `bases` learn of it is for the caller to use.
fn pick<'t>(
    worker: &Worker,
    exchange: &Exchange,
    binding: &'t Binding,
    session: &mut Option<Box<Session>>,
    weights: &impl Weights,
    rest: &mut fastrand::Rng,
    bases: &mut Bases,
) -> Picked<'t, Target> {
    let snapshot = &exchange.local.snapshot;
    let model = &snapshot.structure.config.routers[exchange.server().router];
    let info = |split: SplitId| &snapshot.structure.splits[crate::local::index(split)];
    let peer = PeerKey::from(exchange.peer().ip());
    let mut chance = || rest.u64(..);
    let asked =
        arms::Asked { parts: parts(exchange), peer: &peer, copied: exchange.parts.headers.contains_key(MIRRORED) };
    let bits = || [exchange.seed, worker.random()];
    session.iter_mut().for_each(|session| session.restart());
    let mut next = |split: Option<SplitId>| match split {
        Some(split) => {
            let weights = snapshot.weights.weights.get(crate::local::index(split)).map_or(&[][..], |all| &**all);
            let chosen = arms::choose(info(split), weights, &asked, session, &bits, &mut chance);
            if info(split).rollout.is_some() {
                bases.note(split, chosen.basis);
            }
            chosen.draw
        }
        None => chance(),
    };
    let on_unhealthy =
        |split: Option<SplitId>| -> OnUnhealthy { split.map_or(model.on_unhealthy, |split| info(split).on_unhealthy) };
    let rules = Rules { failover: model.failover, on_unhealthy: &on_unhealthy };
    let state = |target: &Target| target.state(worker);
    dtab::pick(&binding.tree, &mut next, weights, &state, &rules)
}

/// What came of a choice, as a leaf or as an error.
fn leaf(
    worker: &Worker,
    exchange: &Exchange,
    binding: &Binding,
    outcome: Outcome<'_, Target>,
) -> Result<Drawn, ProxyError> {
    match outcome {
        Outcome::Leaf(Target::Name(leaf)) => Ok(Drawn::Leaf(Rc::clone(leaf))),
        Outcome::Pending(Target::Name(leaf)) => Ok(Drawn::Pending(Some(Rc::clone(leaf)))),
        Outcome::Pending(Target::Asked(question)) => Ok(Drawn::Asked(Arc::clone(question))),
        Outcome::Pending(_) => Ok(Drawn::Pending(None)),
        // all of its endpoints are ejected, and nothing else can serve: one of them is tried all the same
        Outcome::Unusable(Target::Name(leaf)) if leaf.cluster.has_endpoints() => Ok(Drawn::Leaf(Rc::clone(leaf))),
        Outcome::Unusable(Target::Name(leaf)) => {
            // what a request made up has figures of its own once it was somewhere
            if let Some(handle) = exchange.handle.filter(|_| !leaf.cluster.is_made_up()) {
                count_under(worker, handle, leaf);
            }
            Err(ProxyError::NoEndpoint(leaf.cluster.absence()))
        }
        Outcome::Error(Target::Failed(error)) => Err(error.clone()),
        Outcome::Empty => Err(ProxyError::NoEndpoint(format!("{} leads to nobody, on purpose", binding.path))),
        Outcome::Fail => Err(ProxyError::NoRoute(format!("{} leads to `!`", binding.path))),
        Outcome::Neg => Err(ProxyError::NoRoute(nowhere(binding))),
        Outcome::Leaf(_) | Outcome::Unusable(_) | Outcome::Error(_) => {
            Err(ProxyError::BindingFailed(binding.path.to_string()))
        }
    }
}

/// The name, and which of the names it leads to does not exist.
fn nowhere(binding: &Binding) -> String {
    let absent = binding.tree.leaves().into_iter().find_map(|target| match target {
        Target::Name(leaf) if !leaf.cluster.exists() => Some(leaf.cluster.absence()),
        _ => None,
    });
    absent.map_or_else(|| binding.path.to_string(), |why| format!("{}: {why}", binding.path))
}

/// The request counts as one of this name, and of the arm that the name serves as.
pub fn count_under(worker: &Worker, handle: Handle, leaf: &Leaf) {
    let series = leaf.series_of(worker.in_flight.arm(handle), &worker.shard);
    worker.in_flight.set_series(handle, Rc::clone(series));
}
