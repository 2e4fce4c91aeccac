//! How a request counts: served, failed, or saying nothing about the upstream.
//!
//! | what happened | class |
//! |---|---|
//! | 5xx; gRPC UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS; a gRPC stream that ends without a status | Failure |
//! | refused, reset, timed out, cut short, an answer that Serin made because the upstream gave none | Failure |
//! | the downstream went away, or broke its own message, before the upstream was done | Ignored |
//! | all else, 4xx included: the upstream did its work | Success |

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serin_config::model::{Classifier, GrpcRetryable, Retryable};
use serin_metrics::Class;

use crate::grpc;

/// Says to a proxy in front how an answer counts: from 0, a failure, to 1.
pub const SUCCESS_CLASS: HeaderName = HeaderName::from_static("l5d-success-class");
/// `true`: the request surely was not processed.
pub const RETRYABLE: HeaderName = HeaderName::from_static("l5d-retryable");
/// A Finagle server, which a Linkerd 1 is, refuses a request that it has not touched.
const NACK: HeaderName = HeaderName::from_static("finagle-http-nack");

/// Does an answer say of itself that its request was not touched: `l5d-retryable: true`, or what Finagle sends again, a
/// 503 with `finagle-http-nack` or `Retry-After: 0`.
pub fn says_unsent(status: StatusCode, headers: &HeaderMap) -> bool {
    let says = |name, word: &str| headers.get(name).is_some_and(|value| value == word);
    let nack = || headers.contains_key(NACK) || says(RETRY_AFTER, "0");
    status.is_server_error() && (says(RETRYABLE, "true") || (status == StatusCode::SERVICE_UNAVAILABLE && nack()))
}

/// The value of [`SUCCESS_CLASS`].
pub const fn success_class(class: Class) -> HeaderValue {
    match class {
        Class::Success | Class::Ignored => HeaderValue::from_static("1.0"),
        Class::Failure => HeaderValue::from_static("0.0"),
    }
}

/// Who ended an exchange before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutBy {
    /// The caller: cancelled, closed, reset, or sent what cannot be read.
    Downstream,
    /// Serin: a timeout, no endpoint, no connection.
    Proxy,
    /// The endpoint: refused, reset, closed early, or sent what cannot be read.
    Upstream,
}

/// The class of a response that came to its end.
///
/// `grpc` says whether the request was a gRPC call; then `grpc_status` is what the trailers, or the head of an answer
/// without a body, said ([`grpc::status_of`]). For other requests it is not looked at.
pub fn of_response(status: StatusCode, grpc: bool, grpc_status: Option<u32>) -> Class {
    if status.is_server_error() {
        return Class::Failure;
    }
    let failed = match (grpc, grpc_status) {
        (false, _) => false,
        (true, Some(code)) => is_failure(code),
        (true, None) if status == StatusCode::OK => true,
        (true, None) => is_failure(grpc::code_of_http(status)),
    };
    if failed { Class::Failure } else { Class::Success }
}

/// The class of a response that came to its end, as the service's classifier has it. `None`: the default of
/// [`of_response`].
pub fn by(classifier: Option<&Classifier>, status: StatusCode, grpc: bool, grpc_status: Option<u32>) -> Class {
    match classifier {
        Some(Classifier::AllSuccessful) => Class::Success,
        Some(Classifier::Grpc { success, .. }) if grpc => match grpc_status {
            Some(code) if success.contains(&code) => Class::Success,
            _ => Class::Failure,
        },
        _ => of_response(status, grpc, grpc_status),
    }
}

/// What is known of an answer that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// Of the request.
    pub method: &'a Method,
    /// Is it a gRPC call.
    pub grpc: bool,
    /// Of the answer.
    pub status: StatusCode,
    /// Of a gRPC call, if it has come.
    pub grpc_status: Option<u32>,
}

/// May this failure be asked for again.
pub fn is_retryable(classifier: &Classifier, failed: &Failed<'_>) -> bool {
    match classifier {
        Classifier::AllSuccessful => false,
        Classifier::Http(retryable) => failed.status.is_server_error() && may_repeat(*retryable, failed.method),
        Classifier::Grpc { retryable, .. } if failed.grpc => match (retryable, failed.grpc_status) {
            (GrpcRetryable::Never, _) | (_, None) if *retryable != GrpcRetryable::Compliant => false,
            (GrpcRetryable::Always, Some(_)) => true,
            (GrpcRetryable::Unavailable, code) => code == Some(grpc::UNAVAILABLE),
            (GrpcRetryable::Codes(codes), Some(code)) => codes.contains(&code),
            (GrpcRetryable::Compliant, Some(code)) => code == grpc::UNAVAILABLE,
            (GrpcRetryable::Compliant, None) => matches!(failed.status.as_u16(), 429 | 502..=504),
            _ => false,
        },
        Classifier::Grpc { .. } => false,
    }
}

/// Can any answer to this request be asked for again, so that it is worth being held back until it is known.
pub fn may_be_retryable(classifier: &Classifier, grpc: bool) -> bool {
    match classifier {
        Classifier::AllSuccessful => false,
        Classifier::Http(retryable) => *retryable != Retryable::Never,
        Classifier::Grpc { retryable, .. } => grpc && *retryable != GrpcRetryable::Never,
    }
}

/// Can any answer to this request be a reason to send it again, so that it is worth being kept.
pub fn may_be_sent_again(classifier: &Classifier, method: &Method, grpc: bool) -> bool {
    match classifier {
        Classifier::Http(retryable) => may_repeat(*retryable, method),
        Classifier::AllSuccessful | Classifier::Grpc { .. } => may_be_retryable(classifier, grpc),
    }
}

fn may_repeat(retryable: Retryable, method: &Method) -> bool {
    let read = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method);
    let idempotent = || [Method::PUT, Method::DELETE].contains(method);
    let all = || [Method::POST, Method::PATCH].contains(method);
    match retryable {
        Retryable::Never => false,
        Retryable::Read => read,
        Retryable::Idempotent => read || idempotent(),
        Retryable::All => read || idempotent() || all(),
    }
}

/// The class of an exchange that did not come to its end.
pub const fn of_cut(by: CutBy) -> Class {
    match by {
        CutBy::Downstream => Class::Ignored,
        CutBy::Proxy | CutBy::Upstream => Class::Failure,
    }
}

/// Whether a gRPC status is the service's failure rather than an answer to what was asked. A code that gRPC does not
/// define is UNKNOWN to every client, so it is one here.
pub const fn is_failure(grpc_status: u32) -> bool {
    matches!(
        grpc_status,
        grpc::UNKNOWN | grpc::DEADLINE_EXCEEDED | grpc::INTERNAL | grpc::UNAVAILABLE | grpc::DATA_LOSS
    ) || grpc_status > grpc::UNAUTHENTICATED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_http(status: u16, class: Class) {
        assert_eq!(of_response(StatusCode::from_u16(status).unwrap(), false, None), class, "{status}");
    }

    #[track_caller]
    fn check_grpc(status: u16, grpc_status: Option<u32>, class: Class) {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(of_response(status, true, grpc_status), class, "{status} {grpc_status:?}");
    }

    #[test]
    fn only_5xx_fails_without_grpc() {
        for status in [200, 204, 301, 304, 400, 404, 429, 499] {
            check_http(status, Class::Success);
        }
        for status in [500, 502, 503, 504, 599] {
            check_http(status, Class::Failure);
        }
    }

    #[test]
    fn grpc_status_of_a_plain_response_is_not_looked_at() {
        assert_eq!(of_response(StatusCode::OK, false, Some(grpc::INTERNAL)), Class::Success);
    }

    #[test]
    fn five_grpc_codes_fail() {
        for code in 0..=16 {
            let failure = [2, 4, 13, 14, 15].contains(&code);
            check_grpc(200, Some(code), if failure { Class::Failure } else { Class::Success });
        }
    }

    #[test]
    fn undefined_grpc_codes_fail_as_unknown() {
        check_grpc(200, Some(17), Class::Failure);
        check_grpc(200, Some(u32::MAX), Class::Failure);
    }

    #[test]
    fn grpc_stream_without_a_status_fails() {
        check_grpc(200, None, Class::Failure);
    }

    #[test]
    fn grpc_answered_by_plain_http_counts_as_the_code_a_client_sees() {
        check_grpc(404, None, Class::Success); // UNIMPLEMENTED
        check_grpc(401, None, Class::Success); // UNAUTHENTICATED
        check_grpc(400, None, Class::Failure); // INTERNAL
        check_grpc(429, None, Class::Failure); // UNAVAILABLE
        check_grpc(302, None, Class::Failure); // UNKNOWN
        check_grpc(503, Some(grpc::OK), Class::Failure);
    }

    #[test]
    fn a_cancelling_downstream_says_nothing_about_the_upstream() {
        assert_eq!(of_cut(CutBy::Downstream), Class::Ignored);
        assert_eq!(of_cut(CutBy::Proxy), Class::Failure);
        assert_eq!(of_cut(CutBy::Upstream), Class::Failure);
    }

    #[track_caller]
    fn check_retry(retryable: Retryable, methods: &[&str]) {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "CONNECT", "PURGE"] {
            for (status, failure) in [(200, false), (404, false), (500, true), (503, true)] {
                let (token, status) = (method.parse().unwrap(), StatusCode::from_u16(status).unwrap());
                let failed = Failed { method: &token, grpc: false, status, grpc_status: None };
                let wanted = failure && methods.contains(&method);
                assert_eq!(
                    is_retryable(&Classifier::Http(retryable), &failed),
                    wanted,
                    "{retryable:?} {method} {status}"
                );
                assert!(!is_retryable(&Classifier::AllSuccessful, &failed));
            }
        }
    }

    #[test]
    fn methods_that_may_be_repeated_grow_by_kind() {
        let (read, all) = (["GET", "HEAD", "OPTIONS", "TRACE"], ["PUT", "DELETE", "POST", "PATCH"]);
        check_retry(Retryable::Never, &[]);
        check_retry(Retryable::Read, &read);
        check_retry(Retryable::Idempotent, &[&read[..], &all[..2]].concat());
        check_retry(Retryable::All, &[&read[..], &all[..]].concat());
    }

    #[track_caller]
    fn check_codes(retryable: GrpcRetryable, codes: &[u32], statuses: &[u16]) {
        let classifier = Classifier::Grpc { success: vec![0, 5], retryable };
        let method = Method::POST;
        for code in 1..=17 {
            let failed = Failed { method: &method, grpc: true, status: StatusCode::OK, grpc_status: Some(code) };
            assert_eq!(is_retryable(&classifier, &failed), codes.contains(&code), "{classifier:?}: {code}");
        }
        for status in [200, 400, 429, 500, 502, 503, 504] {
            let status = StatusCode::from_u16(status).unwrap();
            let failed = Failed { method: &method, grpc: true, status, grpc_status: None };
            assert_eq!(
                is_retryable(&classifier, &failed),
                statuses.contains(&status.as_u16()),
                "{classifier:?}: {status}"
            );
            let plain = Failed { grpc: false, ..failed };
            assert!(!is_retryable(&classifier, &plain), "no call");
        }
    }

    #[test]
    fn grpc_kinds_name_what_may_be_asked_for_again() {
        check_codes(GrpcRetryable::Never, &[], &[]);
        check_codes(GrpcRetryable::Unavailable, &[14], &[]);
        check_codes(GrpcRetryable::Compliant, &[14], &[429, 502, 503, 504]);
        check_codes(GrpcRetryable::Codes(vec![4, 8]), &[4, 8], &[]);
        check_codes(GrpcRetryable::Always, &(1..=17).collect::<Vec<_>>(), &[]);
    }

    #[test]
    fn a_classifier_says_what_is_a_success() {
        let codes = Classifier::Grpc { success: vec![0, 5], retryable: GrpcRetryable::Never };
        for (code, class) in [(Some(0), Class::Success), (Some(5), Class::Success), (Some(3), Class::Failure)] {
            assert_eq!(by(Some(&codes), StatusCode::OK, true, code), class, "{code:?}");
        }
        assert_eq!(by(Some(&codes), StatusCode::OK, true, None), Class::Failure, "no status at all");
        assert_eq!(by(Some(&codes), StatusCode::OK, false, None), Class::Success, "no call");
        assert_eq!(by(Some(&Classifier::AllSuccessful), StatusCode::BAD_GATEWAY, false, None), Class::Success);
        assert_eq!(by(None, StatusCode::BAD_GATEWAY, false, None), Class::Failure);
    }
}
