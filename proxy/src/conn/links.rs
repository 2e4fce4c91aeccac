//! All downstream connections of one worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::link::{Ask, Link};
use crate::clock;
use crate::snapshot::Phase;
use crate::worker::Worker;

/// Peers whose stripped fields are remembered, so that each is logged once a minute.
const STRIPPED_PEERS_MAX: usize = 256;
const STRIPPED_LOG_US: u64 = 60_000_000;
/// Idle connections that are closed at once when there are no sockets left.
const SPARE_MAX: usize = 8;

/// All connections of one worker.
#[derive(Debug)]
pub struct Links {
    all: RefCell<Places>,
    phase: Cell<Phase>,
    changed: tokio::sync::Notify,
    stripped: RefCell<HashMap<IpAddr, u64>>,
}

/// A place for each connection. One that is free is taken again before another is made, and its link goes with the connection:
/// waiting for a sweep, short connections would each have touched memory that no cache holds.
#[derive(Debug, Default)]
struct Places {
    links: Vec<Option<Rc<Link>>>,
    free: Vec<u32>,
}

impl Places {
    fn take(&mut self, link: Rc<Link>) -> u32 {
        if let Some(place) = self.free.pop() {
            self.links[place as usize] = Some(link);
            return place;
        }
        self.links.push(Some(link));
        u32::try_from(self.links.len() - 1).unwrap_or(u32::MAX)
    }

    fn leave(&mut self, place: u32) {
        if let Some(left) = self.links.get_mut(place as usize).filter(|link| link.is_some()) {
            *left = None;
            self.free.push(place);
        }
    }

    fn len(&self) -> usize {
        self.links.len() - self.free.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Rc<Link>> {
        self.links.iter().flatten()
    }
}

impl Default for Links {
    fn default() -> Self {
        Self {
            all: RefCell::default(),
            phase: Cell::new(Phase::Running),
            changed: tokio::sync::Notify::new(),
            stripped: RefCell::default(),
        }
    }
}

impl Links {
    /// A connection came; the answer counts it until it is dropped.
    pub fn open(worker: &Rc<Worker>, link: &Rc<Link>) -> Open {
        let links = &worker.links;
        let place = links.all.borrow_mut().take(Rc::clone(link));
        if links.phase.get() != Phase::Running {
            link.ask(Ask::Close);
        }
        let cells = worker.shard.worker();
        cells.connections_accepted.inc();
        cells.connections_active.inc();
        Open { worker: Rc::clone(worker), place }
    }

    /// Connections open now.
    pub fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Is there none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Which part of its life the process is in.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// From now on connections end as soon as they can.
    pub fn drain(&self) {
        self.phase.set(Phase::Draining);
        self.close(|_| true);
        self.changed.notify_waiters();
    }

    /// Ends the connections of a listener that was removed, politely.
    pub fn close_listener(&self, listener: u64) {
        self.close(|link| link.listener == listener);
    }

    /// Completes when the number of connections may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Looks for connections that are idle, slow or gone.
    pub fn sweep(&self, now_us: u64) {
        let draining = self.phase.get() != Phase::Running;
        for link in self.all.borrow().iter() {
            link.sweep(now_us, draining);
        }
        self.stripped.borrow_mut().retain(|_, at_us| now_us.saturating_sub(*at_us) < STRIPPED_LOG_US);
    }

    /// Context fields of an untrusted peer were removed: said once for each address and minute. `unset`: nobody said who is
    /// trusted, so loopback is, but for its proxies.
    pub fn note_stripped(&self, peer: IpAddr, unset: bool) {
        let mut stripped = self.stripped.borrow_mut();
        if stripped.len() < STRIPPED_PEERS_MAX && !stripped.contains_key(&peer) {
            stripped.insert(peer, clock::now_us());
            let why = if unset && peer.to_canonical().is_loopback() {
                "a proxy on this host passed them on, and no servers[].trustedSources names its network"
            } else {
                "this peer is not trusted (servers[].trustedSources, clearContext)"
            };
            tracing::warn!(%peer, "removed l5d context fields: {why}");
        }
    }

    /// Ends some of the connections that have waited longest for another request, politely: something needs their sockets.
    /// Says how many.
    pub fn close_idlest(&self) -> usize {
        let all = self.all.borrow();
        let mut spare: Vec<(u64, Rc<Link>)> =
            all.iter().filter_map(|link| Some((link.spare_since_us()?, Rc::clone(link)))).collect();
        spare.sort_unstable_by_key(|(since_us, _)| *since_us);
        spare.truncate(SPARE_MAX);
        for (_, link) in &spare {
            link.ask(Ask::Close);
        }
        spare.len()
    }

    fn close(&self, which: impl Fn(&Link) -> bool) {
        for link in self.all.borrow().iter().filter(|link| which(link)) {
            link.ask(Ask::Close);
        }
    }
}

/// Counts a connection as open.
#[derive(Debug)]
pub struct Open {
    worker: Rc<Worker>,
    place: u32,
}

impl Drop for Open {
    fn drop(&mut self) {
        let links = &self.worker.links;
        links.all.borrow_mut().leave(self.place);
        self.worker.shard.worker().connections_active.dec();
        links.changed.notify_waiters();
    }
}
