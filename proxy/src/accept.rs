//! Accepting: one loop for each listener, what other workers hand over, and the end of a worker.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;

use crate::admission::{Admission, Admitted, Most, Refused};
use crate::clock;
use crate::conn::{self, Link, Links, Stack};
use crate::handover::{Arrival, Handed, Inbox};
use crate::listener;
use crate::local::Local;
use crate::snapshot::Phase;
use crate::stack::request_stack;
use crate::stream::Stream;
use crate::worker::Worker;

/// Between two looks at a listener that has as many connections as it may: other workers may have closed some.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two lines of the log about sockets that cannot be had.
const WARN_US: u64 = 1_000_000;
/// After an error of `accept` such as too many open files: long enough not to spin, short enough not to be felt.
const BACKOFF: Duration = Duration::from_millis(50);

/// Follows the world: takes new listeners, lets removed ones run dry, and returns when the process is done.
pub async fn run(worker: Rc<Worker>, mut inbox: Inbox) {
    let stack = Rc::new(request_stack(&worker));
    let mut changes = worker.world.subscribe();
    let mut loops: HashMap<u64, Rc<Stop>> = HashMap::new();
    loop {
        let (_, phase) = *changes.borrow_and_update();
        match phase {
            Phase::Running => reconcile(&worker, &stack, &mut loops),
            Phase::Draining => break,
            Phase::Cut => return,
        }
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(handed) = inbox.recv() => take_over(handed, &worker, &stack),
            }
        }
    }
    for stop in loops.values() {
        stop.stop();
    }
    // from here the others keep what they accept; what is on the way is still served
    inbox.close();
    while let Some(handed) = inbox.recv().await {
        take_over(handed, &worker, &stack);
    }
    while loops.values().any(|stop| !stop.is_dry()) {
        tokio::task::yield_now().await;
    }
    worker.links.drain();
    while !worker.links.is_empty() || !worker.in_flight.is_empty() {
        tokio::select! {
            () = worker.links.changed() => {}
            changed = changes.changed() => {
                if changed.is_err() || changes.borrow_and_update().1 == Phase::Cut {
                    return;
                }
            }
        }
    }
}

/// Asks an accept loop to end.
#[derive(Debug, Default)]
struct Stop {
    wanted: Cell<bool>,
    dry: Cell<bool>,
    told: Notify,
}

impl Stop {
    fn stop(&self) {
        self.wanted.set(true);
        self.told.notify_one();
    }

    /// The socket is closed, and nobody waits in its queue.
    fn is_dry(&self) -> bool {
        self.dry.get()
    }
}

fn reconcile<S: Stack>(worker: &Rc<Worker>, stack: &Rc<S>, loops: &mut HashMap<u64, Rc<Stop>>) {
    let local = worker.current();
    for server in &local.shape.structure.servers {
        let listener = &server.listener;
        if loops.contains_key(&listener.id) {
            continue;
        }
        let Some(socket) = listener.take(worker.index) else { continue };
        match Listening::new(socket) {
            Ok(socket) => {
                let stop = Rc::new(Stop::default());
                loops.insert(listener.id, Rc::clone(&stop));
                tokio::task::spawn_local(accept(socket, listener.id, Rc::clone(worker), Rc::clone(stack), stop));
            }
            Err(error) => tracing::error!(address = listener.shown(), %error, "cannot use a listener"),
        }
    }
    loops.retain(|id, stop| {
        let kept = local.shape.server(*id).is_some();
        if !kept {
            stop.stop();
            worker.links.close_listener(*id);
        }
        kept
    });
}

/// Where one worker accepts.
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    fn new(socket: listener::Socket) -> io::Result<Self> {
        match socket {
            listener::Socket::Tcp(socket) => TcpListener::from_std(socket).map(Self::Tcp),
            listener::Socket::Unix(socket) => UnixListener::from_std(socket).map(Self::Unix),
        }
    }

    /// Who comes to a Unix socket has no address and comes from this host.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(io, peer)| (Stream::Tcp(io), peer)),
            Self::Unix(listener) => listener
                .poll_accept(cx)
                .map_ok(|(io, _)| (Stream::Unix(io), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))),
        }
    }

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }
}

async fn accept<S: Stack>(listener: Listening, id: u64, worker: Rc<Worker>, stack: Rc<S>, stop: Rc<Stop>) {
    // what the listener was like when it was last there: who still waits in its queue came to that
    let Some(mut seen) = place(&worker, id) else { return stop.dry.set(true) };
    while !stop.wanted.get() {
        if admission(&seen).is_full(most(&seen)) {
            pause(&worker, &stop, PAUSE).await;
            continue;
        }
        let accepted = tokio::select! {
            // asked first and alone as long as somebody waits: whether to stop is seen above
            biased;
            accepted = listener.accept() => accepted,
            () = stop.told.notified() => continue,
        };
        match accepted {
            Ok((io, peer)) => {
                seen = place(&worker, id).unwrap_or(seen);
                let source = matches!(listener, Listening::Tcp(_)).then(|| peer.ip());
                let arrival = Arrival { io, listener: id, peer };
                match admit(&seen, source, &worker, &stop).await {
                    Ok(admitted) => {
                        let kept = worker.handover.pass_on(worker.index, arrival, admitted, &seen.0.snapshot);
                        let Some((arrival, admitted)) = kept else { continue };
                        serve(arrival, seen.clone(), Some(admitted), &worker, &stack);
                    }
                    Err(Refused::Full) => drop(serve(arrival, seen.clone(), None, &worker, &stack)),
                    Err(Refused::Source) => {}
                }
            }
            Err(error) if is_exhausted(&error) => {
                let _freed = make_room(&worker, &error);
                pause(&worker, &stop, BACKOFF).await;
            }
            // of that one connection, which is gone
            Err(error) => tracing::debug!(%error, "cannot accept a connection"),
        }
    }
    // closing the socket resets what waits in its queue: take it first
    while let Poll::Ready(Ok((io, peer))) = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await {
        serve(Arrival { io, listener: id, peer }, seen.clone(), None, &worker, &stack).close();
    }
    drop(listener);
    stop.dry.set(true);
}

/// The listener in the snapshot in force, if it is still in it.
fn place(worker: &Worker, id: u64) -> Option<(Rc<Local>, usize)> {
    let local = worker.current();
    let server = local.shape.server(id)?;
    Some((local, server))
}

fn admission((local, server): &(Rc<Local>, usize)) -> &Arc<Admission> {
    &local.shape.structure.servers[*server].listener.admission
}

fn most((local, server): &(Rc<Local>, usize)) -> Most {
    let limits = &local.shape.structure.servers[*server].server.limits;
    Most { connections: limits.connections_max, of_source: limits.connections_per_source_max }
}

/// Counts the connection; where another worker took the last place meanwhile, it waits here as it would in the kernel. An
/// end of the listener lets it in anyway.
async fn admit(
    seen: &(Rc<Local>, usize),
    source: Option<IpAddr>,
    worker: &Worker,
    stop: &Stop,
) -> Result<Admitted, Refused> {
    loop {
        match admission(seen).enter(source, most(seen), worker.index) {
            Err(Refused::Full) if !stop.wanted.get() => pause(worker, stop, PAUSE).await,
            Err(Refused::Source) => {
                worker.shard.worker().connections_refused.inc();
                return Err(Refused::Source);
            }
            decided => return decided,
        }
    }
}

/// Until the listener is to end, or it is worth another look.
async fn pause(worker: &Worker, stop: &Stop, at_most: Duration) {
    tokio::select! {
        () = worker.links.changed() => {}
        () = tokio::time::sleep(at_most) => {}
        () = stop.told.notified() => {}
    }
}

/// No descriptors or memory, here or in the whole system (`accept(2)`, `connect(2)`): trying again at once would fail again.
/// EADDRNOTAVAIL is not among them: it is also the answer for an address of a family that this host does not have, and
/// closing other sockets mends neither.
pub fn is_exhausted(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE | ENOBUFS))
}

/// Closes connections that wait for nothing in particular, so that somebody else can have their sockets. Says how many sockets
/// are free already.
pub fn make_room(worker: &Worker, error: &io::Error) -> usize {
    let upstream = worker.close_idle_upstreams();
    let downstream = worker.links.close_idlest();
    let (now_us, warned) = (clock::now_us(), &worker.exhausted_us);
    if warned.get().is_none_or(|at_us| now_us.saturating_sub(at_us) > WARN_US) {
        warned.set(Some(now_us));
        tracing::warn!(%error, upstream, downstream, "no sockets left: closing idle connections");
    }
    upstream
}

/// Another worker accepted it, and this one has fewer.
fn take_over<S: Stack>(handed: Handed, worker: &Rc<Worker>, stack: &Rc<S>) {
    let (arrival, admitted, snapshot) = match handed.take() {
        Ok(taken) => taken,
        Err(error) => return tracing::debug!(%error, "cannot take a connection over"),
    };
    if let Some(seen) = place(worker, arrival.listener) {
        serve(arrival, seen, Some(admitted), worker, stack);
        return;
    }
    // its listener was removed while it was on the way: it gets what who waited in the queue gets
    let local = worker.earlier(snapshot);
    let Some(server) = local.shape.server(arrival.listener) else { return };
    serve(arrival, (local, server), Some(admitted), worker, stack).close();
}

fn serve<S: Stack>(
    arrival: Arrival,
    seen: (Rc<Local>, usize),
    admitted: Option<Admitted>,
    worker: &Rc<Worker>,
    stack: &Rc<S>,
) -> Rc<Link> {
    let link = Link::new(arrival.listener, arrival.peer, seen, worker);
    let held = (admitted, Links::open(worker, &link));
    tokio::task::spawn_local(conn::serve(arrival.io, Rc::clone(&link), Rc::clone(worker), Rc::clone(stack), held));
    link
}
