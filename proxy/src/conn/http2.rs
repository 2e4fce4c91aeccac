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
use serin_config::model::Exposure;

use super::link::{Active, Ask, Link};
use super::socket::Socket;
use super::{Stack, exchange};
use crate::body::{Body, BodyError, H2Body, Kind};
use crate::forward::{Pump, Stopped};
use crate::layers::hygiene::HEAD_MAX;
use crate::worker::Worker;

/// Streams a client may have open, and octets it may send on one before we take them.
const STREAMS_EDGE: u32 = 100;
const STREAMS_MESH: u32 = 250;
const WINDOW_EDGE: u32 = 64 << 10;
const WINDOW_MESH: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Octets of a response that wait in h2 for the client's window.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that a client reset before we took them, and that we reset for its errors (rapid reset, CVE-2023-44487).
const RESETS_PENDING_MAX: usize = 100;
const RESETS_LOCAL_MAX: usize = 100;

/// Serves until the connection closes.
pub(super) async fn serve<S: Stack>(socket: Socket, link: Rc<Link>, worker: Rc<Worker>, mut stack: S) {
    let edge = {
        let (local, server) = link.fix_snapshot(&worker);
        local.shape.structure.servers[server].server.exposure == Exposure::Edge
    };
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(if edge { STREAMS_EDGE } else { STREAMS_MESH })
        .initial_window_size(if edge { WINDOW_EDGE } else { WINDOW_MESH })
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_MAX as u32)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(Some(RESETS_LOCAL_MAX));
    let mut handshake = pin!(builder.handshake::<_, Bytes>(socket));
    let shaken = poll_fn(|cx| {
        if link.poll_ask(cx) == Ask::Timeout {
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
        let request = request
            .map(|body| if body.is_end_stream() { Body::default() } else { Body::new(Kind::H2(H2Body::new(body))) });
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
        BodyError::Upstream(None) | BodyError::Downstream(_) => Reason::INTERNAL_ERROR,
    }
}
