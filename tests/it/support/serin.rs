//! The real binary as a child process.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;
use tempfile::TempDir;

use super::http1::{Response, get};
use super::{eventually, eventually_some};

/// A running proxy; killed when dropped, its log printed if the test failed.
pub(crate) struct Serin {
    child: Child,
    log: Log,
    /// Its folder, with the configuration file in it.
    pub(crate) dir: Arc<TempDir>,
}

/// Lines of stderr and stdout so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Serin {
    /// Starts with this file and waits until it is ready.
    pub(crate) fn start(text: &str) -> Serin {
        Serin::start_in(Arc::new(tempfile::tempdir().unwrap()), text)
    }

    /// The same in a folder that holds more than the file.
    pub(crate) fn start_in(dir: Arc<TempDir>, text: &str) -> Serin {
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let mut serin = Serin::spawn(dir, &["run", FILE], &[]);
        serin.wait_ready();
        serin
    }

    /// Starts any command in the folder and waits for nothing.
    pub(crate) fn spawn(dir: Arc<TempDir>, arguments: &[&str], environment: &[(&str, &str)]) -> Serin {
        let mut command = command(arguments);
        command.current_dir(dir.path()).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let log = Log::default();
        log.follow(child.stderr.take().unwrap());
        log.follow(child.stdout.take().unwrap());
        Serin { child, log, dir }
    }

    /// Waits for the line that says so.
    pub(crate) fn wait_ready(&mut self) {
        let (child, log) = (&mut self.child, &self.log);
        eventually("serin is ready", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("serin stopped with {status}:\n{}", log.text());
            }
            log.events().iter().any(|event| event.message == "ready")
        });
    }

    /// Where the router `outgoing` listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address_of("outgoing")
    }

    /// Where a router listens: the newest line about it.
    pub(crate) fn address_of(&self, router: &str) -> SocketAddr {
        eventually_some(&format!("a listening line of {router}"), || {
            let events = self.log.events();
            let mut about = events.iter().rev().filter(|event| event.message == "listening");
            about.find(|event| event.router == router).and_then(|event| event.address.parse().ok())
        })
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        eventually_some("a listening line of the admin server", || {
            let events = self.log.events();
            let mut about = events.iter().filter(|event| event.message.contains("admin listening"));
            about.find_map(|event| event.address.parse().ok())
        })
    }

    /// `GET` to the router `outgoing`.
    pub(crate) fn get(&self, host: &str, target: &str) -> Response {
        self.get_with(host, target, &[])
    }

    /// `GET` with further header lines.
    pub(crate) fn get_with(&self, host: &str, target: &str, lines: &[&str]) -> Response {
        get(self.address(), host, target, lines)
    }

    /// `GET` to the admin server.
    pub(crate) fn admin(&self, target: &str) -> Response {
        self.admin_with(target, &[])
    }

    /// `GET` to the admin server with further header lines.
    pub(crate) fn admin_with(&self, target: &str, lines: &[&str]) -> Response {
        let address = self.admin_address();
        get(address, &address.to_string(), target, lines)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join(FILE)
    }

    /// Writes the configuration file in place.
    pub(crate) fn rewrite(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    /// Sends a signal by name: `TERM`, `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success(), "{line}");
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually_some("serin stops", || child.try_wait().unwrap())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// The highest resident memory so far, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Serin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = self.log.text();
            let lines: Vec<&str> = text.lines().collect();
            println!("--- log of serin\n{}", lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n"));
        }
    }
}

/// What a log line says of a listener or of readiness.
#[derive(Debug, Default)]
struct Event {
    message: String,
    router: String,
    address: String,
}

impl Log {
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    fn follow(&self, source: impl Read + Send + 'static) {
        let lines = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
    }

    fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().iter().filter_map(|line| event(line)).collect()
    }
}

/// A command of the binary, without what the environment of the tests would tell it.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments);
    for name in ["SERIN_ADMIN", "SERIN_CONFIG", "SERIN_LOG", "SERIN_LOG_FORMAT", "SERIN_DNS", "SERIN_TOKEN"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().expect("the binary starts")
}

/// The binary under test: `SERIN_BIN`, or one built here and now, so that it is never older than its sources.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("SERIN_BIN") {
        Some(path) => std::path::absolute(path).unwrap(),
        None => build(),
    })
}

/// The folder of the whole project.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn build() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).expect("<target>/<profile>/deps/<test>");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(project()).args(["build", "--quiet", "--package", "serin", "--bin", "serin"]);
    command.arg("--target-dir").arg(profile.parent().expect("<target>"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    assert!(command.status().expect("cargo runs").success(), "the binary builds");
    profile.join("serin")
}

fn event(line: &str) -> Option<Event> {
    if let Ok(Value::Object(object)) = serde_json::from_str(line) {
        let text = |key: &str| {
            let value = object.get(key).or_else(|| object.get("fields").and_then(|fields| fields.get(key)));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        return Some(Event { message: text("message"), router: text("router"), address: text("address") });
    }
    let word = |key: &str| {
        let found = line.split_whitespace().find_map(|word| word.strip_prefix(key));
        found.unwrap_or_default().trim_matches('"').to_owned()
    };
    let message = ["admin listening", "listening", "ready"].into_iter().find(|&text| line.contains(text))?;
    Some(Event { message: message.to_owned(), router: word("router="), address: word("address=") })
}

const FILE: &str = "serin.yaml";
const LOG_LINES_SHOWN: usize = 40;
