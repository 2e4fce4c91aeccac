//! Rollouts against each other and against their router.

use std::collections::{HashMap, HashSet};

use crate::diagnostic::Diagnostic;
use crate::dtab::{Dtab, Elem, NameTree, Path, Prefix};
use crate::model::Router;
use crate::raw::{Cx, shown};
use crate::source::Span;
use crate::units::closest;

use super::super::dtabs::{self, Rewrites};
use super::arms::Arms;
use super::one::Written;
use super::{Names, World};

pub(super) fn check(cx: &Cx<'_>, world: &World<'_>, rollouts: &[Written]) {
    let mut names = Names::new("rollouts");
    let mut owners: HashMap<(&str, String), Span> = HashMap::new();
    for one in rollouts {
        names.add(cx, &one.rollout.name, one.name);
        let place = (one.rollout.router.as_str(), one.rollout.path.to_string());
        if let Some(earlier) = owners.get(&place) {
            let message = format!("two rollouts own `{}`: their weights would fight", shown(&place.1));
            let twice = Diagnostic::error("rollout/one-dentry", one.path, message);
            cx.push(twice.related(*earlier, "the first one").help("keep one, or give them dentries of their own"));
        } else {
            owners.insert(place, one.path);
        }
        check_arms(cx, one);
    }
    for router in &world.routers.list {
        let mine: Vec<&Written> = rollouts.iter().filter(|one| one.rollout.router == router.label).collect();
        if !mine.is_empty() && !world.routers.unread.contains(&router.label) {
            check_router(cx, world, router, &mine);
        }
    }
}

fn check_arms(cx: &Cx<'_>, one: &Written) {
    let rollout = &one.rollout;
    if rollout.primary == rollout.canary {
        let message = format!("`canary` and `primary` are both `{}`: there is nothing to compare", rollout.canary);
        let same = Diagnostic::error("rollout/same-arms", one.canary, message);
        cx.push(same.related(one.primary, "the primary").help("name the new version here: `canary: /srv/world-v2`"));
    }
}

/// Everything of one router at once: its table is walked a few times, not once for each rollout.
fn check_router(cx: &Cx<'_>, world: &World<'_>, router: &Router, rollouts: &[&Written]) {
    let leads = Leads::new(router, rollouts);
    // What a stored dtab says is not known here.
    let stored = router.interpreter.namespace().is_some();
    let rewrites = Rewrites::of(std::iter::once(&router.dtab));
    let arms = Arms::new(world.known, router, rollouts);
    let by_prefix = by_prefix(&router.dtab, rollouts);
    for one in rollouts {
        let rollout = &one.rollout;
        if !stored && !leads.to(&rollout.path) {
            let message =
                format!("no dentry of the router `{}` leads to `{}`", router.label, shown(&rollout.path.to_string()));
            let help = leads.advice(&rollout.path, router);
            cx.push(Diagnostic::error("rollout/unserved-path", one.path, message).help(help));
        }
        for (key, arm, span) in [("primary", &rollout.primary, one.primary), ("canary", &rollout.canary, one.canary)] {
            if arm.starts_with(&rollout.path) && !has_longer(&router.dtab, &rollout.path, arm) {
                let message = format!("`{key}` begins with the rollout's own `path`: looking it up would never end");
                let round = Diagnostic::error("rollout/loop", span, message).related(one.path, "the path");
                cx.push(round.help("name the version itself: `/srv/world-v2` or `/#/clusters/world-v2`"));
            } else if !stored && !leads.anywhere && !check_name(cx, world, rewrites, arm, span) {
                arms.check(cx, key, arm, span);
            }
        }
        for leaf in rollout.fallback.leaves() {
            check_name(cx, world, rewrites, leaf, one.fallback.unwrap_or(one.path));
        }
        check_dentries(cx, one, by_prefix.get(&rollout.path).map_or(&[], Vec::as_slice));
        check_split_rule(cx, router, one);
    }
}

/// A name as it stands; `true` if it is wrong.
fn check_name(cx: &Cx<'_>, world: &World<'_>, rewrites: Rewrites, name: &Path, span: Span) -> bool {
    let problem = dtabs::name_problem(name, world.known, rewrites);
    let is_wrong = problem.is_some();
    if let Some((code, message, help)) = problem {
        cx.push(Diagnostic::error(code, span, message).maybe_help(help));
    }
    is_wrong
}

/// A dentry of the same prefix is reached only through `fallback`; one that names the canary means a weight by hand.
fn check_dentries(cx: &Cx<'_>, one: &Written, destinations: &[&NameTree<Path>]) {
    let rollout = &one.rollout;
    if let Some(tree) = destinations.iter().find(|tree| tree.leaves().contains(&&rollout.canary)) {
        let message = format!(
            "the router's `dtab` has `{} => {}`, which sends traffic to the canary beside this rollout",
            shown(&rollout.path.to_string()),
            shown(&tree.to_string())
        );
        let named = Diagnostic::error("rollout/canary-in-dtab", one.canary, message);
        cx.push(named.help("remove the canary from that dentry: the rollout gives it its share"));
    }
}

fn check_split_rule(cx: &Cx<'_>, router: &Router, one: &Written) {
    let path = one.rollout.path.to_string();
    let Some(rule) = router.splits.iter().find(|rule| rule.path == path) else { return };
    for (key, span) in &one.drawing {
        let clash = match *key {
            "onUnhealthy" => rule.on_unhealthy.is_some(),
            _ => rule.stickiness.is_some(),
        };
        if clash {
            let message = format!("`{key}` contradicts the rule for `{}` under `splits` of the router", shown(&path));
            let clash = Diagnostic::error("rollout/contradiction", *span, message);
            cx.push(clash.help("keep one of the two: the rollout's is the one that lives and dies with it"));
        }
    }
}

/// The destinations of dentries whose prefix a rollout owns.
fn by_prefix<'d>(dtab: &'d Dtab, rollouts: &[&Written]) -> HashMap<Path, Vec<&'d NameTree<Path>>> {
    let mut found: HashMap<Path, Vec<&NameTree<Path>>> =
        rollouts.iter().map(|one| (one.rollout.path.clone(), Vec::new())).collect();
    for dentry in &dtab.0 {
        if let Some(list) = dentry.prefix.to_path().and_then(|path| found.get_mut(&path)) {
            list.push(&dentry.destination);
        }
    }
    found
}

/// Whether some dentry stands before the rollout's own for this arm: the more specific ones win where they are later.
fn has_longer(dtab: &Dtab, path: &Path, arm: &Path) -> bool {
    dtab.0.iter().any(|dentry| dentry.prefix.len() > path.len() && dentry.prefix.matches(arm))
}

/// Where the names of a router can lead: more than they do, so that nothing right is refused.
struct Leads {
    /// Everything a destination is, and the names every request begins with.
    whole: HashSet<Path>,
    /// Every beginning of those.
    begins: HashSet<Path>,
    /// Some built-in name makes new names of the request: they could be any.
    anywhere: bool,
}

impl Leads {
    fn new(router: &Router, rollouts: &[&Written]) -> Leads {
        let mut leads = Leads { whole: HashSet::new(), begins: HashSet::new(), anywhere: false };
        leads.add(&router.dst_prefix);
        let overrides = router.overrides.iter().flat_map(|rule| &rule.dtab.0);
        for dentry in router.dtab.0.iter().chain(overrides) {
            for leaf in dentry.destination.leaves() {
                leads.add(leaf);
            }
        }
        for one in rollouts {
            leads.add(&one.rollout.primary);
            leads.add(&one.rollout.canary);
            for leaf in one.rollout.fallback.leaves() {
                leads.add(leaf);
            }
        }
        leads
    }

    fn add(&mut self, name: &Path) {
        self.anywhere |=
            name.label(0) == Some(b"$") && name.label(1).is_some_and(|kind| kind.starts_with(b"io.buoyant"));
        if self.whole.insert(name.clone()) {
            self.begins.extend((0..=name.len()).map(|n| name.take(n)));
        }
    }

    /// A name can become this path if it begins with it, or the path begins with the name.
    fn to(&self, path: &Path) -> bool {
        self.anywhere || self.begins.contains(path) || (0..=path.len()).any(|n| self.whole.contains(&path.take(n)))
    }

    fn advice(&self, path: &Path, router: &Router) -> String {
        let text = path.to_string();
        let mut prefixes: Vec<String> =
            router.dtab.0.iter().take(NEAR_PREFIXES_MAX).map(|dentry| prefix_text(&dentry.prefix)).collect();
        prefixes.sort_unstable();
        match closest(&text, prefixes.iter().map(String::as_str).filter(|prefix| *prefix != text)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "requests arrive as `{}/…`: write a dentry that leads from there to this path",
                router.dst_prefix
            ),
        }
    }
}

fn prefix_text(prefix: &Prefix) -> String {
    prefix
        .elems()
        .map(|elem| match elem {
            Elem::Any => "/*".to_owned(),
            Elem::Label(label) => format!("/{}", String::from_utf8_lossy(label)),
        })
        .collect()
}

/// Prefixes compared with a path that is none, for "did you mean".
const NEAR_PREFIXES_MAX: usize = 10_000;
