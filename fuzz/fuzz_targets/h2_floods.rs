//! The accounts of HTTP/2 frames: any octets, in any reads, get one verdict.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// The accounts with the law that their own tests check.
#[path = "../../proxy/src/floods"]
mod floods {
    pub(crate) use serin::floods::*;

    pub(crate) mod laws;
}

// The first octets say where reads end.
fuzz_target!(|octets: &[u8]| {
    let [one, two, rest @ ..] = octets else { return };
    floods::laws::check_any_split(rest, &[usize::from(*one), usize::from(*two)]);
});
