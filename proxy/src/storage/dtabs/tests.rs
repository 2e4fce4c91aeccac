use super::super::tests::NO_FILES;
use super::*;
use crate::dtabs::{Change, Effect};

fn stored(version: u64, dtab: &str) -> Stored {
    Stored { version: Version::new(version).unwrap(), draft: text::read(dtab.as_bytes()).unwrap() }
}

struct Stand {
    dir: tempfile::TempDir,
    files: DtabFiles,
}

fn stand() -> Stand {
    let dir = tempfile::tempdir().unwrap();
    let files = DtabFiles::open(dir.path()).unwrap();
    Stand { dir, files }
}

impl Stand {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("dtabs").join(name)
    }

    #[track_caller]
    fn check_unreadable(&self, name: &str, part: &str, up_to: u64) {
        let found = self.files.load().unwrap();
        let Some(Content::Unreadable { why, up_to: found }) = found.get(name) else { panic!("{found:?}") };
        assert!(why.contains(part) && why.contains(name), "{part} in {why}");
        assert_eq!(*found, up_to);
    }
}

#[test]
fn what_is_written_reads_back() {
    let stand = stand();
    assert!(stand.files.load().unwrap().is_empty());
    let (a, b) = (stored(1, "/svc => /a | 0.125 * /b & /c"), stored(7, ""));
    stand.files.write("web", &a, None).unwrap();
    stand.files.write("x.new", &b, None).unwrap();
    let found = stand.files.load().unwrap();
    assert_eq!(found.names().map(|name| &**name).collect::<Vec<_>>(), ["web", "x.new"]);
    assert_eq!(found.get("web"), Some(&Content::Readable(a)));
    assert_eq!(found.get("x.new"), Some(&Content::Readable(b)));
    let text = std::fs::read_to_string(stand.path("web.dtab")).unwrap();
    assert!(serin_config::dtab::Dtab::parse(&text).is_ok(), "people and `serin dtab fmt` read it: {text}");
}

#[test]
fn a_file_that_is_not_whole_is_named_and_takes_nothing_with_it() {
    let stand = stand();
    stand.files.write("good", &stored(3, "/a => /b"), None).unwrap();
    let path = stand.path("web.dtab");
    stand.files.write("web", &stored(5, "/a => /b ; /c => /d"), None).unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    let longest = "x".repeat(FILE_BYTES_MAX + 1);
    for (text, part, up_to) in [
        ("", "first line", UNKNOWN),
        ("/a => /b", "first line", UNKNOWN),
        ("# serin dtab 1, version nonsense, bytes 0, sum 0\n", "first line", UNKNOWN),
        (&whole[..whole.len() - 3], "not as long", 5),
        (&whole.replace("/d", "/e"), "not the same", 5),
        (&longest, "too long", UNKNOWN),
    ] {
        std::fs::write(&path, text).unwrap();
        stand.check_unreadable("web", part, up_to);
        assert!(matches!(stand.files.load().unwrap().get("good"), Some(Content::Readable(_))));
    }
}

#[test]
fn what_is_no_file_is_unreadable_and_is_not_waited_for() {
    for (what, make) in NO_FILES {
        let stand = stand();
        make(&stand.path("web.dtab"));
        stand.check_unreadable("web", what, UNKNOWN);
    }
}

#[test]
fn a_mended_namespace_goes_on_behind_all_versions_it_may_have_had() {
    let stand = stand();
    std::fs::write(stand.path("web.dtab"), "torn").unwrap();
    let mut found = stand.files.load().unwrap();
    let effect = found.plan("web", &Change::Put(stored(1, "/a => /b").draft)).unwrap();
    let Effect::Write(new) = &effect else { panic!("{effect:?}") };
    stand.files.write("web", new, found.get("web")).unwrap();
    found.commit("web", &effect);
    assert_eq!(stand.files.load().unwrap(), found);
    assert_eq!(new.version.get(), UNKNOWN + 1);
}

#[test]
fn other_files_in_the_folder_are_let_be() {
    let stand = stand();
    stand.files.write("web", &stored(1, ""), None).unwrap();
    for name in ["web.dtab.new", "README", ".hidden.dtab", "ä.dtab", "a b.dtab"] {
        std::fs::write(stand.path(name), "x").unwrap();
    }
    let found = stand.files.load().unwrap();
    assert_eq!(found.names().map(|name| &**name).collect::<Vec<_>>(), ["web"]);
}

#[test]
fn removing_notes_how_far_versions_are_used_up() {
    let stand = stand();
    stand.files.write("web", &stored(9, ""), None).unwrap();
    stand.files.remove("web", 9, None).unwrap();
    let found = stand.files.load().unwrap();
    assert_eq!(found, Namespaces::new(BTreeMap::new(), 9));
    std::fs::write(stand.path("retired"), "nonsense").unwrap();
    assert_eq!(stand.files.load().unwrap(), Namespaces::new(BTreeMap::new(), UNKNOWN));
}

#[test]
fn a_folder_fills_its_files_and_one_more_is_an_error() {
    let stand = stand();
    for number in 0..DTAB_FILES_MAX {
        std::fs::write(stand.path(&format!("n{number}.dtab")), "x").unwrap();
    }
    assert_eq!(stand.files.load().unwrap().len(), DTAB_FILES_MAX);
    std::fs::write(stand.path("more.dtab"), "x").unwrap();
    assert!(stand.files.load().unwrap_err().to_string().contains(&DTAB_FILES_MAX.to_string()));
}

#[test]
fn something_else_in_place_of_the_folder_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("dtabs"), "x").unwrap();
    assert!(DtabFiles::open(dir.path()).is_err());
}
