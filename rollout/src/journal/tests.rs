use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::Phase;

fn arb_revision() -> impl Strategy<Value = Option<Revision>> {
    prop_oneof![Just(None), "[!-~]{1,20}".prop_map(|text| text.parse().ok())]
}

fn arb_state() -> impl Strategy<Value = State> {
    let numbers =
        (0..Phase::ALL.len(), 0..=1_000_000_u32, any::<bool>(), 0..=1_000_000_u32, any::<u32>(), any::<i32>());
    (numbers, vec(arb_revision(), 4)).prop_map(|(numbers, mut revisions)| {
        let (phase, weight, mirrored, shown, failed_checks, iterations) = numbers;
        State {
            phase: Phase::ALL[phase],
            weight: Ppm::clamped(weight.into()),
            mirrored,
            shown_weight: Ppm::clamped(shown.into()),
            failed_checks,
            iterations,
            applied: revisions.remove(0),
            promoted: revisions.remove(0),
            serving: revisions.remove(0),
            origin: revisions.remove(0),
            dry: mirrored.then_some(Ppm::clamped(shown.into())),
        }
    })
}

fn arb_hold() -> impl Strategy<Value = Option<Hold>> {
    let holds: Vec<Hold> =
        Event::all().filter_map(|e| if let Event::Hold(hold) = e { Some(hold) } else { None }).collect();
    proptest::option::of(prop::sample::select(holds))
}

fn arb_entry() -> impl Strategy<Value = Entry> {
    let number = prop_oneof![any::<f64>().prop_filter("a number", |n| !n.is_nan()), Just(f64::NEG_INFINITY)];
    let capital = (any::<u32>(), vec(number.clone(), KINDS), any::<u64>(), any::<u64>());
    let events = vec(0..Event::all().count(), 0..=EVENTS_MAX);
    let by = proptest::option::of((".{0,30}", ".{0,30}"));
    let ceiling = proptest::option::of((0..=1_000_000_i64).prop_map(Ppm::clamped));
    let hold = (any::<bool>(), any::<bool>(), arb_hold(), ceiling, proptest::option::of(arb_state()));
    (any::<u64>(), any::<u64>(), arb_state(), hold, events, number, capital, by).prop_map(
        |(sequence, at, state, hold, events, score, (starts, won, requests, failures), by)| Entry {
            sequence,
            at: TimestampMs(at),
            state,
            pace: if hold.0 { PaceKind::Evidence } else { PaceKind::Interval },
            paused: hold.1,
            held: hold.2,
            ceiling: hold.3,
            ended: hold.4,
            events: events.into_iter().filter_map(|event| Event::all().nth(event)).collect(),
            score,
            capital: Capital { starts, ln_won: won.try_into().unwrap(), requests, failures },
            by,
        },
    )
}

proptest! {
    #[test]
    fn display_then_parse_gives_back_the_entry(entry in arb_entry()) {
        let line = entry.to_string();
        prop_assert_eq!(line.lines().count(), 1);
        prop_assert_eq!(line.parse::<Entry>(), Ok(entry));
    }

    #[test]
    fn no_line_breaks_the_parser(line in ".*", entry in arb_entry(), at in any::<prop::sample::Index>()) {
        let _ = line.parse::<Entry>();
        let mut bytes = entry.to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 0x15;
        prop_assert!(String::from_utf8_lossy(&bytes).parse::<Entry>().is_err());
    }
}

fn entry(sequence: u64) -> Entry {
    Entry {
        sequence,
        at: TimestampMs(61_000),
        state: State { phase: Phase::Progressing, weight: Ppm::clamped(50_000), ..State::default() },
        events: vec![Event::Advance],
        score: 0.93,
        by: Some(("a person".into(), "it\nlooks 100% right".into())),
        ..Entry::default()
    }
}

#[test]
fn a_torn_last_line_is_passed_over_at_every_byte() {
    let (first, last) = (entry(1).to_string(), entry(2).to_string());
    for cut in 0..last.len() {
        let (found, unreadable) = last_entry(&format!("{first}\n{}", &last[..cut]));
        assert_eq!((found.map(|e| e.sequence), unreadable), (Some(1), usize::from(cut > 0)), "cut at {cut}");
    }
    assert_eq!(last_entry(&format!("{first}\n{last}\n")).0, Some(entry(2)));
    assert_eq!(last_entry("\nnonsense\n"), (None, 1));
}

#[test]
fn the_longest_line_and_one_byte_more() {
    let mut long = entry(1);
    long.by = Some((String::new(), String::new()));
    let rest = LINE_BYTES_MAX - long.to_string().len();
    long.by = Some((String::new(), "x".repeat(rest)));
    assert_eq!(long.to_string().parse(), Ok(long.clone()));
    long.by = Some((String::new(), "x".repeat(rest + 1)));
    assert_eq!(long.to_string().parse::<Entry>(), Err(EntryError::TooLong));
}

#[test]
fn the_longest_entry_fits_a_line() {
    let words = "\u{2028}".repeat(crate::WORDS_MAX);
    let name: Option<Revision> = "%".repeat(253).parse().ok();
    let weight = Ppm::clamped(333_333);
    let (applied, promoted, serving, origin) = (name.clone(), name.clone(), name.clone(), name);
    let (phase, shown_weight, failed_checks, iterations) = (Phase::WaitingPromotion, weight, u32::MAX, i32::MIN);
    let state = State {
        phase,
        weight,
        mirrored: true,
        shown_weight,
        failed_checks,
        iterations,
        applied,
        promoted,
        serving,
        origin,
        dry: Some(weight),
    };
    let long = Entry {
        at: TimestampMs(u64::MAX),
        held: Some(Hold::FailedCheck),
        ceiling: Some(weight),
        ended: Some(state.clone()),
        state,
        events: vec![Event::Waiting(crate::event::Gate::TrafficIncrease); EVENTS_MAX],
        score: -f64::MIN_POSITIVE,
        capital: Capital {
            starts: u32::MAX,
            ln_won: [-f64::MIN_POSITIVE; KINDS],
            requests: u64::MAX,
            failures: u64::MAX,
        },
        by: Some((words.clone(), words)),
        ..entry(u64::MAX)
    };
    let line = long.to_string();
    assert!(line.len() <= LINE_BYTES_MAX, "{}", line.len());
    assert_eq!(line.parse(), Ok(long));
}
