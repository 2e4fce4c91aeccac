use super::*;
use crate::{Format, Metrics};

fn sample(name: &str, pace: &'static str) -> RolloutSample {
    RolloutSample {
        rollout: name.into(),
        router: "out".into(),
        pace,
        phase: "progressing".into(),
        weight_ppm: 50_000,
        score: 100.0,
        score_max: 1_000.0,
        by_kind: vec![("failure", 10.0)],
        arms: [(10, 1), (190, 0)],
        durable: true,
        readings: vec![("request-success-rate".into(), 90.0)],
        ..RolloutSample::default()
    }
}

#[track_caller]
fn check_page(report: impl Fn(&Rollouts), lines: &[&str], absent: &[&str]) {
    let metrics = Metrics::new(1, 10);
    report(metrics.rollouts());
    let page = metrics.encode(Format::from_accept("text/plain"), 0);
    for line in lines {
        assert!(page.lines().any(|found| found == *line), "no `{line}` in\n{page}");
    }
    for text in absent {
        assert!(!page.lines().any(|line| !line.starts_with('#') && line.contains(text)), "`{text}` in\n{page}");
    }
}

#[test]
fn a_rollout_shows_phase_weight_and_evidence() {
    check_page(
        |rollouts| rollouts.replace(vec![sample("world", "evidence")]),
        &[
            "serin_rollout_phase{rollout=\"world\",phase=\"progressing\"} 1",
            "serin_rollout_phase{rollout=\"world\",phase=\"promoted\"} 0",
            "serin_rollout_weight_ppm{rollout=\"world\",arm=\"canary\"} 50000",
            "serin_rollout_weight_ppm{rollout=\"world\",arm=\"primary\"} 950000",
            "serin_rollout_evidence_log10{rollout=\"world\",kind=\"all\"} 2.0",
            "serin_rollout_evidence_log10{rollout=\"world\",kind=\"failure\"} 1.0",
            "serin_rollout_evidence_max_log10{rollout=\"world\"} 3.0",
            "serin_rollout_failures_total{rollout=\"world\",arm=\"canary\"} 1",
            "serin_rollout_requests_total{rollout=\"world\",arm=\"primary\"} 190",
        ],
        &["flagger_", "serin_rollout_held"],
    );
}

#[test]
fn only_pace_interval_has_flaggers_names() {
    check_page(
        |rollouts| rollouts.replace(vec![sample("world", "interval"), sample("other", "evidence")]),
        &[
            "flagger_canary_total{namespace=\"out\"} 1",
            "flagger_canary_status{name=\"world\",namespace=\"out\"} 0",
            "flagger_canary_weight{workload=\"world\",namespace=\"out\"} 5.0",
            "flagger_canary_weight{workload=\"world-primary\",namespace=\"out\"} 95.0",
            "flagger_canary_metric_analysis{name=\"world\",namespace=\"out\",metric=\"request-success-rate\"} 90.0",
        ],
        &["flagger_canary_status{name=\"other\""],
    );
}

#[test]
fn events_ends_and_hooks_are_counted_until_the_rollout_is_forgotten() {
    let report = |rollouts: &Rollouts| {
        rollouts.replace(vec![sample("other", "interval")]);
        rollouts.event("world", "advance");
        rollouts.event("world", "advance");
        rollouts.ended("world", "out", RolloutOutcome::RolledBack, "canary", false, 12.0);
        rollouts.hook("world", "load", "passed", 0.02);
        rollouts.outside(vec![("hook", "done", 1)]);
        rollouts.outside(vec![("hook", "done", 2), ("alert", "dropped", 3)]);
    };
    let lines = [
        "serin_rollout_events_total{rollout=\"world\",event=\"advance\"} 2",
        "serin_rollout_duration_seconds_bucket{le=\"10.0\",rollout=\"world\",outcome=\"rolled-back\"} 0",
        "serin_rollout_duration_seconds_bucket{le=\"30.0\",rollout=\"world\",outcome=\"rolled-back\"} 1",
        "serin_rollout_hook_duration_seconds_count{rollout=\"world\",hook=\"load\",result=\"passed\"} 1",
        "serin_outside_jobs_total{kind=\"hook\",result=\"done\"} 2",
        "serin_outside_jobs_total{kind=\"alert\",result=\"dropped\"} 3",
        "flagger_canary_failures_total{name=\"world\",namespace=\"out\",deployment_strategy=\"canary\",analysis_status=\"completed\"} 1",
    ];
    check_page(report, &lines, &[]);
    check_page(
        |rollouts| {
            report(rollouts);
            rollouts.forget("world");
        },
        &[],
        &["world"],
    );
}

#[test]
fn series_stop_at_their_bound() {
    let mut map = BTreeMap::new();
    let mut dropped = 0;
    for key in 0..=ROLLOUT_SERIES_MAX {
        slot::<usize, u64>(&mut map, key, &mut dropped);
    }
    assert_eq!((map.len(), dropped), (ROLLOUT_SERIES_MAX, 1));
    assert!(slot(&mut map, 0, &mut dropped).is_some());
}
