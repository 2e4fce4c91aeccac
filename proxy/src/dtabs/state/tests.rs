use super::*;
use proptest::prelude::*;

fn draft(text: &str) -> Draft {
    Draft::new(Dtab::parse(text).unwrap()).unwrap()
}

/// Plans and commits, as if the disk never failed.
fn apply(namespaces: &mut Namespaces, name: &str, change: &Change) -> Result<Option<Version>, Refused> {
    let effect = namespaces.plan(name, change)?;
    namespaces.commit(name, &effect);
    Ok(match effect {
        Effect::Write(stored) => Some(stored.version),
        Effect::Remove { .. } => None,
    })
}

#[track_caller]
fn check_version(namespaces: &mut Namespaces, name: &str, change: &Change, expected: u64) {
    assert_eq!(apply(namespaces, name, change), Ok(Some(Version::after(expected - 1))));
}

#[track_caller]
fn check_refused(namespaces: &Namespaces, name: &str, change: &Change, expected: Refused) {
    assert_eq!(namespaces.plan(name, change), Err(expected), "{name} {change:?}");
}

#[test]
fn a_namespace_is_created_once_and_changed_by_its_version() {
    let mut all = Namespaces::default();
    let (a, b) = (draft("/a => /b"), draft("/a => /c"));
    check_refused(&all, "web", &Change::Replace(a.clone(), Version::new(1)), Refused::Unknown);
    check_refused(&all, "web", &Change::Delete, Refused::Unknown);
    check_version(&mut all, "web", &Change::Create(a.clone()), 1);
    check_refused(&all, "web", &Change::Create(b.clone()), Refused::Exists);
    check_version(&mut all, "web", &Change::Replace(b.clone(), Version::new(1)), 2);
    for old in [Version::new(1), Version::new(3), None] {
        check_refused(&all, "web", &Change::Replace(a.clone(), old), Refused::Stale(Version::new(2)));
    }
    assert_eq!(all.dtab("web"), Some(b.dtab()));
    check_version(&mut all, "web", &Change::Put(a), 3);
    check_version(&mut all, "other", &Change::Put(b), 1);
    assert_eq!(all.names().map(|name| &**name).collect::<Vec<_>>(), ["other", "web"]);
}

#[test]
fn a_version_is_never_used_twice_even_after_a_deletion() {
    let mut all = Namespaces::default();
    let a = draft("/a => /b");
    for number in 1..=3 {
        check_version(&mut all, "web", &Change::Put(a.clone()), number);
    }
    for old in [Version::new(2), None] {
        check_refused(&all, "web", &Change::Remove(old), Refused::Stale(Version::new(3)));
    }
    assert_eq!(apply(&mut all, "web", &Change::Remove(Version::new(3))), Ok(None));
    check_refused(&all, "web", &Change::Remove(Version::new(3)), Refused::Unknown);
    assert_eq!((all.get("web"), all.len()), (None, 0));
    check_version(&mut all, "web", &Change::Create(a.clone()), 4);
    check_refused(&all, "web", &Change::Replace(a, Version::new(3)), Refused::Stale(Version::new(4)));
}

#[test]
fn what_cannot_be_read_is_there_and_is_mended_by_a_write() {
    let why: Arc<str> = "torn".into();
    let contents = [("web".into(), Content::Unreadable { why: Arc::clone(&why), up_to: 7 })];
    let mut all = Namespaces::new(contents.into(), 2);
    let a = draft("/a => /b");
    assert_eq!((all.dtab("web"), all.unreadable().count()), (None, 1));
    check_refused(&all, "web", &Change::Create(a.clone()), Refused::Exists);
    check_refused(&all, "web", &Change::Replace(a.clone(), Version::new(7)), Refused::Stale(None));
    check_refused(&all, "web", &Change::Replace(a.clone(), None), Refused::Stale(None));
    check_version(&mut all, "web", &Change::Put(a), 8);
    assert_eq!(all.unreadable().count(), 0);
}

#[test]
fn names_that_are_no_file_are_refused() {
    for name in ["", "..", "a/b", "a b", &"n".repeat(NAMESPACE_BYTES_MAX + 1)] {
        check_refused(&Namespaces::default(), name, &Change::Put(draft("")), Refused::Name);
    }
    let longest = "n".repeat(NAMESPACE_BYTES_MAX);
    check_version(&mut Namespaces::default(), &longest, &Change::Put(draft("")), 1);
}

#[test]
fn namespaces_fill_the_cap_and_one_more_is_refused() {
    let mut all = Namespaces::default();
    for number in 0..NAMESPACES_MAX {
        check_version(&mut all, &format!("n{number}"), &Change::Create(draft("")), 1);
    }
    check_refused(&all, "more", &Change::Create(draft("")), Refused::TooMany);
    check_refused(&all, "more", &Change::Put(draft("")), Refused::TooMany);
    check_version(&mut all, "n7", &Change::Put(draft("")), 2);
    assert_eq!(apply(&mut all, "n7", &Change::Delete), Ok(None));
    check_version(&mut all, "more", &Change::Create(draft("")), 1 + 2);
}

/// A dtab whose kept text has exactly so many bytes.
fn long(bytes: usize) -> Result<Draft, Refused> {
    let (line, mut text) = ("/a=>/bcdefgh", String::new());
    let whole = line.len() + 2;
    let lines = bytes / whole - 1;
    for _ in 0..lines {
        text.push_str(line);
        text.push(';');
    }
    text.push_str(line);
    text.push_str(&"x".repeat(bytes - (lines + 1) * whole));
    Draft::new(Dtab::parse(&text).unwrap())
}

#[test]
fn a_dtab_fills_its_bytes_and_one_more_is_refused() {
    assert_eq!(long(DTAB_BYTES_MAX).map(|draft| draft.text().len()), Ok(DTAB_BYTES_MAX));
    assert_eq!(long(DTAB_BYTES_MAX + 1), Err(Refused::TooLarge));
}

#[test]
fn all_dtabs_fill_their_bytes_and_one_more_is_refused() {
    let mut all = Namespaces::default();
    let full = long(DTAB_BYTES_MAX).unwrap();
    for number in 0..TOTAL_BYTES_MAX / DTAB_BYTES_MAX {
        check_version(&mut all, &format!("n{number}"), &Change::Put(full.clone()), 1);
    }
    check_refused(&all, "more", &Change::Put(draft("/a => /b")), Refused::TooMuch);
    check_version(&mut all, "more", &Change::Put(draft("")), 1);
    check_version(&mut all, "n0", &Change::Put(draft("/a => /b")), 2);
    check_version(&mut all, "n1", &Change::Put(full.clone()), 2);
    check_version(&mut all, "small", &Change::Put(long(DTAB_BYTES_MAX - 8).unwrap()), 1);
    check_refused(&all, "small", &Change::Put(full), Refused::TooMuch);
}

#[test]
fn the_kept_text_reads_back_as_the_same_dtab() {
    let text = "/svc => 0.001 * /a & /b | ! ; /x\\x2fy/* => ~ ;";
    let kept = draft(text);
    assert_eq!(Dtab::parse(kept.text()).unwrap(), **kept.dtab());
    assert_eq!(draft("").text(), "");
}

proptest! {
    #[test]
    fn versions_of_a_name_only_grow(changes in prop::collection::vec((0_u8..3, 0_u8..4, 0_u64..6), 0..60)) {
        let mut all = Namespaces::default();
        let mut newest = [0_u64; 3];
        for (name, kind, guess) in changes {
            let draft = draft("/a => /b");
            let change = match kind {
                0 => Change::Create(draft),
                1 => Change::Put(draft),
                2 => Change::Replace(draft, Version::new(guess)),
                _ => Change::Delete,
            };
            let before = all.clone();
            match apply(&mut all, &format!("n{name}"), &change) {
                Ok(Some(version)) => {
                    prop_assert!(version.get() > newest[usize::from(name)]);
                    newest[usize::from(name)] = version.get();
                }
                Ok(None) => {}
                Err(_) => prop_assert_eq!(before, all.clone()),
            }
            let bytes: usize = all.contents.values().map(Content::bytes).sum();
            prop_assert_eq!(bytes, all.bytes);
        }
    }
}
