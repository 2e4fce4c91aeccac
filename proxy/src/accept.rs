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
use crate::listener::{self, closing::Queue};
use crate::local::Local;
use crate::snapshot::Phase;
use crate::stack::request_stack;
use crate::stream::Stream;
use crate::worker::Worker;

/// Between two looks at a listener that has as many connections as it may: other workers may have closed some.
const PAUSE: Duration = Duration::from_millis(20);
/// A client may know of its connection a round trip before the kernel here has it in its queue: so long a listener that lets
/// nobody else in waits for those.
const HANDSHAKE: Duration = Duration::from_millis(100);
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
            Phase::Draining => {
                // who came before the end came to a listener, also to one that this worker has not seen yet
                reconcile(&worker, &stack, &mut loops);
                break;
            }
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
    // also asks those to close that come from here on
    worker.links.drain();
    for stop in loops.values() {
        stop.until_dry().await;
    }
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
    dried: Notify,
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

    fn set_dry(&self) {
        self.dry.set(true);
        self.dried.notify_one();
    }

    async fn until_dry(&self) {
        if !self.is_dry() {
            self.dried.notified().await;
        }
    }
}

fn reconcile<S: Stack>(worker: &Rc<Worker>, stack: &Rc<S>, loops: &mut HashMap<u64, Rc<Stop>>) {
    let local = worker.current();
    for (index, server) in local.shape.structure.servers.iter().enumerate() {
        let listener = &server.listener;
        if loops.contains_key(&listener.id) {
            continue;
        }
        let Some(socket) = listener.take(worker.index) else { continue };
        match Listening::new(socket) {
            Ok(socket) => {
                let stop = Rc::new(Stop::default());
                loops.insert(listener.id, Rc::clone(&stop));
                let seen = (Rc::clone(&local), index);
                tokio::task::spawn_local(accept(socket, seen, Rc::clone(worker), Rc::clone(stack), stop));
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
        // the end of the worker waits for the end of each
        kept || !stop.is_dry()
    });
    for (missed, socket) in worker.world.take_missed(worker.index) {
        let local = worker.earlier(missed.snapshot);
        let Some(server) = local.shape.server(missed.listener.id) else { continue };
        let stop = Rc::new(Stop::default());
        loops.insert(missed.listener.id, Rc::clone(&stop));
        let queue = Queue::new(socket);
        tokio::task::spawn_local(run_dry(queue, (local, server), Rc::clone(worker), Rc::clone(stack), stop));
    }
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

    /// Does this error of `accept` say that it lets in nobody any more.
    fn is_shut(&self, error: &io::Error) -> bool {
        matches!(self, Self::Unix(_)) && error.kind() == io::ErrorKind::InvalidInput
    }

    /// Who waits for it, while nobody else comes in.
    fn into_queue(self) -> io::Result<Queue> {
        Ok(Queue::new(match self {
            Self::Tcp(listener) => listener::Socket::Tcp(listener.into_std()?),
            Self::Unix(listener) => listener::Socket::Unix(listener.into_std()?),
        }))
    }

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }
}

/// `seen` is what the listener was like when it was last there: who still waits in its queue came to that.
async fn accept<S: Stack>(
    listener: Listening,
    mut seen: (Rc<Local>, usize),
    worker: Rc<Worker>,
    stack: Rc<S>,
    stop: Rc<Stop>,
) {
    let id = of(&seen).id;
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
            // a Unix socket is one for all workers: another has seen earlier that it is to end
            Err(error) if listener.is_shut(&error) => stop.told.notified().await,
            // of that one connection, which is gone
            Err(error) => tracing::debug!(%error, "cannot accept a connection"),
        }
    }
    match listener.into_queue() {
        Ok(queue) => run_dry(queue, seen, worker, stack, stop).await,
        Err(error) => {
            tracing::error!(%error, "cannot take what waits at a listener that ends");
            stop.set_dry();
        }
    }
}

/// Serves who waits in the queue of a listener that ends, and closes it.
async fn run_dry<S: Stack>(
    mut queue: Queue,
    seen: (Rc<Local>, usize),
    worker: Rc<Worker>,
    stack: Rc<S>,
    stop: Rc<Stop>,
) {
    take_all(&mut queue, &seen, &worker, &stack);
    if queue.has_begun() {
        tokio::time::sleep(HANDSHAKE).await;
        take_all(&mut queue, &seen, &worker, &stack);
    }
    drop(queue);
    stop.set_dry();
}

fn take_all<S: Stack>(queue: &mut Queue, seen: &(Rc<Local>, usize), worker: &Rc<Worker>, stack: &Rc<S>) {
    let id = of(seen).id;
    for taken in queue {
        match taken.and_then(|(io, peer)| Ok((io.attach()?, peer))) {
            Ok((io, peer)) => {
                serve(Arrival { io, listener: id, peer }, seen.clone(), None, worker, stack).close();
            }
            Err(error) if is_exhausted(&error) && make_room(worker, &error) == 0 => return,
            Err(error) => tracing::debug!(%error, "cannot accept a connection"),
        }
    }
}

/// The listener in the snapshot in force, if it is still in it.
fn place(worker: &Worker, id: u64) -> Option<(Rc<Local>, usize)> {
    let local = worker.current();
    let server = local.shape.server(id)?;
    Some((local, server))
}

fn of((local, server): &(Rc<Local>, usize)) -> &listener::Listener {
    &local.shape.structure.servers[*server].listener
}

fn admission(seen: &(Rc<Local>, usize)) -> &Arc<Admission> {
    &of(seen).admission
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

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::listener::Listener;

    /// The runtime learns who came when it looks at its sockets; a worker that is busy, or kept off its core, does that late.
    #[tokio::test]
    async fn a_connection_that_the_runtime_has_not_seen_is_taken_out_of_the_queue() {
        let bound = Listener::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let listening = Listening::new(bound.take(0).unwrap()).unwrap();
        assert!(poll_fn(|cx| Poll::Ready(listening.poll_accept(cx))).await.is_pending());
        let _client = TcpStream::connect(bound.address).unwrap();
        let taken: Vec<_> = listening.into_queue().unwrap().collect();
        assert!(matches!(taken[..], [Ok(_)]), "{taken:?}");
    }
}
