//! Shares are exact, weights are monotone, health moves only those it must.

use proptest::prelude::*;

use super::{Draw, LeafState, Outcome, Picked, Rules, Weights, pick, shares};
use crate::dtab::{Branch, NameTree, Path, SplitId, Union, Weight, arb};
use crate::model::{Failover, OnUnhealthy};

/// Leaves say what they are: `u` unusable, `p` pending, `e` error, all others usable.
fn state(leaf: &Path) -> LeafState {
    match leaf.label(0).map(|label| label[0]) {
        Some(b'u') => LeafState::Unusable,
        Some(b'p') => LeafState::Pending,
        Some(b'e') => LeafState::Error,
        _ => LeafState::Usable,
    }
}

fn rules(failover: Failover, on_unhealthy: OnUnhealthy) -> Rules<'static> {
    match on_unhealthy {
        OnUnhealthy::Fail => Rules { failover, on_unhealthy: &|_| OnUnhealthy::Fail },
        OnUnhealthy::Redistribute => Rules { failover, on_unhealthy: &|_| OnUnhealthy::Redistribute },
    }
}

fn say(outcome: &Outcome<'_, Path>) -> String {
    match outcome {
        Outcome::Leaf(path) => path.to_string(),
        Outcome::Unusable(path) => format!("{path}?"),
        Outcome::Pending(path) => format!("wait {path}"),
        Outcome::Error(path) => format!("error {path}"),
        Outcome::Empty => "$".to_owned(),
        Outcome::Fail => "!".to_owned(),
        Outcome::Neg => "~".to_owned(),
    }
}

fn compatible() -> Rules<'static> {
    rules(Failover::Names, OnUnhealthy::Fail)
}

#[track_caller]
fn check_shares(tree: &str, rules: &Rules<'_>, expected: &str) {
    let tree = NameTree::parse(tree).unwrap();
    let seen: Vec<_> = shares(&tree, &(), &state, rules)
        .iter()
        .map(|(end, share)| format!("{} {}", say(end), (share * 1000.0).round() / 10.0))
        .collect();
    assert_eq!(seen.join(", "), expected);
    check_grid(&tree, &(), rules);
}

/// Even draws end as often as the shares say.
fn check_grid(tree: &NameTree<Path>, weights: &impl Weights, rules: &Rules<'_>) {
    let mut expected = std::collections::BTreeMap::new();
    for (end, share) in shares(tree, weights, &state, rules) {
        *expected.entry(say(&end)).or_insert(0.0) += share;
    }
    let total: f64 = expected.values().sum();
    assert!((total - 1.0).abs() < 1e-9, "{total}");
    let mut counts = std::collections::BTreeMap::new();
    // Low-discrepancy: an own irrational step for each union on the way.
    let steps = [0.618_033_988_75, 0.414_213_562_37, 0.732_050_807_57, 0.236_067_977_5, 0.645_751_311_06, 0.317_0];
    for n in 0..GRID {
        let mut calls = 0;
        let mut draw = |_| {
            let step = steps[calls % steps.len()] * f64::from(n) + 0.37;
            calls += 1;
            ((step - step.floor()) * 18_446_744_073_709_551_616.0) as u64
        };
        *counts.entry(say(&pick(tree, &mut draw, weights, &state, rules).outcome)).or_insert(0.0) +=
            1.0 / f64::from(GRID);
    }
    for end in expected.keys().chain(counts.keys()) {
        let (want, got) = (expected.get(end).copied().unwrap_or(0.0), counts.get(end).copied().unwrap_or(0.0));
        assert!((want - got).abs() < 0.04, "{end} of {tree}: {want} said, {got} seen");
    }
}

const GRID: u32 = 2000;

#[test]
fn zero_weight_arm_is_never_picked() {
    check_shares("0*/a & 3*/b", &compatible(), "/b 100");
    check_shares("0*/a & 0*/b", &compatible(), "~ 100");
    check_shares("0*/a & 0*/b | /c", &compatible(), "/c 100");
    let tree = NameTree::parse("0*/a & 3*/b").unwrap();
    for draw in [0, 1, u64::MAX] {
        assert_eq!(say(&pick(&tree, &mut |_| draw, &(), &state, &compatible()).outcome), "/b");
    }
}

#[test]
fn nothing_and_fail_leave_a_union_and_empty_keeps_its_share() {
    check_shares("~ & /a & 3*/b & !", &compatible(), "/a 25, /b 75");
    check_shares("/a & 3*$", &Rules::default(), "/a 25, $ 75");
    check_shares("~ & !", &Rules::default(), "~ 100");
}

#[test]
fn branches_not_ready_give_their_share_to_those_that_are() {
    check_shares("2*/p & /a & 3*/b", &compatible(), "/a 25, /b 75");
    check_shares("2*/e & /a & 3*/u", &compatible(), "/a 25, /u? 75");
    check_shares("2*/p & /e", &compatible(), "error /e 100");
    check_shares("2*/p & /p2", &compatible(), "wait /p 100");
    check_shares("2*/p & ~", &compatible(), "~ 100");
}

#[test]
fn unusable_branches_give_their_share_away_where_the_rules_say_so() {
    check_shares("2*/u & /a & 3*/b", &compatible(), "/u? 33.3, /a 16.7, /b 50");
    check_shares("2*/u & /a & 3*/b", &Rules::default(), "/a 25, /b 75");
    check_shares("/u & /p & /a & /$", &Rules::default(), "/a 50, /$ 50");
    check_shares("/u & 3*/u2", &Rules::default(), "/u? 25, /u2? 75");
    check_shares("/u & /a & 2*$", &Rules::default(), "/a 50, $ 50");
}

#[test]
fn alternatives_follow_names() {
    check_shares("~ | /u | /a", &compatible(), "/u? 100");
    check_shares("! | /a", &compatible(), "! 100");
    check_shares("$ | /a", &compatible(), "$ 100");
    check_shares("/e | /a", &compatible(), "error /e 100");
    check_shares("/p | /a", &compatible(), "wait /p 100");
    check_shares("(~ & !) | /a", &compatible(), "/a 100");
}

#[test]
fn alternatives_follow_health() {
    let rules = Rules::default();
    check_shares("/u | /a", &rules, "/a 100");
    check_shares("/u | /u2", &rules, "/u? 100");
    check_shares("/u | ~ | /p", &rules, "wait /p 100");
    check_shares("(/u & /u2) | /a", &rules, "/a 100");
    check_shares("(/u & /b) | /a", &rules, "/b 100");
}

#[test]
fn what_stops_names_the_first_that_is_ill() {
    let rules = Rules::default();
    check_shares("/u | ! | /a", &rules, "/u? 100");
    check_shares("/u | $ | /a", &rules, "/u? 100");
    check_shares("/u | /e | /a", &rules, "/u? 100");
    check_shares("(/u | !) | /a", &rules, "/u? 100");
    check_shares("((/u | !) & /u2) | /a", &rules, "/a 100");
}

#[test]
fn a_draw_tells_what_the_guard_needs() {
    let mut tree = NameTree::parse("1*/u & 999999*/a").unwrap();
    let NameTree::Union(union) = &mut tree else { panic!("no union") };
    union.split = Some(SplitId(7));
    let told = |draw: u64, rules: &Rules<'_>| pick(&tree, &mut |_| draw, &(), &state, rules).draws;
    let canary = Draw { split: Some(SplitId(7)), index: 0, drawn: 0, share_ppm: 1, redistributed: false };
    assert_eq!(told(0, &compatible()).as_slice(), [canary]);
    assert_eq!(told(0, &Rules::default()).as_slice(), [Draw { index: 1, redistributed: true, ..canary }]);
    let primary = Draw { index: 1, drawn: 1, share_ppm: 999_999, ..canary };
    assert_eq!(told(u64::MAX, &Rules::default()).as_slice(), [primary]);
}

#[test]
fn weights_of_the_moment_win() {
    struct Now;
    impl Weights for Now {
        fn weight(&self, split: SplitId, index: u16) -> Option<Weight> {
            (split == SplitId(0) && index == 2).then_some(Weight::ZERO)
        }
    }
    // The index survives simplification: `/a` was the third branch.
    let mut dtab: crate::dtab::Dtab = "/s => ~ & /b & 9*/a".parse().unwrap();
    dtab.assign_splits(0);
    let tree = dtab.0.remove(0).destination.simplified();
    let ends = shares(&tree, &Now, &state, &compatible());
    assert_eq!(ends.iter().map(|(end, share)| (say(end), *share)).collect::<Vec<_>>(), [("/b".to_owned(), 1.0)]);
}

#[test]
fn draws_deeper_than_the_limit_are_drawn_but_not_told() {
    let nested = |n: usize| "/z & (".repeat(n - 1) + "/z & /a" + &")".repeat(n - 1);
    let last = |n: usize| {
        let tree = NameTree::parse(&nested(n)).unwrap();
        let picked = pick(&tree, &mut |_| u64::MAX, &(), &state, &compatible());
        (say(&picked.outcome), picked.draws.as_slice().len())
    };
    assert_eq!(last(4), ("/a".to_owned(), 4));
    assert_eq!(last(5), ("/a".to_owned(), 4));
}

#[test]
fn unions_larger_than_the_kept_states_are_drawn_all_the_same() {
    let many = |n: usize| (0..n).map(|n| format!("/a{n}")).collect::<Vec<_>>().join(" & ");
    for n in [super::arms::ARMS_KEPT, super::arms::ARMS_KEPT + 1, 60] {
        check_grid(&NameTree::parse(&format!("{} & /u", many(n - 1))).unwrap(), &(), &Rules::default());
    }
}

#[test]
fn extreme_weights_keep_their_ratio() {
    for scale in ["", "00000000000000000000000000000000000000000"] {
        let tree = format!("1{scale} * /a & 3{scale} * /b & 0.{scale}1 * /c");
        let tree = NameTree::parse(&tree).unwrap();
        let first = shares(&tree, &(), &state, &compatible())[0].1;
        assert!((first - 0.25).abs() < 0.01, "{first}");
    }
    let tiny = f64::MIN_POSITIVE / 4.0;
    let branch =
        |index, weight| Branch { weight: Weight::new(weight).unwrap(), index, tree: NameTree::Leaf(Path::root()) };
    for (a, b) in [(tiny, 3.0 * tiny), (f64::MAX / 4.0, 0.75 * f64::MAX)] {
        let tree = NameTree::Union(Union { split: None, branches: vec![branch(0, a), branch(1, b)] });
        let first = shares(&tree, &(), &state, &compatible())[0].1;
        assert!((first - 0.25).abs() < 1e-9, "{first}");
    }
}

/// For each branch, for how many of the 2^64 draws it is picked: found by halving, as branches lie in order.
fn widths(weights: &[Weight]) -> Vec<u128> {
    let branches = (0..).zip(weights).map(|(index, &weight)| {
        let leaf = Path::from_labels([format!("a{index}")]).unwrap();
        Branch { weight, index, tree: NameTree::Leaf(leaf) }
    });
    let tree = NameTree::Union(Union { split: None, branches: branches.collect() });
    let place = |draw: u64| {
        let picked: Picked<'_, Path> = pick(&tree, &mut |_| draw, &(), &state, &compatible());
        picked.draws.as_slice().first().map_or(usize::MAX, |draw| usize::from(draw.index))
    };
    let below = |limit: usize| {
        let (mut low, mut high) = (0_u128, 1_u128 << 64);
        while low < high {
            let middle = (low + high) / 2;
            if place(u64::try_from(middle).unwrap()) < limit { low = middle + 1 } else { high = middle }
        }
        low
    };
    (0..weights.len()).map(|place| below(place + 1) - below(place)).collect()
}

fn arb_states() -> impl Strategy<Value = NameTree<Path>> {
    let leaf = prop_oneof![4 => Just("/a"), 2 => Just("/b"), 2 => Just("/u"), 1 => Just("/p"), 1 => Just("/e")];
    arb::tree_of(leaf.prop_map(|leaf| leaf.parse::<Path>().unwrap()))
}

fn arb_rules() -> impl Strategy<Value = (Failover, OnUnhealthy)> {
    let failover = prop_oneof![Just(Failover::Health), Just(Failover::Names)];
    (failover, prop_oneof![Just(OnUnhealthy::Fail), Just(OnUnhealthy::Redistribute)])
}

proptest! {
    #[test]
    fn shares_are_exact(weights in proptest::collection::vec(arb::weight(), 1..6)) {
        let total: f64 = weights.iter().map(|weight| weight.get()).sum();
        prop_assume!(total > 0.0 && total.is_finite());
        for (width, weight) in widths(&weights).into_iter().zip(&weights) {
            let share = width as f64 / 18_446_744_073_709_551_616.0;
            prop_assert!((share - weight.get() / total).abs() < 1e-12, "{share} of {weights:?}");
            prop_assert!(!weight.is_zero() || width == 0);
        }
    }

    #[test]
    fn whole_parts_per_million_are_exact_to_the_draw(ppm in 0_u32..=1_000_000) {
        let widths = widths(&[Weight::from(ppm), Weight::from(1_000_000 - ppm)]);
        let exact = (u128::from(ppm) << 64).div_ceil(1_000_000);
        prop_assert_eq!(widths[0], exact);
    }

    #[test]
    fn raising_the_first_arm_only_moves_draws_to_it(
        low in arb::weight(), high in arb::weight(), rest in proptest::collection::vec(arb::weight(), 1..4),
    ) {
        let (low, high) = if low <= high { (low, high) } else { (high, low) };
        let with = |first: Weight| widths(&[&[first], rest.as_slice()].concat())[0];
        prop_assert!(with(low) <= with(high));
    }

    #[test]
    fn picks_agree_with_shares(tree in arb_states(), (failover, on_unhealthy) in arb_rules()) {
        check_grid(&tree, &(), &rules(failover, on_unhealthy));
    }

    #[test]
    fn illness_moves_only_those_it_hits(a in 1_u32..100, b in 1_u32..100, c in 1_u32..100, draw in any::<u64>()) {
        let well = NameTree::parse(&format!("{a}*/a & {b}*/b & {c}*/c")).unwrap();
        let ill = NameTree::parse(&format!("{a}*/a & {b}*/u & {c}*/c")).unwrap();
        let before = say(&pick(&well, &mut |_| draw, &(), &state, &Rules::default()).outcome);
        let after = say(&pick(&ill, &mut |_| draw, &(), &state, &Rules::default()).outcome);
        prop_assert!(before == after || before == "/b", "{} became {}", before, after);
        prop_assert!(after != "/u?");
    }
}
