//! Bodies in both directions: an enum, so that none is boxed and none is buffered whole.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use serin_metrics::Class;

use crate::classify;
use crate::conn::{Active, Link};
use crate::error::ProxyError;
use crate::forward::{Tunnel, UpH1, UpH2};
use crate::grpc;
use crate::inflight::Ticket;
use crate::layers::hygiene;

mod watch;

use watch::Watch;

/// A request or response body.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    watch: Option<Watch>,
    /// An error that is passed on at the next poll: what came before it is flushed first, so that a caller sees the
    /// status and the part that there was, and then the cut.
    cut: Option<BodyError>,
    active: Option<Active>,
    /// Octets that may still come; no limit is the largest number.
    room: u64,
}

/// Where the octets come from.
#[derive(Debug, Default)]
pub enum Kind {
    /// Nothing comes.
    #[default]
    Empty,
    /// It came whole with its head, or we made it.
    Full(Bytes),
    /// A downstream HTTP/1.1 request.
    Hyper(HyperBody),
    /// A downstream HTTP/2 request.
    H2(H2Body),
    /// The rest of an upstream HTTP/1.1 response.
    UpH1(Box<UpH1>),
    /// An upstream HTTP/2 response.
    UpH2(UpH2),
    /// No body: the connection has switched protocols.
    Tunnel(Box<Tunnel>),
    /// A response of which one piece was taken already.
    Behind(Box<(Option<Piece>, Body)>),
}

/// One step of a body.
#[derive(Debug)]
pub enum Piece {
    /// Octets, never empty.
    Data(Bytes),
    /// The end, with fields.
    Trailers(HeaderMap),
}

impl Default for Body {
    fn default() -> Self {
        Self::new(Kind::Empty)
    }
}

/// A body that ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The caller's side: it went away or broke its framing. The code is that of its HTTP/2 reset.
    #[error("the downstream body ended early")]
    Downstream(Option<u32>),
    /// The origin's side; the code is that of its HTTP/2 reset.
    #[error("the upstream body ended early")]
    Upstream(Option<u32>),
    /// The caller's body is larger than it may be.
    #[error("the downstream body is too large")]
    TooLarge,
}

impl Body {
    /// A body of this kind.
    pub fn new(kind: Kind) -> Self {
        Self { kind, watch: None, cut: None, active: None, room: u64::MAX }
    }

    /// A whole body; nothing if it is empty.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::new(if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) })
    }

    /// A body with the piece before it that was taken of it.
    pub fn behind(piece: Piece, rest: Body) -> Self {
        Self::new(Kind::Behind(Box::new((Some(piece), rest))))
    }

    /// The end of this response body is the end of the request behind `ticket`. `grpc_status` is what the head says;
    /// `reads_status`: one in trailers would be seen.
    pub fn watch(
        &mut self,
        ticket: Ticket,
        status: StatusCode,
        grpc: bool,
        grpc_status: Option<u32>,
        reads_status: bool,
    ) {
        let watch = Watch::new(ticket, status, grpc, grpc_status, reads_status);
        if self.is_end() {
            watch.finish(None);
        } else {
            self.watch = Some(watch);
        }
    }

    /// The connection is busy until this response body is dropped.
    pub fn hold(&mut self, active: Option<Active>) {
        self.active = active;
    }

    /// More octets than this are [`BodyError::TooLarge`]; the smallest of several limits holds.
    pub fn limit(&mut self, octets_max: u64) {
        self.room = self.room.min(octets_max);
    }

    /// Nothing more comes, not even trailers.
    pub fn is_end(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Hyper(body) => body.incoming.is_end_stream(),
            Kind::H2(body) => body.is_end(),
            Kind::UpH1(body) => body.is_end(),
            Kind::UpH2(body) => body.is_end(),
            Kind::Tunnel(_) => false,
            Kind::Behind(both) => both.0.is_none() && both.1.is_end(),
        }
    }

    /// Octets to come, if known.
    pub fn length(&self) -> Option<u64> {
        match &self.kind {
            Kind::Empty => Some(0),
            Kind::Full(bytes) => Some(bytes.len() as u64),
            Kind::Hyper(body) => body.incoming.size_hint().exact(),
            Kind::H2(body) => body.is_end().then_some(0),
            Kind::UpH1(body) => body.length(),
            Kind::UpH2(body) => body.is_end().then_some(0),
            Kind::Tunnel(_) => None,
            Kind::Behind(both) => (both.0.is_none() && both.1.is_end()).then_some(0),
        }
    }

    /// The next piece. After `None`, an error or trailers there is nothing more.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        if let Some(error) = self.cut {
            // it may have come before there was anybody to tell
            self.fail(error);
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(watch) = &mut self.watch {
            watch.asked();
        }
        let Poll::Ready(mut piece) = self.poll_kind(cx) else { return self.poll_deadline(cx) };
        if let Some(Ok(Piece::Data(data))) = &piece {
            match self.room.checked_sub(data.len() as u64) {
                Some(room) => self.room = room,
                None => piece = Some(Err(BodyError::TooLarge)),
            }
        }
        match &mut piece {
            None => self.finish(None),
            Some(Err(error)) => {
                self.fail(*error);
                self.cut = Some(*error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Ok(Piece::Trailers(fields))) => {
                let status = grpc::status_of(fields);
                if let Some(watch) = self.watch.as_ref().filter(|watch| watch.trusted) {
                    fields.insert(classify::SUCCESS_CLASS, classify::success_class(watch.class(status)));
                }
                self.finish(status);
            }
            Some(Ok(Piece::Data(_))) if self.is_end() => self.finish(None),
            Some(Ok(Piece::Data(_))) => {
                if let Some(watch) = &mut self.watch {
                    watch.gave();
                }
            }
        }
        Poll::Ready(piece)
    }

    /// The tunnel behind an answer that switches protocols, with what it takes to end the request in the books.
    pub fn into_tunnel(mut self) -> Option<(Box<Tunnel>, Self)> {
        match std::mem::take(&mut self.kind) {
            Kind::Tunnel(tunnel) => Some((tunnel, self)),
            _ => None,
        }
    }

    /// The tunnel has ended.
    pub fn end_tunnel(mut self, ended: Result<(), BodyError>) {
        match ended {
            Ok(()) => self.finish(None),
            Err(error) => self.fail(error),
        }
    }

    /// Drives what must go on while nobody takes response octets: the rest of the upload.
    pub fn poll_upload(&mut self, cx: &mut Context<'_>) {
        match &mut self.kind {
            Kind::UpH1(body) => body.poll_upload(cx),
            Kind::UpH2(body) => body.poll_upload(cx),
            Kind::Behind(both) => both.1.poll_upload(cx),
            _ => {}
        }
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        match &mut self.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(Piece::Data(bytes))))
            }
            Kind::Hyper(body) => poll_hyper(body, cx),
            Kind::H2(body) => body.poll_piece(cx).map_err(BodyError::Downstream),
            Kind::UpH1(body) => body.poll_piece(cx),
            Kind::UpH2(body) => body.poll_piece(cx),
            // only its connection can use it
            Kind::Tunnel(_) => Poll::Ready(Some(Err(BodyError::Upstream(None)))),
            Kind::Behind(both) => match both.0.take() {
                Some(Piece::Trailers(fields)) => {
                    // they are the end: nothing is asked of what they came from
                    both.1 = Body::default();
                    Poll::Ready(Some(Ok(Piece::Trailers(fields))))
                }
                Some(piece) => Poll::Ready(Some(Ok(piece))),
                None => both.1.poll_piece(cx),
            },
        }
    }

    /// A gRPC call is under its deadline until its last message: past it the call ends with the status for that, and
    /// what the origin still does is cancelled. To who would not see the status that end would look like a clean one: there
    /// the answer is cut.
    fn poll_deadline(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        let passed = self.watch.as_ref().is_some_and(|watch| watch.grpc && watch.ticket.is_past_total(cx));
        if !passed {
            return Poll::Pending;
        }
        self.kind = Kind::Empty;
        if let Some(watch) = &self.watch {
            let _told_as_a_status = watch.ticket.late();
            if !watch.reads_status {
                self.cut = Some(BodyError::Upstream(None));
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.finish(Some(ProxyError::Timeout.grpc_status()));
        let mut fields = HeaderMap::with_capacity(2);
        fields.insert(grpc::STATUS, HeaderValue::from(ProxyError::Timeout.grpc_status()));
        fields.insert(grpc::MESSAGE, HeaderValue::from_static("deadline exceeded"));
        Poll::Ready(Some(Ok(Piece::Trailers(fields))))
    }

    /// The upstream connection, if the body was cut because that was lost.
    fn lost(&self) -> Option<u64> {
        match &self.kind {
            Kind::UpH2(body) => body.lost(),
            Kind::Behind(both) => both.1.lost(),
            _ => None,
        }
    }

    fn finish(&mut self, grpc_status: Option<u32>) {
        if let Some(watch) = self.watch.take() {
            watch.finish(grpc_status);
        }
    }

    fn fail(&mut self, error: BodyError) {
        if let Some(watch) = self.watch.take() {
            let lost = self.lost();
            match error {
                BodyError::Downstream(_) | BodyError::TooLarge => watch.ticket.finish(Class::Ignored),
                // who writes to a slow reader may have a time for it
                BodyError::Upstream(_) if watch.reader_is_slow() => watch.ticket.finish(Class::Ignored),
                BodyError::Upstream(_) => watch.ticket.fail(lost),
            }
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_piece(cx).map_ok(|piece| match piece {
            Piece::Data(data) => Frame::data(data),
            Piece::Trailers(fields) => Frame::trailers(fields),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A downstream HTTP/1.1 body. Dropped before its end, it tells its connection.
#[derive(Debug)]
pub struct HyperBody {
    incoming: Incoming,
    link: Rc<Link>,
    done: bool,
}

impl HyperBody {
    /// A body that comes on this connection.
    pub fn new(body: Incoming, link: &Rc<Link>) -> Self {
        Self { incoming: body, link: Rc::clone(link), done: false }
    }

    fn end(&mut self) {
        self.done = true;
        self.link.note_uploaded();
    }
}

impl Drop for HyperBody {
    fn drop(&mut self) {
        if !self.done && !self.incoming.is_end_stream() {
            self.link.note_unread();
        }
    }
}

fn poll_hyper(body: &mut HyperBody, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
    loop {
        let polled = Pin::new(&mut body.incoming).poll_frame(cx);
        body.link.set_reader_waits(polled.is_pending());
        let Some(frame) = ready!(polled) else {
            body.end();
            return Poll::Ready(None);
        };
        let Ok(frame) = frame else { return Poll::Ready(Some(Err(BodyError::Downstream(None)))) };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                if body.incoming.is_end_stream() {
                    body.end();
                }
                return Poll::Ready(Some(Ok(Piece::Data(data))));
            }
            Err(frame) => {
                if let Ok(mut fields) = frame.into_trailers() {
                    body.end();
                    if fields.len() > body.link.limit(|limits| limits.trailer_fields_max) as usize {
                        return Poll::Ready(Some(Err(BodyError::Downstream(None))));
                    }
                    hygiene::clean_trailers(&mut fields);
                    return Poll::Ready(Some(Ok(Piece::Trailers(fields))));
                }
            }
        }
    }
}

/// One direction of an HTTP/2 stream. The window is given back when the reader comes for more, which it does only once
/// it got rid of what it had: so a slow reader stops the sender within one window.
#[derive(Debug)]
pub struct H2Body {
    recv: RecvStream,
    unreleased: usize,
    data_done: bool,
    /// Known to have ended: asking h2 costs a lock.
    ended: bool,
    /// It was cut because its connection was lost.
    lost: bool,
    /// It had to be reset for what the peer did.
    provoked: bool,
    trailer_fields_max: u32,
}

/// Did the whole connection go, not this stream alone. The polite GOAWAY of an origin that is going is no loss.
pub fn is_lost(error: &h2::Error) -> bool {
    error.is_io() || (error.is_go_away() && error.reason() != Some(h2::Reason::NO_ERROR))
}

/// Had the stream to be reset for what the peer did.
pub fn is_provoked(error: &h2::Error) -> bool {
    error.is_reset() && error.is_library()
}

impl H2Body {
    /// Reads this stream. More trailer fields than so many are an error.
    pub fn new(recv: RecvStream, trailer_fields_max: u32) -> Self {
        let ended = recv.is_end_stream();
        Self { recv, unreleased: 0, data_done: false, ended, lost: false, provoked: false, trailer_fields_max }
    }

    /// Nothing more comes.
    pub fn is_end(&self) -> bool {
        self.ended
    }

    /// Was it cut because its connection was lost.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Had it to be reset for what the peer did; says so once.
    pub fn take_provoked(&mut self) -> bool {
        std::mem::take(&mut self.provoked)
    }

    /// The next piece; the error is the code of the reset, if it was one.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Option<u32>>>> {
        if self.unreleased > 0 {
            let size = std::mem::take(&mut self.unreleased);
            if self.recv.flow_control().release_capacity(size).is_err() {
                return Poll::Ready(Some(Err(None)));
            }
        }
        while !self.data_done {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.unreleased = data.len();
                    self.ended = self.recv.is_end_stream();
                    return Poll::Ready(Some(Ok(Piece::Data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(self.cut(&error)))),
                None => self.data_done = true,
            }
        }
        match ready!(self.recv.poll_trailers(cx)) {
            Ok(Some(fields)) if fields.len() > self.trailer_fields_max as usize || hygiene::has_malformed(&fields) => {
                Poll::Ready(Some(Err(None)))
            }
            Ok(Some(mut fields)) => {
                self.ended = true;
                hygiene::clean_trailers(&mut fields);
                Poll::Ready(Some(Ok(Piece::Trailers(fields))))
            }
            Ok(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Err(error) => Poll::Ready(Some(Err(self.cut(&error)))),
        }
    }

    fn cut(&mut self, error: &h2::Error) -> Option<u32> {
        self.lost = is_lost(error);
        self.provoked = is_provoked(error);
        error.reason().map(u32::from)
    }
}
