//! Why a request goes where it goes: the same code as the data plane, with every step told.
//!
//! Used offline by `serin explain`, live by `/api/v1/explain`; both print this JSON.

mod ends;
mod naming;
mod told;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{COOKIE, HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Version};
use serde::Serialize;
use serin_config::dtab::{
    self, Bound, Dtab, Layer, Layers, LeafState, Limits, Logical, NameTree, Path, Step, UsedDentry,
};

use crate::endpoints::{Addresses, Cluster};
use crate::layers::hygiene;
use crate::layers::route::{CTX_DTAB, USER_DTAB};
use crate::router::{self, Parts};
use crate::snapshot::{RouterStructure, SplitWeights, StoredPart, Structure};
use ends::Ends;
use naming::{Named, Naming};

pub(crate) use told::Asked;
pub use told::Told;

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Label of the router; `None` if there is only one.
    pub router: Option<String>,
    /// The logical name itself, instead of a request that is identified.
    pub path: Option<Path>,
    /// The method.
    pub method: Method,
    /// The version of the protocol.
    pub version: Version,
    /// Path of the request target.
    pub uri_path: String,
    /// Its query.
    pub query: Option<String>,
    /// All fields, `Host` among them.
    pub headers: HeaderMap,
    /// Who sends it.
    pub source: IpAddr,
}

impl Default for Ask {
    fn default() -> Self {
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            router: None,
            path: None,
            method: Method::GET,
            version: Version::HTTP_11,
            uri_path: "/".into(),
            query: None,
            headers: HeaderMap::new(),
            source,
        }
    }
}

/// A question that means nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AskError(String);

impl AskError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Ask {
    /// From `key=value` pairs, as a query string has them: `router`, `path`, `host`, `method`, `uri`, `source`,
    /// `cookie`, `dtab` (a user's override) and `header` (`Name: value`); the last three may come several times.
    ///
    /// # Errors
    /// An unknown key, or a value that cannot be one.
    pub fn from_pairs(pairs: &[(String, String)]) -> Result<Self, AskError> {
        let mut ask = Self::default();
        for (key, value) in pairs {
            match key.as_str() {
                "router" => ask.router = Some(value.clone()),
                "path" => ask.set_path(value)?,
                "host" => ask.add_header(HOST, value)?,
                "method" => ask.set_method(value)?,
                "uri" => ask.set_uri(value),
                "source" => ask.set_source(value)?,
                "cookie" => ask.add_header(COOKIE, value)?,
                "dtab" => ask.add_header(USER_DTAB, value)?,
                "header" => ask.add_line(value)?,
                _ => {
                    return Err(AskError::new(format!(
                        "`{key}` is no key here: use router, path, host, method, uri, source, cookie, header or dtab"
                    )));
                }
            }
        }
        Ok(ask)
    }

    /// Sets the logical name.
    ///
    /// # Errors
    /// It is no path.
    pub fn set_path(&mut self, text: &str) -> Result<(), AskError> {
        let parsed = Path::parse(text);
        self.path = Some(parsed.map_err(|errors| AskError::new(format!("path {}", errors.in_text(text))))?);
        Ok(())
    }

    /// Sets the method.
    ///
    /// # Errors
    /// It is no token.
    pub fn set_method(&mut self, text: &str) -> Result<(), AskError> {
        self.method = text.parse().map_err(|_| AskError::new(format!("`{text}` is no method")))?;
        Ok(())
    }

    /// Sets the target: a path, and a query behind `?`.
    pub fn set_uri(&mut self, text: &str) {
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        self.uri_path = path.to_owned();
        self.query = query.map(ToOwned::to_owned);
    }

    /// Sets the peer's address.
    ///
    /// # Errors
    /// It is none.
    pub fn set_source(&mut self, text: &str) -> Result<(), AskError> {
        self.source = text.parse().map_err(|_| AskError::new(format!("`{text}` is no IP address")))?;
        Ok(())
    }

    /// Adds a field written as `Name: value`.
    ///
    /// # Errors
    /// It is not written so.
    pub fn add_line(&mut self, line: &str) -> Result<(), AskError> {
        let parts = line.split_once(':').map(|(name, value)| (name.trim().parse::<HeaderName>(), value.trim()));
        let Some((Ok(name), value)) = parts else {
            return Err(AskError::new(format!("`{line}` is no header: write 'Name: value'")));
        };
        self.add_header(name, value)
    }

    fn add_header(&mut self, name: HeaderName, value: &str) -> Result<(), AskError> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| AskError::new(format!("the value of {name} holds a character that no header may")))?;
        if self.headers.try_append(name, value).is_err() {
            return Err(AskError::new("these are too many headers"));
        }
        Ok(())
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            method: &self.method,
            version: self.version,
            host: self.headers.get(HOST).map(HeaderValue::as_bytes),
            path: &self.uri_path,
            query: self.query.as_deref(),
            headers: &self.headers,
            peer: self.peer(),
        }
    }

    fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.source, 0)
    }
}

/// What an answer is found in.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The tables.
    pub structure: &'a Structure,
    /// The weights.
    pub weights: &'a SplitWeights,
    /// Index of the router.
    pub router: usize,
    /// Can this bound name serve; of one that a namerd bound its question is asked about.
    pub state: &'a dyn Fn(&Path) -> LeafState,
    /// What a namerd says to a question.
    pub told: &'a dyn Fn(&Path) -> Told,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("router", &self.router).finish_non_exhaustive()
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Label of the router.
    pub router: String,
    /// The logical name.
    pub path: String,
    /// What named it; absent if the name itself was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_by: Option<NamedBy>,
    /// Override rules that match, in the order they apply.
    pub rules: Vec<MatchedRule>,
    /// The override the request carries, printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<String>,
    /// Each lookup, in the order it is made.
    pub steps: Vec<ExplainedStep>,
    /// There were more steps than are kept.
    pub truncated: bool,
    /// The bound tree, printed.
    pub tree: String,
    /// Bound name to its share of such requests, from 0 to 1. `$`, `!` and `~` stand for ends without a name, `error`
    /// and `pending` for names that could not be bound.
    pub traffic: BTreeMap<String, f64>,
    /// Where this very request goes, if chance plays no part in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goes_to: Option<String>,
    /// What else should be known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What named a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedBy {
    /// The place of the rule that the request meets, under `rules`, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// The place of the identifier that named it, under `identifier`, from 1. Absent if the rule did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identifier: Option<usize>,
    /// Its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// The path that is sent on, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sends_path: Option<String>,
    /// The host that is sent on, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sends_host: Option<String>,
    /// Where the client is sent instead: a status and an address. Then nothing is looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirects: Option<String>,
}

/// An override rule that matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MatchedRule {
    /// Its place under `overrides`, from 1.
    pub rule: usize,
    /// What it adds, printed.
    pub dtab: String,
}

/// One lookup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedStep {
    /// Lookups before it on its way.
    pub depth: u16,
    /// What was looked up.
    pub path: String,
    /// What answered; absent if a namer did, or nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dentry: Option<ExplainedDentry>,
    /// What came out.
    pub result: String,
}

/// The dentry of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedDentry {
    /// `dtab`, `namespace <name>`, `overrides[n]` or `request`.
    pub from: String,
    /// Its prefix.
    pub prefix: String,
    /// Its destination.
    pub dst: String,
}

/// Can a cluster serve, as far as its addresses tell. One that DNS is still asked for gets the benefit of the doubt.
pub fn state_of(cluster: &Cluster, asked: bool) -> LeafState {
    match &cluster.addresses().load().addresses {
        Addresses::Absent(_) => LeafState::Absent,
        Addresses::Bound(addresses) if !addresses.is_empty() => LeafState::Usable,
        Addresses::Bound(_) | Addresses::Failed(_) | Addresses::Neg => LeafState::Unusable,
        Addresses::Pending if asked => LeafState::Pending,
        Addresses::Pending => LeafState::Usable,
    }
}

/// Names, binds and draws as a worker does. An override counts if a listener of the router would obey it.
///
/// # Errors
/// The request names nothing, or carries an override that does not parse.
pub fn explain(world: &World<'_>, ask: &Ask) -> Result<Explanation, AskError> {
    let (Some(model), Some(router)) =
        (world.structure.config.routers.get(world.router), world.structure.routers.get(world.router))
    else {
        return Err(AskError::new("there is no such router"));
    };
    let Named { path, written: of_file, by } = match naming::named(model, router, ask)? {
        Naming::Named(named) => named,
        Naming::Redirect(by) => return Ok(redirected(router, by)),
    };
    let matched: Vec<usize> = (0..router.overrides.len())
        .filter(|&index| router::matches(&router.overrides[index].when, &ask.parts()))
        .collect();
    let written: Vec<&Dtab> = matched.iter().map(|&index| &router.overrides[index].dtab).collect();
    let values = |name| ask.headers.get_all(name).iter().map(|value| value.as_bytes());
    let sent =
        dtab::override_dtab(values(CTX_DTAB), values(USER_DTAB)).map_err(|error| AskError::new(error.to_string()))?;
    let obeyed = model.servers.iter().filter(|server| hygiene::obeys(&server.trust, ask.peer(), &ask.headers)).count();
    let trust_note = sent.is_some().then(|| trust_note(obeyed, model.servers.len())).flatten();
    let sent = sent.filter(|_| obeyed > 0);
    let sent_list: Vec<&Dtab> = sent.iter().collect();
    let layers = Layers { base: &router.table, written: &written, sent: &sent_list };
    let name = Logical { path: &path, written: of_file };
    let (tree, steps, truncated) = match router.remote.as_ref() {
        None => {
            let (tree, trace) = dtab::bind_traced(&layers, &*world.structure.names, name, &Limits::default());
            let steps = trace.steps.into_iter().map(|step| explained(step, router.stored.as_ref(), &matched));
            (tree, steps.collect(), trace.truncated)
        }
        Some(remote) => {
            let asked = Asked { remote, path: &path, by_file: of_file, layers: &layers };
            let tree = asked.tree(world.told);
            let step = asked.step(&tree);
            (tree, vec![step], false)
        }
    };
    let ends = Ends { world, model, ask, remote: router.remote.as_ref() };
    let (traffic, mut notes) = ends.traffic(&tree);
    notes.extend(made_by_request(&tree));
    notes.extend(trust_note);
    if router.remote.is_some() && matches!(tree, NameTree::Leaf(Bound::Pending)) {
        notes.insert("a namerd binds the names of this router: only a running Serin knows what it says".to_owned());
    }
    Ok(Explanation {
        router: router.label.to_string(),
        path: path.to_string(),
        named_by: by,
        rules: rules(router, &matched),
        sent: sent.as_ref().map(ToString::to_string),
        steps,
        truncated,
        tree: tree.map(&mut shown).to_string(),
        goes_to: ends.certain(&tree, &traffic),
        traffic,
        notes: notes.into_iter().collect(),
    })
}

fn trust_note(obeyed: usize, listeners: usize) -> Option<String> {
    match obeyed {
        0 => Some("the override is not obeyed: no listener trusts this sender (trustedSources, clearContext)".into()),
        all if all == listeners => None,
        some => Some(format!("the override is obeyed by {some} of {listeners} listeners only")),
    }
}

/// Nobody is asked where such a request goes.
fn redirected(router: &RouterStructure, by: NamedBy) -> Explanation {
    Explanation {
        router: router.label.to_string(),
        path: "/".to_owned(),
        goes_to: by.redirects.clone(),
        named_by: Some(by),
        rules: Vec::new(),
        sent: None,
        steps: Vec::new(),
        truncated: false,
        tree: "~".to_owned(),
        traffic: BTreeMap::new(),
        notes: Vec::new(),
    }
}

fn rules(router: &RouterStructure, matched: &[usize]) -> Vec<MatchedRule> {
    let rule = |&index: &usize| MatchedRule { rule: index + 1, dtab: router.overrides[index].dtab.to_string() };
    matched.iter().map(rule).collect()
}

fn explained(step: Step, stored: Option<&StoredPart>, matched: &[usize]) -> ExplainedStep {
    let from = |used: &UsedDentry| match used.layer {
        Layer::Base => match stored.filter(|part| used.position < part.len()) {
            Some(part) => format!("namespace {}", part.namespace),
            None => "dtab".to_owned(),
        },
        Layer::Sent(_) => "request".to_owned(),
        Layer::Written(nth) => format!("overrides[{}]", matched.get(nth).map_or(0, |index| index + 1)),
    };
    let dentry =
        step.dentry.map(|used| ExplainedDentry { from: from(&used), prefix: used.prefix, dst: used.destination });
    ExplainedStep { depth: step.depth, path: step.path, dentry, result: step.outcome }
}

fn shown(bound: &Bound) -> String {
    match bound {
        Bound::Error(_) => "(error)".to_owned(),
        Bound::Name { id, residual, .. } if residual.is_empty() => id.to_string(),
        Bound::Name { id, residual, .. } => format!("{id} (rest: {residual})"),
        Bound::Pending => "(pending)".to_owned(),
    }
}

/// Names that the request made reach less than names that the file wrote.
fn made_by_request(tree: &NameTree<Bound>) -> Option<String> {
    let made = tree.leaves().into_iter().find_map(|bound| match bound {
        Bound::Name { id, written: false, .. } if id.label(0) == Some(b"$") => Some(id),
        _ => None,
    });
    made.map(|id| {
        format!("{id} comes from the request: it reaches loopback and link-local addresses only by egress.allow")
    })
}

#[cfg(test)]
mod tests;
