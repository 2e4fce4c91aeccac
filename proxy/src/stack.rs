//! The order of everything: the whole stack is this one function.

use std::convert::Infallible;
use std::rc::Rc;

use http::Response;
use tower::layer::layer_fn;
use tower::{Service, ServiceBuilder, service_fn};

use crate::body::Body;
use crate::exchange::Exchange;
use crate::forward;
use crate::layers::{
    admit::Admit, deadline::Deadline, hygiene::Hygiene, observe::Observe, respond::Respond, route::Routing,
};
use crate::worker::Worker;

/// What a request passes on this worker. One box at its end, none between the layers; its futures never leave their core.
pub fn request_stack(
    worker: &Rc<Worker>,
) -> impl Service<Exchange, Response = Response<Body>, Error = Infallible, Future: Unpin + 'static> + Clone + Unpin + use<>
{
    let end = Rc::clone(worker);
    ServiceBuilder::new()
        .layer(layer_fn(with(worker, Observe::new))) // outermost: also counts answers we invent
        .layer(layer_fn(with(worker, Respond::new))) // errors below this line, responses above it
        .layer(layer_fn(with(worker, Admit::new))) // refuse before any work is done
        .layer(layer_fn(with(worker, Hygiene::new))) // nothing below sees a field it should not
        .layer(layer_fn(with(worker, Routing::new))) // a name, a binding, a draw
        .layer(layer_fn(with(worker, Deadline::new))) // what is left of the caller's patience
        // the only part with a socket; boxed, so that the layers hand on a pointer instead of moving a large future
        // six times, and so that hyper, which wants a future that can be moved, needs no box of its own
        .service(service_fn(move |exchange| {
            #[cfg(test)]
            let panics = tests::panics(&exchange);
            let forwarded = forward::forward(Rc::clone(&end), exchange);
            #[cfg(test)]
            let forwarded = Box::pin(tests::then_panic(panics, forwarded));
            forwarded
        }))
}

/// A layer that also wants the worker.
fn with<S, L>(worker: &Rc<Worker>, new: impl Fn(S, Rc<Worker>) -> L) -> impl Fn(S) -> L {
    let worker = Rc::clone(worker);
    move |inner| new(inner, Rc::clone(&worker))
}

#[cfg(test)]
mod tests;
