use super::*;

fn check_told(event: Event, detail: Option<HaltDetail>, sentence: &str) {
    let standing = Standing { score: 123.6, requests: 250, failures: 9, ..Standing::default() };
    let facts = Facts {
        name: "world",
        revision: "/svc/world-v2@7",
        primary: "/svc/world-v1",
        weight: Ppm::clamped(100_000),
        iterations: 3,
        failed_checks_max: 5,
        standing: &standing,
        sure: 100.0,
        detail: detail.as_ref(),
    };
    assert_eq!(describe(event, &facts), sentence);
}

fn metric(value: f64, limit: Limit) -> Option<HaltDetail> {
    Some(HaltDetail::Metric { name: "queue".into(), value: Some(value), limit: Some(limit) })
}

#[test]
fn the_figures_are_told() {
    check_told(
        Event::Halt(Halt::SuccessRate),
        metric(69.117, Limit::Min(99.0)),
        "Halt world advancement success rate 69.12% < 99%",
    );
    check_told(
        Event::Halt(Halt::Duration),
        metric(612.0, Limit::Max(500.0)),
        "Halt world advancement request duration 612ms > 500ms",
    );
    check_told(Event::Halt(Halt::Custom), metric(7.5, Limit::Max(7.0)), "Halt world advancement queue 7.5 > 7");
    let hook = || Some(HaltDetail::Hook { name: "load".into() });
    check_told(Event::Halt(Halt::RolloutHook), hook(), "Halt world advancement external check load failed");
    check_told(Event::Halt(Halt::NoValues), hook(), "Halt world advancement no answer from load yet");
}

#[test]
fn evidence_says_what_it_is_about_unless_that_is_failures() {
    assert_eq!([blame(None), blame(Some(Kind::Failure))], [""; 2]);
    assert_eq!(blame(Some(Kind::Slow99)), " of answers slower than the primary's p99");
}

#[test]
fn every_event_has_its_sentence() {
    let detail = metric(7.5, Limit::Max(7.0));
    let standing = Standing { score: 123.6, requests: 250, failures: 9, ..Standing::default() };
    let facts = Facts {
        name: "world",
        revision: "/svc/world-v2@7",
        primary: "/svc/world-v1",
        weight: Ppm::clamped(125_000),
        iterations: 3,
        failed_checks_max: 5,
        standing: &standing,
        sure: 100.0,
        detail: detail.as_ref(),
    };
    let told: Vec<String> = Event::all().map(|event| format!("{event}: {}", describe(event, &facts))).collect();
    let golden: Vec<&str> = include_str!("golden.txt").lines().collect();
    assert_eq!(told, golden, "\n{}\n", told.join("\n"));
}

#[test]
fn a_score_beyond_all_measure_stays_short() {
    assert_eq!([score(1e80), score(f64::INFINITY), score(99.6), score(2.34)], ["1000000", "1000000", "100", "2.3"]);
}
