//! What requests in flight tell the rollouts that drew them. For a request that no rollout drew each of these is one
//! look at an empty place.

use std::rc::Rc;

use serin_rollout::Arm;

use super::{Handle, InFlight, Slot};
use crate::clock;
use crate::ledger::{Drawn, Ledger, Ticket};
use crate::local::Watched;

impl InFlight {
    /// The split of a rollout drew this arm for the request, now. One draw too many is not recorded.
    pub fn watch(&self, handle: Handle, watched: &Rc<Watched>, drawn: Drawn, now_us: u64) {
        self.with(handle.0, |slot| {
            let Some(free) = slot.draws.iter_mut().find(|draw| draw.is_none()) else { return };
            let mut ledger = watched.ledger.borrow_mut();
            if let Some(ticket) = ledger.start(drawn, now_us) {
                *free = Some((Rc::clone(watched), ticket));
            }
            if ledger.is_waiting() && !watched.ticking.replace(true) {
                self.watched.borrow_mut().push(Rc::clone(watched));
                self.tick.notify_one();
            }
        });
    }

    /// Did a rollout draw the request, as far as it is recorded.
    pub fn is_watched(&self, handle: Handle) -> bool {
        self.with(handle.0, |slot| slot.draws[0].is_some())
    }

    /// The arm that serves the request, by the innermost rollout that drew it.
    pub fn arm(&self, handle: Handle) -> Option<Arm> {
        self.with(handle.0, |slot| {
            let (watched, ticket) = slot.draws.iter().flatten().last()?;
            Some(watched.ledger.borrow().serving(ticket))
        })
    }

    /// A response head came, and goes to the caller.
    pub fn head(&self, handle: Handle) {
        self.note_answered(handle);
        self.tell(handle, |ledger, ticket, now_us| ledger.head(ticket, now_us));
    }

    /// The request is sent: its stream, whose length nobody knew, has ended.
    pub fn sent(&self, handle: Handle) {
        self.tell(handle, |ledger, ticket, now_us| ledger.sent(ticket, now_us));
    }

    /// Only the caller keeps the request from being whole: until [`InFlight::dialled`] it says nothing of its age.
    pub(super) fn unsent(&self, handle: Handle) {
        self.tell(handle, |ledger, ticket, now_us| ledger.unsent(ticket, now_us));
    }

    /// The request waits for a connection that is made for it.
    pub fn dialling(&self, handle: Handle) {
        self.tell(handle, |ledger, ticket, _| ledger.dialling(ticket));
    }

    /// The connection stands, or the request is whole.
    pub fn dialled(&self, handle: Handle) {
        self.tell(handle, |ledger, ticket, now_us| ledger.dialled(ticket, now_us));
    }

    /// An attempt failed; only the first one counts. `lost`: with the upstream connection of this id. `ejected`: for the
    /// endpoint it was the last straw.
    pub fn attempt_failed(&self, handle: Handle, lost: Option<u64>, ejected: bool) {
        self.tell(handle, |ledger, ticket, now_us| {
            if ejected {
                ledger.ejected(ticket, now_us);
            }
            ledger.fail(ticket, lost, now_us);
        });
    }

    /// It is a gRPC call, and the answer was OK.
    pub fn answered_call(&self, handle: Handle) {
        self.tell(handle, |ledger, ticket, _| ledger.answered_call(ticket));
    }

    /// It is a gRPC call, and the endpoint takes none: a failure only where the other arm of a rollout does.
    pub fn took_no_call(&self, handle: Handle) {
        self.tell(handle, |ledger, ticket, now_us| ledger.took_no_call(ticket, now_us));
    }

    /// Nobody could serve the request: neither what was drawn, nor another arm in its place.
    pub fn unserved(&self, handle: Handle) {
        self.tell(handle, |ledger, ticket, _| ledger.unserved(ticket));
    }

    /// The request goes to the other arm of this rollout, and says nothing of either from here on.
    pub fn moved(&self, handle: Handle, from: &Rc<Watched>) {
        self.with(handle.0, |slot| {
            let mine = slot.draws.iter().flatten().find(|(watched, _)| Rc::ptr_eq(watched, from));
            if let Some((watched, ticket)) = mine {
                watched.ledger.borrow_mut().moved(ticket);
            }
        });
    }

    /// Calls `f` with each rollout that drew the request, and with its ticket.
    pub fn each_watched(&self, handle: Handle, f: &mut dyn FnMut(&Rc<Watched>, &Ticket)) {
        self.with(handle.0, |slot| slot.draws.iter().flatten().for_each(|(watched, ticket)| f(watched, ticket)));
    }

    fn tell(&self, handle: Handle, f: impl Fn(&mut Ledger, &Ticket, u64)) {
        self.with(handle.0, |slot: &mut Slot| {
            if slot.draws[0].is_none() {
                return;
            }
            let now_us = clock::now_us();
            for (watched, ticket) in slot.draws.iter().flatten() {
                f(&mut watched.ledger.borrow_mut(), ticket, now_us);
            }
        });
    }
}
