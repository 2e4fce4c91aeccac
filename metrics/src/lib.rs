//! Counting for Serin: requests, latencies, splits, connections, and the page that shows them.
//!
//! ```
//! use serin_metrics::{Class, Format, Metrics, RequestLabels, SERIES_MAX};
//!
//! let metrics = Metrics::new(2, SERIES_MAX); // two workers
//! let shard = metrics.shard(0); // goes to worker 0
//!
//! // When a name is bound (cold):
//! let labels = RequestLabels {
//!     router: "outgoing".into(),
//!     service: "/svc/world".into(),
//!     client: "/#/clusters/world-v1".into(),
//!     arm: "primary",
//! };
//! let cells = shard.requests(&labels);
//!
//! // When a request ends (hot):
//! cells.record(Class::Success, 1_800);
//! shard.worker().connections_accepted.inc();
//!
//! // When somebody asks:
//! let page = metrics.encode(Format::from_accept("text/plain"), 0);
//! assert!(page.contains(
//!     "serin_requests_total{router=\"outgoing\",service=\"/svc/world\",client=\"/#/clusters/world-v1\",\
//!      arm=\"primary\",class=\"success\"} 1\n"
//! ));
//! ```
//!
//! # The hot path
//!
//! A worker has a [`Shard`] and, beside each binding, the [`RequestCells`] of its series. Counting a request is
//! [`RequestCells::record`]: three additions to this worker's own memory, each a relaxed load and a relaxed store. No
//! lock, no allocation, no atomic read-modify-write, no cache line that another worker writes. That is right because
//! every cell has **one writer**. A second thread on the same shard would lose counts; it could do no other harm.
//!
//! # The cold path
//!
//! * **Binding.** [`Shard::requests`], [`Shard::failures`], [`Shard::retries`] and [`Shard::split`] find or make cells
//!   under a lock. Handles are kept with what they describe (a binding, a snapshot) and dropped with it.
//! * **Reporting.** The control thread writes [`Control`]: reloads, snapshot version, split weights, endpoints.
//! * **Judging.** The judge writes [`Rollouts`] a few times a second: one lock that no worker takes.
//! * **Scraping.** [`Metrics::encode`] copies the list of series under the lock, then reads the cells of all workers
//!   while they go on writing, and prints the sums through prometheus-client's encoders. Time is an argument.
//!
//! # Limits
//!
//! Label values come from configuration and from names that bound, never from what a peer sent; still each is cut at
//! [`LABEL_BYTES_MAX`] bytes. A family holds at most as many series as [`Metrics::new`] was told; what comes later is
//! counted under [`OVERFLOW`], and each refusal in `serin_metrics_dropped_series_total`. A series that nobody has had a
//! handle of for [`IDLE_MS_MAX`] is forgotten at the next scrape; should it come back, it counts from zero, which
//! Prometheus and [`Totals::since`] both understand.
//!
//! # How to add a metric
//!
//! 1. Describe it in `names.rs` and list it in [`FAMILIES`]. Names carry their unit, counters end in `_total`, help has
//!    no backslash, and a sum over all labels must make sense.
//! 2. Give it a cell: a field of [`WorkerCells`] if a worker counts it without labels, a table in `collector.rs` if it
//!    has labels, a field of [`Control`] if the control thread knows it.
//! 3. Print it in `collector.rs`. A test fails until [`FAMILIES`] and the page agree, and another until the README
//!    lists it.

mod collector;
mod control;
mod histogram;
mod names;
mod process;
mod registry;
mod rollouts;
mod shard;
mod table;
mod text;
mod window;

pub use control::{Control, DtabWrite, NamerGauge, Reload, SplitWeights, TEAM_STATES, TeamGauge};
pub use histogram::{BUCKET_BOUNDS_US, BUCKETS, ELAPSED_US_MAX, bucket_of};
pub use names::{FAMILIES, Family, Kind, Unit};
pub use registry::{Metrics, SERIES_MAX, WORKERS_MAX};
pub use rollouts::{PHASES, ROLLOUT_SERIES_MAX, RolloutOutcome, RolloutSample, Rollouts};
pub use shard::{
    Counter, FLOOD_REASONS, FloodCells, Gauge, MirrorCells, RequestCells, RequestLabels, Shard, SplitCells, WorkerCells,
};
pub use table::{IDLE_MS_MAX, LABEL_BYTES_MAX, OVERFLOW, OVERFLOW_SERIES_MAX};
pub use text::{ACCEPT_RANGES_MAX, Format};
pub use window::{Class, Totals};
