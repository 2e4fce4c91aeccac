//! How requests get their names, in the keys of the file.

use serde_json::{Map, Value, json};
use serin_config::model::{Field, HostRule, Identifier};

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

fn host_rule(rule: HostRule) -> &'static str {
    match rule {
        HostRule::Normalized => "normalized",
        HostRule::Verbatim => "verbatim",
    }
}
