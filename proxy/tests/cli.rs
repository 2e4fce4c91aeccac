//! The binary from outside: what it prints, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

const GOOD: &str = "\
clusters: {world-v1: {endpoints: ['127.0.0.1:8081']}, world-v2: {endpoints: ['127.0.0.1:8082']}}
routers:
- protocol: http
  label: out
  servers: [{port: 4140}]
  dtab: |
    /host/world => 3 * /#/clusters/world-v1 & 1 * /#/clusters/world-v2 ;
    /svc => /host ;
";

fn serin(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_serin"))
        .args(arguments)
        .env_remove("SERIN_ADMIN")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // a command that does not read its input closes the pipe early
    let _not_read = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn check(arguments: &[&str], stdin: &str, code: i32, contains: &str) -> String {
    let output = serin(arguments, stdin);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(text.contains(contains), "{arguments:?}: {text}");
    text
}

#[test]
fn the_version_is_printed_for_people_and_programs() {
    check(&["version"], "", 0, &format!("serin {}", env!("CARGO_PKG_VERSION")));
    check(&["--version"], "", 0, "serin ");
    check(&["version", "-o", "json"], "", 0, "{\"name\":\"serin\"");
}

#[test]
fn what_is_not_understood_ends_with_2() {
    check(&["--colour"], "", 2, "unexpected argument");
    check(&["rollouts"], "", 2, "no command and no file");
    check(&["rollouts", "list"], "", 2, "did you mean `serin rollout`?");
    check(&["status", "world"], "", 2, "did you mean `serin rollout status`?");
    check(&["valdate", "serin.yaml", "-o", "json"], "", 2, "did you mean `serin validate`?");
    check(&["nonsense"], "", 2, "see serin --help");
    check(&["run", "--port", "1"], "", 2, "unexpected argument '--port'");
    check(&["one.yaml", "two.yaml"], "", 2, "two.yaml");
    check(&["rollout"], "", 2, "Usage: serin rollout");
    check(&["rollout", "rollback"], "", 2, "unrecognized");
    check(&["validate"], "", 2, "required");
    check(&["run", "--listen", "127.0.0.1:1"], "", 2, "--to");
    check(&["run", "--to", "v1=https://h"], "", 2, "cannot be a target");
    check(&["explain", "-", "--path", "svc"], GOOD, 2, "path");
}

#[test]
fn a_port_that_is_taken_comes_with_advice() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let admin = format!("admin: {{port: {port}}}\n");
    for file in [GOOD.replace("4140", &port.to_string()), format!("{admin}{}", GOOD.replace("4140", "0"))] {
        check(&["run", "-"], &file, 1, "\nhelp: another process listens there");
    }
}

#[test]
fn a_configuration_that_does_not_help_to_find_serin_is_named() {
    let text = check(&["rollout", "list", "--config", "no/such.yaml"], "", 1, "");
    assert!(!text.contains("nothing answers") || text.contains("cannot read no/such.yaml"), "{text}");
    let own = ["rollout", "weight", "--help"];
    let text = check(&own, "", 0, "<WEIGHT>");
    assert!(text.find("<WEIGHT>\n") < text.find("The running Serin:"), "not among the options that find Serin: {text}");
}

#[test]
fn validate_says_ok_or_shows_every_mistake() {
    check(&["validate", "-"], GOOD, 0, "-: ok");
    let bad = GOOD.replace("routers", "routerz").replace("8081", "808x");
    let text = check(&["validate", "-"], &bad, 1, "did you mean `routers`?");
    assert!(text.contains("-:2:1") && text.contains("808x"), "{text}");
    check(&["validate", "no/such.yaml"], "", 1, "cannot read no/such.yaml");
}

#[test]
fn validate_prints_json_with_positions() {
    let output = serin(&["validate", "-o", "json", "-"], &GOOD.replace("routers", "routerz"));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let diagnostics = found[0]["diagnostics"].as_array().unwrap();
    let unknown = diagnostics.iter().find(|one| one["code"] == "config/unknown-key").unwrap();
    assert_eq!((&unknown["line"], &unknown["column"]), (&2.into(), &1.into()));
    assert_eq!(found[0]["ok"], false);
}

#[test]
fn explain_tells_shares_and_steps() {
    check(&["explain", "-", "-H", "Host: World:80"], GOOD, 0, "75 %  /#/clusters/world-v1");
    let output = serin(&["explain", "-", "--router", "out", "--path", "/svc/world", "-o", "json"], GOOD);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["traffic"], serde_json::json!({"/#/clusters/world-v1": 0.75, "/#/clusters/world-v2": 0.25}));
    assert_eq!(found["path"], "/svc/world");
    assert!(found["steps"].as_array().is_some_and(|steps| !steps.is_empty()));
    check(&["explain", "-", "--router", "in", "--path", "/svc"], GOOD, 1, "there are out");
}

#[test]
fn a_dtab_is_formatted_or_its_mistake_shown() {
    check(&["dtab", "fmt"], "/a=>/b;/long=>/c # why", 0, "/a    => /b ;\n/long => /c ; # why\n");
    check(&["dtab", "fmt", "-"], "/a => ", 1, "-:1:");
}

#[test]
fn targets_become_a_file_that_is_valid() {
    let arguments =
        ["run", "--to", "v1=http://127.0.0.1:8081", "--to", "v2=http://127.0.0.1:8082@5%", "--print-config"];
    let text = check(&arguments, "", 0, "95 * /#/clusters/v1 & 5 * /#/clusters/v2");
    check(&["validate", "-"], &text, 0, "ok");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    check(&["run", "no/such.yaml"], "", 1, "cannot read no/such.yaml");
    check(&["no/such.yaml"], "", 1, "cannot read no/such.yaml");
    check(&["run", "-"], "routers: []", 1, "config/");
}

#[test]
fn the_demo_keeps_its_word() {
    check(&["demo"], "", 0, "All of it held.");
}
