use serin_metrics::Class;

use super::*;

#[test]
fn tallies_of_all_workers_add_up() {
    let evidence = SplitEvidence::new(3);
    for worker in 0..3 {
        let tally = evidence.tally(worker);
        tally.routed(Arm::Canary, 5_000 + worker as u64 * 1_000);
        tally.routed(Arm::Primary, u64::MAX);
        tally.completed(Arm::Primary);
        tally.failed(Arm::Primary);
    }
    let traffic = evidence.traffic();
    assert_eq!(traffic.canary, ArmTotals { routed: 3, completed: 0, failed: 0 });
    assert_eq!(traffic.primary, ArmTotals { routed: 3, completed: 3, failed: 3 });
    assert_eq!(traffic.canary_open.oldest, Some(TimestampMs(clock::steady_ms_of(5_000))));
    assert_eq!(traffic.primary_open, Open::default());
}

#[test]
fn ages_are_versioned_and_the_same_ages_change_nothing() {
    let evidence = SplitEvidence::new(1);
    evidence.set_slow(None);
    assert_eq!(evidence.slow_version(), 0);
    evidence.set_slow(Some([1, 2, 3]));
    evidence.set_slow(Some([1, 2, 3]));
    assert_eq!(evidence.slow(), Slow { version: 1, ages_us: Some([1, 2, 3]) });
    assert_eq!(evidence.slow_version(), 1);
}

#[test]
fn a_share_too_many_stays_open() {
    let evidence = SplitEvidence::new(2);
    let share = |ppm: usize| Ppm::clamped(ppm as i64);
    let max = serin_rollout::OVERDUE_SHARES_MAX;
    for ppm in 0..max {
        assert_eq!(evidence.tally(0).add_overdue(Arm::Primary, share(ppm), 7_000 + ppm as u64), Ok(()));
    }
    assert_eq!(evidence.tally(0).add_overdue(Arm::Primary, share(max), 1), Err(Unlisted));
    assert_eq!(evidence.traffic().primary_open.oldest, None);
    // another worker has room for it, but no reader has
    assert_eq!(evidence.tally(1).add_overdue(Arm::Primary, share(max), 9_000_000), Ok(()));
    let open = evidence.traffic().primary_open;
    assert_eq!(open.overdue.len(), max);
    assert_eq!(open.oldest, Some(TimestampMs(clock::steady_ms_of(9_000_000))));
    // a place that is free again is used again
    evidence.tally(0).remove_overdue(Arm::Primary, share(3));
    assert_eq!(evidence.tally(0).add_overdue(Arm::Primary, share(max), 1), Ok(()));
    assert_eq!(evidence.traffic().primary_open.overdue_total(), max as u64 + 1);
}

#[test]
fn copies_are_counted_apart_and_add_up() {
    let evidence = SplitEvidence::new(2);
    let before = evidence.mirrored();
    for worker in 0..2 {
        let copies = evidence.tally(worker).copies();
        copies.head(1_000);
        [Class::Success, Class::Failure, Class::Ignored].into_iter().for_each(|class| copies.ended(class));
    }
    let since = evidence.mirrored().since(&before);
    assert_eq!((since.success, since.failure, since.heads.count()), (2, 2, 2));
    assert_eq!(evidence.traffic(), SplitEvidence::new(1).traffic());
    assert_eq!(evidence.heads(Arm::Canary).count(), 0);
}
