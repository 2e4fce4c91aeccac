//! What must hold of the fields that go on, whatever came. Tests and a fuzz target call the same checks.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{clean_trailers, has_malformed, is_context, strip_hop_by_hop, strip_response_context};

const HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "transfer-encoding",
    "upgrade",
    "te",
];
/// Of a list of at most so many nominations every one counts.
const ALL_COUNT: usize = 100;
/// What a nomination does not take out.
const RELIED_ON: [&str; 9] = [
    "host",
    "content-length",
    "authorization",
    "cookie",
    "via",
    "trailer",
    "x-forwarded-for",
    "l5d-ctx-dtab",
    "forwarded",
];

/// Any octets as fields: lines of `name:value`, in the cases and repetitions that came, those that are none left out.
pub(crate) fn fields_of(octets: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in octets.split(|&octet| octet == b'\n').take(60) {
        let (name, value) = line.split_at(line.iter().position(|&octet| octet == b':').unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    fields
}

/// What is of one hop ends there, what `Connection` names with it, what we rely on never; the rest stays as it came, and doing
/// it again changes nothing.
pub(crate) fn check_hop(fields: &HeaderMap) {
    let mut once = fields.clone();
    strip_hop_by_hop(&mut once);
    for hop in HOP.iter().filter(|hop| **hop != "te") {
        assert!(!once.contains_key(*hop), "{hop} goes on");
    }
    assert!(once.get_all("te").iter().all(|te| te == "trailers") && once.get_all("te").iter().count() <= 1);
    let nominated: Vec<String> = fields
        .get_all("connection")
        .iter()
        .flat_map(|value| value.as_bytes().split(|&octet| octet == b','))
        .map(|token| String::from_utf8_lossy(token.trim_ascii()).to_ascii_lowercase())
        .collect();
    let all_count = nominated.len() <= ALL_COUNT;
    for name in fields.keys().map(HeaderName::as_str).filter(|name| !HOP.contains(name)) {
        let relied_on = RELIED_ON.contains(&name);
        let named = nominated.iter().any(|nominated| nominated == name);
        let kept: Vec<_> = once.get_all(name).iter().collect();
        if !named || relied_on {
            assert_eq!(kept, fields.get_all(name).iter().collect::<Vec<_>>(), "{name} is not as it came");
        } else if all_count && !is_guarded(name) {
            assert!(kept.is_empty(), "{name} was nominated and goes on");
        }
    }
    let mut twice = once.clone();
    strip_hop_by_hop(&mut twice);
    assert_eq!(once, twice);
}

/// Fields of a kind that is relied on as a whole, in every spelling.
fn is_guarded(name: &str) -> bool {
    let folded = name.replace('_', "-");
    ["x-forwarded-", "x-dtab-", "l5d-"].iter().any(|prefix| folded.starts_with(prefix))
        || ["x-real-ip", "dtab-local"].contains(&folded.as_str())
}

/// No context field is left for a stranger, in whatever spelling, and nothing else is gone.
pub(crate) fn check_context(fields: &HeaderMap) {
    let mut once = fields.clone();
    strip_response_context(&mut once);
    for (name, value) in &once {
        let folded = name.as_str().replace('_', "-");
        assert!(!["l5d-", "x-dtab-"].iter().any(|prefix| folded.starts_with(prefix)), "{name}: {value:?}");
        assert!(folded != "dtab-local", "{name}: {value:?}");
    }
    assert_eq!(once.len(), fields.iter().filter(|(name, _)| !is_context(name)).count());
}

/// Trailers bring no framing, no routing and no context; cleaning them again changes nothing.
pub(crate) fn check_trailers(fields: &HeaderMap) {
    let mut once = fields.clone();
    clean_trailers(&mut once);
    for name in HOP.iter().chain(&RELIED_ON).filter(|name| **name != "via") {
        assert!(!once.contains_key(*name), "{name} in trailers");
    }
    assert!(!once.keys().any(is_context));
    let mut twice = once.clone();
    clean_trailers(&mut twice);
    assert_eq!(once, twice);
    let padded = fields.values().any(|value| value.as_bytes().trim_ascii() != value.as_bytes());
    let quoted = fields.keys().any(|name| name.as_str().contains('"'));
    assert_eq!(has_malformed(fields), padded || quoted);
}
