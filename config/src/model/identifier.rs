//! How a request gets its logical name.

use std::num::NonZeroUsize;

use crate::dtab::Path;

/// One way to name a request: what it finds stands behind the router's `dstPrefix`. See [`crate::identify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// `io.l5d.header`: the value of a header, read as a path.
    Header {
        /// In lower case. Default `l5d-name`.
        header: String,
    },
    /// `io.l5d.header.path`: the first segments of the value of a header.
    HeaderPath {
        /// The path of the request, or a header. Never [`Field::Host`] or [`Field::Method`].
        header: Field,
        /// `None`: all of them.
        segments: Option<NonZeroUsize>,
    },
    /// `io.l5d.header.token`: the value of a header as one element.
    HeaderToken {
        /// Which.
        header: Field,
        /// What becomes of case and port of a host; without effect on other headers.
        host: HostRule,
    },
    /// `io.l5d.methodAndHost`: `1.1/<method>/<host>`, or `1.0/<method>`.
    MethodAndHost {
        /// Does the path of the request follow.
        path: bool,
        /// What becomes of the port of the host; its case goes always.
        host: HostRule,
    },
    /// `io.l5d.path`: the first segments of the request's path.
    Path {
        /// So many.
        segments: NonZeroUsize,
        /// Are they taken out of the path that is sent on.
        consume: bool,
    },
    /// `io.l5d.static`: the same for every request.
    Static {
        /// Follows the prefix.
        path: Path,
    },
}

/// What of a request a name is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// The host: `:authority` in HTTP/2, `Host` or the authority of an absolute target in HTTP/1.1.
    Host,
    /// The method.
    Method,
    /// The path of the target, without query.
    Path,
    /// A header, in lower case. Of several of that name the first counts.
    Named(String),
}

/// `identifier.host`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostRule {
    /// Lower case, port dropped.
    #[default]
    Normalized,
    /// As sent (Linkerd 1).
    Verbatim,
}

impl Identifier {
    /// What the file calls it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Header { .. } => "io.l5d.header",
            Self::HeaderPath { .. } => "io.l5d.header.path",
            Self::HeaderToken { .. } => "io.l5d.header.token",
            Self::MethodAndHost { .. } => "io.l5d.methodAndHost",
            Self::Path { .. } => "io.l5d.path",
            Self::Static { .. } => "io.l5d.static",
        }
    }
}

impl Default for Identifier {
    fn default() -> Self {
        Self::HeaderToken { header: Field::Host, host: HostRule::Normalized }
    }
}

impl Field {
    /// What the file calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Host => "Host",
            Self::Method => ":method",
            Self::Path => ":path",
            Self::Named(name) => name,
        }
    }
}
