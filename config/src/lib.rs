//! Serin's configuration: the file, its meaning, and the dtab language.
//!
//! Pure but for `watch`: text in, a legal [`model::Config`] or diagnostics out.

pub mod diagnostic;
pub mod diff;
pub mod dtab;
pub mod model;
pub mod source;
pub mod watch;

mod compile;
mod raw;
mod units;
mod yaml;

/// Every limit of a configuration file. The language's own limits are in [`dtab`].
pub mod limits {
    pub use crate::compile::{
        ACCRUAL_FAILURES_MAX, BINDING_NAMES_MAX, CALL_DEPTH_MAX, LABEL_BYTES_MAX, OVERRIDES_MAX, VALUE_BYTES_MAX,
        WORKERS_MAX,
    };
    pub use crate::diagnostic::DIAGNOSTICS_MAX;
    pub use crate::diff::CHANGES_MAX;
    pub use crate::source::SOURCE_BYTES_MAX;
    pub use crate::units::DURATION_MS_MAX;
    pub use crate::watch::{FOLDER_DEPTH_MAX, FOLDERS_MAX, SYMLINKS_MAX};
    pub use crate::yaml::{DEPTH_MAX, NODES_MAX};
}

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use model::Config;
pub use source::Source;
