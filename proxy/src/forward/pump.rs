//! Octets into an HTTP/2 stream, with its flow control.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::source::Source;
use crate::body::{Body, BodyError, Piece};
use crate::stall::Side;

/// Where a pump gets its pieces.
pub trait Pieces {
    /// The next piece.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>>;
    /// Nothing more comes.
    fn ended(&self) -> bool;
    /// What must go on while the stream takes no octets.
    fn poll_beside(&mut self, cx: &mut Context<'_>);
}

impl Pieces for Body {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        self.poll_piece(cx)
    }

    fn ended(&self) -> bool {
        self.is_end()
    }

    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        self.poll_upload(cx);
    }
}

impl Pieces for Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        self.poll(cx)
    }

    fn ended(&self) -> bool {
        self.is_end()
    }

    fn poll_beside(&mut self, _: &mut Context<'_>) {}
}

/// Why a pump stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The stream takes no more; the code of its reset, if it was one.
    Sink(Option<u32>),
    /// The pieces ended early.
    Source(BodyError),
}

/// One direction of an HTTP/2 stream, driven by whoever polls it.
#[derive(Debug)]
pub struct Pump {
    to: SendStream<Bytes>,
    pending: Bytes,
    done: bool,
    /// Pieces handed to the stream so far: who watches it sees progress.
    moved: u64,
    /// Pieces taken from the source so far.
    taken: u64,
}

impl Pump {
    /// Into this stream, whose head has been sent.
    pub fn new(to: SendStream<Bytes>) -> Self {
        Self { to, pending: Bytes::new(), done: false, moved: 0, taken: 0 }
    }

    /// Grows with each piece that the stream took.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Who keeps it from going on, after how many pieces.
    pub fn blocked(&self) -> (Side, u64) {
        (if self.pending.is_empty() { Side::Source } else { Side::Sink }, self.moved + self.taken)
    }

    /// Moves what can be moved. Ready when the end of the stream is queued, or when there will be none.
    pub fn poll(&mut self, from: &mut impl Pieces, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            if !self.pending.is_empty() {
                from.poll_beside(cx);
                match self.poll_pending(from.ended(), cx) {
                    Poll::Ready(sent) => sent?,
                    Poll::Pending => return self.poll_stopped(cx),
                }
                continue;
            }
            let Poll::Ready(piece) = from.poll_next(cx) else { return self.poll_stopped(cx) };
            match piece {
                Some(Ok(Piece::Data(data))) => {
                    self.taken += 1;
                    self.pending = data;
                }
                Some(Ok(Piece::Trailers(fields))) => {
                    self.to.send_trailers(fields).map_err(sink)?;
                    self.done = true;
                }
                Some(Err(error)) => return Poll::Ready(Err(Stopped::Source(error))),
                None => {
                    self.to.send_data(Bytes::new(), true).map_err(sink)?;
                    self.done = true;
                }
            }
        }
    }

    /// Ends the stream with this code.
    pub fn reset(&mut self, reason: Reason) {
        self.to.send_reset(reason);
    }

    /// Nothing moves. The peer may have reset the stream: looked at here only, because it costs a lock of h2's.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        self.to.poll_reset(cx).map(|reset| Err(Stopped::Sink(reset.ok().map(u32::from))))
    }

    /// Sends as much of the pending octets as the window takes. The last ones carry the end of the stream.
    fn poll_pending(&mut self, last: bool, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        self.to.reserve_capacity(self.pending.len());
        let room = self.to.capacity();
        self.moved += u64::from(room > 0);
        if room >= self.pending.len() {
            self.to.send_data(std::mem::take(&mut self.pending), last).map_err(sink)?;
            self.done = last;
            return Poll::Ready(Ok(()));
        }
        if room > 0 {
            self.to.send_data(self.pending.split_to(room), false).map_err(sink)?;
            return Poll::Ready(Ok(()));
        }
        match ready!(self.to.poll_capacity(cx)) {
            Some(Ok(_)) => Poll::Ready(Ok(())),
            Some(Err(error)) => Poll::Ready(Err(sink(error))),
            None => Poll::Ready(Err(Stopped::Sink(None))),
        }
    }
}

fn sink(error: h2::Error) -> Stopped {
    Stopped::Sink(error.reason().map(u32::from))
}
