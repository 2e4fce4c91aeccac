//! Ends a request that takes longer than it may, from here to its response head.
//!
//! The limit is the smaller of the service's `totalTimeoutMs` and the caller's `grpc-timeout`; gRPC calls stay under it
//! until they end, because that is what their deadline means.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Response};
use pin_project_lite::pin_project;
use tower::Service;

use crate::body::Body;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::grpc;
use crate::inflight::{self, Handle, Limit};
use crate::worker::Worker;

/// Sets and watches the deadline of a request.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    worker: Rc<Worker>,
}

impl<S> Deadline<S> {
    /// Around `inner`.
    pub fn new(inner: S, worker: Rc<Worker>) -> Self {
        Self { inner, worker }
    }
}

impl<S> Service<Exchange> for Deadline<S>
where
    S: Service<Exchange, Response = Response<Body>, Error = ProxyError>,
{
    type Response = Response<Body>;
    type Error = ProxyError;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut exchange: Exchange) -> Self::Future {
        let service = exchange.route.as_ref().map(|route| route.binding.service.model.total_timeout);
        let service = service.unwrap_or_else(|| of_all_names(&exchange));
        let watched = limit(&mut exchange, service).zip(exchange.handle).map(|(limit, handle)| {
            let at_us = exchange.started_us.saturating_add(limit.us).max(1);
            self.worker.in_flight.set_limit(handle, limit);
            self.worker.in_flight.set_deadline(handle, inflight::Deadline::Total, at_us);
            (handle, Rc::clone(&self.worker))
        });
        DeadlineFuture { grpc: exchange.grpc, inner: Some(self.inner.call(exchange)), watched }
    }
}

/// What the file says of every name: all that is known before a name is bound.
pub(super) fn of_all_names(exchange: &Exchange) -> Option<Duration> {
    exchange.local.shape.structure.config.routers[exchange.server().router].service.total_timeout
}

/// The request's limit, where its service has this one; what travels on is never longer than what is left here.
pub(super) fn limit(exchange: &mut Exchange, service: Option<Duration>) -> Option<Limit> {
    let micros = |limit: Duration| u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    let own = |us| Limit { us, callers: false };
    let service_us = service.map(micros);
    if !exchange.grpc {
        return service_us.map(own);
    }
    let sent = exchange.parts.headers.get(grpc::TIMEOUT).and_then(|value| grpc::parse_timeout(value.as_bytes()));
    match (service_us, sent.map(micros)) {
        (Some(service_us), sent_us) if sent_us.is_none_or(|sent_us| service_us <= sent_us) => {
            if let Ok(value) =
                HeaderValue::from_bytes(grpc::format_timeout(Duration::from_micros(service_us)).as_bytes())
            {
                exchange.parts.headers.insert(grpc::TIMEOUT, value);
            }
            Some(own(service_us))
        }
        (_, sent_us) => sent_us.map(|us| Limit { us, callers: true }),
    }
}

pin_project! {
    /// The future of [`Deadline`].
    #[derive(Debug)]
    pub struct DeadlineFuture<F> {
        // none: its time is over
        #[pin]
        inner: Option<F>,
        watched: Option<(Handle, Rc<Worker>)>,
        grpc: bool,
    }
}

impl<F: Future<Output = Result<Response<Body>, ProxyError>>> Future for DeadlineFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Pending };
        let polled = inner.poll(cx);
        if polled.is_ready() {
            if let Some((handle, worker)) = this.watched
                && !*this.grpc
            {
                worker.in_flight.set_deadline(*handle, inflight::Deadline::Total, 0);
            }
            return polled;
        }
        let Some((handle, worker)) = this.watched else { return Poll::Pending };
        match worker.in_flight.poll_deadline(*handle, cx) {
            Some(inflight::Deadline::Total) => {
                let error = worker.in_flight.late(*handle);
                // what is not read of the request is known before the answer is written
                this.inner.set(None);
                Poll::Ready(Err(error))
            }
            Some(inflight::Deadline::Attempt) | None => Poll::Pending,
        }
    }
}
