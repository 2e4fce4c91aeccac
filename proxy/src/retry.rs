//! Whether a failed attempt may be made again: the rule, and the budget that keeps retries from becoming the load.

use http::Method;

/// Retries of one request; its first attempt not counted.
pub const RETRIES_MAX: u8 = 2;
/// Retries that the requests of the window pay for, in percent of them.
pub const BUDGET_PERCENT: u32 = 20;
/// Retries a second that are there without traffic. A total: divide it by the number of workers.
pub const BUDGET_PER_SECOND: u32 = 10;
/// How long what a request paid in, and what a retry took out, counts.
pub const BUDGET_TTL_MS: u64 = 10_000;

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
/// forgotten after [`BUDGET_TTL_MS`]. Besides there is a reserve, for clusters with little traffic.
///
/// Counts are kept by tenths of the window, so what was paid in counts for nine to ten tenths of it. Memory is constant.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Paid in less taken out, in hundredths of a retry, by tenth of the window.
    slots: [i64; SLOTS],
    /// The tenth that `now` lies in, counted from the clock's zero.
    newest: u64,
    /// Hundredths of a retry that a request pays in.
    percent: i64,
    /// Hundredths of a retry that are there in any window.
    reserve: i64,
}

impl Budget {
    /// A full reserve and no traffic. `percent` of the requests may be retries, and `reserve` more in each window of
    /// [`BUDGET_TTL_MS`]: see [`reserve_of_worker`].
    pub fn new(percent: u32, reserve: u32) -> Self {
        Self { slots: [0; SLOTS], newest: 0, percent: i64::from(percent), reserve: i64::from(reserve) * RETRY }
    }

    /// A request came: its share is paid in.
    pub fn deposit(&mut self, now_ms: u64) {
        let share = self.percent;
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
        let tenth = now_ms / SLOT_MS;
        let passed = tenth.saturating_sub(self.newest);
        for step in 1..=passed.min(SLOTS as u64) {
            self.slots[index(self.newest + step)] = 0;
        }
        self.newest += passed;
        &mut self.slots[index(self.newest)]
    }
}

/// One worker's part of the default reserve for a whole window, rounded up: small totals are not lost by dividing.
pub fn reserve_of_worker(workers: usize) -> u32 {
    let total = u64::from(BUDGET_PER_SECOND) * BUDGET_TTL_MS / 1_000;
    u32::try_from(total.div_ceil(workers.max(1) as u64)).unwrap_or(u32::MAX)
}

fn index(tenth: u64) -> usize {
    (tenth % SLOTS as u64) as usize
}

const SLOTS: usize = 10;
const SLOT_MS: u64 = BUDGET_TTL_MS / SLOTS as u64;
/// One retry, in hundredths.
const RETRY: i64 = 100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        let mut budget = Budget::new(BUDGET_PERCENT, reserve);
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
        let mut budget = Budget::new(BUDGET_PERCENT, 1);
        assert!(budget.withdraw(0) && !budget.withdraw(BUDGET_TTL_MS - 1) && budget.withdraw(BUDGET_TTL_MS));
    }

    #[test]
    fn clock_that_runs_backwards_grants_nothing_extra() {
        let mut budget = Budget::new(BUDGET_PERCENT, 1);
        assert!(budget.withdraw(50_000) && !budget.withdraw(10));
    }

    #[test]
    fn reserve_is_divided_and_never_lost() {
        assert_eq!([1, 2, 64, 1_000, 0].map(reserve_of_worker), [100, 50, 2, 1, 100]);
    }

    proptest! {
        #[test]
        fn retries_never_exceed_traffic_and_reserve(events in proptest::collection::vec((any::<bool>(), 0_u64..500), 0..400)) {
            let (mut budget, mut now_ms) = (Budget::new(BUDGET_PERCENT, 3), 0);
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
