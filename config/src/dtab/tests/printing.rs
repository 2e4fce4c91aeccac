//! What is printed, and what is said about mistakes.

use crate::dtab::{Dtab, NameTree, Path, Weight, format_source};

#[track_caller]
fn check_weight(text: &str, printed: &str) {
    assert_eq!(text.parse::<Weight>().unwrap().to_string(), printed);
}

#[track_caller]
fn check_message(text: &str, messages: &[&str]) {
    let errors = Dtab::parse(text).unwrap_err();
    assert_eq!(errors.iter().map(|error| error.in_text(text)).collect::<Vec<_>>(), messages);
}

#[track_caller]
fn check_hint(text: &str, part: &str) {
    let errors = Dtab::parse(text).unwrap_err();
    let hint = errors.iter().next().unwrap().hint().unwrap_or_default();
    assert!(hint.contains(part), "{hint:?}");
}

#[track_caller]
fn check_format(text: &str, formatted: &str) {
    assert_eq!(format_source(text).unwrap(), formatted);
    assert_eq!(format_source(formatted).unwrap(), formatted);
}

#[test]
fn weights_have_two_decimals_where_that_is_exact() {
    check_weight("1", "1.00");
    check_weight(".5", "0.50");
    check_weight("5.", "5.00");
    check_weight("0.125", "0.125");
    check_weight("0.999", "0.999");
    check_weight("0.00001", "0.00001");
    check_weight("123456789.25", "123456789.25");
}

#[test]
fn a_union_of_one_shows_its_weight() {
    let mut dtab: Dtab = "/a => 0.5 * /b & ~".parse().unwrap();
    dtab.assign_splits(0);
    assert_eq!(dtab.0.remove(0).destination.simplified().to_string(), "0.50*/b");
}

#[test]
fn escapes_print_whole_labels() {
    let path = Path::from_labels([&b"a b"[..], b"ok"]).unwrap();
    assert_eq!(path.to_string(), r"/\x61\x20\x62/ok");
    assert_eq!(r"/\x61\x62".parse::<Path>().unwrap().to_string(), "/ab");
}

#[test]
fn every_mistake_is_told_with_its_place() {
    check_message(
        "/a => /b\n/c => ! ;\nx ; /ok => /fine ; /d /e # ; not here\n ; /f => (/g",
        &[
            "end of input expected but '/' found at '/a => /b\n[/]c => ! ;\nx ; /ok => /fine ; /d /e # ; not here\n ; /f => (/g'",
            "'/' expected but 'x' found at '/a => /b\n/c => ! ;\n[x] ; /ok => /fine ; /d /e # ; not here\n ; /f => (/g'",
            "'=' expected but '/' found at '/a => /b\n/c => ! ;\nx ; /ok => /fine ; /d [/]e # ; not here\n ; /f => (/g'",
            "')' expected but end of input found at '/a => /b\n/c => ! ;\nx ; /ok => /fine ; /d /e # ; not here\n ; /f => (/g[]'",
        ],
    );
}

#[test]
fn an_error_in_a_long_text_shows_its_surroundings() {
    let text = format!("{} é /b", "/a => /b ;\n".repeat(100));
    let errors = Dtab::parse(&text).unwrap_err();
    let message = errors.in_text(&text);
    assert!(message.len() < 300 && message.contains("[é]") && message.contains('…'), "{message}");
    let plain = errors.to_string();
    assert_eq!(plain, "'/' expected but 'é' found at byte 1101");
}

#[test]
fn common_mistakes_have_a_hint() {
    check_hint("/a => /b /c => /d", "separated by `;`");
    check_hint("/a/ => /b", "no empty element");
    check_hint("/a* => /b", "a whole element");
    check_hint("/a => /b/*", "a whole element");
    check_hint("/a => 50% * /b", "a weight is");
    check_hint("/a => /b * 3", "before its name");
    check_hint("/a => /b*", "left of `=>`");
    check_hint("/a = /b", "`/prefix => /name`");
    check_hint("/a -> /b", "`/prefix => /name`");
    check_hint("/a", "`/prefix => /name`");
    check_hint("a => /b", "begins with `/`");
    check_hint("/a => /b^", r"\x5e");
    check_hint("/a => /é", r"\xc3\xa9");
}

#[test]
fn formatting_aligns_blocks_and_keeps_comments() {
    check_format(
        "# top\n\n\n/srv=>/#/clusters;/host/world  =>  /srv/world-v1 # trailing\n;\n# own line\n/svc=> 0.5*/a & .5 */b;\n\n\n/x => # inside\n /y\n# end",
        "# top\n\n/srv        => /#/clusters ;\n/host/world => /srv/world-v1 ; # trailing\n# own line\n/svc        => 0.50*/a & 0.50*/b ;\n\n# inside\n/x => /y ;\n# end\n",
    );
    check_format("", "");
    check_format("/a=>!", "/a => ! ;\n");
    check_format(" # only a comment", "# only a comment\n");
}

#[test]
fn very_long_prefixes_do_not_push_others() {
    let long = format!("/{}", "x".repeat(60));
    check_format(&format!("/a=>/b;{long}=>/c;"), &format!("/a => /b ;\n{long} => /c ;\n"));
    let dtab: Dtab = "/a=>/b;/abc=>/c".parse().unwrap();
    assert_eq!(dtab.pretty(), "/a   => /b ;\n/abc => /c ;\n");
}

#[test]
fn degenerate_trees_print_as_what_they_mean() {
    assert_eq!(NameTree::<Path>::Alt(Vec::new()).to_string(), "~");
}
