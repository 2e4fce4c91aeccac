//! How requests get their names, in the keys of the file.

use serde_json::{Map, Value, json};
use serin_config::model::{
    Field, HeaderChanges, HostMatch, HostRule, Identifier, PathMatch, PathRewrite, Redirect, RouteMatch, RouteRule,
    TextMatch,
};

/// One identifier as an object, several as a list.
pub(super) fn identifiers(all: &[Identifier]) -> Value {
    match all {
        [only] => identifier(only),
        several => several.iter().map(identifier).collect(),
    }
}

fn identifier(identifier: &Identifier) -> Value {
    let mut keys = Map::new();
    keys.insert("kind".into(), identifier.kind().into());
    let mut put = |key: &str, value: Value| drop(keys.insert(key.to_owned(), value));
    match identifier {
        Identifier::Header { header } => put("header", json!(header)),
        Identifier::HeaderPath { header, segments } => {
            put("header", json!(header.name()));
            if let Some(segments) = segments {
                put("segments", json!(segments));
            }
        }
        Identifier::HeaderToken { header, host } => {
            if *header != Field::Host {
                put("header", json!(header.name()));
            }
            put("host", json!(host_rule(*host)));
        }
        Identifier::MethodAndHost { path, host } => {
            put("httpUriInDst", json!(path));
            put("host", json!(host_rule(*host)));
        }
        Identifier::Path { segments, consume } => {
            put("segments", json!(segments));
            put("consume", json!(consume));
        }
        Identifier::Static { path } => put("path", json!(path.to_string())),
    }
    Value::Object(keys)
}

/// One of `rules`.
pub(super) fn rule(rule: &RouteRule) -> Value {
    let rewrite = object([
        ("host", rule.rewrite_host.as_ref().map(|host| json!(host))),
        ("path", rule.rewrite_path.as_ref().map(path_rewrite)),
    ]);
    let headers = object([("request", changes(&rule.request)), ("response", changes(&rule.response))]);
    let matches: Vec<Value> = rule.matches.iter().filter_map(one_match).collect();
    let every = matches.len() < rule.matches.len();
    Value::Object(keys([
        ("match", (!every).then_some(Value::Array(matches))),
        ("name", rule.name.as_ref().map(|name| json!(name.to_string()))),
        ("redirect", rule.redirect.as_ref().map(redirect)),
        ("rewrite", rewrite),
        ("headers", headers),
    ]))
}

/// `None`: it matches every request, which is written by leaving it out.
fn one_match(one: &RouteMatch) -> Option<Value> {
    let list = |texts: Vec<String>| (!texts.is_empty()).then(|| json!(texts));
    let path = |path: &PathMatch| match path {
        PathMatch::Exact(text) => json!({"exact": text}),
        PathMatch::Prefix(text) if text.is_empty() => json!({"prefix": "/"}),
        PathMatch::Prefix(text) => json!({"prefix": text}),
        PathMatch::Regex(regex) => json!({"regex": regex.written()}),
    };
    object([
        ("host", list(one.hosts.iter().map(HostMatch::written).collect())),
        ("path", one.path.as_ref().map(path)),
        ("method", list(one.methods.clone())),
        ("headers", conditions(&one.headers)),
        ("query", conditions(&one.query)),
    ])
}

fn conditions(pairs: &[(String, TextMatch)]) -> Option<Value> {
    let condition = |(name, condition): &(String, TextMatch)| {
        let kind = match condition {
            TextMatch::Exact(_) => "exact",
            TextMatch::Prefix(_) => "prefix",
            TextMatch::Regex(_) => "regex",
            TextMatch::Suffix(_) => "suffix",
        };
        (name.clone(), json!({kind: condition.written()}))
    };
    (!pairs.is_empty()).then(|| Value::Object(pairs.iter().map(condition).collect()))
}

fn path_rewrite(rewrite: &PathRewrite) -> Value {
    match rewrite {
        PathRewrite::Full(path) => json!(path),
        PathRewrite::Prefix(prefix) if prefix.is_empty() => json!({"prefix": "/"}),
        PathRewrite::Prefix(prefix) => json!({"prefix": prefix}),
    }
}

fn redirect(redirect: &Redirect) -> Value {
    Value::Object(keys([
        ("status", Some(json!(redirect.status))),
        ("scheme", redirect.scheme.map(|scheme| json!(scheme))),
        ("host", redirect.host.as_ref().map(|host| json!(host))),
        ("port", redirect.port.map(|port| json!(port))),
        ("path", redirect.path.as_ref().map(path_rewrite)),
    ]))
}

fn changes(changes: &HeaderChanges) -> Option<Value> {
    let map = |pairs: &[(String, String)]| {
        let pairs: Map<String, Value> = pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        (!pairs.is_empty()).then_some(Value::Object(pairs))
    };
    let remove = (!changes.remove.is_empty()).then(|| json!(changes.remove));
    object([("set", map(&changes.set)), ("add", map(&changes.add)), ("remove", remove)])
}

fn keys<const N: usize>(entries: [(&str, Option<Value>); N]) -> Map<String, Value> {
    entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// An object of what is there. `None`: nothing is.
fn object<const N: usize>(entries: [(&str, Option<Value>); N]) -> Option<Value> {
    let keys = keys(entries);
    (!keys.is_empty()).then_some(Value::Object(keys))
}

fn host_rule(rule: HostRule) -> &'static str {
    match rule {
        HostRule::Normalized => "normalized",
        HostRule::Verbatim => "verbatim",
    }
}
