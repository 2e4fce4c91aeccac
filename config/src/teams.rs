//! PURE: one configuration from a main file and the files of many teams.
//!
//! Each team is on the newest of its versions that can serve: the file as it is, else its last good version, else none.
//! Three rules make that independent of what others write:
//!
//! * A team file is judged with the main file alone. What it needs is there, or in the file itself, so no change of
//!   another team makes it good or bad.
//! * Teams write only what they own, and no two own the same. Who owned it before keeps it; of two that are new the file
//!   whose name sorts first has it. The other is refused whole.
//! * A main file that is broken gives nothing: the caller keeps what it has.
//!
//! ```
//! use std::collections::BTreeMap;
//! use serin_config::source::Source;
//! use serin_config::teams::{TeamFile, TeamState, merge};
//!
//! let main = Source::new("serin.yaml", "\
//! clusters: {home: {endpoints: ['127.0.0.1:8080']}}
//! routers:
//! - {label: gateway, servers: [{port: 4140}], dtab: /svc => /#/clusters/home}
//! ");
//! let team = |name: &str, text: &str| TeamFile::new(name, Source::new(format!("{name}.yaml"), text));
//! let teams = [
//!     team("shop", "owns: {prefixes: [/svc/web]}\n"),
//!     team("web", "owns: {prefixes: [/svc/web]}\nrouters: [{label: gateway, dtab: /svc/web => /#/clusters/home}]\n"),
//! ];
//! let merged = merge(&main, &teams, &BTreeMap::new(), &|_| true, &|_| None)?;
//! assert_eq!(merged.teams[0].state, TeamState::Current);
//! assert_eq!(merged.teams[1].state, TeamState::Out);
//! assert!(merged.teams[1].report().contains("`/svc/web` belongs to another team already"));
//!
//! // With the last good version of `web` known, `shop` is the one that comes too late.
//! let last_good = BTreeMap::from([("web".to_owned(), teams[1].source.text().into())]);
//! let merged = merge(&main, &teams, &last_good, &|_| true, &|_| None)?;
//! assert_eq!([merged.teams[0].state, merged.teams[1].state], [TeamState::Out, TeamState::Current]);
//! # Ok::<(), serin_config::Diagnostics>(())
//! ```

mod round;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::compile;
use crate::diagnostic::{Diagnostic, Diagnostics, render};
use crate::model::Config;
use crate::source::{Source, Span};

use round::Member;

/// Team files of one folder.
pub const TEAMS_MAX: usize = 100;
/// The longest name of a team, in bytes: it is a label of metrics and the name of a file.
pub const TEAM_NAME_BYTES_MAX: usize = 63;

/// A team file as it was read.
#[derive(Clone, Debug)]
pub struct TeamFile {
    /// The name of the file without its ending.
    pub name: String,
    /// Its text. Of a file that could not be read only the name counts.
    pub source: Source,
    /// Why it could not be read.
    pub unreadable: Option<String>,
}

impl TeamFile {
    /// A file that was read.
    pub fn new(name: impl Into<String>, source: Source) -> TeamFile {
        TeamFile { name: name.into(), source, unreadable: None }
    }
}

/// Which version of a team is in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeamState {
    /// The file as it is.
    Current,
    /// The file as it is was refused; what was good before serves.
    LastGood,
    /// The file as it is was refused, and there is no last good version that fits.
    Out,
}

impl TeamState {
    /// Every state, in declaration order.
    pub const ALL: [TeamState; 3] = [TeamState::Current, TeamState::LastGood, TeamState::Out];

    /// The word for logs, metrics and pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            TeamState::Current => "current",
            TeamState::LastGood => "last-good",
            TeamState::Out => "out",
        }
    }
}

/// What was found in one version of a team file.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The text its places are in: the main file and whatever it was judged with.
    pub source: Arc<Source>,
    /// Mistakes and warnings of that version.
    pub diagnostics: Vec<Diagnostic>,
}

/// How it went for one team.
#[derive(Clone, Debug)]
pub struct TeamOutcome {
    /// Its name.
    pub name: String,
    /// The name of its file in diagnostics.
    pub file: String,
    /// Which version is in the configuration.
    pub state: TeamState,
    /// The text that is in the configuration: the next last good version.
    pub text: Option<Arc<str>>,
    /// Why newer versions are not in it, newest first. Never empty unless the state is [`TeamState::Current`].
    pub findings: Vec<Finding>,
}

impl TeamOutcome {
    /// Why newer versions are not in it, as text with lines and carets; empty if there is nothing to say.
    pub fn report(&self) -> String {
        let one = |finding: &Finding| render(&finding.diagnostics, &finding.source, false).trim_end().to_owned();
        self.findings.iter().map(one).collect::<Vec<_>>().join("\n\n")
    }
}

/// A configuration of several files.
#[derive(Clone, Debug)]
pub struct Merged {
    /// It.
    pub config: Config,
    /// Accepted, but somebody should know; places in [`Self::source`].
    pub warnings: Vec<Diagnostic>,
    /// All texts that are in it.
    pub source: Arc<Source>,
    /// One for each file given, in the order of their names.
    pub teams: Vec<TeamOutcome>,
}

/// Puts the files together. `last_good` has the texts that served last, by the name of the team; those of teams without
/// a file are ignored. `exists` is asked for each folder that a file names, `refuse` what a legal configuration asks for in
/// vain.
///
/// Every team is compiled once with the main file, and all of them together; conflicts cost further rounds, at most five
/// for each team.
///
/// # Errors
/// The mistakes of the main file alone. A team never is a reason.
pub fn merge(
    main: &Source,
    teams: &[TeamFile],
    last_good: &BTreeMap<String, Arc<str>>,
    exists: &dyn Fn(&Path) -> bool,
    refuse: &dyn Fn(&Config) -> Option<Diagnostic>,
) -> Result<Merged, Diagnostics> {
    let (config, warnings) = Config::parse_with(main, exists)?;
    if let Some(refused) = refuse(&config) {
        return Err(refused.into());
    }
    let alone = Merged { config, warnings, source: Arc::new(main.clone()), teams: Vec::new() };
    if teams.is_empty() {
        return Ok(alone);
    }
    let mut members = members(teams, last_good);
    let rounds = round::Rounds { main, exists, refuse, ways: compile::ways_of(main) };
    rounds.refuse_theft(&mut members);
    members.iter_mut().for_each(|member| rounds.settle(member));
    let together = rounds.together(&mut members).unwrap_or((alone.config, alone.warnings, alone.source));
    let (config, warnings, source) = together;
    let teams = members.into_iter().map(Member::outcome).collect();
    Ok(Merged { config, warnings, source, teams })
}

/// The teams in the order of their names, each with its versions. Who has served before has a place before the others.
fn members<'t>(teams: &'t [TeamFile], last_good: &BTreeMap<String, Arc<str>>) -> Vec<Member<'t>> {
    let mut files: Vec<&TeamFile> = teams.iter().collect();
    files.sort_by_key(|file| (!last_good.contains_key(&file.name), &file.name));
    let member = |(place, file): (usize, &'t TeamFile)| {
        let mut member = Member::new(file, last_good.get(&file.name));
        if place >= TEAMS_MAX {
            member.refuse_all("teams/too-many", format!("a folder may have {TEAMS_MAX} team files, and has more"));
        } else if let Some(why) = name_problem(&file.name) {
            member.refuse_all("teams/name", why);
        } else if let Some(why) = &file.unreadable {
            member.refuse(Finding::of_file(&file.source, "teams/unreadable", why.clone()));
        }
        member
    };
    let mut members: Vec<Member<'t>> = files.into_iter().enumerate().map(member).collect();
    members.sort_by(|a, b| a.name().cmp(b.name()));
    members
}

fn name_problem(name: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let fits = (1..=TEAM_NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(legal) && !name.starts_with('.');
    let allowed = format!("the name of a team is 1 to {TEAM_NAME_BYTES_MAX} letters, digits and `_-.`");
    (!fits).then(|| format!("{allowed}; this is `{}`", crate::raw::shown(name)))
}

impl Finding {
    /// Something about the file as a whole.
    fn of_file(source: &Source, code: &'static str, why: String) -> Finding {
        let text = Source::new(source.name(), "");
        Finding { source: Arc::new(text), diagnostics: vec![Diagnostic::error(code, Span::at(0), why)] }
    }
}

#[cfg(test)]
mod tests;
