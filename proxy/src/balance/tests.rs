use std::cell::Cell;

use proptest::prelude::*;

use super::*;

fn pick_pairs(loads: impl Fn(usize) -> Load, len: usize, draw: u64) -> Option<usize> {
    pick(loads, len, draw, Within::Pairs)
}

fn even_pairs(loads: impl Fn(usize) -> Load, len: usize, draw: u64) -> Option<usize> {
    pick_even(loads, len, draw, Within::Pairs)
}

const DRAWS: u64 = 20_000;

/// Draws spread evenly over all of `u64`.
fn even_draws() -> impl Iterator<Item = u64> {
    (0..DRAWS).map(|step| step * (u64::MAX / DRAWS) + step)
}

/// An idle endpoint of this weight.
fn idle(weight: f64) -> Load {
    Load { cost: 0, weight, usable: true }
}

fn busy(cost: u64) -> Load {
    Load { cost, ..idle(1.0) }
}

fn out(load: Load) -> Load {
    Load { usable: false, ..load }
}

/// Shares by endpoint, in percent rounded to the nearest.
#[track_caller]
fn check_shares(loads: &[Load], percent: &[i64]) {
    let mut chosen = vec![0_i64; loads.len()];
    even_draws().for_each(|draw| chosen[pick_pairs(|index| loads[index], loads.len(), draw).unwrap()] += 1);
    for (index, (&count, &percent)) in chosen.iter().zip(percent).enumerate() {
        let error = count - percent * DRAWS as i64 / 100;
        assert!(error.abs() <= DRAWS as i64 / 100, "endpoint {index}: {count} of {DRAWS}, want {percent} %");
    }
}

#[test]
fn equal_endpoints_take_turns() {
    check_shares(&[idle(1.0); 4], &[25, 25, 25, 25]);
    check_shares(&[idle(2.5); 5], &[20, 20, 20, 20, 20]);
    check_shares(&[idle(0.0); 2], &[50, 50]);
}

#[test]
fn weights_divide_the_traffic() {
    check_shares(&[1.0, 3.0].map(idle), &[25, 75]);
    check_shares(&[1.0, 2.0, 1.0, 4.0, 2.0].map(idle), &[10, 20, 10, 40, 20]);
}

#[test]
fn draw_on_a_border_belongs_to_the_next() {
    let quarter = 1 << 62;
    assert_eq!(pick_pairs(|index| idle([1.0, 3.0][index]), 2, quarter), Some(1));
    assert_eq!(pick_pairs(|index| idle([1.0, 3.0][index]), 2, quarter - (1 << 11)), Some(0));
}

#[test]
fn weight_zero_is_never_drawn() {
    check_shares(&[1.0, 0.0, 1.0].map(idle), &[50, 0, 50]);
    check_shares(&[f64::NAN, 1.0, f64::NEG_INFINITY, -1.0].map(idle), &[0, 100, 0, 0]);
}

#[test]
fn endless_weights_are_equal() {
    check_shares(&[f64::INFINITY, f64::INFINITY, 1.0].map(idle), &[50, 50, 0]);
}

#[test]
fn weight_zero_serves_when_nobody_else_is_left() {
    check_shares(&[out(idle(1.0)), idle(0.0), out(idle(1.0))], &[0, 100, 0]);
    check_shares(&[out(idle(1.0)), idle(0.0), idle(2.0)], &[0, 0, 100]);
}

#[test]
fn less_loaded_of_two_wins() {
    check_shares(&[0, 1].map(busy), &[100, 0]);
    check_shares(&[0, 1, 2].map(busy), &[67, 33, 0]);
}

#[test]
fn two_are_drawn_within_a_weight() {
    let loads = [Load { cost: 3, ..idle(1.0) }, Load { cost: 0, ..idle(1.0) }, idle(2.0)];
    check_shares(&loads, &[0, 50, 50]);
}

#[test]
fn unusable_endpoints_are_passed_over() {
    check_shares(&[out(busy(0)), out(busy(0)), busy(9)], &[0, 0, 100]);
}

#[test]
fn needle_is_found_among_many_unusable_ones() {
    let loads = |index| Load { usable: index == 777, ..idle(1.0) };
    for draw in even_draws().take(200) {
        assert_eq!(pick_pairs(loads, 1_000, draw), Some(777));
    }
}

#[test]
fn nobody_home_is_none() {
    assert_eq!(pick_pairs(|_| idle(1.0), 0, 1), None);
    assert_eq!(even_pairs(|_| idle(1.0), 0, 1), None);
    assert_eq!(pick_pairs(|_| out(idle(1.0)), 9, 1), None);
    assert_eq!(pick_pairs(|index| out(idle(index as f64)), 9, 1), None);
}

#[track_caller]
fn check_looks(load: Load, len: usize, looks: usize) {
    let looked = Cell::new(0);
    let counted = |_| {
        looked.set(looked.get() + 1);
        load
    };
    assert_eq!(even_pairs(counted, len, 7).is_some(), load.usable);
    assert_eq!(looked.get(), looks);
}

#[test]
fn looking_is_bounded() {
    check_looks(busy(5), 10_000, 2);
    check_looks(out(idle(1.0)), 100, 2 * EFFORT_MAX + 100);
}

fn arb_loads() -> impl Strategy<Value = Vec<Load>> {
    let weight = prop_oneof![4 => (0_u8..3).prop_map(f64::from), 1 => any::<f64>()];
    let load = (0_u32..5, weight, any::<bool>());
    proptest::collection::vec(
        load.prop_map(|(cost, weight, usable): (u32, f64, bool)| Load { cost: u64::from(cost), weight, usable }),
        0..20,
    )
}

proptest! {
    #[test]
    fn choice_is_usable_and_there_is_one_if_any_is(loads in arb_loads(), draw in any::<u64>()) {
        let any = loads.iter().any(|load| load.usable);
        let of = |index: usize| loads[index];
        for choice in [pick_pairs(of, loads.len(), draw), even_pairs(of, loads.len(), draw)] {
            prop_assert_eq!(choice.is_some(), any);
            prop_assert!(choice.is_none_or(|index| loads[index].usable));
        }
    }

    #[test]
    fn most_loaded_endpoint_is_left_alone(len in 2_usize..30, worst in 0_usize..30, draw in any::<u64>()) {
        let choice = pick_pairs(|index| busy(u64::from(index == worst % len)), len, draw);
        prop_assert!(choice != Some(worst % len));
    }

    #[test]
    fn equal_weights_choose_as_no_weights_do(len in 0_usize..9, weight in any::<f64>(), draw in any::<u64>()) {
        let loads = |index: usize| Load { cost: index as u64 % 3, ..idle(weight) };
        prop_assert_eq!(pick_pairs(loads, len, draw), even_pairs(loads, len, draw));
    }

    #[test]
    fn weight_zero_is_left_alone_while_another_is_usable(loads in arb_loads(), draw in any::<u64>()) {
        let weighty = |load: &Load| load.usable && load.weight > 0.0;
        if loads.iter().any(weighty) {
            let choice = pick_pairs(|index| loads[index], loads.len(), draw).unwrap();
            prop_assert!(weighty(&loads[choice]));
        }
    }
}

#[test]
fn endpoints_that_take_turns_are_skipped_while_they_are_out() {
    let loads = [idle(1.0), out(idle(1.0)), busy(9)];
    let chosen = |turn| pick_even(|index| loads[index], 3, 0, Within::Turn(turn));
    assert_eq!([0, 1, 2, 3, usize::MAX].map(chosen), [0, 2, 2, 0, usize::MAX % 3].map(Some));
    let all_out = [out(idle(1.0)); 2];
    assert_eq!(pick_even(|index| all_out[index], 2, 0, Within::Turn(1)), None);
}

#[test]
fn turns_within_a_group_leave_the_weights_alone() {
    let loads = [1.0, 3.0, 3.0].map(idle);
    let mut chosen = [0; 3];
    for (turn, draw) in even_draws().enumerate() {
        chosen[pick(|index| loads[index], 3, draw, Within::Turn(turn)).unwrap()] += 1;
    }
    let share = |count: u64| count * 100 / DRAWS;
    assert_eq!((share(chosen[0] + 5), share(chosen[1] + chosen[2] + 5)), (14, 85));
    assert!(chosen[1].abs_diff(chosen[2]) <= 2, "{chosen:?}");
}

const SECOND_US: u64 = 1_000_000;

#[test]
fn a_slow_answer_is_believed_at_once_and_forgotten_slowly() {
    let mean = Ewma::new(Duration::from_secs(10)).observe(1_000, 0);
    assert_eq!((mean.cost(0, 0), mean.cost(1, 0), mean.cost(3, 0)), (1_000, 2_000, 4_000));
    let slow = mean.observe(90_000, SECOND_US);
    assert_eq!(slow.cost(0, SECOND_US), 90_000);
    let later = slow.observe(1_000, 2 * SECOND_US).cost(0, 2 * SECOND_US);
    assert!((80_000..90_000).contains(&later), "{later}");
    assert!(slow.cost(0, 100 * SECOND_US) < 10, "what nobody asked for long is tried again");
}

#[test]
fn an_endpoint_that_nobody_knows_gets_one_request() {
    let unknown = Ewma::new(Duration::from_secs(10));
    assert_eq!(unknown.cost(0, 5), 0);
    assert!(unknown.cost(1, 5) > 1 << 40 && unknown.cost(2, 5) > unknown.cost(1, 5));
}

proptest! {
    #[test]
    fn costs_are_finite_and_grow_with_load(took in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..20), load in 0_u32..1000) {
        let mut ewma = Ewma::new(Duration::from_millis(1));
        let mut at = 0;
        for (took_us, now_us) in took {
            ewma = ewma.observe(took_us, now_us);
            at = now_us.max(at);
        }
        prop_assert!(ewma.cost(load, at) <= ewma.cost(load + 1, at));
    }
}
