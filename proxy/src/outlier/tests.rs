use std::num::NonZeroU32;

use proptest::prelude::*;
use serin_rollout::Ppm;

use super::*;

fn policy(failures: u32, min_ms: u64, max_ms: u64) -> Accrual {
    let backoff = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
    Accrual { rule: AccrualRule::Consecutive(NonZeroU32::new(failures).unwrap()), backoff }
}

/// Plays events against three failures and 100..=1000 ms, with no jitter: `F`, `S`, `I` are outcomes of ordinary
/// requests; `p` begins a request that must be a probe, `f` and `s` and `i` are how a probe ends; `x` begins one that
/// must be refused; a number passes that many milliseconds.
#[track_caller]
fn check_play(events: &str, phase: Phase) {
    let policy = policy(3, 100, 1_000);
    let (mut outlier, mut now_ms) = (Outlier::default(), 0);
    for event in events.split_whitespace() {
        match event {
            "p" => assert_eq!(outlier.begin(&policy, now_ms), Some(Pass::Probe), "at {now_ms} of `{events}`"),
            "x" => assert_eq!(outlier.begin(&policy, now_ms), None, "at {now_ms} of `{events}`"),
            "F" | "S" | "I" | "f" | "s" | "i" => {
                let pass = if event.chars().all(char::is_uppercase) { Pass::Ordinary } else { Pass::Probe };
                let class = match event {
                    "F" | "f" => Class::Failure,
                    "S" | "s" => Class::Success,
                    _ => Class::Ignored,
                };
                outlier.record(pass, class, &policy, 0, now_ms);
            }
            passed_ms => now_ms += passed_ms.parse::<u64>().unwrap(),
        }
    }
    assert_eq!(outlier.phase(), phase, "after `{events}`");
}

#[test]
fn failures_in_a_row_eject() {
    check_play("F F", Phase::Admitted);
    check_play("F F F", Phase::Ejected { until_ms: 100 });
}

#[test]
fn a_success_between_failures_starts_the_count_again() {
    check_play("F F S F F", Phase::Admitted);
}

#[test]
fn what_was_ignored_neither_counts_nor_forgives() {
    check_play("F F I F", Phase::Ejected { until_ms: 100 });
}

#[test]
fn one_probe_goes_when_the_time_is_over() {
    check_play("F F F 99 x 1 p x x", Phase::Probing { again_ms: 200 });
}

#[test]
fn probe_that_succeeds_is_usable() {
    check_play("F F F 100 p s", Phase::Admitted);
    check_play("F F F 100 p s F F", Phase::Admitted);
}

#[test]
fn probe_that_fails_doubles_the_time_out() {
    check_play("F F F 100 p f", Phase::Ejected { until_ms: 300 });
    check_play("F F F 100 p f 200 p f", Phase::Ejected { until_ms: 700 });
}

#[test]
fn time_out_is_short_again_after_an_admission() {
    check_play("F F F 100 p f 200 p s F F F", Phase::Ejected { until_ms: 400 });
}

#[test]
fn probe_that_says_nothing_lets_another_one_go_at_once() {
    check_play("F F F 100 p i p", Phase::Probing { again_ms: 200 });
}

#[test]
fn silent_probe_does_not_keep_the_endpoint_out() {
    check_play("F F F 100 p 99 x 1 p s", Phase::Admitted);
}

#[test]
fn requests_from_before_the_ejection_change_nothing() {
    check_play("F F F S F I", Phase::Ejected { until_ms: 100 });
    check_play("F F F 100 p S F", Phase::Probing { again_ms: 200 });
}

#[test]
fn second_probe_is_old_news_when_the_first_has_decided() {
    check_play("F F F 100 p 100 p f f", Phase::Ejected { until_ms: 400 });
}

#[test]
fn forced_request_that_succeeds_admits_and_one_that_fails_does_not_prolong() {
    let policy = policy(1, 100, 1_000);
    let mut outlier = Outlier::default();
    outlier.record(Pass::Ordinary, Class::Failure, &policy, 0, 0);
    assert_eq!(outlier.begin_forced(&policy, 10), Pass::Forced);
    assert_eq!(outlier.record(Pass::Forced, Class::Failure, &policy, 0, 20), None);
    assert_eq!(outlier.out_until_ms(), 100);
    assert_eq!(outlier.record(Pass::Forced, Class::Success, &policy, 0, 30), Some(Change::Admitted));
    assert!(outlier.is_usable(30));
}

#[test]
fn clean_is_what_a_success_does_not_change() {
    let policy = policy(3, 100, 1_000);
    let mut outlier = Outlier::default();
    assert!(outlier.is_clean(&policy));
    outlier.record(Pass::Ordinary, Class::Failure, &policy, 0, 0);
    assert!(outlier.is_admitted() && !outlier.is_clean(&policy));
    outlier.record(Pass::Ordinary, Class::Success, &policy, 0, 0);
    assert!(outlier.is_clean(&policy));
}

#[test]
fn ejection_is_told_once() {
    let policy = policy(2, 100, 1_000);
    let mut outlier = Outlier::default();
    let told: Vec<_> = (0..4).map(|_| outlier.record(Pass::Ordinary, Class::Failure, &policy, 0, 7)).collect();
    assert_eq!(told, [None, Some(Change::Ejected { until_ms: 107 }), None, None]);
}

#[test]
fn backoff_ends_at_its_maximum() {
    let waits: Vec<u64> =
        (1..8).map(|n| backoff_ms((Duration::from_secs(5), Duration::from_secs(300)), n, 0)).collect();
    assert_eq!(waits, [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000]);
    assert_eq!(backoff_ms((Duration::from_secs(5), Duration::from_secs(300)), u32::MAX, u64::MAX), 300_000);
}

proptest! {
    #[test]
    fn backoff_stays_between_its_bounds(min_ms in 1_u64..1 << 40, more in 0_u64..1 << 40, n in 1_u32..100, draw in any::<u64>()) {
        let wait = backoff_ms((Duration::from_millis(min_ms), Duration::from_millis(min_ms + more)), n, draw);
        prop_assert!((min_ms..=min_ms + more).contains(&wait));
    }

    #[test]
    fn an_endpoint_that_answers_comes_back(events in proptest::collection::vec((0_u8..6, 0_u64..400, any::<u64>()), 0..60)) {
        let policy = policy(2, 100, 1_000);
        let (mut outlier, mut now_ms) = (Outlier::default(), 0);
        for (event, passed_ms, draw) in events {
            now_ms += passed_ms;
            let class = [Class::Failure, Class::Success, Class::Ignored][usize::from(event % 3)];
            match outlier.begin(&policy, now_ms) {
                Some(pass) => { outlier.record(pass, class, &policy, draw, now_ms); }
                None if event > 2 => { outlier.record(Pass::Ordinary, class, &policy, draw, now_ms); }
                None => prop_assert!(!outlier.is_usable(now_ms)),
            }
            // Never out for longer than the policy allows, whatever happened.
            prop_assert!(outlier.out_until_ms() <= now_ms + 1_000);
        }
        let pass = outlier.begin(&policy, now_ms + 1_000).unwrap();
        outlier.record(pass, Class::Success, &policy, 0, now_ms + 1_000);
        prop_assert_eq!(outlier.phase(), Phase::Admitted);
    }
}

/// Plays outcomes, `S` or `F`, each this many milliseconds after the one before, until the endpoint is out. Says after how
/// many.
fn out_after(rule: AccrualRule, apart_ms: u64, outcomes: &str) -> Option<usize> {
    let backoff = (Duration::from_secs(5), Duration::from_secs(5));
    let (policy, mut outlier) = (Accrual { rule, backoff }, Outlier::default());
    assert!(!outlier.is_clean(&policy), "a success counts too");
    outcomes.chars().enumerate().find_map(|(place, outcome)| {
        let class = if outcome == 'S' { Class::Success } else { Class::Failure };
        let change = outlier.record(Pass::Ordinary, class, &policy, 0, place as u64 * apart_ms);
        change.map(|_| place + 1)
    })
}

#[test]
fn a_rate_over_requests_ejects_when_it_is_known_and_too_low() {
    let rule = |percent, requests| {
        AccrualRule::SuccessRate(Ppm::from_percent(percent).unwrap(), NonZeroU32::new(requests).unwrap())
    };
    assert_eq!(out_after(rule(90, 10), 1, "FFFFFFFFFFF"), Some(10), "not before ten are known");
    assert_eq!(out_after(rule(90, 10), 1, "SSSSSSSSSFSF"), Some(12));
    assert_eq!(out_after(rule(50, 10), 1, &"SF".repeat(4)), None);
    assert_eq!(out_after(rule(0, 1), 1, "FFFF"), None);
    assert_eq!(out_after(rule(100, 1), 1, "SSSF"), Some(4));
}

#[test]
fn a_rate_over_time_forgets_what_is_older() {
    let rule = |percent| AccrualRule::SuccessRateWindowed(Ppm::from_percent(percent).unwrap(), Duration::from_secs(10));
    assert_eq!(out_after(rule(90), 1, "FFFFF"), Some(5), "fewer say nothing");
    assert_eq!(out_after(rule(50), 1, "SSSSFFFFF"), Some(9));
    assert_eq!(out_after(rule(50), 3_000, "FFFFFFFFFF"), None, "never five in ten seconds");
    assert_eq!(out_after(rule(50), 2_000, "FFFFF"), Some(5));
}

proptest! {
    #[test]
    fn rates_stay_between_nothing_and_all(outcomes in proptest::collection::vec(any::<bool>(), 1..300), requests in 1_u32..50) {
        let mut rate = Rate::default();
        for success in outcomes {
            rate.note(AccrualRule::SuccessRate(Ppm::WHOLE, NonZeroU32::new(requests).unwrap()), success, 0);
            prop_assert!(rate.mean <= WHOLE, "{}", rate.mean);
        }
    }
}
