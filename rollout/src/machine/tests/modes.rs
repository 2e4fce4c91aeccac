//! Dry runs, and rollouts that somebody else judges.

use super::*;

fn dry(settings: Settings) -> Rig {
    let mut rig = Rig::new(settings);
    rig.rollout.set_dry(true);
    rig.tick();
    rig.look();
    rig
}

fn share(rig: &Rig) -> Ppm {
    rig.rollout.state().canary_share()
}

#[test]
fn a_dry_run_tells_its_steps_and_moves_nothing() {
    let mut rig = dry(steps(&[10, 50]));
    rig.check(Phase::Progressing, percent(10));
    for _ in 0..3 {
        rig.minute(1_000, 9_000);
        assert_eq!(share(&rig), Ppm::ZERO);
    }
    rig.check(Phase::Promoted, Ppm::WHOLE);
    let state = rig.rollout.state();
    assert_eq!((state.canary_share(), state.proven()), (Ppm::ZERO, Some(&revision("old"))));
    assert_eq!(state.share_of(&revision("new")), Ppm::ZERO);
    let told = rig.rollout.describe(Event::Advance, "world", &Decision::default());
    assert!(told.starts_with("Dry run: Advance world"), "{told}");
}

#[test]
fn what_a_person_sets_in_a_dry_run_is_judged_and_left_alone() {
    let mut rig = dry(patient(steps(&[10])));
    assert!(rig.order(Command::SetWeight(percent(30))).is_raise());
    assert_eq!(share(&rig), percent(30));
    rig.fail_share(30, percent(30));
    assert!(rig.told.contains(&Event::Rollback(Cause::Evidence)), "{:?}", rig.told);
    rig.check(Phase::RolledBack, Ppm::ZERO);
    assert_eq!(share(&rig), percent(30), "the judge moves nothing, not even back");
    assert_eq!(rig.rollout.command(&Command::Promote, "", "", rig.now), Err(CommandError::DryRun));
    rig.order(Command::SetWeight(Ppm::ZERO));
    assert_eq!(share(&rig), Ppm::ZERO);
}

#[test]
fn what_was_set_for_one_canary_is_not_for_the_next() {
    let mut rig = dry(patient(steps(&[10])));
    rig.order(Command::SetWeight(percent(30)));
    rig.target = revision("newer");
    rig.tick();
    assert_eq!(share(&rig), Ppm::ZERO);
}

#[test]
fn after_a_dry_run_a_canary_starts_for_real_unless_it_was_found_bad() {
    for bad in [false, true] {
        let mut rig = dry(steps(&[50]));
        rig.order(Command::SetWeight(percent(50)));
        if bad {
            rig.fail_share(60, percent(50));
            rig.check(Phase::RolledBack, Ppm::ZERO);
        } else {
            rig.minute(1_000, 1_000);
            rig.minute(1_000, 1_000);
            rig.check(Phase::Promoted, Ppm::WHOLE);
        }
        rig.rollout.set_dry(false);
        rig.tick();
        assert_eq!(share(&rig), Ppm::ZERO);
        rig.minute(0, 1_000);
        rig.check(if bad { Phase::RolledBack } else { Phase::Progressing }, percent(if bad { 0 } else { 50 }));
        assert_eq!(share(&rig), rig.weight());
    }
}

#[test]
fn a_dry_run_of_what_runs_keeps_what_is_routed() {
    let mut rig = Rig::begun(steps(&[10, 50]));
    rig.rollout.set_dry(true);
    rig.minute(1_000, 9_000);
    rig.check(Phase::Progressing, percent(50));
    assert_eq!(share(&rig), percent(10));
    let entry = rig.rollout.checkpoint(rig.now);
    assert_eq!(entry.to_string().parse(), Ok(entry));
}

#[test]
fn where_somebody_else_judges_only_a_person_moves_the_weight() {
    let mut rig = Rig::new(steps(&[10, 50]));
    rig.rollout.set_off(true);
    rig.minute(1_000, 1_000);
    rig.check(Phase::Initialized, Ppm::ZERO);
    assert_eq!(rig.rollout.command(&Command::SetWeight(percent(5)), "", "", rig.now), Err(CommandError::NothingRuns));
    assert_eq!(rig.rollout.command(&Command::Pause, "", "", rig.now), Err(CommandError::Off));
    rig.order(Command::Start(revision("new")));
    rig.order(Command::SetWeight(percent(5)));
    rig.fail(100);
    rig.minute(1_000, 1_000);
    rig.check(Phase::Progressing, percent(5));
    rig.order(Command::Promote);
    rig.check(Phase::Promoted, Ppm::WHOLE);
    assert_eq!(rig.rollout.state().proven(), Some(&revision("new")));
    rig.order(Command::Undo);
    rig.check(Phase::RolledBack, Ppm::ZERO);
    rig.origin = revision("other");
    assert_eq!(rig.tick().events, [Event::PrimaryChanged]);
}
