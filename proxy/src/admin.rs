//! The admin server: on a thread and a listener of its own, so that it answers while the workers are busy.
//!
//! From loopback everything may be read. Other peers get `/livez`, `/readyz` and `/metrics`; the rest wants the token, and
//! so does every change.
//! A request whose `Host` is a name we do not go by is refused: no web page shall read this through a
//! visitor's browser.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serin_metrics::Metrics;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;
use tower::ServiceExt;

use self::events::Streaming;
use crate::control::TeamBoard;
use crate::dtabs::Dtabs;
use crate::endpoints::EndpointTable;
use crate::snapshot::World;
use crate::world::Status;

mod config_json;
pub(crate) mod delegation;
pub mod desk;
mod dtabs;
mod events;
pub mod explanation;
pub(crate) mod guard;
mod namers;
pub mod office;
mod pages;
mod problem;
mod rollouts;
mod teams;

pub use desk::Desk;
pub use dtabs::{Changed as ChangedDtab, DTAB_BODY_BYTES_MAX, Shown as ShownDtab};
pub use events::SUBSCRIBERS_MAX;
pub use guard::Tokens;
pub use rollouts::HISTORY_MAX;
pub(crate) use rollouts::file_is_behind;

/// Admin connections at once; more are closed unanswered.
pub const CONNECTIONS_MAX: usize = 256;
/// Octets of a request body.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Octets of a request head, and of what is read ahead.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// To complete a request head, the wait of an idle connection included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A whole connection, but for one that streams events.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// After `accept` failed, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Listeners that may wait to replace the one in force.
const REPLACEMENTS_MAX: usize = 4;

/// What the admin server looks at.
#[derive(Debug)]
pub struct AdminSeed {
    /// Bound and non-blocking.
    pub listener: StdListener,
    /// Snapshots in force.
    pub world: Arc<World>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Bound names.
    pub endpoints: Arc<EndpointTable>,
    /// What the control thread shows.
    pub status: Arc<ArcSwap<Status>>,
    /// They open all pages to peers that are not on loopback, and let rollouts be changed.
    pub tokens: Arc<ArcSwap<Tokens>>,
    /// Stored dtabs; they may come with a later configuration.
    pub dtabs: Arc<ArcSwapOption<Dtabs>>,
    /// How it goes for team files.
    pub teams: TeamBoard,
    /// Who runs the rollouts.
    pub desk: Option<Arc<dyn Desk>>,
}

/// The thread that serves. It ends with [`AdminHandle::stop`].
#[derive(Debug)]
pub struct AdminHandle {
    replacements: Option<mpsc::Sender<StdListener>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminHandle {
    /// Serves on another listener from now on; connections that are open stay so.
    pub fn replace(&self, listener: StdListener) {
        if self.replacements.as_ref().is_some_and(|sender| sender.try_send(listener).is_err()) {
            tracing::error!("the admin thread has ended: no admin pages until the next start");
        }
    }

    /// Ends the thread; open connections are closed.
    pub fn stop(&mut self) {
        drop(self.replacements.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin thread had panicked");
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// The system refuses the thread or its runtime.
pub fn start(seed: AdminSeed) -> io::Result<AdminHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let AdminSeed { listener, world, metrics, endpoints, status, tokens, dtabs, teams, desk } = seed;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let subscribers = Arc::new(Semaphore::new(SUBSCRIBERS_MAX));
    let sources = pages::Sources { world, metrics, endpoints, status, dtabs, teams, desk, subscribers };
    let site = Arc::new(Site { pages: pages::router(sources), tokens });
    let (replacements, received) = mpsc::channel(REPLACEMENTS_MAX);
    let builder = std::thread::Builder::new().name("serin-admin".into());
    let thread = builder.spawn(move || LocalSet::new().block_on(&runtime, serve(site, listener, received)))?;
    Ok(AdminHandle { replacements: Some(replacements), thread: Some(thread) })
}

/// Accepts until nobody can send another listener any more.
async fn serve(site: Arc<Site>, mut listener: TcpListener, mut replacements: mpsc::Receiver<StdListener>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            replacement = replacements.recv() => match replacement {
                Some(other) => {
                    match TcpListener::from_std(other) {
                        Ok(other) => listener = other,
                        Err(error) => tracing::error!(%error, "the new admin listener cannot be used"),
                    }
                    continue;
                }
                None => return,
            },
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let site = Arc::clone(&site);
        tokio::task::spawn_local(async move {
            // how one admin connection ends is nobody's business but its peer's
            let _ended = limited(site, stream, peer).await;
            drop(permit);
        });
    }
}

struct Site {
    pages: axum::Router,
    tokens: Arc<ArcSwap<Tokens>>,
}

/// A connection for as long as it may last. Streams have limits of their own.
async fn limited(site: Arc<Site>, stream: TcpStream, peer: SocketAddr) -> Result<(), hyper::Error> {
    let streaming = Streaming::default();
    let mut connection = std::pin::pin!(connection(site, stream, peer, streaming.clone()));
    loop {
        match tokio::time::timeout(CONNECTION_TIMEOUT, connection.as_mut()).await {
            Ok(ended) => return ended,
            Err(_) if streaming.is_on() => {}
            Err(_) => return Ok(()),
        }
    }
}

async fn connection(
    site: Arc<Site>,
    stream: TcpStream,
    peer: SocketAddr,
    streaming: Streaming,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let site = Arc::clone(&site);
        request.extensions_mut().insert(streaming.clone());
        async move { Ok::<_, Infallible>(answer(&site, request, peer).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(site: &Site, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
    let mut response = match guard::check(&guard::Visit::of(&request, peer), &site.tokens.load()) {
        Err(refusal) => refusal.into_response(),
        Ok(()) => {
            let Ok(response) = site.pages.clone().oneshot(request).await;
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
