//! Sends one request and hands back a response whose body streams. The only part of the stack that touches a socket.

mod answered;
mod authority;
mod before;
mod extra;
mod pump;
mod source;
mod tunnel;
mod turn;
mod up_h1;
mod up_h2;
mod upload;

use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use http::header::{SET_COOKIE, VIA};
use http::uri::PathAndQuery;
use http::{HeaderValue, Response, StatusCode, request};
use serin_config::model::{Client, Exposure, Protocol};
use serin_metrics::Class;

pub use pump::{Pump, Stopped};
pub use source::RetryRoom;
pub use tunnel::Tunnel;
pub use up_h1::UpH1;
pub use up_h2::UpH2;

use crate::bindings::{Binding, Leaf, LocalService};
use crate::body::{Body, BodyError};
use crate::clock;
use crate::context::{Destination, Travel};
use crate::endpoints::Place;
use crate::error::{Fault, Origin, ProxyError};
use crate::exchange::{Exchange, Route};
use crate::inflight::{Deadline, Handle};
use crate::layers::hygiene::via;
use crate::layers::route;
use crate::mirror;
use crate::pool::{Endpoint, LocalCluster};
use crate::retry::{self, Attempt, Replay};
use crate::stall::Side;
use crate::worker::Worker;
use answered::{Tries, Verdict};
use extra::Extra;
use source::Source;

/// To connect, where the file says nothing: strangers' services are farther away than neighbours.
const CONNECT_EDGE: Duration = Duration::from_secs(5);
const CONNECT_MESH: Duration = Duration::from_secs(1);
/// To the response head, where the file says nothing. gRPC calls have a deadline of their own, WebSockets none.
const ATTEMPT: Duration = Duration::from_secs(60);

/// What an attempt needs to know of the request. The same for each attempt.
struct Call<'a> {
    parts: &'a request::Parts,
    /// Path and query; `None` as for an absolute target that ends with its authority.
    target: Option<&'a PathAndQuery>,
    /// The host that is sent on: what the caller asked for, or what a rule says.
    host: &'a [u8],
    /// What the namer of the upstream wants instead.
    authority: Option<HeaderValue>,
    /// Target or host are not what came.
    changed: bool,
    extra: Extra<'a>,
    /// Of the listener it came through.
    exposure: Exposure,
    /// What the current attempt was routed to.
    to: Rc<Destination>,
    /// `Content-Length` as sent.
    length: Option<u64>,
    handle: Handle,
    grpc: bool,
    /// The caller sends its body when it is asked to.
    expects: bool,
    /// The caller would switch to WebSocket.
    upgrade: bool,
    /// Interim responses before the answer.
    interim_max: u32,
    attempt_timeout: Option<Duration>,
    stall: Stall,
}

/// How long an upload waits without progress.
#[derive(Clone, Copy, Debug)]
struct Stall {
    /// For the caller, if it announced how much it sends, or has not been answered. `None`: it owes nothing.
    caller: Option<Duration>,
    /// For the upstream. `None`: it has answered, and may leave the upload for as long as it likes.
    upstream: Option<Duration>,
}

impl Stall {
    fn new(exchange: &Exchange, length: Option<u64>, client: &Client) -> Self {
        let caller = exchange.server().server.limits.stall_timeout;
        // a gRPC call may be silent for as long as its parties like
        let owes = length.is_some() || !exchange.grpc;
        Self { caller: owes.then_some(caller), upstream: Some(client.limits.stall_timeout) }
    }

    /// Once the answer has begun, who announced no length may be silent: both directions are a conversation.
    fn answered(self, length: Option<u64>) -> Self {
        Self { caller: self.caller.filter(|_| length.is_some()), upstream: None }
    }

    /// How long this side of an upload is waited for.
    fn of(&self, side: Side) -> Option<Duration> {
        match side {
            Side::Source => self.caller,
            Side::Sink => self.upstream,
        }
    }
}

/// Why the caller's body could not be sent on.
fn bad_body(error: BodyError) -> Fault {
    Fault::downstream(match error {
        BodyError::TooLarge => ProxyError::BodyTooLarge,
        BodyError::Downstream(_) | BodyError::Upstream(_) => ProxyError::DownstreamBody,
    })
}

/// An upload that does not go on.
fn stalled(side: Side) -> Fault {
    match side {
        Side::Source => Fault::downstream(ProxyError::DownstreamStalled),
        Side::Sink => Fault::upstream(Replay::Never, ProxyError::UpstreamStalled),
    }
}

impl<'a> Call<'a> {
    fn new(
        exchange: &'a Exchange,
        binding: &'a Binding,
        travel: &'a Travel,
        (handle, to): (Handle, Rc<Destination>),
        cluster: &LocalCluster,
    ) -> Self {
        let (length, client) = (exchange.announced(), &cluster.client);
        Self {
            parts: &exchange.parts,
            target: exchange.sent_target(),
            host: exchange.sent_host().unwrap_or_default(),
            changed: exchange.sends.is_some(),
            authority: cluster.authority(),
            extra: Extra::new(exchange, binding.context.as_ref(), travel),
            exposure: exchange.server().server.exposure,
            to,
            length,
            handle,
            grpc: exchange.grpc,
            expects: exchange.expects,
            upgrade: exchange.upgrade,
            interim_max: client.limits.interim_responses_max,
            attempt_timeout: attempt_timeout(client, exchange.grpc || exchange.upgrade),
            stall: Stall::new(exchange, length, client),
        }
    }

    /// The next attempt goes there.
    fn turn_to(&mut self, leaf: &Leaf) {
        self.attempt_timeout = attempt_timeout(&leaf.cluster.client, self.grpc || self.upgrade);
        self.to = Rc::clone(&leaf.to);
        self.authority = leaf.cluster.authority();
    }

    /// The `Host` that the upstream sees.
    fn host(&self) -> &[u8] {
        self.authority.as_ref().map_or(self.host, HeaderValue::as_bytes)
    }

    /// The connection stands: from here the upstream owes us a response head.
    fn start_attempt(&self, worker: &Worker) {
        if let Some(timeout) = self.attempt_timeout {
            let timeout_us = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
            let at_us = worker.coarse_us.get().saturating_add(timeout_us).max(1);
            worker.in_flight.set_deadline(self.handle, Deadline::Attempt, at_us);
        }
    }
}

/// Sends the request where its route says. The future is large, and is made where it stays; of a block, because an async fn
/// holds its arguments twice.
///
/// # Errors
/// Nobody could be reached, or what was reached did not answer. A request that surely did no harm is tried again first.
#[inline]
pub fn forward(
    worker: Rc<Worker>,
    mut exchange: Exchange,
) -> Pin<Box<impl Future<Output = Result<Response<Body>, ProxyError>> + use<>>> {
    Box::pin(async move {
        let (Some(Route { binding, leaf }), Some(handle)) = (exchange.route.take(), exchange.handle) else {
            return Err(ProxyError::NoRoute("the request was not routed".into()));
        };
        let mut source = Source::new(std::mem::take(&mut exchange.body));
        let (mut cluster, to) = (Rc::clone(&leaf.cluster), Rc::clone(&leaf.to));
        drop(leaf);
        copy_at_once(&worker, &mut exchange, &binding, &source);
        if let Some(status) = cluster.answer {
            return Ok(answer(&exchange, status));
        }
        let travel = Travel::take(&worker, &mut exchange, handle);
        let mut call = Call::new(&exchange, &binding, &travel, (handle, to), &cluster);
        answered::prepare(&worker, &call, &binding.service, &cluster, &mut source, exchange.started_us);
        let mut going = Going::default();
        loop {
            let Some(lease) = cluster.pick(&worker, going.avoid.as_ref()) else {
                return Err(ProxyError::NoEndpoint(cluster.absence()));
            };
            let endpoint = Rc::clone(&lease.endpoint);
            worker.in_flight.set_lease(handle, Some(lease));
            let (mut reused, begun_us) = (false, endpoint.begin());
            let made = attempt(&worker, &endpoint, &cluster, &call, &mut source, &mut reused).await;
            worker.in_flight.set_deadline(handle, Deadline::Attempt, 0);
            let (service, tries) = (&binding.service, &mut going.tries);
            let pause = match made {
                Ok(response) => {
                    endpoint.note_head(begun_us);
                    let verdict = if answered::is_weighed(&call, service, &source, tries, &response) {
                        // rare, and its future is large
                        Box::pin(answered::weigh(&worker, &call, service, &cluster, &mut source, tries, response)).await
                    } else {
                        Verdict::Keep(response)
                    };
                    match verdict {
                        Verdict::Keep(response) => {
                            let authority = call.authority.take();
                            copy_held(&worker, &mut exchange, &binding, &source);
                            return Ok(pass(&worker, &mut exchange, handle, authority.as_ref(), response));
                        }
                        Verdict::Retry(pause) => {
                            fail_attempt(&worker, handle);
                            going.avoid = Some(endpoint.address.clone());
                            pause
                        }
                    }
                }
                Err(fault) => {
                    let failed = Failed { fault: &fault, endpoint: &endpoint, reused };
                    let Some(pause) = going.after(&worker, &call, service, &cluster, &mut source, &failed) else {
                        copy_held(&worker, &mut exchange, &binding, &source);
                        return Err(fault.error);
                    };
                    pause
                }
            };
            wait(pause).await;
            count_retry(&worker, &exchange, &cluster);
            if let Some(other) = route::again(&worker, &exchange, &binding, handle) {
                call.turn_to(&other);
                route::count_under(&worker, handle, &other);
                (cluster, going.avoid) = (Rc::clone(&other.cluster), None);
            }
        }
    })
}

/// A request that may have several attempts.
#[derive(Default)]
struct Going {
    /// Attempts after the first because it was never sent.
    retries: u8,
    /// Attempts after the first because of what came back.
    tries: Tries,
    /// Who has just failed it.
    avoid: Option<Place>,
}

/// An attempt that got no answer.
struct Failed<'a> {
    fault: &'a Fault,
    endpoint: &'a Endpoint,
    reused: bool,
}

impl Going {
    /// The pause before the next attempt; `None`: there is none.
    fn after(
        &mut self,
        worker: &Worker,
        call: &Call<'_>,
        service: &LocalService,
        cluster: &LocalCluster,
        source: &mut Source,
        failed: &Failed<'_>,
    ) -> Option<Duration> {
        let Failed { fault, endpoint, reused } = *failed;
        let (method, body_replayable) = (&call.parts.method, source.rewind());
        let attempt = Attempt { method, body_replayable, connection_reused: reused, retries: self.retries };
        let unsent =
            retry::may_replay(fault.replay, &attempt).is_ok() && cluster.budget.borrow_mut().withdraw(clock::now_ms());
        // a connection that the upstream closed while it was idle, or told us to leave, says nothing of the upstream
        let idle = || reused && fault.error == ProxyError::UpstreamClosed;
        let excused = unsent && fault.goes.map_or_else(idle, |connection| endpoint.may_go(connection));
        end_attempt(worker, call.handle, fault, excused);
        // a connection that died while idle says nothing against its endpoint
        self.avoid = (!reused).then(|| endpoint.address.clone());
        if unsent {
            self.retries += 1;
            return Some(Duration::ZERO);
        }
        answered::after_fault(worker, call, service, source, &mut self.tries, fault)
    }
}

async fn wait(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

/// What a name that nobody is called for answers.
fn answer(exchange: &Exchange, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    tell(exchange, &mut response);
    response
}

fn count_retry(worker: &Worker, exchange: &Exchange, cluster: &LocalCluster) {
    let label = &exchange.local.snapshot.structure.routers[exchange.server().router].label;
    worker.shard.retries(label, &cluster.shared.id.to_string()).inc();
}

/// The answer for the caller.
fn pass(
    worker: &Worker,
    exchange: &mut Exchange,
    handle: Handle,
    authority: Option<&HeaderValue>,
    mut response: Response<Body>,
) -> Response<Body> {
    if exchange.grpc {
        worker.in_flight.note_pace(handle);
    }
    worker.in_flight.head(handle);
    let version = response.version();
    response.headers_mut().append(VIA, via(version));
    if let Some(authority) = authority {
        authority::map_back(response.headers_mut(), authority, exchange.host().unwrap_or_default());
    }
    tell(exchange, &mut response);
    worker.give_map(std::mem::take(&mut exchange.parts.headers));
    response
}

/// What the rule of the request changes of its answer. A session that was made for it is its user's from now on; the
/// origin's own cookies stay.
fn tell(exchange: &Exchange, response: &mut Response<Body>) {
    if let Some(action) = exchange.action() {
        action.change_response(response.headers_mut());
    }
    for cookie in exchange.session.iter().flat_map(|session| session.cookies()) {
        response.headers_mut().append(SET_COOKIE, cookie.clone());
    }
}

/// The copy of a request without a body needs to wait for nothing.
fn copy_at_once(worker: &Rc<Worker>, exchange: &mut Exchange, binding: &Rc<Binding>, source: &Source) {
    if exchange.upgrade {
        // a conversation has no copy
        return exchange.copy.take().into_iter().for_each(|due| due.skip());
    }
    if let Some(due) = exchange.copy.take_if(|_| source.is_end()) {
        mirror::send(worker, *due, exchange, binding, Body::default());
    }
}

/// That of a request with a body goes when the body has been read: if it is still held, all of it.
fn copy_held(worker: &Rc<Worker>, exchange: &mut Exchange, binding: &Rc<Binding>, source: &Source) {
    let Some(due) = exchange.copy.take() else { return };
    match source.whole() {
        Some(body) => mirror::send(worker, *due, exchange, binding, Body::full(body)),
        None => due.skip(),
    }
}

/// An attempt whose answer failed, and will not be shown.
fn fail_attempt(worker: &Worker, handle: Handle) {
    let lease = worker.in_flight.set_lease(handle, None);
    let ejected = lease.is_some_and(|lease| lease.end(Class::Failure, worker));
    worker.in_flight.attempt_failed(handle, None, ejected);
}

fn end_attempt(worker: &Worker, handle: Handle, fault: &Fault, excused: bool) {
    // a lost HTTP/2 connection is no word about one stream
    let word = fault.lost.is_none();
    let gone = word && matches!(fault.error, ProxyError::UpstreamClosed | ProxyError::UpstreamReset(_));
    let excused = excused || (gone && worker.in_flight.excuse_given_up(handle));
    worker.in_flight.set_waits(handle, false, clock::now_us());
    let class = match fault.origin {
        Origin::Upstream if !excused && !worker.in_flight.excuse_too_short(handle) => Class::Failure,
        Origin::Downstream | Origin::Proxy | Origin::Upstream => Class::Ignored,
    };
    let lease = worker.in_flight.set_lease(handle, None);
    let ejected = lease.is_some_and(|lease| lease.end(class, worker));
    if class == Class::Failure {
        worker.in_flight.attempt_failed(handle, fault.lost, ejected);
    } else if fault.error == ProxyError::NoHttp2 {
        worker.in_flight.took_no_call(handle);
    }
}

async fn attempt(
    worker: &Rc<Worker>,
    endpoint: &Rc<Endpoint>,
    cluster: &LocalCluster,
    call: &Call<'_>,
    source: &mut Source,
    reused: &mut bool,
) -> Result<Response<Body>, Fault> {
    endpoint.check_own()?;
    let connect_timeout = connect_timeout(&cluster.client, call.exposure);
    let over_h2 = match cluster.client.protocol {
        Protocol::Auto => call.grpc,
        Protocol::Http1 => false,
        Protocol::H2 => true,
    };
    if over_h2 {
        *reused = endpoint.has_h2();
        return up_h2::exchange(worker, endpoint, connect_timeout, call, source).await;
    }
    let conn = match endpoint.checkout() {
        Some(conn) => {
            *reused = true;
            conn
        }
        None => {
            worker.in_flight.dialling(call.handle);
            let conn = Box::pin(endpoint.dial(worker, connect_timeout)).await?;
            worker.in_flight.dialled(call.handle);
            conn
        }
    };
    call.start_attempt(worker);
    let answered = up_h1::exchange(worker, endpoint, conn, call, source).await;
    if answered.is_ok() {
        cluster.shared.spoken.note_http1();
    }
    answered
}

fn attempt_timeout(client: &Client, untimed: bool) -> Option<Duration> {
    client.attempt_timeout.or((!untimed).then_some(ATTEMPT))
}

fn connect_timeout(client: &Client, exposure: Exposure) -> Duration {
    client.connect_timeout.unwrap_or(match exposure {
        Exposure::Edge => CONNECT_EDGE,
        Exposure::Mesh => CONNECT_MESH,
    })
}

/// What the origin sent cannot be.
fn protocol(what: &str) -> Fault {
    Fault::upstream(Replay::Never, ProxyError::UpstreamProtocol(what.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_waited_for_a_minute_but_those_of_calls_and_tunnels_unless_it_is_written() {
        let silent = Client::new(Protocol::Auto);
        let minute = Some(Duration::from_secs(60));
        assert_eq!((attempt_timeout(&silent, false), attempt_timeout(&silent, true)), (minute, None));
        let written = Client { attempt_timeout: Some(Duration::from_secs(5)), ..Client::new(Protocol::Auto) };
        assert!([false, true].into_iter().all(|untimed| attempt_timeout(&written, untimed) == written.attempt_timeout));
    }
}
