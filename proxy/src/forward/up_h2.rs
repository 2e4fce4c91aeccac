//! One exchange with an HTTP/2 upstream. Both directions are polled inside the request's own task.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::Reason;
use http::header::HOST;
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};

use super::before::Before;
use super::extra::FIELDS_MAX;
use super::pump::{Pump, Stopped};
use super::source::Source;
use super::turn::Turn;
use super::{Call, Stall, bad_body, protocol, stalled};
use crate::body::{self, Body, BodyError, H2Body, Kind, Piece};
use crate::error::{Fault, ProxyError};
use crate::grpc;
use crate::h1::has_no_body;
use crate::inflight::Deadline;
use crate::layers::hygiene::has_malformed;
use crate::pool::{Endpoint, H2Lease, H2Place};
use crate::retry::Replay;
use crate::stall::{Patience, Side};
use crate::worker::Worker;

/// RFC 9110 section 15.
const STATUS_MAX: u16 = 599;

/// Sends the request and waits for the response head.
pub(crate) async fn exchange(
    worker: &Rc<Worker>,
    endpoint: &Rc<Endpoint>,
    connect_timeout: Duration,
    call: &Call<'_>,
    source: &mut Source,
) -> Result<Response<Body>, Fault> {
    let H2Lease { mut send, place } = match endpoint.free_h2() {
        Some(free) => free,
        None => Box::pin(dial(worker, endpoint, connect_timeout, call)).await?,
    };
    poll_fn(|cx| send.poll_ready(cx)).await.map_err(|_| refused(endpoint))?;
    // not before: it is large, and would have to be kept over the wait
    let request = head(worker, call, place.names_fields())?;
    call.start_attempt(worker);
    let heard = place.heard();
    let end = source.is_end();
    let (mut answer, stream) = send.send_request(request, end).map_err(|_| refused(endpoint))?;
    let mut pump = (!end).then(|| Pump::new(stream));
    let (mut patience, mut turn) = (Patience::default(), Turn::default());
    let mut before = Before::new(worker, call);
    let response = poll_fn(|cx| {
        // gRPC has no interim responses, and asking for them costs a lock
        while !call.grpc
            && let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx)
        {
            let (parts, ()) = interim.into_parts();
            check_head(endpoint, parts.status, &parts.headers)?;
            before.hear(parts.status, parts.headers)?;
        }
        let moved = pump.as_ref().map(Pump::moved);
        if !before.poll_held(cx) {
            send_on(worker, call, &mut pump, source, &mut patience, cx)?;
        }
        let waits_for = pump.as_ref().map(|pump| pump.blocked().0);
        turn.look(worker, call, waits_for, moved.is_some() && moved != pump.as_ref().map(Pump::moved));
        if worker.in_flight.poll_deadline(call.handle, cx) == Some(Deadline::Attempt) {
            // while the caller is awaited the origin owes nothing
            if waits_for != Some(Side::Source) {
                place.doubt(heard);
            }
            return Poll::Ready(Err(Fault::upstream(Replay::Never, ProxyError::AttemptTimeout)));
        }
        std::pin::Pin::new(&mut answer).poll(cx).map_err(|error| fault(endpoint, &place, &error))
    })
    .await?;
    let (parts, body) = response.into_parts();
    check_head(endpoint, parts.status, &parts.headers)?;
    if has_no_body(&call.parts.method, parts.status) && !body.is_end_stream() {
        // octets behind such a head are not its body: the stream is cancelled unread
        return Ok(Response::from_parts(parts, Body::default()));
    }
    let unsent = pump.as_ref().map(|_| source.take_rest());
    if before.holds() {
        // an answer in place of 100: the body is never sent, and the stream is cancelled when the answer has been read
        pump = None;
    }
    let stall = call.stall.answered(call.length);
    let sending = |(pump, source)| Box::new(Sending { pump, source, patience, stall, failed: None });
    let up = UpH2 {
        worker: Rc::clone(worker),
        body: H2Body::new(body, endpoint.limits.trailer_fields_max),
        upload: pump.zip(unsent).map(sending),
        place,
        silence: Patience::default(),
        silence_max: endpoint.limits.silence_timeout,
        status_due: call.grpc && is_status_due(&parts.headers),
    };
    Ok(Response::from_parts(parts, Body::new(Kind::UpH2(up))))
}

async fn dial(
    worker: &Rc<Worker>,
    endpoint: &Rc<Endpoint>,
    timeout: Duration,
    call: &Call<'_>,
) -> Result<H2Lease, Fault> {
    worker.in_flight.dialling(call.handle);
    let opened = endpoint.open_h2(worker, timeout).await?;
    worker.in_flight.dialled(call.handle);
    Ok(opened)
}

/// What nobody may be given, whatever h2 makes of it.
fn check_head(endpoint: &Endpoint, status: StatusCode, headers: &HeaderMap) -> Result<(), Fault> {
    if status.as_u16() > STATUS_MAX {
        return Err(protocol("the status is above 599"));
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // RFC 9113 section 8.6
        return Err(protocol("the status is 101, which HTTP/2 does not have"));
    }
    if headers.len() > endpoint.limits.head_fields_max as usize {
        return Err(protocol("too many fields in a head"));
    }
    if has_malformed(headers) {
        return Err(protocol("a field is malformed"));
    }
    Ok(())
}

/// Is it the head of a gRPC answer that says in its trailers how it went.
fn is_status_due(headers: &HeaderMap) -> bool {
    let grpc = headers.get(http::header::CONTENT_TYPE).is_some_and(|value| grpc::is_grpc(value.as_bytes()));
    grpc && !headers.contains_key(grpc::STATUS)
}

/// Goes on with the request before its answer has begun. Nothing is left of the pump when there is no more to do.
fn send_on(
    worker: &Rc<Worker>,
    call: &Call<'_>,
    pump: &mut Option<Pump>,
    source: &mut Source,
    patience: &mut Patience,
    cx: &mut Context<'_>,
) -> Result<(), Fault> {
    let Some(sending) = pump else { return Ok(()) };
    let fault = match sending.poll(source, cx) {
        Poll::Pending => {
            let at = sending.blocked();
            if !patience.is_over(worker, at, call.stall.of(at.0), cx) {
                return Ok(());
            }
            stalled(at.0)
        }
        Poll::Ready(Err(Stopped::Source(error))) => bad_body(error),
        Poll::Ready(Ok(())) => {
            worker.in_flight.sent(call.handle);
            *pump = None;
            return Ok(());
        }
        // the stream's own error, if there is one, comes with the answer
        Poll::Ready(Err(Stopped::Sink(_))) => {
            *pump = None;
            return Ok(());
        }
    };
    sending.reset(Reason::CANCEL);
    Err(fault)
}

/// The head as HTTP/2 wants it. The fields are cloned: a refused stream needs them once more.
fn head(worker: &Worker, call: &Call<'_>, named: bool) -> Result<Request<()>, Fault> {
    let parts = call.parts;
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri(call)?;
    // h2 takes a request without authority for one of an older version
    *request.version_mut() = if request.uri().authority().is_some() { Version::HTTP_2 } else { parts.version };
    // with room for all of them: a clone would have to grow at once
    let mut headers = HeaderMap::with_capacity(parts.headers.len() + FIELDS_MAX);
    let hostless = parts.uri.authority().is_none() || call.authority.is_some();
    for (name, value) in &parts.headers {
        if !(hostless && *name == HOST) {
            headers.append(name, value.clone());
        }
    }
    call.extra.append_to(&mut headers, &call.to, named, worker);
    *request.headers_mut() = headers;
    Ok(request)
}

fn uri(call: &Call<'_>) -> Result<Uri, Fault> {
    let from = &call.parts.uri;
    let changed = call.changed || call.authority.is_some();
    // the scheme is that of our own connection: what the caller says of it proves nothing (RFC 9113 section 8.3.1)
    if from.scheme() == Some(&Scheme::HTTP) && from.authority().is_some() && !changed {
        return Ok(from.clone());
    }
    let target = || call.target.cloned().unwrap_or(PathAndQuery::from_static("/"));
    if from.authority().is_none() && call.host().is_empty() {
        // HTTP/1.0 without Host: what is not known is left out (RFC 9113 section 8.3.1)
        return Ok(Uri::from(target()));
    }
    let mut uri = uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = match from.authority() {
        Some(authority) if !changed => Some(authority.clone()),
        _ => Some(Authority::try_from(call.host()).map_err(|_| malformed("Host is malformed"))?),
    };
    uri.path_and_query = Some(target());
    Uri::from_parts(uri).map_err(|_| malformed("the target is malformed"))
}

fn malformed(what: &'static str) -> Fault {
    Fault::downstream(ProxyError::BadRequest(what))
}

/// The connection took no stream: nothing was sent.
fn refused(endpoint: &Endpoint) -> Fault {
    endpoint.drop_dead_h2();
    Fault::upstream(Replay::Always, ProxyError::UpstreamClosed)
}

/// What an error before the response head means (RFC 9113 sections 6.8, 7 and 8.7).
fn fault(endpoint: &Endpoint, place: &H2Place, error: &h2::Error) -> Fault {
    if body::is_provoked(error) {
        place.provoked();
    }
    if error.is_go_away() || error.is_io() {
        endpoint.drop_dead_h2();
    }
    let goes = (error.is_go_away() && error.is_remote()).then(|| place.connection());
    let fault = match error.reason() {
        // surely not processed
        Some(Reason::REFUSED_STREAM) if error.is_remote() => {
            Fault::upstream(Replay::Always, ProxyError::UpstreamReset(Reason::REFUSED_STREAM.into()))
        }
        // a stream above the last one that the origin promised to look at, whatever made it go
        Some(_) if goes.is_some() => Fault::upstream(Replay::Always, ProxyError::UpstreamClosed),
        Some(Reason::NO_ERROR) if error.is_go_away() => Fault::upstream(Replay::Always, ProxyError::UpstreamClosed),
        Some(reason) if error.is_reset() => Fault::upstream(Replay::Never, ProxyError::UpstreamReset(reason.into())),
        Some(_) => Fault::upstream(Replay::Never, ProxyError::UpstreamProtocol(error.to_string())),
        None => Fault::upstream(Replay::IfConnectionWasReused, ProxyError::UpstreamClosed),
    };
    Fault { lost: body::is_lost(error).then(|| place.connection()), goes, ..fault }
}

/// A response body from HTTP/2, with what is left of the request.
#[derive(Debug)]
pub struct UpH2 {
    worker: Rc<Worker>,
    body: H2Body,
    upload: Option<Box<Sending>>,
    place: H2Place,
    silence: Patience,
    silence_max: Option<Duration>,
    /// Of a gRPC call: without a status in its trailers it did not come to its end.
    status_due: bool,
}

/// The rest of a request whose response has begun.
#[derive(Debug)]
struct Sending {
    pump: Pump,
    source: Source,
    patience: Patience,
    stall: Stall,
    /// It ended early by the caller's doing: so does the response.
    failed: Option<BodyError>,
}

impl UpH2 {
    /// Nothing more comes.
    pub fn is_end(&self) -> bool {
        self.body.is_end() && !self.status_due
    }

    /// The connection, if it was cut because that was lost.
    pub fn lost(&self) -> Option<u64> {
        self.body.is_lost().then(|| self.place.connection())
    }

    /// Goes on with the request: both directions of a call are open until each has ended.
    pub fn poll_upload(&mut self, cx: &mut Context<'_>) {
        let Some(sending) = &mut self.upload else { return };
        let Sending { pump, source, patience, stall, failed } = &mut **sending;
        match pump.poll(source, cx) {
            Poll::Pending => {
                let at = pump.blocked();
                if !patience.is_over(&self.worker, at, stall.of(at.0), cx) {
                    return;
                }
                *failed = Some(BodyError::Downstream(None));
            }
            Poll::Ready(Ok(()) | Err(Stopped::Sink(_))) => self.upload = None,
            Poll::Ready(Err(Stopped::Source(error @ BodyError::TooLarge))) => *failed = Some(error),
            Poll::Ready(Err(Stopped::Source(_))) => {
                pump.reset(Reason::CANCEL);
                self.upload = None;
            }
        }
    }

    /// The next piece.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        self.poll_upload(cx);
        if let Some(failed) = self.upload.as_ref().and_then(|sending| sending.failed) {
            return Poll::Ready(Some(Err(failed)));
        }
        let Poll::Ready(piece) = self.body.poll_piece(cx) else {
            let over = self.silence.is_over(&self.worker, (Side::Source, 0), self.silence_max, cx);
            let waits = self.upload.as_ref().is_some_and(|sending| sending.pump.blocked().0 == Side::Source);
            // an origin may be silent because its caller is
            let cut = if waits { BodyError::Downstream(None) } else { BodyError::Upstream(None) };
            return if over { Poll::Ready(Some(Err(cut))) } else { Poll::Pending };
        };
        self.silence.moved();
        if self.body.take_provoked() {
            self.place.provoked();
        }
        if self.status_due {
            match &piece {
                Some(Ok(Piece::Trailers(fields))) if fields.contains_key(grpc::STATUS) => self.status_due = false,
                // the end of the stream is not the end of the call
                Some(Ok(Piece::Trailers(_))) | None => return Poll::Ready(Some(Err(BodyError::Upstream(None)))),
                Some(Ok(Piece::Data(_)) | Err(_)) => {}
            }
        }
        Poll::Ready(piece.map(|piece| piece.map_err(BodyError::Upstream)))
    }
}
