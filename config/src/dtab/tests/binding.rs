//! Binding, its trace, and its explanation.

use std::sync::Arc;

use crate::dtab::invariants::AnyName;
use crate::dtab::{
    Bound, Builtin, Dtab, Layers, Limits, NameTree, Path, Pattern, PatternError, Settled, Table, bind, bind_traced,
    builtin, explain, settled,
};

fn bound(dtab: &str, rules: &str, sent: &str, path: &str) -> NameTree<Bound> {
    let mut dtab: Dtab = dtab.parse().unwrap();
    dtab.assign_splits(0);
    let (table, rules, sent) = (Table::new(Arc::new(dtab)), rules.parse().unwrap(), sent.parse().unwrap());
    let layers = Layers { base: &table, written: &[&rules], sent: &[&sent] };
    bind(&layers, &AnyName, &path.parse().unwrap(), &Limits::default())
}

#[track_caller]
fn check_bind(dtab: &str, path: &str, tree: &str) {
    assert_eq!(bound(dtab, "", "", path).to_string(), tree);
}

#[track_caller]
fn check_written(dtab: &str, rules: &str, sent: &str, path: &str, expected: &[(&str, bool)]) {
    let tree = bound(dtab, rules, sent, path);
    let leaves: Vec<_> = tree
        .leaves()
        .into_iter()
        .map(|leaf| match leaf {
            Bound::Name { id, written, .. } => (id.to_string(), *written),
            other => panic!("{other}"),
        })
        .collect();
    let expected: Vec<_> = expected.iter().map(|(id, written)| ((*id).to_owned(), *written)).collect();
    assert_eq!(leaves, expected);
}

#[test]
fn alternatives_and_unions_are_kept() {
    check_bind("/s => /#/a/1 | 3*/#/a/2 & /#/a/3 | !", "/s/x", "/#/a/1/x | 3.00*/#/a/2/x & /#/a/3/x | !");
}

#[test]
fn what_can_never_be_chosen_is_left_out() {
    check_bind("/s => /#/a/1 | /#/none | /#/a/2", "/s", "/#/a/1 | /#/a/2");
    check_bind("/s => /#/a/1 | ! | /#/a/2", "/s", "/#/a/1 | !");
    check_bind("/s => $ | /#/a/2", "/s", "$");
    check_bind("/s => /#/c | /#/a/2", "/s", "(pending)");
    check_bind("/s => (/#/a/1 | !) | /#/a/2", "/s", "/#/a/1 | !");
}

#[test]
fn a_split_of_one_stays_a_split_so_that_its_weight_can_change() {
    check_bind("/s => 0*/#/a/1 & 100*/#/none", "/s", "0.00*/#/a/1");
    check_bind("/s => 5*/#/a/1 & 95*/#/none | /#/a/2", "/s", "5.00*/#/a/1 | /#/a/2");
}

#[test]
fn a_union_that_came_with_the_request_needs_no_split() {
    assert_eq!(bound("", "", "/s => 5*/#/a/1 & /#/none", "/s").to_string(), "/#/a/1");
    assert_eq!(bound("", "", "/s => 0*/#/a/1 & /#/none", "/s").to_string(), "~");
}

#[test]
fn an_only_dentry_that_says_nothing_asks_the_namers() {
    check_bind("/#/a => ~", "/#/a/1", "/#/a/1");
    check_bind("/#/a => ~; /#/a => ~", "/#/a/1", "~");
}

#[test]
fn a_rewriting_namer_starts_again() {
    check_bind("/x => /#/a", "/#/b/x/1", "/#/a/1");
}

#[test]
fn errors_of_some_branches_do_not_hide_that_others_were_ready() {
    let tree = bound("/s => /#/d & /#/none", "", "", "/s");
    assert_eq!(settled(&tree), Settled::Tree(NameTree::Neg));
    let tree = bound("/s => /#/d & /#/d/x", "", "", "/s");
    assert!(matches!(settled(&tree), Settled::Error(_)));
    let tree = bound("/s => /#/c & /#/none | /#/a/1", "", "", "/s");
    assert!(matches!(settled(&tree), Settled::Tree(NameTree::Leaf(Bound::Name { .. }))), "{tree}");
}

#[test]
fn a_union_that_nobody_can_draw_is_nothing() {
    let settles = |dtab: &str| match settled(&bound(dtab, "", "", "/s")) {
        Settled::Error(error) => error.to_string(),
        Settled::Pending => "pending".to_owned(),
        Settled::Tree(tree) => tree
            .map(&mut |name| match name {
                Bound::Name { id, .. } => id.to_string(),
                other => format!("{other:?}"),
            })
            .to_string(),
    };
    assert_eq!(settles("/s => 0*/#/a/1 & 0*/#/a/2"), "~");
    assert_eq!(settles("/s => (0*/#/a/1 & 0*/#/a/2) | /#/a/3"), "/#/a/3");
    assert_eq!(settles("/s => 0*/#/a/1 & 1*/#/none"), "~");
    assert_eq!(settles("/s => 0*/#/a/1 & 1*/#/c"), "pending");
    assert_eq!(settles("/s => 0*/#/a/1 & 1*/#/a/2"), "0.00*/#/a/1 & /#/a/2", "0 % beside 100 % stays");
}

#[test]
fn names_from_the_configuration_count_as_written() {
    check_written("/svc => /$/inet/127.0.0.1/80", "", "", "/svc/web", &[("/$/inet/127.0.0.1/80", true)]);
    check_written("/svc/x => /y", "/y => /#/a/1", "", "/svc/x", &[("/#/a/1", true)]);
    check_written("/p => /$/inet; /svc => /p/127.0.0.1/80", "", "", "/svc/web", &[("/$/inet/127.0.0.1/80", true)]);
    check_written(
        "/svc => /int; /int => /$/inet/10.0.0.1/80",
        "",
        "/svc/a => /int",
        "/svc/a",
        &[("/$/inet/10.0.0.1/80", true), ("/$/inet/10.0.0.1/80", true)],
    );
}

#[test]
fn names_from_the_request_do_not_count_as_written() {
    check_written("", "", "", "/$/inet/127.0.0.1/80", &[("/$/inet/127.0.0.1/80", false)]);
    check_written("/svc => /$/inet", "", "", "/svc/127.0.0.1/80", &[("/$/inet/127.0.0.1/80", false)]);
    check_written("/svc => /$/inet/127.0.0.1", "", "", "/svc/80", &[("/$/inet/127.0.0.1/80", false)]);
    check_written("", "", "/svc => /$/inet/127.0.0.1/80", "/svc/a", &[("/$/inet/127.0.0.1/80", false)]);
    check_written("/x => /$/inet", "", "/svc => /x/127.0.0.1/80", "/svc/a", &[("/$/inet/127.0.0.1/80", false)]);
    let reversed = "/h => /$/inet; /svc => /$/io.buoyant.http.domainToPathPfx/h";
    check_written(reversed, "", "", "/svc/80.localhost", &[("/$/inet/localhost/80", false)]);
    let split = "/h => /$/inet; /svc => /$/io.buoyant.hostportPfx/h";
    check_written(split, "", "", "/svc/localhost:80", &[("/$/inet/localhost/80", false)]);
    check_written("/x => /#/b", "", "", "/x/#/a/1", &[("/#/a/1", false)]);
}

#[test]
fn a_configured_head_of_a_rewritten_name_leads_on() {
    let dtab = "/h => /#/a/all; /svc => /$/io.buoyant.http.domainToPathPfx/h";
    check_written(dtab, "", "", "/svc/web.test", &[("/#/a/all", true)]);
}

#[test]
fn a_trace_tells_every_step() {
    let table = Table::new(Arc::new("/svc => /host ; /host/web => /#/a/1 | /$/nope".parse().unwrap()));
    let sent: Dtab = "/svc/web => ~".parse().unwrap();
    let layers = Layers { base: &table, written: &[], sent: &[&sent] };
    let (_, trace) = bind_traced(&layers, &AnyName, &"/svc/web".parse().unwrap(), &Limits::default());
    let steps: Vec<_> = trace.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "/svc/web  by request dtab 1  /svc/web => ~  is  ~",
            "/svc/web  by the router's dtab  /svc => /host  is  /host/web",
            "/host/web  by the router's dtab  /host/web => /#/a/1 | /$/nope  is  /#/a/1 | /$/nope",
            "/#/a/1  is  bound /#/a/1",
            "/$/nope  is  Unknown namer: nope for path: /$/nope",
        ]
    );
}

#[test]
fn an_explanation_shows_what_binding_never_reaches() {
    let table = Table::new(Arc::new("/svc => /loop & ! & /#/a/1 ; /loop => /loop".parse().unwrap()));
    let layers = Layers { base: &table, written: &[], sent: &[] };
    let explained = explain(&layers, &AnyName, &"/svc".parse().unwrap(), &Limits::default()).unwrap();
    let shown = format!("{explained:?}");
    assert!(shown.contains("Exception(\"Max recursion level: 100") && shown.contains("Fail"), "{shown}");
    let alone = explain(&layers, &AnyName, &"/loop".parse().unwrap(), &Limits::default());
    assert!(alone.unwrap_err().to_string().contains("Max recursion level"));
}

#[test]
fn built_in_names_refuse_what_does_not_fit() {
    let check = |path: &str, expected: Builtin| assert_eq!(builtin(&path.parse::<Path>().unwrap()), expected, "{path}");
    let unknown = |name: &str| Builtin::Unknown(name.to_owned());
    check("/$", Builtin::Neg);
    check("/$/inet", unknown("inet"));
    check("/$/inet/host/http", unknown("inet"));
    check("/$/inet/host/0", unknown("inet"));
    check("/$/inet/host/65536", unknown("inet"));
    check("/$/inet/8080/9090", Builtin::Bound { id_len: 4 });
    check("/$/fixedinet/host/65535", Builtin::Bound { id_len: 4 });
    check("/$/io.buoyant.rinet/80", Builtin::Neg);
    check("/$/io.buoyant.rinet/http/web", Builtin::Neg);
    check("/$/io.buoyant.http.status/599/x", Builtin::Bound { id_len: 3 });
    check("/$/io.buoyant.http.status/600", Builtin::Neg);
    check("/$/io.buoyant.http.status/0404", Builtin::Neg);
    check("/$/io.buoyant.http.domainToPath/a..b", Builtin::Neg);
    check("/$/io.buoyant.http.domainToPath/..", Builtin::Neg);
    check("/$/io.buoyant.http.domainToPath/a.b:80./c", rewrite("/b:80/a/c", None));
    check("/$/io.buoyant.http.subdomainOf/a.b/a.b", Builtin::Neg);
    check("/$/io.buoyant.http.subdomainOf/a.b/.a.b", Builtin::Neg);
    check("/$/io.buoyant.http.subdomainOf/a.b/xa.b", Builtin::Neg);
    check("/$/io.buoyant.http.subdomainOfPfx/a.b/p/x.a.b/r", rewrite("/p/x/r", Some(3)));
    check("/$/io.buoyant.http.anyHost/h", rewrite("/", None));
    check("/$/io.buoyant.http.anyMethodPfx/p/GET", rewrite("/p", Some(2)));
    check("/$/io.buoyant.hostportPfx/p/:80", Builtin::Neg);
    check("/$/io.buoyant.porthostPfx/p/h:80/r", rewrite("/p/80/h/r", Some(2)));
    check("/$/fail/x", Builtin::Fail);
    check("/#/x", Builtin::Neg);
}

fn rewrite(path: &str, head: Option<usize>) -> Builtin {
    Builtin::Rewrite { path: path.parse().unwrap(), head }
}

#[test]
fn patterns_are_anchored_and_greedy() {
    let check = |pattern: &str, path: &str, taken: Option<&str>| {
        let found = Pattern::parse(pattern).unwrap().captures(&path.parse().unwrap());
        let found = found
            .map(|found| found.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(","));
        assert_eq!(found.as_deref(), taken, "{pattern} on {path}");
    };
    check("/{a}-{b}", "/x-y-z", Some("a=x-y,b=z"));
    check("/v{a}", "/wv1", None);
    check("/{a}.com", "/x.com.org", None);
    check("/{a}aa{b}", "/aaa", Some("a=a,b="));
    check("/{a}ab{b}b", "/ab", None);
    check("/{a}{b}", "/xy", Some("a=xy,b="));
    check("/a/*", "/a", None);
    check("/", "/a/b", Some(""));
    check("/{x}", r"/\x2f", Some(r"x=\x2f"));
}

#[test]
fn bad_patterns_are_refused_when_they_are_read() {
    let check = |pattern: &str, error: PatternError| assert_eq!(Pattern::parse(pattern), Err(error), "{pattern}");
    check("a", PatternError::NoSlash);
    check("/a//b", PatternError::EmptySegment);
    check("/a/", PatternError::EmptySegment);
    check("/a*", PatternError::Wildcard);
    check("/{a-b}", PatternError::CaptureName);
    check("/{a.b}", PatternError::CaptureName);
    check("/{}", PatternError::CaptureName);
    check("/{a", PatternError::UnpairedBrace);
    check("/a}", PatternError::UnpairedBrace);
    check("/{a}}", PatternError::UnpairedBrace);
    assert_eq!(Pattern::parse("/x{a}-{b}/*").unwrap().to_string(), "/x{a}-{b}/*");
    assert_eq!(Pattern::parse("/x{a}-{b}/*").unwrap().names().collect::<Vec<_>>(), ["a", "b"]);
}
