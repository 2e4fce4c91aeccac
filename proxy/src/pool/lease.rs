//! What a request holds of an endpoint.

use std::rc::Rc;

use serin_metrics::Class;

use super::{Endpoint, LocalCluster};
use crate::outlier::Pass;
use crate::worker::Worker;

/// One request's hold on an endpoint.
#[derive(Debug)]
pub struct Lease {
    /// Where it goes.
    pub endpoint: Rc<Endpoint>,
    pub(super) pass: Pass,
}

impl Lease {
    /// The attempt is over; its class feeds the outlier verdict. Says whether this ejected the endpoint.
    pub fn end(self, class: Class, worker: &Worker) -> bool {
        let in_flight = &self.endpoint.in_flight;
        debug_assert!(in_flight.get() > 0, "more requests ended than began");
        in_flight.set(in_flight.get().saturating_sub(1));
        self.endpoint.judge(self.pass, class, worker)
    }
}

impl LocalCluster {
    /// Is this one of its endpoints.
    pub fn has(&self, endpoint: &Rc<Endpoint>) -> bool {
        self.endpoints.borrow().iter().any(|one| Rc::ptr_eq(one, endpoint))
    }
}
