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
use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
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

/// Serves a connection until it closes, and then lets go of what is `held` for it. While nothing comes in, this is all
/// there is of it: what a busy connection needs lies in a box.
pub fn serve<S: Stack, H: 'static>(
    io: Stream,
    link: Rc<Link>,
    worker: Rc<Worker>,
    stack: Rc<S>,
    held: H,
) -> impl Future<Output = ()> {
    let mut socket = Socket::new(io, Rc::clone(&link));
    // a block, not an async fn, and nothing moved within: each would keep a second place for the same things
    async move {
        while socket.has_unread() || wait_for_octets(&socket, &link).await {
            match Box::pin(busy(socket, &link, &worker, &*stack)).await {
                Some(idle) => socket = idle,
                None => break,
            }
        }
        drop(held);
    }
}

/// `false`: the connection is to close.
async fn wait_for_octets(socket: &Socket, link: &Link) -> bool {
    poll_fn(|cx| {
        if link.poll_closing(cx) {
            return Poll::Ready(false);
        }
        socket.poll_readable(cx).map(|readable| readable.is_ok())
    })
    .await
}

/// `Some`: the connection is idle. `None`: it is closed.
async fn busy<S: Stack>(mut socket: Socket, link: &Rc<Link>, worker: &Rc<Worker>, stack: &S) -> Option<Socket> {
    link.unpark();
    // whoever has sent a request in HTTP/1.1 goes on in it
    if !link.has_served() && is_http2(&mut socket, link, worker).await.ok()?? {
        Box::pin(http2::serve(socket, Rc::clone(link), Rc::clone(worker), stack.clone())).await;
        return None;
    }
    http1::busy(socket, link, worker, stack).await
}

/// Reads until it is clear which protocol this is. `None`: the connection is to close, or closed by itself.
async fn is_http2(socket: &mut Socket, link: &Link, worker: &Worker) -> io::Result<Option<bool>> {
    let mut read = Bytes::new();
    loop {
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
        read = if read.is_empty() { got } else { joined(&read, &got) };
        let known = read.len().min(PREFACE.len());
        let differs = read[..known] != PREFACE[..known];
        if differs || known == PREFACE.len() {
            socket.unread(read);
            return Ok(Some(!differs));
        }
    }
}

fn joined(a: &[u8], b: &[u8]) -> Bytes {
    let mut both = BytesMut::with_capacity(a.len() + b.len());
    both.extend_from_slice(a);
    both.extend_from_slice(b);
    both.freeze()
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
