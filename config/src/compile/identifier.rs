//! `identifier`: how a request gets its name.

use std::num::NonZeroUsize;

use crate::diagnostic::Diagnostic;
use crate::dtab::Path;
use crate::model::{Field, HostRule, Identifier};
use crate::raw::{Cx, Fields};
use crate::units::{self, Wrong};
use crate::yaml::Node;

/// Identifiers of one router: each may be asked for each request.
pub const IDENTIFIERS_MAX: usize = 16;

const EXAMPLE: &str = "{kind: io.l5d.header.token}";

const BUILT: &[&str] = &[
    "io.l5d.header.token",
    "io.l5d.header",
    "io.l5d.header.path",
    "io.l5d.methodAndHost",
    "io.l5d.path",
    "io.l5d.static",
];

/// Known, and what is missing for them.
const ABSENT: &[(&str, &str)] = &[
    ("io.l5d.ingress", "needs the Kubernetes API, which this build does not have"),
    ("io.l5d.k8s.istio", "needs the Kubernetes and Istio APIs, which this build does not have"),
];

/// One identifier or a list of them; without any, the host is the name.
pub(super) fn identifiers(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Vec<Identifier> {
    let Some(entry) = fields.take(cx, "identifier") else { return vec![Identifier::default()] };
    let items = cx.one_or_more(&entry.value);
    if items.is_empty() {
        cx.wrong("identifier", &entry.value, Wrong::new("one identifier or a list of them", EXAMPLE));
    }
    if items.len() > IDENTIFIERS_MAX {
        let message = format!("a router has {} identifiers, {IDENTIFIERS_MAX} are allowed", items.len());
        cx.push(Diagnostic::error("config/too-many", entry.key_span, message).help("choose by `rules` instead"));
    }
    let found: Vec<_> = items.iter().take(IDENTIFIERS_MAX).filter_map(|item| Some((one(cx, item)?, item))).collect();
    for pair in found.windows(2) {
        if let [(Identifier::Static { .. }, first), (_, behind)] = pair {
            let message = "this identifier is never asked: the one before it names every request";
            let never = Diagnostic::error("config/unreachable", behind.span, message);
            cx.push(
                never.related(first.span, "names every request").help("put `io.l5d.static` at the end of the list"),
            );
        }
    }
    found.into_iter().map(|(identifier, _)| identifier).collect()
}

fn one(cx: &Cx<'_>, item: &Node<'_>) -> Option<Identifier> {
    let mut fields = Fields::open(cx, "identifier", item, EXAMPLE)?;
    if let Some(absent) = absent(&fields) {
        let (span, kind, why) = absent;
        let message = format!("`identifier` of kind `{kind}` {why}");
        let help = "write `rules`: host and path of a request choose its name there";
        cx.push(Diagnostic::error("config/not-built", span, message).help(help));
        fields.abandon();
        return None;
    }
    let Some(kind) = super::kind(cx, &mut fields, "identifier", BUILT, &[], "") else {
        fields.abandon();
        return None;
    };
    let errors_before = cx.errors();
    let identifier = match kind {
        "io.l5d.header" => {
            let header = fields.scalar(cx, "header", units::header_name);
            Some(Identifier::Header { header: header.unwrap_or_else(|| "l5d-name".to_owned()) })
        }
        "io.l5d.header.path" => {
            let header = fields.scalar(cx, "header", path_field).unwrap_or(Field::Path);
            Some(Identifier::HeaderPath { header, segments: fields.scalar(cx, "segments", segments) })
        }
        "io.l5d.methodAndHost" => {
            let path = fields.scalar(cx, "httpUriInDst", units::boolean).unwrap_or(false);
            Some(Identifier::MethodAndHost { path, host: host_rule(cx, &mut fields) })
        }
        "io.l5d.path" => {
            let segments = fields.scalar(cx, "segments", segments).unwrap_or(NonZeroUsize::MIN);
            let consume = fields.scalar(cx, "consume", units::boolean).unwrap_or(false);
            Some(Identifier::Path { segments, consume })
        }
        "io.l5d.static" => {
            let entry = fields.require(cx, "path", "`io.l5d.static`", "write `path: /web`: it follows `dstPrefix`");
            let path = entry.and_then(|entry| cx.scalar("path", &entry.value, static_path));
            path.map(|path| Identifier::Static { path })
        }
        _ => {
            let header = fields.scalar(cx, "header", token_field).unwrap_or(Field::Host);
            Some(Identifier::HeaderToken { header, host: host_rule(cx, &mut fields) })
        }
    };
    fields.finish(cx);
    identifier.filter(|_| cx.errors() == errors_before)
}

/// The place of a kind that this build cannot serve, its name, and why.
fn absent(fields: &Fields<'_, '_>) -> Option<(crate::source::Span, &'static str, &'static str)> {
    let written = super::written_kind(fields)?;
    let (kind, why) = ABSENT.iter().find(|(kind, _)| *kind == written)?;
    Some((fields.get("kind")?.value.span, kind, why))
}

fn host_rule(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> HostRule {
    let words = [("normalized", HostRule::Normalized), ("verbatim", HostRule::Verbatim)];
    fields.scalar(cx, "host", |text| units::choice(text, &words)).unwrap_or_default()
}

/// A header, or what HTTP/2 calls one.
fn token_field(text: &str) -> Result<Field, Wrong> {
    match text {
        ":authority" => Ok(Field::Host),
        ":method" => Ok(Field::Method),
        ":path" => Ok(Field::Path),
        _ if text.eq_ignore_ascii_case("host") => Ok(Field::Host),
        _ => units::header_name(text)
            .map(Field::Named)
            .map_err(|_| Wrong::new("a header, `:authority`, `:method` or `:path`", "x-service")),
    }
}

fn path_field(text: &str) -> Result<Field, Wrong> {
    match text {
        ":path" => Ok(Field::Path),
        _ => units::header_name(text)
            .map(Field::Named)
            .map_err(|_| Wrong::new("a header whose value is a path, or `:path`", ":path")),
    }
}

fn segments(text: &str) -> Result<NonZeroUsize, Wrong> {
    let max = u64::try_from(Path::LABELS_MAX).unwrap_or(u64::MAX);
    let found = units::whole(text, 1..=max, "1")?;
    usize::try_from(found).ok().and_then(NonZeroUsize::new).ok_or_else(|| Wrong::new("a number of segments", "1"))
}

fn static_path(text: &str) -> Result<Path, Wrong> {
    let wrong = || Wrong::new("a path with at least one element", "/web");
    match Path::parse(text) {
        Ok(path) if path.is_empty() => Err(wrong()),
        Ok(path) => Ok(path),
        Err(errors) if !text.starts_with('/') => Err(match Path::parse(&format!("/{text}")) {
            Ok(meant) => wrong().help(format!("write `{meant}`")),
            Err(_) => wrong().help(errors.in_text(text)),
        }),
        Err(errors) => Err(wrong().help(errors.in_text(text))),
    }
}
