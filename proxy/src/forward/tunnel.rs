//! A connection that both sides have agreed to use for something else (RFC 9110 section 7.8): octets both ways.
//!
//! Each direction holds one read at most, so a side that does not read stops the other. The end of one direction travels
//! on its own; the tunnel is over when both have ended, or when either breaks.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::BodyError;
use crate::pool::Conn;
use crate::stall::{Patience, Side};
use crate::worker::Worker;

/// An upstream connection that has switched protocols.
#[derive(Debug)]
pub struct Tunnel {
    conn: Conn,
    /// What came behind the head of the answer.
    first: Bytes,
    stall: Duration,
}

impl Tunnel {
    /// Of a connection on which `first` was read behind the head. An origin that takes nothing of what there is for longer
    /// than `stall` loses it; that of the caller is looked after by its connection.
    pub fn new(conn: Conn, first: Bytes, stall: Duration) -> Self {
        Self { conn, first, stall }
    }

    /// Moves octets until the end of both directions. `first` was read from the caller already.
    ///
    /// # Errors
    /// A side broke, or the origin takes nothing. Behind the caller's first octet that says nothing of the origin: what it
    /// heard may be the reason, and one that only speaks need not listen.
    pub async fn run<C>(self, mut caller: C, first: Bytes, worker: &Rc<Worker>) -> Result<(), BodyError>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut origin, stall, mut patience) = (self.conn, Some(self.stall), Patience::default());
        let (mut up, mut down) = (Way::new(first), Way::new(self.first));
        let ended = poll_fn(|cx| {
            let sent = match up.poll(&mut caller, &mut origin, worker, cx) {
                // what it said before is still on the way
                Poll::Ready(Err(Broken::Writer)) => up.stop(),
                sent => sent.map_err(Broken::upwards)?,
            };
            let received = down.poll(&mut origin, &mut caller, worker, cx).map_err(Broken::downwards)?;
            if up.pending.is_empty() || !down.pending.is_empty() {
                // an origin that nobody listens to may stop listening
                patience.moved();
            } else if patience.is_over(worker, (Side::Sink, up.moved), stall, cx) {
                return Poll::Ready(Err(BodyError::Upstream(None)));
            }
            if sent.is_ready() && received.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await;
        let unheard = up.moved == 0 && up.pending.is_empty();
        ended.map_err(|error| if unheard { error } else { BodyError::Downstream(None) })
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
    /// Octets that were taken.
    moved: u64,
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
        Self { pending, moved: 0, state: State::Open }
    }

    /// Nothing more is moved.
    fn stop(&mut self) -> Poll<()> {
        self.pending.clear();
        self.state = State::Over;
        Poll::Ready(())
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
                self.moved += count as u64;
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
