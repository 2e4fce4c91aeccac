//! What the judge reports of rollouts. It changes a few times a second at most, so one lock and plain values hold it;
//! a scrape copies and prints outside the lock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};

use crate::collector::{describe, write_counter, write_gauge};
use crate::names::{self, Family};
use crate::table::{limited, lock};

/// Series of one family of rollouts. A thousand rollouts with a handful of label values each stay below it.
pub const ROLLOUT_SERIES_MAX: usize = 20_000;

/// Every phase a rollout can be in; the label `phase`.
pub const PHASES: [&str; 9] = [
    "finalising",
    "initialized",
    "initializing",
    "progressing",
    "promoted",
    "promoting",
    "rolled-back",
    "waiting",
    "waiting-promotion",
];

/// One rollout as it stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RolloutSample {
    /// Its name.
    pub rollout: Arc<str>,
    /// Label of its router.
    pub router: String,
    /// The dentry prefix it owns.
    pub path: String,
    /// The old version.
    pub primary: String,
    /// The new version.
    pub canary: String,
    /// What is judged, or was judged last.
    pub revision: String,
    /// `evidence` or `interval`. Rollouts of pace `interval` are also told of by the names that Flagger has.
    pub pace: &'static str,
    /// One of [`PHASES`].
    pub phase: String,
    /// The canary's share in force, parts per million.
    pub weight_ppm: u32,
    /// Seconds since the weight became what it is.
    pub step_seconds: f64,
    /// Failed checks of this run.
    pub failed_checks: u32,
    /// A person or the file froze the weight.
    pub paused: bool,
    /// Why the weight stays, if it does.
    pub held: Option<String>,
    /// The gate that is closed, and for how many seconds.
    pub waiting: Option<(String, f64)>,
    /// The score against the canary.
    pub score: f64,
    /// The score that rolls back; 0 if the guard is off.
    pub score_max: f64,
    /// The score of each kind of event.
    pub by_kind: Vec<(&'static str, f64)>,
    /// Canary, then primary: requests sent and failed since the split has these arms.
    pub arms: [(u64, u64); 2],
    /// Whether the journal can be written.
    pub durable: bool,
    /// The last value of each metric of `analysis`: in percent, in seconds, or as the provider says.
    pub readings: Vec<(String, f64)>,
}

/// How a rollout ended; the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutOutcome {
    /// The canary is the new version.
    Promoted,
    /// All traffic went back.
    RolledBack,
}

impl RolloutOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// What the judge reports. Methods take `&self` and lock for moments.
#[derive(Debug, Default)]
pub struct Rollouts(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    samples: Arc<Vec<RolloutSample>>,
    /// By rollout and code of the event.
    events: BTreeMap<[String; 2], u64>,
    /// By rollout and outcome.
    durations: BTreeMap<[String; 2], Durations>,
    /// By rollout, hook and result.
    hooks: BTreeMap<[String; 3], Durations>,
    /// By rollout, namespace, strategy and how it was analysed.
    successes: BTreeMap<[String; 4], u64>,
    failures: BTreeMap<[String; 4], u64>,
    /// By rollout and namespace.
    ticks: BTreeMap<[String; 2], Durations>,
    /// Kind, result, total.
    outside: Vec<(&'static str, &'static str, u64)>,
    dropped: u64,
}

impl Rollouts {
    /// All rollouts as they stand, in place of those that were there.
    pub fn replace(&self, samples: Vec<RolloutSample>) {
        lock(&self.0).samples = Arc::new(samples);
    }

    /// What was asked and told beyond this process since it started: kind of job, `done`, `failed` or `dropped`, total.
    /// In place of what was there.
    pub fn outside(&self, totals: Vec<(&'static str, &'static str, u64)>) {
        lock(&self.0).outside = totals;
    }

    /// Something happened; `code` is that of the event.
    pub fn event(&self, rollout: &str, code: &str) {
        let mut state = lock(&self.0);
        let State { events, dropped, .. } = &mut *state;
        if let Some(count) = slot(events, [limited(rollout), limited(code)], dropped) {
            *count += 1;
        }
    }

    /// A run ended, so many seconds after it began. `strategy` is one of Flagger's words (`canary`, `blue-green`,
    /// `ab-testing`); `skipped`: nothing was judged.
    pub fn ended(
        &self,
        rollout: &str,
        router: &str,
        outcome: RolloutOutcome,
        strategy: &str,
        skipped: bool,
        seconds: f64,
    ) {
        let mut state = lock(&self.0);
        let State { durations, successes, failures, dropped, .. } = &mut *state;
        if let Some(all) = slot(durations, [limited(rollout), outcome.as_str().into()], dropped) {
            all.observe(&RUN_SECONDS, seconds);
        }
        let analysed = if skipped { "skipped" } else { "completed" };
        let counts = if outcome == RolloutOutcome::Promoted { successes } else { failures };
        let key = [limited(rollout), limited(router), strategy.into(), analysed.into()];
        if let Some(count) = slot(counts, key, dropped) {
            *count += 1;
        }
    }

    /// A hook answered, or did not in time; `result` is `passed`, `refused` or `failed`.
    pub fn hook(&self, rollout: &str, hook: &str, result: &'static str, seconds: f64) {
        let mut state = lock(&self.0);
        let State { hooks, dropped, .. } = &mut *state;
        if let Some(all) = slot(hooks, [limited(rollout), limited(hook), result.into()], dropped) {
            all.observe(&HOOK_SECONDS, seconds);
        }
    }

    /// One tick of an interval took so long, hooks and providers included.
    pub fn tick(&self, rollout: &str, router: &str, seconds: f64) {
        let mut state = lock(&self.0);
        let State { ticks, dropped, .. } = &mut *state;
        if let Some(all) = slot(ticks, [limited(rollout), limited(router)], dropped) {
            all.observe(&HOOK_SECONDS, seconds);
        }
    }

    /// Forgets what was counted of a rollout that is no more.
    pub fn forget(&self, rollout: &str) {
        let mut state = lock(&self.0);
        let name = limited(rollout);
        state.events.retain(|key, _| key[0] != name);
        state.durations.retain(|key, _| key[0] != name);
        state.hooks.retain(|key, _| key[0] != name);
        state.successes.retain(|key, _| key[0] != name);
        state.failures.retain(|key, _| key[0] != name);
        state.ticks.retain(|key, _| key[0] != name);
    }
}

/// The value of a key, made where there is room for one more.
fn slot<'m, K: Ord, V: Default>(map: &'m mut BTreeMap<K, V>, key: K, dropped: &mut u64) -> Option<&'m mut V> {
    if map.len() >= ROLLOUT_SERIES_MAX && !map.contains_key(&key) {
        *dropped += 1;
        return None;
    }
    Some(map.entry(key).or_default())
}

/// Observations by upper bound.
#[derive(Clone, Debug, Default)]
struct Durations {
    /// One for each bound, and one beyond them. Empty: nothing was observed.
    counts: Vec<u64>,
    sum: f64,
}

/// How long a run of a rollout takes: ten seconds to a week.
const RUN_SECONDS: [f64; 12] =
    [10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0, 604_800.0];
/// How long a hook or a tick takes.
const HOOK_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

impl Durations {
    fn observe(&mut self, bounds: &[f64], seconds: f64) {
        if seconds.is_nan() {
            return;
        }
        self.counts.resize(bounds.len() + 1, 0);
        let place = bounds.iter().position(|bound| seconds <= *bound).unwrap_or(bounds.len());
        self.counts[place] += 1;
        self.sum += seconds.max(0.0);
    }

    fn write<const N: usize>(
        &self,
        family: &mut MetricEncoder<'_>,
        bounds: &[f64],
        labels: &[(&str, &str); N],
    ) -> fmt::Result {
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts.iter().copied()).collect();
        let count = self.counts.iter().sum();
        family.encode_family(labels)?.encode_histogram::<NoLabelSet>(self.sum, count, &buckets, None)
    }
}

/// Prints [`Rollouts`].
#[derive(Debug)]
pub(crate) struct RolloutCollector(pub(crate) Arc<Rollouts>);

impl Collector for RolloutCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = lock(&self.0.0).clone();
        state.encode_standing(&mut encoder)?;
        state.encode_evidence(&mut encoder)?;
        state.encode_history(&mut encoder)?;
        state.encode_as_flagger(&mut encoder)
    }
}

impl State {
    fn encode_standing(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut info = describe(encoder, &names::ROLLOUT_INFO)?;
        for one in &*self.samples {
            let labels = [
                ("rollout", &*one.rollout),
                ("router", &one.router),
                ("path", &one.path),
                ("primary", &one.primary),
                ("canary", &one.canary),
                ("revision", &one.revision),
                ("pace", one.pace),
            ];
            write_gauge(&mut info, &labels, 1_i64)?;
        }
        let mut phases = describe(encoder, &names::ROLLOUT_PHASE)?;
        for one in &*self.samples {
            for phase in PHASES {
                write_gauge(
                    &mut phases,
                    &[("rollout", &*one.rollout), ("phase", phase)],
                    i64::from(one.phase == phase),
                )?;
            }
        }
        let mut weights = describe(encoder, &names::ROLLOUT_WEIGHT)?;
        for one in &*self.samples {
            for (arm, share) in [("canary", one.weight_ppm), ("primary", 1_000_000_u32.saturating_sub(one.weight_ppm))]
            {
                write_gauge(&mut weights, &[("rollout", &*one.rollout), ("arm", arm)], i64::from(share))?;
            }
        }
        self.gauges(encoder, &names::ROLLOUT_STEP_SECONDS, |one| one.step_seconds)?;
        self.gauges(encoder, &names::ROLLOUT_FAILED_CHECKS, |one| f64::from(one.failed_checks))?;
        self.gauges(encoder, &names::ROLLOUT_PAUSED, |one| f64::from(u8::from(one.paused)))?;
        self.gauges(encoder, &names::ROLLOUT_DURABLE, |one| f64::from(u8::from(one.durable)))?;
        let mut held = describe(encoder, &names::ROLLOUT_HELD)?;
        for (one, why) in self.samples.iter().filter_map(|one| Some((one, one.held.as_ref()?))) {
            write_gauge(&mut held, &[("rollout", &*one.rollout), ("reason", why)], 1_i64)?;
        }
        let mut waits = describe(encoder, &names::ROLLOUT_GATE_WAIT)?;
        for (one, (gate, seconds)) in self.samples.iter().filter_map(|one| Some((one, one.waiting.as_ref()?))) {
            write_gauge(&mut waits, &[("rollout", &*one.rollout), ("gate", gate)], *seconds)?;
        }
        Ok(())
    }

    fn encode_evidence(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut evidence = describe(encoder, &names::ROLLOUT_EVIDENCE)?;
        for one in self.samples.iter().filter(|one| one.score_max > 0.0) {
            write_gauge(&mut evidence, &[("rollout", &*one.rollout), ("kind", "all")], log10(one.score))?;
            for (kind, score) in &one.by_kind {
                write_gauge(&mut evidence, &[("rollout", &*one.rollout), ("kind", kind)], log10(*score))?;
            }
        }
        let mut limits = describe(encoder, &names::ROLLOUT_EVIDENCE_MAX)?;
        for one in self.samples.iter().filter(|one| one.score_max > 0.0) {
            write_gauge(&mut limits, &[("rollout", &*one.rollout)], log10(one.score_max))?;
        }
        for (family, of) in [(&names::ROLLOUT_REQUESTS, 0), (&names::ROLLOUT_FAILURES, 1)] {
            let mut counts = describe(encoder, family)?;
            for one in &*self.samples {
                for (arm, (requests, failed)) in ["canary", "primary"].into_iter().zip(one.arms) {
                    let count = [requests, failed][of];
                    write_counter(&mut counts, &[("rollout", &*one.rollout), ("arm", arm)], count)?;
                }
            }
        }
        Ok(())
    }

    fn encode_history(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut events = describe(encoder, &names::ROLLOUT_EVENTS)?;
        for ([rollout, code], count) in &self.events {
            write_counter(&mut events, &[("rollout", rollout.as_str()), ("event", code)], *count)?;
        }
        let mut durations = describe(encoder, &names::ROLLOUT_DURATION)?;
        for ([rollout, outcome], all) in &self.durations {
            all.write(&mut durations, &RUN_SECONDS, &[("rollout", rollout.as_str()), ("outcome", outcome)])?;
        }
        let mut hooks = describe(encoder, &names::ROLLOUT_HOOK_DURATION)?;
        for ([rollout, hook, result], all) in &self.hooks {
            let labels = [("rollout", rollout.as_str()), ("hook", hook), ("result", result)];
            all.write(&mut hooks, &HOOK_SECONDS, &labels)?;
        }
        let mut jobs = describe(encoder, &names::OUTSIDE_JOBS)?;
        for (kind, result, total) in &self.outside {
            write_counter(&mut jobs, &[("kind", *kind), ("result", *result)], *total)?;
        }
        Ok(())
    }

    /// Rollouts by Flagger's clock, under the names that its dashboards and alerts know. The namespace is the router.
    /// Nothing at all where there are none.
    fn encode_as_flagger(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = || self.samples.iter().filter(|one| one.pace == "interval");
        if all().next().is_none() {
            // one of these names is no name for a gauge, and checkers say so: who does not need them is spared
            return Ok(());
        }
        let mut info = describe(encoder, &names::FLAGGER_INFO)?;
        write_gauge(&mut info, &[("version", env!("CARGO_PKG_VERSION")), ("mesh_provider", "serin")], 1_i64)?;
        let mut routers: BTreeMap<&str, i64> = BTreeMap::new();
        all().for_each(|one| *routers.entry(&one.router).or_default() += 1);
        let mut total = describe(encoder, &names::FLAGGER_CANARY_TOTAL)?;
        for (router, count) in routers {
            write_gauge(&mut total, &[("namespace", router)], count)?;
        }
        let mut status = describe(encoder, &names::FLAGGER_CANARY_STATUS)?;
        for one in all() {
            let value = match one.phase.as_str() {
                "progressing" => 0_i64,
                "rolled-back" => 2,
                _ => 1,
            };
            write_gauge(&mut status, &[("name", &*one.rollout), ("namespace", &one.router)], value)?;
        }
        let mut weight = describe(encoder, &names::FLAGGER_CANARY_WEIGHT)?;
        for one in all() {
            let canary = f64::from(one.weight_ppm) / 10_000.0;
            let primary = format!("{}-primary", one.rollout);
            write_gauge(&mut weight, &[("workload", &*primary), ("namespace", &one.router)], 100.0 - canary)?;
            write_gauge(&mut weight, &[("workload", &*one.rollout), ("namespace", &one.router)], canary)?;
        }
        let mut analysis = describe(encoder, &names::FLAGGER_METRIC_ANALYSIS)?;
        for one in all() {
            for (metric, value) in &one.readings {
                let labels = [("name", &*one.rollout), ("namespace", &one.router), ("metric", metric)];
                write_gauge(&mut analysis, &labels, *value)?;
            }
        }
        self.encode_flagger_counts(encoder)
    }

    fn encode_flagger_counts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut ticks = describe(encoder, &names::FLAGGER_CANARY_DURATION)?;
        for ([rollout, router], all) in &self.ticks {
            all.write(&mut ticks, &HOOK_SECONDS, &[("name", rollout.as_str()), ("namespace", router)])?;
        }
        let ends = [(&names::FLAGGER_SUCCESSES, &self.successes), (&names::FLAGGER_FAILURES, &self.failures)];
        for (family, counts) in ends {
            let mut family = describe(encoder, family)?;
            for ([rollout, router, strategy, analysed], count) in counts {
                let labels = [
                    ("name", rollout.as_str()),
                    ("namespace", router),
                    ("deployment_strategy", strategy),
                    ("analysis_status", analysed),
                ];
                write_counter(&mut family, &labels, *count)?;
            }
        }
        Ok(())
    }

    fn gauges(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        family: &Family,
        value: fn(&RolloutSample) -> f64,
    ) -> fmt::Result {
        let mut family = describe(encoder, family)?;
        for one in &*self.samples {
            write_gauge(&mut family, &[("rollout", &*one.rollout)], value(one))?;
        }
        Ok(())
    }
}

/// Scores are above 0; one that is not counts as the least there is.
fn log10(score: f64) -> f64 {
    score.max(f64::MIN_POSITIVE).log10()
}

#[cfg(test)]
mod tests;
