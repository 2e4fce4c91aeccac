//! Serin's configuration: the file, its meaning, and the dtab language.
//!
//! Pure but for `watch`: text in, a legal [`model::Config`] or diagnostics out.

pub mod dtab;
pub mod model;
