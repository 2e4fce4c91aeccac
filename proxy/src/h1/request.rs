//! Request heads, written.

use http::{HeaderMap, Method};

use super::field::Field;

/// All that a request head is made of. The head on the wire is made of nothing else.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method. `http` only builds tokens.
    pub method: &'a Method,
    /// The request target as it came, percent-encoding included: origin form, or `*`. An empty path is written as `/`; octets that
    /// would end the request line are percent-encoded.
    pub target: &'a str,
    /// Value of the one `Host` field, which is the first one.
    pub host: &'a [u8],
    /// Fields to send, in their order. Hop-by-hop fields, `Host`, `Content-Length` and `Transfer-Encoding` in here are
    /// passed over: the head's own fields say that.
    pub headers: &'a HeaderMap,
    /// Fields appended after them. Names are tokens in lower case and none that the codec writes itself.
    pub extra: &'a [(&'a str, &'a [u8])],
    /// Asks for a WebSocket: `connection: upgrade` and `upgrade: websocket` are written.
    pub upgrade: bool,
    /// How the request's body is delimited.
    pub framing: Framing,
}

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Content-Length`, in octets. 0 is written: some origins answer 411 to a POST without it.
    Length(u64),
    /// No body and no field about it.
    None,
}

/// Appends the head to `out`, up to and including the empty line. Allocates only where `out` has to grow.
///
/// Several `cookie` fields, as HTTP/2 sends them, become one. `te: trailers` passes with the `connection: te` that
/// HTTP/1.1 wants beside it.
pub fn encode_request(out: &mut Vec<u8>, head: &RequestHead<'_>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    push_target(out, head.target);
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    push_clean(out, head.host);
    out.extend_from_slice(b"\r\n");
    push_headers(out, head.headers);
    for (name, value) in head.extra {
        debug_assert_eq!(Field::of(name.as_bytes()), Field::Other, "`{name}` is written by the codec itself");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        push_clean(out, value);
        out.extend_from_slice(b"\r\n");
    }
    if head.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    }
    match head.framing {
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(octets) => {
            out.extend_from_slice(b"content-length: ");
            push_decimal(out, octets);
            out.extend_from_slice(b"\r\n");
        }
        Framing::None => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn push_headers(out: &mut Vec<u8>, headers: &HeaderMap) {
    let mut te_trailers = false;
    let mut cookies = 0_usize;
    for (name, value) in headers {
        match Field::of(name.as_str().as_bytes()) {
            Field::Other => {}
            Field::Te => {
                te_trailers |= value.as_bytes().eq_ignore_ascii_case(b"trailers");
                continue;
            }
            Field::Connection | Field::ContentLength | Field::Hop | Field::Host | Field::TransferEncoding => continue,
        }
        if name == http::header::COOKIE {
            cookies += 1;
            if cookies > 1 {
                // A map yields the values of one name one after the other, so the previous line is the cookie's.
                out.truncate(out.len() - 2);
                out.extend_from_slice(b"; ");
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b"\r\n");
                continue;
            }
        }
        push_field(out, name.as_str(), value.as_bytes());
    }
    if te_trailers {
        out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
    }
}

/// Appends one field whose name and value are known to be legal.
pub(super) fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The target comes as text that another parser let through; what leaves here has one reading whatever that one allows.
fn push_target(out: &mut Vec<u8>, target: &str) {
    // `http://host?query` has an empty path, which origin form writes as `/` (RFC 9112 section 3.2.1)
    if target != "*" && !target.starts_with('/') {
        out.push(b'/');
    }
    if !target.bytes().any(ends_target) {
        out.extend_from_slice(target.as_bytes());
    } else {
        for octet in target.bytes() {
            if ends_target(octet) {
                out.extend_from_slice(&[b'%', HEX_UPPER[usize::from(octet >> 4)], HEX_UPPER[usize::from(octet & 15)]]);
            } else {
                out.push(octet);
            }
        }
    }
}

fn ends_target(octet: u8) -> bool {
    octet <= b' ' || octet == 0x7f
}

/// Appends a value; a control character in it, which no caller should send, becomes a space.
fn push_clean(out: &mut Vec<u8>, value: &[u8]) {
    if has_control(value) {
        out.extend(value.iter().map(|&octet| if is_control(octet) { b' ' } else { octet }));
    } else {
        out.extend_from_slice(value);
    }
}

/// By eight octets at a time: each value of each head passes here.
fn has_control(value: &[u8]) -> bool {
    let Some(last) = value.last_chunk() else { return value.iter().any(|&octet| is_control(octet)) };
    let (eights, _) = value.as_chunks();
    let found = eights.iter().fold(low_or_del(*last), |found, eight| found | low_or_del(*eight));
    // what was found may have been a tab
    found != 0 && value.iter().any(|&octet| is_control(octet))
}

/// Not 0 if one of these is below the space or is DEL.
const fn low_or_del(octets: [u8; 8]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let octets = u64::from_ne_bytes(octets);
    let del = octets ^ (ONES * 0x7f);
    ((octets.wrapping_sub(ONES * 0x20) & !octets) | (del.wrapping_sub(ONES) & !del)) & HIGH
}

fn is_control(octet: u8) -> bool {
    (octet < b' ' && octet != b'\t') || octet == 0x7f
}

fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; DECIMAL_DIGITS_MAX];
    let mut at = DECIMAL_DIGITS_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Of `u64::MAX`.
const DECIMAL_DIGITS_MAX: usize = 20;
const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_octet_is_seen_wherever_it_stands() {
        for length in 0..=20 {
            assert!(!has_control(&vec![b'a'; length]) && !has_control(&vec![0xff; length]));
            for (at, octet) in (0..length).flat_map(|at| (0..=255).map(move |octet| (at, octet))) {
                let mut value = vec![b'a'; length];
                value[at] = octet;
                assert_eq!(has_control(&value), is_control(octet), "{octet} at {at} of {length}");
                value.fill(b'\t');
                value[at] = octet;
                assert_eq!(has_control(&value), is_control(octet), "{octet} at {at} of {length} tabs");
            }
        }
    }
}
