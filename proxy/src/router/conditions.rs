//! Conditions on fields and on parameters of the query.

use std::borrow::Cow;

use http::header::COOKIE;
use serin_config::model::TextMatch;

use super::Parts;

/// A field of several lines is one value: joined by commas (RFC 9110 section 5.3), but `Cookie` by semicolons, because
/// HTTP/2 sends each cookie in a line of its own (RFC 9113 section 8.2.3). `host` is whatever says the host.
pub(crate) fn has_field(parts: &Parts<'_>, name: &str, wanted: &TextMatch) -> bool {
    if name == "host" {
        return parts.host.is_some_and(|host| wanted.matches(host));
    }
    let mut lines = parts.headers.get_all(name).iter().map(|line| line.as_bytes());
    let Some(first) = lines.next() else { return false };
    let mut value = Cow::Borrowed(first);
    for line in lines {
        let between: &[u8] = if name == COOKIE.as_str() { b"; " } else { b", " };
        let value = value.to_mut();
        value.extend_from_slice(between);
        value.extend_from_slice(line);
    }
    wanted.matches(&value)
}

/// The first parameter of this name, both with `%` and `+` undone; one without `=` is empty.
pub(crate) fn has_parameter(parts: &Parts<'_>, name: &str, wanted: &TextMatch) -> bool {
    let query = parts.query.unwrap_or_default();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.map(|(key, value)| (decode(key), value)).find(|(key, _)| **key == *name.as_bytes());
    found.is_some_and(|(_, value)| wanted.matches(&decode(value)))
}

/// As forms are written. A `%` without two digits behind it stands for itself.
fn decode(text: &str) -> Cow<'_, [u8]> {
    let text = text.as_bytes();
    if !text.iter().any(|octet| matches!(octet, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&octet, behind)) = rest.split_first() {
        rest = behind;
        plain.push(match (octet, behind) {
            (b'+', _) => b' ',
            (b'%', [high, low, behind @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = behind;
                hex(*high) << 4 | hex(*low)
            }
            _ => octet,
        });
    }
    Cow::Owned(plain)
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}
