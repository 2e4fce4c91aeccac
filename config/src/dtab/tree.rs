//! Name trees: what a name may become.

use std::fmt;
use std::str::FromStr;

use super::Path;
use super::error::SyntaxErrors;
use super::parse;

/// A relative share in a union: finite and not negative. 0 means never.
///
/// Prints with two decimals where that reads back exactly, with as many as needed otherwise.
///
/// ```
/// use serin_config::dtab::Weight;
/// assert_eq!(Weight::new(0.5).unwrap().to_string(), "0.50");
/// assert_eq!(Weight::new(0.333).unwrap().to_string(), "0.333");
/// assert_eq!(Weight::new(-1.0), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Weight(f64);

/// Names one weighted union of a router for as long as its structure lives: weights are looked up by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SplitId(pub u32);

/// A tree of alternatives and weighted unions over names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameTree<T> {
    /// A name: a path still to look up or, after binding, what it is bound to.
    Leaf(T),
    /// `~`: nothing here, the next alternative is tried.
    Neg,
    /// `!`: stop, definitely nothing.
    Fail,
    /// `$`: exists and has no members.
    Empty,
    /// `a | b`: the first that is not [`NameTree::Neg`].
    Alt(Vec<NameTree<T>>),
    /// `2 * a & b`: all, each with its share.
    Union(Union<T>),
}

/// A weighted union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Union<T> {
    /// Under which its weights may be replaced; `None` if nobody gave it one.
    pub split: Option<SplitId>,
    /// In the order they were written.
    pub branches: Vec<Branch<T>>,
}

/// One arm of a union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch<T> {
    /// As written.
    pub weight: Weight,
    /// The place in the union as written, from 0. It survives simplification, so a weight can be looked up by split and
    /// index.
    pub index: u16,
    /// What gets the share.
    pub tree: NameTree<T>,
}

/// Most nodes (leaves, `~`, `!`, `$`, alternations and unions) of one tree that is read from text.
pub const TREE_NODES_MAX: usize = 4096;

impl Weight {
    /// The weight of a branch without one.
    pub const ONE: Weight = Weight(1.0);
    /// Never.
    pub const ZERO: Weight = Weight(0.0);

    /// `None` for negative, infinite and not a number.
    pub fn new(value: f64) -> Option<Weight> {
        // -0.0 would print a sign that the language has not.
        if value.is_finite() && value >= 0.0 { Some(Weight(value + 0.0)) } else { None }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// Does it mean never?
    pub fn is_zero(self) -> bool {
        self.0 == 0.0
    }
}

impl Eq for Weight {} // no NaN by construction

impl std::hash::Hash for Weight {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state); // no -0.0 by construction
    }
}

impl From<u32> for Weight {
    fn from(value: u32) -> Weight {
        Weight(f64::from(value))
    }
}

impl FromStr for Weight {
    type Err = SyntaxErrors;

    fn from_str(text: &str) -> Result<Weight, SyntaxErrors> {
        parse::weight(text)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = format!("{:.2}", self.0);
        if short.parse() == Ok(self.0) { f.write_str(&short) } else { write!(f, "{}", self.0) }
    }
}

impl NameTree<Path> {
    /// Reads one tree; white space and comments may surround it.
    pub fn parse(text: &str) -> Result<NameTree<Path>, SyntaxErrors> {
        parse::tree(text)
    }
}

impl FromStr for NameTree<Path> {
    type Err = SyntaxErrors;

    fn from_str(text: &str) -> Result<NameTree<Path>, SyntaxErrors> {
        NameTree::parse(text)
    }
}

impl<T> NameTree<T> {
    /// The same meaning in its smallest form; a fixpoint.
    ///
    /// An alternation loses its `~` and everything behind its first `!`; a union loses its `~` and `!`, and the other
    /// weights stay as they are. What is left with one child becomes that child, except a union with a [`SplitId`]: its
    /// weights may still change. What is left with none is `~`.
    #[must_use]
    pub fn simplified(self) -> NameTree<T> {
        match self {
            NameTree::Alt(children) => {
                let mut kept = Vec::with_capacity(children.len());
                for child in children {
                    match child.simplified() {
                        NameTree::Neg => {}
                        NameTree::Fail => {
                            kept.push(NameTree::Fail);
                            break;
                        }
                        other => kept.push(other),
                    }
                }
                only_or(kept, NameTree::Alt)
            }
            NameTree::Union(Union { split, branches }) => {
                let branches = branches.into_iter().map(|branch| Branch { tree: branch.tree.simplified(), ..branch });
                let kept: Vec<_> =
                    branches.filter(|branch| !matches!(branch.tree, NameTree::Neg | NameTree::Fail)).collect();
                match (split, kept.len()) {
                    (_, 0) => NameTree::Neg,
                    (None, 1) => only_or(kept.into_iter().map(|branch| branch.tree).collect(), NameTree::Alt),
                    _ => NameTree::Union(Union { split, branches: kept }),
                }
            }
            leaf => leaf,
        }
    }

    /// Every leaf replaced by what `f` makes of it.
    pub fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> NameTree<U> {
        match self {
            NameTree::Leaf(value) => NameTree::Leaf(f(value)),
            NameTree::Neg => NameTree::Neg,
            NameTree::Fail => NameTree::Fail,
            NameTree::Empty => NameTree::Empty,
            NameTree::Alt(children) => NameTree::Alt(children.iter().map(|child| child.map(f)).collect()),
            NameTree::Union(union) => NameTree::Union(Union {
                split: union.split,
                branches: union
                    .branches
                    .iter()
                    .map(|branch| Branch { weight: branch.weight, index: branch.index, tree: branch.tree.map(f) })
                    .collect(),
            }),
        }
    }

    /// All leaves, in the order they are written.
    pub fn leaves(&self) -> Vec<&T> {
        let mut leaves = Vec::new();
        self.visit(&mut |tree| {
            if let NameTree::Leaf(value) = tree {
                leaves.push(value);
            }
        });
        leaves
    }

    /// All unions, outer before inner, left before right.
    pub fn unions(&self) -> Vec<&Union<T>> {
        let mut unions = Vec::new();
        self.visit(&mut |tree| {
            if let NameTree::Union(union) = tree {
                unions.push(union);
            }
        });
        unions
    }

    /// Calls `f` with this tree and every tree in it, outer before inner, left before right.
    pub fn visit<'t>(&'t self, f: &mut impl FnMut(&'t NameTree<T>)) {
        f(self);
        match self {
            NameTree::Leaf(_) | NameTree::Neg | NameTree::Fail | NameTree::Empty => {}
            NameTree::Alt(children) => children.iter().for_each(|child| child.visit(f)),
            NameTree::Union(union) => union.branches.iter().for_each(|branch| branch.tree.visit(f)),
        }
    }

    /// The leaves it stands for: of an alternation those of the first child that is not Neg, of a union those of all
    /// children. `None` if there is nothing: `!` and `~`. `$` stands for no leaf.
    pub fn eval(&self) -> Option<Vec<&T>> {
        match self.value() {
            Value::Set(leaves) => Some(leaves),
            Value::Fail | Value::Neg => None,
        }
    }

    fn value(&self) -> Value<'_, T> {
        match self {
            NameTree::Leaf(value) => Value::Set(vec![value]),
            NameTree::Neg => Value::Neg,
            NameTree::Fail => Value::Fail,
            NameTree::Empty => Value::Set(Vec::new()),
            NameTree::Alt(children) => {
                children.iter().map(NameTree::value).find(|value| !matches!(value, Value::Neg)).unwrap_or(Value::Neg)
            }
            NameTree::Union(union) => {
                let mut all: Option<Vec<&T>> = None;
                for branch in &union.branches {
                    if let Value::Set(leaves) = branch.tree.value() {
                        all.get_or_insert_default().extend(leaves);
                    }
                }
                all.map_or(Value::Neg, Value::Set)
            }
        }
    }
}

enum Value<'t, T> {
    Fail,
    Neg,
    Set(Vec<&'t T>),
}

fn only_or<T>(mut kept: Vec<NameTree<T>>, many: impl FnOnce(Vec<NameTree<T>>) -> NameTree<T>) -> NameTree<T> {
    match kept.len() {
        0 => NameTree::Neg,
        1 => kept.pop().unwrap_or(NameTree::Neg),
        _ => many(kept),
    }
}

impl<T: fmt::Display> fmt::Display for NameTree<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameTree::Leaf(value) => value.fmt(f),
            NameTree::Neg => f.write_str("~"),
            NameTree::Fail => f.write_str("!"),
            NameTree::Empty => f.write_str("$"),
            NameTree::Alt(children) => {
                if children.is_empty() {
                    return f.write_str("~");
                }
                for (index, child) in children.iter().enumerate() {
                    let separator = if index == 0 { "" } else { " | " };
                    match child {
                        NameTree::Alt(_) => write!(f, "{separator}({child})")?,
                        _ => write!(f, "{separator}{child}")?,
                    }
                }
                Ok(())
            }
            NameTree::Union(union) => {
                if union.branches.is_empty() {
                    return f.write_str("~");
                }
                for (index, branch) in union.branches.iter().enumerate() {
                    let separator = if index == 0 { "" } else { " & " };
                    write!(f, "{separator}{branch}")?;
                }
                Ok(())
            }
        }
    }
}

/// As it stands in its union.
impl<T: fmt::Display> fmt::Display for Branch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.weight != Weight::ONE {
            write!(f, "{}*", self.weight)?;
        }
        match &self.tree {
            NameTree::Alt(_) | NameTree::Union(_) => write!(f, "({})", self.tree),
            simple => simple.fmt(f),
        }
    }
}
