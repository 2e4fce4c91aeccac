//! What a rollout keeps: over stops, crashes, torn files and full disks.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use super::support::outside::both;
use super::support::rollouts::{Users, act, failing, rollout, steps, until, until_phase, view};
use super::support::serin::{Serin, command};
use super::support::{Setup, Upstream, eventually};

const SLOW: &str = "pace: evidence\nanalysis: {interval: 10m, threshold: 5, stepWeights: [10, 50]}";

struct Stand {
    v1: Upstream,
    v2: Upstream,
    setup: Setup,
}

fn stand(keys: &str) -> Stand {
    let (v1, v2) = (failing(0), failing(0));
    let setup = rollout(&v1.endpoint(), &v2.endpoint(), keys);
    Stand { v1, v2, setup }
}

fn again(serin: Serin, setup: &Setup) -> Serin {
    let dir = Arc::clone(&serin.dir);
    drop(serin); // killed, if it has not ended yet
    Serin::start_in(dir, &setup.text())
}

fn stop(serin: &mut Serin) {
    serin.signal("TERM");
    assert!(serin.wait().success());
}

fn journal(serin: &Serin) -> PathBuf {
    serin.dir.path().join("state/rollouts/world.journal")
}

fn weight(serin: &Serin) -> u64 {
    view(serin)["weight_ppm"].as_u64().unwrap()
}

#[test]
fn an_orderly_stop_loses_nothing() {
    let stand = stand(SLOW);
    let mut serin = stand.setup.start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    assert_eq!(act(&serin, "weight", json!({"weight": "37%"})).status, 200);
    assert_eq!(act(&serin, "pause", json!({})).status, 200);
    stop(&mut serin);
    let serin = again(serin, &stand.setup);
    until(&serin, "it goes on where it was", |view| view["weight_ppm"] == 370_000 && view["paused"] == true);
}

#[test]
fn a_promotion_and_a_rollback_survive_a_kill() {
    let stand = stand(&steps("50"));
    let serin = stand.setup.start();
    let users = Users::start(&serin, 4);
    until_phase(&serin, "promoted");
    drop(users);
    let serin = again(serin, &stand.setup);
    assert_eq!((view(&serin)["phase"].as_str(), weight(&serin)), (Some("promoted"), 1_000_000));
    stand.v1.forget();
    for _ in 0..20 {
        serin.get("world", "/");
    }
    assert_eq!(stand.v1.count(), 0, "the first request after a restart sees the right weights");
    assert_eq!(act(&serin, "undo", json!({})).status, 200);
    let serin = again(serin, &stand.setup);
    assert_eq!((view(&serin)["phase"].as_str(), weight(&serin)), (Some("rolled-back"), 0));
    stand.v2.forget();
    let users = Users::start(&serin, 2);
    eventually("some traffic", || users.sent() > 500);
    assert_eq!(stand.v2.count(), 0, "a known-bad canary does not come back by a restart");
}

#[test]
fn a_kill_at_any_moment_never_leaves_more_weight_than_there_was() {
    let stand = stand(SLOW);
    let mut serin = stand.setup.start();
    for round in 0..12_u32 {
        until(&serin, "a step", |view| view["weight_ppm"].as_u64() > Some(0));
        let users = Users::start(&serin, 2);
        // weights go up and down while it is killed
        let percents: [u64; 5] = [50, 20, 90, 1, 70];
        let victim = serin.admin_address();
        let percent = percents[round as usize % percents.len()];
        assert_eq!(act(&serin, "weight", json!({"weight": format!("{percent}%")})).status, 200);
        let in_force = weight(&serin);
        assert_eq!(in_force, percent * 10_000, "of {victim}");
        serin.signal("KILL");
        drop(users);
        serin.wait();
        let next = again(serin, &stand.setup);
        let after = weight(&next);
        assert!(after <= in_force.min(100_000), "round {round}: {in_force} ppm before, {after} ppm after");
        serin = next;
    }
}

#[test]
fn a_journal_that_cannot_be_read_leaves_the_canary_without_traffic() {
    let stand = stand(SLOW);
    let serin = stand.setup.start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    std::fs::write(journal(&serin), "nonsense\n").unwrap();
    serin.signal("KILL");
    let serin = again(serin, &stand.setup);
    let users = Users::start(&serin, 2);
    eventually("some traffic", || users.sent() > 500);
    let stands = view(&serin);
    assert_eq!((stands["weight_ppm"].as_u64(), &stands["paused"]), (Some(0), &json!(true)), "{stands:#}");
    stand.v2.forget();
    drop(users);
    assert!(serin.log().contains("world"), "it is loud");
    assert_eq!(act(&serin, "start", json!({})).status, 200);
    assert_eq!(act(&serin, "resume", json!({})).status, 200);
    until(&serin, "a person starts it again", |view| view["weight_ppm"] == 100_000);
}

#[test]
fn a_torn_line_at_the_end_is_passed_over() {
    let stand = stand(SLOW);
    let serin = stand.setup.start();
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    assert_eq!(act(&serin, "abort", json!({})).status, 200);
    let file = journal(&serin);
    serin.signal("KILL");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("9 at=17 phase=progressing weight=90% mirr");
    std::fs::write(&file, text).unwrap();
    let serin = again(serin, &stand.setup);
    assert_eq!((view(&serin)["phase"].as_str(), weight(&serin)), (Some("rolled-back"), 0));
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() {
    let stand = stand(SLOW);
    let serin = stand.setup.start();
    let file = serin.dir.path().join("second.yaml");
    std::fs::write(&file, stand.setup.text()).unwrap();
    let output = command(&["run", "second.yaml"]).current_dir(serin.dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = both(&output);
    assert!(said.contains("state") && said.to_lowercase().contains("process"), "{said}");
}

#[test]
fn a_folder_that_cannot_be_written_refuses_the_start() {
    let stand = stand(SLOW);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("state"), "a file").unwrap();
    std::fs::write(dir.path().join("serin.yaml"), stand.setup.text()).unwrap();
    let output = command(&["run", "serin.yaml"]).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(both(&output).contains("state"), "{}", both(&output));
}

/// A file system of 256 KiB, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`: only root may mount.
    fn mount(path: PathBuf) -> Option<SmallDisk> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&path).output().ok()?;
        mounted.status.success().then_some(SmallDisk(path))
    }

    fn fill(&self) {
        let mut size = 256 << 10;
        while size > 0 {
            let bytes = vec![b'x'; size];
            let file = self.0.join(format!("filler-{size}"));
            if std::fs::write(&file, &bytes).is_err() {
                let _ = std::fs::remove_file(&file);
            }
            size /= 2;
        }
    }

    fn empty(&self) {
        for entry in std::fs::read_dir(&self.0).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("filler-") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_raises_and_no_rollback() {
    let stand = stand(SLOW);
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let Some(disk) = SmallDisk::mount(dir.path().join("state")) else {
        println!("skipped: only root may mount a small disk");
        return;
    };
    let serin = Serin::start_in(Arc::clone(&dir), &stand.setup.text());
    until(&serin, "the first step", |view| view["weight_ppm"] == 100_000);
    disk.fill();
    // the last page of the journal has room for a few lines
    let (mut before, mut refused) = (0, None);
    for percent in 11..60 {
        before = weight(&serin);
        let answer = act(&serin, "weight", json!({"weight": format!("{percent}%")}));
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the disk is full");
    assert_eq!((refused.status, weight(&serin)), (503, before), "{}", refused.text());
    assert!(serin.admin("/readyz?verbose").text().contains("world"), "readiness tells of it");
    assert_eq!(act(&serin, "abort", json!({})).status, 200);
    assert_eq!((view(&serin)["phase"].as_str(), weight(&serin)), (Some("rolled-back"), 0));
    disk.empty();
    eventually("the journal has the rollback", || {
        std::fs::read_to_string(journal(&serin)).unwrap_or_default().contains("phase=rolled-back")
    });
    drop(serin);
    let serin = Serin::start_in(dir, &stand.setup.text());
    assert_eq!((view(&serin)["phase"].as_str(), weight(&serin)), (Some("rolled-back"), 0));
}
