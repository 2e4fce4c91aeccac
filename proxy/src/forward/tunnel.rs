//! A connection that both sides have agreed to use for something else (RFC 9110 section 7.8): octets both ways.
//!
//! Each direction holds one read at most, so a side that does not read stops the other. The end of one direction travels
//! on its own; the tunnel is over when both have ended, or when either breaks.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::BodyError;
use crate::pool::Conn;
use crate::worker::Worker;

/// An upstream connection that has switched protocols.
#[derive(Debug)]
pub struct Tunnel {
    conn: Conn,
    /// What came behind the head of the answer.
    first: Bytes,
}

impl Tunnel {
    /// Of a connection on which `first` was read behind the head.
    pub fn new(conn: Conn, first: Bytes) -> Self {
        Self { conn, first }
    }

    /// Moves octets until the end of both directions. `first` was read from the caller already.
    ///
    /// # Errors
    /// A side broke.
    pub async fn run<C>(self, mut caller: C, first: Bytes, worker: &Worker) -> Result<(), BodyError>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let mut origin = self.conn;
        let (mut up, mut down) = (Way::new(first), Way::new(self.first));
        poll_fn(|cx| {
            let sent = up.poll(&mut caller, &mut origin, worker, cx).map_err(Broken::upwards)?;
            let received = down.poll(&mut origin, &mut caller, worker, cx).map_err(Broken::downwards)?;
            if sent.is_ready() && received.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }
}

/// Which end of a direction broke.
#[derive(Debug)]
enum Broken {
    Reader,
    Writer,
}

impl Broken {
    fn upwards(self) -> BodyError {
        match self {
            Broken::Reader => BodyError::Downstream(None),
            Broken::Writer => BodyError::Upstream(None),
        }
    }

    fn downwards(self) -> BodyError {
        match self {
            Broken::Reader => BodyError::Upstream(None),
            Broken::Writer => BodyError::Downstream(None),
        }
    }
}

/// One direction.
#[derive(Debug)]
struct Way {
    pending: Bytes,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The reader ended; the writer is to be told once it has everything.
    Ended,
    Over,
}

impl Way {
    fn new(pending: Bytes) -> Self {
        Self { pending, state: State::Open }
    }

    /// Moves what can be moved. Ready when the end has been passed on.
    fn poll<R, W>(
        &mut self,
        from: &mut R,
        to: &mut W,
        worker: &Worker,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if !self.pending.is_empty() {
                let count = writer(ready!(Pin::new(&mut *to).poll_write(cx, &self.pending)))?;
                if count == 0 {
                    return Poll::Ready(Err(Broken::Writer));
                }
                self.pending.advance(count);
                continue;
            }
            match self.state {
                State::Over => return Poll::Ready(Ok(())),
                State::Ended => {
                    writer(ready!(Pin::new(&mut *to).poll_shutdown(cx)))?;
                    self.state = State::Over;
                }
                State::Open => {
                    let got = ready!(worker.poll_read(from, cx)).map_err(|_| Broken::Reader)?;
                    if got.is_empty() {
                        self.state = State::Ended;
                    }
                    self.pending = got;
                }
            }
        }
    }
}

fn writer<T>(result: io::Result<T>) -> Result<T, Broken> {
    result.map_err(|_| Broken::Writer)
}
