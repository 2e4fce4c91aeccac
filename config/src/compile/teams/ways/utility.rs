//! The built-in names under `/$/`, and namers that rewrite, for sets of names: what may come of any of them.

use crate::dtab::{Builtin, Path, Pattern, builtin};

use super::super::names::{Host, Name, Part};

/// What a built-in name says of a host.
#[derive(Clone, Copy)]
enum Made {
    /// Nothing of it is left.
    Nothing,
    HostPort,
    PortHost,
    /// What stands before a domain, which is one more argument in front.
    Subdomain,
    /// Its labels, the last one first.
    Reversed,
}

/// Name, what it makes, and whether a prefix stands before the host and is kept.
const KINDS: &[(&[u8], Made, bool)] = &[
    (b"io.buoyant.hostportPfx", Made::HostPort, true),
    (b"io.buoyant.porthostPfx", Made::PortHost, true),
    (b"io.buoyant.http.anyMethod", Made::Nothing, false),
    (b"io.buoyant.http.anyMethodPfx", Made::Nothing, true),
    (b"io.buoyant.http.anyHost", Made::Nothing, false),
    (b"io.buoyant.http.anyHostPfx", Made::Nothing, true),
    (b"io.buoyant.http.subdomainOf", Made::Subdomain, false),
    (b"io.buoyant.http.subdomainOfPfx", Made::Subdomain, true),
    (b"io.buoyant.http.domainToPath", Made::Reversed, false),
    (b"io.buoyant.http.domainToPathPfx", Made::Reversed, true),
];

/// A namer of kind `io.l5d.rewrite`.
#[derive(Debug)]
pub(super) struct Rewrite {
    /// Behind `/#`.
    pub(super) prefix: Path,
    pub(super) pattern: Pattern,
    pub(super) name: String,
}

impl Rewrite {
    /// Names that these become: at least all of them.
    pub(super) fn led(&self, name: &Name) -> Option<Name> {
        let head = Path::from_labels(["#"])?.join(&self.prefix);
        if !Name::of(&head).overlaps(name) {
            return None;
        }
        // A longer name may match where this one is too short, so only a match is certain.
        let rest = name.parts().get(head.len()..).and_then(Name::path);
        let exact = rest.and_then(|rest| Path::parse(&self.pattern.captures(&rest)?.substitute(&self.name)).ok());
        if let Some(path) = exact {
            return Some(Name::of(&path));
        }
        let part = |segment: &str| match Path::parse(&format!("/{segment}")) {
            Ok(label) if !segment.contains('{') => label.label(0).map_or(Part::Any, Part::label),
            _ => Part::Any,
        };
        Some(Name::new(self.name.split('/').skip(1).map(part).collect()))
    }
}

/// What a name under `/$` becomes: at least all that it may.
pub(super) fn led(name: &Name) -> Option<Name> {
    let [first, kind, arguments @ ..] = name.parts() else {
        // Too short to tell, but for a name that begins otherwise.
        return name
            .parts()
            .first()
            .is_some_and(|first| matches!(first, Part::Label(label) if **label == *b"$"))
            .then(|| Name::new(Vec::new()));
    };
    if !first.covers_label(b"$") {
        return None;
    }
    let (Part::Label(_), Part::Label(kind)) = (first, kind) else { return Some(Name::new(Vec::new())) };
    let (_, made, has_prefix) = KINDS.iter().find(|(known, ..)| *known == &**kind)?;
    let before = usize::from(matches!(made, Made::Subdomain)) + usize::from(*has_prefix);
    if let Some(path) = name.parts().get(..before + 3).and_then(Name::path) {
        return match builtin(&path) {
            Builtin::Rewrite { path, .. } => Some(Name::led(&Name::of(&path), name, before + 3)),
            _ => None,
        };
    }
    let any = Part::Any;
    let mut parts = Vec::new();
    if *has_prefix {
        parts.push(arguments.get(before - 1).unwrap_or(&any).clone());
    }
    let host = arguments.get(before).unwrap_or(&any);
    let ends = match made {
        Made::Nothing => false,
        Made::HostPort => {
            parts.extend([host.clone(), Part::Any]);
            false
        }
        Made::PortHost => {
            parts.extend([Part::Any, host.clone()]);
            false
        }
        Made::Subdomain => {
            parts.push(subdomain(arguments.first(), host)?);
            false
        }
        Made::Reversed => reversed(host, &mut parts),
    };
    let rest = arguments.get(before + 1..).unwrap_or_default();
    if !ends {
        parts.extend_from_slice(rest);
    }
    Some(Name::new(parts))
}

/// What stands before a domain. `None`: certainly nothing.
fn subdomain(domain: Option<&Part>, host: &Part) -> Option<Part> {
    let (Some(Part::Label(domain)), Part::Host(host)) = (domain, host) else { return Some(Part::Any) };
    let domain = format!(".{}", String::from_utf8_lossy(domain));
    if let Some(text) = host.text.strip_suffix(&domain) {
        return match (host.is_wild, text) {
            (true, "") => Some(Part::Any),
            (false, "") => None,
            (is_wild, text) => Some(Part::Host(Host { text: text.to_owned(), is_wild })),
        };
    }
    // `*.example.com` has hosts below `shop.example.com`.
    (host.is_wild && domain.ends_with(&host.text)).then_some(Part::Any)
}

/// The labels of a host, the last one first. True: nobody knows how many follow.
fn reversed(host: &Part, parts: &mut Vec<Part>) -> bool {
    let Part::Host(host) = host else {
        parts.push(Part::Any);
        return true;
    };
    let labels = host.text.split('.').rev().filter(|label| !label.is_empty());
    parts.extend(labels.map(|label| Part::Host(Host { text: label.to_owned(), is_wild: false })));
    if host.is_wild {
        parts.push(Part::Any);
    }
    host.is_wild
}
