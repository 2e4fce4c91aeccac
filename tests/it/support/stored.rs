//! A Serin that keeps dtabs, and how to ask its namerd API.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;

use tempfile::TempDir;

use super::http1::{Client, Response};
use super::serin::{Serin, command};
use super::{Upstream, eventually_some};

/// Two upstreams, a router that reads the namespace `web`, the admin server and the namerd API on free ports.
pub(crate) struct Keeper {
    pub(crate) serin: Serin,
    pub(crate) v1: Upstream,
    pub(crate) v2: Upstream,
}

impl Keeper {
    /// With a folder for its state.
    pub(crate) fn start() -> Keeper {
        Keeper::start_with("{kind: file, dir: state}", "")
    }

    pub(crate) fn start_with(storage: &str, more: &str) -> Keeper {
        let (v1, v2) = (Upstream::named("v1"), Upstream::named("v2"));
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let serin = Serin::start_in(dir, &text(&v1, &v2, storage, more));
        Keeper { serin, v1, v2 }
    }

    /// Starts again in the same folder; what still runs is killed.
    pub(crate) fn again(self) -> Keeper {
        let Keeper { serin, v1, v2 } = self;
        let dir = Arc::clone(&serin.dir);
        drop(serin);
        let text = std::fs::read_to_string(dir.path().join("serin.yaml")).unwrap();
        Keeper { serin: Serin::start_in(dir, &text), v1, v2 }
    }

    pub(crate) fn dir(&self) -> &TempDir {
        &self.serin.dir
    }

    /// Where the namerd API listens: the newest line about it.
    pub(crate) fn namerd(&self) -> SocketAddr {
        eventually_some("a listening line of the interface", || {
            let log = self.serin.log();
            let line = log.lines().rev().find(|line| line.contains("interface listening"))?;
            let address = line.split("address=").nth(1).or_else(|| line.split("\"address\":").nth(1))?;
            address.trim_matches('"').split(['"', ' ', ',']).next()?.parse().ok()
        })
    }

    /// Asks the namerd API.
    pub(crate) fn ask(&self, method: &str, target: &str, lines: &[&str], body: &str) -> Response {
        let address = self.namerd();
        let mut client = Client::connect(address);
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n");
        lines.iter().for_each(|line| text.push_str(&format!("{line}\r\n")));
        if matches!(method, "POST" | "PUT") {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        client.send(format!("{text}\r\n{body}"));
        client.read(method)
    }

    /// Opens a watch; its documents come one by one.
    pub(crate) fn watch(&self, target: &str) -> Watch {
        let address = self.namerd();
        let mut client = Client::connect(address);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
        let head = client.read_head().unwrap();
        assert!(head.first.starts_with("HTTP/1.1 200"), "{}", head.first);
        assert_eq!(head.fields.get("transfer-encoding").as_deref(), Some("chunked"));
        assert!(!head.fields.has("etag"));
        Watch { client }
    }

    /// `PUT` of a dtab, which must work.
    pub(crate) fn put(&self, namespace: &str, dtab: &str) {
        let answer = self.ask("PUT", &format!("/api/1/dtabs/{namespace}"), &["Content-Type: application/dtab"], dtab);
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    /// Runs `serin dtab …` against this one.
    pub(crate) fn dtab(&self, arguments: &[&str]) -> Output {
        let admin = self.serin.admin_address().to_string();
        let mut command = command(&["dtab"]);
        command.args(arguments).current_dir(self.dir().path()).env("SERIN_ADMIN", admin);
        command.output().unwrap()
    }

    /// Which upstream answers a request for `Host: web`; the status when none does.
    pub(crate) fn who(&self) -> String {
        let answer = self.serin.get("web", "/");
        answer.field("x-origin").unwrap_or_else(|| answer.status.to_string())
    }
}

/// A stream of documents.
pub(crate) struct Watch {
    client: Client,
}

impl Watch {
    /// The next one; it ends with a line.
    pub(crate) fn next(&mut self) -> String {
        let chunk = self.client.wire.read_chunk().unwrap().expect("a document, not the end");
        let text = String::from_utf8(chunk).unwrap();
        assert!(text.ends_with('\n'), "{text:?}");
        text.trim_end().to_owned()
    }

    /// Its end in the midst of what was sent.
    pub(crate) fn cut(&mut self) {
        let sent = self.client.wire.read_to_end().unwrap();
        assert!(!sent.ends_with(b"\r\n0\r\n\r\n"), "a clean end after {} octets", sent.len());
    }

    /// Its end, without another document.
    pub(crate) fn ended(&mut self) {
        assert_eq!(self.client.wire.read_chunk().unwrap(), None);
    }
}

fn text(v1: &Upstream, v2: &Upstream, storage: &str, more: &str) -> String {
    format!(
        "admin: {{ip: 127.0.0.1, port: 0}}\nclusters:\n  v1: {{endpoints: [\"{}\"]}}\n  v2: {{endpoints: [\"{}\"]}}\nrouters:\n\
         - label: outgoing\n  protocol: http\n  servers: [{{ip: 127.0.0.1, port: 0}}]\n  \
         interpreter: {{kind: default, namespace: web}}\n  dtab: /srv => /#/clusters\n\
         storage: {storage}\ninterfaces: [{{kind: io.l5d.httpController, ip: 127.0.0.1, port: 0}}]\n{more}",
        v1.endpoint(),
        v2.endpoint()
    )
}
