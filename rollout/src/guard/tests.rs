use super::*;
use crate::record::Key;

fn begun(share: u32) -> Guard {
    let mut guard = Guard::new(GuardPolicy::default(), Traffic::default(), TimestampMs(0));
    guard.step(Ppm::from_percent(share).unwrap(), None, TimestampMs(0));
    guard
}

fn failure(arm: Arm, routed_ms: u64, share: u32) -> EventRecord {
    let share = Ppm::from_percent(share).unwrap();
    EventRecord { arm, share, routed_at: TimestampMs(routed_ms), kind: Kind::Failure, key: None, randomised: true }
}

fn traffic(canary: u64, failed: u64) -> Traffic {
    let canary = ArmTotals { routed: canary, completed: canary, failed };
    let primary = ArmTotals { routed: canary.routed * 9, completed: canary.routed * 9, failed: 0 };
    Traffic { canary, primary, ..Traffic::default() }
}

#[test]
fn a_score_starts_at_one() {
    let standing = begun(10).look(&Traffic::default(), TimestampMs(0));
    assert!((standing.score - 1.0).abs() < 1e-9, "{standing:?}");
    assert!((standing.shown - 1.0).abs() < 1e-9);
}

#[test]
fn four_of_four_at_ten_percent_are_sure() {
    let mut guard = begun(10);
    for at in 0..4 {
        guard.observe(failure(Arm::Canary, at, 10), 1);
    }
    assert!(guard.look(&traffic(4, 4), TimestampMs(10)).score >= 100.0);
}

#[test]
fn one_session_that_fails_often_is_one_event() {
    let mut guard = begun(10);
    for at in 0..50 {
        guard.observe(EventRecord { key: Some(Key::Session(1)), ..failure(Arm::Canary, at, 10) }, 1);
    }
    assert!(guard.look(&traffic(50, 50), TimestampMs(100)).score < 20.0);
}

#[test]
fn a_canary_that_hangs_is_not_within_its_limit() {
    let mut guard = begun(10);
    let good = traffic(2_000, 0);
    assert!(guard.look(&good, TimestampMs(10)).shown >= 20.0);
    let open = Open { oldest: None, overdue: vec![(Ppm::clamped(100_000), 100)] };
    let hanging = Traffic { canary_open: open, ..good };
    assert!(guard.look(&hanging, TimestampMs(20)).shown < 1.0);
}

#[test]
fn a_primary_that_fails_as_much_excuses_a_canary_over_its_limit() {
    let mut guard = begun(50);
    for at in 0..300 {
        let arm = if at % 2 == 0 { Arm::Canary } else { Arm::Primary };
        guard.observe(failure(arm, at, 50), 1);
    }
    let standing = guard.look(&traffic(3_000, 150), TimestampMs(1_000));
    assert!(standing.shown >= 20.0, "{standing:?}");
    assert!(standing.score < 2.0, "{standing:?}");
}

#[test]
fn both_arms_over_their_budget_are_seen() {
    let mut guard = begun(50);
    for at in 0..400 {
        guard.observe(failure(if at % 2 == 0 { Arm::Canary } else { Arm::Primary }, at, 50), 1);
    }
    let both = ArmTotals { routed: 1_000, completed: 1_000, failed: 200 };
    let standing = guard.look(&Traffic { canary: both, primary: both, ..Traffic::default() }, TimestampMs(1_000));
    assert!(standing.canary_over >= 100.0 && standing.primary_over >= 100.0 && standing.primary_over_newest >= 2.0);
}

#[test]
fn slow_kinds_are_off_until_the_primary_has_a_history() {
    let slow = |guard: &mut Guard| {
        let mut score = 0.0;
        for second in 0..10 {
            let at = second * 1_000 + 1;
            guard.observe(EventRecord { kind: Kind::Slow99, ..failure(Arm::Canary, at, 10) }, 2);
            score = guard.look(&traffic(2 * second + 2, 0), TimestampMs(at + 5)).score;
        }
        score
    };
    assert!(slow(&mut begun(10)) < 2.0);
    let mut guard = Guard::new(GuardPolicy::default(), Traffic::default(), TimestampMs(0));
    let shares = SlowShares {
        slow50: Ppm::clamped(500_000),
        slow90: Ppm::clamped(100_000),
        slow99: Ppm::clamped(10_000),
        rough: false,
    };
    guard.step(Ppm::clamped(100_000), Some(shares), TimestampMs(0));
    assert!(slow(&mut guard) >= 100.0);
}

#[test]
fn with_all_traffic_a_canary_may_fail_as_the_primary_did() {
    let mut guard = begun(50);
    let mut both = ArmTotals { routed: 10_000, completed: 10_000, failed: 100 };
    guard.look(&Traffic { canary: both, primary: both, ..Traffic::default() }, TimestampMs(1_000));
    let primary = both;
    guard.step(Ppm::WHOLE, None, TimestampMs(2_000));
    for at in 0..100 {
        both = ArmTotals { routed: both.routed + 100, completed: both.completed + 100, failed: both.failed + 1 };
        guard.observe(EventRecord { share: Ppm::WHOLE, ..failure(Arm::Canary, 3_000 + at, 50) }, 1);
    }
    let standing = guard.look(&Traffic { canary: both, primary, ..Traffic::default() }, TimestampMs(4_000));
    assert!(standing.score < 5.0, "{standing:?}");
}

#[test]
fn capital_goes_on_after_a_stop() {
    let mut guard = begun(10);
    for at in 0..3 {
        guard.observe(failure(Arm::Canary, at, 10), 1);
    }
    let known = traffic(3, 3);
    let score = guard.look(&known, TimestampMs(10)).score;
    let capital = guard.capital(&known);
    let mut again =
        Guard::new(GuardPolicy::default(), Traffic::default(), TimestampMs(0)).resume(capital, TimestampMs(0));
    again.step(Ppm::clamped(100_000), None, TimestampMs(0));
    let resumed = again.look(&Traffic::default(), TimestampMs(0)).score;
    assert!((resumed - score).abs() < 0.5, "{score} {resumed}");
}

const SLOW: SlowShares = SlowShares {
    slow50: Ppm::clamped(500_000),
    slow90: Ppm::clamped(100_000),
    slow99: Ppm::clamped(10_000),
    rough: false,
};

/// The score after so many stretches with so many canary requests each at this share, of which so many were slower than the
/// primary's p50, p90, p99.
fn slow_score(share: u32, stretches: u64, requests: u64, slow: [u64; 3]) -> f64 {
    let mut guard = Guard::new(GuardPolicy::default(), Traffic::default(), TimestampMs(0));
    guard.step(Ppm::from_percent(share).unwrap(), Some(SLOW), TimestampMs(0));
    let mut score = 0.0;
    for stretch in 0..stretches {
        let at = 2_000 * stretch + 1;
        for (kind, times) in [Kind::Slow50, Kind::Slow90, Kind::Slow99].into_iter().zip(slow) {
            guard.observe(EventRecord { kind, ..failure(Arm::Canary, at, share) }, times);
        }
        score = guard.look(&traffic(requests * (stretch + 1), 0), TimestampMs(at + 1)).score;
    }
    score
}

#[test]
fn with_all_traffic_a_canary_that_is_slower_than_the_primary_was_is_not_to_blame() {
    assert!(slow_score(50, 5, 200, [180, 100, 30]) >= 100.0, "beside a primary it is");
    assert!(slow_score(100, 5, 200, [180, 100, 30]) < 5.0);
}

#[test]
fn with_all_traffic_a_canary_that_hangs_is_to_blame() {
    assert!(slow_score(100, 5, 4, [4, 4, 4]) >= 100.0);
}

#[test]
fn one_pause_is_not_to_blame_however_many_requests_it_met() {
    assert!(slow_score(10, 1, 500, [500, 500, 500]) < 5.0);
    assert!(slow_score(10, 2, 500, [500, 500, 500]) < 100.0);
    assert!(slow_score(10, 5, 500, [500, 500, 500]) >= 100.0, "again and again it is");
}
