//! A client that ends its direction while it waits for an answer.
//!
//! On the wire the end of a client that goes on reading and that of one that is gone look the same. The first wants its
//! answer; the second wants its request cancelled. So the end is kept back from hyper while the answer is due, and the
//! client is asked: an interim response means nothing to one that reads, and a kernel resets the connection of one that
//! does not. An answer that is on its way asks by itself.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use super::link::{Answer, Link};
use super::socket::Socket;

/// Between two looks.
const TICK: Duration = Duration::from_millis(250);
/// So many looks before the client is asked: most answers are there by then.
const ASK_AFTER: u32 = 2;
/// So many looks without a written octet, and a client whose answer has begun is taken to be gone.
const QUIET_MAX: u32 = 12;
/// After so many looks an upload that has not come to its end never will.
const UPLOAD_LOOKS_MAX: u32 = 4;
/// Any client on HTTP/1.1 can read it, expected or not (RFC 9110 section 15.2).
const QUESTION: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Its end was seen and kept back.
#[derive(Debug)]
pub(super) struct HalfClosed {
    tick: Pin<Box<Sleep>>,
    looks: u32,
    asked: bool,
    /// Looks since an octet was written, and how many had been.
    quiet: u32,
    written: u64,
}

impl HalfClosed {
    /// Seen now.
    pub(super) fn new() -> Self {
        Self { tick: Box::pin(tokio::time::sleep(TICK)), looks: 0, asked: false, quiet: 0, written: 0 }
    }

    /// Ready when the end is to be told: nothing is due any more, or the client is gone.
    ///
    /// # Errors
    /// The client is gone for certain.
    pub(super) fn poll(&mut self, socket: &Socket, link: &Link, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if !link.owes_answer() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.tick.as_mut().poll(cx));
            self.tick.set(tokio::time::sleep(TICK));
            if let Some(error) = socket.take_error()? {
                return Poll::Ready(Err(error));
            }
            self.looks += 1;
            match link.answer() {
                Answer::Unwritten { may_ask: true } if self.looks >= ASK_AFTER && !self.asked => {
                    self.asked = true;
                    ask(socket)?;
                }
                Answer::Early if self.looks >= UPLOAD_LOOKS_MAX => return Poll::Ready(Ok(())),
                Answer::Early | Answer::Unwritten { .. } => {}
                Answer::Written(octets) => {
                    self.quiet = if octets == self.written { self.quiet + 1 } else { 0 };
                    self.written = octets;
                    if self.quiet >= QUIET_MAX {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

fn ask(socket: &Socket) -> io::Result<()> {
    match socket.try_write(QUESTION)? {
        count if count == QUESTION.len() => Ok(()),
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    }
}
