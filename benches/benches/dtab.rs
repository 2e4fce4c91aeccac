//! The dtab language alone: reading, looking up, binding, picking. No threads, no sockets.
#![allow(clippy::expect_used, reason = "a benchmark that cannot go on stops loudly")]

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use serin::sticky;
use serin_benches::tables::{self, TwoClusters};
use serin_config::dtab::{Bound, Dtab, Layers, LeafState, Limits, NameTree, Path, Rules, SplitId, bind, pick};

/// Names that lead one to the next. A binding may take 100 steps.
const DEEP_LEVELS: usize = 90;

fn main() {
    let settings = Criterion::default().warm_up_time(Duration::from_millis(300)).sample_size(20);
    let mut criterion = settings.measurement_time(Duration::from_secs(1)).without_plots().configure_from_args();
    parse_dentries(&mut criterion);
    look_up_and_bind(&mut criterion);
    bind_deep(&mut criterion);
    pick_split(&mut criterion);
    criterion.final_summary();
}

fn parse_dentries(criterion: &mut Criterion) {
    let text = tables::text(10_000, 1_000);
    let mut group = criterion.benchmark_group("dtab/parse");
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10000", |bencher| bencher.iter(|| Dtab::parse(black_box(&text))));
    group.finish();
}

fn look_up_and_bind(criterion: &mut Criterion) {
    for dentries in [10, 10_000, 100_000] {
        let table = tables::table(&tables::text(dentries, tables::services(dentries) / 2));
        let middle = tables::services(dentries) / 2;
        let name = tables::name(middle);
        let host = Path::parse(&format!("/host/service-{middle}")).expect("a legal name");
        let mut group = criterion.benchmark_group("dtab");
        group.bench_function(BenchmarkId::new("lookup", dentries), |bencher| {
            bencher.iter(|| table.lookup(black_box(&host)));
        });
        let layers = Layers { base: &table, written: &[], sent: &[] };
        group.bench_function(BenchmarkId::new("bind", dentries), |bencher| {
            bencher.iter(|| bind(&layers, &TwoClusters, black_box(&name), &Limits::default()));
        });
        group.finish();
    }
}

fn bind_deep(criterion: &mut Criterion) {
    let mut text = format!("/level-{DEEP_LEVELS} => /#/clusters/hello ;");
    for level in 0..DEEP_LEVELS {
        // writing to a text cannot fail
        let _ = write!(text, " /level-{level} => /level-{} ;", level + 1);
    }
    let table = tables::table(&text);
    let layers = Layers { base: &table, written: &[], sent: &[] };
    let name = Path::parse("/level-0/rest").expect("a legal name");
    let bound = bind(&layers, &TwoClusters, &name, &Limits::default());
    assert_eq!(bound.to_string(), "/#/clusters/hello/rest");
    criterion.bench_function("dtab/bind_deep/90", |bencher| {
        bencher.iter(|| bind(&layers, &TwoClusters, black_box(&name), &Limits::default()));
    });
}

fn pick_split(criterion: &mut Criterion) {
    let two = bound("9 * /#/clusters/hello & 1 * /#/clusters/other");
    let nested = bound("9 * (1 * /#/clusters/hello & 1 * /#/clusters/other) & 1 * /#/clusters/other");
    let usable = |_: &Bound| LeafState::Usable;
    let mut random = XorShift(0x9e37_79b9_7f4a_7c15);
    let mut group = criterion.benchmark_group("dtab/pick");
    for (label, tree) in [("two_arms", &two), ("nested", &nested)] {
        group.bench_function(label, |bencher| {
            bencher.iter(|| pick(tree, &mut |_| random.next(), &(), &usable, &Rules::default()).draws);
        });
    }
    // as a worker draws it: the hash of the user's key, salted with the name of the split
    group.bench_function("sticky", |bencher| {
        bencher.iter(|| {
            let key = black_box(b"user-0123456789".as_slice());
            pick(&two, &mut |_| sticky::draw(b"/svc/web", key), &(), &usable, &Rules::default()).draws
        });
    });
    group.finish();
}

/// A tree as bound in a table of one dentry.
fn bound(destination: &str) -> NameTree<Bound> {
    let table = tables::table(&format!("/svc/web => {destination}"));
    let layers = Layers { base: &table, written: &[], sent: &[] };
    let tree = bind(&layers, &TwoClusters, &Path::parse("/svc/web").expect("a legal name"), &Limits::default());
    let first = tree.unions().first().and_then(|union| union.split);
    assert_eq!(first, Some(SplitId(0)), "a split");
    tree
}

/// Draws of the benchmark: cheap, so that the choice is what is measured.
struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
