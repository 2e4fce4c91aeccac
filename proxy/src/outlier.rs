//! When an endpoint is left out, and when it is tried again.
//!
//! ```text
//!                 failures in a row reach the policy's number
//!      Admitted ───────────────────────────────────────────────▶ Ejected { until_ms }
//!       ▲    ▲                                                    │      ▲       ▲
//!       │    └──── a forced request succeeds ─────────────────────┤      │       │ the probe fails:
//!       │                                                         │      │       │ a longer time out
//!       │                     until_ms is over: the next request  │      │       │
//!       │                     is the probe                        │   the probe  │
//!       │                                                         │   says       │
//!       │                                                         │   nothing:   │
//!       │                                                         ▼   due now    │
//!       └──── the probe succeeds ───────────────────────── Probing { again_ms } ─┘
//!                                                           └─▶ again_ms is over: one more probe
//! ```
//!
//! One probe at a time decides. A probe that never ends (a stream, a hanging upstream) does not keep the endpoint out:
//! after `again_ms` another one goes. If all endpoints of a cluster are out, the caller uses one all the same, the one
//! whose [`Outlier::out_until_ms`] is the least, and says so by [`Outlier::begin_forced`].

use std::time::Duration;

use serin_config::model::{Accrual, AccrualRule};
use serin_metrics::Class;

/// What is known about the health of one endpoint. Time is milliseconds of any clock that does not run backwards; if it
/// does, an ejection only lasts longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlier {
    phase: Phase,
    /// Failures in a row while admitted.
    failures: u32,
    /// How often requests succeeded while admitted, for rules that ask.
    rate: Rate,
    /// Ejections in a row: the exponent of the backoff.
    ejections: u32,
}

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Takes requests.
    #[default]
    Admitted,
    /// Takes none before `until_ms`; then one, the probe.
    Ejected {
        /// The first moment at which a probe may go.
        until_ms: u64,
    },
    /// A probe is on its way.
    Probing {
        /// From then on another probe may go, because the first one keeps silent.
        again_ms: u64,
    },
}

/// As what a request was let through. It comes back with the outcome: an endpoint judged by requests that were sent
/// before it was ejected would flap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The endpoint was out, and so were all others.
    Forced,
    /// The endpoint was admitted.
    Ordinary,
    /// This request decides whether the endpoint is admitted again.
    Probe,
}

/// What an outcome changed; for counters and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The endpoint takes requests again.
    Admitted,
    /// The endpoint is out.
    Ejected {
        /// Until then.
        until_ms: u64,
    },
}

impl Outlier {
    /// Lets a request through as what it is. `None`: the endpoint is out; nothing changed.
    pub fn begin(&mut self, policy: &Accrual, now_ms: u64) -> Option<Pass> {
        match self.phase {
            Phase::Admitted => Some(Pass::Ordinary),
            Phase::Ejected { until_ms: at_ms } | Phase::Probing { again_ms: at_ms } if now_ms >= at_ms => {
                self.phase = Phase::Probing { again_ms: now_ms.saturating_add(millis(policy.backoff.0).max(1)) };
                Some(Pass::Probe)
            }
            Phase::Ejected { .. } | Phase::Probing { .. } => None,
        }
    }

    /// Lets a request through although the endpoint is out, because every other one is out too.
    pub fn begin_forced(&mut self, policy: &Accrual, now_ms: u64) -> Pass {
        self.begin(policy, now_ms).unwrap_or(Pass::Forced)
    }

    /// Learns how a request ended. `draw` is uniform over `u64` and spreads the ends of ejections.
    pub fn record(&mut self, pass: Pass, class: Class, policy: &Accrual, draw: u64, now_ms: u64) -> Option<Change> {
        let change = match (self.phase, pass, class) {
            (Phase::Admitted, _, Class::Success) => {
                self.failures = 0;
                self.rate.note(policy.rule, true, now_ms);
                None
            }
            (Phase::Admitted, _, Class::Failure) => {
                self.failures = self.failures.saturating_add(1);
                let out = match policy.rule {
                    AccrualRule::Consecutive(failures) => self.failures >= failures.get(),
                    rule => self.rate.note(rule, false, now_ms),
                };
                out.then(|| self.eject(policy, draw, now_ms))
            }
            (Phase::Admitted, _, Class::Ignored) => None,
            (Phase::Probing { .. }, Pass::Probe, Class::Failure) => Some(self.eject(policy, draw, now_ms)),
            (Phase::Probing { .. }, Pass::Probe, Class::Ignored) => {
                self.phase = Phase::Ejected { until_ms: now_ms };
                None
            }
            (Phase::Probing { .. } | Phase::Ejected { .. }, Pass::Probe | Pass::Forced, Class::Success) => {
                *self = Self::default();
                Some(Change::Admitted)
            }
            // Sent before the ejection, or a second probe after the first one failed: old news.
            (Phase::Ejected { .. }, Pass::Probe | Pass::Forced, Class::Failure | Class::Ignored) => None,
            (Phase::Probing { .. }, Pass::Forced, Class::Failure | Class::Ignored) => None,
            (Phase::Probing { .. } | Phase::Ejected { .. }, Pass::Ordinary, _) => None,
        };
        debug_assert!(self.phase == Phase::Admitted || self.ejections > 0, "out without an ejection: {self:?}");
        debug_assert!(self.phase == Phase::Admitted || self.failures == 0, "counts failures while out: {self:?}");
        change
    }

    /// Whether [`begin`](Self::begin) would let a request through.
    pub fn is_usable(&self, now_ms: u64) -> bool {
        self.out_until_ms() <= now_ms
    }

    /// Whether it takes requests like any other. Otherwise it is out, or a probe may go or is on its way.
    pub fn is_admitted(&self) -> bool {
        self.phase == Phase::Admitted
    }

    /// Whether a success would change nothing: admitted, and the last request did not fail. Needs no clock.
    pub fn is_clean(&self, policy: &Accrual) -> bool {
        matches!(policy.rule, AccrualRule::Consecutive(_)) && self.is_admitted() && self.failures == 0
    }

    /// When the endpoint may take a request, 0 while it is admitted.
    pub fn out_until_ms(&self) -> u64 {
        match self.phase {
            Phase::Admitted => 0,
            Phase::Ejected { until_ms: at_ms } | Phase::Probing { again_ms: at_ms } => at_ms,
        }
    }

    /// Where the endpoint stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    fn eject(&mut self, policy: &Accrual, draw: u64, now_ms: u64) -> Change {
        self.failures = 0;
        self.rate = Rate::default();
        self.ejections = self.ejections.saturating_add(1);
        let until_ms = now_ms.saturating_add(backoff_ms(policy.backoff, self.ejections, draw));
        self.phase = Phase::Ejected { until_ms };
        Change::Ejected { until_ms }
    }
}

/// How long the ejection number `ejections` (from 1) lasts: one half fixed, one half drawn, both doubling. Never below
/// the first and never above the second duration of `backoff`, and at least 1 ms.
fn backoff_ms(backoff: (Duration, Duration), ejections: u32, draw: u64) -> u64 {
    let (min_ms, max_ms) = (millis(backoff.0).max(1), millis(backoff.1).max(1));
    let doublings = ejections.saturating_sub(1).min(DOUBLINGS_MAX);
    let half_ms = min_ms.saturating_mul(1 << doublings).min(max_ms);
    let jitter_ms = (u128::from(half_ms) * u128::from(draw)) >> 64; // below half_ms, rounded down
    half_ms.saturating_add(u64::try_from(jitter_ms).unwrap_or(u64::MAX)).min(max_ms)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Of a backoff; from 1 ms on it is longer than any life of a process.
const DOUBLINGS_MAX: u32 = 40;

/// How often requests of one endpoint succeeded lately. Memory is constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rate {
    /// Requests that were counted, up to what a mean of them needs.
    requests: u32,
    /// The mean of successes, in millionths of millionths: it moves by small steps.
    mean: u64,
    /// Successes and all requests, by tenth of the window.
    slots: [(u32, u32); SLOTS],
    /// The tenth that the newest request lies in, counted from the clock's zero.
    newest: u64,
}

impl Rate {
    /// A request ended. Says whether the rate is too low now, and known well enough to say so.
    fn note(&mut self, rule: AccrualRule, success: bool, now_ms: u64) -> bool {
        match rule {
            AccrualRule::Consecutive(_) => false,
            AccrualRule::SuccessRate(least, requests) => {
                let (requests, one) = (requests.get(), if success { WHOLE } else { 0 });
                self.requests = self.requests.saturating_add(1).min(requests);
                // the plain mean until there are enough of them, then the newest counts for one of them
                self.mean = self.mean - self.mean / u64::from(self.requests) + one / u64::from(self.requests);
                self.requests == requests && self.mean / u64::from(PPM) < u64::from(least.get())
            }
            AccrualRule::SuccessRateWindowed(least, window) => {
                let slot = self.slot(now_ms / (millis(window) / SLOTS as u64).max(1));
                slot.0 = slot.0.saturating_add(u32::from(success));
                slot.1 = slot.1.saturating_add(1);
                let sum = |of: fn(&(u32, u32)) -> u32| self.slots.iter().map(|slot| u64::from(of(slot))).sum::<u64>();
                let (good, all) = (sum(|slot| slot.0), sum(|slot| slot.1));
                all >= WINDOW_REQUESTS_MIN && good * u64::from(PPM) < all * u64::from(least.get())
            }
        }
    }

    /// The slot of this tenth, after those that are over have been emptied. A clock that runs backwards stays in the
    /// newest slot.
    fn slot(&mut self, tenth: u64) -> &mut (u32, u32) {
        let passed = tenth.saturating_sub(self.newest);
        for step in 1..=passed.min(SLOTS as u64) {
            self.slots[index(self.newest + step)] = (0, 0);
        }
        self.newest += passed;
        &mut self.slots[index(self.newest)]
    }
}

fn index(tenth: u64) -> usize {
    (tenth % SLOTS as u64) as usize
}

const SLOTS: usize = 10;
const PPM: u32 = 1_000_000;
const WHOLE: u64 = PPM as u64 * PPM as u64;
/// Fewer requests in a window say nothing of it.
const WINDOW_REQUESTS_MIN: u64 = 5;

#[cfg(test)]
mod tests;
