//! Namers as `/config.json` shows them. Secrets are not.

use serde::Serialize;
use serin_config::model::{self, ConsistencyMode, HealthStatus, Host, HostPort, NamerKind};

#[derive(Debug, Serialize)]
pub(super) struct Namer {
    kind: &'static str,
    prefix: String,
    #[serde(flatten)]
    settings: Settings,
}

#[derive(Debug, Serialize)]
struct Rewrite {
    pattern: String,
    name: String,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Settings {
    Consul(Consul),
    DnsSrv(DnsSrv),
    Fs(Fs),
    Rewrite(Rewrite),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Consul {
    host: String,
    port: u16,
    include_tag: bool,
    use_health_check: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    health_statuses: Vec<&'static str>,
    /// Whether there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'static str>,
    set_host: bool,
    consistency_mode: &'static str,
    fail_fast: bool,
    prefer_service_address: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    weights: Vec<TagWeight>,
}

#[derive(Debug, Serialize)]
struct TagWeight {
    tag: String,
    weight: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DnsSrv {
    refresh_interval_seconds: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dns_hosts: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Fs {
    root_dir: String,
}

impl From<&model::Namer> for Namer {
    fn from(namer: &model::Namer) -> Self {
        let settings = match &namer.kind {
            NamerKind::Consul(consul) => Settings::Consul(Consul::from(&**consul)),
            NamerKind::DnsSrv(srv) => Settings::DnsSrv(DnsSrv {
                refresh_interval_seconds: srv.refresh.as_secs(),
                dns_hosts: srv.servers.iter().map(ToString::to_string).collect(),
            }),
            NamerKind::Fs { root_dir } => Settings::Fs(Fs { root_dir: root_dir.display().to_string() }),
            NamerKind::Rewrite { pattern, name } => {
                Settings::Rewrite(Rewrite { pattern: pattern.to_string(), name: name.clone() })
            }
        };
        Self { kind: namer.kind.name(), prefix: namer.prefix.to_string(), settings }
    }
}

impl From<&model::Consul> for Consul {
    fn from(consul: &model::Consul) -> Self {
        let HostPort { host, port } = &consul.agent;
        let weight =
            |(tag, weight): &(String, serin_config::dtab::Weight)| TagWeight { tag: tag.clone(), weight: weight.get() };
        Self {
            host: match host {
                Host::Ip(ip) => ip.to_string(),
                Host::Name(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            },
            port: *port,
            include_tag: consul.include_tag,
            use_health_check: consul.health.is_some(),
            health_statuses: consul.health.iter().flatten().map(status).collect(),
            token: consul.token.as_ref().map(|_| "(set)"),
            set_host: consul.set_host,
            consistency_mode: match consul.consistency {
                ConsistencyMode::Default => "default",
                ConsistencyMode::Stale => "stale",
                ConsistencyMode::Consistent => "consistent",
            },
            fail_fast: consul.fail_fast,
            prefer_service_address: consul.prefer_service_address,
            weights: consul.weights.iter().map(weight).collect(),
        }
    }
}

fn status(status: &HealthStatus) -> &'static str {
    match status {
        HealthStatus::Passing => "passing",
        HealthStatus::Warning => "warning",
        HealthStatus::Critical => "critical",
        HealthStatus::Maintenance => "maintenance",
    }
}
