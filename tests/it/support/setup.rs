//! Configuration files from a few parts.

use std::fmt::Write as _;

use super::Serin;

/// One router `outgoing` with one listener, and whatever a test adds.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) admin_port: u16,
    pub(crate) port: u16,
    clusters: Vec<(String, Vec<String>)>,
    dtab: String,
    server: String,
    router: Vec<String>,
    top: Vec<String>,
}

impl Setup {
    /// Sends `/svc/<host>` to the cluster of that name.
    pub(crate) fn new() -> Setup {
        let dtab = "/svc => /#/clusters".to_owned();
        let (clusters, router, top) = (Vec::new(), Vec::new(), Vec::new());
        Setup { admin_port: 0, port: 0, clusters, dtab, server: String::new(), router, top }
    }

    /// Host `web` leads to this one origin.
    pub(crate) fn web(endpoint: &str) -> Setup {
        Setup::new().cluster("web", &[endpoint])
    }

    pub(crate) fn cluster(mut self, name: &str, endpoints: &[&str]) -> Setup {
        self.clusters.push((name.to_owned(), endpoints.iter().map(|&text| text.to_owned()).collect()));
        self
    }

    pub(crate) fn dtab(mut self, dtab: &str) -> Setup {
        dtab.clone_into(&mut self.dtab);
        self
    }

    /// Further keys of the listener, in flow style: `exposure: mesh, maxCallDepth: 3`.
    pub(crate) fn server(mut self, keys: &str) -> Setup {
        write!(self.server, ", {keys}").unwrap();
        self
    }

    /// A further key of the router, on one line or several (indentation relative to the router's keys).
    pub(crate) fn router(mut self, lines: &str) -> Setup {
        self.router.extend(lines.lines().map(str::to_owned));
        self
    }

    /// A further key of the file.
    pub(crate) fn top(mut self, lines: &str) -> Setup {
        self.top.extend(lines.lines().map(str::to_owned));
        self
    }

    /// Fixed ports: for tests that name them before the start, or that compare files with several listeners.
    pub(crate) fn ports(mut self, port: u16, admin_port: u16) -> Setup {
        (self.port, self.admin_port) = (port, admin_port);
        self
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("admin: {{ip: 127.0.0.1, port: {}}}\n", self.admin_port);
        if !self.clusters.is_empty() {
            text.push_str("clusters:\n");
        }
        for (name, endpoints) in &self.clusters {
            let list: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
            writeln!(text, "  {name}: {{endpoints: [{}]}}", list.join(", ")).unwrap();
        }
        for line in &self.top {
            writeln!(text, "{line}").unwrap();
        }
        writeln!(text, "routers:\n- label: outgoing\n  protocol: http").unwrap();
        writeln!(text, "  servers: [{{ip: 127.0.0.1, port: {}{}}}]\n  dtab: |", self.port, self.server).unwrap();
        for line in self.dtab.lines() {
            writeln!(text, "    {}", line.trim()).unwrap();
        }
        for line in &self.router {
            writeln!(text, "  {line}").unwrap();
        }
        text
    }

    pub(crate) fn start(&self) -> Serin {
        Serin::start(&self.text())
    }
}
