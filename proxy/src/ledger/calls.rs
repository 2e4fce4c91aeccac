//! gRPC calls to an arm that speaks no HTTP/2.
//!
//! Anybody may call a service of HTTP/1.1, so that says nothing of it. But where the other arm has answered a call with OK,
//! calls are what the service is for, and nobody who calls an arm in vain is to blame for that but the arm. Only OK tells: what
//! an origin says to a stranger's call is any other status.

use super::{Ledger, Ticket};

impl Ledger {
    /// The request was a gRPC call, and the answer was OK.
    pub fn answered_call(&self, ticket: &Ticket) {
        self.tally().answered_call(self.serving(ticket));
    }

    /// The request was a gRPC call, and the arm that it came to takes none. A failure of the arm, if the other one does.
    pub fn took_no_call(&mut self, ticket: &Ticket, now_us: u64) {
        if self.evidence.answers_calls(self.serving(ticket).other()) {
            self.fail(ticket, None, now_us);
        }
    }
}
