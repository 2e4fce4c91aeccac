//! The guard's figures, from the simulator: `cargo run --release -p serin-rollout --example figures`.
//!
//! `-- RUNS` sets how many rollouts a line simulates (default 1000; 10000 for the figures as they are quoted),
//! `-- RUNS WORDS` prints only lines with these words. `SERIN_SIM_SEED` is the first seed, 1 by default; a line that
//! fails names the seeds of the runs to look at. The command fails if a line does.

use std::process::ExitCode;

use serin_rollout::simulate::{Arms, Clusters, End, Fault, Outage, Outcome, Scenario, TAU_MS, simulate};
use serin_rollout::{GuardPolicy, GuardSettings, OnInsufficient, Policy, PolicyError, Ppm, Settings};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let runs = args.next().and_then(|runs| runs.parse().ok()).unwrap_or(1_000);
    let only = args.next().unwrap_or_default();
    let seed = std::env::var("SERIN_SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut table = Table { runs, seed, only, failed: 0 };
    match figures(&mut table) {
        Ok(()) if table.failed == 0 => ExitCode::SUCCESS,
        Ok(()) => {
            println!("\n{} lines fail", table.failed);
            ExitCode::FAILURE
        }
        Err(errors) => {
            eprintln!("a policy of this table is not legal: {errors:?}");
            ExitCode::FAILURE
        }
    }
}

fn figures(table: &mut Table) -> Result<(), Vec<PolicyError>> {
    println!(
        "Rollouts a line: {}; seeds from {}. Failed requests and requests are the canary's.\n",
        table.runs, table.seed
    );
    healthy(table)?;
    over_budget(table)?;
    exposure(table)?;
    broken(table)?;
    promotion(table)?;
    slower(table)
}

/// False rollbacks of a canary that is like its primary: at most alpha, whatever happens to both.
fn healthy(table: &mut Table) -> Result<(), Vec<PolicyError>> {
    let outage = |rate| Outage { from_s: 100.0, until_s: 160.0, rate };
    let late = |late_ms| Arms { late_ms, ..Arms::failing(0.0) };
    for rps in [1.0, 10.0, 100.0, 1_000.0] {
        for rate in [0.000_5, 0.001, 0.005, 0.008] {
            let base = Scenario { horizon_s: horizon_s(rps), ..Scenario::equal(standard()?, rps, rate) };
            let title = format!("healthy {rps} rps {}%", rate * 100.0);
            table.false_rollbacks(&title, &base);
            let with = |outage| Scenario { outage: Some(outage), ..base.clone() };
            table.false_rollbacks(&format!("{title}, outage of both 5%"), &with(outage(0.05)));
            table.false_rollbacks(&format!("{title}, outage of both 20%"), &with(outage(0.2)));
            for late_ms in [1_000, 5_000] {
                let primary = Arms { failure_rate: rate, ..late(late_ms) };
                let scenario = Scenario { primary, ..base.clone() };
                table.false_rollbacks(&format!("{title}, primary told {} s late", late_ms / 1_000), &scenario);
            }
            let with = |clusters| Scenario { clusters, ..base.clone() };
            table.false_rollbacks(&format!("{title}, clusters of 3"), &with(Clusters::Sessions(3.0)));
            let peers = Scenario { outage: Some(outage(0.05)), ..with(Clusters::Peers(3)) };
            table.false_rollbacks(&format!("{title}, three peers, outage 5%"), &peers);
            table.false_rollbacks(&format!("{title}, sticky users"), &with(Clusters::Sticky(1_000)));
        }
        let slow = Scenario { slow: true, horizon_s: 3_600.0, ..Scenario::equal(standard()?, rps, 0.001) };
        table.false_rollbacks_of(&format!("healthy {rps} rps 0.1%, with latency"), &slow, table.runs / 10);
    }
    Ok(())
}

/// Both arms far over any budget: only the comparison stands between a harmless canary and a rollback.
fn over_budget(table: &mut Table) -> Result<(), Vec<PolicyError>> {
    for share in [10, 50] {
        let base = Scenario { horizon_s: 400.0, ..Scenario::equal(single(share, None)?, 100.0, 0.05) };
        let title = format!("equal at 5% failures, {share}%");
        table.false_rollbacks(&title, &base);
        for late_ms in [1_000, 5_000] {
            let primary = Arms { late_ms, ..base.primary };
            let late = Scenario { primary, ..base.clone() };
            table.false_rollbacks(&format!("{title}, primary told {} s late", late_ms / 1_000), &late);
        }
        for clusters in [Clusters::Sessions(3.0), Clusters::Sticky(200), Clusters::Peers(3)] {
            let scenario = Scenario { clusters, ..base.clone() };
            table.false_rollbacks(&format!("{title}, {clusters:?}"), &scenario);
        }
    }
    Ok(())
}

/// Failed requests that users see before the rollback, 100 rps, 0.1 % of the primary's fail.
fn exposure(table: &mut Table) -> Result<(), Vec<PolicyError>> {
    let bounds = [
        (0.01, [(2, 12.0), (10, 12.5), (50, 20.0)]),
        (0.05, [(2, 4.7), (10, 5.6), (50, 13.5)]),
        (0.5, [(2, 3.0), (10, 4.7), (50, 12.5)]),
    ];
    for (rate, shares) in bounds {
        for (share, bound) in shares {
            for (words, budget) in [("budget 0.2%", Some(2_000)), ("default budget", None)] {
                let policy = single(share, budget)?;
                let scenario = faulty(policy, rate);
                let bound = budget.map(|_| bound);
                table.exposure(&format!("{}% faults at {share}%, {words}", rate * 100.0), &scenario, bound);
            }
            let mut scenario = faulty(standard()?, rate);
            scenario.onset_share = Ppm::from_percent(share.max(5)).unwrap_or(Ppm::WHOLE);
            scenario.primary = Arms::failing(0.001);
            let title =
                format!("{}% faults from the step of {} on, default policy", rate * 100.0, scenario.onset_share);
            table.exposure(&title, &scenario, None);
        }
    }
    Ok(())
}

/// Canaries that do not answer at all.
fn broken(table: &mut Table) -> Result<(), Vec<PolicyError>> {
    for share in [10, 50] {
        let mut scenario = faulty(single(share, None)?, 0.0);
        scenario.canary.fault = Fault::Hangs;
        table.most(&format!("never answers, {share}%: ms to rollback"), &scenario, TAU_MS[2] + 3_000, |o| {
            o.after_onset_ms
        });
        for endpoints in [1, 3] {
            let mut scenario = faulty(single(share, None)?, 1.0);
            scenario.canary.fault = Fault::Refuses(endpoints);
            let late = |o: &Outcome| if o.after_ejection_ms.is_some_and(|ms| ms <= 100) { 0 } else { o.failures };
            let title = format!("refuses on {endpoints} endpoints, {share}%: failures, 0 within 100 ms of an ejection");
            table.most(&title, &scenario, 10, late);
        }
    }
    Ok(())
}

/// How long a good canary takes, and whether a bad one gets through.
fn promotion(table: &mut Table) -> Result<(), Vec<PolicyError>> {
    for rps in [100.0, 1_000.0] {
        for rate in [0.0, 0.000_5, 0.001, 0.005, 0.008] {
            let scenario = Scenario::equal(standard()?, rps, rate);
            table.promotion(&format!("identical canary, {rps} rps, {}%", rate * 100.0), &scenario);
        }
    }
    for rps in [10.0, 100.0, 1_000.0] {
        let mut scenario = faulty(with_budget(standard_settings(), Some(5_000))?, 0.01);
        scenario.rps = rps;
        scenario.horizon_s = 3.0 * horizon_s(rps);
        table.promoted(&format!("canary with 1% errors, budget 0.5%, {rps} rps"), &scenario);
    }
    Ok(())
}

/// Requests until a slower canary is rolled back.
fn slower(table: &mut Table) -> Result<(), Vec<PolicyError>> {
    for (slowdown, compare) in [(1.5, "509"), (2.0, "104")] {
        let mut scenario = faulty(single(10, None)?, 0.001);
        scenario.slow = true;
        scenario.canary.slowdown = slowdown;
        let title = format!("{slowdown}x slower at 10%: requests (p99 alone, without stakes, at 5%: {compare})");
        table.requests(&title, &scenario);
    }
    Ok(())
}

fn faulty(policy: Policy, rate: f64) -> Scenario {
    let canary = Arms::failing(rate);
    Scenario { primary: Arms::failing(0.001), canary, horizon_s: 14_400.0, ..Scenario::new(policy) }
}

fn standard_settings() -> Settings {
    Settings { step_deadline_ms: Some(3_600_000), on_insufficient: OnInsufficient::Hold, ..Settings::default() }
}

fn standard() -> Result<Policy, Vec<PolicyError>> {
    Policy::new(standard_settings())
}

fn single(share: u32, budget_ppm: Option<i64>) -> Result<Policy, Vec<PolicyError>> {
    let steps = Ppm::from_percent(share).into_iter().collect();
    with_budget(Settings { steps, ..standard_settings() }, budget_ppm)
}

fn with_budget(settings: Settings, budget_ppm: Option<i64>) -> Result<Policy, Vec<PolicyError>> {
    let guard = GuardSettings { error_budget: budget_ppm.map(Ppm::clamped), ..GuardSettings::default() };
    Policy::new(Settings { guard: GuardPolicy::new(guard)?, ..settings })
}

/// Slow services need longer: simulated until their first steps are over.
fn horizon_s(rps: f64) -> f64 {
    if rps < 5.0 { 21_600.0 } else { 7_200.0 }
}

struct Table {
    runs: u64,
    seed: u64,
    only: String,
    failed: u32,
}

impl Table {
    fn run(&self, title: &str, scenario: &Scenario, runs: u64) -> Option<Vec<Outcome>> {
        let wanted = title.contains(&self.only);
        wanted.then(|| (0..runs.max(1)).map(|run| simulate(scenario, self.seed + run)).collect())
    }

    fn line(&mut self, title: &str, figure: &str, bound: &str, passes: bool, seeds: &[u64]) {
        let verdict = if passes { "pass" } else { "FAIL" };
        self.failed += u32::from(!passes);
        let seeds = if passes || seeds.is_empty() { String::new() } else { format!("  seeds {seeds:?}") };
        println!("{title:<88} {figure:>34}  {bound:>10}  {verdict}{seeds}");
    }

    fn seeds(&self, outcomes: &[Outcome], wrong: impl Fn(&Outcome) -> bool) -> Vec<u64> {
        let wrong = outcomes.iter().enumerate().filter(|(_, outcome)| wrong(outcome));
        wrong.take(5).map(|(run, _)| self.seed + run as u64).collect()
    }

    fn false_rollbacks(&mut self, title: &str, scenario: &Scenario) {
        self.false_rollbacks_of(title, scenario, self.runs);
    }

    fn false_rollbacks_of(&mut self, title: &str, scenario: &Scenario, runs: u64) {
        let Some(outcomes) = self.run(title, scenario, runs) else { return };
        let wrong = count(&outcomes, End::RolledBack);
        let rate = wrong as f64 / outcomes.len() as f64;
        let promoted = count(&outcomes, End::Promoted) as f64 / outcomes.len() as f64;
        let seeds = self.seeds(&outcomes, |o| o.end == End::RolledBack);
        let figure = format!("{:.2}% (promoted {:.0}%)", rate * 100.0, promoted * 100.0);
        self.line(title, &figure, "<= 1%", rate <= 0.01, &seeds);
    }

    fn exposure(&mut self, title: &str, scenario: &Scenario, bound: Option<f64>) {
        let Some(outcomes) = self.run(title, scenario, self.runs) else { return };
        let mean = mean(&outcomes, |o| o.failures as f64);
        let caught = count(&outcomes, End::RolledBack) as f64 / outcomes.len() as f64;
        let seconds = outcomes.iter().map(|o| o.after_onset_ms as f64 / 1_000.0).sum::<f64>() / outcomes.len() as f64;
        let figure = format!("{mean:.2} in {seconds:.1} s, caught {:.1}%", caught * 100.0);
        let words = bound.map_or("-".into(), |bound| format!("<= {bound}"));
        let passes = bound.is_none_or(|bound| mean <= bound);
        self.line(title, &figure, &words, passes, &self.seeds(&outcomes, |o| o.end != End::RolledBack));
    }

    fn most(&mut self, title: &str, scenario: &Scenario, bound: u64, of: impl Fn(&Outcome) -> u64) {
        let Some(outcomes) = self.run(title, scenario, self.runs.min(1_000)) else { return };
        let most = outcomes.iter().map(&of).max().unwrap_or(0);
        let caught = outcomes.iter().all(|o| o.end == End::RolledBack);
        let seeds = self.seeds(&outcomes, |o| of(o) > bound || o.end != End::RolledBack);
        let figure = format!("at most {most}, mean {:.1}", mean(&outcomes, |o| of(o) as f64));
        self.line(title, &figure, &format!("<= {bound}"), caught && most <= bound, &seeds);
    }

    fn promotion(&mut self, title: &str, scenario: &Scenario) {
        let Some(outcomes) = self.run(title, scenario, self.runs.min(2_000)) else { return };
        let undecided = count(&outcomes, End::Undecided) as f64 / outcomes.len() as f64;
        let mut minutes: Vec<f64> = outcomes.iter().map(|o| o.at.0 as f64 / 60_000.0).collect();
        minutes.sort_by(f64::total_cmp);
        let (median, late) = (minutes[minutes.len() / 2], minutes[minutes.len() * 95 / 100]);
        let figure = format!("median {median:.0} min, p95 {late:.0}, undecided {:.1}%", undecided * 100.0);
        let seeds = self.seeds(&outcomes, |o| o.end == End::Undecided);
        self.line(title, &figure, "<= 5%", undecided <= 0.05, &seeds);
    }

    fn promoted(&mut self, title: &str, scenario: &Scenario) {
        let Some(outcomes) = self.run(title, scenario, self.runs) else { return };
        let rate = count(&outcomes, End::Promoted) as f64 / outcomes.len() as f64;
        let seeds = self.seeds(&outcomes, |o| o.end == End::Promoted);
        self.line(title, &format!("promoted {:.2}%", rate * 100.0), "<= 5%", rate <= 0.05, &seeds);
    }

    fn requests(&mut self, title: &str, scenario: &Scenario) {
        let Some(outcomes) = self.run(title, scenario, self.runs.min(1_000)) else { return };
        let caught = count(&outcomes, End::RolledBack) as f64 / outcomes.len() as f64;
        let mean = mean(&outcomes, |o| o.requests as f64);
        self.line(title, &format!("{mean:.0}, caught {:.1}%", caught * 100.0), "-", true, &[]);
    }
}

fn count(outcomes: &[Outcome], end: End) -> usize {
    outcomes.iter().filter(|outcome| outcome.end == end).count()
}

/// Over the runs that were rolled back.
fn mean(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> f64 {
    let caught: Vec<f64> = outcomes.iter().filter(|o| o.end == End::RolledBack).map(of).collect();
    caught.iter().sum::<f64>() / caught.len().max(1) as f64
}
