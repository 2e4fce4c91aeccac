use std::sync::Arc;

use serin_metrics::Class;

use super::*;
use crate::ledger::{Drawn, Ledger, Teller};

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

/// Two workers write as fast as they can while a judge reads: no reading shows more failures than ends or more ends than
/// starts, nothing falls, and in the end everything has been told.
#[test]
fn tallies_are_read_while_they_are_written() {
    const EACH: u64 = 50_000;
    let evidence = Arc::new(SplitEvidence::new(2));
    let records = Arc::new(Records::new(2, Box::new(|| {})));
    let writers = [0, 1].map(|worker| {
        let teller = Teller { records: Arc::clone(&records), worker };
        let evidence = Arc::clone(&evidence);
        std::thread::spawn(move || write(Ledger::new(evidence, teller), EACH))
    });
    let (mut told, mut before) = (0, ArmTotals::default());
    let mut read = || {
        let traffic = evidence.traffic();
        records.drain(&mut |id, record, times| {
            assert_eq!((id, record.arm), (evidence.id(), Arm::Primary));
            told += times;
        });
        let ArmTotals { routed, completed, failed } = traffic.primary;
        assert!(failed <= completed && completed <= routed, "{traffic:?}");
        assert!(failed <= told + records.dropped(), "an end is counted before its event is told: {traffic:?}");
        assert!(routed >= before.routed && completed >= before.completed && failed >= before.failed, "{traffic:?}");
        before = traffic.primary;
    };
    while !writers.iter().all(|writer| writer.is_finished()) {
        read();
    }
    read();
    assert!(writers.into_iter().all(|writer| writer.join().is_ok()));
    assert_eq!(before, ArmTotals { routed: 2 * EACH, completed: 2 * EACH, failed: EACH });
    assert_eq!(told + records.dropped(), EACH);
    assert_eq!(evidence.traffic().primary_open, Open::default());
}

/// Every second request fails; a few are open at any time.
fn write(mut ledger: Ledger, requests: u64) {
    let drawn = Drawn {
        arm: Arm::Primary,
        redistributed: false,
        share: Ppm::ZERO,
        session: None,
        randomised: true,
        streams: false,
    };
    let mut open = std::collections::VecDeque::new();
    for at in 0..requests {
        open.push_back(ledger.start(drawn, at).unwrap());
        if open.len() > 8 {
            let class = if at % 2 == 0 { Class::Failure } else { Class::Success };
            ledger.finish(open.pop_front().unwrap(), class, None, at);
        }
    }
    for (at, ticket) in open.into_iter().enumerate() {
        let class = if at % 2 == 0 { Class::Failure } else { Class::Success };
        ledger.finish(ticket, class, None, requests);
    }
}
