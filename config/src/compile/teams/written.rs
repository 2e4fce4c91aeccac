//! What a file writes, against what teams own: dentries, splits, rollouts.

use crate::diagnostic::{DIAGNOSTICS_MAX, Diagnostic};
use crate::dtab::{DentrySpans, Dtab, Prefix};
use crate::raw::{Cx, shown};
use crate::source::Span;
use crate::yaml::{Node, map_spans};

use super::ways::{Of, WAYS_MAX, Ways};
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

/// No team owns what is the main file's. Said once for each claim.
pub(super) fn check_main(cx: &Cx<'_>, root: &Node<'_>, ways: &Ways, claims: &Claims) {
    for (written, span, direct, hit) in claims.of_main(ways) {
        let origin = hit.origin.and_then(|origin| ways.span(cx, root, origin));
        let name = shown(written);
        let on = hit.on.shown();
        let way = if direct { String::new() } else { format!(", which leads it to `{}`", shown(&on)) };
        let (why, label, help) = match &hit.what {
            Of::Written if direct => (", which writes a name there".to_owned(), "written here", HELP_WRITTEN),
            Of::Written => (format!("{way}, and writes a name there"), "written here", HELP_WRITTEN),
            Of::Cluster(cluster) => {
                (format!(", which leads it to its cluster `{}`", shown(cluster)), "its cluster", HELP_CLUSTER)
            }
            Of::Destination => (", which leads requests of its own there".to_owned(), "led there", HELP_LED),
            Of::Everything => (": names of all requests begin so".to_owned(), "", HELP_WRITTEN),
            Of::TooMany => {
                let message = format!(
                    "the main file leads `{name}` to more than {WAYS_MAX} names: nobody could say whose they are"
                );
                cx.push(Diagnostic::error("teams/too-many-ways", span, message).help("own a longer name"));
                continue;
            }
        };
        let message = format!("`{name}` belongs to the main file{why}");
        let theft = Diagnostic::error("teams/conflict", span, message).label("wanted here").help(help);
        cx.push(match origin {
            Some(origin) => theft.related(origin, label),
            None => theft,
        });
    }
}

const HELP_WRITTEN: &str = "own a longer name, or take what stands there out of the main file first";
const HELP_CLUSTER: &str = "own another name, or move the cluster from the main file into this one, and own it";
const HELP_LED: &str = "own a longer name, or let the main file lead to one that is nowhere without this file";

fn prefix_span(dentry: &DentrySpans) -> Span {
    Span::new(dentry.prefix.start, dentry.prefix.end)
}
