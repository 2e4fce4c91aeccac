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

impl Namerd {
    /// Octets of name and dtab in one question, as [`Namerd::octets`] counts them: with the rest of a head they are less
    /// than the 64 KiB that servers read.
    pub const QUESTION_OCTETS_MAX: usize = 60 * 1024;
    /// Of these, those of a router's dtab; what is left is for the name and for what a request adds.
    pub const DTAB_OCTETS_MAX: usize = 48 * 1024;

    /// Octets of a text in the target of a question: unreserved characters (RFC 3986) are one, all others three.
    pub fn octets(text: &str) -> usize {
        let octets = |byte: u8| if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) { 1 } else { 3 };
        text.bytes().map(octets).sum()
    }
}
