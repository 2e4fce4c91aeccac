//! What people see: every `tests/golden/diagnostics/<name>.yaml` is refused or warned about as `<name>.txt` shows.
//!
//! `UPDATE_GOLDEN=1` writes the texts anew; read the difference.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // tests stop at the first surprise

use std::fs;
use std::path::{Path, PathBuf};

use serin_config::{Config, Source, diagnostic};

fn check_golden(name: &str) {
    check(name, &source(name));
}

/// A main file with files of teams behind it.
fn check_golden_of_teams(name: &str, main: &str, teams: &[&str]) {
    let teams: Vec<Source> = teams.iter().map(|team| source(team)).collect();
    check(name, &Source::joined(&source(main), &teams));
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/diagnostics")
}

fn source(name: &str) -> Source {
    let input = fs::read(folder().join(format!("{name}.yaml"))).unwrap();
    Source::from_bytes(format!("{name}.yaml"), input)
}

fn check(name: &str, source: &Source) {
    let rendered = match Config::parse_with(source, &|_| false) {
        Ok((_, warnings)) => diagnostic::render(&warnings, source, false),
        Err(mistakes) => diagnostic::render(&mistakes, source, false),
    };
    let golden = folder().join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &rendered).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(rendered, expected, "run with UPDATE_GOLDEN=1 and read the difference");
}

#[test]
fn many_mistakes_are_shown_at_once() {
    check_golden("many_mistakes");
}

#[test]
fn a_dtab_mistake_points_into_the_block() {
    check_golden("dtab_in_a_block");
}

#[test]
fn names_that_do_not_exist_come_with_the_nearest_one() {
    check_golden("unknown_names");
}

#[test]
fn what_is_not_built_says_what_to_do_instead() {
    check_golden("not_built");
}

#[test]
fn identifiers_say_what_they_want() {
    check_golden("identifiers");
}

#[test]
fn a_namerd_is_an_address_and_takes_no_rollouts() {
    check_golden("namerd");
}

#[test]
fn namers_say_what_each_key_may_be() {
    check_golden("namers");
}

#[test]
fn rules_say_what_they_want() {
    check_golden("rules");
}

#[test]
fn warnings_say_which_line_to_add() {
    check_golden("warnings");
}

#[test]
fn what_is_for_nothing_is_told() {
    check_golden("for_nothing");
}

#[test]
fn status_codes_of_grpc_are_those_there_are() {
    check_golden("grpc_codes");
}

#[test]
fn broken_yaml_points_at_the_place() {
    check_golden("broken_yaml");
}

#[test]
fn rollouts_that_contradict_each_other_or_their_router() {
    check_golden("rollout_names");
}

#[test]
fn rollouts_by_evidence_say_what_they_cannot_do() {
    check_golden("rollout_evidence");
}

#[test]
fn rollouts_by_the_clock_refuse_what_would_hang_or_hurt() {
    check_golden("rollout_interval");
}

#[test]
fn whom_rollouts_ask_and_tell_is_checked() {
    check_golden("rollout_outside");
}

#[test]
fn limits_say_their_range_and_what_contradicts() {
    check_golden("limits");
}

#[test]
fn a_team_that_takes_what_is_not_its_own_is_told_whose_it_is() {
    check_golden_of_teams("teams_web", "teams_main", &["teams_shop", "teams_web"]);
}

#[test]
fn a_team_says_what_it_owns() {
    check_golden_of_teams("teams_nothing", "teams_main", &["teams_nothing"]);
}

#[test]
fn tests_of_routing_say_what_they_need() {
    check_golden("request_tests");
}

#[test]
fn a_very_long_line_is_cut_around_the_mistake() {
    let source = Source::new("long.yaml", format!("{{\"a\": \"{}\", \"routers\": 5}}", "x".repeat(1_000_000)));
    let rendered = diagnostic::render(&Config::parse(&source).unwrap_err(), &source, false);
    assert!(rendered.contains("long.yaml:1:1000022"), "{rendered}");
    assert!(rendered.contains("\"routers\": 5}"), "{rendered}");
    assert!(rendered.len() < 2000, "{} bytes", rendered.len());
}

#[test]
fn color_adds_nothing_but_color() {
    let source = Source::new("a.yaml", "routerz: []\n");
    let mistakes = Config::parse(&source).unwrap_err();
    let (plain, styled) = (diagnostic::render(&mistakes, &source, false), diagnostic::render(&mistakes, &source, true));
    let mut bare = String::new();
    let mut escape = false;
    for c in styled.chars() {
        match (escape, c) {
            (_, '\u{1b}') => escape = true,
            (true, 'm') => escape = false,
            (true, _) => {}
            (false, c) => bare.push(c),
        }
    }
    assert_ne!(plain, styled);
    assert_eq!(plain, bare);
}
