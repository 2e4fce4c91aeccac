//! Watches: an answer that stays open and carries one document for each change, as long as somebody reads.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
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
use crate::snapshot::Phase;

/// Watches at once; more are told to come back later.
pub const WATCHERS_MAX: usize = 1_024;
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
    phase: watch::Receiver<(u64, Phase)>,
}

impl Watches {
    pub(super) fn new(phase: watch::Receiver<(u64, Phase)>) -> Self {
        Self { places: Arc::new(Semaphore::new(WATCHERS_MAX)), phase }
    }

    /// The answer that stays open.
    pub(super) fn open(&self, kind: &'static str, watched: impl Watched) -> Response<Body> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let why = format!("{WATCHERS_MAX} watches are open already");
            return answer::said(StatusCode::SERVICE_UNAVAILABLE, why);
        };
        let (sender, documents) = mpsc::channel(DOCUMENTS_MAX);
        spawn_local(run(watched, sender, self.phase.clone(), place));
        answer::content(kind, Body::new(Documents(documents)))
    }
}

/// Ends when the reader is gone or slow, when there was an error, or when the process ends.
async fn run(
    mut watched: impl Watched,
    sender: Sender<Bytes>,
    mut phase: watch::Receiver<(u64, Phase)>,
    place: OwnedSemaphorePermit,
) {
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
