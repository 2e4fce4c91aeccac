//! Outermost: opens the books for a request and closes them when its response body ends, however it ends.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::{Response, Version};
use pin_project_lite::pin_project;
use tower::Service;

use crate::body::Body;
use crate::exchange::Exchange;
use crate::grpc;
use crate::inflight::{InFlight, Ticket};
use crate::worker::Worker;

/// Counts what is inside it, answers that we invent included.
#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    worker: Rc<Worker>,
}

impl<S> Observe<S> {
    /// Around `inner`.
    pub fn new(inner: S, worker: Rc<Worker>) -> Self {
        Self { inner, worker }
    }
}

impl<S> Service<Exchange> for Observe<S>
where
    S: Service<Exchange, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ObserveFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut exchange: Exchange) -> Self::Future {
        let ticket = InFlight::open(&self.worker, exchange.started_us);
        let handle = ticket.handle();
        exchange.handle = Some(handle);
        // until a name is bound the request counts under the router alone
        let router = exchange.server().router;
        self.worker.in_flight.set_series(handle, Rc::clone(&exchange.local.shape.routers[router].unbound));
        let (grpc, http2) = (exchange.grpc, exchange.parts.version == Version::HTTP_2);
        ObserveFuture { inner: self.inner.call(exchange), ticket: Some(ticket), grpc, http2 }
    }
}

pin_project! {
    /// The future of [`Observe`]. Dropped early, it counts the request as one that nobody waited for.
    #[derive(Debug)]
    pub struct ObserveFuture<F> {
        #[pin]
        inner: F,
        ticket: Option<Ticket>,
        grpc: bool,
        http2: bool,
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for ObserveFuture<F> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut polled = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(ticket)) = (&mut polled, this.ticket.take()) {
            let grpc_status = if *this.grpc { grpc::status_of(response.headers()) } else { None };
            let status = response.status();
            response.body_mut().watch(ticket, status, *this.grpc, grpc_status, *this.http2);
        }
        Poll::Ready(polled)
    }
}
