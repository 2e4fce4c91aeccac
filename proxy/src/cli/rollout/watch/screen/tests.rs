use super::*;
use crate::judge::view::sample;

const PLAIN: Paint = Paint(false);
const NOW_MS: u64 = 1_763_705_000_000;

fn weights() -> Weights {
    let mut weights = Weights::default();
    weights.push(NOW_MS - 260_000, 0);
    weights.push(NOW_MS - 230_000, 10_000);
    weights.push(NOW_MS - 200_000, 50_000);
    weights
}

fn told(sequence: u64) -> Told {
    Told {
        sequence,
        at_ms: NOW_MS - 200_000,
        rollout: "world".into(),
        code: "advance".into(),
        text: format!("Advance world canary weight {sequence}"),
        kind: "Normal".into(),
        weight_ppm: 50_000,
        score: 0.35,
        who: None,
        why: None,
    }
}

fn picture(view: &View, width: usize, height: usize, paint: Paint) -> Vec<String> {
    let events = (1..=30).map(told).collect();
    let scene = Scene { view, weights: &weights(), events: &events, lost: None, now_ms: NOW_MS };
    draw(&scene, width, height, paint)
}

#[test]
fn the_picture_looks_like_this() {
    let view = View { held: Some("evidence".into()), ..sample("world") };
    let expected = "
 world  progressing █▌··························· 5% step 2 of 3, for 3 min 20 s
 /srv/v1 → /srv/v2@r7  (outgoing, /host/world)

                 5% │             ██████████████████████████████████████████████
                    │             ██████████████████████████████████████████████
                    │             ██████████████████████████████████████████████
                    │      ▇▇▇▇▇▇▇██████████████████████████████████████████████
canary's share      └4 min 20 s ago──────────────────────────────────────────now

          requests  failed      open  now     failing  p50    p99
 canary   1,234     3 (0.24%)   2     5.00/s  0.05/s   20 ms  130 ms
 primary  23,456    21 (0.09%)  2     5.00/s  0.05/s   20 ms  130 ms

 against the canary █████▌························ 0.35 of 100 roll back
 for the next step  ███████████████████▋·········· 3.20 of 20.0
 held: evidence
 1 of 5 checks failed

 06:00:00  Advance world canary weight 29
 06:00:00  Advance world canary weight 30";
    assert_eq!(format!("\n{}", picture(&view, 80, 20, PLAIN).join("\n")), expected);
}

#[test]
fn it_fits_every_terminal_and_colours_change_nothing() {
    for (width, height) in [(20, 5), (40, 10), (80, 24), (100, 30), (250, 60), (1, 1)] {
        let plain = picture(&sample("world"), width, height, PLAIN);
        assert!(plain.len() <= height, "{} lines of {height}", plain.len());
        for line in &plain {
            assert!(measure_text_width(line) <= width, "{width}: {line}");
        }
        let colored = picture(&sample("world"), width, height, Paint(true));
        let stripped: Vec<_> = colored.iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect();
        assert_eq!(stripped, plain, "{width} x {height}");
    }
}

#[test]
fn the_newest_events_are_those_that_are_seen() {
    let lines = picture(&sample("world"), 80, 24, PLAIN);
    assert!(lines.last().unwrap().ends_with("canary weight 30"), "{lines:?}");
    assert_eq!(lines.len(), 24);
}

#[test]
fn what_was_lost_and_what_holds_is_said() {
    let view = View { paused: true, waiting: Some("promotion".into()), storage: "full".into(), ..sample("world") };
    let scene = Scene {
        view: &view,
        weights: &Weights::default(),
        events: &VecDeque::new(),
        lost: Some("nothing answers\nhelp: x"),
        now_ms: NOW_MS,
    };
    let text = draw(&scene, 80, 24, PLAIN).join("\n");
    for part in [
        "nothing answers; this is how it was last seen",
        "serin rollout resume world",
        "confirm-promotion",
        "1 of 5 checks failed",
        "cannot be written: full",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_score_moves_as_much_for_each_tenfold() {
    let filled = |score: f64| log_bar(score, 100.0, 30).chars().filter(|c| *c == '█').count();
    assert_eq!([0.0, 0.1, 1.0, 10.0, 100.0, f64::MAX].map(filled), [0, 0, 10, 20, 30, 30]);
    assert_eq!(bar(0.000_001, 10).chars().next(), Some('▏'), "a little is not nothing");
    assert_eq!(bar(0.0, 3), "···");
}

#[test]
fn changes_fill_the_cap_and_the_oldest_goes() {
    let mut weights = Weights::default();
    for at in 0..=CHANGES_MAX as u64 {
        weights.push(at, u32::from(at % 2 == 0));
    }
    assert_eq!((weights.0.len(), weights.0.front()), (CHANGES_MAX, Some(&(1, 0))));
    weights.push(5, 7);
    weights.push(2_000, *weights.0.back().map(|(_, weight)| weight).unwrap());
    assert_eq!(weights.0.len(), CHANGES_MAX, "neither the past nor the same is a change");
    assert_eq!((weights.at(0), weights.at(1), weights.at(2), weights.at(9_999)), (0, 0, 1, 1));
}
