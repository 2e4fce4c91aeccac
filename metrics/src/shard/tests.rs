//! Cells, handles, and sums over shards.

use std::thread;

use super::*;
use crate::OVERFLOW_SERIES_MAX;
use proptest::prelude::*;

fn labels(client: &str) -> RequestLabels {
    RequestLabels { router: "out".into(), service: "/svc/web".into(), client: client.into(), arm: "canary" }
}

#[track_caller]
fn check_requests(metrics: &Metrics, labels: &RequestLabels, failure: u64, ignored: u64, success: u64) {
    let totals = metrics.request_totals(labels);
    assert_eq!((totals.failure, totals.ignored, totals.success), (failure, ignored, success), "{labels:?}");
    assert_eq!(totals.requests(), totals.observations());
}

#[test]
fn cells_do_not_share_cache_lines() {
    assert_eq!(align_of::<RequestCells>(), 128);
    assert_eq!(align_of::<SplitCells>(), 128);
    assert_eq!(size_of::<WorkerCells>() % 128, 0);
}

#[test]
fn a_gauge_goes_both_ways() {
    let gauge = Gauge::default();
    gauge.inc();
    gauge.dec();
    gauge.dec();
    assert_eq!(gauge.get(), -1);
    gauge.set(5);
    assert_eq!(gauge.get(), 5);
}

#[test]
fn classes_are_counted_apart() {
    let metrics = Metrics::new(1, 10);
    let cells = metrics.shard(0).requests(&labels("a"));
    for (class, times) in [(Class::Failure, 1), (Class::Ignored, 2), (Class::Success, 3)] {
        for _ in 0..times {
            cells.record(class, 10);
        }
    }
    check_requests(&metrics, &labels("a"), 1, 2, 3);
    assert_eq!(cells.totals(), metrics.request_totals(&labels("a")));
}

#[test]
fn a_series_nobody_counted_is_zero() {
    check_requests(&Metrics::new(1, 10), &labels("a"), 0, 0, 0);
}

#[test]
fn requests_over_the_cap_are_counted_under_the_overflow_of_their_router() {
    let metrics = Metrics::new(1, 1);
    let shard = metrics.shard(0);
    for client in ["a", "b", "c"] {
        shard.requests(&labels(client)).record(Class::Success, 1);
    }
    check_requests(&metrics, &labels("a"), 0, 0, 1);
    check_requests(&metrics, &labels("b"), 0, 0, 0);
    let overflow = RequestLabels { service: OVERFLOW.into(), ..labels(OVERFLOW) };
    check_requests(&metrics, &overflow, 0, 0, 2);
}

#[test]
fn any_family_with_labels_stays_within_its_cap() {
    let metrics = Metrics::new(1, 1);
    let shard = metrics.shard(0);
    for index in 0..2 * OVERFLOW_SERIES_MAX {
        let router = format!("r{index}");
        shard.requests(&RequestLabels { router: router.as_str().into(), ..labels("a") });
        shard.failures(&router, "connect");
        shard.retries(&router, "a");
        shard.split(&router, "s", "a");
        shard.mirror(&router, "s");
    }
    let tables = metrics.tables();
    let most = 1 + OVERFLOW_SERIES_MAX + 1;
    // A failure's overflow drops the router, so one series holds them all.
    let found = [tables.requests.series().len(), tables.retries.series().len(), tables.splits.series().len()];
    assert_eq!((found, tables.failures.series().len()), ([most; 3], 2));
    assert_eq!(tables.mirrors.series().len(), most);
}

#[test]
fn a_worker_beyond_the_last_gets_the_last_ones_cells() {
    let metrics = Metrics::new(2, 10);
    metrics.shard(7).worker().connections_accepted.inc();
    assert_eq!(metrics.shard(1).worker().connections_accepted.get(), 1);
    assert_eq!(metrics.shard(0).worker().connections_accepted.get(), 0);
}

#[test]
fn no_workers_means_one_and_too_many_mean_the_most() {
    let workers = |asked| Metrics::new(asked, 10).tables().workers.len();
    assert_eq!((workers(0), workers(1)), (1, 1));
    let most = crate::WORKERS_MAX;
    assert_eq!((workers(most), workers(most + 1)), (most, most));
}

#[test]
fn threads_that_count_at_once_lose_nothing_while_others_read() {
    const WORKERS: usize = 4;
    const REQUESTS: u64 = 20_000;
    let metrics = Metrics::new(WORKERS, 10);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let cells = metrics.shard(worker).requests(&labels("a"));
                scope.spawn(move || (0..REQUESTS).for_each(|request| cells.record(Class::Success, request)))
            })
            .collect();
        let mut seen = 0;
        while !writers.iter().all(|writer| writer.is_finished()) {
            let now = metrics.request_totals(&labels("a")).success;
            assert!(now >= seen, "a counter went from {seen} to {now}");
            seen = now;
        }
    });
    check_requests(&metrics, &labels("a"), 0, 0, WORKERS as u64 * REQUESTS);
}

proptest! {
    #[test]
    fn sums_over_shards_are_what_was_recorded(
        requests in proptest::collection::vec((0..3_usize, 0..2_usize, 0..3_usize, 0..20_000_000_u64), 0..200),
    ) {
        let metrics = Metrics::new(3, 10);
        let names = [labels("a"), labels("b")];
        let mut expected = [Totals::default(); 2];
        for &(worker, name, class, elapsed_us) in &requests {
            let class = Class::ALL[class];
            metrics.shard(worker).requests(&names[name]).record(class, elapsed_us);
            let totals = &mut expected[name];
            match class {
                Class::Failure => totals.failure += 1,
                Class::Ignored => totals.ignored += 1,
                Class::Success => totals.success += 1,
            }
            totals.buckets[crate::bucket_of(elapsed_us)] += 1;
            totals.sum_us += elapsed_us;
        }
        prop_assert_eq!(metrics.request_totals(&names[0]), expected[0]);
        prop_assert_eq!(metrics.request_totals(&names[1]), expected[1]);
    }
}
