//! The guard: it counts what the data plane tells and says how sure it is.

use crate::docket::{Counted, Docket};
use crate::evidence::{Gain, KindEvidence, LN_SCORE_MAX, Routed, Rule, Scores};
use crate::policy::{GuardPolicy, KINDS};
use crate::record::{Arm, ArmTotals, EventRecord, Kind, Open};
use crate::statistics::{Absolute, Attribution, RATIOS_MAX, ln_mean_exp};
use crate::{Ppm, TimestampMs};

/// A block lasts at most this long: ten minutes. A canary that was good for longer is not good for ever.
pub const BLOCK_MS_MAX: u64 = 600_000;
/// A start comes at least this often: every minute.
pub const START_MS: u64 = 60_000;
/// A score that no event changed is worked out again after this time: it can only have fallen.
const SCORE_STALE_MS: u64 = 1_000;

/// What the data plane knows of the split at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests of the canary.
    pub canary: ArmTotals,
    /// Requests of the primary.
    pub primary: ArmTotals,
    /// The canary's requests that are not over.
    pub canary_open: Open,
    /// The primary's requests that are not over.
    pub primary_open: Open,
}

/// The share of the primary's requests that were slower than its p50, p90 and p99: near 50, 10 and 1 %, but on
/// histogram edges, so not exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowShares {
    /// Beyond the p50.
    pub slow50: Ppm,
    /// Beyond the p90.
    pub slow90: Ppm,
    /// Beyond the p99.
    pub slow99: Ppm,
    /// The history is short: all three are of requests that hang. A longer one takes its place, also within a step.
    pub rough: bool,
}

/// How sure the guard is. Scores start at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// The canary is to blame: rolls back at 1/alpha.
    pub score: f64,
    /// The part of each kind, in the order of [`Kind::ALL`], before its stake.
    pub by_kind: [f64; KINDS],
    /// The kind that the score is made of, for the most part.
    pub blamed: Option<Kind>,
    /// The canary is over its budget in this block, whoever is to blame.
    pub canary_over: f64,
    /// So is the primary.
    pub primary_over: f64,
    /// The primary was over its budget lately, as far as there were requests enough to tell.
    pub primary_over_newest: f64,
    /// The canary is within its limit, or fails less than twice as often as the primary: advances at 1/beta.
    pub shown: f64,
    /// Events that did not count because something was full: the guard was more cautious than it had to be.
    pub dropped: u64,
    /// The canary's requests that are over, or overdue.
    pub requests: u64,
    /// Of those: failed, or overdue.
    pub failures: u64,
}

/// What a journal keeps of the evidence: enough to go on after a stop.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Capital {
    /// Starts so far.
    pub starts: u32,
    /// The logarithm of what the starts of each kind have won, in the order of [`Kind::ALL`].
    pub ln_won: [f64; KINDS],
    /// The canary's requests that are over.
    pub requests: u64,
    /// Of those: failed.
    pub failures: u64,
}

/// The evidence of one run of a rollout.
#[derive(Clone, Debug)]
pub struct Guard {
    policy: GuardPolicy,
    kinds: [KindEvidence; KINDS],
    on: [bool; KINDS],
    scores: [Scores; KINDS],
    dirty: bool,
    scored_at: TimestampMs,
    canary_accused: Docket,
    primary_accused: Docket,
    excused: [f64; RATIOS_MAX],
    below: Absolute,
    /// Starts so far, over all kinds: they start together.
    starts: u32,
    start_at: TimestampMs,
    block_at: TimestampMs,
    share: Ppm,
    /// How many of the primary's requests were slow, as last told.
    slow: Option<SlowShares>,
    routed: Routed,
    /// The primary's overdue requests at the last look.
    overdue: Vec<(Ppm, u32)>,
    /// The primary's totals at the last look.
    traffic_seen: ArmTotals,
    from: Traffic,
    carried: Capital,
}

impl Guard {
    /// A guard without evidence. `from`: the totals when the run began, which do not count.
    #[must_use]
    pub fn new(policy: GuardPolicy, from: Traffic, now: TimestampMs) -> Guard {
        let below = Absolute::below(policy.error_limit().fraction());
        let mut on = Kind::ALL.map(|kind| policy.stake(kind) > 0.0);
        for kind in [Kind::Slow50, Kind::Slow90, Kind::Slow99] {
            on[kind.index()] = false; // until the primary's history is known
        }
        Guard {
            kinds: Kind::ALL.map(|kind| KindEvidence::new(rule(&policy, kind, Some(policy.error_budget())))),
            on,
            scores: [Scores::default(); KINDS],
            dirty: true,
            scored_at: now,
            canary_accused: Docket::new(Arm::Canary),
            primary_accused: Docket::new(Arm::Primary),
            excused: [0.0; RATIOS_MAX],
            below,
            starts: 0,
            start_at: now,
            block_at: now,
            share: Ppm::ZERO,
            slow: None,
            routed: Routed { canary: from.canary.routed, primary: from.primary.routed },
            overdue: Vec::new(),
            traffic_seen: from.primary,
            from,
            carried: Capital::default(),
            policy,
        }
    }

    /// Brings back what an earlier process had won; the next step starts afresh beside it.
    #[must_use]
    pub fn resume(mut self, capital: Capital, now: TimestampMs) -> Guard {
        self.starts = capital.starts.max(1);
        for (kind, evidence) in self.kinds.iter_mut().enumerate() {
            let ln_won = if capital.ln_won[kind].is_nan() { f64::NEG_INFINITY } else { capital.ln_won[kind] };
            evidence.open_start(1, 1.0, ln_won.min(LN_SCORE_MAX), now, self.routed);
        }
        self.carried = capital;
        self
    }

    /// The canary's share is `share` from now on: a new block, and a new start. `slow`: where the primary's history is
    /// long enough (1000 requests in five minutes), how many of its requests were slow; kept for the block.
    ///
    /// With all traffic on the canary nothing says whether everything is slower now or the canary is: then only an arm
    /// that leaves more than a fifth of its requests waiting is to blame. The caller asks for an age there that only a
    /// request reaches that hangs, not for the primary's p99.
    pub fn step(&mut self, share: Ppm, slow: Option<SlowShares>, now: TimestampMs) {
        for kind in Kind::ALL {
            self.kinds[kind.index()].next_block(now, share, self.routed, &self.overdue);
        }
        let budget = self.budget_at(share);
        self.kinds[Kind::Failure.index()].set_rule(rule(&self.policy, Kind::Failure, Some(budget)));
        self.slow = slow.or(self.slow);
        if let Some(slow) = self.slow {
            let paired = share < Ppm::WHOLE;
            let slow99 = if paired { slow.slow99 } else { slow.slow99.max(UNPAIRED_SLOW99) };
            for (kind, share) in [(Kind::Slow50, slow.slow50), (Kind::Slow90, slow.slow90), (Kind::Slow99, slow99)] {
                self.kinds[kind.index()].set_rule(rule(&self.policy, kind, Some(share)));
                let seen = paired || kind == Kind::Slow99;
                self.on[kind.index()] = seen && self.policy.stake(kind) > 0.0;
            }
        }
        self.share = share;
        self.block_at = now;
        self.start(now);
    }

    /// Takes one event, or `times` events that are equal but for what nobody asks.
    pub fn observe(&mut self, record: EventRecord, times: u64) {
        if !self.on[record.kind.index()] || times == 0 {
            return;
        }
        debug_assert!(times == 1 || record.key.is_none(), "events with a key come one by one");
        let starts = self.starts;
        if let Some(counted) = self.canary_accused.take(record, starts) {
            self.count(counted, times);
        }
        if record.kind == Kind::Failure
            && record.randomised
            && let Some(counted) = self.primary_accused.take(record, starts)
        {
            self.excuse(counted);
        }
    }

    /// How sure the guard is now.
    pub fn look(&mut self, traffic: &Traffic, now: TimestampMs) -> Standing {
        self.routed = Routed { canary: traffic.canary.routed, primary: traffic.primary.routed };
        self.traffic_seen = traffic.primary;
        self.overdue.clone_from(&traffic.primary_open.overdue);
        self.release(traffic);
        if self.starts == 0 {
            // No traffic goes to the canary yet: nothing to bet on.
        } else if now.since(self.block_at) >= BLOCK_MS_MAX {
            self.step(self.share, None, now);
        } else if now.since(self.start_at) >= START_MS {
            self.start(now);
        }
        if self.dirty || now.since(self.scored_at) >= SCORE_STALE_MS {
            self.dirty = false;
            self.scored_at = now;
            for kind in Kind::ALL.into_iter().filter(|kind| self.on[kind.index()]) {
                self.kinds[kind.index()].pass(now, self.routed, &traffic.primary_open.overdue);
                self.scores[kind.index()] = self.kinds[kind.index()].scores(self.routed, &traffic.primary_open.overdue);
            }
        }
        self.standing(traffic)
    }

    /// What a journal keeps.
    pub fn capital(&mut self, traffic: &Traffic) -> Capital {
        let (requests, failures) = self.canary_counts(traffic);
        let mut capital = Capital { starts: self.starts, requests, failures, ..Capital::default() };
        for kind in Kind::ALL {
            let blamed = self.kinds[kind.index()].scores(self.routed, &traffic.primary_open.overdue).blamed;
            capital.ln_won[kind.index()] = blamed.max(f64::MIN_POSITIVE).ln();
        }
        capital
    }

    fn standing(&self, traffic: &Traffic) -> Standing {
        let mut standing = Standing::default();
        // What no start has bet yet is still there.
        let unspent = 1.0 / (f64::from(self.starts) + 1.0);
        let mut most = 0.0;
        for kind in Kind::ALL {
            let score = if self.on[kind.index()] { self.scores[kind.index()].blamed + unspent } else { 1.0 };
            standing.by_kind[kind.index()] = score;
            let part = self.policy.stake(kind) * score;
            standing.score += part;
            if part > most {
                (most, standing.blamed) = (part, Some(kind));
            }
        }
        let failure = &self.scores[Kind::Failure.index()];
        standing.canary_over = failure.canary_over;
        standing.primary_over = failure.primary_over;
        standing.primary_over_newest = failure.primary_over_newest;
        standing.shown = self.shown(traffic);
        (standing.requests, standing.failures) = self.canary_counts(traffic);
        standing.dropped = self.canary_accused.dropped() + self.primary_accused.dropped();
        standing
    }

    /// Evidence that the canary is within its limit, or fails less than twice as often as the primary: the greater. The
    /// canary's overdue requests count as failures in both.
    fn shown(&self, traffic: &Traffic) -> f64 {
        let (requests, failures) = self.canary_counts(traffic);
        let within = self.below.ln_score(failures, requests);
        let mut excused = self.excused;
        for (share, count) in traffic.canary_open.overdue.iter().take(crate::record::OVERDUE_SHARES_MAX) {
            for (sum, term) in excused.iter_mut().zip(excuse_terms(*share).other) {
                *sum += term * f64::from(*count);
            }
        }
        within.max(ln_mean_exp(&excused[..EXCUSE_RATIOS.len()])).min(LN_SCORE_MAX).exp()
    }

    fn canary_counts(&self, traffic: &Traffic) -> (u64, u64) {
        let overdue = traffic.canary_open.overdue_total();
        let requests = traffic.canary.completed.saturating_sub(self.from.canary.completed);
        let failures = traffic.canary.failed.saturating_sub(self.from.canary.failed);
        (self.carried.requests + requests + overdue, self.carried.failures + failures + overdue)
    }

    /// The budget of a block. With all traffic on the canary there is no primary to compare with: then a canary that
    /// fails no more than twice as often as the primary did before is still no worse, whatever the budget says.
    fn budget_at(&self, share: Ppm) -> Ppm {
        let budget = self.policy.error_budget();
        if share < Ppm::WHOLE {
            return budget;
        }
        let requests = self.traffic_seen.completed.saturating_sub(self.from.primary.completed);
        let failures = self.traffic_seen.failed.saturating_sub(self.from.primary.failed) + UNPAIRED_FAILURES_EXTRA;
        let rate = UNPAIRED_MARGIN * failures as f64 / (requests.max(failures) as f64);
        budget.max(Ppm::clamped((rate.min(UNPAIRED_RATE_MAX) * 1e6) as i64))
    }

    fn start(&mut self, now: TimestampMs) {
        let stake = 1.0 / ((f64::from(self.starts) + 1.0) * (f64::from(self.starts) + 2.0));
        for evidence in &mut self.kinds {
            evidence.open_start(self.starts + 1, stake, 0.0, now, self.routed);
        }
        self.starts = self.starts.saturating_add(1);
        self.start_at = now;
        self.dirty = true;
    }

    /// Starts so far.
    #[cfg(test)]
    pub(crate) fn starts(&self) -> u32 {
        self.starts
    }

    /// Has an event of the canary been told that counts once an older request of the primary is over.
    pub(crate) fn is_waiting(&self) -> bool {
        self.canary_accused.is_waiting()
    }

    fn release(&mut self, traffic: &Traffic) {
        let starts = self.starts;
        let mut docket = std::mem::replace(&mut self.canary_accused, Docket::new(Arm::Canary));
        docket.release(traffic.primary_open.oldest, starts, |counted| self.count(counted, 1));
        self.canary_accused = docket;
        let mut docket = std::mem::replace(&mut self.primary_accused, Docket::new(Arm::Primary));
        docket.release(traffic.canary_open.oldest, starts, |counted| self.excuse(counted));
        self.primary_accused = docket;
    }

    fn count(&mut self, counted: Counted, times: u64) {
        self.dirty |= counted.record.arm == Arm::Canary;
        self.kinds[counted.record.kind.index()].count(counted, times);
    }

    /// The other way round: the primary is accused of failing half as often as the canary, or less.
    fn excuse(&mut self, counted: Counted) {
        if counted.since > 0 {
            return; // this key was counted before
        }
        let terms = excuse_terms(counted.record.share);
        let terms = if counted.record.arm == Arm::Primary { terms.accused } else { terms.other };
        for (sum, term) in self.excused.iter_mut().zip(terms) {
            *sum += term;
        }
    }
}

fn excuse_terms(share: Ppm) -> Attribution {
    Attribution::new(share.rest().fraction(), EXCUSE_TOLERANCE, EXCUSE_RATIOS)
}

/// How a kind is judged, where this share of requests may be such events (of slow ones: is, with the primary).
fn rule(policy: &GuardPolicy, kind: Kind, share: Option<Ppm>) -> Rule {
    let tolerance = policy.tolerance(kind);
    let slow = |share: Ppm| Absolute::above_by_odds((share.fraction() * tolerance).clamp(SLOW_MIN, SLOW_MAX));
    let (absolute, ratios): (Option<Absolute>, &[f64]) = match kind {
        Kind::Failure => (share.map(|share| Absolute::above(share.fraction())), &[2.0, 5.0, 20.0, 100.0, 1000.0]),
        Kind::Slow50 => (share.map(slow), &[1.15, 1.3, 1.5, 1.8]),
        Kind::Slow90 => (share.map(slow), &[1.3, 1.6, 2.0, 3.0, 5.0, 8.0]),
        Kind::Slow99 => (share.map(slow), &[1.5, 2.0, 4.0, 8.0, 20.0, 60.0]),
        Kind::ClientError | Kind::Custom => (None, &[1.5, 2.0, 5.0, 20.0, 100.0]),
    };
    let gain = match kind {
        Kind::Slow50 => Some(Gain { stretch_ms: 2_000, ln_max: LN_GAIN_MAX }),
        Kind::Slow90 => Some(Gain { stretch_ms: 1_000, ln_max: LN_GAIN_MAX }),
        Kind::Slow99 => Some(Gain { stretch_ms: 250, ln_max: LN_GAIN_MAX }),
        Kind::ClientError | Kind::Custom | Kind::Failure => None,
    };
    Rule { absolute, tolerance, ratios, gain }
}

/// A stretch in which a canary is slow is worth ten to one against it at most.
const LN_GAIN_MAX: f64 = std::f64::consts::LN_10;

/// The primary fails at most half as often as the canary: what a harmless canary makes unlikely.
const EXCUSE_TOLERANCE: f64 = 0.5;
const EXCUSE_RATIOS: &[f64] = &[2.0, 4.0, 8.0, 20.0];
/// Without a primary beside it, a canary may fail so many times as often as the primary did.
const UNPAIRED_MARGIN: f64 = 2.0;
/// Failures the primary is given for nothing, as few requests say little.
const UNPAIRED_FAILURES_EXTRA: u64 = 3;
const UNPAIRED_RATE_MAX: f64 = 0.5;
/// Without a primary beside it, so many requests of a canary may wait too long.
const UNPAIRED_SLOW99: Ppm = Ppm::clamped(200_000);
const SLOW_MIN: f64 = 0.000_1;
const SLOW_MAX: f64 = 0.9;

#[cfg(test)]
mod tests;
