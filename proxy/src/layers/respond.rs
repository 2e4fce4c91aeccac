//! Errors below this line, responses above it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use pin_project_lite::pin_project;
use tower::Service;

use super::hygiene;
use crate::body::Body;
use crate::classify;
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
        let mut future = RespondFuture { inner: None, reader, worker: Rc::clone(&self.worker) };
        let _said_already = caught(|| future.inner = Some(self.inner.call(exchange)));
        future
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
        if let Some(handle) = self.handle.filter(|_| error.is_callers()) {
            worker.in_flight.excuse(handle);
        }
        // over HTTP/2 a bad request costs itself, not those beside it
        if error.is_framing() && !self.link.is_http2() {
            self.link.spend();
        }
        let may_see = self.may_see(worker);
        if self.grpc { grpc_answer(error, may_see) } else { http_answer(error, may_see) }
    }

    fn pass(&self, response: &mut Response<Body>, worker: &Worker) {
        hygiene::strip_proxy_credentials(response.headers_mut());
        if self.may_see(worker) {
            self.classify(response, worker);
            return;
        }
        // what another proxy says of its failure is not for strangers, in the body no more than in the field
        if !self.grpc && response.headers().contains_key(L5D_ERR) {
            *response.body_mut() = Body::default();
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        hygiene::strip_response_context(response.headers_mut());
    }

    /// Tells a trusted peer how the answer counts. That of a gRPC call says so behind its trailers.
    fn classify(&self, response: &mut Response<Body>, worker: &Worker) {
        let grpc_status = if self.grpc { grpc::status_of(response.headers()) } else { None };
        if !self.grpc || grpc_status.is_some() {
            let classifier = self.handle.and_then(|handle| worker.in_flight.classifier(handle));
            let class = classify::by(classifier.as_deref(), response.status(), self.grpc, grpc_status);
            response.headers_mut().insert(classify::SUCCESS_CLASS, classify::success_class(class));
        }
    }
}

/// A panic below this line costs the request that it happened in, and nothing else. What the request held is given back as
/// its parts are dropped.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, ProxyError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|panic| {
        let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(said = said.unwrap_or_default(), "a request panicked: this is a mistake in Serin");
        ProxyError::Panicked
    })
}

fn marker(error: &ProxyError, may_see: bool) -> HeaderValue {
    let text = if may_see { error.to_string() } else { error.label().to_owned() };
    HeaderValue::try_from(form_encoded(&text)).unwrap_or_else(|_| HeaderValue::from_static(error.label()))
}

/// As Linkerd writes it: letters, digits and `.-*_` as they are, `+` for a space, `%XX` for all else.
fn form_encoded(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(c).unwrap_or(b'?') {
            _ if encoded.len() + 3 > L5D_ERR_MAX => break,
            b' ' => encoded.push('+'),
            byte if byte.is_ascii_alphanumeric() || b".-*_".contains(&byte) => encoded.push(char::from(byte)),
            byte => {
                encoded.push('%');
                encoded.push(char::from(HEX[usize::from(byte >> 4)]));
                encoded.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    encoded
}

fn http_answer(error: &ProxyError, may_see: bool) -> Response<Body> {
    let text = if may_see { format!("{error}\n") } else { format!("{}\n", error.public()) };
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    mark(headers, error, may_see);
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
    mark(headers, error, may_see);
    response
}

/// What a proxy in front of us reads.
fn mark(headers: &mut HeaderMap, error: &ProxyError, may_see: bool) {
    headers.insert(L5D_ERR, marker(error, may_see));
    if may_see && error.is_unsent() {
        headers.insert(classify::RETRYABLE, HeaderValue::from_static("true"));
    }
}

pin_project! {
    /// The future of [`Respond`].
    #[derive(Debug)]
    pub struct RespondFuture<F> {
        // none: it panicked before there was a future
        #[pin]
        inner: Option<F>,
        reader: Reader,
        worker: Rc<Worker>,
    }
}

impl<F: Future<Output = Result<Response<Body>, ProxyError>>> Future for RespondFuture<F> {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let inner = this.inner;
        // written through, not handed out: what a guarded call returns is moved several times
        let mut polled = Poll::Ready(Err(ProxyError::Panicked));
        if let Some(inner) = inner.as_pin_mut() {
            let _said_already = caught(|| polled = inner.poll(cx));
        }
        Poll::Ready(Ok(match ready!(polled) {
            Ok(mut response) => {
                this.reader.pass(&mut response, this.worker);
                response
            }
            Err(error) => this.reader.answer(&error, this.worker),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_a_form_value() {
        assert_eq!(form_encoded("no route: /svc/a b\u{e4}\u{20ac}\n"), "no+route%3A+%2Fsvc%2Fa+b%E4%3F%0A");
    }

    #[test]
    fn a_long_sentence_is_cut_between_two_characters() {
        let encoded = form_encoded(&":".repeat(L5D_ERR_MAX));
        assert!(encoded.len() <= L5D_ERR_MAX && encoded.ends_with("%3A"), "{}", encoded.len());
    }

    #[test]
    fn only_what_was_surely_not_sent_may_be_sent_again() {
        let check = |error: ProxyError, may_see, retryable: bool| {
            for answer in [http_answer(&error, may_see), grpc_answer(&error, may_see)] {
                assert_eq!(answer.headers().contains_key(classify::RETRYABLE), retryable, "{error:?}");
            }
        };
        check(ProxyError::ConnectRefused, true, true);
        check(ProxyError::UpstreamReset(7), true, true);
        check(ProxyError::UpstreamReset(2), true, false);
        check(ProxyError::UpstreamClosed, true, false);
        check(ProxyError::ConnectRefused, false, false);
    }
}
