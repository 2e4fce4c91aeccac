//! Who is to blame when the time of a request is over.
//!
//! An upstream owes an answer to a request that it has, whole. So the time in which only the caller keeps the request from
//! being whole is the caller's, and a caller that gives less time than the service needs has itself to blame:
//!
//! | what ended it | it counts against the upstream if |
//! |---|---|
//! | `totalTimeoutMs` | the request was whole, or the upstream took nothing of it, and at least half of the time was left to the upstream |
//! | the caller's own deadline, before the head of an answer | the same, and what was left is at least the [patience](crate::pool::Pace::floor_us) of the name |
//! | the caller's own deadline, behind that head | never |
//! | the upstream, before a head | its HTTP/2 connection is lost as well, it did not just wait for the rest of the request, or the caller has kept it waiting for less than a second |
//! | the upstream, behind a head | the caller has let the answer lie for less than a second, or an eighth of its time |
//!
//! What does not count against the upstream is of class Ignored: for its endpoint, for its rollout, in the metrics. The ages
//! that it passed until then are told all the same, so a canary that hangs is found however short its callers' deadlines are.

use super::{Handle, InFlight, Slot, TICK_MS};
use crate::clock;
use crate::error::ProxyError;

/// Who has kept an upstream waiting for so long, in microseconds, may be the reason why it ends an exchange: servers have
/// times for what they read and write.
pub const CALLERS_US: u64 = 1_000_000;

/// How long the whole of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Microseconds.
    pub us: u64,
    /// The caller said so; otherwise the file.
    pub callers: bool,
}

/// What is known of one request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blame {
    limit_us: u64,
    /// The limit is the caller's.
    callers: bool,
    /// Since when only the caller keeps the request from being whole; 0: it does not.
    waits_since_us: u64,
    /// For how long it did so before.
    waited_us: u64,
    /// When the head of an answer went to the caller; 0: none has.
    answered_us: u64,
    /// It says nothing of the service.
    pub(super) excused: bool,
}

impl Blame {
    /// May the end of the time be held against the upstream, of a name with this patience.
    fn accuses(&self, now_us: u64, floor_us: u64) -> bool {
        if self.waits_since_us != 0 {
            return false;
        }
        let left_us = self.limit_us.saturating_sub(self.callers_us(now_us));
        let enough = left_us.saturating_mul(2) >= self.limit_us;
        if self.callers { enough && !self.is_answered(now_us) && left_us >= floor_us } else { enough }
    }

    /// Did the head come before the end. One that comes together with it is part of it.
    fn is_answered(&self, now_us: u64) -> bool {
        self.answered_us != 0 && now_us.saturating_sub(self.answered_us) > 2 * TICK_MS * 1000
    }

    fn callers_us(&self, now_us: u64) -> u64 {
        let open_us = if self.waits_since_us == 0 { 0 } else { now_us.saturating_sub(self.waits_since_us) };
        self.waited_us.saturating_add(open_us)
    }
}

impl Slot {
    /// Is a failure that came now the doing of a deadline of the caller's that was too short.
    pub(super) fn is_too_short(&self, now_us: u64) -> bool {
        let passed = self.total_us != 0 && now_us >= self.total_us;
        self.blame.callers && passed && !self.blame.accuses(now_us, self.floor_us())
    }

    fn floor_us(&self) -> u64 {
        self.lease.as_ref().map_or(0, |lease| lease.endpoint.pace.floor_us())
    }
}

impl InFlight {
    /// What its deadline means.
    pub fn set_limit(&self, handle: Handle, limit: Limit) {
        self.with(handle.0, |slot| (slot.blame.limit_us, slot.blame.callers) = (limit.us, limit.callers));
    }

    /// Only the caller keeps the request from being whole; or does so no longer.
    pub fn set_waits(&self, handle: Handle, waits: bool, now_us: u64) {
        let changed = self.with(handle.0, |slot| {
            let blame = &mut slot.blame;
            let changed = waits != (blame.waits_since_us != 0);
            if changed {
                blame.waited_us = blame.callers_us(now_us);
                blame.waits_since_us = if waits { now_us.max(1) } else { 0 };
            }
            changed
        });
        match (changed, waits) {
            (true, true) => self.unsent(handle),
            (true, false) => self.dialled(handle),
            (false, _) => {}
        }
    }

    /// The head of an answer goes to the caller.
    pub(super) fn note_answered(&self, handle: Handle) {
        self.with(handle.0, |slot| {
            if slot.blame.limit_us != 0 {
                slot.blame.answered_us = clock::now_us().max(1);
            }
        });
    }

    /// However it ends, it says nothing of the service.
    pub fn excuse(&self, handle: Handle) {
        self.with(handle.0, |slot| slot.blame.excused = true);
    }

    /// The time of the whole request is over: what its caller is told. The request is excused unless that may be held
    /// against the upstream.
    pub fn late(&self, handle: Handle) -> ProxyError {
        let now_us = clock::now_us();
        self.with(handle.0, |slot| {
            slot.blame.excused |= !slot.blame.accuses(now_us, slot.floor_us());
            let unsent = slot.blame.waits_since_us != 0 && slot.blame.answered_us == 0;
            if unsent && !slot.blame.callers { ProxyError::DownstreamStalled } else { ProxyError::Timeout }
        })
    }

    /// The upstream gave up a request that only its caller keeps from being whole, and did so for longer than
    /// [`CALLERS_US`]: it has waited for as long as it waits. Then the request is excused.
    pub fn excuse_given_up(&self, handle: Handle) -> bool {
        self.with(handle.0, |slot| {
            let blame = &mut slot.blame;
            let given_up = blame.waits_since_us != 0 && blame.callers_us(clock::now_us()) >= CALLERS_US;
            blame.excused |= given_up;
            given_up
        })
    }

    /// An attempt failed: is that the doing of a deadline of the caller's that was too short. Then the request is excused.
    pub fn excuse_too_short(&self, handle: Handle) -> bool {
        self.with(handle.0, |slot| {
            let short = slot.blame.callers && slot.is_too_short(clock::now_us());
            slot.blame.excused |= short;
            short
        })
    }

    /// The upstream itself said that the deadline is over. Somebody behind it who was told less than all of the time may
    /// say so a little before we do; earlier it is the service's own word.
    pub fn said_late(&self, handle: Handle) {
        self.with(handle.0, |slot| {
            if !slot.blame.callers {
                return;
            }
            let now_us = clock::now_us();
            let (limit_us, began_us) = (slot.blame.limit_us, slot.started_us);
            let due = now_us.saturating_sub(began_us).saturating_mul(2) >= limit_us || limit_us < 2 * TICK_MS * 1000;
            slot.blame.excused |= due && !slot.blame.accuses(now_us, slot.floor_us());
        });
    }

    /// The head of an answer to a call came: how long that took, without the time that was the caller's.
    pub fn note_pace(&self, handle: Handle) {
        let now_us = clock::now_us();
        self.with(handle.0, |slot| {
            if let Some(lease) = &slot.lease {
                let callers_us = slot.blame.callers_us(now_us);
                let took_us = now_us.saturating_sub(slot.started_us).saturating_sub(callers_us);
                lease.endpoint.pace.note(took_us, now_us);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1000;

    #[track_caller]
    fn check(blame: Blame, accuses: bool) {
        assert_eq!(blame.accuses(10_000 * MS, 1000 * MS), accuses, "{blame:?}");
    }

    #[test]
    fn a_limit_of_the_file_accuses_who_had_the_request_for_half_of_it() {
        let whole = Blame { limit_us: 3000 * MS, ..Blame::default() };
        check(whole, true);
        check(Blame { waited_us: 1500 * MS, ..whole }, true);
        check(Blame { waited_us: 1501 * MS, ..whole }, false);
        check(Blame { waits_since_us: 9999 * MS, ..whole }, false);
        check(Blame { answered_us: 1, ..whole }, true);
    }

    #[test]
    fn a_limit_of_the_caller_accuses_from_the_floor_on_and_before_the_head_alone() {
        let whole = Blame { limit_us: 1000 * MS, callers: true, ..Blame::default() };
        check(whole, true);
        check(Blame { limit_us: 999 * MS, ..whole }, false);
        check(Blame { answered_us: 1, ..whole }, false);
        check(Blame { answered_us: 9990 * MS, ..whole }, true);
        check(Blame { waited_us: 1, ..whole }, false);
        check(Blame { waits_since_us: 9999 * MS, ..whole }, false);
    }
}
