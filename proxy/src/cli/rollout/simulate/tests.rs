use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: SimulateArgs,
}

fn args(line: &str) -> SimulateArgs {
    Line::try_parse_from(std::iter::once("simulate").chain(line.split_whitespace())).unwrap().args
}

fn of(line: &str) -> Report {
    report(&args(line), DEFAULTS.to_owned(), Policy::default())
}

#[test]
fn the_same_seeds_give_the_same_figures() {
    let line = "--canary 20% --rps 100 --runs 6 --seed 7";
    let (one, two) = (of(line), of(line));
    assert_eq!((&one.asked, &one.healthy), (&two.asked, &two.healthy));
    assert_eq!((one.asked.runs, one.healthy.runs), (6, 6));
}

#[test]
fn a_bad_canary_is_caught_and_a_good_one_promoted() {
    let report = of("--canary 50% --baseline 0 --rps 100 --runs 8");
    assert_eq!((report.asked.rolled_back, report.asked.promoted), (1.0, 0.0));
    assert!(report.asked.failed_requests.unwrap().median >= 1.0);
    assert_eq!((report.healthy.rolled_back, report.healthy.promoted), (0.0, 1.0));
    assert!(report.healthy.promotion.unwrap().median > 300.0, "five steps of a minute and the last look");
    let text = report.text();
    for part in ["a canary that fails 50%", "rolled back       100%", "users saw fail", "promoted          100%"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.contains("false rollbacks   0%, so at most 32.44% (alpha 1%)"), "{text}");
}

#[test]
fn other_faults_are_told_by_their_name() {
    assert!(of("--hangs --runs 2 --rps 50").text().contains("never answers"));
    assert!(of("--refuses=3 --runs 2").text().contains("refuses every connection to each of its 3 endpoints"));
    assert!(of("--refuses --runs 2").text().contains("to its endpoint"));
    assert!(behaviour(&args("--canary 0.2% --slowdown 1.5")).contains("fails 0.2% and takes 1.5 times as long"));
}

#[test]
fn ends_that_nobody_reached_have_no_figures() {
    let figures = Figures::of(&[]);
    assert_eq!((figures.runs, figures.rollback, figures.promotion), (0, None, None));
    assert_eq!(Spread::of(vec![4, 1, 3, 2]), Some(Spread { median: 3.0, p95: 4.0 }));
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    for line in ["--rps 0", "--rps 1e9", "--rps NaN", "--slowdown 0.5", "--runs 0", "--canary 101%", "--refuses=0"] {
        let line = std::iter::once("simulate").chain(line.split(' '));
        assert!(Line::try_parse_from(line).is_err());
    }
    let both = Line::try_parse_from(["simulate", "--hangs", "--refuses"]);
    assert!(both.is_err());
}

#[test]
fn a_bound_for_what_was_never_seen_is_honest() {
    assert!((at_most(0, 1_000) - 0.003_827).abs() < 1e-5);
    assert!((at_most(10, 1_000) - 0.018_31).abs() < 1e-4);
}
