//! Diagnostic `TRACE`: the answer says where the request went and why, as Linkerd 1 does it.
//!
//! A trusted peer asks by `l5d-add-context: true`. Everything here is cold: other methods never get this far.

use std::fmt::Write;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HOST,
    MAX_FORWARDS, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderValue, Response, StatusCode};
use serin_config::dtab::{LeafState, Path};

use crate::admin::explanation::{self, Ask, Explanation, Told, World};
use crate::body::{Body, Piece};
use crate::clock;
use crate::endpoints::Addresses;
use crate::error::ProxyError;
use crate::exchange::Exchange;
use crate::inflight::Handle;
use crate::local::Local;
use crate::resolve::bound_id;
use crate::worker::Worker;

/// Asks for a diagnosis.
const ADD_CONTEXT: &str = "l5d-add-context";
/// Octets of an upstream's answer that are kept in front of the diagnosis; a longer one, or one of unknown length, is
/// replaced.
const KEPT_BYTES_MAX: u64 = 65_536;
/// So long we wait for them.
const KEPT_WAIT: Duration = Duration::from_secs(1);
/// Octets of a diagnosis.
const BLOCK_BYTES_MAX: usize = 65_536;
/// Addresses that it names.
const ADDRESSES_MAX: usize = 100;
/// Levels of indentation that still read well.
const INDENT_MAX: usize = 10;

/// A request as it came, with all that its diagnosis needs.
pub struct Question {
    ask: Ask,
    local: Rc<Local>,
    router: usize,
    started_us: u64,
    handle: Option<Handle>,
    /// This hop is the last that may see it.
    last: bool,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("router", &self.router).field("last", &self.last).finish_non_exhaustive()
    }
}

impl Question {
    /// Of a `TRACE` that nothing was taken out of yet. `None`: it asks for no diagnosis.
    pub fn of(exchange: &Exchange) -> Option<Self> {
        let headers = &exchange.parts.headers;
        let asks = headers.get(ADD_CONTEXT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        if !asks || exchange.grpc {
            return None;
        }
        let mut headers = headers.clone();
        if let Some(Ok(host)) = exchange.host().map(HeaderValue::from_bytes) {
            headers.insert(HOST, host);
        }
        let zeros = |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(|&octet| octet == b'0');
        let last = headers.get(MAX_FORWARDS).is_some_and(zeros);
        let ask = Ask {
            method: exchange.parts.method.clone(),
            version: exchange.parts.version,
            uri_path: exchange.parts.uri.path().to_owned(),
            query: exchange.parts.uri.query().map(ToOwned::to_owned),
            headers,
            source: exchange.peer().ip(),
            ..Ask::default()
        };
        let (local, router) = (Rc::clone(&exchange.local), exchange.server().router);
        Some(Self { ask, local, router, started_us: exchange.started_us, handle: exchange.handle, last })
    }

    /// Must it be answered without being sent on.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// The answer of the last hop that may see the request (RFC 9110 section 7.6.2).
    pub fn answer(&self, worker: &Worker) -> Response<Body> {
        let mut response = Response::new(Body::default());
        replace(&mut response, self.block(worker).into());
        response
    }

    /// Puts the diagnosis behind what the upstream answers, or in its place.
    ///
    /// # Errors
    /// Those of the request itself.
    pub async fn told<F>(self, worker: Rc<Worker>, answer: F) -> Result<Response<Body>, ProxyError>
    where
        F: Future<Output = Result<Response<Body>, ProxyError>>,
    {
        let mut response = answer.await?;
        if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(response);
        }
        let block = self.block(&worker);
        match kept(&mut response).await {
            Some(mut text) => {
                text.extend_from_slice(block.as_bytes());
                put(&mut response, text.into());
            }
            None => replace(&mut response, block.into()),
        }
        Ok(response)
    }

    fn block(&self, worker: &Worker) -> String {
        let structure = &self.local.snapshot.structure;
        let state = |id: &Path| match worker.endpoints.find(id) {
            Some(cluster) => explanation::state_of(&cluster, worker.endpoints.is_asked(id)),
            None if worker.endpoints.is_asked(id) => LeafState::Pending,
            None => LeafState::Usable,
        };
        let told =
            |question: &Path| worker.endpoints.find(question).map_or(Told::Pending, |cluster| Told::of(&cluster));
        let weights = &self.local.snapshot.weights;
        let world = World { structure, weights, router: self.router, state: &state, told: &told };
        let explained = explanation::explain(&world, &self.ask);
        let label = &structure.routers[self.router].label;
        let elapsed_us = clock::now_us().saturating_sub(self.started_us);
        let mut text = String::new();
        // writing to a string cannot fail
        let _ = writeln!(text, "\n--- Router: {label} ---\nrequest duration: {} ms", elapsed_us / 1000);
        match explained {
            Ok(explanation) => self.tell(&mut text, worker, &explanation),
            Err(why) => drop(writeln!(text, "not resolved: {why}")),
        }
        cut(text)
    }

    fn tell(&self, text: &mut String, worker: &Worker, explanation: &Explanation) {
        let went = self.handle.and_then(|handle| worker.in_flight.endpoint(handle));
        // by chance it may have gone elsewhere than such requests usually do
        let cluster = went.as_ref().and_then(|endpoint| worker.cluster_of(endpoint));
        let id = cluster.map(|cluster| cluster.shared.id.clone());
        let client = id.as_ref().and_then(bound_id).map(|id| id.to_string()).or_else(|| explanation.goes_to.clone());
        let _ = writeln!(text, "service name: {}", explanation.path);
        let _ = writeln!(text, "client name: {}", client.as_deref().unwrap_or("by chance, see below"));
        let looked_up = id.map(|id| id.to_string()).or(client);
        let _ = writeln!(text, "addresses: [{}]", addresses(worker, looked_up.as_deref()));
        match went {
            Some(endpoint) => drop(writeln!(text, "selected address: {}", endpoint.address)),
            None => text.push_str("selected address: none\n"),
        }
        text.push_str("dtab resolution:\n");
        for step in &explanation.steps {
            let indent = "  ".repeat(usize::from(step.depth).min(INDENT_MAX) + 1);
            let _ = match &step.dentry {
                Some(dentry) => writeln!(text, "{indent}{} ({} => {})", step.path, dentry.prefix, dentry.dst),
                None => writeln!(text, "{indent}{} ({})", step.path, step.result),
            };
            if text.len() > BLOCK_BYTES_MAX {
                return;
            }
        }
        for (end, share) in explanation.traffic.iter().take(ADDRESSES_MAX) {
            let _ = writeln!(text, "  {:.4} % to {end}", share * 100.0);
        }
    }
}

fn addresses(worker: &Worker, client: Option<&str>) -> String {
    let Some(cluster) = client.and_then(|id| worker.endpoints.find(&Path::parse(id).ok()?)) else {
        return String::new();
    };
    let set = cluster.addresses().load();
    let Addresses::Bound(all) = &set.addresses else { return String::new() };
    let mut texts: Vec<String> = all.iter().take(ADDRESSES_MAX).map(|address| address.socket.to_string()).collect();
    if all.len() > ADDRESSES_MAX {
        texts.push(format!("and {} more", all.len() - ADDRESSES_MAX));
    }
    texts.join(", ")
}

/// At most [`BLOCK_BYTES_MAX`] and a line that says so.
fn cut(mut text: String) -> String {
    if text.len() > BLOCK_BYTES_MAX {
        text.truncate(text.floor_char_boundary(BLOCK_BYTES_MAX));
        text.push_str("…\n");
    }
    text
}

/// The text of an upstream's answer, if it is whole, plain and short. Otherwise nothing more is read of it.
async fn kept(response: &mut Response<Body>) -> Option<Vec<u8>> {
    let short = response.body().length().is_some_and(|length| length <= KEPT_BYTES_MAX);
    if !short || response.headers().contains_key(CONTENT_ENCODING) {
        return None;
    }
    let body = response.body_mut();
    let read = async {
        let mut text = Vec::new();
        while let Some(piece) = poll_fn(|cx| body.poll_piece(cx)).await {
            match piece {
                Ok(Piece::Data(data)) => text.extend_from_slice(&data),
                Ok(Piece::Trailers(_)) => return Some(text),
                Err(_) => return None,
            }
        }
        Some(text)
    };
    tokio::time::timeout(KEPT_WAIT, read).await.ok().flatten()
}

/// A body of ours: what was said of the one before it holds no more.
fn put(response: &mut Response<Body>, text: Bytes) {
    let headers = response.headers_mut();
    for name in [ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, ETAG, TRAILER, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *response.body_mut() = Body::full(text);
}

fn replace(response: &mut Response<Body>, text: Bytes) {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    put(response, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_diagnosis_is_cut_between_two_characters() {
        assert_eq!(cut("x".repeat(BLOCK_BYTES_MAX)).len(), BLOCK_BYTES_MAX);
        let long = cut(format!("{}\u{e4}", "x".repeat(BLOCK_BYTES_MAX - 1)));
        assert_eq!(long, format!("{}…\n", "x".repeat(BLOCK_BYTES_MAX - 1)));
    }

    #[tokio::test]
    async fn only_short_plain_answers_are_kept() {
        let check = async |octets: u64, coding: Option<&'static str>, whole: bool| {
            let mut response = Response::new(Body::full(vec![b'x'; octets as usize]));
            if let Some(coding) = coding {
                response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
            }
            let kept = kept(&mut response).await;
            assert_eq!(kept.map(|text| text.len() as u64), whole.then_some(octets), "{octets} {coding:?}");
        };
        check(0, None, true).await;
        check(KEPT_BYTES_MAX, None, true).await;
        check(KEPT_BYTES_MAX + 1, None, false).await;
        check(10, Some("gzip"), false).await;
    }
}
