//! Answers of the API: their bodies end with a line.

use axum::body::Body;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::guard::Refusal;
use crate::dtabs::{NotChanged, Refused, Version};

/// JSON.
pub(super) const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Nothing but a status.
pub(super) fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A sentence for people.
pub(super) fn said(status: StatusCode, why: impl std::fmt::Display) -> Response<Body> {
    let mut response = content(PLAIN, format!("{why}\n"));
    *response.status_mut() = status;
    response
}

/// A body of this type.
pub(super) fn content(kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A document on a line of its own.
pub(super) fn line(value: &impl Serialize) -> String {
    // plain data: it always has a JSON form
    format!("{}\n", serde_json::to_string(value).unwrap_or_default())
}

pub(super) fn with_version(mut response: Response<Body>, version: Version) -> Response<Body> {
    // its letters are all allowed in a header
    if let Ok(value) = HeaderValue::from_str(&version.to_string()) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}

pub(super) fn only(allowed: &'static str) -> Response<Body> {
    let mut response = said(StatusCode::METHOD_NOT_ALLOWED, format_args!("only {allowed} is answered here"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

pub(super) fn refusal(refusal: Refusal) -> Response<Body> {
    let mut response = said(refusal.status, refusal.why);
    if refusal.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"serin\""));
    }
    response
}

/// What a change that was not made is answered with.
pub(super) fn not_changed(error: &NotChanged) -> Response<Body> {
    said(status_of(error), error)
}

fn status_of(error: &NotChanged) -> StatusCode {
    match error {
        NotChanged::Refused(Refused::Exists) => StatusCode::CONFLICT,
        NotChanged::Refused(Refused::Unknown) => StatusCode::NOT_FOUND,
        NotChanged::Refused(Refused::Stale(_)) => StatusCode::PRECONDITION_FAILED,
        NotChanged::Refused(Refused::Name) => StatusCode::BAD_REQUEST,
        NotChanged::Refused(Refused::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        NotChanged::Forbidden(_) => StatusCode::FORBIDDEN,
        NotChanged::Refused(Refused::TooMany | Refused::TooMuch) | NotChanged::Failed(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        NotChanged::Busy => StatusCode::SERVICE_UNAVAILABLE,
    }
}
