//! A downstream HTTP/1.1 connection: any octets, in any writes. Each request that comes through is written for an upstream, and
//! read again by the letter.

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

// The first octets say where writes end.
fuzz_target!(|octets: &[u8]| {
    let [one, two, rest @ ..] = octets else { return };
    conn::laws::check_connection(rest, &[1 + usize::from(*one), 1 + usize::from(*two) * 16]);
});
