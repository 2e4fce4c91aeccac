//! `client`: how a router talks to upstreams.

use std::num::NonZeroU32;
use std::time::Duration;

use serin_rollout::Ppm;

use super::calls::{self, Parts};
use crate::diagnostic::Diagnostic;
use crate::model::{Accrual, AccrualRule, Balancer, CLIENT_KEYS, Client, ClientPart, Protocol, RetryBudget};
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units::{self, Wrong};

/// Failures in a row, or requests of a mean, that can be asked for.
pub const ACCRUAL_FAILURES_MAX: u64 = 1_000_000;
/// Retries a second that can be asked for.
pub const RETRIES_PER_SECOND_MAX: u64 = 1_000_000;
/// Retries for each request that a budget can allow: Linkerd takes more than one too.
pub const RETRY_SHARE_MAX: u32 = 10;
/// The longest time that a budget of retries can look back, in seconds.
pub const BUDGET_TTL_SECS_MAX: u64 = 60;

const NOT_BUILT: &[(&str, &str)] = &[
    ("tls", "remove the block: upstreams are spoken to in clear text; put a TLS terminator in front of them"),
    ("requestAuthorizers", "remove the block: no Mixer is asked"),
];

/// Keys of Linkerd that have another name among the limits.
const LIMITS: [(&str, &str); 4] = [
    ("headerTableBytes", "headerTableBytes"),
    ("initialStreamWindowBytes", "streamWindowBytes"),
    ("maxFrameBytes", "frameBytes"),
    ("maxHeaderListBytes", "headBytes"),
];

const IDLE: [(&str, &str); 1] = [("idleTimeMs", "idleTimeoutMs")];

pub(super) fn client(
    cx: &Cx<'_>,
    router: &mut Fields<'_, '_>,
    protocol: Protocol,
) -> (Client, Vec<(ClientPart, Span)>) {
    let default = Client::new(protocol);
    let example = "{loadBalancer: {kind: p2c}, requestAttemptTimeoutMs: 2000}";
    let Some(fields) = router.map(cx, "client", example) else { return (default, Vec::new()) };
    match calls::parts(cx, fields, "client") {
        Parts::Global(mut fields) => {
            let (client, _) = read(cx, &mut fields, &default);
            fields.finish(cx);
            (client, Vec::new())
        }
        Parts::Static(entries) => {
            let part = |(prefix, span, mut fields): (_, Span, Fields<'_, '_>)| {
                let (values, written) = read(cx, &mut fields, &default);
                fields.finish(cx);
                (ClientPart { prefix, values, written }, span)
            };
            (default.clone(), entries.into_iter().map(part).collect())
        }
        Parts::Refused => (default, Vec::new()),
    }
}

/// What is written over `default`, and which keys that are.
fn read(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, default: &Client) -> (Client, Vec<&'static str>) {
    let mut client = default.clone();
    let mut written = Vec::new();
    let protocols = [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("h2", Protocol::H2)];
    let mut put = |key, there: bool| {
        if there {
            written.push(key);
        }
    };
    if let Some(protocol) = fields.scalar(cx, "protocol", |text| units::choice(text, &protocols)) {
        client.protocol = protocol;
        put("protocol", true);
    }
    client.connect_timeout = fields.scalar(cx, "connectTimeoutMs", |text| units::millis(text, 1));
    put("connectTimeoutMs", client.connect_timeout.is_some());
    client.attempt_timeout = fields.scalar(cx, "requestAttemptTimeoutMs", |text| units::millis(text, 1));
    put("requestAttemptTimeoutMs", client.attempt_timeout.is_some());
    put("loadBalancer", fields.has("loadBalancer"));
    client.balancer = load_balancer(cx, fields);
    put("failureAccrual", fields.has("failureAccrual"));
    client.accrual = failure_accrual(cx, fields);
    put("requeueBudget", fields.has("requeueBudget"));
    client.requeue = budget(cx, fields, "requeueBudget").unwrap_or_default();
    written.extend(limits(cx, fields, &mut client));
    super::server::socket_options(cx, fields);
    if fields.scalar(cx, "failFast", units::boolean) == Some(true) {
        fields.not_built(cx, &[("failFast", "`failureAccrual` ejects endpoints that cannot be connected to")]);
    }
    if fields.scalar(cx, "forwardClientCert", units::boolean) == Some(true) {
        let instead = "write `forwardClientCert: false`: without TLS no client shows a certificate";
        fields.not_built(cx, &[("forwardClientCert", instead)]);
    }
    fields.unneeded(cx, &[("windowUpdateRatio", "windows are given back as octets are passed on")]);
    fields.not_built(cx, NOT_BUILT);
    (client, written)
}

/// `limits`, and what Linkerd writes instead.
fn limits(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, client: &mut Client) -> Vec<&'static str> {
    let written;
    (client.limits, written) = super::limits::client(cx, fields, client.limits);
    let mut written = written;
    written.extend(super::limits::aliases(cx, fields, CLIENT_KEYS, &LIMITS, &mut client.limits));
    if let Some(mut pool) = fields.map(cx, "hostConnectionPool", "{idleTimeMs: 30000}") {
        written.extend(super::limits::aliases(cx, &mut pool, CLIENT_KEYS, &IDLE, &mut client.limits));
        pool.unneeded(cx, &[("minSize", "connections are made when requests need them")]);
        let instead = "write `maxConcurrentRequests` at the server, which bounds what can be under way";
        pool.not_built(cx, &[("maxSize", instead), ("maxWaiters", instead)]);
        pool.finish(cx);
    }
    if let Some(mut session) = fields.map(cx, "clientSession", "{idleTimeMs: 30000, lifeTimeMs: 600000}") {
        written.extend(super::limits::aliases(cx, &mut session, CLIENT_KEYS, &IDLE, &mut client.limits));
        client.life_time = session.scalar(cx, "lifeTimeMs", |text| units::millis(text, 1));
        if client.life_time.is_some() {
            written.push("clientSession");
        }
        session.finish(cx);
    }
    let h2 = &mut client.limits.h2;
    h2.stream_window_bytes = h2.stream_window_bytes.min(h2.connection_window_bytes);
    written
}

fn load_balancer(cx: &Cx<'_>, client: &mut Fields<'_, '_>) -> Balancer {
    let Some(mut fields) = client.map(cx, "loadBalancer", "{kind: p2c}") else { return Balancer::default() };
    let instead = "write `kind: p2c`: of two endpoints drawn by chance the one with fewer requests in flight";
    let built = ["p2c", "ewma", "roundRobin"];
    let Some(kind) = super::kind(cx, &mut fields, "loadBalancer", &built, &["aperture", "heap"], instead) else {
        fields.abandon();
        return Balancer::default();
    };
    let balancer = match kind {
        "ewma" => {
            let decay = fields.scalar(cx, "decayTimeMs", |text| units::millis(text, 1));
            Balancer::Ewma { decay: decay.unwrap_or(Duration::from_secs(10)) }
        }
        "roundRobin" => Balancer::RoundRobin,
        _ => Balancer::P2c,
    };
    fields.unneeded(cx, &[("maxEffort", "endpoints known to be down are never drawn")]);
    if fields.scalar(cx, "enableProbation", units::boolean) == Some(true) {
        fields.not_built(cx, &[("enableProbation", "removed endpoints get no new requests")]);
    }
    fields.finish(cx);
    balancer
}

fn failure_accrual(cx: &Cx<'_>, client: &mut Fields<'_, '_>) -> Option<Accrual> {
    let default = Accrual::default();
    let example = "{kind: io.l5d.consecutiveFailures, failures: 5}";
    let Some(mut fields) = client.map(cx, "failureAccrual", example) else { return Some(default) };
    let built = ["io.l5d.consecutiveFailures", "io.l5d.successRate", "io.l5d.successRateWindowed", "none"];
    let Some(kind) = super::kind(cx, &mut fields, "failureAccrual", &built, &[], "") else {
        fields.abandon();
        return Some(default);
    };
    let count = |text: &str| {
        let count = units::whole(text, 1..=ACCRUAL_FAILURES_MAX, "5")?;
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
        count.ok_or_else(|| Wrong::new("a whole number", "5"))
    };
    let rule = match kind {
        "none" => {
            let why = "no endpoint is ever ejected";
            fields.unneeded(cx, &[("backoff", why), ("failures", why)]);
            fields.finish(cx);
            return None;
        }
        "io.l5d.successRate" => {
            let help = "write `successRate: 0.9, requests: 100`";
            let rate = calls::required(cx, &mut fields, "successRate", help, fraction);
            let requests = calls::required(cx, &mut fields, "requests", help, count);
            rate.zip(requests).map(|(rate, requests)| AccrualRule::SuccessRate(rate, requests))
        }
        "io.l5d.successRateWindowed" => {
            let help = "write `successRate: 0.9, window: 30`, the window in seconds";
            let rate = calls::required(cx, &mut fields, "successRate", help, fraction);
            let window = calls::required(cx, &mut fields, "window", help, units::seconds);
            rate.zip(window).map(|(rate, window)| AccrualRule::SuccessRateWindowed(rate, window))
        }
        _ => fields.scalar(cx, "failures", count).map(AccrualRule::Consecutive),
    };
    let backoff = backoff(cx, &mut fields).unwrap_or(default.backoff);
    fields.finish(cx);
    Some(Accrual { rule: rule.unwrap_or(default.rule), backoff })
}

/// From 0 to 1, as Linkerd writes shares; kept to a millionth.
pub(super) fn fraction(text: &str) -> Result<Ppm, Wrong> {
    let wrong = || Wrong::new("a number from 0 to 1", "0.9");
    let number: f64 = text.parse().map_err(|_| wrong())?;
    if !(0.0..=1.0).contains(&number) {
        return Err(wrong());
    }
    Ppm::new((number * 1e6).round() as u32).ok_or_else(wrong)
}

/// Retries for each request, in millionths.
fn retry_share(text: &str) -> Result<u32, Wrong> {
    let number = text.parse().ok().filter(|number| (0.0..=f64::from(RETRY_SHARE_MAX)).contains(number));
    let wrong = || Wrong::new(format!("a number from 0 to {RETRY_SHARE_MAX}"), "0.2");
    let number: f64 = number.ok_or_else(|| wrong().help("it is a share: 0.2 is one retry for five requests"))?;
    Ok((number * 1e6).round() as u32)
}

/// `requeueBudget`, and `budget` of `retries`.
pub(super) fn budget(cx: &Cx<'_>, holder: &mut Fields<'_, '_>, key: &'static str) -> Option<RetryBudget> {
    let mut fields = holder.map(cx, key, "{ttlSecs: 10, minRetriesPerSec: 10, percentCanRetry: 0.2}")?;
    let mut budget = RetryBudget::default();
    let ttl = fields.scalar(cx, "ttlSecs", |text| units::whole(text, 1..=BUDGET_TTL_SECS_MAX, "10"));
    budget.ttl = ttl.map_or(budget.ttl, Duration::from_secs);
    let rate = fields.scalar(cx, "minRetriesPerSec", |text| units::whole(text, 0..=RETRIES_PER_SECOND_MAX, "10"));
    budget.per_second = rate.and_then(|rate| u32::try_from(rate).ok()).unwrap_or(budget.per_second);
    budget.share_ppm = fields.scalar(cx, "percentCanRetry", retry_share).unwrap_or(budget.share_ppm);
    fields.finish(cx);
    Some(budget)
}

/// First and longest pause.
fn backoff(cx: &Cx<'_>, accrual: &mut Fields<'_, '_>) -> Option<(Duration, Duration)> {
    let fields = accrual.map(cx, "backoff", "{kind: jittered, minMs: 5000, maxMs: 300000}")?;
    let (span, pause) = (fields.span, calls::pause(cx, fields, "minMs: 5000, maxMs: 300000")?);
    let (min, max) = match pause {
        calls::Pause::Constant(ms) => (ms, ms),
        calls::Pause::Jittered(min, max) => (min, max),
    };
    if min > max {
        let message =
            format!("`minMs` is {} and `maxMs` is {}: the least is the larger", min.as_millis(), max.as_millis());
        cx.push(Diagnostic::error("config/wrong-value", span, message).help("exchange them"));
    }
    Some((min, max))
}
