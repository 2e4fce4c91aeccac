use serin_rollout::{EventRecord, TimestampMs};

use super::*;
use crate::clock;

mod laws;

const SECOND: u64 = 1_000_000;

/// A ledger and what the judge sees of it.
struct Seen {
    evidence: Arc<SplitEvidence>,
    records: Arc<Records>,
    ledger: Ledger,
}

impl Seen {
    fn new() -> Self {
        let evidence = Arc::new(SplitEvidence::new(1));
        let records = Arc::new(Records::new(1, Box::new(|| {})));
        let teller = Teller { records: Arc::clone(&records), worker: 0 };
        let ledger = Ledger::new(Arc::clone(&evidence), teller);
        Self { evidence, records, ledger }
    }

    /// With ages of 10, 20 and 50 ms.
    fn slow() -> Self {
        let seen = Self::new();
        seen.evidence.set_slow(Some([10_000, 20_000, 50_000]));
        seen
    }

    fn start(&mut self, drawn: Drawn, now_us: u64) -> Ticket {
        self.ledger.start(drawn, now_us).unwrap()
    }

    fn told(&self) -> Vec<(EventRecord, u64)> {
        let mut told = Vec::new();
        self.records.drain(&mut |evidence, record, times| {
            assert_eq!(evidence, self.evidence.id());
            told.push((record, times));
        });
        told
    }

    #[track_caller]
    fn check_told(&self, expected: &[(Arm, Kind, u64)]) {
        let told: Vec<_> = self.told().iter().map(|(record, times)| (record.arm, record.kind, *times)).collect();
        assert_eq!(told, expected);
    }

    /// Requests, completed, failed.
    #[track_caller]
    fn check_totals(&self, arm: Arm, expected: (u64, u64, u64)) {
        let traffic = self.evidence.traffic();
        let totals = if arm == Arm::Canary { traffic.canary } else { traffic.primary };
        assert_eq!((totals.routed, totals.completed, totals.failed), expected, "{arm:?}");
    }

    fn oldest(&self, arm: Arm) -> Option<TimestampMs> {
        let traffic = self.evidence.traffic();
        if arm == Arm::Canary { traffic.canary_open.oldest } else { traffic.primary_open.oldest }
    }

    fn overdue(&self, arm: Arm) -> Vec<(Ppm, u32)> {
        let traffic = self.evidence.traffic();
        if arm == Arm::Canary { traffic.canary_open.overdue } else { traffic.primary_open.overdue }
    }
}

fn drawn(arm: Arm) -> Drawn {
    Drawn { arm, redistributed: false, share: SHARE, session: None, randomised: true, streams: false }
}

const SHARE: Ppm = Ppm::from_percent(10).unwrap();
const CANARY: Arm = Arm::Canary;
const PRIMARY: Arm = Arm::Primary;

/// Walks everything: each entry is in exactly one list, lists are ordered and linked both ways, cursors lie in them.
#[track_caller]
fn check_whole(ledger: &Ledger) {
    let mut listed = vec![false; ledger.slab.len()];
    for (arm, list) in [CANARY, PRIMARY].into_iter().zip(&ledger.lists) {
        let (mut next, mut older, mut count, mut since_us) = (list.oldest, None, 0, 0);
        while let Some(at) = next {
            let entry = &ledger.slab[at as usize];
            assert!(!std::mem::replace(&mut listed[at as usize], true), "entry {at} is listed twice");
            assert_eq!((entry.place, entry.drawn.arm, entry.older), (Place::Listed, arm, older), "entry {at}");
            assert!(entry.routed_us >= since_us, "entry {at} is out of order");
            (older, next, since_us) = (Some(at), entry.newer, entry.routed_us);
            count += 1;
        }
        assert_eq!((list.newest, list.len), (older, count));
        assert!(list.cursors.iter().flatten().all(|at| ledger.slab[*at as usize].place == Place::Listed));
    }
    let (mut free, mut steps) = (ledger.free, 0);
    while let Some(at) = free {
        assert_eq!(ledger.slab[at as usize].place, Place::Apart, "a free entry is in use");
        free = ledger.slab[at as usize].newer;
        steps += 1;
        assert!(steps <= ledger.slab.len(), "the free entries are a circle");
    }
    let places = ledger.slab.iter().map(|entry| entry.place == Place::Listed);
    assert!(places.eq(listed), "an entry says it is listed and is not");
}

#[test]
fn the_oldest_is_the_one_that_was_routed_first_and_still_runs() {
    let mut seen = Seen::new();
    let [a, b, c] = [1, 2, 3].map(|s| seen.start(drawn(CANARY), s * SECOND));
    let check = |seen: &Seen, us: Option<u64>| {
        check_whole(&seen.ledger);
        assert_eq!(seen.oldest(CANARY), us.map(|us| TimestampMs(clock::steady_ms_of(us))));
    };
    seen.ledger.finish(b, Class::Success, None, 9 * SECOND);
    check(&seen, Some(SECOND));
    seen.ledger.finish(a, Class::Success, None, 9 * SECOND);
    check(&seen, Some(3 * SECOND));
    seen.ledger.finish(c, Class::Ignored, None, 9 * SECOND);
    check(&seen, None);
    // who went away before the end is no proof that it ends well
    seen.check_totals(CANARY, (3, 2, 0));
    assert_eq!(seen.evidence.abandoned(CANARY), 1);
    seen.check_told(&[]);
}

#[test]
fn a_clock_that_runs_backwards_stands_still() {
    let mut seen = Seen::new();
    let first = seen.start(drawn(PRIMARY), 5 * SECOND);
    let second = seen.start(drawn(PRIMARY), 3 * SECOND);
    check_whole(&seen.ledger);
    seen.ledger.finish(first, Class::Success, None, SECOND);
    assert_eq!(seen.oldest(PRIMARY), Some(TimestampMs(clock::steady_ms_of(5 * SECOND))));
    seen.ledger.finish(second, Class::Success, None, 0);
}

#[test]
fn a_failed_first_attempt_is_told_at_once_and_what_follows_is_not() {
    let mut seen = Seen::new();
    let ticket = seen.start(drawn(CANARY), SECOND);
    seen.ledger.fail(&ticket, None, SECOND + 5);
    seen.check_told(&[(CANARY, Kind::Failure, 1)]);
    seen.check_totals(CANARY, (1, 1, 1));
    assert_eq!(seen.oldest(CANARY), None);
    seen.ledger.fail(&ticket, None, SECOND + 6);
    seen.ledger.head(&ticket, SECOND + 7);
    seen.ledger.finish(ticket, Class::Failure, None, SECOND + 8);
    seen.check_told(&[]);
    seen.check_totals(CANARY, (1, 1, 1));
    check_whole(&seen.ledger);
}

#[test]
fn a_session_is_the_key_where_it_is_known_and_else_the_lost_connection() {
    let mut seen = Seen::new();
    for session in [None, Some(7)] {
        for lost in [None, Some(9)] {
            let ticket = seen.start(Drawn { session, ..drawn(PRIMARY) }, SECOND);
            seen.ledger.finish(ticket, Class::Failure, lost, SECOND);
        }
    }
    let keys: Vec<_> = seen.told().iter().map(|(record, _)| record.key).collect();
    let session = Some(Key::Session(7));
    assert_eq!(keys, [None, Some(Key::Connection(9)), session, session]);
}

#[test]
fn draws_of_an_arm_that_is_out_are_failures_of_one_key_until_it_serves_again() {
    let mut seen = Seen::new();
    let lost = Drawn { redistributed: true, session: Some(1), ..drawn(CANARY) };
    let keys = |seen: &mut Seen| -> Vec<_> {
        for _ in 0..3 {
            let ticket = seen.start(lost, SECOND);
            assert_eq!(seen.ledger.serving(&ticket), PRIMARY);
            seen.ledger.head(&ticket, 2 * SECOND);
            seen.ledger.finish(ticket, Class::Success, None, 2 * SECOND);
        }
        seen.told().iter().map(|(record, _)| (record.arm, record.kind, record.key)).collect()
    };
    let first = keys(&mut seen);
    assert!(matches!(first[0], (CANARY, Kind::Failure, Some(Key::Connection(_)))), "{first:?}");
    assert_eq!(first, vec![first[0]; 3]);
    assert_eq!(keys(&mut seen), first);
    seen.ledger.served(CANARY);
    assert_ne!(keys(&mut seen)[0], first[0]);
    seen.check_totals(CANARY, (9, 9, 9));
    seen.check_totals(PRIMARY, (0, 0, 0));
    assert_eq!(seen.evidence.heads(PRIMARY).count() + seen.evidence.heads(CANARY).count(), 0);
}

#[test]
fn slow_is_an_age_and_is_told_by_the_tick_that_comes_first() {
    let mut seen = Seen::slow();
    let tickets: Vec<_> = (0..3).map(|_| seen.start(drawn(CANARY), SECOND)).collect();
    assert!(seen.ledger.tick(SECOND + 10_000));
    seen.check_told(&[]);
    seen.ledger.tick(SECOND + 10_001);
    seen.check_told(&[(CANARY, Kind::Slow50, 3)]);
    seen.ledger.tick(SECOND + 10_001);
    seen.check_told(&[]);
    assert_eq!(seen.overdue(CANARY), []);
    assert!(!seen.ledger.tick(SECOND + 60_000));
    seen.check_told(&[(CANARY, Kind::Slow90, 3), (CANARY, Kind::Slow99, 3)]);
    assert_eq!((seen.overdue(CANARY), seen.oldest(CANARY)), (vec![(SHARE, 3)], None));
    for (ticket, left) in tickets.into_iter().zip([2, 1, 0]) {
        seen.ledger.finish(ticket, Class::Failure, None, 9 * SECOND);
        assert_eq!(seen.overdue(CANARY).iter().map(|(_, count)| *count).sum::<u32>(), left);
        seen.check_told(&[(CANARY, Kind::Failure, 1)]);
    }
    check_whole(&seen.ledger);
}

/// What a request tells that waits this long between two ticks and then ends like this.
#[track_caller]
fn check_passed(end: impl Fn(&mut Ledger, Ticket, u64), us: u64, kinds: &[Kind]) {
    let mut seen = Seen::slow();
    let ticket = seen.start(drawn(PRIMARY), SECOND);
    end(&mut seen.ledger, ticket, SECOND + us);
    seen.check_told(&kinds.iter().map(|kind| (PRIMARY, *kind, 1)).collect::<Vec<_>>());
}

#[test]
fn a_head_between_two_ticks_tells_exactly_what_it_passed() {
    let head = |ledger: &mut Ledger, ticket: Ticket, now_us| {
        ledger.head(&ticket, now_us);
        ledger.head(&ticket, now_us + SECOND);
        ledger.finish(ticket, Class::Success, None, now_us + 2 * SECOND);
    };
    check_passed(head, 10_000, &[]);
    check_passed(head, 10_001, &[Kind::Slow50]);
    check_passed(head, 50_000, &[Kind::Slow50, Kind::Slow90]);
    check_passed(head, 50_001, &[Kind::Slow50, Kind::Slow90, Kind::Slow99]);
}

#[test]
fn an_abort_tells_its_age_and_nothing_else() {
    let abort = |ledger: &mut Ledger, ticket: Ticket, now_us| ledger.finish(ticket, Class::Ignored, None, now_us);
    check_passed(abort, 9_000, &[]);
    check_passed(abort, 60_000, &[Kind::Slow50, Kind::Slow90, Kind::Slow99]);
}

#[test]
fn an_error_after_a_long_wait_tells_age_and_failure() {
    let fail = |ledger: &mut Ledger, ticket: Ticket, now_us| ledger.finish(ticket, Class::Failure, None, now_us);
    check_passed(fail, 15_000, &[Kind::Slow50, Kind::Failure]);
}

#[test]
fn what_is_still_being_sent_says_nothing_of_its_age() {
    let mut seen = Seen::slow();
    let stream = seen.start(Drawn { streams: true, ..drawn(CANARY) }, SECOND);
    let call = seen.start(Drawn { streams: true, ..drawn(CANARY) }, SECOND);
    seen.ledger.sent(&call, SECOND + 11_000);
    assert!(!seen.ledger.tick(SECOND + 60_000));
    // the call was sent after its p50 and before its p90
    seen.check_told(&[(CANARY, Kind::Slow90, 1), (CANARY, Kind::Slow99, 1)]);
    assert_eq!((seen.overdue(CANARY), seen.oldest(CANARY)), (vec![(SHARE, 1)], None));
    seen.ledger.finish(stream, Class::Failure, None, 90 * SECOND);
    seen.ledger.finish(call, Class::Success, None, 90 * SECOND);
    seen.check_told(&[(CANARY, Kind::Failure, 1)]);
    assert_eq!(seen.evidence.heads(CANARY).count(), 1);
    check_whole(&seen.ledger);
}

#[test]
fn a_long_answer_holds_nothing_back_once_it_is_older_than_the_slowest_heads() {
    let mut seen = Seen::slow();
    let ticket = seen.start(drawn(PRIMARY), SECOND);
    seen.ledger.head(&ticket, SECOND + 1_000);
    seen.ledger.tick(SECOND + 50_000);
    assert!(seen.oldest(PRIMARY).is_some());
    seen.ledger.tick(SECOND + 50_001);
    assert_eq!((seen.oldest(PRIMARY), seen.overdue(PRIMARY)), (None, vec![]));
    seen.ledger.finish(ticket, Class::Failure, None, 90 * SECOND);
    seen.check_told(&[(PRIMARY, Kind::Failure, 1)]);
    seen.check_totals(PRIMARY, (1, 1, 1));
}

#[test]
fn an_overdue_request_is_settled_by_its_head() {
    let mut seen = Seen::slow();
    let ticket = seen.start(drawn(PRIMARY), SECOND);
    seen.ledger.tick(2 * SECOND);
    assert_eq!(seen.overdue(PRIMARY), [(SHARE, 1)]);
    seen.ledger.head(&ticket, 3 * SECOND);
    assert_eq!((seen.overdue(PRIMARY), seen.oldest(PRIMARY)), (vec![], None));
    seen.ledger.finish(ticket, Class::Success, None, 4 * SECOND);
    assert_eq!(seen.evidence.heads(PRIMARY).quantile(1.0).map(|us| us >= 2 * SECOND), Some(true));
}

#[test]
fn without_ages_only_what_waits_very_long_is_overdue() {
    let mut seen = Seen::new();
    let (silent, answered) = (seen.start(drawn(PRIMARY), SECOND), seen.start(drawn(PRIMARY), SECOND));
    seen.ledger.head(&answered, SECOND);
    assert!(seen.ledger.tick(SECOND + SETTLED_US + 1));
    assert_eq!(seen.ledger.lists[PRIMARY as usize].len, 1);
    assert!(seen.ledger.tick(SECOND + OVERDUE_US));
    assert_eq!(seen.overdue(PRIMARY), []);
    assert!(!seen.ledger.tick(SECOND + OVERDUE_US + 1));
    assert_eq!(seen.overdue(PRIMARY), [(SHARE, 1)]);
    seen.check_told(&[]);
    seen.ledger.finish(silent, Class::Failure, None, 90 * SECOND);
    seen.ledger.finish(answered, Class::Success, None, 90 * SECOND);
}

#[test]
fn requests_routed_under_other_ages_say_nothing_of_theirs() {
    let mut seen = Seen::slow();
    let before = seen.start(drawn(CANARY), SECOND);
    seen.evidence.set_slow(Some([1_000, 2_000, 3_000]));
    let after = seen.start(drawn(CANARY), SECOND);
    seen.ledger.tick(SECOND + 2_500);
    seen.check_told(&[(CANARY, Kind::Slow50, 1), (CANARY, Kind::Slow90, 1)]);
    // both are overdue all the same
    seen.ledger.tick(2 * SECOND);
    assert_eq!(seen.overdue(CANARY), [(SHARE, 2)]);
    seen.evidence.set_slow(None);
    seen.ledger.finish(before, Class::Success, None, 3 * SECOND);
    seen.ledger.finish(after, Class::Success, None, 3 * SECOND);
    seen.check_told(&[(CANARY, Kind::Slow99, 1)]);
}

#[test]
fn events_of_users_are_told_one_by_one_and_those_of_nobody_together() {
    let mut seen = Seen::slow();
    let other = Ppm::from_percent(20).unwrap();
    let draws = [
        drawn(CANARY),
        drawn(CANARY),
        Drawn { session: Some(1), ..drawn(CANARY) },
        Drawn { session: Some(1), ..drawn(CANARY) },
        Drawn { share: other, ..drawn(CANARY) },
        Drawn { share: other, randomised: false, ..drawn(CANARY) },
    ];
    let tickets = draws.map(|drawn| seen.start(drawn, SECOND));
    seen.ledger.tick(SECOND + 15_000);
    let told: Vec<_> = seen.told().iter().map(|(record, times)| (record.key, record.share, *times)).collect();
    let session = Some(Key::Session(1));
    let expected = [(None, SHARE, 2), (session, SHARE, 1), (session, SHARE, 1), (None, other, 1), (None, other, 1)];
    assert_eq!(told, expected);
    tickets.into_iter().for_each(|ticket| seen.ledger.finish(ticket, Class::Success, None, SECOND + 15_000));
}

#[test]
fn a_request_that_moves_to_the_other_arm_says_nothing_more() {
    let mut seen = Seen::slow();
    for failed in [false, true] {
        let ticket = seen.start(drawn(CANARY), SECOND);
        if failed {
            seen.ledger.fail(&ticket, None, SECOND);
        }
        seen.ledger.moved(&ticket);
        assert_eq!(seen.ledger.serving(&ticket), PRIMARY);
        seen.ledger.head(&ticket, 2 * SECOND);
        seen.ledger.finish(ticket, Class::Failure, None, 3 * SECOND);
        seen.check_told(if failed { &[(CANARY, Kind::Failure, 1)] } else { &[] });
    }
    seen.check_totals(CANARY, (2, 1, 1));
    check_whole(&seen.ledger);
}

#[test]
fn a_request_too_many_is_not_counted() {
    let mut seen = Seen::slow();
    let tickets: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| seen.start(drawn(PRIMARY), SECOND)).collect();
    assert_eq!(seen.ledger.start(drawn(PRIMARY), SECOND), None);
    seen.check_totals(PRIMARY, (IN_FLIGHT_MAX as u64, 0, 0));
    // a tick passes over all of them once, and then over none
    seen.ledger.tick(2 * SECOND);
    seen.check_told(&[
        (PRIMARY, Kind::Slow50, IN_FLIGHT_MAX as u64),
        (PRIMARY, Kind::Slow90, IN_FLIGHT_MAX as u64),
        (PRIMARY, Kind::Slow99, IN_FLIGHT_MAX as u64),
    ]);
    assert_eq!(seen.overdue(PRIMARY), [(SHARE, IN_FLIGHT_MAX as u32)]);
    tickets.into_iter().for_each(|ticket| seen.ledger.finish(ticket, Class::Success, None, 2 * SECOND));
    check_whole(&seen.ledger);
    assert!(seen.ledger.start(drawn(PRIMARY), SECOND).is_some());
}

#[test]
fn time_to_connect_is_no_answer_time() {
    let mut seen = Seen::slow();
    let quick = seen.start(drawn(CANARY), SECOND);
    let hung = seen.start(drawn(CANARY), SECOND);
    for ticket in [&quick, &hung] {
        seen.ledger.dialling(ticket);
    }
    seen.ledger.tick(SECOND + 60_000);
    seen.check_told(&[]);
    for ticket in [&quick, &hung] {
        seen.ledger.dialled(ticket, SECOND + 70_000);
    }
    check_whole(&seen.ledger);
    assert_eq!(seen.oldest(CANARY), Some(TimestampMs(clock::steady_ms_of(SECOND + 70_000))));
    seen.ledger.head(&quick, SECOND + 72_000);
    seen.check_told(&[]);
    // whoever does not answer on its new connection is as late as on an old one
    seen.ledger.tick(SECOND + 140_000);
    seen.check_told(&[(CANARY, Kind::Slow50, 1), (CANARY, Kind::Slow90, 1), (CANARY, Kind::Slow99, 1)]);
    seen.ledger.finish(quick, Class::Success, None, SECOND + 150_000);
    seen.ledger.finish(hung, Class::Ignored, None, SECOND + 150_000);
    seen.check_told(&[]);
    check_whole(&seen.ledger);
}
