//! The HTTP/1.1 codec towards upstreams: any octets as a response, as a chunked body, and as the parts of a request.

#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;

/// The codec with the laws that its own tests check.
#[path = "../../proxy/src/h1"]
mod h1 {
    pub(crate) use serin::h1::*;

    pub(crate) mod laws;
}

use h1::laws;

// The first octet chooses what the rest is; the next ones say where reads end.
fuzz_target!(|octets: &[u8]| {
    let [what, knob, rest @ ..] = octets else { return };
    let knob = usize::from(*knob);
    match what % 4 {
        0 => check_response(knob, rest),
        1 => laws::check_chunked(rest, (0..rest.len()).map(|read| 1 + (read * knob) % 7)),
        2 => check_request(knob, rest),
        _ => {
            let pieces: Vec<Vec<u8>> = rest.chunks(1 + knob).map(<[u8]>::to_vec).collect();
            laws::check_chunked_round_trip(&pieces, &laws::fields_of(rest));
        }
    }
});

fn check_response(knob: usize, octets: &[u8]) {
    let method = [Method::GET, Method::HEAD, Method::CONNECT, Method::POST][knob % 4].clone();
    laws::check_response(octets, &method, (0..=octets.len()).step_by(1 + knob / 4));
    let head = [b"HTTP/1.1 200 OK\r\n", octets, b"\r\n\r\n"].concat();
    laws::check_response(&head, &method, (0..=head.len()).step_by(1 + knob / 4));
}

fn check_request(knob: usize, octets: &[u8]) {
    let (front, fields) = octets.split_at(knob.min(octets.len()));
    let mut parts = front.splitn(4, |&octet| octet == b'|');
    let mut part = || parts.next().unwrap_or_default();
    let (method, target, host, extra) = (part(), part(), part(), part());
    let Ok(method) = Method::from_bytes(method) else { return };
    let length = octets.len() as u64;
    let framing = [h1::Framing::None, h1::Framing::Chunked, h1::Framing::Length(length)][octets.len() % 3];
    laws::check_request(&h1::RequestHead {
        method: &method,
        target: &String::from_utf8_lossy(target),
        host,
        headers: &laws::fields_of(fields),
        extra: &[("l5d-reqid", extra)],
        upgrade: false,
        framing,
    });
}
