//! Laws that hold for everything.

use std::sync::Arc;

use proptest::prelude::*;

use crate::dtab::{Dtab, NameTree, Path, Table, Weight, arb, invariants};

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_its_place(text in any::<String>()) {
        invariants::check_text(&text);
    }

    #[test]
    fn text_near_the_language_is_read_or_refused_with_its_place(text in arb::source()) {
        invariants::check_text(&text);
    }

    #[test]
    fn display_then_parse_gives_back_the_path(path in arb::path()) {
        prop_assert_eq!(Path::parse(&path.to_string()), Ok(path));
    }

    #[test]
    fn display_then_parse_gives_back_the_tree(tree in arb::tree()) {
        prop_assert_eq!(NameTree::parse(&tree.to_string()), Ok(tree));
    }

    #[test]
    fn display_then_parse_gives_back_the_dtab(dtab in arb::dtab()) {
        invariants::check_text(&dtab.to_string());
        prop_assert_eq!(Dtab::parse(&dtab.to_string()), Ok(dtab));
    }

    #[test]
    fn display_then_parse_gives_back_the_weight(weight in arb::weight()) {
        prop_assert_eq!(weight.to_string().parse(), Ok(weight));
    }

    #[test]
    fn display_then_parse_gives_back_any_finite_number(value in any::<f64>()) {
        if let Some(weight) = Weight::new(value) {
            prop_assert_eq!(weight.to_string().parse(), Ok(weight));
        }
    }

    #[test]
    fn simplify_is_a_fixpoint(tree in arb::tree()) {
        let simplified = tree.simplified();
        prop_assert_eq!(simplified.clone().simplified(), simplified);
    }

    #[test]
    fn simplify_keeps_the_meaning(tree in arb::tree()) {
        let simplified = tree.clone().simplified();
        prop_assert_eq!(simplified.eval(), tree.eval());
    }

    #[test]
    fn an_index_finds_what_a_scan_finds(dtab in arb::dtab(), path in arb::path()) {
        prop_assert_eq!(Table::new(Arc::new(dtab.clone())).lookup(&path), dtab.lookup(&path));
    }

    #[test]
    fn binding_ends_within_its_limits(base in arb::dtab(), written in arb::dtab(), sent in arb::dtab(), path in arb::path()) {
        invariants::check_binding(&base, &written, &sent, &path);
    }

    #[test]
    fn a_path_is_its_parts_joined(path in arb::path(), n in 0_usize..6) {
        prop_assert_eq!(path.take(n).join(&path.skip(n)), path.clone());
        prop_assert!(path.starts_with(&path.take(n)));
        let mut backwards: Vec<_> = path.labels().rev().collect();
        backwards.reverse();
        prop_assert_eq!(path.labels().collect::<Vec<_>>(), backwards);
        prop_assert_eq!(path.len(), path.labels().len());
        prop_assert_eq!(path.bytes(), path.labels().map(<[u8]>::len).sum::<usize>());
    }

    #[test]
    fn paths_are_ordered_by_their_labels(a in arb::path(), b in arb::path()) {
        prop_assert_eq!(a.cmp(&b), a.labels().cmp(b.labels()));
        prop_assert_eq!(a == b, a.labels().eq(b.labels()));
    }

    #[test]
    fn formatting_twice_is_formatting_once(dtab in arb::dtab(), comments in proptest::collection::vec("[ -~é]{0,9}", 8)) {
        let mut text = String::new();
        for (dentry, comment) in dtab.0.iter().zip(&comments) {
            text += &format!("# {comment}\n{} #{comment}\n =>\n\n {} {} # behind\n", dentry.prefix, dentry.destination, ";");
        }
        invariants::check_text(&text);
    }
}
