//! A request on its way into an HTTP/1.1 connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use super::source::Source;
use crate::body::{BodyError, Piece};
use crate::h1::{self, Framing};
use crate::stall::Side;
use crate::stream::Stream;

/// A piece up to this size is copied behind the head, so that both leave in one write.
const COPY_MAX: usize = 4 << 10;

/// Why an upload stopped.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// The caller's body ended early, or is not as it should be.
    Body(BodyError),
    /// The upstream takes no more. It may have answered all the same.
    Io,
}

/// What is left to write. It holds one piece at most: a slow upstream stops the caller.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Framing and small pieces; the worker's buffer at first.
    out: Vec<u8>,
    written: usize,
    /// A piece that was too large to copy, and whether the end of its chunk follows.
    data: Bytes,
    chunked: bool,
    /// Octets still announced, if the length is known.
    left: u64,
    ended: bool,
    /// Octets written so far: who watches it sees progress.
    pub(crate) moved: u64,
}

impl Upload {
    /// Writes `head` and then the body that it announced.
    pub(crate) fn new(head: Vec<u8>, framing: Framing) -> Self {
        let (chunked, left) = match framing {
            Framing::Chunked => (true, 0),
            Framing::Length(length) => (false, length),
            Framing::None => (false, 0),
        };
        Self { out: head, written: 0, data: Bytes::new(), chunked, left, ended: framing == Framing::None, moved: 0 }
    }

    /// Who keeps it from going on, after how many octets.
    pub(crate) fn blocked(&self) -> (Side, u64) {
        let unwritten = self.written < self.out.len() || !self.data.is_empty();
        (if unwritten { Side::Sink } else { Side::Source }, self.moved)
    }

    /// The buffer, once everything is written.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.out
    }

    /// Writes what can be written. Ready when all of it is. Without a source: no more than the head for now.
    pub(crate) fn poll(
        &mut self,
        io: &mut Stream,
        mut source: Option<&mut Source>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            let starved = !self.ended
                && self.data.is_empty()
                && match source.as_deref_mut() {
                    Some(source) => self.poll_fill(source, cx)?.is_pending(),
                    None => true,
                };
            if self.written < self.out.len() || !self.data.is_empty() {
                match ready!(self.poll_write(io, cx)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(UploadError::Io)),
                    Ok(count) => self.advance(count),
                }
            } else if self.ended {
                return Poll::Ready(Ok(()));
            } else if starved {
                return Poll::Pending;
            }
        }
    }

    /// Takes one more piece while there is room for it.
    fn poll_fill(&mut self, source: &mut Source, cx: &mut Context<'_>) -> Result<Poll<()>, UploadError> {
        if self.out.len() - self.written > COPY_MAX {
            return Ok(Poll::Ready(()));
        }
        let Poll::Ready(piece) = source.poll(cx) else { return Ok(Poll::Pending) };
        match piece.transpose().map_err(UploadError::Body)? {
            Some(Piece::Data(data)) => self.stage(data, source)?,
            Some(Piece::Trailers(fields)) => self.finish(Some(&fields))?,
            None => self.finish(None)?,
        }
        Ok(Poll::Ready(()))
    }

    fn stage(&mut self, data: Bytes, source: &Source) -> Result<(), UploadError> {
        if self.chunked {
            h1::encode_chunk_head(&mut self.out, data.len());
        } else {
            self.left = self.left.checked_sub(data.len() as u64).ok_or(SHORT)?;
        }
        if data.len() <= COPY_MAX {
            self.out.extend_from_slice(&data);
            self.end_chunk();
        } else {
            self.data = data;
        }
        // known now and not only at the next poll: then the last octets and the end leave together
        if self.data.is_empty() && source.is_end() { self.finish(None) } else { Ok(()) }
    }

    fn end_chunk(&mut self) {
        if self.chunked {
            self.out.extend_from_slice(h1::CHUNK_END);
        }
    }

    fn finish(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), UploadError> {
        if self.chunked {
            h1::encode_last_chunk(&mut self.out, trailers);
        } else if self.left > 0 {
            return Err(SHORT);
        }
        self.ended = true;
        Ok(())
    }

    fn poll_write(&mut self, io: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let head = &self.out[self.written..];
        if self.data.is_empty() {
            return Pin::new(io).poll_write(cx, head);
        }
        Pin::new(io).poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(&self.data)])
    }

    fn advance(&mut self, count: usize) {
        self.moved += count as u64;
        let head = (self.out.len() - self.written).min(count);
        self.written += head;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        if count > head {
            self.data.advance(count - head);
            if self.data.is_empty() {
                self.end_chunk();
            }
        }
    }
}

/// The body disagrees with its announced length.
const SHORT: UploadError = UploadError::Body(BodyError::Downstream(None));
