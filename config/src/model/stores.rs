//! What of a configuration is about stored dtabs: who reads them for routing, and who may read and write them from outside.

use std::net::SocketAddr;

use super::Namerd;

/// The longest name of a namespace, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 128;

/// `interpreter`: what a router binds names with, besides its own dtab and the namers of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interpreter {
    /// `default`: everything is known here.
    Default {
        /// The stored dtab that stands before the router's own, so that the router's dentries are tried first. `None`:
        /// there is none. A namespace that does not exist is an empty dtab.
        namespace: Option<String>,
    },
    /// `io.l5d.namerd.http`: somebody else binds, and this router's dtab goes with the question.
    NamerdHttp(Namerd),
}

impl Default for Interpreter {
    fn default() -> Self {
        Self::Default { namespace: None }
    }
}

impl Interpreter {
    /// The stored dtab namespace that a router reads in this process.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Default { namespace } => namespace.as_deref(),
            Self::NamerdHttp(_) => None,
        }
    }

    /// Who binds, if it is not this process.
    pub fn namerd(&self) -> Option<&Namerd> {
        match self {
            Self::Default { .. } => None,
            Self::NamerdHttp(namerd) => Some(namerd),
        }
    }
}

/// `interfaces[]`: a listener for those who keep dtabs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// `io.l5d.httpController`: namerd's HTTP control API.
    HttpController {
        /// Default 127.0.0.1:4180. Port 0 lets the system choose.
        address: SocketAddr,
    },
}

impl Interface {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        let Self::HttpController { address } = self;
        *address
    }
}

/// Whether a text can name a namespace: 1 to [`NAMESPACE_BYTES_MAX`] letters, digits, `-`, `_` and `.`, the first one no
/// `.`. It is the name of a file too, and one element of a URL without escapes.
pub fn is_namespace(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAMESPACE_BYTES_MAX).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_the_name_of_a_file() {
        for good in ["default", "a", "A-b_c.d", "0", "-", &"n".repeat(NAMESPACE_BYTES_MAX)] {
            assert!(is_namespace(good), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", "a\0", "a%", &"n".repeat(NAMESPACE_BYTES_MAX + 1)] {
            assert!(!is_namespace(bad), "{bad}");
        }
    }
}
