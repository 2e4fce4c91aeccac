//! What the benchmarks in `benches/` share: tables to route by, peers on loopback, and how a run is meant.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on stops loudly; the lints exempt only functions marked as tests"
)]

pub mod arms;
pub mod children;
pub mod client;
pub mod crowd;
pub mod disk;
pub mod program;
pub mod proxy;
pub mod tables;
pub mod threads;
pub mod upstream;

/// Whether this is a measurement (`cargo bench`) or only a check that the program still runs (`cargo test`).
pub fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}
