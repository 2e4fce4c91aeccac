//! What is legal and can never have an effect: warnings, because somebody meant something by it.

use std::collections::HashSet;

use crate::diagnostic::{DIAGNOSTICS_MAX, Diagnostic};
use crate::dtab::{Builtin, Dtab, Elem, Path, Pattern, builtin};
use crate::model::{Identifier, Router};
use crate::raw::{Cx, listed, shown};
use crate::source::Span;
use crate::yaml::{Node, Value, map_spans};

use super::dtabs::Known;

/// Under `/$`, what binds: other built-in names become something else.
const CONCRETE: [&[u8]; 4] = [b"inet", b"fixedinet", b"io.buoyant.rinet", b"io.buoyant.http.status"];

/// Entries of `client` and `service` that no name can match. The places are those of their prefixes.
pub(super) fn check_parts(cx: &Cx<'_>, router: &Router, known: &Known<'_>, client: &[Span], service: &[Span]) {
    if router.interpreter.namerd().is_none() {
        for (part, span) in router.client_parts.iter().zip(client) {
            if let Some(help) = no_concrete_name(&part.prefix, known) {
                let what = "no concrete name begins";
                warn(cx, *span, &part.prefix, what, help);
            }
        }
    }
    for (part, span) in router.service_parts.iter().zip(service) {
        let ruled = router.rules.iter().filter_map(|rule| rule.name.as_ref());
        let tested = |name: &Path| part.prefix.captures(name).is_some();
        if !part.prefix.may_match(&router.dst_prefix) && !ruled.into_iter().any(tested) {
            let help = format!(
                "write the beginning of a logical name: those of this router begin with its `dstPrefix`, `{}`; concrete names, as `/#/...`, belong to `client`",
                router.dst_prefix
            );
            warn(cx, *span, &part.prefix, "no logical name of this router begins", help);
        }
    }
}

fn warn(cx: &Cx<'_>, span: Span, prefix: &Pattern, what: &str, help: String) {
    let message = format!("this entry is for nothing: {what} like `{}`", shown(&prefix.to_string()));
    cx.push(Diagnostic::warning("config/no-effect", span, message).help(help));
}

/// What to do about a pattern of concrete names that matches none.
fn no_concrete_name(pattern: &Pattern, known: &Known<'_>) -> Option<String> {
    let head = pattern.literal_head()?;
    let under = head.skip(1);
    match (head.label(0)?, under.label(0)) {
        (b"#", Some(_)) if known.may_lead(&under) => None,
        (b"#", Some(_)) => Some(known.namer_advice()),
        (b"$", Some(kind)) if CONCRETE.contains(&kind) => None,
        (b"$", Some(_)) => {
            let kinds: Vec<String> = CONCRETE.iter().map(|kind| format!("/$/{}", String::from_utf8_lossy(kind))).collect();
            let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
            Some(format!("names under `/$` that are concrete: {}", listed(&kinds)))
        }
        (b"#" | b"$" | b"%", None) | (b"%", Some(_)) => None,
        _ => Some(
            "a concrete name is what a logical one is bound to, `/#/clusters/web` for example; names as this one belong to `service`"
                .to_owned(),
        ),
    }
}

/// Why a built-in name can be bound to nothing, whatever follows it, and what to write. Unknown kinds are told as such.
pub(super) fn impossible(leaf: &Path) -> Option<(String, String)> {
    let (arguments, shape) = arguments(leaf)?;
    let is_whole = leaf.len() >= KIND_LABELS + arguments;
    let nothing = is_whole && matches!(builtin(leaf), Builtin::Neg | Builtin::Unknown(_));
    nothing.then(|| (format!("`{}` is never anything", shown(&leaf.to_string())), write_so(leaf, shape)))
}

/// The same for one that at most so many labels can follow.
fn too_short(leaf: &Path, follow: usize) -> Option<(String, String)> {
    let (arguments, shape) = arguments(leaf)?;
    // A port alone is an address too.
    let least = if matches!(leaf.label(1), Some(b"inet" | b"fixedinet")) { 1 } else { arguments };
    let is_nothing = || matches!(builtin(leaf), Builtin::Neg | Builtin::Unknown(_));
    let short = leaf.len() + follow < KIND_LABELS + least || (follow == 0 && is_nothing());
    let most = match follow {
        0 => "nothing of a name can".to_owned(),
        1 => "at most one element of a name can".to_owned(),
        _ => format!("at most {follow} elements of a name can"),
    };
    let message = || format!("`{}` is never anything: {most} follow here", shown(&leaf.to_string()));
    (short && impossible(leaf).is_none()).then(|| (message(), write_so(leaf, shape)))
}

fn write_so(leaf: &Path, shape: &str) -> String {
    format!("it is `{}/{shape}`", leaf.take(KIND_LABELS))
}

/// How many labels a built-in name needs behind its kind, and which.
fn arguments(leaf: &Path) -> Option<(usize, &'static str)> {
    let (b"$", kind) = (leaf.label(0)?, leaf.label(1)?) else { return None };
    Some(match kind {
        b"inet" | b"fixedinet" => (2, "<host>/<port>"),
        b"io.buoyant.rinet" => (2, "<port>/<host>"),
        b"io.buoyant.http.status" => (1, "<100 to 599>"),
        b"io.buoyant.hostportPfx" | b"io.buoyant.porthostPfx" => (2, "<prefix>/<host>:<port>"),
        b"io.buoyant.http.anyMethod" => (1, "<method>"),
        b"io.buoyant.http.anyMethodPfx" => (2, "<prefix>/<method>"),
        b"io.buoyant.http.anyHost" | b"io.buoyant.http.domainToPath" => (1, "<host>"),
        b"io.buoyant.http.anyHostPfx" | b"io.buoyant.http.domainToPathPfx" => (2, "<prefix>/<host>"),
        b"io.buoyant.http.subdomainOf" => (2, "<domain>/<host>"),
        b"io.buoyant.http.subdomainOfPfx" => (3, "<domain>/<prefix>/<host>"),
        _ => return None,
    })
}

/// `$` and the kind.
const KIND_LABELS: usize = 2;

/// Built-in names at the end of dentries for which the names of requests are too short. `nodes` are the dtabs of the router, one
/// behind the other. Only where nothing but requests leads to a dentry: elsewhere nobody knows how long names are.
pub(super) fn check_builtins(cx: &Cx<'_>, router: &Router, nodes: &[&Node<'_>]) {
    let elsewhere = router.interpreter.namerd().is_some() || router.interpreter.namespace().is_some();
    let Some(longest) = longest_name(router).filter(|_| !elsewhere) else { return };
    let overrides = router.overrides.iter().flat_map(|rule| &rule.dtab.0);
    let mut led: HashSet<&[u8]> = HashSet::new();
    for dentry in router.dtab.0.iter().chain(overrides) {
        led.extend(dentry.destination.leaves().into_iter().filter_map(|leaf| leaf.label(0)));
    }
    let mut told = Vec::new();
    for (index, dentry) in router.dtab.0.iter().enumerate() {
        let first =
            dentry.prefix.elems().next().filter(|first| router.dst_prefix.label(0).map(Elem::Label) == Some(*first));
        let by_requests = matches!(first, Some(Elem::Label(first)) if !led.contains(first));
        if !by_requests || told.len() >= DIAGNOSTICS_MAX {
            continue;
        }
        let follow = longest.saturating_sub(dentry.prefix.len());
        for (leaf, path) in dentry.destination.leaves().into_iter().enumerate() {
            told.extend(too_short(path, follow).map(|why| (index, leaf, why)));
        }
    }
    if told.is_empty() {
        return;
    }
    let mut before = 0;
    for node in nodes {
        let Value::Scalar(scalar) = &node.value else { continue };
        let Ok((dtab, places)) = Dtab::parse_with_spans(&scalar.text) else { continue };
        for (index, leaf, (message, help)) in &told {
            let place =
                index.checked_sub(before).and_then(|index| places.dentries.get(index)?.leaves.get(*leaf).cloned());
            let Some(place) = place else { continue };
            for span in map_spans(cx.source, node, &[Span::new(place.start, place.end)]) {
                cx.push(Diagnostic::warning("dtab/never", span, message.clone()).help(help.clone()));
            }
        }
        before += dtab.0.len();
    }
}

/// The most labels that the name of a request has. `None`: as many as the client likes.
fn longest_name(router: &Router) -> Option<usize> {
    let behind = |identifier: &Identifier| match identifier {
        Identifier::HeaderToken { .. } => Some(1),
        Identifier::MethodAndHost { path: false, .. } => Some(3),
        Identifier::Path { segments, .. } | Identifier::HeaderPath { segments: Some(segments), .. } => {
            Some(segments.get())
        }
        Identifier::Static { path } => Some(path.len()),
        Identifier::Header { .. } | Identifier::HeaderPath { .. } | Identifier::MethodAndHost { .. } => None,
    };
    let longest = router.identifiers.iter().map(behind).collect::<Option<Vec<_>>>()?.into_iter().max()?;
    let ruled = router.rules.iter().filter_map(|rule| rule.name.as_ref()).map(Path::len).max().unwrap_or_default();
    Some((router.dst_prefix.len() + longest).max(ruled))
}
