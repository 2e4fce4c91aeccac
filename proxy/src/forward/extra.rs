//! Fields written behind the caller's own.

use http::header::VIA;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use crate::conn::Link;
use crate::exchange::Exchange;
use crate::layers::hygiene::via;
use crate::layers::route::CTX_DTAB;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const HTTP: HeaderValue = HeaderValue::from_static("http");

/// At most so many fields.
pub(super) const FIELDS_MAX: usize = 5;

/// What is added, still in the form that costs least.
#[derive(Clone, Copy)]
pub(super) struct Extra<'a> {
    /// The peer and the host it asked for: edge listeners only.
    forwarded: Option<(&'a Link, &'a [u8])>,
    /// The override that travels on.
    context: Option<&'a HeaderValue>,
    /// Absent where it was appended to the caller's list.
    via: Option<Version>,
}

impl<'a> Extra<'a> {
    pub(super) fn new(exchange: &'a Exchange, context: Option<&'a HeaderValue>) -> Self {
        let forwarded = exchange.forwarded.then(|| (&*exchange.link, exchange.host().unwrap_or_default()));
        let via = (!exchange.parts.headers.contains_key(VIA)).then_some(exchange.parts.version);
        Self { forwarded, context, via }
    }

    /// As bytes for HTTP/1.1. Unused places have an empty name.
    pub(super) fn fields(&self) -> ([(&'static str, &'a [u8]); FIELDS_MAX], usize) {
        let mut fields = [("", b"".as_slice()); FIELDS_MAX];
        let mut len = 0;
        let mut push = |field| {
            fields[len] = field;
            len += 1;
        };
        if let Some(version) = self.via {
            let entry: &[u8] = match version {
                Version::HTTP_2 => b"2 serin",
                Version::HTTP_10 => b"1.0 serin",
                _ => b"1.1 serin",
            };
            push(("via", entry));
        }
        if let Some((link, host)) = self.forwarded {
            push(("x-forwarded-for", link.peer_text.as_bytes()));
            push(("x-forwarded-proto", b"http"));
            push(("x-forwarded-host", host));
        }
        if let Some(context) = self.context {
            push(("l5d-ctx-dtab", context.as_bytes()));
        }
        (fields, len)
    }

    /// Into the head of an HTTP/2 request.
    pub(super) fn append_to(&self, headers: &mut HeaderMap) {
        if let Some(version) = self.via {
            headers.append(VIA, via(version));
        }
        if let Some((link, host)) = self.forwarded {
            headers.append(FOR, link.peer_text.clone());
            headers.append(PROTO, HTTP);
            if let Some(host) = link.host_value(host) {
                headers.append(HOST, host);
            }
        }
        if let Some(context) = self.context {
            headers.append(CTX_DTAB, context.clone());
        }
    }
}
