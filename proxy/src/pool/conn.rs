//! One upstream connection, counted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use serin_metrics::Shard;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pulse::Pulse;
use crate::clock;
use crate::floods::{Budgets, Floods};
use crate::stream::Stream;

/// A connection to an upstream; it counts as open until it is dropped.
#[derive(Debug)]
pub struct Conn {
    /// The socket.
    pub io: Stream,
    /// When it was made, in microseconds of the clock.
    pub(super) born_us: u64,
    idle: bool,
    /// Nothing is there for HTTP/1.1.
    frames: Option<Box<Frames>>,
    shard: Arc<Shard>,
}

/// What is noted of HTTP/2.
#[derive(Debug)]
struct Frames {
    floods: Floods,
    pulse: Rc<Pulse>,
}

impl Conn {
    pub(super) fn new(io: Stream, shard: &Arc<Shard>) -> Self {
        shard.worker().upstream_connections_active.inc();
        Self { io, born_us: clock::now_us(), idle: false, frames: None, shard: Arc::clone(shard) }
    }

    pub(super) fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    /// It speaks HTTP/2: from here its frames are counted, and `pulse` is told what comes.
    pub(super) fn count_frames(&mut self, budgets: Budgets, pulse: Rc<Pulse>) {
        self.frames = Some(Box::new(Frames { floods: Floods::of_origin(budgets, clock::now_us()), pulse }));
    }

    fn note_written(&mut self, count: usize) {
        if let Some(frames) = &mut self.frames {
            frames.floods.wrote(count);
        }
    }

    pub(super) fn set_idle(&mut self, idle: bool) {
        let cells = self.shard.worker();
        match (std::mem::replace(&mut self.idle, idle), idle) {
            (false, true) => {
                cells.upstream_connections_active.dec();
                cells.upstream_connections_idle.inc();
            }
            (true, false) => {
                cells.upstream_connections_idle.dec();
                cells.upstream_connections_active.inc();
            }
            (true, true) | (false, false) => {}
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.set_idle(false);
        self.shard.worker().upstream_connections_active.dec();
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let Some(frames) = &mut self.frames else { return Poll::Ready(Ok(())) };
        let counted = frames.floods.read(&buf.filled()[before..], clock::now_us());
        frames.pulse.hear(frames.floods.take_carried());
        if let Err(flood) = counted {
            self.shard.worker().floods_upstream[flood.index()].inc();
            let what = "the origin sends too much that serves nothing";
            tracing::warn!(reason = flood.as_str(), endpoint = ?self.io.peer(), "{what}: its connection is closed");
            return Poll::Ready(Err(io::Error::other(what)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.note_written(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.note_written(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
