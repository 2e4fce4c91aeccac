//! Programs written by others, as peers. One that is not installed is skipped, unless `SERIN_REQUIRE_PEERS=1`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::serin::project;

/// False, with a line that says so, when the program is missing; a failure when peers are required.
pub(crate) fn require_peer(program: &str) -> bool {
    have(program, find_program(program).is_some())
}

/// The same for a Python module, and Python.
pub(crate) fn require_module(module: &str) -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", &format!("import {module}")]).stdout(Stdio::null()).stderr(Stdio::null());
    have(&format!("python3 with {module}"), python.status().is_ok_and(|status| status.success()))
}

/// A script of `it/peers`.
pub(crate) fn script(name: &str) -> PathBuf {
    project().join("tests/it/peers").join(name)
}

/// A program, found as `require_peer` finds it, without the proxy settings of the environment.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(find_program(name).unwrap_or_else(|| name.into()));
    for variable in
        ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"]
    {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs to the end and gives back stdout; fails on any other exit code than 0.
pub(crate) fn stdout_of(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Stdout and stderr together.
pub(crate) fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A child of this test that ends with it.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn have(what: &str, there: bool) -> bool {
    if !there {
        println!("skipped: needs {what}");
        assert!(std::env::var_os("SERIN_REQUIRE_PEERS").is_none_or(|value| value != "1"), "needs {what}");
    }
    there
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}
