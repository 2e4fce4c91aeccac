//! `io.l5d.ingress`: names by the rules of Kubernetes ingresses, given as data.
//!
//! Nothing here asks a Kubernetes API, so a file cannot have this identifier; whoever has the ingresses can.

use super::without_port;
use crate::model::TextMatch;

/// An ingress.
#[derive(Clone, Debug)]
pub struct Ingress {
    /// Its namespace.
    pub namespace: String,
    /// Its annotation `kubernetes.io/ingress.class`.
    pub class: Option<String>,
    /// Where requests go that no rule of any ingress takes.
    pub default_backend: Option<IngressBackend>,
    /// In order.
    pub rules: Vec<IngressRule>,
}

/// One path of one host.
#[derive(Clone, Debug)]
pub struct IngressRule {
    host: Option<String>,
    path: Option<TextMatch>,
    backend: IngressBackend,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressBackend {
    /// Name of the service.
    pub service: String,
    /// Name or number.
    pub port: String,
}

impl IngressRule {
    /// Hosts are compared exactly, without port; `path` is an expression that has to match the whole path, without
    /// query. What is absent or empty matches any.
    ///
    /// # Errors
    /// `path` is no expression, or one that is too large.
    pub fn new(host: Option<&str>, path: Option<&str>, backend: IngressBackend) -> Result<Self, regex::Error> {
        let written = |text: &&str| !text.is_empty();
        let path = path.filter(written).map(TextMatch::regex).transpose()?;
        Ok(Self { host: host.filter(written).map(ToOwned::to_owned), path, backend })
    }
}

/// The labels behind the prefix: namespace, port, service. The first rule of the first ingress wins, then the first
/// ingress with a default backend. An ingress of another class than `class` is passed over, one without class is not.
pub fn ingress<'i>(ingresses: &'i [Ingress], class: &str, host: Option<&[u8]>, path: &[u8]) -> Option<[&'i str; 3]> {
    let ours = |ingress: &&Ingress| ingress.class.as_deref().is_none_or(|written| written == class);
    let name = |ingress: &'i Ingress, backend: &'i IngressBackend| {
        [ingress.namespace.as_str(), backend.port.as_str(), backend.service.as_str()]
    };
    let host = host.map(without_port);
    let matches = |rule: &&IngressRule| {
        rule.host.as_deref().is_none_or(|wanted| Some(wanted.as_bytes()) == host)
            && rule.path.as_ref().is_none_or(|wanted| wanted.matches(path))
    };
    let by_rule = |ingress: &'i Ingress| Some(name(ingress, &ingress.rules.iter().find(matches)?.backend));
    let by_default = |ingress: &'i Ingress| Some(name(ingress, ingress.default_backend.as_ref()?));
    let list = || ingresses.iter().filter(ours);
    list().find_map(by_rule).or_else(|| list().find_map(by_default))
}
