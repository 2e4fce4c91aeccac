//! The dtab language: how a name becomes another name, and at last something that has addresses.
//!
//! # Names
//!
//! A request has a **logical name**, a [`Path`] such as `/svc/web`: labels of bytes. The characters
//! `0-9 A-Z a-z _ : . # $ % -` stand for themselves, any other byte is written `\x` and two hexadecimal digits.
//!
//! # Tables
//!
//! A [`Dtab`] is a list of dentries `prefix => destination`, separated by `;`. [`Dtab::lookup`] takes every dentry
//! whose prefix the name starts with, **the last one first**, and puts what is behind the prefix behind each name of
//! the destination. There is no rule of the longest prefix; order alone decides.
//!
//! ```
//! use serin_config::dtab::Dtab;
//! let dtab = Dtab::parse("
//!     /svc     => /host ;       # every service is a host
//!     /svc/web => /host/web-v2  # but this one is tried first
//! ")?;
//! let name = "/svc/web/admin".parse()?;
//! assert_eq!(dtab.lookup(&name).to_string(), "/host/web-v2/admin | /host/web/admin");
//! # Ok::<(), serin_config::dtab::SyntaxErrors>(())
//! ```
//!
//! In a prefix `*` matches exactly one label. A `#` where white space could stand starts a comment; glued to a label it
//! belongs to it.
//!
//! # Trees
//!
//! A destination is a [`NameTree`]:
//!
//! | text | it means |
//! |---|---|
//! | `/path` | a name, looked up again |
//! | `a \| b` | the first that is there |
//! | `3 * a & b` | both, with three times the share for `a`; binds tighter than the bar |
//! | `~` | nothing here; the next alternative is tried |
//! | `!` | nothing, and no further alternative is tried |
//! | `$` | exists, and has no members |
//!
//! ```
//! use serin_config::dtab::NameTree;
//! let tree = NameTree::parse("(~ | /blue) & ! & 2 * /green")?;
//! assert_eq!(tree.simplified().to_string(), "/blue & 2.00*/green");
//! # Ok::<(), serin_config::dtab::SyntaxErrors>(())
//! ```
//!
//! # Binding and picking
//!
//! [`bind`] looks a name up again and again, until each leaf is something a namer knows (`/#/…`) or a built-in name
//! (`/$/…`). It is bounded in depth, in nodes and in bytes ([`Limits`]). The bound tree keeps its alternatives and
//! unions, and each union its [`SplitId`], so [`pick`] can choose for one request with the weights and the health of
//! that moment, without binding again.
//!
//! ```
//! use std::sync::Arc;
//! use serin_config::dtab::{bind, pick, shares, Answer, Bound, Dtab, Layers, LeafState, Limits, Names, Path, Rules, Table};
//!
//! struct Clusters; // whatever stands under /#/clusters exists
//! impl Names for Clusters {
//!     fn lookup(&self, path: &Path) -> Answer {
//!         if path.label(1) == Some(b"clusters") && path.len() > 2 { Answer::Bound { id_len: 3 } } else { Answer::Neg }
//!     }
//! }
//!
//! let mut dtab = Dtab::parse("/srv => /#/clusters; /svc/web => 1 * /srv/web-v2 & 99 * /srv/web-v1")?;
//! dtab.assign_splits(0);
//! let table = Table::new(Arc::new(dtab));
//! let layers = Layers { base: &table, written: &[], sent: &[] };
//! let tree = bind(&layers, &Clusters, &"/svc/web".parse()?, &Limits::default());
//! assert_eq!(tree.to_string(), "/#/clusters/web-v2 & 99.00*/#/clusters/web-v1");
//!
//! let usable = |_: &Bound| LeafState::Usable;
//! let picked = pick(&tree, &mut |_split| 0, &(), &usable, &Rules::default());
//! assert_eq!(picked.draws.as_slice()[0].share_ppm, 10_000);
//! assert_eq!(shares(&tree, &(), &usable, &Rules::default())[1].1, 0.99);
//! # Ok::<(), serin_config::dtab::SyntaxErrors>(())
//! ```
//!
//! # Limits
//!
//! A path that is read: [`Path::LABELS_MAX`] labels and [`Path::BYTES_MAX`] bytes. A tree that is read:
//! [`TREE_NODES_MAX`] nodes and [`NESTING_MAX`] open parentheses. A dtab has no limit of its own in a configuration;
//! from headers see [`override_dtab`].

mod context;
mod delegate;
mod error;
mod explain;
mod format;
#[doc(hidden)]
pub mod invariants;
mod namers;
mod parse;
mod path;
mod pattern;
mod pick;
mod table;
mod trace;
mod tree;

#[cfg(test)]
mod arb;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use context::{HEADER_BYTES_MAX, HEADER_DENTRIES_MAX, HeaderDtabError, context_text, override_dtab, travelling};
pub use delegate::{Answer, BindError, Bound, Chain, Limits, Logical, Names, Settled, bind, bind_traced, settled};
pub use error::{Expected, Found, SyntaxError, SyntaxErrors};
pub use explain::{Delegation, Explained, explain};
pub use format::format_source;
pub use namers::{Builtin, builtin};
pub use parse::{DentrySpans, DtabSpans, NESTING_MAX};
pub(crate) use path::is_showable;
pub use path::{Elem, Labels, Path, Prefix};
pub use pattern::{Captures, Pattern, PatternError};
pub use pick::{Draw, Draws, LeafState, Outcome, Picked, Rules, Weights, pick, shares};
pub use table::{Layer, Layers, Match, Table};
pub use trace::{Step, Trace, UsedDentry};
pub use tree::{Branch, NameTree, SplitId, TREE_NODES_MAX, Union, Weight};

/// One line of a dtab: names that start with the prefix may become the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dentry {
    /// The left side.
    pub prefix: Prefix,
    /// The right side.
    pub destination: NameTree<Path>,
}

/// A delegation table: dentries in the order they were written. Duplicates are kept; later ones are tried first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dtab(pub Vec<Dentry>);

/// A union of a dtab that has just got its [`SplitId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitShape {
    /// What it got.
    pub id: SplitId,
    /// Which dentry, from 0.
    pub dentry: usize,
    /// The prefix of its dentry.
    pub prefix: Prefix,
    /// Which union of that dentry, from 0, outer before inner, left before right.
    pub ordinal: u32,
    /// As written, by index of the branch.
    pub weights: Vec<Weight>,
    /// The branches without their weights, printed.
    pub arms: Vec<String>,
}

impl Dtab {
    /// Reads a whole dtab. Every mistake is reported, up to [`SyntaxErrors::MAX`].
    pub fn parse(text: &str) -> Result<Dtab, SyntaxErrors> {
        parse::dtab(text, false).map(|(dtab, _)| dtab)
    }

    /// Reads a whole dtab and says where its parts stand.
    pub fn parse_with_spans(text: &str) -> Result<(Dtab, DtabSpans), SyntaxErrors> {
        parse::dtab(text, true)
    }

    /// No dentries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These dentries, then the others, which therefore are tried first.
    #[must_use]
    pub fn concat(&self, later: &Dtab) -> Dtab {
        Dtab(self.0.iter().chain(&later.0).cloned().collect())
    }

    /// One step: the destinations of all dentries that match, latest first, with the rest of the path behind each of
    /// their leaves. No match is `~`, one is its tree, more are an alternation. Reads every dentry; [`Table`] has an
    /// index.
    pub fn lookup(&self, path: &Path) -> NameTree<Path> {
        let matching = self.0.iter().rev().filter(|dentry| dentry.prefix.matches(path));
        alternatives(matching.map(|dentry| dentry.apply(path)).collect())
    }

    /// Gives every union a [`SplitId`], from `first` on, in the order they are written, outer before inner.
    pub fn assign_splits(&mut self, first: u32) -> Vec<SplitShape> {
        let mut shapes = Vec::new();
        for (index, dentry) in self.0.iter_mut().enumerate() {
            let before = shapes.len();
            assign(&mut dentry.destination, &mut |union| {
                let id = SplitId(first.saturating_add(u32::try_from(shapes.len()).unwrap_or(u32::MAX)));
                union.split = Some(id);
                shapes.push(SplitShape {
                    id,
                    dentry: index,
                    prefix: dentry.prefix.clone(),
                    ordinal: u32::try_from(shapes.len() - before).unwrap_or(u32::MAX),
                    weights: union.branches.iter().map(|branch| branch.weight).collect(),
                    arms: union.branches.iter().map(|branch| branch.tree.to_string()).collect(),
                });
            });
        }
        shapes
    }

    /// One dentry a line, `=>` under each other: what `serin dtab fmt` makes of a dtab without comments.
    pub fn pretty(&self) -> String {
        format::pretty(self)
    }
}

impl Dentry {
    /// The destination with the part of the path behind the prefix behind each leaf. The prefix must match.
    pub fn apply(&self, path: &Path) -> NameTree<Path> {
        let rest = path.skip(self.prefix.len());
        self.destination.map(&mut |leaf| leaf.join(&rest))
    }
}

impl FromStr for Dtab {
    type Err = SyntaxErrors;

    fn from_str(text: &str) -> Result<Dtab, SyntaxErrors> {
        Dtab::parse(text)
    }
}

impl fmt::Display for Dentry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=>{}", self.prefix, self.destination)
    }
}

impl fmt::Display for Dtab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, dentry) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ";" };
            write!(f, "{separator}{dentry}")?;
        }
        Ok(())
    }
}

/// What a lookup makes of the destinations it found.
fn alternatives(mut found: Vec<NameTree<Path>>) -> NameTree<Path> {
    match found.len() {
        0 => NameTree::Neg,
        1 => found.remove(0),
        _ => NameTree::Alt(found),
    }
}

/// Outer before inner, left before right.
fn assign(tree: &mut NameTree<Path>, f: &mut impl FnMut(&mut Union<Path>)) {
    match tree {
        NameTree::Leaf(_) | NameTree::Neg | NameTree::Fail | NameTree::Empty => {}
        NameTree::Alt(children) => children.iter_mut().for_each(|child| assign(child, f)),
        NameTree::Union(union) => {
            f(union);
            union.branches.iter_mut().for_each(|branch| assign(&mut branch.tree, f));
        }
    }
}
