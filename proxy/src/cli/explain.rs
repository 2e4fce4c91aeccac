//! `serin explain`: where a request would go, from the file alone, by the code that routes.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use serin_config::Config;
use serin_config::diagnostic::render;
use serin_config::dtab::{LeafState, Path};

use super::run::{configuration, warn_of_teams};
use super::{ExplainArgs, Output, failed, print, state, usage};
use crate::admin::explanation::{self, Ask, AskError, ExplainedStep, Explanation, NamedBy, Told, World};
use crate::assemble::{self, Parts};
use crate::control;
use crate::dtabs::Namespaces;
use crate::endpoints::EndpointTable;
use crate::resolve::{DnsConfig, Resolver};
use crate::snapshot::{self, Routings, Snapshot};

pub(super) fn explain(args: &ExplainArgs) -> ExitCode {
    let ask = match ask(args) {
        Ok(ask) => ask,
        Err(error) => return usage(&error),
    };
    let last_good = args.state.as_deref().map(state::last_good).unwrap_or_default();
    let (text, loaded) = match configuration(&args.file, &last_good) {
        Ok((text, _, loaded)) => (text, loaded),
        Err(error) => return failed(&error),
    };
    let loaded = match loaded {
        Ok(loaded) => {
            warn_of_teams(&loaded);
            loaded
        }
        Err(mistakes) => {
            eprintln!("{}", render(&mistakes, &text, false).trim_end());
            return ExitCode::FAILURE;
        }
    };
    let routings = match args.state.as_deref().map(state::journals).transpose() {
        Ok(journals) => journals.map(|journals| state::routings(&loaded.config, &journals)).unwrap_or_default(),
        Err(error) => return failed(&error),
    };
    let stored = match args.state.as_deref().map(state::dtabs).transpose() {
        Ok(stored) => stored,
        Err(error) => return failed(&error),
    };
    match answer(&loaded, &ask, &routings, stored.as_ref()) {
        Ok(explanation) => print(&match args.output {
            Output::Text => story(&explanation),
            // plain data: it always has a JSON form
            Output::Json => format!("{}\n", serde_json::to_string_pretty(&explanation).unwrap_or_default()),
        }),
        Err(error) => failed(&error),
    }
}

fn ask(args: &ExplainArgs) -> Result<Ask, AskError> {
    let mut ask = Ask { router: args.router.clone(), ..Ask::default() };
    args.path.as_deref().map_or(Ok(()), |path| ask.set_path(path))?;
    ask.set_method(&args.method)?;
    ask.set_uri(&args.uri);
    ask.set_source(&args.source)?;
    args.headers.iter().try_for_each(|line| ask.add_line(line))?;
    Ok(ask)
}

/// Addresses are not looked at: every bound name counts as able to serve, but clusters that the file gives none.
fn answer(
    loaded: &control::Loaded,
    ask: &Ask,
    routings: &Routings,
    stored: Option<&Namespaces>,
) -> Result<Explanation, String> {
    Offline::new(&loaded.config, routings, stored).answer(ask)
}

/// A configuration as it would serve, without anything that serves.
pub(super) struct Offline {
    config: Arc<Config>,
    snapshot: Arc<Snapshot>,
    endpoints: Arc<EndpointTable>,
    /// Was a folder looked at that may hold dtabs.
    with_state: bool,
}

impl Offline {
    /// Without `stored`, no folder of state was looked at.
    pub(super) fn new(config: &Arc<Config>, routings: &Routings, stored: Option<&Namespaces>) -> Offline {
        let endpoints = Arc::new(EndpointTable::default());
        let mut resolver = Resolver::new(Arc::clone(&endpoints), DnsConfig::default());
        let names = resolver.configure(&config.clusters, &config.namers, &config.egress);
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let nothing = Namespaces::default();
        let parts = Parts {
            config,
            listeners: &[],
            admin: nowhere,
            names: &names,
            workers: 1,
            previous: None,
            routings,
            stored: stored.unwrap_or(&nothing),
            interfaces: &[],
        };
        let (structure, weights) = assemble::assemble(&parts);
        // puts the shares of the rollouts in their places
        let world = snapshot::World::new(Snapshot { version: 1, structure, weights }, routings.clone());
        let with_state = stored.is_some();
        Offline { config: Arc::clone(config), snapshot: Arc::clone(&world.load()), endpoints, with_state }
    }

    /// Where a request would go.
    pub(super) fn answer(&self, ask: &Ask) -> Result<Explanation, String> {
        let labels: Vec<&str> = self.config.routers.iter().map(|router| router.label.as_str()).collect();
        let known = labels.join(", ");
        let router = match &ask.router {
            Some(label) => labels
                .iter()
                .position(|known| known == label)
                .ok_or_else(|| format!("no router is called `{label}`: there are {known}")),
            None if labels.len() == 1 => Ok(0),
            None => Err(format!("which router? --router takes one of {known}")),
        }?;
        let Snapshot { structure, weights, .. } = &*self.snapshot;
        let state = |id: &Path| match self.endpoints.find(id).map(|cluster| explanation::state_of(&cluster, false)) {
            Some(LeafState::Unusable) if id.label(1) == Some(b"clusters") => LeafState::Unusable,
            // files and DNS may say something else elsewhere
            _ => LeafState::Usable,
        };
        let world = World { structure, weights, router, state: &state, told: &|_| Told::Unasked };
        let mut found = explanation::explain(&world, ask).map_err(|error| error.to_string())?;
        found.notes.extend(self.unseen(router));
        Ok(found)
    }

    /// A stored dtab decides too, and is nowhere in the file.
    fn unseen(&self, router: usize) -> Option<String> {
        let namespace = self.config.routers.get(router)?.interpreter.namespace().filter(|_| !self.with_state)?;
        Some(format!("the stored dtab `{namespace}` is not seen here: --state FOLDER, or the admin server, knows it"))
    }
}

/// For people.
fn story(explanation: &Explanation) -> String {
    let mut text = format!("{}  in router {}\n", explanation.path, explanation.router);
    // writing to a string cannot fail
    if let Some(by) = &explanation.named_by {
        if let Some(place) = &by.redirects {
            return format!("router {}\n  rules[{}] redirects: {place}\n", explanation.router, by.rule.unwrap_or(0));
        }
        named_by(&mut text, by);
    }
    for rule in &explanation.rules {
        let _ = writeln!(text, "  overrides[{}] matches and adds  {}", rule.rule, rule.dtab);
    }
    if let Some(sent) = &explanation.sent {
        let _ = writeln!(text, "  the request adds  {sent}");
    }
    text.push('\n');
    steps(&mut text, &explanation.steps);
    if explanation.truncated {
        text.push_str("  … and so on: only the first steps are kept\n");
    }
    text.push_str("\ntraffic\n");
    let mut traffic: Vec<(&String, &f64)> = explanation.traffic.iter().collect();
    traffic.sort_by(|a, b| b.1.total_cmp(a.1));
    for (end, share) in traffic {
        let here = if explanation.goes_to.as_ref() == Some(end) && explanation.traffic.len() > 1 {
            "   ← this request"
        } else {
            ""
        };
        let _ = writeln!(text, "  {:>9} %  {}{here}", percent(*share), meaning(end));
    }
    for note in &explanation.notes {
        let _ = writeln!(text, "\nnote: {note}");
    }
    text
}

/// What named the request and what is sent on, unless it goes without saying.
fn named_by(text: &mut String, by: &NamedBy) {
    if let Some(rule) = by.rule {
        let _ = writeln!(text, "  rules[{rule}] matches");
    }
    if let (Some(identifier), Some(kind)) = (by.identifier, by.kind)
        && (identifier > 1 || kind != PLAIN_KIND)
    {
        let _ = writeln!(text, "  named by identifier {identifier}, {kind}");
    }
    if let Some(path) = &by.sends_path {
        let _ = writeln!(text, "  sent on with the path {path}");
    }
    if let Some(host) = &by.sends_host {
        let _ = writeln!(text, "  sent on with the host {host}");
    }
}

/// One line a lookup: what, by which dentry, what came out. Columns line up, and what leads on is indented.
fn steps(text: &mut String, steps: &[ExplainedStep]) {
    let lines: Vec<[String; 3]> = steps.iter().map(line).collect();
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).min(COLUMN_MAX);
    let (first, second) = (width(0), width(1));
    for [what, by, out] in &lines {
        let _ = writeln!(text, "  {what:first$}   {by:second$}   {out}");
    }
}

fn line(step: &ExplainedStep) -> [String; 3] {
    let indent = "  ".repeat(usize::from(step.depth).min(INDENT_MAX));
    let by = match &step.dentry {
        Some(dentry) if dentry.from == "dtab" => format!("{} => {}", dentry.prefix, dentry.dst),
        Some(dentry) => format!("{} => {}   ({})", dentry.prefix, dentry.dst, dentry.from),
        None => "no dentry".to_owned(),
    };
    [format!("{indent}{}", step.path), by, format!("→ {}", step.result)]
}

/// The one that goes without saying.
const PLAIN_KIND: &str = "io.l5d.header.token";
/// A column may be wider for one line, not for all.
const COLUMN_MAX: usize = 60;
/// Levels of indentation that still read well.
const INDENT_MAX: usize = 10;

/// At most four decimals: what weights resolve.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn meaning(end: &str) -> String {
    match end {
        "$" => "$  nobody, on purpose: 503".to_owned(),
        "!" => "!  refused, on purpose: 404".to_owned(),
        "~" => "~  no route: 404".to_owned(),
        "error" => "could not be bound: 502".to_owned(),
        "pending" => "waits for a namer".to_owned(),
        name => name.to_owned(),
    }
}
