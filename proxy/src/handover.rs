//! Connections that one worker accepted and another serves.
//!
//! The kernel spreads connections over the sockets of a listener by a hash, so a few long ones can all come to one worker while
//! the others have none. Whoever accepts one takes a seat for it where there are fewest (`admission.rs`), and if that is
//! another worker's it hands the socket over. What is on the way waits in a queue with an end; a queue that is full or closed takes
//! nothing, and then the connection stays where it was accepted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::admission::Admitted;
use crate::snapshot::Snapshot;
use crate::stream::{Detached, Stream};

/// Connections that wait for one worker to take them over.
const WAITING_MAX: usize = 64;

/// The queues of all workers.
#[derive(Debug)]
pub struct Handover(Box<[mpsc::Sender<Handed>]>);

/// The end of a queue where a worker takes what the others hand over.
pub type Inbox = mpsc::Receiver<Handed>;

/// A connection on its way from one worker to another.
#[derive(Debug)]
pub struct Handed {
    /// Id of its listener.
    pub listener: u64,
    /// Who it comes from.
    pub peer: SocketAddr,
    /// Has the listener, even if newer snapshots do not.
    pub snapshot: Arc<Snapshot>,
    /// Its seat, with the worker that gets it.
    pub admitted: Admitted,
    io: Detached,
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Arrival {
    /// Its socket.
    pub io: Stream,
    /// Id of its listener.
    pub listener: u64,
    /// Who it comes from.
    pub peer: SocketAddr,
}

impl Handover {
    /// A queue for each worker.
    pub fn new(workers: usize) -> (Arc<Self>, Vec<Inbox>) {
        let (desks, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(WAITING_MAX)).unzip();
        (Arc::new(Self(desks.into())), inboxes)
    }

    /// Hands a connection to the worker whose seat it has. `Some`: it is for `own`, or stays there because the other takes
    /// nothing.
    pub fn pass_on(
        &self,
        own: usize,
        arrival: Arrival,
        mut admitted: Admitted,
        snapshot: &Arc<Snapshot>,
    ) -> Option<(Arrival, Admitted)> {
        if admitted.seat() == own {
            return Some((arrival, admitted));
        }
        let Some(room) = self.0.get(admitted.seat()).and_then(|desk| desk.try_reserve().ok()) else {
            admitted.sit_down(own);
            return Some((arrival, admitted));
        };
        let Arrival { io, listener, peer } = arrival;
        match io.detach() {
            Ok(io) => room.send(Handed { listener, peer, snapshot: Arc::clone(snapshot), admitted, io }),
            Err(error) => tracing::debug!(%error, %peer, "cannot hand a connection over: it is closed"),
        }
        None
    }
}

impl Handed {
    /// The connection as this worker's.
    ///
    /// # Errors
    /// The runtime cannot watch it: no memory, or too much is watched.
    pub fn take(self) -> io::Result<(Arrival, Admitted, Arc<Snapshot>)> {
        let arrival = Arrival { io: self.io.attach()?, listener: self.listener, peer: self.peer };
        Ok((arrival, self.admitted, self.snapshot))
    }
}
