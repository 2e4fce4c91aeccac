//! What editors, shells and tests of routing get from the command line.

use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::outside::{both, program, require_peer};
use super::support::serin::run;

#[track_caller]
fn check_ok(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{}", both(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn file_of(name: &str, text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    std::fs::write(&file, text).unwrap();
    (dir, file)
}

/// JSON is YAML, so one text is read by both.
#[test]
fn the_schema_and_the_binary_agree_on_what_a_file_is() {
    let schema: Value = serde_json::from_str(&check_ok(&run(&["schema"]))).expect("JSON");
    assert!(jsonschema::meta::is_valid(&schema), "a schema of its draft");
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good = json!({
        "clusters": {"web": {"endpoints": ["127.0.0.1:8080"]}},
        "routers": [{
            "label": "gateway",
            "servers": [{"port": 4140}, {"unix": "gateway.sock", "mode": "0660"}],
            "dtab": "/svc => /#/clusters",
            "rules": [{"match": {"host": "web.example.com"}, "name": "/svc/web"}],
        }],
        "tests": [{"request": {"host": "web.example.com"}, "expect": {"to": "/#/clusters/web"}}],
    });
    let validates = |config: &Value| {
        let (_dir, file) = file_of("serin.yaml", &config.to_string());
        run(&["validate", file.to_str().unwrap()])
    };
    let wrong: Vec<String> = validator.iter_errors(&good).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(validates(&good).status.success(), "{}", both(&validates(&good)));
    for (place, value) in
        [("/routers/0/servers/0/port", json!(65536)), ("/routers/0/rules", json!({})), ("/routers", json!(1))]
    {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value;
        assert!(!validator.is_valid(&bad), "{place}");
        assert_eq!(validates(&bad).status.code(), Some(1), "{place}");
    }
}

#[test]
fn completions_are_scripts_that_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = check_ok(&run(&["completions", shell]));
        for word in ["validate", "explain", "rollout", "completions", "print-config"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
        if shell == "bash" && require_peer(shell) {
            let (_dir, file) = file_of("script", &script);
            let checked = program(shell).arg("-n").arg(file).output().unwrap();
            assert!(checked.status.success() && checked.stderr.is_empty(), "{}", both(&checked));
        }
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

const TESTS: &str = "\
clusters: {a: {endpoints: ['127.0.0.1:1']}, b: {endpoints: ['127.0.0.1:2']}}
routers:
- {label: gateway, servers: [{port: 4140}], dtab: /svc/web => 9 * /#/clusters/a & 1 * /#/clusters/b}
tests:
- {request: {host: web}, expect: {to: {/#/clusters/a: 90%, /#/clusters/b: 10%}}}
- {request: {host: web}, expect: {to: /#/clusters/b}}
- request: {host: nobody}
  expect:
    name: /svc/somebody
    status: 503
";

#[test]
fn validate_tells_which_test_fails_and_how() {
    let (_dir, file) = file_of("serin.yaml", TESTS);
    let file = file.to_str().unwrap();
    let output = run(&["validate", file]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let text = both(&output);
    assert_eq!(text.matches("error[tests/failed]").count(), 3, "{text}");
    let places = [(6, 39), (9, 11), (10, 13)];
    for (line, column) in places {
        assert!(text.contains(&format!("{file}:{line}:{column}\n")), "{line}:{column} in {text}");
    }
    for part in [
        "expected /#/clusters/b, got /#/clusters/a 90 %, /#/clusters/b 10 %",
        "expected the name /svc/somebody, got /svc/nobody",
        "expected 503, got 404",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let reports: Value = serde_json::from_slice(&run(&["validate", file, "-o", "json"]).stdout).unwrap();
    assert_eq!(reports[0]["ok"], false);
    let at = |one: &Value| (one["line"].as_u64().unwrap(), one["column"].as_u64().unwrap());
    assert_eq!(reports[0]["diagnostics"].as_array().unwrap().iter().map(at).collect::<Vec<_>>(), places);
}
