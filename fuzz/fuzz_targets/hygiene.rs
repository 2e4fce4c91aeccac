//! What ends at this hop, whatever its case, repetition and nomination. The octets are fields, one in each line.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// The layer with the laws that its own tests check.
#[path = "../../proxy/src/layers/hygiene"]
mod hygiene {
    pub(crate) use serin::layers::hygiene::*;

    pub(crate) mod laws;
}

use hygiene::laws;

fuzz_target!(|octets: &[u8]| {
    let fields = laws::fields_of(octets);
    laws::check_hop(&fields);
    laws::check_context(&fields);
    laws::check_trailers(&fields);
});
