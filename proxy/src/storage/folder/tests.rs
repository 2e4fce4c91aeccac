use super::super::tests::NO_FILES;
use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[track_caller]
fn check_refused(dir: &Path, expected: &str) {
    let error = Folder::open(dir).unwrap_err().to_string();
    let base = dir.display().to_string();
    assert_eq!(error.replace(&base, "DIR"), expected);
}

#[test]
fn a_missing_folder_is_made_for_its_owner_alone() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("state");
    let folder = Folder::open(&dir).unwrap();
    assert_eq!((mode(&dir), mode(&folder.rollouts())), (0o700, 0o700));
    assert_eq!((mode(&dir.join(TOKEN)), mode(&dir.join(LOCK))), (0o600, 0o600));
    assert_eq!(folder.warnings(), [""; 0]);
}

#[test]
fn a_second_user_of_a_folder_is_refused_and_told_who_has_it() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("state");
    let folder = Folder::open(&dir).unwrap();
    let me = std::process::id();
    check_refused(
        &dir,
        &format!(
            "the folder DIR is in use by another Serin (process {me}): stop that one, or give this one another `storage.dir`"
        ),
    );
    fs::write(dir.join(LOCK), "process what\n").unwrap();
    check_refused(
        &dir,
        "the folder DIR is in use by another Serin: stop that one, or give this one another `storage.dir`",
    );
    drop(folder);
    Folder::open(&dir).unwrap();
}

#[test]
fn what_is_no_folder_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("file");
    fs::write(&file, "").unwrap();
    check_refused(&file, "DIR is not a folder: move it away, or set `storage.dir` to a folder");
    let below = file.join("state");
    let expected = format!("{} is not a folder: move it away, or set `storage.dir` to a folder", file.display());
    check_refused(&below, &expected);
    let missing = base.path().join("no").join("state");
    let above = base.path().join("no").display().to_string();
    check_refused(
        &missing,
        &format!(
            "DIR cannot be made because the folder {above} does not exist: make that one, or correct `storage.dir`"
        ),
    );
    let dir = base.path().join("taken");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(ROLLOUTS), "").unwrap();
    check_refused(&dir, "DIR/rollouts is not a folder: move it away, or set `storage.dir` to a folder");
}

/// Puts something else than a file in place of each file of the folder: an error, never a panic, never a wait.
#[test]
fn what_is_no_file_in_place_of_a_file_is_refused() {
    for (what, make) in NO_FILES {
        let base = tempfile::tempdir().unwrap();
        make(&base.path().join(LOCK));
        let way_out = "see to the disk, or set `storage.dir` to another one";
        check_refused(base.path(), &format!("DIR/lock cannot be locked, it is {what}, not a file: {way_out}"));
        let base = tempfile::tempdir().unwrap();
        make(&base.path().join(TOKEN));
        // A link is followed, to a device here.
        let what = if what == "a symbolic link" { "a device, a pipe or a socket" } else { what };
        check_refused(base.path(), &format!("DIR/token cannot be read, it is {what}, not a file: {way_out}"));
    }
}

/// The owner of everything may write everywhere, so under that user there is nothing to refuse, and the sentence is
/// checked by the answer of the system alone.
#[test]
fn a_folder_that_may_not_be_written_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("state");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o500)).unwrap();
    if File::create(dir.join("probe")).is_err() {
        let error = Folder::open(&dir).unwrap_err();
        assert!(matches!(&error, StorageError::NotAllowed { path } if path.starts_with(&dir)), "{error}");
    }
    for (kind, expected) in [
        (
            io::ErrorKind::PermissionDenied,
            "/x may not be read and written by the user that Serin runs as: give that user the folder (chown), with mode 0700",
        ),
        (
            io::ErrorKind::ReadOnlyFilesystem,
            "/x is on a file system that is mounted read-only: mount it writable, or set `storage.kind: memory`",
        ),
        (
            io::ErrorKind::StorageFull,
            "there is no space left for /x: make room there, or set `storage.dir` to another disk",
        ),
        (
            io::ErrorKind::QuotaExceeded,
            "there is no space left for /x: make room there, or set `storage.dir` to another disk",
        ),
        (
            io::ErrorKind::Deadlock,
            "/x cannot be written, deadlock: see to the disk, or set `storage.dir` to another one",
        ),
    ] {
        assert_eq!(StorageError::of("written", Path::new("/x"))(kind.into()).to_string(), expected);
    }
}

#[test]
fn a_token_is_made_once() {
    let base = tempfile::tempdir().unwrap();
    let first = Folder::open(base.path()).unwrap().token().to_owned();
    assert_eq!(first.len(), 64);
    assert!(first.bytes().all(|octet| octet.is_ascii_hexdigit()));
    assert_eq!(Folder::open(base.path()).unwrap().token(), first);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(Folder::open(other.path()).unwrap().token(), first);
}

#[track_caller]
fn check_token(text: &[u8], expected: Result<&str, &str>) {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join(TOKEN);
    fs::write(&path, text).unwrap();
    let folder = Folder::open(base.path());
    let why = |error| match error {
        StorageError::Token { why, path: found } if found == path => why,
        other => panic!("{other}"),
    };
    assert_eq!(folder.as_ref().map(Folder::token).map_err(|_| ()), expected.map_err(|_| ()));
    if let Err(expected) = expected {
        assert_eq!(why(folder.unwrap_err()), expected);
    }
}

#[test]
fn a_token_that_is_there_is_read_or_refused() {
    check_token(b"secret\n", Ok("secret"));
    check_token(b" \tsecret", Ok("secret"));
    check_token(b"", Err("it is empty"));
    check_token(b"\n \n", Err("it is empty"));
    check_token("a".repeat(TOKEN_BYTES_MAX).as_bytes(), Ok(&"a".repeat(TOKEN_BYTES_MAX)));
    check_token("a".repeat(TOKEN_BYTES_MAX + 1).as_bytes(), Err("it is too long"));
    check_token(&vec![b'a'; 1 << 20], Err("it is too long"));
    check_token(b"two words", Err("it has other than printable ASCII characters"));
    check_token(b"caf\xc3\xa9", Err("it has other than printable ASCII characters"));
    check_token(b"\xff\0", Err("it has other than printable ASCII characters"));
}

#[test]
fn what_others_may_read_or_write_is_said() {
    let base = tempfile::tempdir().unwrap();
    let folder = Folder::open(base.path()).unwrap();
    assert_eq!(folder.warnings().len(), 0);
    fs::set_permissions(base.path().join(TOKEN), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let warnings = folder.warnings().join("\n").replace(&base.path().display().to_string(), "DIR");
    assert_eq!(
        warnings,
        "the token in DIR/token can be read by other users: chmod 600 it\nother users can write in the folder DIR: chmod 700 it"
    );
}

/// What a mark of `sequences` gives at the next start, after `between` was done to the folder.
fn next_start(sequences: &[(&str, u64)], between: impl FnOnce(&Path)) -> Vec<(String, u64)> {
    let base = tempfile::tempdir().unwrap();
    let folder = Folder::open(base.path()).unwrap();
    folder.begin_writing();
    folder.end(&sequences.iter().map(|&(rollout, sequence)| (rollout.into(), sequence)).collect()).unwrap();
    drop(folder);
    between(base.path());
    let folder = Folder::open(base.path()).unwrap();
    assert!(!base.path().join(MARK).exists(), "a start takes the mark away");
    let mut found: Vec<_> = folder.clean().iter().map(|(rollout, sequence)| (rollout.to_string(), *sequence)).collect();
    found.sort();
    found
}

#[test]
fn a_clean_end_is_believed_once() {
    let marked = [("run", 7), ("world", u64::MAX)];
    let expected = marked.map(|(rollout, sequence)| (rollout.to_owned(), sequence));
    assert_eq!(next_start(&marked, |_| ()), expected);
    // A start that fails, or that writes nothing, leaves the folder as clean as it was.
    assert_eq!(next_start(&marked, |dir| drop(Folder::open(dir).unwrap())), expected);
    assert_eq!(next_start(&marked, |dir| Folder::open(dir).unwrap().begin_writing()), []);
    // Without a token no start: the mark is back after it.
    let without_token = |dir: &Path| {
        let token = fs::read(dir.join(TOKEN)).unwrap();
        fs::write(dir.join(TOKEN), "").unwrap();
        Folder::open(dir).unwrap_err();
        fs::write(dir.join(TOKEN), token).unwrap();
    };
    assert_eq!(next_start(&marked, without_token), expected);
}

#[test]
fn a_mark_of_another_run_says_nothing() {
    let stale = |dir: &Path| {
        let mark = fs::read(dir.join(MARK)).unwrap();
        // A run that was killed.
        Folder::open(dir).unwrap().begin_writing();
        fs::write(dir.join(MARK), mark).unwrap();
    };
    assert_eq!(next_start(&[("world", 7)], stale), []);
    assert_eq!(next_start(&[("world", 7)], |dir| fs::write(dir.join(LOCK), "").unwrap()), []);
    assert_eq!(next_start(&[("world", 7)], |dir| fs::write(dir.join(MARK), "run ").unwrap()), []);
}

#[test]
fn a_mark_cut_at_any_byte_says_nothing_that_it_did_not_say() {
    let marked = [("other", 1_234), ("world", 56_789)];
    let whole = next_start(&marked, |_| ());
    for len in 0.. {
        let mut ended = false;
        let found = next_start(&marked, |dir| {
            let mark = fs::read(dir.join(MARK)).unwrap();
            ended = len > mark.len();
            fs::write(dir.join(MARK), &mark[..len.min(mark.len())]).unwrap();
        });
        assert!(found.iter().all(|line| whole.contains(line)), "{found:?}");
        if ended {
            break;
        }
    }
}
