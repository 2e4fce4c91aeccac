//! A downstream socket with what was read of it before anybody knew what it speaks.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::half::HalfClosed;
use super::link::Link;
use super::unreadable;
use crate::stream::Stream;
use crate::worker::Worker;

/// Reads first what was read already, then the socket.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Until the stream is taken out of it.
    io: Option<Stream>,
    first: Bytes,
    link: Rc<Link>,
    half: Option<Box<HalfClosed>>,
    /// Octets of a flood that are still read away.
    left: usize,
}

/// So many octets of a flood are read away after its end, in pieces of this size.
const LINGER_OCTETS: usize = 4 << 20;
const SINK: usize = 4 << 10;

impl Socket {
    /// A socket of which these octets were read.
    pub(crate) fn new(io: Stream, first: Bytes, link: Rc<Link>) -> Self {
        Self { io: Some(io), first, link, half: None, left: LINGER_OCTETS }
    }

    /// The stream alone, of which nothing is left that was read.
    pub(crate) fn into_idle(mut self) -> Option<Stream> {
        self.io.take()
    }

    fn io(&mut self) -> io::Result<&mut Stream> {
        self.io.as_mut().ok_or_else(gone)
    }

    /// What was read and not used.
    pub(crate) fn unused(&self) -> &[u8] {
        &self.first
    }

    /// Puts octets behind those that were read before.
    pub(crate) fn add(&mut self, octets: Bytes) {
        self.first = if self.first.is_empty() { octets } else { [&self.first[..], &octets[..]].concat().into() };
    }

    /// Puts octets back that a reader did not use, in front of those it never took.
    pub(crate) fn unread(&mut self, octets: Bytes) {
        self.first = match (octets.is_empty(), self.first.is_empty()) {
            // an empty slice would keep its whole block alive
            (true, true) => Bytes::new(),
            (true, false) => return,
            (false, true) => octets,
            (false, false) => [&octets[..], &self.first[..]].concat().into(),
        };
    }

    /// Is something there to read, without waiting for the socket.
    pub(crate) fn has_unread(&self) -> bool {
        !self.first.is_empty()
    }

    /// One read into the worker's block. Empty: end of stream.
    pub(crate) fn poll_block(&mut self, worker: &Worker, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let got = ready!(worker.poll_read(self.io()?, cx))?;
        self.link.note_read(got.len());
        Poll::Ready(Ok(got))
    }
}

impl Socket {
    /// The peer ended its direction: the reader hears of it when that does no harm.
    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(mut half) = self.half.take() else { return Poll::Ready(Ok(())) };
        let told = half.poll(self, &self.link, cx);
        self.half = Some(half);
        told
    }

    /// What is said in place of an answer of hyper's own. While octets of another answer may be on their way nothing is:
    /// a body can look like one.
    fn unreadable(&self, octets: &[u8]) -> Option<&'static [u8]> {
        let own = self.link.is_idle() && self.link.is_flushed() && !self.link.is_http2();
        if own { unreadable::named(octets, self.link.is_line_open()) } else { None }
    }

    /// Says `named` in place of so many octets: whole, or the connection is broken.
    fn poll_named(&mut self, cx: &mut Context<'_>, count: usize, named: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(self.io()?).poll_write(cx, named))?;
        Poll::Ready(if written == named.len() { Ok(count) } else { Err(io::ErrorKind::BrokenPipe.into()) })
    }

    /// What broke it, if something did.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.io.as_ref().ok_or_else(gone)?.take_error()
    }

    /// Its end will be a reset.
    pub(super) fn reset_at_end(&self) {
        if let Some(io) = &self.io {
            io.reset_at_end();
        }
    }

    /// Writes at once or not at all.
    pub(super) fn try_write(&self, octets: &[u8]) -> io::Result<usize> {
        self.io.as_ref().ok_or_else(gone)?.try_write(octets)
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl Drop for Socket {
    /// Its end is all that a client of HTTP/1.0 has: a message cut short must not look like a whole one, whoever cuts it.
    fn drop(&mut self) {
        if self.link.is_http_1_0() && self.link.owes_answer() {
            self.reset_at_end();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if !self.first.is_empty() {
            let count = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..count]);
            self.first.advance(count);
            if self.first.is_empty() {
                self.first = Bytes::new();
            }
        } else {
            if self.link.flood().is_some() {
                return Poll::Pending;
            }
            if self.half.is_some() {
                return self.poll_half_closed(cx);
            }
            ready!(Pin::new(self.io()?).poll_read(cx, buf))?;
            let count = buf.filled().len() - before;
            if count == 0 && buf.remaining() > 0 && self.link.owes_answer() {
                self.half = Some(Box::new(HalfClosed::new()));
                return self.poll_half_closed(cx);
            }
            self.link.note_read(count);
        }
        if !self.link.is_http2() {
            self.link.note_head(&buf.filled()[before..]);
        }
        if self.link.note_frames(&buf.filled()[before..]) {
            return Poll::Ready(Ok(()));
        }
        // nobody reads any more: whoever polled this looks at the verdict next
        buf.set_filled(before);
        Poll::Pending
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match self.unreadable(buf) {
            Some(named) => self.poll_named(cx, buf.len(), named),
            None => Pin::new(self.io()?).poll_write(cx, buf),
        };
        self.link.note_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [head] = bufs {
            return self.poll_write(cx, head);
        }
        let written = Pin::new(self.io()?).poll_write_vectored(cx, bufs);
        self.link.note_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper asks for it when it holds nothing more
        if self.link.is_idle() {
            self.link.note_flushed();
        }
        Pin::new(self.io()?).poll_flush(cx)
    }

    /// Closing with octets unread resets the connection, and the reset may overtake the last words to a peer that sent too
    /// much: what it sends is read away. Whoever polls this bounds the time.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(self.io()?).poll_shutdown(cx))?;
        let mut sink = [MaybeUninit::uninit(); SINK];
        while self.link.flood().is_some() && self.left > 0 {
            let mut sink = ReadBuf::uninit(&mut sink);
            ready!(Pin::new(self.io()?).poll_read(cx, &mut sink))?;
            self.left = self.left.saturating_sub(sink.filled().len());
            if sink.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
