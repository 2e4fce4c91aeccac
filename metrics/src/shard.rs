//! One worker's counters. Every cell has a single writer, the worker; so an addition is a plain load and store, and
//! cells that are written per request have cache lines of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::histogram::{Histogram, add};
use crate::registry::Metrics;
use crate::table::{LabelSet, OVERFLOW, limit};
use crate::window::{Class, Totals};

/// A number that only grows. One thread writes it, any thread reads it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `amount`; wraps around at 2^64.
    #[inline]
    pub fn add(&self, amount: u64) {
        add(&self.0, amount);
    }

    /// What has been counted.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. One thread writes it, any thread reads it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.set(self.get().wrapping_add(1));
    }

    /// Takes one away.
    #[inline]
    pub fn dec(&self) {
        self.set(self.get().wrapping_sub(1));
    }

    /// Puts `value` in place of what was there.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why an HTTP/2 connection was ended that sent too much, in the order of [`FloodCells`].
pub const FLOOD_REASONS: [&str; 6] = ["frames", "header_block", "empty_data", "unread", "resets", "reset_share"];

/// HTTP/2 connections ended for each of [`FLOOD_REASONS`].
pub type FloodCells = [Counter; FLOOD_REASONS.len()];

/// What one worker counts about itself; the names are those of the metrics.
///
/// Aligned to two cache lines: prefetching pairs lines, and a neighbour's writes must not slow this worker down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCells {
    /// Downstream connections accepted.
    pub connections_accepted: Counter,
    /// Downstream connections closed at once because their source has enough.
    pub connections_refused: Counter,
    /// Downstream connections open now.
    pub connections_active: Gauge,
    /// Requests in flight now.
    pub requests_active: Gauge,
    /// Connections to upstreams that came about.
    pub upstream_connects_ok: Counter,
    /// Connections to upstreams that were refused, timed out or failed otherwise.
    pub upstream_connects_failed: Counter,
    /// Connections to upstreams that wait for a request.
    pub upstream_connections_idle: Gauge,
    /// Connections to upstreams that carry a request.
    pub upstream_connections_active: Gauge,
    /// HTTP/2 connections of downstreams ended for what they sent.
    pub floods_downstream: FloodCells,
    /// The same of upstreams.
    pub floods_upstream: FloodCells,
    /// Bodies that a service does not keep whole for a retry, because they are too long.
    pub unheld_too_long: Counter,
    /// Bodies that were not kept because other requests had all the room there is.
    pub unheld_no_room: Counter,
    /// Context headers removed because their sender is not trusted.
    pub context_headers_stripped: Counter,
    /// Names found in the bindings cache.
    pub binding_cache_hits: Counter,
    /// Names that had to be bound.
    pub binding_cache_misses: Counter,
    /// Names that made room for another.
    pub binding_cache_evictions: Counter,
}

/// The labels of one series of requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestLabels {
    /// Label of the router.
    pub router: Arc<str>,
    /// The logical name, once it bound.
    pub service: Arc<str>,
    /// The bound name.
    pub client: Arc<str>,
    /// `canary`, `primary` or empty, known from the draw.
    pub arm: &'static str,
}

/// One worker's counts for one series of requests.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RequestCells {
    failure: Counter,
    ignored: Counter,
    success: Counter,
    latency: Histogram,
}

impl RequestCells {
    /// Counts one request that ended after `elapsed_us` microseconds (at most [`crate::ELAPSED_US_MAX`] count).
    ///
    /// Only the worker whose shard gave these cells may call this; a second thread would lose counts.
    #[inline]
    pub fn record(&self, class: Class, elapsed_us: u64) {
        match class {
            Class::Failure => self.failure.inc(),
            Class::Ignored => self.ignored.inc(),
            Class::Success => self.success.inc(),
        }
        self.latency.record(elapsed_us);
    }

    /// What this worker has counted. Read while the worker writes, the newest request may be in one number and not
    /// yet in another.
    pub fn totals(&self) -> Totals {
        let (buckets, sum_us) = self.latency.read();
        let (failure, ignored, success) = (self.failure.get(), self.ignored.get(), self.success.get());
        Totals { failure, ignored, success, buckets, sum_us }
    }
}

/// One worker's counts for one branch of a split.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct SplitCells {
    /// Requests for which this branch was drawn.
    pub choices: Counter,
    /// Those of them that another branch served because this one had no usable endpoint.
    pub redistributed: Counter,
}

/// One worker's counts of the copies that were made for one split.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct MirrorCells {
    /// Copies that were sent, by how they went.
    sent: [Counter; Class::ALL.len()],
    /// Copies that were due and not sent: too many in flight, or a body that was not held.
    pub skipped: Counter,
}

impl MirrorCells {
    /// The copies of one class.
    pub fn of(&self, class: Class) -> &Counter {
        &self.sent[class as usize]
    }
}

/// The way of one worker to its cells. Looking cells up is for binding time: it locks and may allocate. What it
/// returns is kept and written per request.
#[derive(Debug)]
pub struct Shard {
    metrics: Arc<Metrics>,
    worker: usize,
}

impl Shard {
    /// `worker` is below the number of workers.
    pub(crate) fn new(metrics: Arc<Metrics>, worker: usize) -> Self {
        Self { metrics, worker }
    }

    /// The cells of a series of requests; the same labels give the same cells.
    ///
    /// Over the cap this gives the overflow series, and counts that it did.
    pub fn requests(&self, labels: &RequestLabels) -> Arc<RequestCells> {
        self.metrics.tables().requests.cell(self.worker, labels)
    }

    /// This worker's own counters.
    #[inline]
    pub fn worker(&self) -> &WorkerCells {
        &self.metrics.tables().workers[self.worker]
    }

    /// Counts the answers Serin made itself. `reason` is one of the few words the program knows, never text of a peer.
    pub fn failures(&self, router: &str, reason: &'static str) -> Arc<Counter> {
        let labels = FailureLabels { router: router.into(), reason };
        self.metrics.tables().failures.cell(self.worker, &labels)
    }

    /// Counts the requests sent again to a bound name.
    pub fn retries(&self, router: &str, client: &str) -> Arc<Counter> {
        let labels = RetryLabels { router: router.into(), client: client.into() };
        self.metrics.tables().retries.cell(self.worker, &labels)
    }

    /// The cells of the copies made for one split.
    pub fn mirror(&self, router: &str, split: &str) -> Arc<MirrorCells> {
        let labels = MirrorLabels { router: router.into(), split: split.into() };
        self.metrics.tables().mirrors.cell(self.worker, &labels)
    }

    /// The cells of one branch of a split.
    pub fn split(&self, router: &str, split: &str, branch: &str) -> Arc<SplitCells> {
        let labels = SplitLabels { router: router.into(), split: split.into(), branch: branch.into() };
        self.metrics.tables().splits.cell(self.worker, &labels)
    }
}

/// Labels of [`Shard::failures`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FailureLabels {
    pub(crate) router: Arc<str>,
    pub(crate) reason: &'static str,
}

/// Labels of [`Shard::retries`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RetryLabels {
    pub(crate) router: Arc<str>,
    pub(crate) client: Arc<str>,
}

/// Labels of [`Shard::mirror`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MirrorLabels {
    pub(crate) router: Arc<str>,
    pub(crate) split: Arc<str>,
}

/// Labels of [`Shard::split`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SplitLabels {
    pub(crate) router: Arc<str>,
    pub(crate) split: Arc<str>,
    pub(crate) branch: Arc<str>,
}

impl LabelSet for RequestLabels {
    fn limited(&self) -> Self {
        let (router, service, client) = (limit(&self.router), limit(&self.service), limit(&self.client));
        Self { router, service, client, arm: self.arm }
    }

    fn overflow(&self) -> Self {
        Self { router: Arc::clone(&self.router), arm: self.arm, ..Self::overflow_last() }
    }

    fn overflow_last() -> Self {
        Self { router: OVERFLOW.into(), service: OVERFLOW.into(), client: OVERFLOW.into(), arm: "" }
    }
}

impl LabelSet for FailureLabels {
    fn limited(&self) -> Self {
        Self { router: limit(&self.router), reason: self.reason }
    }

    fn overflow(&self) -> Self {
        Self { router: OVERFLOW.into(), reason: self.reason }
    }

    fn overflow_last() -> Self {
        Self { router: OVERFLOW.into(), reason: OVERFLOW }
    }
}

impl LabelSet for RetryLabels {
    fn limited(&self) -> Self {
        Self { router: limit(&self.router), client: limit(&self.client) }
    }

    fn overflow(&self) -> Self {
        Self { router: Arc::clone(&self.router), client: OVERFLOW.into() }
    }

    fn overflow_last() -> Self {
        Self { router: OVERFLOW.into(), client: OVERFLOW.into() }
    }
}

impl LabelSet for MirrorLabels {
    fn limited(&self) -> Self {
        Self { router: limit(&self.router), split: limit(&self.split) }
    }

    fn overflow(&self) -> Self {
        Self { router: Arc::clone(&self.router), split: OVERFLOW.into() }
    }

    fn overflow_last() -> Self {
        Self { router: OVERFLOW.into(), split: OVERFLOW.into() }
    }
}

impl LabelSet for SplitLabels {
    fn limited(&self) -> Self {
        Self { router: limit(&self.router), split: limit(&self.split), branch: limit(&self.branch) }
    }

    fn overflow(&self) -> Self {
        Self { router: Arc::clone(&self.router), ..Self::overflow_last() }
    }

    fn overflow_last() -> Self {
        Self { router: OVERFLOW.into(), split: OVERFLOW.into(), branch: OVERFLOW.into() }
    }
}

#[cfg(test)]
mod tests;
