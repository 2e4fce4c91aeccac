//! Dtabs in the file: their mistakes point at the right character of the file, and names nobody knows are found early.

use std::collections::HashSet;

use crate::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Severity};
use crate::dtab::{Builtin, Dtab, Elem, Expected, NameTree, Path, SyntaxError, Union, builtin};
use crate::model::{Cluster, Namer};
use crate::raw::{Cx, listed, shown};
use crate::source::Span;
use crate::units::{Wrong, closest};
use crate::yaml::{Node, Value, map_spans};

use super::idle;
use super::names::CLUSTERS;

/// Clusters compared with a name that is none, for "did you mean".
const NEAR_CLUSTERS_MAX: usize = 10_000;

/// Clusters that one message lists.
const CLUSTERS_SHOWN_MAX: usize = 8;

/// The names a dtab may end in.
pub(crate) struct Known<'a> {
    clusters: HashSet<&'a str>,
    /// In file order, for messages that do not change from run to run.
    cluster_names: Vec<&'a str>,
    namers: Vec<&'a Path>,
    /// No namer was refused. Otherwise its names would be called unknown too, in every dentry: one mistake is said once.
    all_namers: bool,
    /// Somebody else binds: any name may be one.
    elsewhere: bool,
}

impl<'a> Known<'a> {
    pub(super) fn new(clusters: &'a [Cluster], namers: &'a [Namer], all_namers: bool) -> Known<'a> {
        let cluster_names: Vec<&str> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        let clusters = cluster_names.iter().copied().collect();
        Known {
            clusters,
            cluster_names,
            namers: namers.iter().map(|namer| &namer.prefix).collect(),
            all_namers,
            elsewhere: false,
        }
    }

    /// The same for a dtab that somebody else binds.
    pub(super) fn elsewhere(&self) -> Known<'a> {
        let Known { clusters, cluster_names, namers, all_namers, .. } = self;
        let (clusters, cluster_names, namers) = (clusters.clone(), cluster_names.clone(), namers.clone());
        Known { clusters, cluster_names, namers, all_namers: *all_namers, elsewhere: true }
    }

    pub(super) fn has_cluster(&self, name: &str) -> bool {
        self.clusters.contains(name)
    }

    /// Whether a configured namer answers for this name under `/#`, or could once more follows it.
    pub(super) fn may_name(&self, under: &Path) -> bool {
        !self.all_namers || self.namers.iter().any(|prefix| under.starts_with(prefix) || prefix.starts_with(under))
    }

    /// Whether something may be bound to a name under `/#` that begins so.
    pub(super) fn may_lead(&self, under: &Path) -> bool {
        let cluster = |name: &[u8]| std::str::from_utf8(name).is_ok_and(|name| self.has_cluster(name));
        match (under.label(0), under.label(1)) {
            (Some(first), Some(name)) if first == CLUSTERS.as_bytes() => cluster(name),
            (Some(first), None) if first == CLUSTERS.as_bytes() => true,
            _ => self.may_name(under),
        }
    }

    /// What names under `/#` there are.
    pub(super) fn namer_advice(&self) -> String {
        let prefixes: Vec<String> = self.namers.iter().map(|prefix| format!("/#{prefix}")).collect();
        let clusters = self.cluster_names.iter().take(CLUSTERS_SHOWN_MAX).map(|name| format!("/#/{CLUSTERS}/{name}"));
        let all: Vec<String> = clusters.chain(prefixes).collect();
        if all.is_empty() {
            return "there are neither `clusters` nor `namers`".to_owned();
        }
        format!("names can begin with: {}", listed(&all.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// What to do about a cluster that is none.
    pub(super) fn cluster_advice(&self, name: &str) -> String {
        match closest(name, self.cluster_names.iter().copied().take(NEAR_CLUSTERS_MAX)) {
            Some(near) => format!("did you mean `/#/clusters/{near}`?"),
            None => {
                format!("add it at the top of the file: `clusters: {{{name}: {{endpoints: [\"127.0.0.1:8080\"]}}}}`")
            }
        }
    }
}

/// A dtab of the file, checked. `below` is the dtab it will be added to, if any: its dentries count too.
pub(super) fn dtab(cx: &Cx<'_>, node: &Node<'_>, known: &Known<'_>, below: Option<&Dtab>) -> Option<Dtab> {
    let Value::Scalar(scalar) = &node.value else {
        cx.wrong("dtab", node, Wrong::new("a text of dentries", "/svc => /#/clusters/web ;"));
        return None;
    };
    let dtab = match Dtab::parse(&scalar.text) {
        Ok(dtab) => dtab,
        Err(errors) => {
            let spans: Vec<Span> = errors.iter().map(|error| Span::new(error.span.start, error.span.end)).collect();
            for (error, span) in errors.iter().zip(map_spans(cx.source, node, &spans)) {
                cx.push(Diagnostic::error("dtab/syntax", span, error.to_string()).maybe_help(syntax_help(error)));
            }
            return None;
        }
    };
    let rewrites = Rewrites::of(std::iter::once(&dtab).chain(below));
    report(cx, node, &scalar.text, problems(&dtab, known, rewrites));
    Some(dtab)
}

/// What is wrong with a name that stands outside of a dtab and is looked up in it: code, message, advice.
pub(super) fn name_problem(
    name: &Path,
    known: &Known<'_>,
    rewrites: Rewrites,
) -> Option<(&'static str, String, Option<String>)> {
    leaf_problem(name, known, rewrites)
}

/// The language's own hint; its word `simple` is explained, because nobody knows it.
fn syntax_help(error: &SyntaxError) -> Option<String> {
    let simple = || "here comes a path, `!`, `~`, `$` or a tree in parentheses".to_owned();
    error.hint().or_else(|| (error.expected == Expected::Simple).then(simple))
}

/// Whether dentries answer for names under `/#` or `/$`: they are asked before any namer, so such names need none.
#[derive(Clone, Copy, Default)]
pub(super) struct Rewrites {
    namers: bool,
    builtins: bool,
}

impl Rewrites {
    pub(super) fn of<'d>(dtabs: impl Iterator<Item = &'d Dtab>) -> Rewrites {
        let mut rewrites = Rewrites::default();
        for dentry in dtabs.flat_map(|dtab| &dtab.0) {
            let first = dentry.prefix.elems().next();
            let all = matches!(first, None | Some(Elem::Any));
            rewrites.namers |= all || first == Some(Elem::Label(b"#"));
            rewrites.builtins |= all || first == Some(Elem::Label(b"$"));
        }
        rewrites
    }
}

/// Something that parses and cannot work.
struct Problem {
    dentry: usize,
    part: Part,
    severity: Severity,
    code: &'static str,
    message: String,
    help: Option<String>,
}

/// The n-th leaf or union of a destination.
enum Part {
    Leaf(usize),
    Union(usize),
}

fn problems(dtab: &Dtab, known: &Known<'_>, rewrites: Rewrites) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, dentry) in dtab.0.iter().enumerate() {
        for (leaf, path) in dentry.destination.leaves().into_iter().enumerate() {
            if let Some((code, message, help)) = leaf_problem(path, known, rewrites) {
                let (part, severity) = (Part::Leaf(leaf), Severity::Error);
                problems.push(Problem { dentry: index, part, severity, code, message, help });
            } else if let Some((message, help)) =
                idle::impossible(path).filter(|_| !rewrites.builtins && !known.elsewhere)
            {
                let (part, severity, help) = (Part::Leaf(leaf), Severity::Warning, Some(help));
                problems.push(Problem { dentry: index, part, severity, code: "dtab/never", message, help });
            }
        }
        for (union, found) in dentry.destination.unions().into_iter().enumerate() {
            if is_all_zero(found) {
                let message = "every weight of this union is 0, so no request could ever take it".to_owned();
                let help = Some("give at least one branch a weight above 0, or write `!` or `~`".to_owned());
                let (part, severity) = (Part::Union(union), Severity::Error);
                problems.push(Problem { dentry: index, part, severity, code: "dtab/zero-union", message, help });
            }
        }
        if problems.len() >= DIAGNOSTICS_MAX {
            break;
        }
    }
    problems
}

fn is_all_zero(union: &Union<Path>) -> bool {
    union.branches.iter().all(|branch| branch.weight.is_zero())
}

fn leaf_problem(leaf: &Path, known: &Known<'_>, rewrites: Rewrites) -> Option<(&'static str, String, Option<String>)> {
    match leaf.label(0)? {
        _ if known.elsewhere => return None,
        b"$" if !rewrites.builtins => return unknown_builtin(leaf),
        b"#" if !rewrites.namers => {}
        _ => return None,
    }
    let under = leaf.skip(1);
    if under.label(0)? == CLUSTERS.as_bytes() {
        let name = String::from_utf8_lossy(under.label(1)?).into_owned();
        if known.has_cluster(&name) {
            return None;
        }
        let help = Some(known.cluster_advice(&name));
        return Some(("dtab/unknown-cluster", format!("there is no cluster `{}`", shown(&name)), help));
    }
    if known.may_name(&under) {
        return None;
    }
    let prefixes: Vec<String> = known.namers.iter().map(|prefix| format!("/#{prefix}")).collect();
    let prefixes: Vec<&str> = std::iter::once("/#/clusters").chain(prefixes.iter().map(String::as_str)).collect();
    let message = format!("no namer answers for `{}`", shown(&leaf.to_string()));
    Some(("dtab/unknown-namer", message, Some(format!("names can begin with: {}", listed(&prefixes)))))
}

/// Names are often only begun in a dtab and end with what follows the prefix, so only the kind is judged.
fn unknown_builtin(leaf: &Path) -> Option<(&'static str, String, Option<String>)> {
    leaf.label(1)?;
    let whole = leaf.take(2).join(&Path::parse("/127.0.0.1/80").ok()?);
    let Builtin::Unknown(_) = builtin(&whole) else { return None };
    let message = format!("there is no built-in name `{}`", shown(&leaf.take(2).to_string()));
    let near =
        closest(&leaf.take(2).to_string(), BUILTINS.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    Some(("dtab/unknown-namer", message, near))
}

/// Those that people write, for "did you mean".
const BUILTINS: &[&str] = &[
    "/$/fail",
    "/$/inet",
    "/$/io.buoyant.hostportPfx",
    "/$/io.buoyant.http.domainToPathPfx",
    "/$/io.buoyant.http.subdomainOfPfx",
    "/$/io.buoyant.porthostPfx",
    "/$/io.buoyant.rinet",
    "/$/nil",
];

/// The places are looked for only now: a dtab without problems is read once and without them.
fn report(cx: &Cx<'_>, node: &Node<'_>, text: &str, problems: Vec<Problem>) {
    if problems.is_empty() || cx.is_full() {
        return;
    }
    let Ok((_, places)) = Dtab::parse_with_spans(text) else { return };
    let place = |problem: &Problem| {
        let dentry = places.dentries.get(problem.dentry)?;
        let range = match problem.part {
            Part::Leaf(leaf) => dentry.leaves.get(leaf)?,
            Part::Union(union) => dentry.unions.get(union)?,
        };
        Some(Span::new(range.start, range.end))
    };
    let spans: Vec<Span> = problems.iter().map(|problem| place(problem).unwrap_or_default()).collect();
    for (problem, span) in problems.into_iter().zip(map_spans(cx.source, node, &spans)) {
        let told = match problem.severity {
            Severity::Error => Diagnostic::error(problem.code, span, problem.message),
            Severity::Warning => Diagnostic::warning(problem.code, span, problem.message),
        };
        cx.push(told.maybe_help(problem.help));
    }
}

/// Whether a tree has a union, which is what can be split.
pub(super) fn has_union(tree: &NameTree<Path>) -> bool {
    !tree.unions().is_empty()
}
