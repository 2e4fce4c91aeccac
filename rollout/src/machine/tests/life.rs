//! A changed primary, stops, journals that cannot be written, and what is routed meanwhile.

use super::*;

fn interval(change: impl Fn(&mut crate::Analysis), guard: bool) -> Pace {
    let mut analysis = crate::Analysis {
        interval_ms: Some(60_000),
        threshold: Some(2),
        step_weight: Some(25),
        max_weight: Some(50),
        ..crate::Analysis::default()
    };
    change(&mut analysis);
    Pace::Interval(Plan::new(analysis).unwrap(), guard.then(GuardPolicy::default))
}

impl Rig {
    fn paced(pace: Pace) -> Rig {
        let mut rig = Rig::new(steps(&[10, 50]));
        rig.rollout = Rollout::new(pace, rig.rollout.state.clone(), TimestampMs(0));
        rig
    }

    /// Ticks a minute apart, until `phase`.
    #[track_caller]
    fn until(&mut self, phase: Phase) {
        for _ in 0..12 {
            if self.rollout.state.phase == phase {
                return;
            }
            self.minute(1_000, 1_000);
        }
        panic!("never {phase}: {:?}", self.told);
    }

    fn share(&self) -> Ppm {
        self.rollout.state.canary_share()
    }

    /// The journal's last word, as a line and back.
    fn entry(&mut self) -> Entry {
        let entry = self.rollout.checkpoint(self.now);
        assert_eq!(entry.to_string().parse(), Ok(entry.clone()));
        entry
    }

    fn restart(&mut self, clean: bool) {
        let entry = self.entry();
        self.rollout = Rollout::recover(self.rollout.pace.clone(), Some(&entry), clean, self.now);
        self.traffic = Traffic::default();
    }
}

fn both_paces() -> [Rig; 2] {
    [Rig::begun(steps(&[10, 50])), Rig::paced(interval(|_| {}, true))]
}

#[test]
fn a_changed_primary_ends_what_runs_and_the_canary_starts_as_new() {
    for mut rig in both_paces() {
        rig.tick();
        rig.minute(1_000, 9_000);
        assert!(rig.weight() > Ppm::ZERO);
        rig.origin = revision("other");
        let decision = rig.tick();
        assert_eq!(decision.events, [Event::PrimaryChanged]);
        assert_eq!(decision.alerts().max(), Some(Severity::Info));
        rig.check(Phase::Initialized, Ppm::ZERO);
        let other = Some(revision("other"));
        let state = rig.rollout.state();
        assert_eq!([&state.applied, &state.promoted, &state.serving, &state.origin], [&other; 4]);
        assert_eq!(rig.rollout.run_started(), None);
        rig.tick();
        assert_eq!(rig.told.last(), Some(&Event::NewRevision));
        assert_eq!(rig.rollout.state().proven(), Some(&revision("other")));
    }
}

#[test]
fn a_changed_primary_wins_over_a_promotion_too() {
    let mut rig = Rig::begun(steps(&[50]));
    rig.until(Phase::Promoted);
    rig.origin = revision("new");
    rig.target = revision("newer");
    rig.tick();
    rig.check(Phase::Initialized, Ppm::ZERO);
    assert_eq!(rig.rollout.command(&Command::Undo, "", "", rig.now), Err(CommandError::NothingToUndo));
}

#[test]
fn a_primary_that_no_state_names_is_taken_over_silently() {
    let mut rig = Rig::new(steps(&[10]));
    assert_eq!(rig.rollout.state().origin, None);
    assert_eq!(rig.tick().events, [Event::NewRevision]);
    assert_eq!(rig.rollout.state().origin, Some(revision("old")));
}

#[test]
fn what_cannot_be_written_down_does_not_rise_and_is_told_once() {
    for mut rig in both_paces() {
        rig.tick();
        rig.minute(1_000, 9_000);
        let weight = rig.weight();
        rig.rollout.set_storage(false);
        for _ in 0..3 {
            rig.minute(2_000, 9_000);
            assert_eq!(rig.weight(), weight, "{:?}", rig.told);
        }
        assert_eq!(rig.told.iter().filter(|event| **event == Event::Hold(Hold::Storage)).count(), 1);
        assert_eq!(rig.rollout.held(), Some(Hold::Storage));
        for raise in [Command::Promote, Command::SetWeight(Ppm::WHOLE)] {
            assert_eq!(rig.rollout.command(&raise, "", "", rig.now), Err(CommandError::Storage));
            assert_eq!((rig.weight(), rig.rollout.state().phase), (weight, Phase::Progressing));
        }
        let mut aborted = Rig { rollout: rig.rollout.clone(), traffic: rig.traffic.clone(), ..Rig::new(steps(&[10])) };
        aborted.order(Command::Abort);
        aborted.check(Phase::RolledBack, Ppm::ZERO);
        rig.rollout.set_storage(true);
        rig.minute(2_000, 9_000);
        assert!(rig.weight() > weight && rig.told.contains(&Event::Released), "{:?}", rig.told);
        assert_eq!(rig.rollout.held(), None);
    }
}

#[test]
fn without_a_journal_the_guard_rolls_back_all_the_same() {
    for mut rig in both_paces() {
        rig.tick();
        rig.minute(1_000, 9_000);
        rig.rollout.set_storage(false);
        rig.fail(30);
        rig.check(Phase::RolledBack, Ppm::ZERO);
    }
}

#[test]
fn a_raise_that_was_not_durable_is_withdrawn() {
    let mut rig = Rig::begun(steps(&[10, 50]));
    let before = rig.rollout.state().clone();
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(50));
    let decision = rig.rollout.withdraw(&before, rig.now);
    assert_eq!((decision.weight, decision.is_raise()), (Some((percent(50), percent(10))), false));
    assert_eq!(decision.events, [Event::Hold(Hold::Storage)]);
    rig.check(Phase::Progressing, percent(10));
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(10));
    rig.rollout.set_storage(true);
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(50));
}

#[test]
fn nothing_is_withdrawn_from_what_came_later() {
    let mut rig = Rig::begun(steps(&[10, 50]));
    let before = rig.rollout.state().clone();
    rig.minute(1_000, 9_000);
    rig.order(Command::Abort);
    rig.rollout.withdraw(&before, rig.now);
    rig.check(Phase::RolledBack, Ppm::ZERO);
    let mut rig = Rig::begun(steps(&[10, 50]));
    let before = rig.rollout.state().clone();
    rig.target = revision("newer");
    rig.tick();
    rig.rollout.withdraw(&before, rig.now);
    rig.check(Phase::Progressing, Ppm::ZERO);
}

#[test]
fn a_withdrawn_undo_can_be_asked_again() {
    let mut rig = Rig::begun(patient(steps(&[10])));
    rig.fail(5);
    let before = rig.rollout.state().clone();
    rig.order(Command::Undo);
    rig.rollout.withdraw(&before, rig.now);
    rig.check(Phase::RolledBack, Ppm::ZERO);
    rig.rollout.set_storage(true);
    rig.order(Command::Undo);
    rig.check(Phase::Progressing, percent(10));
}

#[test]
fn after_a_clean_stop_a_rollout_goes_on_and_after_any_other_it_begins_again() {
    for (clean, weight) in [(true, 50), (false, 10)] {
        let mut rig = Rig::begun(steps(&[10, 50]));
        rig.minute(1_000, 9_000);
        rig.fail(1);
        let before = rig.entry();
        rig.restart(clean);
        rig.check(Phase::Progressing, percent(weight));
        let after = rig.entry();
        assert_eq!((after.capital.requests, after.capital.failures), (1_001, 1), "the counts go on");
        assert!(
            (after.capital.ln_won[Kind::Failure.index()] - before.capital.ln_won[Kind::Failure.index()]).abs() < 0.5
        );
        assert!(after.sequence > before.sequence);
    }
    for (clean, phase, share) in [(true, Phase::Finalising, Ppm::WHOLE), (false, Phase::Progressing, Ppm::ZERO)] {
        let mut rig = Rig::paced(interval(|_| {}, true));
        rig.until(Phase::Finalising);
        rig.restart(clean);
        assert_eq!((rig.rollout.state().phase, rig.share()), (phase, share));
    }
}

#[test]
fn another_pace_begins_the_run_again_with_or_without_a_stop() {
    for stop in [false, true] {
        let mut rig = Rig::begun(steps(&[50]));
        rig.until(Phase::Promoting);
        if stop {
            rig.rollout = Rollout::recover(interval(|_| {}, true), Some(&rig.entry()), true, rig.now);
        } else {
            rig.rollout.set_pace(interval(|_| {}, true));
            assert_eq!(rig.look().share, Some((Ppm::WHOLE, Ppm::ZERO)));
        }
        rig.check(Phase::Progressing, Ppm::ZERO);
        rig.minute(0, 1_000);
        rig.check(Phase::Progressing, percent(25));
    }
}

#[test]
fn a_hold_a_ceiling_and_a_pause_outlive_a_stop() {
    let mut rig = Rig::begun(steps(&[10, 20]));
    rig.rollout.set_pace(Pace::Evidence(Policy::new(steps(&[15, 60])).unwrap()));
    rig.order(Command::Pause);
    rig.fail(2);
    assert_eq!(rig.rollout.held(), Some(Hold::Evidence));
    rig.restart(true);
    assert_eq!((rig.rollout.ceiling(), rig.rollout.is_paused()), (Some(percent(20)), true));
    assert_eq!(rig.rollout.held(), Some(Hold::Evidence));
    rig.look();
    assert!(!rig.told.contains(&Event::Released), "the evidence came along: {:?}", rig.told);
}

#[test]
fn an_end_can_be_undone_after_a_stop() {
    for clean in [false, true] {
        let mut rig = Rig::begun(patient(steps(&[10])));
        rig.fail(5);
        rig.restart(clean);
        assert!(rig.rollout.can_undo());
        rig.order(Command::Undo);
        rig.check(Phase::Progressing, percent(10));
        let mut rig = Rig::begun(steps(&[50]));
        rig.until(Phase::Promoted);
        rig.restart(clean);
        rig.check(Phase::Promoted, Ppm::WHOLE);
        rig.order(Command::Undo);
        rig.check(Phase::RolledBack, Ppm::ZERO);
        assert_eq!(rig.rollout.state().proven(), Some(&revision("old")));
    }
}

#[test]
fn once_the_last_step_is_passed_no_share_of_the_old_version_comes_back() {
    let staged = |analysis: &mut crate::Analysis| analysis.step_weight_promotion = Some(20);
    for change in [(|_: &mut crate::Analysis| {}) as fn(&mut crate::Analysis), staged] {
        let mut rig = Rig::paced(interval(change, true));
        let mut share = Ppm::ZERO;
        let mut weights = Vec::new();
        while rig.rollout.state.phase != Phase::Promoted {
            rig.minute(1_000, 1_000);
            assert!(rig.share() >= share.max(rig.weight()), "{:?}", rig.told);
            share = rig.share();
            weights.push(rig.weight());
        }
        assert!(weights.contains(&percent(50)) && weights.last() == Some(&Ppm::ZERO), "Flagger's weights: {weights:?}");
        assert_eq!(share, Ppm::WHOLE);
        assert_eq!(rig.rollout.state().share_of(&revision("new")), Ppm::WHOLE);
        assert_eq!(rig.rollout.state().share_of(&revision("newer")), Ppm::ZERO);
    }
}

#[test]
fn after_a_promotion_that_failed_no_newcomer_inherits_the_traffic() {
    let mut rig = Rig::paced(interval(|_| {}, false));
    rig.until(Phase::Finalising);
    rig.primary = Readiness::Deadline;
    rig.tick();
    rig.check(Phase::RolledBack, Ppm::WHOLE);
    (rig.target, rig.primary) = (revision("newer"), Readiness::Retriable);
    rig.tick();
    let state = rig.rollout.state();
    assert_eq!(state.share_of(&revision("newer")), Ppm::ZERO);
    assert_eq!((state.share_of(&revision("new")), state.proven()), (Ppm::WHOLE, Some(&revision("new"))));
}

#[test]
fn the_guard_judges_until_the_old_version_is_gone() {
    for phase in [Phase::Progressing, Phase::WaitingPromotion, Phase::Promoting, Phase::Finalising] {
        let gated = |analysis: &mut crate::Analysis| analysis.hooks = hook(HookKind::ConfirmPromotion);
        let mut rig = Rig::paced(interval(gated, true));
        rig.answers = vec![if phase == Phase::WaitingPromotion { Answer::Refused } else { Answer::Passed }];
        rig.until(phase);
        if phase == Phase::Progressing {
            rig.minute(1_000, 1_000); // its first weight
        }
        rig.fail_share(30, rig.share());
        rig.check(Phase::RolledBack, Ppm::ZERO);
        let state = rig.rollout.state();
        assert_eq!(
            (state.canary_share(), state.proven(), &state.serving),
            (Ppm::ZERO, Some(&revision("old")), &state.promoted)
        );
    }
}

#[test]
fn a_hold_of_the_guard_is_no_failed_check() {
    let metrics = |analysis: &mut crate::Analysis| analysis.metrics = vec![success_rate()];
    let mut rig = Rig::paced(interval(metrics, true));
    rig.readings = vec![Reading::Value(100.0)];
    rig.tick();
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(25));
    while rig.rollout.held().is_none() {
        rig.fail(1);
    }
    assert_eq!(rig.rollout.held(), Some(Hold::Evidence));
    rig.readings = vec![Reading::Value(10.0)];
    for _ in 0..3 {
        let told = rig.tick().events;
        assert_eq!(told, [], "held is held: nothing is checked, nothing is told again");
    }
    rig.check(Phase::Progressing, percent(25));
    assert_eq!(rig.rollout.state().failed_checks, 0);
    rig.target = revision("newer");
    assert_eq!(rig.tick().events, [Event::Restart]);
}

#[test]
fn a_pause_freezes_the_interval_and_what_stops_a_run_still_stops_it() {
    let hooked = |analysis: &mut crate::Analysis| analysis.hooks = hook(HookKind::Rollback);
    let mut rig = Rig::paced(interval(hooked, true));
    rig.answers = vec![Answer::Refused];
    rig.tick();
    rig.minute(1_000, 1_000);
    rig.order(Command::Pause);
    for _ in 0..3 {
        rig.minute(1_000, 1_000);
        rig.check(Phase::Progressing, percent(25));
    }
    rig.answers = vec![Answer::Passed];
    rig.tick();
    rig.check(Phase::RolledBack, Ppm::ZERO);
    rig.target = revision("newer");
    rig.tick();
    rig.check(Phase::RolledBack, Ppm::ZERO); // nothing begins while paused
    rig.order(Command::Resume);
    rig.answers = vec![Answer::Refused];
    rig.tick();
    rig.check(Phase::Progressing, Ppm::ZERO);
}

#[test]
fn a_newcomer_that_waits_gets_nothing_and_what_was_promoted_serves() {
    let mut rig = Rig::begun(Settings { hooks: hook(HookKind::ConfirmRollout), ..steps(&[50]) });
    rig.answers = vec![Answer::Passed];
    rig.until(Phase::Promoted);
    (rig.target, rig.answers) = (revision("newer"), vec![Answer::Refused]);
    rig.tick();
    rig.check(Phase::Waiting, Ppm::ZERO);
    let state = rig.rollout.state();
    assert_eq!((state.share_of(&revision("newer")), state.proven()), (Ppm::ZERO, Some(&revision("new"))));
    assert_eq!(rig.rollout.waiting(), Some(Gate::Rollout));
    rig.target = revision("new");
    rig.tick();
    rig.check(Phase::Initialized, Ppm::ZERO);
}

#[test]
fn what_is_shown_is_what_holds() {
    let mut rig = Rig::paced(interval(|analysis| analysis.hooks = hook(HookKind::ConfirmTrafficIncrease), false));
    assert_eq!((rig.rollout.run_started(), rig.rollout.waiting()), (None, None));
    assert_eq!(rig.rollout.steps(), [percent(25), percent(50)]);
    assert_eq!((rig.rollout.failed_checks_max(), rig.rollout.interval_ms()), (2, 60_000));
    rig.answers = vec![Answer::Passed];
    rig.tick();
    rig.minute(100, 100);
    rig.answers = vec![Answer::Refused];
    rig.minute(100, 100);
    assert_eq!(rig.rollout.waiting(), Some(Gate::TrafficIncrease));
    assert_eq!((rig.rollout.run_started(), rig.rollout.step_started()), (Some(TimestampMs(0)), TimestampMs(60_000)));
    assert_eq!(rig.rollout.pace().kind().name(), "interval");
    let rounds = interval(|analysis| (analysis.step_weight, analysis.iterations) = (None, Some(3)), false);
    assert_eq!(Rig::paced(rounds).rollout.steps(), []);
    let finest = interval(|analysis| (analysis.step_weight, analysis.max_weight) = (Some(1), None), false);
    assert_eq!(Rig::paced(finest).rollout.steps().len(), 100);
}

#[test]
fn slow_requests_count_as_soon_as_the_primary_has_a_history() {
    let mut rig = Rig::begun(Settings { steps: vec![percent(10)], ..Settings::default() });
    let slow99 = |rig: &Rig| EventRecord {
        arm: Arm::Canary,
        share: percent(10),
        routed_at: rig.now,
        kind: Kind::Slow99,
        key: None,
        randomised: true,
    };
    let (early, share) = (slow99(&rig), |ppm| Ppm::clamped(ppm));
    rig.rollout.observe(early, 20);
    rig.look();
    assert_eq!(rig.rollout.state().phase, Phase::Progressing, "nobody knows yet what is slow");
    rig.slow = Some(SlowShares { slow50: share(500_000), slow90: share(100_000), slow99: share(10_000), rough: false });
    rig.look();
    for _ in 0..5 {
        rig.now = TimestampMs(rig.now.0 + 300);
        let late = slow99(&rig);
        rig.rollout.observe(late, 5);
        rig.look();
    }
    assert_eq!(rig.rollout.state().phase, Phase::RolledBack);
}

#[test]
fn a_long_history_of_the_primary_takes_the_place_of_a_short_one_within_a_step() {
    let mut rig = Rig::begun(Settings { steps: vec![percent(10)], ..Settings::default() });
    let share = |ppm| Ppm::clamped(ppm);
    let slow = SlowShares { slow50: share(500_000), slow90: share(100_000), slow99: share(10_000), rough: true };
    let begun = |rig: &Rig| rig.rollout.guard.as_ref().map(|guard| guard.starts());
    rig.slow = Some(slow);
    rig.look();
    let rough = begun(&rig);
    rig.look();
    assert_eq!(begun(&rig), rough, "the same history begins nothing");
    rig.slow = Some(SlowShares { rough: false, ..slow });
    rig.look();
    assert_eq!(begun(&rig), rough.map(|starts| starts + 1), "a block and a start of its own");
    rig.slow = Some(slow);
    rig.look();
    assert_eq!(begun(&rig), rough.map(|starts| starts + 1), "what is known is not forgotten within a step");
}
