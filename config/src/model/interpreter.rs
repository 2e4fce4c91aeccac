//! An interpreter that is not in this process.

use std::time::Duration;

use super::HostPort;

/// `io.l5d.namerd.http`: a namerd binds the names, with its own dtab and its own namers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namerd {
    /// Where its HTTP control API is.
    pub at: HostPort,
    /// Its dtab namespace. Default `default`.
    pub namespace: String,
    /// The first and the longest wait after a failure. Default 5 s and 600 s.
    pub retry: (Duration, Duration),
}
