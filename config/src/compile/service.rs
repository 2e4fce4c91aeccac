//! `service` and `bindingCache`: how logical names are treated, and how long they are kept.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::calls::{self, Parts};
use super::client;
use crate::diagnostic::Diagnostic;
use crate::model::{Binding, Classifier, GrpcRetryable, RetryBackoff, Retryable, Service, ServicePart};
use crate::raw::{Cx, Fields};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::Value;

/// Names a worker's cache can be asked to keep.
pub const BINDING_NAMES_MAX: u64 = 1_000_000;
/// Octets of a request or of an answer that can be kept for a retry.
pub const RETRY_BUFFER_BYTES_MAX: u64 = 1 << 20;
/// Octets that the body of a request may be allowed: as many as a `Content-Length` can say.
pub const BODY_BYTES_MAX: u64 = (1 << 63) - 1;
/// Status codes that one classifier can name.
pub const STATUS_CODES_MAX: usize = 64;
/// The last status code that gRPC has: UNAUTHENTICATED.
const GRPC_CODE_MAX: u64 = 16;

const BINDING_TIMEOUT: Duration = Duration::from_secs(10);
const BINDING_NAMES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);
const BINDING_IDLE: Duration = Duration::from_secs(600);

const CLASSIFIERS: [(&str, Option<Retryable>); 5] = [
    ("nonRetryable5XX", Some(Retryable::Never)),
    ("retryableRead5XX", Some(Retryable::Read)),
    ("retryableIdempotent5XX", Some(Retryable::Idempotent)),
    ("retryableAll5XX", Some(Retryable::All)),
    ("allSuccessful", None),
];
const KINDS: [&str; 15] = [
    "io.l5d.http.nonRetryable5XX",
    "io.l5d.http.retryableRead5XX",
    "io.l5d.http.retryableIdempotent5XX",
    "io.l5d.http.retryableAll5XX",
    "io.l5d.http.allSuccessful",
    "io.l5d.h2.nonRetryable5XX",
    "io.l5d.h2.retryableRead5XX",
    "io.l5d.h2.retryableIdempotent5XX",
    "io.l5d.h2.retryableAll5XX",
    "io.l5d.h2.allSuccessful",
    "io.l5d.h2.grpc.default",
    "io.l5d.h2.grpc.compliant",
    "io.l5d.h2.grpc.alwaysRetryable",
    "io.l5d.h2.grpc.neverRetryable",
    "io.l5d.h2.grpc.retryableStatusCodes",
];

pub(super) fn service(cx: &Cx<'_>, router: &mut Fields<'_, '_>) -> (Service, Vec<(ServicePart, Span)>) {
    let default = Service::default();
    let Some(fields) = router.map(cx, "service", "{totalTimeoutMs: 2000}") else { return (default, Vec::new()) };
    match calls::parts(cx, fields, "service") {
        Parts::Global(mut fields) => {
            let (service, _) = read(cx, &mut fields);
            fields.finish(cx);
            (service, Vec::new())
        }
        Parts::Static(entries) => {
            let part = |(prefix, span, mut fields): (_, Span, Fields<'_, '_>)| {
                let (values, written) = read(cx, &mut fields);
                fields.finish(cx);
                (ServicePart { prefix, values, written }, span)
            };
            (default, entries.into_iter().map(part).collect())
        }
        Parts::Refused => (default, Vec::new()),
    }
}

/// What is written over the defaults, and which keys that are.
fn read(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> (Service, Vec<&'static str>) {
    let mut service = Service::default();
    let mut written = Vec::new();
    if let Some(limit) = fields.scalar(cx, "totalTimeoutMs", |text| units::millis(text, 1)) {
        service.total_timeout = Some(limit);
        written.push("totalTimeoutMs");
    }
    let octets = |text: &str| units::whole(text, 0..=BODY_BYTES_MAX, "1048576");
    if let Some(max) = fields.scalar(cx, "bodyBytes", octets) {
        service.body_bytes_max = Some(max);
        written.push("bodyBytes");
    }
    if let Some(mut retries) = fields.map(cx, "retries", "{budget: {percentCanRetry: 0.2}}") {
        if let Some(budget) = client::budget(cx, &mut retries, "budget") {
            service.budget = budget;
            written.push("budget");
        }
        if let Some(backoff) = backoff(cx, &mut retries) {
            service.backoff = backoff;
            written.push("backoff");
        }
        retries.finish(cx);
    }
    if let Some(classifier) = classifier(cx, fields) {
        service.classifier = classifier;
        written.push("responseClassifier");
    }
    if let Some(limit) = fields.scalar(cx, "classificationTimeoutMs", |text| units::millis(text, 0)) {
        service.classification_timeout = limit;
        written.push("classificationTimeoutMs");
    }
    if let Some(mut buffer) = fields.map(cx, "retryBufferSize", "{requestBytes: 16383, responseBytes: 16383}") {
        let mut size = |key| {
            let size = buffer.scalar(cx, key, |text| units::whole(text, 0..=RETRY_BUFFER_BYTES_MAX, "16383"))?;
            written.push(key);
            u32::try_from(size).ok()
        };
        let default = service.retry_buffer;
        service.retry_buffer = (size("requestBytes").unwrap_or(default.0), size("responseBytes").unwrap_or(default.1));
        buffer.finish(cx);
    }
    (service, written)
}

fn backoff(cx: &Cx<'_>, retries: &mut Fields<'_, '_>) -> Option<RetryBackoff> {
    let fields = retries.map(cx, "backoff", "{kind: jittered, minMs: 10, maxMs: 1000}")?;
    let span = fields.span;
    Some(match calls::pause(cx, fields, "minMs: 10, maxMs: 1000")? {
        calls::Pause::Constant(pause) => RetryBackoff::Constant(pause),
        calls::Pause::Jittered(min, max) => {
            if min > max {
                let (min, max) = (min.as_millis(), max.as_millis());
                let message = format!("`minMs` is {min} and `maxMs` is {max}: the least is the larger");
                cx.push(Diagnostic::error("config/wrong-value", span, message).help("exchange them"));
            }
            RetryBackoff::Jittered(min, max)
        }
    })
}

fn classifier(cx: &Cx<'_>, service: &mut Fields<'_, '_>) -> Option<Classifier> {
    let mut fields = service.map(cx, "responseClassifier", "{kind: io.l5d.http.nonRetryable5XX}")?;
    let Some(kind) = super::kind(cx, &mut fields, "responseClassifier", &KINDS, &[], "") else {
        fields.abandon();
        return None;
    };
    let last = kind.rsplit('.').next().unwrap_or_default();
    let classifier = match CLASSIFIERS.iter().find(|(name, _)| *name == last) {
        Some((_, Some(retryable))) => Classifier::Http(*retryable),
        Some((_, None)) => Classifier::AllSuccessful,
        None => {
            let success = codes(cx, &mut fields, "successStatusCodes", None).unwrap_or_else(|| vec![0]);
            Classifier::Grpc { success, retryable: grpc(cx, &mut fields, last) }
        }
    };
    fields.finish(cx);
    Some(classifier)
}

fn grpc(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, kind: &str) -> GrpcRetryable {
    match kind {
        "compliant" => GrpcRetryable::Compliant,
        "alwaysRetryable" => GrpcRetryable::Always,
        "neverRetryable" => GrpcRetryable::Never,
        "retryableStatusCodes" => {
            let help = "write `retryableStatusCodes: [14]`";
            if !fields.has("retryableStatusCodes") {
                fields.require(cx, "retryableStatusCodes", "this classifier", help);
            }
            let none = "write `[14]`, or `kind: io.l5d.h2.grpc.neverRetryable`: nothing is asked for again";
            GrpcRetryable::Codes(codes(cx, fields, "retryableStatusCodes", Some(none)).unwrap_or_default())
        }
        _ => GrpcRetryable::Unavailable,
    }
}

/// `none` says what to write for an empty list, if that means nothing.
fn codes(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, key: &'static str, none: Option<&str>) -> Option<Vec<u32>> {
    let entry = fields.take(cx, key)?;
    let items = cx.list(key, &entry.value, "[14]");
    if items.len() > STATUS_CODES_MAX {
        cx.wrong(key, &entry.value, Wrong::new(format!("at most {STATUS_CODES_MAX} codes"), "[14]"));
        return None;
    }
    if let (Some(none), true) = (none, matches!(&entry.value.value, Value::List(list) if list.is_empty())) {
        let empty = format!("`{key}` lists nothing");
        cx.push(Diagnostic::error("config/wrong-value", entry.value.span, empty).help(none));
    }
    let code = |text: &str| {
        let code = units::whole(text, 0..=GRPC_CODE_MAX, "14")?;
        u32::try_from(code).map_err(|_| Wrong::new("a code", "14"))
    };
    Some(cx.scalars(key, items, code))
}

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
