//! Pace `evidence` from outside. A test named after a hazard shows what is done instead of what Flagger does.

use super::*;
use crate::interval::{Readiness, Reading};
use crate::plan::{Hook, Metric, MetricSource};
use crate::policy::Settings;
use crate::record::{Arm, ArmTotals, Kind};

mod gates;
mod life;
mod modes;

/// A rollout, its traffic and its clock.
struct Rig {
    rollout: Rollout,
    traffic: Traffic,
    now: TimestampMs,
    target: Revision,
    origin: Revision,
    canary: Readiness,
    primary: Readiness,
    answers: Vec<Answer>,
    readings: Vec<Reading>,
    told: Vec<Event>,
    slow: Option<SlowShares>,
}

fn revision(name: &str) -> Revision {
    name.parse().unwrap()
}

fn percent(percent: u32) -> Ppm {
    Ppm::from_percent(percent).unwrap()
}

impl Rig {
    fn new(settings: Settings) -> Rig {
        let old = Some(revision("old"));
        let phase = Phase::Initialized;
        let state = State { phase, applied: old.clone(), promoted: old.clone(), serving: old, ..State::default() };
        let pace = Pace::Evidence(Policy::new(settings).unwrap());
        Rig {
            rollout: Rollout::new(pace, state, TimestampMs(0)),
            traffic: Traffic::default(),
            now: TimestampMs(0),
            target: revision("new"),
            origin: revision("old"),
            canary: Readiness::Ready,
            primary: Readiness::Ready,
            answers: Vec::new(),
            readings: Vec::new(),
            told: Vec::new(),
            slow: None,
        }
    }

    /// At its first step.
    fn begun(settings: Settings) -> Rig {
        let mut rig = Rig::new(settings);
        rig.tick();
        rig.look();
        rig
    }

    fn tick(&mut self) -> Decision {
        let tick = Tick {
            target: &self.target,
            origin: &self.origin,
            canary: self.canary,
            primary: self.primary,
            answers: &self.answers,
            readings: &self.readings,
            skip_analysis: false,
            suspended: false,
        };
        let decision = self.rollout.tick(&tick, self.now);
        self.told.extend(&decision.events);
        decision
    }

    fn look(&mut self) -> Decision {
        let look = Look { traffic: &self.traffic, canary_up: true, primary_up: true, slow: self.slow };
        let decision = self.rollout.look(&look, self.now);
        self.told.extend(&decision.events);
        decision
    }

    /// A minute in which so many requests went well, and a tick at its end.
    fn minute(&mut self, canary: u64, primary: u64) {
        self.now = self.now.plus(60_000);
        for (totals, count) in [(&mut self.traffic.canary, canary), (&mut self.traffic.primary, primary)] {
            *totals = ArmTotals { routed: totals.routed + count, completed: totals.completed + count, ..*totals };
        }
        self.tick();
        self.look();
    }

    /// Requests of the canary that fail, one after the other.
    fn fail(&mut self, count: u64) {
        self.fail_share(count, self.weight());
    }

    fn fail_share(&mut self, count: u64, share: Ppm) {
        for _ in 0..count {
            self.now = self.now.plus(10);
            self.traffic.canary.routed += 1;
            self.traffic.canary.completed += 1;
            self.traffic.canary.failed += 1;
            self.rollout.observe(EventRecord { share, ..self.failure() }, 1);
            self.look();
        }
    }

    fn failure(&self) -> EventRecord {
        let share = self.weight();
        let (arm, kind) = (Arm::Canary, Kind::Failure);
        EventRecord { arm, share, routed_at: self.now, kind, key: None, randomised: true }
    }

    fn order(&mut self, command: Command) -> Decision {
        self.rollout.command(&command, "tester", "a test", self.now).unwrap()
    }

    fn weight(&self) -> Ppm {
        self.rollout.state().weight
    }

    #[track_caller]
    fn check(&self, phase: Phase, weight: Ppm) {
        let state = self.rollout.state();
        assert_eq!((state.phase, state.weight), (phase, weight), "{:?}", self.told);
    }
}

fn steps(list: &[u32]) -> Settings {
    Settings { steps: list.iter().map(|step| percent(*step)).collect(), ..Settings::default() }
}

fn hook(kind: HookKind) -> Vec<Hook> {
    vec![Hook { name: "hook".into(), kind }]
}

fn success_rate() -> Metric {
    let range = Some((Some(99.0), None));
    Metric { name: "request-success-rate".into(), source: MetricSource::SuccessRate, range, threshold: 0.0 }
}

/// Stays on the first step, whatever comes: never enough requests.
fn patient(settings: Settings) -> Settings {
    Settings { requests_min: u32::MAX, step_deadline_ms: None, ..settings }
}

#[test]
fn a_good_canary_goes_through_its_steps_and_is_promoted() {
    let mut rig = Rig::begun(steps(&[10, 50]));
    rig.check(Phase::Progressing, percent(10));
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(50));
    rig.minute(1_000, 1_000);
    rig.check(Phase::Promoting, Ppm::WHOLE);
    rig.minute(2_000, 0);
    rig.check(Phase::Promoted, Ppm::WHOLE);
    assert_eq!(rig.rollout.state().promoted, Some(revision("new")));
}

#[test]
fn a_step_lasts_until_the_evidence_is_there() {
    let mut rig = Rig::begun(steps(&[10, 50]));
    rig.minute(199, 1_800); // too few
    rig.check(Phase::Progressing, percent(10));
    rig.minute(100, 900); // enough requests, not enough evidence
    rig.check(Phase::Progressing, percent(10));
    rig.minute(500, 4_500);
    rig.check(Phase::Progressing, percent(50));
}

#[test]
fn a_promotion_in_steps_rises_at_each_interval() {
    let mut rig = Rig::begun(Settings { promotion_step: Some(percent(30)), ..steps(&[50]) });
    for share in [80, 100] {
        rig.minute(1_000, 1_000);
        rig.check(Phase::Promoting, percent(share));
    }
    rig.minute(1_000, 0);
    rig.check(Phase::Promoted, Ppm::WHOLE);
}

#[test]
fn insufficient_evidence_does_what_the_policy_says() {
    use crate::OnInsufficient::{Advance, Hold as Stay, Rollback};
    for (on_insufficient, phase, share) in
        [(Stay, Phase::Progressing, 10), (Rollback, Phase::RolledBack, 0), (Advance, Phase::Progressing, 50)]
    {
        let settings = Settings { step_deadline_ms: Some(120_000), on_insufficient, ..steps(&[10, 50]) };
        let mut rig = Rig::begun(settings);
        rig.minute(1, 9);
        rig.check(Phase::Progressing, percent(10));
        rig.minute(1, 9);
        rig.check(phase, percent(share));
    }
}

#[test]
fn hazard_h1_a_promotion_is_judged_to_its_end() {
    let mut rig = Rig::begun(steps(&[50]));
    rig.minute(1_000, 1_000);
    rig.check(Phase::Promoting, Ppm::WHOLE);
    rig.fail(20);
    rig.check(Phase::RolledBack, Ppm::ZERO);
}

#[test]
fn hazard_h2_no_interval_passes_before_the_rollback() {
    let mut rig = Rig::begun(patient(steps(&[10])));
    rig.fail(4);
    rig.check(Phase::RolledBack, Ppm::ZERO);
    assert!(rig.now.0 < 100);
    let mut rig = Rig::begun(Settings { metrics: vec![success_rate()], failed_checks_max: 2, ..steps(&[10]) });
    rig.readings = vec![Reading::Value(98.0)];
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(10));
    rig.minute(1_000, 9_000);
    rig.check(Phase::RolledBack, Ppm::ZERO);
}

#[test]
fn hazard_h3_a_provider_without_an_answer_holds_and_is_no_failed_check() {
    for reading in [Reading::NoValues, Reading::ProviderError, Reading::Value(f64::NAN)] {
        let mut rig = Rig::begun(Settings { metrics: vec![success_rate()], failed_checks_max: 1, ..steps(&[10, 50]) });
        rig.readings = vec![reading];
        for _ in 0..3 {
            rig.minute(1_000, 9_000);
        }
        rig.check(Phase::Progressing, percent(10));
        assert_eq!((rig.rollout.state().failed_checks, rig.rollout.held()), (0, Some(Hold::NoData)));
        rig.readings = vec![Reading::Value(100.0)];
        rig.minute(1_000, 9_000);
        rig.check(Phase::Progressing, percent(50));
    }
}

#[test]
fn hazard_h4_a_pause_freezes_the_weight_and_keeps_the_guard() {
    let mut rig = Rig::begun(steps(&[10, 50]));
    rig.order(Command::Pause);
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(10));
    rig.fail(20);
    rig.check(Phase::RolledBack, Ppm::ZERO);
}

#[test]
fn hazard_h5_changed_steps_go_no_higher_than_the_old_ones_without_a_word() {
    let mut rig = Rig::begun(steps(&[10, 20]));
    rig.rollout.set_pace(Pace::Evidence(Policy::new(steps(&[15, 60])).unwrap()));
    rig.check(Phase::Progressing, percent(10));
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(15));
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(15));
    assert_eq!(rig.told.last(), Some(&Event::ConfirmSteps));
    rig.order(Command::Resume);
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(60));
}

#[test]
fn hazard_h8_a_revision_is_not_lost_while_the_primary_is_not_ready() {
    let mut rig = Rig::begun(patient(steps(&[10])));
    rig.fail(5);
    rig.target = revision("newer");
    rig.primary = Readiness::Retriable;
    rig.minute(0, 100);
    rig.check(Phase::RolledBack, Ppm::ZERO);
    rig.primary = Readiness::Ready;
    rig.minute(0, 100);
    rig.check(Phase::Progressing, percent(10));
}

#[test]
fn hazard_h9_a_primary_that_is_never_ready_gets_no_traffic() {
    let mut rig = Rig::begun(steps(&[10, 50]));
    rig.primary = Readiness::Deadline;
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(10));
    assert_eq!(rig.rollout.held(), Some(Hold::PrimaryDown));
}

#[test]
fn hazard_h10_a_canary_that_is_never_ready_alerts() {
    let mut rig = Rig::begun(steps(&[10]));
    rig.canary = Readiness::Deadline;
    let decision = rig.tick();
    rig.check(Phase::RolledBack, Ppm::ZERO);
    assert_eq!(decision.alerts().max(), Some(Severity::Error));
}

#[test]
fn hazard_h11_an_abort_works_wherever_a_canary_is_under_way() {
    let gates = |kind| Settings { hooks: hook(kind), ..steps(&[10]) };
    let mut waiting = Rig::new(gates(HookKind::ConfirmRollout));
    waiting.answers = vec![Answer::Refused];
    waiting.tick();
    waiting.check(Phase::Waiting, Ppm::ZERO);
    let mut gate = Rig::begun(gates(HookKind::ConfirmPromotion));
    gate.minute(1_000, 9_000);
    gate.check(Phase::WaitingPromotion, percent(10));
    let mut promoting = Rig::begun(steps(&[10]));
    promoting.minute(1_000, 9_000);
    promoting.check(Phase::Promoting, Ppm::WHOLE);
    for mut rig in [waiting, gate, promoting, Rig::begun(steps(&[10]))] {
        rig.order(Command::Abort);
        rig.check(Phase::RolledBack, Ppm::ZERO);
        assert_eq!(rig.rollout.command(&Command::Abort, "", "", rig.now), Err(CommandError::NothingRuns));
        rig.minute(100, 100);
        rig.check(Phase::RolledBack, Ppm::ZERO); // it does not come back by itself
    }
    let mut hooked = Rig::new(Settings { hooks: hook(HookKind::Rollback), ..steps(&[10]) });
    hooked.tick();
    hooked.canary = Readiness::Retriable;
    hooked.answers = vec![Answer::Passed];
    hooked.tick();
    hooked.check(Phase::RolledBack, Ppm::ZERO);
}

#[test]
fn hazard_h14_every_2xx_passes() {
    for (status, answer) in
        [(199, Answer::Refused), (204, Answer::Passed), (299, Answer::Passed), (300, Answer::Refused)]
    {
        assert_eq!(Answer::from_status(status), answer, "{status}");
    }
    assert_eq!(Answer::from_status_as_flagger(204), Answer::Refused);
}

#[test]
fn hazard_h15_the_weight_is_told_truly_while_a_promotion_waits() {
    let mut rig = Rig::begun(Settings { hooks: hook(HookKind::ConfirmPromotion), ..steps(&[50]) });
    rig.minute(1_000, 1_000);
    rig.check(Phase::WaitingPromotion, percent(50));
    rig.minute(1_000, 1_000);
    let waits = rig.told.iter().filter(|event| **event == Event::Waiting(Gate::Promotion)).count();
    assert_eq!(waits, 1, "told once, not at each look");
    rig.answers = vec![Answer::Passed];
    rig.minute(1_000, 1_000);
    rig.check(Phase::Promoting, Ppm::WHOLE);
}

#[test]
fn hazard_h16_a_new_run_does_not_count_what_the_last_one_failed() {
    let mut rig = Rig::begun(patient(steps(&[10])));
    rig.fail(2);
    rig.check(Phase::Progressing, percent(10));
    let late = rig.failure();
    rig.target = revision("newer");
    rig.tick();
    rig.now = rig.now.plus(1);
    rig.look();
    rig.check(Phase::Progressing, percent(10));
    for _ in 0..50 {
        rig.rollout.observe(late, 1);
    }
    rig.look();
    rig.check(Phase::Progressing, percent(10));
    rig.fail(2);
    rig.check(Phase::Progressing, percent(10));
}

#[test]
fn hazard_h17_only_randomised_traffic_blames() {
    let mut rig = Rig::begun(patient(steps(&[10])));
    for _ in 0..100 {
        let tester = EventRecord { randomised: false, ..rig.failure() };
        rig.rollout.observe(tester, 1);
        rig.look();
    }
    rig.check(Phase::Progressing, percent(10));
}

#[test]
fn hazard_h20_what_was_proven_is_what_serves() {
    let mut rig = Rig::begun(steps(&[50]));
    rig.minute(1_000, 1_000);
    rig.minute(1_000, 0);
    rig.check(Phase::Promoted, Ppm::WHOLE); // nothing is rolled out a second time
    assert_eq!(rig.rollout.state().serving, Some(revision("new")));
}

#[test]
fn hazard_h21_back_at_the_promoted_revision_is_a_cancel_and_one_end() {
    let mut rig = Rig::begun(steps(&[10, 50]));
    rig.target = revision("old");
    rig.tick();
    rig.check(Phase::Initialized, Ppm::ZERO);
    for _ in 0..3 {
        rig.minute(0, 1_000);
        rig.check(Phase::Initialized, Ppm::ZERO);
    }
}

#[test]
fn hazard_h22_a_changed_plan_or_router_does_not_move_the_weight() {
    let mut rig = Rig::begun(steps(&[10, 50]));
    rig.rollout.set_pace(Pace::Evidence(Policy::new(steps(&[1, 50])).unwrap()));
    rig.rollout.set_routing(Ppm::ZERO, false);
    rig.minute(1, 9);
    rig.check(Phase::Progressing, percent(10));
}

#[test]
fn a_known_bad_canary_starts_again_only_by_a_person() {
    let mut rig = Rig::begun(patient(steps(&[10])));
    rig.fail(5);
    rig.minute(0, 100);
    rig.check(Phase::RolledBack, Ppm::ZERO);
    rig.order(Command::Start(revision("new")));
    rig.look();
    rig.check(Phase::Progressing, percent(10));
}

#[test]
fn an_end_can_be_undone() {
    let mut rig = Rig::begun(patient(steps(&[10])));
    assert_eq!(rig.rollout.command(&Command::Undo, "", "", rig.now), Err(CommandError::NothingToUndo));
    rig.fail(5);
    rig.order(Command::Undo);
    rig.check(Phase::Progressing, percent(10));
    rig.order(Command::Promote);
    rig.check(Phase::Promoting, Ppm::WHOLE);
    rig.minute(100, 0);
    rig.minute(100, 0);
    rig.check(Phase::Promoted, Ppm::WHOLE);
    rig.order(Command::Undo);
    rig.check(Phase::RolledBack, Ppm::ZERO);
    assert_eq!(rig.rollout.state().promoted, Some(revision("old")));
}

#[test]
fn a_raise_is_told_from_a_fall() {
    let mut rig = Rig::new(steps(&[10]));
    rig.tick();
    assert!(rig.look().is_raise());
    let fall = rig.order(Command::Abort);
    assert!(!fall.is_raise() && fall.weight == Some((percent(10), Ppm::ZERO)));
    assert_eq!(fall.entries[0].by, Some(("tester".into(), "a test".into())));
}

#[test]
fn after_a_stop_a_canary_begins_at_its_first_step_with_what_was_known() {
    let mut rig = Rig::begun(steps(&[10, 50]));
    rig.minute(1_000, 9_000);
    rig.fail(2);
    let entry = rig.order(Command::Pause).entries.remove(0);
    let pace = Pace::Evidence(Policy::new(steps(&[10, 50])).unwrap());
    let again = Rollout::recover(pace.clone(), Some(&entry), false, rig.now);
    assert_eq!((again.state().phase, again.state().weight), (Phase::Progressing, percent(10)));
    assert!(again.is_paused());
    let unreadable = Rollout::recover(pace, None, true, rig.now);
    assert_eq!((unreadable.state().weight, unreadable.is_paused()), (Ppm::ZERO, true));
}

#[test]
fn the_guard_stands_beside_the_interval_unless_it_is_off() {
    let analysis = crate::Analysis {
        interval_ms: Some(60_000),
        threshold: Some(5),
        step_weight: Some(10),
        ..crate::Analysis::default()
    };
    let plan = Plan::new(analysis).unwrap();
    for (guard, phase) in [(Some(GuardPolicy::default()), Phase::RolledBack), (None, Phase::Progressing)] {
        let mut rig = Rig::new(steps(&[10]));
        rig.rollout.pace = Pace::Interval(plan.clone(), guard);
        rig.tick();
        rig.tick();
        rig.check(Phase::Progressing, percent(10));
        rig.fail(30);
        assert_eq!(rig.rollout.state().phase, phase);
    }
}
