use std::net::SocketAddr;

use http::{HeaderMap, Method, Version};
use proptest::prelude::*;
use serin_config::Config;
use serin_config::source::Source;

use super::*;

/// The rules of a file that has nothing else.
fn rules(list: &str) -> Vec<RouteRule> {
    let text = format!("routers:\n- servers: [{{port: 1}}]\n  rules:\n{list}");
    let mut config = match Config::parse(&Source::new("t", text)) {
        Ok((config, _)) => config,
        Err(mistakes) => panic!("{mistakes}"),
    };
    config.routers.remove(0).rules
}

/// Rules by their matches; each is named by its place.
fn matches(matches: &[&str]) -> Vec<RouteRule> {
    let line = |(place, one): (usize, &&str)| format!("  - {{match: {one}, name: /svc/{place}}}\n");
    rules(&matches.iter().enumerate().map(line).collect::<String>())
}

/// `GET host/path?query` with fields.
#[derive(Clone, Copy)]
struct Asked<'a> {
    method: &'a str,
    host: &'a str,
    target: &'a str,
    fields: &'a [(&'static str, &'a str)],
}

fn get<'a>(host: &'a str, target: &'a str) -> Asked<'a> {
    Asked { method: "GET", host, target, fields: &[] }
}

fn with_parts<R>(asked: &Asked<'_>, f: impl FnOnce(&Parts<'_>) -> R) -> R {
    let mut headers = HeaderMap::new();
    for (name, value) in asked.fields {
        headers.append(*name, value.parse().unwrap());
    }
    let (path, query) = asked.target.split_once('?').map_or((asked.target, None), |(path, query)| (path, Some(query)));
    f(&Parts {
        method: &Method::from_bytes(asked.method.as_bytes()).unwrap(),
        version: Version::HTTP_11,
        host: Some(asked.host.as_bytes()),
        path,
        query,
        headers: &headers,
        peer: SocketAddr::from(([127, 0, 0, 1], 1)),
    })
}

fn found(rules: &[RouteRule], asked: &Asked<'_>) -> Option<usize> {
    with_parts(asked, |parts| RouteTable::new(rules).find(parts)).map(|found| found.rule)
}

#[track_caller]
fn check(list: &[&str], asked: Asked<'_>, place: Option<usize>) {
    assert_eq!(found(&matches(list), &asked), place, "{} {}", asked.host, asked.target);
}

#[test]
fn an_exact_host_comes_before_a_longer_wildcard_before_any() {
    let list = ["{method: GET}", "{host: '*.b.test'}", "{host: '*.test'}", "{host: a.b.test}"];
    check(&list, get("A.b.Test:8080", "/"), Some(3));
    check(&list, get("a.b.test.", "/"), Some(3));
    check(&list, get("x.b.test", "/"), Some(1));
    check(&list, get("x.y.b.test", "/"), Some(1));
    check(&list, get("b.test", "/"), Some(2));
    check(&list, get("test", "/"), Some(0));
    check(&list, get("xb.test", "/"), Some(2));
    check(&list, get(".b.test", "/"), Some(2));
    check(&list, get(&"x.".repeat(200), "/"), Some(0));
    check(&["{host: ['[::1]', 10.0.0.1]}"], get("[::1]:80", "/"), Some(0));
    check(&["{host: a.test}"], get("", "/"), None);
}

#[test]
fn hosts_have_a_bound() {
    let long = format!("{}.test", ["x".repeat(60).as_str(); 4].join("."));
    assert_eq!(long.len(), 248);
    check(&["{host: '*.test'}", "{path: {prefix: /}}"], get(&long, "/"), Some(0));
    check(&["{host: '*.test'}", "{path: {prefix: /}}"], get(&format!("12345.{long}"), "/"), Some(0));
    check(&["{host: '*.test'}", "{path: {prefix: /}}"], get(&format!("1234567.{long}"), "/"), Some(1));
}

#[test]
fn an_exact_path_comes_before_a_longer_prefix_before_an_expression_before_any() {
    let list = [
        "{host: h}",
        "{path: {regex: '/a.*'}}",
        "{path: {prefix: /a}}",
        "{path: {prefix: /a/b/}}",
        "{path: {exact: /a/b}}",
    ];
    let list: Vec<String> = list.iter().map(|one| one.replace("{path", "{host: h, path")).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    check(&list, get("h", "/a/b"), Some(4));
    check(&list, get("h", "/a/b?q"), Some(4));
    check(&list, get("h", "/a/b/"), Some(3));
    check(&list, get("h", "/a/b/c"), Some(3));
    check(&list, get("h", "/a/bc"), Some(2));
    check(&list, get("h", "/a"), Some(2));
    check(&list, get("h", "/ab"), Some(1));
    check(&list, get("h", "/b/a"), Some(0));
    check(&list, get("h", "/A"), Some(0));
    check(&list, get("h", "/a%2fb"), Some(1));
    check(&["{path: {prefix: /}}", "{path: {regex: '.*'}}"], get("h", "*"), Some(1));
    check(&["{path: {prefix: /}}"], get("h", "*"), None);
}

#[test]
fn conditions_decide_where_host_and_path_are_the_same() {
    let list = [
        "{path: {prefix: /a}}",
        "{path: {prefix: /a}, query: {v: 1}}",
        "{path: {prefix: /a}, headers: {x-a: b}}",
        "{path: {prefix: /a}, headers: {x-a: {prefix: b}, x-c: {regex: 'd+'}}}",
        "{path: {prefix: /a}, method: [POST, PUT]}",
    ];
    let asked = |method, target, fields| Asked { method, host: "h", target, fields };
    check(&list, asked("GET", "/a", &[]), Some(0));
    check(&list, asked("GET", "/a?x=2&v=1", &[]), Some(1));
    check(&list, asked("GET", "/a?v=1", &[("x-a", "b")]), Some(2));
    check(&list, asked("GET", "/a", &[("x-a", "bb"), ("x-c", "ddd")]), Some(3));
    check(&list, asked("GET", "/a", &[("x-a", "bb"), ("x-c", "dde")]), Some(0));
    check(&list, asked("PUT", "/a?v=1", &[("x-a", "b"), ("x-c", "d")]), Some(4));
}

#[test]
fn a_match_that_fails_leaves_the_request_to_the_next() {
    let list = [
        "{host: '*.test', path: {prefix: /}}",
        "{host: a.test, path: {exact: /x/y}, method: POST}",
        "{host: a.test, path: {prefix: /x}, method: PUT}",
    ];
    let asked = |method| Asked { method, ..get("a.test", "/x/y") };
    check(&list, asked("POST"), Some(1));
    check(&list, asked("PUT"), Some(2));
    check(&list, asked("GET"), Some(0));
}

#[test]
fn the_first_of_equals_wins() {
    let list = [
        "{path: {prefix: /a}, method: GET, headers: {x-a: b}}",
        "{path: {prefix: /a/}, method: GET, headers: {x-b: c}}",
    ];
    let fields = [("x-a", "b"), ("x-b", "c")];
    check(&list, Asked { fields: &fields, ..get("h", "/a") }, Some(0));
    check(&["[{host: a}, {path: {prefix: /p}}]"], get("b", "/p/q"), Some(0));
}

/// Ten thousand hosts, and ten thousand paths of one host, cost what ten do.
#[test]
fn more_rules_compare_no_more() {
    let compared = |list: &[RouteRule], asked: &Asked<'_>| {
        let mut compared = 0;
        let found = with_parts(asked, |parts| RouteTable::new(list).find_counting(parts, &mut compared));
        (found.map(|found| found.rule), compared)
    };
    let by_host = |count: usize| {
        let line = |n| {
            format!("  - {{match: {{host: ['h{n}.test', '*.w{n}.test'], path: {{prefix: /v1}}}}, name: /svc/h{n}}}\n")
        };
        rules(&(0..count).map(line).collect::<String>())
    };
    let by_path = |count: usize| {
        let line = |n| format!("  - {{match: {{host: one.test, path: {{prefix: /team/s{n}}}}}, name: /svc/s{n}}}\n");
        rules(&(0..count).map(line).collect::<String>())
    };
    let (few_hosts, many_hosts) = (by_host(10), by_host(10_000));
    let (few_paths, many_paths) = (by_path(10), by_path(10_000));
    for asked in [get("h7.test", "/v1/x"), get("a.b.w7.test", "/v1"), get("nobody", "/v1"), get("h7.test", "/v2")] {
        let (few, many) = (compared(&few_hosts, &asked), compared(&many_hosts, &asked));
        assert_eq!(few, many, "{}{}", asked.host, asked.target);
        assert!(few.1 <= 4, "{few:?}");
    }
    for asked in [get("one.test", "/team/s7/x/y"), get("one.test", "/team/none"), get("one.test", "/")] {
        let (few, many) = (compared(&few_paths, &asked), compared(&many_paths, &asked));
        assert_eq!(few, many, "{}{}", asked.host, asked.target);
        assert!(few.1 <= 6, "{few:?}");
    }
}

/// The longest way: as deep as the rules go, not as the request.
#[test]
fn a_deep_path_is_walked_no_deeper_than_the_rules() {
    let table = RouteTable::new(&matches(&["{path: {prefix: /a/a}}"]));
    let mut compared = 0;
    let deep = "/a".repeat(8000);
    let found = with_parts(&get("h", &deep), |parts| table.find_counting(parts, &mut compared));
    assert_eq!((found.map(|found| found.prefix), compared), (Some(4), 5));
}

/// Host, path, method, headers, parameters.
type Worth = (usize, (u8, usize), bool, usize, usize);

/// What a match is worth, said plainly.
fn worth(one: &RouteMatch, asked: &Asked<'_>) -> Option<Worth> {
    let host = asked.host;
    let hosts = one.hosts.iter().filter_map(|wanted| match wanted {
        HostMatch::Exact(exact) => (exact == host).then_some(1000),
        HostMatch::Under(suffix) => (host.ends_with(suffix) && host.len() > suffix.len()).then_some(suffix.len()),
    });
    let host = if one.hosts.is_empty() { 0 } else { hosts.max()? };
    let path = asked.target;
    let path = match &one.path {
        None => (0, 0),
        Some(PathMatch::Regex(regex)) => (regex.matches(path.as_bytes())).then_some((1, 0))?,
        Some(PathMatch::Prefix(prefix)) => {
            let under = path == prefix || path.starts_with(&format!("{prefix}/"));
            under.then_some((2, prefix.len()))?
        }
        Some(PathMatch::Exact(exact)) => (exact == path).then_some((3, 0))?,
    };
    let method = one.methods.is_empty() || one.methods.iter().any(|method| method == asked.method);
    let headers = one.headers.iter().all(|(name, wanted)| {
        asked.fields.iter().any(|(field, value)| field == name && wanted.matches(value.as_bytes()))
    });
    (method && headers).then_some((host, path, !one.methods.is_empty(), one.headers.len(), one.query.len()))
}

proptest! {
    /// The index says what a comparison with every match says.
    #[test]
    fn the_index_finds_the_most_specific_of_all(
        list in prop::collection::vec((0..6_usize, 0..9_usize, 0..3_usize, 0..2_usize), 1..20),
        asked in (0..5_usize, 0..6_usize, 0..2_usize, 0..2_usize),
    ) {
        let hosts = ["", "host: a.t, ", "host: b.a.t, ", "host: '*.t', ", "host: '*.a.t', ", "host: [a.t, '*.b.t'], "];
        let paths = [
            "", "path: {prefix: /}, ", "path: {prefix: /x}, ", "path: {prefix: /x/y/}, ", "path: {exact: /x}, ",
            "path: {exact: /x/}, ", "path: {regex: '/x.*'}, ", "path: {regex: '.*y'}, ", "path: {exact: /x/y}, ",
        ];
        let methods = ["", "method: GET, ", "method: [GET, PUT], "];
        let headers = ["", "headers: {x-a: b}, "];
        let texts: Vec<String> = list.iter().map(|&(host, path, method, header)| {
            let inside = format!("{}{}{}{}", hosts[host], paths[path], methods[method], headers[header]);
            format!("{{{}}}", inside.trim_end_matches(", "))
        }).collect();
        // what no request reaches is refused by the file: each text once is enough
        let mut seen = std::collections::BTreeSet::new();
        let texts: Vec<&str> = texts.iter().map(String::as_str).filter(|text| seen.insert(*text)).collect();
        let line = |(place, one): (usize, &&str)| format!("  - {{match: {one}, name: /svc/{place}}}\n");
        let text = format!("routers:\n- servers: [{{port: 1}}]\n  rules:\n{}", texts.iter().enumerate().map(line).collect::<String>());
        let Ok((config, _)) = Config::parse(&Source::new("t", text)) else { return Ok(()) };
        let rules = &config.routers[0].rules;
        let fields: &[(&'static str, &str)] = if asked.3 == 1 { &[("x-a", "b")] } else { &[] };
        let asked = Asked {
            method: ["GET", "PUT"][asked.2],
            host: ["a.t", "b.a.t", "c.b.t", "t", "z"][asked.0],
            target: ["/", "/x", "/x/", "/x/y", "/x/y/z", "/xy"][asked.1],
            fields,
        };
        let mut best = None;
        for (place, rule) in rules.iter().enumerate() {
            for one in &rule.matches {
                let worth = worth(one, &asked);
                if worth.is_some() && best.is_none_or(|(known, _)| worth > known) {
                    best = Some((worth, place));
                }
            }
        }
        prop_assert_eq!(found(rules, &asked), best.map(|(_, place)| place));
    }
}
