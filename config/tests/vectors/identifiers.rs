//! Cases of the category `identifier`: read as a file would have it, asked as a request would come.

use serde_json::{Value, json};
use serin_config::dtab::Path;
use serin_config::identify::{self, Ingress, IngressBackend, IngressRule, Request};
use serin_config::model::Config;
use serin_config::source::Source;

use super::{Check, Held, same, text};

pub(super) fn check(input: &Value, expect: &Value) -> Check {
    let request = Asked::new(input)?;
    if input["identifier"]["kind"] == "io.l5d.ingress" {
        return check_ingress(input, expect, &request);
    }
    let config = config(input)?;
    let [router] = config.routers.as_slice() else { return Err("one router".into()) };
    let mut key = Vec::new();
    let Some(found) = identify::identify(&router.identifiers, &router.dst_prefix, &request, &mut key) else {
        same("unidentified", &json!(true), &expect["unidentified"])?;
        return Ok(Held::Exactly);
    };
    let name = identify::path(&key).ok_or("a key that does not read back")?;
    same("name", &json!(name.to_string()), &expect["name"])?;
    let path = identify::rest(&request.path, found.consumed);
    let uri = request.query.as_ref().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    if !expect["forward_uri"].is_null() {
        same("forward_uri", &json!(uri), &expect["forward_uri"])?;
    }
    if !expect["forward_host"].is_null() {
        same("forward_host", &json!(request.host), &expect["forward_host"])?;
    }
    Ok(Held::Exactly)
}

/// The case as a file, with Linkerd's rule for hosts.
fn config(input: &Value) -> Result<Config, String> {
    let mut identifier = input["identifier"].clone();
    match &mut identifier {
        Value::Null => identifier = json!({"kind": "io.l5d.header.token", "host": "verbatim"}),
        Value::Array(list) => list.iter_mut().for_each(verbatim),
        one => verbatim(one),
    }
    let file = json!({"routers": [{
        "protocol": input["protocol"],
        "dstPrefix": input["dstPrefix"],
        "identifier": identifier,
        "servers": [{"port": 4140}],
    }]});
    let source = Source::new("case.yaml", file.to_string());
    Config::parse(&source).map(|(config, _)| config).map_err(|mistakes| mistakes.to_string())
}

fn verbatim(identifier: &mut Value) {
    if identifier["kind"] == "io.l5d.header.token" || identifier["kind"] == "io.l5d.methodAndHost" {
        identifier["host"] = json!("verbatim");
    }
}

fn check_ingress(input: &Value, expect: &Value, request: &Asked) -> Check {
    let parameters = &input["identifier"];
    let class = parameters["ingressClassAnnotation"].as_str().unwrap_or("linkerd");
    let with_defaults = parameters["ignoreDefaultBackends"].as_bool() != Some(true);
    let mut ingresses = Vec::new();
    for data in input["ingresses"].as_array().ok_or("no ingresses")? {
        if parameters["namespace"].is_null() || parameters["namespace"] == data["namespace"] {
            ingresses.push(ingress(data, with_defaults)?);
        }
    }
    let found =
        identify::ingress(&ingresses, class, request.host.as_deref().map(str::as_bytes), request.path.as_bytes());
    let Some(labels) = found else {
        same("unidentified", &json!(true), &expect["unidentified"])?;
        return Ok(Held::Exactly);
    };
    let prefix = Path::parse(text(input, "dstPrefix")).map_err(|error| error.to_string())?;
    let name = prefix.join(&Path::from_labels(labels).ok_or("labels that are no path")?);
    same("name", &json!(name.to_string()), &expect["name"])?;
    Ok(Held::Exactly)
}

fn ingress(data: &Value, with_defaults: bool) -> Result<Ingress, String> {
    let backend = |data: &Value| IngressBackend {
        service: text(data, "service").to_owned(),
        port: data["port"].as_str().map_or_else(|| data["port"].to_string(), ToOwned::to_owned),
    };
    let rule = |data: &Value| {
        IngressRule::new(data["host"].as_str(), data["path"].as_str(), backend(data)).map_err(|error| error.to_string())
    };
    let class = [&data["class"], &data["annotations"]["kubernetes.io/ingress.class"]];
    Ok(Ingress {
        namespace: text(data, "namespace").to_owned(),
        class: class.into_iter().find_map(|class| class.as_str().map(ToOwned::to_owned)),
        default_backend: (with_defaults && data["default_backend"].is_object())
            .then(|| backend(&data["default_backend"])),
        rules: data["rules"].as_array().into_iter().flatten().map(rule).collect::<Result<_, _>>()?,
    })
}

/// A request as the proxy sees it: what HTTP/2 has in pseudo fields, and an absolute target, is taken apart.
struct Asked {
    http10: bool,
    method: String,
    host: Option<String>,
    path: String,
    query: Option<String>,
    fields: Vec<(String, String)>,
}

impl Asked {
    fn new(input: &Value) -> Result<Asked, String> {
        let request = &input["request"];
        let fields: Vec<(String, String)> = request["headers"]
            .as_array()
            .ok_or("no headers")?
            .iter()
            .map(|pair| {
                (pair[0].as_str().unwrap_or_default().to_lowercase(), pair[1].as_str().unwrap_or_default().to_owned())
            })
            .collect();
        let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let target = request["uri"].as_str().map(ToOwned::to_owned).or_else(|| field(":path")).unwrap_or_default();
        let (authority, target) = match target.split_once("://") {
            Some((_, behind)) => {
                let at = behind.find(['/', '?']).unwrap_or(behind.len());
                (Some(behind[..at].to_owned()), behind[at..].to_owned())
            }
            None => (None, target),
        };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target, None),
        };
        Ok(Asked {
            http10: request["version"] == "HTTP/1.0",
            method: request["method"].as_str().map(ToOwned::to_owned).or_else(|| field(":method")).unwrap_or_default(),
            host: authority.or_else(|| field(":authority")).or_else(|| field("host")),
            path: if path.is_empty() { "/".to_owned() } else { path },
            query,
            fields,
        })
    }
}

impl Request for Asked {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn is_http10(&self) -> bool {
        self.http10
    }

    fn host(&self) -> Option<&[u8]> {
        self.host.as_deref().map(str::as_bytes)
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_bytes())
    }
}
