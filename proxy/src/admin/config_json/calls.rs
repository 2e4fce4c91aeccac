//! `client` and `service`: all their keys, or those of each entry under a prefix.

use std::time::Duration;

use serde_json::{Map, Value, json};
use serin_config::model::{
    Accrual, AccrualRule, Balancer, CLIENT_FIELDS, CLIENT_KEYS, Classifier, Client, ClientPart, GrpcRetryable,
    Protocol, RetryBackoff, RetryBudget, Retryable, SERVICE_FIELDS, Service, ServicePart,
};
use serin_rollout::Ppm;

use super::ms;

pub(super) fn client(all: &Client, parts: &[ClientPart]) -> Value {
    let all_keys: Vec<&str> =
        CLIENT_FIELDS.iter().map(|(key, _)| *key).chain(CLIENT_KEYS.iter().map(|key| key.key)).collect();
    let part = |part: &ClientPart| with_prefix(&part.prefix, client_keys(&part.values, &part.written));
    by_prefix(client_keys(all, &all_keys), parts.iter().map(part).collect())
}

pub(super) fn service(all: &Service, parts: &[ServicePart]) -> Value {
    let all_keys: Vec<&str> = SERVICE_FIELDS.iter().map(|(key, _)| *key).collect();
    let part = |part: &ServicePart| with_prefix(&part.prefix, service_keys(&part.values, &part.written));
    by_prefix(service_keys(all, &all_keys), parts.iter().map(part).collect())
}

/// A block says one thing of all names, or something of each prefix.
fn by_prefix(all: Map<String, Value>, parts: Vec<Value>) -> Value {
    if parts.is_empty() { Value::Object(all) } else { json!({"kind": "io.l5d.static", "configs": parts}) }
}

fn with_prefix(prefix: &serin_config::dtab::Pattern, mut keys: Map<String, Value>) -> Value {
    keys.insert("prefix".to_owned(), json!(prefix.to_string()));
    Value::Object(keys)
}

fn client_keys(client: &Client, keys: &[&str]) -> Map<String, Value> {
    let mut map = Map::new();
    let mut limits = Map::new();
    for key in keys {
        let value = match *key {
            "protocol" => json!(protocol(client.protocol)),
            "connectTimeoutMs" => optional_ms(client.connect_timeout),
            "requestAttemptTimeoutMs" => optional_ms(client.attempt_timeout),
            "loadBalancer" => balancer(client.balancer),
            "failureAccrual" => client.accrual.as_ref().map_or_else(|| json!({"kind": "none"}), accrual),
            "requeueBudget" => budget(&client.requeue),
            "clientSession" => client.life_time.map_or(Value::Null, |time| json!({"lifeTimeMs": ms(time)})),
            limit => {
                let found = CLIENT_KEYS.iter().find(|key| key.key == limit);
                if let Some(value) = found.and_then(|key| (key.get)(&client.limits)) {
                    limits.insert(limit.to_owned(), json!(value));
                }
                Value::Null
            }
        };
        insert(&mut map, key, value);
    }
    if !limits.is_empty() {
        map.insert("limits".to_owned(), Value::Object(limits));
    }
    map
}

fn service_keys(service: &Service, keys: &[&str]) -> Map<String, Value> {
    let (mut map, mut retries, mut buffer) = (Map::new(), Map::new(), Map::new());
    for key in keys {
        match *key {
            "totalTimeoutMs" => insert(&mut map, key, optional_ms(service.total_timeout)),
            "bodyBytes" => insert(&mut map, key, json!(service.body_bytes_max)),
            "budget" => insert(&mut retries, key, budget(&service.budget)),
            "backoff" => insert(&mut retries, key, backoff(service.backoff)),
            "responseClassifier" => insert(&mut map, key, classifier(&service.classifier)),
            "classificationTimeoutMs" => insert(&mut map, key, json!(ms(service.classification_timeout))),
            "requestBytes" => insert(&mut buffer, key, json!(service.retry_buffer.0)),
            "responseBytes" => insert(&mut buffer, key, json!(service.retry_buffer.1)),
            _ => {}
        }
    }
    for (key, inner) in [("retries", retries), ("retryBufferSize", buffer)] {
        if !inner.is_empty() {
            map.insert(key.to_owned(), Value::Object(inner));
        }
    }
    map
}

fn insert(map: &mut Map<String, Value>, key: &str, value: Value) {
    if !value.is_null() {
        map.insert(key.to_owned(), value);
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Auto => "auto",
        Protocol::Http1 => "http1",
        Protocol::H2 => "h2",
    }
}

fn balancer(balancer: Balancer) -> Value {
    match balancer {
        Balancer::P2c => json!({"kind": "p2c"}),
        Balancer::Ewma { decay } => json!({"kind": "ewma", "decayTimeMs": ms(decay)}),
        Balancer::RoundRobin => json!({"kind": "roundRobin"}),
    }
}

fn accrual(accrual: &Accrual) -> Value {
    let backoff = json!({"kind": "jittered", "minMs": ms(accrual.backoff.0), "maxMs": ms(accrual.backoff.1)});
    match accrual.rule {
        AccrualRule::Consecutive(failures) => {
            json!({"kind": "io.l5d.consecutiveFailures", "failures": failures, "backoff": backoff})
        }
        AccrualRule::SuccessRate(rate, requests) => json!({
            "kind": "io.l5d.successRate", "successRate": fraction(rate), "requests": requests, "backoff": backoff
        }),
        AccrualRule::SuccessRateWindowed(rate, window) => json!({
            "kind": "io.l5d.successRateWindowed", "successRate": fraction(rate), "window": window.as_secs(),
            "backoff": backoff
        }),
    }
}

fn budget(budget: &RetryBudget) -> Value {
    let RetryBudget { ttl, per_second, share_ppm } = budget;
    json!({"ttlSecs": ttl.as_secs(), "minRetriesPerSec": per_second, "percentCanRetry": f64::from(*share_ppm) / 1e6})
}

fn backoff(backoff: RetryBackoff) -> Value {
    match backoff {
        RetryBackoff::Constant(pause) => json!({"kind": "constant", "ms": ms(pause)}),
        RetryBackoff::Jittered(min, max) => json!({"kind": "jittered", "minMs": ms(min), "maxMs": ms(max)}),
    }
}

fn classifier(classifier: &Classifier) -> Value {
    let (success, retryable) = match classifier {
        Classifier::Http(retryable) => {
            let name = match retryable {
                Retryable::Never => "nonRetryable5XX",
                Retryable::Read => "retryableRead5XX",
                Retryable::Idempotent => "retryableIdempotent5XX",
                Retryable::All => "retryableAll5XX",
            };
            return json!({"kind": format!("io.l5d.http.{name}")});
        }
        Classifier::AllSuccessful => return json!({"kind": "io.l5d.http.allSuccessful"}),
        Classifier::Grpc { success, retryable } => (success, retryable),
    };
    let name = match retryable {
        GrpcRetryable::Never => "neverRetryable",
        GrpcRetryable::Always => "alwaysRetryable",
        GrpcRetryable::Unavailable => "default",
        GrpcRetryable::Compliant => "compliant",
        GrpcRetryable::Codes(_) => "retryableStatusCodes",
    };
    let mut map = json!({"kind": format!("io.l5d.h2.grpc.{name}"), "successStatusCodes": success});
    if let (GrpcRetryable::Codes(codes), Some(map)) = (retryable, map.as_object_mut()) {
        map.insert("retryableStatusCodes".to_owned(), json!(codes));
    }
    map
}

fn optional_ms(time: Option<Duration>) -> Value {
    time.map_or(Value::Null, |time| json!(ms(time)))
}

fn fraction(share: Ppm) -> f64 {
    f64::from(share.get()) / 1e6
}
