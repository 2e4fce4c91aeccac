//! Binding ends within its limits. The text is four parts, parted by lines of `---`: the router's dtab, a rule's dtab, a request's dtab, and a name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serin_config::dtab::invariants::check_binding;
use serin_config::dtab::{Dtab, Path};

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(4, "\n---\n");
    let mut dtab = || parts.next().map(Dtab::parse);
    let (Some(Ok(base)), Some(Ok(written)), Some(Ok(sent))) = (dtab(), dtab(), dtab()) else { return };
    let Some(Ok(path)) = parts.next().map(Path::parse) else { return };
    check_binding(&base, &written, &sent, &path);
});
