//! Sets of names: what a claim is about, and what becomes of it on its way through a dtab.

use crate::dtab::{Elem, Path, Prefix};

/// Every name that begins so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    parts: Vec<Part>,
}

/// What a label may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Anything.
    Any,
    /// A version or a method of HTTP. It is taken for anything, but for the name of a cluster.
    Http,
    /// A host, however a request spells it: in capitals, with a port, with a dot at its end.
    Host(Host),
    /// This.
    Label(Box<[u8]>),
}

/// `web.example.com`, or `*.shop.example.com`: every host that ends so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// With the dot in front if it is a wildcard.
    pub(super) text: String,
    pub(super) is_wild: bool,
}

impl Host {
    /// A host as identifiers make it: in small letters, without a port.
    pub(super) fn covers(&self, host: &[u8]) -> bool {
        match self.is_wild {
            true => host.len() > self.text.len() && host.ends_with(self.text.as_bytes()),
            false => host == self.text.as_bytes(),
        }
    }

    pub(super) fn overlaps(&self, other: &Host) -> bool {
        self.covers_all(other) || other.covers_all(self)
    }

    fn covers_all(&self, other: &Host) -> bool {
        self == other || self.covers(other.text.as_bytes())
    }

    /// The same for a label that an identifier with `host: verbatim` made of it.
    fn covers_label(&self, label: &[u8]) -> bool {
        self.covers(&host_of(label))
    }
}

/// The host that a label is: in small letters, without port and final dot.
pub(super) fn host_of(label: &[u8]) -> Vec<u8> {
    let host = label.split(|byte| *byte == b':').next().unwrap_or_default();
    host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase()
}

impl Part {
    pub(super) fn label(label: &[u8]) -> Part {
        Part::Label(label.into())
    }

    fn of(elem: Elem<'_>) -> Part {
        match elem {
            Elem::Any => Part::Any,
            Elem::Label(label) => Part::label(label),
        }
    }

    /// Whether this is all that the other may be.
    fn covers(&self, other: &Part) -> bool {
        match (self, other) {
            (Part::Any | Part::Http, _) => true,
            (Part::Host(host), Part::Label(label)) => host.covers_label(label),
            (Part::Host(host), Part::Host(other)) => host.covers_all(other),
            (one, other) => one == other,
        }
    }

    pub(super) fn covers_label(&self, label: &[u8]) -> bool {
        match self {
            Part::Any | Part::Http => true,
            Part::Host(host) => host.covers_label(label),
            Part::Label(own) => **own == *label,
        }
    }

    fn overlaps(&self, other: &Part) -> bool {
        match (self, other) {
            (Part::Any | Part::Http, _) | (_, Part::Any | Part::Http) => true,
            (Part::Host(one), Part::Host(two)) => one.overlaps(two),
            (one, two) => one.covers(two) || two.covers(one),
        }
    }
}

impl Name {
    pub(super) fn new(parts: Vec<Part>) -> Name {
        Name { parts }
    }

    pub(super) fn of(path: &Path) -> Name {
        Name { parts: path.labels().map(Part::label).collect() }
    }

    pub(super) fn of_prefix(prefix: &Prefix) -> Name {
        Name { parts: prefix.elems().map(Part::of).collect() }
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// These labels, and behind them what follows the first `skipped` ones of `name`.
    pub(super) fn led(head: &Name, name: &Name, skipped: usize) -> Name {
        Name { parts: head.parts.iter().chain(name.parts.iter().skip(skipped)).cloned().collect() }
    }

    /// Whether every name of the other is one of these.
    pub(super) fn covers(&self, other: &Name) -> bool {
        self.len() <= other.len() && self.parts.iter().zip(&other.parts).all(|(one, two)| one.covers(two))
    }

    /// The same for the names with a prefix.
    pub(super) fn covers_prefix(&self, prefix: &Prefix) -> bool {
        self.len() <= prefix.len()
            && self.parts.iter().zip(prefix.elems()).all(|(part, elem)| part.covers(&Part::of(elem)))
    }

    /// Whether some name is one of both.
    pub(super) fn overlaps(&self, other: &Name) -> bool {
        self.parts.iter().zip(&other.parts).all(|(one, two)| one.overlaps(two))
    }

    /// The labels as a path, if each is known.
    pub(super) fn path(parts: &[Part]) -> Option<Path> {
        let label = |part: &Part| match part {
            Part::Label(label) => Some(label.clone()),
            Part::Any | Part::Host(_) | Part::Http => None,
        };
        Path::from_labels(parts.iter().map(label).collect::<Option<Vec<_>>>()?)
    }

    /// As it stands in a message.
    pub(super) fn shown(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Any | Part::Http => text.push_str("/*"),
                Part::Host(host) if host.is_wild => text.push_str(&format!("/*{}", host.text)),
                Part::Host(host) => text.push_str(&format!("/{}", host.text)),
                Part::Label(label) => {
                    text.push_str(&Path::from_labels([label]).map(|path| path.to_string()).unwrap_or_default());
                }
            }
        }
        if text.is_empty() { "/".to_owned() } else { text }
    }
}
