//! From the first step to either end.

use super::*;

#[test]
fn a_healthy_canary_is_promoted() {
    let mut stage = Stage::new(file(settings()));
    stage.until("promotion", 600, |stage| stage.phase() == Phase::Promoted);
    assert_eq!(stage.share(), Ppm::WHOLE);
    assert_eq!(stage.seat.published.proven, path(V2));
    assert_eq!(stage.seat.published.arms, Arms { primary: path(V1), canary: path(V2) });
    let story = stage.codes();
    assert_eq!(story[..3], ["new-revision", "start", "advance"]);
    assert_eq!(story.last(), Some(&"succeeded"));
    assert_eq!(stage.told.last().unwrap().text, "Promotion completed! world is /#/clusters/v2");
    let shares: Vec<u32> = stage.published.iter().map(|(_, routing)| routing.share.get() / 10_000).collect();
    assert_eq!(shares, [0, 1, 5, 10, 25, 50, 100, 100]);
}

#[test]
fn a_bad_canary_is_rolled_back_within_a_look() {
    let mut stage = Stage::new(file(settings()));
    stage.until("start", 5, |stage| stage.share() > Ppm::ZERO);
    stage.fails[0] = 0.5;
    stage.until("rollback", 5, |stage| stage.phase() == Phase::RolledBack);
    assert_eq!(stage.share(), Ppm::ZERO);
    stage.check_told("rollback:evidence");
    let failed = stage.evidence.traffic().canary.failed;
    assert!((2..=12).contains(&failed), "{failed} failures were let through");
    assert!(stage.told.last().unwrap().text.starts_with("Rolling back world: evidence "));
}

#[test]
fn what_was_rolled_back_does_not_come_back_by_itself() {
    let mut stage = Stage::new(file(settings()));
    stage.fails[0] = 0.5;
    stage.until("rollback", 60, |stage| stage.phase() == Phase::RolledBack);
    stage.run(10_000);
    assert_eq!((stage.phase(), stage.share()), (Phase::RolledBack, Ppm::ZERO));
    stage.fails[0] = 0.0;
    answered(stage.command(&Command::Start(V2.parse().unwrap()))).unwrap();
    stage.until("another start", 5, |stage| stage.share() > Ppm::ZERO);
}

#[test]
fn a_canary_that_hangs_is_found_by_the_age_of_its_requests() {
    let mut stage = Stage::new(file(settings()));
    stage.until("half of the traffic", 600, |stage| stage.share() == percent(50));
    assert!(stage.evidence.slow().ages_us.is_some(), "the primary's history is long enough");
    stage.fails = [0.0; 2];
    for _ in 0..200 {
        stage.event(Arm::Canary, Kind::Slow99);
        stage.turn();
    }
    stage.until("rollback", 5, |stage| stage.phase() == Phase::RolledBack);
    assert_eq!(stage.evidence.slow().ages_us, None, "nobody asks for ages any more");
}

#[test]
fn a_paused_rollout_keeps_its_guard() {
    let mut stage = Stage::new(file(settings()));
    stage.until("the second step", 60, |stage| stage.share() == percent(5));
    answered(stage.command(&Command::Pause)).unwrap();
    stage.run(60_000);
    assert_eq!(stage.share(), percent(5));
    stage.fails[0] = 0.5;
    stage.until("rollback", 5, |stage| stage.share() == Ppm::ZERO);
}

#[test]
fn a_suspended_rollout_keeps_its_guard_and_starts_nothing() {
    let mut stage = Stage::new(model::Rollout { suspend: true, ..file(settings()) });
    stage.run(10_000);
    assert_eq!(stage.phase(), Phase::Initialized);
    stage.take_file(file(settings()));
    stage.until("start", 5, |stage| stage.share() > Ppm::ZERO);
    stage.take_file(model::Rollout { suspend: true, ..file(settings()) });
    stage.fails[0] = 0.5;
    stage.until("rollback", 60, |stage| stage.phase() == Phase::RolledBack);
}

#[test]
fn a_canary_without_endpoint_gets_nothing_and_is_given_up_at_the_deadline() {
    let mut stage =
        Stage::new(model::Rollout { progress_deadline: std::time::Duration::from_secs(20), ..file(settings()) });
    stage.presence[0] = Presence::None;
    stage.run(15_000);
    assert_eq!(stage.share(), Ppm::ZERO);
    stage.check_told("halt:canary-not-ready");
    stage.until("the end", 10, |stage| stage.phase() == Phase::RolledBack);
    stage.check_told("rollback:deadline");
}

#[test]
fn without_state_and_without_primary_the_canary_serves() {
    let mut stage = Stage::new(file(settings()));
    stage.presence = [Presence::Some, Presence::Unknown];
    stage.run(3_000);
    assert_eq!(stage.share(), Ppm::ZERO, "nobody knows of the primary yet");
    stage.presence[1] = Presence::None;
    stage.until("promotion", 5, |stage| stage.phase() == Phase::Promoted);
    assert_eq!((stage.share(), stage.seat.published.proven.clone()), (Ppm::WHOLE, path(V2)));
    stage.check_told("primary-missing");
}

#[test]
fn a_primary_that_dies_later_is_no_reason_to_serve_the_canary() {
    let mut stage = Stage::new(file(settings()));
    stage.until("start", 5, |stage| stage.share() > Ppm::ZERO);
    stage.presence[1] = Presence::None;
    stage.run(10_000);
    assert!(stage.share() <= percent(5), "{}", stage.share());
    stage.check_told("halt:primary-not-ready");
}

#[test]
fn slow_requests_count_as_soon_as_the_primary_has_a_history() {
    let mut stage = Stage::new(file(Settings { steps: vec![percent(50)], ..settings() }));
    stage.rps = 100;
    stage.until("start", 5, |stage| stage.share() > Ppm::ZERO);
    assert_eq!(stage.evidence.slow().ages_us, None, "nobody knows how long the primary takes");
    answered(stage.command(&Command::Pause)).unwrap();
    stage.until("a history", 60, |stage| stage.evidence.slow().ages_us.is_some());
    assert_eq!(stage.share(), percent(50), "in the middle of the step");
    answered(stage.command(&Command::Resume)).unwrap();
    stage.until("all of the traffic", 600, |stage| stage.share() == Ppm::WHOLE);
    assert!(stage.evidence.slow().ages_us.is_some(), "one that hangs with all of the traffic is seen");
}

#[test]
fn a_failure_behind_an_older_request_is_looked_at_again_soon() {
    let mut stage = Stage::new(file(settings()));
    stage.until("the first step", 60, |stage| stage.share() > Ppm::ZERO);
    let now = stage.now;
    let next_look = |stage: &mut Stage| {
        stage.seat.read();
        stage.seat.look(now, &mut Vec::new());
        stage.seat.next_look()
    };
    assert_eq!(next_look(&mut stage), Some(now + LOOK_MS));
    let older_us = crate::clock::now_us();
    let routed_at = TimestampMs(crate::clock::steady_ms_of(older_us) + 1);
    stage.evidence.tally(0).routed(Arm::Primary, older_us);
    let share = stage.share();
    let kind = Kind::Failure;
    stage.seat.observe(EventRecord { arm: Arm::Canary, share, routed_at, kind, key: None, randomised: true }, 1);
    // nobody wakes the judge when the request of the primary is over
    assert_eq!(next_look(&mut stage), Some(now + EVENTS_LOOK_MS));
    assert_eq!(next_look(&mut stage), Some(now + EVENTS_LOOK_MS));
    stage.evidence.tally(0).completed(Arm::Primary);
    stage.evidence.tally(0).set_oldest(Arm::Primary, u64::MAX);
    assert_eq!(next_look(&mut stage), Some(now + LOOK_MS));
}
