//! Prefixes with numbers behind them, found by the names that begin so.

use std::collections::HashMap;

use crate::dtab::{Elem, Prefix};

use super::super::names::{Name, Part, host_of};

/// A tree of labels.
#[derive(Debug)]
pub(super) struct Index {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    labels: HashMap<Box<[u8]>, usize>,
    /// The same, as hosts: there may be many hosts to compare with, and they are made of their labels once.
    hosts: Vec<(Box<[u8]>, usize)>,
    any: Option<usize>,
    here: Vec<usize>,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    /// The number behind the prefix.
    pub(super) at: usize,
    /// Every name with the prefix is one of those that were asked for.
    pub(super) inside: bool,
}

impl Default for Index {
    fn default() -> Self {
        Index { nodes: vec![Node::default()] }
    }
}

impl Index {
    pub(super) fn add(&mut self, prefix: &Prefix, number: usize) {
        let mut at = 0;
        for elem in prefix.elems() {
            let next = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return };
            at = match elem {
                Elem::Any => *node.any.get_or_insert(next),
                Elem::Label(label) => match node.labels.get(label) {
                    Some(child) => *child,
                    None => {
                        node.hosts.push((host_of(label).into(), next));
                        *node.labels.entry(label.into()).or_insert(next)
                    }
                },
            };
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.here.push(number);
        }
    }

    /// Numbers behind prefixes that some of these names begin with, in their order: up to `most`, and one if there are more.
    pub(super) fn find(&self, name: &Name, most: usize) -> Vec<Found> {
        let mut found = Vec::new();
        // A place in the tree, and whether all below it is inside as soon as the name is used up.
        let mut open = vec![(0, 0, true)];
        while let Some((at, used, whole)) = open.pop() {
            let Some(node) = self.nodes.get(at) else { continue };
            found.extend(node.here.iter().map(|at| Found { at: *at, inside: whole && used >= name.len() }));
            if found.len() > most {
                found.truncate(most + 1);
                break;
            }
            // `*` of a prefix has more names than a label or a host.
            let any = |whole| node.any.map(|child| (child, used + 1, whole));
            match name.parts().get(used) {
                Some(Part::Label(label)) => {
                    open.extend(any(false));
                    open.extend(node.labels.get(label).map(|child| (*child, used + 1, whole)));
                }
                Some(Part::Host(host)) => {
                    open.extend(any(false));
                    let hosts = node.hosts.iter().filter(|(label, _)| host.covers(label));
                    open.extend(hosts.map(|(_, child)| (*child, used + 1, whole)));
                }
                Some(Part::Any | Part::Http) | None => {
                    open.extend(any(whole));
                    open.extend(node.labels.values().map(|child| (*child, used + 1, whole)));
                }
            }
        }
        found.sort_unstable();
        found
    }
}
