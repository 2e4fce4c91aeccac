//! Configurations in the shapes of Linkerd's own example files for HTTP, HTTP/2 and gRPC: they run as they stand, or each
//! line that has to change is named together with what to write there.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // tests stop at the first surprise

use serin_config::{Config, Severity, Source, diagnostic};

/// One file.
struct Case {
    text: &'static str,
    /// Its only errors: the line as it stands in the file, and what the help for it says.
    refused: &'static [(&'static str, &'static str)],
    /// Lines that have no effect, which is said.
    without_effect: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Ends {
    Runs,
    Refused,
}

fn check_example(case: &Case, ends: Ends) {
    let source = Source::new("linkerd.yaml", case.text);
    let (runs, found) = match Config::parse(&source) {
        Ok((_, warnings)) => (true, warnings),
        Err(mistakes) => (false, mistakes.to_vec()),
    };
    let shown = diagnostic::render(&found, &source, false);
    assert_eq!(runs, matches!(ends, Ends::Runs), "{shown}");
    let lines: Vec<&str> = case.text.lines().map(str::trim).collect();
    let line = |found: &diagnostic::Diagnostic| {
        let place = found.position(&source).to_string();
        let number: usize = place.split(':').next().unwrap().parse().unwrap();
        lines[number - 1]
    };
    let errors: Vec<_> = found.iter().filter(|found| found.severity == Severity::Error).collect();
    let places: Vec<&str> = errors.iter().map(|error| line(error)).collect();
    let expected: Vec<&str> = case.refused.iter().map(|(line, _)| *line).collect();
    assert_eq!(places, expected, "{shown}");
    for (error, (_, says)) in errors.iter().zip(case.refused) {
        let help = error.help.as_deref().unwrap_or_default();
        assert!(help.contains(says), "`{says}` is not in the help\n{shown}");
    }
    let useless: Vec<&str> = found.iter().filter(|found| found.code == "config/no-effect").map(line).collect();
    assert_eq!(useless, case.without_effect, "{shown}");
}

fn check_runs(text: &'static str, without_effect: &'static [&'static str]) {
    check_example(&Case { text, refused: &[], without_effect }, Ends::Runs);
}

fn check_refused(
    text: &'static str,
    refused: &'static [(&'static str, &'static str)],
    without_effect: &'static [&'static str],
) {
    check_example(&Case { text, refused, without_effect }, Ends::Refused);
}

/// Getting started, on a host and in a container.
#[test]
fn names_kept_in_files_run() {
    check_runs(
        "
admin: {ip: 0.0.0.0, port: 9990}
namers:
- kind: io.l5d.fs
  rootDir: addresses
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.fs
  servers:
  - ip: 0.0.0.0
    port: 4140
",
        &[],
    );
}

/// A proxy in front of one service, over HTTP/1.1 and, as in a comparison of speed, over HTTP/2.
#[test]
fn a_fixed_address_behind_either_protocol_runs() {
    check_runs(
        "
admin: {ip: 0.0.0.0, port: 9990}
routers:
- protocol: http
  dtab: /svc/shop => /$/inet/127.1/8080
  servers: [{ip: 0.0.0.0, port: 4140}]
",
        &[],
    );
    check_runs(
        "
admin: {ip: 0.0.0.0, port: 4991}
telemetry:
- kind: io.l5d.prometheus
routers:
- protocol: h2
  experimental: true
  dtab: /svc => /$/inet/127.1/8081
  servers: [{ip: 0.0.0.0, port: 4143}]
",
        &[],
    );
}

/// Weights between two versions, and sick endpoints taken out.
#[test]
fn balancers_classifiers_and_failure_accrual_run() {
    check_runs(
        "
admin: {ip: 0.0.0.0, port: 9990}
namers:
- kind: io.l5d.fs
  rootDir: /addresses
telemetry:
- kind: io.l5d.prometheus
- kind: io.l5d.recentRequests
  sampleRate: 0.5
usage:
  orgId: shop
routers:
- protocol: http
  servers: [{port: 4140, ip: 0.0.0.0}]
  dtab: >-
    /svc => /#/io.l5d.fs/shop;
  service: {responseClassifier: {kind: io.l5d.http.retryableRead5XX}}
  client:
    loadBalancer: {kind: ewma}
    failureAccrual:
      kind: io.l5d.successRate
      successRate: 0.95
      requests: 30
      backoff: {kind: constant, ms: 5000}
",
        &["- kind: io.l5d.recentRequests", "usage:"],
    );
}

/// A router that splits evenly among three others on the same host, one for each way to find sick endpoints.
#[test]
fn routers_behind_a_router_run() {
    check_runs(
        "
namers: [{kind: io.l5d.fs, rootDir: /addresses}]
routers:
- protocol: http
  dtab: /svc => /$/inet/127.1/4141 & /$/inet/127.1/4142 & /$/inet/127.1/4143;
  client: {failureAccrual: {kind: none}}
  servers: [{port: 4140, ip: 0.0.0.0}]
  service: {responseClassifier: {kind: io.l5d.http.nonRetryable5XX}}
- protocol: http
  label: none
  dtab: /svc => /#/io.l5d.fs/one;
  client: {failureAccrual: {kind: none}}
  servers: [{port: 4141, ip: 0.0.0.0}]
- protocol: http
  label: io.l5d.consecutiveFailures
  dtab: /svc => /#/io.l5d.fs/two;
  client: {failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 4, backoff: {kind: constant, ms: 5000}}}
  servers: [{port: 4142, ip: 0.0.0.0}]
- protocol: http
  label: io.l5d.successRate
  dtab: /svc => /#/io.l5d.fs/three;
  client:
    failureAccrual: {kind: io.l5d.successRate, successRate: 0.8, requests: 40, backoff: {kind: constant, ms: 5000}}
  servers: [{port: 4143, ip: 0.0.0.0}]
",
        &[],
    );
}

/// Consul, names by the first element of the path, and a budget of several retries for each request.
#[test]
fn names_kept_in_consul_run() {
    check_runs(
        "
namers:
- kind: io.l5d.consul
  includeTag: false
  useHealthCheck: false
  host: agent
usage: {orgId: shop}
routers:
- protocol: http
  label: /http-shop
  service: {responseClassifier: {kind: io.l5d.http.retryableIdempotent5XX}}
  identifier: {kind: io.l5d.path, segments: 1, consume: true}
  dtab: |
    /svc => /#/io.l5d.consul/east;
  servers: [{port: 4140, ip: 0.0.0.0}]
  client: {requeueBudget: {percentCanRetry: 4.0}}
",
        &["usage: {orgId: shop}"],
    );
}

/// A proxy on each machine hands over to the one beside the service, which it finds by a transformer.
#[test]
fn transformers_are_refused_with_what_takes_their_place() {
    check_refused(
        "
namers: [{kind: io.l5d.consul, host: 10.0.0.7, port: 8500}]
routers:
- protocol: http
  label: outgoing
  servers: [{ip: 0.0.0.0, port: 4140}]
  interpreter:
    kind: default
    transformers:
    - {kind: io.l5d.port, port: 4141}
  dtab: |
    /svc => /#/io.l5d.consul/east;
- protocol: http
  label: incoming
  servers: [{ip: 0.0.0.0, port: 4141}]
  interpreter:
    kind: default
    transformers: [{kind: io.l5d.specificHost, host: 10.0.0.7}]
  dtab: |
    /svc => /#/io.l5d.consul/east;
",
        &[
            ("transformers:", "remove the block"),
            ("transformers: [{kind: io.l5d.specificHost, host: 10.0.0.7}]", "`/$/inet/<host>/<port>` in the dtab"),
        ],
        &[],
    );
}

/// Each router of HTTP and of gRPC asks a namerd over a wire that is not spoken here.
#[test]
fn a_namerd_is_refused_with_its_address_over_http() {
    check_refused(
        "
routers:
- protocol: http
  interpreter:
    kind: io.l5d.namerd
    dst: /$/inet/names.test/4100
  servers: [{port: 4141, ip: 0.0.0.0}]
- protocol: h2
  interpreter: {kind: io.l5d.namerd, dst: /$/inet/10.0.0.9/4100}
  servers: [{port: 4142, ip: 0.0.0.0}]
  dstPrefix: /grpc
  identifier: {kind: io.l5d.header.path}
",
        &[
            ("kind: io.l5d.namerd", "write `kind: io.l5d.namerd.http` and `dst: /$/inet/names.test/4180`"),
            ("interpreter: {kind: io.l5d.namerd, dst: /$/inet/10.0.0.9/4100}", "`dst: /$/inet/10.0.0.9/4180`"),
        ],
        &[],
    );
}

/// The same with what the help says.
#[test]
fn a_namerd_over_http_runs() {
    check_runs(
        "
telemetry:
- kind: io.l5d.recentRequests
  sampleRate: 0.5
routers:
- protocol: http
  interpreter:
    kind: io.l5d.namerd.http
    dst: /$/inet/names.test/4180
    namespace: default
  servers: [{port: 4140, ip: 0.0.0.0}]
- protocol: h2
  interpreter: {kind: io.l5d.namerd.http, dst: /$/inet/10.0.0.9/4180}
  servers: [{port: 4142, ip: 0.0.0.0}]
  dstPrefix: /grpc
  service: {totalTimeoutMs: 2000, responseClassifier: {kind: io.l5d.h2.retryableRead5XX}}
  identifier: {kind: io.l5d.header.path}
",
        &["- kind: io.l5d.recentRequests"],
    );
}

/// Next to a service: HTTP to it by address, gRPC by a namerd.
#[test]
fn a_namerd_of_one_router_is_the_only_line_refused() {
    check_refused(
        "
admin: {ip: 0.0.0.0, port: 9990}
routers:
- protocol: http
  servers: [{port: 4080, ip: 0.0.0.0}]
  dtab: /svc => /$/inet/127.1/8080
- protocol: h2
  servers: [{port: 4180, ip: 0.0.0.0}]
  dstPrefix: /grpc
  service: {totalTimeoutMs: 2000, responseClassifier: {kind: io.l5d.h2.retryableRead5XX}}
  interpreter:
    kind: io.l5d.namerd
    dst: /$/inet/names.default.svc.cluster.local/4100
  identifier: {kind: io.l5d.header.path}
",
        &[("kind: io.l5d.namerd", "`dst: /$/inet/names.default.svc.cluster.local/4180`")],
        &[],
    );
}

/// Weighted dtabs run; metrics in the format of InfluxDB do not.
#[test]
fn metrics_for_others_are_refused_with_who_can_read_ours() {
    check_refused(
        "
namers: [{kind: io.l5d.fs, rootDir: /addresses}]
telemetry:
- kind: io.l5d.influxdb
usage: {orgId: shop}
routers:
- protocol: http
  servers: [{port: 4140, ip: 0.0.0.0}]
  dtab: >-
    /svc => 7 * /#/io.l5d.fs/old & /#/io.l5d.fs/new;
",
        &[("- kind: io.l5d.influxdb", "write `kind: io.l5d.prometheus`")],
        &["usage: {orgId: shop}"],
    );
}

/// Marathon.
#[test]
fn discovery_that_is_not_there_is_refused_with_what_is() {
    check_refused(
        "
namers:
- kind: io.l5d.marathon
  host: marathon.test
  prefix: /io.l5d.marathon
  uriPrefix: /marathon
routers:
- protocol: http
  servers: [{port: 4140, ip: 0.0.0.0}]
  dtab: |
    /svc => /#/io.l5d.marathon/shop;
",
        &[("- kind: io.l5d.marathon", "keep them in files (`io.l5d.fs`)")],
        &[],
    );
}

/// A classifier and an identifier of somebody else's making.
#[test]
fn plugins_are_refused_by_name() {
    check_refused(
        "
routers:
- protocol: http
  dtab: /svc => /$/inet/localhost/8080
  service:
    responseClassifier:
      kind: com.example.classifier
      headerName: verdict
  identifier:
  - kind: com.example.identifier
    name: shop
  - kind: io.l5d.methodAndHost
    httpUriInDst: true
  servers: [{ip: 0.0.0.0, port: 4140}]
",
        &[
            ("kind: com.example.classifier", "plugins of Linkerd cannot be loaded"),
            ("- kind: com.example.identifier", "write one of these kinds, or remove the block"),
        ],
        &[],
    );
}

/// Keys that stand beside those of the examples in files of their kind.
#[test]
fn keys_of_one_router_that_are_not_there_say_what_to_do() {
    check_refused(
        "
routers:
- protocol: http
  httpAccessLog: access.log
  maxErrResponseKB: 64
  retries: {budget: {percentCanRetry: 0.5}}
  dtab: /svc => /$/inet/127.1/8080
  servers:
  - port: 4140
    socketOptions:
      backlog: 128
      keepAlive: true
",
        &[
            ("httpAccessLog: access.log", "remove the line: no access log is written"),
            ("maxErrResponseKB: 64", "remove the line"),
            ("retries: {budget: {percentCanRetry: 0.5}}", "write it under `service`"),
            ("backlog: 128", "remove the line"),
            ("keepAlive: true", "write `limits: {idleTimeoutMs: 60000}`"),
        ],
        &[],
    );
}
