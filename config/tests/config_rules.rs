//! `rules`: what is read, and the limits, each at its edge and one beyond.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // tests stop at the first surprise

use serin_config::dtab::Path;
use serin_config::limits::{PAIRS_MAX, ROUTE_MATCHES_MAX, ROUTE_REGEXES_MAX, ROUTE_RULES_MAX, SAME_PLACE_MAX};
use serin_config::model::*;
use serin_config::{Config, Diagnostics, Source};

fn parse(rules: &str) -> Result<Vec<RouteRule>, Diagnostics> {
    let text = format!("routers:\n- servers: [{{port: 4140}}]\n  rules:\n{rules}");
    Config::parse(&Source::new("serin.yaml", text)).map(|(mut config, _)| config.routers.remove(0).rules)
}

/// Exactly one mistake of this code, or none if it is empty.
#[track_caller]
fn check(rules: &str, code: &str) {
    let found = match parse(rules) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(|mistake| mistake.code).collect(),
    };
    let expected: &[&str] = if code.is_empty() { &[] } else { &[code] };
    assert_eq!(found, expected, "{}", rules.get(..300).unwrap_or(rules));
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(|n| format!("  - {}\n", line(n))).collect()
}

#[test]
fn a_rule_keeps_all_that_it_says() {
    let rules = parse(
        "  - match: {host: ['*.B.test', A.test], path: {prefix: /v2/}, method: GET, headers: {X-A: b}, query: {q: {suffix: r}}}\n    \
         name: /svc/web\n    rewrite: {host: C.test:81, path: {prefix: /}}\n    headers:\n      request: {set: {X-D: e}, \
         add: {x-f: g}, remove: X-H}\n      response: {remove: [server]}\n  - redirect: {scheme: https}\n",
    );
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let first = RouteRule {
        matches: vec![RouteMatch {
            hosts: vec![HostMatch::Exact("a.test".into()), HostMatch::Under(".b.test".into())],
            path: Some(PathMatch::Prefix("/v2".into())),
            methods: vec!["GET".into()],
            headers: vec![("x-a".into(), TextMatch::Exact("b".into()))],
            query: vec![("q".into(), TextMatch::Suffix("r".into()))],
        }],
        name: Path::parse("/svc/web").ok(),
        redirect: None,
        rewrite_host: Some("c.test:81".into()),
        rewrite_path: Some(PathRewrite::Prefix(String::new())),
        request: HeaderChanges { set: vec![pair("x-d", "e")], add: vec![pair("x-f", "g")], remove: vec!["x-h".into()] },
        response: HeaderChanges { remove: vec!["server".into()], ..HeaderChanges::default() },
    };
    let redirect = Redirect { status: 302, scheme: Some("https"), host: None, port: None, path: None };
    let second = RouteRule { matches: vec![RouteMatch::default()], redirect: Some(redirect), ..RouteRule::default() };
    assert_eq!(rules.unwrap(), [first, second]);
}

#[test]
fn a_router_has_a_bounded_number_of_rules() {
    let many = |count| lines(count, |n| format!("{{match: {{host: h{n}.test}}, name: /svc/h{n}}}"));
    assert_eq!(parse(&many(ROUTE_RULES_MAX)).unwrap().len(), ROUTE_RULES_MAX);
    check(&many(ROUTE_RULES_MAX + 1), "config/too-many");
}

#[test]
fn a_rule_has_a_bounded_number_of_matches_and_hosts() {
    let matches = |count: usize| {
        let list: Vec<String> = (0..count).map(|n| format!("{{host: h{n}.test}}")).collect();
        format!("  - {{match: [{}], name: /svc/a}}\n", list.join(", "))
    };
    check(&matches(ROUTE_MATCHES_MAX), "");
    check(&matches(ROUTE_MATCHES_MAX + 1), "config/too-many");
    let hosts = |count: usize| {
        let list: Vec<String> = (0..count).map(|n| format!("h{n}.test")).collect();
        format!("  - {{match: {{host: [{}]}}, name: /svc/a}}\n", list.join(", "))
    };
    check(&hosts(ROUTE_MATCHES_MAX), "");
    check(&hosts(ROUTE_MATCHES_MAX + 1), "config/too-many");
}

#[test]
fn matches_for_one_place_are_bounded() {
    let many = |count| lines(count, |n| format!("{{match: {{host: a.test, headers: {{x-a: v{n}}}}}, name: /svc/a}}"));
    check(&many(SAME_PLACE_MAX), "");
    check(&many(SAME_PLACE_MAX + 1), "config/too-many");
}

#[test]
fn expressions_of_a_router_are_bounded_in_number_and_in_size() {
    let many = |count| lines(count, |n| format!("{{match: {{path: {{regex: '/a{n}'}}}}, name: /svc/a}}"));
    check(&many(ROUTE_REGEXES_MAX), "");
    check(&many(ROUTE_REGEXES_MAX + 1), "config/too-many");
    check("  - {match: {path: {regex: '(a{1000}){1000}'}}, name: /svc/a}\n", "config/regex");
    check("  - {match: {path: {regex: '/(?=a)'}}, name: /svc/a}\n", "config/regex");
}

#[test]
fn changes_of_headers_are_bounded() {
    let many = |count: usize| {
        let list: Vec<String> = (0..count).map(|n| format!("x-{n}: v")).collect();
        format!("  - {{name: /svc/a, headers: {{request: {{set: {{{}}}}}}}}}\n", list.join(", "))
    };
    check(&many(PAIRS_MAX), "");
    check(&many(PAIRS_MAX + 1), "config/too-many");
}

#[test]
fn a_name_is_a_path_that_is_not_too_long() {
    let name = |octets: usize| format!("  - {{name: /svc/{}}}\n", "x".repeat(octets));
    check(&name(2000), "");
    check(&name(3000), "config/wrong-value");
}
