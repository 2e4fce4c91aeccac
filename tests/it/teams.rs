//! `serin run DIR`: each team within what it owns, and none of them stopped by another.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use super::support::outside::both;
use super::support::scrape::Scrape;
use super::support::serin::run;
use super::support::upstream::Upstream;
use super::support::{Serin, Setup, eventually};

const STORAGE: &str = "storage: {kind: file, dir: ../state}";

/// A folder `config` with a main file and files for teams, as they stand behind `/host/<team>`.
struct Folder {
    dir: Arc<TempDir>,
}

impl Folder {
    fn new(top: &str) -> Folder {
        let folder = Folder { dir: Arc::new(tempfile::tempdir().unwrap()) };
        std::fs::create_dir(folder.path()).unwrap();
        folder.main(top, "");
        folder
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("config")
    }

    fn main(&self, top: &str, dentries: &str) {
        let dtab = format!("/srv => /#/clusters ;\n/host => /srv ;\n/svc => /host ;\n{dentries}");
        self.write("serin", &Setup::new().dtab(&dtab).top(top).text());
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(format!("{name}.yaml")), text).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(format!("{name}.yaml"))).unwrap();
    }

    fn start(&self) -> Serin {
        let mut serin = Serin::spawn(Arc::clone(&self.dir), &["run", "config"], &[]);
        serin.wait_ready();
        serin
    }
}

/// A team that leads its name to its origin.
fn leads(team: &str, to: &Upstream) -> String {
    format!(
        "owns: {{prefixes: [/host/{team}], clusters: [\"{team}*\"]}}\n\
         clusters: {{{team}-v1: {{endpoints: [\"{}\"]}}}}\n\
         routers: [{{label: outgoing, dtab: /host/{team} => /srv/{team}-v1}}]\n",
        to.endpoint()
    )
}

fn answers(serin: &Serin, team: &str) -> Option<String> {
    serin.get(team, "/").field("x-origin")
}

fn wait_answers(serin: &Serin, team: &str, origin: Option<&str>) {
    eventually(&format!("{team} is answered by {origin:?}"), || answers(serin, team).as_deref() == origin);
}

fn wait_state(serin: &Serin, team: &str, state: &str) {
    eventually(&format!("{team} is {state}"), || {
        Scrape::of(serin).sum("serin_team_state", &[("team", team), ("state", state)]) == 1.0
    });
}

fn teams_json(serin: &Serin) -> Value {
    serde_json::from_str(&serin.admin("/teams.json").text()).unwrap()
}

#[test]
fn a_broken_team_file_stops_nobody_while_others_are_served() {
    let (web, api, new) = (Upstream::named("web"), Upstream::named("api"), Upstream::named("new"));
    let folder = Folder::new("");
    folder.write("web", &leads("web", &web));
    folder.write("api", &leads("api", &api));
    let serin = folder.start();
    let done = AtomicBool::new(false);
    let served = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut served = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(answers(&serin, "api").as_deref(), Some("api"));
                served += 1;
            }
            served
        });
        folder.write("web", "owns: {prefixes: [/host/web]}\nroutres: []\n");
        wait_state(&serin, "web", "last-good");
        wait_answers(&serin, "web", Some("web"));
        let verbose = serin.admin("/readyz?verbose").text();
        assert!(verbose.contains("[-] team web: its file is rejected, its last good version serves"), "{verbose}");
        assert!(verbose.contains("config/web.yaml:2:1") && verbose.contains("`routres`"), "{verbose}");
        assert!(verbose.contains("[+] team api"), "{verbose}");
        assert_eq!(teams_json(&serin)[1]["state"], "last-good");
        folder.write("web", &leads("web", &new));
        wait_state(&serin, "web", "current");
        wait_answers(&serin, "web", Some("new"));
        done.store(true, Ordering::Relaxed);
        traffic.join().unwrap()
    });
    assert!(served > 0);
    let scrape = Scrape::of(&serin);
    assert!(scrape.sum("serin_team_last_good_timestamp_seconds", &[("team", "web")]) > 1e9);
    assert_eq!(scrape.sum("serin_team_state", &[("team", "web"), ("state", "last-good")]), 0.0);
}

#[test]
fn what_a_team_owns_is_not_taken_by_a_file_that_sorts_first() {
    let (web, thief) = (Upstream::named("web"), Upstream::named("thief"));
    let folder = Folder::new("");
    folder.write("web", &leads("web", &web));
    let serin = folder.start();
    folder.write("a", &leads("web", &thief));
    wait_state(&serin, "a", "out");
    assert_eq!(answers(&serin, "web").as_deref(), Some("web"));
    let report = teams_json(&serin)[0]["report"].as_str().unwrap().to_owned();
    assert!(report.contains("`/host/web` belongs to another team already"), "{report}");
    assert!(report.contains("config/a.yaml:1:") && report.contains("config/web.yaml:1:"), "both places: {report}");
    // What its owner leaves is free.
    folder.remove("web");
    wait_state(&serin, "a", "current");
    wait_answers(&serin, "web", Some("thief"));
}

/// The main file leads `/svc` to `/host`: who has `/svc/web`, or the host `web`, has what comes to `/host/web`.
#[test]
fn what_the_main_file_leads_to_a_team_is_not_taken_on_the_way() {
    let (web, thief) = (Upstream::named("web"), Upstream::named("thief"));
    let folder = Folder::new("");
    folder.write("web", &leads("web", &web));
    let serin = folder.start();
    wait_answers(&serin, "web", Some("web"));
    let path = folder.path().display().to_string();
    let clusters = format!("clusters: {{evil: {{endpoints: [\"{}\"]}}}}\n", thief.endpoint());
    let routes = |what: &str| format!("routers: [{{label: outgoing, {what}}}]\n");
    for (owned, writes) in [
        ("prefixes: [/svc/web]", routes("dtab: /svc/web => /srv/evil")),
        ("prefixes: [/srv/web-v1]", routes("dtab: /srv/web-v1 => /#/clusters/evil")),
        ("hosts: [web]", routes("rules: [{match: {host: web}, name: /srv/evil}]")),
        ("hosts: [web]", routes("overrides: [{when: {method: GET}, dtab: /svc/web => /srv/evil}]")),
    ] {
        folder.write("a", &format!("owns: {{{owned}, clusters: [evil]}}\n{clusters}{writes}"));
        eventually(&format!("`{owned}` is refused"), || {
            let teams = teams_json(&serin);
            let report = teams[0]["report"].as_str().unwrap_or_default().to_owned();
            let what = owned.split_once('[').map_or(owned, |(_, what)| what.trim_end_matches(']'));
            teams[0]["state"] == "out" && report.contains(&format!("`{what}` belongs to another team already"))
        });
        assert_eq!(answers(&serin, "web").as_deref(), Some("web"), "{owned}");
        let output = run(&["validate", &path]);
        let text = both(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        // Without anybody who has served, the file that sorts first has it.
        for part in ["belongs to another team already", "web.yaml:1:", "a.yaml:1:"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }
}

#[test]
fn files_come_and_go() {
    let (web, api) = (Upstream::named("web"), Upstream::named("api"));
    let folder = Folder::new("");
    folder.write("web", &leads("web", &web));
    let serin = folder.start();
    wait_answers(&serin, "api", None);
    folder.write("api", &leads("api", &api));
    wait_answers(&serin, "api", Some("api"));
    folder.remove("api");
    wait_answers(&serin, "api", None);
    eventually("no series of a team that is gone", || {
        Scrape::of(&serin).sum("serin_team_state", &[("team", "api")]) == 0.0
    });
    assert_eq!(answers(&serin, "web").as_deref(), Some("web"));
}

#[test]
fn a_file_that_ends_in_yml_is_a_team_too_and_two_of_one_name_are_told() {
    let (web, other) = (Upstream::named("web"), Upstream::named("other"));
    let folder = Folder::new("");
    let yml = folder.path().join("web.yml");
    std::fs::write(&yml, leads("web", &web)).unwrap();
    let serin = folder.start();
    wait_answers(&serin, "web", Some("web"));
    folder.write("web", &leads("web", &other));
    wait_state(&serin, "web", "last-good");
    let report = teams_json(&serin)[0]["report"].as_str().unwrap().to_owned();
    assert!(report.contains("web.yaml and") && report.contains("are both the file of the team `web`"), "{report}");
    assert_eq!(answers(&serin, "web").as_deref(), Some("web"));
    let output = run(&["validate", &folder.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(both(&output).contains("are both the file of the team `web`"), "{}", both(&output));
    std::fs::remove_file(yml).unwrap();
    wait_answers(&serin, "web", Some("other"));
}

/// As a ConfigMap is mounted: every file is a link into `..data`, which is a link that is swapped.
#[test]
fn a_symlink_swap_of_the_whole_folder_is_noticed() {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let folder = Folder::new("");
    let main = std::fs::read_to_string(folder.path().join("serin.yaml")).unwrap();
    folder.remove("serin");
    let put = |turn: usize, files: &[(&str, String)]| {
        let inside = format!("..2024_{turn}");
        std::fs::create_dir(folder.path().join(&inside)).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(&inside).join(name), text).unwrap();
        }
        std::os::unix::fs::symlink(&inside, folder.path().join("..data_tmp")).unwrap();
        std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
        for (name, _) in files {
            let _ = std::os::unix::fs::symlink(Path::new("..data").join(name), folder.path().join(name));
        }
    };
    put(1, &[("serin.yaml", main.clone()), ("web.yaml", leads("web", &one))]);
    let serin = folder.start();
    wait_answers(&serin, "web", Some("one"));
    put(2, &[("serin.yaml", main), ("web.yaml", leads("web", &two))]);
    wait_answers(&serin, "web", Some("two"));
}

#[test]
fn a_restart_with_a_broken_file_keeps_the_last_good_version() {
    let (web, api) = (Upstream::named("web"), Upstream::named("api"));
    let folder = Folder::new(STORAGE);
    folder.write("web", &leads("web", &web));
    folder.write("api", &leads("api", &api));
    let first = folder.start();
    wait_answers(&first, "web", Some("web"));
    drop(first);
    folder.write("web", "owns: [broken");
    let second = folder.start();
    wait_state(&second, "web", "last-good");
    assert_eq!(answers(&second, "web").as_deref(), Some("web"));
    assert_eq!(answers(&second, "api").as_deref(), Some("api"));
    drop(second);
    // A team that is gone is forgotten: with its file comes no old version back.
    folder.remove("web");
    let third = folder.start();
    wait_answers(&third, "web", None);
    drop(third);
    folder.write("web", "owns: [broken");
    let fourth = folder.start();
    wait_state(&fourth, "web", "out");
}

#[test]
fn without_storage_a_start_goes_without_a_broken_team_and_says_so() {
    let api = Upstream::named("api");
    let folder = Folder::new("");
    folder.write("web", "owns: [broken");
    folder.write("api", &leads("api", &api));
    let serin = folder.start();
    assert_eq!(answers(&serin, "api").as_deref(), Some("api"));
    assert_eq!(serin.get("web", "/").status, 404);
    wait_state(&serin, "web", "out");
    let verbose = serin.admin("/readyz?verbose").text();
    assert!(verbose.contains("[-] team web: its file is rejected, and no version of it serves"), "{verbose}");
    assert!(serin.log().contains("team file rejected, and no version of it serves"));
}

#[test]
fn a_main_file_that_would_take_a_team_out_changes_nothing() {
    let (web, api) = (Upstream::named("web"), Upstream::named("api"));
    let folder = Folder::new("");
    folder.write("web", &leads("web", &web));
    let serin = folder.start();
    folder.write("api", &leads("api", &api));
    wait_answers(&serin, "api", Some("api"));
    // Now the main file writes what the team owns.
    folder.main("", "/host/web/x => ! ;\n");
    eventually("the main file is refused", || {
        let verbose = serin.admin("/readyz?verbose").text();
        verbose.contains("leaves no version of the team `web` that works")
            && verbose.contains("belongs to the main file")
    });
    assert_eq!(answers(&serin, "web").as_deref(), Some("web"));
    folder.remove("web");
    wait_answers(&serin, "web", None);
}

#[test]
fn rules_of_a_team_take_requests_for_its_hosts_and_no_others() {
    let (web, api) = (Upstream::named("web"), Upstream::named("api"));
    let folder = Folder::new("");
    let with_rule = |team: &str, to: &Upstream, hosts: &str, host: &str| {
        let owned = leads(team, to).replacen("prefixes", &format!("hosts: [{hosts}], prefixes"), 1);
        let rule = format!("rules: [{{match: {{host: \"{host}\"}}, name: /svc/{team}}}]");
        owned.replacen("label: outgoing", &format!("label: outgoing, {rule}"), 1)
    };
    folder.write("api", &with_rule("api", &api, "api.example.com", "api.example.com"));
    folder.write("web", &with_rule("web", &web, "\"*.web.example.com\"", "*.web.example.com"));
    let serin = folder.start();
    assert_eq!(answers(&serin, "API.example.com").as_deref(), Some("api"));
    assert_eq!(answers(&serin, "eu.web.example.com").as_deref(), Some("web"));
    assert_eq!(answers(&serin, "web.example.com"), None);
    // A rule for what is another team's leaves all as it was.
    folder.write("web", &with_rule("web", &web, "\"*.web.example.com\"", "api.example.com"));
    wait_state(&serin, "web", "last-good");
    let report = teams_json(&serin)[1]["report"].as_str().unwrap().to_owned();
    assert!(report.contains("requests for `api.example.com` are not owned by this file"), "{report}");
    assert_eq!(answers(&serin, "api.example.com").as_deref(), Some("api"));
    assert_eq!(answers(&serin, "eu.web.example.com").as_deref(), Some("web"));
}

#[test]
fn validate_tells_who_is_in_conflict_with_whom() {
    let (web, api) = (Upstream::named("web"), Upstream::named("api"));
    let folder = Folder::new("");
    folder.write("web", &leads("web", &web));
    folder.write("api", &leads("api", &api));
    let path = folder.path().display().to_string();
    let good = run(&["validate", &path]);
    assert!(good.status.success(), "{}", both(&good));
    assert_eq!(String::from_utf8_lossy(&good.stdout).lines().count(), 3, "a line for each file");
    folder.write("zeal", "owns: {prefixes: [/host/web, /host/api/v1]}\nadmin: {port: 1}\n");
    let bad = run(&["validate", &path]);
    assert_eq!(bad.status.code(), Some(1));
    let text = both(&bad);
    for part in ["zeal.yaml:1:19", "web.yaml:1:19", "zeal.yaml:1:30", "api.yaml:1:19", "zeal.yaml:2:1", "web.yaml: ok"]
    {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    let json = run(&["validate", &path, "-o", "json"]);
    let files: Value = serde_json::from_slice(&json.stdout).unwrap();
    let zeal =
        files.as_array().unwrap().iter().find(|file| file["file"].as_str().unwrap().ends_with("zeal.yaml")).unwrap();
    assert_eq!(zeal["ok"], false);
    let related = zeal["diagnostics"][0]["related"].clone();
    assert!(related["file"].as_str().unwrap().ends_with("web.yaml"), "{zeal}");
    assert_eq!((&related["line"], &related["column"]), (&1.into(), &19.into()));
}

#[test]
fn explain_knows_the_teams_of_a_folder() {
    let web = Upstream::named("web");
    let folder = Folder::new("");
    folder.write("web", &leads("web", &web));
    folder.write("bad", "owns: 1");
    let output = run(&["explain", &folder.path().display().to_string(), "-H", "Host: web"]);
    let text = both(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("/#/clusters/web-v1") && text.contains("without the team file of `bad`"), "{text}");
}

#[test]
fn a_folder_without_a_main_file_is_refused_with_advice() {
    let folder = Folder::new("");
    folder.remove("serin");
    folder.write("a", "owns: {}\n");
    folder.write("b", "owns: {}\n");
    let output = run(&["validate", &folder.path().display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(both(&output).contains("call the main one serin.yaml"), "{}", both(&output));
}

/// Whoever reads a pipe without a writer waits for ever, and with the control thread waits every reload.
#[test]
fn a_pipe_in_the_folder_stops_nobody() {
    let (web, new) = (Upstream::named("web"), Upstream::named("new"));
    let folder = Folder::new("");
    folder.write("web", &leads("web", &web));
    let mut serin = folder.start();
    let made = std::process::Command::new("mkfifo").arg(folder.path().join("a.yaml")).status().unwrap();
    assert!(made.success());
    wait_state(&serin, "a", "out");
    folder.write("web", &leads("web", &new));
    wait_answers(&serin, "web", Some("new"));
    assert!(teams_json(&serin)[0]["report"].as_str().unwrap().contains("it is no plain file"));
    serin.signal("TERM");
    assert!(serin.wait().success());
}

/// A file that is refused for what it wants is still there, and no reason to refuse the next edit of who has it.
#[test]
fn who_wants_a_name_in_vain_holds_up_no_edit_of_its_owner() {
    let (web, new) = (Upstream::named("web"), Upstream::named("new"));
    let rollout = |team: &str, name: &str| {
        let arms = format!("primary: /srv/{team}-v1, canary: /$/inet/127.0.0.1/1");
        format!("rollouts: [{{name: {name}, router: outgoing, path: /host/{team}, {arms}, suspend: true}}]\n")
    };
    let folder = Folder::new("storage: {kind: memory}");
    folder.write("web", &(leads("web", &web) + &rollout("web", "web")));
    folder.write("a", &(leads("a", &web) + &rollout("a", "a")));
    let serin = folder.start();
    folder.write("a", &(leads("a", &web) + &rollout("a", "web")));
    wait_state(&serin, "a", "last-good");
    folder.write("web", &(leads("web", &new) + &rollout("web", "web")));
    wait_answers(&serin, "web", Some("new"));
    wait_state(&serin, "web", "current");
    wait_state(&serin, "a", "last-good");
}
