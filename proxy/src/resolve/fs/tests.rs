use std::os::unix::fs::symlink;

use proptest::prelude::*;
use serin_config::model::Host;
use tempfile::TempDir;

use super::*;

#[track_caller]
fn check_text(text: &str, expected: Result<&str, (usize, &str)>) {
    let read = parse(text.as_bytes()).map(|targets| shown_targets(&targets));
    let expected = expected.map(str::to_owned).map_err(|(line, text)| BadLine { line, text: text.as_bytes() });
    assert_eq!(read, expected);
}

fn shown_targets(targets: &[Target]) -> String {
    let shown = |target: &Target| match &target.host {
        Host::Ip(ip) => format!("{ip}|{}*{}", target.port, target.weight),
        Host::Name(name) => format!("{name}|{}*{}", target.port, target.weight),
        Host::Unix(path) => format!("{}|*{}", path.display(), target.weight),
    };
    targets.iter().map(shown).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_line_may_name_a_unix_socket() {
    check_text("unix:/run/web.sock\nunix:/run/b.sock * 2 # two", Ok("/run/web.sock|*1 /run/b.sock|*2"));
    check_text("unix:web.sock", Err((1, "unix:web.sock")));
    check_text("unix:", Err((1, "unix:")));
}

#[test]
fn lines_are_addresses() {
    check_text("10.0.0.1 8080\n10.0.0.2\t 8080 * 0.5\n", Ok("10.0.0.1|8080*1 10.0.0.2|8080*0.5"));
    check_text("  Web.Test   80  \r\n::1 80*2\n[::1] 81", Ok("web.test|80*1 ::1|80*2 ::1|81*1"));
}

#[test]
fn blank_lines_and_comments_are_passed_over() {
    check_text("\n# all of them\n 10.0.0.1 80 # the first\n\n", Ok("10.0.0.1|80*1"));
    check_text("", Ok(""));
    check_text("# nobody\n", Ok(""));
}

#[test]
fn one_bad_line_makes_the_file_bad() {
    for line in ["10.0.0.1", "10.0.0.1:80", "10.0.0.1 0", "10.0.0.1 65536", "a b 80", "10.0.0.1 80 81", "127.1 80"] {
        check_text(&format!("10.0.0.9 80\n{line}"), Err((2, line)));
    }
    for line in ["10.0.0.1 80 *", "10.0.0.1 80 * -1", "10.0.0.1 80 * NaN", "10.0.0.1 80 * inf", "* 1"] {
        check_text(line, Err((1, line)));
    }
}

#[test]
fn a_weight_ends_at_its_limit() {
    check_text("10.0.0.1 80 * 1000000", Ok("10.0.0.1|80*1000000"));
    check_text("10.0.0.1 80 * 1000000.1", Err((1, "10.0.0.1 80 * 1000000.1")));
    check_text("10.0.0.1 80 * 0", Ok("10.0.0.1|80*0"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>()) {
        let _ = parse(&bytes);
    }

    #[test]
    fn what_is_written_is_read(port in 1u16.., ip in any::<u32>(), weight in 0.0..1_000_000.0f64) {
        let ip = std::net::Ipv4Addr::from_bits(ip);
        let text = format!("{ip} {port} * {weight}");
        prop_assert_eq!(parse(text.as_bytes()).map(|targets| shown_targets(&targets)), Ok(format!("{ip}|{port}*{weight}")));
    }
}

/// A folder with its namer.
struct Fixture {
    dir: TempDir,
    namer: FsNamer,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let namer = FsNamer::new("/io.l5d.fs".parse().unwrap(), dir.path().to_owned(), Arc::default());
        Self { dir, namer }
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Looks again, then compares all names with their content, and whether names came or went.
    #[track_caller]
    fn check(&mut self, changed: bool, expected: &[(&str, &str)]) {
        assert_eq!(self.namer.refresh(), changed, "did names come or go?");
        let mut found = Vec::new();
        let root = format!("{}/", self.dir.path().display());
        self.namer.each(&mut |name, content| {
            let content = match content {
                Content::Absent(why) | Content::Failed(why) => format!("failed: {}", why.replace(&root, "")),
                Content::Targets(targets) => shown_targets(targets),
            };
            found.push((name.to_string(), content));
        });
        found.sort();
        let expected: Vec<_> = expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        assert_eq!(found, expected);
        assert_eq!(self.namer.names.len(), found.len());
    }

    fn errors(&self) -> u64 {
        self.namer.stats.file_errors.load(Ordering::Relaxed)
    }
}

#[test]
fn files_are_names_and_folders_are_descended() {
    let mut fixture = Fixture::new();
    fixture.write("web", "10.0.0.1 80").write("eu/web", "10.0.0.2 80").write("empty", "");
    fixture.check(true, &[("/empty", ""), ("/eu/web", "10.0.0.2|80*1"), ("/web", "10.0.0.1|80*1")]);
    fixture.check(false, &[("/empty", ""), ("/eu/web", "10.0.0.2|80*1"), ("/web", "10.0.0.1|80*1")]);
}

#[test]
fn create_modify_and_delete_are_seen() {
    let mut fixture = Fixture::new();
    fixture.check(false, &[]);
    fixture.write("web", "10.0.0.1 80");
    fixture.check(true, &[("/web", "10.0.0.1|80*1")]);
    fixture.write("web", "10.0.0.2 80");
    fixture.check(false, &[("/web", "10.0.0.2|80*1")]);
    fs::remove_file(fixture.dir.path().join("web")).unwrap();
    fixture.check(true, &[]);
}

#[test]
fn a_change_that_keeps_the_size_is_seen_after_many_quiet_looks() {
    let mut fixture = Fixture::new();
    fixture.write("web", "10.0.0.1 80");
    fixture.check(true, &[("/web", "10.0.0.1|80*1")]);
    for _ in 0..3 {
        fixture.check(false, &[("/web", "10.0.0.1|80*1")]);
    }
    fixture.write("new", "10.0.0.2 80");
    fs::rename(fixture.dir.path().join("new"), fixture.dir.path().join("web")).unwrap();
    fixture.check(false, &[("/web", "10.0.0.2|80*1")]);
}

#[test]
fn dot_files_and_backups_are_no_names() {
    let mut fixture = Fixture::new();
    fixture.write(".hidden", "x").write("web~", "x").write("a b", "x").write("..2024/web", "x").write("web.v1", "");
    fixture.check(true, &[("/web.v1", "")]);
}

#[test]
fn a_config_map_swap_is_seen() {
    let mut fixture = Fixture::new();
    let root = fixture.dir.path().to_owned();
    fixture.write("..old/web", "10.0.0.1 80").write("..new/web", "10.0.0.2 80");
    symlink("..old", root.join("..data")).unwrap();
    symlink("..data/web", root.join("web")).unwrap();
    fixture.check(true, &[("/web", "10.0.0.1|80*1")]);
    fixture.check(false, &[("/web", "10.0.0.1|80*1")]);
    symlink("..new", root.join("..tmp")).unwrap();
    fs::rename(root.join("..tmp"), root.join("..data")).unwrap();
    fixture.check(false, &[("/web", "10.0.0.2|80*1")]);
}

#[test]
fn a_bad_file_keeps_its_last_good_addresses_and_is_counted_once() {
    let mut fixture = Fixture::new();
    fixture.write("web", "10.0.0.1 80");
    fixture.check(true, &[("/web", "10.0.0.1|80*1")]);
    fixture.write("web", "10.0.0.1 80\noops");
    fixture.check(false, &[("/web", "10.0.0.1|80*1")]);
    fixture.check(false, &[("/web", "10.0.0.1|80*1")]);
    assert_eq!(fixture.errors(), 1);
    fixture.write("web", "10.0.0.3 80");
    fixture.check(false, &[("/web", "10.0.0.3|80*1")]);
}

#[test]
fn a_file_that_was_never_good_is_a_name_that_failed() {
    let mut fixture = Fixture::new();
    fixture.write("web", "\n10.0.0.1:80  # no\n");
    let said = "failed: web:2: malformed address: 10.0.0.1:80  # no, write `ip port`, `name port` or `unix:/path`";
    fixture.check(true, &[("/web", said)]);
}

#[test]
fn a_file_ends_at_its_size_limit() {
    let mut fixture = Fixture::new();
    let line = "10.0.0.1 80\n";
    let text = |bytes: u64| format!("{line}{}", "#".repeat(bytes as usize - line.len()));
    fixture.write("fits", &text(FILE_BYTES_MAX)).write("large", &text(FILE_BYTES_MAX + 1));
    fixture.check(true, &[("/fits", "10.0.0.1|80*1"), ("/large", "failed: large: larger than 500 KB")]);
}

#[test]
fn folders_end_at_their_depth_limit() {
    let mut fixture = Fixture::new();
    let deepest = "d/".repeat(DEPTH_MAX) + "web";
    fixture.write(&deepest, "").write(&format!("d/{deepest}"), "");
    fixture.check(true, &[(&format!("/{deepest}"), "")]);
}

#[test]
fn a_folder_ends_at_its_entry_limit() {
    let fixture = Fixture::new();
    fixture.write("a/b", "").write("c", "");
    for (entries_left, fits) in [(3, true), (2, false)] {
        let mut walk = Walk { entries_left, ..Walk::default() };
        let walked = walk.folder(fixture.dir.path(), &Path::root(), &mut Vec::new());
        assert_eq!(walked.is_ok(), fits, "{walked:?}");
    }
}

#[test]
fn a_link_back_up_is_not_followed_round_and_round() {
    let mut fixture = Fixture::new();
    fixture.write("eu/web", "");
    symlink("..", fixture.dir.path().join("eu/up")).unwrap();
    symlink(".", fixture.dir.path().join("eu/self")).unwrap();
    symlink("nowhere", fixture.dir.path().join("dangling")).unwrap();
    assert!(fixture.namer.refresh());
    assert_eq!(fixture.namer.names.len(), 1, "{:?}", fixture.namer.names);
}

#[test]
fn a_folder_that_cannot_be_read_keeps_its_names() {
    let mut fixture = Fixture::new();
    fixture.write("web", "10.0.0.1 80");
    fixture.check(true, &[("/web", "10.0.0.1|80*1")]);
    let away = fixture.dir.path().with_extension("away");
    fs::rename(fixture.dir.path(), &away).unwrap();
    fixture.check(false, &[("/web", "10.0.0.1|80*1")]);
    fixture.check(false, &[("/web", "10.0.0.1|80*1")]);
    assert_eq!(fixture.errors(), 1);
    fs::rename(&away, fixture.dir.path()).unwrap();
    fixture.check(false, &[("/web", "10.0.0.1|80*1")]);
}

#[test]
fn what_is_no_file_is_no_name() {
    let mut fixture = Fixture::new();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.dir.path().join("socket")).unwrap();
    fixture.check(false, &[]);
}

#[test]
fn one_entry_that_cannot_be_looked_at_holds_up_no_other() {
    let mut fixture = Fixture::new();
    fixture.write("web", "10.0.0.1 80").write("api", "10.0.0.1 81").write("eu/web", "10.0.0.1 82");
    fixture.check(true, &[("/api", "10.0.0.1|81*1"), ("/eu/web", "10.0.0.1|82*1"), ("/web", "10.0.0.1|80*1")]);
    let at = |name: &str| fixture.dir.path().join(name);
    // Links to themselves: nobody may follow them, whoever he is.
    symlink("loop", at("loop")).unwrap();
    fs::remove_file(at("api")).unwrap();
    symlink("api", at("api")).unwrap();
    fs::rename(at("eu"), at(".eu")).unwrap();
    symlink("eu", at("eu")).unwrap();
    fixture.write("web", "10.0.0.2 80");
    fixture.check(false, &[("/api", "10.0.0.1|81*1"), ("/eu/web", "10.0.0.1|82*1"), ("/web", "10.0.0.2|80*1")]);
    fixture.check(false, &[("/api", "10.0.0.1|81*1"), ("/eu/web", "10.0.0.1|82*1"), ("/web", "10.0.0.2|80*1")]);
    assert_eq!(fixture.errors(), 1, "told once");
    fs::remove_file(fixture.dir.path().join("api")).unwrap();
    fs::remove_file(fixture.dir.path().join("eu")).unwrap();
    fixture.check(true, &[("/web", "10.0.0.2|80*1")]);
}
