//! What Consul's agent answers: `/v1/catalog/service`, `/v1/health/service` and `/v1/agent/self`. Pure.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serin_config::model::{Consul, HealthStatus};

use crate::resolve::inet::parse_host;
use crate::resolve::targets::Target;

/// Instances in one answer; with more it counts as unreadable.
pub const INSTANCES_MAX: usize = 10_000;

/// What names in Consul's own DNS end in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) datacenter: String,
    /// Without dots around it.
    pub(super) domain: String,
}

/// An entry of the catalog.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct CatalogEntry {
    address: Option<String>,
    service_address: Option<String>,
    service_port: Option<u32>,
    service_tags: Option<Vec<String>>,
}

/// An entry with its checks.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HealthEntry {
    node: Option<Node>,
    service: Option<Service>,
    checks: Option<Vec<Check>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Node {
    address: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Service {
    address: Option<String>,
    port: Option<u32>,
    tags: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Check {
    #[serde(rename = "CheckID")]
    id: Option<String>,
    #[serde(rename = "Status")]
    status: Option<String>,
}

#[derive(Deserialize)]
struct SelfAnswer {
    #[serde(rename = "Config")]
    config: SelfConfig,
    #[serde(rename = "DebugConfig")]
    debug_config: Option<DebugConfig>,
}

#[derive(Deserialize)]
struct SelfConfig {
    #[serde(rename = "Datacenter")]
    datacenter: String,
    #[serde(rename = "Domain")]
    domain: Option<String>,
}

#[derive(Deserialize)]
struct DebugConfig {
    #[serde(rename = "DNSDomain")]
    dns_domain: Option<String>,
}

impl Agent {
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let answer: SelfAnswer = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let domain = answer.config.domain.or(answer.debug_config.and_then(|debug| debug.dns_domain));
        let domain = domain.as_deref().map(|domain| domain.trim_matches('.')).filter(|domain| !domain.is_empty());
        Ok(Self { datacenter: answer.config.datacenter, domain: domain.unwrap_or("consul").to_owned() })
    }
}

/// Where the instances of an answer are. Those without a usable address or port are left out, as Linkerd does.
pub(super) fn instances(body: &[u8], settings: &Consul) -> Result<Vec<Target>, String> {
    let entries = match &settings.health {
        None => read::<CatalogEntry>(body)?,
        Some(statuses) => {
            let all = read::<HealthEntry>(body)?;
            all.into_iter().filter(|entry| statuses.contains(&entry.status())).map(HealthEntry::flattened).collect()
        }
    };
    Ok(entries.iter().filter_map(|entry| target(entry, settings)).collect())
}

fn read<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<Vec<T>, String> {
    let entries: Vec<Object<T>> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if entries.len() > INSTANCES_MAX {
        return Err(format!("{} instances, more than {INSTANCES_MAX}", entries.len()));
    }
    Ok(entries.into_iter().map(|Object(entry)| entry).collect())
}

/// A JSON object and nothing else: serde would take a list for one, too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

impl HealthEntry {
    /// The worst of its checks; without any it passes.
    fn status(&self) -> HealthStatus {
        let checks = self.checks.iter().flatten();
        checks.map(Check::status).max().unwrap_or(HealthStatus::Passing)
    }

    fn flattened(self) -> CatalogEntry {
        let service = self.service.unwrap_or_default();
        CatalogEntry {
            address: self.node.and_then(|node| node.address),
            service_address: service.address,
            service_port: service.port,
            service_tags: service.tags,
        }
    }
}

impl Check {
    /// Maintenance is a critical check with an id of its own. A status nobody knows is as bad as can be judged.
    fn status(&self) -> HealthStatus {
        let id = self.id.as_deref().unwrap_or_default();
        if id == "_node_maintenance" || id.starts_with("_service_maintenance") {
            return HealthStatus::Maintenance;
        }
        match self.status.as_deref() {
            None | Some("passing") => HealthStatus::Passing,
            Some("warning") => HealthStatus::Warning,
            Some("maintenance") => HealthStatus::Maintenance,
            Some(_) => HealthStatus::Critical,
        }
    }
}

fn target(entry: &CatalogEntry, settings: &Consul) -> Option<Target> {
    let own = entry.service_address.as_deref().filter(|text| !text.is_empty() && settings.prefer_service_address);
    let host = own.or(entry.address.as_deref().filter(|text| !text.is_empty()))?;
    let port = u16::try_from(entry.service_port?).ok().filter(|port| *port != 0)?;
    let tags = entry.service_tags.iter().flatten();
    let listed = tags.filter_map(|tag| settings.weights.iter().find(|(listed, _)| listed == tag));
    let weight = listed.map(|(_, weight)| weight.get()).reduce(f64::max).unwrap_or(1.0);
    Some(Target { host: parse_host(host.as_bytes()).ok()?, port, weight, rank: 0 })
}
