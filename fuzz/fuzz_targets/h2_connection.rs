//! A downstream HTTP/2 connection: any frames, in any writes.

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

// The first octets say where writes end, and whether the rest are frames in a few octets or as they are on the wire.
fuzz_target!(|octets: &[u8]| {
    let [one, two, rest @ ..] = octets else { return };
    let sizes = [1 + usize::from(*one), 1 + usize::from(*two) * 16];
    if two % 2 == 0 {
        conn::laws::check_connection(&conn::laws::frames_of(rest), &sizes);
    } else {
        conn::laws::check_connection(&[&conn::laws::frames_of(b"")[..], rest].concat(), &sizes);
    }
});
