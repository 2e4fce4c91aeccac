//! Where a name is served, as far as that is known.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path as FilePath;
use std::sync::Arc;

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// By TCP.
    Inet(SocketAddr),
    /// A Unix socket of this host.
    Unix(Arc<FilePath>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(socket) => socket.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One place a name is served from.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// Where to connect.
    pub socket: Place,
    /// Relative share among the addresses of one cluster: finite, at least 0, 1 unless a file says otherwise.
    pub weight: f64,
}

/// What is known of where a name is served.
#[derive(Clone, Debug, PartialEq)]
pub enum Addresses {
    /// The namer was asked and has no such name, and why. It may come any time.
    Absent(Arc<str>),
    /// The addresses. None at all is legal: bound, and nobody home.
    Bound(Arc<[Address]>),
    /// Nothing good was ever learned, and why. Later failures keep the last good addresses instead.
    Failed(Arc<str>),
    /// The name left the structure: who still has it serves what it had.
    Neg,
    /// Nothing is known yet.
    Pending,
}

/// Addresses with the count of changes, so that a reader sees a change by comparing one number.
#[derive(Clone, Debug)]
pub struct AddressSet {
    /// The newest state.
    pub addresses: Addresses,
    /// Starts at 0, one more for each change.
    pub version: u64,
}
