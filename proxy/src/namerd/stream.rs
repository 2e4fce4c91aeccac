//! Watches: an answer that stays open and carries one document for each change, as long as somebody reads.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::{Response, StatusCode};
use http_body::Frame;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::answer;
use crate::endpoints::network;
use crate::snapshot::Phase;

/// Watches at once; more are told to come back later.
pub const WATCHERS_MAX: usize = 2_048;
/// Of these, those of one client: an IPv4 address or an IPv6 /64.
pub const CLIENT_WATCHERS_MAX: usize = 512;
/// A reader that takes nothing for so long is let go, with its connection.
pub(super) const READER_TIMEOUT: Duration = Duration::from_secs(30);
/// Documents written ahead of a slow reader: what it misses meanwhile is one change for it.
const DOCUMENTS_MAX: usize = 1;

/// What a watch looks at.
pub(super) trait Watched: 'static {
    /// The document right now. `None`: there is none yet. An error is the last line of the stream.
    fn document(&mut self) -> Result<Option<String>, String>;
    /// Completes when [`Watched::document`] may say something else. Cancel safe.
    fn changed(&mut self) -> impl Future<Output = ()>;
}

/// Places for watches, and the end of the process.
#[derive(Clone, Debug)]
pub(super) struct Watches {
    places: Arc<Semaphore>,
    clients: Clients,
    phase: watch::Receiver<(u64, Phase)>,
}

impl Watches {
    pub(super) fn new(phase: watch::Receiver<(u64, Phase)>) -> Self {
        Self { places: Arc::new(Semaphore::new(WATCHERS_MAX)), clients: Clients::default(), phase }
    }

    /// The answer to this client that stays open.
    pub(super) fn open(&self, client: IpAddr, kind: &'static str, watched: impl Watched) -> Response<Body> {
        let place = match self.enter(client) {
            Ok(place) => place,
            Err(why) => return answer::said(StatusCode::SERVICE_UNAVAILABLE, why),
        };
        let (sender, documents) = mpsc::channel(DOCUMENTS_MAX);
        spawn_local(run(watched, sender, self.phase.clone(), place));
        answer::content(kind, Body::new(Documents(documents)))
    }
}

/// Open watches by client.
type Clients = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// What a watch holds.
#[derive(Debug)]
struct Place {
    _one_of_all: OwnedSemaphorePermit,
    client: IpAddr,
    clients: Clients,
}

impl Watches {
    fn enter(&self, client: IpAddr) -> Result<Place, String> {
        let client = network(client);
        let one_of_all = Arc::clone(&self.places).try_acquire_owned();
        let one_of_all = one_of_all.map_err(|_| format!("{WATCHERS_MAX} watches are open already"))?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let open = clients.entry(client).or_default();
        if *open >= CLIENT_WATCHERS_MAX {
            return Err(format!("{CLIENT_WATCHERS_MAX} watches of {client} are open already"));
        }
        *open += 1;
        Ok(Place { _one_of_all: one_of_all, client, clients: Arc::clone(&self.clients) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut open) = clients.entry(self.client) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// Ends when the reader is gone or slow, when there was an error, or when the process ends.
async fn run(mut watched: impl Watched, sender: Sender<Bytes>, mut phase: watch::Receiver<(u64, Phase)>, place: Place) {
    let leaving = async move {
        // an error means that there is no world any more
        let _over = phase.wait_for(|(_, phase)| *phase != Phase::Running).await;
    };
    tokio::select! {
        () = leaving => {}
        () = sender.closed() => {}
        () = tell(&mut watched, &sender) => {}
    }
    drop(place);
}

async fn tell(watched: &mut impl Watched, sender: &Sender<Bytes>) {
    let mut last: Option<Bytes> = None;
    loop {
        match watched.document() {
            Ok(Some(document)) if last.as_deref() != Some(document.as_bytes()) => {
                // one copy for the connection and for the next comparison
                let document = Bytes::from(document);
                if !send(sender, document.clone()).await {
                    return;
                }
                last = Some(document);
            }
            Ok(_) => {}
            Err(why) => {
                send(sender, format!("{why}\n").into()).await;
                return;
            }
        }
        watched.changed().await;
    }
}

async fn send(sender: &Sender<Bytes>, document: Bytes) -> bool {
    timeout(READER_TIMEOUT, sender.send(document)).await.is_ok_and(|sent| sent.is_ok())
}

struct Documents(mpsc::Receiver<Bytes>);

impl http_body::Body for Documents {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_a_part_of_all_watches_and_all_have_no_more_than_all() {
        let watches = Watches::new(watch::channel((0, Phase::Running)).1);
        let client = |n: u8| IpAddr::from([10, 0, 0, n]);
        let fill = |n: u8| (0..CLIENT_WATCHERS_MAX).map(|_| watches.enter(client(n)).unwrap()).collect::<Vec<_>>();
        let mut first = fill(1);
        assert!(watches.enter(client(1)).unwrap_err().contains("512 watches of 10.0.0.1"), "one beyond");
        let others: Vec<_> = (2..=4).map(fill).collect();
        assert!(watches.enter(client(5)).unwrap_err().contains("2048 watches"), "all beyond");
        drop(others);
        first.pop();
        drop(watches.enter(client(1)).unwrap());
        drop(first);
        assert!(watches.clients.lock().unwrap().is_empty(), "nobody is remembered");
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let watches = Watches::new(watch::channel((0, Phase::Running)).1);
        let places: Vec<_> =
            ["2001:db8::1", "2001:db8::2"].iter().map(|ip| watches.enter(ip.parse().unwrap()).unwrap()).collect();
        assert_eq!(watches.clients.lock().unwrap().len(), 1);
        drop(places);
    }
}
