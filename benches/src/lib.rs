//! Benchmarks live in `benches/`; this library is empty so that they have a crate to belong to.
