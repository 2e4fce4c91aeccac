//! The books of one request while its answer is read.

use std::rc::Rc;

use http::StatusCode;
use serin_config::model::Classifier;
use serin_metrics::Class;

use crate::classify;
use crate::grpc;
use crate::inflight::{CALLERS_US, Ticket};

/// Ends the request in the books when the body ends.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) ticket: Ticket,
    status: StatusCode,
    pub(super) grpc: bool,
    grpc_status: Option<u32>,
    /// Its reader sees a status in trailers.
    pub(super) reads_status: bool,
    /// Its reader may see how the answer counts.
    pub(super) trusted: bool,
    /// How the service wants answers counted, if not as usual.
    classifier: Option<Rc<Classifier>>,
    /// For how long pieces lay before the next one was asked for, in microseconds, and since when one does; 0: none.
    lay_us: u64,
    given_us: u64,
    /// When its head came, in microseconds.
    begun_us: u64,
}

/// An answer that lay for less than this part of its time was read as it came.
const LAY_PART: u64 = 8;

impl Watch {
    /// A body with this ticket, from its head on.
    pub(super) fn new(
        ticket: Ticket,
        status: StatusCode,
        grpc: bool,
        grpc_status: Option<u32>,
        reads_status: bool,
    ) -> Self {
        let (trusted, classifier) = (grpc && ticket.is_trusted(), ticket.classifier());
        let begun_us = ticket.coarse_us();
        Self { ticket, status, grpc, grpc_status, reads_status, trusted, classifier, lay_us: 0, given_us: 0, begun_us }
    }

    /// A piece is given to the reader.
    pub(super) fn gave(&mut self) {
        self.given_us = self.ticket.coarse_us();
    }

    /// The reader comes for more.
    pub(super) fn asked(&mut self) {
        if self.given_us != 0 {
            self.lay_us += self.ticket.coarse_us().saturating_sub(self.given_us);
            self.given_us = 0;
        }
    }

    /// May its upstream have lost its patience with who reads it.
    pub(super) fn reader_is_slow(&self) -> bool {
        let passed_us = self.ticket.coarse_us().saturating_sub(self.begun_us);
        self.lay_us >= CALLERS_US && self.lay_us.saturating_mul(LAY_PART) >= passed_us
    }

    pub(super) fn class(&self, trailers: Option<u32>) -> Class {
        let grpc_status = trailers.or(self.grpc_status);
        classify::by(self.classifier.as_deref(), self.status, self.grpc, grpc_status)
    }

    pub(super) fn finish(self, trailers: Option<u32>) {
        let class = self.class(trailers);
        match trailers.or(self.grpc_status) {
            Some(grpc::DEADLINE_EXCEEDED) if class == Class::Failure => self.ticket.said_late(),
            Some(grpc::OK) if self.grpc => self.ticket.answered_call(),
            _ => {}
        }
        self.ticket.finish(class);
    }
}
