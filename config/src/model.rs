//! A legal configuration. If a value of these types exists, it has passed every check: nobody checks twice.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::dtab::{Dtab, Path};

mod client;
mod headers;
mod identifier;
mod interpreter;
mod limits;
mod namer;
mod request_test;
mod rollout;
mod route_rules;
mod service;
mod stores;

pub use client::{Accrual, AccrualRule, Balancer, CLIENT_FIELDS, Client, ClientPart, Protocol, RetryBudget, Take};
pub use headers::{ForwardedHeader, Labeler, Propagator};
pub use identifier::{Field, HostRule, Identifier};
pub use interpreter::Namerd;
pub use limits::{CLIENT_KEYS, ClientLimits, H2Limits, LimitKey, Limits, SERVER_KEYS, Unit};
pub use namer::{ConsistencyMode, Consul, DnsSrv, HealthStatus, Namer, NamerKind};
pub use request_test::{Expected, RequestTest};
pub use rollout::{
    Affinity, Alert, AlertKind, AlertProvider, Credentials, Judge, MatchRule, MetricKind, MetricSource, MetricTemplate,
    Mirror, Rollout, Secret, Storage, Strategy, TextMatch, Webhook,
};
pub use route_rules::{HeaderChanges, HostMatch, PathMatch, PathRewrite, Redirect, RouteMatch, RouteRule};
pub use service::{Classifier, GrpcRetryable, RetryBackoff, Retryable, SERVICE_FIELDS, Service, ServicePart};
pub use stores::{Interface, Interpreter, NAMESPACE_BYTES_MAX, is_namespace};

/// The whole file, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the admin server listens.
    pub admin: Admin,
    /// Worker threads; `None` means one for each core the process may use.
    pub workers: Option<NonZeroUsize>,
    /// Static replica sets, bound as `/#/clusters/<name>`.
    pub clusters: Vec<Cluster>,
    /// Configured namers in file order: later ones are asked first (Linkerd 1).
    pub namers: Vec<Namer>,
    /// At least one, labels unique.
    pub routers: Vec<Router>,
    /// Where names made from requests may lead.
    pub egress: Egress,
    /// How a stop goes.
    pub drain: Drain,
    /// Names unique, paths unique within their router.
    pub rollouts: Vec<Rollout>,
    /// Names unique.
    pub metric_templates: Vec<MetricTemplate>,
    /// Names unique.
    pub alert_providers: Vec<AlertProvider>,
    /// Where state lives. `None`: nowhere, which a file with rollouts or stored dtabs may not have.
    pub storage: Option<Storage>,
    /// Requests and where they shall go: for who checks a file; nothing that serves looks at them.
    pub tests: Vec<RequestTest>,
    /// Listeners for those who keep dtabs in `storage`; addresses unique over the file.
    pub interfaces: Vec<Interface>,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Default 127.0.0.1:9990. The environment variable `SERIN_ADMIN` wins over the file.
    pub address: SocketAddr,
}

/// A named set of interchangeable addresses written in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// One path element.
    pub name: String,
    /// May be empty: bound, and nobody home.
    pub endpoints: Vec<HostPort>,
}

/// An endpoint as written: an address, or a name for DNS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// What stands before the port.
    pub host: Host,
    /// Never 0, but for a Unix socket, which has none.
    pub port: u16,
}

/// The host part of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A DNS name, lower case.
    Name(String),
    /// A Unix socket of this host: `unix:PATH`, in clusters and address files alone.
    Unix(Arc<FilePath>),
}

/// One routing world with its listeners.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    /// Unique; the `router` label of every metric.
    pub label: String,
    /// Put in front of every identified name. Default `/svc`.
    pub dst_prefix: Path,
    /// How a request gets its name: the first that finds one wins. Never empty.
    pub identifiers: Vec<Identifier>,
    /// Rules that come before the identifiers. Where none matches, they name the request.
    pub rules: Vec<RouteRule>,
    /// The base dtab.
    pub dtab: Dtab,
    /// Rules in file order; every rule that matches adds its dtab behind the base, later ones win.
    pub overrides: Vec<OverrideRule>,
    /// What is said of splits beyond their weights, by dentry prefix.
    pub splits: Vec<SplitRule>,
    /// Whether `|` also passes over names without a usable endpoint.
    pub failover: Failover,
    /// What a union does with the share of a branch without a usable endpoint, unless a split rule says otherwise.
    pub on_unhealthy: OnUnhealthy,
    /// At least one, addresses unique over the file.
    pub servers: Vec<Server>,
    /// Towards upstreams, all of them.
    pub client: Client,
    /// Towards those whose bound name lies under a prefix: every one that matches, later ones win.
    pub client_parts: Vec<ClientPart>,
    /// For each logical name.
    pub service: Service,
    /// For those under a prefix: every one that matches, later ones win.
    pub service_parts: Vec<ServicePart>,
    /// Binding of names.
    pub binding: Binding,
    /// What names are bound with besides the dtab.
    pub interpreter: Interpreter,
    /// How a trace goes on.
    pub propagator: Propagator,
}

impl Router {
    /// How an upstream with this bound name is called.
    pub fn client_of(&self, id: &Path) -> Client {
        let mut client = self.client.clone();
        let matching = self.client_parts.iter().filter(|part| part.prefix.captures(id).is_some());
        matching.for_each(|part| part.apply(&mut client));
        client
    }

    /// How this logical name is treated.
    pub fn service_of(&self, name: &Path) -> Service {
        let mut service = self.service.clone();
        let matching = self.service_parts.iter().filter(|part| part.prefix.captures(name).is_some());
        matching.for_each(|part| part.apply(&mut service));
        service
    }
}

/// A rule that adds a dtab to requests it matches.
#[derive(Clone, Debug, PartialEq)]
pub struct OverrideRule {
    /// All conditions must hold; never empty.
    pub when: When,
    /// Added for this request.
    pub dtab: Dtab,
}

/// Conditions on a request; an absent one always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Cookie name and exact value, each must be there.
    pub cookies: Vec<(String, String)>,
    /// Header name in lower case and exact value, each must be there.
    pub headers: Vec<(String, String)>,
    /// Exact methods, any of them; empty means all.
    pub methods: Vec<String>,
    /// The raw request path is it, or starts with it at a `/`.
    pub path_prefix: Option<String>,
    /// The peer's address lies in one of them; empty means anywhere.
    pub sources: Vec<IpNet>,
}

/// What is said of the weighted unions of one dentry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitRule {
    /// Printed prefix of a dentry of the router's dtab that has a weighted union.
    pub path: String,
    /// Draw by a key of the user instead of by chance.
    pub stickiness: Option<StickyKey>,
    /// Overrides the router's `onUnhealthy`.
    pub on_unhealthy: Option<OnUnhealthy>,
}

/// What a sticky draw hashes. A request without the key is drawn at random.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickyKey {
    /// Value of this cookie.
    Cookie(String),
    /// Value of this header, lower case.
    Header(String),
    /// The peer's address, without port.
    Source,
}

/// `failover`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// `|` passes over names that are not there and names without a usable endpoint.
    #[default]
    Health,
    /// `|` passes over names that are not there (Linkerd 1).
    Names,
}

/// `onUnhealthy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnhealthy {
    /// The branch keeps its share and those requests fail (Linkerd 1).
    Fail,
    /// The share goes to the other branches by their weights.
    #[default]
    Redistribute,
}

/// A listener and how far its peers are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Port 0 is allowed; then the kernel chooses one. Loopback with port 0 where it is a Unix socket.
    pub address: SocketAddr,
    /// `unix`: a socket of this host in place of the address.
    pub unix: Option<UnixSocket>,
    /// Which limits, forwarding headers and error bodies.
    pub exposure: Exposure,
    /// Are context headers obeyed.
    pub trust: Trust,
    /// Requests in flight on this listener over all workers; `None`: sized to memory by the proxy.
    pub requests_max: Option<NonZeroU32>,
    /// `Via` entries a request may carry. Default 100.
    pub call_depth_max: u32,
    /// What is borne of its peers. Defaults by exposure.
    pub limits: Limits,
    /// A `Forwarded` field for each request.
    pub forwarded: Option<ForwardedHeader>,
    /// Name, in lower case, of a field that says when the request came, in milliseconds since 1970.
    pub timestamp_header: Option<String>,
}

/// A Unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// Absolute, or relative to the folder of the configuration file (already joined).
    pub path: PathBuf,
    /// Permission bits of the file. Default 0660.
    pub mode: u32,
}

/// `exposure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposure {
    /// Untrusted clients.
    #[default]
    Edge,
    /// Other proxies and our own applications.
    Mesh,
}

/// Whose `l5d-dtab`, `l5d-ctx-*` and `l5d-sample` are obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// `clearContext: true`.
    Nobody,
    /// `clearContext: false`.
    Everybody,
    /// Unset: peers on loopback, and only when nothing says that a proxy stands in front: such a front is not the user.
    Loopback,
    /// `trustedSources`: peers from these networks. Other proxies are among them, so that one stands in front says nothing.
    Sources(Vec<IpNet>),
}

/// Binding of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// How long a request waits for a name. Default 10 s.
    pub timeout: Duration,
    /// Names in each worker's cache. Default 1000.
    pub names_max: NonZeroUsize,
    /// A name unused for so long leaves the cache. Default 600 s.
    pub idle: Duration,
}

/// `egress`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// Networks that names made from requests may reach although they are loopback, link-local or metadata.
    pub allow: Vec<IpNet>,
}

/// `drain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Between readiness off and the end of accepting. Default 0.
    pub delay: Duration,
    /// After it, running requests are cut. Default 30 s.
    pub deadline: Duration,
}
