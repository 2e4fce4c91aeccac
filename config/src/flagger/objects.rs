//! `MetricTemplate` and `AlertProvider`.

use crate::diagnostic::Diagnostic;
use crate::raw::{Cx, Fields, shown};
use crate::yaml::Entry;

use super::analysis::scalar;
use super::canary::{Fill, filled, lost};
use super::documents::Object;
use super::out::{Out, Pair};

/// `fills`: what the functions of queries mean, for each canary.
pub(super) fn template(cx: &Cx<'_>, object: &Object<'_, '_>, fills: &[Fill]) -> Option<Out> {
    let spec = object.spec()?;
    let mut fields = Fields::open(cx, "spec", spec, "{provider: {type: prometheus}, query: up}")?;
    let provider = fields.require(cx, "provider", "a metric template", "Flagger's schema refuses that too");
    let query = fields.require(cx, "query", "a metric template", "Flagger's schema refuses that too");
    fields.finish(cx);
    let (provider, query) = (provider?, query?);
    let provider = metric_provider(cx, object, provider)?;
    let written = scalar(query).unwrap_or_default();
    let text = match fills {
        [one, others @ ..] if others.iter().all(|other| other == one) => filled(written, one),
        _ => {
            if fills.iter().any(|fill| filled(written, fill) != written) {
                let message = "several canaries use this query, and its names mean other things in Serin";
                let help =
                    "`namespace` is the router there, `target` and `service` are labels of names: import one by one";
                cx.push(lost(query.value.span, message).help(help));
            }
            written.to_owned()
        }
    };
    let mut pair = Pair::new("query", Out::word(&text));
    if text != written {
        pair = pair.comment("with the names of Kubernetes filled in");
    }
    Some(Out::Map(vec![Pair::new("name", Out::word(&object.name)), Pair::new("provider", Out::Map(provider)), pair]))
}

fn metric_provider(cx: &Cx<'_>, object: &Object<'_, '_>, entry: &Entry<'_>) -> Option<Vec<Pair>> {
    let mut fields = Fields::open(cx, "provider", &entry.value, "{type: prometheus}")?;
    let kind = fields.take(cx, "type");
    let word = kind.and_then(scalar).unwrap_or("prometheus").to_owned();
    let mut pairs = vec![Pair::new("type", Out::word(&word))];
    for key in ["address", "headers", "region", "insecureSkipVerify"] {
        pairs.extend(fields.take(cx, key).map(|entry| Pair::new(key, Out::of(&entry.value))));
    }
    let secret = fields.take(cx, "secretRef");
    fields.finish(cx);
    if !["prometheus", "datadog", "cloudwatch"].contains(&word.as_str()) {
        let span = kind.map_or(entry.key_span, |kind| kind.value.span);
        let wrong = lost(span, &format!("a provider of type `{}` is not built", shown(&word)));
        cx.push(wrong.help("let a Prometheus scrape it, and ask that"));
        return None;
    }
    if let Some(secret) = secret {
        let (credentials, hint) = credentials(&word, &object.name);
        let message = "the secret of Kubernetes is read from variables in place of it";
        cx.push(Diagnostic::warning("import/decided", secret.key_span, message).help(hint.clone()));
        pairs.push(Pair::new("credentials", credentials).comment(hint));
    }
    Some(pairs)
}

/// What stands in place of the keys of a secret.
fn credentials(kind: &str, name: &str) -> (Out, String) {
    let env = |what: &str| {
        let variable = variable(name, what);
        (Out::Map(vec![Pair::new("env", Out::word(&variable))]), variable)
    };
    if kind == "datadog" {
        let ((api, first), (application, second)) = (env("DATADOG_API_KEY"), env("DATADOG_APPLICATION_KEY"));
        let keys = vec![Pair::new("apiKey", api), Pair::new("applicationKey", application)];
        let hint = format!("set {first} and {second} to datadog_api_key and datadog_application_key of the secret");
        return (Out::Map(keys), hint);
    }
    if kind == "cloudwatch" {
        let hint = "signed with the credentials of Amazon in the environment".to_owned();
        return (Out::Map(vec![Pair::new("sigv4", Out::word("true"))]), hint);
    }
    let (token, name) = env("TOKEN");
    let hint = format!("set {name} to the token of the secret; for a user write `username` and `password` instead");
    (Out::Map(vec![Pair::new("bearer", token)]), hint)
}

/// The name of an environment variable.
fn variable(name: &str, what: &str) -> String {
    let upper = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    let text: String = upper.take(VARIABLE_MAX).collect();
    let lead = if text.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
    format!("{lead}{text}_{what}")
}

/// Characters of a name in a variable.
const VARIABLE_MAX: usize = 80;

pub(super) fn provider(cx: &Cx<'_>, object: &Object<'_, '_>) -> Option<Out> {
    let mut fields =
        Fields::open(cx, "spec", object.spec()?, "{type: slack, address: \"https://hooks.example.com/x\"}")?;
    let kind = fields.require(cx, "type", "an alert provider", "Flagger's schema refuses that too");
    let mut pairs = vec![Pair::new("name", Out::word(&object.name))];
    let word = kind.and_then(scalar).unwrap_or_default();
    if let Some(kind) = kind
        && !["slack", "msteams", "discord", "rocket", "gchat"].contains(&word)
    {
        cx.push(lost(kind.value.span, &format!("there is no alert provider of type `{}`", shown(word))));
    }
    pairs.push(Pair::new("type", Out::word(word)));
    let address = fields.take(cx, "address");
    let secret = fields.take(cx, "secretRef");
    match (address, secret) {
        (_, Some(secret)) => {
            let variable = variable(&object.name, "ADDRESS");
            let hint = format!("set {variable} to the address of the secret; a token goes to `token: {{env: …}}`");
            let message = "the secret of Kubernetes is read from a variable in place of it";
            cx.push(Diagnostic::warning("import/decided", secret.key_span, message).help(hint.clone()));
            let env = Out::Map(vec![Pair::new("env", Out::word(&variable))]);
            pairs.push(Pair::new("address", env).comment(hint));
        }
        (Some(address), None) => pairs.push(Pair::new("address", Out::of(&address.value))),
        (None, None) => cx.push(lost(object.node.span, "this alert provider has neither `address` nor `secretRef`")),
    }
    for key in ["channel", "username", "proxy"] {
        pairs.extend(fields.take(cx, key).map(|entry| Pair::new(key, Out::of(&entry.value))));
    }
    fields.finish(cx);
    Some(Out::Map(pairs))
}
