//! The dtabs that a running Serin keeps: what `namerctl` does, by the admin server.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use serin_config::Source;
use serin_config::diagnostic::render;
use serin_config::dtab::Dtab;

use super::super::rollout::remote::{CallError, Remote, RemoteArgs, path_below};
use super::super::run::source;
use super::super::{Output, failed, print};
use super::{GetArgs, ListArgs, WriteArgs, diagnostics};
use crate::admin::{ChangedDtab, ShownDtab};
use crate::control;
use crate::dtabs::text::DentryText;

const DTABS: &str = "/api/v1/dtabs";

pub(super) fn list(args: &ListArgs) -> ExitCode {
    let json = args.json || args.output == Output::Json;
    match Remote::find(&args.remote).get::<Vec<String>>(DTABS) {
        Ok(names) if json => print(&format!("{}\n", json!(names))),
        Ok(names) => print(&names.iter().map(|name| format!("{name}\n")).collect::<String>()),
        Err(error) => failed(&error),
    }
}

pub(super) fn get(args: &GetArgs) -> ExitCode {
    let json = args.json || args.output == Output::Json;
    match Remote::find(&args.remote).get::<ShownDtab>(&path_below(DTABS, &args.name)) {
        Ok(shown) if json => print(&as_json(&shown)),
        Ok(shown) if args.pretty => print(&pretty(&shown)),
        Ok(shown) => print(&plain(&shown.dtab)),
        Err(error) => failed(&error),
    }
}

pub(super) fn create(args: &WriteArgs) -> ExitCode {
    let body = match read(&args.file) {
        Ok(Input { dtab, .. }) => json!({ "dtab": dtab }),
        Err(error) => return failed(&error),
    };
    let remote = Remote::find(&args.remote);
    told(remote.send_json::<ChangedDtab>("POST", &path_below(DTABS, &args.name), &body), "Created", &args.name)
}

pub(super) fn update(args: &WriteArgs, version: Option<String>) -> ExitCode {
    let body = match read(&args.file) {
        Ok(Input { dtab, version: said }) => json!({"dtab": dtab, "version": said.or(version)}),
        Err(error) => return failed(&error),
    };
    let remote = Remote::find(&args.remote);
    told(remote.send_json::<ChangedDtab>("PUT", &path_below(DTABS, &args.name), &body), "Updated", &args.name)
}

pub(super) fn delete(name: &str, remote: &RemoteArgs) -> ExitCode {
    let path = path_below(DTABS, name);
    told(Remote::find(remote).send_json::<ChangedDtab>("DELETE", &path, &Value::Null), "Deleted", name)
}

fn told(done: Result<ChangedDtab, CallError>, what: &str, name: &str) -> ExitCode {
    match done {
        Ok(_) => print(&format!("{what} {name}\n")),
        Err(error) => failed(&error),
    }
}

/// What shall be kept: a text, or a list of dentries.
#[derive(Debug, PartialEq)]
struct Input {
    dtab: Value,
    /// The version it was when it was read.
    version: Option<String>,
}

fn read(file: &Path) -> Result<Input, String> {
    let bytes = source(file).and_then(|from| control::load(&from)).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is no UTF-8", file.display()))?;
    let input = input(text).map_err(|why| format!("{}: {why}", file.display()))?;
    if let Value::String(dtab) = &input.dtab {
        // here a mistake can be shown at its place
        Dtab::parse(dtab).map_err(|mistakes| {
            let source = Source::new(file.display().to_string(), dtab.as_str());
            let shown = render(&diagnostics(&mistakes), &source, false);
            format!("this is no dtab, nothing is changed\n{}", shown.trim_end())
        })?;
    }
    Ok(input)
}

/// JSON where it begins like it, as in `namerctl`: what `get --json` printed, or its list alone.
fn input(text: String) -> Result<Input, String> {
    if !text.starts_with(['{', '[']) {
        return Ok(Input { dtab: Value::String(text), version: None });
    }
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("it is no JSON: {error}"))?;
    let Value::Object(mut whole) = value else { return Ok(Input { dtab: value, version: None }) };
    let dtab = whole.remove("dtab").ok_or("it has no `dtab`")?;
    let version = match whole.remove("version") {
        None | Some(Value::Null) => None,
        Some(Value::String(version)) => Some(version).filter(|version| !version.is_empty()),
        Some(_) => return Err("its `version` is no text".to_owned()),
    };
    match whole.keys().next() {
        None => Ok(Input { dtab, version }),
        Some(key) => Err(format!("it has a key `{key}` that means nothing here")),
    }
}

/// Plain data: it always has a JSON form.
fn as_json(shown: &ShownDtab) -> String {
    format!("{}\n", serde_json::to_string(shown).unwrap_or_default())
}

fn pretty(shown: &ShownDtab) -> String {
    let mut text = format!("# version {}\n", shown.version);
    let widest = shown.dtab.iter().map(|dentry| dentry.prefix.len()).max().unwrap_or(0);
    for DentryText { prefix, dst } in &shown.dtab {
        // writing to a string cannot fail
        let _ = writeln!(text, "{prefix}{:width$}  => {dst} ;", "", width = widest - prefix.len());
    }
    text
}

fn plain(dtab: &[DentryText]) -> String {
    let dentries: String = dtab.iter().map(|DentryText { prefix, dst }| format!("{prefix}=>{dst};")).collect();
    format!("{dentries}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dentry(prefix: &str, dst: &str) -> DentryText {
        DentryText { prefix: prefix.into(), dst: dst.into() }
    }

    #[test]
    fn a_dtab_prints_as_namerctl_prints_it() {
        let dtab = vec![dentry("/foo", "/bar"), dentry("/foo/bar/baz", "/bah")];
        assert_eq!(plain(&dtab), "/foo=>/bar;/foo/bar/baz=>/bah;\n");
        let shown = ShownDtab { version: "AAAAAAAAAAE=".into(), dtab };
        assert_eq!(pretty(&shown), "# version AAAAAAAAAAE=\n/foo          => /bar ;\n/foo/bar/baz  => /bah ;\n");
        let expected = r#"{"version":"AAAAAAAAAAE=","dtab":[{"prefix":"/foo","dst":"/bar"},{"prefix":"/foo/bar/baz","dst":"/bah"}]}"#;
        assert_eq!(as_json(&shown), format!("{expected}\n"));
    }

    #[track_caller]
    fn check_input(text: &str, dtab: Value, version: Option<&str>) {
        let version = version.map(str::to_owned);
        assert_eq!(input(text.to_owned()), Ok(Input { dtab, version }), "{text}");
    }

    #[test]
    fn input_is_a_dtab_or_what_get_printed() {
        check_input("/a => /b", json!("/a => /b"), None);
        check_input("", json!(""), None);
        check_input(
            r#"{"version": "AAAAAAAAAAE=", "dtab": [{"prefix": "/a", "dst": "/b"}]}"#,
            json!([{"prefix": "/a", "dst": "/b"}]),
            Some("AAAAAAAAAAE="),
        );
        check_input(r#"{"version": "", "dtab": []}"#, json!([]), None);
        check_input("[]", json!([]), None);
        for bad in ["{", "[", "{}", r#"{"dtab": [], "version": 1}"#, r#"{"dtab": [], "verson": "x"}"#] {
            assert!(input(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
