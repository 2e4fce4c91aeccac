//! `tests`: requests, and where they shall go.

use serin_rollout::Ppm;

use crate::dtab::Path;
use crate::source::Span;

/// One entry of `tests`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTest {
    /// Where it stands.
    pub span: Span,
    /// Label of a router; `None` if there is only one.
    pub router: Option<String>,
    /// Default GET.
    pub method: String,
    /// Path and query of the target. Default `/`.
    pub target: String,
    /// All fields, `host` among them; names in lower case.
    pub headers: Vec<(String, String)>,
    /// What shall come of it; at least one of the three.
    pub expect: Expected,
}

/// `tests[].expect`; each with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The logical name.
    pub name: Option<(Path, Span)>,
    /// Bound names, or `$`, `!` and `~`, and the share of such requests that each gets. They add up to the whole.
    pub to: Option<(Vec<(String, Ppm)>, Span)>,
    /// Serin itself answers with this status.
    pub status: Option<(u16, Span)>,
}
