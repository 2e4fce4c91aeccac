//! `/config.json`: the configuration in force in the keys of the file, with defaults filled in. It holds no secret.

mod calls;
mod headers;
mod namers;
mod naming;
mod rollouts;
mod stores;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serin_config::model;
use serin_config::model::{Exposure, Failover, Host, OnUnhealthy, StickyKey, Trust};

use namers::Namer;

/// The file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    admin: Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<usize>,
    clusters: BTreeMap<String, Cluster>,
    namers: Vec<Namer>,
    egress: Egress,
    drain: Drain,
    routers: Vec<Router>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<stores::Interface>,
    #[serde(flatten)]
    rollouts: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct Address {
    ip: String,
    port: u16,
}

#[derive(Debug, Serialize)]
struct Cluster {
    endpoints: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Egress {
    allow: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Drain {
    delay_ms: u64,
    deadline_ms: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Router {
    label: String,
    protocol: &'static str,
    dst_prefix: String,
    identifier: serde_json::Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<serde_json::Value>,
    dtab: String,
    overrides: Vec<Rule>,
    splits: Vec<Split>,
    failover: &'static str,
    on_unhealthy: &'static str,
    servers: Vec<Server>,
    client: serde_json::Value,
    service: serde_json::Value,
    binding_timeout_ms: u64,
    binding_cache: BindingCache,
    interpreter: stores::Interpreter,
    trace_propagator: headers::Node,
}

#[derive(Debug, Serialize)]
struct Rule {
    when: When,
    dtab: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct When {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    cookie: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    header: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    method: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_prefix: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Split {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stickiness: Option<Stickiness>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_unhealthy: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Stickiness {
    Cookie(String),
    Header(String),
    Source(&'static str),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Server {
    #[serde(flatten)]
    place: Option<Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    exposure: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    clear_context: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trusted_sources: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_concurrent_requests: Option<u32>,
    max_call_depth: u32,
    limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    add_forwarded_header: Option<headers::Forwarded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_header: Option<String>,
}

/// The keys of a `limits` block.
type Limits = BTreeMap<&'static str, u64>;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BindingCache {
    paths: usize,
    idle_ttl_secs: u64,
}

impl From<&model::Config> for Config {
    fn from(config: &model::Config) -> Self {
        let cluster = |cluster: &model::Cluster| {
            let endpoints = cluster.endpoints.iter().map(host_port).collect();
            (cluster.name.clone(), Cluster { endpoints })
        };
        Self {
            admin: address(config.admin.address),
            workers: config.workers.map(std::num::NonZero::get),
            clusters: config.clusters.iter().map(cluster).collect(),
            namers: config.namers.iter().map(Namer::from).collect(),
            egress: Egress { allow: texts(&config.egress.allow) },
            drain: Drain { delay_ms: ms(config.drain.delay), deadline_ms: ms(config.drain.deadline) },
            routers: config.routers.iter().map(router).collect(),
            interfaces: config.interfaces.iter().map(stores::Interface::from).collect(),
            rollouts: rollouts::keys(config),
        }
    }
}

fn router(router: &model::Router) -> Router {
    let rule = |rule: &model::OverrideRule| Rule { when: when(&rule.when), dtab: rule.dtab.to_string() };
    Router {
        label: router.label.clone(),
        protocol: "http",
        dst_prefix: router.dst_prefix.to_string(),
        identifier: naming::identifiers(&router.identifiers),
        rules: router.rules.iter().map(naming::rule).collect(),
        dtab: router.dtab.to_string(),
        overrides: router.overrides.iter().map(rule).collect(),
        splits: router.splits.iter().map(split).collect(),
        failover: match router.failover {
            Failover::Health => "health",
            Failover::Names => "names",
        },
        on_unhealthy: on_unhealthy(router.on_unhealthy),
        servers: router.servers.iter().map(server).collect(),
        client: calls::client(&router.client, &router.client_parts),
        service: calls::service(&router.service, &router.service_parts),
        binding_timeout_ms: ms(router.binding.timeout),
        binding_cache: BindingCache {
            paths: router.binding.names_max.get(),
            idle_ttl_secs: router.binding.idle.as_secs(),
        },
        interpreter: (&router.interpreter).into(),
        trace_propagator: headers::propagator(router.propagator),
    }
}

fn when(when: &model::When) -> When {
    When {
        cookie: when.cookies.iter().cloned().collect(),
        header: when.headers.iter().cloned().collect(),
        method: when.methods.clone(),
        path_prefix: when.path_prefix.clone(),
        source: texts(&when.sources),
    }
}

fn stickiness(key: &StickyKey) -> Stickiness {
    match key {
        StickyKey::Cookie(name) => Stickiness::Cookie(name.clone()),
        StickyKey::Header(name) => Stickiness::Header(name.clone()),
        StickyKey::Source => Stickiness::Source("address"),
    }
}

fn split(rule: &model::SplitRule) -> Split {
    let stickiness = rule.stickiness.as_ref().map(stickiness);
    Split { path: rule.path.clone(), stickiness, on_unhealthy: rule.on_unhealthy.map(on_unhealthy) }
}

fn server(server: &model::Server) -> Server {
    let (clear_context, trusted_sources) = match &server.trust {
        Trust::Nobody => (Some(true), None),
        Trust::Everybody => (Some(false), None),
        Trust::Loopback => (None, None),
        Trust::Sources(networks) => (None, Some(texts(networks))),
    };
    let place = if server.unix.is_none() { Some(address(server.address)) } else { None };
    Server {
        place,
        unix: server.unix.as_ref().map(|unix| unix.path.display().to_string()),
        mode: server.unix.as_ref().map(|unix| format!("{:04o}", unix.mode)),
        exposure: match server.exposure {
            Exposure::Edge => "edge",
            Exposure::Mesh => "mesh",
        },
        clear_context,
        trusted_sources,
        max_concurrent_requests: server.requests_max.map(std::num::NonZero::get),
        max_call_depth: server.call_depth_max,
        limits: limits(model::SERVER_KEYS, &server.limits),
        add_forwarded_header: server.forwarded.as_ref().map(headers::Forwarded::from),
        timestamp_header: server.timestamp_header.clone(),
    }
}

/// What is unlimited is not there.
fn limits<T>(keys: &[model::LimitKey<T>], limits: &T) -> Limits {
    keys.iter().filter_map(|key| Some((key.key, (key.get)(limits)?))).collect()
}

fn host_port(endpoint: &model::HostPort) -> String {
    match &endpoint.host {
        Host::Ip(ip) => std::net::SocketAddr::new(*ip, endpoint.port).to_string(),
        Host::Name(name) => format!("{name}:{}", endpoint.port),
        Host::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn on_unhealthy(rule: OnUnhealthy) -> &'static str {
    match rule {
        OnUnhealthy::Fail => "fail",
        OnUnhealthy::Redistribute => "redistribute",
    }
}

fn address(address: std::net::SocketAddr) -> Address {
    Address { ip: address.ip().to_string(), port: address.port() }
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serin_config::source::Source;

    const FULL: &str = "\
clusters: {a: {endpoints: ['127.0.0.1:1', 'x.test:2', '[::1]:3']}, b: {endpoints: []}}
egress: {allow: [127.0.0.0/8]}
drain: {delayMs: 5, deadlineMs: 6}
workers: 3
routers:
- protocol: http
  label: out
  failover: names
  onUnhealthy: fail
  identifier: {kind: io.l5d.header.token, header: x-name, host: verbatim}
  dtab: /svc/x => 1 * /#/clusters/a & 2 * /#/clusters/b
  overrides:
  - when: {cookie: {k: v}, header: {x-a: b}, method: GET, pathPrefix: /p, source: 10.0.0.0/8}
    dtab: /svc => /#/clusters/b
  splits: [{path: /svc/x, stickiness: {source: address}, onUnhealthy: redistribute}]
  servers:
  - {port: 1, ip: ::1, exposure: mesh, clearContext: true, maxConcurrentRequests: 7, maxCallDepth: 8,
     addForwardedHeader: {by: {kind: static, label: a}, for: {kind: 'ip:port'}}, timestampHeader: x-at}
  client: {protocol: h2, connectTimeoutMs: 9, requestAttemptTimeoutMs: 10, failureAccrual: {kind: none}}
  service: {totalTimeoutMs: 11}
  bindingTimeoutMs: 12
  tracePropagator: {kind: io.l5d.zipkin}
  bindingCache: {paths: 13, idleTtlSecs: 14}
  interpreter: {kind: default, namespace: web}
storage: {kind: memory}
interfaces: [{kind: io.l5d.httpController, ip: '::1', port: 15}]
";

    /// What is shown, read again, means the same.
    #[track_caller]
    fn check_round_trip(text: &str) {
        let config = model::Config::parse(&Source::new("t", text)).unwrap().0;
        let json = serde_json::to_string(&Config::from(&config)).unwrap();
        let again = match model::Config::parse(&Source::new("json", &*json)) {
            Ok((again, _)) => again,
            Err(mistakes) => panic!("{mistakes}\n{json}"),
        };
        assert_eq!(again, config, "{json}");
    }

    #[test]
    fn the_effective_configuration_is_a_configuration() {
        check_round_trip("routers: [{protocol: http, servers: [{port: 1}], dtab: /svc => /$/inet/127.1/80}]\n");
        check_round_trip(FULL);
        check_round_trip(
            "routers: [{servers: [{port: 1}], identifier: [{kind: io.l5d.header, header: x-a}, {kind: io.l5d.header.path}, \
             {kind: io.l5d.header.path, header: x-b, segments: 2}, {kind: io.l5d.header.token, header: ':method'}, \
             {kind: io.l5d.methodAndHost, httpUriInDst: true, host: verbatim}, {kind: io.l5d.path, segments: 3, consume: \
             true}, {kind: io.l5d.static, path: /a/b}]}]\n",
        );
        check_round_trip(
            "routers: [{servers: [{port: 1}], rules: [{match: [{host: [a.test, '*.b.test'], path: {prefix: /a/}, method: \
             [GET, PUT], headers: {x-a: b, x-c: {regex: 'd.*'}}, query: {v: {suffix: w}}}, {host: c.test, path: {prefix: /}}], \
             name: /svc/x, rewrite: {host: 'y.test:81', path: {prefix: /}}, headers: {request: {set: {x-d: e}, add: {x-f: g}, \
             remove: [x-h]}, response: {remove: server}}}, {match: {path: {exact: /old}}, redirect: {status: 308, scheme: https, \
             host: z.test, port: 444, path: /new}}, {match: {path: {regex: '/[a-z]+'}}, rewrite: {path: /one}}, {headers: \
             {response: {set: {x-i: j}}}}]}]\n",
        );
        for rollouts in [EVIDENCE, INTERVAL, AB, MIRROR] {
            check_round_trip(&format!("{WORLD}rollouts:\n- {rollouts}\n"));
        }
    }

    const WORLD: &str = "\
clusters: {v1: {endpoints: []}, v2: {endpoints: []}}
routers: [{label: out, servers: [{port: 1}], dtab: /svc => /host ; /host => /#/clusters}]
storage: {kind: file, dir: state}
metricTemplates:
- name: errors
  provider: {type: prometheus, address: 'http://p:1', headers: {x-a: b}, credentials: {bearer: {env: T}}, insecureSkipVerify: true}
  query: 'rate(x{a=\"{{ variables.a }}\"}[{{ interval }}])'
- {name: basic, provider: {type: prometheus, address: 'http://p:1', credentials: {username: {env: U}, password: {file: f}}}, query: x}
- {name: dog, provider: {type: datadog, credentials: {apiKey: {env: A}, applicationKey: {env: B}}}, query: x}
- {name: cloud, provider: {type: cloudwatch, region: eu-west-1}, query: '[{}]'}
alertProviders:
- {name: team, type: slack, address: {env: U}, channel: c, username: u, token: {file: t}, proxy: 'http://p:2'}
- {name: any, type: webhook, address: {file: a}, template: '{}'}
";
    const EVIDENCE: &str = "{name: a, router: out, path: /host/a, primary: /#/clusters/v1, canary: /#/clusters/v2, \
        revision: r, fallback: /#/clusters/v1 | $, pace: evidence, guard: {alpha: 2%, beta: 3%, errorBudget: 0.25%, \
        tolerances: {slow50: 1.125}, stakes: {failure: 65%}}, stickiness: {cookie: c}, onUnhealthy: fail, dryRun: true, \
        suspend: true, skipAnalysis: true, progressDeadlineSeconds: 5, stepDeadline: off, onInsufficient: advance, \
        minRequests: 3, metricsServer: 'http://m:1', analysis: {interval: 1500ms, threshold: 3, \
        stepWeights: [0.5, 50], stepWeightPromotion: 25, metrics: [{name: request-success-rate, \
        thresholdRange: {min: 99.5}}, {name: request-duration, interval: 2m, threshold: 500}, {name: e, \
        templateRef: {name: errors}, templateVariables: {a: b}, thresholdRange: {min: 0, max: 1e3}}, {name: q, query: up, \
        thresholdRange: {min: 1}}], webhooks: [{name: w, url: 'http://w', type: event, timeout: 5ms, retries: 10, \
        muteAlert: true, metadata: {k: v}}, {name: x, url: 'https://x:1/y', disableTLS: true}], \
        alerts: [{name: al, severity: warn, providerRef: {name: any}}]}}";
    const INTERVAL: &str = "{name: b, router: out, path: /host/b, primary: /#/clusters/v1, canary: /#/clusters/v2, \
        guard: off, judge: off, analysis: {interval: 1m, threshold: 2, stepWeight: 10, maxWeight: 50, \
        stepWeightPromotion: 50, sessionAffinity: {cookieName: c, primaryCookieName: p, maxAge: 60, domain: x.test, \
        path: /, httpOnly: true, secure: true, partitioned: true, sameSite: None}}}";
    const AB: &str = "{name: c, router: out, path: /host/c, primary: /#/clusters/v1, canary: /#/clusters/v2, \
        analysis: {interval: 10s, threshold: 2, iterations: 3, match: [{headers: {X-A: {exact: b}, cookie: \
        {regex: 'a.*'}}}, {queryParams: {a: {prefix: b}, c: {suffix: d}}, when: {method: GET}}]}}";
    const MIRROR: &str = "{name: d, router: out, path: /host/d, primary: /#/clusters/v1, canary: /#/clusters/v2, \
        analysis: {interval: 10s, threshold: 2, stepWeights: [5, 10], mirror: true, mirrorWeight: 12.5, \
        mirrorMethods: [POST, GET], mirrorUnsafe: true}}";

    #[test]
    fn no_secret_is_shown() {
        let text = format!(
            "{WORLD}- {{name: plain, type: slack, address: 'https://hooks.test/hidden'}}\nrollouts:\n- {{name: a, router: \
             out, path: /host/a, primary: /#/clusters/v1, canary: /#/clusters/v2, pace: evidence, analysis: {{webhooks: \
             [{{name: w, url: 'http://w/x?key=hidden'}}]}}}}\n"
        );
        let config = model::Config::parse(&Source::new("t", text)).unwrap().0;
        let json = serde_json::to_string(&Config::from(&config)).unwrap();
        assert!(!json.contains("hidden") && json.contains("http://w/x?"), "{json}");
    }
}
