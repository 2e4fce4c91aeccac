//! Refuses a request before any work is done for it when its listener has enough in flight: first one of an HTTP/2 connection
//! that has others under way, so that the last places go to who has none.
//!
//! The answer is 503 with `retry-after`: REFUSED_STREAM would be sent again at once by clients that retry without asking.

use std::rc::Rc;
use std::task::{Context, Poll};

use http::Response;
use tower::Service;

use super::{Early, hygiene};
use crate::body::Body;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::worker::Worker;

/// The last places of a listener, this part of them, are for connections that have nothing under way. Of fewer places none is.
const LAST_PART: u32 = 16;

/// So many requests may be in flight when one more comes on a connection that is `busy` with others, or is not.
fn places(requests_max: u32, busy: bool) -> u32 {
    if busy { requests_max - requests_max / LAST_PART } else { requests_max }
}

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
        // the request itself is under way; over HTTP/1.1 it is the only one
        let busy = exchange.link.is_http2() && exchange.link.active() > 1;
        if !gate.enter(places(exchange.server().requests_max, busy)) {
            hygiene::decide_trust(&exchange, &self.worker);
            return Early::refused(ProxyError::Overloaded);
        }
        if let Some(handle) = exchange.handle {
            self.worker.in_flight.set_gate(handle, Rc::clone(gate));
        }
        Early::inner(self.inner.call(exchange))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sixteenth_of_the_places_is_kept_from_busy_connections() {
        let both = |requests_max| (places(requests_max, true), places(requests_max, false));
        assert_eq!((both(16), both(32), both(1000)), ((15, 16), (30, 32), (938, 1000)));
        assert_eq!((both(1), both(15)), ((1, 1), (15, 15)), "of few places none");
    }

    proptest! {
        #[test]
        fn whoever_is_busy_still_has_most_of_the_places(requests_max in any::<u32>()) {
            let (busy, all) = (places(requests_max, true), places(requests_max, false));
            prop_assert_eq!(all, requests_max);
            prop_assert!(busy <= all && u64::from(all - busy) * 16 <= u64::from(all));
        }
    }
}
