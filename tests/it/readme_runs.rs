//! README and examples are true: every block says how it is tested, and is.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use super::support::http1::get;
use super::support::outside::both;
use super::support::serin::{binary, project, run};
use super::support::{Serin, Upstream};

/// A fenced block with its mark, and the `text` block right behind it, which shows what it prints.
#[derive(Debug)]
struct Block {
    line: usize,
    language: String,
    mark: Option<String>,
    text: String,
}

fn readme() -> String {
    std::fs::read_to_string(project().join("README.md")).unwrap()
}

fn blocks(readme: &str) -> Vec<Block> {
    let (mut found, mut mark, mut open): (Vec<Block>, Option<String>, Option<Block>) = (Vec::new(), None, None);
    for (at, line) in readme.lines().enumerate() {
        match open.take() {
            Some(block) if line == "```" => found.push(block),
            Some(mut block) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            None if line.starts_with("```") => {
                let language = line.trim_start_matches('`').to_owned();
                open = Some(Block { line: at + 1, language, mark: mark.take(), text: String::new() });
            }
            None => {
                mark = line.strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix(" -->")).map(str::to_owned)
            }
        }
    }
    assert!(open.is_none(), "a block without end");
    found
}

fn marked(mark: &str) -> Vec<Block> {
    blocks(&readme()).into_iter().filter(|block| block.mark.as_deref() == Some(mark)).collect()
}

/// Runs a block as a user would: in the folder of the project, with `serin` at hand; the first failure ends it.
fn run_block(block: &Block) -> Output {
    let tools = tempfile::tempdir().unwrap();
    symlink(binary(), tools.path().join("serin")).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", &block.text]).current_dir(project());
    shell.env("PATH", format!("{}:{path}", tools.path().display())).env_remove("SERIN_ADMIN");
    shell.output().expect("sh runs")
}

#[test]
fn every_block_says_how_it_is_tested() {
    let blocks = blocks(&readme());
    assert!(blocks.len() > 5, "README has blocks");
    for block in blocks.iter().filter(|block| ["sh", "yaml"].contains(&block.language.as_str())) {
        let mark = block.mark.as_deref().unwrap_or_else(|| panic!("README.md:{} has no mark", block.line));
        let reason = mark.strip_prefix("skip: ").is_some_and(|reason| reason.len() > 5);
        let fits = match block.language.as_str() {
            "sh" => mark == "run" || reason,
            _ => mark == "validate" || reason,
        };
        assert!(fits, "README.md:{}: `{mark}` above {}", block.line, block.language);
    }
    for block in blocks.iter().filter(|block| block.mark.is_some()) {
        assert!(["sh", "yaml"].contains(&block.language.as_str()), "README.md:{}: a mark of nothing", block.line);
    }
}

#[test]
fn every_shell_block_runs() {
    let blocks = marked("run");
    assert!(!blocks.is_empty());
    for block in blocks {
        let output = run_block(&block);
        assert!(output.status.success(), "README.md:{}: {}\n{}", block.line, output.status, both(&output));
        assert!(!output.stdout.is_empty(), "README.md:{} prints something", block.line);
    }
}

/// A `text` block that follows a block that runs is what that one prints.
#[test]
fn shown_output_is_the_output() {
    let blocks = blocks(&readme());
    let mut compared = 0;
    for pair in blocks.windows(2).filter(|pair| pair[0].mark.as_deref() == Some("run") && pair[1].language == "text") {
        let printed = String::from_utf8(run_block(&pair[0]).stdout).unwrap();
        assert!(printed.contains(pair[1].text.trim_end()), "README.md:{}:\n{printed}", pair[1].line);
        compared += 1;
    }
    assert!(compared > 0, "README shows what a command prints");
}

#[test]
fn every_configuration_is_valid() {
    let blocks = marked("validate");
    assert!(!blocks.is_empty());
    let dir = tempfile::tempdir().unwrap();
    for block in blocks {
        let file = dir.path().join(format!("line-{}.yaml", block.line));
        std::fs::write(&file, &block.text).unwrap();
        check_valid(&file);
    }
}

fn check_valid(file: &Path) {
    let output = run(&["validate", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}: {}", file.display(), both(&output));
}

/// README prints examples/hello.yaml without its comments (and without what is default).
#[test]
fn the_first_file_is_the_hello_example() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("readme.yaml");
    std::fs::write(&file, &marked("validate")[0].text).unwrap();
    let example = project().join("examples/hello.yaml");
    let explain = |file: &Path, host: &str| {
        let output = run(&["explain", file.to_str().unwrap(), "-H", &format!("Host: {host}"), "-o", "json"]);
        String::from_utf8(output.stdout).unwrap()
    };
    for host in ["hello", "world", "nobody"] {
        assert_eq!(explain(&file, host), explain(&example, host));
    }
}

#[test]
fn links_lead_somewhere() {
    let readme = readme();
    let anchors: Vec<String> = readme.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    for (at, _) in readme.match_indices("](") {
        let target = readme[at + 2..].split(')').next().unwrap();
        if let Some(name) = target.strip_prefix('#') {
            assert!(anchors.iter().any(|anchor| anchor == name), "no section {target}");
        } else if !target.contains("://") {
            assert!(project().join(target).exists(), "no file {target}");
        }
    }
}

/// The commands of a text that begin with `serin`, each to its end, without comments.
fn commands(text: &str) -> Vec<String> {
    let ends = |c: char| ";|<>&#".contains(c);
    let (mut found, mut quote) = (Vec::new(), None);
    for line in text.lines() {
        let parts = line.split(|c: char| {
            match quote {
                Some(open) if open == c => quote = None,
                None if c == '\'' || c == '"' => quote = Some(c),
                _ => {}
            }
            quote.is_none() && ends(c)
        });
        found.extend(parts.map(|part| part.trim().to_owned()).filter(|part| part.starts_with("serin ")));
        quote = None;
    }
    found
}

/// Also those that no test can run as they stand: with `--help` behind it, a command that is understood ends well.
#[test]
fn every_command_shown_is_understood() {
    let mut shown: Vec<(String, String)> = Vec::new();
    for block in blocks(&readme()).iter().filter(|block| block.language == "sh") {
        let found = commands(&block.text).into_iter();
        shown.extend(found.map(|command| (format!("README.md:{}", block.line), command)));
    }
    for folder in ["examples", "examples/teams"] {
        for entry in std::fs::read_dir(project().join(folder)).unwrap().map(Result::unwrap) {
            let Ok(text) = std::fs::read_to_string(entry.path()) else { continue }; // a folder
            let comments: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('#')).map(str::trim).collect();
            let found = commands(&comments.join("\n")).into_iter();
            shown.extend(found.map(|command| (entry.path().display().to_string(), command)));
        }
    }
    assert!(shown.len() > 30, "commands are found: {shown:?}");
    for (place, command) in shown {
        let text = format!("{} --help", command.replace('…', ""));
        let output = run_block(&Block { line: 0, language: "sh".to_owned(), mark: None, text });
        assert!(output.status.success(), "{place}: {command}\n{}", both(&output));
    }
}

fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The example on free ports, with its endpoints at origins of the test.
fn check_example(name: &str, router: &str, asked: &[(&str, &[&str])]) {
    let origins = [Upstream::named("8080"), Upstream::named("8081"), Upstream::named("8082")];
    let mut text = std::fs::read_to_string(project().join("examples").join(name)).unwrap();
    for (origin, port) in origins.iter().zip(["8080", "8081", "8082"]) {
        text = text.replace(&format!("127.0.0.1:{port}\""), &format!("{}\"", origin.endpoint()));
    }
    for port in ["4140", "9990", "8000"] {
        text = text.replace(&format!("port: {port}"), "port: 0");
    }
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("serin.yaml"), text).unwrap();
    let mut serin = Serin::spawn(dir, &["run", "serin.yaml"], &[("SERIN_ADMIN", "127.0.0.1:0")]);
    serin.wait_ready();
    let mut address = serin.address_of(router);
    address.set_ip([127, 0, 0, 1].into());
    for (host, origins) in asked {
        let answer = get(address, host, "/", &[]);
        assert_eq!(answer.status, 200, "{name} {host}: {}", answer.text());
        let origin = answer.field("x-origin").unwrap();
        assert!(origins.contains(&origin.as_str()), "{name} {host}: {origin}");
    }
    assert_eq!(get(address, "no.such.host.invalid", "/", &[]).status / 100, if router == "outgoing" { 5 } else { 4 });
}

#[test]
fn every_example_is_valid() {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(project().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue; // the dashboard, which has a test of its own
        }
        check_valid(&path);
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    let rollouts = ["ab.yaml", "bluegreen.yaml", "mirror.yaml", "rollout-flagger.yaml", "rollout.yaml"];
    let mut known = [
        "consul.yaml",
        "dogfood-cookie.yaml",
        "hello.yaml",
        "http-proxy.yaml",
        "ingress.yaml",
        "rules.yaml",
        "stored-dtabs.yaml",
    ]
    .to_vec();
    known.extend(rollouts);
    known.sort_unstable();
    assert_eq!(names, known);
}

#[test]
fn hello_runs() {
    check_example("hello.yaml", "gateway", &[("hello", &["8080"]), ("world", &["8081", "8082"])]);
}

#[test]
fn dogfood_cookie_runs() {
    check_example("dogfood-cookie.yaml", "gateway", &[("world", &["8081"])]);
}

#[test]
fn http_proxy_runs() {
    check_example("http-proxy.yaml", "outgoing", &[("hello", &["8080"]), ("world", &["8082"])]);
}

#[test]
fn ingress_runs() {
    let asked: &[(&str, &[&str])] =
        &[("www.example.com", &["8080"]), ("example.com", &["8080"]), ("api.example.com", &["8081", "8082"])];
    check_example("ingress.yaml", "ingress", asked);
}
