//! Alerts.

use std::sync::Arc;

use serin_config::model::AlertProvider;
use serin_rollout::event::Severity;

use super::desk::Tuning;
use super::http::Clients;

/// Something people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertMessage {
    /// The rollout's name.
    pub rollout: Arc<str>,
    /// Label of its router: what stands where Flagger has a namespace.
    pub namespace: String,
    /// The revision that is judged.
    pub revision: String,
    /// In Flagger's words: [`serin_rollout::Phase::flagger_name`].
    pub phase: String,
    /// The code of [`serin_rollout::Event`], such as `rollback:evidence`.
    pub code: String,
    /// The sentence people read.
    pub text: String,
    /// How loud.
    pub severity: Severity,
    /// Name and value of what is shown beside the text.
    pub fields: Vec<(String, String)>,
    /// The canary's share after it, parts per million.
    pub weight_ppm: u32,
    /// When the run it belongs to began: the same text of another run is another alert.
    pub run_started_ms: u64,
    /// When, ms since 1970.
    pub at_ms: u64,
}

pub(super) async fn tell(
    _clients: &Clients,
    _tuning: &Tuning,
    _provider: &AlertProvider,
    _least: Severity,
    _alert: &AlertMessage,
) -> bool {
    false
}
