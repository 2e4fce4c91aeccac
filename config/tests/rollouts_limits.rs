//! Every limit of rollouts and of what they ask and tell: what is at it is taken, one more is refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // tests stop at the first surprise

use std::fmt::Write as _;

use proptest::prelude::*;
use serin_config::limits::*;
use serin_config::{Config, Diagnostic, Source, diagnostic};
use serin_rollout::PLAN_ENTRIES_MAX;

const REST: &str = "\
clusters: {v1: {endpoints: []}, v2: {endpoints: []}}
routers: [{label: out, servers: [{port: 1}], dtab: /svc => /#/clusters}]
storage: {kind: memory}
";
const ARMS: &str = "router: out, primary: /#/clusters/v1, canary: /#/clusters/v2";

fn codes(text: &str) -> Vec<&'static str> {
    match Config::parse(&Source::new("t", text)) {
        Ok((_, warnings)) => warnings.iter().map(|warning| warning.code).collect(),
        Err(mistakes) => mistakes.iter().map(|mistake| mistake.code).collect(),
    }
}

/// `with(n)` is taken for n = `max` and refused with this code for one more.
#[track_caller]
fn check_limit(max: usize, code: &str, with: impl Fn(usize) -> String) {
    assert_eq!(codes(&format!("{}{REST}", with(max))), [""; 0]);
    let beyond = codes(&format!("{}{REST}", with(max + 1)));
    assert_eq!(beyond, [code]);
}

/// A list of `n` items, each with its number for `#`.
fn list(n: usize, item: &str) -> String {
    let items: Vec<String> = (0..n).map(|n| item.replace('#', &n.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// A file with one rollout with these keys and this analysis.
fn one(keys: &str, analysis: &str) -> String {
    format!("rollouts: [{{name: a, path: /svc/a, {ARMS}, {keys}, analysis: {{{analysis}}}}}]\n")
}

fn by_evidence(analysis: &str) -> String {
    one("pace: evidence", analysis)
}

#[test]
fn rollouts_templates_and_providers_of_a_file() {
    check_limit(ROLLOUTS_MAX, "config/too-many", |n| {
        let one = format!("{{name: r@, path: /svc/r@, {ARMS}, pace: evidence}}").replace('#', "%").replace('@', "#");
        format!("rollouts: {}\n", list(n, &one).replace('%', "#"))
    });
    let template = "{name: m#, provider: {type: prometheus, address: 'http://p'}, query: up}";
    check_limit(METRIC_TEMPLATES_MAX, "config/too-many", |n| format!("metricTemplates: {}\n", list(n, template)));
    let provider = "{name: p#, type: slack, address: {env: U}}";
    check_limit(ALERT_PROVIDERS_MAX, "config/too-many", |n| format!("alertProviders: {}\n", list(n, provider)));
}

#[test]
fn entries_of_an_analysis() {
    let metric = "{name: request-duration, thresholdRange: {max: 5}}";
    check_limit(PLAN_ENTRIES_MAX, "config/too-many", |n| by_evidence(&format!("metrics: {}", list(n, metric))));
    let hook = "{name: h, url: 'http://h'}";
    check_limit(PLAN_ENTRIES_MAX, "config/too-many", |n| by_evidence(&format!("webhooks: {}", list(n, hook))));
    check_limit(PLAN_ENTRIES_MAX, "config/too-many", |n| {
        let alerts = by_evidence(&format!("alerts: {}", list(n, "{name: a, providerRef: {name: p}}")));
        format!("alertProviders: [{{name: p, type: slack, address: {{env: U}}}}]\n{alerts}")
    });
    check_limit(PLAN_ENTRIES_MAX, "config/too-many", |n| {
        let steps: Vec<String> = (1..=n).map(|n| n.to_string()).collect();
        by_evidence(&format!("stepWeights: [{}]", steps.join(", ")))
    });
    let ab = |rules: &str| one("pace: interval", &format!("interval: 1m, threshold: 1, iterations: 1, match: {rules}"));
    check_limit(MATCH_RULES_MAX, "config/too-many", |n| ab(&list(n, "{headers: {x: {exact: y}}}")));
}

#[test]
fn maps_of_names_and_texts() {
    let pairs = |n: usize, value: &str| {
        let pairs: Vec<String> = (0..n).map(|n| format!("k{n}: {value}")).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    check_limit(PAIRS_MAX, "config/too-many", |n| {
        by_evidence(&format!("webhooks: [{{name: h, url: 'http://h', metadata: {}}}]", pairs(n, "v")))
    });
    check_limit(PAIRS_MAX, "config/too-many", |n| {
        let provider = format!("{{type: prometheus, address: 'http://p', headers: {}}}", pairs(n, "v"));
        format!("metricTemplates: [{{name: m, provider: {provider}, query: up}}]\n")
    });
    check_limit(PAIRS_MAX, "config/too-many", |n| {
        let rule = format!("{{headers: {}}}", pairs(n, "{exact: y}"));
        one("pace: interval", &format!("interval: 1m, threshold: 1, iterations: 1, match: [{rule}]"))
    });
    check_limit(PAIRS_MAX, "rollout/template", |n| {
        let mut query = String::new();
        (0..n).for_each(|n| write!(query, "{{{{variables.k{n}}}}}").unwrap());
        format!(
            "metricTemplates: [{{name: m, provider: {{type: prometheus, address: 'http://p'}}, query: '{query}'}}]\n"
        )
    });
}

#[test]
fn lengths_of_texts() {
    check_limit(ROLLOUT_NAME_BYTES_MAX, "config/wrong-value", |n| {
        format!("rollouts: [{{name: {}, path: /svc/a, {ARMS}, pace: evidence}}]\n", "a".repeat(n))
    });
    check_limit(URL_BYTES_MAX, "config/wrong-value", |n| {
        by_evidence(&format!("webhooks: [{{name: h, url: 'http://h/{}'}}]", "a".repeat(n - "http://h/".len())))
    });
    check_limit(QUERY_BYTES_MAX, "config/wrong-value", |n| {
        let query = "a".repeat(n);
        format!("metricTemplates: [{{name: m, provider: {{type: prometheus, address: 'http://p'}}, query: {query}}}]\n")
    });
    check_limit(TEXT_BYTES_MAX, "config/wrong-value", |n| {
        by_evidence(&format!("webhooks: [{{name: h, url: 'http://h', metadata: {{k: {}}}}}]", "a".repeat(n)))
    });
    check_limit(REGEX_BYTES_MAX, "config/wrong-value", |n| {
        let rule = format!("[{{headers: {{x: {{regex: {}}}}}}}]", "a".repeat(n));
        one("pace: interval", &format!("interval: 1m, threshold: 1, iterations: 1, match: {rule}"))
    });
}

#[test]
fn numbers_and_times() {
    let evidence = |keys: &str| codes(&format!("{}{REST}", one("pace: evidence", keys)));
    for (taken, refused) in [
        ("interval: 1s", "interval: 999ms"),
        ("interval: 24h, threshold: 1000", "interval: 86400001ms"),
        ("threshold: 1000", "threshold: 1001"),
        ("stepWeights: [0.0001, 99.9999]", "stepWeights: [0.00001]"),
        ("stepWeightPromotion: 100", "stepWeightPromotion: 100.0001"),
        (
            "webhooks: [{name: h, url: 'http://h', retries: 10, timeout: 1ms}]",
            "webhooks: [{name: h, url: 'http://h', retries: 11}]",
        ),
    ] {
        assert_eq!((evidence(taken), evidence(refused)), (vec![], vec!["config/wrong-value"]), "{taken} {refused}");
    }
    let clock = |keys: &str| codes(&format!("{}{REST}", one("pace: interval", &format!("threshold: 1, {keys}"))));
    assert_eq!(clock("interval: 10s, stepWeight: 100"), [""; 0]);
    assert_eq!(clock("interval: 9999ms, stepWeight: 100"), ["config/wrong-value"]);
    assert_eq!(clock("interval: 10s, iterations: 10001"), ["config/wrong-value"]);
}

#[test]
fn a_thousand_rollouts_beside_a_hundred_thousand_dentries_are_read() {
    let dentries: String = (0..100_000).map(|n| format!("    /host/s{n} => /srv/s{n} ;\n")).collect();
    let rollouts: String = (0..ROLLOUTS_MAX)
        .map(|n| {
            format!(
                "- {{name: r{n}, router: http, path: /host/s{n}, primary: /srv/v1, canary: /srv/v2, pace: evidence}}\n"
            )
        })
        .collect();
    let text = format!(
        "clusters: {{v1: {{endpoints: []}}, v2: {{endpoints: []}}}}\nstorage: {{kind: memory}}\nrouters:\n- \
         servers: [{{port: 1}}]\n  dtab: |\n    /srv => /#/clusters ;\n{dentries}    /svc => /host\nrollouts:\n{rollouts}"
    );
    let (config, warnings) = Config::parse(&Source::new("big", text)).unwrap();
    assert_eq!((config.rollouts.len(), warnings.len()), (ROLLOUTS_MAX, 0));
}

const FILES: [&str; 6] = [
    include_str!("../../examples/rollout-flagger.yaml"),
    include_str!("../../examples/ab.yaml"),
    include_str!("../../examples/mirror.yaml"),
    include_str!("golden/diagnostics/rollout_evidence.yaml"),
    include_str!("golden/diagnostics/rollout_interval.yaml"),
    include_str!("golden/diagnostics/rollout_outside.yaml"),
];

/// Legal or refused, with places in the text and nothing that cannot be shown.
fn check_any(text: &str) {
    let source = Source::new("any.yaml", text);
    let found: Vec<Diagnostic> = match Config::parse(&source) {
        Ok((config, warnings)) => {
            assert!(config.rollouts.is_empty() || config.storage.is_some());
            assert!(config.rollouts.iter().all(|rollout| rollout.primary != rollout.canary));
            warnings
        }
        Err(mistakes) => mistakes.to_vec(),
    };
    for one in &found {
        assert!(text.get(one.span.start..one.span.end).is_some(), "{one:?}");
        diagnostic::render(std::slice::from_ref(one), &source, false);
    }
}

#[test]
fn every_beginning_of_a_file_with_rollouts_is_legal_or_refused() {
    for text in FILES {
        for (end, _) in text.char_indices().step_by(41) {
            check_any(&text[..end]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn mangled_rollouts_are_legal_or_refused(
        file in 0..FILES.len(),
        at in 0_usize..8000,
        length in 0_usize..40,
        insert in "[a-z0-9:{}\\[\\]\"' \n|>&*~$!/#@%.,-]{0,12}",
    ) {
        let text = FILES[file];
        let start = text.floor_char_boundary(at % text.len());
        let end = text.floor_char_boundary((start + length).min(text.len()));
        check_any(&format!("{}{insert}{}", &text[..start], &text[end..]));
    }

    #[test]
    fn any_scalar_at_any_key_is_legal_or_refused(
        key in proptest::sample::select(vec![
            "interval: #", "threshold: #", "stepWeight: #", "maxWeight: #, stepWeight: 1", "stepWeights: [#]",
            "stepWeightPromotion: #", "iterations: #", "mirrorWeight: #, mirror: true", "match: [{headers: {x: {regex: #}}}]",
            "metrics: [{name: #}]", "metrics: [{name: request-duration, thresholdRange: {max: #}}]",
            "webhooks: [{name: a, url: #}]", "sessionAffinity: {cookieName: #}", "webhooks: [{name: a, url: 'http://a', timeout: #}]",
        ]),
        value in "\\PC{0,24}",
        pace in proptest::sample::select(vec!["evidence", "interval"]),
    ) {
        let key = key.replace('#', &format!("'{}'", value.replace('\'', "''")));
        check_any(&format!("{}{REST}", one(&format!("pace: {pace}"), &key)));
    }
}
