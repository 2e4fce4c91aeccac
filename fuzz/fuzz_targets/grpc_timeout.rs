//! `grpc-timeout` read and written, `grpc-message` written.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;

/// The fields with the laws that their own tests check.
#[path = "../../proxy/src/grpc"]
mod grpc {
    pub(crate) use serin::grpc::*;

    pub(crate) mod laws;
}

use grpc::laws;

fuzz_target!(|octets: &[u8]| {
    laws::check_parse(octets);
    laws::check_message(&String::from_utf8_lossy(octets));
    if let Some((seconds, rest)) = octets.split_first_chunk::<8>()
        && let Some((nanos, _)) = rest.split_first_chunk::<4>()
    {
        laws::check_format(Duration::new(u64::from_le_bytes(*seconds), u32::from_le_bytes(*nanos) % 1_000_000_000));
    }
});
