//! One worker: a thread, a runtime, its listeners, and everything its connections share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use serin_config::dtab::Path;
use serin_config::model::Client;
use serin_metrics::{Metrics, Shard};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::clock;
use crate::conn::Links;
use crate::endpoints::EndpointTable;
use crate::error::ProxyError;
use crate::evidence::Records;
use crate::forward::RetryRoom;
use crate::handover::{Handover, Inbox};
use crate::inflight::InFlight;
use crate::ledger::Teller;
use crate::local::Local;
use crate::mirror::Mirrors;
use crate::pool::{Endpoint, LocalCluster, Pulses};
use crate::snapshot::{Phase, Snapshot, World};
use crate::stall::Stalls;
use crate::{accept, own_address};

/// Size of the block that upstream reads share.
const BLOCK: usize = 64 << 10;
/// Less room than this in the block and a new one is taken.
const ROOM_MIN: usize = 16 << 10;
/// Size of the block that short field values share.
const INK: usize = 4 << 10;
/// Spare header maps kept.
const MAPS_MAX: usize = 64;
/// A header map has room for so many fields; one with less would grow step by step with the next message, and is not kept.
const MAP_FIELDS: usize = 12;
/// A header map that grew beyond this is not kept.
const MAP_FIELDS_MAX: usize = 64;
/// Between two looks at what is idle. Two of them are a little more than the second for which the allocator keeps what was
/// freed: so what one look let go of is given back by the next but one.
const SWEEP: Duration = Duration::from_millis(520);
/// Octets of a block that makes the allocator look at what is free: too many for it to keep.
const NUDGE: usize = 1 << 20;

/// What a worker is made of.
#[derive(Debug)]
pub struct WorkerSeed {
    /// Which one, from 0.
    pub index: usize,
    /// Of how many.
    pub workers: usize,
    /// Where snapshots come from.
    pub world: Arc<World>,
    /// Where counts go.
    pub metrics: Arc<Metrics>,
    /// All bound names.
    pub endpoints: Arc<EndpointTable>,
    /// Where events of rollouts go.
    pub records: Arc<Records>,
    /// Where connections go that another worker is to serve.
    pub handover: Arc<Handover>,
    /// Where those come from that this one is to serve.
    pub inbox: Inbox,
}

/// What all connections of one worker share. It never leaves its thread.
pub struct Worker {
    /// Which one, from 0.
    pub index: usize,
    /// Of how many.
    pub workers: usize,
    /// Where snapshots come from.
    pub world: Arc<World>,
    /// This worker's counters.
    pub shard: Arc<Shard>,
    /// All bound names.
    pub endpoints: Arc<EndpointTable>,
    /// Where events of rollouts go.
    pub teller: Teller,
    /// Requests in flight.
    pub in_flight: InFlight,
    /// The time in microseconds as of the newest request, tick or sweep: good to [`crate::inflight::TICK_MS`] while requests have
    /// deadlines. For ages and deadlines, so that a request reads the clock twice and not five times.
    pub coarse_us: Cell<u64>,
    /// Downstream connections.
    pub links: Links,
    /// Where connections go that another worker is to serve.
    pub handover: Arc<Handover>,
    /// When it was last said that there are no sockets left, in microseconds.
    pub exhausted_us: Cell<Option<u64>>,
    /// Directions of exchanges that are blocked.
    pub stalls: Stalls,
    /// HTTP/2 connections to upstreams.
    pub pulses: Pulses,
    /// Requests that wait for a name.
    pub waiters: Waiters,
    /// What is held of requests for retries.
    pub retry_room: Rc<RetryRoom>,
    /// Where copies of requests go.
    pub mirrors: Mirrors,
    /// Interim responses for the stream whose task runs now: it passes them on as soon as its request has been polled.
    pub interim: RefCell<Vec<Response<()>>>,
    current: RefCell<Rc<Local>>,
    clusters: RefCell<Clusters>,
    random: RefCell<fastrand::Rng>,
    newest_address: RefCell<Option<(IpAddr, HeaderValue)>>,
    block: RefCell<BytesMut>,
    ink: RefCell<BytesMut>,
    out: Cell<Vec<u8>>,
    scratch: Cell<Vec<u8>>,
    maps: RefCell<Vec<HeaderMap>>,
}

/// By bound id, whether a request made the name, whether an override led there, and router: routers call their upstreams
/// in ways of their own.
type Clusters = HashMap<(Path, bool, bool, Arc<str>), Rc<LocalCluster>, foldhash::fast::RandomState>;

/// Starts a worker thread. It ends when the world drains and nothing is left.
///
/// # Errors
/// The thread or its runtime cannot be made.
pub fn spawn(seed: WorkerSeed) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker-{}", seed.index)).spawn(move || {
        // a runtime of this thread's own: nothing that runs on it needs to be Send
        match tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()) {
            Ok(runtime) => runtime.block_on(run(seed)),
            Err(error) => tracing::error!(%error, "a worker cannot start: no runtime"),
        }
    })
}

async fn run(seed: WorkerSeed) {
    let (worker, inbox) = Worker::new(seed);
    tokio::task::spawn_local(InFlight::run_ticks(Rc::clone(&worker)));
    tokio::task::spawn_local(sweep(Rc::clone(&worker)));
    accept::run(worker, inbox).await;
}

async fn sweep(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let now_us = clock::now_us();
        worker.coarse_us.set(now_us);
        worker.links.sweep(now_us);
        worker.stalls.sweep(now_us);
        worker.pulses.sweep(now_us);
        // names that no binding of this worker holds any more give up their connections
        worker.clusters.borrow_mut().retain(|_, cluster| {
            cluster.sweep(now_us);
            Rc::strong_count(cluster) > 1
        });
        worker.mirrors.sweep(now_us);
        worker.current().shape.sweep(now_us / 1000);
        nudge_allocator();
    }
}

/// mimalloc keeps memory that became free for a second, and looks at the time only when more becomes free: a worker that
/// has gone quiet would keep what a burst took. A block that comes and goes makes it look.
fn nudge_allocator() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(NUDGE)));
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} of {}", self.index, self.workers)
    }
}

impl Worker {
    /// What a thread of this process serves with, and where connections of other workers come in.
    pub fn new(seed: WorkerSeed) -> (Rc<Self>, Inbox) {
        let shard = seed.metrics.shard(seed.index);
        let retry_room = Rc::new(RetryRoom::new(&shard));
        let teller = Teller { records: seed.records, worker: seed.index };
        let local = Local::new(seed.world.load(), None, &shard, &teller);
        let worker = Rc::new(Self {
            index: seed.index,
            workers: seed.workers,
            world: seed.world,
            shard,
            endpoints: seed.endpoints,
            teller,
            in_flight: InFlight::default(),
            coarse_us: Cell::new(clock::now_us()),
            links: Links::default(),
            handover: seed.handover,
            exhausted_us: Cell::new(None),
            stalls: Stalls::default(),
            pulses: Pulses::default(),
            waiters: Waiters::default(),
            retry_room,
            mirrors: Mirrors::default(),
            interim: RefCell::default(),
            current: RefCell::new(Rc::new(local)),
            clusters: RefCell::default(),
            random: RefCell::new(fastrand::Rng::new()),
            newest_address: RefCell::default(),
            block: RefCell::default(),
            ink: RefCell::default(),
            out: Cell::default(),
            scratch: Cell::default(),
            maps: RefCell::default(),
        });
        (worker, seed.inbox)
    }

    /// The snapshot in force, as this worker uses it: one comparison when nothing changed.
    pub fn current(&self) -> Rc<Local> {
        let current = Rc::clone(&self.current.borrow());
        if current.snapshot.version == self.world.version() {
            return current;
        }
        let newest = Rc::new(Local::new(self.world.load(), Some(&current), &self.shard, &self.teller));
        *self.current.borrow_mut() = Rc::clone(&newest);
        let own = &newest.snapshot.structure.own;
        if *own != current.snapshot.structure.own {
            for cluster in self.clusters.borrow().values() {
                cluster.find_own(|address| own_address::is_own(address, own, &own_address::is_local));
            }
        }
        newest
    }

    /// That snapshot, as this worker uses it: for what is left of listeners that newer ones do not have.
    pub fn earlier(&self, snapshot: Arc<Snapshot>) -> Rc<Local> {
        Rc::new(Local::new(snapshot, Some(&self.current()), &self.shard, &self.teller))
    }

    /// Which part of its life the process is in.
    pub fn phase(&self) -> Phase {
        self.links.phase()
    }

    /// A bound name's endpoints on this worker; kept over snapshots, so a reload drops no connection. What overrides led
    /// to it has endpoints of its own: a tester's failures eject nothing that users are served by.
    pub fn cluster(
        &self,
        id: &Path,
        (made, overridden): (bool, bool),
        router: &Arc<str>,
        client: &Client,
        source: SocketAddr,
    ) -> Result<Rc<LocalCluster>, String> {
        let now_ms = clock::now_ms();
        let shared = self.endpoints.get(id, made, Some(source.ip()), now_ms).map_err(|error| error.to_string())?;
        let key = (id.clone(), shared.from_request, overridden, Arc::clone(router));
        let mut clusters = self.clusters.borrow_mut();
        match clusters.get(&key) {
            Some(known) if Arc::ptr_eq(&known.shared, &shared) && known.client == *client => Ok(Rc::clone(known)),
            _ => {
                let fresh = LocalCluster::new(shared, client.clone(), self.workers, self.endpoints.is_asked(id));
                clusters.insert(key, Rc::clone(&fresh));
                Ok(fresh)
            }
        }
    }

    /// The bound name that this endpoint is one of: for explanations.
    pub fn cluster_of(&self, endpoint: &Rc<Endpoint>) -> Option<Rc<LocalCluster>> {
        self.clusters.borrow().values().find(|cluster| cluster.has(endpoint)).cloned()
    }

    /// Closes the upstream connections that wait for a request. Says how many.
    pub fn close_idle_upstreams(&self) -> usize {
        self.clusters.borrow().values().map(|cluster| cluster.close_idle()).sum()
    }

    /// Would a connection to this address reach ourselves.
    pub fn is_own(&self, address: SocketAddr) -> bool {
        own_address::is_own(address, &self.current().snapshot.structure.own, &own_address::is_local)
    }

    /// 64 random bits.
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// One read into the worker's block, cut off as a shared slice: no copy and, as long as earlier slices get dropped,
    /// no allocation. A connection that waits holds no buffer. Empty: end of stream.
    pub fn poll_read<R: AsyncRead + Unpin>(&self, io: &mut R, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let mut block = self.block.borrow_mut();
        if block.capacity() < ROOM_MIN {
            block.reserve(BLOCK);
        }
        ready!(pin!(io.read_buf(&mut *block)).poll(cx))?;
        Poll::Ready(Ok(block.split().freeze()))
    }

    /// A short text for the field of a message, cut off a block: one allocation for many of them, or none while earlier
    /// ones get dropped.
    pub fn ink(&self, text: &[u8]) -> Bytes {
        let mut ink = self.ink.borrow_mut();
        if ink.capacity() < text.len() {
            ink.reserve(INK.max(text.len()));
        }
        ink.extend_from_slice(text);
        ink.split().freeze()
    }

    /// An address as `X-Forwarded-For` has it. Many connections in a row may come from the same one: they share the text.
    pub fn address_text(&self, address: IpAddr) -> HeaderValue {
        let mut newest = self.newest_address.borrow_mut();
        match &*newest {
            Some((known, text)) if *known == address => text.clone(),
            _ => {
                // an address has no octet that a field may not have
                let text = HeaderValue::try_from(address.to_canonical().to_string())
                    .unwrap_or(HeaderValue::from_static("unknown"));
                *newest = Some((address, text.clone()));
                text
            }
        }
    }

    /// The worker's output buffer, empty. Taken, not borrowed, so that it may live across a write; give it back before
    /// waiting for an answer, or every other request grows one of its own.
    pub fn take_out(&self) -> Vec<u8> {
        let mut out = self.out.take();
        out.clear();
        out
    }

    /// Gives the output buffer back.
    pub fn give_out(&self, out: Vec<u8>) {
        if out.capacity() <= BLOCK {
            self.out.set(out);
        }
    }

    /// A buffer for keys, empty. Not held across an await.
    pub fn take_scratch(&self) -> Vec<u8> {
        let mut scratch = self.scratch.take();
        scratch.clear();
        scratch
    }

    /// Gives the key buffer back.
    pub fn give_scratch(&self, scratch: Vec<u8>) {
        if scratch.capacity() <= BLOCK {
            self.scratch.set(scratch);
        }
    }

    /// An empty header map that has its memory already.
    pub fn take_map(&self) -> HeaderMap {
        self.maps.borrow_mut().pop().unwrap_or_else(|| HeaderMap::with_capacity(MAP_FIELDS))
    }

    /// Keeps a map's memory for a later message.
    pub fn give_map(&self, mut map: HeaderMap) {
        let mut maps = self.maps.borrow_mut();
        if maps.len() < MAPS_MAX && (MAP_FIELDS..=MAP_FIELDS_MAX).contains(&map.capacity()) {
            map.clear();
            maps.push(map);
        }
    }
}

/// A bounded room for requests that wait.
#[derive(Debug, Default)]
pub struct Waiters(Rc<Cell<usize>>);

/// A place in the room, given back when dropped.
#[derive(Debug)]
pub struct Place(Rc<Cell<usize>>);

impl Waiters {
    /// A place, unless `max` are taken.
    ///
    /// # Errors
    /// [`ProxyError::Overloaded`].
    pub fn enter(&self, max: usize) -> Result<Place, ProxyError> {
        if self.0.get() >= max {
            return Err(ProxyError::Overloaded);
        }
        self.0.set(self.0.get() + 1);
        Ok(Place(Rc::clone(&self.0)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
