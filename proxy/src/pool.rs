//! This worker's upstream connections, by cluster and endpoint. Nothing here is shared with other threads.
//!
//! An idle HTTP/1.1 connection is a bare socket on a stack: no task watches it. HTTP/2 connections are few (one, until
//! the origin's stream limit is reached) and each is driven by one task.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use serin_config::dtab::{LeafState, Path};
use serin_config::model::{Accrual, Balancer, Client, ClientLimits, Protocol};
use serin_metrics::Class;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

use crate::balance::{self, Ewma, Load, Within};
use crate::clock;
use crate::endpoints::{Address, Addresses, Cluster, Place, Spoken};
use crate::error::{Fault, ProxyError};
use crate::outlier::{self, Outlier, Pass};
use crate::resolve::bound_id;
use crate::retry::{Budget, Replay};
use crate::stream::Stream;
use crate::worker::Worker;
use crate::{accept, listener};

mod conn;
mod h2conn;
mod idle;
mod lease;
mod pace;
mod pulse;

pub use conn::Conn;
use h2conn::H2;
pub use h2conn::{H2Lease, H2Place};
use idle::Idle;
pub use lease::Lease;
pub use pace::Pace;
pub use pulse::Pulses;

/// A bound name as this worker sees it: its endpoints with their connections.
#[derive(Debug)]
pub struct LocalCluster {
    /// The shared part.
    pub shared: Arc<Cluster>,
    /// How it is called.
    pub client: Client,
    /// What retries may cost here.
    pub budget: RefCell<Budget>,
    /// `/$/io.buoyant.http.status/<code>`: answered here, nobody is called.
    pub answer: Option<StatusCode>,
    /// Its namer is asked for each name.
    asked: bool,
    authority: RefCell<Option<HeaderValue>>,
    seen: Cell<Option<u64>>,
    endpoints: RefCell<Rc<[Rc<Endpoint>]>>,
    /// All weights are equal, so that nobody looks at them.
    even: Cell<bool>,
    /// Endpoints that an outlier verdict keeps out; while it is 0 nobody looks at the clock.
    ejected: Rc<Cell<u32>>,
    pace: Rc<Pace>,
    /// Whose turn it is, where endpoints take turns.
    turn: Cell<usize>,
}

impl LocalCluster {
    /// No endpoint is known until the first request looks.
    pub fn new(shared: Arc<Cluster>, client: Client, workers: usize, asked: bool) -> Rc<Self> {
        Rc::new(Self {
            answer: bound_id(&shared.id).as_ref().and_then(fixed_answer),
            shared,
            budget: RefCell::new(Budget::new(&client.requeue, workers)),
            client,
            asked,
            authority: RefCell::default(),
            seen: Cell::new(None),
            endpoints: RefCell::new(Rc::new([])),
            even: Cell::new(true),
            ejected: Rc::default(),
            pace: Rc::default(),
            turn: Cell::new(0),
        })
    }

    /// Can it serve a request now.
    pub fn state(&self, worker: &Worker) -> LeafState {
        self.refresh(worker);
        let endpoints = self.endpoints.borrow();
        if endpoints.is_empty() {
            if self.answer.is_some() {
                return LeafState::Usable;
            }
            return match self.shared.addresses().load().addresses {
                Addresses::Absent(_) => LeafState::Absent,
                Addresses::Pending => LeafState::Pending,
                Addresses::Bound(_) | Addresses::Failed(_) | Addresses::Neg => LeafState::Unusable,
            };
        }
        if self.ejected.get() == 0 {
            return LeafState::Usable;
        }
        let now_ms = clock::now_ms();
        if endpoints.iter().any(|endpoint| endpoint.admitted(now_ms)) { LeafState::Usable } else { LeafState::Unusable }
    }

    /// Is its namer asked for each name.
    pub fn is_asked(&self) -> bool {
        self.asked
    }

    /// Does it exist, as far as its namer has said. Names that were never asked for one by one always do.
    pub fn exists(&self) -> bool {
        match self.shared.addresses().load().addresses {
            Addresses::Absent(_) => false,
            Addresses::Pending => !self.asked,
            Addresses::Bound(_) | Addresses::Failed(_) | Addresses::Neg => true,
        }
    }

    /// A request made the name, and it was never served anywhere.
    pub fn is_made_up(&self) -> bool {
        self.shared.from_request && matches!(self.shared.addresses().load().addresses, Addresses::Failed(_))
    }

    /// The `Host` that requests to it carry instead of their own, as of the addresses that [`LocalCluster::state`] saw.
    pub fn authority(&self) -> Option<HeaderValue> {
        self.authority.borrow().clone()
    }

    /// An endpoint, as the balancer of the file chooses. If all are ejected, one is used anyway: the last
    /// endpoint is never given up. Among the endpoints that [`LocalCluster::state`] saw.
    pub fn pick(&self, worker: &Worker, avoid: Option<&Place>) -> Option<Lease> {
        let endpoints = self.endpoints.borrow();
        if let [only] = &**endpoints {
            return Some(only.lease());
        }
        let timed = matches!(self.client.balancer, Balancer::Ewma { .. });
        let now_us = if self.ejected.get() == 0 && !timed { 0 } else { clock::now_us() };
        let now_ms = now_us / 1000;
        let load = |index: usize| {
            let endpoint = &endpoints[index];
            let usable = endpoint.admitted(now_ms) && avoid != Some(&endpoint.address);
            Load { cost: endpoint.cost(now_us), weight: endpoint.weight, usable }
        };
        let (len, draw, within) = (endpoints.len(), worker.random(), self.within());
        let index = match self.even.get() {
            true => balance::pick_even(load, len, draw, within),
            false => balance::pick(load, len, draw, within),
        };
        // all are out, or the only one left has just failed this request: the one that comes back first
        let chosen = match index {
            Some(index) => endpoints.get(index),
            None => endpoints.iter().min_by_key(|endpoint| endpoint.outlier.borrow().out_until_ms()),
        };
        chosen.map(Endpoint::lease)
    }

    fn within(&self) -> Within {
        match self.client.balancer {
            Balancer::P2c | Balancer::Ewma { .. } => Within::Pairs,
            Balancer::RoundRobin => {
                self.turn.set(self.turn.get().wrapping_add(1));
                Within::Turn(self.turn.get())
            }
        }
    }

    /// Is there anybody, if only ejected: better tried than refused.
    pub fn has_endpoints(&self) -> bool {
        !self.endpoints.borrow().is_empty()
    }

    /// Looks again which endpoints are our own listeners, after those have changed. Connections that were made before
    /// such a listener was known lead to ourselves and go.
    pub fn find_own(&self, is_own: impl Fn(SocketAddr) -> bool) {
        for endpoint in self.endpoints.borrow().iter() {
            let own = matches!(endpoint.address, Place::Inet(socket) if is_own(socket));
            endpoint.own.set(own);
            if own {
                endpoint.close();
            }
        }
    }

    /// Why there is nobody: for the error of who asked.
    pub fn absence(&self) -> String {
        let id = bound_id(&self.shared.id).unwrap_or_else(|| self.shared.id.clone());
        match &self.shared.addresses().load().addresses {
            Addresses::Absent(why) | Addresses::Failed(why) => format!("{id}: {why}"),
            Addresses::Neg => format!("{id} is gone"),
            Addresses::Pending => format!("{id} is not resolved yet"),
            Addresses::Bound(_) => format!("{id} has no usable endpoint"),
        }
    }

    /// Closes connections that have been idle for too long.
    pub fn sweep(&self, now_us: u64) {
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.sweep(now_us);
        }
    }

    /// Closes HTTP/1.1 connections that wait for a request. Says how many.
    pub fn close_idle(&self) -> usize {
        self.endpoints.borrow().iter().map(|endpoint| endpoint.idle.borrow_mut().drain(..).count()).sum()
    }

    fn refresh(&self, worker: &Worker) {
        let set = self.shared.addresses().load();
        if self.seen.get() == Some(set.version) {
            return;
        }
        self.seen.set(Some(set.version));
        *self.authority.borrow_mut() = self.shared.authority();
        if matches!(set.addresses, Addresses::Neg) && !self.endpoints.borrow().is_empty() {
            // a newer structure does not bind this name; who still has it serves what it had
            return;
        }
        let addresses: &[Address] = match &set.addresses {
            Addresses::Bound(addresses) => addresses,
            Addresses::Absent(_) | Addresses::Failed(_) | Addresses::Neg | Addresses::Pending => &[],
        };
        let before = Rc::clone(&self.endpoints.borrow());
        let kept = |address: &Address| {
            before.iter().find(|e| e.address == address.socket && e.weight == address.weight).cloned()
        };
        let after: Rc<[_]> =
            addresses.iter().map(|address| kept(address).unwrap_or_else(|| self.endpoint(worker, address))).collect();
        for gone in before.iter().filter(|e| !after.iter().any(|kept| Rc::ptr_eq(kept, e))) {
            gone.retire();
        }
        self.even.set(after.windows(2).all(|pair| pair[0].weight == pair[1].weight));
        *self.endpoints.borrow_mut() = after;
    }

    fn endpoint(&self, worker: &Worker, address: &Address) -> Rc<Endpoint> {
        Rc::new(Endpoint {
            address: address.socket.clone(),
            weight: address.weight,
            own: Cell::new(matches!(address.socket, Place::Inet(socket) if worker.is_own(socket))),
            in_flight: Cell::new(0),
            retired: Cell::new(false),
            idle: RefCell::default(),
            talks_on: Cell::new(false),
            went: Cell::new(None),
            h2: RefCell::default(),
            dialling: tokio::sync::Mutex::new(()),
            outlier: RefCell::new(Outlier::default()),
            accrual: self.client.accrual,
            ewma: match self.client.balancer {
                Balancer::Ewma { decay } => Some(Cell::new(Ewma::new(decay))),
                Balancer::P2c | Balancer::RoundRobin => None,
            },
            life_us: self.client.life_time.map_or(u64::MAX, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            limits: self.client.limits,
            ejected: Rc::clone(&self.ejected),
            pace: Rc::clone(&self.pace),
            counted: Cell::new(false),
            auto: self.client.protocol == Protocol::Auto,
            no_h2_until_us: Cell::new(0),
            spoken: Arc::clone(&self.shared.spoken),
        })
    }
}

/// One address with this worker's connections to it.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: Place,
    /// It is one of our own listeners: never dialled.
    pub own: Cell<bool>,
    weight: f64,
    in_flight: Cell<u32>,
    /// No longer an address of its cluster: connections are not kept.
    retired: Cell<bool>,
    idle: RefCell<Vec<Idle>>,
    /// It was found to send octets behind an answer that has none.
    talks_on: Cell<bool>,
    /// The HTTP/2 connection on which it went first since it answered anything.
    went: Cell<Option<u64>>,
    h2: RefCell<Vec<H2>>,
    /// One dial at a time: the others wait and then share its connection.
    dialling: tokio::sync::Mutex<()>,
    outlier: RefCell<Outlier>,
    accrual: Option<Accrual>,
    /// How long requests take here, where the balancer asks.
    ewma: Option<Cell<Ewma>>,
    /// A connection older than this takes no more requests.
    life_us: u64,
    /// What is borne of it.
    pub limits: ClientLimits,
    /// Its client writes no protocol: what a caller says is a call is tried over HTTP/2.
    auto: bool,
    /// It was found to speak no HTTP/2; until then it is not asked again, in microseconds of the clock.
    no_h2_until_us: Cell<u64>,
    spoken: Arc<Spoken>,
    /// How long its name takes to answer calls.
    pub pace: Rc<Pace>,
    ejected: Rc<Cell<u32>>,
    /// Is it part of `ejected`.
    counted: Cell<bool>,
}

impl Endpoint {
    /// When an attempt begins, in microseconds of the clock; 0 where nobody asks.
    pub fn begin(&self) -> u64 {
        if self.ewma.is_some() { clock::now_us() } else { 0 }
    }

    /// The head of an answer came to an attempt that began then.
    pub fn note_head(&self, begun_us: u64) {
        self.went.set(None);
        if let Some(ewma) = &self.ewma {
            let now_us = clock::now_us();
            ewma.set(ewma.get().observe(now_us.saturating_sub(begun_us), now_us));
        }
    }

    /// It goes, as it says on this connection. May it, or did it so before and has answered nothing since.
    pub fn may_go(&self, connection: u64) -> bool {
        let first = self.went.get().unwrap_or(connection);
        self.went.set(Some(first));
        first == connection
    }

    /// What one more request would cost: the balancer takes the cheaper of two.
    fn cost(&self, now_us: u64) -> u64 {
        match &self.ewma {
            Some(ewma) => ewma.get().cost(self.in_flight.get(), now_us),
            None => u64::from(self.in_flight.get()),
        }
    }

    fn lease(self: &Rc<Self>) -> Lease {
        self.in_flight.set(self.in_flight.get() + 1);
        let pass = match &self.accrual {
            Some(accrual) if self.counted.get() => self.outlier.borrow_mut().begin_forced(accrual, clock::now_ms()),
            _ => Pass::Ordinary,
        };
        Lease { endpoint: Rc::clone(self), pass }
    }

    fn is_old(&self, born_us: u64, now_us: u64) -> bool {
        now_us.saturating_sub(born_us) >= self.life_us
    }

    /// A fresh connection. Rare, and its future is large: the callers box it.
    pub async fn dial(&self, worker: &Worker, timeout: Duration) -> Result<Conn, Fault> {
        let cells = worker.shard.worker();
        let connecting = async {
            match connect(&self.address).await {
                Err(error) if accept::is_exhausted(&error) && accept::make_room(worker, &error) > 0 => {
                    connect(&self.address).await
                }
                connected => connected,
            }
        };
        let io = match tokio::time::timeout(timeout, connecting).await {
            Ok(Ok(io)) => io,
            // our own want of sockets says nothing of the endpoint
            Ok(Err(error)) if accept::is_exhausted(&error) => {
                cells.upstream_connects_failed.inc();
                return Err(Fault::own(ProxyError::Overloaded));
            }
            failed => {
                cells.upstream_connects_failed.inc();
                let error = if failed.is_err() { ProxyError::ConnectTimeout } else { ProxyError::ConnectRefused };
                return Err(Fault::upstream(Replay::Always, error));
            }
        };
        cells.upstream_connects_ok.inc();
        Ok(Conn::new(io, &worker.shard))
    }

    /// Refuses to call ourselves. Nobody is tried then: it says nothing of the endpoint.
    pub fn check_own(&self) -> Result<(), Fault> {
        if self.own.get() {
            return Err(Fault::own(ProxyError::Loop(format!("{} is its own", self.address))));
        }
        Ok(())
    }

    /// Is it in the rotation: not ejected, or its time out is over and it may be probed.
    fn admitted(&self, now_ms: u64) -> bool {
        !self.counted.get() || self.outlier.borrow().is_usable(now_ms)
    }

    /// Says whether it was ejected now.
    fn judge(&self, pass: Pass, class: Class, worker: &Worker) -> bool {
        let Some(accrual) = &self.accrual else { return false };
        let mut outlier = self.outlier.borrow_mut();
        if self.retired.get() || (class != Class::Failure && outlier.is_clean(accrual)) {
            return false;
        }
        let change = outlier.record(pass, class, accrual, worker.random(), clock::now_ms());
        if let Some(change) = change {
            tracing::info!(endpoint = %self.address, worker = worker.index, "{change:?}");
        }
        let out = !outlier.is_admitted();
        if out != self.counted.replace(out) {
            let ejected = self.ejected.get();
            self.ejected.set(if out { ejected + 1 } else { ejected.saturating_sub(1) });
        }
        matches!(change, Some(outlier::Change::Ejected { .. }))
    }

    fn sweep(&self, now_us: u64) {
        let idle_us_max = u64::try_from(self.limits.idle_timeout.as_micros()).unwrap_or(u64::MAX);
        // the oldest are at the bottom of the stack
        let mut idle = self.idle.borrow_mut();
        let old = idle.iter().take_while(|idle| now_us.saturating_sub(idle.since_us) > idle_us_max).count();
        idle.drain(..old);
        // without a handle to it the connection says GOAWAY and ends
        let is_done = |h2: &H2| h2.is_over() || self.is_old(h2.born_us(), now_us) || h2.is_stale(now_us, idle_us_max);
        self.h2.borrow_mut().retain(|h2| !is_done(h2));
    }

    fn close(&self) {
        self.idle.borrow_mut().clear();
        self.h2.borrow_mut().clear();
    }

    fn retire(&self) {
        self.retired.set(true);
        self.close();
        if self.counted.replace(false) {
            self.ejected.set(self.ejected.get().saturating_sub(1));
        }
    }
}

async fn connect(place: &Place) -> io::Result<Stream> {
    let io = match place {
        Place::Inet(address) => TcpStream::connect(address).await?,
        Place::Unix(path) => return UnixStream::connect(path).await.map(Stream::Unix),
    };
    // without it small messages may wait for the peer's delayed acknowledgement
    let _best_effort = io.set_nodelay(true);
    let _best_effort = SockRef::from(&io).set_tcp_keepalive(&listener::keepalive());
    Ok(Stream::Tcp(io))
}

/// An informational status ends no request, so a name that asks for one is answered 502.
pub(crate) fn fixed_answer(id: &Path) -> Option<StatusCode> {
    match id.labels().collect::<Vec<_>>()[..] {
        [b"$", b"io.buoyant.http.status", code] => {
            let status = StatusCode::from_bytes(code).ok()?;
            Some(if status.is_informational() { StatusCode::BAD_GATEWAY } else { status })
        }
        _ => None,
    }
}
