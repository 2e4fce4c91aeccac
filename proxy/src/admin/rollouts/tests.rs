use super::*;

#[track_caller]
fn check_order(action: &str, body: &str, expected: &Command) {
    let found = order(action, body.as_bytes(), None).map(|order| order.command);
    assert_eq!(found.as_ref(), Ok(expected), "{action} {body}");
}

#[track_caller]
fn check_bad(action: &str, body: &str, part: &str) {
    let problem = order(action, body.as_bytes(), None).unwrap_err();
    assert_eq!(problem.status, StatusCode::BAD_REQUEST, "{action} {body}");
    assert!(problem.error.contains(part), "{part} in {}", problem.error);
    assert!(problem.hint.starts_with("for example {"), "{}", problem.hint);
}

#[test]
fn every_action_becomes_its_command() {
    check_order("abort", "", &Command::Abort);
    check_order("pause", "{}", &Command::Pause);
    check_order("promote", r#"{"who": "ann", "why": "looks good"}"#, &Command::Promote);
    check_order("resume", " \n", &Command::Resume);
    check_order("undo", "{}", &Command::Undo);
    check_order("weight", r#"{"weight": "12.5%"}"#, &Command::SetWeight(Ppm::clamped(125_000)));
    check_order("weight", r#"{"weight": "0"}"#, &Command::SetWeight(Ppm::ZERO));
    check_order("start", r#"{"revision": "/srv/b@7"}"#, &Command::Start("/srv/b@7".parse().unwrap()));
}

#[test]
fn what_starts_is_the_file_s_revision_unless_somebody_says_another() {
    let usual: Revision = "/srv/b".parse().unwrap();
    let started = |body: &str| order("start", body.as_bytes(), Some(&usual)).unwrap().command;
    assert_eq!(started(""), Command::Start(usual.clone()));
    assert_eq!(started(r#"{"revision": "/srv/c"}"#), Command::Start("/srv/c".parse().unwrap()));
}

#[test]
fn a_bad_body_is_told_with_its_place() {
    check_bad(
        "abort",
        "{\n  \"wy\": \"x\"}",
        "unknown field `wy`, expected one of `who`, `why`, `revision`, `weight` at line 2",
    );
    check_bad("abort", "{", "line 1 column 1");
    check_bad("abort", "[]]", "line 1");
    check_bad("weight", "{}", "`weight` is missing");
    check_bad("weight", r#"{"weight": "110%"}"#, "`weight`: a share is a percentage");
    check_bad("weight", r#"{"weight": 10}"#, "expected a string");
    check_bad("start", "{}", "`revision` is missing");
    check_bad("start", r#"{"revision": "a b"}"#, "`revision`: a revision is");
    check_bad("pause", r#"{"weight": "1%"}"#, "`weight` means nothing to pause");
    check_bad("undo", r#"{"revision": "x"}"#, "`revision` means nothing to undo");
}

#[test]
fn words_fill_the_cap_and_one_more_is_refused() {
    let body = |count: usize| format!(r#"{{"why": "{}"}}"#, "é".repeat(count));
    assert!(order("abort", body(WORDS_MAX).as_bytes(), None).is_ok());
    check_bad("abort", &body(WORDS_MAX + 1), "`why` has more than 200 characters");
}

#[test]
fn an_unknown_name_is_told_what_there_is() {
    let hint = |name: &str, known: &[&str]| unknown(name, known).hint;
    assert_eq!(hint("wrld", &["hello", "world"]), "did you mean `world`? there are hello, world");
    assert_eq!(hint("x", &[]), "no rollout is configured: `rollouts:` in the file");
    let many: Vec<String> = (0..12).map(|n| format!("name-{n:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(hint("x", &many).ends_with("name-09 and 2 more"));
    assert_eq!(order("stop", b"", None).unwrap_err().status, StatusCode::NOT_FOUND);
}
