//! `owns`: the names, hosts and clusters that a team file may write, and whose they are when two want them.

use std::collections::HashSet;

use crate::diagnostic::Diagnostic;
use crate::dtab::{Path, Prefix};
use crate::model::HostMatch;
use crate::raw::{Cx, Fields, shown};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::{Entry, Node, Value};

use super::names::{Host, Name, Part};
use super::ways::{Hit, Reached, Ways, clusters_head};

/// Entries of each of the lists under `owns`.
pub const OWNED_MAX: usize = 100;

/// Of the entries a team owns, so many are named in a message.
const SHOWN_MAX: usize = 8;

/// What one team file owns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// Where `owns` stands.
    span: Span,
    names: Vec<Claim<Led>>,
    hosts: Vec<Claim<Host>>,
    clusters: Vec<Claim<Cluster>>,
    /// Clusters that the file has, as if each were claimed.
    defined: Vec<Claim<Cluster>>,
}

/// One entry of a list, as written.
#[derive(Clone, Debug)]
struct Claim<T> {
    what: T,
    written: String,
    span: Span,
}

/// Names, and everything the main file makes of them.
#[derive(Clone, Debug)]
struct Led {
    name: Name,
    /// First the names themselves. `None`: too many to tell.
    reach: Option<Vec<Reached>>,
    /// What rules of the main file make of requests for the same host.
    ruled: Vec<Reached>,
}

/// `web-v1`, or `web-*`: every cluster that begins so.
#[derive(Clone, Debug)]
struct Cluster {
    text: String,
    is_wild: bool,
}

/// Two claims for the same.
struct Conflict<'c> {
    mine: Span,
    theirs: Span,
    /// What is written there.
    written: &'c str,
    /// The name where both meet, if it is neither of both.
    on: Option<String>,
}

impl Led {
    fn new(ways: &Ways, name: Name) -> Led {
        Led { reach: ways.reach(&name), name, ruled: Vec::new() }
    }

    fn all(&self) -> impl Iterator<Item = &Name> {
        self.reach.iter().flatten().chain(&self.ruled).map(|one| &one.name)
    }

    /// Where requests for names of both meet: by themselves, or because the main file leads one to the other.
    fn meets(&self, other: &Led) -> Option<Name> {
        if self.name.overlaps(&other.name) {
            return Some(self.name.clone());
        }
        let (mine, theirs) =
            (self.all().find(|name| name.overlaps(&other.name)), || other.all().find(|name| name.overlaps(&self.name)));
        mine.or_else(theirs).cloned()
    }

    /// The same for the names of a cluster.
    fn meets_cluster(&self, cluster: &Cluster) -> Option<Name> {
        let head = clusters_head();
        let meets = |name: &&Name| head.overlaps(name) && cluster.is_meant(name.parts().get(head.len()));
        self.all().find(meets).cloned()
    }
}

impl Cluster {
    /// Whether a label of a name is this one. Hosts do not look like the beginnings of names: what a file has counts.
    fn is_meant(&self, label: Option<&Part>) -> bool {
        match label {
            None | Some(Part::Any) => true,
            Some(Part::Http) => false,
            Some(Part::Host(_)) if self.is_wild => false,
            Some(host @ Part::Host(_)) => host.covers_label(self.text.as_bytes()),
            Some(Part::Label(label)) => std::str::from_utf8(label).is_ok_and(|label| self.covers(label)),
        }
    }

    fn covers(&self, name: &str) -> bool {
        if self.is_wild { name.starts_with(&self.text) } else { name == self.text }
    }

    fn overlaps(&self, other: &Cluster) -> bool {
        self.covers(&other.text) || other.covers(&self.text)
    }
}

impl Claims {
    /// Takes `owns`. A host is also owned as the names that requests for it have.
    pub(super) fn read(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, ways: &Ways) -> Claims {
        let mut claims = Claims::default();
        let example = "{prefixes: [/svc/web], hosts: [web.example.com], clusters: [\"web-*\"]}";
        let Some(mut owns) = fields.map(cx, "owns", example) else { return claims };
        claims.span = owns.span;
        claims.names = list(cx, &mut owns, "prefixes", "[/svc/web]", |text| Ok(Led::new(ways, name(text)?)));
        claims.hosts = list(cx, &mut owns, "hosts", "[web.example.com]", host);
        claims.clusters = list(cx, &mut owns, "clusters", "[\"web-*\"]", cluster);
        owns.finish(cx);
        for claim in &claims.hosts {
            for name in ways.names_of_host(&claim.what) {
                let ruled = ways.ruled(&claim.what).filter_map(|name| ways.reach(name)).flatten().collect();
                let what = Led { ruled, ..Led::new(ways, name) };
                claims.names.push(Claim { what, written: claim.written.clone(), span: claim.span });
            }
        }
        if let Some(Value::Map(clusters)) = fields.get("clusters").map(|entry| &entry.value.value) {
            let defined = |entry: &Entry<'_>| {
                let text = entry.key.to_string();
                Claim { written: text.clone(), what: Cluster { text, is_wild: false }, span: entry.key_span }
            };
            claims.defined = clusters.iter().map(defined).collect();
        }
        claims
    }

    /// Whether names with this prefix are owned.
    pub(super) fn covers(&self, prefix: &Prefix) -> bool {
        self.names.iter().any(|claim| claim.what.name.covers_prefix(prefix))
    }

    /// Claims for what is the main file's: as written, where, and what it is. One for each entry.
    pub(super) fn of_main(&self, ways: &Ways) -> Vec<(&str, Span, bool, Hit)> {
        let mut told = HashSet::new();
        let hit = |claim: &'_ Claim<Led>| {
            let hit = ways.of_main(&claim.what.name, claim.what.reach.as_deref())?;
            Some((hit.on == claim.what.name, hit))
        };
        let all = self.names.iter().filter_map(|claim| Some((claim, hit(claim)?)));
        let first = all.filter(|(claim, _)| told.insert(claim.span));
        first.map(|(claim, (direct, hit))| (claim.written.as_str(), claim.span, direct, hit)).collect()
    }

    /// The names owned, for a message.
    pub(super) fn names(&self) -> Vec<String> {
        written(&self.names)
    }

    /// A cluster that the team writes must be its own.
    pub(super) fn check_cluster(&self, cx: &Cx<'_>, name: &str, span: Span) {
        if !self.clusters.iter().any(|claim| claim.what.covers(name)) {
            let message = format!("the cluster `{}` is not owned by this file", shown(name));
            let help = super::owns_help(&written(&self.clusters));
            cx.push(Diagnostic::error("teams/not-owned", span, message).related(self.span, "what it owns").help(help));
        }
    }

    /// Whether requests for a host, or for all hosts below one, are owned.
    pub(super) fn covers_host(&self, asked: &HostMatch) -> bool {
        self.hosts.iter().any(|claim| match asked {
            HostMatch::Exact(host) => claim.what.covers(host.as_bytes()),
            HostMatch::Under(suffix) => claim.what.is_wild && suffix.ends_with(&claim.what.text),
        })
    }

    /// Hosts owned: the text (with a dot in front if it is all below), whether it is all below, as written, and where.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (&str, bool, &str, Span)> {
        self.hosts.iter().map(|claim| (&*claim.what.text, claim.what.is_wild, &*claim.written, claim.span))
    }

    /// A rule is for requests that are not the team's.
    pub(super) fn host_not_owned(&self, cx: &Cx<'_>, span: Span, message: String) {
        let help = super::owns_help(&written(&self.hosts));
        cx.push(Diagnostic::error("teams/not-owned", span, message).related(self.span, "what it owns").help(help));
    }

    /// `later` must want nothing that these own.
    pub(super) fn check_against(&self, cx: &Cx<'_>, later: &Claims) {
        for conflict in self.conflicts(later) {
            let message = format!("`{}` belongs to another team already", shown(conflict.written));
            let theft = Diagnostic::error("teams/conflict", conflict.theirs, message).label("wanted here");
            let leave = "one of the two files must leave it to the other";
            let help = match conflict.on {
                None => leave.to_owned(),
                Some(on) => format!("the main file leads requests for both to `{}`: {leave}", shown(&on)),
            };
            cx.push(theft.related(conflict.mine, "owned here").help(help));
        }
    }

    /// Whether both want something.
    pub(crate) fn overlaps(&self, other: &Claims) -> bool {
        !self.conflicts(other).is_empty()
    }

    /// What of `self` both want, as claims of its own. Hosts are compared as hosts, whatever names they have.
    pub(crate) fn shared_with(&self, other: &Claims) -> Claims {
        let names =
            self.names.iter().filter(|one| other.names.iter().any(|two| one.what.name.overlaps(&two.what.name)));
        let hosts = self.hosts.iter().filter(|one| other.hosts.iter().any(|two| one.what.overlaps(&two.what)));
        let both = |mine: &[Claim<Cluster>], theirs: &[Claim<Cluster>]| -> Vec<Claim<Cluster>> {
            mine.iter().filter(|one| theirs.iter().any(|two| one.what.overlaps(&two.what))).cloned().collect()
        };
        Claims {
            span: self.span,
            names: names.cloned().collect(),
            hosts: hosts.cloned().collect(),
            clusters: both(&self.clusters, &other.clusters),
            defined: both(&self.defined, &other.defined),
        }
    }

    /// Pairs that meet, one for each claim of `other`.
    fn conflicts<'c>(&'c self, other: &'c Claims) -> Vec<Conflict<'c>> {
        let mut all = pairs(&self.names, &other.names, |mine, theirs| {
            let on = mine.meets(theirs)?;
            Some((on != mine.name && on != theirs.name).then(|| on.shown()))
        });
        all.extend(pairs(&self.hosts, &other.hosts, |mine, theirs| mine.overlaps(theirs).then_some(None)));
        all.extend(pairs(&self.clusters, &other.clusters, |mine, theirs| mine.overlaps(theirs).then_some(None)));
        for clusters in [&other.clusters, &other.defined] {
            all.extend(pairs(&self.names, clusters, |mine, theirs| {
                mine.meets_cluster(theirs).map(|on| Some(on.shown()))
            }));
        }
        for clusters in [&self.clusters, &self.defined] {
            all.extend(pairs(clusters, &other.names, |mine, theirs| {
                theirs.meets_cluster(mine).map(|on| Some(on.shown()))
            }));
        }
        // A host is claimed as itself and as names: one mistake is said once.
        let mut seen = HashSet::new();
        all.retain(|conflict| seen.insert(conflict.theirs));
        all
    }
}

/// For each claim of `theirs` the first of `mine` that it meets, and where.
fn pairs<'c, T, U>(
    mine: &[Claim<T>],
    theirs: &'c [Claim<U>],
    meets: impl Fn(&T, &U) -> Option<Option<String>>,
) -> Vec<Conflict<'c>> {
    let conflict = |wanted: &'c Claim<U>| {
        let (owned, on) = mine.iter().find_map(|owned| Some((owned, meets(&owned.what, &wanted.what)?)))?;
        Some(Conflict { mine: owned.span, theirs: wanted.span, written: &wanted.written, on })
    };
    theirs.iter().filter_map(conflict).collect()
}

fn written<T>(claims: &[Claim<T>]) -> Vec<String> {
    let mut shown: Vec<String> =
        claims.iter().take(SHOWN_MAX).map(|claim| format!("`{}`", shown(&claim.written))).collect();
    if claims.len() > SHOWN_MAX {
        shown.push("…".to_owned());
    }
    shown
}

fn list<T>(
    cx: &Cx<'_>,
    owns: &mut Fields<'_, '_>,
    key: &'static str,
    example: &'static str,
    read: impl Fn(&str) -> Result<T, Wrong>,
) -> Vec<Claim<T>> {
    let Some(entry) = owns.take(cx, key) else { return Vec::new() };
    let items = cx.list(key, &entry.value, example);
    if items.len() > OWNED_MAX {
        let message = format!("`{key}` has {} entries, {OWNED_MAX} are allowed", items.len());
        cx.push(Diagnostic::error("config/too-many", entry.key_span, message));
    }
    let claim = |item: &Node<'_>| {
        let what = cx.item(key, item, &read)?;
        Some(Claim { what, written: super::scalar(item)?.to_owned(), span: item.span })
    };
    items.iter().take(OWNED_MAX).filter_map(claim).collect()
}

fn name(text: &str) -> Result<Name, Wrong> {
    let wrong = || Wrong::new("the beginning of names, without wildcards", "/svc/web");
    let head = Path::parse(text).map_err(|errors| wrong().help(errors.in_text(text)))?;
    match head.label(0) {
        None => Err(wrong().help("`/` is every name: own what begins with something")),
        Some(b"#" | b"$") => Err(wrong().help("names under `/#` and `/$` are everybody's; clusters are owned by name")),
        Some(_) => Ok(Name::of(&head)),
    }
}

fn host(text: &str) -> Result<Host, Wrong> {
    let (name, is_wild) = match text.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (text, false),
    };
    let wrong = || Wrong::new("a host without port, or `*.` and a host", "web.example.com");
    let is_address = name.contains(':') || name.parse::<std::net::Ipv4Addr>().is_ok();
    match units::host(name) {
        Some(name) if is_wild && !is_address => Ok(Host { text: format!(".{name}"), is_wild }),
        Some(text) if !is_wild && !text.contains(':') => Ok(Host { text, is_wild }),
        _ => Err(wrong()),
    }
}

fn cluster(text: &str) -> Result<Cluster, Wrong> {
    let (name, is_wild) = match text.strip_suffix('*') {
        Some(name) => (name, true),
        None => (text, false),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '#' | '$' | '%' | '-');
    if name.is_empty() || !name.chars().all(legal) {
        let wrong = Wrong::new("the name of a cluster, or the beginning of some and `*`", "web-*");
        return Err(wrong.help("`*` alone would be every cluster: own what begins with something"));
    }
    Ok(Cluster { text: name.to_owned(), is_wild })
}

#[cfg(test)]
mod tests;
