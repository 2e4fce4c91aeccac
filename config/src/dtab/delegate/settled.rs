//! A bound tree with its alternatives decided.

use super::{BindError, Bound};
use crate::dtab::{Branch, NameTree, Union};

/// What a bound tree is right now by the rules of Linkerd 1: alternatives decided, unready branches left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled<'t> {
    /// The first error that decides.
    Error(&'t BindError),
    /// A name that decides is not known yet.
    Pending,
    /// No alternation and no error is left in it.
    Tree(NameTree<Bound>),
}

/// Decides the alternatives of a bound tree by names alone, and leaves unready branches of unions out as long as one is
/// ready.
pub fn settled(tree: &NameTree<Bound>) -> Settled<'_> {
    match tree {
        NameTree::Leaf(Bound::Error(error)) => Settled::Error(error),
        NameTree::Leaf(Bound::Pending) => Settled::Pending,
        NameTree::Leaf(name) => Settled::Tree(NameTree::Leaf(name.clone())),
        NameTree::Neg => Settled::Tree(NameTree::Neg),
        NameTree::Fail => Settled::Tree(NameTree::Fail),
        NameTree::Empty => Settled::Tree(NameTree::Empty),
        NameTree::Alt(children) => children
            .iter()
            .map(settled)
            .find(|child| *child != Settled::Tree(NameTree::Neg))
            .unwrap_or(Settled::Tree(NameTree::Neg)),
        NameTree::Union(union) => settled_union(union),
    }
}

fn settled_union(union: &Union<Bound>) -> Settled<'_> {
    let (mut ready, mut error, mut pending) = (Vec::new(), None, false);
    for branch in &union.branches {
        match settled(&branch.tree) {
            Settled::Error(first) => error = error.or(Some(first)),
            Settled::Pending => pending = true,
            Settled::Tree(tree) => ready.push(Branch { weight: branch.weight, index: branch.index, tree }),
        }
    }
    // what nobody can draw decides no more than what is not there
    match (is_without_share(&ready), error, pending) {
        (true, Some(error), _) => Settled::Error(error),
        (true, None, true) => Settled::Pending,
        (true, None, false) => Settled::Tree(NameTree::Neg),
        // Without its id, so that a union of one becomes that one.
        _ => Settled::Tree(NameTree::Union(Union { split: None, branches: ready }).simplified()),
    }
}

/// Is there nothing that could be drawn: no branch at all, or names whose weights are all 0. Linkerd 1 draws those evenly, so
/// it must not see them either.
fn is_without_share(ready: &[Branch<Bound>]) -> bool {
    let mut something = ready.iter().filter(|branch| !matches!(branch.tree, NameTree::Neg | NameTree::Fail)).peekable();
    ready.is_empty() || (something.peek().is_some() && something.all(|branch| branch.weight.is_zero()))
}
