//! The real program as a child.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The program says that it is ready sooner than this.
const START_MAX: Duration = Duration::from_secs(20);

/// The running program, killed when dropped.
#[derive(Debug)]
pub struct Serin {
    child: Child,
    /// Its listener.
    pub address: SocketAddr,
}

impl Serin {
    /// Starts with this configuration, which has one listener.
    pub fn start(program: &Path, config: &str) -> Self {
        let mut command = Command::new(program);
        command.args(["run", "-"]).env("SERIN_LOG_FORMAT", "json").env_remove("SERIN_LOG").env_remove("SERIN_ADMIN");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        child.stdin.take().expect("a pipe").write_all(config.as_bytes()).expect("the program reads");
        let address = listening(child.stderr.take().expect("a pipe"));
        Self { child, address }
    }

    /// Its resident memory.
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the program runs, on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Asks it to end, and waits until it has.
    pub fn end(mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().expect("the tool to send signals");
        assert!(asked.success(), "the program runs");
        self.child.wait().expect("its end")
    }
}

impl Drop for Serin {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address of the router, once the program is ready. The log is read on, so that it never blocks who writes it.
fn listening(log: ChildStderr) -> SocketAddr {
    let (tell, told) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut address = None;
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if line.contains(r#""message":"listening""#) {
                let rest = line.split_once(r#""address":""#).map(|(_, rest)| rest);
                address = rest.and_then(|rest| rest.split('"').next()?.parse().ok());
            } else if line.contains(r#""message":"ready""#) {
                // once: nobody listens any more afterwards
                let _ = tell.send(address.expect("a listener before it is ready"));
            } else {
                eprintln!("{line}");
            }
        }
    });
    told.recv_timeout(START_MAX).expect("the program is ready in time")
}
