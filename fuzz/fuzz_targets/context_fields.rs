//! The values of context fields: traces, deadlines, samples, Zipkin's ids.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// The fields with the laws that their own tests check.
#[path = "../../proxy/src/context"]
mod context {
    pub(crate) use serin::context::*;

    pub(crate) mod laws;
}

use context::laws;

fuzz_target!(|octets: &[u8]| {
    laws::check_base64(octets);
    laws::check_trace(octets);
    laws::check_deadline(octets);
    laws::check_fields(octets);
});
