//! One simulated rollout: the traffic, the machine, and what is told when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::rng::Rng;
use super::{Arms, Clusters, End, Fault, Outcome, Scenario, TAU_MS};
use crate::record::{Arm, EventRecord, Key, Kind};
use crate::{
    Look, Open, Pace, Phase, Ppm, Readiness, Revision, Rollout, SlowShares, State, Tick, TimestampMs, Traffic,
};

pub(super) struct World<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    rollout: Rollout,
    target: Revision,
    origin: Revision,
    now: TimestampMs,
    traffic: Traffic,
    /// What happens later, in order of time; the number keeps equals in order.
    later: BinaryHeap<Reverse<(u64, u64, Later)>>,
    sequence: u64,
    /// Requests of the primary, and of the canary, whose failure is not known yet: routed at, share.
    open: [Vec<(TimestampMs, Ppm)>; 2],
    /// Canary requests that hang for good, by share.
    hanging: Vec<(TimestampMs, Ppm, u64)>,
    /// Failures in a row of each endpoint of a refusing canary.
    endpoints: Vec<u32>,
    ejected_at: Option<TimestampMs>,
    /// Users that fail at everything: their places in the split.
    broken_users: Vec<f64>,
    onset: Option<(TimestampMs, u64, u64)>,
    score_most: f64,
    started_at: TimestampMs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Later {
    /// A failure becomes known.
    Fails { arm: Arm, share: Ppm, routed_ms: u64, key: Option<Key> },
    /// Requests become slow.
    Slow { canary: bool, share: Ppm, routed_ms: u64, tau: usize, times: u64 },
    /// The judge looks again, since an order may be clear now.
    Look,
}

/// Failures of one tick: when, which arm, for whom.
type Failure = (u64, Arm, Option<Key>);

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario, seed: u64) -> World<'a> {
        let mut rng = Rng::new(seed);
        let origin = named("old");
        let old = Some(origin.clone());
        let state = State {
            phase: Phase::Initialized,
            applied: old.clone(),
            promoted: old.clone(),
            serving: old,
            ..State::default()
        };
        let now = TimestampMs(1_000_000);
        let users = if let Clusters::Sticky(users) = scenario.clusters { users } else { 0 };
        let broken = rng.binomial(u64::from(users), scenario.primary.failure_rate);
        let endpoints = if let Fault::Refuses(endpoints) = scenario.canary.fault { endpoints } else { 0 };
        World {
            rollout: Rollout::new(Pace::Evidence(scenario.policy.clone()), state, now),
            target: named("new"),
            origin,
            now,
            traffic: Traffic::default(),
            later: BinaryHeap::new(),
            sequence: 0,
            open: [Vec::new(), Vec::new()],
            hanging: Vec::new(),
            endpoints: vec![0; endpoints as usize],
            ejected_at: None,
            broken_users: (0..broken).map(|_| rng.unit()).collect(),
            onset: None,
            score_most: 0.0,
            started_at: now,
            scenario,
            rng,
        }
    }

    pub(super) fn run(mut self) -> Outcome {
        let interval_ms = self.scenario.policy.settings().interval_ms;
        let mut next_tick = self.now;
        loop {
            if self.now >= next_tick {
                self.tick();
                next_tick = next_tick.plus(interval_ms);
            }
            self.look();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            let until = self.now.plus(self.tick_ms()).min(next_tick);
            self.pass(until);
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
        }
    }

    /// Lets time pass to `until`: draws what happens in it, then plays it in order.
    fn pass(&mut self, until: TimestampMs) {
        let (from, share) = (self.now, self.share());
        let span_s = until.since(from) as f64 / 1_000.0;
        self.note_onset();
        let (canary, primary) = (self.behaviour(Arm::Canary), self.behaviour(Arm::Primary));
        let mut failures = self.failures(span_s, until.since(from), &canary, &primary);
        failures.sort_unstable();
        let good = |arm: &Arms, share: f64| self.scenario.rps * span_s * share * (1.0 - arm.failure_rate);
        let (canary_mean, primary_mean) = (good(&canary, share.fraction()), good(&primary, share.rest().fraction()));
        let counts = [self.rng.poisson(canary_mean), self.rng.poisson(primary_mean)];
        let hangs = canary.fault == Fault::Hangs;
        if hangs {
            self.hang(counts[0], share, from);
        }
        if self.scenario.slow || hangs {
            self.slow(counts, share, canary.slowdown, hangs, until);
        }
        let before = [self.traffic.canary, self.traffic.primary];
        let mut failed = [0_u64; 2];
        let span_ms = until.since(from).max(1);
        let mut upcoming = failures.into_iter().peekable();
        loop {
            let next_later = self.later.peek().map(|Reverse((at, ..))| *at).filter(|at| *at <= until.0);
            let next_failure = upcoming.peek().map(|(at, ..)| from.0 + at);
            let (at, is_failure) = match (next_failure, next_later) {
                (Some(failure), Some(later)) if failure <= later => (failure, true),
                (Some(failure), None) => (failure, true),
                (_, Some(later)) => (later, false),
                (None, None) => break,
            };
            self.now = TimestampMs(at.max(self.now.0));
            let so_far = |count: u64| (count as f64 * (self.now.since(from) as f64 / span_ms as f64)) as u64;
            let done = [if hangs { 0 } else { so_far(counts[0]) }, so_far(counts[1])];
            self.traffic.canary.routed = before[0].routed + so_far(counts[0]) + failed[0];
            self.traffic.primary.routed = before[1].routed + so_far(counts[1]) + failed[1];
            self.traffic.canary.completed = self.traffic.canary.completed.max(before[0].completed + done[0]);
            if is_failure {
                let Some((_, arm, key)) = upcoming.next() else { break };
                failed[usize::from(arm == Arm::Primary)] += 1;
                self.request_fails(arm, share, key);
            } else if let Some(Reverse((_, _, later))) = self.later.pop() {
                self.comes(later);
            }
            if self.rollout.state().phase.is_end() || self.share() != share {
                // What was drawn for the rest of this stretch was drawn for another weight.
                return;
            }
        }
        self.now = until;
        self.traffic.canary.routed = before[0].routed + counts[0] + failed[0];
        self.traffic.primary.routed = before[1].routed + counts[1] + failed[1];
        if !hangs {
            self.traffic.canary.completed =
                before[0].completed.max(self.traffic.canary.routed - self.open[1].len() as u64);
        }
        self.traffic.primary.completed = self.traffic.primary.routed;
    }

    /// Draws the failures of one stretch.
    fn failures(&mut self, span_s: f64, span_ms: u64, canary: &Arms, primary: &Arms) -> Vec<Failure> {
        let share = self.share().fraction();
        let rps = self.scenario.rps;
        let mut failures = Vec::new();
        if let Clusters::Sticky(users) = self.scenario.clusters {
            let each = rps * span_s / f64::from(users.max(1));
            for user in 0..self.broken_users.len() {
                let arm = if self.broken_users[user] < share { Arm::Canary } else { Arm::Primary };
                for _ in 0..self.rng.poisson(each) {
                    failures.push((self.rng.below(span_ms), arm, Some(Key::Session(user as u64))));
                }
            }
            return failures;
        }
        for (arm, behaviour, share) in [(Arm::Canary, canary, share), (Arm::Primary, primary, 1.0 - share)] {
            let size = if let Clusters::Sessions(mean) = self.scenario.clusters { mean } else { 1.0 };
            for _ in 0..self.rng.poisson(rps * span_s * share * behaviour.failure_rate / size) {
                let at = self.rng.below(span_ms);
                let key = match self.scenario.clusters {
                    Clusters::Peers(peers) => Some(Key::Session(self.rng.below(u64::from(peers)))),
                    Clusters::Sessions(_) => Some(Key::Session(self.rng.next())),
                    Clusters::None | Clusters::Sticky(_) => None,
                };
                let times = if size > 1.0 { self.rng.geometric(size) } else { 1 };
                for again in 0..times {
                    failures.push(((at + again * 100).min(span_ms - 1), arm, key));
                }
            }
        }
        failures
    }

    /// One request fails; how soon that is known is the arm's affair.
    fn request_fails(&mut self, arm: Arm, share: Ppm, key: Option<Key>) {
        let behaviour = if arm == Arm::Canary { self.scenario.canary } else { self.scenario.primary };
        let routed_ms = self.now.0;
        if arm == Arm::Canary && !self.endpoints.is_empty() {
            self.refuse();
        }
        if behaviour.late_ms == 0 {
            return self.fails(arm, share, routed_ms, key);
        }
        self.open[usize::from(arm == Arm::Canary)].push((self.now, share));
        self.later(routed_ms + behaviour.late_ms, Later::Fails { arm, share, routed_ms, key });
    }

    fn fails(&mut self, arm: Arm, share: Ppm, routed_ms: u64, key: Option<Key>) {
        let totals = if arm == Arm::Canary { &mut self.traffic.canary } else { &mut self.traffic.primary };
        totals.failed += 1;
        totals.completed += 1;
        let routed_at = TimestampMs(routed_ms);
        let record = EventRecord { arm, share, routed_at, kind: Kind::Failure, key, randomised: true };
        self.rollout.observe(record, 1);
        if arm == Arm::Canary {
            self.look();
            if !self.open[0].is_empty() {
                self.later(self.now.0 + TAU_MS[2] + 1, Later::Look);
            }
        }
    }

    fn comes(&mut self, later: Later) {
        match later {
            Later::Fails { arm, share, routed_ms, key } => {
                let open = &mut self.open[usize::from(arm == Arm::Canary)];
                if let Some(at) = open.iter().position(|(routed, _)| routed.0 == routed_ms) {
                    open.swap_remove(at);
                }
                self.fails(arm, share, routed_ms, key);
            }
            Later::Slow { canary, share, routed_ms, tau, times } => {
                let arm = if canary { Arm::Canary } else { Arm::Primary };
                let kind = [Kind::Slow50, Kind::Slow90, Kind::Slow99][tau];
                let routed_at = TimestampMs(routed_ms);
                self.rollout.observe(EventRecord { arm, share, routed_at, kind, key: None, randomised: true }, times);
                if canary {
                    self.look();
                }
            }
            Later::Look => self.look(),
        }
    }

    /// Draws the slow requests of one stretch: slow ones are slow again later, most likely not.
    fn slow(&mut self, counts: [u64; 2], share: Ppm, slowdown: f64, hangs: bool, until: TimestampMs) {
        // As if all had been routed at the end: no request is slow before it is counted. The primary's come first, as
        // the judge would find them together.
        let routed_ms = until.0.saturating_sub(1);
        for (arm, factor, hangs) in [(1, 1.0, false), (0, slowdown, hangs)] {
            let mut left = counts[arm];
            let mut before = 1.0;
            for (tau, tau_ms) in TAU_MS.iter().enumerate() {
                let beyond = if hangs { 1.0 } else { share_beyond(*tau_ms as f64 / factor) };
                left = self.rng.binomial(left, (beyond / before).min(1.0));
                before = beyond;
                if left > 0 {
                    let slow = Later::Slow { canary: arm == 0, share, routed_ms, tau, times: left };
                    self.later(routed_ms + tau_ms, slow);
                }
            }
        }
    }

    fn hang(&mut self, count: u64, share: Ppm, from: TimestampMs) {
        if count > 0 {
            self.hanging.push((from, share, count));
        }
    }

    /// A refused connection: the endpoint comes nearer to its ejection.
    fn refuse(&mut self) {
        let admitted: Vec<usize> = (0..self.endpoints.len()).filter(|at| self.endpoints[*at] < EJECT_AFTER).collect();
        if admitted.is_empty() {
            return;
        }
        let at = admitted[self.rng.below(admitted.len() as u64) as usize];
        self.endpoints[at] += 1;
        if self.endpoints[at] == EJECT_AFTER && self.ejected_at.is_none() {
            self.ejected_at = Some(self.now);
        }
    }

    fn tick(&mut self) {
        let tick = Tick {
            target: &self.target,
            origin: &self.origin,
            canary: Readiness::Ready,
            primary: Readiness::Ready,
            answers: &[],
            readings: &[],
            skip_analysis: false,
            suspended: false,
        };
        let _decision = self.rollout.tick(&tick, self.now);
    }

    fn look(&mut self) {
        let split = |open: &[(TimestampMs, Ppm)], now: TimestampMs| {
            let mut told = Open::default();
            for (routed, share) in open {
                if now.since(*routed) <= TAU_MS[2] {
                    told.oldest = Some(told.oldest.map_or(*routed, |oldest| oldest.min(*routed)));
                } else if told.overdue.len() < crate::OVERDUE_SHARES_MAX {
                    match told.overdue.iter_mut().find(|(of, _)| of == share) {
                        Some((_, count)) => *count += 1,
                        None => told.overdue.push((*share, 1)),
                    }
                }
            }
            told
        };
        self.traffic.primary_open = split(&self.open[0], self.now);
        self.traffic.canary_open = split(&self.open[1], self.now);
        let now = self.now;
        for (routed, share, count) in &self.hanging {
            if now.since(*routed) > TAU_MS[2] {
                self.traffic.canary_open.overdue.push((*share, u32::try_from(*count).unwrap_or(u32::MAX)));
            }
        }
        // None of these endpoints ever answers: once one is out, the others count as soon as each was tried.
        let refused = self.ejected_at.is_some() && self.endpoints.iter().all(|failures| *failures > 0);
        let slow = self.scenario.slow || self.scenario.canary.fault == Fault::Hangs;
        let shares = TAU_MS.map(|tau| Ppm::clamped((share_beyond(tau as f64) * 1e6) as i64));
        let look = Look {
            traffic: &self.traffic.clone(),
            canary_up: !refused,
            primary_up: true,
            slow: slow.then_some(SlowShares { slow50: shares[0], slow90: shares[1], slow99: shares[2], rough: false }),
        };
        let _decision = self.rollout.look(&look, self.now);
        self.score_most = self.score_most.max(self.rollout.standing().score);
    }

    fn outcome(&self) -> Option<Outcome> {
        let end = match self.rollout.state().phase {
            Phase::Promoted => End::Promoted,
            Phase::RolledBack => End::RolledBack,
            _ if self.now.since(self.started_at) as f64 >= self.scenario.horizon_s * 1_000.0 => End::Undecided,
            _ => return None,
        };
        let (onset, routed, failed) = self.onset.unwrap_or((self.now, 0, 0));
        Some(Outcome {
            end,
            at: TimestampMs(self.now.since(self.started_at)),
            after_onset_ms: self.now.since(onset),
            failures: self.traffic.canary.failed - failed,
            requests: self.traffic.canary.routed - routed,
            after_ejection_ms: self.ejected_at.map(|at| self.now.since(at)),
            score_most: self.score_most,
        })
    }

    fn note_onset(&mut self) {
        let elapsed_s = self.now.since(self.started_at) as f64 / 1_000.0;
        let scenario = self.scenario;
        if self.onset.is_none()
            && elapsed_s >= scenario.onset_s
            && self.share() >= scenario.onset_share
            && self.share() > Ppm::ZERO
        {
            self.onset = Some((self.now, self.traffic.canary.routed, self.traffic.canary.failed));
        }
    }

    /// How an arm behaves now.
    fn behaviour(&self, arm: Arm) -> Arms {
        let elapsed_s = self.now.since(self.started_at) as f64 / 1_000.0;
        let mut it = match arm {
            Arm::Canary if self.onset.is_some() => self.scenario.canary,
            Arm::Canary | Arm::Primary => self.scenario.primary,
        };
        if let Some(outage) = self.scenario.outage.filter(|o| (o.from_s..o.until_s).contains(&elapsed_s)) {
            it.failure_rate = (it.failure_rate + outage.rate).min(1.0);
        }
        if matches!(it.fault, Fault::Refuses(_)) {
            it.failure_rate = 1.0;
        }
        it
    }

    fn share(&self) -> Ppm {
        self.rollout.state().weight
    }

    /// How long a stretch may be: short enough for what is simulated.
    fn tick_ms(&self) -> u64 {
        match self.scenario.rps {
            _ if self.scenario.canary.fault != Fault::None => 50,
            _ if self.scenario.slow => 250,
            rps if rps >= 50.0 => 1_000,
            rps if rps >= 5.0 => 4_000,
            _ => 20_000,
        }
    }

    fn later(&mut self, at_ms: u64, later: Later) {
        self.sequence += 1;
        self.later.push(Reverse((at_ms, self.sequence, later)));
    }
}

fn named(name: &str) -> Revision {
    name.parse().unwrap_or_else(|_| unreachable!("a legal name"))
}

/// The share of the primary's requests that take longer: a lognormal of median 20 ms and sigma 0.8.
fn share_beyond(ms: f64) -> f64 {
    let z = (ms / 20.0).ln() / 0.8;
    // The tail of the normal distribution, to 1e-7 (Abramowitz and Stegun 26.2.17).
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = series.iter().rev().fold(0.0, |sum, c| (sum + c) * t);
    let tail = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum;
    if z >= 0.0 { tail } else { 1.0 - tail }
}

const EJECT_AFTER: u32 = 5;
