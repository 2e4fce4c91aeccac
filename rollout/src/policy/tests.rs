use super::*;
use crate::plan::HookKind;

fn step(percent: u32) -> Ppm {
    Ppm::from_percent(percent).unwrap()
}

#[track_caller]
fn check_refused(change: impl FnOnce(&mut Settings), error: PolicyError) {
    let mut settings = Settings::default();
    change(&mut settings);
    assert_eq!(Policy::new(settings), Err(vec![error]));
}

#[track_caller]
fn check_guard_refused(change: impl FnOnce(&mut GuardSettings), error: PolicyError) {
    let mut settings = GuardSettings::default();
    change(&mut settings);
    assert_eq!(GuardPolicy::new(settings), Err(vec![error]));
}

#[test]
fn the_defaults_are_legal() {
    assert_eq!(Policy::new(Settings::default()), Ok(Policy::default()));
    assert_eq!(GuardPolicy::new(GuardSettings::default()), Ok(GuardPolicy::default()));
}

#[test]
fn hazard_h6_steps_that_do_not_rise_are_refused() {
    for steps in [vec![], vec![0], vec![10, 10], vec![20, 10], vec![10, 100]] {
        check_refused(|s| s.steps = steps.into_iter().map(step).collect(), PolicyError::Steps);
    }
}

#[test]
fn hazard_h12_a_metric_needs_a_limit_and_a_known_name() {
    let metric = |source, range| Metric { name: "m".into(), source, range, threshold: 1.0 };
    check_refused(|s| s.metrics = vec![metric(MetricSource::Duration, None)], PolicyError::MetricWithoutLimit);
    check_refused(
        |s| s.metrics = vec![metric(MetricSource::Query, Some((None, None)))],
        PolicyError::MetricWithoutLimit,
    );
    let limited = Some((Some(1.0), None));
    check_refused(|s| s.metrics = vec![metric(MetricSource::Unknown, limited)], PolicyError::MetricUnknown);
}

#[test]
fn numbers_have_ends() {
    check_refused(|s| s.interval_ms = INTERVAL_MS_MIN - 1, PolicyError::Interval);
    check_refused(|s| s.failed_checks_max = 0, PolicyError::Threshold);
    check_refused(|s| s.failed_checks_max = FAILED_CHECKS_MAX + 1, PolicyError::Threshold);
    check_refused(|s| s.step_deadline_ms = Some(59_999), PolicyError::Deadline);
    check_refused(|s| s.promotion_step = Some(Ppm::ZERO), PolicyError::PromotionStep);
    let hook = Hook { name: "h".into(), kind: HookKind::Rollout };
    check_refused(|s| s.hooks = vec![hook; PLAN_ENTRIES_MAX + 1], PolicyError::TooMany);
    check_guard_refused(|s| s.alpha = Ppm::ZERO, PolicyError::Alpha);
    check_guard_refused(|s| s.beta = Ppm::clamped(200_001), PolicyError::Beta);
    check_guard_refused(|s| s.error_budget = Some(Ppm::ZERO), PolicyError::Budget);
    check_guard_refused(|s| s.error_limit = Some(Ppm::clamped(500_001)), PolicyError::Budget);
    check_guard_refused(|s| s.tolerance_milli[0] = 999, PolicyError::Tolerance);
    check_guard_refused(|s| s.stakes[0] = Ppm::clamped(1), PolicyError::Stakes);
}

#[test]
fn every_mistake_is_told_not_the_first() {
    let settings = Settings { steps: vec![], interval_ms: 0, failed_checks_max: 0, ..Settings::default() };
    let all = vec![PolicyError::Steps, PolicyError::Interval, PolicyError::Threshold];
    assert_eq!(Policy::new(settings), Err(all));
}

#[test]
fn hazard_h23_no_step_passes_the_maximum() {
    let analysis = Analysis { step_weight: Some(20), max_weight: Some(50), ..Analysis::default() };
    let settings = Settings::from_analysis(&analysis, GuardSettings::default()).unwrap();
    assert_eq!(settings.steps, [step(20), step(40), step(50)]);
}

#[test]
fn a_lower_limit_of_the_success_rate_is_what_nothing_advances_beyond() {
    let metric = Metric {
        name: "request-success-rate".into(),
        source: MetricSource::SuccessRate,
        range: Some((Some(99.5), None)),
        threshold: 0.0,
    };
    let analysis = Analysis { step_weights: Some(vec![5, 50]), metrics: vec![metric], ..Analysis::default() };
    let settings = Settings::from_analysis(&analysis, GuardSettings::default()).unwrap();
    assert_eq!(settings.guard.error_limit(), Ppm::clamped(5_000));
    assert_eq!(GuardPolicy::default().error_limit(), Ppm::clamped(10_000));
    let written = GuardSettings { error_budget: Some(Ppm::clamped(2_000)), ..GuardSettings::default() };
    assert_eq!(GuardPolicy::new(written).unwrap().error_limit(), Ppm::clamped(2_000));
}

#[test]
fn rounds_rules_and_copies_go_by_the_interval() {
    let steps = || Analysis { step_weight: Some(20), ..Analysis::default() };
    let rounds = Analysis { iterations: Some(3), ..Analysis::default() };
    for analysis in [rounds, Analysis { mirror: true, ..steps() }, Analysis { matches: true, ..steps() }] {
        let refused = Settings::from_analysis(&analysis, GuardSettings::default());
        assert_eq!(refused, Err(vec![PolicyError::Strategy]));
    }
    assert!(PolicyError::Strategy.to_string().contains("pace: interval"));
    assert!(Settings::from_analysis(&steps(), GuardSettings::default()).is_ok());
}
