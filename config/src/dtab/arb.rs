//! Strategies: arbitrary names, trees, dtabs and weights.
#![allow(clippy::unwrap_used)] // labels made here are never empty

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Branch, Dentry, Dtab, Elem, NameTree, Path, Prefix, Union, Weight};

/// Mostly from a small alphabet, so that names meet dentries; sometimes any bytes.
pub(super) fn label() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop_oneof![Just("a"), Just("b"), Just("c"), Just("#"), Just("$")].prop_map(|label| label.as_bytes().to_vec()),
        1 => prop_oneof![Just("inet"), Just("nil"), Just("fail"), Just("80"), Just("io.buoyant.http.domainToPathPfx")]
            .prop_map(|label| label.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..4),
    ]
}

pub(super) fn path() -> impl Strategy<Value = Path> {
    vec(label(), 0..4).prop_map(|labels| Path::from_labels(labels).unwrap())
}

pub(super) fn prefix() -> impl Strategy<Value = Prefix> {
    vec(proptest::option::weighted(0.8, label()), 0..3).prop_map(|elems| {
        Prefix::from_elems(elems.iter().map(|elem| elem.as_deref().map_or(Elem::Any, Elem::Label))).unwrap()
    })
}

pub(super) fn weight() -> impl Strategy<Value = Weight> {
    prop_oneof![
        4 => (0_u32..=100).prop_map(Weight::from),
        4 => (0_u32..=10_000).prop_map(|n| Weight::new(f64::from(n) / 1000.0).unwrap()),
        1 => any::<f64>().prop_filter_map("a weight", Weight::new),
        1 => Just(Weight::ZERO),
    ]
}

/// As the parser could have made it: no alternation or union of one, branches numbered.
pub(super) fn tree() -> impl Strategy<Value = NameTree<Path>> {
    tree_of(path())
}

pub(super) fn tree_of<T: Clone + std::fmt::Debug + 'static>(
    leaf: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = NameTree<T>> {
    let simple = prop_oneof![
        6 => leaf.prop_map(NameTree::Leaf),
        1 => Just(NameTree::Neg),
        1 => Just(NameTree::Fail),
        1 => Just(NameTree::Empty),
    ];
    simple.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(NameTree::Alt),
            vec((weight(), inner), 2..4).prop_map(|branches| union(branches)),
        ]
    })
}

fn union<T>(branches: Vec<(Weight, NameTree<T>)>) -> NameTree<T> {
    let branches = (0..).zip(branches).map(|(index, (weight, tree))| Branch { weight, index, tree }).collect();
    NameTree::Union(Union { split: None, branches })
}

pub(super) fn dtab() -> impl Strategy<Value = Dtab> {
    vec((prefix(), tree()).prop_map(|(prefix, destination)| Dentry { prefix, destination }), 0..8).prop_map(Dtab)
}

/// Text near the language: what is right and what is almost right.
pub(super) fn source() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        6 => path().prop_map(|path| path.to_string()),
        3 => Just("=>".to_owned()),
        3 => Just(";".to_owned()),
        1 => weight().prop_map(|weight| format!("{weight}*")),
        6 => "[ \t\n|&*()!~$#/;=>.0-9a\\\\x\u{2003}é-]",
        1 => "\n?# [a-z;>]{0,6}\n",
    ];
    vec(token, 0..24).prop_map(|tokens| tokens.concat())
}
