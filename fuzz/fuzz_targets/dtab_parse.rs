//! Any text is read or refused with its place; what is read prints as text that reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serin_config::dtab::invariants::check_text;

fuzz_target!(|text: &str| check_text(text));
