//! What a legal file means, defaults included.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // tests stop at the first surprise

use std::num::NonZeroUsize;
use std::time::Duration;

use serin_config::dtab::Path;
use serin_config::model::*;
use serin_config::{Config, Source, diagnostic};

/// A file with nothing but what must be there.
const SMALLEST: &str = "routers: [{protocol: http, servers: [{port: 4140}]}]";

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

/// The router of a file that adds `keys` to a router.
fn failures(count: u32) -> AccrualRule {
    AccrualRule::Consecutive(std::num::NonZeroU32::new(count).unwrap())
}

fn router(keys: &str) -> Router {
    let mut config = parse(&format!("routers: [{{protocol: http, servers: [{{port: 4140}}], {keys}}}]"));
    config.routers.remove(0)
}

/// The server of a file that adds `keys` to a server.
fn server(keys: &str) -> Server {
    let mut config = parse(&format!("routers: [{{servers: [{{{keys}}}]}}]"));
    config.routers.remove(0).servers.remove(0)
}

fn nets(list: &[&str]) -> Vec<ipnet::IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

#[test]
fn the_smallest_file_has_every_default() {
    let config = parse(SMALLEST);
    assert_eq!(config.admin.address, "127.0.0.1:9990".parse().unwrap());
    assert_eq!((config.workers, config.clusters.len(), config.namers.len()), (None, 0, 0));
    assert_eq!(config.drain, Drain { delay: Duration::ZERO, deadline: Duration::from_secs(30) });
    let router = &config.routers[0];
    assert_eq!((router.label.as_str(), router.dst_prefix.to_string()), ("http", "/svc".to_owned()));
    assert_eq!(router.identifiers, [Identifier::default()]);
    assert!(router.dtab.is_empty() && router.overrides.is_empty() && router.splits.is_empty());
    assert_eq!((router.failover, router.on_unhealthy), (Failover::Health, OnUnhealthy::Redistribute));
    let accrual = router.client.accrual.unwrap();
    assert_eq!(accrual.rule, failures(5));
    assert_eq!(accrual.backoff, (Duration::from_secs(5), Duration::from_secs(300)));
    assert_eq!(
        (router.client.protocol, router.client.connect_timeout, router.client.attempt_timeout),
        (Protocol::Auto, None, None)
    );
    assert_eq!(router.service.total_timeout, None);
    let binding = &router.binding;
    assert_eq!(
        (binding.timeout, binding.names_max.get(), binding.idle),
        (Duration::from_secs(10), 1000, Duration::from_secs(600))
    );
    let server = &router.servers[0];
    assert_eq!(server.address, "127.0.0.1:4140".parse().unwrap());
    assert_eq!((server.exposure, server.requests_max, server.call_depth_max), (Exposure::Edge, None, 100));
    assert_eq!(server.trust, Trust::Loopback);
}

#[test]
fn json_is_accepted() {
    let json = r#"{"routers": [{"protocol": "http", "servers": [{"port": 4140}]}]}"#;
    assert_eq!(parse(json), parse(SMALLEST));
}

#[test]
fn clusters_keep_addresses_and_names() {
    let config = parse(&format!(
        "clusters: {{a: {{endpoints: ['1.2.3.4:5', '[::1]:6', 'Web.Test:7']}}, b: {{endpoints: []}}}}\n{SMALLEST}"
    ));
    let endpoint = |host, port| HostPort { host, port };
    let expected = [
        endpoint(Host::Ip("1.2.3.4".parse().unwrap()), 5),
        endpoint(Host::Ip("::1".parse().unwrap()), 6),
        endpoint(Host::Name("web.test".to_owned()), 7),
    ];
    assert_eq!((config.clusters[0].name.as_str(), config.clusters[0].endpoints.as_slice()), ("a", &expected[..]));
    assert!(config.clusters[1].endpoints.is_empty());
}

#[test]
fn namers_stand_under_their_kind_or_their_prefix() {
    let namers = "namers:\n- {kind: io.l5d.fs, rootDir: disco}\n- {kind: io.l5d.fs, rootDir: /abs, prefix: files, experimental: true}\n- {kind: io.l5d.fs, rootDir: x, prefix: /a/b}";
    let found: Vec<_> = parse(&format!("{namers}\n{SMALLEST}"))
        .namers
        .into_iter()
        .map(|namer| {
            let NamerKind::Fs { root_dir } = namer.kind else { panic!("another kind") };
            (namer.prefix.to_string(), root_dir.display().to_string())
        })
        .collect();
    let expected = [("/io.l5d.fs", "/etc/serin/disco"), ("/files", "/abs"), ("/a/b", "/etc/serin/x")];
    assert_eq!(found, expected.map(|(prefix, dir)| (prefix.to_owned(), dir.to_owned())));
}

#[test]
fn a_rewriting_namer_has_a_prefix_a_pattern_and_a_name() {
    let namers = "namers:\n- {kind: io.l5d.rewrite, prefix: books, pattern: '/{service}/api', name: '/srv/{service}'}";
    let namer = parse(&format!("{namers}\n{SMALLEST}")).namers.remove(0);
    let NamerKind::Rewrite { pattern, name } = namer.kind else { panic!("another kind") };
    let found = [namer.prefix.to_string(), pattern.to_string(), name];
    assert_eq!(found, ["/books", "/{service}/api", "/srv/{service}"]);
}

#[test]
fn trust_follows_clear_context() {
    assert_eq!(server("clearContext: true").trust, Trust::Nobody);
    assert_eq!(server("clearContext: false").trust, Trust::Everybody);
    assert_eq!(
        server("ip: 0.0.0.0, trustedSources: [10.0.0.0/8, '::1']").trust,
        Trust::Sources(nets(&["10.0.0.0/8", "::1/128"]))
    );
    // who writes it down means it: it holds where the default does not
    assert_eq!(server("trustedSources: [127.0.0.0/8]").trust, Trust::Sources(nets(&["127.0.0.0/8"])));
    assert_eq!(server("exposure: mesh").trust, Trust::Loopback);
}

#[test]
fn servers_take_their_limits_and_the_defaults_of_their_protocol() {
    let server = server("ip: '::1', port: 0, exposure: mesh, maxConcurrentRequests: 7, maxCallDepth: 3");
    assert_eq!(server.address, "[::1]:0".parse().unwrap());
    assert_eq!((server.exposure, server.requests_max.unwrap().get(), server.call_depth_max), (Exposure::Mesh, 7, 3));
    let h2 = parse("routers: [{protocol: h2, servers: [{ip: 127.0.0.1}]}]").routers.remove(0);
    assert_eq!((h2.label.as_str(), h2.servers[0].address.port(), h2.client.protocol), ("h2", 4142, Protocol::H2));
}

#[test]
fn identifiers_are_one_or_a_list() {
    let all = |text: &str| router(&format!("identifier: {text}")).identifiers;
    let token = |header, host| Identifier::HeaderToken { header, host };
    let named = |name: &str| Field::Named(name.to_owned());
    assert_eq!(all("{kind: io.l5d.header.token, header: X-Name}"), [token(named("x-name"), HostRule::Normalized)]);
    assert_eq!(
        all("[{kind: io.l5d.header.token, header: ':authority', host: verbatim}]"),
        [token(Field::Host, HostRule::Verbatim)]
    );
    assert_eq!(all("{kind: io.l5d.header.token, header: host}"), [Identifier::default()]);
    assert_eq!(all("{kind: io.l5d.header}"), [Identifier::Header { header: "l5d-name".into() }]);
    assert_eq!(all("{kind: io.l5d.header.path}"), [Identifier::HeaderPath { header: Field::Path, segments: None }]);
    let one = NonZeroUsize::MIN;
    assert_eq!(
        all(
            "[{kind: io.l5d.header.path, header: X-P, segments: 1}, {kind: io.l5d.path}, {kind: io.l5d.path, consume: \
             true}, {kind: io.l5d.methodAndHost, httpUriInDst: true}, {kind: io.l5d.static, path: /a/b}]"
        ),
        [
            Identifier::HeaderPath { header: named("x-p"), segments: Some(one) },
            Identifier::Path { segments: one, consume: false },
            Identifier::Path { segments: one, consume: true },
            Identifier::MethodAndHost { path: true, host: HostRule::Normalized },
            Identifier::Static { path: Path::parse("/a/b").unwrap() },
        ]
    );
}

#[test]
fn override_rules_keep_all_conditions() {
    let rule = &router(
        "overrides: [{when: {cookie: {c: 1}, header: {X-A: b}, method: [GET, PURGE], pathPrefix: /x, source: 10.0.0.0/8}, dtab: /a => /b}]",
    ).overrides[0];
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(rule.dtab.to_string(), "/a=>/b");
    let expected = When {
        cookies: pair("c", "1"),
        headers: pair("x-a", "b"),
        methods: vec!["GET".to_owned(), "PURGE".to_owned()],
        path_prefix: Some("/x".to_owned()),
        sources: nets(&["10.0.0.0/8"]),
    };
    assert_eq!(rule.when, expected);
}

#[test]
fn split_rules_name_a_dentry_with_a_union() {
    let sticky = |stickiness: &str| {
        router(&format!("dtab: /a => /b & /c, splits: [{{path: /a, stickiness: {stickiness}, onUnhealthy: fail}}], onUnhealthy: redistribute")).splits.remove(0)
    };
    let expected =
        |key| SplitRule { path: "/a".to_owned(), stickiness: Some(key), on_unhealthy: Some(OnUnhealthy::Fail) };
    assert_eq!(sticky("{cookie: c}"), expected(StickyKey::Cookie("c".to_owned())));
    assert_eq!(sticky("{header: X-H}"), expected(StickyKey::Header("x-h".to_owned())));
    assert_eq!(sticky("{source: address}"), expected(StickyKey::Source));
}

#[test]
fn clients_and_services_take_their_times() {
    let router = router(
        "client: {kind: io.l5d.global, protocol: http1, connectTimeoutMs: 1, requestAttemptTimeoutMs: 2, failFast: false, \
         loadBalancer: {kind: p2c, enableProbation: false}, \
         failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 9, backoff: {kind: constant, ms: 3}}}, \
         service: {totalTimeoutMs: 4, responseClassifier: {kind: io.l5d.http.nonRetryable5XX}}, \
         bindingTimeoutMs: 5, bindingCache: {paths: 6, idleTtlSecs: 7}, failover: names, interpreter: {kind: default}, originator: false",
    );
    let ms = Duration::from_millis;
    assert_eq!(
        (router.client.protocol, router.client.connect_timeout, router.client.attempt_timeout),
        (Protocol::Http1, Some(ms(1)), Some(ms(2)))
    );
    let accrual = router.client.accrual.unwrap();
    assert_eq!((accrual.rule, accrual.backoff), (failures(9), (ms(3), ms(3))));
    assert_eq!((router.service.total_timeout, router.binding.timeout), (Some(ms(4)), ms(5)));
    assert_eq!(
        (router.binding.names_max.get(), router.binding.idle, router.failover),
        (6, Duration::from_secs(7), Failover::Names)
    );
}

#[test]
fn no_failure_accrual_and_a_jittered_one() {
    assert_eq!(router("client: {failureAccrual: {kind: none}}").client.accrual, None);
    let jittered = router(
        "client: {failureAccrual: {kind: io.l5d.consecutiveFailures, backoff: {kind: jittered, minMs: 1, maxMs: 2}}}",
    );
    assert_eq!(jittered.client.accrual.unwrap().backoff, (Duration::from_millis(1), Duration::from_millis(2)));
}

#[test]
fn the_process_wide_keys_are_taken() {
    let config = parse(&format!(
        "admin: {{ip: 0.0.0.0, port: 1}}\nworkers: 3\negress: {{allow: [127.0.0.1]}}\ndrain: {{delayMs: 1, deadlineMs: 2}}\ntelemetry: [{{kind: io.l5d.prometheus}}]\n{SMALLEST}"
    ));
    assert_eq!(config.admin.address, "0.0.0.0:1".parse().unwrap());
    assert_eq!((config.workers.unwrap().get(), config.egress.allow), (3, nets(&["127.0.0.1/32"])));
    assert_eq!(config.drain, Drain { delay: Duration::from_millis(1), deadline: Duration::from_millis(2) });
}

#[test]
fn one_port_on_two_addresses_and_any_number_of_free_ports_are_no_clash() {
    parse(
        "routers: [{servers: [{ip: 127.0.0.1, port: 1}, {ip: 127.0.0.2, port: 1}, {ip: '::1', port: 1}, {port: 0}, {port: 0}]}]",
    );
}

#[test]
fn names_a_dentry_answers_for_need_no_namer() {
    router("dtab: /#/marathon => /b ; /c => /#/marathon/x");
    router("dtab: /c => /#");
    router("dtab: /c => /#/clusters ; /d => /$/inet/1.2.3.4 ; /e => /$/io.buoyant.rinet/80 ; /f => /$/nil");
}
