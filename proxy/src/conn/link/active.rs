//! What a connection carries at the moment.

use std::rc::Rc;

use super::Link;
use crate::worker::Worker;

/// A request on a connection, from its head to the last octet of its answer.
#[derive(Debug)]
pub struct Active(pub(super) Rc<Link>, pub(super) Rc<Worker>);

impl Active {
    /// Its connection.
    pub fn link(&self) -> &Link {
        &self.0
    }

    /// Who serves it.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.1
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let link = &self.0;
        debug_assert!(link.active.get() > 0, "more requests ended than began");
        link.active.set(link.active.get().saturating_sub(1));
        link.idle_since_us.set(self.1.coarse_us.get());
        // what came in meanwhile was this request's body
        link.octets_used.set(link.octets.get());
    }
}
