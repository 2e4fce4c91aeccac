//! `interpreter` and `interfaces` as they are shown.

use serde::Serialize;
use serin_config::model;

#[derive(Debug, Serialize)]
pub(super) struct Interpreter {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<Retry>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Retry {
    base_seconds: u64,
    max_seconds: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Interface {
    kind: &'static str,
    ip: String,
    port: u16,
}

impl From<&model::Interpreter> for Interpreter {
    fn from(interpreter: &model::Interpreter) -> Self {
        match interpreter {
            model::Interpreter::Default { namespace } => {
                Self { kind: "default", namespace: namespace.clone(), dst: None, retry: None }
            }
            model::Interpreter::NamerdHttp(model::Namerd { at, namespace, retry: (base, max) }) => {
                let host = match &at.host {
                    model::Host::Ip(ip) => ip.to_string(),
                    model::Host::Name(name) => name.clone(),
                    model::Host::Unix(path) => path.display().to_string(),
                };
                Self {
                    kind: "io.l5d.namerd.http",
                    namespace: Some(namespace.clone()),
                    dst: Some(format!("/$/inet/{host}/{}", at.port)),
                    retry: Some(Retry { base_seconds: base.as_secs(), max_seconds: max.as_secs() }),
                }
            }
        }
    }
}

impl From<&model::Interface> for Interface {
    fn from(interface: &model::Interface) -> Self {
        let model::Interface::HttpController { address } = interface;
        Self { kind: "io.l5d.httpController", ip: address.ip().to_string(), port: address.port() }
    }
}
