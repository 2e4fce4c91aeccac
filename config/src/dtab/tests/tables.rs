//! Lookups, splits and layers.

use std::sync::Arc;

use crate::dtab::{Dtab, Layer, Layers, Path, Prefix, SplitId, Table};

#[track_caller]
fn check_lookup(dtab: &str, path: &str, tree: &str) {
    let (dtab, path) = (dtab.parse::<Dtab>().unwrap(), path.parse().unwrap());
    assert_eq!(dtab.lookup(&path).to_string(), tree);
    assert_eq!(Table::new(Arc::new(dtab)).lookup(&path).to_string(), tree);
}

#[test]
fn later_dentry_is_tried_first() {
    check_lookup("/s => /a; /s => /b", "/s/web", "/b/web | /a/web");
}

#[test]
fn order_alone_decides_not_length() {
    check_lookup("/s/web => /a; /s => /b; / => /c; /*/* => /d", "/s/web", "/d | /c/s/web | /b/web | /a");
}

#[test]
fn a_star_matches_one_label() {
    check_lookup("/*/b => /x; /a/* => /y; /* => /z", "/a/b/c", "/z/b/c | /y/c | /x/c");
    check_lookup("/*/b => /x", "/b", "~");
    check_lookup("/* => /x", "/", "~");
}

#[test]
fn a_label_is_matched_byte_for_byte() {
    check_lookup(r"/a\x2fb => /x", r"/a\x2fb/c", "/x/c");
    check_lookup("/a => /x", "/A", "~");
    check_lookup("/a => /x", "/ab", "~");
}

#[test]
fn a_prefix_becomes_a_path_unless_it_is_wild() {
    assert_eq!("/a/b".parse::<Prefix>().unwrap().to_path(), Some("/a/b".parse().unwrap()));
    assert_eq!("/a/*".parse::<Prefix>().unwrap().to_path(), None);
    assert_eq!(Prefix::from("/a".parse::<Path>().unwrap()).to_string(), "/a");
}

#[test]
fn splits_are_numbered_as_they_are_written() {
    let mut dtab: Dtab = "/a => /b; /c => 2*(/d & /e | /f) & /g | 3*/h & /i; /j => /k & /l".parse().unwrap();
    let shapes = dtab.assign_splits(7);
    let seen: Vec<_> = shapes
        .iter()
        .map(|shape| (shape.id.0, shape.prefix.to_string(), shape.ordinal, shape.arms.join(" ")))
        .collect();
    let expected =
        [(7, "/c", 0, "/d & /e | /f /g"), (8, "/c", 1, "/d /e"), (9, "/c", 2, "/h /i"), (10, "/j", 0, "/k /l")];
    assert_eq!(seen, expected.map(|(id, prefix, ordinal, arms)| (id, prefix.to_owned(), ordinal, arms.to_owned())));
    assert_eq!(shapes[0].weights.iter().map(|weight| weight.get()).collect::<Vec<_>>(), [2.0, 1.0]);
    let ids: Vec<_> = dtab.0.iter().flat_map(|dentry| dentry.destination.unions()).map(|union| union.split).collect();
    assert_eq!(ids, [7, 8, 9, 10].map(|id| Some(SplitId(id))));
}

#[test]
fn what_is_sent_overrides_rules_and_rules_override_the_table() {
    let parse = |text: &str| text.parse::<Dtab>().unwrap();
    let table = Table::new(Arc::new(parse("/a => /1; / => /2; /a => /3")));
    let (rule, other_rule, context, user) =
        (parse("/a => /4"), parse("/b => /x; /a => /5"), parse("/a => /6; /a => /7"), parse("/a => /8"));
    let layers = Layers { base: &table, written: &[&rule, &other_rule], sent: &[&context, &user] };
    let matches = layers.matches(&"/a".parse().unwrap());
    let order: Vec<_> = matches.iter().map(|found| found.dentry.destination.to_string()).collect();
    assert_eq!(order, ["/8", "/7", "/6", "/5", "/4", "/3", "/2", "/1"]);
    assert_eq!((matches[0].layer, matches[3].layer, matches[3].position), (Layer::Sent(1), Layer::Written(1), 1));
    assert_eq!((matches[5].layer, matches[5].position), (Layer::Base, 2));
}
