//! One `Canary` as one rollout.

use std::fmt::Write;

use crate::diagnostic::Diagnostic;
use crate::raw::{Cx, Fields, shown};
use crate::units;
use crate::yaml::{Entry, Node, Value};

use super::documents::{Object, get, text};
use super::out::{Out, Pair};
use super::{Wishes, analysis};

/// What objects may refer to.
pub(super) struct Known {
    pub(super) templates: Vec<String>,
    pub(super) providers: Vec<String>,
}

impl Known {
    pub(super) fn of(objects: &[Object<'_, '_>]) -> Known {
        let names = |kind: &str| {
            objects.iter().filter(|object| object.kind == kind).map(|object| object.name.clone()).collect()
        };
        Known { templates: names("MetricTemplate"), providers: names("AlertProvider") }
    }
}

/// A rollout, and what stands in front of the text.
pub(super) struct Rollout {
    pub(super) preface: String,
    pub(super) out: Out,
}

/// What the functions of a query mean for one canary: (name, value).
pub(super) type Fill = Vec<(&'static str, String)>;

/// The functions of queries that Flagger answers from the objects of Kubernetes.
pub(super) fn fill(object: &Object<'_, '_>) -> Fill {
    let name_in = |key: &str| object.spec().and_then(|spec| get(spec, key)).and_then(|node| text(node, "name"));
    let target = name_in("targetRef").unwrap_or_else(|| object.name.clone());
    let mut fill = vec![
        ("namespace", object.namespace.clone().unwrap_or_else(|| "default".to_owned())),
        ("service", name_in("service").unwrap_or_else(|| target.clone())),
        ("target", target),
    ];
    fill.extend(name_in("ingressRef").map(|name| ("ingress", name)));
    fill.extend(name_in("routeRef").map(|name| ("route", name)));
    fill
}

/// A query with these functions answered. Those of Serin's own stay: `name`, `interval`, `variables.…`.
pub(super) fn filled(query: &str, fill: &Fill) -> String {
    let mut done = String::with_capacity(query.len());
    let mut rest = query;
    while let Some((before, behind)) = rest.split_once("{{") {
        done.push_str(before);
        let Some((inner, after)) = behind.split_once("}}") else {
            done.push_str("{{");
            rest = behind;
            continue;
        };
        let name = inner.trim_matches('-').trim();
        match fill.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => done.push_str(value),
            None => done.extend(["{{", inner, "}}"]),
        }
        rest = after;
    }
    done.push_str(rest);
    done
}

pub(super) fn rollout(cx: &Cx<'_>, object: &Object<'_, '_>, known: &Known, wishes: &Wishes) -> Option<Rollout> {
    let Some(spec) = object.spec() else {
        cx.push(Diagnostic::error("import/no-spec", object.node.span, "this has no `spec`"));
        return None;
    };
    let mut fields = Fields::open(cx, "spec", spec, "{targetRef: {name: world}, analysis: {interval: 1m}}")?;
    let fill = fill(object);
    let service = fill.iter().find(|(name, _)| *name == "service").map_or(object.name.as_str(), |(_, value)| value);
    let path = wishes.path.clone().unwrap_or_else(|| format!("/host/{service}"));
    let primary = wishes.primary.clone().unwrap_or_else(|| format!("/srv/{service}-primary"));
    let canary = wishes.canary.clone().unwrap_or_else(|| format!("/srv/{service}-canary"));
    let mut pairs = vec![
        Pair::new("name", Out::word(&object.name)),
        Pair::new("router", Out::word(&wishes.router)),
        Pair::new("path", Out::word(&path)),
        Pair::new("primary", Out::word(&primary)),
        Pair::new("canary", Out::word(&canary)),
        Pair::new("pace", Out::word("interval")).comment(
            "Flagger's clock and counters, with Serin's guard beside them; `evidence` waits for proof in place of the clock",
        ),
    ];
    surroundings(cx, &mut fields);
    // what is a plain number or word is taken as it is
    for key in ["progressDeadlineSeconds", "skipAnalysis", "suspend"] {
        pairs.extend(fields.take(cx, key).map(|entry| Pair::new(key, Out::of(&entry.value))));
    }
    let server = fields.take(cx, "metricsServer");
    let block = fields.take(cx, "analysis").or_else(|| renamed(cx, &mut fields));
    fields.finish(cx);
    let Some(block) = block else {
        cx.push(lost(spec.span, "there is no `analysis`: nothing would be judged"));
        return None;
    };
    let block = analysis::block(cx, block, known, &fill)?;
    match (server, block.asks_server) {
        (Some(entry), true) => pairs.push(Pair::new("metricsServer", Out::of(&entry.value))),
        (Some(entry), false) => {
            cx.push(left_out(entry.key_span, "`metricsServer` is not needed: Serin counts requests itself"));
        }
        (None, true) => {
            let message = "a metric has a `query`, and it is Flagger's own setting whom that asks";
            let server = Diagnostic::warning("import/decided", spec.span, message);
            cx.push(server.help("change `metricsServer` if it is not http://prometheus:9090"));
            pairs.push(Pair::new("metricsServer", Out::word("http://prometheus:9090")).comment("Flagger's default"));
        }
        (None, false) => {}
    }
    pairs.push(Pair::new("analysis", Out::Map(block.pairs)));
    let namespace = object.namespace.as_deref().unwrap_or("default");
    let preface = preface(object, service, namespace, [&path, &primary, &canary], port(spec), &wishes.router);
    Some(Rollout { preface, out: Out::Map(pairs) })
}

/// The analysis under its old name.
fn renamed<'n, 's>(cx: &Cx<'_>, fields: &mut Fields<'n, 's>) -> Option<&'n Entry<'s>> {
    let entry = fields.take(cx, "canaryAnalysis")?;
    let message = "`canaryAnalysis` is the old name of `analysis`, and Flagger reads it no more";
    cx.push(Diagnostic::warning("import/decided", entry.key_span, message).help("it was taken as `analysis`"));
    Some(entry)
}

/// Keys of `spec` that speak of Kubernetes.
fn surroundings(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) {
    for key in ["targetRef", "provider"] {
        fields.take(cx, key); // the names come from it; Serin itself is what moves the traffic
    }
    let left: [(&'static str, &str); 5] = [
        ("autoscalerRef", "Serin does not scale: let an autoscaler watch both versions"),
        ("ingressRef", "Serin routes by `router` and `path`"),
        ("revertOnDeletion", "when a rollout is removed from the file, the primary gets everything"),
        ("routeRef", "Serin routes by `router` and `path`"),
        ("upstreamRef", "write limits and timeouts into the router's `client`"),
    ];
    for (key, instead) in left {
        if let Some(entry) = fields.take(cx, key) {
            cx.push(left_out(entry.key_span, &format!("`{key}` is left out")).help(instead));
        }
    }
    if let Some(entry) = fields.take(cx, "service") {
        service(cx, entry);
    }
}

/// What changes requests cannot be lost without a word; what Kubernetes needs can.
fn service(cx: &Cx<'_>, entry: &Entry<'_>) {
    let Some(mut fields) = Fields::open(cx, "service", &entry.value, "{port: 80}") else { return };
    for key in
        ["name", "port", "portName", "targetPort", "portDiscovery", "headless", "meshName", "trafficDistribution"]
    {
        fields.take(cx, key);
    }
    for key in ["apex", "primary", "canary", "unmanagedMetadata", "gateways", "gatewayRefs", "backends"] {
        fields.take(cx, key); // labels and places of objects that are not made any more
    }
    let lost_ones: [(&'static str, &str); 5] = [
        ("corsPolicy", "let the service answer preflight requests itself"),
        ("headers", "write a rule into the router: `rules: [{headers: {request: {set: …}}}]`"),
        ("match", "write rules into the router: `rules: [{match: {path: {prefix: /api}}, name: /svc/…}]`"),
        ("mirror", "`analysis.mirror` copies to the canary; other mirrors are not built"),
        ("rewrite", "write a rule into the router: `rules: [{match: …, rewrite: {path: {prefix: /v2}}}]`"),
    ];
    for (key, instead) in lost_ones {
        if let Some(entry) = fields.take(cx, key) {
            cx.push(lost(entry.key_span, &format!("`service.{key}` cannot be carried over")).help(instead));
        }
    }
    let left: [(&'static str, &str); 6] = [
        ("backendTimeout", "write `client: {requestAttemptTimeoutMs: …}` into the router"),
        ("delegation", "a dtab delegates by its nature"),
        ("hosts", "`Host: world` is named /svc/world: lead it to the rollout's path in the router's dtab"),
        ("retries", "write `service: {responseClassifier: …}` into the router"),
        ("timeout", "write `service: {totalTimeoutMs: …}` into the router"),
        ("trafficPolicy", "write `client: {loadBalancer: …, failureAccrual: …}` into the router"),
    ];
    for (key, instead) in left {
        if let Some(entry) = fields.take(cx, key) {
            cx.push(left_out(entry.key_span, &format!("`service.{key}` is left out")).help(instead));
        }
    }
    if let Some(entry) = fields.take(cx, "appProtocol") {
        protocol(cx, entry);
    }
    fields.finish(cx);
}

/// What the versions speak: plain HTTP/1.1 is what Serin takes for granted.
fn protocol(cx: &Cx<'_>, entry: &Entry<'_>) {
    let Value::Scalar(scalar) = &entry.value.value else { return };
    match &*scalar.text.to_ascii_lowercase() {
        "tcp" => cx.push(lost(entry.key_span, "Serin proxies HTTP and gRPC, not TCP")),
        "https" | "tls" | "kubernetes.io/wss" => {
            cx.push(lost(entry.key_span, "Serin speaks no TLS: the versions must take plain HTTP"));
        }
        "grpc" | "http2" | "kubernetes.io/h2c" => {
            let left = left_out(entry.key_span, "`service.appProtocol` is left out");
            cx.push(left.help("write `client: {protocol: h2}` into the router"));
        }
        _ => {}
    }
}

fn port(spec: &Node<'_>) -> String {
    let port = get(spec, "service").and_then(|service| text(service, "port"));
    port.filter(|port| units::whole(port, 1..=65_535, "80").is_ok()).unwrap_or_else(|| "80".to_owned())
}

/// What has to stand in the rest of the file.
fn preface(
    object: &Object<'_, '_>,
    service: &str,
    namespace: &str,
    [path, primary, canary]: [&str; 3],
    port: String,
    router: &str,
) -> String {
    let mut text = format!("# From the Canary {}.{namespace} of Flagger. ", shown(&object.name));
    // writing to a string cannot fail
    let _ = writeln!(text, "The dtab of the router `{}` must lead to its names, for example:", shown(router));
    let _ = writeln!(text, "#   clusters:");
    for arm in ["primary", "canary"] {
        let name = format!("{}-{arm}", shown(service));
        let _ = writeln!(text, "#     {name}: {{endpoints: [\"{name}.{}.svc:{port}\"]}}", shown(namespace));
    }
    let _ = writeln!(text, "#   dtab: |");
    let _ = writeln!(text, "#     /srv => /#/clusters ;");
    let _ = writeln!(text, "#     {} => {} ;", shown(path), shown(primary));
    let _ = writeln!(text, "#     /svc => /host ;");
    let _ = writeln!(
        text,
        "# and `storage: {{kind: file, dir: state}}` keeps what was decided. `{}` is the new version.\n",
        shown(canary)
    );
    text
}

/// Something that decides about verdict or traffic.
pub(super) fn lost(span: crate::source::Span, message: &str) -> Diagnostic {
    Diagnostic::error("import/lost", span, message)
}

/// Something that can be done without.
pub(super) fn left_out(span: crate::source::Span, message: &str) -> Diagnostic {
    Diagnostic::warning("import/left-out", span, message)
}
