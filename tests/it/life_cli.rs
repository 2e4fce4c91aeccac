//! The commands as a user types them: what they print, where mistakes are, exit codes.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::outside::{Guard, both};
use super::support::serin::{command, project, run};
use super::support::{Serin, Setup, Upstream, eventually};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[track_caller]
fn check_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", both(output));
    assert!(!both(output).contains("panicked"), "{}", both(output));
    assert!(!both(output).contains('\u{1b}'), "no colours where nobody looks");
}

/// A file in a folder of its own.
fn file_of(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("serin.yaml");
    std::fs::write(&file, text).unwrap();
    (dir, file)
}

fn example(name: &str) -> String {
    project().join("examples").join(name).to_str().unwrap().to_owned()
}

/// Runs with these bytes on standard input.
fn run_with_input(arguments: &[&str], input: &str) -> Output {
    let (_dir, file) = file_of(input);
    command(arguments).stdin(File::open(file).unwrap()).output().unwrap()
}

const MISTAKES: &str = "\
admin: {port: x}
clusters:
  a: {endpoints: [\"127.0.0.1\"]}
routers:
- label: r
  protocl: http
  servers: [{port: 99999}]
  dtab: |
    /a => b ;
    /c = /d
  failover: sometimes
";

/// Line and column of each mistake above.
const PLACES: [(u64, u64); 7] = [(1, 15), (3, 19), (6, 3), (7, 20), (9, 11), (10, 9), (11, 13)];

#[test]
fn validate_tells_every_mistake_with_place_line_and_caret() {
    let (_dir, file) = file_of(MISTAKES);
    let output = run(&["validate", file.to_str().unwrap()]);
    check_code(&output, 1);
    let text = both(&output);
    for (line, column) in PLACES {
        assert!(text.contains(&format!("{}:{line}:{column}\n", file.display())), "{line}:{column} in {text}");
        assert!(text.contains(MISTAKES.lines().nth(usize::try_from(line).unwrap() - 1).unwrap()), "the line itself");
    }
    assert!(text.matches('^').count() >= PLACES.len() && text.contains("`protocol`"), "carets and advice: {text}");
}

#[test]
fn validate_tells_the_same_as_json() {
    let (_dir, file) = file_of(MISTAKES);
    let output = run(&["validate", file.to_str().unwrap(), "-o", "json"]);
    check_code(&output, 1);
    let reports: Value = serde_json::from_str(&stdout(&output)).expect("JSON on standard output");
    assert_eq!((&reports[0]["file"], &reports[0]["ok"]), (&json!(file.to_str().unwrap()), &json!(false)));
    let diagnostics = reports[0]["diagnostics"].as_array().unwrap();
    let at = |one: &Value| (one["line"].as_u64().unwrap(), one["column"].as_u64().unwrap());
    assert_eq!(diagnostics.iter().map(at).collect::<Vec<_>>(), PLACES);
    assert!(diagnostics.iter().all(|one| one["message"].as_str().is_some_and(|text| !text.is_empty())));
}

#[test]
fn validate_reads_several_files_and_fails_if_one_does() {
    let (_dir, file) = file_of(MISTAKES);
    let (good, bad) = (example("hello.yaml"), file.to_str().unwrap());
    check_code(&run(&["validate", &good]), 0);
    check_code(&run(&["validate", &good, bad]), 1);
    check_code(&run(&["validate", &good, "/nowhere.yaml"]), 1);
    check_code(&run(&["validate"]), 2);
    check_code(&run(&["validate", &good, "--no-such-flag"]), 2);
    let json = run(&["validate", &good, bad, "-o", "json"]);
    let reports: Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!((&reports[0]["ok"], &reports[1]["ok"]), (&json!(true), &json!(false)));
}

#[test]
fn validate_warns_and_still_succeeds() {
    let (_dir, file) = file_of(&Setup::web("127.0.0.1:1").top("usage: {enabled: false}").text());
    let output = run(&["validate", file.to_str().unwrap()]);
    check_code(&output, 0);
    assert!(both(&output).contains("warning") && both(&output).contains("usage"), "{}", both(&output));
}

#[test]
fn validate_refuses_a_union_of_zeros_and_odd_bytes() {
    let zeros = Setup::web("127.0.0.1:1").dtab("/svc/a => 0 * /#/clusters/web & 0 * /#/clusters/web").text();
    for bad in [zeros.as_str(), "", "\0", "[]", "routers: {}", "a: &a [*a, *a]", "routers: [[[[[["] {
        let (_dir, file) = file_of(bad);
        check_code(&run(&["validate", file.to_str().unwrap()]), 1);
    }
    let (dir, file) = file_of("");
    std::fs::write(&file, [0xff, 0xfe, 0x00, 0x80]).unwrap();
    check_code(&run(&["validate", file.to_str().unwrap()]), 1);
    check_code(&run(&["validate", dir.path().to_str().unwrap()]), 1);
}

/// `traffic` of explain as JSON.
fn traffic(arguments: &[&str]) -> Value {
    let mut all = vec!["explain"];
    all.extend(arguments);
    all.extend(["-o", "json"]);
    let output = run(&all);
    check_code(&output, 0);
    let explained: Value = serde_json::from_str(&stdout(&output)).expect("JSON on standard output");
    for key in ["path", "steps", "tree", "traffic"] {
        assert!(explained.get(key).is_some(), "{key} in {explained}");
    }
    assert!(!explained["steps"].as_array().unwrap().is_empty());
    explained["traffic"].clone()
}

#[track_caller]
fn check_traffic(arguments: &[&str], expected: &[(&str, f64)]) {
    let shown = traffic(arguments);
    let shares: Vec<f64> = expected.iter().map(|(id, _)| shown[*id].as_f64().unwrap_or(-1.0)).collect();
    let near = shares.iter().zip(expected).all(|(share, (_, wanted))| (share - wanted).abs() < 1e-6);
    assert!(near && shown.as_object().unwrap().len() == expected.len(), "{shown} instead of {expected:?}");
}

const BOTH: [(&str, f64); 2] = [("/#/clusters/world-v1", 0.9), ("/#/clusters/world-v2", 0.1)];
const ONLY_1: [(&str, f64); 1] = [("/#/clusters/world-v1", 1.0)];
const ONLY_2: [(&str, f64); 1] = [("/#/clusters/world-v2", 1.0)];
const CONTEXT: &str = "l5d-dtab: /host/world => /srv/world-v2";

#[test]
fn explain_tells_shares_and_obeys_overrides() {
    let (hello, dogfood) = (example("hello.yaml"), example("dogfood-cookie.yaml"));
    check_traffic(&[&hello, "-H", "Host: world"], &BOTH);
    check_traffic(&[&hello, "--router", "gateway", "--path", "/svc/world"], &BOTH);
    check_traffic(&[&hello, "-H", "Host: WORLD:80"], &BOTH);
    check_traffic(&[&hello, "-H", "Host: hello"], &[("/#/clusters/hello", 1.0)]);
    check_traffic(&[&hello, "-H", "Host: world", "-H", CONTEXT], &ONLY_2);
    check_traffic(&[&dogfood, "-H", "Host: world"], &ONLY_1);
    check_traffic(&[&dogfood, "-H", "Host: world", "-H", "Cookie: a=b; dogfood=true"], &ONLY_2);
    check_traffic(&[&dogfood, "-H", "Host: world", "-H", "Cookie: dogfood=false"], &ONLY_1);
    let tester = [dogfood.as_str(), "-H", "Host: world", "-H", "X-Version: 2", "--source"];
    check_traffic(&[&tester[..], &["10.1.1.1"]].concat(), &ONLY_2);
    check_traffic(&[&tester[..], &["192.0.2.1"]].concat(), &ONLY_1);
}

/// The file alone says that nobody can get there.
#[test]
fn a_cluster_without_endpoints_gives_way_as_it_does_in_reality() {
    let text = "clusters: {e: {endpoints: []}, b: {endpoints: ['127.0.0.1:1']}}\nrouters:\n- protocol: http\n  \
                servers: [{port: 0}]\n  dtab: /svc/f => /#/clusters/e | /#/clusters/b\n";
    let (_dir, file) = file_of(text);
    check_traffic(&[file.to_str().unwrap(), "-H", "Host: f"], &[("/#/clusters/b", 1.0)]);
    for (cluster, code) in [("b", 0), ("e", 1)] {
        let test = format!("tests: [{{request: {{host: f}}, expect: {{to: /#/clusters/{cluster}}}}}]\n");
        let (_dir, file) = file_of(&format!("{text}{test}"));
        check_code(&run(&["validate", file.to_str().unwrap()]), code);
    }
}

/// The proxy strips the header before it routes, so the request does not go there.
#[test]
fn explain_ignores_a_dtab_of_an_untrusted_source() {
    let hello = example("hello.yaml");
    check_traffic(&[&hello, "-H", "Host: world", "-H", CONTEXT, "--source", "10.9.9.9"], &BOTH);
    check_traffic(&[&hello, "-H", "Host: world", "-H", CONTEXT, "-H", "X-Forwarded-For: 10.9.9.9"], &BOTH);
}

#[test]
fn explain_ignores_a_dtab_where_nobody_is_trusted() {
    check_traffic(&[&example("dogfood-cookie.yaml"), "-H", "Host: world", "-H", CONTEXT], &ONLY_1);
}

#[test]
fn explain_as_text_names_each_dentry_and_the_shares() {
    let output = run(&["explain", &example("hello.yaml"), "-H", "Host: world"]);
    check_code(&output, 0);
    let text = stdout(&output);
    for part in ["/svc/world", "/svc => /host", "/srv => /#/clusters", "/#/clusters/world-v1", "90 %", "10 %"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn explain_refuses_what_it_does_not_understand() {
    let hello = example("hello.yaml");
    check_code(&run(&["explain"]), 2);
    check_code(&run(&["explain", &hello]), 1); // which header names a service, the file says
    check_code(&run(&["explain", &hello, "--path", "svc"]), 2);
    check_code(&run(&["explain", &hello, "-H", "no colon"]), 2);
    check_code(&run(&["explain", "/nowhere.yaml", "--path", "/svc/a"]), 1);
    let unknown = run(&["explain", &hello, "--router", "nobody", "--path", "/svc/a"]);
    check_code(&unknown, 1);
    assert!(stderr(&unknown).contains("gateway"), "the routers there are: {}", stderr(&unknown));
    let (_dir, bad) = file_of(MISTAKES);
    check_code(&run(&["explain", bad.to_str().unwrap(), "--path", "/svc/a"]), 1);
}

#[test]
fn dtab_fmt_aligns_keeps_comments_and_is_idempotent() {
    let dtab = "/svc=>/host;# first\n/host/world => 9*/srv/world-v1 & 1 * /srv/world-v2 # canary\n;\n\
                # alone\n/srv/* => (/a|/b)&!;/x=>~|$";
    let once = run_with_input(&["dtab", "fmt"], dtab);
    check_code(&once, 0);
    let once = stdout(&once);
    let twice = run_with_input(&["dtab", "fmt"], &once);
    check_code(&twice, 0);
    assert_eq!(stdout(&twice), once);
    for comment in ["# first", "# canary", "# alone"] {
        assert!(once.contains(comment), "{comment} in {once}");
    }
    let arrows: Vec<_> = once.lines().filter_map(|line| line.find("=>")).collect();
    assert!(arrows.len() == 4 && arrows.iter().all(|at| *at == arrows[0]), "arrows under each other: {once}");
    let (_dir, file) = file_of(dtab);
    assert_eq!(stdout(&run(&["dtab", "fmt", file.to_str().unwrap()])), once, "from a file");
}

#[test]
fn dtab_fmt_shows_mistakes() {
    let output = run_with_input(&["dtab", "fmt"], "/svc = /host");
    check_code(&output, 1);
    assert!(stderr(&output).contains(":1:") && stderr(&output).contains('^'), "{}", stderr(&output));
    assert!(output.stdout.is_empty(), "results only");
    check_code(&run(&["dtab", "fmt", "/nowhere"]), 1);
    check_code(&run(&["dtab"]), 2);
}

#[test]
fn version_is_the_version() {
    let manifest = std::fs::read_to_string(project().join("Cargo.toml")).unwrap();
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = \"")).unwrap().trim_end_matches('"');
    assert_eq!(stdout(&run(&["version"])).trim(), format!("serin {version}"));
    assert_eq!(stdout(&run(&["--version"])).trim(), format!("serin {version}"));
    let json: Value = serde_json::from_str(&stdout(&run(&["version", "-o", "json"]))).unwrap();
    assert_eq!(json["version"], version);
}

/// What `--print-config` prints is a file that says the same.
#[track_caller]
fn check_printed(targets: &[&str], expected: &[(&str, f64)]) {
    let mut arguments = vec!["run", "--print-config"];
    arguments.extend(targets.iter().flat_map(|target| ["--to", target]));
    let output = run(&arguments);
    check_code(&output, 0);
    let (_dir, file) = file_of(&stdout(&output));
    check_code(&run(&["validate", file.to_str().unwrap()]), 0);
    check_traffic(&[file.to_str().unwrap(), "-H", "Host: any.example"], expected);
}

const V1: &str = "v1=http://127.0.0.1:8081";
const V2: &str = "v2=http://127.0.0.1:8082";

#[test]
fn run_to_prints_a_file_with_the_shares() {
    let (one, two) = ("/#/clusters/v1", "/#/clusters/v2");
    check_printed(&[V1], &[(one, 1.0)]);
    check_printed(&[V1, V2], &[(one, 0.5), (two, 0.5)]);
    check_printed(&[V1, &format!("{V2}@5%")], &[(one, 0.95), (two, 0.05)]);
    check_printed(&[&format!("{V1}@0.5%"), V2], &[(one, 0.005), (two, 0.995)]);
    check_printed(&[&format!("{V1}@30%"), &format!("{V2}@70%")], &[(one, 0.3), (two, 0.7)]);
    let thirds = [(one, 0.25), (two, 0.25), ("/#/clusters/v3", 0.5)];
    check_printed(&[V1, V2, "v3=http://127.0.0.1:8083@50%"], &thirds);
}

#[test]
fn run_refuses_wrong_usage_with_2() {
    let wrong: [&[&str]; 10] = [
        &["run", "--to"],
        &["run", "--to", "v1"],
        &["run", "--to", "v1=ftp://127.0.0.1:1"],
        &["run", "--to", "v1=http://127.0.0.1:1@120%"],
        &["run", "--to", "v1=http://127.0.0.1:1@x%"],
        &["run", "--to", "v1=http://127.0.0.1:1@60%", "--to", "v2=http://127.0.0.1:2@60%"],
        &["run", "--to", "v1=http://127.0.0.1:1", "--to", "v1=http://127.0.0.1:2"],
        &["run", "serin.yaml", "--to", "v1=http://127.0.0.1:1"],
        &["run", "--listen", "nowhere", "--to", "v1=http://127.0.0.1:1"],
        &["run", "--no-such-flag"],
    ];
    for arguments in wrong {
        let output = run(arguments);
        check_code(&output, 2);
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}: {}", both(&output));
    }
}

#[test]
fn run_to_serves_without_a_file() {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let (first, second) = (format!("v1=http://{}", one.endpoint()), format!("v2=http://{}@5%", two.endpoint()));
    let arguments = ["run", "--to", &first, "--to", &second, "--listen", "127.0.0.1:0"];
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut serin = Serin::spawn(dir, &arguments, &[("SERIN_ADMIN", "127.0.0.1:0")]);
    serin.wait_ready();
    let address = serin.address_of("http");
    let mut client = super::support::Client::connect(address);
    for _ in 0..1000 {
        assert_eq!(client.get("any.example", "/", &[]).status, 200);
    }
    let seen = two.count(); // mean 50, standard deviation 6.9
    assert!((9..=91).contains(&seen), "{seen} of 1000 at 5 %");
    assert_eq!(one.count() + seen, 1000);
}

#[test]
fn run_reads_standard_input() {
    let origin = Upstream::named("one");
    let (dir, file) = file_of(&Setup::web(&origin.endpoint()).text());
    let log = dir.path().join("log");
    let mut command: Command = command(&["run", "-"]);
    command.stdin(File::open(file).unwrap()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let _child = Guard(command.spawn().unwrap());
    eventually("it is ready", || std::fs::read_to_string(&log).unwrap().contains("\"ready\""));
}

#[test]
fn the_demo_ends_well_and_shows_what_it_claims() {
    let output = run(&["demo"]);
    check_code(&output, 0);
    let text = stdout(&output);
    for part in ["world-v1", "world-v2", "Split", "Override", "l5d-dtab", "Reload", "none failed"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let shares: Vec<f64> = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .windows(2)
        .filter(|pair| pair[1] == "%")
        .filter_map(|pair| pair[0].parse().ok())
        .collect();
    assert!(shares.len() >= 4, "shares of both versions before and after the edit: {text}");
    assert!(shares.chunks(2).all(|pair| (pair.iter().sum::<f64>() - 100.0).abs() < 0.2), "{shares:?}");
}
