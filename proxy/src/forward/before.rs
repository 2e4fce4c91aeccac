//! What comes before an answer: `Expect: 100-continue` and interim responses (RFC 9110 sections 10.1.1 and 15.2).

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use http::{HeaderMap, Response, StatusCode, Version};
use tokio::time::Sleep;

use super::{Call, protocol};
use crate::error::Fault;
use crate::layers::hygiene;
use crate::worker::Worker;

/// How long an origin may think about a request whose body is held back, before the caller is asked for it on the
/// origin's behalf: not every origin says 100.
const EXPECT_WAIT: Duration = Duration::from_millis(500);

/// One attempt before its final response head.
pub(super) struct Before<'a> {
    worker: &'a Worker,
    call: &'a Call<'a>,
    /// The body is held back until it is asked for, or until this passes.
    held: Option<Pin<Box<Sleep>>>,
    heard: u32,
}

impl<'a> Before<'a> {
    /// Nothing was sent yet.
    pub(super) fn new(worker: &'a Worker, call: &'a Call<'a>) -> Self {
        let held = call.expects.then(|| Box::pin(tokio::time::sleep(EXPECT_WAIT)));
        Self { worker, call, held, heard: 0 }
    }

    /// Is the body held back. A caller that waits is told to go on when the origin took too long to say so.
    pub(super) fn poll_held(&mut self, cx: &mut Context<'_>) -> bool {
        if self.held.as_mut().is_some_and(|wait| wait.as_mut().poll(cx).is_ready()) {
            self.release();
        }
        self.held.is_some()
    }

    /// Did the origin say anything yet.
    pub(super) fn heard_any(&self) -> bool {
        self.heard > 0
    }

    /// Is the body still held back.
    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// An interim response came.
    ///
    /// # Errors
    /// It is one too many.
    pub(super) fn hear(&mut self, status: StatusCode, mut headers: HeaderMap) -> Result<(), Fault> {
        self.heard += 1;
        if self.heard > self.call.interim_max {
            return Err(protocol("too many interim responses"));
        }
        if status == StatusCode::CONTINUE {
            // one that nobody expects says nothing
            self.release();
        } else if self.passes_on() {
            hygiene::strip_proxy_credentials(&mut headers);
            if !self.worker.in_flight.is_trusted(self.call.handle) {
                hygiene::strip_response_context(&mut headers);
            }
            self.pass(status, headers);
        } else {
            self.worker.give_map(headers);
        }
        Ok(())
    }

    /// The caller may send its body: over HTTP/1.1 it is told when somebody reads it.
    fn release(&mut self) {
        if self.held.take().is_some() && self.passes_on() {
            self.pass(StatusCode::CONTINUE, HeaderMap::new());
        }
    }

    /// HTTP/2 streams take interim responses. hyper's server has no way to send one, and HTTP/1.0 knows none.
    fn passes_on(&self) -> bool {
        self.call.parts.version == Version::HTTP_2
    }

    fn pass(&self, status: StatusCode, headers: HeaderMap) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        self.worker.interim.borrow_mut().push(response);
    }
}
