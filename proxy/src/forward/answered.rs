//! An answer that failed, and whether the request is sent again for it.
//!
//! A request is sent again only while nothing of the answer has reached the caller, all of the request is still held, the
//! service's budget has a retry left, and its deadline leaves time for it. The answer of a gRPC call whose status comes
//! behind it is held back until its first message: a call that fails has none.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use http::Response;
use serin_config::model::Classifier;
use serin_metrics::Class;

use super::Call;
use super::source::Source;
use crate::bindings::LocalService;
use crate::body::{Body, Piece};
use crate::classify::{self, Failed};
use crate::error::{Fault, Origin, ProxyError};
use crate::grpc;
use crate::pool::LocalCluster;
use crate::retry::{self, ANSWER_RETRIES_MAX};
use crate::worker::Worker;

/// Attempts after the first one that answers caused.
#[derive(Debug, Default)]
pub(super) struct Tries {
    count: u8,
    /// The pause before the last one.
    pause: Duration,
}

/// What becomes of an answer.
#[allow(clippy::large_enum_variant, reason = "it is looked at where it is made; a box would be one for each answer")]
pub(super) enum Verdict {
    /// It goes to the caller.
    Keep(Response<Body>),
    /// The request is sent again after this pause.
    Retry(Duration),
}

/// Before the first attempt: pays into the budgets, and has the body kept if an answer may ask for it again.
pub(super) fn prepare(
    worker: &Worker,
    call: &Call<'_>,
    service: &LocalService,
    cluster: &LocalCluster,
    source: &mut Source,
    started_us: u64,
) {
    cluster.budget.borrow_mut().deposit(started_us / 1000);
    let Some(classifier) = service.classifier.as_deref() else { return };
    service.budget.borrow_mut().deposit(started_us / 1000);
    if !source.is_end() && is_announced(call) && classify::may_be_sent_again(classifier, &call.parts.method, call.grpc)
    {
        source.hold(&worker.retry_room, service.model.retry_buffer.0 as usize, call.length);
    }
}

/// One whose length nobody announced is never sent again, as in Linkerd, unless it is a call.
fn is_announced(call: &Call<'_>) -> bool {
    call.length.is_some() || call.grpc
}

/// Is this answer one that [`weigh`] looks at. That of a service without a classifier of its own is looked at only if it is
/// a failure that says itself that it may be asked for again.
pub(super) fn is_weighed(
    call: &Call<'_>,
    service: &LocalService,
    source: &Source,
    tries: &Tries,
    response: &Response<Body>,
) -> bool {
    let wanted = classifier(call, service).is_some() || is_unsent(response);
    wanted && is_held(call, service, source, tries)
}

fn classifier<'s>(call: &Call<'_>, service: &'s LocalService) -> Option<&'s Classifier> {
    service.classifier.as_deref().filter(|kind| classify::may_be_retryable(kind, call.grpc))
}

/// A failure that says that the request was not processed.
fn is_unsent(response: &Response<Body>) -> bool {
    classify::says_unsent(response.status(), response.headers())
}

/// Looks at an answer for which [`is_weighed`] holds.
pub(super) async fn weigh(
    worker: &Rc<Worker>,
    call: &Call<'_>,
    service: &LocalService,
    cluster: &LocalCluster,
    source: &mut Source,
    tries: &mut Tries,
    mut response: Response<Body>,
) -> Verdict {
    let (classifier, unsent) = (classifier(call, service), is_unsent(&response));
    let mut grpc_status = if call.grpc { grpc::status_of(response.headers()) } else { None };
    if classifier.is_some() && call.grpc && grpc_status.is_none() && response.status().is_success() {
        let within = service.model.classification_timeout;
        (response, grpc_status) = hold(response, within).await;
    }
    let status = response.status();
    let failure = classify::by(service.classifier.as_deref(), status, call.grpc, grpc_status) == Class::Failure;
    let failed = Failed { method: &call.parts.method, grpc: call.grpc, status, grpc_status };
    let wanted = classifier.is_some_and(|kind| classify::is_retryable(kind, &failed));
    if !failure || !(wanted || unsent) || !source.rewind() {
        return Verdict::Keep(response);
    }
    let budget = if wanted { &service.budget } else { &cluster.budget };
    match tries.next(worker, call, service, budget) {
        Some(pause) => Verdict::Retry(pause),
        None => Verdict::Keep(response),
    }
}

/// The pause before the request is sent again for a failure without an answer, if the service's classifier says so.
pub(super) fn after_fault(
    worker: &Worker,
    call: &Call<'_>,
    service: &LocalService,
    source: &mut Source,
    tries: &mut Tries,
    fault: &Fault,
) -> Option<Duration> {
    let Some(Classifier::Http(_)) = service.classifier.as_deref() else { return None };
    let answerless = matches!(
        fault.error,
        ProxyError::AttemptTimeout
            | ProxyError::ConnectRefused
            | ProxyError::ConnectTimeout
            | ProxyError::UpstreamClosed
            | ProxyError::UpstreamProtocol(_)
            | ProxyError::UpstreamReset(_)
    );
    let failed =
        Failed { method: &call.parts.method, grpc: call.grpc, status: fault.error.status(), grpc_status: None };
    let wanted = service.classifier.as_deref().is_some_and(|kind| classify::is_retryable(kind, &failed));
    let may = answerless && wanted && fault.origin == Origin::Upstream;
    if !may || !is_held(call, service, source, tries) || !source.rewind() {
        return None;
    }
    tries.next(worker, call, service, &service.budget)
}

/// Has all of the request come, and is it still there.
fn is_held(call: &Call<'_>, service: &LocalService, source: &Source, tries: &Tries) -> bool {
    let announced = is_announced(call) || source.is_untouched();
    tries.count < ANSWER_RETRIES_MAX && announced && source.is_held(service.model.retry_buffer.0 as usize)
}

impl Tries {
    /// The pause before one more attempt. `None`: no time or no budget is left for it.
    fn next(
        &mut self,
        worker: &Worker,
        call: &Call<'_>,
        service: &LocalService,
        budget: &std::cell::RefCell<retry::Budget>,
    ) -> Option<Duration> {
        let now_us = crate::clock::now_us();
        let pause = retry::pause(service.model.backoff, self.pause, worker.random());
        let back_us = now_us.saturating_add(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
        let in_time = worker.in_flight.deadline_us(call.handle).is_none_or(|until_us| back_us < until_us);
        if !in_time || !budget.borrow_mut().withdraw(now_us / 1000) {
            return None;
        }
        (self.count, self.pause) = (self.count + 1, pause);
        Some(pause)
    }
}

/// Waits for what follows the head of a call: its status, if there is no message before it.
async fn hold(response: Response<Body>, within: Duration) -> (Response<Body>, Option<u32>) {
    let (parts, mut body) = response.into_parts();
    let first = tokio::time::timeout(within, poll_fn(|cx| body.poll_piece(cx))).await;
    let status = match &first {
        Ok(Some(Ok(Piece::Trailers(fields)))) => grpc::status_of(fields),
        _ => None,
    };
    let body = match first {
        Ok(Some(Ok(piece))) => Body::behind(piece, body),
        // the end, or an error that comes again
        Ok(None | Some(Err(_))) | Err(_) => body,
    };
    (Response::from_parts(parts, body), status)
}
