use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{self, Receiver};

use tempfile::TempDir;

use super::*;

/// Less than [`POLL`]: what is noticed within it was noticed by an event.
const DEADLINE: Duration = Duration::from_secs(4);

/// Watches `file`, does `change`, and waits until a look sees that `holds`.
fn check_noticed(
    dir: &TempDir,
    file: &str,
    folders: &[&str],
    change: impl FnOnce(&Path),
    holds: impl Fn(&Path) -> bool,
) {
    let root = dir.path();
    let folders = folders.iter().map(|folder| root.join(folder)).collect();
    let (watcher, looks) = watch(root.join(file), folders);
    assert_eq!(watcher.degraded(), None);
    change(root);
    wait_until(&looks, || holds(root));
}

fn watch(file: PathBuf, folders: Vec<PathBuf>) -> (Watcher, Receiver<()>) {
    let (tell, looks) = mpsc::channel();
    let watcher = Watcher::new(file, folders, move || {
        let _ = tell.send(());
    });
    (watcher.unwrap(), looks)
}

fn wait_until(looks: &Receiver<()>, holds: impl Fn() -> bool) {
    loop {
        looks.recv_timeout(DEADLINE).expect("no look in time");
        if holds() {
            return;
        }
    }
}

fn dir_with(file: &str, text: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(file), text).unwrap();
    dir
}

fn reads(file: &'static str, text: &'static str) -> impl Fn(&Path) -> bool {
    move |root| fs::read_to_string(root.join(file)).is_ok_and(|found| found == text)
}

/// A ConfigMap volume: `file -> ..data/file`, `..data -> ..1`.
fn config_map() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("..1")).unwrap();
    fs::write(dir.path().join("..1/file"), "old").unwrap();
    symlink("..1", dir.path().join("..data")).unwrap();
    symlink("..data/file", dir.path().join("file")).unwrap();
    dir
}

fn swap_config_map(root: &Path, old: &str, new: &str, text: &str) {
    fs::create_dir(root.join(new)).unwrap();
    fs::write(root.join(new).join("file"), text).unwrap();
    symlink(new, root.join("..tmp")).unwrap();
    fs::rename(root.join("..tmp"), root.join("..data")).unwrap();
    fs::remove_dir_all(root.join(old)).unwrap();
}

#[test]
fn writing_in_place_is_noticed() {
    let dir = dir_with("file", "old");
    check_noticed(&dir, "file", &[], |root| fs::write(root.join("file"), "new").unwrap(), reads("file", "new"));
}

#[test]
fn renaming_over_the_file_is_noticed() {
    let dir = dir_with("file", "old");
    let change = |root: &Path| {
        fs::write(root.join(".file.tmp"), "new").unwrap();
        fs::rename(root.join(".file.tmp"), root.join("file")).unwrap();
    };
    check_noticed(&dir, "file", &[], change, reads("file", "new"));
}

#[test]
fn a_config_map_swap_is_noticed_again_and_again() {
    let dir = config_map();
    let root = dir.path();
    let (_watcher, looks) = watch(root.join("file"), Vec::new());
    for (old, new) in [("..1", "..2"), ("..2", "..1"), ("..1", "..2")] {
        swap_config_map(root, old, new, new);
        wait_until(&looks, || fs::read_to_string(root.join("file")).is_ok_and(|text| text == new));
    }
}

#[test]
fn a_change_behind_two_symlinks_is_noticed() {
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    for folder in ["etc", "mid", "end"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    fs::write(root.join("end/file"), "old").unwrap();
    symlink(root.join("end/file"), root.join("mid/file")).unwrap();
    symlink("../mid/file", root.join("etc/file")).unwrap();
    check_noticed(
        &dir,
        "etc/file",
        &[],
        |root| fs::write(root.join("end/file"), "new").unwrap(),
        reads("etc/file", "new"),
    );
}

#[test]
fn a_file_that_was_not_there_is_noticed_when_it_comes() {
    let dir = TempDir::new().unwrap();
    check_noticed(&dir, "file", &[], |root| fs::write(root.join("file"), "new").unwrap(), reads("file", "new"));
}

#[test]
fn a_folder_made_anew_is_watched_anew() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::write(dir.path().join("etc/file"), "old").unwrap();
    let (_watcher, looks) = watch(dir.path().join("etc/file"), Vec::new());
    fs::remove_dir_all(dir.path().join("etc")).unwrap();
    wait_until(&looks, || true);
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::write(dir.path().join("etc/file"), "new").unwrap();
    wait_until(&looks, || fs::read_to_string(dir.path().join("etc/file")).is_ok_and(|text| text == "new"));
}

#[test]
fn a_watched_folder_is_noticed_with_folders_made_later() {
    let dir = dir_with("file", "");
    let root = dir.path();
    fs::create_dir(root.join("disco")).unwrap();
    let (_watcher, looks) = watch(root.join("file"), vec![root.join("disco")]);
    fs::create_dir(root.join("disco/sub")).unwrap();
    wait_until(&looks, || true);
    fs::write(root.join("disco/sub/web"), "127.0.0.1 80").unwrap();
    wait_until(&looks, || root.join("disco/sub/web").exists());
}

#[test]
fn reading_the_file_is_no_news() {
    let dir = dir_with("file", "old");
    let (_watcher, looks) = watch(dir.path().join("file"), Vec::new());
    fs::read(dir.path().join("file")).unwrap();
    // Had the read been an event, the look would come with QUIET; the write behind it must be the first one heard.
    fs::write(dir.path().join("other"), "x").unwrap();
    wait_until(&looks, || true);
    assert!(looks.try_recv().is_err());
}

#[test]
fn without_events_the_poll_still_looks() {
    let dir = dir_with("file", "old");
    let (tell, looks) = mpsc::channel();
    let look = move || {
        let _ = tell.send(());
    };
    let no_events = Err(notify::Error::generic("no watches left"));
    let file = dir.path().join("file");
    let watcher =
        Watcher::start(vec![file], Vec::new(), look, no_events, sync_channel(1), Duration::from_millis(5)).unwrap();
    assert_eq!(watcher.degraded(), Some("no watches left"));
    fs::write(dir.path().join("file"), "new").unwrap();
    wait_until(&looks, || fs::read_to_string(dir.path().join("file")).is_ok_and(|text| text == "new"));
}

#[test]
fn a_flood_of_events_does_not_put_off_the_look() {
    let dir = dir_with("file", "old");
    let (_watcher, looks) = watch(dir.path().join("file"), Vec::new());
    let looked = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !looked.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(dir.path().join("file"), "new").unwrap();
                std::thread::yield_now();
            }
        });
        let look = looks.recv_timeout(DEADLINE);
        looked.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(look, Ok(()));
    });
}

#[test]
fn dropping_the_watcher_ends_its_thread() {
    let dir = dir_with("file", "old");
    let (watcher, looks) = watch(dir.path().join("file"), Vec::new());
    drop(watcher);
    // The callback is gone with the thread, and its end of the channel with it.
    while looks.try_recv().is_ok() {}
    assert_eq!(looks.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn a_loop_of_symlinks_ends() {
    let dir = TempDir::new().unwrap();
    symlink("b", dir.path().join("a")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    assert_eq!(folders_on_the_way(&dir.path().join("a")).into_iter().next_back(), Some(dir.path().to_owned()));
}

#[test]
fn symlinks_are_followed_up_to_their_limit() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("end")).unwrap();
    fs::write(dir.path().join("end/file"), "").unwrap();
    let chain = |length: usize| {
        let link = |n: usize| dir.path().join(format!("chain{length}-{n}"));
        symlink(dir.path().join("end/file"), link(0)).unwrap();
        (1..length).for_each(|n| symlink(link(n - 1), link(n)).unwrap());
        folders_on_the_way(&link(length - 1)).contains(&dir.path().join("end"))
    };
    assert!(chain(SYMLINKS_MAX));
    assert!(!chain(SYMLINKS_MAX + 1));
}

#[test]
fn folders_inside_are_found_up_to_their_limits() {
    let dir = TempDir::new().unwrap();
    let deep = (0..=FOLDER_DEPTH_MAX).fold(dir.path().to_owned(), |folder, _| folder.join("d"));
    fs::create_dir_all(&deep).unwrap();
    let mut folders = BTreeSet::new();
    add_folders_inside(dir.path(), 0, &mut folders);
    assert!(folders.contains(deep.parent().unwrap()));
    assert!(!folders.contains(&deep));
    for n in 0..FOLDERS_MAX {
        fs::create_dir(dir.path().join(n.to_string())).unwrap();
    }
    folders.clear();
    add_folders_inside(dir.path(), 0, &mut folders);
    assert_eq!(folders.len(), FOLDERS_MAX);
}
