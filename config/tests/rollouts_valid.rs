//! What a legal rollout means, defaults included.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // tests stop at the first surprise

use std::time::Duration;

use serin_config::model::*;
use serin_config::{Config, Source, diagnostic};
use serin_rollout::event::Severity;
use serin_rollout::{HookKind, OnInsufficient, Pace, Ppm};

const REST: &str = "\
clusters: {v1: {endpoints: []}, v2: {endpoints: []}}
routers: [{label: out, servers: [{port: 1}], dtab: /svc => /host ; /host => /#/clusters}]
storage: {kind: memory}
";
const NAMES: &str = "name: web, router: out, path: /host/web, primary: /#/clusters/v1, canary: /#/clusters/v2";

fn parse(text: &str) -> Config {
    let source = Source::new("serin.yaml", text).in_folder("/etc/serin");
    match Config::parse(&source) {
        Ok((config, warnings)) => {
            assert_eq!(diagnostic::render(&warnings, &source, false).trim(), "");
            config
        }
        Err(mistakes) => panic!("{}", diagnostic::render(&mistakes, &source, false)),
    }
}

/// The rollout of a file that adds `keys` to the smallest one; `more` are further keys of the file.
fn rollout_with(keys: &str, more: &str) -> Rollout {
    parse(&format!("rollouts:\n- {{{NAMES}, {keys}}}\n{REST}{more}")).rollouts.remove(0)
}

fn rollout(keys: &str) -> Rollout {
    rollout_with(keys, "")
}

fn share(text: &str) -> Ppm {
    text.parse().unwrap()
}

fn policy(rollout: &Rollout) -> serin_rollout::Settings {
    match &rollout.pace {
        Pace::Evidence(policy) => policy.settings().clone(),
        Pace::Interval(..) => panic!("not by evidence"),
    }
}

#[test]
fn the_smallest_rollout_goes_by_evidence_with_every_default() {
    let rollout = rollout("pace: evidence");
    assert_eq!(policy(&rollout), serin_rollout::Settings::default());
    assert_eq!((rollout.name.as_str(), rollout.router.as_str()), ("web", "out"));
    assert_eq!(rollout.path.to_string(), "/host/web");
    assert_eq!(rollout.revision.as_str(), "/#/clusters/v2");
    assert_eq!(rollout.fallback.to_string(), "!");
    assert_eq!(rollout.strategy, Strategy::Weights);
    assert_eq!((rollout.judge, rollout.suspend, rollout.skip_analysis), (Judge::Here, false, false));
    assert_eq!(rollout.progress_deadline, Duration::from_secs(600));
    assert_eq!((rollout.stickiness, rollout.affinity, rollout.on_unhealthy), (None, None, None));
}

#[test]
fn a_block_without_pace_goes_by_flaggers_clock_with_the_guard_on() {
    let found = rollout("analysis: {interval: 1m, threshold: 5, stepWeights: [2, 5, 10]}");
    let Pace::Interval(plan, Some(_)) = &found.pace else { panic!("{:?}", found.pace) };
    assert_eq!((plan.interval_ms(), plan.failed_checks_max()), (60_000, 5));
    let found = rollout("guard: off, analysis: {interval: 1m, threshold: 5, stepWeights: [2, 5, 10]}");
    assert!(matches!(found.pace, Pace::Interval(_, None)));
}

#[test]
fn steps_by_evidence_have_decimals_and_end_below_the_whole() {
    let steps = |analysis: &str| policy(&rollout(&format!("pace: evidence, analysis: {{{analysis}}}"))).steps;
    assert_eq!(steps("stepWeights: [0.5, 5%, 12.25, 100]"), [share("0.5%"), share("5%"), share("12.25%")]);
    assert_eq!(steps("stepWeight: 20, maxWeight: 50"), [share("20%"), share("40%"), share("50%")]);
    assert_eq!(steps("stepWeight: 50"), [share("50%")]);
}

#[test]
fn what_is_said_beside_the_block_is_kept() {
    let found = rollout(
        "pace: evidence, revision: build-17, fallback: /#/clusters/v1, onUnhealthy: fail, dryRun: true, suspend: true, \
         skipAnalysis: true, progressDeadlineSeconds: 60, stepDeadline: 2h, onInsufficient: rollback, minRequests: 7, \
         stickiness: {header: X-User}, guard: {alpha: 0.5%, beta: 2%, errorBudget: 0.1%, tolerances: {slow99: 1.5}, \
         stakes: {failure: 70%, clientError: 5%, slow50: 0%}}, analysis: {interval: 10s, stepWeightPromotion: 25}",
    );
    let settings = policy(&found);
    assert_eq!(found.revision.as_str(), "/#/clusters/v2@build-17");
    assert_eq!(found.fallback.to_string(), "/#/clusters/v1");
    assert_eq!(found.stickiness, Some(StickyKey::Header("x-user".into())));
    assert_eq!((found.judge, found.suspend, found.skip_analysis), (Judge::DryRun, true, true));
    assert_eq!(found.progress_deadline, Duration::from_secs(60));
    assert_eq!((settings.interval_ms, settings.step_deadline_ms), (10_000, Some(7_200_000)));
    assert_eq!((settings.on_insufficient, settings.requests_min), (OnInsufficient::Rollback, 7));
    assert_eq!(settings.promotion_step, Some(share("25%")));
    let guard = settings.guard.settings();
    assert_eq!((guard.alpha, guard.beta, guard.error_budget), (share("0.5%"), share("2%"), Some(share("0.1%"))));
    assert_eq!(guard.tolerance_milli[serin_rollout::Kind::Slow99.index()], 1_500);
    assert_eq!(guard.stakes[serin_rollout::Kind::ClientError.index()], share("5%"));
    assert_eq!(policy(&rollout("pace: evidence, stepDeadline: off")).step_deadline_ms, None);
    assert_eq!(rollout("pace: evidence, judge: off").judge, Judge::Off);
}

const OUTSIDE: &str = "\
metricTemplates:
- {name: other, provider: {type: prometheus, address: 'http://p:9090'}, query: up}
- {name: errors, provider: {type: prometheus, address: 'http://p:9090', headers: {X-Scope-OrgID: team}}, query: up}
alertProviders:
- {name: team, type: slack, address: {env: SLACK_URL}, channel: releases, token: {file: token}}
";

#[test]
fn metrics_know_their_source_and_their_limits() {
    let found = rollout_with(
        "pace: evidence, metricsServer: 'http://prom:9090', analysis: {interval: 30s, metrics: [\
         {name: request-success-rate, thresholdRange: {min: 99.5}}, {name: request-duration, interval: 1m, threshold: 500},\
         {name: errors, templateRef: {name: errors}, templateVariables: {dir: in}, thresholdRange: {max: 1}},\
         {name: lag, query: 'max(lag)', thresholdRange: {min: 0, max: 5}}]}",
        OUTSIDE,
    );
    let (short, long) = (Duration::from_secs(30), Duration::from_secs(60));
    let expected = [
        MetricSource::Own { window: short },
        MetricSource::Own { window: long },
        MetricSource::Template { template: 1, window: short, variables: vec![("dir".into(), "in".into())] },
        MetricSource::Query { address: "http://prom:9090".into(), query: "max(lag)".into(), window: short },
    ];
    assert_eq!(found.metrics, expected);
    let settings = policy(&found);
    let ranges: Vec<_> = settings.metrics.iter().map(|metric| metric.range.unwrap()).collect();
    let expected = [(Some(99.5), None), (None, Some(500.0)), (None, Some(1.0)), (Some(0.0), Some(5.0))];
    assert_eq!(ranges, expected);
    assert_eq!(settings.guard.error_limit(), share("0.5%"));
}

#[test]
fn hooks_and_alerts_stand_in_the_order_of_the_file() {
    let found = rollout_with(
        "analysis: {interval: 1m, threshold: 1, iterations: 2, webhooks: [\
         {name: load, url: 'http://tester:80/x?y=1', timeout: 5s, retries: 3, metadata: {cmd: 'hey'}},\
         {name: gate, url: 'https://gate/', type: confirm-promotion, disableTLS: true, muteAlert: true}],\
         alerts: [{name: all, providerRef: {name: team}}, {name: bad, severity: error, providerRef: {name: team}}]}",
        OUTSIDE,
    );
    let Pace::Interval(plan, _) = &found.pace else { panic!("{:?}", found.pace) };
    let kinds: Vec<_> = plan.hooks().iter().map(|hook| (hook.name.as_str(), hook.kind)).collect();
    assert_eq!(kinds, [("load", HookKind::Rollout), ("gate", HookKind::ConfirmPromotion)]);
    let load = Webhook {
        url: "http://tester:80/x?y=1".into(),
        timeout: Duration::from_secs(5),
        retries: 3,
        unchecked_tls: false,
        mute_alert: false,
        metadata: vec![("cmd".into(), "hey".into())],
    };
    assert_eq!(found.hooks[0], load);
    assert!(found.hooks[1].unchecked_tls && found.hooks[1].mute_alert);
    assert_eq!(found.hooks[1].timeout, Duration::from_secs(10));
    let severities: Vec<_> = found.alerts.iter().map(|alert| (alert.provider, alert.severity)).collect();
    assert_eq!(severities, [(0, Severity::Info), (0, Severity::Error)]);
}

#[test]
fn providers_have_their_addresses_and_their_secrets_elsewhere() {
    let config = parse(&format!(
        "{REST}{OUTSIDE}- {{name: am, type: alertmanager, address: 'http://am:9093', proxy: 'http://p:3128'}}\n"
    ));
    let slack = &config.alert_providers[0];
    assert_eq!((slack.kind, &slack.address), (AlertKind::Slack, &Secret::Env("SLACK_URL".into())));
    assert_eq!(slack.token, Some(Secret::File("/etc/serin/token".into())));
    assert_eq!((slack.channel.as_deref(), slack.username.as_str()), (Some("releases"), "serin"));
    assert_eq!(config.alert_providers[1].address, Secret::Plain("http://am:9093".into()));
    assert_eq!(config.metric_templates[1].headers, [("x-scope-orgid".to_owned(), "team".to_owned())]);
    let template = |provider: &str, query: &str| {
        let mut config = parse(&format!("{REST}metricTemplates: [{{name: m, provider: {provider}, query: {query}}}]"));
        config.metric_templates.remove(0)
    };
    let keys = "{apiKey: {env: A}, applicationKey: {env: B}}";
    let datadog = template(&format!("{{type: datadog, credentials: {keys}}}"), "avg:x");
    assert_eq!(datadog.address, "https://api.datadoghq.com");
    let (api_key, application_key) = (Secret::Env("A".into()), Secret::Env("B".into()));
    assert_eq!(datadog.credentials, Credentials::Datadog { api_key, application_key });
    let cloudwatch = template("{type: cloudwatch, region: eu-west-1}", "'[{}]'");
    assert_eq!(cloudwatch.address, "https://monitoring.eu-west-1.amazonaws.com");
    assert_eq!(cloudwatch.credentials, Credentials::SigV4);
    let prometheus = "{type: prometheus, address: 'https://aps', region: eu-west-1, credentials: {sigv4: true}}";
    assert_eq!(template(prometheus, "up").credentials, Credentials::SigV4);
    let basic = "{type: prometheus, address: 'https://p', credentials: {username: me, password: {env: P}}}";
    let (username, password) = (Secret::Plain("me".into()), Secret::Env("P".into()));
    assert_eq!(template(basic, "up").credentials, Credentials::Basic { username, password });
}

#[test]
fn match_rules_compare_headers_parameters_and_more() {
    let found = rollout(
        "analysis: {interval: 1m, threshold: 1, iterations: 10, match: [\
         {headers: {X-Canary: {exact: insider}, cookie: {regex: '.*canary=always.*'}}},\
         {queryParams: {beta: {prefix: y}, lang: {suffix: z}}, when: {source: 10.0.0.0/8}}]}",
    );
    let Strategy::Match(rules) = &found.strategy else { panic!("{:?}", found.strategy) };
    assert_eq!(rules[0].headers[1], ("x-canary".into(), TextMatch::Exact("insider".into())));
    let (name, cookie) = &rules[0].headers[0];
    assert_eq!((name.as_str(), cookie.written()), ("cookie", ".*canary=always.*"));
    assert!(cookie.matches(b"a=b; canary=always; c=d") && !cookie.matches(b"canary=never"));
    assert_eq!(rules[1].query[0], ("beta".into(), TextMatch::Prefix("y".into())));
    assert_eq!(rules[1].when.sources.len(), 1);
}

#[test]
fn an_expression_has_to_match_all_of_the_text() {
    let matches = |regex: &str, text: &str| {
        let found = rollout(&format!(
            "analysis: {{interval: 1m, threshold: 1, iterations: 1, match: [{{headers: {{x: {{regex: '{regex}'}}}}}}]}}"
        ));
        let Strategy::Match(rules) = &found.strategy else { panic!("{:?}", found.strategy) };
        rules[0].headers[0].1.matches(text.as_bytes())
    };
    assert!(matches("a|b", "b") && !matches("a|b", "ab") && !matches("b", "abc"));
    assert!(matches("^(.*;)?(a=1)(;.*)?$", "x=y;a=1"));
}

#[test]
fn copies_are_of_safe_methods_unless_the_file_says_more() {
    let mirror = |keys: &str| {
        let found = rollout(&format!("analysis: {{interval: 1m, threshold: 1, iterations: 1, mirror: true{keys}}}"));
        let Strategy::Mirror(mirror) = found.strategy else { panic!("{:?}", found.strategy) };
        mirror
    };
    assert_eq!(mirror(""), Mirror { share: Ppm::WHOLE, methods: vec!["GET".into(), "HEAD".into()] });
    assert_eq!(mirror(", mirrorWeight: 10").share, share("10%"));
    let opted_in = mirror(", mirrorMethods: [POST, GET], mirrorUnsafe: true");
    assert_eq!(opted_in.methods, ["GET", "POST"]);
}

#[test]
fn the_cookie_is_ready_to_be_sent() {
    let attributes = |keys: &str| {
        let found = rollout(&format!("pace: evidence, analysis: {{sessionAffinity: {{cookieName: c{keys}}}}}"));
        found.affinity.unwrap().attributes
    };
    assert_eq!(attributes(""), "; Max-Age=86400; Path=/");
    let all = ", maxAge: 60, domain: x.test, path: /, httpOnly: true, secure: true, partitioned: true, sameSite: None";
    assert_eq!(attributes(all), "; Max-Age=60; Domain=x.test; HttpOnly; Partitioned; Path=/; SameSite=None; Secure");
}

#[test]
fn storage_is_a_folder_or_nothing() {
    let file = REST.replace("kind: memory", "kind: file, dir: state");
    assert_eq!(parse(&file).storage, Some(Storage::File { dir: "/etc/serin/state".into() }));
    assert_eq!(parse(REST).storage, Some(Storage::Memory));
}

#[test]
fn no_secret_is_shown_by_debug() {
    let config = parse(&format!(
        "{REST}alertProviders: [{{name: t, type: slack, address: 'https://hooks.test/secret', username: bot}}]"
    ));
    let shown = format!("{config:?}");
    assert!(!shown.contains("secret") && shown.contains("bot"), "{shown}");
}
