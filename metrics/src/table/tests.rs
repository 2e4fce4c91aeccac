//! The cap, the overflow, the life of a series.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(Arc<str>, Arc<str>);

impl LabelSet for Name {
    fn limited(&self) -> Self {
        Self(limit(&self.0), limit(&self.1))
    }

    fn overflow(&self) -> Self {
        Self(Arc::clone(&self.0), OVERFLOW.into())
    }

    fn overflow_last() -> Self {
        Self(OVERFLOW.into(), OVERFLOW.into())
    }
}

const WORKERS: usize = 2;

fn table(series_max: usize) -> Table<Name, AtomicU64> {
    Table::new(WORKERS, series_max, Arc::default())
}

fn name(first: &str, second: &str) -> Name {
    Name(first.into(), second.into())
}

fn dropped(table: &Table<Name, AtomicU64>) -> u64 {
    table.dropped.load(Ordering::Relaxed)
}

#[track_caller]
fn check_series(table: &Table<Name, AtomicU64>, expected: &[(&str, &str)]) {
    let found: Vec<_> = table.series().into_iter().map(|(labels, _)| labels).collect();
    let expected: Vec<_> = expected.iter().map(|(first, second)| name(first, second)).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_same_labels_give_the_same_cell_and_another_worker_gives_another() {
    let table = table(10);
    let cell = table.cell(0, &name("a", "b"));
    assert!(Arc::ptr_eq(&cell, &table.cell(0, &name("a", "b"))));
    assert!(!Arc::ptr_eq(&cell, &table.cell(1, &name("a", "b"))));
    check_series(&table, &[("a", "b")]);
}

#[test]
fn series_fill_the_cap_and_one_more_overflows() {
    let table = table(2);
    let _held = [table.cell(0, &name("r", "1")), table.cell(0, &name("r", "2"))];
    check_series(&table, &[("r", "1"), ("r", "2")]);
    assert_eq!(dropped(&table), 0);

    let overflow = table.cell(0, &name("r", "3"));
    assert!(Arc::ptr_eq(&overflow, &table.cell(0, &name("r", "4"))));
    check_series(&table, &[("r", OVERFLOW), ("r", "1"), ("r", "2")]);
    assert_eq!(dropped(&table), 2);

    // What has a series keeps it.
    assert!(!Arc::ptr_eq(&overflow, &table.cell(0, &name("r", "2"))));
    assert_eq!(dropped(&table), 2);
}

#[test]
fn a_cap_of_nothing_leaves_the_overflow() {
    let table = table(0);
    table.cell(1, &name("r", "1"));
    check_series(&table, &[("r", OVERFLOW)]);
}

#[test]
fn overflow_series_fill_their_own_cap_and_one_more_is_the_last() {
    let table = table(1);
    table.cell(0, &name("a", "0"));
    for index in 0..OVERFLOW_SERIES_MAX {
        table.cell(0, &name(&format!("r{index}"), "1"));
    }
    assert_eq!(table.series().len(), 1 + OVERFLOW_SERIES_MAX);
    assert!(table.get(&Name::overflow_last()).is_none());

    table.cell(0, &name("beyond", "1"));
    table.cell(0, &name("further beyond", "1"));
    table.cell(0, &name("r7", "2"));
    assert_eq!(table.series().len(), 1 + OVERFLOW_SERIES_MAX + 1);
    assert!(table.get(&Name::overflow_last()).is_some());
}

#[test]
fn a_held_series_stays_however_long_nothing_happens() {
    let table = table(10);
    let _held = table.cell(1, &name("a", "b"));
    table.sweep(0);
    table.sweep(100 * IDLE_MS_MAX);
    check_series(&table, &[("a", "b")]);
}

#[test]
fn a_series_nobody_holds_goes_after_the_idle_time_and_not_before() {
    let table = table(10);
    drop(table.cell(0, &name("a", "b")));
    table.sweep(5_000);
    table.sweep(5_000 + IDLE_MS_MAX - 1);
    check_series(&table, &[("a", "b")]);
    table.sweep(5_000 + IDLE_MS_MAX);
    check_series(&table, &[]);
}

#[test]
fn asking_again_starts_the_idle_time_anew() {
    let table = table(10);
    table.cell(0, &name("a", "b")).store(7, Ordering::Relaxed);
    table.sweep(0);
    assert_eq!(table.cell(0, &name("a", "b")).load(Ordering::Relaxed), 7);
    table.sweep(IDLE_MS_MAX);
    check_series(&table, &[("a", "b")]);
    table.sweep(2 * IDLE_MS_MAX);
    check_series(&table, &[]);
    assert_eq!(table.cell(0, &name("a", "b")).load(Ordering::Relaxed), 0);
}

#[test]
fn a_clock_that_goes_back_removes_nothing() {
    let table = table(10);
    drop(table.cell(0, &name("a", "b")));
    table.sweep(IDLE_MS_MAX);
    table.sweep(0);
    check_series(&table, &[("a", "b")]);
}

#[test]
fn removed_series_make_room() {
    let table = table(1);
    drop(table.cell(0, &name("r", "1")));
    table.sweep(0);
    table.sweep(IDLE_MS_MAX);
    table.cell(0, &name("r", "2"));
    check_series(&table, &[("r", "2")]);
    assert_eq!(dropped(&table), 0);
}

#[test]
fn a_label_at_the_limit_is_kept_and_a_longer_one_is_cut() {
    let longest = "x".repeat(LABEL_BYTES_MAX);
    assert_eq!(limited(&longest), longest);
    let cut = limited(&format!("{longest}x"));
    assert_eq!(cut.len(), LABEL_BYTES_MAX);
    assert!(cut.ends_with(CUT_MARK));
}

#[test]
fn labels_that_agree_up_to_the_limit_share_a_series() {
    let table = table(10);
    let long = "x".repeat(LABEL_BYTES_MAX);
    let first = table.cell(0, &name(&format!("{long}1"), "b"));
    assert!(Arc::ptr_eq(&first, &table.cell(0, &name(&format!("{long}2"), "b"))));
}

proptest! {
    #[test]
    fn a_cut_label_is_within_the_limit_and_begins_like_the_whole(value in "\\PC{0,300}") {
        let cut = limited(&value);
        prop_assert!(cut.len() <= LABEL_BYTES_MAX);
        prop_assert!(value == cut || value.starts_with(cut.trim_end_matches(CUT_MARK)));
    }

    #[test]
    fn no_sequence_of_names_outgrows_the_cap(
        series_max in 0..5_usize,
        names in proptest::collection::vec(("[a-c]", "[a-z]"), 0..100),
    ) {
        let table = table(series_max);
        for (first, second) in &names {
            table.cell(0, &name(first, second)).fetch_add(1, Ordering::Relaxed);
        }
        // Three first labels, so at most three overflow series.
        prop_assert!(table.series().len() <= series_max + 3);
        let read = |sum: u64, cell: &AtomicU64| sum + cell.load(Ordering::Relaxed);
        let sum: u64 = table.series().iter().map(|(_, series)| series.fold(read)).sum();
        prop_assert_eq!(sum, names.len() as u64, "every count is in some series");
    }
}
