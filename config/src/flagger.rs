//! Flagger's objects as rollouts of Serin: a `Canary`, and the `MetricTemplate` and `AlertProvider` it refers to.
//!
//! What has no counterpart is said, each field at its place: an error where the verdict or the traffic depends on it,
//! a warning otherwise. What was decided for the user stands as a comment in the text.
//!
//! ```
//! use serin_config::{Source, flagger};
//!
//! let canary = Source::new("canary.yaml", "
//! apiVersion: flagger.app/v1beta1
//! kind: Canary
//! metadata: {name: world, namespace: shop}
//! spec:
//!   targetRef: {apiVersion: apps/v1, kind: Deployment, name: world}
//!   service: {port: 80}
//!   analysis: {interval: 1m, threshold: 5, stepWeight: 10, maxWeight: 50}
//! ");
//! let imported = flagger::import(&[canary], &flagger::Wishes::default());
//! assert!(imported.is_whole() && imported.text.contains("path: /host/world"), "{}", imported.text);
//! ```

mod analysis;
mod canary;
mod checks;
mod documents;
mod objects;
mod out;

use crate::diagnostic::{Diagnostic, Severity, Sink};
use crate::dtab::Path;
use crate::model::Config;
use crate::raw::{Cx, shown};
use crate::source::{Source, Span};
use crate::yaml::Node;

use self::documents::Object;
use self::out::{Out, Pair};

/// What the objects do not say.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Label of the router whose traffic is moved.
    pub router: String,
    /// The dentry prefix; `/host/<service>` by default.
    pub path: Option<String>,
    /// The old version; `/srv/<service>-primary` by default.
    pub primary: Option<String>,
    /// The new version; `/srv/<service>-canary` by default.
    pub canary: Option<String>,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes { router: "outgoing".to_owned(), path: None, primary: None, canary: None }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Imported {
    /// A part of a configuration: `rollouts`, `metricTemplates`, `alertProviders`. Empty if nothing could be read.
    pub text: String,
    /// What is to be known, for each source in its order.
    pub findings: Vec<Vec<Diagnostic>>,
    /// How many findings there are beyond those kept.
    pub omitted: usize,
}

impl Imported {
    /// Nothing essential was lost.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.text.is_empty() && self.findings.iter().flatten().all(|one| one.severity != Severity::Error)
    }
}

/// Reads all objects of all sources. References go across them.
#[must_use]
pub fn import(sources: &[Source], wishes: &Wishes) -> Imported {
    let documents: Vec<Vec<Source>> = sources.iter().map(documents::split).collect();
    let mut sinks: Vec<Sink> = sources.iter().map(|_| Sink::default()).collect();
    let mut trees: Vec<(usize, Node<'_>)> = Vec::new();
    for (at, parts) in documents.iter().enumerate() {
        trees.extend(parts.iter().filter_map(|part| Some((at, documents::read(part, &mut sinks[at])?))));
        if parts.is_empty() {
            sinks[at].push(Diagnostic::error("import/empty", Span::at(0), "the file has nothing in it"));
        }
    }
    let contexts: Vec<Cx<'_>> =
        sources.iter().zip(sinks).map(|(source, sink)| Cx::new(source, &|_| true, sink)).collect();
    let objects: Vec<Object<'_, '_>> =
        trees.iter().flat_map(|(at, tree)| documents::objects(&contexts[*at], *at, tree)).collect();
    let mut text = convert(&contexts, &objects, wishes);
    let canary = objects.iter().find(|object| object.kind == "Canary");
    let errors = || contexts.iter().map(Cx::errors).sum::<usize>();
    match (canary, contexts.first()) {
        (None, Some(first)) => {
            if errors() == 0 {
                let none = "there is no `Canary` of Flagger's in it";
                first.push(Diagnostic::error("import/no-canary", Span::at(0), none));
            }
            text.clear();
        }
        (Some(canary), _) if errors() == 0 => {
            if let Err(why) = proof(sources, &objects).and_then(|()| check(wishes)) {
                let message = format!("what comes of it is no legal configuration: {why}");
                contexts[canary.source].push(Diagnostic::error("import/illegal", canary.node.span, message));
            }
        }
        _ => {}
    }
    let mut omitted = 0;
    let findings = contexts.into_iter().map(|cx| {
        let (list, more) = cx.into_sink().into_list();
        omitted += more;
        list
    });
    Imported { findings: findings.collect(), text, omitted }
}

fn convert(contexts: &[Cx<'_>], objects: &[Object<'_, '_>], wishes: &Wishes) -> String {
    let all = canary::Known::of(objects);
    let of = |kind: &str| objects.iter().filter(move |object| object.kind == kind).collect::<Vec<_>>();
    let mut sections = Vec::new();
    let mut section = |key: &str, items: Vec<Out>| {
        if !items.is_empty() {
            sections.push(Pair::new(key, Out::List(items)));
        }
    };
    let canaries = of("Canary");
    let rollouts = canaries.iter().filter_map(|one| canary::rollout(&contexts[one.source], one, &all, wishes));
    let rollouts: Vec<canary::Rollout> = rollouts.collect();
    let preface: String = rollouts.iter().map(|rollout| rollout.preface.as_str()).collect();
    let fills: Vec<_> = canaries.iter().map(|one| canary::fill(one)).collect();
    section("rollouts", rollouts.into_iter().map(|rollout| rollout.out).collect());
    let templates = of("MetricTemplate");
    let templates = templates.iter().filter_map(|one| objects::template(&contexts[one.source], one, &fills));
    section("metricTemplates", templates.collect());
    let providers = of("AlertProvider");
    let providers = providers.iter().filter_map(|one| objects::provider(&contexts[one.source], one));
    section("alertProviders", providers.collect());
    if sections.is_empty() { String::new() } else { format!("{preface}{}", out::text(&sections)) }
}

/// Under the usual names and beside a router that leads to them, it must be legal.
fn proof(sources: &[Source], objects: &[Object<'_, '_>]) -> Result<(), String> {
    let contexts: Vec<Cx<'_>> = sources.iter().map(|source| Cx::new(source, &|_| true, Sink::default())).collect();
    let file = format!("{}\n{AROUND}", convert(&contexts, objects, &Wishes::default()));
    let source = Source::new("imported", file);
    Config::parse(&source).map(|_| ()).map_err(|mistakes| mistakes.to_string())
}

const AROUND: &str = "\
storage: {kind: memory}
routers:
- label: outgoing
  servers: [{port: 4140}]
  dtab: /srv => /$/inet/127.0.0.1 ; /host => /srv ; /svc => /host
";

/// Names that a person gave.
fn check(wishes: &Wishes) -> Result<(), String> {
    for name in [&wishes.path, &wishes.primary, &wishes.canary].into_iter().flatten() {
        Path::parse(name).map_err(|error| format!("`{}` is no name: {}", shown(name), error.in_text(name)))?;
    }
    let same = wishes.primary.is_some() && wishes.primary == wishes.canary;
    if same { Err("primary and canary are the same".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
