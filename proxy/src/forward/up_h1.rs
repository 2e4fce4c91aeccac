//! One exchange with an HTTP/1.1 upstream, driven by the task that wants the answer: no second task, no channel.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use serin_config::model::ClientLimits;

use super::before::Before;
use super::source::Source;
use super::tunnel::Tunnel;
use super::turn::Turn;
use super::upload::{Upload, UploadError};
use super::{Call, Stall, bad_body, stalled};
use crate::body::{Body, BodyError, Kind, Piece};
use crate::error::{Fault, ProxyError};
use crate::h1::{self, BodyLength, Chunk, ChunkLimits, ChunkedDecoder, Framing, HeadLimits, RequestHead, ResponseHead};
use crate::inflight::Deadline;
use crate::pool::{Conn, Endpoint};
use crate::retry::Replay;
use crate::stall::{Patience, Side};
use crate::stream::Stream;
use crate::worker::Worker;

/// Sends the request and waits for the response head.
#[allow(clippy::manual_async_fn, reason = "an async fn holds its arguments twice, a block what it captures once")]
pub(crate) fn exchange(
    worker: &Rc<Worker>,
    endpoint: &Rc<Endpoint>,
    mut conn: Conn,
    call: &Call<'_>,
    source: &mut Source,
) -> impl Future<Output = Result<Response<Body>, Fault>> {
    async move {
        let framing = framing(call, source);
        let mut upload = Some(Upload::new(head(worker, call, framing), framing));
        let (mut patience, mut turn) = (Patience::default(), Turn::default());
        let limits = &endpoint.limits;
        let mut buf = Bytes::new();
        let mut before = Before::new(worker, call);
        let mut head = poll_fn(|cx| {
            let moved = upload.as_ref().map(|upload| upload.moved);
            let held = before.poll_held(cx);
            ready_or_go(poll_upload(worker, &mut conn.io, &mut upload, source, held, cx))?;
            if moved.is_some() && upload.is_none() && framing == Framing::Chunked {
                worker.in_flight.sent(call.handle);
            }
            let blocked = upload.as_ref().map(Upload::blocked);
            turn.look(worker, call, blocked.map(|at| at.0), moved.is_some() && moved != blocked.map(|at| at.1));
            if let Some(at) = blocked {
                if patience.is_over(worker, at, call.stall.of(at.0), cx) {
                    return Poll::Ready(Err(stalled(at.0)));
                }
            } else {
                patience.moved();
            }
            if worker.in_flight.poll_deadline(call.handle, cx) == Some(Deadline::Attempt) {
                return Poll::Ready(Err(Fault::upstream(Replay::Never, ProxyError::AttemptTimeout)));
            }
            loop {
                let got = match ready!(worker.poll_read(&mut conn.io, cx)) {
                    Ok(got) if !got.is_empty() => got,
                    Ok(_) | Err(_) => return Poll::Ready(Err(closed(buf.is_empty() && !before.heard_any()))),
                };
                buf = join(std::mem::take(&mut buf), got);
                while let Some(head) = parse(worker, &buf, call, limits)? {
                    if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                        return Poll::Ready(Ok(head));
                    }
                    buf = buf.split_off(head.used);
                    before.hear(head.status, head.headers)?;
                }
                if held && !before.holds() {
                    // the body is asked for: on with it before the next wait
                    cx.waker().wake_by_ref();
                }
            }
        })
        .await?;
        let rest = buf.split_off(head.used);
        let unsent = upload.as_ref().map(|_| source.take_rest());
        if before.holds() {
            // an answer in place of 100: the body is never sent, and the origin waits for it on this connection
            head.keep = false;
            upload = None;
        }
        let stall = call.stall.answered(call.length);
        let upload = upload
            .zip(unsent)
            .map(|(upload, source)| Box::new(Sending { upload, source, patience, stall, failed: None }));
        Ok(response(worker, endpoint, conn, head, rest, upload))
    }
}

/// The request head, written.
fn head(worker: &Worker, call: &Call<'_>, framing: Framing) -> Vec<u8> {
    let mut out = worker.take_out();
    let target = call.target.map_or("/", |target| target.as_str());
    let ink = call.extra.ink();
    let extra = call.extra.fields(&call.to, &ink);
    let head = RequestHead {
        method: &call.parts.method,
        target: if call.parts.uri.path() == "*" { "*" } else { target },
        host: call.host(),
        headers: &call.parts.headers,
        extra: extra.as_slice(),
        upgrade: call.upgrade,
        framing,
    };
    h1::encode_request(&mut out, &head);
    out
}

fn framing(call: &Call<'_>, source: &Source) -> Framing {
    match (call.length, source.length()) {
        (Some(length), _) => Framing::Length(length),
        (None, Some(0)) => Framing::None,
        (None, Some(length)) => Framing::Length(length),
        (None, None) => Framing::Chunked,
    }
}

/// Goes on with the upload; an upstream that takes no more may still answer.
fn poll_upload(
    worker: &Worker,
    io: &mut Stream,
    upload: &mut Option<Upload>,
    source: &mut Source,
    held: bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Fault>> {
    let Some(sending) = upload else { return Poll::Ready(Ok(())) };
    match ready!(sending.poll(io, (!held).then_some(source), cx)) {
        Ok(()) => {
            // before the wait: the worker's next request uses the same buffer
            if let Some(done) = upload.take() {
                worker.give_out(done.into_buffer());
            }
            Poll::Ready(Ok(()))
        }
        Err(UploadError::Io) => Poll::Pending,
        Err(UploadError::Body(error)) => Poll::Ready(Err(bad_body(error))),
    }
}

/// An error ends the exchange, anything else lets it go on.
fn ready_or_go(step: Poll<Result<(), Fault>>) -> Result<(), Fault> {
    match step {
        Poll::Ready(result) => result,
        Poll::Pending => Ok(()),
    }
}

/// A head that comes in many reads is gathered in one buffer that grows, not copied anew for each.
fn join(buf: Bytes, got: Bytes) -> Bytes {
    if buf.is_empty() {
        return got;
    }
    let mut gathered = buf.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    gathered.extend_from_slice(&got);
    gathered.freeze()
}

fn parse(worker: &Worker, buf: &Bytes, call: &Call<'_>, limits: &ClientLimits) -> Result<Option<ResponseHead>, Fault> {
    if buf.is_empty() {
        return Ok(None);
    }
    let limits = HeadLimits { bytes: limits.head_bytes_max as usize, fields: limits.head_fields_max as usize };
    let (method, map) = (&call.parts.method, worker.take_map());
    let parsed = if call.upgrade {
        h1::parse_upgrade_response(buf, method, map, limits)
    } else {
        h1::parse_response_within(buf, method, map, limits)
    };
    parsed.map_err(|error| Fault::upstream(Replay::Never, ProxyError::UpstreamProtocol(error.to_string())))
}

fn closed(nothing_came: bool) -> Fault {
    let replay = if nothing_came { Replay::IfConnectionWasReused } else { Replay::Never };
    Fault::upstream(replay, ProxyError::UpstreamClosed)
}

fn response(
    worker: &Rc<Worker>,
    endpoint: &Rc<Endpoint>,
    conn: Conn,
    head: ResponseHead,
    rest: Bytes,
    upload: Option<Box<Sending>>,
) -> Response<Body> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return response
            .map(|()| Body::new(Kind::Tunnel(Box::new(Tunnel::new(conn, rest, endpoint.limits.stall_timeout)))));
    }
    let whole = match head.body {
        BodyLength::None => Some(0),
        BodyLength::Known(length) if length == rest.len() as u64 => Some(rest.len()),
        BodyLength::Known(_) | BodyLength::Chunked | BodyLength::UntilClose => None,
    };
    if let Some(whole) = whole {
        let bodiless = head.body == BodyLength::None;
        if bodiless && !rest.is_empty() {
            endpoint.note_talks_on();
        }
        // the connection is free before the caller has read a byte
        if head.keep && upload.is_none() && whole == rest.len() {
            endpoint.give_back(conn, worker.coarse_us.get(), bodiless);
        }
        return response.map(|()| Body::full(rest.slice(..whole)));
    }
    let rest_of = UpH1 {
        worker: Rc::clone(worker),
        endpoint: Rc::clone(endpoint),
        conn: Some(conn),
        buf: rest,
        end: match head.body {
            BodyLength::Known(left) => End::After(left),
            BodyLength::Chunked => End::Chunked(ChunkedDecoder::within(chunk_limits(&endpoint.limits))),
            BodyLength::UntilClose | BodyLength::None => End::Close,
        },
        keep: head.keep,
        upload,
        silence: Patience::default(),
    };
    response.map(|()| Body::new(Kind::UpH1(Box::new(rest_of))))
}

/// The rest of a response that did not come whole with its head. Gives its connection back after the last octet.
#[derive(Debug)]
pub struct UpH1 {
    worker: Rc<Worker>,
    endpoint: Rc<Endpoint>,
    /// `None`: the body is over.
    conn: Option<Conn>,
    buf: Bytes,
    end: End,
    keep: bool,
    upload: Option<Box<Sending>>,
    silence: Patience,
}

/// The rest of a request whose response has begun.
#[derive(Debug)]
struct Sending {
    upload: Upload,
    source: Source,
    patience: Patience,
    stall: Stall,
    /// It ended early by the caller's doing: so does the response.
    failed: Option<BodyError>,
}

#[derive(Debug)]
enum End {
    After(u64),
    Chunked(ChunkedDecoder),
    Close,
}

impl UpH1 {
    /// Nothing more comes.
    pub fn is_end(&self) -> bool {
        self.conn.is_none()
    }

    /// Octets to come, if known.
    pub fn length(&self) -> Option<u64> {
        match self.end {
            _ if self.is_end() => Some(0),
            End::After(left) => Some(left),
            End::Chunked(_) | End::Close => None,
        }
    }

    /// Goes on with the request body, which the origin may still want.
    pub fn poll_upload(&mut self, cx: &mut Context<'_>) {
        let (Some(conn), Some(sending)) = (&mut self.conn, &mut self.upload) else { return };
        let Sending { upload, source, patience, stall, failed } = &mut **sending;
        match upload.poll(&mut conn.io, Some(source), cx) {
            Poll::Pending => {
                let at = upload.blocked();
                if !patience.is_over(&self.worker, at, stall.of(at.0), cx) {
                    return;
                }
                *failed = Some(BodyError::Downstream(None));
            }
            Poll::Ready(Ok(())) => return self.upload = None,
            Poll::Ready(Err(UploadError::Body(error @ BodyError::TooLarge))) => *failed = Some(error),
            Poll::Ready(Err(_)) => self.upload = None,
        }
        self.keep = false;
    }

    /// The next piece.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        self.poll_upload(cx);
        if let Some(failed) = self.upload.as_ref().and_then(|sending| sending.failed) {
            return self.broken(failed);
        }
        loop {
            let Some(conn) = &mut self.conn else { return Poll::Ready(None) };
            if let End::Chunked(decoder) = &mut self.end {
                match decoder.decode(&mut self.buf) {
                    Ok(Chunk::Data(data)) => return Poll::Ready(Some(Ok(Piece::Data(data)))),
                    Ok(Chunk::End(fields)) => {
                        self.finish();
                        return Poll::Ready(fields.map(|fields| Ok(Piece::Trailers(fields))));
                    }
                    Ok(Chunk::NeedMore) => {}
                    Err(_) => return self.broken(UPSTREAM),
                }
            } else if !self.buf.is_empty() {
                return Poll::Ready(Some(Ok(Piece::Data(self.take_data()))));
            }
            let Poll::Ready(read) = self.worker.poll_read(&mut conn.io, cx) else {
                let limit = self.endpoint.limits.silence_timeout;
                let over = self.silence.is_over(&self.worker, (Side::Source, 0), limit, cx);
                let waits = self.upload.as_ref().is_some_and(|sending| sending.upload.blocked().0 == Side::Source);
                // an origin may be silent because its caller is
                let cut = if waits { BodyError::Downstream(None) } else { UPSTREAM };
                return if over { self.broken(cut) } else { Poll::Pending };
            };
            self.silence.moved();
            match read {
                Ok(got) if !got.is_empty() => self.buf = got,
                // only a body that ends with its connection may end so
                Ok(_) if matches!(self.end, End::Close) => {
                    self.conn = None;
                    return Poll::Ready(None);
                }
                Ok(_) | Err(_) => return self.broken(UPSTREAM),
            }
        }
    }

    fn take_data(&mut self) -> Bytes {
        let mut data = std::mem::take(&mut self.buf);
        let End::After(left) = &mut self.end else { return data };
        let announced = usize::try_from(*left).unwrap_or(usize::MAX);
        if data.len() > announced {
            self.buf = data.split_off(announced);
        }
        *left -= data.len() as u64;
        // at once: not every reader asks again when it has all that was announced
        if *left == 0 {
            self.finish();
        }
        data
    }

    /// Octets behind the end, or a request that is not sent yet, make the connection useless.
    fn finish(&mut self) {
        let done = self.conn.take();
        if self.keep
            && self.buf.is_empty()
            && self.upload.is_none()
            && let Some(conn) = done
        {
            self.endpoint.give_back(conn, self.worker.coarse_us.get(), false);
        }
        self.upload = None;
    }

    fn broken(&mut self, error: BodyError) -> Poll<Option<Result<Piece, BodyError>>> {
        self.conn = None;
        self.upload = None;
        Poll::Ready(Some(Err(error)))
    }
}

const UPSTREAM: BodyError = BodyError::Upstream(None);

fn chunk_limits(limits: &ClientLimits) -> ChunkLimits {
    ChunkLimits {
        line: limits.chunk_line_bytes_max as usize,
        extensions: limits.chunk_extension_bytes_max as usize,
        trailer_bytes: limits.trailer_bytes_max as usize,
        trailer_fields: limits.trailer_fields_max as usize,
    }
}
