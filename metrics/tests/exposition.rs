//! The metrics page as a scraper reads it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test helpers fail by panicking")]

mod page;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use page::Page;
use proptest::prelude::*;
use serin_metrics::{
    BUCKETS, Class, FAMILIES, Format, IDLE_MS_MAX, Kind, Metrics, NamerGauge, Reload, RequestLabels, RolloutOutcome,
    RolloutSample, Rollouts, SERIES_MAX, Shard, TeamGauge,
};

const FORMATS: [Format; 2] = [Format::Classic, Format::OpenMetrics];

fn labels(router: &str, service: &str, client: &str) -> RequestLabels {
    RequestLabels { router: router.into(), service: service.into(), client: client.into(), arm: "primary" }
}

/// Metrics with at least one series in every family.
fn populated() -> Arc<Metrics> {
    let metrics = Metrics::new(2, SERIES_MAX);
    for worker in 0..2 {
        populate(&metrics.shard(worker));
    }
    let control = metrics.control();
    control.reload(Reload::Applied, 1_700_000_000.5);
    control.reload(Reload::Rejected, 1_700_000_060.0);
    control.set_snapshot_version(7);
    control.set_dtab_namespaces(3);
    let states = [("current", false), ("last-good", true), ("out", false)];
    control.replace_teams([TeamGauge { team: "web", states, since: Some(1_700_000_000.0) }]);
    control.dtab_write(serin_metrics::DtabWrite::Updated);
    control.set_split_weights("outgoing", "/host/world", &[("v1", 0.999_999), ("v2", 0.000_001)]);
    control.replace_namers([("io.l5d.consul", NamerGauge { age_s: Some(2.5), failing: 1 })]);
    control.replace_endpoints([("/#/clusters/world-v1", 1), ("/#/clusters/world-v2", 2)]);
    judge(metrics.rollouts());
    metrics
}

fn judge(rollouts: &Rollouts) {
    rollouts.replace(vec![RolloutSample {
        rollout: "world".into(),
        router: "outgoing".into(),
        path: "/host/world".into(),
        primary: "/srv/world-v1".into(),
        canary: "/srv/world-v2".into(),
        revision: "/srv/world-v2@7".into(),
        pace: "interval",
        phase: "waiting-promotion".into(),
        weight_ppm: 500_000,
        step_seconds: 12.5,
        failed_checks: 1,
        paused: true,
        held: Some("evidence".into()),
        waiting: Some(("promotion".into(), 3.5)),
        score: 7.5,
        score_max: 100.0,
        by_kind: vec![("failure", 9.0)],
        arms: [(250, 2), (4_750, 1)],
        durable: true,
        readings: vec![("request-success-rate".into(), 99.2)],
    }]);
    rollouts.event("world", "advance");
    rollouts.ended("world", "outgoing", RolloutOutcome::Promoted, "canary", false, 95.0);
    rollouts.ended("world", "outgoing", RolloutOutcome::RolledBack, "canary", true, 5.0);
    rollouts.hook("world", "load-test", "passed", 0.2);
    rollouts.outside(vec![("alert", "dropped", 0), ("hook", "done", 2)]);
    rollouts.tick("world", "outgoing", 0.3);
}

fn populate(shard: &Shard) {
    let v1 = shard.requests(&labels("outgoing", "/svc/world", "/#/clusters/world-v1"));
    v1.record(Class::Success, 700);
    v1.record(Class::Failure, 30_000);
    v1.record(Class::Ignored, 20_000_000);
    shard.requests(&labels("outgoing", "/svc/\"q\"\\n\n", "/$/inet/é/1")).record(Class::Success, 5_000);
    shard.failures("outgoing", "no_route").inc();
    shard.retries("outgoing", "/#/clusters/world-v1").add(2);
    let split = shard.split("outgoing", "/host/world", "v2");
    split.choices.add(3);
    split.redistributed.inc();
    let copies = shard.mirror("outgoing", "/host/world");
    copies.of(Class::Success).add(2);
    copies.of(Class::Failure).inc();
    copies.skipped.add(4);
    let worker = shard.worker();
    worker.connections_accepted.add(5);
    worker.connections_active.set(2);
    worker.requests_active.inc();
    worker.upstream_connects_ok.add(4);
    worker.upstream_connects_failed.inc();
    worker.upstream_connections_idle.set(3);
    worker.upstream_connections_active.set(1);
    worker.context_headers_stripped.add(6);
    worker.binding_cache_hits.add(9);
    worker.binding_cache_misses.add(2);
    worker.binding_cache_evictions.inc();
}

fn read(metrics: &Metrics, format: Format) -> Page {
    Page::read(&metrics.encode(format, 0), format)
}

#[track_caller]
fn check_value(page: &Page, name: &str, label: &str, expected: &[(&str, f64)]) {
    let found = page.values(name, &[label]);
    let expected = expected.iter().map(|(value, number)| (vec![(*value).to_owned()], *number)).collect();
    assert_eq!(found, expected, "{name}");
}

#[test]
fn the_page_has_exactly_the_listed_families_in_both_formats() {
    for format in FORMATS {
        let page = read(&populated(), format);
        let printed: BTreeSet<_> = page
            .families
            .iter()
            .map(|family| (family.name.clone(), family.kind.clone(), family.help.clone()))
            .collect();
        let listed: BTreeSet<_> = FAMILIES
            .iter()
            .filter(|family| !family.name.starts_with("process_") || page_has(&page, family.name))
            .map(|family| (name_in(format, family.name), family.kind.as_str().to_owned(), format!("{}.", family.help)))
            .collect();
        assert_eq!(printed, listed, "{format:?}");
    }
}

fn page_has(page: &Page, name: &str) -> bool {
    page.samples.iter().any(|sample| sample.name == name)
}

fn name_in(format: Format, name: &str) -> String {
    let open = format == Format::OpenMetrics;
    // a gauge of Flagger's has the ending of a counter
    let cut = if open && name != "flagger_canary_total" { name.strip_suffix("_total") } else { None };
    cut.unwrap_or(name).to_owned()
}

#[test]
fn samples_have_exactly_the_listed_labels() {
    let page = read(&populated(), Format::Classic);
    for sample in &page.samples {
        let name = &page.families[sample.family].name;
        let family = FAMILIES.iter().find(|family| family.name == name).unwrap();
        let mut listed: BTreeSet<_> = family.labels.iter().copied().collect();
        if sample.name.ends_with("_bucket") {
            listed.insert("le");
        }
        assert_eq!(sample.labels.keys().map(String::as_str).collect::<BTreeSet<_>>(), listed, "{}", sample.name);
    }
}

#[test]
fn every_family_of_a_populated_page_has_samples() {
    let page = read(&populated(), Format::Classic);
    for (index, family) in page.families.iter().enumerate() {
        assert!(page.samples.iter().any(|sample| sample.family == index), "{}", family.name);
    }
}

#[test]
fn no_series_comes_twice() {
    for format in FORMATS {
        let mut seen = BTreeSet::new();
        for sample in read(&populated(), format).samples {
            assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "{sample:?}");
        }
    }
}

#[test]
fn units_are_told_in_openmetrics() {
    let page = read(&populated(), Format::OpenMetrics);
    for text in &page.families {
        let listed = FAMILIES.iter().find(|family| name_in(Format::OpenMetrics, family.name) == text.name).unwrap();
        assert_eq!(text.unit.as_deref(), listed.unit.map(|unit| unit.as_str()), "{}", text.name);
    }
}

#[test]
fn a_new_process_has_a_page_that_can_be_read() {
    for format in FORMATS {
        let page = read(&Metrics::new(1, SERIES_MAX), format);
        assert!(page_has(&page, "serin_build_info"), "{format:?}");
    }
}

#[test]
fn buckets_are_cumulative_and_end_in_the_count() {
    let page = read(&populated(), Format::Classic);
    let v1 =
        |sample: &&page::Sample| sample.labels.get("client").is_some_and(|client| client == "/#/clusters/world-v1");
    let of = |suffix: &str| format!("serin_request_duration_seconds_{suffix}");
    let named = |name: String| page.samples.iter().filter(v1).filter(move |sample| sample.name == name);
    let buckets: Vec<_> = named(of("bucket")).map(|sample| (sample.labels["le"].as_str(), sample.value)).collect();
    assert_eq!(buckets.len(), BUCKETS);
    assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1));
    assert_eq!((buckets[0], buckets[1].0, buckets[4]), (("0.001", 2.0), "0.0025", ("0.025", 2.0)));
    assert_eq!((buckets[5], buckets[15], buckets[16]), (("0.05", 4.0), ("10.0", 4.0), ("+Inf", 6.0)));
    assert_eq!(named(of("count")).next().unwrap().value, 6.0);
    assert!((named(of("sum")).next().unwrap().value - 40.061_4).abs() < 1e-9);
}

#[test]
fn workers_are_summed_where_they_have_no_label() {
    let page = read(&populated(), Format::Classic);
    check_value(&page, "serin_upstream_connects_total", "outcome", &[("failed", 2.0), ("ok", 8.0)]);
    check_value(&page, "serin_upstream_connections", "state", &[("active", 2.0), ("idle", 6.0)]);
    check_value(&page, "serin_binding_cache_lookups_total", "result", &[("hit", 18.0), ("miss", 4.0)]);
    check_value(&page, "serin_split_choices_total", "branch", &[("v2", 6.0)]);
    check_value(&page, "serin_split_redistributed_total", "branch", &[("v2", 2.0)]);
    let classes = [("failure", 2.0), ("ignored", 0.0), ("skipped", 8.0), ("success", 4.0)];
    check_value(&page, "serin_mirror_requests_total", "class", &classes);
    check_value(&page, "serin_response_failures_total", "reason", &[("no_route", 2.0)]);
    check_value(&page, "serin_retries_total", "client", &[("/#/clusters/world-v1", 4.0)]);
    check_value(&page, "serin_connections_accepted_total", "worker", &[("0", 5.0), ("1", 5.0)]);
}

#[test]
fn what_the_control_thread_reports_is_printed() {
    let page = read(&populated(), Format::Classic);
    check_value(
        &page,
        "serin_config_reloads_total",
        "outcome",
        &[("applied", 1.0), ("rejected", 1.0), ("unchanged", 0.0)],
    );
    check_value(&page, "serin_split_weight", "branch", &[("v1", 0.999_999), ("v2", 0.000_001)]);
    assert_eq!(page.values("serin_config_last_reload_successful", &[])[&vec![]], 0.0);
    assert_eq!(page.values("serin_config_last_reload_timestamp_seconds", &[])[&vec![]], 1_700_000_000.5);
    assert_eq!(page.values("serin_snapshot_version", &[])[&vec![]], 7.0);
    assert_eq!(page.values("serin_dtab_namespaces", &[])[&vec![]], 3.0);
    check_value(
        &page,
        "serin_dtab_writes_total",
        "outcome",
        &[("created", 0.0), ("deleted", 0.0), ("failed", 0.0), ("refused", 0.0), ("updated", 1.0)],
    );
    check_value(&page, "serin_namer_update_age_seconds", "namer", &[("io.l5d.consul", 2.5)]);
    check_value(&page, "serin_namer_failing_names", "namer", &[("io.l5d.consul", 1.0)]);
    check_value(&page, "serin_endpoints", "client", &[("/#/clusters/world-v1", 1.0), ("/#/clusters/world-v2", 2.0)]);
}

#[test]
fn series_beyond_the_cap_are_counted_in_the_overflow_and_told() {
    let metrics = Metrics::new(1, 1);
    for client in ["a", "b", "c"] {
        metrics.shard(0).requests(&labels("outgoing", "/svc/web", client)).record(Class::Success, 1);
    }
    let page = read(&metrics, Format::Classic);
    let clients = page.values("serin_request_duration_seconds_count", &["service", "client"]);
    let row = |service: &str, client: &str| vec![service.to_owned(), client.to_owned()];
    assert_eq!(clients, [(row("(overflow)", "(overflow)"), 2.0), (row("/svc/web", "a"), 1.0)].into());
    assert_eq!(page.values("serin_metrics_dropped_series_total", &[])[&vec![]], 2.0);
}

#[test]
fn a_series_without_handles_leaves_the_page_after_a_while() {
    let metrics = Metrics::new(1, SERIES_MAX);
    let shard = metrics.shard(0);
    let kept = shard.requests(&labels("outgoing", "/svc/web", "kept"));
    kept.record(Class::Success, 1);
    shard.requests(&labels("outgoing", "/svc/web", "gone")).record(Class::Success, 1);
    let has_gone = |now_ms| !metrics.encode(Format::Classic, now_ms).contains("\"gone\"");
    assert!(!has_gone(1_000));
    assert!(!has_gone(1_000 + IDLE_MS_MAX - 1));
    assert!(has_gone(1_000 + IDLE_MS_MAX));
    assert!(metrics.encode(Format::Classic, 9 * IDLE_MS_MAX).contains("\"kept\""));
}

#[test]
fn the_page_looks_like_the_golden_one() {
    let page = populated().encode(Format::Classic, 0);
    let steady: String = page
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("process_") && !line.contains(" process_"))
        .map(|line| line.replace(env!("CARGO_PKG_VERSION"), "VERSION"))
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/page.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &steady).unwrap();
    }
    assert_eq!(steady, std::fs::read_to_string(path).unwrap(), "UPDATE_GOLDEN=1 writes {path}");
}

#[test]
fn promtool_finds_nothing_to_say() {
    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = spawned else {
        assert!(std::env::var("SERIN_REQUIRE_PEERS").as_deref() != Ok("1"), "promtool is required and not there");
        println!("skipped: needs promtool");
        return;
    };
    let page = populated().encode(Format::Classic, 0);
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Flagger's own name for a gauge is the only thing
    let other = said.lines().find(|line| !line.starts_with("flagger_canary_total non-counter metrics"));
    assert_eq!(other, None, "{:?}: {said}", output.status);
}

/// Label values with everything that needs care, and much that does not.
fn arb_value() -> impl Strategy<Value = String> {
    prop_oneof!["[\"\\\\\n{},= #]{0,12}", "\\PC{0,20}", any::<String>(), Just("# EOF\n".to_owned())]
}

proptest! {
    #[test]
    fn any_label_value_is_read_back(router in arb_value(), service in arb_value(), client in arb_value()) {
        // Longer values are cut, which tests of the limit cover.
        prop_assume!([&router, &service, &client].iter().all(|value| value.len() <= serin_metrics::LABEL_BYTES_MAX));
        let metrics = Metrics::new(1, SERIES_MAX);
        metrics.shard(0).requests(&labels(&router, &service, &client)).record(Class::Success, 1);
        metrics.control().set_split_weights(&router, &service, &[(&client, 0.5)]);
        for format in FORMATS {
            let page = read(&metrics, format);
            let rows = page.values("serin_requests_total", &["router", "service", "client", "class"]);
            let row = vec![router.clone(), service.clone(), client.clone(), "success".to_owned()];
            prop_assert_eq!(rows.get(&row), Some(&1.0));
            let weights = page.values("serin_split_weight", &["router", "split", "branch"]);
            prop_assert_eq!(weights.get(&row[..3]), Some(&0.5));
        }
    }
}

#[test]
fn counters_are_the_families_that_end_in_total() {
    let page = read(&populated(), Format::Classic);
    for family in &page.families {
        let total = family.name.ends_with("_total") && family.name != "flagger_canary_total";
        assert_eq!(family.kind == Kind::Counter.as_str(), total, "{}", family.name);
    }
}
