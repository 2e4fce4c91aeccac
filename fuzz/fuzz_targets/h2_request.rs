//! An HTTP/2 request of any fields, with any body and trailers, is one HTTP/1.1 request or none. The octets are its three
//! parts, parted by lines of `---`.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// What the laws name as their own crate's.
#[rustfmt::skip]
use serin::{assemble, body, endpoints, error, evidence, exchange, handover, layers, listener, local, snapshot, stream, worker};

/// The codec with the laws that its own tests check.
#[path = "../../proxy/src/h1"]
mod h1 {
    pub(crate) use serin::h1::*;

    #[allow(dead_code, reason = "it holds the laws of another target too")]
    pub(crate) mod laws;
}

/// Connections with the laws that their own tests check.
#[path = "../../proxy/src/conn"]
mod conn {
    pub(crate) use serin::conn::*;

    #[allow(dead_code, reason = "it holds the laws of other targets too")]
    pub(crate) mod laws;
}

fuzz_target!(|octets: &[u8]| {
    let (fields, rest) = halves(octets);
    let (data, trailers) = halves(rest);
    conn::laws::check_connection(&conn::laws::request_of(fields, data, trailers), &[usize::MAX]);
});

fn halves(octets: &[u8]) -> (&[u8], &[u8]) {
    const PARTED: &[u8] = b"\n---\n";
    match octets.windows(PARTED.len()).position(|window| window == PARTED) {
        Some(at) => (&octets[..at], &octets[at + PARTED.len()..]),
        None => (octets, &[]),
    }
}
