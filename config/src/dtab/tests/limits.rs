//! Every limit: at it, and one beyond.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::dtab::invariants::AnyName;
use crate::dtab::{
    BindError, Bound, Chain, Dtab, Expected, HEADER_BYTES_MAX, HEADER_DENTRIES_MAX, HeaderDtabError, Layers, Limits,
    NESTING_MAX, NameTree, Path, Pattern, PatternError, SyntaxErrors, TREE_NODES_MAX, Table, Trace, bind, bind_traced,
    override_dtab,
};

#[track_caller]
fn check_refused(result: Result<impl std::fmt::Debug, SyntaxErrors>, max: usize) {
    let errors = result.unwrap_err();
    let first = errors.iter().next().unwrap();
    assert!(matches!(first.expected, Expected::AtMost { max: limit, .. } if limit == max), "{errors}");
}

fn check_bind(dtab: &str, path: &str, limits: Limits) -> NameTree<Bound> {
    let table = Table::new(Arc::new(dtab.parse().unwrap()));
    let layers = Layers { base: &table, written: &[], sent: &[] };
    bind(&layers, &AnyName, &path.parse().unwrap(), &limits)
}

#[test]
fn a_path_has_so_many_labels() {
    let labels = |n| "/a".repeat(n);
    assert_eq!(Path::parse(&labels(Path::LABELS_MAX)).unwrap().len(), Path::LABELS_MAX);
    check_refused(Path::parse(&labels(Path::LABELS_MAX + 1)), Path::BYTES_MAX);
    assert!(Path::from_labels(vec!["a"; Path::LABELS_MAX]).is_some());
    assert_eq!(Path::from_labels(vec!["a"; Path::LABELS_MAX + 1]), None);
}

#[test]
fn a_path_has_so_many_bytes() {
    let label = |n| format!("/{}", "a".repeat(n));
    assert_eq!(Path::parse(&label(Path::BYTES_MAX)).unwrap().bytes(), Path::BYTES_MAX);
    check_refused(Path::parse(&label(Path::BYTES_MAX + 1)), Path::BYTES_MAX);
    assert_eq!(Path::from_labels(["a".repeat(Path::BYTES_MAX), "b".to_owned()]), None);
    assert_eq!(Path::from_labels(["a", ""]), None);
}

#[test]
fn parentheses_nest_so_deep() {
    let nested = |n| format!("{}/a{}", "(".repeat(n), ")".repeat(n));
    assert!(NameTree::parse(&nested(NESTING_MAX)).is_ok());
    check_refused(NameTree::parse(&nested(NESTING_MAX + 1)), NESTING_MAX);
    check_refused(NameTree::parse(&"(".repeat(1_000_000)), NESTING_MAX);
    // Each dentry counts for itself, also after a mistake.
    let twice = format!("/a => {0} ; /b => (((; /c => {0}", nested(NESTING_MAX));
    assert_eq!(Dtab::parse(&twice).unwrap_err().iter().len(), 1);
}

#[test]
fn a_tree_has_so_many_nodes() {
    let alt = |leaves| vec!["~"; leaves].join("|");
    assert!(NameTree::parse(&alt(TREE_NODES_MAX - 1)).is_ok()); // the alternation itself counts too
    check_refused(NameTree::parse(&alt(TREE_NODES_MAX)), TREE_NODES_MAX);
    check_refused(NameTree::parse(&alt(TREE_NODES_MAX + 1)), TREE_NODES_MAX);
}

#[test]
fn a_weight_is_finite_and_not_endless() {
    let digits = |n: usize| format!("{}.0", "0".repeat(n - 2));
    assert!(digits(400).parse::<crate::dtab::Weight>().is_ok());
    check_refused(digits(401).parse::<crate::dtab::Weight>(), 400);
    assert!("9".repeat(308).parse::<crate::dtab::Weight>().is_ok());
    let error = "9".repeat(310).parse::<crate::dtab::Weight>().unwrap_err();
    assert_eq!(error.iter().next().unwrap().expected, Expected::Weight);
}

#[test]
fn so_many_mistakes_are_told() {
    let bad = |n| vec!["x"; n].join(";");
    assert_eq!(Dtab::parse(&bad(SyntaxErrors::MAX)).unwrap_err().iter().len(), SyntaxErrors::MAX);
    assert_eq!(Dtab::parse(&bad(SyntaxErrors::MAX + 1)).unwrap_err().iter().len(), SyntaxErrors::MAX);
}

#[test]
fn a_dtab_of_a_configuration_has_no_limit() {
    let mut text = String::new();
    for n in 0..100_000 {
        writeln!(text, "/svc/s{n} => /#/a/{n} ;").unwrap();
    }
    let table = Table::new(Arc::new(text.parse().unwrap()));
    assert_eq!(table.lookup(&"/svc/s99999/x".parse().unwrap()).to_string(), "/#/a/99999/x");
}

#[test]
fn ninety_nine_rewrites_and_a_name_bind_and_one_more_does_not() {
    let chain = |n: u32| {
        let mut text = String::new();
        for step in 0..n {
            write!(text, "/{step} => /{} ;", step + 1).unwrap();
        }
        write!(text, "/{n} => /#/a/id").unwrap(); // the lookup of /#/a/id is one more
        text
    };
    assert_eq!(check_bind(&chain(98), "/0", Limits::default()).to_string(), "/#/a/id");
    let NameTree::Leaf(Bound::Error(error)) = check_bind(&chain(99), "/0", Limits::default()) else {
        panic!("bound beyond the limit")
    };
    assert!(error.to_string().contains("Max recursion level: 100 reached in Namer lookup"), "{error}");
    assert!(error.to_string().contains("/0=>/1"), "{error}");
    assert!(error.to_string().len() < 1000, "{error}");
    assert!(matches!(error, BindError::TooDeep { depth_max: 100, chain: Chain { left_out: 92, .. } }), "{error:?}");
}

#[test]
fn a_loop_that_doubles_ends_and_names_its_dentries() {
    let tree = check_bind("/a => /a & /a", "/a", Limits::default());
    let NameTree::Leaf(Bound::Error(error @ BindError::TooWide { .. })) = tree else { panic!("{tree}") };
    assert!(error.to_string().contains("/a=>/a & /a"), "{error}");
}

#[test]
fn a_binding_visits_so_many_nodes() {
    // The first lookup, then a branch and a lookup for each of three names.
    let nodes_max = 7;
    let limits = Limits { nodes_max, ..Limits::default() };
    assert_eq!(check_bind("/a => /#/a/1 & /#/a/2 & /#/a/3", "/a", limits).leaves().len(), 3);
    let limits = Limits { nodes_max: nodes_max - 1, ..limits };
    let tree = check_bind("/a => /#/a/1 & /#/a/2 & /#/a/3", "/a", limits);
    assert!(matches!(tree, NameTree::Leaf(Bound::Error(BindError::TooWide { nodes_max: 6, .. }))), "{tree}");
}

#[test]
fn a_name_that_grows_is_stopped() {
    let long = "x".repeat(Path::BYTES_MAX / 2);
    let tree = check_bind(&format!("/a => /a/{long}"), "/a", Limits::default());
    assert!(matches!(tree, NameTree::Leaf(Bound::Error(BindError::TooLong { .. }))), "{tree:?}");
    let bound = format!("/#/a/{}", "x".repeat(Path::BYTES_MAX - 2));
    assert!(matches!(check_bind("", &bound, Limits::default()), NameTree::Leaf(Bound::Name { .. })));
    let tree = check_bind(&format!("/b => {bound}"), "/b/y", Limits::default());
    assert!(matches!(tree, NameTree::Leaf(Bound::Error(BindError::TooLong { .. }))), "one byte more");
}

#[test]
fn all_names_of_a_binding_have_so_many_bytes() {
    let name = |n: usize| format!("/#/a/{}{n:03}", "x".repeat(Path::BYTES_MAX - 5));
    let many = |n: usize| format!("/a => {}", (0..n).map(name).collect::<Vec<_>>().join(" & "));
    let fits = Limits::BYTES_MAX / Path::BYTES_MAX - 1; // the name itself has a byte too
    assert_eq!(check_bind(&many(fits), "/a", Limits::default()).leaves().len(), fits);
    let tree = check_bind(&many(fits + 1), "/a", Limits::default());
    assert!(matches!(tree, NameTree::Leaf(Bound::Error(BindError::TooWide { .. }))));
}

#[test]
fn a_bound_tree_nests_so_deep() {
    // Each step is an alternation in a union: two levels.
    let nested = "/a => (/b & /#/a/x) | /#/a/y ; /b => (/a & /#/a/x) | /#/a/z";
    let tree = check_bind(nested, "/a", Limits { depth_max: 200, ..Limits::default() });
    let depth = |tree: &NameTree<Bound>| tree.to_string().matches("(").count();
    assert!(depth(&tree) <= usize::from(Limits::NESTING_MAX) + 2, "{}", depth(&tree));
    assert!(tree.leaves().iter().any(|leaf| matches!(leaf, Bound::Error(BindError::TooDeep { .. }))));
}

#[test]
fn a_trace_keeps_so_many_steps() {
    let dtab: Dtab = "/a => /b & /b & /b ; /b => /c & /c & /c ; /c => /d & /d & /d ; /d => /e & /e & /e ; /e => /f & /f & /f ; /f => /g & /g ; /g => /#/a/1 & /#/a/2"
        .parse()
        .unwrap();
    let table = Table::new(Arc::new(dtab));
    let layers = Layers { base: &table, written: &[], sent: &[] };
    let (_, trace) = bind_traced(&layers, &AnyName, &"/a".parse().unwrap(), &Limits::default());
    assert_eq!((trace.steps.len(), trace.truncated), (Trace::STEPS_MAX, true));
    let (_, trace) = bind_traced(&layers, &AnyName, &"/c".parse().unwrap(), &Limits::default());
    assert!(!trace.truncated && trace.steps.len() > 50);
}

#[test]
fn a_trace_cuts_long_texts() {
    let table = Table::new(Arc::new(Dtab::default()));
    let layers = Layers { base: &table, written: &[], sent: &[] };
    let text = |n: usize| {
        let path = format!("/{}", "x".repeat(n - 1));
        let (_, trace) = bind_traced(&layers, &AnyName, &path.parse().unwrap(), &Limits::default());
        trace.steps[0].path.clone()
    };
    assert_eq!(text(Trace::TEXT_BYTES_MAX).len(), Trace::TEXT_BYTES_MAX);
    let cut = text(Trace::TEXT_BYTES_MAX + 1);
    assert_eq!(cut.strip_suffix('…').map(str::len), Some(Trace::TEXT_BYTES_MAX));
}

#[test]
fn headers_hold_so_many_bytes_and_dentries() {
    let read = |value: &str| override_dtab(std::iter::empty(), [value.as_bytes()].into_iter());
    let padded = |n: usize| format!("/a=>/b{}", " ".repeat(n - 6));
    assert!(read(&padded(HEADER_BYTES_MAX)).is_ok());
    assert_eq!(read(&padded(HEADER_BYTES_MAX + 1)), Err(HeaderDtabError::TooLarge));
    let dentries = |n| vec!["/a=>/b"; n].join(";");
    assert_eq!(read(&dentries(HEADER_DENTRIES_MAX)).unwrap().unwrap().0.len(), HEADER_DENTRIES_MAX);
    assert_eq!(read(&dentries(HEADER_DENTRIES_MAX + 1)), Err(HeaderDtabError::TooMany));
    assert_eq!(read(" # nothing"), Ok(None));
    let not_text = override_dtab([&b"\xff"[..]].into_iter(), std::iter::empty());
    assert_eq!(not_text, Err(HeaderDtabError::Text { header: "l5d-ctx-dtab" }));
    let bad = read("i am not a dtab").unwrap_err().to_string();
    assert_eq!(bad, "l5d-dtab: '/' expected but 'i' found at '[i] am not a dtab'");
}

#[test]
fn a_pattern_is_no_longer_than_a_path() {
    let segments = |n| "/*".repeat(n);
    assert!(Pattern::parse(&segments(Path::LABELS_MAX)).is_ok());
    assert_eq!(Pattern::parse(&segments(Path::LABELS_MAX + 1)), Err(PatternError::TooLong));
}
