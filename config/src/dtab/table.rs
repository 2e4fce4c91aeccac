//! An index over a dtab, and the layers a request's dtab is made of.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::path::encode_label;
use super::{Dentry, Dtab, Elem, NameTree, Path, Prefix, alternatives};

/// A dtab with an index: a lookup costs one probe for each length and pattern of `*` among the prefixes, however many
/// dentries there are.
#[derive(Clone, Debug)]
pub struct Table {
    dtab: Arc<Dtab>,
    /// The last dentry with this prefix.
    last: HashMap<Key, u32>,
    /// For each dentry the one before it with the same prefix.
    previous: Box<[Option<u32>]>,
    shapes: Vec<Shape>,
}

/// The dtabs of one request, in the order they override each other.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    /// The router's dtab, tried last.
    pub base: &'a Table,
    /// Further dtabs from the configuration (rules); the last one is tried first of them.
    pub written: &'a [&'a Dtab],
    /// Dtabs that came with the request; tried before all others, the last one first.
    pub sent: &'a [&'a Dtab],
}

/// Which of the [`Layers`] a dentry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The router's dtab.
    Base,
    /// This one of the dtabs that came with the request.
    Sent(usize),
    /// This one of the dtabs from rules.
    Written(usize),
}

/// A dentry that matches a path.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// Where it comes from.
    pub layer: Layer,
    /// Its place in that dtab, from 0.
    pub position: usize,
    /// What it says.
    pub dentry: &'a Dentry,
}

/// Prefixes of one length with `*` at the same places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shape {
    any: Box<[bool]>,
}

/// A prefix found by the bytes of its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key(Prefix);

impl Table {
    /// Indexes a dtab. Dentries beyond the 4,294,967,295th are ignored.
    pub fn new(dtab: Arc<Dtab>) -> Table {
        let mut last = HashMap::with_capacity(dtab.0.len());
        let mut seen = HashMap::new();
        let mut shapes = Vec::new();
        let mut previous = Vec::with_capacity(dtab.0.len());
        for (position, dentry) in (0_u32..).zip(&dtab.0) {
            previous.push(last.insert(Key(dentry.prefix.clone()), position));
            let shape = Shape { any: dentry.prefix.elems().map(|elem| elem == Elem::Any).collect() };
            if seen.insert(shape.clone(), ()).is_none() {
                shapes.push(shape);
            }
        }
        Table { last, previous: previous.into(), shapes, dtab }
    }

    /// What it is an index of.
    pub fn dtab(&self) -> &Arc<Dtab> {
        &self.dtab
    }

    /// The same as [`Dtab::lookup`].
    pub fn lookup(&self, path: &Path) -> NameTree<Path> {
        let mut positions = Vec::new();
        self.positions(path, &mut positions);
        alternatives(positions.into_iter().map(|position| self.dtab.0[position].apply(path)).collect())
    }

    /// Positions of the dentries that match, last first.
    fn positions(&self, path: &Path, found: &mut Vec<usize>) {
        let mut masked = Vec::new();
        for shape in self.shapes.iter().filter(|shape| shape.any.len() <= path.len()) {
            let key = if shape.any.contains(&true) {
                masked.clear();
                for (label, &any) in path.labels().zip(&shape.any) {
                    encode_label(if any { b"" } else { label }, &mut masked);
                }
                masked.as_slice()
            } else {
                path.encoded_take(shape.any.len())
            };
            let mut next = self.last.get(key).copied();
            while let Some(position) = next.and_then(|position| usize::try_from(position).ok()) {
                found.push(position);
                next = self.previous[position];
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
    }
}

impl<'a> Layers<'a> {
    /// All dentries that match, in the order they are tried.
    pub fn matches(&self, path: &Path) -> Vec<Match<'a>> {
        let mut found = Vec::new();
        for (index, dtab) in self.sent.iter().enumerate().rev() {
            scan(dtab, Layer::Sent(index), path, &mut found);
        }
        for (index, dtab) in self.written.iter().enumerate().rev() {
            scan(dtab, Layer::Written(index), path, &mut found);
        }
        let mut positions = Vec::new();
        self.base.positions(path, &mut positions);
        found.extend(positions.into_iter().map(|position| Match {
            layer: Layer::Base,
            position,
            dentry: &self.base.dtab.0[position],
        }));
        found
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.0.encoded()
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.encoded().hash(state);
    }
}

fn scan<'a>(dtab: &'a Dtab, layer: Layer, path: &Path, found: &mut Vec<Match<'a>>) {
    let matching = dtab.0.iter().enumerate().rev().filter(|(_, dentry)| dentry.prefix.matches(path));
    found.extend(matching.map(|(position, dentry)| Match { layer, position, dentry }));
}
