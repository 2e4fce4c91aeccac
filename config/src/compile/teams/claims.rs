//! `owns`: the names, hosts and clusters that a team file may write, and whose they are when two want them.

use crate::diagnostic::Diagnostic;
use crate::dtab::{Elem, Path, Prefix};
use crate::model::HostMatch;
use crate::raw::{Cx, Fields, shown};
use crate::source::Span;
use crate::units::{self, Wrong};
use crate::yaml::Node;

/// Entries of each of the lists under `owns`.
pub const OWNED_MAX: usize = 100;

/// Of the entries a team owns, so many are named in a message.
const SHOWN_MAX: usize = 8;

/// What one team file owns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// Where `owns` stands.
    span: Span,
    names: Vec<Claim<Name>>,
    hosts: Vec<Claim<Host>>,
    clusters: Vec<Claim<Cluster>>,
}

/// One entry of a list, as written.
#[derive(Clone, Debug)]
struct Claim<T> {
    what: T,
    written: String,
    span: Span,
}

/// Names that begin so.
#[derive(Clone, Debug)]
struct Name {
    head: Path,
    /// And go on with a label that ends so: the names of a wildcard host.
    then: Option<Host>,
}

/// `web.example.com`, or `*.shop.example.com`: every host that ends so.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    /// With the dot in front if it is a wildcard.
    text: String,
    is_wild: bool,
}

/// `web-v1`, or `web-*`: every cluster that begins so.
#[derive(Clone, Debug)]
struct Cluster {
    text: String,
    is_wild: bool,
}

impl Host {
    fn covers(&self, host: &[u8]) -> bool {
        match self.is_wild {
            true => host.len() > self.text.len() && host.ends_with(self.text.as_bytes()),
            false => host == self.text.as_bytes(),
        }
    }

    fn overlaps(&self, other: &Host) -> bool {
        self.covers(other.text.as_bytes()) || other.covers(self.text.as_bytes()) || self == other
    }
}

impl Name {
    /// Whether every name with this prefix is one of these.
    fn covers(&self, prefix: &Prefix) -> bool {
        let mut elems = prefix.elems();
        let mut begins = self.head.labels().all(|label| elems.next() == Some(Elem::Label(label)));
        if let Some(host) = &self.then {
            begins &= matches!(elems.next(), Some(Elem::Label(label)) if host.covers(label));
        }
        begins
    }

    /// Whether some name is one of both.
    fn overlaps(&self, other: &Name) -> bool {
        let (short, long) = if self.head.len() <= other.head.len() { (self, other) } else { (other, self) };
        if !long.head.starts_with(&short.head) {
            return false;
        }
        match (&short.then, long.head.label(short.head.len()), &long.then) {
            (Some(host), Some(label), _) => host.covers(label),
            (Some(one), None, Some(two)) => one.overlaps(two),
            _ => true,
        }
    }
}

impl Cluster {
    fn covers(&self, name: &str) -> bool {
        if self.is_wild { name.starts_with(&self.text) } else { name == self.text }
    }

    fn overlaps(&self, other: &Cluster) -> bool {
        self.covers(&other.text) || other.covers(&self.text)
    }
}

impl Claims {
    /// Takes `owns`. A host is also owned as the name behind each of `dst_prefixes`: that is how requests for it are
    /// called where nothing else is configured.
    pub(super) fn read(cx: &Cx<'_>, fields: &mut Fields<'_, '_>, dst_prefixes: &[Path]) -> Claims {
        let mut claims = Claims::default();
        let example = "{prefixes: [/svc/web], hosts: [web.example.com], clusters: [\"web-*\"]}";
        let Some(mut owns) = fields.map(cx, "owns", example) else { return claims };
        claims.span = owns.span;
        let names = list(cx, &mut owns, "prefixes", "[/svc/web]", name);
        claims.names = names;
        claims.hosts = list(cx, &mut owns, "hosts", "[web.example.com]", host);
        claims.clusters = list(cx, &mut owns, "clusters", "[\"web-*\"]", cluster);
        owns.finish(cx);
        for claim in &claims.hosts {
            for head in dst_prefixes {
                let exact = (!claim.what.is_wild).then(|| Path::from_labels([claim.what.text.as_bytes()])).flatten();
                let what = match exact {
                    Some(label) => Name { head: head.join(&label), then: None },
                    None => Name { head: head.clone(), then: Some(claim.what.clone()) },
                };
                claims.names.push(Claim { what, written: claim.written.clone(), span: claim.span });
            }
        }
        claims
    }

    /// Whether names with this prefix are owned.
    pub(super) fn covers(&self, prefix: &Prefix) -> bool {
        self.names.iter().any(|claim| claim.what.covers(prefix))
    }

    /// Where the first claim stands that takes all names of a prefix.
    pub(super) fn covering(&self, prefix: &Prefix) -> Option<(&str, Span)> {
        let claim = self.names.iter().find(|claim| claim.what.covers(prefix))?;
        Some((&claim.written, claim.span))
    }

    /// Whether there is no claim to names at all.
    pub(super) fn no_names(&self) -> bool {
        self.names.is_empty()
    }

    /// The length of the shortest owned name: only prefixes of at least so many labels can be covered.
    pub(super) fn shortest(&self) -> usize {
        self.names.iter().map(|claim| claim.what.head.len()).min().unwrap_or(usize::MAX)
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
        for (mine, theirs, written) in self.conflicts(later) {
            let message = format!("`{}` belongs to another team already", shown(written));
            let theft = Diagnostic::error("teams/conflict", theirs, message).label("wanted here");
            cx.push(theft.related(mine, "owned here").help("one of the two files must leave it to the other"));
        }
    }

    /// Whether both want something.
    pub(crate) fn overlaps(&self, other: &Claims) -> bool {
        self.conflicts(other).next().is_some()
    }

    /// What of `self` both want, as claims of its own. Hosts are compared as hosts, whatever names they have.
    pub(crate) fn shared_with(&self, other: &Claims) -> Claims {
        let names = self.names.iter().filter(|one| other.names.iter().any(|two| one.what.overlaps(&two.what)));
        let hosts = self.hosts.iter().filter(|one| other.hosts.iter().any(|two| one.what.overlaps(&two.what)));
        let clusters = self.clusters.iter().filter(|one| other.clusters.iter().any(|two| one.what.overlaps(&two.what)));
        Claims {
            span: self.span,
            names: names.cloned().collect(),
            hosts: hosts.cloned().collect(),
            clusters: clusters.cloned().collect(),
        }
    }

    /// Pairs that overlap: the place here, the place there and what is written there. One for each claim of `other`.
    fn conflicts<'c>(&'c self, other: &'c Claims) -> impl Iterator<Item = (Span, Span, &'c str)> {
        let names = pairs(&self.names, &other.names, Name::overlaps);
        let hosts = pairs(&self.hosts, &other.hosts, Host::overlaps);
        let clusters = pairs(&self.clusters, &other.clusters, Cluster::overlaps);
        let mut seen = std::collections::HashSet::new();
        // A host is claimed as itself and as names: one mistake is said once.
        names.chain(hosts).chain(clusters).filter(move |(_, theirs, _)| seen.insert(*theirs))
    }
}

fn pairs<'c, T>(
    mine: &'c [Claim<T>],
    theirs: &'c [Claim<T>],
    overlaps: fn(&T, &T) -> bool,
) -> impl Iterator<Item = (Span, Span, &'c str)> {
    theirs.iter().filter_map(move |wanted| {
        let owned = mine.iter().find(|owned| overlaps(&owned.what, &wanted.what))?;
        Some((owned.span, wanted.span, wanted.written.as_str()))
    })
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
    read: fn(&str) -> Result<T, Wrong>,
) -> Vec<Claim<T>> {
    let Some(entry) = owns.take(cx, key) else { return Vec::new() };
    let items = cx.list(key, &entry.value, example);
    if items.len() > OWNED_MAX {
        let message = format!("`{key}` has {} entries, {OWNED_MAX} are allowed", items.len());
        cx.push(Diagnostic::error("config/too-many", entry.key_span, message));
    }
    let claim = |item: &Node<'_>| {
        let what = cx.item(key, item, read)?;
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
        Some(_) => Ok(Name { head, then: None }),
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
