//! One upstream connection, counted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use serin_metrics::Shard;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection to an upstream; it counts as open until it is dropped.
#[derive(Debug)]
pub struct Conn {
    /// The socket.
    pub io: TcpStream,
    idle: bool,
    shard: Arc<Shard>,
}

impl Conn {
    pub(super) fn new(io: TcpStream, shard: &Arc<Shard>) -> Self {
        shard.worker().upstream_connections_active.inc();
        Self { io, idle: false, shard: Arc::clone(shard) }
    }

    pub(super) fn shard(&self) -> &Arc<Shard> {
        &self.shard
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
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
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
