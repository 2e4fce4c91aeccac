//! Metric providers: one question, one number.

use std::time::Duration;

use serin_config::model::{Credentials, MetricKind};
use serin_rollout::Reading;

use super::http::Clients;

/// A question for a metric provider, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// What the provider speaks.
    pub kind: MetricKind,
    /// Its base address.
    pub address: String,
    /// Sent along.
    pub headers: Vec<(String, String)>,
    /// Who asks. Secrets are read at each ask.
    pub credentials: Credentials,
    /// Of Amazon's services.
    pub region: Option<String>,
    /// Certificates are not checked.
    pub unchecked_tls: bool,
    /// In the provider's own language, with nothing left to fill in.
    pub query: String,
    /// The window the query was told of; providers that want a range get ten of these, as Flagger gives them.
    pub window: Duration,
}

impl Query {
    /// What the provider says, and why.
    pub(super) async fn ask(&self, _clients: &Clients) -> (Reading, String) {
        (Reading::ProviderError, format!("{:?} cannot be asked", self.kind))
    }
}
