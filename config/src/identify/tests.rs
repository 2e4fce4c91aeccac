use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;

/// A request with a host, a target without query and fields.
#[derive(Clone, Copy)]
struct Asked<'a> {
    version: &'a str,
    host: Option<&'a str>,
    path: &'a str,
    fields: &'a [(&'a str, &'a str)],
}

impl Request for Asked<'_> {
    fn method(&self) -> &[u8] {
        b"GET"
    }

    fn is_http10(&self) -> bool {
        self.version == "1.0"
    }

    fn host(&self) -> Option<&[u8]> {
        self.host.map(str::as_bytes)
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes())
    }
}

const PLAIN: Asked<'static> = Asked { version: "1.1", host: Some("Web:80"), path: "/", fields: &[] };

fn name_of(identifiers: &[Identifier], request: &Asked<'_>) -> Option<(String, Identified)> {
    let mut key = Vec::new();
    let found = identify(identifiers, &Path::parse("/svc").unwrap(), request, &mut key)?;
    Some((path(&key).unwrap().to_string(), found))
}

#[track_caller]
fn check(identifier: Identifier, request: Asked<'_>, name: Option<&str>) {
    let found = name_of(std::slice::from_ref(&identifier), &request).map(|(name, _)| name);
    assert_eq!(found.as_deref(), name, "{identifier:?}");
}

fn token(header: Field, host: HostRule) -> Identifier {
    Identifier::HeaderToken { header, host }
}

fn segments(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

#[test]
fn hosts_lose_case_and_port_unless_verbatim() {
    let host = |host| Asked { host: Some(host), ..PLAIN };
    check(token(Field::Host, HostRule::Normalized), host("World:8080"), Some("/svc/world"));
    check(token(Field::Host, HostRule::Verbatim), host("World:8080"), Some("/svc/World:8080"));
    check(token(Field::Host, HostRule::Normalized), host("[::1]:80"), Some(r"/svc/\x5b\x3a\x3a\x31\x5d"));
    check(token(Field::Host, HostRule::Normalized), host("[::1]"), Some(r"/svc/\x5b\x3a\x3a\x31\x5d"));
    check(token(Field::Host, HostRule::Normalized), host(":80"), None);
    check(token(Field::Host, HostRule::Normalized), host(""), None);
    check(token(Field::Host, HostRule::Normalized), Asked { host: None, ..PLAIN }, None);
}

#[test]
fn a_token_has_a_bound() {
    for (octets, found) in [(TOKEN_BYTES_MAX, true), (TOKEN_BYTES_MAX + 1, false)] {
        let value = "x".repeat(octets);
        for rule in [HostRule::Verbatim, HostRule::Normalized] {
            let request = Asked { host: Some(&value), ..PLAIN };
            assert_eq!(name_of(&[token(Field::Host, rule)], &request).is_some(), found, "{octets}");
        }
    }
}

#[test]
fn a_name_has_a_bound() {
    // the mark, `svc` and the label, each with its length
    let most = NAME_BYTES_MAX - 1 - 5 - 2;
    for (octets, found) in [(most, true), (most + 1, false), (70_000, false)] {
        let written = format!("/{}", "x".repeat(octets));
        let request = Asked { path: &written, ..PLAIN };
        let by_path = Identifier::Path { segments: segments(1), consume: false };
        assert_eq!(name_of(&[by_path], &request).is_some(), found, "{octets}");
        let by_header = Identifier::HeaderPath { header: Field::Path, segments: None };
        assert_eq!(name_of(&[by_header], &request).is_some(), found, "{octets}");
        let fixed = Identifier::Static { path: Path::parse(&written[..written.len().min(9_000)]).unwrap() };
        assert_eq!(name_of(&[fixed], &request).is_some(), found, "{octets}");
    }
}

#[test]
fn other_fields_become_one_element_as_they_are() {
    let request = Asked { path: "/a/b", fields: &[("x-name", "A/b")], ..PLAIN };
    check(token(Field::Named("x-name".into()), HostRule::Normalized), request, Some(r"/svc/\x41\x2f\x62"));
    check(token(Field::Method, HostRule::Normalized), request, Some("/svc/GET"));
    check(token(Field::Path, HostRule::Normalized), request, Some(r"/svc/\x2f\x61\x2f\x62"));
    check(token(Field::Named("x-other".into()), HostRule::Normalized), request, None);
}

#[test]
fn segments_of_the_path_are_taken_raw() {
    let by = |n| Identifier::Path { segments: segments(n), consume: false };
    let path = |path| Asked { path, ..PLAIN };
    check(by(1), path("/a%20b/c"), Some("/svc/a%20b"));
    check(by(2), path("/a/!/c"), Some(r"/svc/a/\x21"));
    check(by(2), path("/a/"), None);
    check(by(2), path("/a//b"), None);
    check(by(1), path("//a"), None);
    check(by(1), path("*"), None);
    check(by(1), path(""), None);
}

#[test]
fn consumed_segments_are_not_sent_on() {
    let by = Identifier::Path { segments: segments(2), consume: true };
    for (path, sent) in [("/a/b/c/", "/c/"), ("/a/b/", "/"), ("/a/b", "/"), ("/a/b//c", "//c")] {
        let (name, found) = name_of(std::slice::from_ref(&by), &Asked { path, ..PLAIN }).unwrap();
        assert_eq!((name.as_str(), rest(path, found.consumed)), ("/svc/a/b", sent), "{path}");
    }
    assert_eq!(rest("/a", 0), "/a");
    assert_eq!(rest("", 9), "/");
}

#[test]
fn a_header_that_is_no_path_ends_the_search() {
    let by = || Identifier::Header { header: "l5d-name".into() };
    let last = Identifier::Static { path: Path::parse("/last").unwrap() };
    for (value, name) in [
        ("/a/b", Some("/svc/a/b")),
        ("/", Some("/svc")),
        (r" /a\x2fb # so", Some(r"/svc/\x61\x2f\x62")),
        ("", Some("/svc/last")),
        ("a", None),
        ("/a//b", None),
        ("/a/", None),
        ("/ü", None),
    ] {
        let request = Asked { fields: &[("l5d-name", value)], ..PLAIN };
        let found = name_of(&[by(), last.clone()], &request).map(|(name, _)| name);
        assert_eq!(found.as_deref(), name, "{value}");
    }
}

#[test]
fn a_path_in_a_header_loses_query_and_one_slash() {
    let by = |header, n: usize| Identifier::HeaderPath { header, segments: NonZeroUsize::new(n) };
    let path = |path| Asked { path, fields: &[("x-route", "/a/b/?q=/c")], ..PLAIN };
    check(by(Field::Path, 0), path("/shop.Cart/Add"), Some("/svc/shop.Cart/Add"));
    check(by(Field::Path, 1), path("/shop.Cart/Add"), Some("/svc/shop.Cart"));
    check(by(Field::Path, 2), path("/shop.Cart/Add/"), Some("/svc/shop.Cart/Add"));
    check(by(Field::Path, 3), path("/shop.Cart/Add"), None);
    check(by(Field::Path, 0), path("/"), None);
    check(by(Field::Path, 0), path("/a~b"), None);
    check(by(Field::Path, 0), path("/a//"), None);
    check(by(Field::Named("x-route".into()), 2), path("/"), Some("/svc/a/b"));
    check(by(Field::Named("x-none".into()), 1), path("/"), None);
}

#[test]
fn method_and_host_know_both_versions() {
    let by = |path, host| Identifier::MethodAndHost { path, host };
    let (plain, old) = (Asked { path: "/a", ..PLAIN }, Asked { version: "1.0", path: "/a", host: None, fields: &[] });
    check(by(false, HostRule::Normalized), plain, Some("/svc/1.1/GET/web"));
    check(by(false, HostRule::Verbatim), plain, Some("/svc/1.1/GET/web:80"));
    check(by(true, HostRule::Normalized), plain, Some("/svc/1.1/GET/web/a"));
    check(by(true, HostRule::Normalized), PLAIN, Some("/svc/1.1/GET/web"));
    check(by(false, HostRule::Normalized), old, Some("/svc/1.0/GET"));
    check(by(true, HostRule::Normalized), old, Some("/svc/1.0/GET/a"));
    check(by(false, HostRule::Normalized), Asked { host: None, ..plain }, None);
    check(by(false, HostRule::Normalized), Asked { host: Some(""), ..plain }, None);
}

#[test]
fn the_first_that_finds_a_name_wins() {
    let list = [
        token(Field::Named("x-name".into()), HostRule::Normalized),
        Identifier::Path { segments: segments(1), consume: true },
        Identifier::default(),
    ];
    let by = |request: Asked<'_>| name_of(&list, &request).map(|(name, found)| (name, found.by, found.consumed));
    assert_eq!(by(Asked { path: "/p", fields: &[("x-name", "n")], ..PLAIN }), Some(("/svc/n".into(), 0, 0)));
    assert_eq!(by(Asked { path: "/p", ..PLAIN }), Some(("/svc/p".into(), 1, 2)));
    assert_eq!(by(PLAIN), Some(("/svc/web".into(), 2, 0)));
    assert_eq!(by(Asked { host: None, ..PLAIN }), None);
    // a path that cannot be part of the name ends the search, as in Linkerd
    let uri = Identifier::MethodAndHost { path: true, host: HostRule::Normalized };
    assert_eq!(name_of(&[uri, Identifier::default()], &Asked { path: "/a/", ..PLAIN }), None);
}

#[test]
fn a_name_of_the_file_is_told_from_one_that_a_request_made() {
    let mut key = Vec::new();
    let prefix = Path::parse("/svc").unwrap();
    identify(&[Identifier::Static { path: Path::parse("/web").unwrap() }], &prefix, &PLAIN, &mut key).unwrap();
    assert!(is_written(&key) && *key == *written_key(&Path::parse("/svc/web").unwrap()).unwrap());
    identify(&[Identifier::default()], &prefix, &PLAIN, &mut key).unwrap();
    assert!(!is_written(&key) && path(&key) == Path::parse("/svc/web").ok());
    assert_eq!(path(b""), None);
    assert_eq!(path(&[0, 5, 0, b'x']), None);
}

#[test]
fn ingresses_go_by_rules_and_then_by_default() {
    let backend = |name: &str| IngressBackend { service: name.into(), port: "http".into() };
    let rule = |host: Option<&str>, path: Option<&str>, name| IngressRule::new(host, path, backend(name)).unwrap();
    let one = |class: Option<&str>, rules: Vec<IngressRule>, default: Option<&str>| Ingress {
        namespace: "ns".into(),
        class: class.map(ToOwned::to_owned),
        default_backend: default.map(backend),
        rules,
    };
    let all = [
        one(Some("nginx"), vec![rule(None, None, "other")], None),
        one(None, vec![rule(Some("a.b"), Some("/x|/x/.*"), "x")], Some("default")),
        one(Some("linkerd"), vec![rule(Some("a.b"), Some(""), "host")], None),
    ];
    let service = |host: Option<&str>, path: &str| {
        ingress(&all, "linkerd", host.map(str::as_bytes), path.as_bytes()).map(|[_, _, service]| service)
    };
    assert_eq!(service(Some("a.b:80"), "/x/y"), Some("x"));
    assert_eq!(service(Some("a.b"), "/xy"), Some("host"));
    assert_eq!(service(Some("A.b"), "/x"), Some("default"));
    assert_eq!(service(None, "/x"), Some("default"));
    assert_eq!(ingress(&all[..1], "linkerd", None, b"/"), None);
    assert!(IngressRule::new(None, Some("("), backend("x")).is_err());
}

proptest! {
    /// Keys are equal exactly when names are: no two names ever share what was found out about one of them.
    #[test]
    fn a_key_reads_back_as_its_name(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9), 0..9)) {
        let name = Path::from_labels(&labels).unwrap();
        prop_assert_eq!(path(&written_key(&name).unwrap()), Some(name));
    }

    /// No request is too strange to be named or not.
    #[test]
    fn nothing_stops_an_identifier(text in "\\PC{0,40}", written in "[/a-c%?#. \\\\]{0,20}") {
        for text in [text, written] {
            let fields = [("l5d-name", text.as_str())];
            let request = Asked { version: "1.1", host: Some(&text), path: &text, fields: &fields };
            for identifier in [
                Identifier::Header { header: "l5d-name".into() },
                Identifier::HeaderPath { header: Field::Path, segments: NonZeroUsize::new(1) },
                Identifier::MethodAndHost { path: true, host: HostRule::Verbatim },
                Identifier::Path { segments: segments(2), consume: true },
                Identifier::default(),
            ] {
                if let Some((_, found)) = name_of(&[identifier], &request) {
                    prop_assert!(found.consumed <= text.len());
                    prop_assert!(found.consumed == 0 || rest(&text, found.consumed).starts_with('/'));
                }
            }
        }
    }
}

#[test]
fn a_final_dot_is_part_of_no_normalized_host() {
    for (host, normalized, verbatim) in
        [("Web.", "/svc/web", "/svc/Web."), ("web.test.:80", "/svc/web.test", "/svc/web.test.:80")]
    {
        let asked = Asked { host: Some(host), ..PLAIN };
        check(token(Field::Host, HostRule::Normalized), asked, Some(normalized));
        if !host.contains(':') {
            check(token(Field::Host, HostRule::Verbatim), asked, Some(verbatim));
        }
    }
    check(token(Field::Host, HostRule::Normalized), Asked { host: Some("."), ..PLAIN }, None);
}
