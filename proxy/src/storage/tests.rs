use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use serin_config::model::Storage;
use serin_rollout::{Entry, Event, Phase, Ppm, State, TimestampMs};

use super::*;

/// An entry that can be told from all others by its number.
pub(super) fn entry(sequence: u64) -> Entry {
    Entry {
        sequence,
        at: TimestampMs(61_000 + sequence),
        state: State { phase: Phase::Progressing, weight: Ppm::clamped(50_000), ..State::default() },
        events: vec![Event::Advance],
        score: 0.93,
        ..Entry::default()
    }
}

pub(super) fn in_folder(dir: &Path) -> Storage {
    Storage::File { dir: dir.to_owned() }
}

pub(super) fn scribe(store: &Store) -> (Scribe, Receiver<Written>) {
    let (told, answers) = sync_channel(65_536);
    let scribe = Scribe::start(store.clone(), Box::new(move |written| told.send(written).unwrap())).unwrap();
    (scribe, answers)
}

/// Writes entries `1..=last`, each acknowledged before the next, and ends cleanly.
fn write(storage: &Storage, rollout: &str, last: u64) {
    let store = Store::open(storage).unwrap();
    let (scribe, answers) = scribe(&store);
    for sequence in 1..=last {
        scribe.write(rollout.into(), entry(sequence), sequence);
        let written = answers.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(written, Written { rollout: rollout.into(), ticket: sequence, result: Ok(()) });
    }
    assert!(scribe.stop());
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let storage = in_folder(&dir.path().join("state"));
    write(&storage, "world", 3);
    let store = Store::open(&storage).unwrap();
    let recovered = Recovered { last: Some(entry(3)), existed: true, unreadable: 0, trouble: None, clean: true };
    assert_eq!(store.recover("world"), recovered);
    assert_eq!(store.recover("other"), Recovered { clean: true, ..Recovered::default() });
    assert_eq!(store.history("world", 2), [entry(2), entry(3)]);
    assert_eq!(store.reader().history("world", 99), [entry(1), entry(2), entry(3)]);
    assert_eq!(store.reader().history("../world", 99), []);
}
