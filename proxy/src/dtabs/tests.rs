use std::path::Path;

use serin_metrics::SERIES_MAX;

use super::*;
use crate::storage::disk_sim::{Plan, SimDisk};

const FOLDER: &str = "/state/dtabs";

fn draft(text: &str) -> Draft {
    text::read(text.as_bytes()).unwrap()
}

fn open(files: Option<DtabFiles>) -> Arc<Dtabs> {
    Arc::new(Dtabs::open(files, Metrics::new(1, SERIES_MAX), Arc::default()).unwrap())
}

fn on(disk: &Arc<SimDisk>) -> DtabFiles {
    DtabFiles::of_disk(Arc::<SimDisk>::clone(disk), FOLDER.into())
}

/// Version and dtab of a namespace.
type Seen = Option<(u64, String)>;

fn look(dtabs: &Dtabs, name: &str) -> Seen {
    match dtabs.view().namespaces.get(name)? {
        Content::Readable(stored) => Some((stored.version.get(), stored.draft.dtab().to_string())),
        Content::Unreadable { .. } => None,
    }
}

#[test]
fn in_memory_everything_works_and_nothing_stays() {
    let dtabs = open(None);
    assert!(dtabs.change_now("web", &Change::Create(draft("/a => /b"))).is_ok());
    assert!(dtabs.change_now("web", &Change::Replace(draft("/a => /c"), Version::new(1))).is_ok());
    assert_eq!(look(&dtabs, "web"), Some((2, "/a=>/c".to_owned())));
    assert!(dtabs.change_now("web", &Change::Delete).is_ok());
    assert_eq!((look(&dtabs, "web"), dtabs.view().generation), (None, 3));
}

#[test]
fn of_many_who_swap_the_same_version_exactly_one_wins() {
    let disk = Arc::new(SimDisk::new(1));
    for files in [None, Some(on(&disk))] {
        let dtabs = open(files);
        dtabs.change_now("web", &Change::Create(draft("/a => /b"))).unwrap();
        for round in 1..=20 {
            let swap = |writer: usize| {
                let change = Change::Replace(draft(&format!("/a => /w{writer}")), Version::new(round));
                dtabs.change_now("web", &change)
            };
            let swap = &swap;
            let results: Vec<_> = std::thread::scope(|scope| {
                let writers: Vec<_> = (0..8).map(|writer| scope.spawn(move || swap(writer))).collect();
                writers.into_iter().map(|writer| writer.join().unwrap()).collect()
            });
            let winner = results.iter().position(Result::is_ok).unwrap();
            assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
            assert_eq!(look(&dtabs, "web"), Some((round + 1, format!("/a=>/w{winner}"))));
            let stale = NotChanged::Refused(Refused::Stale(Version::new(round + 1)));
            assert!(results.iter().all(|result| result.is_ok() || *result == Err(stale.clone())), "{results:?}");
        }
    }
}

#[test]
fn a_disk_that_is_full_changes_nothing_and_one_with_room_goes_on() {
    let disk = Arc::new(SimDisk::new(2));
    let dtabs = open(Some(on(&disk)));
    dtabs.change_now("web", &Change::Create(draft("/a => /b"))).unwrap();
    disk.plan(Plan { capacity: Some(150), ..Plan::default() });
    let long = draft(&"/a => /b ;".repeat(50));
    for change in [Change::Put(long.clone()), Change::Create(long.clone())] {
        let name = if matches!(change, Change::Create(_)) { "other" } else { "web" };
        let found = dtabs.change_now(name, &change);
        assert!(matches!(&found, Err(NotChanged::Failed(why)) if why.contains("space")), "{found:?}");
    }
    assert_eq!((look(&dtabs, "web"), look(&dtabs, "other")), (Some((1, "/a=>/b".to_owned())), None));
    assert_eq!(look(&open(Some(on(&disk))), "web"), Some((1, "/a=>/b".to_owned())));
    disk.plan(Plan::default());
    dtabs.change_now("web", &Change::Put(long)).unwrap();
    assert_eq!(look(&open(Some(on(&disk))), "web").unwrap().0, 2);
}

/// Whatever call fails, and whenever the power is lost: what was acknowledged is there, what was refused is not, unless
/// the disk could not even take it back.
#[test]
fn a_loss_of_power_at_any_moment_keeps_what_was_acknowledged() {
    for seed in 0..400 {
        let disk = Arc::new(SimDisk::new(seed));
        let dtabs = open(Some(on(&disk)));
        let mut draws = fastrand::Rng::with_seed(seed);
        disk.plan(Plan { dead_from: Some(draws.u64(0..60)), ..Plan::default() });
        let mut known: Vec<(String, Seen, Seen)> = Vec::new();
        for step in 0..16 {
            let name = format!("n{}", draws.u8(..3));
            let change = match draws.u8(..4) {
                0 => Change::Delete,
                _ => Change::Put(draft(&format!("/a => /s{step}"))),
            };
            let before = look(&dtabs, &name);
            let planned = dtabs.view().namespaces.plan(&name, &change);
            let wanted = match planned {
                Ok(Effect::Write(stored)) => Some((stored.version.get(), stored.draft.dtab().to_string())),
                Ok(Effect::Remove { .. }) => None,
                Err(_) => continue,
            };
            let done = dtabs.change_now(&name, &change);
            assert_eq!(look(&dtabs, &name), if done.is_ok() { wanted.clone() } else { before.clone() }, "seed {seed}");
            known.retain(|(other, ..)| *other != name);
            let maybe = if done.is_ok() { wanted.clone() } else { before };
            known.push((name, maybe, wanted));
            if done.is_err() {
                break;
            }
        }
        disk.lose_power();
        let again = open(Some(on(&disk)));
        for (name, certain, possible) in known {
            let found = look(&again, &name);
            assert!(found == certain || found == possible, "seed {seed}: {name} is {found:?}, not {certain:?}");
        }
        assert_eq!(again.view().namespaces.unreadable().count(), 0, "seed {seed}: half a file");
    }
}

#[test]
fn a_version_is_not_used_again_after_deletion_and_restart() {
    let disk = Arc::new(SimDisk::new(3));
    let dtabs = open(Some(on(&disk)));
    for _ in 0..3 {
        dtabs.change_now("web", &Change::Put(draft("/a => /b"))).unwrap();
    }
    dtabs.change_now("web", &Change::Delete).unwrap();
    let dtabs = open(Some(on(&disk)));
    assert_eq!(dtabs.change_now("web", &Change::Create(draft(""))).unwrap().0, Version::new(4));
}

#[tokio::test]
async fn changes_fill_their_places_and_one_more_is_told_to_come_back() {
    let disk = Arc::new(SimDisk::new(4));
    let dtabs = open(Some(on(&disk)));
    disk.stand_still(true);
    let waiting = tokio::task::JoinSet::from_iter((0..CHANGES_MAX).map(|number| {
        let dtabs = Arc::clone(&dtabs);
        async move { dtabs.change(format!("n{number}"), Change::Put(draft(""))).await }
    }));
    while dtabs.turns.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(dtabs.change("more".into(), Change::Put(draft(""))).await, Err(NotChanged::Busy));
    assert_eq!(look(&dtabs, "n0"), None, "reading does not wait");
    disk.stand_still(false);
    dtabs.set_in_force(CHANGES_MAX as u64);
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
    assert_eq!(dtabs.view().namespaces.len(), CHANGES_MAX);
}

#[test]
fn what_hears_of_changes_hears_of_each() {
    let dtabs = open(None);
    let mut news = dtabs.subscribe();
    dtabs.change_now("web", &Change::Put(draft(""))).unwrap();
    assert!(news.has_changed().unwrap());
    assert_eq!(*news.borrow_and_update(), 1);
    assert!(dtabs.change_now("web", &Change::Create(draft(""))).is_err());
    assert!(!news.has_changed().unwrap(), "a refusal is no change");
}

#[test]
fn a_folder_that_may_not_be_written_is_said_apart_from_one_that_fails() {
    let forbidden = |kind: io::ErrorKind| matches!(not_written(kind.into()), NotChanged::Forbidden(_));
    assert!(forbidden(io::ErrorKind::PermissionDenied) && forbidden(io::ErrorKind::ReadOnlyFilesystem));
    assert!(!forbidden(io::ErrorKind::StorageFull) && !forbidden(io::ErrorKind::Other));
    assert!(Path::new(FOLDER).is_absolute());
}
