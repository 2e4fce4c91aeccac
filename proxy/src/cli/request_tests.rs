//! `tests:` of a configuration, run as `serin explain` would tell them: by the code that routes, without any address.

use std::collections::BTreeMap;

use serin_config::diagnostic::Diagnostic;
use serin_config::model::{Expected, RequestTest};
use serin_config::source::Span;

use super::explain::Offline;
use crate::admin::explanation::{Ask, AskError, Explanation};
use crate::control::Loaded;
use crate::snapshot::Routings;

/// A share is written with four decimals of a percent: half of the last one is no difference.
const SHARE_TOLERANCE: f64 = 0.000_001_5;

/// The tests that fail, each as a mistake at its place. Rollouts are where they start: nothing goes to canaries.
pub(super) fn failures(loaded: &Loaded) -> Vec<Diagnostic> {
    if loaded.config.tests.is_empty() {
        return Vec::new();
    }
    let offline = Offline::new(&loaded.config, &Routings::default(), None);
    loaded.config.tests.iter().flat_map(|test| check(&offline, test)).collect()
}

fn check(offline: &Offline, test: &RequestTest) -> Vec<Diagnostic> {
    let asked = ask(test).map_err(|error| error.to_string());
    let found = match asked.and_then(|ask| offline.answer(&ask)) {
        Ok(found) => found,
        Err(why) => return vec![failed(test.span, format!("this request has no answer: {why}"), "")],
    };
    compare(&test.expect, &found)
}

fn ask(test: &RequestTest) -> Result<Ask, AskError> {
    let mut ask = Ask { router: test.router.clone(), ..Ask::default() };
    ask.set_method(&test.method)?;
    ask.set_uri(&test.target);
    test.headers.iter().try_for_each(|(name, value)| ask.add_line(&format!("{name}: {value}")))?;
    Ok(ask)
}

fn compare(expect: &Expected, found: &Explanation) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    let how = format!("the request is called {}; `serin explain` tells each step", found.path);
    if let Some((name, span)) = &expect.name
        && name.to_string() != found.path
    {
        wrong.push(failed(*span, format!("expected the name {name}, got {}", found.path), ""));
    }
    if let Some((ends, span)) = &expect.to {
        let expected: BTreeMap<&str, f64> =
            ends.iter().map(|(end, share)| (end.as_str(), f64::from(share.get()) / 1_000_000.0)).collect();
        if !same(&expected, &found.traffic) {
            let (wanted, got) = (shares(expected.iter()), shares(found.traffic.iter()));
            wrong.push(failed(*span, format!("expected {wanted}, got {got}"), &how));
        }
    }
    if let Some((status, span)) = expect.status {
        let got = statuses(&found.traffic);
        if got.iter().any(|(found, share)| *share > 0.0 && *found != Some(status)) {
            let got = shares(got.iter().map(|(status, share)| {
                (status.map_or_else(|| "an upstream's answer".to_owned(), |status| status.to_string()), share)
            }));
            wrong.push(failed(span, format!("expected {status}, got {got}"), &how));
        }
    }
    wrong
}

fn same(expected: &BTreeMap<&str, f64>, found: &BTreeMap<String, f64>) -> bool {
    let close = |end: &str, share: f64| {
        let other = expected.get(end).copied().unwrap_or_default();
        (share - other).abs() <= SHARE_TOLERANCE
    };
    let missing = expected.iter().all(|(end, share)| *share <= SHARE_TOLERANCE || found.contains_key(*end));
    missing && found.iter().all(|(end, share)| close(end, *share))
}

/// What Serin answers by itself at each end; `None` is what an upstream answers.
fn statuses(traffic: &BTreeMap<String, f64>) -> BTreeMap<Option<u16>, f64> {
    let mut statuses = BTreeMap::new();
    for (end, share) in traffic {
        let status = match end.as_str() {
            "$" => Some(503),
            "!" | "~" => Some(404),
            "error" => Some(502),
            _ => None,
        };
        *statuses.entry(status).or_insert(0.0) += share;
    }
    statuses
}

/// `/#/clusters/a 90 %, /#/clusters/b 10 %`, or the only one alone.
fn shares<'s, T: std::fmt::Display>(ends: impl Iterator<Item = (T, &'s f64)>) -> String {
    let all: Vec<(T, &f64)> = ends.filter(|(_, share)| **share > 0.0).collect();
    match all.as_slice() {
        [(only, _)] => only.to_string(),
        all => all
            .iter()
            .map(|(end, share)| format!("{end} {} %", super::explain::percent(**share)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn failed(span: Span, message: String, help: &str) -> Diagnostic {
    let failed = Diagnostic::error("tests/failed", span, message);
    if help.is_empty() { failed } else { failed.help(help) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serin_config::diagnostic::render;
    use serin_config::source::Source;

    const FILE: &str = "\
clusters: {a: {endpoints: ['127.0.0.1:1']}, b: {endpoints: ['127.0.0.1:2']}}
routers:
- label: gateway
  servers: [{port: 4140}]
  dtab: |
    /svc/web => 9 * /#/clusters/a & 1 * /#/clusters/b ;
    /svc/thirds => /#/clusters/a & /#/clusters/b & /#/clusters/a ;
    /svc/api => /#/clusters/a ; /svc/down => $ ; /svc/gone => !
  overrides: [{when: {header: {x-user: ann}, method: POST, pathPrefix: /v2}, dtab: /svc/web => /#/clusters/b}]
tests:
- ";

    #[track_caller]
    fn check(test: &str, expected: &[&str]) {
        let source = Source::new("t", format!("{FILE}{test}\n"));
        let loaded =
            crate::control::parse(&source).unwrap_or_else(|wrong| panic!("{}", render(&wrong, &source, false)));
        let found: Vec<String> = failures(&loaded).into_iter().map(|one| one.message).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_test_that_holds_says_nothing() {
        for expect in
            ["name: /svc/api", "to: /#/clusters/a", "to: {/#/clusters/a: 100}", "name: /svc/api, to: /#/clusters/a"]
        {
            check(&format!("{{request: {{host: api}}, expect: {{{expect}}}}}"), &[]);
        }
        check("{router: gateway, request: {host: web}, expect: {to: {/#/clusters/a: 90%, /#/clusters/b: 10%}}}", &[]);
        check("{request: {host: thirds}, expect: {to: {/#/clusters/a: 66.6667, /#/clusters/b: 33.3333}}}", &[]);
        check("{request: {host: down}, expect: {status: 503, to: $}}", &[]);
        check("{request: {host: gone}, expect: {status: 404, to: '!'}}", &[]);
        check("{request: {host: nobody}, expect: {status: 404, to: '~'}}", &[]);
    }

    #[test]
    fn the_whole_request_counts() {
        let with = |request: &str| format!("{{request: {{host: web, {request}}}, expect: {{to: /#/clusters/b}}}}");
        check(&with("method: POST, path: /v2/x, query: a=b, headers: {x-user: ann}"), &[]);
        let split = "expected /#/clusters/b, got /#/clusters/a 90 %, /#/clusters/b 10 %";
        check(&with("method: POST, path: /v2/x, headers: {x-user: bob}"), &[split]);
        check(&with("method: POST, path: /v1, headers: {x-user: ann}"), &[split]);
    }

    #[test]
    fn a_test_that_fails_says_what_was_expected_and_what_came() {
        check("{request: {host: api}, expect: {name: /svc/web}}", &["expected the name /svc/web, got /svc/api"]);
        check("{request: {host: api}, expect: {status: 404}}", &["expected 404, got an upstream's answer"]);
        check(
            "{request: {host: web}, expect: {to: {/#/clusters/a: 91%, /#/clusters/b: 9%}}}",
            &["expected /#/clusters/a 91 %, /#/clusters/b 9 %, got /#/clusters/a 90 %, /#/clusters/b 10 %"],
        );
        check("{request: {host: nobody}, expect: {to: /#/clusters/a}}", &["expected /#/clusters/a, got ~"]);
    }

    #[test]
    fn a_request_without_a_name_has_no_answer() {
        check(
            "{request: {path: /}, expect: {status: 404}}",
            &[
                "this request has no answer: the request names no service: give --path /svc/name or the header that names it, such as 'Host: name'",
            ],
        );
    }
}
