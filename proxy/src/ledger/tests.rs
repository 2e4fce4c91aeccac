use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Walks everything: each entry is in exactly one list, lists are ordered and linked both ways.
#[track_caller]
fn check_whole(ledger: &Ledger) {
    let mut seen = vec![false; ledger.slab.len()];
    let mut visit = |at: u32| assert!(!std::mem::replace(&mut seen[at as usize], true), "entry {at} is listed twice");
    for arm in &ledger.arms {
        let (mut next, mut older, mut count, mut since_us) = (arm.oldest, None, 0, 0);
        while let Some(at) = next {
            visit(at);
            let entry = &ledger.slab[at as usize];
            assert_eq!(entry.older, older, "entry {at} does not know who is older");
            assert!(entry.running.started_us >= since_us, "entry {at} is out of order");
            (older, next, since_us) = (Some(at), entry.newer, entry.running.started_us);
            count += 1;
        }
        assert_eq!((arm.newest, arm.listed), (older, count));
    }
    let mut free = ledger.free;
    while let Some(at) = free {
        visit(at);
        free = ledger.slab[at as usize].newer;
    }
    assert!(seen.iter().all(|&seen| seen), "an entry is neither in flight nor free");
}

#[track_caller]
fn check_running(ledger: &Ledger, arm: usize, started_us: &[u64]) {
    check_whole(ledger);
    assert_eq!(ledger.running(arm).map(|running| running.started_us).collect::<Vec<_>>(), started_us);
    assert_eq!((ledger.oldest(arm), ledger.in_flight(arm)), (started_us.first().copied(), started_us.len()));
}

#[track_caller]
fn check_totals(ledger: &Ledger, arm: usize, by_epoch: &[(u64, u64, u64)]) {
    let counted: Vec<_> = ledger.totals(arm).map(|(epoch, t)| (epoch, t.started, t.ended())).collect();
    assert_eq!(counted, by_epoch, "(epoch, started, ended)");
}

#[test]
fn oldest_is_the_one_that_started_first_and_still_runs() {
    let mut ledger = Ledger::new(2);
    let [a, b, c] = [1, 2, 3].map(|now_us| ledger.start(1, 0, now_us));
    check_running(&ledger, 1, &[1, 2, 3]);
    ledger.finish(b, Class::Success, 9);
    check_running(&ledger, 1, &[1, 3]);
    ledger.finish(a, Class::Success, 9);
    check_running(&ledger, 1, &[3]);
    ledger.finish(c, Class::Success, 9);
    check_running(&ledger, 1, &[]);
    check_running(&ledger, 0, &[]);
}

#[test]
fn outcome_counts_in_the_epoch_of_the_draw() {
    let mut ledger = Ledger::new(1);
    let early = ledger.start(0, 1, 0);
    let late = ledger.start(0, 2, 10);
    ledger.finish(late, Class::Failure, 15);
    ledger.finish(early, Class::Ignored, 30);
    let totals: Vec<_> = ledger.totals(0).collect();
    let one = Totals { started: 1, ..Totals::default() };
    assert_eq!(
        totals,
        [(1, Totals { ignored: 1, elapsed_us: 30, ..one }), (2, Totals { failure: 1, elapsed_us: 5, ..one })]
    );
}

#[test]
fn ninth_epoch_folds_the_oldest() {
    let mut ledger = Ledger::new(1);
    let first = ledger.start(0, 1, 0);
    let rest: Vec<_> = (2..=EPOCHS_MAX as u64).map(|epoch| ledger.start(0, epoch, epoch)).collect();
    assert_eq!((ledger.totals(0).count(), ledger.before(0)), (EPOCHS_MAX, Totals::default()));
    let ninth = ledger.start(0, 9, 9);
    assert_eq!((ledger.totals(0).count(), ledger.before(0).started), (EPOCHS_MAX, 1));
    ledger.finish(first, Class::Success, 20);
    assert_eq!((ledger.before(0).success, ledger.before(0).elapsed_us), (1, 20));
    rest.into_iter().chain([ninth]).for_each(|ticket| ledger.finish(ticket, Class::Success, 20));
    check_totals(&ledger, 0, &(2..=9).map(|epoch| (epoch, 1, 1)).collect::<Vec<_>>());
}

#[test]
fn draw_under_older_weights_finds_its_epoch_or_counts_among_those_before() {
    let mut ledger = Ledger::new(1);
    let tickets = [ledger.start(0, 5, 0), ledger.start(0, 7, 0), ledger.start(0, 5, 0), ledger.start(0, 6, 0)];
    check_totals(&ledger, 0, &[(5, 2, 0), (7, 1, 0)]);
    assert_eq!(ledger.before(0).started, 1);
    tickets.into_iter().for_each(|ticket| ledger.finish(ticket, Class::Success, 0));
}

#[test]
fn clock_that_runs_backwards_keeps_the_order() {
    let mut ledger = Ledger::new(1);
    let tickets = [ledger.start(0, 0, 10), ledger.start(0, 0, 4)];
    check_running(&ledger, 0, &[10, 10]);
    tickets.into_iter().for_each(|ticket| ledger.finish(ticket, Class::Success, 3));
    assert_eq!(ledger.totals(0).next().unwrap().1.elapsed_us, 0);
}

#[test]
fn all_arms_are_kept_apart() {
    let mut ledger = Ledger::new(ARMS_MAX);
    let tickets: Vec<_> = (0..ARMS_MAX).map(|arm| ledger.start(arm, 0, arm as u64)).collect();
    (0..ARMS_MAX).for_each(|arm| check_running(&ledger, arm, &[arm as u64]));
    tickets.into_iter().for_each(|ticket| ledger.finish(ticket, Class::Success, 100));
    assert_eq!((ledger.arms(), ledger.oldest(ARMS_MAX), ledger.before(ARMS_MAX)), (ARMS_MAX, None, Totals::default()));
}

#[test]
fn arms_beyond_the_limit_share_the_last_place() {
    let mut ledger = Ledger::new(ARMS_MAX + 1);
    let tickets = [ledger.start(ARMS_MAX - 1, 0, 1), ledger.start(ARMS_MAX, 0, 2)];
    check_running(&ledger, ARMS_MAX - 1, &[1, 2]);
    tickets.into_iter().for_each(|ticket| ledger.finish(ticket, Class::Success, 3));
    assert_eq!((ledger.arms(), Ledger::new(0).arms()), (ARMS_MAX, 1));
}

#[test]
fn one_request_too_many_is_counted_but_not_listed() {
    let mut ledger = Ledger::new(1);
    let mut tickets: Vec<_> = (0..IN_FLIGHT_MAX).map(|step| ledger.start(0, 0, step as u64)).collect();
    assert_eq!((ledger.in_flight(0), ledger.unlisted()), (IN_FLIGHT_MAX, 0));
    let beyond = ledger.start(0, 0, 1 << 20);
    assert_eq!((ledger.in_flight(0), ledger.unlisted()), (IN_FLIGHT_MAX, 1));
    ledger.finish(tickets.swap_remove(0), Class::Success, 1 << 20);
    let listed = ledger.start(0, 0, 1 << 20);
    assert_eq!((ledger.in_flight(0), ledger.unlisted()), (IN_FLIGHT_MAX, 1));
    tickets.into_iter().chain([beyond, listed]).for_each(|ticket| ledger.finish(ticket, Class::Failure, 1 << 20));
    assert_eq!((ledger.in_flight(0), ledger.unlisted()), (0, 0));
    check_totals(&ledger, 0, &[(0, IN_FLIGHT_MAX as u64 + 2, IN_FLIGHT_MAX as u64 + 2)]);
    check_whole(&ledger);
}

#[test]
fn memory_stays_at_the_most_requests_in_flight() {
    let mut ledger = Ledger::new(2);
    for round in 0..1_000 {
        let tickets = [0, 1, 0].map(|arm| ledger.start(arm, round / 100, round));
        tickets.into_iter().for_each(|ticket| ledger.finish(ticket, Class::Success, round));
    }
    assert_eq!((ledger.slab.len(), ledger.epochs.capacity()), (3, EPOCHS_MAX));
}

/// The same book, kept without any cleverness.
#[derive(Default)]
struct Naive {
    running: Vec<(usize, u64, u64)>,            // arm, epoch, started_us; in start order
    totals: BTreeMap<(usize, u64), (u64, u64)>, // started, ended
    epochs: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Event {
    Start { arm: usize, epoch_step: u64, epoch_back: u64 },
    Finish { which: usize, class: u8 },
}

fn arb_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..ARMS, prop_oneof![8 => Just(0_u64), 1 => 1_u64..3], prop_oneof![9 => Just(0_u64), 1 => 1_u64..12])
            .prop_map(|(arm, epoch_step, epoch_back)| Event::Start { arm, epoch_step, epoch_back }),
        (any::<usize>(), 0_u8..3).prop_map(|(which, class)| Event::Finish { which, class }),
    ]
}

const ARMS: usize = 3;

proptest! {
    #[test]
    fn ledger_agrees_with_a_naive_book(events in proptest::collection::vec((arb_event(), 0_u64..5), 0..300)) {
        let (mut ledger, mut naive) = (Ledger::new(ARMS), Naive::default());
        let (mut tickets, mut newest, mut now_us) = (Vec::new(), 20_u64, 0);
        for (event, passed_us) in events {
            now_us += passed_us;
            match event {
                Event::Start { arm, epoch_step, epoch_back } => {
                    newest += epoch_step;
                    let epoch = newest - epoch_back.min(newest);
                    if naive.epochs.last().is_none_or(|&last| last < epoch) {
                        naive.epochs.push(epoch);
                    }
                    tickets.push((ledger.start(arm, epoch, now_us), (arm, epoch, now_us)));
                    naive.running.push((arm, epoch, now_us));
                    naive.totals.entry((arm, epoch)).or_default().0 += 1;
                }
                Event::Finish { .. } if tickets.is_empty() => {}
                Event::Finish { which, class } => {
                    let (ticket, key) = tickets.remove(which % tickets.len());
                    ledger.finish(ticket, [Class::Failure, Class::Ignored, Class::Success][usize::from(class)], now_us);
                    let at = naive.running.iter().position(|running| *running == key).unwrap();
                    naive.running.remove(at);
                    naive.totals.entry((key.0, key.1)).or_default().1 += 1;
                }
            }
            check_whole(&ledger);
        }
        for arm in 0..ARMS {
            let running: Vec<_> = ledger.running(arm).map(|running| running.started_us).collect();
            let expected: Vec<_> = naive.running.iter().filter(|r| r.0 == arm).map(|r| r.2).collect();
            prop_assert_eq!(running, expected);
            let kept = &naive.epochs[naive.epochs.len().saturating_sub(EPOCHS_MAX)..];
            let sum = |of: fn(&(u64, u64)) -> u64, within: &dyn Fn(u64) -> bool| -> u64 {
                naive.totals.iter().filter(|((a, epoch), _)| *a == arm && within(*epoch)).map(|(_, t)| of(t)).sum()
            };
            for (epoch, totals) in ledger.totals(arm) {
                // What ended or began while the epoch was not yet, or no longer, kept apart went to those before.
                prop_assert!(kept.contains(&epoch));
                prop_assert!(totals.started <= sum(|t| t.0, &|e| e == epoch));
            }
            let all = ledger.totals(arm).fold(ledger.before(arm), |mut sum, (_, totals)| { sum.add(totals); sum });
            prop_assert_eq!(all.started, sum(|t| t.0, &|_| true));
            prop_assert_eq!(all.ended(), sum(|t| t.1, &|_| true));
        }
    }
}
