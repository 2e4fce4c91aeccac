//! PURE: which rule a request meets, found by host and then by path, so that ten thousand rules cost what ten do.
//!
//! The most specific match wins, in the order of the Gateway API: an exact host before `*.` of a longer and then of a
//! shorter name, before any host; an exact path before a longer and then a shorter prefix, before an expression, before any
//! path; then a match with methods, with more headers, with more parameters; then the one written first. A match that
//! fails on its method or its headers leaves the request to the next.

use std::collections::HashMap;

use serin_config::identify::without_port;
use serin_config::model::{HostMatch, PathMatch, RouteMatch, RouteRule, TextMatch};

use super::action::Action;
use super::{Parts, has_field, has_parameter};

/// Octets of a host that rules look at; a longer one meets only rules for any host. DNS has 253 and a final dot.
pub const HOST_BYTES_MAX: usize = 254;

type Hashed<V> = HashMap<Box<[u8]>, V, foldhash::fast::RandomState>;

/// The rules of one router, indexed.
#[derive(Debug, Default)]
pub struct RouteTable {
    actions: Vec<Action>,
    exact: Hashed<Paths>,
    /// By suffix, its dot included.
    under: Hashed<Paths>,
    /// Lengths of those suffixes, longest first.
    suffix_lengths: Vec<usize>,
    any: Paths,
}

/// A rule that a request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its place among the rules.
    pub rule: usize,
    /// Octets of the prefix that matched; 0 if none did.
    pub prefix: usize,
}

/// The matches for one host.
#[derive(Debug, Default)]
struct Paths {
    exact: Hashed<Place>,
    /// A trie by segments; the first node is the root, which is there if any is.
    nodes: Vec<Node>,
    regexes: Vec<(TextMatch, Entry)>,
    any: Place,
}

#[derive(Debug, Default)]
struct Node {
    below: Hashed<usize>,
    above: usize,
    place: Place,
}

/// The matches for one host and one path, most specific first.
type Place = Vec<Entry>;

/// What is left to compare of a match.
#[derive(Clone, Debug)]
struct Entry {
    rule: usize,
    prefix: usize,
    methods: Box<[String]>,
    headers: Box<[(String, TextMatch)]>,
    query: Box<[(String, TextMatch)]>,
}

impl RouteTable {
    /// Indexes the rules of a file. Cold: once for each structure.
    pub fn new(rules: &[RouteRule]) -> Self {
        let mut table = Self { actions: rules.iter().map(Action::new).collect(), ..Self::default() };
        for (place, rule) in rules.iter().enumerate() {
            for one in &rule.matches {
                table.insert(place, one);
            }
        }
        let mut lengths: Vec<usize> = table.under.keys().map(|suffix| suffix.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        table.suffix_lengths = lengths;
        let hosts = table.exact.values_mut().chain(table.under.values_mut());
        hosts.chain([&mut table.any]).for_each(Paths::sort);
        table
    }

    /// Is there no rule.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// What the rule at this place does.
    pub fn action(&self, rule: usize) -> Option<&Action> {
        self.actions.get(rule)
    }

    /// The rule that this request meets.
    pub fn find(&self, parts: &Parts<'_>) -> Option<Found> {
        self.find_counting(parts, &mut 0)
    }

    /// The same; adds to `compared` each table that is asked and each match that is compared: for tests.
    pub fn find_counting(&self, parts: &Parts<'_>, compared: &mut u32) -> Option<Found> {
        if self.actions.is_empty() {
            return None;
        }
        let mut buffer = [0; HOST_BYTES_MAX];
        let host = parts.host.and_then(|host| plain_host(host, &mut buffer)).unwrap_or_default();
        let mut ask = |paths: &Paths| {
            *compared += 1;
            paths.find(parts, compared)
        };
        if let Some(found) = self.exact.get(host).and_then(&mut ask) {
            return Some(found);
        }
        for &length in &self.suffix_lengths {
            let Some(at) = host.len().checked_sub(length).filter(|at| *at > 0) else { continue };
            if host[at] == b'.'
                && let Some(found) = self.under.get(&host[at..]).and_then(&mut ask)
            {
                return Some(found);
            }
        }
        ask(&self.any)
    }

    fn insert(&mut self, rule: usize, one: &RouteMatch) {
        if one.hosts.is_empty() {
            self.any.insert(rule, one);
        }
        for host in &one.hosts {
            let paths = match host {
                HostMatch::Exact(host) => self.exact.entry(host.as_bytes().into()).or_default(),
                HostMatch::Under(suffix) => self.under.entry(suffix.as_bytes().into()).or_default(),
            };
            paths.insert(rule, one);
        }
    }
}

/// In lower case, without port and final dot. `None`: longer than any host.
fn plain_host<'b>(host: &[u8], buffer: &'b mut [u8; HOST_BYTES_MAX]) -> Option<&'b [u8]> {
    let host = without_port(host);
    let host = host.strip_suffix(b".").unwrap_or(host);
    let plain = buffer.get_mut(..host.len())?;
    plain.copy_from_slice(host);
    plain.make_ascii_lowercase();
    Some(plain)
}

impl Paths {
    fn insert(&mut self, rule: usize, one: &RouteMatch) {
        let prefix = match &one.path {
            Some(PathMatch::Prefix(prefix)) => prefix.len(),
            _ => 0,
        };
        let entry = Entry {
            rule,
            prefix,
            methods: one.methods.clone().into(),
            headers: one.headers.clone().into(),
            query: one.query.clone().into(),
        };
        match &one.path {
            Some(PathMatch::Exact(path)) => self.exact.entry(path.as_bytes().into()).or_default().push(entry),
            Some(PathMatch::Prefix(prefix)) => self.node(prefix).push(entry),
            Some(PathMatch::Regex(regex)) => self.regexes.push((regex.clone(), entry)),
            None => self.any.push(entry),
        }
    }

    /// The place of a prefix, which has no slash at its end.
    fn node(&mut self, prefix: &str) -> &mut Place {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        // what stands before the first slash is empty
        for segment in prefix.split('/').skip(1) {
            at = match self.nodes[at].below.get(segment.as_bytes()) {
                Some(next) => *next,
                None => {
                    let next = self.nodes.len();
                    self.nodes[at].below.insert(segment.as_bytes().into(), next);
                    self.nodes.push(Node { above: at, ..Node::default() });
                    next
                }
            };
        }
        &mut self.nodes[at].place
    }

    fn sort(&mut self) {
        let places = self.exact.values_mut().chain(self.nodes.iter_mut().map(|node| &mut node.place));
        places.chain([&mut self.any]).for_each(|place| place.sort_by_key(Entry::order));
        self.regexes.sort_by_key(|(_, entry)| entry.order());
    }

    fn find(&self, parts: &Parts<'_>, compared: &mut u32) -> Option<Found> {
        let exact = self.exact.get(parts.path.as_bytes()).and_then(|place| first(place, parts, compared));
        exact
            .or_else(|| self.by_prefix(parts, compared))
            .or_else(|| self.by_regex(parts, compared))
            .or_else(|| first(&self.any, parts, compared))
    }

    /// Down as far as there are nodes, and up again until a match holds.
    fn by_prefix(&self, parts: &Parts<'_>, compared: &mut u32) -> Option<Found> {
        let segments = parts.path.strip_prefix('/')?.split('/');
        let mut node = self.nodes.first()?;
        for segment in segments {
            *compared += 1;
            match node.below.get(segment.as_bytes()) {
                Some(next) => node = &self.nodes[*next],
                None => break,
            }
        }
        loop {
            if let Some(found) = first(&node.place, parts, compared) {
                return Some(found);
            }
            if std::ptr::eq(node, &raw const self.nodes[0]) {
                return None;
            }
            node = &self.nodes[node.above];
        }
    }

    fn by_regex(&self, parts: &Parts<'_>, compared: &mut u32) -> Option<Found> {
        let holds = |(regex, entry): &&(TextMatch, Entry)| {
            *compared += 1;
            regex.matches(parts.path.as_bytes()) && entry.matches(parts)
        };
        self.regexes.iter().find(holds).map(|(_, entry)| entry.found())
    }
}

fn first(place: &Place, parts: &Parts<'_>, compared: &mut u32) -> Option<Found> {
    let holds = |entry: &&Entry| {
        *compared += 1;
        entry.matches(parts)
    };
    place.iter().find(holds).map(Entry::found)
}

impl Entry {
    /// Less is more specific.
    fn order(&self) -> (bool, std::cmp::Reverse<usize>, std::cmp::Reverse<usize>, usize) {
        use std::cmp::Reverse;
        (self.methods.is_empty(), Reverse(self.headers.len()), Reverse(self.query.len()), self.rule)
    }

    fn matches(&self, parts: &Parts<'_>) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|method| method == parts.method.as_str()))
            && self.headers.iter().all(|(name, wanted)| has_field(parts, name, wanted))
            && self.query.iter().all(|(name, wanted)| has_parameter(parts, name, wanted))
    }

    fn found(&self) -> Found {
        Found { rule: self.rule, prefix: self.prefix }
    }
}

#[cfg(test)]
mod tests;
