//! End-to-end tests: one binary, one module a feature.
