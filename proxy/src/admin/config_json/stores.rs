//! `interpreter` and `interfaces` as they are shown.

use serde::Serialize;
use serin_config::model;

#[derive(Debug, Serialize)]
pub(super) struct Interpreter {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
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
            model::Interpreter::Default { namespace } => Self { kind: "default", namespace: namespace.clone() },
        }
    }
}

impl From<&model::Interface> for Interface {
    fn from(interface: &model::Interface) -> Self {
        let model::Interface::HttpController { address } = interface;
        Self { kind: "io.l5d.httpController", ip: address.ip().to_string(), port: address.port() }
    }
}
