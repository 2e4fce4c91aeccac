//! `client`, `service`, `bindingCache`: how a router talks to upstreams, and how long names are kept.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::model::{Accrual, Binding, Client, ClientLimits, Protocol, Service};
use crate::raw::{Cx, Fields};
use crate::units::{self, Wrong};

/// Names a worker's cache can be asked to keep.
pub const BINDING_NAMES_MAX: u64 = 1_000_000;
/// Failures in a row that can be asked for.
pub const ACCRUAL_FAILURES_MAX: u64 = 1_000_000;

const BINDING_TIMEOUT: Duration = Duration::from_secs(10);
const BINDING_NAMES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);
const BINDING_IDLE: Duration = Duration::from_secs(600);
const ACCRUAL_FAILURES: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);
const ACCRUAL_BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

const CLIENT_NOT_BUILT: &[(&str, &str)] = &[
    ("tls", "upstreams are spoken to in clear text"),
    ("requeueBudget", ""),
    ("hostConnectionPool", ""),
    ("clientSession", ""),
    ("forwardClientCert", ""),
    ("requestAuthorizers", ""),
    ("configs", "write the fields directly under `client`: they hold for every upstream"),
    ("windowUpdateRatio", ""),
    ("headerTableBytes", "write `limits: {headerTableBytes: 4096}`"),
    ("initialStreamWindowBytes", "write `limits: {streamWindowBytes: 1048576}`"),
    ("maxFrameBytes", "write `limits: {frameBytes: 16384}`"),
    ("maxHeaderListBytes", "write `limits: {headBytes: 65536}`"),
];

pub(super) fn client(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, protocol: Protocol) -> Client {
    let accrual = Accrual { failures: ACCRUAL_FAILURES, backoff: ACCRUAL_BACKOFF };
    let mut result = Client {
        protocol,
        connect_timeout: None,
        attempt_timeout: None,
        accrual: Some(accrual),
        limits: ClientLimits::new(),
    };
    let example = "{loadBalancer: {kind: p2c}, requestAttemptTimeoutMs: 2000}";
    let Some(mut client) = fields.map(cx, "client", example) else { return result };
    if !global(cx, &mut client, "client") {
        client.abandon();
        return result;
    }
    let protocols = [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("h2", Protocol::H2)];
    let written = client.scalar(cx, "protocol", |text| units::choice(text, &protocols));
    result.protocol = written.unwrap_or(protocol);
    result.connect_timeout = client.scalar(cx, "connectTimeoutMs", |text| units::millis(text, 1));
    result.attempt_timeout = client.scalar(cx, "requestAttemptTimeoutMs", |text| units::millis(text, 1));
    load_balancer(cx, &mut client);
    result.accrual = failure_accrual(cx, &mut client, accrual);
    result.limits = super::limits::client(cx, &mut client, result.limits);
    super::server::socket_options(cx, &mut client);
    if client.scalar(cx, "failFast", units::boolean) == Some(true) {
        client.not_built(cx, &[("failFast", "`failureAccrual` ejects endpoints that cannot be connected to")]);
    }
    client.not_built(cx, CLIENT_NOT_BUILT);
    client.finish(cx);
    result
}

/// `kind: io.l5d.global` is what the fields mean anyway. `false`: a kind that is refused.
fn global(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, what: &str) -> bool {
    if !fields.has("kind") {
        return true;
    }
    let instead = format!("write the fields directly under `{what}`: they hold for every name");
    super::kind(cx, fields, what, &["io.l5d.global"], &["io.l5d.static"], &instead).is_some()
}

fn load_balancer(cx: &Cx<'_>, client: &mut Fields<'_, '_>) {
    let Some(mut balancer) = client.map(cx, "loadBalancer", "{kind: p2c}") else { return };
    let instead = "write `kind: p2c`: of two endpoints drawn by chance the one with fewer requests in flight";
    let missing = ["aperture", "ewma", "heap", "roundRobin"];
    if super::kind(cx, &mut balancer, "loadBalancer", &["p2c"], &missing, instead).is_none() {
        balancer.abandon();
        return;
    }
    balancer.unneeded(cx, &[("maxEffort", "endpoints known to be down are never drawn")]);
    if balancer.scalar(cx, "enableProbation", units::boolean) == Some(true) {
        balancer.not_built(cx, &[("enableProbation", "removed endpoints get no new requests")]);
    }
    balancer.finish(cx);
}

fn failure_accrual(cx: &Cx<'_>, client: &mut Fields<'_, '_>, default: Accrual) -> Option<Accrual> {
    let example = "{kind: io.l5d.consecutiveFailures, failures: 5}";
    let Some(mut fields) = client.map(cx, "failureAccrual", example) else { return Some(default) };
    let built = ["io.l5d.consecutiveFailures", "none"];
    let missing = ["io.l5d.successRate", "io.l5d.successRateWindowed"];
    let instead = "write `kind: io.l5d.consecutiveFailures, failures: 5`";
    let Some(kind) = super::kind(cx, &mut fields, "failureAccrual", &built, &missing, instead) else {
        fields.abandon();
        return Some(default);
    };
    if kind == "none" {
        fields.unneeded(cx, &[("backoff", "no endpoint is ever ejected"), ("failures", "no endpoint is ever ejected")]);
        fields.finish(cx);
        return None;
    }
    let failures = fields.scalar(cx, "failures", |text| units::whole(text, 1..=ACCRUAL_FAILURES_MAX, "5"));
    let failures = failures.and_then(|failures| NonZeroU32::new(u32::try_from(failures).ok()?));
    let backoff = backoff(cx, &mut fields).unwrap_or(default.backoff);
    fields.finish(cx);
    Some(Accrual { failures: failures.unwrap_or(default.failures), backoff })
}

/// First and longest pause.
fn backoff(cx: &Cx<'_>, accrual: &mut Fields<'_, '_>) -> Option<(Duration, Duration)> {
    let mut fields = accrual.map(cx, "backoff", "{kind: jittered, minMs: 5000, maxMs: 300000}")?;
    let Some(kind) = super::kind(cx, &mut fields, "backoff", &["jittered", "constant"], &[], "") else {
        fields.abandon();
        return None;
    };
    let span = fields.span;
    let result = if kind == "constant" {
        let ms = fields.scalar(cx, "ms", |text| units::millis(text, 0)).unwrap_or_default();
        Some((ms, ms))
    } else {
        let mut bound = |key| {
            let help = "write `backoff: {kind: jittered, minMs: 5000, maxMs: 300000}`";
            let entry = fields.require(cx, key, "a jittered backoff", help)?;
            cx.scalar(key, &entry.value, |text| units::millis(text, 1))
        };
        let (min, max) = (bound("minMs"), bound("maxMs"));
        min.zip(max)
    };
    if let Some((min, max)) = result
        && min > max
    {
        let message =
            format!("`minMs` is {} and `maxMs` is {}: the least is the larger", min.as_millis(), max.as_millis());
        cx.push(Diagnostic::error("config/wrong-value", span, message).help("exchange them"));
    }
    fields.finish(cx);
    result
}

pub(super) fn service(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Service {
    let mut result = Service::default();
    let Some(mut service) = fields.map(cx, "service", "{totalTimeoutMs: 2000}") else { return result };
    if !global(cx, &mut service, "service") {
        service.abandon();
        return result;
    }
    result.total_timeout = service.scalar(cx, "totalTimeoutMs", |text| units::millis(text, 1));
    if let Some(mut classifier) = service.map(cx, "responseClassifier", "{kind: io.l5d.http.nonRetryable5XX}") {
        let built = ["io.l5d.http.nonRetryable5XX", "io.l5d.h2.nonRetryable5XX"];
        let instead = "write `kind: io.l5d.http.nonRetryable5XX`, which is the default";
        match super::kind(cx, &mut classifier, "responseClassifier", &built, CLASSIFIERS_NOT_BUILT, instead) {
            Some(_) => classifier.finish(cx),
            None => classifier.abandon(),
        }
    }
    service.not_built(
        cx,
        &[
            ("retries", "requests that were never sent are replayed without being asked for"),
            ("configs", "write the fields directly under `service`: they hold for every name"),
            ("classificationTimeoutMs", ""),
            ("retryBufferSize", ""),
        ],
    );
    service.finish(cx);
    result
}

const CLASSIFIERS_NOT_BUILT: &[&str] = &[
    "io.l5d.h2.allSuccessful",
    "io.l5d.h2.grpc.alwaysRetryable",
    "io.l5d.h2.grpc.compliant",
    "io.l5d.h2.grpc.default",
    "io.l5d.h2.grpc.neverRetryable",
    "io.l5d.h2.grpc.retryableStatusCodes",
    "io.l5d.h2.retryableAll5XX",
    "io.l5d.h2.retryableIdempotent5XX",
    "io.l5d.h2.retryableRead5XX",
    "io.l5d.http.allSuccessful",
    "io.l5d.http.retryableAll5XX",
    "io.l5d.http.retryableIdempotent5XX",
    "io.l5d.http.retryableRead5XX",
];

pub(super) fn binding(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Binding {
    let timeout = fields.scalar(cx, "bindingTimeoutMs", |text| units::millis(text, 1)).unwrap_or(BINDING_TIMEOUT);
    let mut result = Binding { timeout, names_max: BINDING_NAMES, idle: BINDING_IDLE };
    let Some(mut cache) = fields.map(cx, "bindingCache", "{paths: 1000, idleTtlSecs: 600}") else { return result };
    let count = |text: &str| {
        let count = units::whole(text, 1..=BINDING_NAMES_MAX, "1000")?;
        let count = usize::try_from(count).ok().and_then(NonZeroUsize::new);
        count.ok_or_else(|| Wrong::new("a whole number", "1000"))
    };
    result.names_max = cache.scalar(cx, "paths", count).unwrap_or(BINDING_NAMES);
    result.idle = cache.scalar(cx, "idleTtlSecs", units::seconds).unwrap_or(BINDING_IDLE);
    let why = "there is one cache, and `paths` is its size";
    cache.unneeded(cx, &[("trees", why), ("bounds", why), ("clients", why)]);
    cache.finish(cx);
    result
}
