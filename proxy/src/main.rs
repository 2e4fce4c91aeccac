//! The `serin` command.

use std::process::ExitCode;

/// Less memory after bursts than the system's allocator, and less time in it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    serin::cli::main()
}
