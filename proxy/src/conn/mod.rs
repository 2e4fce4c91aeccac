//! One downstream connection: which HTTP it speaks, and its life from accept to close.

mod half;
mod http1;
mod http2;
mod link;
mod links;
mod socket;
mod unreadable;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use tower::Service;

pub use link::{Active, Link};
pub use links::{Links, Open};
use socket::Socket;

use crate::body::Body;
use crate::clock;
use crate::exchange::Exchange;
use crate::grpc;
use crate::stream::Stream;
use crate::worker::Worker;

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The stack as a connection sees it.
pub trait Stack:
    Service<Exchange, Response = Response<Body>, Error = Infallible, Future: Unpin + 'static> + Clone + Unpin + 'static
{
}

impl<S> Stack for S where
    S: Service<Exchange, Response = Response<Body>, Error = Infallible, Future: Unpin + 'static>
        + Clone
        + Unpin
        + 'static
{
}

/// Serves a connection until it closes, and then lets go of what is `held` for it.
pub fn serve<S: Stack, H: Unpin>(
    io: Stream,
    link: Rc<Link>,
    worker: Rc<Worker>,
    stack: Rc<S>,
    held: H,
) -> impl Future<Output = ()> {
    Serving { state: State::Waiting(io), link, worker, stack, _held: held }
}

/// A connection. While nothing comes in, this is all there is of it: what a busy connection needs lies in a box. Written by hand,
/// because an async block would be twice as large, and there are many.
struct Serving<S, H> {
    state: State,
    link: Rc<Link>,
    worker: Rc<Worker>,
    stack: Rc<S>,
    /// Dropped after the state.
    _held: H,
}

enum State {
    Waiting(Stream),
    Busy(Pin<Box<dyn Future<Output = Turn>>>),
    Http2(Pin<Box<dyn Future<Output = ()>>>),
    Over,
}

impl<S: Stack, H: Unpin> Future for Serving<S, H> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            this.state = match &mut this.state {
                State::Waiting(io) => {
                    let first = ready!(poll_octets(io, &this.link, &this.worker, cx));
                    match (first, std::mem::replace(&mut this.state, State::Over)) {
                        (Some(first), State::Waiting(io)) => this.busy(io, first),
                        _ => return Poll::Ready(()),
                    }
                }
                State::Busy(busy) => match ready!(busy.as_mut().poll(cx)) {
                    Turn::Idle(io) => State::Waiting(io),
                    Turn::Http2(socket) => this.http2(*socket),
                    Turn::Closed => return Poll::Ready(()),
                },
                State::Http2(serving) => return serving.as_mut().poll(cx),
                State::Over => return Poll::Ready(()),
            };
        }
    }
}

impl<S: Stack, H> Serving<S, H> {
    fn busy(&self, io: Stream, first: Bytes) -> State {
        let (link, worker, stack) = (Rc::clone(&self.link), Rc::clone(&self.worker), Rc::clone(&self.stack));
        State::Busy(Box::pin(busy(io, first, link, worker, stack)))
    }

    fn http2(&self, socket: Socket) -> State {
        let (link, worker, stack) = (Rc::clone(&self.link), Rc::clone(&self.worker), S::clone(&self.stack));
        State::Http2(Box::pin(http2::serve(socket, link, worker, stack)))
    }
}

/// The next octets; they lie in the block of the worker, so that a connection that waits holds no buffer. `None`: the
/// connection is to close, or closed by itself.
fn poll_octets(io: &mut Stream, link: &Link, worker: &Worker, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
    if link.poll_closing(cx) {
        return Poll::Ready(None);
    }
    let got = ready!(worker.poll_read(io, cx)).ok().filter(|got| !got.is_empty());
    link.note_read(got.as_ref().map_or(0, Bytes::len));
    Poll::Ready(got)
}

/// What becomes of a connection on which something came.
enum Turn {
    /// It is over.
    Closed,
    /// It waits for another request, with nothing left that was read.
    Idle(Stream),
    /// It speaks HTTP/2: that needs nothing of what found it out, and may take long.
    Http2(Box<Socket>),
}

async fn busy<S: Stack>(io: Stream, first: Bytes, link: Rc<Link>, worker: Rc<Worker>, stack: Rc<S>) -> Turn {
    link.unpark();
    let mut socket = Socket::new(io, first, Rc::clone(&link));
    // whoever has sent a request in HTTP/1.1 goes on in it
    if !link.has_served() {
        match is_http2(&mut socket, &link, &worker).await {
            Ok(Some(true)) => return Turn::Http2(Box::new(socket)),
            Ok(Some(false)) => {}
            Ok(None) | Err(_) => return Turn::Closed,
        }
    }
    loop {
        match http1::busy(socket, &link, &worker, &*stack).await {
            Some(idle) if idle.has_unread() => socket = idle,
            Some(idle) => return idle.into_idle().map_or(Turn::Closed, Turn::Idle),
            None => return Turn::Closed,
        }
        link.unpark();
    }
}

/// Reads until it is clear which protocol this is. `None`: the connection is to close, or closed by itself.
async fn is_http2(socket: &mut Socket, link: &Link, worker: &Worker) -> io::Result<Option<bool>> {
    loop {
        let read = socket.unused();
        let known = read.len().min(PREFACE.len());
        let differs = read[..known] != PREFACE[..known];
        if differs || known == PREFACE.len() {
            return Ok(Some(!differs));
        }
        let got = poll_fn(|cx| {
            if link.poll_closing(cx) {
                return Poll::Ready(Ok(Bytes::new()));
            }
            socket.poll_block(worker, cx)
        })
        .await?;
        if got.is_empty() {
            return Ok(None);
        }
        socket.add(got);
    }
}

/// A request on this connection, with the snapshot it will see.
fn exchange(worker: &Worker, link: &Rc<Link>, request: Request<Body>) -> Exchange {
    let (parts, body) = request.into_parts();
    let (local, server) = link.fix_snapshot(worker);
    let content_type = parts.headers.get(http::header::CONTENT_TYPE);
    Exchange {
        grpc: content_type.is_some_and(|value| grpc::is_grpc(value.as_bytes())),
        parts,
        body,
        link: Rc::clone(link),
        local,
        server,
        started_us: clock::now_us(),
        seed: worker.random(),
        handle: None,
        trusted: false,
        expects: false,
        upgrade: false,
        route: None,
        context: false,
        session: None,
        copy: None,
        sends: None,
        forwarded: false,
    }
}

#[cfg(test)]
pub(crate) mod laws;
#[cfg(test)]
mod tests;
