//! Fields written behind the caller's own.

use http::header::{FORWARDED, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use crate::conn::Link;
use crate::context::{self, DST_CLIENT, DST_RESIDUAL, DST_SERVICE, Destination, Ink, Travel};
use crate::exchange::Exchange;
use crate::layers::hygiene::via;
use crate::layers::route::CTX_DTAB;
use crate::worker::Worker;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const HTTP: HeaderValue = HeaderValue::from_static("http");

/// At most so many fields: Via, three of X-Forwarded, Forwarded, the override, three of the destination, what travels.
pub(super) const FIELDS_MAX: usize = 9 + context::FIELDS_MAX;

/// What is added, still in the form that costs least.
#[derive(Clone, Copy)]
pub(super) struct Extra<'a> {
    /// The peer and the host it asked for: edge listeners only.
    forwarded: Option<(&'a Link, &'a [u8])>,
    /// The override that travels on.
    context: Option<&'a HeaderValue>,
    /// Absent where it was appended to the caller's list.
    via: Option<Version>,
    travel: &'a Travel,
    /// The name of the field that says when the request came.
    stamp: Option<&'a str>,
}

/// The fields of one head, as bytes.
pub(super) struct Fields<'a> {
    list: [(&'a str, &'a [u8]); FIELDS_MAX],
    len: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn as_slice(&self) -> &[(&'a str, &'a [u8])] {
        &self.list[..self.len]
    }

    fn push(&mut self, name: &'a str, value: &'a [u8]) {
        debug_assert!(self.len < FIELDS_MAX, "one more field than was counted");
        if let Some(place) = self.list.get_mut(self.len) {
            *place = (name, value);
            self.len += 1;
        }
    }
}

impl<'a> Extra<'a> {
    pub(super) fn new(exchange: &'a Exchange, context: Option<&'a HeaderValue>, travel: &'a Travel) -> Self {
        let forwarded = exchange.forwarded.then(|| (&*exchange.link, exchange.host().unwrap_or_default()));
        let via = (!exchange.parts.headers.contains_key(VIA)).then_some(exchange.parts.version);
        let stamp = exchange.server().server.timestamp_header.as_deref();
        Self { forwarded, context, via, travel, stamp }
    }

    /// The texts of what travels.
    pub(super) fn ink(&self) -> Ink {
        Ink::new(self.travel)
    }

    /// As bytes for HTTP/1.1.
    pub(super) fn fields<'s>(&self, to: &'s Destination, ink: &'s Ink) -> Fields<'s>
    where
        'a: 's,
    {
        let mut fields = Fields { list: [("", b"".as_slice()); FIELDS_MAX], len: 0 };
        if let Some(version) = self.via {
            let entry: &[u8] = match version {
                Version::HTTP_2 => b"2 serin",
                Version::HTTP_10 => b"1.0 serin",
                _ => b"1.1 serin",
            };
            fields.push("via", entry);
        }
        if let Some((link, host)) = self.forwarded {
            fields.push("x-forwarded-for", link.peer_text.as_bytes());
            fields.push("x-forwarded-proto", b"http");
            // HTTP/1.0 may have none
            if !host.is_empty() {
                fields.push("x-forwarded-host", host);
            }
        }
        if let Some(forwarded) = &self.travel.forwarded {
            fields.push("forwarded", forwarded.as_bytes());
        }
        if let Some(context) = self.context {
            fields.push("l5d-ctx-dtab", context.as_bytes());
        }
        fields.push("l5d-dst-service", to.service.as_bytes());
        fields.push("l5d-dst-client", to.client.as_bytes());
        if let Some(residual) = &to.residual {
            fields.push("l5d-dst-residual", residual.as_bytes());
        }
        ink.each(self.travel, self.stamp, &mut |name, value| fields.push(name.as_str(), value));
        fields
    }

    /// Into the head of an HTTP/2 request, which has room for [`FIELDS_MAX`]. Values that are other ones for each request
    /// are kept out of the compression table of the connection, where they would take the place of better ones; `named`:
    /// these once are not, so that their names get into it.
    pub(super) fn append_to(&self, headers: &mut HeaderMap, to: &Destination, named: bool, worker: &Worker) {
        if let Some(version) = self.via {
            headers.append(VIA, via(version));
        }
        if let Some((link, host)) = self.forwarded {
            headers.append(FOR, link.peer_text.clone());
            headers.append(PROTO, HTTP);
            if let Some(host) = link.host_value(host).filter(|host| !host.is_empty()) {
                headers.append(HOST, host);
            }
        }
        if let Some(forwarded) = &self.travel.forwarded {
            headers.append(FORWARDED, forwarded.clone());
        }
        if let Some(context) = self.context {
            headers.append(CTX_DTAB, context.clone());
        }
        headers.append(DST_SERVICE, to.service.clone());
        headers.append(DST_CLIENT, to.client.clone());
        if let Some(residual) = &to.residual {
            headers.append(DST_RESIDUAL, residual.clone());
        }
        let ink = self.ink();
        ink.each(self.travel, self.stamp, &mut |name, value| {
            if let (Some(name), Ok(mut value)) = (name.header(), HeaderValue::from_maybe_shared(worker.ink(value))) {
                value.set_sensitive(!named);
                headers.append(name, value);
            }
        });
    }
}
