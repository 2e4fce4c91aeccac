//! `limits`: each key over its range, what follows from others, and the tables of the README.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // tests stop at the first surprise

use serin_config::model::*;
use serin_config::{Config, Source, diagnostic};

fn parse(server: &str, client: &str) -> Result<(Limits, ClientLimits), String> {
    let text = format!("routers: [{{servers: [{{{server}}}], client: {{limits: {{{client}}}}}}}]");
    let source = Source::new("serin.yaml", text);
    let (config, _) = Config::parse(&source).map_err(|mistakes| diagnostic::render(&mistakes, &source, false))?;
    Ok((config.routers[0].servers[0].limits, config.routers[0].client.limits))
}

fn check_range<T: Copy + PartialEq + std::fmt::Debug>(
    keys: &[LimitKey<T>],
    defaults: T,
    parse: impl Fn(&str) -> Result<T, String>,
) {
    assert_eq!(parse("").unwrap(), defaults);
    for key in keys {
        let (min, max) = key.range;
        for value in [min, max] {
            match parse(&format!("{}: {value}", key.key)) {
                Ok(limits) => assert_eq!((key.get)(&limits), Some(value), "{}", key.key),
                // legal alone, and more than a whole that is not written
                Err(said) => assert!(said.contains("config/conflict") && value == max, "{}: {said}", key.key),
            }
        }
        let beyond = [min.checked_sub(1), max.checked_add(1)];
        for value in beyond.into_iter().flatten() {
            let said = parse(&format!("{}: {value}", key.key)).unwrap_err();
            assert!(said.contains("config/wrong-value") && said.contains(key.key), "{}: {said}", key.key);
        }
    }
}

#[test]
fn each_key_takes_its_range_and_nothing_beyond() {
    check_range(SERVER_KEYS, Limits::edge(), |keys| Ok(parse(&format!("limits: {{{keys}}}"), "")?.0));
    check_range(SERVER_KEYS, Limits::mesh(), |keys| Ok(parse(&format!("exposure: mesh, limits: {{{keys}}}"), "")?.0));
    check_range(CLIENT_KEYS, ClientLimits::new(), |keys| Ok(parse("", keys)?.1));
}

#[test]
fn a_default_gives_way_to_a_smaller_whole() {
    let limits = parse("limits: {headBytes: 8192, connections: 10}", "").unwrap().0;
    assert_eq!((limits.target_bytes_max, limits.field_bytes_max), (8192, 8192));
    assert_eq!((limits.connections_max, limits.connections_per_source_max), (10, 1000));
    let limits = parse("exposure: mesh, limits: {connectionWindowBytes: 65535}", "").unwrap().0;
    assert_eq!(limits.h2.stream_window_bytes, 65_535);
}

#[test]
fn a_larger_head_may_take_more_frames() {
    let frames = |keys: &str| parse(&format!("limits: {{{keys}}}"), "").unwrap().0.h2.header_frames_max;
    assert_eq!((frames(""), frames("headBytes: 262144"), frames("headBytes: 262144, headerFrames: 3")), (6, 20, 3));
}

/// The rows of README under a heading, without the code marks: each a list of cells.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let section = readme.split_once(&format!("\n{heading}\n")).expect("the heading is there").1;
    let section = section.split("\n#").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()).collect()
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "none".into(), |value| value.to_string())
}

#[test]
fn the_readme_lists_every_limit_of_a_server_with_its_default() {
    let listed: Vec<_> =
        rows("### Of a server: `servers[].limits`").into_iter().skip(2).map(|row| row[..3].to_vec()).collect();
    let expected: Vec<_> = SERVER_KEYS
        .iter()
        .map(|key| vec![key.key.to_owned(), shown((key.get)(&Limits::edge())), shown((key.get)(&Limits::mesh()))])
        .collect();
    assert_eq!(listed, expected);
}

#[test]
fn the_readme_lists_every_limit_of_upstreams_with_its_default() {
    let listed: Vec<_> =
        rows("### Of upstreams: `client.limits`").into_iter().skip(2).map(|row| row[..2].to_vec()).collect();
    let expected: Vec<_> =
        CLIENT_KEYS.iter().map(|key| vec![key.key.to_owned(), shown((key.get)(&ClientLimits::new()))]).collect();
    assert_eq!(listed, expected);
}

#[test]
fn the_readme_lists_every_limit_that_exposure_changes() {
    let prefix = "limits.";
    let listed: Vec<_> = rows("## Edge and mesh").into_iter().filter(|row| row[0].starts_with(prefix)).collect();
    let differs = |key: &&LimitKey<Limits>| (key.get)(&Limits::edge()) != (key.get)(&Limits::mesh());
    let expected: Vec<_> = SERVER_KEYS
        .iter()
        .filter(differs)
        .map(|key| {
            vec![format!("{prefix}{}", key.key), shown((key.get)(&Limits::edge())), shown((key.get)(&Limits::mesh()))]
        })
        .collect();
    assert_eq!(listed, expected);
}
