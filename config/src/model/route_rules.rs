//! Serin's `rules`: what a request is like → its name, and what is changed on the way.

use crate::dtab::Path;

use super::TextMatch;

/// A rule of a router. Of all that match a request the most specific wins, and among equals the one written first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteRule {
    /// It matches if one of these does. Never empty; an empty condition matches every request.
    pub matches: Vec<RouteMatch>,
    /// The whole logical name. `None`: the router's identifiers name the request.
    pub name: Option<Path>,
    /// Answers itself. Excludes a name, a rewrite and changes of the request.
    pub redirect: Option<Redirect>,
    /// What the upstream sees as host: `name` or `name:port`.
    pub rewrite_host: Option<String>,
    /// What the upstream sees as path.
    pub rewrite_path: Option<PathRewrite>,
    /// Changes of the request's headers.
    pub request: HeaderChanges,
    /// Changes of the headers of the answer.
    pub response: HeaderChanges,
}

/// Conditions of which all must hold; an absent one always does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteMatch {
    /// Any of them; empty means every host.
    pub hosts: Vec<HostMatch>,
    /// The raw path.
    pub path: Option<PathMatch>,
    /// Any of them; empty means every method.
    pub methods: Vec<String>,
    /// Header name in lower case and what its value must be.
    pub headers: Vec<(String, TextMatch)>,
    /// Query parameter and what it must be.
    pub query: Vec<(String, TextMatch)>,
}

/// A condition on the host, in lower case, without port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostMatch {
    /// This one.
    Exact(String),
    /// `*.example.com`: whatever ends in this, which begins with a dot, and is longer.
    Under(String),
}

/// A condition on the path. More specific forms come first.
#[derive(Clone, Debug, PartialEq)]
pub enum PathMatch {
    /// It is this, octet for octet.
    Exact(String),
    /// It is this, or begins with it at a `/`. Without a slash at its end, so the root is empty.
    Prefix(String),
    /// This expression matches all of it.
    Regex(TextMatch),
}

/// Another path. The query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// This one.
    Full(String),
    /// This in place of the prefix that matched. Without a slash at its end.
    Prefix(String),
}

/// An answer that sends the client elsewhere; what is absent stays as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302 (the default), 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// Without port.
    pub host: Option<String>,
    /// Not written where it is the scheme's own.
    pub port: Option<u16>,
    /// Another path.
    pub path: Option<PathRewrite>,
}

/// Changes of headers: names are in lower case, and none is in two of the lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// In place of whatever is there.
    pub set: Vec<(String, String)>,
    /// Behind whatever is there.
    pub add: Vec<(String, String)>,
    /// Taken out.
    pub remove: Vec<String>,
}

impl HeaderChanges {
    /// Does it change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

impl HostMatch {
    /// As it stands in the file.
    #[must_use]
    pub fn written(&self) -> String {
        match self {
            Self::Exact(host) => host.clone(),
            Self::Under(suffix) => format!("*{suffix}"),
        }
    }
}
