//! `serin rollout simulate`: what a policy does with a bad canary and with a good one, by the code that judges.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use serde::Serialize;
use serin_config::diagnostic::render;
use serin_rollout::simulate::{Arms, End, Fault, Outcome, Scenario, simulate as simulate_one};
use serin_rollout::{Pace, Policy, Ppm};

use super::super::run::{configuration, warn_of_teams};
use super::super::{Output, failed, print};
use crate::clock;
use crate::control::LastGood;

const EXAMPLES: &str = "\
Examples:
  serin rollout simulate --canary 1% --baseline 0.1% --rps 100
  serin rollout simulate --canary 5% --rps 1000 --policy serin.yaml:world
  serin rollout simulate --slowdown 1.5 --canary 0.1%
  serin rollout simulate --hangs --rps 20 -o json

The same --seed and --runs give the same figures. Without --runs it takes a few seconds and says how many it made.";

/// Simulations of one question, at most.
const RUNS_MAX: u64 = 100_000;
/// Simulations without `--runs`, if they can be had in [`BUDGET_MS`].
const RUNS_DEFAULT: u64 = 2_000;
/// Simulations that are made whatever they take.
const RUNS_MIN: u64 = 20;
/// Time for one question without `--runs`.
const BUDGET_MS: u64 = 2_000;
/// Requests a second.
const RPS: std::ops::RangeInclusive<f64> = 0.1..=100_000.0;
/// How many times as long the canary may take.
const SLOWDOWN: std::ops::RangeInclusive<f64> = 1.0..=100.0;
/// Endpoints of a canary that refuses.
const ENDPOINTS_MAX: i64 = 100;
/// Simulated time, for services that are asked often and seldom.
const HORIZON_S: f64 = 4.0 * 3_600.0;
const HORIZON_SELDOM_S: f64 = 24.0 * 3_600.0;
const SELDOM_RPS: f64 = 5.0;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct SimulateArgs {
    /// How much of what the canary gets it fails
    #[arg(long, value_name = "PERCENT", default_value = "1%")]
    canary: Ppm,
    /// How much of what the primary gets it fails
    #[arg(long, value_name = "PERCENT", default_value = "0.1%")]
    baseline: Ppm,
    /// Requests a second, both together
    #[arg(long, default_value = "100", value_parser = rps)]
    rps: f64,
    /// The rollout of this name in this file, instead of the defaults; the name may be left out if there is one
    #[arg(long, value_name = "FILE[:NAME]")]
    policy: Option<PathBuf>,
    /// Each request to the canary takes so many times as long
    #[arg(long, value_name = "TIMES", value_parser = slowdown)]
    slowdown: Option<f64>,
    /// The canary takes requests and never answers
    #[arg(long, conflicts_with_all = ["canary", "refuses", "slowdown"])]
    hangs: bool,
    /// The canary refuses every connection, on so many endpoints
    #[arg(
        long, value_name = "ENDPOINTS", num_args = 0..=1, default_missing_value = "1", require_equals = true,
        value_parser = clap::value_parser!(u32).range(1..=ENDPOINTS_MAX), conflicts_with_all = ["canary", "slowdown"]
    )]
    refuses: Option<u32>,
    /// Simulated rollouts for each question
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=RUNS_MAX))]
    runs: Option<u64>,
    /// The first seed; each rollout takes the next one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How to print the figures
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

fn rps(text: &str) -> Result<f64, String> {
    within(text, &RPS)
}

fn slowdown(text: &str) -> Result<f64, String> {
    within(text, &SLOWDOWN)
}

fn within(text: &str, range: &std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("write a number from {} to {}", range.start(), range.end()))
}

pub(super) fn simulate(args: &SimulateArgs) -> ExitCode {
    let policy = match &args.policy {
        None => Ok((DEFAULTS.to_owned(), Policy::default())),
        Some(place) => policy_of(place),
    };
    let (name, policy) = match policy {
        Ok(policy) => policy,
        Err(why) => return failed(&why),
    };
    let report = report(args, name, policy);
    print(&match args.output {
        Output::Text => report.text(),
        // plain data: it always has a JSON form
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&report).unwrap_or_default()),
    })
}

/// What the policy is called when nobody named one.
const DEFAULTS: &str = "the defaults";

/// The rollout that `FILE` or `FILE:NAME` means.
fn policy_of(place: &Path) -> Result<(String, Policy), String> {
    let (file, name) = match place.to_str().and_then(|text| text.rsplit_once(':')) {
        Some((file, name)) if !place.exists() => (Path::new(file), Some(name)),
        _ => (place, None),
    };
    let (text, _, loaded) = configuration(file, &LastGood::new()).map_err(|error| error.to_string())?;
    let mistakes = |mistakes: serin_config::Diagnostics| {
        format!("{} has mistakes\n{}", file.display(), render(&mistakes, &text, false).trim_end())
    };
    let loaded = loaded.map_err(mistakes)?;
    warn_of_teams(&loaded);
    let config = loaded.config;
    let known: Vec<&str> = config.rollouts.iter().map(|rollout| rollout.name.as_str()).collect();
    let there = || match known.as_slice() {
        [] => "there are none".to_owned(),
        names => format!("there are {}", names.join(", ")),
    };
    let rollout = match name {
        Some(name) => config.rollouts.iter().find(|rollout| rollout.name == name),
        None if known.len() > 1 => {
            return Err(format!("which rollout of {}? {}: write FILE:NAME", file.display(), there()));
        }
        None => config.rollouts.first(),
    };
    let wanted = name.map_or_else(String::new, |name| format!(" `{name}`"));
    let rollout = rollout.ok_or_else(|| format!("{} has no rollout{wanted}: {}", file.display(), there()))?;
    match &rollout.pace {
        Pace::Evidence(policy) => Ok((format!("{} of {}", rollout.name, file.display()), policy.clone())),
        Pace::Interval { .. } => Err(format!(
            "rollout `{}` goes by a clock, there is nothing to find out: simulate knows `pace: evidence`",
            rollout.name
        )),
    }
}

fn report(args: &SimulateArgs, name: String, policy: Policy) -> Report {
    let seldom = args.rps < SELDOM_RPS;
    let horizon_s = if seldom { HORIZON_SELDOM_S } else { HORIZON_S };
    let primary = Arms::failing(args.baseline.fraction());
    let good = Scenario { horizon_s, ..Scenario::equal(policy, args.rps, primary.failure_rate) };
    let (failure_rate, fault) = match (args.hangs, args.refuses) {
        (true, _) => (0.0, Fault::Hangs),
        (false, Some(endpoints)) => (1.0, Fault::Refuses(endpoints)),
        (false, None) => (args.canary.fraction(), Fault::None),
    };
    let canary = Arms { failure_rate, fault, slowdown: args.slowdown.unwrap_or(1.0), ..primary };
    // slow requests are simulated for both questions or for none: it is one policy
    let slow = args.slowdown.is_some() || args.hangs;
    let good = Scenario { slow, ..good };
    let asked = Scenario { canary, ..good.clone() };
    let settings = good.policy.settings();
    Report {
        policy: PolicyShown {
            name,
            steps: settings.steps.iter().map(Ppm::to_string).collect(),
            interval_ms: settings.interval_ms,
            alpha: settings.guard.settings().alpha.to_string(),
            error_budget: settings.guard.error_budget().to_string(),
        },
        rps: args.rps,
        seed: args.seed,
        horizon_s,
        baseline: args.baseline.to_string(),
        behaviour: behaviour(args),
        asked: Figures::of(&runs(&asked, args)),
        healthy: Figures::of(&runs(&good, args)),
    }
}

fn behaviour(args: &SimulateArgs) -> String {
    let endpoints =
        |count| if count == 1 { "its endpoint".to_owned() } else { format!("each of its {count} endpoints") };
    match (args.hangs, args.refuses, args.slowdown) {
        (true, ..) => "takes requests and never answers".to_owned(),
        (_, Some(count), _) => format!("refuses every connection to {}", endpoints(count)),
        (.., None) => format!("fails {}", args.canary),
        (.., Some(times)) => format!("fails {} and takes {times} times as long", args.canary),
    }
}

/// Simulates with one seed after the other, on all cores. Seeds that were begun are finished, so what comes back is
/// every seed from the first to some last one.
fn runs(scenario: &Scenario, args: &SimulateArgs) -> Vec<Outcome> {
    let wanted = args.runs.unwrap_or(RUNS_DEFAULT);
    let until_ms = clock::now_ms() + BUDGET_MS;
    let next = AtomicU64::new(0);
    let take = || {
        let run = next.fetch_add(1, Ordering::Relaxed);
        let in_time = args.runs.is_some() || run < RUNS_MIN || clock::now_ms() < until_ms;
        (run < wanted && in_time).then_some(run)
    };
    let work = || {
        let mut done = Vec::new();
        while let Some(run) = take() {
            done.push((run, simulate_one(scenario, args.seed.wrapping_add(run))));
        }
        done
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut all: Vec<(u64, Outcome)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        // a simulation that panicked is not counted; the rest stands
        all.extend(others.into_iter().flat_map(|other| other.join().unwrap_or_default()));
        all
    });
    all.sort_unstable_by_key(|(run, _)| *run);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    policy: PolicyShown,
    rps: f64,
    seed: u64,
    /// The end of each simulation.
    horizon_s: f64,
    baseline: String,
    behaviour: String,
    /// With the canary that was asked for.
    asked: Figures,
    /// With a canary that is like its primary.
    healthy: Figures,
}

#[derive(Debug, Serialize)]
struct PolicyShown {
    name: String,
    steps: Vec<String>,
    interval_ms: u64,
    alpha: String,
    error_budget: String,
}

/// What came out of all runs of one scenario.
#[derive(Debug, PartialEq, Serialize)]
struct Figures {
    runs: usize,
    /// Parts of all runs.
    rolled_back: f64,
    promoted: f64,
    undecided: f64,
    /// With 97.5 % certainty no more than this part of all rollouts is rolled back.
    rolled_back_at_most: f64,
    /// From the first request of the canary to its rollback.
    rollback: Option<Spread>,
    /// Requests of users that the canary failed, by then.
    failed_requests: Option<Spread>,
    /// Requests the canary got, by then.
    requests: Option<Spread>,
    /// From the first step to the promotion.
    promotion: Option<Spread>,
}

/// Two of a hundred percentiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    median: f64,
    p95: f64,
}

impl Figures {
    fn of(outcomes: &[Outcome]) -> Self {
        let count = |end: End| outcomes.iter().filter(|outcome| outcome.end == end).count();
        let part = |end: End| count(end) as f64 / outcomes.len().max(1) as f64;
        let spread = |end: End, of: fn(&Outcome) -> u64| {
            Spread::of(outcomes.iter().filter(|outcome| outcome.end == end).map(of).collect())
        };
        let seconds = |spread: Spread| Spread { median: spread.median / 1e3, p95: spread.p95 / 1e3 };
        Self {
            runs: outcomes.len(),
            rolled_back: part(End::RolledBack),
            promoted: part(End::Promoted),
            undecided: part(End::Undecided),
            rolled_back_at_most: at_most(count(End::RolledBack), outcomes.len()),
            rollback: spread(End::RolledBack, |o| o.after_onset_ms).map(seconds),
            failed_requests: spread(End::RolledBack, |o| o.failures),
            requests: spread(End::RolledBack, |o| o.requests),
            promotion: spread(End::Promoted, |o| o.at.0).map(seconds),
        }
    }
}

impl Spread {
    fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let at = |percent: usize| values.get((values.len() * percent / 100).min(values.len().checked_sub(1)?));
        Some(Self { median: *at(50)? as f64, p95: *at(95)? as f64 })
    }
}

/// The upper end of Wilson's interval at two-sided 95 %.
fn at_most(hits: usize, of: usize) -> f64 {
    const Z: f64 = 1.96;
    let (n, p) = (of.max(1) as f64, hits as f64 / of.max(1) as f64);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((p + Z * Z / (2.0 * n) + spread) / (1.0 + Z * Z / n)).min(1.0)
}

impl Report {
    fn text(&self) -> String {
        let policy = &self.policy;
        let least = duration(policy.interval_ms as f64 / 1e3);
        let mut text = format!(
            "policy   {}: {}, each at least {least}; alpha {}, error budget {}\n",
            policy.name,
            policy.steps.join(", "),
            policy.alpha,
            policy.error_budget
        );
        // writing to a string cannot fail
        let _ = writeln!(text, "traffic  {} requests a second; the primary fails {}", self.rps, self.baseline);
        let _ = writeln!(text, "\na canary that {}    {} rollouts", self.behaviour, self.asked.runs);
        self.ends(&mut text, &self.asked);
        let _ = writeln!(text, "\na canary like its primary    {} rollouts", self.healthy.runs);
        self.ends(&mut text, &self.healthy);
        let (seen, most) = (percent(self.healthy.rolled_back), percent(self.healthy.rolled_back_at_most));
        row(&mut text, "false rollbacks", &format!("{seen}, so at most {most} (alpha {})", policy.alpha));
        text
    }

    fn ends(&self, text: &mut String, figures: &Figures) {
        let spread = |spread: Spread, show: fn(f64) -> String| {
            format!("median {}, p95 {}", show(spread.median), show(spread.p95))
        };
        let whole = |number: f64| format!("{number:.0}");
        if figures.rolled_back > 0.0 {
            row(text, "rolled back", &percent(figures.rolled_back));
        }
        if let Some(time) = figures.rollback {
            row(text, "  after", &spread(time, duration));
        }
        if let Some(failed) = figures.failed_requests {
            row(text, "  users saw fail", &format!("{} requests", spread(failed, whole)));
        }
        if let Some(requests) = figures.requests {
            row(text, "  it got", &format!("{} requests", spread(requests, whole)));
        }
        if figures.promoted > 0.0 {
            row(text, "promoted", &percent(figures.promoted));
        }
        if let Some(time) = figures.promotion {
            row(text, "  after", &spread(time, duration));
        }
        if figures.undecided > 0.0 {
            let (part, time) = (percent(figures.undecided), duration(self.horizon_s));
            row(text, "undecided", &format!("{part} after {time}: held at a step, without enough evidence"));
        }
    }
}

fn row(text: &mut String, name: &str, value: &str) {
    // writing to a string cannot fail
    let _ = writeln!(text, "  {name:<18}{value}");
}

/// Two decimals where that says anything.
fn percent(part: f64) -> String {
    let text = format!("{:.2}", part * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn duration(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1} s"),
        ..120.0 => format!("{seconds:.0} s"),
        ..7_200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
mod tests;
