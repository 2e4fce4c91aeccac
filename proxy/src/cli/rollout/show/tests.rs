use super::*;
use crate::judge::view::sample;

const PLAIN: Paint = Paint(false);
/// 200 s after the step of the sample began.
const NOW_MS: u64 = 1_763_705_000_000;

fn told() -> Told {
    Told {
        sequence: 3,
        at_ms: 1_763_704_800_000,
        rollout: "world".into(),
        code: "advance".into(),
        text: "Advance world canary weight 5".into(),
        kind: "Normal".into(),
        weight_ppm: 50_000,
        score: 0.35,
        who: None,
        why: None,
    }
}

/// The last line: what a person can do.
#[track_caller]
fn check_next(view: &View, part: &str) {
    let text = status(view, NOW_MS, PLAIN);
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("next: ") && last.contains(part), "{part} in {last}");
}

#[test]
fn a_status_reads_like_this() {
    let view = View { last: Some(told().into()), ..sample("world") };
    let expected = "\
world  progressing at 5%   router outgoing, /host/world
  /srv/v1 → /srv/v2@r7   canary, pace evidence

           requests  failed      open  now     p50    p99
  canary   1,234     3 (0.24%)   2     5.00/s  20 ms  130 ms
  primary  23,456    21 (0.09%)  2     5.00/s  20 ms  130 ms

  against the canary  0.35 of 100 that roll back
  for the next step   3.20 of 20.0
  step                2 of 3 (1% 5% 25%), for 3 min 20 s
  checks              1 of 5 failed
  journal             durable
  last                06:00:00  Advance world canary weight 5

next: it goes on by itself; `serin rollout watch world`, or pause, promote, abort it
";
    assert_eq!(status(&view, NOW_MS, PLAIN), expected);
    assert_eq!(console::strip_ansi_codes(&status(&view, NOW_MS, Paint(true))), expected, "colours change no text");
}

#[test]
fn a_list_has_one_line_each() {
    let held = View { held: Some("evidence".into()), paused: true, storage: "disk full".into(), ..sample("b") };
    let expected = "\
NAME  PHASE        WEIGHT  REVISION    REQUESTS  FAILED     P99     EVIDENCE  SINCE       NOTE
a     progressing  5%      /srv/v2@r7  1,234     3 (0.24%)  130 ms  0.35/100  3 min 20 s
b     progressing  5%      /srv/v2@r7  1,234     3 (0.24%)  130 ms  0.35/100  3 min 20 s  paused, held: evidence, journal not writable
";
    assert_eq!(list(&[sample("a"), held], NOW_MS, PLAIN), expected);
    assert_eq!(list(&[], NOW_MS, PLAIN), "no rollout is configured: `rollouts:` in the file\n");
}

#[test]
fn what_stands_in_the_way_is_said() {
    let mut view = sample("world");
    view.evidence.rolls_back_at = 0.0;
    view.evidence.dropped = 7;
    view.held = Some("both-failing".into());
    view.waiting = Some("promotion".into());
    view.suspended = true;
    view.storage = "No space left on device".into();
    view.canary_arm.up = false;
    view.dry_weight_ppm = Some(100_000);
    view.steps_ppm = vec![10_000];
    let text = status(&view, NOW_MS, PLAIN);
    for part in [
        "`guard: off`",
        "7 events, something was full",
        "both-failing: the primary fails as much",
        "the gate confirm-promotion",
        "`suspend: true`",
        "cannot be written: No space left",
        "no endpoint can serve",
        "would have 10%",
        "none of 1%, for",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn what_to_do_next_depends_on_where_it_stands() {
    let at = |phase: &str| View { phase: phase.into(), ..sample("world") };
    check_next(&sample("world"), "it goes on by itself");
    check_next(&View { paused: true, ..sample("world") }, "serin rollout resume world");
    check_next(&at("promoted"), "serin rollout undo world");
    let behind = View { promoted: Some("/srv/v2@r7".into()), ..at("promoted") };
    check_next(&behind, "the file still says `primary: /srv/v1`");
    check_next(&at("rolled-back"), "serin rollout start world");
    check_next(&at("initialized"), "another canary or revision");
    check_next(&View { waiting: Some("rollout".into()), ..at("waiting") }, "open the gate confirm-rollout");
    check_next(&View { held: Some("insufficient".into()), ..sample("world") }, "if you are sure");
    check_next(&View { held: Some("failed-check".into()), ..sample("world") }, "serin rollout history world");
}

#[test]
fn a_history_names_who_and_why_on_one_line() {
    let entry = Past {
        sequence: 12,
        at_ms: 1_763_704_800_000,
        events: vec!["aborted".into()],
        phase: "rolled-back".into(),
        weight_ppm: 0,
        paused: false,
        applied: None,
        promoted: None,
        failed_checks: 0,
        score: 104.2,
        requests: 200,
        failures: 9,
        who: Some("ann@host".into()),
        why: Some("mails\nare \u{1b}[31mmissing".into()),
    };
    let expected = "\
#   TIME (UTC)           WHAT     PHASE        WEIGHT  EVIDENCE  REQUESTS  FAILED    BY
12  2025-11-21 06:00:00  aborted  rolled-back  0%      104       200       9 (4.5%)  ann@host: mails are  [31mmissing
";
    assert_eq!(history(&[entry], PLAIN), expected);
    assert_eq!(history(&[], PLAIN), "nothing is written down yet\n");
}
