//! `/api/v1/events`: what happens to rollouts, as it happens (server-sent events).
//!
//! Each event has its sequence as id. Who comes back with `Last-Event-ID` (or asks with `?after=`) gets what it missed, as
//! far as that is kept. A stream ends by itself after [`STREAM_TIMEOUT`]; clients come back, as they do by themselves.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::timeout;

use super::desk::Desk;
use super::pages::Sources;
use super::problem::Problem;
use super::rollouts::unknown;
use crate::judge::view::Told;

/// Streams at once; more are told to come back later.
pub const SUBSCRIBERS_MAX: usize = 64;
/// A whole stream.
const STREAM_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Between two signs of life when nothing happens: proxies in between cut what is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A reader that takes nothing for so long is let go.
const READER_TIMEOUT: Duration = Duration::from_secs(30);
/// Events written ahead of a slow reader.
const FRAMES_MAX: usize = 32;
/// When a client comes back after its connection ended, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Set while a stream goes over a connection: the time limit of connections is not for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Streaming(Arc<AtomicBool>);

impl Streaming {
    pub(super) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    rollout: Option<String>,
    after: Option<u64>,
}

pub(super) async fn events(
    State(sources): State<Sources>,
    streaming: Option<Extension<Streaming>>,
    wish: Result<Query<Wish>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Ok(Query(wish)) = wish else {
        let hint = "?rollout=NAME leaves out the others, ?after=N begins behind event N";
        return Problem::new(StatusCode::BAD_REQUEST, "the query is not understood", hint).into_response();
    };
    let views = sources.desk.as_ref().map(|desk| desk.views()).unwrap_or_default();
    if let Some(name) = &wish.rollout
        && !views.iter().any(|view| *view.name == **name)
    {
        return unknown(name, &views.iter().map(|view| &*view.name).collect::<Vec<_>>()).into_response();
    }
    let Ok(permit) = Arc::clone(&sources.subscribers).try_acquire_owned() else {
        let error = format!("{SUBSCRIBERS_MAX} streams are open already");
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, error, "close one of them").into_response();
    };
    let last_id = headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|id| id.parse().ok());
    let (sender, frames) = mpsc::channel(FRAMES_MAX);
    let streaming = streaming.map(|Extension(streaming)| streaming).unwrap_or_default();
    let teller = Teller { desk: sources.desk.clone(), rollout: wish.rollout, sender, sent: 0 };
    tokio::task::spawn_local(teller.run(last_id.or(wish.after), Hold::new(permit, streaming)));
    let mut response = Response::new(Body::new(Frames(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// What a stream occupies, given back when it ends.
struct Hold {
    _permit: OwnedSemaphorePermit,
    streaming: Streaming,
}

impl Hold {
    fn new(permit: OwnedSemaphorePermit, streaming: Streaming) -> Self {
        streaming.0.store(true, Ordering::Relaxed);
        Self { _permit: permit, streaming }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.streaming.0.store(false, Ordering::Relaxed);
    }
}

/// Writes one stream.
struct Teller {
    desk: Option<Arc<dyn Desk>>,
    rollout: Option<String>,
    sender: Sender<Bytes>,
    /// Sequence of the last event that was looked at.
    sent: u64,
}

impl Teller {
    async fn run(mut self, after: Option<u64>, hold: Hold) {
        // ends when the reader is gone, or slow, or its time is over
        let _ended = timeout(STREAM_TIMEOUT, self.tell(after)).await;
        drop(hold);
    }

    /// `None`: nobody reads any more.
    async fn tell(&mut self, after: Option<u64>) -> Option<()> {
        // subscribed first, looked back then: nothing falls in between
        let mut news = self.desk.as_ref().map(|desk| desk.subscribe());
        let newest = self.desk.as_ref().and_then(|desk| desk.recent().last().map(|told| told.sequence)).unwrap_or(0);
        self.sent = match after {
            // an id of a process that ran before this one: everything here is new
            Some(after) if after > newest => 0,
            Some(after) => after,
            None => newest,
        };
        self.send(format!("retry: {RETRY_MS}\n\n")).await?;
        self.catch_up().await?;
        loop {
            tokio::select! {
                () = self.sender.closed() => return None,
                heard = timeout(KEEP_ALIVE, hear(news.as_mut())) => match heard {
                    Ok(true) => self.catch_up().await?,
                    Ok(false) => return None,
                    Err(_) => self.send(": still here\n\n".to_owned()).await?,
                },
            }
        }
    }

    /// Everything that is kept and was not sent yet.
    async fn catch_up(&mut self) -> Option<()> {
        let recent = self.desk.as_ref().map(|desk| desk.recent()).unwrap_or_default();
        if let Some(lost) = recent.first().map(|first| first.sequence.saturating_sub(self.sent + 1))
            && lost > 0
        {
            self.send(format!(": {lost} events are not kept any more\n\n")).await?;
        }
        for told in recent.iter().filter(|told| told.sequence > self.sent) {
            if self.rollout.as_deref().is_none_or(|name| *told.rollout == *name) {
                self.send(frame(told)).await?;
            }
        }
        self.sent = recent.last().map_or(self.sent, |last| self.sent.max(last.sequence));
        Some(())
    }

    async fn send(&self, text: String) -> Option<()> {
        timeout(READER_TIMEOUT, self.sender.send(Bytes::from(text))).await.ok()?.ok()
    }
}

/// Waits until something happened; `false`: nothing ever will.
async fn hear(news: Option<&mut broadcast::Receiver<Arc<Told>>>) -> bool {
    match news {
        Some(news) => !matches!(news.recv().await, Err(RecvError::Closed)),
        None => std::future::pending().await,
    }
}

fn frame(told: &Told) -> String {
    // plain data: it always has a JSON form
    format!("id: {}\ndata: {}\n\n", told.sequence, serde_json::to_string(told).unwrap_or_default())
}

/// The body of a stream.
struct Frames(mpsc::Receiver<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_frame_whatever_people_wrote() {
        let told = Told {
            sequence: 7,
            at_ms: 1,
            rollout: "world".into(),
            code: "aborted".into(),
            text: "Abort world\n\nid: 9".into(),
            kind: "Warning".into(),
            weight_ppm: 0,
            score: f64::INFINITY,
            who: Some("ann".into()),
            why: Some("a\r\nb".into()),
        };
        let text = frame(&told);
        assert!(text.starts_with("id: 7\ndata: {") && text.ends_with("}\n\n"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
        let back: Told = serde_json::from_str(text.lines().nth(1).unwrap().strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!((back.why, back.score), (told.why, f64::MAX));
    }
}
