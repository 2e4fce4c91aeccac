//! The end-to-end tests live in `it/`; this library is empty so that they have a crate to belong to.
