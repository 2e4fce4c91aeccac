//! HTTP/2 downstream by the h2 crate itself: one local task for each stream.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response};
use serin_config::model::Limits;

use super::link::{Active, Ask, Link};
use super::socket::Socket;
use super::{Stack, exchange};
use crate::body::{Body, BodyError, H2Body, Kind};
use crate::floods::Budgets;
use crate::forward::{Pump, Stopped};
use crate::stall::{Patience, Side};
use crate::worker::Worker;

/// How long a peer is waited for that is told to go.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_US: u64 = 2_000_000;

/// The connection after its handshake; `None`: it never came about. A future of its own, in a box that goes with it: the
/// connection waits long, and need not keep the room that the handshake took.
async fn shake(socket: Socket, limits: Limits, link: &Link) -> Option<Connection<Socket, Bytes>> {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams_max)
        .initial_window_size(limits.h2.stream_window_bytes)
        .initial_connection_window_size(limits.h2.connection_window_bytes)
        .max_frame_size(limits.h2.frame_bytes_max)
        .header_table_size(limits.h2.header_table_bytes)
        .max_header_list_size(limits.head_bytes_max)
        .max_send_buffer_size(limits.h2.send_buffer_bytes_max as usize)
        // streams that a client reset before we took them, and that we reset for its errors (rapid reset, CVE-2023-44487)
        .max_pending_accept_reset_streams(limits.h2.resets_max as usize)
        .max_local_error_reset_streams(Some(limits.h2.provoked_resets_max as usize));
    let mut handshake = pin!(builder.handshake::<_, Bytes>(socket));
    poll_fn(|cx| {
        let polled = handshake.as_mut().poll(cx).map(Result::ok);
        let ends = matches!(link.poll_ask(cx), Ask::Timeout | Ask::Abort) || link.flood().is_some();
        if ends { Poll::Ready(None) } else { polled }
    })
    .await
}

/// Serves until the connection closes.
pub(super) async fn serve<S: Stack>(socket: Socket, link: Rc<Link>, worker: Rc<Worker>, mut stack: S) {
    let limits = link.limit(|limits| *limits);
    link.count_frames(Budgets::from(&limits.h2));
    let (streams_max, trailer_fields_max) = (limits.streams_max, limits.trailer_fields_max);
    let Some(mut connection) = Box::pin(shake(socket, limits, &link)).await else { return };
    link.set_http2();
    let mut ending_us = None;
    loop {
        let accepted = poll_fn(|cx| {
            let close = match link.poll_ask(cx) {
                Ask::Abort => return Poll::Ready(Next::Closed),
                Ask::Timeout => return Poll::Ready(Next::End(Reason::NO_ERROR)),
                Ask::Close => true,
                Ask::Nothing | Ask::Park => link.is_spent(),
            };
            if close && ending_us.is_none() {
                ending_us = Some(worker.coarse_us.get());
                link.close();
                // GOAWAY, a PING round trip, and GOAWAY with the last stream
                connection.graceful_shutdown();
            }
            let polled = connection.poll_accept(cx);
            if link.flood().is_some() {
                return Poll::Ready(Next::End(Reason::ENHANCE_YOUR_CALM));
            }
            polled.map(|accepted| accepted.and_then(Result::ok).map_or(Next::Closed, Next::Stream))
        });
        let (request, mut respond) = match accepted.await {
            Next::Stream(stream) => stream,
            Next::Closed => return,
            Next::End(reason) => return Box::pin(end(connection, reason, &link, &worker)).await,
        };
        // a stream that was reset counts until its work upstream is gone; who does not answer our PING gets no more
        let overdue = ending_us.is_some_and(|us| worker.coarse_us.get().saturating_sub(us) > LINGER_US);
        if overdue || link.active() >= streams_max {
            respond.send_reset(Reason::REFUSED_STREAM);
            continue;
        }
        let active = link.begin(&worker);
        let request = request.map(|body| match body.is_end_stream() {
            true => Body::default(),
            false => Body::new(Kind::H2(H2Body::new(body, trailer_fields_max))),
        });
        // nothing is sent before the stream's own task polls this
        let answer = stack.call(exchange(&worker, &link, request));
        tokio::task::spawn_local(stream(answer, respond, active, Rc::clone(&worker)));
    }
}

/// What a connection does next.
#[allow(clippy::large_enum_variant, reason = "it is looked at where it is made; a box would be one for each stream")]
enum Next {
    Stream((Request<RecvStream>, SendResponse<Bytes>)),
    Closed,
    /// At once, with a GOAWAY that says why.
    End(Reason),
}

/// Says GOAWAY, and waits for a moment until the peer has it. Its streams end with the connection.
async fn end(mut connection: Connection<Socket, Bytes>, reason: Reason, link: &Link, worker: &Worker) {
    if let Some(flood) = link.flood() {
        worker.shard.worker().floods_downstream[flood.index()].inc();
        tracing::debug!(peer = %link.peer, reason = flood.as_str(), "ended an HTTP/2 connection that sends too much");
    }
    connection.abrupt_shutdown(reason);
    let _told_or_not = tokio::time::timeout(LINGER, poll_fn(|cx| connection.poll_closed(cx))).await;
}

/// One stream. Dropped or reset, it takes the upstream side with it: everything belongs to this future.
#[allow(clippy::manual_async_fn, reason = "an async fn holds its arguments twice, a block what it captures once")]
fn stream<F>(
    mut answer: F,
    mut respond: SendResponse<Bytes>,
    active: Active,
    worker: Rc<Worker>,
) -> impl Future<Output = ()>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    async move {
        // a stream that is gone before its task ran costs nothing upstream
        if poll_fn(|cx| Poll::Ready(respond.poll_reset(cx).is_ready())).await {
            return active.link().note_stream(false);
        }
        let response = poll_fn(|cx| {
            // nobody took what another request left there
            worker.interim.borrow_mut().clear();
            let polled = Pin::new(&mut answer).poll(cx);
            for interim in worker.interim.borrow_mut().drain(..) {
                // one that cannot be sent is one that nobody waits for
                let _sent_or_not = respond.send_informational(interim);
            }
            match polled {
                Poll::Ready(response) => Poll::Ready(response.ok()),
                // the caller may have gone while we wait
                Poll::Pending => respond.poll_reset(cx).map(|_| None),
            }
        });
        let Some(response) = response.await else { return active.link().note_stream(false) };
        active.link().note_stream(true);
        let (parts, mut body) = response.into_parts();
        let end = body.is_end();
        let Ok(sink) = respond.send_response(Response::from_parts(parts, ()), end) else { return };
        if !end {
            let mut pump = Pump::new(sink);
            let mut patience = Patience::default();
            let pumped = poll_fn(|cx| {
                let polled = pump.poll(&mut body, cx).map(Some);
                if polled.is_pending() && has_stalled(&pump, &mut patience, &active, cx) {
                    Poll::Ready(None)
                } else {
                    polled
                }
            });
            match pumped.await {
                // a message cut short is never a clean end
                Some(Err(Stopped::Source(error))) => pump.reset(reason(error)),
                None => pump.reset(Reason::ENHANCE_YOUR_CALM),
                Some(Ok(()) | Err(Stopped::Sink(_))) => {}
            }
        }
        drop(active);
    }
}

/// Has the client owed window for longer than it may. While the whole connection takes nothing it is that which is watched.
fn has_stalled(pump: &Pump, patience: &mut Patience, active: &Active, cx: &Context<'_>) -> bool {
    let at = pump.blocked();
    if at.0 == Side::Source {
        patience.moved();
        return false;
    }
    let limit = Some(active.link().limit(|limits| limits.stall_timeout));
    if patience.is_over(active.worker(), at, limit, cx) && active.link().is_blocked() {
        patience.moved();
    }
    patience.is_over(active.worker(), at, limit, cx)
}

/// The code of a response that was cut short. NO_ERROR would be a clean end (RFC 9113 section 8.1), and the other two an
/// invitation to send a request again whose answer has begun (sections 7 and 8.7).
fn reason(error: BodyError) -> Reason {
    match error {
        BodyError::Upstream(Some(code)) => match Reason::from(code) {
            Reason::NO_ERROR | Reason::REFUSED_STREAM | Reason::HTTP_1_1_REQUIRED => Reason::INTERNAL_ERROR,
            reason => reason,
        },
        BodyError::Upstream(None) | BodyError::Downstream(_) | BodyError::TooLarge => Reason::INTERNAL_ERROR,
    }
}
