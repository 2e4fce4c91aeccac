use proptest::prelude::*;

use super::*;

fn read_ok(text: &str, check: impl FnOnce(&Source, &Node<'_>)) {
    let source = Source::new("t", text);
    let mut sink = Sink::default();
    let node = read(&source, &mut sink);
    check(&source, &node.unwrap_or_else(|| panic!("{text:?}: {sink:?}")));
}

fn check_refused(text: &str, code: &str, position: &str) {
    let source = Source::new("t", text);
    let mut sink = Sink::default();
    assert!(read(&source, &mut sink).is_none(), "{text:.100}");
    let diagnostics = sink.finish::<()>(None).unwrap_err();
    let found: Vec<_> = diagnostics.iter().map(|d| (d.code, d.position(&source).to_string())).collect();
    assert_eq!(found, [(code, position.to_owned())], "{:.100}", text);
}

/// The value of the only key of a map.
fn only<'n, 's>(node: &'n Node<'s>) -> &'n Node<'s> {
    let Value::Map(entries) = &node.value else { panic!("{node:?}") };
    &entries[0].value
}

/// Every visible character of the value must map to the same character, or its escape, in the file.
fn check_mapping(text: &str) {
    read_ok(text, |source, node| {
        let node = only(node);
        let Value::Scalar(scalar) = &node.value else { panic!("{node:?}") };
        for (at, c) in scalar.text.char_indices().filter(|(_, c)| !c.is_whitespace()) {
            let span = map_spans(source, node, &[Span::new(at, at + c.len_utf8())])[0];
            let mapped = &source.text()[span.start..span.end];
            assert!(mapped == c.to_string() || mapped.starts_with('\\') || mapped == "''", "{text:?} {at}: {mapped:?}");
        }
        let end = map_spans(source, node, &[Span::at(scalar.text.len())])[0];
        assert!(end.end <= node.span.end && end.start >= node.span.start);
    });
}

fn at_depth(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn keys_and_values_know_their_places() {
    read_ok("a:\n  b: x\n", |source, node| {
        let Value::Map(entries) = &only(node).value else { panic!("{node:?}") };
        let (key, value) = (entries[0].key_span, entries[0].value.span);
        assert_eq!(
            (source.position(key.start).to_string(), source.position(value.start).to_string()),
            ("2:3".into(), "2:6".into())
        );
    });
}

#[test]
fn json_is_yaml() {
    read_ok(r#"{"a": {"b": [1, "x\n", true, null]}}"#, |_, node| {
        let Value::Map(entries) = &only(node).value else { panic!("{node:?}") };
        let Value::List(items) = &entries[0].value.value else { panic!("{node:?}") };
        assert_eq!((items.len(), items[3].is_null()), (4, true));
    });
}

#[test]
fn what_a_configuration_does_not_need_is_refused_where_it_stands() {
    check_refused("a: &x 1\nb: *x\n", "yaml/alias", "2:4");
    check_refused("a: 1\n---\nb: 1\n", "yaml/documents", "2:1");
    check_refused("a: !thing 1\n", "yaml/tag", "1:11");
    check_refused("[a]: 1\n", "yaml/key", "1:1");
    check_refused("a: *x\n", "yaml/syntax", "1:4");
    check_refused("a: b: c\n", "yaml/syntax", "1:5");
    check_refused("", "yaml/empty", "1:1");
    check_refused("# only a comment\n", "yaml/empty", "1:1");
}

#[test]
fn depth_ends_at_its_limit() {
    read_ok(&at_depth(DEPTH_MAX), |_, _| {});
    check_refused(&at_depth(DEPTH_MAX + 1), "yaml/too-deep", &format!("1:{}", DEPTH_MAX + 1));
    // Far past it, where a recursive reader would have no stack left, the library ends it first.
    check_refused(&at_depth(100_000), "yaml/syntax", "1:256");
}

#[test]
fn length_ends_at_its_limit() {
    let at = format!("a: 1\n#{}", "x".repeat(SOURCE_BYTES_MAX - 6));
    assert_eq!(at.len(), SOURCE_BYTES_MAX);
    read_ok(&at, |_, _| {});
    check_refused(&format!("{at}x"), "yaml/too-long", "1:1");
}

#[test]
fn nodes_end_at_their_limit() {
    let mut sink = Sink::default();
    let (nodes, nodes_max) = (NODES_MAX - 1, NODES_MAX);
    let mut builder = Builder { sink: &mut sink, nodes, nodes_max, open: Vec::new(), done: None, failed: false };
    builder.count(Span::at(0));
    assert!(!builder.failed);
    builder.count(Span::at(0));
    assert!(builder.failed);
}

#[test]
fn bytes_that_are_not_text_are_refused_where_they_begin() {
    let source = Source::from_bytes("t", b"a: 1\nb: \xff\n".to_vec());
    let mut sink = Sink::default();
    assert!(read(&source, &mut sink).is_none());
    let diagnostics = sink.finish::<()>(None).unwrap_err();
    assert_eq!(diagnostics[0].position(&source).to_string(), "2:4");
}

#[test]
fn places_map_through_every_style() {
    check_mapping("a: /x => /y\n");
    check_mapping("a: /x =>\n  /y ;\n\n  /z => /w\n");
    check_mapping("a: '/x => /y''z'\n");
    check_mapping("a: \"/x \\x3d> \\\"/y\\u00e9\\n\\\n  /z\\t\"\n");
    check_mapping("a: |\n  /x => /y\n\n    /z => /w # é\n");
    check_mapping("a: |2-\n     /x => /y\n   /z\n");
    check_mapping("a: >\n  /x => /y\n  /z => /w\n\n  /v\n");
    check_mapping("a: |\r\n  /x => /y\r\n  /z\r\n");
    check_mapping("{a: /x => /y}\n");
}

proptest! {
    #[test]
    fn reading_never_panics_and_spans_lie_in_the_text(text in "[a-c:{}\\[\\]\"' \n\t|>#&*!é-]{0,60}") {
        let source = Source::new("t", text);
        let mut sink = Sink::default();
        let node = read(&source, &mut sink);
        if let Ok((_, warnings)) = sink.finish(node.as_ref()) {
            prop_assert!(warnings.is_empty());
        }
        let mut open: Vec<&Node<'_>> = node.iter().collect();
        while let Some(node) = open.pop() {
            prop_assert!(source.text().get(node.span.start..node.span.end).is_some());
            match &node.value {
                Value::Scalar(_) => {}
                Value::List(items) => open.extend(items),
                Value::Map(entries) => open.extend(entries.iter().map(|entry| &entry.value)),
            }
        }
    }

    #[test]
    fn places_map_through_blocks_quotes_and_folds(lines in proptest::collection::vec("[a-z/=>;é]{1,8}( [a-z/'\"]{1,5})?", 1..6)) {
        let joined = |prefix: &str, separator: &str| lines.iter().map(|line| format!("{prefix}{line}")).collect::<Vec<_>>().join(separator);
        check_mapping(&format!("a: |2\n{}\n", joined("  ", "\n")));
        check_mapping(&format!("a: >2\n{}\n", joined("   ", "\n")));
        check_mapping(&format!("a: '{}'\n", joined("", "\n  ").replace('\'', "''")));
        check_mapping(&format!("a: \"{}\"\n", joined("", "\\n").replace('"', "\\x22")));
    }
}
