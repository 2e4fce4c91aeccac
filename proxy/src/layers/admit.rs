//! Refuses a request before any work is done for it when its listener has enough in flight.

use std::rc::Rc;
use std::task::{Context, Poll};

use http::Response;
use tower::Service;

use super::{Early, hygiene};
use crate::body::Body;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::worker::Worker;

/// Applies `maxConcurrentRequests`, this worker's share of it.
#[derive(Clone, Debug)]
pub struct Admit<S> {
    inner: S,
    worker: Rc<Worker>,
}

impl<S> Admit<S> {
    /// Around `inner`.
    pub fn new(inner: S, worker: Rc<Worker>) -> Self {
        Self { inner, worker }
    }
}

impl<S> Service<Exchange> for Admit<S>
where
    S: Service<Exchange, Response = Response<Body>, Error = ProxyError>,
{
    type Response = Response<Body>;
    type Error = ProxyError;
    type Future = Early<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        let gate = &exchange.local.shape.gates[exchange.server];
        if !gate.enter(exchange.server().requests_max) {
            hygiene::decide_trust(&exchange, &self.worker);
            return Early::refused(ProxyError::Overloaded);
        }
        if let Some(handle) = exchange.handle {
            self.worker.in_flight.set_gate(handle, Rc::clone(gate));
        }
        Early::inner(self.inner.call(exchange))
    }
}
