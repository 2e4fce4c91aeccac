//! Sources of names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::HostPort;
use crate::dtab::{Path, Pattern, Weight};

/// A configured namer.
#[derive(Clone, Debug, PartialEq)]
pub struct Namer {
    /// The name stands under `/#/<prefix>`. Default: the kind.
    pub prefix: Path,
    /// What it is.
    pub kind: NamerKind,
}

/// The namers there are.
#[derive(Clone, Debug, PartialEq)]
pub enum NamerKind {
    /// `io.l5d.consul`: services of a Consul catalog, asked for when a name is first used and watched while it is.
    Consul(Box<Consul>),
    /// `io.l5d.dnssrv`: SRV records, asked again and again while the name is used.
    DnsSrv(DnsSrv),
    /// `io.l5d.fs`: a watched folder of address files.
    Fs {
        /// Absolute, or relative to the folder of the configuration file (already joined).
        root_dir: PathBuf,
    },
    /// `io.l5d.rewrite`: a name that the pattern matches goes on as another one; what the pattern leaves over is
    /// dropped. Any other name is `~`.
    Rewrite {
        /// Matched with what follows the prefix.
        pattern: Pattern,
        /// Becomes the name once each `{capture}` is replaced.
        name: String,
    },
}

impl NamerKind {
    /// How the file calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Consul(_) => "io.l5d.consul",
            Self::DnsSrv(_) => "io.l5d.dnssrv",
            Self::Fs { .. } => "io.l5d.fs",
            Self::Rewrite { .. } => "io.l5d.rewrite",
        }
    }

    /// Labels behind the prefix that make a name, for namers whose names cannot be listed: they are asked for one by
    /// one. `None`: its names are known.
    pub fn asked_labels(&self) -> Option<usize> {
        match self {
            Self::Consul(consul) if consul.include_tag => Some(3),
            Self::Consul(_) => Some(2),
            Self::DnsSrv(_) => Some(1),
            Self::Fs { .. } | Self::Rewrite { .. } => None,
        }
    }
}

/// `io.l5d.consul`.
#[derive(Clone, Debug, PartialEq)]
pub struct Consul {
    /// The agent that is asked. Default `localhost:8500`.
    pub agent: HostPort,
    /// Names are `/<dc>/<tag>/<service>` instead of `/<dc>/<service>`.
    pub include_tag: bool,
    /// Which instances count. `None`: all in the catalog, whatever their checks say.
    pub health: Option<Vec<HealthStatus>>,
    /// The ACL token, sent as `X-Consul-Token`. Never shown.
    pub token: Option<String>,
    /// Requests get the `Host` that Consul's DNS has for the service.
    pub set_host: bool,
    /// How consistent answers must be.
    pub consistency: ConsistencyMode,
    /// While the agent refuses connections, other names do not try it before the wait of the first is over.
    pub fail_fast: bool,
    /// The service's own address is used where it has one; otherwise that of its node.
    pub prefer_service_address: bool,
    /// An instance has the greatest weight among its tags, 1 if none of them is listed. Tags unique.
    pub weights: Vec<(String, Weight)>,
}

/// What a check of Consul says of an instance. The order is from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthStatus {
    /// `passing`.
    Passing,
    /// `warning`.
    Warning,
    /// `critical`.
    Critical,
    /// `maintenance`: set by an operator.
    Maintenance,
}

/// `consistencyMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsistencyMode {
    /// The leader answers, as it believes to be one.
    #[default]
    Default,
    /// Any server answers.
    Stale,
    /// The leader asks its peers whether it still is.
    Consistent,
}

/// `io.l5d.dnssrv`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSrv {
    /// Between two questions; a shorter TTL of the answer makes it shorter. Default 5 s.
    pub refresh: Duration,
    /// The servers to ask, in this order; empty: those of the system.
    pub servers: Vec<SocketAddr>,
}
