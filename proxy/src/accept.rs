//! Accepting: one loop for each listener, and the end of a worker.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::conn::{self, Link, Links, Stack};
use crate::local::Local;
use crate::snapshot::Phase;
use crate::stack::request_stack;
use crate::worker::Worker;

/// Connections of one process; each worker takes its share. Beyond it, new ones wait in the kernel.
const CONNECTIONS_MAX: usize = 20_000;
/// After an error of `accept` such as too many open files: long enough not to spin, short enough not to be felt.
const BACKOFF: Duration = Duration::from_millis(50);

/// Follows the world: takes new listeners, lets removed ones run dry, and returns when the process is done.
pub async fn run(worker: Rc<Worker>) {
    let stack = request_stack(&worker);
    let mut changes = worker.world.subscribe();
    let mut loops: HashMap<u64, Rc<Stop>> = HashMap::new();
    loop {
        let (_, phase) = *changes.borrow_and_update();
        match phase {
            Phase::Running => reconcile(&worker, &stack, &mut loops),
            Phase::Draining => break,
            Phase::Cut => return,
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
    for stop in loops.values() {
        stop.stop();
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

fn reconcile<S: Stack>(worker: &Rc<Worker>, stack: &S, loops: &mut HashMap<u64, Rc<Stop>>) {
    let local = worker.current();
    for server in &local.shape.structure.servers {
        let listener = &server.listener;
        if loops.contains_key(&listener.id) {
            continue;
        }
        let Some(socket) = listener.take(worker.index) else { continue };
        match TcpListener::from_std(socket) {
            Ok(socket) => {
                let stop = Rc::new(Stop::default());
                loops.insert(listener.id, Rc::clone(&stop));
                tokio::task::spawn_local(accept(socket, listener.id, Rc::clone(worker), stack.clone(), stop));
            }
            Err(error) => tracing::error!(address = %listener.address, %error, "cannot use a listener"),
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

async fn accept<S: Stack>(listener: TcpListener, id: u64, worker: Rc<Worker>, stack: S, stop: Rc<Stop>) {
    let connections_max = CONNECTIONS_MAX.div_ceil(worker.workers);
    // what the listener was like when it was last there: who still waits in its queue came to that
    let Some(mut seen) = place(&worker, id) else { return stop.dry.set(true) };
    while !stop.wanted.get() {
        if worker.links.len() >= connections_max {
            tokio::select! {
                () = worker.links.changed() => {}
                () = stop.told.notified() => {}
            }
            continue;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.told.notified() => continue,
        };
        match accepted {
            Ok((io, peer)) => {
                seen = place(&worker, id).unwrap_or(seen);
                serve(io, Link::new(id, peer, seen.clone()), &worker, &stack);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
    // closing the socket resets what waits in its queue: take it first
    while let Poll::Ready(Ok((io, peer))) = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await {
        let link = Link::new(id, peer, seen.clone());
        link.close();
        serve(io, link, &worker, &stack);
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

fn serve<S: Stack>(io: TcpStream, link: Rc<Link>, worker: &Rc<Worker>, stack: &S) {
    let open = Links::open(worker, &link);
    let (worker, stack) = (Rc::clone(worker), stack.clone());
    tokio::task::spawn_local(async move {
        conn::serve(io, link, worker, stack).await;
        drop(open);
    });
}
