//! What must hold for the values of context fields, whatever their octets. Tests and a fuzz target call the same checks.

use http::{HeaderMap, HeaderValue};

use super::base64;
use super::deadline::{self, Deadline};
use super::trace::{self, Trace};

/// Octets that decode are as many as the text has room for, and come back from the text that is made of them.
pub(crate) fn check_base64(text: &[u8]) {
    let Some((octets, len)) = base64::decode(text) else { return };
    assert!(len <= base64::OCTETS_MAX && len * 4 <= text.len() * 3, "{len} octets of {} characters", text.len());
    assert!(octets[len..].iter().all(|octet| *octet == 0), "octets beyond the end");
    let mut again = [0; base64::TEXT_MAX];
    let size = base64::encode(&octets[..len], &mut again);
    assert_eq!(base64::decode(&again[..size]), Some((octets, len)));
}

/// A trace that is read is written as a text that reads as the same; its child keeps what is of the whole request.
pub(crate) fn check_trace(text: &[u8]) {
    let Some(trace) = Trace::decode(text) else { return };
    let mut again = [0; base64::TEXT_MAX];
    let size = trace.encode(&mut again);
    assert_eq!(Trace::decode(&again[..size]), Some(trace));
    let child = trace.child(7).sampled_at(0.5, 3);
    assert_eq!((child.id, child.id_high, child.parent, child.span), (trace.id, trace.id_high, trace.span, 7));
    assert!(child.sampled().is_some(), "sampling is decided");
    assert!(trace.sampled().is_none() || child.sampled() == trace.sampled(), "a decision is kept");
}

/// A deadline that is read is written as a text that reads as the same.
pub(crate) fn check_deadline(text: &[u8]) {
    let Some(deadline) = Deadline::parse(text) else { return };
    let mut again = [0; deadline::TEXT_MAX];
    let size = deadline.write(&mut again);
    assert_eq!(Deadline::parse(&again[..size]), Some(deadline));
}

/// Lines are values of every context field there is, in turn: each is read or passed over, and what is read is in its bounds.
pub(crate) fn check_fields(octets: &[u8]) {
    let mut headers = HeaderMap::new();
    for (line, name) in octets.split(|octet| *octet == b'\n').zip(NAMES.iter().cycle()).take(40) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(*name, value);
        }
    }
    if let Some(rate) = trace::rate(&headers) {
        assert!((0.0..=1.0).contains(&rate), "{rate}");
    }
    if let Some(trace) = Trace::from_b3(&headers) {
        let mut text = [0; base64::TEXT_MAX];
        let size = trace.encode(&mut text);
        assert_eq!(Trace::decode(&text[..size]), Some(trace));
    }
    let values = headers.get_all(deadline::CTX_DEADLINE).iter().filter_map(|value| Deadline::parse(value.as_bytes()));
    let earliest = values.map(|deadline| deadline.until_ns).min();
    assert_eq!(Deadline::read(&headers).map(|deadline| deadline.until_ns), earliest, "no deadline is ever made longer");
}

const NAMES: [&str; 7] = [
    "l5d-sample",
    "l5d-ctx-deadline",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
];
