//! Why a name could not be bound.

use std::fmt;

use super::Limits;
use crate::dtab::trace::cut;
use crate::dtab::{Dentry, Path};

/// Why a name could not be bound. All but [`BindError::TooWide`] concern one branch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// A namer failed.
    #[error("namer error for {path}: {message}")]
    Namer {
        /// The name it was asked for, printed.
        path: String,
        /// What it said.
        message: String,
    },
    /// More lookups on one branch than allowed: mostly a loop.
    #[error("Max recursion level: {depth_max} reached in Namer lookup, by {chain}")]
    TooDeep {
        /// The limit.
        depth_max: u16,
        /// The dentries on the way.
        chain: Chain,
    },
    /// A name grew longer than [`Path::BYTES_MAX`] or [`Path::LABELS_MAX`].
    #[error("a name grew beyond {} bytes or {} labels, by {chain}", Path::BYTES_MAX, Path::LABELS_MAX)]
    TooLong {
        /// The dentries on the way.
        chain: Chain,
    },
    /// More nodes, or more bytes of names, than one binding may have. The whole name has this error.
    #[error("more than {nodes_max} nodes or {} bytes of names in one name, by {chain}", Limits::BYTES_MAX)]
    TooWide {
        /// The limit.
        nodes_max: u32,
        /// The dentries on the way to where it was noticed.
        chain: Chain,
    },
    /// There is no built-in name of this kind.
    #[error("Unknown namer: {name} for path: {path}")]
    UnknownNamer {
        /// The kind.
        name: String,
        /// The whole name, printed.
        path: String,
    },
}

/// The dentries that led somewhere, printed: the first few and the last few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// At most [`Chain::SHOWN_MAX`].
    pub dentries: Vec<String>,
    /// So many are left out, before the second half of those shown.
    pub left_out: usize,
}

impl Chain {
    /// Dentries shown.
    pub const SHOWN_MAX: usize = 8;

    pub(in crate::dtab) fn new(dentries: &[&Dentry]) -> Chain {
        let half = Chain::SHOWN_MAX / 2;
        let left_out = dentries.len().saturating_sub(Chain::SHOWN_MAX);
        let first = dentries.iter().take(if left_out == 0 { dentries.len() } else { half });
        let last = dentries.iter().skip(if left_out == 0 { dentries.len() } else { half + left_out });
        Chain { dentries: first.chain(last).map(cut).collect(), left_out }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dentries.is_empty() {
            return f.write_str("no dentry");
        }
        for (index, dentry) in self.dentries.iter().enumerate() {
            if index > 0 {
                f.write_str(" ; ")?;
            }
            if self.left_out > 0 && index == Chain::SHOWN_MAX / 2 {
                write!(f, "({} more) ; ", self.left_out)?;
            }
            f.write_str(dentry)?;
        }
        Ok(())
    }
}
