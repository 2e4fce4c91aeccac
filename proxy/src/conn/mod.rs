//! One downstream connection: which HTTP it speaks, and its life from accept to close.

mod half;
mod http1;
mod http2;
mod link;
mod links;
mod socket;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use tokio::net::TcpStream;
use tower::Service;

pub use link::{Active, Link};
pub use links::{Links, Open};
use socket::Socket;

use crate::body::Body;
use crate::clock;
use crate::exchange::Exchange;
use crate::grpc;
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

/// Serves a connection until it closes. The task stays small: what a busy connection needs is boxed behind it.
pub async fn serve<S: Stack>(io: TcpStream, link: Rc<Link>, worker: Rc<Worker>, stack: S) {
    let mut io = io;
    let Ok(Some((first, is_h2))) = first_octets(&mut io, &link, &worker).await else { return };
    let socket = Socket::new(io, first, Rc::clone(&link));
    if is_h2 {
        Box::pin(http2::serve(socket, link, worker, stack)).await;
    } else {
        http1::serve(socket, link, worker, stack).await;
    }
}

/// Reads until it is clear which protocol this is. `None`: the connection is to close, or closed by itself.
async fn first_octets(io: &mut TcpStream, link: &Link, worker: &Worker) -> io::Result<Option<(Bytes, bool)>> {
    let mut read = Bytes::new();
    loop {
        let got = poll_fn(|cx| {
            if link.poll_closing(cx) {
                return Poll::Ready(Ok(Bytes::new()));
            }
            worker.poll_read(io, cx)
        })
        .await?;
        if got.is_empty() {
            return Ok(None);
        }
        link.note_read(got.len());
        read = if read.is_empty() { got } else { joined(&read, &got) };
        let known = read.len().min(PREFACE.len());
        if read[..known] != PREFACE[..known] {
            return Ok(Some((read, false)));
        }
        if known == PREFACE.len() {
            return Ok(Some((read, true)));
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
