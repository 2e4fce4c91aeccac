//! Stored dtabs: they route at once, they survive whatever ends the process, and `serin dtab` keeps them as `namerctl` did.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::json;

use super::support::http1::{Client, request};
use super::support::outside::require_peer;
use super::support::serin::{binary as serin_binary, command, project, run};
use super::support::stored::Keeper;
use super::support::{Serin, Upstream, eventually, now};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn check(output: &Output, code: i32, stdout: &str) {
    assert_eq!((output.status.code(), out(output).as_str()), (Some(code), stdout), "{}", err(output));
}

#[test]
fn a_write_that_was_answered_routes_the_next_request() {
    let keeper = Keeper::start();
    assert_eq!(keeper.who(), "404", "a namespace that is not there is an empty dtab");
    for round in 0..20 {
        let version = if round % 2 == 0 { "v1" } else { "v2" };
        keeper.put("web", &format!("/svc/web => /srv/{version}"));
        assert_eq!(keeper.who(), version, "round {round}");
    }
    keeper.put("other", "/svc/web => /srv/v1");
    assert_eq!(keeper.who(), "v2", "another namespace is not read");
    assert_eq!(keeper.ask("DELETE", "/api/1/dtabs/web", &[], "").status, 204);
    assert_eq!(keeper.who(), "404");
    let log = keeper.serin.log();
    assert!(!log.contains("configuration applied"), "the file is not read again");
}

#[test]
fn the_file_wins_over_the_stored_dtab_and_the_request_over_both() {
    let keeper = Keeper::start();
    keeper.put("web", "/svc/web => /srv/v1 ; /srv => /nowhere");
    assert_eq!(keeper.who(), "v1", "the file's /srv is tried first");
    let answer = keeper.serin.get_with("web", "/", &["l5d-dtab: /svc/web => /srv/v2"]);
    assert_eq!(answer.field("x-origin").as_deref(), Some("v2"));
}

#[test]
fn a_split_of_a_stored_dtab_splits() {
    let keeper = Keeper::start();
    keeper.put("web", "/svc/web => 1 * /srv/v1 & 1 * /srv/v2");
    for _ in 0..60 {
        keeper.who();
    }
    assert!(keeper.v1.count() > 5 && keeper.v2.count() > 5, "{} and {}", keeper.v1.count(), keeper.v2.count());
    let metrics = keeper.serin.admin("/metrics").text();
    assert!(
        metrics.contains(r#"serin_split_weight{router="outgoing",split="/svc/web",branch="/srv/v1"} 0.5"#),
        "{metrics}"
    );
    assert!(metrics.contains("serin_dtab_namespaces 1"), "{metrics}");
    assert!(metrics.contains(r#"serin_dtab_writes_total{outcome="updated"} 1"#), "{metrics}");
}

#[test]
fn the_commands_do_what_namerctl_did() {
    let keeper = Keeper::start();
    std::fs::write(keeper.dir().path().join("web.dtab"), "/svc => /srv ; # all\n/svc/web/x => /srv/v1").unwrap();
    check(&keeper.dtab(&["list"]), 0, "");
    check(&keeper.dtab(&["create", "web", "web.dtab"]), 0, "Created web\n");
    check(&keeper.dtab(&["ls"]), 0, "web\n");
    check(&keeper.dtab(&["list", "--json"]), 0, "[\"web\"]\n");
    let pretty = "# version AAAAAAAAAAE=\n/svc        => /srv ;\n/svc/web/x  => /srv/v1 ;\n";
    check(&keeper.dtab(&["get", "web"]), 0, pretty);
    check(&keeper.dtab(&["get", "web", "--pretty"]), 0, pretty);
    check(&keeper.dtab(&["cat", "web", "--pretty=false"]), 0, "/svc=>/srv;/svc/web/x=>/srv/v1;\n");
    let json =
        r#"{"version":"AAAAAAAAAAE=","dtab":[{"prefix":"/svc","dst":"/srv"},{"prefix":"/svc/web/x","dst":"/srv/v1"}]}"#;
    check(&keeper.dtab(&["get", "web", "--json"]), 0, &format!("{json}\n"));
    check(&keeper.dtab(&["get", "web", "-o", "json"]), 0, &format!("{json}\n"));

    std::fs::write(keeper.dir().path().join("web.json"), json.replace("v1", "v2")).unwrap();
    check(&keeper.dtab(&["update", "web", "web.json"]), 0, "Updated web\n");
    let stale = keeper.dtab(&["update", "web", "web.json"]);
    check(&stale, 1, "");
    assert!(err(&stale).contains("AAAAAAAAAAI="), "{}", err(&stale));
    check(&keeper.dtab(&["up", "web", "web.dtab", "--version", "AAAAAAAAAAI="]), 0, "Updated web\n");
    check(&keeper.dtab(&["update", "web", "web.dtab"]), 0, "Updated web\n");
    check(&keeper.dtab(&["update", "new", "web.dtab"]), 0, "Updated new\n");
    check(&keeper.dtab(&["delete", "new"]), 0, "Deleted new\n");
    check(&keeper.dtab(&["rm", "web"]), 0, "Deleted web\n");
    check(&keeper.dtab(&["list"]), 0, "");
}

#[test]
fn the_commands_say_what_went_wrong() {
    let keeper = Keeper::start();
    keeper.put("web", "/a => /b");
    std::fs::write(keeper.dir().path().join("bad.dtab"), "/svc => /srv ;\n/svc = /x").unwrap();
    std::fs::write(keeper.dir().path().join("good.dtab"), "/svc => /srv").unwrap();
    for (arguments, code, part) in [
        (&["get", "wep"][..], 1, "did you mean `web`?"),
        (&["delete", "absent"], 1, "there is no namespace `absent`"),
        (&["create", "web", "serin.yaml"], 1, "serin.yaml:1:1"),
        (&["create", "new", "bad.dtab"], 1, "bad.dtab:2:7\n  |\n2 | /svc = /x\n  |       ^"),
        (&["create", "new", "absent.dtab"], 1, "absent.dtab"),
        (&["update", "web", "good.dtab", "--token", "wrong"], 1, "this is not the token"),
        (&["get"], 2, "<NAME>"),
        (&["update", "web", "x", "--verson", "y"], 2, "--version"),
    ] {
        let output = keeper.dtab(arguments);
        check(&output, code, "");
        assert!(err(&output).contains(part), "{arguments:?}: {part} in {}", err(&output));
    }
    std::fs::write(keeper.dir().path().join("web.dtab"), "/a => /c").unwrap();
    let exists = keeper.dtab(&["create", "web", "web.dtab"]);
    check(&exists, 1, "");
    assert!(err(&exists).contains("serin dtab update"), "{}", err(&exists));
}

#[test]
fn a_dtab_comes_from_standard_input_too() {
    let keeper = Keeper::start();
    let mut command = command(&["dtab", "create", "web", "-"]);
    command.current_dir(keeper.dir().path()).env("SERIN_ADMIN", keeper.serin.admin_address().to_string());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"/svc/web => /srv/v2").unwrap();
    check(&child.wait_with_output().unwrap(), 0, "Created web\n");
    assert_eq!(keeper.who(), "v2");
}

#[test]
fn changes_by_the_admin_server_need_the_token() {
    let keeper = Keeper::start();
    let admin = keeper.serin.admin_address();
    let write = |method: &str, lines: &[&str]| {
        let mut client = Client::connect(admin);
        client.send(request(
            method,
            "/api/v1/dtabs/web",
            &admin.to_string(),
            lines,
            r#"{"dtab": "/svc/web => /srv/v1"}"#,
        ));
        client.read(method)
    };
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(write(method, &[]).status, 401, "{method}");
    }
    let token = std::fs::read_to_string(keeper.dir().path().join("state/token")).unwrap();
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let created = write("POST", &[&bearer]);
    assert_eq!((created.status, created.json()), (200, json!({"version": "AAAAAAAAAAE="})));
    assert_eq!(write("POST", &[&bearer]).status, 409);
    assert_eq!(keeper.serin.admin("/api/v1/dtabs").json(), json!(["web"]));
    let shown = keeper.serin.admin("/api/v1/dtabs/web").json();
    assert_eq!(shown, json!({"version": "AAAAAAAAAAE=", "dtab": [{"prefix": "/svc/web", "dst": "/srv/v1"}]}));
    assert_eq!(write("DELETE", &[&bearer]).status, 200);
    assert_eq!(keeper.serin.admin("/api/v1/dtabs/web").status, 404);
}

#[test]
fn what_was_answered_survives_a_kill_between_writes() {
    let mut keeper = Keeper::start();
    for round in 0_u32..6 {
        let mut answered = [None, None, None];
        let end = now() + std::time::Duration::from_millis(30 + u64::from(round) * 40);
        let mut write = 0;
        while now() < end {
            let name = write % 3;
            keeper.put(&format!("n{name}"), &format!("/a => /r{round}/w{write} ; /b => /c"));
            answered[name] = Some(write);
            write += 1;
        }
        // one more is under way while it dies
        let address = keeper.namerd();
        let under_way = std::thread::spawn(move || {
            let mut client = Client::connect(address);
            let body = "/a => /under/way";
            client.send(request("PUT", "/api/1/dtabs/n0", "localhost", &["Content-Type: application/dtab"], body));
            client.try_read("PUT").is_ok()
        });
        keeper.serin.signal("KILL");
        keeper.serin.wait();
        let was_answered = under_way.join().unwrap();
        keeper = keeper.again();
        for (name, last) in answered.iter().enumerate() {
            let Some(last) = last else { continue };
            let found = keeper.ask("GET", &format!("/api/1/dtabs/n{name}"), &["Accept: application/dtab"], "").text();
            let expected = format!("/a=>/r{round}/w{last};/b=>/c\n");
            let newer = name == 0 && found == "/a=>/under/way\n";
            assert!(
                newer || (found == expected && !(was_answered && name == 0)),
                "round {round}: {found:?}, not {expected:?}"
            );
        }
        assert!(!keeper.serin.log().contains("cannot be read"), "half a file");
    }
}

#[test]
fn a_torn_file_is_loud_and_takes_nothing_with_it() {
    let keeper = Keeper::start();
    keeper.put("web", "/svc/web => /srv/v1");
    keeper.put("torn", "/svc/web => /srv/v2");
    let path = keeper.dir().path().join("state/dtabs/torn.dtab");
    let whole = std::fs::read_to_string(&path).unwrap();
    keeper.serin.signal("KILL");
    std::fs::write(&path, &whole[..whole.len() - 4]).unwrap();
    let keeper = keeper.again();
    assert_eq!(keeper.who(), "v1");
    assert!(keeper.serin.log().contains("torn.dtab: it is not as long as it was"), "{}", keeper.serin.log());
    assert!(keeper.serin.admin("/readyz?verbose").text().contains("[-] the stored dtab torn cannot be read"));
    assert_eq!(keeper.serin.admin("/readyz").status, 200);
    let answer = keeper.ask("GET", "/api/1/dtabs/torn", &[], "");
    assert_eq!((answer.status, answer.text().contains("cannot be read")), (500, true));
    keeper.put("torn", "/svc/web => /srv/v2");
    assert_eq!(keeper.ask("HEAD", "/api/1/dtabs/torn", &[], "").field("etag").as_deref(), Some("AAAAAAAAAAI="));
}

#[test]
fn a_folder_that_cannot_be_written_changes_nothing() {
    let keeper = Keeper::start();
    keeper.put("web", "/svc/web => /srv/v1");
    let (folder, aside) = (keeper.dir().path().join("state/dtabs"), keeper.dir().path().join("aside"));
    std::fs::rename(&folder, &aside).unwrap();
    std::fs::write(&folder, "in its place").unwrap();
    let answer = keeper.ask("PUT", "/api/1/dtabs/web", &["Content-Type: application/dtab"], "/svc/web => /srv/v2");
    assert_eq!((answer.status, answer.text().contains("cannot be written")), (500, true), "{}", answer.text());
    assert_eq!(keeper.ask("DELETE", "/api/1/dtabs/web", &[], "").status, 500);
    assert_eq!(keeper.who(), "v1");
    assert_eq!(keeper.ask("HEAD", "/api/1/dtabs/web", &[], "").field("etag").as_deref(), Some("AAAAAAAAAAE="));
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&aside, &folder).unwrap();
    keeper.put("web", "/svc/web => /srv/v2");
    assert_eq!(keeper.who(), "v2");
}

/// Somebody removes a folder while Serin runs, and makes another in its place or none.
#[track_caller]
fn check_lost_folder(lost: &str, made: &[&str]) {
    let keeper = Keeper::start();
    keeper.put("web", "/svc/web => /srv/v1");
    keeper.put("other", "/svc/x => /srv/v2");
    let at = |name: &str| keeper.dir().path().join(name);
    std::fs::remove_dir_all(at(lost)).unwrap();
    made.iter().for_each(|name| std::fs::create_dir(at(name)).unwrap());
    let checks = keeper.serin.admin("/readyz?verbose");
    assert_eq!(checks.status, 200, "what is known serves");
    assert!(checks.text().contains("[-] stored dtabs: a restart would lose them"), "{}", checks.text());
    assert_eq!(keeper.who(), "v1");
    keeper.put("third", "/a => /b");
    assert!(!keeper.serin.admin("/readyz?verbose").text().contains("[-]"));
    keeper.serin.signal("KILL");
    let keeper = keeper.again();
    assert_eq!(keeper.ask("GET", "/api/1/dtabs", &[], "").text(), "[\"other\",\"third\",\"web\"]\n");
    assert_eq!(keeper.who(), "v1");
}

#[test]
fn dtabs_outlive_the_loss_of_their_folder() {
    check_lost_folder("state/dtabs", &[]);
    check_lost_folder("state", &[]);
    check_lost_folder("state", &["state"]);
    check_lost_folder("state", &["state", "state/dtabs"]);
}

#[test]
fn in_memory_it_works_and_is_gone_with_the_process() {
    let keeper = Keeper::start_with("{kind: memory}", "");
    keeper.put("web", "/svc/web => /srv/v1");
    assert_eq!(keeper.who(), "v1");
    let keeper = keeper.again();
    assert_eq!(keeper.who(), "404");
}

#[test]
fn explain_shows_the_stored_dtab_live_and_from_its_folder() {
    let keeper = Keeper::start();
    keeper.put("web", "/svc/web => /srv/v1");
    let live = keeper.serin.admin("/api/v1/explain?path=/svc/web").json();
    assert_eq!(live["steps"][0]["dentry"], json!({"from": "namespace web", "prefix": "/svc/web", "dst": "/srv/v1"}));
    assert_eq!(live["steps"][1]["dentry"]["from"], "dtab");
    let file = keeper.serin.file();
    let state = keeper.dir().path().join("state");
    let (file, state) = (file.to_str().unwrap(), state.to_str().unwrap());
    let with = run(&["explain", file, "--path", "/svc/web", "--state", state]);
    assert!(with.status.success() && out(&with).contains("(namespace web)"), "{}{}", out(&with), err(&with));
    assert!(out(&with).contains("/#/clusters/v1"));
    let without = run(&["explain", file, "--path", "/svc/web"]);
    assert!(out(&without).contains("no route"), "{}", out(&without));
    assert!(out(&without).contains("the stored dtab `web` is not seen here"), "{}", out(&without));
    assert!(!out(&with).contains("is not seen here"), "{}", out(&with));
}

#[test]
fn interfaces_come_and_go_with_the_file() {
    let keeper = Keeper::start();
    let first = keeper.namerd();
    keeper.put("web", "/svc/web => /srv/v1");
    let mut watch = keeper.watch("/api/1/dtabs?watch=1");
    assert_eq!(watch.next(), "[\"web\"]");
    let text = std::fs::read_to_string(keeper.serin.file()).unwrap();
    let two = text.replace("interfaces: [", "interfaces: [{kind: io.l5d.httpController, ip: 127.0.0.2, port: 0}, ");
    keeper.serin.rewrite(&two);
    eventually("the second interface listens", || keeper.namerd() != first);
    assert_eq!(keeper.ask("GET", "/api/1/dtabs", &[], "").status, 200);
    let ask = |address| Client::connect(address).get("localhost", "/api/1/dtabs", &[]).status;
    assert_eq!(ask(first), 200, "the one that stays is not touched");
    keeper.serin.rewrite(&text.replace("interfaces: [{kind: io.l5d.httpController, ip: 127.0.0.1, port: 0}]\n", ""));
    eventually("the listener is closed", || std::net::TcpStream::connect(first).is_err());
    eventually("the configuration has none", || keeper.serin.admin("/config.json").json().get("interfaces").is_none());
}

#[test]
fn serin_does_not_route_to_its_own_interfaces() {
    let keeper = Keeper::start();
    let own = keeper.namerd();
    keeper.put("web", &format!("/svc/web => /$/inet/{}/{}", own.ip(), own.port()));
    let answer = keeper.serin.get("web", "/api/1/dtabs");
    assert!(answer.status >= 400 && !answer.text().contains("[\"web\"]"), "{} {}", answer.status, answer.text());
}

/// The lines of the example's comment, in their order: curl, and the commands of the binary.
#[test]
fn the_example_gives_what_it_promises() {
    if !require_peer("curl") {
        return;
    }
    let (v1, v2) = (Upstream::named("world-v1"), Upstream::named("world-v2"));
    let text = std::fs::read_to_string(project().join("examples/stored-dtabs.yaml")).unwrap();
    let mut moved = text.replace("\"127.0.0.1:8081\"", &format!("\"{}\"", v1.endpoint()));
    moved = moved.replace("\"127.0.0.1:8082\"", &format!("\"{}\"", v2.endpoint()));
    moved = moved.replace("port: 4140", "port: 0").replace("port: 4180", "port: 0");
    let serin = Serin::start(&format!("{moved}\nadmin: {{ip: 127.0.0.1, port: 0}}\n"));
    let gateway = serin.address_of("gateway");
    let admin = serin.admin_address().to_string();
    let binary = serin_binary().to_str().unwrap().to_owned();
    let comment = text.lines().take_while(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let mut answers = Vec::new();
    for line in comment.filter(|line| line.contains("serin dtab") || line.contains("curl")) {
        let line =
            line.replace("serin dtab", &format!("{binary} dtab")).replace("examples/stored-dtabs.yaml", "serin.yaml");
        let line =
            line.replace("127.0.0.1:4140", &gateway.to_string()).replace("curl ", "curl -sS --fail --max-time 10 ");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &line]).current_dir(serin.dir.path()).env("SERIN_ADMIN", &admin);
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{line}: {}", err(&output));
        answers.push(out(&output));
    }
    let name = |body: &str| serde_json::from_str::<serde_json::Value>(body).unwrap()["name"].clone();
    let [created, first, got, updated, second] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((created.as_str(), updated.as_str()), ("Created world\n", "Updated world\n"));
    assert_eq!((name(first), name(second)), (json!("world-v1"), json!("world-v2")));
    assert_eq!(got, "# version AAAAAAAAAAE=\n/host/world  => /srv/world-v1 ;\n");
}
