//! What the judge measures itself, from what the workers count.

use std::time::Duration;

use serin_rollout::{Arm, ArmTotals, MetricSource, Ppm, Reading, SlowShares, Traffic};

use super::samples::Samples;
use super::view::ArmView;
use crate::evidence::{HeadTimes, SplitEvidence};

/// The ages at which a request is slow are the primary's, over so long.
const SLOW_WINDOW_MS: u64 = 300_000;
/// So many requests of it are needed for that.
const SLOW_REQUESTS_MIN: u64 = 1_000;
/// Below so many microseconds, an edge of the histogram, nothing is slow. Two arms that are alike differ by a fraction
/// of a millisecond for seconds, as the scheduler of a busy machine has it; that is neither the canary's doing nor felt
/// by a user.
const SLOW_US_MIN: u64 = 5_120;
/// So many are enough to tell who hangs: a request that waits so many times as long as the longest of them, and at least
/// so many microseconds.
const HUNG_REQUESTS_MIN: u64 = 100;
const HUNG_TIMES: u64 = 4;
const HUNG_US_MIN: u64 = 500_000;
/// Between two looks at how long answers take.
const LEARN_MS: u64 = 1_000;
/// Rates are shown over so long.
const RATE_WINDOW_MS: u64 = 10_000;
/// Windows of different length that metrics of one rollout may have, beyond which they share the longest.
const WINDOWS_MAX: usize = 4;

/// Counts of one rollout, now and at a few moments before.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Both arms, canary first.
    now: [ArmTotals; 2],
    open: [u64; 2],
    /// When the run began.
    from: [ArmTotals; 2],
    rates: Samples<[ArmTotals; 2]>,
    heads: Samples<[HeadTimes; 2]>,
    windows: Vec<Window>,
    /// What the answers of each arm say of slowness, and when they said so. The primary's is in force.
    slow: [Option<(u64, Slow)>; 2],
    learned_at: Option<u64>,
    /// What the last five minutes' answers took, as last worked out: canary and primary, p50 and p99.
    quantiles_ms: [[Option<f64>; 2]; 2],
}

/// The canary's counts over the window of a metric.
#[derive(Debug)]
struct Window {
    length_ms: u64,
    samples: Samples<(ArmTotals, HeadTimes)>,
}

/// When a request is slow, and how many of the primary's are.
#[derive(Clone, Copy, Debug)]
struct Slow {
    ages_us: [u64; 3],
    shares: SlowShares,
    /// Nothing that works takes so long.
    hung_us: u64,
}

/// Canary, primary.
const ARMS: [Arm; 2] = [Arm::Canary, Arm::Primary];

impl Counts {
    /// Nothing was counted yet. `windows`: of the metrics that are measured here.
    pub(crate) fn new(windows: impl Iterator<Item = Duration>) -> Self {
        let mut lengths: Vec<u64> =
            windows.map(|window| u64::try_from(window.as_millis()).unwrap_or(u64::MAX)).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        lengths.truncate(WINDOWS_MAX);
        let window = |length_ms| Window { length_ms, samples: Samples::over(length_ms) };
        Self {
            now: Default::default(),
            open: [0; 2],
            from: Default::default(),
            rates: Samples::over(RATE_WINDOW_MS),
            heads: Samples::over(SLOW_WINDOW_MS),
            windows: lengths.into_iter().map(window).collect(),
            slow: [None; 2],
            learned_at: None,
            quantiles_ms: Default::default(),
        }
    }

    /// Takes what the workers say now.
    pub(crate) fn sample(&mut self, evidence: &SplitEvidence, traffic: &Traffic, now_ms: u64) {
        self.now = [traffic.canary, traffic.primary];
        let open = |at: usize| {
            let ArmTotals { routed, completed, .. } = self.now[at];
            routed.saturating_sub(completed).saturating_sub(evidence.abandoned(ARMS[at]))
        };
        self.open = [open(0), open(1)];
        self.rates.push(now_ms, || self.now);
        if self.learned_at.is_none_or(|at| now_ms.saturating_sub(at) >= LEARN_MS) {
            self.learned_at = Some(now_ms);
            let heads = ARMS.map(|arm| evidence.heads(arm));
            self.heads.push(now_ms, || heads.clone());
            self.learn(&heads, now_ms);
        }
        for window in &mut self.windows {
            window.samples.push(now_ms, || answered(evidence, traffic.canary));
        }
    }

    /// A run begins: what the canary did before does not belong to it. The primary's history goes on.
    pub(crate) fn begin_run(&mut self, evidence: &SplitEvidence, now_ms: u64) {
        self.from = self.now;
        self.learned_at = None; // the first step must not wait for what is known already
        for window in &mut self.windows {
            window.samples.clear();
            window.samples.push(now_ms, || answered(evidence, self.now[0]));
        }
    }

    /// Other arms: their counts begin at nothing. `primary`: the arm that the primary was before, if it was one of them.
    /// Then its history tells what is slow until the new counts do.
    pub(crate) fn rearm(&mut self, primary: Option<Arm>) {
        let windows: Vec<_> = self.windows.iter().map(|window| Duration::from_millis(window.length_ms)).collect();
        let slow = primary.and_then(|arm| self.slow[usize::from(arm == Arm::Primary)]);
        *self = Self { slow: [None, slow], ..Self::new(windows.into_iter()) };
        // what is counted before the first look belongs to the history as well
        self.heads.push(0, Default::default);
    }

    /// What a look is told of slow requests.
    pub(crate) fn slow_shares(&self) -> Option<SlowShares> {
        self.slow[1].map(|(_, slow)| slow.shares)
    }

    /// The ages that go with what the last look was told, for a step of this weight.
    ///
    /// With all of the traffic on the canary nobody learns whether everything is slower now, as on a machine that got
    /// busy. There only a request that hangs is slow.
    pub(crate) fn slow_ages(&self, weight: Ppm) -> Option<[u64; 3]> {
        self.slow[1].map(|(_, slow)| if weight < Ppm::WHOLE { slow.ages_us } else { [slow.hung_us; 3] })
    }

    /// A metric of ours over its window, or over the run where that is shorter.
    pub(crate) fn reading(
        &self,
        source: MetricSource,
        window: Duration,
        evidence: &SplitEvidence,
        now_ms: u64,
    ) -> Reading {
        let length_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let ring = self.windows.iter().rfind(|ring| ring.length_ms >= length_ms).or(self.windows.first());
        let Some((_, (totals, heads))) = ring.and_then(|ring| ring.samples.before(now_ms, length_ms)) else {
            return Reading::NoValues;
        };
        let (now, now_heads) = answered(evidence, self.now[0]);
        let completed = now.completed.saturating_sub(totals.completed);
        let failed = now.failed.saturating_sub(totals.failed).min(completed);
        match source {
            MetricSource::SuccessRate if completed > 0 => {
                Reading::Value((completed - failed) as f64 * 100.0 / completed as f64)
            }
            MetricSource::Duration => {
                let p99 = now_heads.since(heads).quantile(0.99);
                p99.map_or(Reading::NoValues, |us| Reading::Value(us as f64 / 1000.0))
            }
            _ => Reading::NoValues,
        }
    }

    /// What is shown of an arm.
    pub(crate) fn arm(&self, arm: Arm, up: bool, now_ms: u64) -> ArmView {
        let at = usize::from(arm == Arm::Primary);
        let (now, from) = (self.now[at], self.from[at]);
        let (rate, failure_rate) = match self.rates.before(now_ms, RATE_WINDOW_MS) {
            Some((then_ms, then)) if now_ms > then_ms => {
                let seconds = (now_ms - then_ms) as f64 / 1000.0;
                let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
                (per_second(now.routed, then[at].routed), per_second(now.failed, then[at].failed))
            }
            _ => (0.0, 0.0),
        };
        let [p50_ms, p99_ms] = self.quantiles_ms[at];
        ArmView {
            requests: now.routed.saturating_sub(from.routed),
            failed: now.failed.saturating_sub(from.failed),
            open: self.open[at],
            rate,
            failure_rate,
            p50_ms,
            p99_ms,
            up,
        }
    }

    /// Canary, primary: requests and failures since the split has these arms.
    pub(crate) fn since_arms(&self) -> [(u64, u64); 2] {
        self.now.map(|totals| (totals.routed, totals.failed))
    }

    /// Quantiles of the last five minutes.
    fn learn(&mut self, heads: &[HeadTimes; 2], now_ms: u64) {
        let Some((_, then)) = self.heads.before(now_ms, SLOW_WINDOW_MS) else { return };
        let recent = [heads[0].since(&then[0]), heads[1].since(&then[1])];
        let ms = |us: Option<u64>| us.map(|us| us as f64 / 1000.0);
        self.quantiles_ms = [0, 1].map(|at| [ms(recent[at].quantile(0.5)), ms(recent[at].quantile(0.99))]);
        for (known, recent) in self.slow.iter_mut().zip(&recent) {
            let Some(slow) = slow_of(recent) else { continue };
            // what was known before is better than nothing, and a long history better than a short one, while it is fresh
            let is_worse = |(at, old): (u64, Slow)| {
                slow.shares.rough && !old.shares.rough && now_ms.saturating_sub(at) <= SLOW_WINDOW_MS
            };
            if !known.is_some_and(is_worse) {
                *known = Some((now_ms, slow));
            }
        }
    }
}

/// When an answer of this arm is slow, if it gave enough of them.
///
/// A short history says nothing of quantiles, but enough to tell a canary that hangs: it leaves requests waiting for
/// several times as long as the primary ever took. Fewer than one in a hundred of the primary's are.
fn slow_of(recent: &HeadTimes) -> Option<Slow> {
    if recent.count() < HUNG_REQUESTS_MIN {
        return None;
    }
    let hung_us = recent.quantile(1.0)?.saturating_mul(HUNG_TIMES).max(HUNG_US_MIN);
    if recent.count() < SLOW_REQUESTS_MIN {
        let share = |percent| Ppm::from_percent(percent).unwrap_or(Ppm::ZERO);
        let shares = SlowShares { slow50: share(50), slow90: share(10), slow99: share(1), rough: true };
        return Some(Slow { ages_us: [hung_us; 3], shares, hung_us });
    }
    let ages_us = [recent.quantile(0.5)?, recent.quantile(0.9)?, recent.quantile(0.99)?].map(|us| us.max(SLOW_US_MIN));
    let [slow50, slow90, slow99] = ages_us.map(|edge| recent.share_above(edge));
    Some(Slow { ages_us, shares: SlowShares { slow50, slow90, slow99, rough: false }, hung_us })
}

/// What the canary answered, and how fast: users and copies. It gets copies only while it gets no users.
fn answered(evidence: &SplitEvidence, users: ArmTotals) -> (ArmTotals, HeadTimes) {
    let copies = evidence.mirrored();
    let all = copies.success + copies.failure;
    let totals = ArmTotals {
        routed: users.routed + all,
        completed: users.completed + all,
        failed: users.failed + copies.failure,
    };
    (totals, evidence.heads(Arm::Canary).plus(&copies.heads))
}

/// Has each arm an endpoint that can serve: canary, primary.
pub(crate) fn arms_up(evidence: &SplitEvidence) -> [bool; 2] {
    ARMS.map(|arm| evidence.is_up(arm))
}

#[cfg(test)]
mod tests {
    use serin_metrics::Class;

    use super::*;

    #[test]
    fn with_all_of_the_traffic_on_the_canary_only_what_hangs_is_slow() {
        let evidence = SplitEvidence::new(1);
        let mut counts = Counts::new(std::iter::empty());
        counts.sample(&evidence, &evidence.traffic(), 1_000);
        for at in 0..SLOW_REQUESTS_MIN {
            evidence.tally(0).head(Arm::Primary, 10_000 + 10 * at);
        }
        counts.sample(&evidence, &evidence.traffic(), 3_000);
        let [p50, _, p99] = counts.slow_ages(Ppm::clamped(500_000)).unwrap();
        assert!((14_000..17_000).contains(&p50) && (19_000..22_000).contains(&p99), "{p50} {p99}");
        assert_eq!(counts.slow_ages(Ppm::WHOLE), Some([HUNG_US_MIN; 3]), "a busy machine is slower than before");
    }

    #[test]
    fn fractions_of_a_millisecond_are_not_slow() {
        let evidence = SplitEvidence::new(1);
        let mut counts = Counts::new(std::iter::empty());
        counts.sample(&evidence, &evidence.traffic(), 1_000);
        for at in 0..SLOW_REQUESTS_MIN {
            evidence.tally(0).head(Arm::Primary, if at % 20 == 0 { 40_000 } else { 300 });
        }
        counts.sample(&evidence, &evidence.traffic(), 3_000);
        let [p50, p90, p99] = counts.slow_ages(Ppm::clamped(500_000)).unwrap();
        assert!(p50 == SLOW_US_MIN && p90 == SLOW_US_MIN && p99 > 30_000, "{p50} {p90} {p99}");
        let shares = counts.slow_shares().unwrap();
        assert_eq!((shares.slow50, shares.slow90), (Ppm::clamped(50_000), Ppm::clamped(50_000)), "what is really so");
    }

    #[test]
    fn while_copies_go_to_the_canary_its_metrics_are_theirs() {
        let evidence = SplitEvidence::new(1);
        let window = Duration::from_secs(60);
        let mut counts = Counts::new([window].into_iter());
        counts.sample(&evidence, &evidence.traffic(), 1_000);
        counts.begin_run(&evidence, 1_000);
        let copies = evidence.tally(0).copies();
        for class in [Class::Success, Class::Success, Class::Success, Class::Failure] {
            copies.head(10_000);
            copies.ended(class);
        }
        counts.sample(&evidence, &evidence.traffic(), 2_000);
        let reading = |source| counts.reading(source, window, &evidence, 2_000);
        assert_eq!(reading(MetricSource::SuccessRate), Reading::Value(75.0));
        let Reading::Value(p99_ms) = reading(MetricSource::Duration) else { panic!("no duration") };
        assert!((10.0..12.0).contains(&p99_ms), "{p99_ms}");
        assert_eq!(counts.arm(Arm::Canary, true, 2_000).requests, 0, "no user was there");
    }
}
