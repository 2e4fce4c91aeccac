use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use serin_rollout::{Event, Phase, Ppm, State, TimestampMs};

use super::disk::sim::SimDisk;
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

type Make = fn(&Path);

/// What may lie in place of a file, and how it comes there.
pub(super) const NO_FILES: [(&str, Make); 3] = [
    ("a folder", |path| fs::create_dir(path).unwrap()),
    ("a symbolic link", |path| symlink("/dev/zero", path).unwrap()),
    ("a device, a pipe or a socket", |path| drop(UnixListener::bind(path).unwrap())),
];

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
    assert_eq!(store.recover("other"), Recovered::default());
    assert_eq!(store.history("world", 2), [entry(2), entry(3)]);
    assert_eq!(store.reader().history("world", 99), [entry(1), entry(2), entry(3)]);
    assert_eq!(store.reader().history("../world", 99), []);
}

/// A store on a simulated disk.
pub(super) fn of_disk(disk: &Arc<SimDisk>) -> Store {
    after_clean_end(disk, folder::Sequences::default())
}

fn after_clean_end(disk: &Arc<SimDisk>, sequences: folder::Sequences) -> Store {
    let disk: Arc<dyn disk::Disk> = Arc::clone(disk) as _;
    let shelf = Shelf::of_disk(disk, "/rollouts".into(), sequences);
    Store(Arc::new(Inner { folder: None, shelf: Arc::new(shelf) }))
}

/// A folder with a journal of three entries of `world`, ended cleanly, and the bytes of that journal.
fn three_entries() -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    write(&in_folder(dir.path()), "world", 3);
    let bytes = fs::read(journal_in(dir.path())).unwrap();
    (dir, bytes)
}

fn journal_in(dir: &Path) -> PathBuf {
    dir.join("rollouts").join("world.journal")
}

/// Three entries as they stand in a journal.
fn three_lines() -> Vec<u8> {
    (1..=3).flat_map(|sequence| format!("{}\n", entry(sequence)).into_bytes()).collect()
}

/// With this text in its journal, after an end that was clean at the third entry, `world` is found at the entry of this
/// number, or at none, and `clean` only if nothing is missing; and its next entry can be read again.
#[track_caller]
fn check_recovers(text: &[u8], expected: Option<u64>) {
    let disk = Arc::new(SimDisk::new(0));
    disk.put(Path::new("/rollouts/world.journal"), text);
    let store = after_clean_end(&disk, Arc::new([("world".into(), 3)].into()));
    let recovered = store.recover("world");
    assert_eq!(recovered.last, expected.map(entry), "{}", String::from_utf8_lossy(text));
    assert_eq!(recovered.is_unreadable(), expected.is_none() && !text.is_empty());
    assert_eq!(recovered.clean, expected == Some(3) && recovered.unreadable == 0);
    shelf::Writers::default().append(&store.0.shelf, &"world".into(), entry(9)).unwrap();
    let newest: Vec<u64> = store.history("world", 2).iter().map(|entry| entry.sequence).collect();
    assert_eq!(newest, expected.into_iter().chain([9]).collect::<Vec<_>>());
}

#[test]
fn a_journal_truncated_at_every_byte_gives_its_last_whole_entry() {
    let bytes = three_lines();
    let ends: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b'\n').collect();
    for len in 0..=bytes.len() {
        // A line is whole without its line end too.
        let whole = ends.iter().filter(|&&end| end <= len).count() as u64;
        check_recovers(&bytes[..len], (whole > 0).then_some(whole));
    }
}

#[test]
fn a_journal_corrupted_at_every_byte_gives_its_last_good_entry() {
    let bytes = three_lines();
    let ends: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b'\n').collect();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x20, 0x80, 0xff] {
            let mut text = bytes.clone();
            text[at] ^= flip;
            // A line is good if neither it nor the line ends around it changed.
            let good = (1..=3).rfind(|&line| {
                let start = if line == 1 { 0 } else { ends[line - 2] };
                !(start..=ends[line - 1]).contains(&at)
            });
            check_recovers(&text, good.map(|line| line as u64));
        }
    }
}

#[test]
fn a_journal_without_a_good_line_is_unreadable() {
    let lines = three_lines();
    let spoilt: Vec<u8> = lines.iter().map(|&byte| if byte == b'=' { b'-' } else { byte }).collect();
    check_recovers(&spoilt, None);
    check_recovers(&vec![0; lines.len()], None);
    check_recovers(b"\n", None);
}

#[test]
fn what_is_no_file_in_place_of_a_journal_is_unreadable_and_writing_it_fails() {
    for (what, make) in NO_FILES {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&in_folder(dir.path())).unwrap();
        let path = journal_in(dir.path());
        make(&path);
        let recovered = store.recover("world");
        let trouble = format!("{}: it is {what}, not a file", path.display());
        assert_eq!(recovered.trouble.as_ref(), Some(&trouble));
        assert!(recovered.existed && recovered.is_unreadable() && !recovered.clean);
        assert_eq!(store.history("world", 9), []);
        let (scribe, answers) = scribe(&store);
        scribe.write("world".into(), entry(1), 1);
        assert_eq!(answers.recv_timeout(Duration::from_secs(20)).unwrap().result, Err(trouble));
    }
}

#[test]
fn only_a_clean_end_is_one() {
    let (dir, _) = three_entries();
    let storage = in_folder(dir.path());
    // A run that ends without saying so.
    let store = Store::open(&storage).unwrap();
    assert!(store.recover("world").clean);
    drop(scribe(&store));
    drop(store);
    let store = open_again(&storage);
    let recovered = store.recover("world");
    assert_eq!((recovered.last, recovered.clean), (Some(entry(3)), false));
    // A clean end of a run that wrote nothing of it does not make up for that; an entry does.
    assert!(scribe(&store).0.stop());
    drop(store);
    let store = open_again(&storage);
    assert!(!store.recover("world").clean);
    let (scribe, answers) = scribe(&store);
    scribe.write("world".into(), entry(4), 4);
    answers.recv_timeout(Duration::from_secs(20)).unwrap().result.unwrap();
    assert!(scribe.stop());
    drop(store);
    assert!(open_again(&storage).recover("world").clean);
}

/// Waits until the folder is free: a scribe that is only dropped ends when it likes.
fn open_again(storage: &Storage) -> Store {
    for _ in 0..10_000 {
        match Store::open(storage) {
            Err(StorageError::Busy { .. }) => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
    panic!("the folder stays in use");
}

#[test]
fn a_journal_older_than_the_mark_is_not_clean() {
    let (dir, bytes) = three_entries();
    let line = bytes.iter().position(|&byte| byte == b'\n').unwrap();
    fs::write(journal_in(dir.path()), &bytes[..=line]).unwrap();
    let recovered = Store::open(&in_folder(dir.path())).unwrap().recover("world");
    let expected = Recovered { last: Some(entry(1)), existed: true, unreadable: 0, trouble: None, clean: false };
    assert_eq!(recovered, expected);
}

#[test]
fn an_empty_journal_is_like_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&in_folder(dir.path())).unwrap();
    fs::write(journal_in(dir.path()), "").unwrap();
    let recovered = store.recover("world");
    assert_eq!(recovered, Recovered { existed: true, ..Recovered::default() });
    assert!(!recovered.is_unreadable());
}

#[test]
fn a_reader_does_not_keep_the_folder() {
    let (dir, _) = three_entries();
    let reader = Store::open(&in_folder(dir.path())).unwrap().reader();
    let _other = Store::open(&in_folder(dir.path())).unwrap();
    assert_eq!(reader.history("world", 1), [entry(3)]);
}

#[test]
fn in_memory_the_newest_entries_are_kept_as_long_as_the_process() {
    let store = Store::open(&Storage::Memory).unwrap();
    assert_eq!((store.token(), store.warnings()), (None, Vec::new()));
    assert_eq!(store.recover("world"), Recovered::default());
    let (scribe, answers) = scribe(&store);
    for sequence in 1..=RING_MAX as u64 + 1 {
        scribe.write("world".into(), entry(sequence), sequence);
        assert_eq!(answers.recv_timeout(Duration::from_secs(20)).unwrap().result, Ok(()));
        let oldest = sequence.saturating_sub(RING_MAX as u64) + 1;
        assert_eq!(store.history("world", usize::MAX).first(), Some(&entry(oldest)));
    }
    assert_eq!(store.reader().history("world", usize::MAX).len(), RING_MAX);
    assert_eq!(store.history("world", 1), [entry(RING_MAX as u64 + 1)]);
    assert!(store.recover("world").clean);
    assert!(scribe.stop());
}
