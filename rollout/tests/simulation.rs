//! Smaller, seeded versions of the guard's figures: each line of `examples/figures.rs` in seconds.
//!
//! A failure names its seeds. `SERIN_SIM_SEED` is the first seed of every test here, and replays one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on stops loudly; the lints exempt only functions marked as tests, not their helpers"
)]

use serin_rollout::simulate::{Arms, Clusters, End, Fault, Outage, Outcome, Scenario, TAU_MS, simulate};
use serin_rollout::{GuardPolicy, GuardSettings, Policy, Ppm, Settings};

/// Enough to find a test that forgets to divide; the example has the runs that prove a rate of 1 %.
const RUNS: u64 = 100;
/// Of 100 rollouts whose true rate is at most 1 %, more than 5 are rolled back in one test of 1 800.
const FALSE_MAX: usize = 5;

fn runs(scenario: &Scenario, runs: u64) -> Vec<(u64, Outcome)> {
    let first =
        std::env::var("SERIN_SIM_SEED").ok().map_or(1, |seed| seed.parse().expect("SERIN_SIM_SEED is a number"));
    (first..first + runs).map(|seed| (seed, simulate(scenario, seed))).collect()
}

#[track_caller]
fn check_not_blamed(scenario: &Scenario) {
    let outcomes = runs(scenario, RUNS);
    let seeds: Vec<u64> = outcomes.iter().filter(|(_, o)| o.end == End::RolledBack).map(|(seed, _)| *seed).collect();
    assert!(seeds.len() <= FALSE_MAX, "{} of {RUNS} harmless canaries rolled back, seeds {seeds:?}", seeds.len());
}

#[track_caller]
fn check_exposure(rate: f64, share: u32, failures_max: f64) {
    let scenario = faulty(single(share, Some(2_000)), rate);
    let outcomes = runs(&scenario, RUNS);
    let missed: Vec<u64> = outcomes.iter().filter(|(_, o)| o.end != End::RolledBack).map(|(seed, _)| *seed).collect();
    assert!(missed.is_empty(), "not rolled back, seeds {missed:?}");
    let mean = outcomes.iter().map(|(_, o)| o.failures as f64).sum::<f64>() / RUNS as f64;
    assert!(mean <= failures_max, "{mean} failed requests on average, first seed {}", outcomes[0].0);
}

#[track_caller]
fn check_worst(scenario: &Scenario, most: u64, of: impl Fn(&Outcome) -> u64) {
    for (seed, outcome) in runs(scenario, RUNS) {
        assert_eq!(outcome.end, End::RolledBack, "seed {seed}");
        assert!(of(&outcome) <= most, "{} is above {most}, seed {seed}: {outcome:?}", of(&outcome));
    }
}

fn single(share: u32, budget_ppm: Option<i64>) -> Policy {
    let guard = GuardSettings { error_budget: budget_ppm.map(Ppm::clamped), ..GuardSettings::default() };
    let steps = vec![Ppm::from_percent(share).unwrap()];
    Policy::new(Settings { steps, guard: GuardPolicy::new(guard).unwrap(), ..Settings::default() }).unwrap()
}

fn faulty(policy: Policy, rate: f64) -> Scenario {
    Scenario { primary: Arms::failing(0.001), canary: Arms::failing(rate), ..Scenario::new(policy) }
}

fn equal(rps: f64, rate: f64) -> Scenario {
    Scenario { horizon_s: 7_200.0, ..Scenario::equal(Policy::default(), rps, rate) }
}

fn outage(rate: f64) -> Option<Outage> {
    Some(Outage { from_s: 100.0, until_s: 160.0, rate })
}

#[test]
fn simulate_healthy() {
    for rps in [1.0, 10.0, 100.0, 1_000.0] {
        for rate in [0.000_5, 0.008] {
            check_not_blamed(&equal(rps, rate));
        }
    }
}

#[test]
fn simulate_an_outage_of_both_arms() {
    for rps in [10.0, 100.0, 1_000.0] {
        check_not_blamed(&Scenario { outage: outage(0.05), ..equal(rps, 0.001) });
        check_not_blamed(&Scenario { outage: outage(0.2), ..equal(rps, 0.001) });
    }
}

/// A release does not go on while everything fails: neither at the minute's new start nor at a new block.
#[test]
fn simulate_an_outage_of_both_arms_that_lasts() {
    let ends = |rate, until_s| {
        let outage = Some(Outage { from_s: 20.0, until_s, rate });
        let scenario = Scenario { outage, horizon_s: 1_800.0, ..equal(100.0, 0.001) };
        runs(&scenario, 8).into_iter().map(|(seed, outcome)| (outcome.end, seed)).collect::<Vec<_>>()
    };
    for rate in [0.05, 0.2, 1.0] {
        let ended = ends(rate, 2_000.0).into_iter().filter(|(end, _)| *end != End::Undecided).collect::<Vec<_>>();
        assert!(ended.is_empty(), "{rate} of all fails, and by seed: {ended:?}");
    }
    let ended = ends(0.2, 600.0);
    assert!(ended.iter().all(|(end, _)| *end == End::Promoted), "the hold ends with the outage: {ended:?}");
}

/// A primary that gets little shows that it is well again, however many blocks that takes.
#[test]
fn simulate_an_outage_of_both_arms_with_little_traffic_for_the_primary() {
    for (rps, share, budget_ppm) in [(2.0, 90, None), (3.0, 50, Some(1_000))] {
        let outage = Some(Outage { from_s: 20.0, until_s: 80.0, rate: 0.5 });
        let scenario = Scenario::equal(single(share, budget_ppm), rps, 0.000_5);
        let outcomes = runs(&Scenario { outage, horizon_s: 86_400.0, ..scenario }, 8);
        let ended: Vec<_> = outcomes.into_iter().map(|(seed, outcome)| (outcome.end, seed)).collect();
        assert!(ended.iter().all(|(end, _)| *end == End::Promoted), "{rps} requests a second, {share} %: {ended:?}");
    }
}

#[test]
fn simulate_failures_of_the_primary_that_are_told_late() {
    for late_ms in [1_000, 5_000] {
        let primary = Arms { late_ms, ..Arms::failing(0.008) };
        check_not_blamed(&Scenario { primary, ..equal(100.0, 0.008) });
        check_not_blamed(&Scenario { primary, outage: outage(0.2), ..equal(100.0, 0.008) });
    }
}

#[test]
fn simulate_sessions_that_fail_in_clusters() {
    check_not_blamed(&Scenario { clusters: Clusters::Sessions(3.0), ..equal(100.0, 0.008) });
}

/// Both arms far over any budget, so that only the comparison stands between a harmless canary and a rollback.
fn both_bad(share: u32) -> Scenario {
    Scenario { horizon_s: 400.0, ..Scenario::equal(single(share, None), 100.0, 0.05) }
}

#[test]
fn simulate_bad_arms_of_which_the_primary_is_told_late() {
    for late_ms in [1_000, 5_000] {
        for share in [10, 50] {
            let primary = Arms { late_ms, ..Arms::failing(0.05) };
            check_not_blamed(&Scenario { primary, ..both_bad(share) });
        }
    }
}

#[test]
fn simulate_bad_arms_whose_failures_come_in_clusters() {
    for clusters in [Clusters::Sessions(3.0), Clusters::Sessions(10.0), Clusters::Sticky(200), Clusters::Peers(3)] {
        for share in [10, 50] {
            check_not_blamed(&Scenario { clusters, ..both_bad(share) });
        }
    }
}

#[test]
fn simulate_three_peers_in_an_outage() {
    for rps in [10.0, 100.0, 1_000.0] {
        check_not_blamed(&Scenario { clusters: Clusters::Peers(3), outage: outage(0.05), ..equal(rps, 0.001) });
    }
}

#[test]
fn simulate_sticky_users_of_whom_some_always_fail() {
    check_not_blamed(&Scenario { clusters: Clusters::Sticky(1_000), ..equal(100.0, 0.005) });
}

#[test]
fn simulate_latency_of_equal_arms() {
    check_not_blamed(&Scenario { slow: true, horizon_s: 600.0, ..equal(100.0, 0.001) });
}

#[test]
fn simulate_one_percent_of_failures() {
    check_exposure(0.01, 2, 12.0);
    check_exposure(0.01, 10, 12.5);
    check_exposure(0.01, 50, 20.0);
}

#[test]
fn simulate_five_percent_of_failures() {
    check_exposure(0.05, 2, 4.7);
    check_exposure(0.05, 10, 5.6);
    check_exposure(0.05, 50, 13.5);
}

#[test]
fn simulate_fifty_percent_of_failures() {
    check_exposure(0.5, 2, 3.0);
    check_exposure(0.5, 10, 4.7);
    check_exposure(0.5, 50, 12.5);
}

#[test]
fn simulate_a_canary_that_never_answers() {
    for share in [10, 50] {
        let mut scenario = faulty(single(share, None), 0.0);
        scenario.canary.fault = Fault::Hangs;
        check_worst(&scenario, TAU_MS[2] + 3_000, |outcome| outcome.after_onset_ms);
    }
}

#[test]
fn simulate_a_canary_that_refuses() {
    for (share, endpoints) in [(10, 1), (10, 3), (50, 1), (50, 3)] {
        let mut scenario = faulty(single(share, None), 1.0);
        scenario.canary.fault = Fault::Refuses(endpoints);
        let late = |o: &Outcome| if o.after_ejection_ms.is_some_and(|ms| ms <= 100) { 0 } else { o.failures };
        check_worst(&scenario, 10, late);
    }
}

#[test]
fn simulate_a_slower_canary() {
    let mut scenario = Scenario { slow: true, ..faulty(single(10, None), 0.001) };
    scenario.canary.slowdown = 2.0;
    check_worst(&scenario, 2_000, |outcome| outcome.requests);
}

#[test]
fn simulate_a_promotion() {
    for rps in [100.0, 1_000.0] {
        let outcomes = runs(&equal(rps, 0.001), RUNS);
        let undecided: Vec<u64> =
            outcomes.iter().filter(|(_, o)| o.end == End::Undecided).map(|(seed, _)| *seed).collect();
        assert!(undecided.len() <= 5, "{rps} rps: undecided, seeds {undecided:?}");
    }
}

#[test]
fn simulate_a_canary_over_budget_that_hopes_to_be_promoted() {
    let guard = GuardSettings { error_budget: Some(Ppm::clamped(5_000)), ..GuardSettings::default() };
    let policy = Policy::new(Settings { guard: GuardPolicy::new(guard).unwrap(), ..Settings::default() }).unwrap();
    let outcomes = runs(&Scenario { horizon_s: 28_800.0, ..faulty(policy, 0.01) }, RUNS);
    let promoted: Vec<u64> = outcomes.iter().filter(|(_, o)| o.end == End::Promoted).map(|(seed, _)| *seed).collect();
    assert!(promoted.len() <= 10, "promoted, seeds {promoted:?}");
}

#[test]
fn same_seed_same_story() {
    let scenario =
        Scenario { outage: outage(0.2), slow: true, clusters: Clusters::Sessions(3.0), ..equal(50.0, 0.005) };
    let scenario = Scenario { horizon_s: 300.0, ..scenario };
    for seed in 1..=5 {
        assert_eq!(simulate(&scenario, seed), simulate(&scenario, seed), "seed {seed}");
    }
}
