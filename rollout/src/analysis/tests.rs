use super::*;

fn calm() -> Situation {
    Situation { canary_up: true, primary_up: true, held: None, dwell_over: true, requests_enough: true }
}

fn proven() -> Standing {
    Standing { score: 0.5, shown: 20.0, ..Standing::default() }
}

#[track_caller]
fn check(standing: Standing, situation: Situation, verdict: Verdict) {
    assert_eq!(judge(&GuardPolicy::default(), &standing, &situation), verdict);
}

#[test]
fn a_canary_without_endpoints_goes_first() {
    let down = Situation { canary_up: false, dwell_over: false, ..calm() };
    check(Standing::default(), down, Verdict::Fail(Cause::CanaryDown));
    let both = Situation { primary_up: false, ..down };
    check(Standing::default(), both, Verdict::Inconclusive(Gap::TooSoon));
}

#[test]
fn hazard_h9_traffic_is_not_sent_to_a_primary_that_is_down() {
    let standing = Standing { score: 1e6, ..proven() };
    check(standing, calm(), Verdict::Fail(Cause::Evidence));
    let down = Situation { primary_up: false, ..calm() };
    check(standing, down, Verdict::Inconclusive(Gap::Held(Hold::PrimaryDown)));
}

#[test]
fn sure_is_sure_at_the_very_number() {
    check(Standing { score: 100.0, ..proven() }, calm(), Verdict::Fail(Cause::Evidence));
    check(Standing { score: 99.99, ..proven() }, calm(), Verdict::Inconclusive(Gap::Held(Hold::Evidence)));
}

#[test]
fn a_suspicion_begins_at_five_and_ends_below_two() {
    let held = Situation { held: Some(Hold::Evidence), ..calm() };
    check(Standing { score: 4.99, ..proven() }, calm(), Verdict::Pass);
    check(Standing { score: 5.0, ..proven() }, calm(), Verdict::Inconclusive(Gap::Held(Hold::Evidence)));
    check(Standing { score: 2.0, ..proven() }, held, Verdict::Inconclusive(Gap::Held(Hold::Evidence)));
    check(Standing { score: 1.99, ..proven() }, held, Verdict::Pass);
}

#[test]
fn a_fault_of_both_holds_until_the_primary_is_well() {
    let both = Hold::BothFailing;
    let failing = Standing { canary_over: 200.0, primary_over: 200.0, primary_over_newest: 9.0, ..proven() };
    check(failing, calm(), Verdict::Inconclusive(Gap::Held(both)));
    check(Standing { primary_over: 1.0, ..failing }, calm(), Verdict::Pass);
    let held = Situation { held: Some(both), ..calm() };
    check(Standing { primary_over: 1.0, ..failing }, held, Verdict::Inconclusive(Gap::Held(both)));
    check(Standing { primary_over_newest: 1.99, ..failing }, held, Verdict::Pass);
}

#[test]
fn a_step_needs_time_requests_and_evidence() {
    check(proven(), Situation { dwell_over: false, ..calm() }, Verdict::Inconclusive(Gap::TooSoon));
    check(proven(), Situation { requests_enough: false, ..calm() }, Verdict::Inconclusive(Gap::TooFewRequests));
    check(Standing { shown: 19.9, ..proven() }, calm(), Verdict::Inconclusive(Gap::NotShown));
    check(proven(), calm(), Verdict::Pass);
}
