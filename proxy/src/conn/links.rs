//! All downstream connections of one worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};

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
    all: RefCell<Vec<Weak<Link>>>,
    open: Cell<usize>,
    phase: Cell<Phase>,
    changed: tokio::sync::Notify,
    stripped: RefCell<HashMap<IpAddr, u64>>,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            all: RefCell::default(),
            open: Cell::new(0),
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
        links.open.set(links.open.get() + 1);
        links.all.borrow_mut().push(Rc::downgrade(link));
        if links.phase.get() != Phase::Running {
            link.ask(Ask::Close);
        }
        let cells = worker.shard.worker();
        cells.connections_accepted.inc();
        cells.connections_active.inc();
        Open(Rc::clone(worker))
    }

    /// Connections open now.
    pub fn len(&self) -> usize {
        self.open.get()
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
        self.all.borrow_mut().retain(|link| {
            let Some(link) = link.upgrade() else { return false };
            link.sweep(now_us, draining);
            true
        });
        self.stripped.borrow_mut().retain(|_, at_us| now_us.saturating_sub(*at_us) < STRIPPED_LOG_US);
    }

    /// Context fields of an untrusted peer were removed: said once for each address and minute.
    pub fn note_stripped(&self, peer: IpAddr) {
        let mut stripped = self.stripped.borrow_mut();
        if stripped.len() < STRIPPED_PEERS_MAX && !stripped.contains_key(&peer) {
            stripped.insert(peer, clock::now_us());
            tracing::warn!(%peer, "removed l5d context fields: this peer is not trusted (servers[].trustedSources, clearContext)");
        }
    }

    /// Ends some of the connections that have waited longest for another request, politely: something needs their sockets.
    /// Says how many.
    pub fn close_idlest(&self) -> usize {
        let all = self.all.borrow();
        let mut spare: Vec<(u64, Rc<Link>)> =
            all.iter().filter_map(Weak::upgrade).filter_map(|link| Some((link.spare_since_us()?, link))).collect();
        spare.sort_unstable_by_key(|(since_us, _)| *since_us);
        spare.truncate(SPARE_MAX);
        for (_, link) in &spare {
            link.ask(Ask::Close);
        }
        spare.len()
    }

    fn close(&self, which: impl Fn(&Link) -> bool) {
        let all: Vec<Rc<Link>> = self.all.borrow().iter().filter_map(Weak::upgrade).collect();
        for link in all.iter().filter(|link| which(link)) {
            link.ask(Ask::Close);
        }
    }
}

/// Counts a connection as open.
#[derive(Debug)]
pub struct Open(Rc<Worker>);

impl Drop for Open {
    fn drop(&mut self) {
        let links = &self.0.links;
        links.open.set(links.open.get().saturating_sub(1));
        self.0.shard.worker().connections_active.dec();
        links.changed.notify_waiters();
    }
}
