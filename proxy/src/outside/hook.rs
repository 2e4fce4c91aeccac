//! Webhooks, wire-compatible with Flagger's.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Url;
use serde::Serialize;
use serde_json::{Map, Value};
use serin_config::model::Webhook;
use serin_rollout::Answer;

use super::WHY_OCTETS_MAX;
use super::desk::Tuning;
use super::http::{Call, Clients, Failure, Reply, Way};

/// What every hook is told; its own `metadata` goes along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookPayload {
    /// The rollout's name.
    pub name: String,
    /// Label of its router: what stands where Flagger has a namespace.
    pub namespace: String,
    /// In Flagger's words: [`serin_rollout::Phase::flagger_name`].
    pub phase: String,
    /// [`checksum`] of the revision that is judged.
    pub checksum: String,
}

/// What a hook of kind `event` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPayload {
    /// As for every hook.
    pub hook: HookPayload,
    /// The sentence people read.
    pub message: String,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// When, ms since 1970.
    pub timestamp_ms: u64,
}

/// A short name of a revision: FNV-1a of 32 bits over its text, in decimal, each digit written as a letter or digit that
/// makes no word. Flagger hashes the pod template in the same way; here it is the revision as it is printed: the
/// canary's name and, behind `@`, what the file calls its revision.
pub fn checksum(revision: &str) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    for octet in revision.bytes() {
        hash = (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193);
    }
    let digits = hash.to_string();
    digits.bytes().map(|digit| char::from(SAFE_LETTERS[usize::from(digit) % SAFE_LETTERS.len()])).collect()
}

/// Kubernetes' alphabet of safe names: no vowels, nothing that looks like another.
const SAFE_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Asks until it answers or its tries are over: what it said, and why.
pub(super) async fn ask(clients: &Clients, tuning: &Tuning, hook: &Webhook, body: Bytes) -> (Answer, String) {
    let url = match Url::parse(&hook.url) {
        Ok(url) => url,
        Err(error) => return (Answer::Refused, format!("its address is none: {error}")),
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let way = Way { unchecked_tls: hook.unchecked_tls, proxy: None };
    let call = Call { method: Method::POST, url, headers, basic: None, body, timeout: hook.timeout, way };
    let reply = send_with_retries(clients, tuning, &call, hook.retries).await;
    match reply {
        Ok(reply) => (Answer::from_status(reply.status.as_u16()), why(&reply)),
        Err(failure) => (Answer::Refused, one_line(failure.to_string().as_bytes())),
    }
}

/// Sends; again after connection errors, timeouts, 429 and 5xx, with growing waits, or the wait that the peer asks for.
pub(super) async fn send_with_retries(
    clients: &Clients,
    tuning: &Tuning,
    call: &Call,
    retries: u32,
) -> Result<Reply, Failure> {
    let mut wait = tuning.retry_wait_min;
    for _ in 0..retries {
        let asked = match clients.send(call.clone()).await {
            Ok(reply) if !is_worth_a_retry(reply.status) => return Ok(reply),
            Ok(reply) => retry_after(&reply.headers),
            Err(failure @ (Failure::Settings(_) | Failure::Resting(_))) => return Err(failure),
            Err(Failure::Broken(_) | Failure::Timeout(_)) => None,
        };
        tokio::time::sleep(asked.map_or(wait, |asked| asked.max(wait)).min(tuning.retry_wait_max)).await;
        wait = (wait * 2).min(tuning.retry_wait_max);
    }
    clients.send(call.clone()).await
}

fn is_worth_a_retry(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3); the form with a date is not used by services like these.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u32>().ok()?;
    Some(Duration::from_secs(u64::from(seconds)))
}

/// The body of a hook.
pub(super) fn body(payload: &HookPayload, hook: &Webhook) -> Bytes {
    let metadata = hook.metadata.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    encode(payload, metadata)
}

/// The body of an event: three keys of our own in its metadata, which the file cannot override.
pub(super) fn event_body(payload: &EventPayload, hook: &Webhook) -> Bytes {
    let mut metadata: Map<String, Value> =
        hook.metadata.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    metadata.insert("eventMessage".into(), payload.message.as_str().into());
    metadata.insert("eventType".into(), payload.kind.as_str().into());
    metadata.insert("timestamp".into(), payload.timestamp_ms.to_string().into());
    encode(&payload.hook, metadata)
}

fn encode(payload: &HookPayload, metadata: Map<String, Value>) -> Bytes {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(flatten)]
        payload: &'a HookPayload,
        #[serde(skip_serializing_if = "Map::is_empty")]
        metadata: Map<String, Value>,
    }
    // Strings and maps of strings always encode.
    serde_json::to_vec(&Body { payload, metadata }).unwrap_or_default().into()
}

/// Status, and what the peer says about it.
pub(super) fn why(reply: &Reply) -> String {
    let said = one_line(&reply.body);
    let mut text = reply.status.to_string();
    if reply.status.is_redirection() {
        text.push_str(" (redirects are not followed)");
    }
    if !said.is_empty() {
        text.push_str(": ");
        text.push_str(&said);
    }
    one_line(text.as_bytes())
}

/// Text of a peer for logs: one line without control characters, cut at [`WHY_OCTETS_MAX`].
pub(super) fn one_line(text: &[u8]) -> String {
    // Four octets of input at most make three of output (U+FFFD), so this much decides all that is kept.
    let text = String::from_utf8_lossy(&text[..text.len().min(2 * WHY_OCTETS_MAX)]);
    let mut line = String::new();
    for character in text.trim().chars() {
        let space = character.is_control() || character.is_whitespace();
        if space && line.ends_with(' ') {
            continue;
        }
        let character = if space { ' ' } else { character };
        if line.len() + character.len_utf8() > WHY_OCTETS_MAX - '…'.len_utf8() {
            line.push('…');
            break;
        }
        line.push(character);
    }
    line
}
