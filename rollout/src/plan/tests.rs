use super::*;

fn stepped(steps: &[i64]) -> Analysis {
    let step_weights = Some(steps.to_vec());
    Analysis { interval_ms: Some(60_000), threshold: Some(5), step_weights, ..Analysis::default() }
}

#[track_caller]
fn check_hazards(analysis: Analysis, hazards: &[Hazard]) {
    assert_eq!(Plan::new(analysis).unwrap().hazards(), hazards);
}

#[track_caller]
fn check_refused(change: impl FnOnce(&mut Analysis), error: PlanError) {
    let mut analysis = stepped(&[10]);
    change(&mut analysis);
    assert_eq!(Plan::new(analysis), Err(error));
}

#[test]
fn what_the_schema_refuses_is_refused() {
    check_refused(|a| a.interval_ms = None, PlanError::NoInterval);
    check_refused(|a| a.threshold = None, PlanError::NoThreshold);
    check_refused(|a| a.step_weight = Some(1), PlanError::NotOneStrategy);
    check_refused(|a| a.step_weights = None, PlanError::NotOneStrategy);
    check_refused(|a| a.cookies = Some((String::new(), None)), PlanError::CookieUnnamed);
    check_refused(|a| a.cookies = Some(("a".into(), Some("a".into()))), PlanError::CookiesEqual);
}

#[test]
fn the_longest_list_and_one_more() {
    assert!(Plan::new(stepped(&vec![1; PLAN_ENTRIES_MAX])).is_ok());
    check_refused(|a| a.step_weights = Some(vec![1; PLAN_ENTRIES_MAX + 1]), PlanError::TooMany);
}

#[test]
fn hazard_h6_lists_that_wait_for_ever_are_named() {
    for steps in [&[20, 10][..], &[10, 10], &[0, 10], &[10, 101], &[]] {
        check_hazards(stepped(steps), &[Hazard::StepsNotRising]);
    }
    check_hazards(stepped(&[10, 50]), &[]);
}

#[test]
fn hazard_h7_a_router_that_cannot_mirror_is_named() {
    for (router, hazards) in [
        (Router::Weights, &[Hazard::MirrorImpossible][..]),
        (Router::WeightsMirrorsBlueGreen, &[Hazard::MirrorImpossible]),
        (Router::Full, &[]),
    ] {
        check_hazards(Analysis { mirror: true, router, ..stepped(&[10]) }, hazards);
    }
}

#[test]
fn hazard_h12_metrics_without_limits_are_named() {
    let metric = |source| Metric { name: "m".into(), source, range: None, threshold: 0.0 };
    let with = |source| Analysis { metrics: vec![metric(source)], ..stepped(&[10]) };
    check_hazards(with(MetricSource::SuccessRate), &[Hazard::MetricWithoutLimit]);
    check_hazards(with(MetricSource::Unknown), &[Hazard::MetricUnknown, Hazard::MetricWithoutLimit]);
}

#[test]
fn hazard_h23_a_step_above_the_maximum_is_named() {
    let linear =
        |step, max| Analysis { step_weight: Some(step), max_weight: Some(max), step_weights: None, ..stepped(&[]) };
    check_hazards(linear(20, 50), &[Hazard::StepAboveMaximum]);
    check_hazards(linear(25, 50), &[]);
}

#[test]
fn no_number_of_a_file_breaks_a_plan() {
    for number in [i64::MIN, -1, 0, 1, 100, 101, i64::MAX] {
        let analysis = Analysis {
            threshold: Some(number),
            max_weight: Some(number),
            step_weight_promotion: Some(number),
            ..stepped(&[number, number])
        };
        let plan = Plan::new(analysis).unwrap();
        let _found = (plan.hazards(), plan.weight_max(), plan.raise(Ppm::ZERO), plan.promotion_step());
        let linear = Analysis { step_weight: Some(number), step_weights: None, ..stepped(&[]) };
        let plan = Plan::new(linear).unwrap();
        let _found = (plan.hazards(), plan.raise(Ppm::WHOLE), plan.has_steps());
        let rounds = Analysis { iterations: Some(number), step_weights: None, ..stepped(&[]) };
        assert!(Plan::new(rounds).unwrap().iterations() >= 0);
    }
}
