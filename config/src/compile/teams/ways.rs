//! Where the main file leads names: a claim reaches as far as the main dtab does.
//!
//! A dentry at `/svc/web` takes requests that would have come to `/host/web`, where `/svc => /host`. So a claim is compared
//! with others as it is and as everything that the main file may make of it. All of this is about sets of names, and where it
//! is not exact it takes more names than there are: order, weights and `!` are not looked at.

mod index;
mod utility;

use std::collections::HashMap;

use crate::dtab::{Builtin, Dtab, Path, Pattern, Prefix, builtin};
use crate::raw::Cx;
use crate::source::Span;
use crate::yaml::{Node, Value, map_spans};

use super::super::names::CLUSTERS;
use super::names::{Host, Name, Part};
use super::{entry, hosts, scalar, text};
use index::Index;
use utility::Rewrite;

/// Sets of names that a claim may be led through in one router. Whose they are could not be said of more.
pub const WAYS_MAX: usize = 256;

/// What the main file says of names.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    routers: Vec<World>,
    rewrites: Vec<Rewrite>,
    /// Prefixes of namers other than those, behind `/#`.
    namers: Vec<Path>,
    clusters: HashMap<Box<str>, Span>,
    /// Rules of the main file for all hosts below one, and the names they give.
    wild_rules: Vec<(Host, Name)>,
}

/// One router.
#[derive(Debug, Default)]
struct World {
    dst_prefix: Path,
    by_method: bool,
    edges: Vec<Edge>,
    by_prefix: Index,
    /// By the leaf, but for those under `/#` and `/$`.
    by_leaf: Index,
    /// Edges whose leaf is there, and a built-in name or a namer leads it on, which cannot be followed backwards; and whereto.
    odd: Vec<(usize, Vec<Reached>)>,
}

/// A dentry and one leaf of its destination.
#[derive(Debug)]
struct Edge {
    prefix: Prefix,
    leaf: Name,
    origin: Origin,
    /// The prefix belongs to who wrote it. Overrides of the main file own nothing: they are for some requests.
    owns: bool,
}

/// Where something of the main file stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// The prefix of the n-th dentry of the n-th router.
    Dentry {
        router: usize,
        dentry: usize,
    },
    At(Span),
}

/// A set of names on the way, from the claim on.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    pub(super) name: Name,
    /// So many labels in front were given by the main file, not by the claim.
    given: usize,
}

/// Why a claim is for what is the main file's.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) what: Of,
    /// Which of the names it is led to.
    pub(super) on: Name,
    /// Where it stands in the main file.
    pub(super) origin: Option<Origin>,
}

/// What it is of the main file.
#[derive(Clone, Debug)]
pub(super) enum Of {
    /// A cluster.
    Cluster(String),
    /// A name that it leads requests of its own to.
    Destination,
    /// All requests of a router.
    Everything,
    /// More than can be told.
    TooMany,
    /// A dentry or a rollout.
    Written,
}

impl Ways {
    /// What a main file says, as far as it can be read: what cannot is told by who compiles it.
    pub(super) fn of(cx: &Cx<'_>, root: &Node<'_>) -> Ways {
        let mut ways = Ways::default();
        let items = |key| entry(root, key).map(|entry| cx.one_or_more(&entry.value)).unwrap_or_default();
        for item in items("namers") {
            ways.namer(item);
        }
        if let Some(Value::Map(clusters)) = entry(root, "clusters").map(|entry| &entry.value.value) {
            ways.clusters = clusters.iter().map(|cluster| (Box::from(&*cluster.key), cluster.key_span)).collect();
        }
        for (at, router) in items("routers").iter().enumerate() {
            let mut world = World::of(cx, router, at);
            for rollout in items("rollouts") {
                world.rollout(rollout);
            }
            world.index();
            world.odd = ways.odd(&world);
            ways.routers.push(world);
            ways.wild_rules.extend(hosts::wild_rules(cx, router));
        }
        ways
    }

    fn namer(&mut self, item: &Node<'_>) {
        let Some(kind) = text(item, "kind") else { return };
        let prefix = text(item, "prefix").unwrap_or(kind);
        let prefix = if prefix.starts_with('/') { Path::parse(prefix) } else { Path::parse(&format!("/{prefix}")) };
        let Ok(prefix) = prefix else { return };
        match (text(item, "pattern").map(Pattern::parse), text(item, "name")) {
            (Some(Ok(pattern)), Some(name)) if kind == "io.l5d.rewrite" => {
                self.rewrites.push(Rewrite { prefix, pattern, name: name.to_owned() });
            }
            _ => self.namers.push(prefix),
        }
    }

    /// The names that requests for a host have.
    pub(super) fn names_of_host(&self, host: &Host) -> Vec<Name> {
        let mut names: Vec<Name> = Vec::new();
        for router in &self.routers {
            let methods = router.by_method.then_some(2);
            for between in [Some(0), methods].into_iter().flatten() {
                let between = std::iter::repeat_n(Part::Http, between);
                let head = Name::of(&router.dst_prefix);
                let parts = head.parts().iter().cloned().chain(between).chain([Part::Host(host.clone())]).collect();
                let name = Name::new(parts);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// The names that rules of the main file give to requests for such a host.
    pub(super) fn ruled(&self, host: &Host) -> impl Iterator<Item = &Name> {
        self.wild_rules.iter().filter(|(wild, _)| wild.overlaps(host)).map(|(_, name)| name)
    }

    /// Everything that names may become, themselves first, in any router. `None`: more than [`WAYS_MAX`].
    pub(super) fn reach(&self, name: &Name) -> Option<Vec<Reached>> {
        let mut all = vec![Reached { name: name.clone(), given: 0 }];
        for router in &self.routers {
            all.extend(self.reach_in(router, name, 0)?.into_iter().skip(1));
        }
        Some(all)
    }

    fn reach_in(&self, router: &World, name: &Name, given: usize) -> Option<Vec<Reached>> {
        let mut all = vec![Reached { name: name.clone(), given }];
        let mut next = 0;
        while let Some(one) = all.get(next).cloned() {
            next += 1;
            let found = router.by_prefix.find(&one.name, WAYS_MAX);
            if found.len() > WAYS_MAX {
                return None;
            }
            let edges = found.iter().filter_map(|found| router.edges.get(found.at));
            let led = edges.map(|edge| Reached {
                name: Name::led(&edge.leaf, &one.name, edge.prefix.len()),
                given: edge.leaf.len() + one.given.saturating_sub(edge.prefix.len()),
            });
            let made = utility::led(&one.name).into_iter();
            let made = made.chain(self.rewrites.iter().filter_map(|namer| namer.led(&one.name)));
            for new in led.chain(made.map(|name| Reached { name, given: 0 })) {
                let known = all.iter().any(|old| old.given <= new.given && old.name.covers(&new.name));
                if !known && new.name.len() <= Path::LABELS_MAX {
                    all.push(new);
                }
                if all.len() > WAYS_MAX {
                    return None;
                }
            }
        }
        Some(all)
    }

    /// Whether a claim is for something of the main file.
    pub(super) fn of_main(&self, name: &Name, reach: Option<&[Reached]>) -> Option<Hit> {
        let hit = |what| Some(Hit { what, on: name.clone(), origin: None });
        let written = |name: &Name| self.routers.iter().find_map(|router| router.written(name));
        if let Some(written) = written(name) {
            return Some(written);
        }
        if self.routers.iter().any(|router| name.covers(&Name::of(&router.dst_prefix))) {
            return hit(Of::Everything);
        }
        let Some(reach) = reach else { return hit(Of::TooMany) };
        let written = |one: &Reached| written(&one.name);
        let cluster = |one: &Reached| self.cluster(one);
        let led = || self.routers.iter().find_map(|router| self.led_by_main(router, name));
        reach.iter().find_map(written).or_else(|| reach.iter().find_map(cluster)).or_else(led)
    }

    /// A cluster of the main file that goes by a label of the claim.
    fn cluster(&self, reached: &Reached) -> Option<Hit> {
        const PLACE: usize = 2;
        if reached.given > PLACE || !clusters_head().overlaps(&reached.name) || reached.name.len() < PLACE {
            return None;
        }
        let mut found: Option<(&str, Span)> = None;
        match reached.name.parts().get(PLACE) {
            Some(Part::Http) => return None,
            Some(Part::Label(label)) => {
                let name = std::str::from_utf8(label).ok()?;
                found = self.clusters.get_key_value(name).map(|(name, span)| (&**name, *span));
            }
            part => {
                let part = part.unwrap_or(&Part::Any);
                let all = self.clusters.iter().filter(|(name, _)| part.covers_label(name.as_bytes()));
                found = all.map(|(name, span)| (&**name, *span)).min_by_key(|(_, span)| span.start).or(found);
            }
        }
        let (cluster, span) = found?;
        let origin = Some(Origin::At(span));
        Some(Hit { what: Of::Cluster(cluster.to_owned()), on: reached.name.clone(), origin })
    }

    /// A destination of the main file that all lies in a claim, on the way to something that is there without the claim.
    fn led_by_main(&self, router: &World, claim: &Name) -> Option<Hit> {
        let hit = |edge: &Edge| Hit { what: Of::Destination, on: claim.clone(), origin: Some(edge.origin) };
        let mut all = vec![claim.clone()];
        let mut next = 0;
        while let Some(one) = all.get(next).cloned() {
            next += 1;
            let found = router.by_leaf.find(&one, WAYS_MAX);
            if found.len() > WAYS_MAX || all.len() > WAYS_MAX {
                return Some(Hit { what: Of::TooMany, on: claim.clone(), origin: None });
            }
            for (edge, inside) in found.iter().filter_map(|found| Some((router.edges.get(found.at)?, found.inside))) {
                if inside && self.is_there(router, &edge.leaf) {
                    return Some(hit(edge));
                }
                let before = Name::led(&Name::of_prefix(&edge.prefix), &one, edge.leaf.len());
                if !inside && !all.iter().any(|old| old.covers(&before)) {
                    all.push(before);
                }
            }
        }
        let odd = router.odd.iter().find(|(_, all)| all.iter().any(|one| claim.covers(&one.name)));
        odd.and_then(|(at, _)| router.edges.get(*at)).map(hit)
    }

    /// What built-in names and namers make of leaves, where the main file alone binds them.
    fn odd(&self, router: &World) -> Vec<(usize, Vec<Reached>)> {
        let is_odd =
            |leaf: &Name| utility::led(leaf).is_some() || self.rewrites.iter().any(|one| one.led(leaf).is_some());
        let odd =
            router.edges.iter().enumerate().filter(|(_, edge)| is_odd(&edge.leaf) && self.is_there(router, &edge.leaf));
        odd.map(|(at, edge)| (at, self.reach_in(router, &edge.leaf, 0).unwrap_or_default())).collect()
    }

    /// Whether the main file alone binds a name, as far as it can know.
    fn is_there(&self, router: &World, name: &Name) -> bool {
        let Some(all) = self.reach_in(router, name, 0) else { return true };
        all.iter().any(|one| match one.name.parts() {
            [Part::Label(first), Part::Label(second), cluster, ..]
                if **first == *b"#" && **second == *CLUSTERS.as_bytes() =>
            {
                self.clusters.keys().any(|name| cluster.covers_label(name.as_bytes()))
            }
            [Part::Label(first), ..] if **first == *b"#" => {
                let under = Name::new(one.name.parts().get(1..).unwrap_or_default().to_vec());
                self.namers.iter().any(|prefix| Name::of(prefix).covers(&under))
            }
            parts => Name::path(parts).is_some_and(|path| matches!(builtin(&path), Builtin::Bound { .. })),
        })
    }

    /// Where something stands. `root` is the main file, from which this was made.
    pub(super) fn span(&self, cx: &Cx<'_>, root: &Node<'_>, origin: Origin) -> Option<Span> {
        let Origin::Dentry { router, dentry } = origin else {
            let Origin::At(span) = origin else { return None };
            return Some(span);
        };
        let routers = entry(root, "routers")?;
        let node = &entry(cx.one_or_more(&routers.value).get(router)?, "dtab")?.value;
        let (_, places) = Dtab::parse_with_spans(scalar(node)?).ok()?;
        let prefix = &places.dentries.get(dentry)?.prefix;
        map_spans(cx.source, node, &[Span::new(prefix.start, prefix.end)]).pop()
    }
}

/// No name: no label is empty.
fn nowhere() -> Name {
    Name::new(vec![Part::label(b"")])
}

/// Names of clusters begin so.
pub(super) fn clusters_head() -> Name {
    Name::new(vec![Part::label(b"#"), Part::label(CLUSTERS.as_bytes())])
}

impl World {
    fn of(cx: &Cx<'_>, router: &Node<'_>, at: usize) -> World {
        let dst_prefix = Path::parse(text(router, "dstPrefix").unwrap_or("/svc")).unwrap_or_default();
        let mut world = World { dst_prefix, ..World::default() };
        let identifiers = entry(router, "identifier").map(|entry| cx.one_or_more(&entry.value)).unwrap_or_default();
        world.by_method = identifiers.iter().any(|one| text(one, "kind") == Some("io.l5d.methodAndHost"));
        if let Some(Ok(dtab)) = text(router, "dtab").map(Dtab::parse) {
            world.dentries(dtab, true, |dentry| Origin::Dentry { router: at, dentry });
        }
        let overrides = entry(router, "overrides").map(|entry| cx.one_or_more(&entry.value)).unwrap_or_default();
        for node in overrides.iter().filter_map(|rule| Some(&entry(rule, "dtab")?.value)) {
            if let Some(Ok(dtab)) = scalar(node).map(Dtab::parse) {
                world.dentries(dtab, false, |_| Origin::At(node.span));
            }
        }
        world
    }

    fn dentries(&mut self, dtab: Dtab, owns: bool, origin: impl Fn(usize) -> Origin) {
        for (at, dentry) in dtab.0.into_iter().enumerate() {
            let leaves = dentry.destination.leaves();
            if leaves.is_empty() {
                // `~`, `!` and `$` lead nowhere, and the prefix is owned all the same.
                self.edges.push(Edge { prefix: dentry.prefix.clone(), leaf: nowhere(), origin: origin(at), owns });
            }
            for leaf in leaves {
                let (prefix, leaf) = (dentry.prefix.clone(), Name::of(leaf));
                self.edges.push(Edge { prefix, leaf, origin: origin(at), owns });
            }
        }
    }

    /// A rollout writes a dentry with its arms.
    fn rollout(&mut self, rollout: &Node<'_>) {
        let Some(path) = entry(rollout, "path").map(|path| &path.value) else { return };
        let Some(prefix) = scalar(path).and_then(|text| Prefix::parse(text).ok()) else { return };
        let arms = ["primary", "canary"].into_iter().filter_map(|key| Path::parse(text(rollout, key)?).ok());
        for leaf in arms {
            let (prefix, leaf, origin) = (prefix.clone(), Name::of(&leaf), Origin::At(path.span));
            self.edges.push(Edge { prefix, leaf, origin, owns: true });
        }
    }

    fn index(&mut self) {
        for (at, edge) in self.edges.iter().enumerate() {
            self.by_prefix.add(&edge.prefix, at);
            let leaf = Name::path(edge.leaf.parts());
            if let Some(leaf) = leaf.filter(|leaf| !matches!(leaf.label(0), Some(b"$" | b"#"))) {
                self.by_leaf.add(&leaf.into(), at);
            }
        }
    }

    /// A dentry of the main file that all lies in a claim.
    fn written(&self, name: &Name) -> Option<Hit> {
        let found = self.by_prefix.find(name, WAYS_MAX);
        let inside = found.iter().filter(|found| found.inside).filter_map(|found| self.edges.get(found.at));
        let edge = inside.filter(|edge| edge.owns).min_by_key(|edge| edge.prefix.len())?;
        Some(Hit { what: Of::Written, on: name.clone(), origin: Some(edge.origin) })
    }
}
