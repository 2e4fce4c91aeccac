use std::path::Path;

use proptest::prelude::*;

use super::super::disk::sim::{Plan, SimDisk};
use super::super::tests::entry;
use super::*;

/// Small enough that a few lines reach every limit.
const SMALL: Limits =
    Limits { bytes: 2_000, lines: 8, kept: 3, kept_of_people: 1, kept_bytes: 1_500, bytes_max: 4_000 };

fn path() -> &'static Path {
    Path::new("/rollouts/world.journal")
}

fn journal(limits: Limits) -> Journal {
    Journal::new(Path::new("/rollouts"), path().to_owned(), limits)
}

/// The numbers of all entries that can be read, oldest first.
fn sequences(disk: &SimDisk) -> Vec<u64> {
    let tail = Tail::read(disk, path()).unwrap();
    let mut sequences: Vec<u64> = tail.entries().flatten().map(|entry| entry.sequence).collect();
    sequences.reverse();
    sequences
}

fn of_person(sequence: u64, why: usize) -> Entry {
    Entry { by: Some(("someone".into(), "w".repeat(why))), ..entry(sequence) }
}

/// Entries of a few runs of one journal on one disk, each of them ended by a loss of power.
#[derive(Clone, Debug)]
struct Run {
    entries: u8,
    failing: Vec<u64>,
    dead_from: Option<u64>,
}

fn arb_run() -> impl Strategy<Value = Run> {
    let failing = proptest::collection::vec(0..60_u64, 0..12);
    (1..24_u8, failing, proptest::option::of(0..60_u64)).prop_map(|(entries, failing, dead_from)| Run {
        entries,
        failing,
        dead_from,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn nothing_acknowledged_is_lost_whatever_fails_and_whenever_the_power_goes(
        seed in any::<u64>(), runs in proptest::collection::vec(arb_run(), 1..4),
    ) {
        let disk = SimDisk::new(seed);
        let (mut acknowledged, mut sequence) = (0, 0);
        for run in runs {
            let start = disk.calls();
            disk.plan(Plan {
                failing: run.failing.iter().map(|call| start + call).collect(),
                dead_from: run.dead_from.map(|call| start + call),
                capacity: None,
            });
            let mut journal = journal(SMALL);
            for _ in 0..run.entries {
                sequence += 1;
                let by_person = sequence % 5 == 0;
                let entry = if by_person { of_person(sequence, 20) } else { entry(sequence) };
                if journal.append(&disk, &entry).is_ok() {
                    acknowledged = sequence;
                    prop_assert_eq!(sequences(&disk).last().copied(), Some(sequence));
                }
                check_holds(&disk, acknowledged, sequence)?;
            }
            disk.lose_power();
            check_holds(&disk, acknowledged, sequence)?;
            // What survived is what the next run goes on from.
            acknowledged = sequences(&disk).last().copied().unwrap_or(0);
        }
        let mut journal = journal(SMALL);
        journal.append(&disk, &entry(sequence + 1)).unwrap();
        prop_assert_eq!(sequences(&disk).last().copied(), Some(sequence + 1));
    }
}

/// The last entry is the last acknowledged one or a newer one; entries keep their order; the file is within its limits.
fn check_holds(disk: &SimDisk, acknowledged: u64, newest: u64) -> Result<(), TestCaseError> {
    let sequences = sequences(disk);
    let last = sequences.last().copied().unwrap_or(0);
    prop_assert!((acknowledged..=newest).contains(&last), "{last} is not within {acknowledged}..={newest}");
    prop_assert!(sequences.is_sorted());
    let len = disk.look(path()).unwrap();
    prop_assert!(len <= Some(SMALL.bytes_max));
    // Never a file that says nothing: that would stop a rollout that never began.
    prop_assert!(len.is_none() || !sequences.is_empty());
    Ok(())
}

/// As of every journal, but so that lines count and not bytes.
const FEW: Limits = Limits { lines: 100, kept: 40, kept_of_people: 10, ..LIMITS };

#[test]
fn at_the_limit_of_lines_it_is_whole_and_one_line_more_shortens_it() {
    let disk = SimDisk::new(0);
    let mut journal = journal(FEW);
    for sequence in 1..=100 {
        let entry = if [7, 90].contains(&sequence) { of_person(sequence, 10) } else { entry(sequence) };
        journal.append(&disk, &entry).unwrap();
    }
    assert_eq!(sequences(&disk), (1..=100).collect::<Vec<_>>());
    journal.append(&disk, &entry(101)).unwrap();
    assert_eq!(sequences(&disk), [7].into_iter().chain(62..=101).collect::<Vec<_>>());
}

#[test]
fn of_people_only_the_newest_older_entries_are_kept() {
    let disk = SimDisk::new(0);
    let mut journal = journal(FEW);
    for sequence in 1..=101 {
        let entry = if sequence <= 50 { of_person(sequence, 10) } else { entry(sequence) };
        journal.append(&disk, &entry).unwrap();
    }
    assert_eq!(sequences(&disk), (41..=50).chain(62..=101).collect::<Vec<_>>());
}

#[test]
fn at_the_limit_of_bytes_it_is_shortened_and_keeps_the_newest() {
    let disk = SimDisk::new(0);
    let mut journal = journal(LIMITS);
    let mut shortened = 0;
    for sequence in 1..=400 {
        let before = disk.look(path()).unwrap();
        journal.append(&disk, &of_person(sequence, 7_000)).unwrap();
        let len = disk.look(path()).unwrap();
        assert!(len <= Some(LIMITS.bytes));
        assert_eq!(sequences(&disk).last(), Some(&sequence));
        if len < before {
            shortened += 1;
            assert!(len <= Some(LIMITS.kept_bytes as u64) && len >= Some(LIMITS.kept_bytes as u64 - 8_192));
        }
    }
    assert!(shortened >= 2);
}

#[test]
fn a_full_disk_says_so_and_room_makes_it_go_on() {
    let disk = SimDisk::new(0);
    let mut journal = journal(LIMITS);
    disk.plan(Plan { capacity: Some(1_000), ..Plan::default() });
    let written = (1..=20).take_while(|&sequence| journal.append(&disk, &entry(sequence)).is_ok()).count() as u64;
    assert!((2..10).contains(&written));
    let before = disk.text(path()).unwrap();
    let error = journal.append(&disk, &entry(written + 1)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.text(path()).unwrap(), before, "what was written of the line is cut off again");
    disk.plan(Plan::default());
    journal.append(&disk, &entry(written + 2)).unwrap();
    assert_eq!(sequences(&disk), (1..=written).chain([written + 2]).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_cut_off_does_not_stick_to_the_next_line() {
    let disk = SimDisk::new(0);
    let mut journal = journal(LIMITS);
    journal.append(&disk, &entry(1)).unwrap();
    let len = usize::try_from(disk.look(path()).unwrap().unwrap()).unwrap();
    let cut = disk.calls() + 1;
    // Of the line ten bytes fit; the cut after it fails, and the one before the next line too.
    disk.plan(Plan { capacity: Some(len + 10), failing: [cut].into(), dead_from: Some(cut) });
    assert!(journal.append(&disk, &entry(2)).is_err());
    disk.plan(Plan { failing: [disk.calls()].into(), ..Plan::default() });
    journal.append(&disk, &entry(3)).unwrap();
    assert_eq!(sequences(&disk), [1, 3]);
}

#[test]
fn where_it_cannot_be_shortened_it_grows_up_to_a_limit() {
    let disk = SimDisk::new(0);
    let mut journal = journal(SMALL);
    for sequence in 1..=4 {
        journal.append(&disk, &entry(sequence)).unwrap();
    }
    let line = entry(5).to_string().len() as u64 + 1;
    let mut sequence = 4;
    // A folder in the way of the new file would be such a case: taking the old one away fails every time.
    let refused = loop {
        sequence += 1;
        let len = disk.look(path()).unwrap().unwrap();
        let is_long = len + line + 1 > SMALL.bytes || disk.text(path()).unwrap().lines().count() >= SMALL.lines;
        disk.plan(Plan { failing: is_long.then(|| disk.calls()).into_iter().collect(), ..Plan::default() });
        if let Err(error) = journal.append(&disk, &entry(sequence)) {
            break error;
        }
        assert_eq!(sequences(&disk), (1..=sequence).collect::<Vec<_>>());
    };
    assert_eq!(refused.to_string(), "input/output error");
    let len = disk.look(path()).unwrap().unwrap();
    assert!(len <= SMALL.bytes_max && len + line + 1 > SMALL.bytes_max, "{len}");
    disk.plan(Plan::default());
    journal.append(&disk, &entry(sequence)).unwrap();
    assert_eq!(sequences(&disk), [sequence - 2, sequence - 1, sequence]);
}

#[test]
fn the_longest_line_is_written_and_a_longer_one_refused() {
    let disk = SimDisk::new(0);
    let mut journal = journal(LIMITS);
    let room = LINE_BYTES_MAX - of_person(1, 0).to_string().len();
    journal.append(&disk, &of_person(1, room)).unwrap();
    let error = journal.append(&disk, &of_person(2, room + 1)).unwrap_err();
    assert_eq!(error.to_string(), format!("its line would not read back: longer than {LINE_BYTES_MAX} bytes"));
    assert!(journal.append(&disk, &Entry { score: f64::NAN, ..entry(3) }).is_err());
    assert_eq!(sequences(&disk), [1]);
}

#[test]
fn a_journal_that_others_changed_is_looked_at_again() {
    let disk = SimDisk::new(0);
    let mut journal = journal(LIMITS);
    journal.append(&disk, &entry(1)).unwrap();
    disk.put(path(), format!("{}\n{}", entry(1), entry(2)).as_bytes());
    journal.append(&disk, &entry(3)).unwrap();
    assert_eq!(sequences(&disk), [1, 2, 3]);
    disk.remove(path()).unwrap();
    journal.append(&disk, &entry(4)).unwrap();
    assert_eq!(sequences(&disk), [4]);
}

#[track_caller]
fn check_goes_on_after(garbage: &[u8], readable: &[u64]) {
    let disk = SimDisk::new(0);
    disk.put(path(), garbage);
    let tail = Tail::read(&disk, path()).unwrap();
    assert!(tail.bytes.len() <= TAIL_BYTES_MAX);
    assert_eq!(sequences(&disk), readable);
    journal(LIMITS).append(&disk, &entry(99)).unwrap();
    assert_eq!(sequences(&disk), [readable, &[99]].concat());
    assert!(disk.look(path()).unwrap() <= Some(LIMITS.bytes));
}

#[test]
fn whatever_lies_in_place_of_a_journal_is_read_within_bounds() {
    let line = format!("{}\n", entry(1)).into_bytes();
    check_goes_on_after(b"", &[]);
    check_goes_on_after(b"\n\n\n", &[]);
    check_goes_on_after(&[0; 9], &[]);
    check_goes_on_after(&[line.as_slice(), &[0; 5_000]].concat(), &[1]);
    check_goes_on_after(&[line.as_slice(), b"\xff\xfe\n"].concat(), &[1]);
    check_goes_on_after(&vec![b'x'; 3 << 20], &[]);
    check_goes_on_after(&vec![b'\n'; 3 << 20], &[]);
    check_goes_on_after(&[vec![b'x'; 3 << 20], b"\n".to_vec(), line.clone()].concat(), &[1]);
    // More than is ever read lies behind the entry.
    check_goes_on_after(&[line, vec![b'x'; TAIL_BYTES_MAX + 1]].concat(), &[]);
}
