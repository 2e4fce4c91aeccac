use super::*;
use crate::{Kind, Ppm};

fn record(arm: Arm, routed_ms: u64, key: Option<u64>) -> EventRecord {
    EventRecord {
        arm,
        share: Ppm::clamped(100_000),
        routed_at: TimestampMs(routed_ms),
        kind: Kind::Failure,
        key: key.map(Key::Session),
        randomised: true,
    }
}

/// Events that come out when the oldest open request of the primary is that old.
#[track_caller]
fn check_released(docket: &mut Docket, oldest_open: Option<u64>, starts: u32, expected: &[(u64, u32)]) {
    let mut seen = Vec::new();
    docket.release(oldest_open.map(TimestampMs), starts, |counted| {
        seen.push((counted.record.routed_at.0, counted.since))
    });
    assert_eq!(seen, expected);
}

#[test]
fn a_canary_failure_waits_for_older_open_requests_of_the_primary() {
    let mut docket = Docket::new(Arm::Canary);
    for routed_ms in [30, 10, 20] {
        assert_eq!(docket.take(record(Arm::Canary, routed_ms, None), 1), None);
    }
    check_released(&mut docket, Some(5), 1, &[]);
    check_released(&mut docket, Some(20), 1, &[(10, 0)]);
    assert!(docket.is_waiting());
    check_released(&mut docket, None, 1, &[(20, 0), (30, 0)]);
    assert!(!docket.is_waiting());
}

#[test]
fn a_failure_of_the_primary_counts_at_once() {
    assert!(Docket::new(Arm::Canary).take(record(Arm::Primary, 10, None), 1).is_some());
    assert!(Docket::new(Arm::Primary).take(record(Arm::Primary, 10, None), 1).is_none());
}

#[test]
fn an_age_does_not_wait() {
    let slow = EventRecord { kind: Kind::Slow99, ..record(Arm::Canary, 10, None) };
    assert!(Docket::new(Arm::Canary).take(slow, 1).is_some());
}

#[test]
fn a_key_counts_once_in_each_start_first_across_both_arms() {
    let mut docket = Docket::new(Arm::Canary);
    assert_eq!(docket.take(record(Arm::Primary, 1, Some(7)), 1).map(|c| c.since), Some(0));
    let _waits = docket.take(record(Arm::Canary, 2, Some(7)), 1);
    check_released(&mut docket, None, 1, &[]);
    // A new start has not seen it: there it counts, and in no older one.
    let _waits = docket.take(record(Arm::Canary, 3, Some(7)), 2);
    check_released(&mut docket, None, 2, &[(3, 1)]);
    assert_eq!(docket.take(record(Arm::Primary, 4, Some(7)), 2), None);
}

#[test]
fn testers_do_not_use_up_a_key() {
    let mut docket = Docket::new(Arm::Canary);
    let tester = EventRecord { randomised: false, ..record(Arm::Canary, 1, Some(7)) };
    let _waits = docket.take(tester, 1);
    let _waits = docket.take(record(Arm::Canary, 2, Some(7)), 1);
    check_released(&mut docket, None, 1, &[(1, 0), (2, 0)]);
}

#[test]
fn events_that_wait_have_a_limit() {
    let mut docket = Docket::new(Arm::Canary);
    for at in 0..=PENDING_MAX as u64 {
        let _waits = docket.take(record(Arm::Canary, at, None), 1);
        assert_eq!(docket.dropped(), u64::from(at == PENDING_MAX as u64));
    }
    let mut released = 0;
    docket.release(None, 1, |_| released += 1);
    assert_eq!(released, PENDING_MAX);
}

#[test]
fn a_key_too_many_excuses_the_accused_and_counts_the_other() {
    let mut docket = Docket::new(Arm::Canary);
    for key in 0..KEYS_MAX as u64 {
        assert!(docket.take(record(Arm::Primary, key, Some(key)), 1).is_some());
    }
    assert_eq!(docket.dropped(), 0);
    let _waits = docket.take(record(Arm::Canary, 1, Some(KEYS_MAX as u64)), 1);
    check_released(&mut docket, None, 1, &[]);
    assert_eq!(docket.dropped(), 1);
    assert!(docket.take(record(Arm::Primary, 1, Some(KEYS_MAX as u64)), 1).is_some());
    assert_eq!(docket.keys.len(), KEYS_MAX);
}
