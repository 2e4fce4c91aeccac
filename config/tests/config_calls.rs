//! `client` and `service`: every key, per-prefix entries and their merging, and what is refused where.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // tests stop at the first surprise

use std::time::Duration;

use serin_config::dtab::Path;
use serin_config::limits::*;
use serin_config::model::{
    AccrualRule, Balancer, Classifier, GrpcRetryable, Protocol, RetryBackoff, Retryable, Router,
};
use serin_config::{Config, Severity, Source};

fn text(keys: &str) -> String {
    let indented: Vec<String> = keys.lines().map(|line| format!("  {line}\n")).collect();
    format!("routers:\n- servers: [{{port: 4140}}]\n{}", indented.concat())
}

#[track_caller]
fn router(keys: &str) -> Router {
    match Config::parse(&Source::new("t", text(keys))) {
        Ok((config, _)) => config.routers.into_iter().next().unwrap(),
        Err(mistakes) => panic!("{mistakes}"),
    }
}

/// The only mistake of a router that has `key` on the third line of its file.
#[track_caller]
fn check_refused(key: &str, code: &str, column: usize) {
    let source = Source::new("t", text(key));
    let mistakes = Config::parse(&source).map(|_| ()).unwrap_err();
    let errors: Vec<_> = mistakes.iter().filter(|found| found.severity == Severity::Error).collect();
    let places: Vec<_> = errors.iter().map(|found| (found.code, found.position(&source).to_string())).collect();
    assert_eq!(places, [(code, format!("3:{}", column + 2))], "{key}\n{mistakes}");
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn every_key_of_a_service_is_read() {
    let service = router("service: {totalTimeoutMs: 5, bodyBytes: 4, classificationTimeoutMs: 6, retryBufferSize: {requestBytes: 7, \
        responseBytes: 8}, retries: {budget: {ttlSecs: 9, minRetriesPerSec: 10, percentCanRetry: 0.25}, backoff: {kind: \
        jittered, minMs: 11, maxMs: 12}}, responseClassifier: {kind: io.l5d.h2.grpc.retryableStatusCodes, \
        retryableStatusCodes: [13], successStatusCodes: [0, 14]}}")
    .service;
    assert_eq!((service.total_timeout, service.classification_timeout), (Some(ms(5)), ms(6)));
    assert_eq!((service.body_bytes_max, service.retry_buffer), (Some(4), (7, 8)));
    let budget = service.budget;
    assert_eq!((budget.ttl, budget.per_second, budget.share_ppm), (ms(9000), 10, 250_000));
    assert_eq!(service.backoff, RetryBackoff::Jittered(ms(11), ms(12)));
    let retryable = GrpcRetryable::Codes(vec![13]);
    assert_eq!(service.classifier, Classifier::Grpc { success: vec![0, 14], retryable });
}

#[test]
fn every_classifier_has_its_meaning() {
    let of =
        |kind: &str| router(&format!("service: {{responseClassifier: {{kind: io.l5d.{kind}}}}}")).service.classifier;
    for protocol in ["http", "h2"] {
        for (name, retryable) in [
            ("nonRetryable5XX", Retryable::Never),
            ("retryableRead5XX", Retryable::Read),
            ("retryableIdempotent5XX", Retryable::Idempotent),
            ("retryableAll5XX", Retryable::All),
        ] {
            assert_eq!(of(&format!("{protocol}.{name}")), Classifier::Http(retryable));
        }
        assert_eq!(of(&format!("{protocol}.allSuccessful")), Classifier::AllSuccessful);
    }
    for (name, retryable) in [
        ("default", GrpcRetryable::Unavailable),
        ("compliant", GrpcRetryable::Compliant),
        ("alwaysRetryable", GrpcRetryable::Always),
        ("neverRetryable", GrpcRetryable::Never),
    ] {
        assert_eq!(of(&format!("h2.grpc.{name}")), Classifier::Grpc { success: vec![0], retryable }, "{name}");
    }
}

#[test]
fn every_key_of_a_client_is_read() {
    let client = router(
        "client: {loadBalancer: {kind: ewma, decayTimeMs: 5}, requeueBudget: {percentCanRetry: 1}, \
        failureAccrual: {kind: io.l5d.successRate, successRate: 0.9, requests: 20, backoff: {kind: constant, ms: 6}}, \
        hostConnectionPool: {idleTimeMs: 7}, clientSession: {lifeTimeMs: 8}, maxFrameBytes: 20000, \
        initialStreamWindowBytes: 70000, forwardClientCert: false}",
    )
    .client;
    assert_eq!(client.balancer, Balancer::Ewma { decay: ms(5) });
    assert_eq!(client.requeue.share_ppm, 1_000_000);
    let accrual = client.accrual.unwrap();
    assert!(matches!(accrual.rule, AccrualRule::SuccessRate(rate, n) if rate.get() == 900_000 && n.get() == 20));
    assert_eq!(accrual.backoff, (ms(6), ms(6)));
    assert_eq!((client.limits.idle_timeout, client.life_time), (ms(7), Some(ms(8))));
    assert_eq!((client.limits.h2.frame_bytes_max, client.limits.h2.stream_window_bytes), (20_000, 70_000));
    let turns = router(
        "client: {loadBalancer: {kind: roundRobin, maxEffort: 5}, failureAccrual: {kind: \
        io.l5d.successRateWindowed, successRate: 1, window: 30}, clientSession: {idleTimeMs: 9}}",
    )
    .client;
    assert_eq!(turns.balancer, Balancer::RoundRobin);
    let rule = turns.accrual.unwrap().rule;
    assert!(matches!(rule, AccrualRule::SuccessRateWindowed(_, window) if window == ms(30_000)));
    assert_eq!(turns.limits.idle_timeout, ms(9));
}

#[test]
fn linkerds_names_of_server_limits_are_read() {
    let router = router("client: {}").servers;
    let text = "routers: [{servers: [{port: 1, maxFrameBytes: 20000, maxHeaderListBytes: 9000, initialStreamWindowBytes: \
        70000, maxConcurrentStreamsPerConnection: 9, headerTableBytes: 5, windowUpdateRatio: 0.5, serverSession: \
        {idleTimeMs: 6}}]}]";
    let (config, warnings) = Config::parse(&Source::new("t", text)).unwrap();
    let limits = &config.routers[0].servers[0].limits;
    assert_eq!((limits.h2.frame_bytes_max, limits.head_bytes_max, limits.streams_max), (20_000, 9000, 9));
    assert_eq!((limits.h2.stream_window_bytes, limits.h2.header_table_bytes, limits.idle_timeout), (70_000, 5, ms(6)));
    assert_eq!(warnings.iter().map(|warning| warning.code).collect::<Vec<_>>(), ["config/no-effect"]);
    assert_ne!(*limits, router[0].limits);
}

const STATIC: &str = "\
service:
  kind: io.l5d.static
  configs:
  - {prefix: /svc, totalTimeoutMs: 100, responseClassifier: {kind: io.l5d.http.retryableAll5XX}}
  - {prefix: '/svc/{name}/slow', totalTimeoutMs: 900, bodyBytes: 10}
  - {prefix: /svc/*/*, bodyBytes: 20, retries: {backoff: {kind: constant, ms: 5}}}
client:
  kind: io.l5d.static
  configs:
  - {prefix: /, loadBalancer: {kind: ewma}, limits: {idleTimeoutMs: 5, h2Connections: 3}}
  - {prefix: /#/io.l5d.fs, loadBalancer: {kind: roundRobin}, protocol: h2}
  - {prefix: '/#/io.l5d.fs/web', failureAccrual: {kind: none}, limits: {idleTimeoutMs: 6}}
  - {prefix: /$/inet, requestAttemptTimeoutMs: 7}
";

#[test]
fn all_entries_that_match_apply_field_by_field() {
    let router = router(STATIC);
    let of = |name: &str| {
        let service = router.service_of(&path(name));
        (service.total_timeout, service.classifier, service.backoff)
    };
    let (all, never) = (Classifier::Http(Retryable::All), Classifier::Http(Retryable::Never));
    let (none, five) = (RetryBackoff::default(), RetryBackoff::Constant(ms(5)));
    assert_eq!(of("/svc/a"), (Some(ms(100)), all.clone(), none));
    assert_eq!(of("/svc/a/fast"), (Some(ms(100)), all.clone(), five));
    assert_eq!(of("/svc/a/slow"), (Some(ms(900)), all, five));
    assert_eq!(of("/other"), (None, never, none));
    let body = |name: &str| router.service_of(&path(name)).body_bytes_max;
    assert_eq!((body("/svc/a"), body("/svc/a/fast"), body("/svc/a/slow")), (None, Some(20), Some(20)));
    let of = |id: &str| {
        let client = router.client_of(&path(id));
        let limits = (client.limits.idle_timeout, client.limits.h2_connections_max);
        (client.balancer, client.protocol, client.accrual.is_some(), limits, client.attempt_timeout)
    };
    let ewma = Balancer::Ewma { decay: ms(10_000) };
    assert_eq!(of("/#/clusters/web"), (ewma, Protocol::Auto, true, (ms(5), 3), None));
    assert_eq!(of("/#/io.l5d.fs/a"), (Balancer::RoundRobin, Protocol::H2, true, (ms(5), 3), None));
    assert_eq!(of("/#/io.l5d.fs/web"), (Balancer::RoundRobin, Protocol::H2, false, (ms(6), 3), None));
    assert_eq!(of("/$/inet/127.1/80"), (ewma, Protocol::Auto, true, (ms(5), 3), Some(ms(7))));
}

#[test]
fn the_kind_global_is_what_the_fields_mean_anyway() {
    let (with, without) = (router("client: {kind: io.l5d.global, protocol: h2}"), router("client: {protocol: h2}"));
    assert_eq!(with, without);
    assert_eq!(with.client_of(&path("/#/a")), with.client);
    assert_eq!(with.service_of(&path("/svc/a")), with.service);
}

#[test]
fn mistakes_are_named_where_they_stand() {
    check_refused("service: {kind: io.l5d.static}", "config/missing-key", 11);
    check_refused("service: {kind: io.l5d.dynamic}", "config/wrong-value", 17);
    check_refused("service: {kind: io.l5d.static, configs: [{totalTimeoutMs: 1}]}", "config/missing-key", 43);
    check_refused("service: {kind: io.l5d.static, configs: [{prefix: svc}]}", "config/wrong-value", 51);
    check_refused("service: {kind: io.l5d.static, configs: [], totalTimeoutMs: 1}", "config/unknown-key", 45);
    check_refused("client: {kind: io.l5d.static, configs: [{prefix: /, tls: {}}]}", "config/not-built", 53);
    check_refused("service: {configs: []}", "config/unknown-key", 11);
    check_refused("service: {responseClassifier: {kind: io.l5d.http.retryableRead}}", "config/wrong-value", 38);
    check_refused(
        "service: {responseClassifier: {kind: io.l5d.h2.grpc.retryableStatusCodes}}",
        "config/missing-key",
        32,
    );
    check_refused("service: {retries: {budget: {percentCanRetry: 20}}}", "config/wrong-value", 47);
    check_refused("service: {retries: {backoff: {kind: jittered, minMs: 9, maxMs: 1}}}", "config/wrong-value", 31);
    check_refused("client: {failureAccrual: {kind: io.l5d.successRate, requests: 1}}", "config/missing-key", 27);
    check_refused("client: {failureAccrual: {kind: io.l5d.successRate, successRate: 0.5}}", "config/missing-key", 27);
    check_refused("client: {requestAuthorizers: []}", "config/not-built", 10);
}

#[test]
fn limits_are_limits() {
    let codes = |count: usize| {
        let list = vec!["14"; count].join(", ");
        format!("service: {{responseClassifier: {{kind: io.l5d.h2.grpc.default, successStatusCodes: [{list}]}}}}")
    };
    router(&codes(STATUS_CODES_MAX));
    check_refused(&codes(STATUS_CODES_MAX + 1), "config/wrong-value", 82);
    let configs = |count: usize| {
        format!("service: {{kind: io.l5d.static, configs: [{}]}}", vec!["{prefix: /}"; count].join(", "))
    };
    assert_eq!(router(&configs(CONFIGS_MAX)).service_parts.len(), CONFIGS_MAX);
    check_refused(&configs(CONFIGS_MAX + 1), "config/wrong-value", 41);
    let whole = |key: &str, value: u64, column: usize, ok: bool| {
        let text = format!("service: {{{key}{value}}}}}");
        if ok { drop(router(&text)) } else { check_refused(&text, "config/wrong-value", column) }
    };
    whole("retryBufferSize: {requestBytes: ", RETRY_BUFFER_BYTES_MAX, 43, true);
    whole("retryBufferSize: {requestBytes: ", RETRY_BUFFER_BYTES_MAX + 1, 43, false);
    let body = |octets: u64| format!("service: {{bodyBytes: {octets}}}");
    assert_eq!(router(&body(BODY_BYTES_MAX)).service.body_bytes_max, Some(BODY_BYTES_MAX));
    check_refused(&body(BODY_BYTES_MAX + 1), "config/wrong-value", 22);
    let budget = |key: &str, value: u64, column: usize, ok: bool| {
        let text = format!("client: {{requeueBudget: {{{key}: {value}}}}}");
        if ok { drop(router(&text)) } else { check_refused(&text, "config/wrong-value", column) }
    };
    budget("percentCanRetry", u64::from(RETRY_SHARE_MAX), 43, true);
    budget("percentCanRetry", u64::from(RETRY_SHARE_MAX) + 1, 43, false);
    budget("ttlSecs", BUDGET_TTL_SECS_MAX, 35, true);
    budget("ttlSecs", BUDGET_TTL_SECS_MAX + 1, 35, false);
    budget("minRetriesPerSec", RETRIES_PER_SECOND_MAX, 44, true);
    budget("minRetriesPerSec", RETRIES_PER_SECOND_MAX + 1, 44, false);
}
