//! `rollouts`, and what they ask, tell and keep: `metricTemplates`, `alertProviders`, `storage`.

mod analysis;
mod arms;
mod contradictions;
mod guard;
mod hooks;
mod metrics;
mod one;
mod pace;
mod providers;
mod strategy;
mod values;

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::model::{AlertProvider, MetricTemplate, Rollout, Storage};
use crate::raw::{Cx, Fields, shown};
use crate::source::Span;
use crate::units::{self, closest};
use crate::yaml::{Entry, Node};

use super::dtabs::Known;
use super::router::Routers;

pub use self::one::ROLLOUT_NAME_BYTES_MAX;
pub use self::providers::{ALERT_PROVIDERS_MAX, METRIC_TEMPLATES_MAX, QUERY_BYTES_MAX};
pub use self::strategy::MATCH_RULES_MAX;
pub use self::values::{PAIRS_MAX, TEXT_BYTES_MAX, URL_BYTES_MAX};

/// Rollouts of one file.
pub const ROLLOUTS_MAX: usize = 1000;

/// What the rest of the file has for rollouts.
pub(super) struct World<'a> {
    pub(super) known: &'a Known<'a>,
    pub(super) routers: &'a Routers,
}

/// What of the configuration is read here.
pub(super) struct Parts {
    pub(super) rollouts: Vec<Rollout>,
    pub(super) metric_templates: Vec<MetricTemplate>,
    pub(super) alert_providers: Vec<AlertProvider>,
    pub(super) storage: Option<Storage>,
}

pub(super) fn parts(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, world: &World<'_>) -> Parts {
    let (list, names) = providers::metric_templates(cx, fields);
    let templates = Templates { list, names };
    let (alert_providers, provider_names) = providers::alert_providers(cx, fields);
    let has_storage = fields.has("storage");
    let storage = storage(cx, fields);
    let scope = one::Scope { world, templates: &templates, providers: &provider_names };
    let rollouts = rollouts(cx, fields, &scope, has_storage);
    Parts { rollouts, metric_templates: templates.list, alert_providers, storage }
}

fn rollouts(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, scope: &one::Scope<'_>, has_storage: bool) -> Vec<Rollout> {
    let Some(entry) = fields.take(cx, "rollouts") else { return Vec::new() };
    let items = limited(cx, "rollouts", entry, ROLLOUTS_MAX, one::EXAMPLE);
    if !items.is_empty() && !has_storage {
        let message = "a file with `rollouts` needs `storage`: what was promoted and what was rolled back must be kept";
        let missing = Diagnostic::error("rollout/no-storage", entry.key_span, message);
        cx.push(missing.help("add `storage: {kind: file, dir: state}`, or `storage: {kind: memory}` to forget it all"));
    }
    let written: Vec<_> = items.iter().filter_map(|item| one::rollout(cx, item, scope)).collect();
    contradictions::check(cx, scope.world, &written);
    written.into_iter().map(|written| written.rollout).collect()
}

fn storage(cx: &Cx<'_>, fields: &mut Fields<'_, '_>) -> Option<Storage> {
    let mut fields = fields.map(cx, "storage", "{kind: file, dir: state}")?;
    let instead = "write `storage: {kind: file, dir: state}`: each process keeps its own";
    let Some(kind) = super::kind(cx, &mut fields, "storage", &["file", "memory"], STORAGES_NOT_BUILT, instead) else {
        fields.abandon();
        return None;
    };
    let storage = if kind == "memory" {
        if let Some(entry) = fields.take(cx, "dir") {
            let message = "`dir` has no effect: storage of kind `memory` writes nothing";
            let conflict = Diagnostic::error("config/conflict", entry.key_span, message);
            cx.push(conflict.help("write `kind: file` to keep it there, or remove `dir`"));
        }
        Some(Storage::Memory)
    } else {
        let help = "write `dir: state`: a folder of its own, relative to the folder of this file";
        let entry = fields.require(cx, "dir", "storage of kind `file`", help);
        let dir = entry.and_then(|entry| {
            cx.scalar("dir", &entry.value, |text| units::visible(text, 4096, "the path of a folder", "state"))
        });
        dir.map(|dir| Storage::File { dir: cx.source.folder().join(dir) })
    };
    fields.finish(cx);
    storage
}

const STORAGES_NOT_BUILT: &[&str] =
    &["consul", "etcd", "io.l5d.consul", "io.l5d.etcd", "io.l5d.inMemory", "io.l5d.k8s", "io.l5d.zk", "kubernetes"];

/// The items of a list, as many as are allowed.
fn limited<'n, 's>(
    cx: &Cx<'_>,
    key: &'static str,
    entry: &'n Entry<'s>,
    max: usize,
    example: &'static str,
) -> &'n [Node<'s>] {
    let items = cx.list(key, &entry.value, example);
    if items.len() > max {
        let message = format!("`{key}` has {} entries, {max} are allowed", items.len());
        cx.push(Diagnostic::error("config/too-many", entry.key_span, message));
    }
    items.get(..max).unwrap_or(items)
}

/// The metric templates and their names.
struct Templates {
    list: Vec<MetricTemplate>,
    names: Names,
}

/// The names of a list of the file, and where each stands in it.
#[derive(Default)]
struct Names {
    key: &'static str,
    places: HashMap<String, (usize, Span)>,
    /// Some entry was refused: then an unknown name may be that one, and one mistake is said once.
    some_refused: bool,
}

impl Names {
    fn new(key: &'static str) -> Names {
        Names { key, ..Names::default() }
    }

    /// Notes a name. `false`: there is one already, and that was said.
    fn add(&mut self, cx: &Cx<'_>, name: &str, span: Span) -> bool {
        if let Some((_, earlier)) = self.places.get(name) {
            let message = format!("two entries of `{}` are called `{}`", self.key, shown(name));
            let twice = Diagnostic::error("config/duplicate-name", span, message);
            cx.push(twice.related(*earlier, "the first one").help("give each a name of its own"));
            self.some_refused = true;
            return false;
        }
        self.places.insert(name.to_owned(), (self.places.len(), span));
        true
    }

    /// The index of a name that is referred to; an unknown one is an error at `node`.
    fn find(&self, cx: &Cx<'_>, name: &str, node: &Node<'_>) -> Option<usize> {
        let found = self.places.get(name).map(|(index, _)| *index);
        if found.is_none() && !self.some_refused {
            let message = format!("no entry of `{}` is called `{}`", self.key, shown(name));
            let mut names: Vec<&str> = self.places.keys().map(String::as_str).collect();
            names.sort_unstable();
            let help = match closest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add it to the top-level list `{}`", self.key),
            };
            cx.push(Diagnostic::error("rollout/unknown-name", node.span, message).help(help));
        }
        found
    }
}
