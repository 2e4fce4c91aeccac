//! Errors as programs and people read them: `{"error": …, "hint": …}`.

use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

/// What went wrong, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) error: String,
    pub(super) hint: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: hint.into() }
    }
}

impl axum::response::IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        response(self.status, &self.error, &self.hint)
    }
}

/// The answer. An empty hint is left out.
pub(super) fn response(status: StatusCode, error: &str, hint: &str) -> Response<Body> {
    let body = if hint.is_empty() {
        serde_json::json!({"error": error})
    } else {
        serde_json::json!({"error": error, "hint": hint})
    };
    let mut response = Response::new(Body::from(format!("{body}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
