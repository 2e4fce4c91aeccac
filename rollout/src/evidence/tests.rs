use super::*;
use crate::record::{EventRecord, Kind};

fn rule() -> Rule {
    Rule {
        absolute: Some(Absolute::above(0.002)),
        tolerance: 1.0,
        ratios: &[2.0, 5.0, 20.0, 100.0, 1000.0],
        gain: None,
    }
}

fn ten() -> Ppm {
    Ppm::clamped(100_000)
}

fn begun() -> KindEvidence {
    let mut evidence = KindEvidence::new(rule());
    evidence.next_block(TimestampMs(0), ten(), Routed::default(), &[]);
    evidence.open_start(1, 1.0, 0.0, TimestampMs(0), Routed::default());
    evidence
}

fn failure(arm: Arm, at: u64) -> Counted {
    let kind = Kind::Failure;
    let record = EventRecord { arm, share: ten(), routed_at: TimestampMs(at), kind, key: None, randomised: true };
    Counted { record, since: 0 }
}

fn routed(canary: u64) -> Routed {
    Routed { canary, primary: canary * 9 }
}

/// The score after failures of both arms, in so many canary requests.
#[track_caller]
fn check_blamed(canary: u64, primary: u64, requests: u64, blamed: bool) {
    let mut evidence = begun();
    evidence.count(failure(Arm::Canary, 1), canary);
    evidence.count(failure(Arm::Primary, 1), primary);
    let score = evidence.scores(routed(requests), &[]).blamed;
    assert_eq!(score >= 100.0, blamed, "{canary}:{primary} in {requests}: {score}");
}

#[test]
fn blame_needs_both_worse_than_the_primary_and_over_budget() {
    check_blamed(10, 0, 100, true);
    check_blamed(10, 90, 100, false); // a shared outage
    check_blamed(10, 0, 100_000, false); // within the budget
    check_blamed(0, 0, 100, false);
}

#[test]
fn the_end_of_a_block_is_no_evidence_against_the_canary() {
    let mut evidence = begun();
    evidence.count(failure(Arm::Canary, 1), 8);
    let before = evidence.scores(routed(100), &[(ten(), 5)]).blamed;
    evidence.next_block(TimestampMs(1_000), ten(), routed(100), &[(ten(), 5)]);
    let after = evidence.scores(routed(100), &[]).blamed;
    assert!((before - after).abs() < 1e-9, "{before} before the end, {after} after it");
}

/// A rate of 0.2 %: 500 requests tell.
#[test]
fn a_new_start_or_block_is_no_recovery_of_the_primary() {
    let mut evidence = begun();
    let newest = |evidence: &mut KindEvidence, primary, hanging: u32| {
        let routed = Routed { canary: 0, primary };
        evidence.scores(routed, &[(ten(), hanging)]).primary_over_newest
    };
    assert_eq!(newest(&mut evidence, 499, 0), f64::INFINITY, "nobody knows");
    evidence.count(failure(Arm::Primary, 1), 50);
    let failing = newest(&mut evidence, 500, 0);
    assert!(failing > 100.0, "{failing}");
    evidence.open_start(2, 0.5, 0.0, TimestampMs(1_000), Routed { canary: 0, primary: 500 });
    assert_eq!(newest(&mut evidence, 500, 0), failing, "a start that has seen nothing");
    evidence.next_block(TimestampMs(1_000), ten(), Routed { canary: 0, primary: 500 }, &[]);
    assert_eq!(newest(&mut evidence, 999, 0), failing, "a block that has seen too little");
    assert!(newest(&mut evidence, 1_000, 20) >= 2.0, "who hangs is not well");
    assert!(newest(&mut evidence, 1_000, 0) < 2.0, "five hundred good ones are a recovery");
    evidence.next_block(TimestampMs(2_000), Ppm::WHOLE, Routed { canary: 0, primary: 1_000 }, &[]);
    assert!(newest(&mut evidence, 1_000, 0) < 2.0, "alone, the canary waits for nobody");
}

/// Each look is the end of a block, and the beginning of a start.
#[test]
fn a_primary_with_little_traffic_is_seen_well_again_over_several_blocks() {
    let mut evidence = begun();
    let mut newest = |primary, failed, start| {
        let (routed, now) = (Routed { canary: 0, primary }, TimestampMs(primary));
        evidence.count(failure(Arm::Primary, primary), failed);
        let newest = evidence.scores(routed, &[]).primary_over_newest;
        evidence.next_block(now, ten(), routed, &[]);
        evidence.open_start(start, 0.5, 0.0, now, routed);
        newest
    };
    assert_eq!(newest(500, 0, 2), 0.0, "five hundred good ones");
    assert_eq!(newest(900, 50, 3), 0.0, "four hundred are too few to tell");
    assert!(newest(1_000, 0, 4) > 100.0, "with a hundred more they are enough");
    assert!(newest(1_200, 0, 5) > 100.0 && newest(1_400, 0, 6) > 100.0, "no block has seen enough");
    assert!(newest(1_500, 0, 7) < 2.0, "all of them together have");
}

#[test]
fn overdue_requests_of_the_primary_excuse_the_canary() {
    let mut evidence = begun();
    evidence.count(failure(Arm::Canary, 1), 8);
    let sure = evidence.scores(routed(100), &[]).blamed;
    let unsure = evidence.scores(routed(100), &[(ten(), 5)]).blamed;
    assert!(sure > 100.0 && unsure < sure / 100.0, "{sure} {unsure}");
    assert_eq!(evidence.scores(routed(100), &[]).blamed, sure, "an overdue request was only assumed to fail");
}

#[test]
fn a_block_that_is_over_keeps_its_lesser_score() {
    let mut evidence = begun();
    evidence.count(failure(Arm::Canary, 1), 6);
    let before = evidence.scores(routed(100), &[]).blamed;
    evidence.next_block(TimestampMs(1_000), ten(), routed(100), &[]);
    let after = evidence.scores(routed(100), &[]).blamed;
    assert!((after / before - 1.0).abs() < 1e-9, "{before} {after}");
}

#[test]
fn an_event_of_a_block_that_is_over_excuses_but_does_not_blame() {
    let mut evidence = begun();
    evidence.next_block(TimestampMs(1_000), ten(), routed(100), &[]);
    evidence.count(failure(Arm::Canary, 900), 50);
    assert!(evidence.scores(routed(100), &[]).blamed <= 1.0);
    evidence.count(failure(Arm::Canary, 1_100), 6);
    let blamed = evidence.scores(routed(200), &[]).blamed;
    evidence.count(failure(Arm::Primary, 900), 5);
    assert!(evidence.scores(routed(200), &[]).blamed < blamed);
}

#[test]
fn a_start_does_not_see_what_was_routed_before_it() {
    let mut evidence = begun();
    evidence.open_start(2, 1.0, 0.0, TimestampMs(500), routed(50));
    evidence.count(failure(Arm::Canary, 400), 3);
    assert_eq!(evidence.starts.iter().map(|start| start.sums.canary_events).collect::<Vec<_>>(), [3, 0]);
    evidence.count(Counted { since: 1, ..failure(Arm::Canary, 600) }, 1);
    assert_eq!(evidence.starts.iter().map(|start| start.sums.canary_events).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn the_best_starts_are_kept() {
    let mut evidence = begun();
    for number in 2..=STARTS_MAX as u32 {
        evidence.open_start(number, 1.0 / f64::from(number), 0.0, TimestampMs(0), routed(0));
    }
    assert_eq!(evidence.starts.len(), STARTS_MAX);
    evidence.open_start(STARTS_MAX as u32 + 1, 0.5, 0.0, TimestampMs(0), routed(0));
    assert_eq!(evidence.starts.len(), STARTS_KEPT + 1);
    assert!(evidence.starts.iter().all(|start| start.number <= STARTS_KEPT as u32 || start.ln_stake == 0.5_f64.ln()));
}

#[test]
fn without_a_primary_the_budget_alone_decides() {
    let mut evidence = KindEvidence::new(rule());
    evidence.next_block(TimestampMs(0), Ppm::WHOLE, Routed::default(), &[]);
    evidence.open_start(1, 1.0, 0.0, TimestampMs(0), Routed::default());
    let whole = |at| Counted { record: EventRecord { share: Ppm::WHOLE, ..failure(Arm::Canary, at).record }, since: 0 };
    evidence.count(whole(1), 10);
    assert!(evidence.scores(Routed { canary: 100, primary: 0 }, &[]).blamed > 100.0);
}

#[test]
fn shares_at_hand_have_a_limit() {
    let mut evidence = begun();
    for share in 1..=SHARES_CACHED_MAX as i64 + 1 {
        let _terms = evidence.terms_of(Ppm::clamped(share * 1_000));
        assert!(evidence.terms.len() <= SHARES_CACHED_MAX);
    }
}
