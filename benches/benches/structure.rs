//! What a change costs: a new structure for a new file, other weights for the structure there is.
#![allow(clippy::expect_used, reason = "a benchmark that cannot go on stops loudly")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use serin::assemble::{self, Parts};
use serin::endpoints::EndpointTable;
use serin::evidence::Records;
use serin::ledger::Teller;
use serin::local::Local;
use serin::resolve::{DnsConfig, NameTable, Resolver};
use serin::snapshot::{Snapshot, SplitWeights, World};
use serin_benches::{proxy, tables};
use serin_config::dtab::Weight;
use serin_config::{Config, Source};
use serin_metrics::{Metrics, SERIES_MAX};

/// Splits of a table of any size: as many as a large place changes at a time.
const SPLITS: usize = 100;

fn main() {
    let settings = Criterion::default().warm_up_time(Duration::from_millis(300)).sample_size(10);
    let mut criterion = settings.measurement_time(Duration::from_secs(2)).without_plots().configure_from_args();
    for dentries in tables::SIZES {
        let setup = Setup::new(dentries, SPLITS);
        parse(&mut criterion, &setup);
        assemble_structure(&mut criterion, &setup);
        worker_view(&mut criterion, &setup);
        swap_weights(&mut criterion, "structure/weights_only_swap", dentries, &setup);
    }
    // the same beside far more splits than dentries need: the list of weights is what grows
    for splits in [1_000, 10_000] {
        let setup = Setup::new(splits * 2, splits);
        swap_weights(&mut criterion, "structure/weights_only_swap_by_splits", splits, &setup);
    }
    criterion.final_summary();
}

/// A configuration and what is known when it is assembled.
struct Setup {
    dentries: usize,
    text: String,
    config: Arc<Config>,
    names: Arc<NameTable>,
}

impl Setup {
    fn new(dentries: usize, splits: usize) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let text = proxy::config(&tables::text(dentries, splits), nowhere, nowhere);
        let config = read(&text);
        let mut resolver = Resolver::new(Arc::new(EndpointTable::default()), DnsConfig::default());
        let names = resolver.configure(&config.clusters, &config.namers, &config.egress);
        Self { dentries, text, config, names }
    }

    fn snapshot(&self, version: u64) -> Snapshot {
        let admin = SocketAddr::from(([127, 0, 0, 1], 2));
        let parts = Parts {
            config: &self.config,
            listeners: &[],
            admin,
            names: &self.names,
            workers: 1,
            previous: None,
            routings: &Default::default(),
            stored: &Default::default(),
            interfaces: &[],
        };
        let (structure, weights) = assemble::assemble(&parts);
        Snapshot { version, structure, weights }
    }
}

fn read(text: &str) -> Arc<Config> {
    Arc::new(Config::parse(&Source::new("bench", text)).expect("a legal configuration").0)
}

/// The whole file: YAML, dtab and checks.
fn parse(criterion: &mut Criterion, setup: &Setup) {
    let mut group = criterion.benchmark_group("structure");
    group.throughput(Throughput::Elements(setup.dentries as u64));
    group.bench_function(BenchmarkId::new("parse_file", setup.dentries), |bencher| {
        bencher.iter_with_large_drop(|| read(black_box(&setup.text)));
    });
    group.finish();
}

fn assemble_structure(criterion: &mut Criterion, setup: &Setup) {
    let mut group = criterion.benchmark_group("structure");
    group.throughput(Throughput::Elements(setup.dentries as u64));
    group.bench_function(BenchmarkId::new("assemble", setup.dentries), |bencher| {
        bencher.iter_with_large_drop(|| setup.snapshot(1));
    });
    group.finish();
}

/// What a worker does between two requests when the structure has changed: nothing else runs on it meanwhile.
fn worker_view(criterion: &mut Criterion, setup: &Setup) {
    let metrics = Metrics::new(1, SERIES_MAX);
    let shard = metrics.shard(0);
    let teller = Teller { records: Arc::new(Records::new(1, Box::new(|| {}))), worker: 0 };
    let before = Rc::new(Local::new(Arc::new(setup.snapshot(1)), None, &shard, &teller));
    let next = Arc::new(setup.snapshot(2));
    criterion.bench_function(&format!("structure/worker_view/{}", setup.dentries), |bencher| {
        bencher.iter_with_large_drop(|| Local::new(Arc::clone(&next), Some(&before), &shard, &teller));
    });
}

/// As the control thread does it: the list of weights copied, one split changed, the pointer stored.
fn swap_weights(criterion: &mut Criterion, group: &str, size: usize, setup: &Setup) {
    let world = World::new(setup.snapshot(1), Default::default());
    let changed: [Arc<[Weight]>; 2] = [[Weight::ONE, Weight::ZERO].into(), [Weight::ZERO, Weight::ONE].into()];
    let mut turn = 0;
    criterion.bench_function(&format!("{group}/{size}"), |bencher| {
        let swap = || {
            turn += 1;
            world.publish_weights(|now| {
                let mut weights = SplitWeights::clone(&now.weights);
                let middle = weights.weights.len() / 2;
                weights.weights[middle] = Arc::clone(&changed[turn % 2]);
                Some(weights)
            })
        };
        bencher.iter(swap);
    });
}
