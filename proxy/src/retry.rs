//! Whether a failed attempt may be made again: the rule, and the budget that keeps retries from becoming the load.

use std::time::Duration;

use http::Method;
use serin_config::model::{RetryBackoff, RetryBudget};

/// Retries of one request; its first attempt not counted.
pub const RETRIES_MAX: u8 = 2;
/// Attempts after the first one of a request whose answers failed. Linkerd asks the budget alone, so that one request
/// may be sent a hundred times to a service that is down.
pub const ANSWER_RETRIES_MAX: u8 = 5;

/// What the failure of an attempt says about sending the request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// For certain no octet of it reached the application: not connected, refused stream, goaway below its id.
    Always,
    /// No octet of an answer came. On a connection that had served before, this is most likely the upstream closing it
    /// as idle; on a fresh one it may have been the request itself.
    IfConnectionWasReused,
    /// It may have had an effect, or part of the answer has been passed on.
    Never,
}

/// What is known of the request and of the attempt that failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Of the request.
    pub method: &'a Method,
    /// The whole body can be sent again: there is none, or all that was taken of it is still held.
    pub body_replayable: bool,
    /// The connection had carried another exchange before.
    pub connection_reused: bool,
    /// Retries made for this request already.
    pub retries: u8,
}

/// Why there is no other attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoReplay {
    /// Part of the body is gone.
    BodyGone,
    /// A fresh connection failed: the request may be the reason.
    ConnectionFresh,
    /// The failure forbids it.
    Forbidden,
    /// Doing it twice may differ from doing it once.
    NotIdempotent,
    /// [`RETRIES_MAX`] are used up.
    RetriesSpent,
}

/// The rule. Where it allows a retry the caller still asks the deadline and the [`Budget`].
///
/// | failure says | body held | idempotent | reused connection | replay |
/// |---|---|---|---|---|
/// | `Always` | yes | any | any | yes |
/// | `IfConnectionWasReused` | yes | yes | yes | yes |
/// | anything else | | | | no |
pub fn may_replay(replay: Replay, attempt: &Attempt<'_>) -> Result<(), NoReplay> {
    if replay == Replay::Never {
        return Err(NoReplay::Forbidden);
    }
    if attempt.retries >= RETRIES_MAX {
        return Err(NoReplay::RetriesSpent);
    }
    if !attempt.body_replayable {
        return Err(NoReplay::BodyGone);
    }
    match replay {
        Replay::Always => Ok(()),
        Replay::IfConnectionWasReused if !attempt.connection_reused => Err(NoReplay::ConnectionFresh),
        Replay::IfConnectionWasReused if !attempt.method.is_idempotent() => Err(NoReplay::NotIdempotent),
        Replay::IfConnectionWasReused => Ok(()),
        Replay::Never => Err(NoReplay::Forbidden),
    }
}

/// A token bucket that traffic fills: each request pays in a share of a retry, each retry takes one out, and both are
/// forgotten after the budget's time. Besides there is a reserve, for clusters with little traffic.
///
/// Counts are kept by tenths of the window, so what was paid in counts for nine to ten tenths of it. Memory is constant.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Paid in less taken out, in millionths of a retry, by tenth of the window.
    slots: [i64; SLOTS],
    /// The tenth that `now` lies in, counted from the clock's zero.
    newest: u64,
    /// Millionths of a retry that a request pays in.
    share: i64,
    /// Millionths of a retry that are there in any window.
    reserve: i64,
    /// A tenth of the window.
    slot_ms: u64,
}

impl Budget {
    /// A full reserve and no traffic: the part that one of so many workers has of it.
    pub fn new(budget: &RetryBudget, workers: usize) -> Self {
        let ttl_ms = u64::try_from(budget.ttl.as_millis()).unwrap_or(u64::MAX);
        Self {
            slots: [0; SLOTS],
            newest: 0,
            share: i64::from(budget.share_ppm),
            reserve: i64::from(reserve_of_worker(budget, workers)) * RETRY,
            slot_ms: (ttl_ms / SLOTS as u64).max(1),
        }
    }

    /// A request came: its share is paid in.
    pub fn deposit(&mut self, now_ms: u64) {
        let share = self.share;
        let slot = self.slot(now_ms);
        *slot = slot.saturating_add(share);
    }

    /// Takes one retry out. `false`: there is none left, and nothing changed.
    #[must_use]
    pub fn withdraw(&mut self, now_ms: u64) -> bool {
        self.slot(now_ms);
        let granted = self.balance() >= RETRY;
        if granted {
            let slot = self.slot(now_ms);
            *slot = slot.saturating_sub(RETRY);
        }
        debug_assert!(!granted || self.balance() >= 0, "more retries than the budget has");
        granted
    }

    /// Whole retries left.
    pub fn left(&mut self, now_ms: u64) -> u64 {
        self.slot(now_ms);
        u64::try_from(self.balance() / RETRY).unwrap_or(0)
    }

    fn balance(&self) -> i64 {
        self.slots.iter().fold(self.reserve, |sum, &slot| sum.saturating_add(slot))
    }

    /// The slot of `now_ms`, after those that are over have been emptied. A clock that runs backwards stays in the
    /// newest slot.
    fn slot(&mut self, now_ms: u64) -> &mut i64 {
        let tenth = now_ms / self.slot_ms;
        let passed = tenth.saturating_sub(self.newest);
        for step in 1..=passed.min(SLOTS as u64) {
            self.slots[index(self.newest + step)] = 0;
        }
        self.newest += passed;
        &mut self.slots[index(self.newest)]
    }
}

/// One worker's part of the reserve for a whole window, rounded up: small totals are not lost by dividing.
pub fn reserve_of_worker(budget: &RetryBudget, workers: usize) -> u32 {
    let total = u64::from(budget.per_second).saturating_mul(budget.ttl.as_secs());
    u32::try_from(total.div_ceil(workers.max(1) as u64)).unwrap_or(u32::MAX)
}

fn index(tenth: u64) -> usize {
    (tenth % SLOTS as u64) as usize
}

const SLOTS: usize = 10;
/// One retry, in millionths.
const RETRY: i64 = 1_000_000;

/// How long to wait before another attempt: `last` is the pause before the last one, `draw` uniform over `u64`.
pub fn pause(backoff: RetryBackoff, last: Duration, draw: u64) -> Duration {
    match backoff {
        RetryBackoff::Constant(pause) => pause,
        // decorrelated: the next pause lies between the least and three times the last one
        RetryBackoff::Jittered(min, max) => {
            let most = last.saturating_mul(3).clamp(min, max.max(min));
            let span_us = u64::try_from((most - min).as_micros()).unwrap_or(u64::MAX);
            let drawn_us = (u128::from(draw) * u128::from(span_us)) >> 64;
            min + Duration::from_micros(u64::try_from(drawn_us).unwrap_or(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET_TTL_MS: u64 = 10_000;
    const SLOT_MS: u64 = 1000;

    /// A fifth of the requests, and so many more in ten seconds.
    fn budget(reserve: u32) -> Budget {
        let mut budget = Budget::new(&RetryBudget { per_second: 0, ..RetryBudget::default() }, 1);
        budget.reserve = i64::from(reserve) * RETRY;
        budget
    }

    #[track_caller]
    fn check_rule(
        replay: Replay,
        method: Method,
        reused: bool,
        held: bool,
        retries: u8,
        verdict: Result<(), NoReplay>,
    ) {
        let attempt = Attempt { method: &method, body_replayable: held, connection_reused: reused, retries };
        assert_eq!(may_replay(replay, &attempt), verdict, "{replay:?} {attempt:?}");
    }

    #[test]
    fn undelivered_request_is_replayed_whatever_its_method() {
        check_rule(Replay::Always, Method::POST, false, true, 0, Ok(()));
        check_rule(Replay::Always, Method::GET, true, true, 1, Ok(()));
        check_rule(Replay::Always, Method::POST, false, false, 0, Err(NoReplay::BodyGone));
    }

    #[test]
    fn idempotent_request_survives_the_close_of_an_idle_connection() {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            check_rule(Replay::IfConnectionWasReused, method, true, true, 0, Ok(()));
        }
        check_rule(Replay::IfConnectionWasReused, Method::GET, false, true, 0, Err(NoReplay::ConnectionFresh));
        check_rule(Replay::IfConnectionWasReused, Method::GET, true, false, 0, Err(NoReplay::BodyGone));
    }

    #[test]
    fn post_goes_at_most_once() {
        for method in [Method::POST, Method::PATCH, Method::from_bytes(b"PURGE").unwrap()] {
            check_rule(Replay::IfConnectionWasReused, method, true, true, 0, Err(NoReplay::NotIdempotent));
        }
    }

    #[test]
    fn nothing_is_replayed_where_the_failure_forbids_it() {
        check_rule(Replay::Never, Method::GET, true, true, 0, Err(NoReplay::Forbidden));
    }

    #[test]
    fn third_retry_is_one_too_many() {
        check_rule(Replay::Always, Method::GET, true, true, RETRIES_MAX - 1, Ok(()));
        check_rule(Replay::Always, Method::GET, true, true, RETRIES_MAX, Err(NoReplay::RetriesSpent));
    }

    /// Retries granted when `requests` came in at `paid_ms` and retries are asked for at `asked_ms`.
    #[track_caller]
    fn check_granted(reserve: u32, requests: usize, paid_ms: u64, asked_ms: u64, granted: usize) {
        let mut budget = budget(reserve);
        (0..requests).for_each(|_| budget.deposit(paid_ms));
        assert_eq!((0..10_000).filter(|_| budget.withdraw(asked_ms)).count(), granted);
        assert_eq!(budget.left(asked_ms), 0);
    }

    #[test]
    fn a_fifth_of_the_traffic_may_be_retries() {
        check_granted(0, 1_000, 5_000, 5_000, 200);
        check_granted(0, 4, 5_000, 5_000, 0);
        check_granted(0, 5, 5_000, 5_000, 1);
    }

    #[test]
    fn reserve_is_there_without_traffic() {
        check_granted(100, 0, 0, 0, 100);
        check_granted(100, 1_000, 0, 1, 300);
    }

    #[test]
    fn what_was_paid_in_is_forgotten_after_its_time() {
        check_granted(0, 1_000, 0, BUDGET_TTL_MS - 1, 200);
        check_granted(0, 1_000, 0, BUDGET_TTL_MS, 0);
        check_granted(0, 1_000, 0, u64::MAX, 0);
    }

    #[test]
    fn retries_come_back_after_their_time() {
        let mut budget = budget(1);
        assert!(budget.withdraw(0) && !budget.withdraw(BUDGET_TTL_MS - 1) && budget.withdraw(BUDGET_TTL_MS));
    }

    #[test]
    fn clock_that_runs_backwards_grants_nothing_extra() {
        let mut budget = budget(1);
        assert!(budget.withdraw(50_000) && !budget.withdraw(10));
    }

    #[test]
    fn reserve_is_divided_and_never_lost() {
        let of = |workers| reserve_of_worker(&RetryBudget::default(), workers);
        assert_eq!([1, 2, 64, 1_000, 0].map(of), [100, 50, 2, 1, 100]);
    }

    #[test]
    fn budgets_are_what_the_file_says() {
        let written = RetryBudget { ttl: Duration::from_secs(2), per_second: 3, share_ppm: 500_000 };
        let mut budget = Budget::new(&written, 2);
        assert_eq!(budget.left(0), 3, "six in two seconds, for two workers");
        (0..4).for_each(|_| budget.deposit(0));
        assert_eq!((budget.left(1_999), budget.left(2_000)), (5, 3));
    }

    #[test]
    fn pauses_stay_between_their_bounds() {
        let ms = Duration::from_millis;
        let jittered = RetryBackoff::Jittered(ms(10), ms(100));
        assert_eq!(pause(RetryBackoff::Constant(ms(7)), ms(1), u64::MAX), ms(7));
        assert_eq!(pause(jittered, Duration::ZERO, u64::MAX), ms(10), "the first is the least");
        assert_eq!(pause(jittered, ms(10), 0), ms(10));
        let most = pause(jittered, ms(20), u64::MAX);
        assert!(most > ms(59) && most <= ms(60), "{most:?}");
        let most = pause(jittered, ms(90), u64::MAX);
        assert!(most > ms(99) && most <= ms(100), "{most:?}");
    }

    proptest! {
        #[test]
        fn retries_never_exceed_traffic_and_reserve(events in proptest::collection::vec((any::<bool>(), 0_u64..500), 0..400)) {
            let (mut budget, mut now_ms) = (budget(3), 0);
            let (mut deposits, mut retries) = (Vec::new(), Vec::new());
            for (retry, passed_ms) in events {
                now_ms += passed_ms;
                if !retry {
                    budget.deposit(now_ms);
                    deposits.push(now_ms);
                } else if budget.withdraw(now_ms) {
                    retries.push(now_ms);
                    // A retry's own entry leaves with its slot, so look at those that are certainly still counted.
                    let recent = retries.iter().filter(|&&at| at + BUDGET_TTL_MS - SLOT_MS > now_ms).count();
                    prop_assert!(recent * 5 <= deposits.len() + 15, "{recent} retries for {} requests", deposits.len());
                }
            }
        }
    }
}
