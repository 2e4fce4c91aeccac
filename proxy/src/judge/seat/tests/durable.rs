//! What rises waits for the journal, what falls does not.

use super::*;

#[test]
fn a_raise_waits_for_the_journal() {
    let mut stage = Stage::new(file(settings()));
    stage.disk = Disk::Hung;
    stage.run(400);
    assert_eq!(stage.seat.rollout.state().canary_share(), percent(1), "decided");
    assert_eq!(stage.share(), Ppm::ZERO, "and not in force");
    assert!(!stage.codes().contains(&"advance"), "nor told");
    stage.heal();
    assert_eq!(stage.share(), percent(1));
    stage.check_told("advance");
}

#[test]
fn a_rollback_overtakes_a_raise_that_waits() {
    let mut stage = Stage::new(file(settings()));
    stage.until("the second step", 60, |stage| stage.share() == percent(5));
    stage.disk = Disk::Hung;
    stage.until("a raise", 60, |stage| stage.seat.pending.is_some());
    let mut asked = stage.command(&Command::SetWeight(percent(50)));
    check_silent(&mut asked);
    stage.fails[0] = 0.9;
    stage.until("rollback", 5, |stage| stage.phase() == Phase::RolledBack);
    assert_eq!(stage.share(), Ppm::ZERO);
    assert!(matches!(answered(asked), Err(CommandFailure::NotDurable(_))));
    stage.heal();
    stage.run(1_000);
    assert_eq!(stage.share(), Ppm::ZERO, "a late answer raises nothing");
    assert!(!stage.codes().contains(&"weight-set"), "what was never in force is no part of the story");
}

#[test]
fn a_journal_that_fails_holds_what_rises_and_not_what_falls() {
    let mut stage = Stage::new(file(settings()));
    stage.until("the second step", 60, |stage| stage.share() == percent(5));
    stage.disk = Disk::Full;
    stage.run(60_000);
    assert_eq!(stage.share(), percent(5));
    assert_eq!(stage.seat.rollout.state().weight, percent(5), "the state says what is in force");
    stage.check_told("hold:storage");
    let view = stage.seat.view(stage.now, false);
    assert_eq!((view.storage.as_str(), view.held.as_deref()), ("no space left", Some("storage")));
    assert!(answered(stage.command(&Command::SetWeight(percent(50)))).is_err());
    assert_eq!(stage.share(), percent(5));
    stage.fails[0] = 0.5;
    stage.until("rollback", 5, |stage| stage.share() == Ppm::ZERO);
    assert_eq!(stage.durable.last().unwrap().weight, percent(5), "nobody could write it down");
    stage.disk = Disk::Good;
    stage.run(3_000);
    assert_eq!(stage.durable.last().unwrap().phase, Phase::RolledBack, "it is written as soon as that can be done");
    assert_eq!(stage.seat.durability, Durability::Good);
}

#[test]
fn a_journal_that_comes_back_lets_the_rollout_go_on() {
    let mut stage = Stage::new(file(settings()));
    stage.disk = Disk::Full;
    stage.run(10_000);
    assert_eq!(stage.share(), Ppm::ZERO);
    stage.disk = Disk::Good;
    stage.until("promotion", 600, |stage| stage.phase() == Phase::Promoted);
}

#[test]
fn a_disk_that_never_answers_is_given_up() {
    let mut stage = Stage::new(file(settings()));
    stage.disk = Disk::Hung;
    stage.until("a raise", 5, |stage| stage.seat.pending.is_some());
    let waited = stage.until("the end of patience", 10, |stage| stage.seat.pending.is_none());
    assert!((WRITE_MS_MAX - 20..=WRITE_MS_MAX + 60).contains(&waited), "{waited}");
    assert_eq!((stage.share(), stage.seat.rollout.state().weight), (Ppm::ZERO, Ppm::ZERO));
    stage.check_told("hold:storage");
}

#[test]
fn a_persons_raise_is_answered_when_it_is_in_force() {
    let mut stage = Stage::new(file(settings()));
    stage.until("start", 5, |stage| stage.share() > Ppm::ZERO);
    stage.disk = Disk::Hung;
    let mut asked = stage.command(&Command::SetWeight(percent(20)));
    check_silent(&mut asked);
    stage.heal();
    assert_eq!(answered(asked).unwrap().weight_ppm, 200_000);
    let story = stage.told.iter().find(|story| story.code == "weight-set").unwrap();
    assert_eq!(story.by, Some(("ann".into(), "because".into())));
}

#[test]
fn a_persons_fall_waits_for_nothing() {
    let mut stage = Stage::new(file(settings()));
    stage.until("the second step", 60, |stage| stage.share() == percent(5));
    stage.disk = Disk::Hung;
    let mut asked = stage.command(&Command::Abort);
    assert_eq!(stage.share(), Ppm::ZERO);
    check_silent(&mut asked); // the answer says that it survives a stop, too
    stage.heal();
    answered(asked).unwrap();
}

#[test]
fn a_persons_fall_is_answered_by_a_full_disk_and_a_hanging_one() {
    for disk in [Disk::Full, Disk::Hung] {
        let mut stage = Stage::new(file(settings()));
        stage.until("the second step", 60, |stage| stage.share() == percent(5));
        stage.disk = disk;
        let asked = stage.command(&Command::Abort);
        stage.run(WRITE_MS_MAX + 100);
        answered(asked).unwrap();
        assert_eq!(stage.share(), Ppm::ZERO);
    }
}

#[test]
fn undo_of_a_promotion_changes_weights_alone() {
    let mut stage = Stage::new(file(settings()));
    stage.until("promotion", 600, |stage| stage.phase() == Phase::Promoted);
    let arms = stage.seat.published.arms.clone();
    answered(stage.command(&Command::Undo)).unwrap();
    assert_eq!((stage.share(), stage.seat.published.arms.clone()), (Ppm::ZERO, arms));
    assert_eq!((stage.seat.published.proven.clone(), stage.assembled), (path(V1), 0));
}
