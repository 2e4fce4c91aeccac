//! Alerts: people are told where they already look. Wire-compatible with Flagger's; Alertmanager and a template of one's
//! own come on top.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Url;
use serde_json::Value;
use serin_config::model::{AlertKind, AlertProvider, Rollout, Strategy};
use serin_rollout::event::Severity;
use serin_rollout::{Pace, Ppm};

use super::desk::Tuning;
use super::hook::{send_with_retries, why};
use super::http::{Call, Clients, Reply, Way};
use super::secret;
use crate::clock;

mod body;

#[cfg(test)]
mod tests;

/// Each try has so long.
pub const ALERT_TIMEOUT: Duration = Duration::from_secs(5);
/// Tries after the first, with growing waits.
pub const ALERT_RETRIES: u32 = 4;
/// The same alert of the same run is not told again within this time.
pub const ALERT_REPEAT_AFTER_MS: u64 = 600_000;

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
    /// Name and value of what is shown beside the text, such as [`AlertMessage::fields_of`] gives.
    pub fields: Vec<(String, String)>,
    /// The canary's share after it, parts per million.
    pub weight_ppm: u32,
    /// When the run it belongs to began: the same text of another run is another alert.
    pub run_started_ms: u64,
    /// When, ms since 1970.
    pub at_ms: u64,
}

impl AlertMessage {
    /// Flagger's fields: target, failed checks threshold, progress deadline, traffic routing.
    pub fn fields_of(rollout: &Rollout) -> Vec<(String, String)> {
        let (failed_checks_max, steps) = match &rollout.pace {
            Pace::Evidence(policy) => (policy.settings().failed_checks_max, policy.settings().steps.clone()),
            Pace::Interval(plan, _) => (plan.failed_checks_max(), plan.steps()),
        };
        vec![
            ("Target".into(), format!("Rollout/{}.{}", rollout.name, rollout.router)),
            ("Failed checks threshold".into(), failed_checks_max.to_string()),
            ("Progress deadline".into(), format!("{}s", rollout.progress_deadline.as_secs())),
            ("Traffic routing".into(), routing(&rollout.strategy, &steps)),
        ]
    }

    /// `<name>.<router>`, Flagger's name of a thing.
    fn subject(&self) -> String {
        format!("{}.{}", self.rollout, self.namespace)
    }
}

/// What was told lately, so that it is not told twice.
#[derive(Default)]
pub(super) struct Recent(Mutex<VecDeque<Heard>>);

/// So many are remembered.
const RECENT_MAX: usize = 1024;

struct Heard {
    provider: String,
    alert: AlertMessage,
    at_ms: u64,
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Failed,
    /// Too quiet for this provider, or told before.
    NotSent,
    Sent,
}

/// Tells a provider, if it wants to hear of it.
pub(super) async fn tell(
    clients: &Clients,
    tuning: &Tuning,
    recent: &Recent,
    provider: &AlertProvider,
    least: Severity,
    alert: &AlertMessage,
) -> Outcome {
    let wanted = alert.severity >= least;
    // An alertmanager is sent quiet alerts too: they end louder ones.
    if !wanted && provider.kind != AlertKind::Alertmanager || recent.has(&provider.name, alert, clock::now_ms()) {
        return Outcome::NotSent;
    }
    match post(clients, tuning, provider, wanted, alert).await {
        Ok(()) => {
            recent.add(&provider.name, alert, clock::now_ms());
            Outcome::Sent
        }
        Err(why) => {
            tracing::warn!(provider = provider.name, rollout = %alert.rollout, text = alert.text, why, "alert lost");
            Outcome::Failed
        }
    }
}

async fn post(
    clients: &Clients,
    tuning: &Tuning,
    provider: &AlertProvider,
    wanted: bool,
    alert: &AlertMessage,
) -> Result<(), String> {
    let address = secret::read(&provider.address).await.map_err(|error| error.to_string())?;
    let url = endpoint(provider.kind, address.trim()).ok_or("its address is none")?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(token) = &provider.token {
        let token = secret::read(token).await.map_err(|error| error.to_string())?;
        let token = secret::header(&format!("Bearer {}", token.trim())).map_err(|error| error.to_string())?;
        headers.insert(AUTHORIZATION, token);
    }
    let body = Bytes::from(body::of(provider, &url, wanted, alert)?);
    let way = Way { unchecked_tls: false, proxy: provider.proxy.clone() };
    let call = Call { method: Method::POST, url, headers, basic: None, body, timeout: ALERT_TIMEOUT, way };
    let reply = send_with_retries(clients, tuning, &call, ALERT_RETRIES).await.map_err(|error| error.to_string())?;
    if reply.status.is_success() && !is_slack_refusal(provider.kind, &reply) { Ok(()) } else { Err(why(&reply)) }
}

/// The address to post to. `None`: it is none.
fn endpoint(kind: AlertKind, address: &str) -> Option<Url> {
    let mut url = Url::parse(address).ok()?;
    let behind = match kind {
        AlertKind::Alertmanager => "/api/v2/alerts",
        AlertKind::Discord => "/slack",
        AlertKind::Gchat | AlertKind::MsTeams | AlertKind::Rocket | AlertKind::Slack | AlertKind::Webhook => "",
    };
    let path = url.path().trim_end_matches('/');
    if !behind.is_empty() && !path.ends_with(behind) {
        let path = format!("{path}{behind}");
        url.set_path(&path);
    }
    Some(url)
}

/// Slack's API says no with 200 and `{"ok": false}`.
fn is_slack_refusal(kind: AlertKind, reply: &Reply) -> bool {
    let answer = || serde_json::from_slice::<Value>(&reply.body).ok();
    kind == AlertKind::Slack && answer().is_some_and(|answer| answer["ok"] == Value::Bool(false))
}

impl Recent {
    fn has(&self, provider: &str, alert: &AlertMessage, now_ms: u64) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while heard.front().is_some_and(|first| now_ms.saturating_sub(first.at_ms) >= ALERT_REPEAT_AFTER_MS) {
            heard.pop_front();
        }
        heard.iter().any(|one| one.provider == provider && one.is_same(alert))
    }

    fn add(&self, provider: &str, alert: &AlertMessage, at_ms: u64) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() == RECENT_MAX {
            heard.pop_front();
        }
        // Of a rollout only what was told last counts: after something else, the same is news again.
        heard.retain(|one| one.provider != provider || one.alert.rollout != alert.rollout);
        heard.push_back(Heard { provider: provider.to_owned(), alert: alert.clone(), at_ms });
    }
}

impl Heard {
    fn is_same(&self, other: &AlertMessage) -> bool {
        let of = |alert: &AlertMessage| {
            let AlertMessage { rollout, revision, severity, run_started_ms, .. } = alert;
            (Arc::clone(rollout), revision.clone(), *severity, *run_started_ms)
        };
        of(&self.alert) == of(other) && self.alert.text == other.text
    }
}

/// Flagger's words for how traffic moves.
fn routing(strategy: &Strategy, steps: &[Ppm]) -> String {
    let percent = |share: &Ppm| share.to_string().trim_end_matches('%').to_owned();
    let (first, last) = match (strategy, steps) {
        (Strategy::Match(_), _) => return "A/B Testing".into(),
        (_, []) => return "Blue/Green".into(),
        (_, [first, .., last]) => (first, last),
        (_, [only]) => (only, only),
    };
    let (first_ppm, mut even) = (first.get(), steps.iter().zip(1_u32..));
    if even.all(|(step, number)| step == last || u64::from(step.get()) == u64::from(first_ppm) * u64::from(number)) {
        return format!("Weight step: {} max: {}", percent(first), percent(last));
    }
    let all: Vec<String> = steps.iter().map(percent).collect();
    format!("Weight steps: {} max: {}", all.join(","), percent(last))
}
