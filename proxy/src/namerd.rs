//! namerd's HTTP control API: who keeps dtabs by `namerctl`, and who asks what names are bound to, does it here.
//!
//! It has listeners and a thread of its own, so that many watchers delay neither requests nor the admin pages. A listener
//! on loopback is open to this machine, as namerd's is; elsewhere reading is open and changes need the token (`guard.rs`).

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, LocalSet, spawn_local};

use crate::admin::Tokens;
use crate::dtabs::Dtabs;
use crate::endpoints::EndpointTable;
use crate::patient::Patient;
use crate::snapshot::World;

mod answer;
mod api;
mod book;
mod form;
mod guard;
mod stream;

pub use stream::{CLIENT_WATCHERS_MAX, WATCHERS_MAX};

/// Connections at once, over all listeners; more are closed unanswered.
pub const CONNECTIONS_MAX: usize = 3_072;
/// Octets of a request body: a dtab of the longest kind, written in JSON.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Octets of a request head, and of what is read ahead.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// To complete a request head, the wait of an idle connection included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// A peer that has gone without a word is noticed after this, and then some.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// After `accept` failed, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Sets of listeners that may wait to replace those in force.
const REPLACEMENTS_MAX: usize = 4;

/// What the API is made of.
#[derive(Clone, Debug)]
pub struct NamerdSeed {
    /// Snapshots in force: what namers know, and when the process ends.
    pub world: Arc<World>,
    /// Bound names.
    pub endpoints: Arc<EndpointTable>,
    /// The stored dtabs.
    pub dtabs: Arc<Dtabs>,
    /// What opens writes from elsewhere.
    pub tokens: Arc<ArcSwap<Tokens>>,
}

/// A listener as it was asked for, and as it is bound; `None` if it is served already.
pub type Door = (SocketAddr, Option<StdListener>);

/// The thread that serves. It ends with [`NamerdHandle::stop`].
#[derive(Debug)]
pub struct NamerdHandle {
    doors: Option<mpsc::Sender<Vec<Door>>>,
    thread: Option<JoinHandle<()>>,
}

impl NamerdHandle {
    /// Serves these listeners from now on and closes all others; connections that are open stay so.
    pub fn replace(&self, doors: Vec<Door>) {
        if self.doors.as_ref().is_some_and(|sender| sender.try_send(doors).is_err()) {
            tracing::error!("the thread of `interfaces` has ended: they are not served until the next start");
        }
    }

    /// Ends the thread; open connections are closed.
    pub fn stop(&mut self) {
        drop(self.doors.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of `interfaces` had panicked");
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// The system refuses the thread or its runtime.
pub fn start(seed: NamerdSeed, doors: Vec<Door>) -> io::Result<NamerdHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, received) = mpsc::channel(REPLACEMENTS_MAX);
    let site = Arc::new(Site { api: api::Api::new(&seed), tokens: seed.tokens });
    let builder = std::thread::Builder::new().name("serin-namerd".into());
    let thread = builder.spawn(move || LocalSet::new().block_on(&runtime, serve(site, doors, received)))?;
    Ok(NamerdHandle { doors: Some(sender), thread: Some(thread) })
}

struct Site {
    api: api::Api,
    tokens: Arc<ArcSwap<Tokens>>,
}

/// Serves until nobody can send other listeners any more.
async fn serve(site: Arc<Site>, first: Vec<Door>, mut replacements: mpsc::Receiver<Vec<Door>>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut serving: Vec<(SocketAddr, AbortHandle)> = Vec::new();
    let mut next = Some(first);
    while let Some(doors) = next {
        let mut kept = Vec::new();
        for (address, socket) in doors {
            let listener = match socket.map(TcpListener::from_std) {
                Some(Ok(listener)) => listener,
                Some(Err(error)) => {
                    tracing::error!(%error, %address, "the listener of an interface cannot be used");
                    continue;
                }
                None => {
                    let same = serving.iter().position(|(other, _)| *other == address);
                    kept.extend(same.map(|index| serving.swap_remove(index)));
                    continue;
                }
            };
            kept.push((address, spawn_local(accept(Arc::clone(&site), listener, Arc::clone(&permits))).abort_handle()));
        }
        std::mem::replace(&mut serving, kept).into_iter().for_each(|(_, gone)| gone.abort());
        next = replacements.recv().await;
    }
}

async fn accept(site: Arc<Site>, listener: TcpListener, permits: Arc<Semaphore>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let site = Arc::clone(&site);
        spawn_local(async move {
            // how one connection ends is nobody's business but its peer's
            let _ended = connection(site, stream, peer).await;
            drop(permit);
        });
    }
}

async fn connection(site: Arc<Site>, stream: TcpStream, peer: SocketAddr) -> Result<(), hyper::Error> {
    // without it nobody ever hears that a watcher's machine has gone; where it cannot be set, that is all
    let _not_set = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE));
    let local = stream.local_addr().map_or(peer, |local| local);
    let service = service_fn(move |request: Request<Incoming>| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(answer(&site, request, peer, local).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream, stream::READER_TIMEOUT)), service)
        .await
}

async fn answer(site: &Site, request: Request<Incoming>, peer: SocketAddr, local: SocketAddr) -> Response<Body> {
    let visit = guard::Visit { peer: peer.ip(), local: local.ip() };
    match guard::check(&request, &visit, &site.tokens.load()) {
        Ok(()) => site.api.answer(request, peer.ip()).await,
        Err(refusal) => answer::refusal(refusal),
    }
}

#[cfg(test)]
mod tests;
