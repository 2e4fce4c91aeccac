//! `analysis.webhooks` and `analysis.alerts`: who is asked and who is told.

use std::time::Duration;

use serin_rollout::event::Severity;
use serin_rollout::{Hook, HookKind, PLAN_ENTRIES_MAX};

use crate::diagnostic::Diagnostic;
use crate::model::{Alert, Webhook};
use crate::raw::{Cx, Fields};
use crate::units;
use crate::yaml::Node;

use super::values::{self, TEXT_BYTES_MAX};
use super::{Names, limited};

/// Times a hook can be asked again.
const RETRIES_MAX: u64 = 10;
const TIMEOUT: Duration = Duration::from_secs(10);
const HOOK: &str = "{name: load-test, url: \"http://tester/\", type: rollout}";

const KINDS: [(&str, HookKind); 8] = [
    ("rollout", HookKind::Rollout),
    ("confirm-rollout", HookKind::ConfirmRollout),
    ("pre-rollout", HookKind::PreRollout),
    ("confirm-traffic-increase", HookKind::ConfirmTrafficIncrease),
    ("confirm-promotion", HookKind::ConfirmPromotion),
    ("post-rollout", HookKind::PostRollout),
    ("rollback", HookKind::Rollback),
    ("event", HookKind::Event),
];

pub(super) fn webhooks(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> (Vec<Hook>, Vec<Webhook>) {
    let Some(entry) = fields.take(cx, "webhooks") else { return (Vec::new(), Vec::new()) };
    let items = limited(cx, "webhooks", entry, PLAN_ENTRIES_MAX, "[{name: load-test, url: \"http://tester/\"}]");
    items.iter().filter_map(|item| webhook(cx, item)).unzip()
}

fn webhook(cx: &Cx<'_>, item: &Node<'_>) -> Option<(Hook, Webhook)> {
    let mut fields = Fields::open(cx, "webhooks", item, HOOK)?;
    let name = fields.require(cx, "name", "a webhook", "write `name: load-test`");
    let name =
        name.and_then(|entry| cx.scalar("name", &entry.value, |text| units::visible(text, 253, "a name", "load-test")));
    let url = fields.require(cx, "url", "a webhook", "write `url: http://tester/`");
    let url = url.and_then(|entry| cx.scalar("url", &entry.value, |text| values::url(text, "http://tester/")));
    let kind = fields.scalar(cx, "type", |text| units::choice(text, &KINDS)).unwrap_or(HookKind::Rollout);
    let timeout = fields.scalar(cx, "timeout", |text| units::duration(text, 1, "10s")).unwrap_or(TIMEOUT);
    let retries = fields.scalar(cx, "retries", |text| units::whole(text, 0..=RETRIES_MAX, "3")).unwrap_or(0);
    let unchecked = fields.get("disableTLS").map(|entry| entry.key_span);
    let unchecked_tls = fields.scalar(cx, "disableTLS", units::boolean).unwrap_or(false);
    if let (Some(span), Some(url)) = (unchecked.filter(|_| unchecked_tls), &url)
        && url.starts_with("http://")
    {
        let message = "`disableTLS` has no effect: this address is not `https`";
        cx.push(Diagnostic::warning("config/no-effect", span, message).help("remove the line"));
    }
    let mute_alert = fields.scalar(cx, "muteAlert", units::boolean).unwrap_or(false);
    let metadata = fields.take(cx, "metadata").map_or_else(Vec::new, |entry| {
        let name = |text: &str| units::visible(text, 253, "a name", "cmd");
        let value = |text: &str| values::text(text, TEXT_BYTES_MAX, "a text", "hey -z 1m http://world/");
        values::pairs(cx, "metadata", entry, "{type: cmd, cmd: \"hey -z 1m http://world/\"}", name, value)
    });
    fields.finish(cx);
    let retries = u32::try_from(retries).unwrap_or(0);
    let webhook = Webhook { url: url?, timeout, retries, unchecked_tls, mute_alert, metadata };
    Some((Hook { name: name?, kind }, webhook))
}

pub(super) fn alerts(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, providers: &Names) -> Vec<Alert> {
    let Some(entry) = fields.take(cx, "alerts") else { return Vec::new() };
    let items = limited(cx, "alerts", entry, PLAN_ENTRIES_MAX, "[{name: team, providerRef: {name: slack}}]");
    items.iter().filter_map(|item| alert(cx, item, providers)).collect()
}

fn alert(cx: &Cx<'_>, item: &Node<'_>, providers: &Names) -> Option<Alert> {
    let mut fields = Fields::open(cx, "alerts", item, "{name: team, providerRef: {name: slack}}")?;
    let name = fields.require(cx, "name", "an alert", "write `name: team`");
    let name =
        name.and_then(|entry| cx.scalar("name", &entry.value, |text| units::visible(text, 253, "a name", "team")));
    let words = [("info", Severity::Info), ("warn", Severity::Warn), ("error", Severity::Error)];
    let severity = fields.scalar(cx, "severity", |text| units::choice(text, &words)).unwrap_or(Severity::Info);
    let provider = if fields.has("providerRef") {
        let reference = values::reference(cx, &mut fields, "providerRef");
        reference.and_then(|(name, node)| providers.find(cx, &name, node))
    } else {
        fields.require(cx, "providerRef", "an alert", "write `providerRef: {name: slack}`");
        None
    };
    fields.finish(cx);
    Some(Alert { name: name?, provider: provider?, severity })
}
