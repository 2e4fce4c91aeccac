//! The few parts of gRPC over HTTP/2 that a proxy reads and writes. Messages and metadata stay opaque.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};

/// Field of the status, in trailers or in the head of a trailers-only answer.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Field of the message beside it.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Field of the caller's deadline.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The call succeeded.
pub const OK: u32 = 0;
/// The caller gave up.
pub const CANCELLED: u32 = 1;
/// Anything without a better code.
pub const UNKNOWN: u32 = 2;
/// The request makes no sense whatever the state of the service.
pub const INVALID_ARGUMENT: u32 = 3;
/// Time ran out.
pub const DEADLINE_EXCEEDED: u32 = 4;
/// What was asked for is not there.
pub const NOT_FOUND: u32 = 5;
/// What was to be made is there already.
pub const ALREADY_EXISTS: u32 = 6;
/// The caller may not do that.
pub const PERMISSION_DENIED: u32 = 7;
/// A quota or a size limit is used up.
pub const RESOURCE_EXHAUSTED: u32 = 8;
/// The service is not in the state the call needs.
pub const FAILED_PRECONDITION: u32 = 9;
/// A conflict with another call; trying again from the start may help.
pub const ABORTED: u32 = 10;
/// Past the end.
pub const OUT_OF_RANGE: u32 = 11;
/// No such method, or no such service.
pub const UNIMPLEMENTED: u32 = 12;
/// An invariant of the service or of the protocol is broken.
pub const INTERNAL: u32 = 13;
/// The service is not there at the moment.
pub const UNAVAILABLE: u32 = 14;
/// Data is lost for good.
pub const DATA_LOSS: u32 = 15;
/// The caller is not known.
pub const UNAUTHENTICATED: u32 = 16;

/// Octets of an encoded `grpc-message` that Serin writes.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// Digits of a `grpc-timeout`.
const TIMEOUT_DIGITS_MAX: usize = 8;
/// The largest number of [`TIMEOUT_DIGITS_MAX`] digits.
const TIMEOUT_VALUE_MAX: u64 = 99_999_999;

/// Whether a `content-type` says gRPC: `application/grpc`, alone or with a message format or parameters. gRPC-Web is
/// another protocol.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    content_type.get(..TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
        && matches!(content_type.get(TYPE.len()), None | Some(b'+' | b';' | b' ' | b'\t'))
}

/// The `grpc-status` among trailers, or in the head of an answer without a body. One that is there but is not a number
/// reads as [`UNKNOWN`], as it does for clients; of several the first counts.
pub fn status_of(fields: &HeaderMap) -> Option<u32> {
    let digits = fields.get(STATUS)?.as_bytes();
    Some(decimal(digits).and_then(|code| u32::try_from(code).ok()).unwrap_or(UNKNOWN))
}

/// The code a gRPC client makes of an HTTP status that came without `grpc-status`.
pub const fn code_of_http(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// Reads a `grpc-timeout`: 1 to 8 digits and a unit. `None`: it is not one, and counts as not sent.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.len() > TIMEOUT_DIGITS_MAX {
        return None;
    }
    let number = decimal(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Digits only, and so few that the number cannot overflow.
fn decimal(digits: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 10;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// A `grpc-timeout` as text, on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutText {
    octets: [u8; TIMEOUT_DIGITS_MAX + 1],
    start: usize,
}

impl TimeoutText {
    /// The field's value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets[self.start..]
    }
}

/// Writes a `grpc-timeout` in the finest unit that fits 8 digits. What does not fit that unit is cut off: the timeout
/// that is read from it is never longer than `timeout`.
pub fn format_timeout(timeout: Duration) -> TimeoutText {
    let seconds = timeout.as_secs();
    let candidates = [
        (timeout.as_nanos(), b'n'),
        (timeout.as_micros(), b'u'),
        (timeout.as_millis(), b'm'),
        (u128::from(seconds), b'S'),
        (u128::from(seconds / 60), b'M'),
        (u128::from(seconds / 3600), b'H'),
    ];
    let fitting = candidates.into_iter().find(|(number, _)| *number <= u128::from(TIMEOUT_VALUE_MAX));
    let (number, unit) = fitting.unwrap_or((u128::from(TIMEOUT_VALUE_MAX), b'H'));
    let mut number = u64::try_from(number).unwrap_or(TIMEOUT_VALUE_MAX);
    let mut octets = [unit; TIMEOUT_DIGITS_MAX + 1];
    let mut start = TIMEOUT_DIGITS_MAX;
    loop {
        start -= 1;
        octets[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return TimeoutText { octets, start };
        }
    }
}

/// Encodes a text for `grpc-message`: visible ASCII and spaces stand for themselves, `%` and every other octet is
/// percent-encoded. A text that would exceed [`MESSAGE_BYTES_MAX`] is cut at a character.
pub fn encode_message(text: &str) -> Cow<'_, str> {
    if text.len() <= MESSAGE_BYTES_MAX && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len().min(MESSAGE_BYTES_MAX));
    for character in text.chars() {
        let mut utf8 = [0; 4];
        let octets = character.encode_utf8(&mut utf8).as_bytes();
        let length = if octets.len() == 1 && is_plain(octets[0]) { 1 } else { 3 * octets.len() };
        if encoded.len() + length > MESSAGE_BYTES_MAX {
            break;
        }
        for &octet in octets {
            if is_plain(octet) {
                encoded.push(char::from(octet));
            } else {
                encoded.push('%');
                encoded.push(char::from(HEX_UPPER[usize::from(octet >> 4)]));
                encoded.push(char::from(HEX_UPPER[usize::from(octet & 15)]));
            }
        }
    }
    Cow::Owned(encoded)
}

fn is_plain(octet: u8) -> bool {
    matches!(octet, b' '..=b'~') && octet != b'%'
}

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
