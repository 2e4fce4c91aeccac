//! `serin rollout` as a user types it: against a running Serin, and where nothing runs.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

use serde_json::Value;

use super::support::outside::{Guard, both};
use super::support::rollouts::{Users, failing, rollout, steps, until_phase};
use super::support::serin::{command, run};
use super::support::{Serin, Upstream};

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[track_caller]
fn check_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", both(output));
    assert!(!both(output).contains("panicked"), "{}", both(output));
    assert!(!both(output).contains('\u{1b}'), "no colours where nobody looks");
}

/// `serin rollout …` for a running Serin, which is found by its address and its file.
fn ask(serin: &Serin, arguments: &[&str]) -> Output {
    let (admin, file) = (serin.admin_address().to_string(), serin.file());
    let mut all = vec!["rollout"];
    all.extend(arguments);
    all.extend(["--admin", &admin, "--config", file.to_str().unwrap()]);
    run(&all)
}

#[track_caller]
fn check(serin: &Serin, arguments: &[&str], code: i32, parts: &[&str]) {
    let output = ask(serin, arguments);
    check_code(&output, code);
    for part in parts {
        assert!(both(&output).contains(part), "{arguments:?}: {part} in {}", both(&output));
    }
}

/// Nobody sends requests, so only a person moves the weight.
const SLOW: &str = "pace: evidence\nanalysis: {interval: 1s, threshold: 5, stepWeights: [5, 50]}";

fn slow() -> (Serin, [Upstream; 2]) {
    let arms = [Upstream::named("v1"), Upstream::named("v2")];
    let serin = rollout(&arms[0].endpoint(), &arms[1].endpoint(), SLOW).start();
    until_phase(&serin, "progressing");
    (serin, arms)
}

#[test]
fn a_person_steers_a_rollout_and_the_journal_knows_who_and_why() {
    let (serin, _arms) = slow();
    check(&serin, &["list"], 0, &["NAME", "world", "progressing", "/#/clusters/v2"]);
    check(
        &serin,
        &["status", "world"],
        0,
        &["world  progressing at ", "against the canary", "next: it goes on by itself"],
    );
    check(&serin, &["pause", "world", "--why", "lunch"], 0, &["paused"]);
    check(&serin, &["status", "world"], 0, &["serin rollout resume world"]);
    check(&serin, &["resume", "world"], 0, &["world  progressing at "]);
    check(&serin, &["weight", "world", "12.5%"], 0, &["progressing at 12.5%"]);
    check(&serin, &["abort", "world", "--why", "wrong build"], 0, &["rolled-back at 0%"]);
    check(&serin, &["undo", "world"], 0, &["progressing at 12.5%"]);
    check(&serin, &["promote", "world", "-o", "json"], 0, &["\"weight_ppm\": 1000000"]);
    check(&serin, &["history", "world"], 0, &["paused", ": lunch", "weight-set", ": wrong build", "undone"]);
    let newest = ask(&serin, &["history", "world", "--max", "2", "-o", "json"]);
    check_code(&newest, 0);
    let newest: Value = serde_json::from_str(&stdout(&newest)).unwrap();
    assert_eq!(newest.as_array().unwrap().len(), 2, "{newest}");
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let (serin, _arms) = slow();
    check(&serin, &["status", "wrld"], 1, &["no rollout is called `wrld`", "did you mean `world`?"]);
    check(&serin, &["undo", "world"], 1, &["nothing has ended that could be undone"]);
    check(&serin, &["weight", "world", "110%"], 2, &["a share is a percentage"]);
    check(&serin, &["abort"], 2, &["<NAME>"]);
    check(&serin, &["abort", "world", "--token", "wrong"], 1, &["this is not the token", "token is in", "state/token"]);
    let admin = serin.admin_address().to_string();
    let lost = run(&["rollout", "abort", "world", "--admin", &admin, "--config", "/nowhere.yaml"]);
    check_code(&lost, 1);
    for part in ["changes need the token", "state/token", "no token was sent: cannot read /nowhere.yaml"] {
        assert!(both(&lost).contains(part), "{part} in {}", both(&lost));
    }
    drop(serin);
    let gone = run(&["rollout", "list", "--admin", &admin]);
    check_code(&gone, 1);
    assert!(both(&gone).contains(&format!("nothing answers at {admin}")), "{}", both(&gone));
}

/// Waits for the end of a rollout to this canary.
#[track_caller]
fn check_wait(canary: &Upstream, keys: &str, timeout: &str, code: i32, last: &str) {
    let v1 = Upstream::named("v1");
    let serin = rollout(&v1.endpoint(), &canary.endpoint(), keys).start();
    let _users = Users::start(&serin, 4);
    let output = ask(&serin, &["status", "world", "--wait", "--timeout", timeout, "-o", "json"]);
    check_code(&output, code);
    let view: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(view["phase"], last, "{view:#}");
}

#[test]
fn who_waits_learns_of_a_promotion_by_0() {
    check_wait(&Upstream::named("v2"), &steps("10, 50"), "5m", 0, "promoted");
}

#[test]
fn who_waits_learns_of_a_rollback_by_3() {
    check_wait(&failing(2), &steps("10, 50"), "5m", 3, "rolled-back");
}

#[test]
fn who_waits_too_long_learns_it_by_4() {
    check_wait(&Upstream::named("v2"), SLOW, "300ms", 4, "progressing");
}

#[test]
fn watch_writes_one_line_for_each_event_where_nobody_looks() {
    let (serin, _arms) = slow();
    let (admin, file) = (serin.admin_address().to_string(), serin.file());
    let mut watch = command(&["rollout", "watch", "world", "--admin", &admin, "--config", file.to_str().unwrap()]);
    let mut child = watch.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let _child = Guard(child);
    // its stream may begin after the first of them
    let talker = std::thread::scope(|scope| {
        let seen = scope.spawn(|| lines.find(|line| line.contains("Set world")).unwrap());
        while !seen.is_finished() {
            check(&serin, &["weight", "world", "7%", "--why", "x"], 0, &["7%"]);
        }
        seen.join().unwrap()
    });
    assert!(talker.contains("Set world canary weight 7") && talker.contains(": x)"), "{talker}");
    assert!(!talker.contains('\u{1b}'), "{talker}");
}

#[test]
fn files_are_compared_with_the_journals_of_their_folder() {
    let (serin, _arms) = slow();
    let (file, state) = (serin.file(), serin.dir.path().join("state"));
    let (file, state) = (file.to_str().unwrap(), state.to_str().unwrap());
    check(&serin, &["weight", "world", "20%"], 0, &["20%"]);
    let explained = run(&["explain", file, "-H", "Host: world", "--state", state, "-o", "json"]);
    check_code(&explained, 0);
    let explained: Value = serde_json::from_str(&stdout(&explained)).unwrap();
    let share = explained["traffic"]["/#/clusters/v2"].as_f64().unwrap_or_default();
    assert!((share - 0.2).abs() < 1e-6, "{explained:#}");
    let level = run(&["validate", file, "--state", state]);
    check_code(&level, 0);
    assert!(!both(&level).contains("was promoted"), "{}", both(&level));
    check_code(&run(&["validate", file, "--state", "/nowhere"]), 1);
}

#[test]
fn a_promotion_leaves_a_file_behind_and_validate_says_so() {
    let (v1, v2) = (Upstream::named("v1"), Upstream::named("v2"));
    let serin = rollout(&v1.endpoint(), &v2.endpoint(), &steps("50")).start();
    let users = Users::start(&serin, 4);
    until_phase(&serin, "promoted");
    drop(users);
    let (file, state) = (serin.file(), serin.dir.path().join("state"));
    let said = run(&["validate", file.to_str().unwrap(), "--state", state.to_str().unwrap()]);
    check_code(&said, 0);
    let text = both(&said);
    assert!(
        text.contains("/#/clusters/v2 was promoted and serves; the file still says `primary: /#/clusters/v1`"),
        "{text}"
    );
    check(
        &serin,
        &["status", "world"],
        0,
        &["the file still says `primary: /#/clusters/v1`", "serin rollout undo world"],
    );
    assert!(serin.admin("/readyz?verbose").text().contains("the file still says"));
}

#[test]
fn a_simulation_needs_nobody_and_repeats_itself() {
    let line = ["rollout", "simulate", "--canary", "50%", "--rps", "100", "--runs", "3", "--seed", "7", "-o", "json"];
    let (one, two) = (run(&line), run(&line));
    check_code(&one, 0);
    assert_eq!(stdout(&one), stdout(&two));
    let figures: Value = serde_json::from_str(&stdout(&one)).unwrap();
    assert_eq!((&figures["asked"]["rolled_back"], &figures["asked"]["runs"]), (&1.0.into(), &3.into()));
    check_code(&run(&["rollout", "simulate", "--rps", "0"]), 2);
    check_code(&run(&["rollout", "simulate", "--policy", "/nowhere.yaml:x"]), 1);
}

const CANARY: &str = "\
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: world, namespace: shop}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: world}
  service: {port: 80}
  analysis:
    interval: 1m
    threshold: 5
    stepWeights: [5, 20, 50]
    metrics:
    - {name: request-success-rate, thresholdRange: {min: 99}, interval: 1m}
";
/// What the comments in front of an import ask for.
const REST: &str = "
storage: {kind: memory}
clusters: {world-primary: {endpoints: []}, world-canary: {endpoints: []}}
routers:
- label: outgoing
  servers: [{port: 4140}]
  dtab: /srv => /#/clusters ; /host/world => /srv/world-primary ; /svc => /host
";

#[test]
fn an_imported_canary_is_a_legal_file_and_losses_are_told_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let imported = run(&["rollout", "import", &at("canary.yaml", CANARY)]);
    check_code(&imported, 0);
    check_code(&run(&["validate", &at("serin.yaml", &format!("{}{REST}", stdout(&imported)))]), 0);
    let lost = CANARY.replace("    metrics:", "    match: [{sourceLabels: {app: x}}]\n    metrics:");
    let output = run(&["rollout", "import", &at("lost.yaml", &lost)]);
    check_code(&output, 1);
    assert!(both(&output).contains("lost.yaml:11:5"), "{}", both(&output));
    check_code(&run(&["rollout", "import"]), 2);
}
