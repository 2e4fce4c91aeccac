//! What holds whatever comes in: any order of ticks, looks, events and commands, for both paces.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops loudly; helpers are not marked as tests")]

use proptest::collection::vec;
use proptest::prelude::*;
use serin_rollout::event::Cause;
use serin_rollout::journal::last_entry;
use serin_rollout::*;

const KINDS: [HookKind; 7] = [
    HookKind::ConfirmPromotion,
    HookKind::ConfirmRollout,
    HookKind::ConfirmTrafficIncrease,
    HookKind::PostRollout,
    HookKind::PreRollout,
    HookKind::Rollback,
    HookKind::Rollout,
];

#[derive(Clone, Debug)]
enum Input {
    Tick {
        target: u8,
        origin: u8,
        canary: u8,
        primary: u8,
        answers: Vec<u8>,
        reading: u8,
        skip: bool,
        suspended: bool,
    },
    Look {
        canary: u16,
        failed: u8,
        primary: u16,
        up: (bool, bool),
        after_ms: u32,
    },
    Fails {
        canary: bool,
        count: u8,
        key: Option<u8>,
        late_ms: u16,
    },
    Command(u8, u32),
    Plan(u8),
    Storage(bool),
    /// Dry, off.
    Modes(bool, bool),
    /// What was raised last could not be written.
    Withdraw,
}

fn arb_input() -> impl Strategy<Value = Input> {
    let answers = vec(prop_oneof![8 => Just(0_u8), 1 => Just(1_u8), 1 => Just(2_u8)], KINDS.len());
    let names = (0..4_u8, prop_oneof![9 => Just(0_u8), 1 => Just(4_u8)]);
    let tick = (names, 0..6_u8, 0..6_u8, answers, any::<u8>(), prop::bool::weighted(0.05), prop::bool::weighted(0.1))
        .prop_map(|((target, origin), canary, primary, answers, reading, skip, suspended)| Input::Tick {
            target,
            origin,
            canary,
            primary,
            answers,
            reading,
            skip,
            suspended,
        });
    let up = (prop::bool::weighted(0.95), prop::bool::weighted(0.9));
    let look = (0..3_000_u16, 0..4_u8, any::<u16>(), up, 0..200_000_u32)
        .prop_map(|(canary, failed, primary, up, after_ms)| Input::Look { canary, failed, primary, up, after_ms });
    let fails = (any::<bool>(), 1..5_u8, proptest::option::of(0..4_u8), any::<u16>())
        .prop_map(|(canary, count, key, late_ms)| Input::Fails { canary, count, key, late_ms });
    prop_oneof![
        4 => tick,
        6 => look,
        3 => fails,
        1 => (0..8_u8, 0..=1_000_000_u32).prop_map(|(which, share)| Input::Command(which, share)),
        1 => (0..4_u8).prop_map(Input::Plan),
        1 => prop::bool::weighted(0.7).prop_map(Input::Storage),
        1 => Just(Input::Withdraw),
        1 => (prop::bool::weighted(0.2), prop::bool::weighted(0.1)).prop_map(|(dry, off)| Input::Modes(dry, off)),
    ]
}

fn revision(number: u8) -> Revision {
    format!("v{number}").parse().unwrap()
}

fn readiness(number: u8) -> Readiness {
    match number {
        0 => Readiness::Deadline,
        1 => Readiness::Retriable,
        _ => Readiness::Ready,
    }
}

fn pace(number: u8, evidence: bool) -> Pace {
    let percent = |list: &[u32]| list.iter().map(|step| Ppm::from_percent(*step).unwrap()).collect();
    let hooks: Vec<Hook> = KINDS.map(|kind| Hook { name: "hook".into(), kind }).into();
    let success = MetricSource::SuccessRate;
    let metric = Metric { name: "it".into(), source: success, range: Some((Some(20.0), None)), threshold: 0.0 };
    let metrics = if number == 3 { vec![metric] } else { Vec::new() };
    if evidence {
        let steps = percent([&[10, 50][..], &[1, 5, 25], &[60], &[30, 40, 90]][usize::from(number)]);
        return Pace::Evidence(
            Policy::new(Settings { steps, hooks, metrics, requests_min: 10, ..Settings::default() }).unwrap(),
        );
    }
    let mut analysis =
        Analysis { interval_ms: Some(60_000), threshold: Some(2), hooks, metrics, ..Analysis::default() };
    match number {
        0 => analysis.step_weight = Some(20),
        1 => analysis.step_weights = Some(vec![10, 10, 50]),
        2 => analysis.iterations = Some(2),
        _ => (analysis.iterations, analysis.matches) = (Some(1), true),
    }
    analysis.mirror = number == 2;
    Pace::Interval(Plan::new(analysis).unwrap(), (number > 0).then(GuardPolicy::default))
}

struct Run {
    rollout: Rollout,
    evidence: bool,
    now: TimestampMs,
    traffic: Traffic,
    journal: String,
    storage_ok: bool,
    /// Where it stood before the last raise.
    raised_from: Option<State>,
}

impl Run {
    fn feed(&mut self, input: &Input) -> Option<Decision> {
        match input {
            Input::Tick { target, origin, canary, primary, answers, reading, skip, suspended } => {
                let (target, origin) = (revision(*target), revision(*origin));
                let answers: Vec<Answer> = answers.iter().zip(KINDS).map(|(it, kind)| answer(*it, kind)).collect();
                let readings = [[Reading::NoValues, Reading::Value(f64::from(*reading))][usize::from(*reading > 9)]];
                let tick = Tick {
                    target: &target,
                    origin: &origin,
                    canary: readiness(*canary),
                    primary: readiness(*primary),
                    answers: &answers,
                    readings: &readings,
                    skip_analysis: *skip,
                    suspended: *suspended,
                };
                Some(self.tick_twice(&tick))
            }
            Input::Look { canary, failed, primary, up, after_ms } => {
                self.now = self.now.plus(u64::from(*after_ms));
                let totals = &mut self.traffic.canary;
                totals.routed += u64::from(*canary);
                totals.completed += u64::from(*canary);
                totals.failed += u64::from(*failed);
                self.traffic.primary.routed += u64::from(*primary);
                self.traffic.primary.completed += u64::from(*primary);
                let (canary_up, primary_up) = *up;
                Some(self.rollout.look(&Look { traffic: &self.traffic, canary_up, primary_up, slow: None }, self.now))
            }
            Input::Fails { canary, count, key, late_ms } => {
                let record = EventRecord {
                    arm: if *canary { Arm::Canary } else { Arm::Primary },
                    share: self.rollout.state().weight,
                    routed_at: TimestampMs(self.now.0.saturating_sub(u64::from(*late_ms))),
                    kind: Kind::Failure,
                    key: key.map(|key| Key::Session(key.into())),
                    randomised: true,
                };
                (0..*count).for_each(|_| self.rollout.observe(record, 1));
                None
            }
            Input::Command(which, share) => {
                let command = match which {
                    0 => Command::Abort,
                    1 => Command::Pause,
                    2 => Command::Promote,
                    3 | 4 => Command::Resume,
                    5 => Command::SetWeight(Ppm::clamped(i64::from(*share))),
                    6 => Command::Start(revision(3)),
                    _ => Command::Undo,
                };
                self.rollout.command(&command, "a person", "why not", self.now).ok()
            }
            Input::Plan(number) => {
                self.rollout.set_pace(pace(*number, self.evidence));
                None
            }
            Input::Storage(ok) => {
                self.storage_ok = *ok;
                self.rollout.set_storage(*ok);
                None
            }
            Input::Modes(dry, off) => {
                self.rollout.set_dry(*dry);
                self.rollout.set_off(*off);
                None
            }
            Input::Withdraw => self.raised_from.take().map(|before| {
                self.storage_ok = false;
                self.rollout.withdraw(&before, self.now)
            }),
        }
    }
}

impl Run {
    /// A tick with every answer there is, which must do what it does with those that were wanted.
    fn tick_twice(&mut self, tick: &Tick<'_>) -> Decision {
        let wanted = self.rollout.wanted_hooks(tick.target);
        let only = |at: usize, answer: Answer| if wanted.contains(&at) { answer } else { Answer::Pending };
        let answers: Vec<Answer> = tick.answers.iter().enumerate().map(|(at, answer)| only(at, *answer)).collect();
        let readings = if self.rollout.wants_readings() { tick.readings } else { &[] };
        let mut other = self.rollout.clone();
        let all = other.tick(tick, self.now);
        let told = self.rollout.tick(&Tick { answers: &answers, readings, ..tick.clone() }, self.now);
        let post = |event: &&Event| **event != Event::PostRolloutError;
        let (with, without): (Vec<&Event>, Vec<&Event>) =
            (all.events.iter().filter(post).collect(), told.events.iter().filter(post).collect());
        assert_eq!((with, other.state()), (without, self.rollout.state()), "a hook that nobody wanted mattered");
        let look = Look { traffic: &self.traffic, canary_up: true, primary_up: true, slow: None };
        assert_eq!(other.look(&look, self.now).events, self.rollout.clone().look(&look, self.now).events);
        told
    }
}

fn answer(number: u8, kind: HookKind) -> Answer {
    let answers = [Answer::Passed, Answer::Refused, Answer::Pending];
    let number = usize::from(number);
    answers[if kind == HookKind::Rollback { [1, 0, 2][number] } else { number }]
}

/// Events that explain a rise.
fn explains_a_rise(event: &Event) -> bool {
    let steps = [Event::Advance, Event::PromotionStep, Event::Promoting, Event::Iteration, Event::Switch];
    let others = [Event::Skipped, Event::Undone, Event::WeightSet, Event::PromotionFailed, Event::Succeeded];
    steps.contains(event) || others.contains(event)
}

fn check_step(run: &mut Run, input: &Input) {
    let before = run.rollout.state().clone();
    let decision = run.feed(input);
    let after = run.rollout.state().clone();
    let Some(decision) = decision else {
        assert_eq!(before, after, "{input:?} only tells, and decides nothing");
        return;
    };
    assert_eq!(decision.weight, (before.weight != after.weight).then_some((before.weight, after.weight)));
    let (was, share) = (before.canary_share(), after.canary_share());
    assert_eq!(decision.share, (was != share).then_some((was, share)));
    assert!(share >= after.weight || after.phase.is_end() || after.dry.is_some(), "{after:?}");
    if before.dry.is_some() && after.dry.is_some() && !matches!(input, Input::Command(..) | Input::Withdraw) {
        assert!(share == was || (share == Ppm::ZERO && before.applied != after.applied), "a dry run moved: {input:?}");
        let other_primary = decision.events.contains(&Event::PrimaryChanged);
        assert!(before.promoted == after.promoted || other_primary || before.phase == Phase::Initializing, "{input:?}");
    }
    if decision.is_raise() {
        assert!(run.storage_ok && !matches!(input, Input::Withdraw), "nothing rises unwritten: {input:?} {decision:?}");
        run.raised_from = Some(before.clone());
        assert!(decision.events.iter().any(explains_a_rise), "{before:?} {input:?} {decision:?}");
    }
    let rolled_back =
        |e: &Event| matches!(e, Event::Rollback(cause) if *cause != Cause::Primary) || *e == Event::Aborted;
    if decision.events.iter().any(rolled_back) {
        assert_eq!((after.phase, after.weight), (Phase::RolledBack, Ppm::ZERO), "{input:?} {decision:?}");
    }
    let same_mode = before.dry.is_some() == after.dry.is_some();
    if before.phase.is_end() && same_mode && matches!(input, Input::Look { .. }) {
        assert_eq!(before, after, "an end is an end, whatever is seen");
    }
    if run.rollout.is_paused() && run.evidence && !matches!(input, Input::Command(..)) {
        assert!(after.weight <= before.weight || decision.events.contains(&Event::Skipped), "{input:?} {decision:?}");
    }
    for entry in &decision.entries {
        run.journal.push_str(&format!("{entry}\n"));
    }
    if before != after {
        let (last, unreadable) = last_entry(&run.journal);
        assert_eq!(unreadable, 0);
        assert_eq!(last.unwrap().state, after, "the journal lags behind: {input:?}");
    }
}

fn check_run(evidence: bool, first: u8, inputs: &[Input]) {
    let old = Some(revision(0));
    let phase = Phase::Initialized;
    let state = State { phase, applied: old.clone(), promoted: old.clone(), serving: old, ..State::default() };
    let rollout = Rollout::new(pace(first, evidence), state, TimestampMs(0));
    let (now, traffic) = (TimestampMs(0), Traffic::default());
    let mut run = Run { rollout, evidence, now, traffic, journal: String::new(), storage_ok: true, raised_from: None };
    for input in inputs {
        check_step(&mut run, input);
        let (last, _) = last_entry(&run.journal);
        let share = last.as_ref().map_or(Ppm::ZERO, |entry| entry.state.canary_share());
        for clean in [false, true] {
            let again = Rollout::recover(pace(first, evidence), last.as_ref(), clean, run.now);
            assert!(again.state().canary_share() <= share, "after a stop the share rose");
            assert!(!clean || last.as_ref().is_none_or(|entry| entry.state == *again.state()), "clean is clean");
        }
        let other = Rollout::recover(pace(first, !evidence), last.as_ref(), true, run.now);
        let ends = !other.state().phase.is_active() || other.is_dry();
        assert!(other.state().canary_share() == Ppm::ZERO || ends, "another pace begins again");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn by_evidence_the_laws_hold(first in 0..4_u8, inputs in vec(arb_input(), 1..60)) {
        check_run(true, first, &inputs);
    }

    #[test]
    fn by_the_interval_the_laws_hold(first in 0..4_u8, inputs in vec(arb_input(), 1..60)) {
        check_run(false, first, &inputs);
    }
}

#[test]
fn flaggers_rule_that_feeds_a_broken_primary_is_followed_and_told() {
    let old = Some(revision(0));
    let phase = Phase::Initialized;
    let state = State { phase, applied: old.clone(), promoted: old.clone(), serving: old, ..State::default() };
    let mut run = Run {
        rollout: Rollout::new(pace(0, false), state, TimestampMs(0)),
        evidence: false,
        now: TimestampMs(0),
        traffic: Traffic::default(),
        journal: String::new(),
        storage_ok: true,
        raised_from: None,
    };
    let answers = vec![0; KINDS.len()];
    let tick = |primary| Input::Tick {
        target: 1,
        origin: 0,
        canary: 2,
        primary,
        answers: answers.clone(),
        reading: 0,
        skip: false,
        suspended: false,
    };
    let _new_revision = run.feed(&tick(2));
    let _first_step = run.feed(&tick(2));
    assert!(run.rollout.state().weight > Ppm::ZERO);
    let decision = run.feed(&tick(0)).unwrap();
    assert!(decision.events.contains(&Event::CompatHazard), "{decision:?}");
    assert_eq!(run.rollout.state().weight, Ppm::ZERO);
}
