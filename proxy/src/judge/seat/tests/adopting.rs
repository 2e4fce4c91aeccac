//! Other files, and journals of earlier processes.

use super::*;

#[test]
fn the_same_policy_keeps_its_state() {
    let mut stage = Stage::new(file(settings()));
    stage.until("the second step", 60, |stage| stage.share() == percent(5));
    let state = stage.seat.rollout.state().clone();
    stage.take_file(file(settings()));
    assert_eq!((stage.seat.rollout.state(), stage.share()), (&state, percent(5)));
}

#[test]
fn a_changed_policy_keeps_the_weight() {
    let mut stage = Stage::new(file(settings()));
    stage.until("the second step", 60, |stage| stage.share() == percent(5));
    let steps = [2, 20].map(percent).to_vec();
    stage.take_file(file(Settings { steps, ..settings() }));
    assert_eq!(stage.share(), percent(5));
    stage.until("the next of the new steps", 60, |stage| stage.share() > percent(5));
    assert_eq!(stage.share(), percent(20));
}

#[test]
fn another_canary_begins_from_what_is_proven() {
    let mut stage = Stage::new(file(settings()));
    stage.until("promotion", 600, |stage| stage.phase() == Phase::Promoted);
    stage.take_file(model::Rollout { canary: path(V3), revision: V3.parse().unwrap(), ..file(settings()) });
    assert_eq!(stage.share(), Ppm::ZERO);
    assert_eq!(stage.seat.published.arms, Arms { primary: path(V2), canary: path(V3) });
    assert_eq!(stage.assembled, 1, "the structure in force has other arms");
    stage.evidence = Arc::new(SplitEvidence::new(1));
    stage.link();
    stage.until("start", 5, |stage| stage.share() > Ppm::ZERO);
    assert_eq!(stage.seat.rollout.state().applied, V3.parse().ok());
    stage.until("promotion", 600, |stage| stage.phase() == Phase::Promoted);
    assert_eq!(stage.seat.published.proven, path(V3));
}

#[test]
fn another_canary_in_mid_run_gets_nothing_of_the_old_ones_share() {
    let mut stage = Stage::new(file(settings()));
    stage.until("the second step", 60, |stage| stage.share() == percent(5));
    stage.take_file(model::Rollout { canary: path(V3), revision: V3.parse().unwrap(), ..file(settings()) });
    assert_eq!(stage.share(), Ppm::ZERO);
    stage.evidence = Arc::new(SplitEvidence::new(1));
    stage.link();
    stage.until("the first step", 10, |stage| stage.share() > Ppm::ZERO);
    assert_eq!(stage.share(), percent(1));
    stage.check_told("restart");
}

#[test]
fn another_primary_in_the_file_wins() {
    let mut stage = Stage::new(file(settings()));
    stage.until("the second step", 60, |stage| stage.share() == percent(5));
    stage.take_file(model::Rollout { primary: path(V3), ..file(settings()) });
    assert_eq!(stage.share(), Ppm::ZERO);
    stage.until("the tick", 2, |stage| stage.seat.rollout.state().origin == V3.parse().ok());
    stage.check_told("primary-changed");
    assert_eq!(stage.seat.published.arms, Arms { primary: path(V3), canary: path(V2) });
}

#[test]
fn a_journal_brings_back_where_it_stood() {
    for (clean, expected) in [(true, 10), (false, 1)] {
        let mut stage = Stage::new(file(settings()));
        stage.until("the third step", 60, |stage| stage.share() == percent(10));
        let last = stage.seat.last_words(TimestampMs(stage.now));
        let again =
            Stage::recovered(file(settings()), &Recovered { last, existed: true, clean, ..Recovered::default() });
        assert_eq!(again.share(), percent(expected), "clean: {clean}");
        again.check_told("recovered");
        assert_eq!(again.durable.last().unwrap().weight, percent(expected), "the journal says where it is now");
    }
}

#[test]
fn an_end_stays_an_end_over_a_restart() {
    let mut stage = Stage::new(file(settings()));
    stage.until("promotion", 600, |stage| stage.phase() == Phase::Promoted);
    let last = stage.seat.last_words(TimestampMs(stage.now));
    let recovered = Recovered { last, existed: true, clean: false, ..Recovered::default() };
    let opening = Opening::new(&file(settings()), &recovered, TimestampMs(0));
    let routing = opening.routing(&file(settings()));
    assert_eq!((routing.share, routing.proven), (Ppm::WHOLE, path(V2)), "known before the first structure is made");
    let mut again = Stage::recovered(file(settings()), &recovered);
    again.presence[1] = Presence::None;
    again.run(10_000);
    assert_eq!((again.phase(), again.share()), (Phase::Promoted, Ppm::WHOLE));
}

#[test]
fn a_journal_that_cannot_be_read_pauses_at_nothing() {
    let recovered = Recovered { existed: true, unreadable: 3, ..Recovered::default() };
    let mut stage = Stage::recovered(file(settings()), &recovered);
    stage.run(10_000);
    assert_eq!(stage.share(), Ppm::ZERO);
    assert!(stage.seat.rollout.is_paused());
    stage.check_told("journal-unreadable");
    answered(stage.command(&Command::Resume)).unwrap();
    stage.until("start", 5, |stage| stage.share() > Ppm::ZERO);
}

#[test]
fn where_nobody_judges_only_a_person_moves_the_weight() {
    let mut stage = Stage::new(model::Rollout { judge: Mode::Off, ..file(settings()) });
    stage.run(10_000);
    assert_eq!((stage.share(), stage.phase()), (Ppm::ZERO, Phase::Initialized));
    answered(stage.command(&Command::SetWeight(percent(30)))).unwrap();
    stage.fails[0] = 0.9;
    stage.run(60_000);
    assert_eq!(stage.share(), percent(30), "and nobody looks");
    assert_eq!(answered(stage.command(&Command::Pause)).unwrap_err(), CommandFailure::NotHere);
    answered(stage.command(&Command::Promote)).unwrap();
    assert_eq!((stage.share(), stage.seat.published.proven.clone()), (Ppm::WHOLE, path(V2)));
    answered(stage.command(&Command::SetWeight(percent(10)))).unwrap();
    answered(stage.command(&Command::Abort)).unwrap();
    assert_eq!(stage.share(), Ppm::ZERO);
}

#[test]
fn a_dry_run_tells_and_moves_nothing() {
    let mut stage = Stage::new(model::Rollout { judge: Mode::DryRun, ..file(settings()) });
    stage.until("what it would do", 10, |stage| stage.seat.rollout.state().weight > Ppm::ZERO);
    assert_eq!(stage.share(), Ppm::ZERO);
    stage.check_told("advance");
    assert_eq!(stage.seat.view(stage.now, false).dry_weight_ppm, Some(10_000));
    answered(stage.command(&Command::SetWeight(percent(10)))).unwrap();
    assert_eq!(stage.share(), percent(10), "a person moves it");
    stage.fails[0] = 0.5;
    stage.until("what it would do", 60, |stage| stage.phase() == Phase::RolledBack);
    assert_eq!(stage.share(), percent(10), "nobody else does");
    stage.fails[0] = 0.0;
    answered(stage.command(&Command::Start(V2.parse().unwrap()))).unwrap();
    stage.run(30_000);
    assert_eq!(stage.share(), percent(10));
    stage.take_file(file(settings()));
    assert!(stage.share() <= percent(10), "from now on it moves, and nothing jumps");
    stage.until("promotion", 900, |stage| stage.phase() == Phase::Promoted);
}
