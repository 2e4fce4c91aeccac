//! What must hold for every text and every dtab: called by the property tests and by the fuzz targets, which fail by
//! its assertions.

use std::sync::Arc;

use super::{
    Answer, Bound, Dtab, Layers, LeafState, Limits, NameTree, Names, Path, Rules, SyntaxErrors, Table, bind_traced,
    explain, format_source, pick, settled, shares,
};

/// No text makes the parsers fail otherwise than with errors inside of it; what is accepted prints as text that reads
/// as the same.
pub fn check_text(text: &str) {
    match Path::parse(text) {
        Ok(path) => assert_eq!(Path::parse(&path.to_string()), Ok(path)),
        Err(errors) => check_errors(&errors, text),
    }
    match NameTree::parse(text) {
        Ok(tree) => assert_eq!(NameTree::parse(&tree.to_string()), Ok(tree)),
        Err(errors) => check_errors(&errors, text),
    }
    match Dtab::parse(text) {
        Ok(dtab) => check_dtab(&dtab, text),
        Err(errors) => {
            check_errors(&errors, text);
            assert_eq!(format_source(text), Err(errors));
        }
    }
}

/// A binding ends within its limits, whatever the dtabs say, and what comes of it can be picked from.
pub fn check_binding(base: &Dtab, written: &Dtab, sent: &Dtab, path: &Path) {
    let mut base = base.clone();
    base.assign_splits(0);
    let table = Table::new(Arc::new(base));
    assert_eq!(table.lookup(path), table.dtab().lookup(path), "the index finds what a scan finds");
    let (written, sent) = ([written], [sent]);
    let layers = Layers { base: &table, written: &written, sent: &sent };
    let limits = Limits { depth_max: 20, nodes_max: 300 };
    let (tree, trace) = bind_traced(&layers, &AnyName, path, &limits);
    let mut nodes = 0_u32;
    tree.visit(&mut |_| nodes += 1);
    assert!(nodes <= 2 * limits.nodes_max + 2, "{nodes} nodes");
    assert!(trace.steps.iter().all(|step| step.depth < limits.depth_max), "a lookup beyond the limit");
    settled(&tree);
    let states = |leaf: &Bound| match leaf {
        Bound::Error(_) => LeafState::Error,
        Bound::Pending => LeafState::Pending,
        Bound::Name { id, .. } if id.len() % 3 == 0 => LeafState::Unusable,
        Bound::Name { .. } => LeafState::Usable,
    };
    let rules = Rules::default();
    let total: f64 = shares(&tree, &(), &states, &rules).iter().map(|(_, share)| share).sum();
    assert!((total - 1.0).abs() < 1e-9, "shares sum to {total}");
    pick(&tree, &mut |_| u64::MAX, &(), &states, &rules);
    drop(explain(&layers, &AnyName, path, &limits));
}

/// Answers by the labels of the name alone, everything there is.
pub struct AnyName;

impl Names for AnyName {
    fn lookup(&self, path: &Path) -> Answer {
        if path.label(0) != Some(b"#") {
            return Answer::Neg;
        }
        match path.label(1) {
            Some(b"a") => Answer::Bound { id_len: 3 },
            Some(b"b") => Answer::Rewrite(path.skip(2)),
            Some(b"c") => Answer::Pending,
            Some(b"d") => Answer::Error("failed on purpose".to_owned()),
            Some(b"e") => Answer::Empty,
            Some(b"f") => Answer::Fail,
            _ => Answer::Neg,
        }
    }
}

fn check_dtab(dtab: &Dtab, text: &str) {
    assert_eq!(Dtab::parse(&dtab.to_string()).as_ref(), Ok(dtab), "printed and read back");
    assert_eq!(Dtab::parse(&dtab.pretty()).as_ref(), Ok(dtab), "printed prettily and read back");
    let formatted = format_source(text).unwrap_or_default();
    assert_eq!(Dtab::parse(&formatted).as_ref(), Ok(dtab), "formatted and read back");
    assert_eq!(format_source(&formatted).as_ref(), Ok(&formatted), "formatted twice");
    let Ok((_, spans)) = Dtab::parse_with_spans(text) else { return };
    assert_eq!(spans.dentries.len(), dtab.0.len());
    for (dentry, span) in dtab.0.iter().zip(spans.dentries) {
        assert_eq!(text[span.prefix].parse().as_ref(), Ok(&dentry.prefix));
        assert_eq!(text[span.destination].parse().as_ref(), Ok(&dentry.destination));
        let leaves: Vec<_> = span.leaves.into_iter().map(|leaf| text[leaf].parse::<Path>()).collect();
        assert_eq!(leaves, dentry.destination.leaves().into_iter().cloned().map(Ok).collect::<Vec<_>>());
        let unions = span.unions.into_iter().map(|union| text[union].parse::<NameTree<Path>>());
        let expected = dentry.destination.unions().into_iter().cloned().map(|union| Ok(NameTree::Union(union)));
        assert!(unions.eq(expected), "the spans of unions");
    }
    for comment in spans.comments {
        assert!(text[comment.clone()].starts_with('#') && !text[comment].contains('\n'));
    }
}

fn check_errors(errors: &SyntaxErrors, text: &str) {
    assert!((1..=SyntaxErrors::MAX).contains(&errors.iter().len()));
    for error in errors.iter() {
        assert!(error.span.start <= error.span.end && text.get(error.span.clone()).is_some(), "{error:?} outside");
        assert!(!error.in_text(text).is_empty());
        error.hint();
    }
    assert!(errors.iter().map(|error| error.span.start).is_sorted());
}
