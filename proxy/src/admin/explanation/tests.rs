use std::sync::Arc;

use serin_config::Config;
use serin_config::source::Source;

use super::*;
use crate::assemble::{Parts as AssembleParts, assemble};
use crate::endpoints::EndpointTable;
use crate::resolve::{DnsConfig, Resolver};

const FILE: &str = "\
clusters: {a: {endpoints: []}, b: {endpoints: []}}
routers:
- protocol: http
  servers: [{port: 4140}]
  dtab: |
    /host => /#/clusters ;
    /host/x => 3 * /host/a & 1 * /host/b ;
    /svc => /host ;
  splits: [{path: /host/x, stickiness: {cookie: who}}]
  overrides:
  - {when: {method: POST}, dtab: /host/y => /host/a}
  - {when: {cookie: {staff: yes}}, dtab: /host/x => /host/b}
";

fn explained(pairs: &[(&str, &str)], usable: &dyn Fn(&Path) -> bool) -> Result<Explanation, AskError> {
    let config = Arc::new(Config::parse(&Source::new("t", FILE)).unwrap().0);
    let mut resolver = Resolver::new(Arc::new(EndpointTable::default()), DnsConfig::default());
    let names = resolver.configure(&config.clusters, &config.namers, &config.egress);
    let admin = ([127, 0, 0, 1], 9990).into();
    let parts = AssembleParts {
        config: &config,
        listeners: &[],
        admin,
        names: &names,
        workers: 1,
        previous: None,
        routings: &Default::default(),
        stored: &Default::default(),
        interfaces: &[],
    };
    let (structure, weights) = assemble(&parts);
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let state = |id: &Path| if usable(id) { LeafState::Usable } else { LeafState::Unusable };
    let told = |_: &Path| Told::Unasked;
    let world = World { structure: &structure, weights: &weights, router: 0, state: &state, told: &told };
    explain(&world, &Ask::from_pairs(&pairs)?)
}

#[track_caller]
fn check(pairs: &[(&str, &str)], traffic: &[(&str, f64)], certain: bool) {
    let found = explained(pairs, &|_| true).unwrap();
    let expected = traffic.iter().map(|(end, share)| (end.to_string(), *share)).collect();
    assert_eq!((found.traffic, found.goes_to.is_some()), (expected, certain), "{pairs:?}");
}

#[track_caller]
fn check_error(pairs: &[(&str, &str)], contains: &str) {
    let error = explained(pairs, &|_| true).unwrap_err().to_string();
    assert!(error.contains(contains), "{error}");
}

const A: &str = "/#/clusters/a";
const B: &str = "/#/clusters/b";

#[test]
fn a_host_and_its_path_are_the_same_question() {
    check(&[("host", "X:80")], &[(A, 0.75), (B, 0.25)], false);
    check(&[("path", "/svc/x")], &[(A, 0.75), (B, 0.25)], false);
    check(&[("path", "/svc/z")], &[("~", 1.0)], true);
}

#[test]
fn a_sticky_request_knows_where_it_goes() {
    check(&[("host", "x"), ("cookie", "who=me")], &[(A, 0.75), (B, 0.25)], true);
}

#[test]
fn rules_that_match_are_named_by_their_place_in_the_file() {
    check(&[("host", "x"), ("cookie", "staff=yes")], &[(B, 1.0)], true);
    let found = explained(&[("host", "x"), ("cookie", "staff=yes")], &|_| true).unwrap();
    assert_eq!(found.rules.iter().map(|rule| rule.rule).collect::<Vec<_>>(), [2]);
    let from: Vec<_> = found.steps.iter().filter_map(|step| Some(step.dentry.as_ref()?.from.as_str())).collect();
    assert!(from.contains(&"overrides[2]") && from.contains(&"dtab"), "{from:?}");
}

#[test]
fn what_the_request_sends_wins_and_is_said_to_reach_less() {
    let pairs = [("host", "x"), ("dtab", "/svc/x => /$/inet/127.0.0.1/22")];
    check(&pairs, &[("/$/inet/127.0.0.1/22", 1.0)], true);
    assert!(explained(&pairs, &|_| true).unwrap().notes[0].contains("egress.allow"));
}

#[test]
fn a_branch_that_cannot_serve_gives_its_share_away() {
    let found = explained(&[("path", "/svc/x")], &|id| id.to_string() == B).unwrap();
    assert_eq!(found.traffic, BTreeMap::from([(B.to_owned(), 1.0)]));
}

#[test]
fn questions_that_mean_nothing_are_told_so() {
    check_error(&[], "names no service");
    check_error(&[("path", "svc")], "path");
    check_error(&[("path", "/svc"), ("dtab", "/svc")], "l5d-dtab");
    check_error(&[("source", "here")], "no IP address");
    check_error(&[("method", "a b")], "no method");
    check_error(&[("header", "x")], "Name: value");
    check_error(&[("colour", "x")], "no key here");
}
