//! HTTP/2 downstream by the h2 crate itself: one local task for each stream.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, SendResponse};
use http::Response;

use super::link::{Active, Ask, Link};
use super::socket::Socket;
use super::{Stack, exchange};
use crate::body::{Body, BodyError, H2Body, Kind};
use crate::forward::{Pump, Stopped};
use crate::worker::Worker;

/// Serves until the connection closes.
pub(super) async fn serve<S: Stack>(socket: Socket, link: Rc<Link>, worker: Rc<Worker>, mut stack: S) {
    let limits = link.limit(|limits| *limits);
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
    let shaken = poll_fn(|cx| {
        if matches!(link.poll_ask(cx), Ask::Timeout | Ask::Abort) {
            return Poll::Ready(None);
        }
        handshake.as_mut().poll(cx).map(Result::ok)
    });
    let Some(mut connection) = shaken.await else { return };
    link.set_http2();
    let mut ending = false;
    loop {
        let accepted = poll_fn(|cx| {
            let close = match link.poll_ask(cx) {
                Ask::Abort => return Poll::Ready(None),
                Ask::Timeout | Ask::Close => true,
                Ask::Nothing | Ask::Park => link.is_spent(),
            };
            if close && !ending {
                ending = true;
                // GOAWAY, a PING round trip, and GOAWAY with the last stream
                connection.graceful_shutdown();
            }
            connection.poll_accept(cx)
        });
        let Some(Ok((request, respond))) = accepted.await else { return };
        let active = link.begin(&worker);
        let request = request.map(|body| match body.is_end_stream() {
            true => Body::default(),
            false => Body::new(Kind::H2(H2Body::new(body, limits.trailer_fields_max))),
        });
        // nothing is sent before the stream's own task polls this
        let answer = stack.call(exchange(&worker, &link, request));
        tokio::task::spawn_local(stream(answer, respond, active));
    }
}

/// One stream. Dropped or reset, it takes the upstream side with it: everything belongs to this future.
async fn stream<F>(mut answer: F, mut respond: SendResponse<Bytes>, active: Active)
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    // a stream that is gone before its task ran costs nothing upstream
    if poll_fn(|cx| Poll::Ready(respond.poll_reset(cx).is_ready())).await {
        return;
    }
    let response = poll_fn(|cx| match Pin::new(&mut answer).poll(cx) {
        Poll::Ready(response) => Poll::Ready(response.ok()),
        // the caller may have gone while we wait
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    });
    let Some(response) = response.await else { return };
    let (parts, mut body) = response.into_parts();
    let end = body.is_end();
    let Ok(sink) = respond.send_response(Response::from_parts(parts, ()), end) else { return };
    if !end {
        let mut pump = Pump::new(sink);
        if let Err(Stopped::Source(error)) = poll_fn(|cx| pump.poll(&mut body, cx)).await {
            // a message cut short is never a clean end
            pump.reset(reason(error));
        }
    }
    drop(active);
}

fn reason(error: BodyError) -> Reason {
    match error {
        BodyError::Upstream(Some(code)) => Reason::from(code),
        BodyError::Upstream(None) | BodyError::Downstream(_) | BodyError::TooLarge => Reason::INTERNAL_ERROR,
    }
}
