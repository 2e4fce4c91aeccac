//! Puts the parts together: the tables of the workers, what the control thread reports, and the page they make.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::family::Family as LabelledFamily;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit as EncoderUnit};

use crate::collector::{ControlCollector, ProcessCollector, ShardCollector, Tables};
use crate::control::Control;
use crate::names::{self, Family, Unit};
use crate::rollouts::{RolloutCollector, Rollouts};
use crate::shard::{RequestLabels, Shard};
use crate::text::{ClassicWriter, Format};
use crate::window::Totals;

/// Series that one family may have unless said otherwise. A series of requests takes 22 lines on the page and half a
/// kilobyte of memory per worker that writes it.
pub const SERIES_MAX: usize = 10_000;

/// Most workers that get cells of their own.
pub const WORKERS_MAX: usize = 1_024;

/// Everything one process counts. Workers write through their [`Shard`], the control thread through [`Control`];
/// anybody may print the page.
#[derive(Debug)]
pub struct Metrics {
    tables: Arc<Tables>,
    control: Arc<Control>,
    rollouts: Arc<Rollouts>,
    registry: Registry,
}

impl Metrics {
    /// Metrics for `workers` workers (from 1 to [`WORKERS_MAX`], brought into that range), with at most `series_max`
    /// series in each family with labels, usually [`SERIES_MAX`]. Past that, [`crate::OVERFLOW_SERIES_MAX`] more hold
    /// the rest.
    pub fn new(workers: usize, series_max: usize) -> Arc<Self> {
        let dropped = Arc::new(AtomicU64::new(0));
        let tables = Arc::new(Tables::new(workers.clamp(1, WORKERS_MAX), series_max, &dropped));
        let control = Arc::new(Control::new(series_max, dropped));
        let rollouts = Arc::new(Rollouts::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ShardCollector(Arc::clone(&tables))));
        registry.register_collector(Box::new(ControlCollector(Arc::clone(&control))));
        registry.register_collector(Box::new(RolloutCollector(Arc::clone(&rollouts))));
        registry.register_collector(Box::new(ProcessCollector));
        register_control(&mut registry, &control);
        Arc::new(Self { tables, control, rollouts, registry })
    }

    /// The shard of a worker, counted from 0. The same number gives the same cells.
    ///
    /// Numbers from the number of workers on get the last worker's cells: its counts may then be too low, and nothing
    /// else breaks.
    pub fn shard(self: &Arc<Self>, worker: usize) -> Arc<Shard> {
        Arc::new(Shard::new(Arc::clone(self), worker.min(self.tables.workers.len() - 1)))
    }

    /// What the control thread reports.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What the judge reports.
    pub fn rollouts(&self) -> &Rollouts {
        &self.rollouts
    }

    /// All workers' counts of one series of requests; zero if there is no such series.
    pub fn request_totals(&self, labels: &RequestLabels) -> Totals {
        let series = self.tables.requests.get(labels);
        series.map(|series| series.fold(|sum: Totals, cells| sum.plus(&cells.totals()))).unwrap_or_default()
    }

    /// Forgets the series whose handles have all been gone for [`crate::IDLE_MS_MAX`]. [`Metrics::encode`] does this by
    /// itself; where nobody scrapes, call it now and then.
    pub fn sweep(&self, now_ms: u64) {
        self.tables.sweep(now_ms);
    }

    /// The whole page. `now_ms` is any steady clock in milliseconds, the same at each call; it decides which unused
    /// series are forgotten and is not printed.
    pub fn encode(&self, format: Format, now_ms: u64) -> String {
        self.sweep(now_ms);
        // Writing to a String cannot fail. If an encoder failed all the same, the page would end early, and an
        // OpenMetrics scraper would miss its end mark.
        match format {
            Format::Classic => {
                let mut writer = ClassicWriter::default();
                let _ = text::encode(&mut writer, &self.registry);
                writer.into_string()
            }
            Format::OpenMetrics => {
                let mut page = String::new();
                let _ = text::encode(&mut page, &self.registry);
                page
            }
        }
    }

    /// What the workers write.
    #[inline]
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }
}

/// Registers the metrics that are prometheus-client's own types.
fn register_control(registry: &mut Registry, control: &Control) {
    let build = LabelledFamily::<[(&str, &str); 1], Gauge>::default();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
    register(registry, &names::RELOAD_SUCCESSFUL, control.reload_successful.clone());
    register(registry, &names::RELOAD_TIMESTAMP, control.reload_timestamp.clone());
    register(registry, &names::SNAPSHOT_VERSION, control.snapshot_version.clone());
    register(registry, &names::DTAB_NAMESPACES, control.dtab_namespaces.clone());
    register(registry, &names::BUILD_INFO, build);
}

fn register(registry: &mut Registry, family: &Family, metric: impl Metric) {
    match family.unit {
        None => registry.register(family.stem(), family.help, metric),
        Some(Unit::Bytes) => registry.register_with_unit(family.stem(), family.help, EncoderUnit::Bytes, metric),
        Some(Unit::Seconds) => registry.register_with_unit(family.stem(), family.help, EncoderUnit::Seconds, metric),
    }
}
