//! namerd's HTTP control API: what `namerctl` sends by bytes, every status, compare-and-swap among many, watches.

use super::support::http1::Client;
use super::support::stored::Keeper;
use super::support::{Response, eventually};

const DTAB: &str = "Content-Type: application/dtab";
const JSON: &str = "Content-Type: application/json";
const FIRST: &str = "AAAAAAAAAAE=";

/// What `namerctl` writes on the wire: the fields that it sets, among those that Go's client adds, in the order of that client.
fn namerctl(keeper: &Keeper, method: &str, path: &str, lines: &[&str], body: Option<&str>) -> Response {
    let address = keeper.namerd();
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: Go-http-client/1.1\r\n");
    if let Some(body) = body {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    lines.iter().for_each(|line| text.push_str(&format!("{line}\r\n")));
    text.push_str("Accept-Encoding: gzip\r\n\r\n");
    text.push_str(body.unwrap_or_default());
    let mut client = Client::connect(address);
    client.send(text);
    client.read(method)
}

#[track_caller]
fn check(answer: &Response, status: u16, etag: Option<&str>, body: &str) {
    assert_eq!((answer.status, answer.field("etag").as_deref()), (status, etag), "{}", answer.text());
    assert_eq!(answer.text(), body);
}

#[test]
fn namerctl_works_unchanged() {
    let keeper = Keeper::start();
    let list = || namerctl(&keeper, "GET", "/api/1/dtabs", &["Accept: application/json"], None);
    let get = |form: &str| namerctl(&keeper, "GET", "/api/1/dtabs/default", &[&format!("Accept: {form}")], None);
    check(&list(), 200, None, "[]\n");
    check(&get("application/json"), 404, None, "there is no namespace `default`\n");

    let text = "# the first\n/foo => /bar ;\n/foo/bar/baz => 1 * /bah & 2 * /x ;\n";
    let created = namerctl(&keeper, "POST", "/api/1/dtabs/default", &[DTAB], Some(text));
    check(&created, 204, None, "");
    check(&list(), 200, None, "[\"default\"]\n");
    let json = r#"[{"prefix":"/foo","dst":"/bar"},{"prefix":"/foo/bar/baz","dst":"/bah & 2.00*/x"}]"#;
    check(&get("application/json"), 200, Some(FIRST), &format!("{json}\n"));
    check(&get("application/dtab"), 200, Some(FIRST), "/foo=>/bar;/foo/bar/baz=>/bah & 2.00*/x\n");

    let update = |version: &str, body: &str| {
        let lines = [JSON, &format!("If-Match: {version}")];
        namerctl(&keeper, "PUT", "/api/1/dtabs/default", &lines, Some(body)).status
    };
    assert_eq!(update(FIRST, json), 204);
    assert_eq!(update(FIRST, json), 412);
    check(&get("application/json"), 200, Some("AAAAAAAAAAI="), &format!("{json}\n"));
    assert_eq!(namerctl(&keeper, "DELETE", "/api/1/dtabs/default", &[], None).status, 204);
    assert_eq!(namerctl(&keeper, "DELETE", "/api/1/dtabs/default", &[], None).status, 404);
    check(&list(), 200, None, "[]\n");
}

/// Method, target, lines, body; status, and a part of the body.
type Row = (&'static str, &'static str, &'static [&'static str], &'static str, u16, &'static str);

/// In their order, on one store that has `there` at its first version.
const ROWS: &[Row] = &[
    ("GET", "/api/1/dtabs/", &[], "", 200, "[\"there\"]"),
    ("OPTIONS", "/api/1/dtabs", &[], "", 200, "[\"there\"]"),
    ("HEAD", "/api/1/dtabs/there", &[], "", 200, ""),
    ("HEAD", "/api/1/dtabs/absent", &[], "", 404, ""),
    ("GET", "/api/1/dtabs/absent", &[], "", 404, "no namespace `absent`"),
    ("PATCH", "/api/1/dtabs/there", &[], "", 404, ""),
    ("POST", "/api/1/dtabs/there", &[DTAB], "/a => /b", 409, "exists already"),
    ("POST", "/api/1/dtabs/absent", &[], "/a => /b", 400, "Content-Type"),
    ("POST", "/api/1/dtabs/absent", &["Content-Type: image/png"], "/a => /b", 400, "Content-Type"),
    ("POST", "/api/1/dtabs/absent", &[DTAB], "/a = /b", 400, "line 1, column 5: '>' expected but ' ' found"),
    ("POST", "/api/1/dtabs/absent", &[JSON], "[null]", 400, "entry 1 is `null`"),
    ("POST", "/api/1/dtabs/a%2Fb", &[DTAB], "/a => /b", 400, "a namespace is named by"),
    ("PUT", "/api/1/dtabs/there", &[], "/a => /b", 400, "Content-Type"),
    ("PUT", "/api/1/dtabs/there", &[DTAB], "/a => ", 400, "line 1, column 7"),
    ("PUT", "/api/1/dtabs/absent", &[DTAB, "If-Match: AAAAAAAAAAE="], "/a => /b", 404, "no such namespace"),
    ("PUT", "/api/1/dtabs/there", &[DTAB, "If-Match: AAAAAAAAAAI="], "/a => /b", 412, "which is AAAAAAAAAAE="),
    ("PUT", "/api/1/dtabs/there", &[DTAB, "If-Match: \"AAAAAAAAAAE=\""], "/a => /b", 412, ""),
    ("PUT", "/api/1/dtabs/there", &[DTAB, "If-Match: any"], "/a => /b", 412, ""),
    ("PUT", "/api/1/dtabs/there", &["Content-Type: Text/Plain; charset=utf-8", "If-Match: AAAAAAAAAAE="], "", 204, ""),
    ("PUT", "/api/1/dtabs/new", &[JSON], "[]", 204, ""),
    ("PUT", "/api/1/dtabs/new", &[DTAB], "/a => /b", 204, ""),
    ("DELETE", "/api/1/dtabs/absent", &[], "", 404, "no such namespace"),
    ("DELETE", "/api/1/dtabs/new", &["If-Match: AAAAAAAABAE="], "", 412, ""),
    ("DELETE", "/api/1/dtabs/new", &["If-Match: any"], "", 412, ""),
    ("DELETE", "/api/1/dtabs/new", &[], "", 204, ""),
    ("GET", "/api/1/bind/there", &[], "", 400, "`path` is missing"),
    ("GET", "/api/1/bind/there?path=svc", &[], "", 400, "'/' expected but 's' found"),
    ("GET", "/api/1/bind/there?path=/svc&dtab=x", &[], "", 400, "dtab: '/' expected"),
    ("GET", "/api/1/delegate/there?path=/svc/", &[], "", 400, "path: label char expected"),
    ("GET", "/api/1/delegate?path=/a&dtab=/a=", &[], "", 400, "dtab: "),
    ("PUT", "/api/1/delegate", &[JSON], "{}", 405, "only GET"),
    ("POST", "/api/1/delegate", &[DTAB], "{}", 415, "application/json"),
    ("POST", "/api/1/delegate", &[JSON], "{", 400, "EOF"),
    ("POST", "/api/1/delegate", &[JSON], r#"{"path": "/a"}"#, 400, "missing field `dtab`"),
    ("DELETE", "/api/1/bind/there?path=/svc", &[], "", 405, ""),
    ("GET", "/api/1/bind", &[], "", 404, ""),
    ("GET", "/api/2/dtabs", &[], "", 404, "no such resource"),
    ("GET", "/", &[], "", 404, ""),
    ("POST", "/api/1/dtabs/absent", &[DTAB, "Origin: https://evil.example"], "/a => /b", 403, "web pages"),
    ("GET", "/api/1/dtabs", &[], "", 200, "[\"there\"]"),
];

#[test]
fn every_answer_has_its_status() {
    let keeper = Keeper::start();
    assert_eq!(keeper.ask("POST", "/api/1/dtabs/there", &[DTAB], "/a => /b").status, 204);
    for (method, target, lines, body, status, part) in ROWS {
        let answer = keeper.ask(method, target, lines, body);
        assert_eq!(answer.status, *status, "{method} {target} {lines:?}: {}", answer.text());
        assert!(answer.text().contains(part), "{method} {target}: {part:?} in {:?}", answer.text());
        assert!(answer.body.is_empty() || answer.text().ends_with('\n'), "{method} {target}");
    }
    let head = keeper.ask("HEAD", "/api/1/dtabs/there", &[], "");
    assert_eq!(head.field("etag").as_deref(), Some("AAAAAAAAAAI="));
}

#[test]
fn the_longest_dtab_is_taken_and_a_longer_one_is_not() {
    let keeper = Keeper::start();
    let fits = "/a=>/b;\n".repeat((1 << 20) / 8);
    assert_eq!(keeper.ask("PUT", "/api/1/dtabs/long", &[DTAB], &fits).status, 204);
    let answer = keeper.ask("PUT", "/api/1/dtabs/long", &[DTAB], &format!("{fits} "));
    assert_eq!((answer.status, answer.text().contains("1048576 bytes")), (413, true));
    let huge = "x".repeat((4 << 20) + 1);
    assert_eq!(keeper.ask("PUT", "/api/1/dtabs/long", &[JSON], &huge).status, 413);
    assert_eq!(keeper.ask("HEAD", "/api/1/dtabs/long", &[], "").field("etag").as_deref(), Some(FIRST));
}

#[test]
fn of_many_writers_with_one_version_exactly_one_wins() {
    let keeper = Keeper::start();
    keeper.put("race", "/a => /b");
    for round in 0..10 {
        let version = keeper.ask("HEAD", "/api/1/dtabs/race", &[], "").field("etag").unwrap();
        let write = |writer: usize| {
            let lines = [DTAB.to_owned(), format!("If-Match: {version}")];
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            keeper.ask("PUT", "/api/1/dtabs/race", &lines, &format!("/a => /r{round}/w{writer}")).status
        };
        let write = &write;
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..12).map(|writer| scope.spawn(move || write(writer))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 11, "{statuses:?}");
        let winner = statuses.iter().position(|status| *status == 204).unwrap();
        let now = keeper.ask("GET", "/api/1/dtabs/race", &["Accept: text/plain"], "").text();
        assert_eq!(now, format!("/a=>/r{round}/w{winner}\n"));
    }
}

#[test]
fn a_watch_tells_of_each_change_and_ends_with_the_process() {
    let mut keeper = Keeper::start();
    let mut names = keeper.watch("/api/1/dtabs?watch=true");
    assert_eq!(names.next(), "[]");
    let mut dtab = keeper.watch("/api/1/dtabs/later?watch=1");
    keeper.put("other", "/x => /y");
    assert_eq!(names.next(), r#"["other"]"#);
    keeper.put("later", "/a => /b");
    assert_eq!(dtab.next(), r#"[{"prefix":"/a","dst":"/b"}]"#, "there was nothing before it was created");
    assert_eq!(names.next(), r#"["later","other"]"#);
    keeper.put("later", "/a => /b");
    keeper.put("later", "/a => /c");
    assert_eq!(dtab.next(), r#"[{"prefix":"/a","dst":"/c"}]"#, "an equal document is not told again");
    assert_eq!(keeper.ask("DELETE", "/api/1/dtabs/later", &[], "").status, 204);
    assert_eq!(names.next(), r#"["other"]"#);
    keeper.put("later", "/a => /d");
    assert_eq!(dtab.next(), r#"[{"prefix":"/a","dst":"/d"}]"#, "a deletion tells nothing");
    assert_eq!(names.next(), r#"["later","other"]"#);
    keeper.serin.signal("TERM");
    names.ended();
    dtab.ended();
    assert!(keeper.serin.wait().success());
}

#[test]
fn watches_are_bounded_and_places_are_given_back() {
    let keeper = Keeper::start();
    let open: Vec<_> = (0..512).map(|_| keeper.watch("/api/1/dtabs?watch=t")).collect();
    let answer = keeper.ask("GET", "/api/1/dtabs?watch=t", &[], "");
    assert_eq!((answer.status, answer.text().contains("512 watches of 127.0.0.1")), (503, true));
    assert_eq!(keeper.ask("GET", "/api/1/dtabs", &[], "").status, 200, "who does not watch is served");
    drop(open);
    eventually("a place is free", || {
        keeper.ask("HEAD", "/api/1/dtabs/x?watch=t", &[], "").status == 404 && free(&keeper)
    });
}

/// Megabytes of changes, of which the watcher reads nothing: what waits for it is bounded, and so is its time.
#[test]
fn a_watcher_that_reads_nothing_is_let_go_with_its_connection() {
    let keeper = Keeper::start();
    let dtab = |round: usize| {
        let dentry = |at: usize| format!("/a{at:05} => /b/{}", "x".repeat(120));
        format!("/round => /r{round};{}", (0..5_000).map(dentry).collect::<Vec<_>>().join(";"))
    };
    keeper.put("long", &dtab(0));
    let before = keeper.serin.peak_kib();
    let sockets = || std::fs::read_dir(format!("/proc/{}/fd", keeper.serin.pid())).unwrap().count();
    let mut watches: Vec<_> = (0..4).map(|_| keeper.watch("/api/1/dtabs/long?watch=t")).collect();
    let mut reader = keeper.watch("/api/1/dtabs/long?watch=t");
    reader.next();
    let open = sockets();
    for round in 1..=30 {
        keeper.put("long", &dtab(round));
        assert!(reader.next().contains(&format!("/r{round}\"")), "who reads is told of each change");
    }
    eventually("those who do not are let go", || sockets() <= open - watches.len());
    for watch in &mut watches {
        watch.cut();
    }
    let grown = keeper.serin.peak_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB for four of them, and 80 MiB were told");
    keeper.put("long", "/round => /last");
    assert!(reader.next().contains("/last"), "and who reads goes on");
}

fn free(keeper: &Keeper) -> bool {
    let mut client = Client::connect(keeper.namerd());
    client.send("GET /api/1/dtabs?watch=t HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.read_head().unwrap().first.contains("200")
}
