//! What a file writes, against what teams own: dentries, splits, rollouts.

use std::collections::HashSet;

use crate::diagnostic::{DIAGNOSTICS_MAX, Diagnostic};
use crate::dtab::{DentrySpans, Dtab, Prefix};
use crate::raw::{Cx, shown};
use crate::source::Span;
use crate::yaml::{Entry, Node, Value, map_spans};

use super::{Claims, entry, owns_help, scalar};

/// Every dentry of a team's dtab is inside of what it owns. One that does not parse is told by who compiles it.
pub(super) fn check_dtab(cx: &Cx<'_>, node: &Node<'_>, claims: &Claims) {
    let Some(text) = scalar(node) else { return };
    let Ok((dtab, places)) = Dtab::parse_with_spans(text) else { return };
    let strange = |index: &usize| dtab.0.get(*index).is_some_and(|dentry| !claims.covers(&dentry.prefix));
    let strange: Vec<usize> = (0..dtab.0.len()).filter(strange).take(DIAGNOSTICS_MAX).collect();
    let spans: Vec<Span> = strange.iter().filter_map(|index| places.dentries.get(*index)).map(prefix_span).collect();
    for (index, span) in strange.into_iter().zip(map_spans(cx.source, node, &spans)) {
        let prefix = dtab.0.get(index).map(|dentry| dentry.prefix.to_string()).unwrap_or_default();
        not_owned(cx, &prefix, span, claims);
    }
}

/// The `path` of a split or a rollout is inside of what the team owns.
pub(super) fn check_path(cx: &Cx<'_>, item: &Node<'_>, claims: &Claims) {
    let Some(path) = entry(item, "path") else { return };
    let Some(prefix) = scalar(&path.value).and_then(|text| Prefix::parse(text).ok()) else { return };
    if !claims.covers(&prefix) {
        not_owned(cx, &prefix.to_string(), path.value.span, claims);
    }
}

fn not_owned(cx: &Cx<'_>, name: &str, span: Span, claims: &Claims) {
    let message = format!("`{}` is not owned by this file", shown(name));
    cx.push(Diagnostic::error("teams/not-owned", span, message).help(owns_help(&claims.names())));
}

/// No team owns what the main file writes. Said once for each claim.
pub(super) fn check_main(cx: &Cx<'_>, node: &Node<'_>, main: &Dtab, claims: &[Claims]) {
    let claims: Vec<(&Claims, usize)> =
        claims.iter().filter(|claims| !claims.no_names()).map(|claims| (claims, claims.shortest())).collect();
    let mut taken: Vec<(usize, String, Span)> = Vec::new();
    let mut told = HashSet::new();
    for (index, dentry) in main.0.iter().enumerate() {
        let long = claims.iter().filter(|(_, shortest)| dentry.prefix.len() >= *shortest);
        for (written, span) in long.filter_map(|(claims, _)| claims.covering(&dentry.prefix)) {
            if told.insert(span) && taken.len() < DIAGNOSTICS_MAX {
                taken.push((index, written.to_owned(), span));
            }
        }
    }
    if taken.is_empty() {
        return;
    }
    let Some(Ok((_, places))) = scalar(node).map(Dtab::parse_with_spans) else { return };
    let spans: Vec<Span> = taken.iter().filter_map(|(at, ..)| places.dentries.get(*at)).map(prefix_span).collect();
    for ((_, written, span), main) in taken.into_iter().zip(map_spans(cx.source, node, &spans)) {
        of_main(cx, &written, span, main);
    }
}

fn of_main(cx: &Cx<'_>, written: &str, span: Span, main: Span) {
    let message = format!("`{}` belongs to the main file, which writes a name there", shown(written));
    let theft = Diagnostic::error("teams/conflict", span, message).label("wanted here");
    let help = "own a longer name, or take what stands there out of the main file first";
    cx.push(theft.related(main, "written here").help(help));
}

/// The paths of a list of the main file, with their places.
pub(super) fn paths(list: Option<&Entry<'_>>) -> Vec<(Prefix, Span)> {
    let Some(Value::List(items)) = list.map(|entry| &entry.value.value) else { return Vec::new() };
    let path = |item: &Node<'_>| {
        let path = entry(item, "path")?;
        Some((Prefix::parse(scalar(&path.value)?).ok()?, path.value.span))
    };
    items.iter().filter_map(path).collect()
}

/// The same for rollouts of the main file: each owns its dentry.
pub(super) fn check_main_rollouts(cx: &Cx<'_>, rollouts: &[(Prefix, Span)], claims: &Claims) {
    for (path, main) in rollouts {
        if let Some((written, span)) = claims.covering(path) {
            of_main(cx, written, span, *main);
        }
    }
}

fn prefix_span(dentry: &DentrySpans) -> Span {
    Span::new(dentry.prefix.start, dentry.prefix.end)
}
