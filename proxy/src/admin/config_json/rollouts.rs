//! Rollouts, and what they ask, tell and keep, in the keys of the file.
//!
//! Of a secret only where it comes from is shown, and of an address nothing behind its `?`.

use std::time::Duration;

use serde_json::{Map, Value, json};
use serin_config::model::{
    Alert, AlertKind, AlertProvider, Config, Credentials, Judge, MatchRule, MetricKind, MetricSource, MetricTemplate,
    Mirror, Rollout, Secret, Storage, Strategy, TextMatch, Webhook,
};
use serin_rollout::event::Severity;
use serin_rollout::{GuardPolicy, GuardSettings, HookKind, Kind, Metric, OnInsufficient, Pace, Plan, Ppm, Settings};

/// The keys of the file that this module knows, with their values.
pub(super) fn keys(config: &Config) -> Map<String, Value> {
    let list = |values: Vec<Value>| (!values.is_empty()).then_some(Value::Array(values));
    map([
        ("metricTemplates", list(config.metric_templates.iter().map(template).collect())),
        ("alertProviders", list(config.alert_providers.iter().map(provider).collect())),
        ("rollouts", list(config.rollouts.iter().map(|one| rollout(config, one)).collect())),
        ("storage", config.storage.as_ref().map(storage)),
    ])
}

/// An object of what is there.
fn map<const N: usize>(entries: [(&str, Option<Value>); N]) -> Map<String, Value> {
    entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

fn object<const N: usize>(entries: [(&str, Option<Value>); N]) -> Value {
    Value::Object(map(entries))
}

fn text(value: &impl ToString) -> Option<Value> {
    Some(Value::String(value.to_string()))
}

fn texts(pairs: &[(String, String)]) -> Option<Value> {
    let pairs = || pairs.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    (pairs().len() > 0).then(|| Value::Object(pairs().collect()))
}

fn flag(on: bool) -> Option<Value> {
    on.then_some(Value::Bool(true))
}

fn time(duration: Duration) -> Option<Value> {
    Some(millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

fn millis(ms: u64) -> Value {
    let text = if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") };
    Value::String(text)
}

fn storage(storage: &Storage) -> Value {
    match storage {
        Storage::File { dir } => json!({"kind": "file", "dir": dir.display().to_string()}),
        Storage::Memory => json!({"kind": "memory"}),
    }
}

fn rollout(config: &Config, rollout: &Rollout) -> Value {
    let canary = rollout.canary.to_string();
    let revision = rollout.revision.as_str().strip_prefix(&canary).and_then(|rest| rest.strip_prefix('@'));
    let server = rollout.metrics.iter().find_map(|source| match source {
        MetricSource::Query { address, .. } => Some(Value::String(shown_url(address))),
        MetricSource::Own { .. } | MetricSource::Template { .. } => None,
    });
    let mut keys = map([
        ("name", text(&rollout.name)),
        ("router", text(&rollout.router)),
        ("path", text(&rollout.path)),
        ("primary", text(&rollout.primary)),
        ("canary", Some(Value::String(canary.clone()))),
        ("revision", revision.map(Value::from)),
        ("fallback", text(&rollout.fallback)),
        ("stickiness", rollout.stickiness.as_ref().and_then(|key| serde_json::to_value(super::stickiness(key)).ok())),
        ("onUnhealthy", rollout.on_unhealthy.map(|rule| Value::from(super::on_unhealthy(rule)))),
        ("judge", (rollout.judge == Judge::Off).then(|| Value::from("off"))),
        ("dryRun", flag(rollout.judge == Judge::DryRun)),
        ("suspend", flag(rollout.suspend)),
        ("skipAnalysis", flag(rollout.skip_analysis)),
        ("progressDeadlineSeconds", Some(Value::from(rollout.progress_deadline.as_secs()))),
        ("metricsServer", server),
    ]);
    let (mut pace, mut analysis) = match &rollout.pace {
        Pace::Evidence(policy) => evidence(policy.settings()),
        Pace::Interval(plan, guard) => interval(plan, guard.as_ref()),
    };
    analysis.extend(outside(config, rollout));
    analysis.extend(strategy(rollout));
    keys.append(&mut pace);
    keys.insert("analysis".to_owned(), Value::Object(analysis));
    Value::Object(keys)
}

/// Keys of the rollout and of its block.
fn evidence(settings: &Settings) -> (Map<String, Value>, Map<String, Value>) {
    let keys = map([
        ("pace", Some(Value::from("evidence"))),
        ("guard", Some(guard(settings.guard.settings(), true))),
        ("stepDeadline", Some(settings.step_deadline_ms.map_or(Value::from("off"), millis))),
        ("onInsufficient", Some(Value::from(on_insufficient(settings.on_insufficient)))),
        ("minRequests", Some(Value::from(settings.requests_min))),
    ]);
    let analysis = map([
        ("interval", Some(millis(settings.interval_ms))),
        ("threshold", Some(Value::from(settings.failed_checks_max))),
        ("stepWeights", Some(settings.steps.iter().map(Ppm::to_string).collect())),
        ("stepWeightPromotion", settings.promotion_step.as_ref().and_then(text)),
    ]);
    (keys, analysis)
}

fn interval(plan: &Plan, policy: Option<&GuardPolicy>) -> (Map<String, Value>, Map<String, Value>) {
    let written = plan.analysis();
    let guard = policy.map_or(Value::from("off"), |policy| guard(policy.settings(), false));
    let keys = map([("pace", Some(Value::from("interval"))), ("guard", Some(guard))]);
    let analysis = map([
        ("interval", Some(millis(plan.interval_ms()))),
        ("threshold", Some(Value::from(plan.failed_checks_max()))),
        ("stepWeight", written.step_weight.map(Value::from)),
        ("stepWeights", written.step_weights.clone().map(Value::from)),
        ("maxWeight", written.max_weight.map(Value::from)),
        ("stepWeightPromotion", written.step_weight_promotion.map(Value::from)),
        ("iterations", written.iterations.map(Value::from)),
    ]);
    (keys, analysis)
}

const KINDS: [(&str, Kind); 5] = [
    ("clientError", Kind::ClientError),
    ("failure", Kind::Failure),
    ("slow50", Kind::Slow50),
    ("slow90", Kind::Slow90),
    ("slow99", Kind::Slow99),
];

fn guard(settings: &GuardSettings, steps: bool) -> Value {
    let by_kind = |value: &dyn Fn(Kind) -> Value| -> Value {
        Value::Object(KINDS.iter().map(|(name, kind)| ((*name).to_owned(), value(*kind))).collect())
    };
    let tolerance = |kind: Kind| Value::from(f64::from(settings.tolerance_milli[kind.index()]) / 1_000.0);
    let stake = |kind: Kind| Value::String(settings.stakes[kind.index()].to_string());
    let written = settings.stakes != GuardSettings::default().stakes;
    object([
        ("alpha", text(&settings.alpha)),
        ("beta", steps.then(|| Value::String(settings.beta.to_string()))),
        ("errorBudget", settings.error_budget.as_ref().and_then(text)),
        ("tolerances", Some(by_kind(&tolerance))),
        ("stakes", written.then(|| by_kind(&stake))),
    ])
}

fn on_insufficient(word: OnInsufficient) -> &'static str {
    match word {
        OnInsufficient::Advance => "advance",
        OnInsufficient::Hold => "hold",
        OnInsufficient::Rollback => "rollback",
    }
}

/// How requests come to the canary.
fn strategy(rollout: &Rollout) -> Map<String, Value> {
    let mut keys = match &rollout.strategy {
        Strategy::Match(rules) => map([("match", Some(rules.iter().map(match_rule).collect()))]),
        Strategy::Weights => Map::new(),
        Strategy::Mirror(Mirror { share, methods }) => map([
            ("mirror", Some(Value::Bool(true))),
            ("mirrorWeight", text(share)),
            ("mirrorMethods", Some(Value::from(methods.as_slice()))),
            ("mirrorUnsafe", flag(methods.iter().any(|method| !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS")))),
        ]),
    };
    if let Some(affinity) = &rollout.affinity {
        let primary = match &rollout.pace {
            Pace::Interval(plan, _) => plan.analysis().cookies.as_ref().and_then(|(_, primary)| primary.clone()),
            Pace::Evidence(_) => None,
        };
        let mut cookie = attributes(&affinity.attributes);
        cookie.insert("cookieName".to_owned(), Value::from(affinity.cookie.as_str()));
        cookie.extend(primary.map(|primary| ("primaryCookieName".to_owned(), Value::String(primary))));
        keys.insert("sessionAffinity".to_owned(), Value::Object(cookie));
    }
    keys
}

/// `; Max-Age=60; Secure` in the keys of the file.
fn attributes(text: &str) -> Map<String, Value> {
    let key = |attribute: &str| {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        let value = match name {
            "HttpOnly" | "Partitioned" | "Secure" => Value::Bool(true),
            "Max-Age" => value.parse::<u64>().map_or(Value::Null, Value::from),
            _ => Value::from(value),
        };
        let key = match name {
            "Max-Age" => "maxAge".to_owned(),
            _ => name.chars().take(1).flat_map(char::to_lowercase).chain(name.chars().skip(1)).collect(),
        };
        (key, value)
    };
    text.split("; ").filter(|attribute| !attribute.is_empty()).map(key).collect()
}

fn match_rule(rule: &MatchRule) -> Value {
    let conditions = |list: &[(String, TextMatch)]| {
        let condition = |(name, condition): &(String, TextMatch)| {
            let way = match condition {
                TextMatch::Exact(_) => "exact",
                TextMatch::Prefix(_) => "prefix",
                TextMatch::Regex(_) => "regex",
                TextMatch::Suffix(_) => "suffix",
            };
            (name.clone(), json!({way: condition.written()}))
        };
        (!list.is_empty()).then(|| Value::Object(list.iter().map(condition).collect()))
    };
    let when = rule.when != serin_config::model::When::default();
    object([
        ("headers", conditions(&rule.headers)),
        ("queryParams", conditions(&rule.query)),
        ("when", when.then(|| serde_json::to_value(super::when(&rule.when)).unwrap_or_default())),
    ])
}

/// Whom it asks and tells.
fn outside(config: &Config, rollout: &Rollout) -> Map<String, Value> {
    let (metrics, hooks) = match &rollout.pace {
        Pace::Evidence(policy) => (&*policy.settings().metrics, &*policy.settings().hooks),
        Pace::Interval(plan, _) => (plan.metrics(), plan.hooks()),
    };
    let list = |values: Vec<Value>| (!values.is_empty()).then_some(Value::Array(values));
    let metrics = metrics.iter().zip(&rollout.metrics).map(|(metric, source)| self::metric(config, metric, source));
    let hooks = hooks.iter().zip(&rollout.hooks).map(|(hook, webhook)| self::webhook(&hook.name, hook.kind, webhook));
    map([
        ("metrics", list(metrics.collect())),
        ("webhooks", list(hooks.collect())),
        ("alerts", list(rollout.alerts.iter().map(|one| alert(config, one)).collect())),
    ])
}

fn metric(config: &Config, metric: &Metric, source: &MetricSource) -> Value {
    let (min, max) = metric.range.unwrap_or_default();
    let range = object([("min", min.map(Value::from)), ("max", max.map(Value::from))]);
    let mut keys = map([("name", text(&metric.name)), ("thresholdRange", Some(range))]);
    let (window, more) = match source {
        MetricSource::Own { window } => (window, Map::new()),
        MetricSource::Template { template, window, variables } => {
            let name = config.metric_templates.get(*template).map_or("", |template| template.name.as_str());
            let reference = ("templateRef", Some(json!({"name": name})));
            (window, map([reference, ("templateVariables", texts(variables))]))
        }
        MetricSource::Query { query, window, .. } => (window, map([("query", text(query))])),
    };
    keys.extend(time(*window).map(|window| ("interval".to_owned(), window)));
    keys.extend(more);
    Value::Object(keys)
}

fn webhook(name: &str, kind: HookKind, hook: &Webhook) -> Value {
    let kind = match kind {
        HookKind::ConfirmPromotion => "confirm-promotion",
        HookKind::ConfirmRollout => "confirm-rollout",
        HookKind::ConfirmTrafficIncrease => "confirm-traffic-increase",
        HookKind::Event => "event",
        HookKind::PostRollout => "post-rollout",
        HookKind::PreRollout => "pre-rollout",
        HookKind::Rollback => "rollback",
        HookKind::Rollout => "rollout",
    };
    object([
        ("name", Some(Value::from(name))),
        ("type", Some(Value::from(kind))),
        ("url", Some(Value::String(shown_url(&hook.url)))),
        ("timeout", time(hook.timeout)),
        ("retries", Some(Value::from(hook.retries))),
        ("disableTLS", flag(hook.unchecked_tls)),
        ("muteAlert", flag(hook.mute_alert)),
        ("metadata", texts(&hook.metadata)),
    ])
}

fn alert(config: &Config, alert: &Alert) -> Value {
    let severity = match alert.severity {
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Error => "error",
    };
    let provider = config.alert_providers.get(alert.provider).map_or("", |provider| provider.name.as_str());
    json!({"name": alert.name, "severity": severity, "providerRef": {"name": provider}})
}

fn provider(provider: &AlertProvider) -> Value {
    let kind = match provider.kind {
        AlertKind::Alertmanager => "alertmanager",
        AlertKind::Discord => "discord",
        AlertKind::Gchat => "gchat",
        AlertKind::MsTeams => "msteams",
        AlertKind::Rocket => "rocket",
        AlertKind::Slack => "slack",
        AlertKind::Webhook => "webhook",
    };
    object([
        ("name", text(&provider.name)),
        ("type", Some(Value::from(kind))),
        ("address", Some(secret(&provider.address))),
        ("channel", provider.channel.as_ref().and_then(text)),
        ("username", text(&provider.username)),
        ("token", provider.token.as_ref().map(secret)),
        ("proxy", provider.proxy.as_deref().map(|proxy| Value::String(shown_url(proxy)))),
        ("template", provider.template.as_ref().and_then(text)),
    ])
}

fn template(template: &MetricTemplate) -> Value {
    let kind = match template.kind {
        MetricKind::CloudWatch => "cloudwatch",
        MetricKind::Datadog => "datadog",
        MetricKind::Prometheus => "prometheus",
    };
    let credentials = match &template.credentials {
        Credentials::None => None,
        Credentials::Basic { username, password } => {
            Some(json!({"username": secret(username), "password": secret(password)}))
        }
        Credentials::Bearer(token) => Some(json!({"bearer": secret(token)})),
        Credentials::Datadog { api_key, application_key } => {
            Some(json!({"apiKey": secret(api_key), "applicationKey": secret(application_key)}))
        }
        Credentials::SigV4 => Some(json!({"sigv4": true})),
    };
    let provider = object([
        ("type", Some(Value::from(kind))),
        ("address", Some(Value::String(shown_url(&template.address)))),
        ("region", template.region.as_ref().and_then(text)),
        ("headers", texts(&template.headers)),
        ("credentials", credentials),
        ("insecureSkipVerify", flag(template.unchecked_tls)),
    ]);
    json!({"name": template.name, "provider": provider, "query": template.query})
}

/// Where a secret comes from.
fn secret(secret: &Secret) -> Value {
    match secret {
        Secret::Env(name) => json!({"env": name}),
        Secret::File(path) => json!({"file": path.display().to_string()}),
        Secret::Plain(_) => Value::from("(written in the file)"),
    }
}

/// An address without what may be a key.
fn shown_url(url: &str) -> String {
    url.split_once('?').map_or_else(|| url.to_owned(), |(path, _)| format!("{path}?…"))
}
