//! HTTP/1.1 downstream: hyper while there is traffic, a bare socket while there is none.
//!
//! An idle connection costs a small task and its socket. hyper's state, with its buffers, lies in a box that goes when a
//! sweep finds the connection idle and comes back with the next octet.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::link::{Active, Ask, Link};
use super::socket::Socket;
use super::{Stack, exchange};
use crate::body::{Body, BodyError, HyperBody, Kind};
use crate::layers::hygiene::HadFragment;
use crate::worker::Worker;

/// Room in hyper's read buffer beyond the largest head that is accepted: so it is we who say 414 or 431 for a head that is
/// only a little too large.
const BUFFER_SPARE: usize = 48 << 10;
/// Fields for which hyper has room without being told.
const FIELDS: usize = 100;

/// How long, and for how much, an upload that nobody wants any more is read away after the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_OCTETS: usize = 16 << 20;
const LINGER_BUFFER: usize = 16 << 10;

const TIMED_OUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn builder(link: &Link) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let (head_bytes, head_fields) = link.limit(|limits| (limits.head_bytes_max, limits.head_fields_max));
    builder.auto_date_header(false).max_buf_size(head_bytes as usize + BUFFER_SPARE).half_close(false);
    if head_fields as usize > FIELDS {
        // costs an allocation for each request
        builder.max_headers(head_fields as usize);
    }
    builder
}

/// `Some`: the connection is idle. `None`: it is closed.
pub(super) async fn busy<S: Stack>(socket: Socket, link: &Rc<Link>, worker: &Rc<Worker>, stack: &S) -> Option<Socket> {
    let service = {
        let (link, worker, stack) = (Rc::clone(link), Rc::clone(worker), stack.clone());
        service_fn(move |request| answer(request, &link, &worker, stack.clone()))
    };
    let mut connection = builder(link).serve_connection(TokioIo::new(socket), service);
    let served = link.served();
    let mut ending = false;
    let mut parked = false;
    let ended = poll_fn(|cx| {
        loop {
            // before its first request hyper takes a shutdown as leave to close unread: that request is waited for
            let begun = link.served() > served;
            match link.poll_ask(cx) {
                Ask::Abort => return Poll::Ready(Ok(())),
                Ask::Timeout if link.is_idle() && !link.is_blocked() => return Poll::Ready(Ok(())),
                Ask::Timeout | Ask::Close if begun && !ending => {
                    ending = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                // on an idle connection it ends at once and sends nothing
                Ask::Park if begun && link.is_idle() && !parked => {
                    parked = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                Ask::Nothing | Ask::Timeout | Ask::Close | Ask::Park => {}
            }
            let polled = connection.poll_without_shutdown(cx);
            let first_began = !begun && link.served() > served && !matches!(link.poll_ask(cx), Ask::Nothing);
            if polled.is_ready() || !first_began {
                return polled;
            }
        }
    })
    .await;
    // it holds the link: it must not stay there
    let switched = link.take_switched();
    if let Err(error) = ended {
        broken(connection.into_parts().io.into_inner(), &error, link).await;
        return None;
    }
    let asked = poll_fn(|cx| Poll::Ready(link.poll_ask(cx))).await;
    if asked == Ask::Abort {
        return None;
    }
    let timed_out = asked == Ask::Timeout;
    let parts = connection.into_parts();
    let mut socket = parts.io.into_inner();
    if let Some(body) = switched {
        tunnel(*body, socket, parts.read_buf, link, worker).await;
        return None;
    }
    if parked && !ending && !timed_out {
        put_back(&mut socket, parts.read_buf, link);
        return Some(socket);
    }
    if timed_out && !parts.read_buf.is_empty() {
        // a peer that reads nothing is not waited for
        let _told_or_not = tokio::time::timeout(LINGER, socket.write_all(TIMED_OUT)).await;
    }
    // without anything unread closing says the same as shutting down before it, with a system call less
    if link.has_unread() && socket.shutdown().await.is_ok() {
        linger(socket).await;
    }
    None
}

/// What cannot be read was answered by hyper; its rest may be on the way.
async fn broken(mut socket: Socket, error: &hyper::Error, link: &Link) {
    if error.is_parse() {
        if socket.shutdown().await.is_ok() {
            linger(socket).await;
        }
    } else if link.is_http_1_0() {
        // its end is all that such a client has: a message cut short must not look like a whole one
        socket.reset_at_end();
    }
}

/// What came behind the last request. Empty lines there are nothing (RFC 9112 section 2.2), anything else has begun one.
fn put_back(socket: &mut Socket, mut rest: Bytes, link: &Link) {
    rest.advance(rest.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count());
    link.put_back(rest.len());
    socket.unread(rest);
}

/// The connection is a tunnel until both of its ends are over.
async fn tunnel(body: Body, socket: Socket, read: Bytes, link: &Link, worker: &Rc<Worker>) {
    let Some((tunnel, books)) = body.into_tunnel() else { return };
    link.set_tunnelled();
    let mut running = pin!(tunnel.run(socket, read, worker));
    let ended = poll_fn(|cx| match link.poll_ask(cx) {
        Ask::Abort => Poll::Ready(Err(BodyError::Downstream(None))),
        // it has no end of its own
        Ask::Nothing | Ask::Park | Ask::Close | Ask::Timeout => running.as_mut().poll(cx),
    });
    books.end_tunnel(ended.await);
}

/// Closing with octets unread resets the connection, and the reset may overtake the answer: read them away first.
async fn linger(mut socket: Socket) {
    let mut sink = vec![0; LINGER_BUFFER];
    let drained = async {
        let mut left = LINGER_OCTETS;
        while let Ok(count @ 1..) = socket.read(&mut sink).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    };
    let _in_time_or_not = tokio::time::timeout(LINGER, drained).await;
}

/// One request on its way. Not an async block: it can be moved, so hyper holds it without a box.
struct Answer<F> {
    future: F,
    active: Option<Active>,
    link: Rc<Link>,
}

impl<F: Future<Output = Result<Response<Body>, Infallible>> + Unpin> Future for Answer<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = match ready!(Pin::new(&mut self.future).poll(cx)) {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Poll::Ready(Ok(self.switch(response)));
        }
        if self.link.is_spent() || self.link.has_unread() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.body_mut().hold(self.active.take());
        Poll::Ready(Ok(response))
    }
}

impl<F> Answer<F> {
    /// The origin agreed to a WebSocket: when this head is sent, the connection is a tunnel.
    fn switch(&mut self, response: Response<Body>) -> Response<Body> {
        let (mut parts, mut body) = response.into_parts();
        body.hold(self.active.take());
        self.link.switch(body);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        Response::from_parts(parts, Body::default())
    }
}

fn answer<S: Stack>(
    request: Request<Incoming>,
    link: &Rc<Link>,
    worker: &Rc<Worker>,
    mut stack: S,
) -> Answer<S::Future> {
    let active = Some(link.begin(worker));
    link.note_request(!request.body().is_end_stream(), request.version() == Version::HTTP_10);
    let mut request = request.map(|body| {
        if body.is_end_stream() { Body::default() } else { Body::new(Kind::Hyper(HyperBody::new(body, link))) }
    });
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    if link.take_fragment(request.method().as_str(), target) {
        request.extensions_mut().insert(HadFragment);
    }
    Answer { future: stack.call(exchange(worker, link, request)), active, link: Rc::clone(link) }
}
