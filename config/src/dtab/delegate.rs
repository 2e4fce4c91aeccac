//! Binding: a name is looked up until everything in its tree is concrete.

mod error;
mod settled;

use std::fmt;

pub use self::error::{BindError, Chain};
pub use self::settled::{Settled, settled};

use super::namers::{Builtin, builtin};
use super::trace::{Trace, cut};
use super::{Branch, Dentry, Layer, Layers, Match, NameTree, Path, Union};

/// The namers of a configuration.
pub trait Names {
    /// What they say to a name for which the dtab says nothing. Namers that do not know the name pass it on to the
    /// next; Neg if nobody knows it. Built-in names (`/$/…`) need no answer.
    fn lookup(&self, path: &Path) -> Answer;
}

/// What a namer says to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is concrete.
    Bound {
        /// So many labels are its id; the rest is residual. Cut to the length of the path.
        id_len: usize,
    },
    /// It exists and has no members.
    Empty,
    /// The namer cannot say.
    Error(String),
    /// Definitely nothing.
    Fail,
    /// Not known.
    Neg,
    /// Not yet known.
    Pending,
    /// Another name, to be looked up from the start.
    Rewrite(Path),
}

/// A leaf of a bound tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// This branch could not be bound.
    Error(BindError),
    /// A concrete name.
    Name {
        /// Up to where the namer read.
        id: Path,
        /// What follows.
        residual: Path,
        /// Every label of the id comes from a destination in the configuration (the base table or `written` dtabs),
        /// none from the request's own name or the dtabs it sent. Undecided cases count as not written.
        written: bool,
    },
    /// A namer does not know yet.
    Pending,
}

/// Bounds of one binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Lookups on one branch. Default 100.
    pub depth_max: u16,
    /// Nodes visited: lookups, alternatives and branches. Default 10,000.
    pub nodes_max: u32,
}

/// A logical name and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Logical<'p> {
    /// The name.
    pub path: &'p Path,
    /// All of it comes from the configuration, none from a request.
    pub written: bool,
}

/// A name as requests make them.
impl<'p> From<&'p Path> for Logical<'p> {
    fn from(path: &'p Path) -> Self {
        Self { path, written: false }
    }
}

/// Binds a name.
///
/// Alternatives and unions stay in the tree; what can never be chosen is left out: alternatives behind `!`, `$`, an
/// error or a pending name, nested alternations, and `~`. A union stays a union, even with one branch, when it has a
/// [`super::SplitId`].
pub fn bind<'p>(
    layers: &Layers<'_>,
    names: &dyn Names,
    name: impl Into<Logical<'p>>,
    limits: &Limits,
) -> NameTree<Bound> {
    Binder::new(*layers, names, *limits, None).run(name.into())
}

/// Binds a name and tells every step.
pub fn bind_traced<'p>(
    layers: &Layers<'_>,
    names: &dyn Names,
    name: impl Into<Logical<'p>>,
    limits: &Limits,
) -> (NameTree<Bound>, Trace) {
    let mut binder = Binder::new(*layers, names, *limits, Some(Trace::default()));
    let tree = binder.run(name.into());
    (tree, binder.trace.unwrap_or_default())
}

struct Binder<'a> {
    layers: Layers<'a>,
    names: &'a dyn Names,
    limits: Limits,
    nodes: u32,
    bytes: usize,
    trace: Option<Trace>,
}

/// A name on its way.
struct Name {
    path: Path,
    /// So many of its first labels come from the configuration.
    written: usize,
}

/// Where we are: how many lookups and tree levels down, and by which dentries.
#[derive(Clone, Copy)]
struct Place<'p> {
    depth: u16,
    nesting: u16,
    link: Option<&'p Link<'p>>,
}

struct Link<'p> {
    dentry: &'p Dentry,
    parent: Option<&'p Link<'p>>,
}

/// The binding as a whole is over: only [`BindError::TooWide`].
type Bounded<T> = Result<T, Box<BindError>>;

impl<'a> Binder<'a> {
    fn new(layers: Layers<'a>, names: &'a dyn Names, limits: Limits, trace: Option<Trace>) -> Binder<'a> {
        Binder { layers, names, limits, nodes: 0, bytes: 0, trace }
    }

    fn run(&mut self, logical: Logical<'_>) -> NameTree<Bound> {
        let written = if logical.written { logical.path.len() } else { 0 };
        let name = Name { path: logical.path.clone(), written };
        let place = Place { depth: 0, nesting: 0, link: None };
        self.name(name, place).unwrap_or_else(|error| failed(*error))
    }

    /// One lookup.
    fn name(&mut self, name: Name, place: Place<'_>) -> Bounded<NameTree<Bound>> {
        if place.depth >= self.limits.depth_max {
            return Ok(failed(BindError::TooDeep { depth_max: self.limits.depth_max, chain: place.chain() }));
        }
        if name.path.bytes() > Path::BYTES_MAX || name.path.len() > Path::LABELS_MAX {
            return Ok(failed(BindError::TooLong { chain: place.chain() }));
        }
        self.count(name.path.bytes(), place)?;
        let matches = self.layers.matches(&name.path);
        match matches.as_slice() {
            [] => self.namers(name, place),
            [only] => {
                self.record(place, &name, only);
                if only.dentry.destination == NameTree::Neg {
                    self.namers(name, place)
                } else {
                    self.dentry(&name, only, place)
                }
            }
            several => {
                let place = place.inner();
                let mut kept = Alternatives::default();
                for found in several {
                    self.count(0, place)?;
                    self.record(place, &name, found);
                    if kept.push(self.dentry(&name, found, place)?) {
                        break;
                    }
                }
                Ok(kept.finish())
            }
        }
    }

    fn dentry(&mut self, name: &Name, found: &Match<'_>, place: Place<'_>) -> Bounded<NameTree<Bound>> {
        let link = Link { dentry: found.dentry, parent: place.link };
        self.destination(&found.dentry.destination, name, found, Place { link: Some(&link), ..place })
    }

    /// A destination, with what is behind the prefix put behind each leaf.
    fn destination(
        &mut self,
        tree: &NameTree<Path>,
        name: &Name,
        found: &Match<'_>,
        place: Place<'_>,
    ) -> Bounded<NameTree<Bound>> {
        if place.nesting > Limits::NESTING_MAX {
            return Ok(failed(BindError::TooDeep { depth_max: self.limits.depth_max, chain: place.chain() }));
        }
        match tree {
            NameTree::Leaf(leaf) => {
                let prefix_len = found.dentry.prefix.len();
                let path = leaf.join(&name.path.skip(prefix_len));
                let written = match found.layer {
                    Layer::Base | Layer::Written(_) => leaf.len() + name.written.saturating_sub(prefix_len),
                    Layer::Sent(_) => 0,
                };
                self.name(Name { path, written }, Place { depth: place.depth + 1, ..place })
            }
            NameTree::Neg => Ok(NameTree::Neg),
            NameTree::Fail => Ok(NameTree::Fail),
            NameTree::Empty => Ok(NameTree::Empty),
            NameTree::Alt(children) => {
                let mut kept = Alternatives::default();
                for child in children {
                    self.count(0, place)?;
                    if kept.push(self.destination(child, name, found, place.inner())?) {
                        break;
                    }
                }
                Ok(kept.finish())
            }
            NameTree::Union(union) => {
                let mut branches = Vec::with_capacity(union.branches.len());
                for branch in &union.branches {
                    self.count(0, place)?;
                    let tree = self.destination(&branch.tree, name, found, place.inner())?;
                    branches.push(Branch { weight: branch.weight, index: branch.index, tree });
                }
                Ok(kept_union(Union { split: union.split, branches }))
            }
        }
    }

    /// The dtab says nothing: configured namers, then built-in names.
    fn namers(&mut self, name: Name, place: Place<'_>) -> Bounded<NameTree<Bound>> {
        let answer = match self.names.lookup(&name.path) {
            Answer::Neg => builtin(&name.path),
            Answer::Bound { id_len } => Builtin::Bound { id_len: id_len.min(name.path.len()) },
            Answer::Empty => Builtin::Empty,
            Answer::Fail => Builtin::Fail,
            Answer::Rewrite(path) => Builtin::Rewrite { path, head: None },
            Answer::Pending => {
                self.record_namer(place, &name, "pending");
                return Ok(NameTree::Leaf(Bound::Pending));
            }
            Answer::Error(message) => {
                let error = BindError::Namer { path: cut(&name.path), message: cut(message) };
                self.record_namer(place, &name, &error.to_string());
                return Ok(failed(error));
            }
        };
        match answer {
            Builtin::Neg => Ok(self.said(place, &name, "~", NameTree::Neg)),
            Builtin::Empty => Ok(self.said(place, &name, "$", NameTree::Empty)),
            Builtin::Fail => Ok(self.said(place, &name, "!", NameTree::Fail)),
            Builtin::Unknown(kind) => {
                let error = BindError::UnknownNamer { name: cut(kind), path: cut(&name.path) };
                self.record_namer(place, &name, &error.to_string());
                Ok(failed(error))
            }
            Builtin::Bound { id_len } => {
                let (id, residual) = (name.path.take(id_len), name.path.skip(id_len));
                self.record_namer(place, &name, &format!("bound {id}"));
                Ok(NameTree::Leaf(Bound::Name { id, residual, written: name.written >= id_len }))
            }
            Builtin::Rewrite { path, head } => {
                self.record_namer(place, &name, &path.to_string());
                // Which labels of the new name stem from which of the old one is known for its first one at most.
                let written = if name.written >= name.path.len() {
                    path.len()
                } else {
                    usize::from(head.is_some_and(|head| head < name.written))
                };
                self.name(Name { path, written }, Place { depth: place.depth + 1, ..place })
            }
        }
    }

    fn said(&mut self, place: Place<'_>, name: &Name, what: &str, tree: NameTree<Bound>) -> NameTree<Bound> {
        self.record_namer(place, name, what);
        tree
    }

    fn count(&mut self, bytes: usize, place: Place<'_>) -> Bounded<()> {
        self.nodes += 1;
        self.bytes += bytes;
        if self.nodes > self.limits.nodes_max || self.bytes > Limits::BYTES_MAX {
            return Err(Box::new(BindError::TooWide { nodes_max: self.limits.nodes_max, chain: place.chain() }));
        }
        Ok(())
    }

    fn record(&mut self, place: Place<'_>, name: &Name, found: &Match<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.dentry(place.depth, &name.path, found);
        }
    }

    fn record_namer(&mut self, place: Place<'_>, name: &Name, outcome: &str) {
        if let Some(trace) = &mut self.trace {
            trace.namer(place.depth, &name.path, outcome);
        }
    }
}

impl Place<'_> {
    fn inner(self) -> Self {
        Place { nesting: self.nesting + 1, ..self }
    }

    fn chain(&self) -> Chain {
        let mut dentries = Vec::new();
        let mut link = self.link;
        while let Some(Link { dentry, parent }) = link {
            dentries.push(*dentry);
            link = *parent;
        }
        dentries.reverse();
        Chain::new(&dentries)
    }
}

impl Limits {
    /// Bytes of all names looked up in one binding: 4 MiB.
    pub const BYTES_MAX: usize = 4 * 1024 * 1024;
    /// Alternations and unions within each other in a bound tree; beyond it a branch counts as too deep.
    pub const NESTING_MAX: u16 = 256;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { depth_max: 100, nodes_max: 10_000 }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Error(error) => write!(f, "(error: {error})"),
            Bound::Name { id, residual, .. } if residual.is_empty() => id.fmt(f),
            Bound::Name { id, residual, .. } => write!(f, "{id}{residual}"),
            Bound::Pending => f.write_str("(pending)"),
        }
    }
}

/// Children of an alternation, as long as one more could be chosen.
#[derive(Default)]
struct Alternatives {
    kept: Vec<NameTree<Bound>>,
}

impl Alternatives {
    /// True: whatever follows can never be chosen.
    fn push(&mut self, child: NameTree<Bound>) -> bool {
        match child {
            NameTree::Neg => false,
            NameTree::Alt(children) => {
                let ends = children.last().is_some_and(ends_alternatives);
                self.kept.extend(children);
                ends
            }
            child => {
                let ends = ends_alternatives(&child);
                self.kept.push(child);
                ends
            }
        }
    }

    fn finish(mut self) -> NameTree<Bound> {
        match self.kept.len() {
            0 => NameTree::Neg,
            1 => self.kept.remove(0),
            _ => NameTree::Alt(self.kept),
        }
    }
}

fn ends_alternatives(tree: &NameTree<Bound>) -> bool {
    matches!(tree, NameTree::Fail | NameTree::Empty | NameTree::Leaf(Bound::Error(_) | Bound::Pending))
}

/// A union without `~` and `!`, unless a branch is not ready: then they show that another one was.
fn kept_union(mut union: Union<Bound>) -> NameTree<Bound> {
    let is_nothing = |tree: &NameTree<Bound>| matches!(tree, NameTree::Neg | NameTree::Fail);
    if union.branches.iter().all(|branch| is_nothing(&branch.tree)) {
        return NameTree::Neg;
    }
    let unready = union
        .branches
        .iter()
        .any(|branch| branch.tree.leaves().iter().any(|leaf| matches!(leaf, Bound::Error(_) | Bound::Pending)));
    if !unready {
        union.branches.retain(|branch| !is_nothing(&branch.tree));
    }
    match (union.split, union.branches.as_mut_slice()) {
        // Nothing can give this branch another weight any more, so it is all or nothing.
        (None, [only]) if only.weight.is_zero() => NameTree::Neg,
        (None, [only]) => std::mem::replace(&mut only.tree, NameTree::Neg),
        _ => NameTree::Union(union),
    }
}

fn failed(error: BindError) -> NameTree<Bound> {
    NameTree::Leaf(Bound::Error(error))
}
