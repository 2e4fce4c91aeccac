//! The bodies, one function for each kind of provider.

use reqwest::Url;
use serde_json::{Map, Value, json};
use serin_config::model::{AlertKind, AlertProvider};
use serin_config::template;
use serin_rollout::Ppm;
use serin_rollout::event::Severity;

use super::super::date::rfc3339;
use super::AlertMessage;

/// An alert at an alertmanager that nobody ends ends by itself after so many seconds; one of severity info after
/// [`INFO_S_MAX`].
const ALERT_S_MAX: u64 = 24 * 3600;
const INFO_S_MAX: u64 = 300;

/// What is posted. `wanted`: it is loud enough to be told; otherwise it only ends others.
pub(super) fn of(provider: &AlertProvider, url: &Url, wanted: bool, alert: &AlertMessage) -> Result<Vec<u8>, String> {
    let body = match provider.kind {
        AlertKind::Alertmanager => alertmanager(wanted, alert),
        AlertKind::Discord | AlertKind::Slack => slack(provider, alert, "good", "danger"),
        AlertKind::Gchat => gchat(alert),
        AlertKind::MsTeams if is_workflow(url) => adaptive_card(alert),
        AlertKind::MsTeams => message_card(alert),
        AlertKind::Rocket => slack(provider, alert, BLUE, RED),
        AlertKind::Webhook => match &provider.template {
            Some(template) => return filled_in(template, alert),
            None => plain(alert),
        },
    };
    serde_json::to_vec(&body).map_err(|error| error.to_string())
}

const BLUE: &str = "#0076D7";
const RED: &str = "#FF0000";

/// Slack's incoming webhooks; Discord and Rocket.Chat take the same.
fn slack(provider: &AlertProvider, alert: &AlertMessage, fine: &str, bad: &str) -> Value {
    let fields = alert.fields.iter().map(|(title, value)| json!({"title": title, "value": value, "short": false}));
    json!({
        "channel": provider.channel.as_deref().unwrap_or("general"),
        "username": provider.username,
        "icon_url": "",
        "icon_emoji": ":rocket:",
        "attachments": [{
            "color": if alert.severity == Severity::Error { bad } else { fine },
            "author_name": alert.subject(),
            "text": alert.text,
            "mrkdwn_in": ["text"],
            "fields": fields.collect::<Vec<_>>(),
        }],
    })
}

/// Microsoft 365 connector cards.
fn message_card(alert: &AlertMessage) -> Value {
    let color = if alert.severity == Severity::Error { RED } else { BLUE };
    let facts = alert.fields.iter().map(|(name, value)| json!({"name": name, "value": value}));
    json!({
        "@type": "MessageCard",
        "@context": "http://schema.org/extensions",
        "themeColor": color.trim_start_matches('#'),
        "summary": alert.subject(),
        "sections": [{
            "activityTitle": alert.text,
            "activitySubtitle": alert.subject(),
            "facts": facts.collect::<Vec<_>>(),
        }],
    })
}

/// Workflows (Power Automate) do not take connector cards. Their addresses name a trigger.
fn is_workflow(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host.ends_with(".logic.azure.com") || host.ends_with(".powerplatform.com") || url.path().contains("/triggers/")
}

fn adaptive_card(alert: &AlertMessage) -> Value {
    let color = if alert.severity == Severity::Error { "Attention" } else { "Default" };
    let facts = alert.fields.iter().map(|(title, value)| json!({"title": title, "value": value}));
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": alert.text, "weight": "Bolder", "color": color, "wrap": true},
            {"type": "TextBlock", "text": alert.subject(), "isSubtle": true, "wrap": true},
            {"type": "FactSet", "facts": facts.collect::<Vec<_>>()},
        ],
    });
    json!({
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    })
}

/// Google Chat takes a little HTML in texts.
fn gchat(alert: &AlertMessage) -> Value {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let paragraph = |text: String| json!({"textParagraph": {"text": text}});
    let text = escaped(&alert.text);
    let color = if alert.severity == Severity::Error { RED } else { BLUE };
    let mut widgets = vec![paragraph(format!("<font color=\"{color}\">{text}</font>"))];
    widgets.extend(
        alert.fields.iter().map(|(name, value)| paragraph(format!("<b>{}</b>: {}", escaped(name), escaped(value)))),
    );
    json!({"cards": [{
        "header": {"title": alert.subject(), "subtitle": alert.revision},
        "sections": [{"widgets": widgets}],
    }]})
}

/// A rollout has at most one alert there: each one ends those of other severities. So trouble ends when something
/// better is told, and a start that goes well leaves nothing behind.
fn alertmanager(wanted: bool, alert: &AlertMessage) -> Value {
    let now = alert.at_ms / 1000;
    let labels = |severity: Severity| {
        json!({
            "alertname": match severity {
                Severity::Error => "SerinRolloutFailed",
                Severity::Warn => "SerinRolloutWaiting",
                Severity::Info => "SerinRolloutProgress",
            },
            "rollout": &*alert.rollout,
            "namespace": alert.namespace,
            "severity": word(severity),
        })
    };
    let mut annotations = Map::new();
    for (name, value) in [
        ("summary", alert.text.as_str()),
        ("revision", alert.revision.as_str()),
        ("phase", alert.phase.as_str()),
        ("code", alert.code.as_str()),
        ("weight", percent(alert.weight_ppm).as_str()),
    ] {
        annotations.insert(name.into(), value.into());
    }
    let fields: Vec<String> = alert.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    annotations.insert("description".into(), fields.join("\n").into());
    let last_s = if alert.severity == Severity::Info { INFO_S_MAX } else { ALERT_S_MAX };
    let each = [Severity::Info, Severity::Warn, Severity::Error].into_iter().map(|severity| {
        if wanted && severity == alert.severity {
            let (starts, ends) = (rfc3339(now), rfc3339(now + last_s));
            json!({"labels": labels(severity), "annotations": annotations, "startsAt": starts, "endsAt": ends})
        } else {
            json!({"labels": labels(severity), "annotations": annotations, "endsAt": rfc3339(now)})
        }
    });
    Value::Array(each.collect())
}

/// Our own shape.
fn plain(alert: &AlertMessage) -> Value {
    let fields: Map<String, Value> =
        alert.fields.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    json!({
        "name": &*alert.rollout,
        "namespace": alert.namespace,
        "revision": alert.revision,
        "phase": alert.phase,
        "code": alert.code,
        "severity": word(alert.severity),
        "text": alert.text,
        "weight": percent(alert.weight_ppm),
        "timestamp": alert.at_ms.to_string(),
        "fields": fields,
    })
}

fn filled_in(template: &str, alert: &AlertMessage) -> Result<Vec<u8>, String> {
    let (weight, timestamp) = (percent(alert.weight_ppm), alert.at_ms.to_string());
    let values = [
        &*alert.code,
        &*alert.rollout,
        &*alert.namespace,
        &*alert.phase,
        &*alert.revision,
        word(alert.severity),
        &*alert.text,
        &*timestamp,
        &*weight,
    ];
    let text = template::render_alert(template, &values).map_err(|error| error.to_string())?;
    serde_json::from_str::<serde::de::IgnoredAny>(&text)
        .map_err(|error| format!("its template gives no JSON: {error}"))?;
    Ok(text.into_bytes())
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Info => "info",
        Severity::Warn => "warn",
    }
}

/// A share in percent without the sign: `10`, `0.5`.
fn percent(ppm: u32) -> String {
    Ppm::clamped(i64::from(ppm)).to_string().trim_end_matches('%').to_owned()
}
