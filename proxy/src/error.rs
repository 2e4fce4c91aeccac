//! What can go wrong with a request, and the one place that says what the peer is told of it.

use std::fmt;

use http::StatusCode;

use crate::retry::Replay;

/// Why Serin itself answers a request. A new variant does not compile before someone has picked its status, its gRPC
/// code and its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// No response head within `requestAttemptTimeoutMs`.
    AttemptTimeout,
    /// `l5d-dtab` or `l5d-ctx-dtab` of a trusted peer does not parse.
    BadContext(String),
    /// The request body is larger than the listener allows, as announced or as counted.
    BodyTooLarge,
    /// The request is malformed or can be read in two ways.
    BadRequest(&'static str),
    /// Binding ended in an error: too deep, too wide, an unknown or failing namer.
    BindingFailed(String),
    /// The name was still pending after `bindingTimeoutMs`.
    BindingTimeout,
    /// More `Via` entries than `maxCallDepth`.
    CallDepth,
    /// The downstream connection went away; nobody reads the answer.
    Cancelled,
    /// Every endpoint that was tried refused the connection.
    ConnectRefused,
    /// No endpoint that was tried answered the connection attempt in time.
    ConnectTimeout,
    /// The request body ended early or was malformed.
    DownstreamBody,
    /// The caller owes octets of its body and sends none.
    DownstreamStalled,
    /// The headers are larger than the listener allows.
    HeadersTooLarge,
    /// The name would lead back to one of our own listeners: which.
    Loop(String),
    /// The method is not served by a proxy of this kind.
    MethodRefused,
    /// The name is bound and nobody is there.
    NoEndpoint(String),
    /// A call for an endpoint that speaks no HTTP/2, of a client whose protocol nobody wrote.
    NoHttp2,
    /// No dentry leads anywhere.
    NoRoute(String),
    /// More requests than the listener admits, or no socket left for one.
    Overloaded,
    /// A mistake in Serin itself: the request's task panicked.
    Panicked,
    /// The whole request, retries included, took longer than `totalTimeoutMs` or the deadline the caller sent.
    Timeout,
    /// A source made up too many names.
    TooManyNames,
    /// No identifier and no rule finds a name in the request.
    Unidentified,
    /// The request line is longer than the listener allows.
    UriTooLong,
    /// The origin closed the connection before a response head.
    UpstreamClosed,
    /// The origin sent what no HTTP parser accepts.
    UpstreamProtocol(String),
    /// The origin reset the HTTP/2 stream with this code before a response head.
    UpstreamReset(u32),
    /// The origin takes nothing of the request any more.
    UpstreamStalled,
}

impl ProxyError {
    /// What an HTTP client reads.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadContext(_) | Self::BadRequest(_) | Self::DownstreamBody | Self::Unidentified => {
                StatusCode::BAD_REQUEST
            }
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoRoute(_) => StatusCode::NOT_FOUND,
            Self::MethodRefused => StatusCode::METHOD_NOT_ALLOWED,
            Self::DownstreamStalled => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BindingFailed(_)
            | Self::NoHttp2
            | Self::UpstreamClosed
            | Self::UpstreamProtocol(_)
            | Self::UpstreamReset(_) => StatusCode::BAD_GATEWAY,
            Self::Cancelled | Self::ConnectRefused | Self::NoEndpoint(_) | Self::Overloaded | Self::TooManyNames => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::AttemptTimeout
            | Self::BindingTimeout
            | Self::ConnectTimeout
            | Self::Timeout
            | Self::UpstreamStalled => StatusCode::GATEWAY_TIMEOUT,
            Self::CallDepth | Self::Loop(_) => StatusCode::LOOP_DETECTED,
        }
    }

    /// What a gRPC client reads in `grpc-status`.
    pub fn grpc_status(&self) -> u32 {
        match self {
            Self::Cancelled => 1,
            Self::BadContext(_) => 3,
            Self::AttemptTimeout | Self::DownstreamStalled | Self::Timeout => 4,
            Self::BodyTooLarge | Self::HeadersTooLarge | Self::UriTooLong => 8,
            Self::MethodRefused | Self::NoHttp2 | Self::NoRoute(_) | Self::Unidentified => 12,
            Self::BadRequest(_) | Self::DownstreamBody | Self::Panicked | Self::UpstreamProtocol(_) => 13,
            Self::UpstreamReset(code) => match code {
                0x7 => 14, // REFUSED_STREAM
                0x8 => 1,  // CANCEL
                0xb => 8,  // ENHANCE_YOUR_CALM
                _ => 13,
            },
            Self::BindingFailed(_)
            | Self::BindingTimeout
            | Self::CallDepth
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::Loop(_)
            | Self::NoEndpoint(_)
            | Self::Overloaded
            | Self::TooManyNames
            | Self::UpstreamClosed
            | Self::UpstreamStalled => 14,
        }
    }

    /// The `reason` label, and what `l5d-err` says to peers that are not trusted.
    pub fn label(&self) -> &'static str {
        match self {
            Self::AttemptTimeout => "attempt-timeout",
            Self::BadContext(_) => "bad-context",
            Self::BadRequest(_) => "bad-request",
            Self::BindingFailed(_) => "binding-failed",
            Self::BindingTimeout => "binding-timeout",
            Self::BodyTooLarge => "body-too-large",
            Self::CallDepth => "call-depth",
            Self::Cancelled => "cancelled",
            Self::ConnectRefused => "connect-refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::DownstreamBody => "downstream-body",
            Self::DownstreamStalled => "downstream-stalled",
            Self::HeadersTooLarge => "headers-too-large",
            Self::Loop(_) => "loop",
            Self::MethodRefused => "method-refused",
            Self::NoEndpoint(_) => "no-endpoint",
            Self::NoHttp2 => "no-http2",
            Self::NoRoute(_) => "no-route",
            Self::Overloaded => "overloaded",
            Self::Panicked => "panicked",
            Self::Timeout => "timeout",
            Self::TooManyNames => "too-many-names",
            Self::Unidentified => "unidentified",
            Self::UriTooLong => "uri-too-long",
            Self::UpstreamClosed => "upstream-closed",
            Self::UpstreamProtocol(_) => "upstream-protocol",
            Self::UpstreamReset(_) => "upstream-reset",
            Self::UpstreamStalled => "upstream-stalled",
        }
    }

    /// Did the request surely reach no application, so that whoever sent it may send it again, whatever it asks for.
    pub fn is_unsent(&self) -> bool {
        const REFUSED_STREAM: u32 = 0x7;
        matches!(
            self,
            Self::BindingTimeout
                | Self::ConnectRefused
                | Self::ConnectTimeout
                | Self::NoEndpoint(_)
                | Self::Overloaded
                | Self::TooManyNames
                | Self::UpstreamReset(REFUSED_STREAM)
        )
    }

    /// Is it the caller's doing, so that it says nothing about a service.
    pub fn is_callers(&self) -> bool {
        matches!(
            self,
            Self::BadContext(_)
                | Self::BadRequest(_)
                | Self::BodyTooLarge
                | Self::Cancelled
                | Self::DownstreamBody
                | Self::DownstreamStalled
                | Self::HeadersTooLarge
                | Self::MethodRefused
                | Self::NoHttp2
                | Self::Unidentified
                | Self::UriTooLong
        )
    }

    /// Does it put in doubt where the next request on the same connection begins.
    pub fn is_framing(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::BodyTooLarge
                | Self::DownstreamBody
                | Self::DownstreamStalled
                | Self::HeadersTooLarge
                | Self::UriTooLong
        )
    }

    /// One sentence without names, addresses or upstream details: fit for anybody.
    pub fn public(&self) -> &'static str {
        match self {
            Self::AttemptTimeout | Self::Timeout => "the service did not answer in time",
            Self::BadContext(_) => "the routing override does not parse",
            Self::BadRequest(what) => what,
            Self::BodyTooLarge => "the request body is too large",
            Self::BindingFailed(_) => "the name of the service could not be resolved",
            Self::BindingTimeout => "the name of the service was not resolved in time",
            Self::CallDepth => "too many proxies on the way: is there a loop?",
            Self::Cancelled => "the caller went away",
            Self::ConnectRefused => "the service refused the connection",
            Self::ConnectTimeout => "the service did not accept the connection in time",
            Self::DownstreamBody => "the request body ended early",
            Self::DownstreamStalled => "the request body did not go on",
            Self::HeadersTooLarge => "the request headers are too large",
            Self::Loop(_) => "the name leads back to this proxy",
            Self::MethodRefused => "this method is not proxied",
            Self::NoEndpoint(_) => "the service has no endpoint to send to",
            Self::NoHttp2 => "the service takes no calls: it speaks no HTTP/2",
            Self::NoRoute(_) => "no route for this name",
            Self::Overloaded => "too many requests in flight",
            Self::Panicked => "a mistake in this proxy",
            Self::TooManyNames => "too many new names from this source",
            Self::Unidentified => "the request names no service",
            Self::UriTooLong => "the request target is too long",
            Self::UpstreamClosed => "the service closed the connection before it answered",
            Self::UpstreamProtocol(_) => "the service sent an answer that cannot be read",
            Self::UpstreamReset(_) => "the service reset the stream before it answered",
            Self::UpstreamStalled => "the service took nothing of the request any more",
        }
    }
}

impl fmt::Display for ProxyError {
    /// For logs and trusted peers: the public sentence and what is known beyond it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::BadRequest(what) = self {
            return write!(f, "the request is malformed: {what}");
        }
        f.write_str(self.public())?;
        match self {
            Self::BadContext(detail)
            | Self::BindingFailed(detail)
            | Self::Loop(detail)
            | Self::NoEndpoint(detail)
            | Self::NoRoute(detail)
            | Self::UpstreamProtocol(detail) => write!(f, ": {detail}"),
            Self::UpstreamReset(code) => write!(f, ": code {code}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ProxyError {}

/// Where an attempt went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The caller, or the connection from it.
    Downstream,
    /// Serin's own decision.
    Proxy,
    /// The endpoint, or the connection to it.
    Upstream,
}

/// A failed attempt: who is to blame, may it be replayed, and what the caller would be told.
#[derive(Debug)]
pub struct Fault {
    /// Who is to blame.
    pub origin: Origin,
    /// Whether sending the request again can do no harm.
    pub replay: Replay,
    /// The answer if nothing else is tried.
    pub error: ProxyError,
    /// The connection that was lost with it, and with all that ran on it: [`crate::evidence::lost_id`].
    pub lost: Option<u64>,
    /// The upstream goes, as it says itself on this connection, and has not looked at the request.
    pub goes: Option<u64>,
}

impl Fault {
    /// The endpoint failed.
    pub fn upstream(replay: Replay, error: ProxyError) -> Self {
        Self { origin: Origin::Upstream, replay, error, lost: None, goes: None }
    }

    /// Our own decision, or want.
    pub fn own(error: ProxyError) -> Self {
        Self { origin: Origin::Proxy, replay: Replay::Never, error, lost: None, goes: None }
    }

    /// The caller went away or broke its message.
    pub fn downstream(error: ProxyError) -> Self {
        Self { origin: Origin::Downstream, replay: Replay::Never, error, lost: None, goes: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_anybody_reads_names_no_detail() {
        let error = ProxyError::NoEndpoint("/#/clusters/secret at 10.0.0.1:80".into());
        assert!(!error.public().contains("secret") && error.to_string().contains("secret"));
    }

    #[test]
    fn statuses_follow_the_published_table() {
        let check = |error: ProxyError, status: u16, grpc: u32| {
            assert_eq!((error.status().as_u16(), error.grpc_status()), (status, grpc), "{error:?}");
        };
        check(ProxyError::NoRoute(String::new()), 404, 12);
        check(ProxyError::Unidentified, 400, 12);
        check(ProxyError::NoEndpoint(String::new()), 503, 14);
        check(ProxyError::NoHttp2, 502, 12);
        check(ProxyError::ConnectRefused, 503, 14);
        check(ProxyError::ConnectTimeout, 504, 14);
        check(ProxyError::UpstreamClosed, 502, 14);
        check(ProxyError::UpstreamProtocol(String::new()), 502, 13);
        check(ProxyError::Timeout, 504, 4);
        check(ProxyError::HeadersTooLarge, 431, 8);
        check(ProxyError::BodyTooLarge, 413, 8);
        check(ProxyError::DownstreamStalled, 408, 4);
        check(ProxyError::UpstreamStalled, 504, 14);
        check(ProxyError::Overloaded, 503, 14);
        check(ProxyError::Panicked, 500, 13);
    }
}
