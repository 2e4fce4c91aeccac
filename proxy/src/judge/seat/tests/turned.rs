//! Files that change their mind.

use super::*;

fn again(stage: &mut Stage) {
    stage.evidence = Arc::new(SplitEvidence::new(1));
    stage.link();
}

#[track_caller]
fn check_serves_v2(stage: &Stage) {
    let routing = &stage.seat.published;
    let serves = if routing.share == Ppm::WHOLE { &routing.arms.canary } else { &routing.arms.primary };
    assert_eq!(*serves, path(V2), "{routing:?}");
}

#[test]
fn a_canary_that_is_named_again_before_the_other_began_goes_on() {
    let mut stage = Stage::new(file(settings()));
    stage.until("the second step", 60, |stage| stage.share() == percent(5));
    stage.take_file(model::Rollout { canary: path(V3), revision: V3.parse().unwrap(), ..file(settings()) });
    again(&mut stage);
    stage.take_file(file(settings()));
    again(&mut stage);
    assert_eq!((stage.seat.published.arms.canary.clone(), stage.share()), (path(V2), Ppm::ZERO));
    stage.check_told("restart");
    stage.until("promotion", 300, |stage| stage.phase() == Phase::Promoted);
}

#[test]
fn counts_that_begin_again_hide_no_failure_and_hold_nothing_back() {
    for fails in [0.0, 0.2] {
        let mut stage = Stage::new(file(settings()));
        stage.until("the third step", 60, |stage| stage.share() == percent(10));
        again(&mut stage);
        assert_eq!(stage.share(), Ppm::ZERO);
        stage.fails[0] = fails;
        let end = if fails > 0.0 { Phase::RolledBack } else { Phase::Promoted };
        let waited = stage.until("its end", 300, |stage| stage.phase() == end);
        assert!(fails == 0.0 || waited < 20_000, "{waited}");
    }
}

fn after_a_stop(stage: &mut Stage, file: &model::Rollout) -> Routing {
    let last = stage.seat.last_words(TimestampMs(stage.now));
    let recovered = Recovered { last, existed: true, clean: true, ..Recovered::default() };
    Opening::new(file, &recovered, TimestampMs(0)).routing(file)
}

#[test]
fn what_a_dry_run_promoted_was_not_promoted() {
    let dry = model::Rollout { judge: Mode::DryRun, ..file(settings()) };
    let mut stage = Stage::new(dry.clone());
    stage.until("what it would do", 10, |stage| stage.seat.rollout.state().weight > Ppm::ZERO);
    answered(stage.command(&Command::SetWeight(percent(10)))).unwrap();
    stage.until("what it would do", 900, |stage| stage.phase() == Phase::Promoted);
    assert_eq!(stage.share(), percent(10));
    for file in [dry, file(settings())] {
        let routing = after_a_stop(&mut stage, &file);
        assert_eq!((routing.share, routing.proven), (percent(10), path(V1)), "{:?}", file.judge);
    }
}

#[test]
fn what_was_promoted_serves_in_a_dry_run_as_well() {
    let mut stage = Stage::new(file(settings()));
    stage.until("promotion", 600, |stage| stage.phase() == Phase::Promoted);
    let dry = model::Rollout { judge: Mode::DryRun, ..file(settings()) };
    assert_eq!(after_a_stop(&mut stage, &dry).share, Ppm::WHOLE);
    stage.take_file(dry.clone());
    stage.run(5_000);
    assert_eq!((stage.share(), stage.seat.published.proven.clone()), (Ppm::WHOLE, path(V2)));
    assert_eq!(after_a_stop(&mut stage, &dry).share, Ppm::WHOLE);
    stage.take_file(model::Rollout { canary: path(V3), revision: V3.parse().unwrap(), ..dry });
    again(&mut stage);
    stage.run(5_000);
    assert_eq!((stage.share(), stage.seat.published.arms.primary.clone()), (Ppm::ZERO, path(V2)));
}

#[test]
fn after_a_rollback_the_version_before_serves_when_the_file_names_it_again() {
    for phase in [Phase::Progressing, Phase::RolledBack] {
        let mut stage = Stage::new(file(settings()));
        stage.until("promotion", 600, |stage| stage.phase() == Phase::Promoted);
        stage.take_file(model::Rollout { canary: path(V3), revision: V3.parse().unwrap(), ..file(settings()) });
        again(&mut stage);
        stage.until("the first step", 10, |stage| stage.share() > Ppm::ZERO);
        stage.fails[0] = if phase == Phase::RolledBack { 0.9 } else { 0.0 };
        stage.until("its phase", 60, |stage| stage.phase() == phase);
        stage.take_file(file(settings()));
        check_serves_v2(&stage);
        again(&mut stage);
        stage.run(10_000);
        check_serves_v2(&stage);
        let routing = after_a_stop(&mut stage, &file(settings()));
        assert_eq!((routing.share, routing.arms.canary), (Ppm::WHOLE, path(V2)));
    }
}

#[test]
fn a_promoted_version_that_is_tried_again_and_fails_does_not_serve() {
    let mut stage = Stage::new(file(settings()));
    stage.until("promotion", 600, |stage| stage.phase() == Phase::Promoted);
    answered(stage.command(&Command::Start(V2.parse().unwrap()))).unwrap();
    stage.until("the first step", 10, |stage| stage.share() > Ppm::ZERO);
    stage.fails[0] = 0.9;
    stage.until("rollback", 60, |stage| stage.phase() == Phase::RolledBack);
    stage.run(10_000);
    assert_eq!(stage.share(), Ppm::ZERO);
}

#[test]
fn what_a_share_was_given_for_is_not_what_it_holds_for() {
    let ab = || model::Rollout { strategy: Strategy::Match(Vec::new()), ..file(settings()) };
    let elsewhere = || model::Rollout { path: path("/host/other"), ..file(settings()) };
    for (before, now) in [(ab(), file(settings())), (file(settings()), ab()), (file(settings()), elsewhere())] {
        let mut stage = Stage::new(before);
        stage.until("the second step", 60, |stage| stage.share() == percent(5));
        stage.take_file(now.clone());
        assert_eq!(stage.share(), Ppm::ZERO);
        stage.check_told("restart");
        stage.until("the first step", 10, |stage| stage.share() == percent(1));
        stage.until("promotion", 600, |stage| stage.phase() == Phase::Promoted);
        stage.take_file(model::Rollout { path: path("/host/third"), ..now });
        assert_eq!(stage.share(), Ppm::WHOLE, "what is proven is proven");
    }
}
