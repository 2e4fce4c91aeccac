use super::*;

const SECOND: u64 = 1_000_000;

/// Two workers, two arms.
#[derive(Default)]
struct Arms {
    canary: [Health; 2],
    primary: [Health; 2],
    now_us: u64,
}

impl Arms {
    fn healthy() -> Self {
        let mut arms = Arms { now_us: 100 * SECOND, ..Arms::default() };
        (0..200).for_each(|_| arms.both_work());
        arms
    }

    fn pass(&mut self) -> u64 {
        self.now_us += 1_000;
        self.now_us
    }

    fn both_work(&mut self) {
        for worker in 0..2 {
            let now_us = self.pass();
            self.canary[worker].succeeded(now_us);
            self.primary[worker].succeeded(now_us);
        }
    }

    fn down(&self) -> (bool, bool) {
        let (canary, primary) = (self.canary.each_ref().map(Health::read), self.primary.each_ref().map(Health::read));
        (is_down(&canary, &primary, self.now_us), is_down(&primary, &canary, self.now_us))
    }
}

#[test]
fn arms_without_traffic_are_up() {
    assert_eq!(Arms::default().down(), (false, false));
    assert_eq!(Arms::healthy().down(), (false, false));
}

#[test]
fn one_endpoint_that_refuses_is_down_at_its_ejection() {
    for mut arms in [Arms::default(), Arms::healthy()] {
        arms.now_us += 100 * SECOND;
        for failure in 0..5 {
            let now_us = arms.pass();
            arms.canary[0].failed(now_us);
            arms.primary[0].succeeded(now_us + 1);
            assert_eq!(arms.down(), (false, false), "failure {failure}");
        }
        let now_us = arms.pass();
        arms.canary[0].ejected(now_us);
        assert_eq!(arms.down(), (true, false));
    }
}

#[test]
fn twenty_endpoints_on_two_workers_are_down_at_the_tenth_failure_without_an_ejection() {
    let mut arms = Arms::healthy();
    for failure in 1..=STREAK_ALONE {
        let now_us = arms.pass();
        arms.canary[failure as usize % 2].failed(now_us);
        arms.primary[0].succeeded(now_us);
        assert_eq!(arms.down(), (failure == STREAK_ALONE, false), "failure {failure}");
    }
}

#[test]
fn a_success_on_any_worker_brings_it_back() {
    let mut arms = Arms::healthy();
    for _ in 0..20 {
        let now_us = arms.pass();
        arms.canary[0].failed(now_us);
        arms.primary[1].succeeded(now_us);
    }
    arms.canary[0].ejected(arms.now_us);
    assert_eq!(arms.down(), (true, false));
    let now_us = arms.pass();
    arms.canary[1].succeeded(now_us);
    assert_eq!(arms.down(), (false, false));
}

#[test]
fn a_success_routed_before_the_trouble_proves_nothing() {
    let mut arms = Arms::healthy();
    let before_us = arms.now_us;
    for _ in 0..20 {
        let now_us = arms.pass();
        arms.canary[0].failed(now_us);
        arms.primary[1].succeeded(now_us);
    }
    // a long download ends well after all
    arms.canary[1].succeeded(before_us);
    assert_eq!(arms.down(), (true, false));
}

#[test]
fn an_outage_of_both_makes_neither_down() {
    let mut arms = Arms::healthy();
    for _ in 0..100 {
        let now_us = arms.pass();
        for worker in 0..2 {
            arms.canary[worker].failed(now_us);
            arms.primary[worker].failed(now_us);
            arms.canary[worker].ejected(now_us);
            arms.primary[worker].ejected(now_us);
        }
        assert_eq!(arms.down(), (false, false));
    }
}

/// A canary with this failure rate, ejected at each fifth failure in a row, over this many requests.
#[track_caller]
fn check_partial_failure(both: bool, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut arms = Arms::healthy();
    let mut row = 0;
    // the rate is known before luck can end it: about as many requests as it remembers
    for at in 0..20_000 {
        let (now_us, worker) = (arms.pass(), random.usize(..2));
        if random.f64() < 0.2 && (at > 300 || row < 3) {
            arms.canary[worker].failed(now_us);
            row += 1;
        } else {
            arms.canary[worker].succeeded(now_us);
            row = 0;
        }
        if row >= 5 {
            arms.canary[worker].ejected(now_us);
        }
        let worker = random.usize(..2);
        if both && random.f64() < 0.2 {
            arms.primary[worker].failed(now_us);
        } else {
            arms.primary[worker].succeeded(now_us);
        }
        assert!(!arms.down().0, "request {at} of seed {seed}");
    }
}

#[test]
fn a_canary_that_fails_one_in_five_is_not_down() {
    (0..10).for_each(|seed| check_partial_failure(false, seed));
}

#[test]
fn an_outage_that_both_share_in_part_makes_neither_down() {
    (0..10).for_each(|seed| check_partial_failure(true, seed));
}

#[test]
fn an_arm_scaled_to_zero_is_down_once_the_other_has_served() {
    let mut arms = Arms::healthy();
    let now_us = arms.pass();
    arms.canary[0].absent(now_us);
    assert_eq!(arms.down(), (false, false));
    arms.primary[0].succeeded(now_us); // the same request, on the other arm
    assert_eq!(arms.down(), (true, false));
    arms.canary[0].present();
    assert_eq!(arms.down(), (false, false));
}

#[test]
fn both_arms_scaled_to_zero_are_neither_down() {
    let mut arms = Arms::healthy();
    for _ in 0..10 {
        let now_us = arms.pass();
        arms.canary[0].absent(now_us);
        arms.primary[0].absent(now_us);
    }
    assert_eq!(arms.down(), (false, false));
}

#[test]
fn what_happened_long_ago_is_forgotten() {
    let mut arms = Arms::healthy();
    for _ in 0..20 {
        let now_us = arms.pass();
        arms.canary[0].failed(now_us);
        arms.primary[1].succeeded(now_us);
    }
    assert_eq!(arms.down(), (true, false));
    arms.now_us += MEMORY_US;
    assert_eq!(arms.down(), (true, false));
    arms.now_us += 1;
    assert_eq!(arms.down(), (false, false));
}

#[test]
fn the_rarer_failures_were_the_fewer_are_needed() {
    assert_eq!(unexplained(0), Some(STREAK_MIN));
    assert_eq!(unexplained(50_000), Some(5));
    assert_eq!(unexplained(200_000), Some(9));
    assert_eq!(unexplained(WHOLE_PPM), None);
}
