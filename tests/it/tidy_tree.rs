//! What a machine can check of the tree itself: sizes, directions, bans, and that the metrics are documented.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::serin::project;

const LINES_OF_A_FILE: usize = 500;
const LINES_OF_A_FUNCTION: usize = 70;

/// Crates whose `src` is the product.
const PRODUCT: [&str; 4] = ["proxy", "config", "metrics", "rollout"];

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != ".git" {
            files_under(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

/// Source files of the product, with their text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for name in PRODUCT {
        files_under(&project().join(name).join("src"), &mut files);
    }
    files.retain(|file| file.extension().is_some_and(|end| end == "rs"));
    assert!(files.len() > 50, "the sources are found");
    files.into_iter().map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
}

fn relative(file: &Path) -> String {
    file.strip_prefix(project()).unwrap_or(file).display().to_string()
}

#[track_caller]
fn check_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn no_file_outgrows_500_lines() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|(_, text)| text.lines().count() > LINES_OF_A_FILE)
        .map(|(file, text)| format!("{}: {} lines", relative(file), text.lines().count()))
        .collect();
    check_none("split these files", &long);
}

#[test]
fn no_function_outgrows_a_screen() {
    let mut long = Vec::new();
    for (file, text) in sources() {
        let is_test = file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests");
        if !is_test {
            let functions = functions(&text).into_iter().filter(|(_, _, lines)| *lines > LINES_OF_A_FUNCTION);
            long.extend(functions.map(|(at, name, lines)| format!("{}:{at} {name}: {lines} lines", relative(&file))));
        }
    }
    check_none("split these functions", &long);
}

/// Line, name and length of every function before the tests of a file. Relies on the formatter: a body ends with a
/// brace under the beginning of its line.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let all: Vec<&str> = text.lines().collect();
    let end =
        all.windows(2).position(|two| two[0] == "#[cfg(test)]" && two[1].starts_with("mod ")).unwrap_or(all.len());
    let mut found = Vec::new();
    for (at, line) in all[..end].iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(name) = function_name(line.trim_start()) else { continue };
        let brace = format!("{}}}", &line[..indent]);
        let body = all[at..].iter().position(|line| line.ends_with(';') || line.ends_with('{') || line.ends_with('}'));
        let opens = body.is_some_and(|body| all[at + body].ends_with('{'));
        if let Some(length) = all[at..].iter().position(|line| *line == brace).filter(|_| opens) {
            found.push((at + 1, name, length + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    loop {
        match words.next()? {
            "fn" => return Some(words.next()?.split(['(', '<']).next()?.to_owned()),
            "pub" | "pub(crate)" | "pub(super)" | "const" | "async" | "default" => {}
            _ => return None,
        }
    }
}

#[test]
fn functions_are_found_and_measured() {
    let text = "fn a() {}\n\nimpl X {\n    pub(crate) async fn b(\n        x: u8,\n    ) -> u8 {\n        x\n    }\n}\n\
                trait T {\n    fn c();\n}\n#[cfg(test)]\nmod tests {\n    fn d() {\n    }\n}\n";
    assert_eq!(functions(text), [(4, "b".to_owned(), 5)]);
}

/// Names in the `[dependencies]` of a manifest.
fn dependencies(member: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(project().join(member).join("Cargo.toml")).unwrap();
    let (mut names, mut inside) = (Vec::new(), false);
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || line.ends_with(".dependencies]");
            names.extend(line.strip_prefix("[dependencies.").map(|rest| rest.trim_end_matches(']').to_owned()));
        } else if inside && !line.starts_with('#') {
            names.extend(line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    names
}

#[track_caller]
fn check_never(member: &str, banned: &[&str]) {
    if !project().join(member).is_dir() {
        return;
    }
    let names = dependencies(member);
    assert!(!names.is_empty(), "{member} depends on something");
    let found: Vec<_> = banned.iter().filter(|name| names.iter().any(|found| found == *name)).collect();
    assert!(found.is_empty(), "{member} depends on {found:?}");
}

#[test]
fn dependencies_point_one_way() {
    check_never("config", &["tokio", "hyper", "h2", "rustls", "serin-metrics", "serin"]);
    check_never("metrics", &["serin-config", "hyper", "h2", "tokio", "serin-rollout", "serin"]);
    check_never("rollout", &["tokio", "hyper", "h2", "serin-metrics", "serin", "rand", "fastrand"]);
    let here = dependencies("proxy");
    assert!(["serin-config", "serin-metrics"].iter().all(|name| here.iter().any(|found| found == name)));
}

#[test]
fn the_dtab_language_knows_no_serde() {
    let dtab = project().join("config/src/dtab");
    let users = sources().into_iter().filter(|(file, text)| file.starts_with(&dtab) && text.contains("serde"));
    let users: Vec<_> = users.map(|(file, _)| relative(&file)).collect();
    check_none("pure code", &users);
}

#[test]
fn neither_ring_nor_openssl_is_linked() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tree = Command::new(cargo);
    tree.current_dir(project()).args(["tree", "--workspace", "--edges", "normal,build", "--prefix", "none"]);
    tree.env("CARGO_TERM_COLOR", "never");
    let output = tree.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"h2"), "the graph is there");
    let banned = ["ring", "openssl", "openssl-sys", "openssl-src", "native-tls"];
    check_none(
        "banned",
        &names.into_iter().filter(|name| banned.contains(name)).map(str::to_owned).collect::<Vec<_>>(),
    );
}

#[test]
fn every_metric_is_in_the_readme() {
    let readme = std::fs::read_to_string(project().join("README.md")).unwrap();
    let mut missing = Vec::new();
    for family in serin_metrics::FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        let start = format!("| `{}` | {} | {labels} | ", family.name, format!("{:?}", family.kind).to_lowercase());
        if !readme.lines().any(|line| line.starts_with(&start)) {
            missing.push(start);
        }
    }
    check_none("metrics that README does not list so", &missing);
}

#[test]
fn ignored_tests_carry_a_reason() {
    let mut files = Vec::new();
    files_under(project(), &mut files);
    let bare = ["#[igno", "re]"].concat();
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let text = std::fs::read_to_string(file).unwrap();
        found.extend(text.lines().filter(|line| line.trim() == bare).map(|_| relative(file)));
    }
    check_none("ignored without a reason", &found);
}

/// Files that git knows; none where there is no git or no repository.
fn tracked() -> Vec<PathBuf> {
    let Ok(output) = Command::new("git").current_dir(project()).args(["ls-files", "-z"]).output() else {
        return Vec::new();
    };
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    names.split('\0').filter(|name| !name.is_empty()).map(|name| project().join(name)).collect()
}

#[test]
fn no_file_names_a_place_of_somebodys_machine() {
    let files = tracked();
    if files.is_empty() {
        println!("skipped: needs git and its repository");
        return;
    }
    let places = [["/wo", "rk/"], ["/ho", "me/"], ["/ro", "ot/"], ["/Us", "ers/"], ["/tm", "p/"], ["../sh", "ared"]];
    let places: Vec<String> = places.iter().map(|parts| parts.concat()).collect();
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue }; // no text, or removed just now
        for (at, line) in text.lines().enumerate() {
            found.extend(
                places
                    .iter()
                    .filter(|place| names_place(line, place))
                    .map(|_| format!("{}:{}: {}", relative(&file), at + 1, line.trim())),
            );
        }
    }
    check_none("absolute paths", &found);
}

/// Whether the place starts a path of its own in this line, and is not the middle of another one.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.}$*)>".contains(c))
    })
}

/// The first cells of the table of a crate in `ARCHITECTURE.md`: the names in back quotes.
fn mapped(map: &str, member: &str) -> Vec<String> {
    let table = map.split_once(&format!("\n`{member}/src`")).unwrap_or_else(|| panic!("a table of {member}")).1;
    let rows = table.lines().skip_while(|line| !line.starts_with("|")).take_while(|line| line.starts_with("|"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    quoted.collect()
}

#[test]
fn the_map_of_the_files_is_true() {
    let map = std::fs::read_to_string(project().join("ARCHITECTURE.md")).unwrap();
    let mut wrong = Vec::new();
    for member in PRODUCT {
        let (source, names) = (project().join(member).join("src"), mapped(&map, member));
        let mut files = Vec::new();
        files_under(&source, &mut files);
        let files: Vec<String> =
            files.iter().map(|file| format!("/{}", file.strip_prefix(&source).unwrap().display())).collect();
        let is_there = |name: &String| match name.strip_suffix('/') {
            Some(folder) => files.iter().any(|file| file.contains(&format!("/{folder}/"))),
            None => files.iter().any(|file| file.ends_with(&format!("/{name}"))),
        };
        wrong.extend(names.iter().filter(|name| !is_there(name)).map(|name| format!("{member}: no {name}")));
        let modules = files.iter().filter_map(|file| file[1..].split(['/', '.']).next());
        for module in modules.filter(|module| *module != "lib") {
            let is_named = |name: &String| name.split(['/', '.']).next() == Some(module);
            if !names.iter().any(is_named) {
                wrong.push(format!("{member}: {module} is not on the map"));
            }
        }
    }
    wrong.dedup();
    check_none("the map in ARCHITECTURE.md", &wrong);
}
