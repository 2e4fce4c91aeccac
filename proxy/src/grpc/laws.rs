//! What must hold for any octets. The properties and the fuzz target call the same checks; each of them panics where its
//! law is broken.

use std::time::Duration;

use super::{MESSAGE_BYTES_MAX, encode_message, format_timeout, parse_timeout};

/// Octets are a timeout or they are not; one that is read is written again no longer.
pub(crate) fn check_parse(octets: &[u8]) {
    if let Some(timeout) = parse_timeout(octets) {
        assert!(octets.len() <= 9, "more than 8 digits and a unit");
        check_format(timeout);
    }
}

/// What is written is legal, reads back never longer, and loses little: less than its unit, which is the finest that fits.
pub(crate) fn check_format(timeout: Duration) {
    let text = format_timeout(timeout);
    let (unit, digits) = text.as_bytes().split_last().expect("a unit");
    assert!((1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit));
    let back = parse_timeout(text.as_bytes()).expect("what is written can be read");
    assert!(back <= timeout, "{timeout:?} became {back:?}");
    let unit = parse_timeout(&[b'1', *unit]).expect("one of a unit");
    let longest = unit == Duration::from_secs(3600) && digits == b"99999999";
    assert!(longest || timeout - back < unit, "{timeout:?} became {back:?}");
}

/// A message is visible ASCII within its limit, and decodes to the text or to the start of it.
pub(crate) fn check_message(text: &str) {
    let encoded = encode_message(text);
    assert!(encoded.len() <= MESSAGE_BYTES_MAX && encoded.bytes().all(|octet| (b' '..=b'~').contains(&octet)));
    let decoded = decode_message(&encoded);
    assert!(text.starts_with(&decoded), "{text:?} became {decoded:?}");
    let whole =
        text.bytes().map(|octet| if (b' '..=b'~').contains(&octet) && octet != b'%' { 1 } else { 3 }).sum::<usize>();
    assert!(whole > MESSAGE_BYTES_MAX || decoded == text, "cut without need");
}

fn decode_message(encoded: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = encoded.as_bytes();
    while let Some((&octet, tail)) = rest.split_first() {
        rest = tail;
        if octet == b'%' {
            let (hex, tail) = tail.split_at(2);
            let hex = std::str::from_utf8(hex).expect("ASCII");
            octets.push(u8::from_str_radix(hex, 16).expect("two hexadecimal digits"));
            rest = tail;
        } else {
            octets.push(octet);
        }
    }
    String::from_utf8(octets).expect("cut at a character")
}
