//! Errors below this line, responses above it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use pin_project_lite::pin_project;
use tower::Service;

use super::hygiene;
use crate::body::Body;
use crate::conn::Link;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::grpc;
use crate::inflight::Handle;
use crate::local::Local;
use crate::worker::Worker;

/// Why Serin answered itself: a label for everybody, a sentence for trusted peers.
pub const L5D_ERR: HeaderName = HeaderName::from_static("l5d-err");

/// Octets of `l5d-err`.
const L5D_ERR_MAX: usize = 1024;

/// Turns errors into answers.
#[derive(Clone, Debug)]
pub struct Respond<S> {
    inner: S,
    worker: Rc<Worker>,
}

impl<S> Respond<S> {
    /// Around `inner`.
    pub fn new(inner: S, worker: Rc<Worker>) -> Self {
        Self { inner, worker }
    }
}

impl<S> Service<Exchange> for Respond<S>
where
    S: Service<Exchange, Response = Response<Body>, Error = ProxyError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RespondFuture<S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // layers below refuse with an error when they are called, not by being unready
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        let reader = Reader {
            grpc: exchange.grpc,
            handle: exchange.handle,
            router: exchange.server().router,
            local: Rc::clone(&exchange.local),
            link: Rc::clone(&exchange.link),
        };
        RespondFuture { inner: self.inner.call(exchange), reader, worker: Rc::clone(&self.worker) }
    }
}

/// Who reads the answer.
#[derive(Debug)]
struct Reader {
    grpc: bool,
    handle: Option<Handle>,
    router: usize,
    local: Rc<Local>,
    link: Rc<Link>,
}

impl Reader {
    /// May it see details and `l5d-*` fields. Hygiene has said so by now, unless the request did not get that far.
    fn may_see(&self, worker: &Worker) -> bool {
        self.handle.is_some_and(|handle| worker.in_flight.is_trusted(handle))
    }

    fn answer(&self, error: &ProxyError, worker: &Worker) -> Response<Body> {
        let label = &self.local.snapshot.structure.routers[self.router].label;
        worker.shard.failures(label, error.label()).inc();
        tracing::debug!(router = %label, reason = error.label(), "{error}");
        if error.is_framing() {
            self.link.spend();
        }
        let may_see = self.may_see(worker);
        if self.grpc { grpc_answer(error, may_see) } else { http_answer(error, may_see) }
    }

    fn pass(&self, headers: &mut HeaderMap, worker: &Worker) {
        if !self.may_see(worker) {
            hygiene::strip_response_context(headers);
        }
    }
}

fn marker(error: &ProxyError, may_see: bool) -> HeaderValue {
    let mut text = if may_see { error.to_string() } else { error.label().to_owned() };
    text.retain(|c| c.is_ascii_graphic() || c == ' ');
    text.truncate(L5D_ERR_MAX);
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(error.label()))
}

fn http_answer(error: &ProxyError, may_see: bool) -> Response<Body> {
    let text = if may_see { format!("{error}\n") } else { format!("{}\n", error.public()) };
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(L5D_ERR, marker(error, may_see));
    if *error == ProxyError::Overloaded {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if *error == ProxyError::MethodRefused {
        headers.insert(http::header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    response
}

/// Trailers-only: what a gRPC client understands (the gRPC protocol over HTTP/2, "Responses").
fn grpc_answer(error: &ProxyError, may_see: bool) -> Response<Body> {
    let text = if may_see { error.to_string() } else { error.public().to_owned() };
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(grpc::STATUS, HeaderValue::from(error.grpc_status()));
    if let Ok(message) = HeaderValue::from_str(&grpc::encode_message(&text)) {
        headers.insert(grpc::MESSAGE, message);
    }
    headers.insert(L5D_ERR, marker(error, may_see));
    response
}

pin_project! {
    /// The future of [`Respond`].
    #[derive(Debug)]
    pub struct RespondFuture<F> {
        #[pin]
        inner: F,
        reader: Reader,
        worker: Rc<Worker>,
    }
}

impl<F: Future<Output = Result<Response<Body>, ProxyError>>> Future for RespondFuture<F> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(Ok(match ready!(this.inner.poll(cx)) {
            Ok(mut response) => {
                this.reader.pass(response.headers_mut(), this.worker);
                response
            }
            Err(error) => this.reader.answer(&error, this.worker),
        }))
    }
}
