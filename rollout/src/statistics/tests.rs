//! The formulas, beside numbers that were worked out elsewhere, and the laws they must keep.

use proptest::prelude::*;

use super::*;

/// Scores that an independent program gives, which adds probabilities up in another way.
#[track_caller]
fn check_absolute(test: &Absolute, events: u64, requests: u64, score: f64) {
    let ours = test.ln_score(events, requests).exp();
    assert!((ours / score - 1.0).abs() < 1e-9, "{events} in {requests}: {ours}, not {score}");
}

fn attribution(share: f64, tolerance: f64, ratios: &[f64], accused: u32, other: u32) -> f64 {
    let terms = Attribution::new(share, tolerance, ratios);
    let sums: Vec<f64> = (0..ratios.len())
        .map(|at| f64::from(accused) * terms.accused[at] + f64::from(other) * terms.other[at])
        .collect();
    ln_mean_exp(&sums).exp()
}

const RATIOS: [f64; 5] = [2.0, 5.0, 20.0, 100.0, 1000.0];

#[test]
fn above_a_budget_agrees_with_the_oracle() {
    let test = Absolute::above(0.001);
    assert_eq!(test.terms, ORACLE_GRID);
    for (events, requests, score) in ORACLE_ABOVE {
        check_absolute(&test, events, requests, score);
    }
}

#[test]
fn below_a_limit_agrees_with_the_oracle() {
    let test = Absolute::below(0.005);
    for (events, requests, score) in ORACLE_BELOW {
        check_absolute(&test, events, requests, score);
    }
}

#[test]
fn attribution_agrees_with_the_oracle() {
    for (share, accused, other, score) in ORACLE_ATTRIBUTION {
        let ours = attribution(share, 1.0, &RATIOS, accused, other);
        assert!((ours / score - 1.0).abs() < 1e-9, "{share} {accused}:{other}: {ours}, not {score}");
    }
}

#[test]
fn without_a_second_arm_nobody_is_blamed() {
    for share in [0.0, 1.0, -1.0, 2.0, f64::NAN] {
        let score = attribution(share, 1.0, &RATIOS, 100, 100);
        assert!(share.is_nan() || score == 1.0, "{share}: {score}");
    }
}

#[test]
fn nothing_seen_is_a_score_of_one() {
    assert_eq!(Absolute::above(0.005).ln_score(0, 0), 0.0);
    assert_eq!(ln_mean_exp(&[]), 0.0);
    assert_eq!(ln_mean_exp(&[f64::NEG_INFINITY]), 0.0);
}

#[test]
fn the_smallest_and_the_largest_budget_fit_their_place() {
    for budget in [1e-6, 0.25, 0.3, 0.5] {
        assert!(Absolute::above(budget).terms <= TERMS_MAX);
        assert!(Absolute::above(budget).ln_score(50, 50) > 0.0, "{budget}");
    }
    assert!(Absolute::above_by_odds(0.9).terms <= TERMS_MAX);
}

/// The mean of a score after `n` requests that fail with probability `p`, worked out exactly.
fn expected(test: &Absolute, p: f64, n: u64) -> f64 {
    let mut chance = (1.0 - p).powi(n as i32);
    let mut sum = 0.0;
    for events in 0..=n {
        sum += chance * test.ln_score(events, n).exp();
        chance *= (n - events) as f64 / (events + 1) as f64 * p / (1.0 - p);
    }
    sum
}

#[test]
fn a_harmless_canary_is_not_expected_to_win() {
    for budget in [0.001, 0.005, 0.2] {
        for share_of_budget in [0.0, 0.3, 1.0] {
            let mean = expected(&Absolute::above(budget), budget * share_of_budget, 60);
            assert!(mean <= 1.0 + 1e-9, "{budget} x {share_of_budget}: {mean}");
        }
        assert!(expected(&Absolute::above_by_odds(budget), budget, 60) <= 1.0 + 1e-9);
        assert!(expected(&Absolute::below(budget), budget, 60) <= 1.0 + 1e-9);
        assert!(expected(&Absolute::below(budget), budget * 1.5, 60) <= 1.0 + 1e-9);
        assert!(expected(&Absolute::above(budget), budget * 2.0, 60) > 1.0);
    }
}

proptest! {
    #[test]
    fn more_failures_are_never_better(events in 0..500_u64, requests in 0..100_000_u64, budget in 1e-5..0.5_f64) {
        let test = Absolute::above(budget);
        prop_assert!(test.ln_score(events + 1, requests + 1) >= test.ln_score(events, requests + 1));
        prop_assert!(test.ln_score(events, requests + 1) <= test.ln_score(events, requests) || events > requests);
        if test.allows(events, requests) {
            prop_assert!(test.ln_score(events, requests) <= 1e-9);
        }
    }

    #[test]
    fn one_attributed_event_is_fair(share in 0.001..0.999_f64, tolerance in 1.0..3.0_f64) {
        let harmless = share * tolerance / (share * tolerance + 1.0 - share);
        let mean = harmless * attribution(share, tolerance, &RATIOS, 1, 0)
            + (1.0 - harmless) * attribution(share, tolerance, &RATIOS, 0, 1);
        prop_assert!((mean - 1.0).abs() < 1e-9, "{}", mean);
    }

    #[test]
    fn no_number_breaks_a_score(events in any::<u64>(), requests in any::<u64>()) {
        prop_assert!(!Absolute::above(0.005).ln_score(events, requests).is_nan());
    }
}

/// Alternatives of the oracle's mixture for a budget of 0.1 %.
const ORACLE_GRID: usize = 10;
/// Events, requests, score: budget 0.1 %.
const ORACLE_ABOVE: [(u64, u64, f64); 10] = [
    (0, 1, 0.8086086086086086),
    (1, 1, 192.2),
    (1, 10, 14.3557807290371),
    (2, 40, 95.92386647307454),
    (3, 100, 327.44716114598765),
    (4, 400, 50.940928734398845),
    (5, 500, 185.1479310831683),
    (8, 1647, 68.93479950552675),
    (3, 3000, 0.04054909159098819),
    (20, 10000, 4.794556883721872),
];
/// Events, requests, score: limit 0.5 %.
const ORACLE_BELOW: [(u64, u64, f64); 6] = [
    (0, 100, 1.5428811030327272),
    (0, 1016, 101.30631110415),
    (1, 1016, 6.250234521597323),
    (2, 2127, 76.78327792542535),
    (10, 2000, 0.02081923132893816),
    (40, 4000, 2.687841413882408e-09),
];
/// Share, the accused arm's events, the other's, score.
const ORACLE_ATTRIBUTION: [(f64, u32, u32, f64); 8] = [
    (0.02, 1, 0, 20.460931374486815),
    (0.02, 3, 1, 4029.4182186043936),
    (0.1, 4, 0, 3833.602750930234),
    (0.1, 6, 3, 1131.2731066731237),
    (0.5, 10, 0, 550.5233104388965),
    (0.5, 13, 2, 29.208059824823223),
    (0.5, 5, 5, 0.12160953033030386),
    (0.99, 200, 1, 0.5592847708967902),
];
