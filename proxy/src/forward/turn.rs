//! Whose turn it is while the head of an answer has not come.

use super::Call;
use crate::clock;
use crate::inflight::Deadline;
use crate::stall::Side;
use crate::worker::Worker;

/// One attempt, from the connection to the head of the answer. The time to answer runs from the last octet that the upstream
/// took, and only while the upstream has the whole request, or takes nothing of it: while only the caller keeps the request
/// from being whole, the upstream owes nothing.
#[derive(Debug, Default)]
pub(super) struct Turn {
    callers: bool,
}

impl Turn {
    /// The upload waits for this side; `None`: it is over. `moved`: the upstream took of it since the last look.
    pub(super) fn look(&mut self, worker: &Worker, call: &Call<'_>, waits_for: Option<Side>, moved: bool) {
        let callers = waits_for == Some(Side::Source);
        if callers != self.callers {
            self.callers = callers;
            // while nobody had a deadline nobody looked at the clock
            let now_us = clock::now_us();
            worker.coarse_us.set(now_us);
            worker.in_flight.set_waits(call.handle, callers, now_us);
            if callers {
                worker.in_flight.set_deadline(call.handle, Deadline::Attempt, 0);
            } else {
                call.start_attempt(worker);
            }
        } else if moved && !callers {
            call.start_attempt(worker);
        }
    }
}
