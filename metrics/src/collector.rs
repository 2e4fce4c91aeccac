//! Sums the workers' shards at scrape and hands the sums to prometheus-client's encoders. Reads only: no writer ever
//! waits for a scrape.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit as EncoderUnit;

use crate::control::{Control, DtabWrite, Reload};
use crate::histogram::{BUCKET_BOUNDS_US, BUCKETS};
use crate::names::{self, Family, Kind, Unit};
use crate::process::Process;
use crate::shard::{
    Counter, FLOOD_REASONS, FailureLabels, MirrorCells, MirrorLabels, RequestCells, RequestLabels, RetryLabels,
    SplitCells, SplitLabels, WorkerCells,
};
use crate::table::Table;
use crate::window::{Class, Totals};

/// Everything the workers write.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) workers: Box<[WorkerCells]>,
    pub(crate) requests: Table<RequestLabels, RequestCells>,
    pub(crate) failures: Table<FailureLabels, Counter>,
    pub(crate) retries: Table<RetryLabels, Counter>,
    pub(crate) splits: Table<SplitLabels, SplitCells>,
    pub(crate) mirrors: Table<MirrorLabels, MirrorCells>,
    dropped: Arc<AtomicU64>,
}

impl Tables {
    /// Empty tables of `series_max` series each.
    pub(crate) fn new(workers: usize, series_max: usize, dropped: &Arc<AtomicU64>) -> Self {
        Self {
            workers: (0..workers).map(|_| WorkerCells::default()).collect(),
            requests: Table::new(workers, series_max, Arc::clone(dropped)),
            failures: Table::new(workers, series_max, Arc::clone(dropped)),
            retries: Table::new(workers, series_max, Arc::clone(dropped)),
            splits: Table::new(workers, series_max, Arc::clone(dropped)),
            mirrors: Table::new(workers, series_max, Arc::clone(dropped)),
            dropped: Arc::clone(dropped),
        }
    }

    /// Forgets series without handles; see [`Table::sweep`].
    pub(crate) fn sweep(&self, now_ms: u64) {
        self.requests.sweep(now_ms);
        self.failures.sweep(now_ms);
        self.retries.sweep(now_ms);
        self.splits.sweep(now_ms);
        self.mirrors.sweep(now_ms);
    }

    fn encode_requests(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let add = |sum: Totals, cells: &RequestCells| sum.plus(&cells.totals());
        // One reading for both families, so that they agree within a page.
        let rows: Vec<_> =
            self.requests.series().into_iter().map(|(labels, series)| (labels, series.fold(add))).collect();
        let mut requests = describe(encoder, &names::REQUESTS)?;
        for (labels, totals) in &rows {
            for class in Class::ALL {
                let [router, service, client, arm] = request_labels(labels);
                write_counter(
                    &mut requests,
                    &[router, service, client, arm, ("class", class.as_str())],
                    totals.of(class),
                )?;
            }
        }
        let mut durations = describe(encoder, &names::REQUEST_DURATION)?;
        for (labels, totals) in &rows {
            write_histogram(&mut durations, &request_labels(labels), totals)?;
        }
        Ok(())
    }

    fn encode_failures(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut failures = describe(encoder, &names::RESPONSE_FAILURES)?;
        for (labels, series) in self.failures.series() {
            let count = series.fold(|sum: u64, cell| sum.wrapping_add(cell.get()));
            write_counter(&mut failures, &[("router", &*labels.router), ("reason", labels.reason)], count)?;
        }
        let mut retries = describe(encoder, &names::RETRIES)?;
        for (labels, series) in self.retries.series() {
            let count = series.fold(|sum: u64, cell| sum.wrapping_add(cell.get()));
            write_counter(&mut retries, &[("router", &*labels.router), ("client", &*labels.client)], count)?;
        }
        Ok(())
    }

    fn encode_splits(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        self.encode_split_counter(encoder, &names::SPLIT_CHOICES, |cells| &cells.choices)?;
        self.encode_split_counter(encoder, &names::SPLIT_REDISTRIBUTED, |cells| &cells.redistributed)?;
        self.encode_mirrors(encoder)
    }

    fn encode_mirrors(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut encoder = describe(encoder, &names::MIRROR_REQUESTS)?;
        for (labels, series) in self.mirrors.series() {
            let mut row = |class: &str, counter: &dyn Fn(&MirrorCells) -> &Counter| {
                let count = series.fold(|sum: u64, cells| sum.wrapping_add(counter(cells).get()));
                let labels = [("router", &*labels.router), ("split", &*labels.split), ("class", class)];
                write_counter(&mut encoder, &labels, count)
            };
            for class in Class::ALL {
                row(class.as_str(), &|cells| cells.of(class))?;
            }
            row("skipped", &|cells| &cells.skipped)?;
        }
        Ok(())
    }

    fn encode_split_counter(
        &self,
        encoder: &mut DescriptorEncoder,
        family: &Family,
        counter: fn(&SplitCells) -> &Counter,
    ) -> fmt::Result {
        let mut encoder = describe(encoder, family)?;
        for (labels, series) in self.splits.series() {
            let count = series.fold(|sum: u64, cells| sum.wrapping_add(counter(cells).get()));
            let labels = [("router", &*labels.router), ("split", &*labels.split), ("branch", &*labels.branch)];
            write_counter(&mut encoder, &labels, count)?;
        }
        Ok(())
    }

    fn encode_each_worker(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let numbers: Vec<String> = (0..self.workers.len()).map(|worker| worker.to_string()).collect();
        let rows = || numbers.iter().map(String::as_str).zip(&self.workers);
        let mut accepted = describe(encoder, &names::CONNECTIONS_ACCEPTED)?;
        for (worker, cells) in rows() {
            write_counter(&mut accepted, &[("worker", worker)], cells.connections_accepted.get())?;
        }
        let mut connections = describe(encoder, &names::CONNECTIONS_ACTIVE)?;
        for (worker, cells) in rows() {
            write_gauge(&mut connections, &[("worker", worker)], cells.connections_active.get())?;
        }
        let mut requests = describe(encoder, &names::REQUESTS_ACTIVE)?;
        for (worker, cells) in rows() {
            write_gauge(&mut requests, &[("worker", worker)], cells.requests_active.get())?;
        }
        Ok(())
    }

    fn encode_workers_together(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let sum = |read: fn(&WorkerCells) -> &Counter| {
            self.workers.iter().fold(0_u64, |sum, cells| sum.wrapping_add(read(cells).get()))
        };
        let mut connects = describe(encoder, &names::UPSTREAM_CONNECTS)?;
        write_counter(&mut connects, &[("outcome", "failed")], sum(|cells| &cells.upstream_connects_failed))?;
        write_counter(&mut connects, &[("outcome", "ok")], sum(|cells| &cells.upstream_connects_ok))?;

        let active: i64 = self.workers.iter().map(|cells| cells.upstream_connections_active.get()).sum();
        let idle: i64 = self.workers.iter().map(|cells| cells.upstream_connections_idle.get()).sum();
        let mut connections = describe(encoder, &names::UPSTREAM_CONNECTIONS)?;
        write_gauge(&mut connections, &[("state", "active")], active)?;
        write_gauge(&mut connections, &[("state", "idle")], idle)?;

        self.encode_floods(encoder)?;
        let mut lookups = describe(encoder, &names::BINDING_CACHE_LOOKUPS)?;
        write_counter(&mut lookups, &[("result", "hit")], sum(|cells| &cells.binding_cache_hits))?;
        write_counter(&mut lookups, &[("result", "miss")], sum(|cells| &cells.binding_cache_misses))?;

        let refused = sum(|cells| &cells.connections_refused);
        describe(encoder, &names::CONNECTIONS_REFUSED)?.encode_counter::<NoLabelSet, _, u64>(&refused, None)?;
        let evictions = sum(|cells| &cells.binding_cache_evictions);
        describe(encoder, &names::BINDING_CACHE_EVICTIONS)?.encode_counter::<NoLabelSet, _, u64>(&evictions, None)?;
        let stripped = sum(|cells| &cells.context_headers_stripped);
        describe(encoder, &names::CONTEXT_HEADERS_STRIPPED)?.encode_counter::<NoLabelSet, _, u64>(&stripped, None)?;
        let mut unheld = describe(encoder, &names::UNHELD)?;
        write_counter(&mut unheld, &[("reason", "no_room")], sum(|cells| &cells.unheld_no_room))?;
        write_counter(&mut unheld, &[("reason", "too_long")], sum(|cells| &cells.unheld_too_long))?;
        let dropped = self.dropped.load(Ordering::Relaxed);
        describe(encoder, &names::DROPPED_SERIES)?.encode_counter::<NoLabelSet, _, u64>(&dropped, None)
    }

    fn encode_floods(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut floods = describe(encoder, &names::HTTP2_FLOODS)?;
        for peer in ["downstream", "upstream"] {
            for (index, reason) in FLOOD_REASONS.into_iter().enumerate() {
                let of = |cells: &WorkerCells| {
                    let floods = if peer == "upstream" { &cells.floods_upstream } else { &cells.floods_downstream };
                    floods[index].get()
                };
                let count = self.workers.iter().fold(0_u64, |sum, cells| sum.wrapping_add(of(cells)));
                write_counter(&mut floods, &[("peer", peer), ("reason", reason)], count)?;
            }
        }
        Ok(())
    }
}

/// Prints [`Tables`].
#[derive(Debug)]
pub(crate) struct ShardCollector(pub(crate) Arc<Tables>);

impl Collector for ShardCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.0.encode_requests(&mut encoder)?;
        self.0.encode_failures(&mut encoder)?;
        self.0.encode_splits(&mut encoder)?;
        self.0.encode_each_worker(&mut encoder)?;
        self.0.encode_workers_together(&mut encoder)
    }
}

/// Prints what the control thread reports with labels.
#[derive(Debug)]
pub(crate) struct ControlCollector(pub(crate) Arc<Control>);

impl Collector for ControlCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut reloads = describe(&mut encoder, &names::RELOADS)?;
        for (outcome, count) in Reload::ALL.into_iter().zip(&self.0.reloads) {
            write_counter(&mut reloads, &[("outcome", outcome.as_str())], count.get())?;
        }
        let mut writes = describe(&mut encoder, &names::DTAB_WRITES)?;
        for (outcome, count) in DtabWrite::ALL.into_iter().zip(&self.0.dtab_writes) {
            write_counter(&mut writes, &[("outcome", outcome.as_str())], count.get())?;
        }
        let mut weights = describe(&mut encoder, &names::SPLIT_WEIGHT)?;
        for ((router, split), branches) in &*self.0.split_shares() {
            for (branch, share) in branches {
                let labels = [("router", router.as_str()), ("split", split), ("branch", branch)];
                write_gauge(&mut weights, &labels, *share)?;
            }
        }
        let teams = self.0.teams();
        let mut states = describe(&mut encoder, &names::TEAM_STATE)?;
        for (team, found) in &*teams {
            for (state, holds) in found.states {
                write_gauge(&mut states, &[("team", team), ("state", state)], u64::from(holds))?;
            }
        }
        let mut since = describe(&mut encoder, &names::TEAM_SINCE)?;
        for (team, seconds) in teams.iter().filter_map(|(team, found)| Some((team, found.since?))) {
            write_gauge(&mut since, &[("team", team)], seconds)?;
        }
        let mut endpoints = describe(&mut encoder, &names::ENDPOINTS)?;
        for (client, count) in &*self.0.endpoint_counts() {
            write_gauge(&mut endpoints, &[("client", client)], *count)?;
        }
        let namers = self.0.namers();
        let mut ages = describe(&mut encoder, &names::NAMER_AGE)?;
        for (namer, age_s) in namers.iter().filter_map(|(namer, found)| Some((namer, found.age_s?))) {
            write_gauge(&mut ages, &[("namer", namer)], age_s)?;
        }
        let mut failing = describe(&mut encoder, &names::NAMER_FAILING)?;
        for (namer, found) in &*namers {
            write_gauge(&mut failing, &[("namer", namer)], found.failing)?;
        }
        Ok(())
    }
}

/// Prints the `process_*` families that could be read.
#[derive(Debug)]
pub(crate) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let process = Process::read();
        if let Some(bytes) = process.resident_memory_bytes {
            describe(&mut encoder, &names::PROCESS_RESIDENT_MEMORY)?.encode_gauge(&bytes)?;
        }
        if let Some(seconds) = process.cpu_seconds {
            describe(&mut encoder, &names::PROCESS_CPU)?.encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
        }
        if let Some(count) = process.open_fds {
            describe(&mut encoder, &names::PROCESS_OPEN_FDS)?.encode_gauge(&count)?;
        }
        if let Some(count) = process.max_fds {
            describe(&mut encoder, &names::PROCESS_MAX_FDS)?.encode_gauge(&count)?;
        }
        if let Some(seconds) = process.start_time_seconds {
            describe(&mut encoder, &names::PROCESS_START_TIME)?.encode_gauge(&seconds)?;
        }
        Ok(())
    }
}

/// Writes HELP, TYPE and UNIT of a family; what it returns writes the samples.
pub(crate) fn describe<'e>(
    encoder: &'e mut DescriptorEncoder,
    family: &Family,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    let help = format!("{}.", family.help);
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    let unit = family.unit.map(|unit| match unit {
        Unit::Bytes => &BYTES,
        Unit::Seconds => &SECONDS,
    });
    encoder.encode_descriptor(family.stem(), &help, unit, kind)
}

pub(crate) fn write_counter<const N: usize>(
    family: &mut MetricEncoder,
    labels: &[(&str, &str); N],
    value: impl EncodeCounterValue,
) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

pub(crate) fn write_gauge<const N: usize>(
    family: &mut MetricEncoder,
    labels: &[(&str, &str); N],
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    family.encode_family(labels)?.encode_gauge(&value)
}

fn write_histogram<const N: usize>(
    family: &mut MetricEncoder,
    labels: &[(&str, &str); N],
    totals: &Totals,
) -> fmt::Result {
    let mut buckets = [(f64::INFINITY, 0); BUCKETS];
    for (index, (bucket, &count)) in buckets.iter_mut().zip(&totals.buckets).enumerate() {
        let bound = BUCKET_BOUNDS_US.get(index).map_or(f64::INFINITY, |&us| us as f64 / US_PER_SECOND);
        *bucket = (bound, count);
    }
    let sum = totals.sum_us as f64 / US_PER_SECOND;
    // The count comes from the buckets, so `+Inf` and `_count` agree even while workers write.
    family.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, totals.observations(), &buckets, None)
}

fn request_labels(labels: &RequestLabels) -> [(&'static str, &str); 4] {
    [("router", &labels.router), ("service", &labels.service), ("client", &labels.client), ("arm", labels.arm)]
}

const US_PER_SECOND: f64 = 1_000_000.0;

// The encoder wants references that outlive the call.
static BYTES: EncoderUnit = EncoderUnit::Bytes;
static SECONDS: EncoderUnit = EncoderUnit::Seconds;
