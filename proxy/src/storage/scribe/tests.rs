use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::super::disk::sim::{Plan, SimDisk};
use super::super::tests::{entry, of_disk, scribe};
use super::*;

/// A scribe on a disk that stands still with the first entry of `world`, which has ticket 1.
fn stopped_disk() -> (Arc<SimDisk>, Store, Scribe, Receiver<Written>) {
    let disk = Arc::new(SimDisk::new(0));
    let store = of_disk(&disk);
    let (scribe, answers) = scribe(&store);
    disk.stand_still(true);
    scribe.write("world".into(), entry(1), 1);
    disk.has_caller();
    (disk, store, scribe, answers)
}

#[track_caller]
fn check_answers(answers: &Receiver<Written>, rollout: &str, tickets: impl IntoIterator<Item = u64>) {
    for ticket in tickets {
        let written = answers.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(written, Written { rollout: rollout.into(), ticket, result: Ok(()) });
    }
}

fn sequences(store: &Store, rollout: &str) -> Vec<u64> {
    store.history(rollout, usize::MAX).iter().map(|entry| entry.sequence).collect()
}

#[test]
fn a_disk_that_stands_still_delays_answers_and_no_caller() {
    let (disk, store, scribe, answers) = stopped_disk();
    for ticket in 2..=4 {
        scribe.write("world".into(), entry(ticket), ticket);
        scribe.write("other".into(), entry(10 + ticket), 10 + ticket);
    }
    assert_eq!(answers.try_recv(), Err(TryRecvError::Empty));
    disk.stand_still(false);
    check_answers(&answers, "world", 1..=4);
    check_answers(&answers, "other", 12..=14);
    // Of what waited, the newest.
    assert_eq!(sequences(&store, "world"), [1, 4]);
    assert_eq!(sequences(&store, "other"), [14]);
    assert!(scribe.stop());
}

#[test]
fn an_end_writes_what_waits_and_waits_for_no_disk_that_stands_still() {
    let (disk, store, scribe, answers) = stopped_disk();
    scribe.write("world".into(), entry(2), 2);
    assert!(!scribe.stop_within(Duration::from_millis(1)));
    disk.stand_still(false);
    check_answers(&answers, "world", 1..=2);
    assert_eq!(sequences(&store, "world"), [1, 2]);
    // The thread has gone, and with it what it tells by.
    assert!(answers.recv().is_err());
}

#[test]
fn tickets_beyond_the_limit_push_out_the_oldest() {
    let (disk, _store, scribe, answers) = stopped_disk();
    let newest = TICKETS_MAX as u64 + 2;
    for ticket in 2..=newest {
        scribe.write("world".into(), entry(ticket), ticket);
    }
    disk.stand_still(false);
    check_answers(&answers, "world", [1].into_iter().chain(3..=newest));
    assert!(scribe.stop());
    assert!(answers.recv().is_err());
}

#[test]
fn rollouts_beyond_the_limit_are_never_answered_and_leave_no_clean_end() {
    for (beyond, is_clean) in [(0, true), (1, false)] {
        let (disk, _store, scribe, answers) = stopped_disk();
        for rollout in 0..ROLLOUTS_MAX + beyond {
            scribe.write(format!("r{rollout}").into(), entry(1), 1);
        }
        disk.stand_still(false);
        // One more name than the limit has been written of by then: the first, which the disk had already.
        assert_eq!(scribe.stop_within(Duration::from_secs(60)), is_clean);
        assert_eq!(answers.iter().filter(|written| written.result.is_ok()).count(), ROLLOUTS_MAX + 1);
    }
}

#[test]
fn an_entry_that_fails_is_answered_with_the_reason_and_the_next_is_tried_afresh() {
    let disk = Arc::new(SimDisk::new(0));
    let store = of_disk(&disk);
    let (scribe, answers) = scribe(&store);
    scribe.write("world".into(), entry(1), 1);
    check_answers(&answers, "world", [1]);
    assert!(store.recover("world").clean);

    disk.plan(Plan { capacity: Some(0), ..Plan::default() });
    scribe.write("world".into(), entry(2), 2);
    let failed = answers.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(failed.result.unwrap_err(), "/rollouts/world.journal: no storage space");
    let recovered = store.recover("world");
    assert_eq!((recovered.last, recovered.clean), (Some(entry(1)), false), "it stood elsewhere in the end");

    disk.plan(Plan::default());
    scribe.write("world".into(), entry(3), 3);
    check_answers(&answers, "world", [3]);
    assert_eq!(sequences(&store, "world"), [1, 3]);
    assert!(store.recover("world").clean);
}

#[test]
fn an_end_after_a_failure_is_not_clean() {
    let disk = Arc::new(SimDisk::new(0));
    let store = of_disk(&disk);
    let (scribe, answers) = scribe(&store);
    disk.plan(Plan { capacity: Some(0), ..Plan::default() });
    scribe.write("world".into(), entry(1), 1);
    assert!(answers.recv_timeout(Duration::from_secs(20)).unwrap().result.is_err());
    assert!(!scribe.stop());
}

#[test]
fn a_name_that_is_none_is_refused() {
    let store = of_disk(&Arc::new(SimDisk::new(0)));
    let (scribe, answers) = scribe(&store);
    for name in ["", "../world", "a/b", "a\0", &"x".repeat(64)] {
        scribe.write(name.into(), entry(1), 1);
        let refused = answers.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(refused.result, Err("it is no name of a rollout".to_owned()));
        assert!(store.recover(name).is_unreadable());
    }
    let longest = "x".repeat(63);
    scribe.write(longest.as_str().into(), entry(1), 2);
    check_answers(&answers, &longest, [2]);
}

#[test]
fn journals_are_in_the_folder_of_their_name() {
    let disk = Arc::new(SimDisk::new(0));
    let (scribe, answers) = scribe(&of_disk(&disk));
    scribe.write("world".into(), entry(1), 1);
    check_answers(&answers, "world", [1]);
    assert_eq!(disk.text(Path::new("/rollouts/world.journal")), Some(format!("{}\n", entry(1))));
}
