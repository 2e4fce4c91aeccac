//! The explanation of a name: every dentry, every alternative and every branch, also those that binding never reaches.

use super::delegate::Chain;
use super::namers::{Builtin, builtin};
use super::{Answer, BindError, Dentry, Layers, Limits, NameTree, Names, Path, Weight};

/// A node of an explanation, as Linkerd's delegation tree has it: plain data, printed.
#[derive(Clone, Debug, PartialEq)]
pub struct Delegation {
    /// The name looked up at this node; for a tree inside of a destination the name whose dentry it is; for a written
    /// `~` and `!` that character.
    pub path: String,
    /// Prefix and destination of the dentry that led here; `None` at the root.
    pub dentry: Option<(String, String)>,
    /// What the name is.
    pub is: Explained,
}

/// What a node of an explanation is.
#[derive(Clone, Debug, PartialEq)]
pub enum Explained {
    /// Alternatives, the first one first.
    Alt(Vec<Delegation>),
    /// One dentry leads on.
    Delegate(Box<Delegation>),
    /// `$`.
    Empty,
    /// It could not be bound, for this reason.
    Exception(String),
    /// `!`.
    Fail,
    /// Concrete.
    Leaf {
        /// The concrete name.
        id: Path,
        /// What follows.
        residual: Path,
    },
    /// `~`.
    Neg,
    /// A namer does not know yet.
    Pending,
    /// Branches with their written weights.
    Union(Vec<(Weight, Delegation)>),
}

/// Explains a name. Unlike [`super::bind`] it follows every branch, and errors are nodes.
///
/// It differs from binding only in what it shows: a branch that is too deep is an exception at the alternation or union
/// around it. Without one around it, or when the whole is too wide, the explanation itself fails.
pub fn explain(layers: &Layers<'_>, names: &dyn Names, path: &Path, limits: &Limits) -> Result<Delegation, BindError> {
    let mut explainer = Explainer { layers: *layers, names, limits: *limits, nodes: 0, bytes: 0 };
    explainer.name(path.clone(), None, Place { depth: 0, nesting: 0 }).map_err(|stop| match stop {
        Stop::Branch(error) | Stop::Whole(error) => error,
    })
}

struct Explainer<'a> {
    layers: Layers<'a>,
    names: &'a dyn Names,
    limits: Limits,
    nodes: u32,
    bytes: usize,
}

#[derive(Clone, Copy)]
struct Place {
    depth: u16,
    nesting: u16,
}

/// Why there is no node.
enum Stop {
    /// Concerns this branch.
    Branch(BindError),
    /// Concerns everything.
    Whole(BindError),
}

type Node = Result<Delegation, Stop>;

impl Explainer<'_> {
    fn name(&mut self, path: Path, via: Option<&Dentry>, place: Place) -> Node {
        let chain = || Chain::new(via.as_slice());
        if place.depth >= self.limits.depth_max || place.nesting > Limits::NESTING_MAX {
            return Err(Stop::Branch(BindError::TooDeep { depth_max: self.limits.depth_max, chain: chain() }));
        }
        if path.bytes() > Path::BYTES_MAX || path.len() > Path::LABELS_MAX {
            return Err(Stop::Branch(BindError::TooLong { chain: chain() }));
        }
        self.count(path.bytes(), via)?;
        let matches = self.layers.matches(&path);
        match matches.as_slice() {
            [] => self.namers(path, via, place),
            [only] if only.dentry.destination == NameTree::Neg => {
                let said = self.namers(path.clone(), via, place)?;
                if said.is != Explained::Neg {
                    return Ok(said);
                }
                let child = node("~".to_owned(), Some(only.dentry), Explained::Neg);
                Ok(node(path.to_string(), via, Explained::Delegate(Box::new(child))))
            }
            [only] => {
                let child = self.destination(&only.dentry.destination, &path, only.dentry, place)?;
                Ok(merged_delegate(path.to_string(), via, child))
            }
            several => {
                let mut children = Vec::new();
                for found in several {
                    let child = self.destination(&found.dentry.destination, &path, found.dentry, place.inner());
                    children.push(caught(child, &path, via)?);
                }
                Ok(merged_alt(path.to_string(), via, children))
            }
        }
    }

    fn destination(&mut self, tree: &NameTree<Path>, name: &Path, dentry: &Dentry, place: Place) -> Node {
        let via = Some(dentry);
        match tree {
            NameTree::Leaf(leaf) => {
                let path = leaf.join(&name.skip(dentry.prefix.len()));
                self.name(path, via, Place { depth: place.depth + 1, ..place })
            }
            NameTree::Neg => Ok(node("~".to_owned(), via, Explained::Neg)),
            NameTree::Fail => Ok(node("!".to_owned(), via, Explained::Fail)),
            NameTree::Empty => Ok(node(name.to_string(), via, Explained::Empty)),
            NameTree::Alt(trees) => {
                let mut children = Vec::with_capacity(trees.len());
                for tree in trees {
                    self.count(0, via)?;
                    children.push(caught(self.destination(tree, name, dentry, place.inner()), name, via)?);
                }
                Ok(merged_alt(name.to_string(), via, children))
            }
            NameTree::Union(union) => {
                let mut branches = Vec::with_capacity(union.branches.len());
                for branch in &union.branches {
                    self.count(0, via)?;
                    let child = self.destination(&branch.tree, name, dentry, place.inner());
                    branches.push((branch.weight, caught(child, name, via)?));
                }
                Ok(node(name.to_string(), via, Explained::Union(branches)))
            }
        }
    }

    fn namers(&mut self, path: Path, via: Option<&Dentry>, place: Place) -> Node {
        let answer = match self.names.lookup(&path) {
            Answer::Neg => builtin(&path),
            Answer::Bound { id_len } => Builtin::Bound { id_len: id_len.min(path.len()) },
            Answer::Empty => Builtin::Empty,
            Answer::Fail => return Ok(node("!".to_owned(), via, Explained::Fail)),
            Answer::Rewrite(path) => Builtin::Rewrite { path, head: None },
            Answer::Pending => return Ok(node(path.to_string(), via, Explained::Pending)),
            Answer::Error(message) => {
                let error = BindError::Namer { path: path.to_string(), message };
                return Ok(node(path.to_string(), via, Explained::Exception(error.to_string())));
            }
        };
        let is = match answer {
            Builtin::Neg => Explained::Neg,
            Builtin::Empty => Explained::Empty,
            Builtin::Fail => Explained::Fail,
            Builtin::Bound { id_len } => Explained::Leaf { id: path.take(id_len), residual: path.skip(id_len) },
            Builtin::Rewrite { path, .. } => return self.name(path, via, Place { depth: place.depth + 1, ..place }),
            Builtin::Unknown(name) => {
                Explained::Exception(BindError::UnknownNamer { name, path: path.to_string() }.to_string())
            }
        };
        Ok(node(path.to_string(), via, is))
    }

    fn count(&mut self, bytes: usize, via: Option<&Dentry>) -> Result<(), Stop> {
        self.nodes += 1;
        self.bytes += bytes;
        if self.nodes > self.limits.nodes_max || self.bytes > Limits::BYTES_MAX {
            let chain = Chain::new(via.as_slice());
            return Err(Stop::Whole(BindError::TooWide { nodes_max: self.limits.nodes_max, chain }));
        }
        Ok(())
    }
}

impl Place {
    fn inner(self) -> Place {
        Place { nesting: self.nesting + 1, ..self }
    }
}

fn node(path: String, via: Option<&Dentry>, is: Explained) -> Delegation {
    let dentry = via.map(|dentry| (dentry.prefix.to_string(), dentry.destination.to_string()));
    Delegation { path, dentry, is }
}

/// An exception stands at the alternation or union around the branch.
fn caught(child: Node, around: &Path, via: Option<&Dentry>) -> Node {
    match child {
        Err(Stop::Branch(error)) => Ok(node(around.to_string(), via, Explained::Exception(error.to_string()))),
        other => other,
    }
}

/// An alternation takes over the children of one of the same name inside of it.
fn merged_alt(path: String, via: Option<&Dentry>, children: Vec<Delegation>) -> Delegation {
    let mut all = Vec::with_capacity(children.len());
    for child in children {
        match child.is {
            Explained::Alt(inner) if child.path == path => all.extend(inner),
            _ => all.push(child),
        }
    }
    node(path, via, Explained::Alt(all))
}

/// A delegate to a node of the same name is that node.
fn merged_delegate(path: String, via: Option<&Dentry>, child: Delegation) -> Delegation {
    if child.path == path && !matches!(child.is, Explained::Neg | Explained::Fail | Explained::Empty) {
        return node(path, via, child.is);
    }
    node(path, via, Explained::Delegate(Box::new(child)))
}
