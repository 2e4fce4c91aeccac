//! `metricTemplates` and `alertProviders`: what of the outside is asked and told, and with which secrets.

use crate::diagnostic::Diagnostic;
use crate::model::{AlertKind, AlertProvider, Credentials, MetricKind, MetricTemplate, Secret};
use crate::raw::{Cx, Fields, not_built};
use crate::source::Span;
use crate::template::{self, TemplateError};
use crate::units::{self, Wrong};
use crate::yaml::{Node, Value, map_spans};

use super::super::rules;
use super::values::{self, PAIRS_MAX, Plain, TEXT_BYTES_MAX};
use super::{Names, limited};

/// Metric templates of one file.
pub const METRIC_TEMPLATES_MAX: usize = 1000;
/// Alert providers of one file.
pub const ALERT_PROVIDERS_MAX: usize = 1000;
/// The longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 16 * 1024;

const TEMPLATE: &str =
    "{name: errors, provider: {type: prometheus, address: \"http://prometheus:9090\"}, query: \"…\"}";
const PROVIDER: &str = "{type: prometheus, address: \"http://prometheus:9090\"}";
const METRIC_KINDS_NOT_BUILT: &[&str] =
    &["dynatrace", "externalmetrics", "graphite", "influxdb", "keptn", "newrelic", "splunk", "stackdriver"];

pub(super) fn metric_templates(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> (Vec<MetricTemplate>, Names) {
    let mut names = Names::new("metricTemplates");
    let Some(entry) = fields.take(cx, "metricTemplates") else { return (Vec::new(), names) };
    let items = limited(cx, "metricTemplates", entry, METRIC_TEMPLATES_MAX, "[]");
    let mut templates = Vec::with_capacity(items.len());
    for item in items {
        match metric_template(cx, item) {
            Some((template, span)) if names.add(cx, &template.name, span) => templates.push(template),
            _ => names.some_refused = true,
        }
    }
    (templates, names)
}

fn metric_template(cx: &Cx<'_>, item: &Node<'_>) -> Option<(MetricTemplate, Span)> {
    let mut fields = Fields::open(cx, "metricTemplates", item, TEMPLATE)?;
    let name = name(cx, &mut fields, "a metric template", "errors");
    let query = fields.require(cx, "query", "a metric template", "write `query: …`, in the language of the provider");
    let query_span = query.map(|entry| entry.value.span);
    let query = query.and_then(|entry| {
        let query = cx.scalar("query", &entry.value, self::query)?;
        check_template(cx, &entry.value, &query, None).then_some(query)
    });
    let help = format!("write `provider: {PROVIDER}`");
    let provider = fields.require(cx, "provider", "a metric template", &help);
    let provider = provider.and_then(|entry| Fields::open(cx, "provider", &entry.value, PROVIDER));
    let provider = provider.and_then(|fields| metric_provider(cx, fields));
    fields.finish(cx);
    let ((name, span), query, provider) = (name?, query?, provider?);
    if provider.kind == MetricKind::CloudWatch
        && !(query.trim_start().starts_with('[') && query.trim_end().ends_with(']'))
    {
        let message = "a query of CloudWatch is a JSON list of `MetricDataQuery`, and this is none";
        let help = "begin with `[{\"Id\": \"e1\", …`";
        cx.push(Diagnostic::error("rollout/query", query_span.unwrap_or(span), message).help(help));
    }
    Some((MetricTemplate { name, query, ..provider }, span))
}

/// The provider of a template, as a template without name and query.
fn metric_provider(cx: &Cx<'_>, mut fields: Fields<'_, '_>) -> Option<MetricTemplate> {
    const KINDS: [(&str, MetricKind); 3] = [
        ("prometheus", MetricKind::Prometheus),
        ("datadog", MetricKind::Datadog),
        ("cloudwatch", MetricKind::CloudWatch),
    ];
    let entry = fields.require(cx, "type", "a provider", "write `type: prometheus`")?;
    let kind = typed(cx, &entry.value, &KINDS, METRIC_KINDS_NOT_BUILT, "let a Prometheus scrape it, and ask that");
    let Some(kind) = kind else {
        fields.abandon();
        return None;
    };
    let errors_before = cx.errors();
    let span = fields.span;
    let region = fields.scalar(cx, "region", |text| {
        let legal = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if legal { Ok(text.to_ascii_lowercase()) } else { Err(Wrong::new("a region of Amazon's", "eu-west-1")) }
    });
    let address = fields.scalar(cx, "address", |text| values::url(text, "http://prometheus:9090"));
    let address = address.or_else(|| match (kind, &region) {
        (MetricKind::Datadog, _) => Some("https://api.datadoghq.com".to_owned()),
        (MetricKind::CloudWatch, Some(region)) => Some(format!("https://monitoring.{region}.amazonaws.com")),
        _ => None,
    });
    let headers = fields.take(cx, "headers").map_or_else(Vec::new, |entry| {
        values::pairs(cx, "headers", entry, "{x-scope-orgid: team}", extra_header, rules::header_value)
    });
    let credentials = credentials(cx, &mut fields, kind);
    let unchecked_tls = fields.scalar(cx, "insecureSkipVerify", units::boolean).unwrap_or(false);
    secret_ref(cx, &mut fields, "credentials: {bearer: {env: NAME}}");
    let needs_region = kind == MetricKind::CloudWatch || credentials == Some(Credentials::SigV4);
    if needs_region && !fields.has("region") {
        let missing =
            Diagnostic::error("config/missing-key", span, "this provider needs `region`: it is signed with it");
        cx.push(missing.help("write `region: eu-west-1`"));
    }
    if let Some(entry) = fields.get("region").filter(|_| !needs_region) {
        let message = "`region` has no effect: only what Amazon signs has one";
        cx.push(Diagnostic::error("rollout/no-effect", entry.key_span, message).help("remove it"));
    }
    if kind == MetricKind::Prometheus && !fields.has("address") {
        let missing = Diagnostic::error("config/missing-key", span, "a provider of type `prometheus` needs `address`");
        cx.push(missing.help("write `address: http://prometheus:9090`"));
    }
    fields.finish(cx);
    if cx.errors() > errors_before {
        return None;
    }
    Some(MetricTemplate {
        name: String::new(),
        kind,
        address: address?,
        headers,
        credentials: credentials?,
        region,
        unchecked_tls,
        query: String::new(),
    })
}

/// Headers that carry no secret: those have their own place.
fn extra_header(text: &str) -> Result<String, Wrong> {
    const SECRET: [&str; 5] = ["authorization", "cookie", "dd-api-key", "dd-application-key", "proxy-authorization"];
    const OURS: [&str; 6] = ["connection", "content-length", "content-type", "host", "te", "transfer-encoding"];
    let name = units::header_name(text)?;
    let wrong = || Wrong::new("the name of an additional header", "x-scope-orgid");
    if SECRET.contains(&name.as_str()) {
        return Err(Wrong::new("the name of a header without a secret (those go to `credentials`)", "x-scope-orgid"));
    }
    if OURS.contains(&name.as_str()) { Err(wrong()) } else { Ok(name) }
}

const CREDENTIALS: &str = "{bearer: {env: NAME}}";

/// `credentials`, in one of the four ways; which ones depends on who is asked.
fn credentials(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, kind: MetricKind) -> Option<Credentials> {
    const WAYS: [(&str, &[MetricKind]); 6] = [
        ("bearer", &[MetricKind::Prometheus]),
        ("username", &[MetricKind::Prometheus]),
        ("password", &[MetricKind::Prometheus]),
        ("apiKey", &[MetricKind::Datadog]),
        ("applicationKey", &[MetricKind::Datadog]),
        ("sigv4", &[MetricKind::Prometheus, MetricKind::CloudWatch]),
    ];
    let span = fields.span;
    if !fields.has("credentials") {
        // Known, for "did you mean".
        fields.take(cx, "credentials");
        return match kind {
            MetricKind::CloudWatch => Some(Credentials::SigV4),
            MetricKind::Prometheus => Some(Credentials::None),
            MetricKind::Datadog => {
                let message = "a provider of type `datadog` needs `credentials`";
                let help = "write `credentials: {apiKey: {env: DD_API_KEY}, applicationKey: {env: DD_APP_KEY}}`";
                cx.push(Diagnostic::error("config/missing-key", span, message).help(help));
                None
            }
        };
    }
    let mut fields = fields.map(cx, "credentials", CREDENTIALS)?;
    let span = fields.span;
    for (key, kinds) in WAYS {
        if let Some(entry) = fields.get(key).filter(|_| !kinds.contains(&kind)) {
            let message = format!("`{key}` is nothing this type of provider asks for");
            cx.push(Diagnostic::error("rollout/credentials", entry.key_span, message).help("remove it"));
        }
    }
    let mut secret = |key: &'static str, plain: Plain| {
        fields.take(cx, key).and_then(|entry| values::secret(cx, key, &entry.value, plain))
    };
    let user = |text: &str| units::visible(text, 253, "the name of a user", "serin");
    let bearer = secret("bearer", Plain::Refused);
    let (username, password) = (secret("username", Plain::Allowed(user)), secret("password", Plain::Refused));
    let (api_key, application_key) = (secret("apiKey", Plain::Refused), secret("applicationKey", Plain::Refused));
    let sigv4 = fields.scalar(cx, "sigv4", units::boolean).unwrap_or(false);
    let written = |key: &str| usize::from(fields.has(key));
    let pairs = [["username", "password"], ["apiKey", "applicationKey"]];
    for pair in pairs.iter().filter(|pair| written(pair[0]) + written(pair[1]) == 1) {
        let message = format!("`{}` and `{}` belong together", pair[0], pair[1]);
        cx.push(Diagnostic::error("config/missing-key", span, message).help("add the other one"));
    }
    let ways = written("bearer")
        + written("sigv4")
        + pairs.iter().filter(|pair| written(pair[0]) + written(pair[1]) > 0).count();
    fields.finish(cx);
    if ways != 1 {
        let message = "`credentials` names one way to sign";
        cx.push(Diagnostic::error("rollout/credentials", span, message).help(format!("write `{CREDENTIALS}`")));
    }
    let basic = || Some(Credentials::Basic { username: username?, password: password? });
    let datadog = || Some(Credentials::Datadog { api_key: api_key?, application_key: application_key? });
    let signed = sigv4.then_some(Credentials::SigV4);
    let none = (!sigv4).then_some(Credentials::None);
    bearer.map(Credentials::Bearer).or_else(basic).or_else(datadog).or(signed).or(none)
}

/// `secretRef` of Kubernetes: Serin reads the environment and files.
fn secret_ref(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, instead: &str) {
    if let Some(entry) = fields.get("secretRef") {
        let message = "`secretRef` names a secret of Kubernetes: mount it or put it into the environment";
        let help = format!("write `{instead}`");
        cx.push(Diagnostic::error("rollout/secret-ref", entry.key_span, message).help(help));
        fields.take(cx, "secretRef");
    }
}

/// Whether a query can be filled in. Without `variables` any of them may be asked for: a template is told by each metric.
pub(super) fn check_template(
    cx: &Cx<'_>,
    node: &Node<'_>,
    query: &str,
    variables: Option<&[(String, String)]>,
) -> bool {
    let mut known = variables.unwrap_or_default().to_vec();
    loop {
        let Err(error) = template::check(query, &known) else { return true };
        match &error {
            TemplateError::UnknownVariable { key, .. } if variables.is_none() && known.len() < PAIRS_MAX => {
                known.push((key.clone(), String::new()));
            }
            TemplateError::UnknownVariable { .. } if variables.is_none() => {
                let help = format!("a metric can give at most {PAIRS_MAX} variables: ask for fewer");
                return wrong_template(cx, node, &error, help);
            }
            TemplateError::UnknownVariable { key, .. } => {
                return wrong_template(cx, node, &error, format!("add `templateVariables: {{{key}: …}}`"));
            }
            _ => {
                let help = "of Go's template language only functions by themselves are here, as in `{{ interval }}`";
                return wrong_template(cx, node, &error, help.to_owned());
            }
        }
    }
}

/// Points at the action that is wrong; always `false`.
fn wrong_template(cx: &Cx<'_>, node: &Node<'_>, error: &TemplateError, help: String) -> bool {
    let at = match error {
        TemplateError::TooLong => 0,
        TemplateError::Unclosed { at }
        | TemplateError::UnknownFunction { at, .. }
        | TemplateError::UnknownVariable { at, .. }
        | TemplateError::UnknownWord { at, .. } => *at,
    };
    let span = map_spans(cx.source, node, &[Span::new(at, at + "{{".len())]).first().copied().unwrap_or(node.span);
    cx.push(Diagnostic::error("rollout/template", span, error.to_string()).help(help));
    false
}

/// A query in the provider's own language.
pub(super) fn query(text: &str) -> Result<String, Wrong> {
    let query = values::text(text, QUERY_BYTES_MAX, "a query", "sum(rate(errors_total[{{ interval }}]))")?;
    if query.trim().is_empty() {
        return Err(Wrong::new("a query", "sum(rate(errors_total[{{ interval }}]))"));
    }
    Ok(query)
}

pub(super) fn alert_providers(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> (Vec<AlertProvider>, Names) {
    let mut names = Names::new("alertProviders");
    let Some(entry) = fields.take(cx, "alertProviders") else { return (Vec::new(), names) };
    let items = limited(cx, "alertProviders", entry, ALERT_PROVIDERS_MAX, "[]");
    let mut providers = Vec::with_capacity(items.len());
    for item in items {
        match alert_provider(cx, item) {
            Some((provider, span)) if names.add(cx, &provider.name, span) => providers.push(provider),
            _ => names.some_refused = true,
        }
    }
    (providers, names)
}

fn alert_provider(cx: &Cx<'_>, item: &Node<'_>) -> Option<(AlertProvider, Span)> {
    const KINDS: [(&str, AlertKind); 7] = [
        ("slack", AlertKind::Slack),
        ("msteams", AlertKind::MsTeams),
        ("discord", AlertKind::Discord),
        ("rocket", AlertKind::Rocket),
        ("gchat", AlertKind::Gchat),
        ("alertmanager", AlertKind::Alertmanager),
        ("webhook", AlertKind::Webhook),
    ];
    let mut fields = Fields::open(cx, "alertProviders", item, "{name: team, type: slack, address: {env: SLACK_URL}}")?;
    let name = name(cx, &mut fields, "an alert provider", "team");
    let kind = fields.require(cx, "type", "an alert provider", "write `type: slack`");
    let kind = kind.and_then(|entry| typed(cx, &entry.value, &KINDS, &[], ""));
    let help = "write `address: {env: SLACK_URL}`";
    let address = if fields.has("secretRef") {
        secret_ref(cx, &mut fields, "address: {env: SLACK_URL}");
        fields.take(cx, "address");
        None
    } else {
        fields.require(cx, "address", "an alert provider", help)
    };
    let url = |text: &str| values::url(text, "https://hooks.example.com/x");
    let address = address.and_then(|entry| values::secret(cx, "address", &entry.value, Plain::Allowed(url)));
    let channel = fields.scalar(cx, "channel", |text| units::visible(text, 253, "a channel", "releases"));
    let username = fields.scalar(cx, "username", |text| units::visible(text, 253, "a name", "serin"));
    let token: Option<Secret> =
        fields.take(cx, "token").and_then(|entry| values::secret(cx, "token", &entry.value, Plain::Refused));
    let proxy = fields.scalar(cx, "proxy", |text| values::url(text, "http://proxy:3128"));
    let template_span = fields.get("template").map(|entry| entry.key_span);
    let template = fields.take(cx, "template").and_then(|entry| alert_template(cx, &entry.value));
    if let (Some(span), Some(kind)) = (template_span, kind)
        && kind != AlertKind::Webhook
    {
        let message = "`template` has no effect: only type `webhook` has one";
        cx.push(Diagnostic::error("rollout/no-effect", span, message).help("remove it, or write `type: webhook`"));
    }
    fields.finish(cx);
    let ((name, span), kind, address) = (name?, kind?, address?);
    let username = username.unwrap_or_else(|| "serin".to_owned());
    Some((AlertProvider { name, kind, address, channel, username, token, proxy, template }, span))
}

/// The body of one's own.
fn alert_template(cx: &Cx<'_>, node: &Node<'_>) -> Option<String> {
    let read = |text: &str| values::text(text, TEXT_BYTES_MAX, "a text", "{\"message\": \"{{text}}\"}");
    let text = cx.scalar("template", node, read)?;
    match template::check_alert(&text) {
        Ok(()) => Some(text),
        Err(error) => {
            let help = "write JSON with names in its strings, as in `{\"message\": \"{{text}}\"}`";
            wrong_template(cx, node, &error, help.to_owned());
            None
        }
    }
}

fn name(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, holder: &str, example: &'static str) -> Option<(String, Span)> {
    let entry = fields.require(cx, "name", holder, &format!("write `name: {example}`"))?;
    let name = cx.scalar("name", &entry.value, |text| units::visible(text, 253, "a name", example))?;
    Some((name, entry.value.span))
}

/// A `type`: one of those built, or a refusal that tells what is unknown from what is not built yet.
fn typed<T: Copy>(
    cx: &Cx<'_>,
    node: &Node<'_>,
    built: &[(&'static str, T)],
    missing: &[&'static str],
    instead: &str,
) -> Option<T> {
    if let Value::Scalar(scalar) = &node.value
        && let Some(name) = missing.iter().find(|name| **name == scalar.text)
    {
        cx.push(not_built(node.span, &format!("a provider of type `{name}`"), instead));
        return None;
    }
    cx.scalar("type", node, |text| units::choice(text, built))
}
