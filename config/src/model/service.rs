//! How a router treats logical names: for all of them, and for those under a prefix.

use std::time::Duration;

use super::{RetryBudget, Take};
use crate::dtab::Pattern;

/// For each logical name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The whole request to its response head, retries included; `None`: no limit.
    pub total_timeout: Option<Duration>,
    /// Octets of a request body; `None`: as many as its server takes.
    pub body_bytes_max: Option<u64>,
    /// What retries of failed answers may cost.
    pub budget: RetryBudget,
    /// Between an answer that failed and the next attempt.
    pub backoff: RetryBackoff,
    /// What is a failure, and what of it may be asked for again.
    pub classifier: Classifier,
    /// How long an answer that cannot be classified by its head is held back for a retry.
    pub classification_timeout: Duration,
    /// Octets of a request that are kept for a retry, and of an answer that are held back.
    pub retry_buffer: (u32, u32),
}

impl Default for Service {
    fn default() -> Self {
        Self {
            total_timeout: None,
            body_bytes_max: None,
            budget: RetryBudget::default(),
            backoff: RetryBackoff::default(),
            classifier: Classifier::default(),
            classification_timeout: Duration::from_millis(100),
            retry_buffer: (16_383, 16_383),
        }
    }
}

/// `retries.backoff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryBackoff {
    /// The same each time. Default 0.
    Constant(Duration),
    /// Drawn between the first time and three times the last pause, never above the second time.
    Jittered(Duration, Duration),
}

impl Default for RetryBackoff {
    fn default() -> Self {
        Self::Constant(Duration::ZERO)
    }
}

/// `responseClassifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Classifier {
    /// `io.l5d.http.*` and `io.l5d.h2.*`: by status.
    Http(Retryable),
    /// `io.l5d.http.allSuccessful`: an answer of any kind is a success.
    AllSuccessful,
    /// `io.l5d.h2.grpc.*`: by the status of gRPC calls; of other requests as [`Retryable::Never`] has it.
    Grpc {
        /// Status codes that are successes. Default 0 alone.
        success: Vec<u32>,
        /// Of the others, which may be asked for again.
        retryable: GrpcRetryable,
    },
}

impl Default for Classifier {
    fn default() -> Self {
        Self::Http(Retryable::Never)
    }
}

/// Requests that may be sent again when a status from 500 on came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retryable {
    /// None.
    Never,
    /// GET, HEAD, OPTIONS, TRACE.
    Read,
    /// And PUT, DELETE.
    Idempotent,
    /// And POST, PATCH.
    All,
}

/// Failures of gRPC calls that may be asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcRetryable {
    /// None.
    Never,
    /// All.
    Always,
    /// UNAVAILABLE.
    Unavailable,
    /// UNAVAILABLE; a stream that was refused; HTTP 429, 502, 503 and 504.
    Compliant,
    /// These.
    Codes(Vec<u32>),
}

/// One entry of `service.configs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePart {
    /// Of logical names.
    pub prefix: Pattern,
    /// What is written, over defaults.
    pub values: Service,
    /// Which keys are written.
    pub written: Vec<&'static str>,
}

/// Keys of [`Service`]: as they are in the file, and how one is taken over.
pub const SERVICE_FIELDS: &[(&str, Take<Service>)] = &[
    ("totalTimeoutMs", |to, from| to.total_timeout = from.total_timeout),
    ("bodyBytes", |to, from| to.body_bytes_max = from.body_bytes_max),
    ("budget", |to, from| to.budget = from.budget),
    ("backoff", |to, from| to.backoff = from.backoff),
    ("responseClassifier", |to, from| to.classifier = from.classifier.clone()),
    ("classificationTimeoutMs", |to, from| to.classification_timeout = from.classification_timeout),
    ("requestBytes", |to, from| to.retry_buffer.0 = from.retry_buffer.0),
    ("responseBytes", |to, from| to.retry_buffer.1 = from.retry_buffer.1),
];

impl ServicePart {
    /// What is written here takes the place of what was; all else stays.
    pub fn apply(&self, to: &mut Service) {
        for (key, take) in SERVICE_FIELDS {
            if self.written.contains(key) {
                take(to, &self.values);
            }
        }
    }
}
