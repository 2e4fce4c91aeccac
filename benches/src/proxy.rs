//! Serin inside the benchmark's process, on free ports of loopback.

use std::net::SocketAddr;

use serin::control::{self, ConfigSource, Running, StartOptions};

/// The largest configuration has about 6 MB; the second upstream of a split is the first one again.
///
/// Routes `hello` and `other` to `http1`, `grpc` to `grpc`, and whatever `dtab` says. One worker.
pub fn config(dtab: &str, http1: SocketAddr, grpc: SocketAddr) -> String {
    config_of(dtab, http1, http1, grpc)
}

/// The same with a service of its own for `other`.
pub fn config_of(dtab: &str, hello: SocketAddr, other: SocketAddr, grpc: SocketAddr) -> String {
    format!(
        "admin: {{ip: 127.0.0.1, port: 0}}\n\
         workers: 1\n\
         clusters:\n  \
           hello: {{endpoints: [\"{hello}\"]}}\n  \
           other: {{endpoints: [\"{other}\"]}}\n  \
           grpc: {{endpoints: [\"{grpc}\"]}}\n\
         routers:\n\
         - label: gateway\n  \
           protocol: http\n  \
           servers: [{{ip: 127.0.0.1, port: 0}}]\n  \
           dtab: |\n    {dtab}\n"
    )
}

/// The same with a rollout of `hello`, whose draws the workers count and tell. Nobody judges it here: the judge's own looks
/// allocate by the clock, not by the request, and would be taken for the requests'.
pub fn with_rollout(config: &str) -> String {
    format!(
        "{config}\
         storage: {{kind: memory}}\n\
         rollouts:\n\
         - name: hello\n  \
           router: gateway\n  \
           path: /host/hello\n  \
           primary: /#/clusters/hello\n  \
           canary: /#/clusters/other\n  \
           pace: evidence\n  \
           judge: off\n  \
           analysis: {{interval: 10m, threshold: 5, stepWeights: [50]}}\n"
    )
}

/// A proxy that serves, and where.
#[derive(Debug)]
pub struct Proxy {
    /// Its judge and its snapshots.
    pub running: Running,
    /// Its listener.
    pub address: SocketAddr,
}

impl Proxy {
    /// Starts with this configuration.
    pub fn start(text: String) -> Self {
        let source = ConfigSource::Text { name: "bench".into(), text };
        let running = control::start(StartOptions::embedded(source)).expect("the proxy starts");
        let address = running.addresses[0].1;
        Self { running, address }
    }

    /// Ends it. Connections to it should be gone: it waits for their requests.
    pub fn stop(self) {
        self.running.stop();
        assert_eq!(self.running.wait(), 0, "a good end");
    }
}
