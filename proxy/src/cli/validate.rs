//! `serin validate`: every mistake of every file.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use serin_config::Config;
use serin_config::diagnostic::{Diagnostic, Diagnostics, Severity, render};
use serin_config::source::{Position, Source, Span};
use serin_config::teams::{Finding, TeamOutcome, TeamState};

use super::run::configuration;
use super::{Output, ValidateArgs, failed, print, request_tests, state};
use crate::control::{Files, LastGood, Loaded};
use crate::storage::HistoryReader;

/// What was found in one file.
#[derive(Default)]
struct Report {
    file: String,
    findings: Vec<Finding>,
    /// Beyond those listed.
    omitted: usize,
    /// Why it could not be read.
    unreadable: Option<String>,
    ok: bool,
    /// Where it differs from the journals.
    differences: Vec<String>,
}

/// The same for programs.
#[derive(Serialize)]
struct Printed<'a> {
    file: &'a str,
    ok: bool,
    diagnostics: Vec<PrintedDiagnostic<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted: Option<usize>,
}

#[derive(Serialize)]
struct PrintedDiagnostic<'a> {
    severity: String,
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    related: Option<PrintedPlace<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

/// The other place of a mistake that has two, perhaps in another file.
#[derive(Serialize)]
struct PrintedPlace<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
}

pub(super) fn validate(args: &ValidateArgs) -> ExitCode {
    let journals = match args.state.as_deref().map(state::journals).transpose() {
        Ok(journals) => journals,
        Err(error) => return failed(&error),
    };
    let last_good = args.state.as_deref().map(state::last_good).unwrap_or_default();
    let reports: Vec<Report> =
        args.files.iter().flat_map(|file| reports(file, journals.as_ref(), &last_good)).collect();
    match args.output {
        Output::Text => reports.iter().for_each(print_text),
        Output::Json => {
            let printed: Vec<Printed<'_>> = reports.iter().map(Report::printed).collect();
            // plain data: it always has a JSON form
            print(&format!("{}\n", serde_json::to_string_pretty(&printed).unwrap_or_default()));
        }
    }
    if reports.iter().all(|report| report.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One report for each file: the one that was named, or all of a folder.
fn reports(file: &Path, journals: Option<&HistoryReader>, last_good: &LastGood) -> Vec<Report> {
    let name = file.display().to_string();
    let (main, files, loaded) = match configuration(file, last_good) {
        Ok(read) => read,
        Err(error) => return vec![Report { file: name, unreadable: Some(error.to_string()), ..Report::default() }],
    };
    match loaded {
        Ok(mut loaded) => {
            // Told beside the warnings; those of a team belong to its file.
            loaded.warnings.extend(request_tests::failures(&loaded));
            let differences = journals.map(|journals| state::differences(&loaded.config, journals)).unwrap_or_default();
            let mut all = vec![Report { differences, ..of_main(&main, &loaded) }];
            let teams = files.teams();
            let whole = Arc::new(Source::joined(&main, &teams));
            // Only mistakes need the second look.
            let all_ok = loaded.teams.iter().all(|team| team.state == TeamState::Current);
            let wrong = if all_ok { None } else { Config::parse(&whole).err() };
            all.extend(loaded.teams.iter().map(|team| of_team(team, &loaded, &whole, wrong.as_ref())));
            all
        }
        Err(mistakes) => not_judged(&main, &files, &mistakes),
    }
}

fn of_main(main: &Source, loaded: &Loaded) -> Report {
    let file = main.name().to_owned();
    let findings = warnings_of(&file, loaded);
    Report { ok: !has_errors(&findings), findings, file, ..Report::default() }
}

/// A team is judged as at a start. What stopped it may not be all: `wrong` is what shows with the files of all teams as
/// they are, and there it stands whom a team is in conflict with.
fn of_team(team: &TeamOutcome, loaded: &Loaded, whole: &Arc<Source>, wrong: Option<&Diagnostics>) -> Report {
    let ok = team.state == TeamState::Current;
    let mut findings = if ok { warnings_of(&team.file, loaded) } else { team.findings.clone() };
    let here = |span: Span| whole.name_at(span.start) == team.file;
    let of_it = |one: &&Diagnostic| here(one.span) || one.related.as_ref().is_some_and(|(span, _)| here(*span));
    let more: Vec<Diagnostic> = wrong.iter().flat_map(|wrong| wrong.iter()).filter(of_it).cloned().collect();
    if !ok && more.len() > findings.iter().map(|finding| finding.diagnostics.len()).sum() {
        findings = vec![Finding { source: Arc::clone(whole), diagnostics: more }];
    }
    Report { file: team.file.clone(), ok: ok && !has_errors(&findings), findings, ..Report::default() }
}

/// A failed test is a mistake of a file that could serve.
fn has_errors(findings: &[Finding]) -> bool {
    findings.iter().flat_map(|finding| &finding.diagnostics).any(|one| one.severity == Severity::Error)
}

/// The warnings of one file, and its failed tests.
fn warnings_of(file: &str, loaded: &Loaded) -> Vec<Finding> {
    let of_file = |one: &&Diagnostic| loaded.source.name_at(one.span.start) == file;
    let diagnostics: Vec<Diagnostic> = loaded.warnings.iter().filter(of_file).cloned().collect();
    if diagnostics.is_empty() { Vec::new() } else { vec![Finding { source: Arc::clone(&loaded.source), diagnostics }] }
}

/// The main file has mistakes. Those of the team files that show beside it are told too.
fn not_judged(main: &Source, files: &Files, mistakes: &Diagnostics) -> Vec<Report> {
    let found = |source: &Arc<Source>, diagnostics: Vec<Diagnostic>| match diagnostics.is_empty() {
        true => Vec::new(),
        false => vec![Finding { source: Arc::clone(source), diagnostics }],
    };
    let file = main.name().to_owned();
    let findings = found(&Arc::new(main.clone()), mistakes.to_vec());
    let mut all = vec![Report { file, findings, omitted: mistakes.omitted(), ..Report::default() }];
    for team in &files.teams() {
        let whole = Arc::new(Source::joined(main, [team]));
        let all_of_it = Config::parse(&whole).err();
        let own = |one: &&Diagnostic| whole.name_at(one.span.start) == team.name();
        let own: Vec<Diagnostic> = all_of_it.iter().flat_map(|wrong| wrong.iter()).filter(own).cloned().collect();
        let unreadable = own.is_empty().then(|| format!("{} is not judged: the main file has mistakes", team.name()));
        all.push(Report {
            file: team.name().to_owned(),
            findings: found(&whole, own),
            unreadable,
            ..Report::default()
        });
    }
    all
}

fn print_text(report: &Report) {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for finding in &report.findings {
        eprintln!("{}", render(&finding.diagnostics, &finding.source, color).trim_end());
    }
    if let Some(why) = &report.unreadable {
        eprintln!("error: {why}");
    }
    if report.omitted > 0 {
        eprintln!("and {} more", report.omitted);
    }
    report.differences.iter().for_each(|difference| eprintln!("warning: {difference}"));
    let found: usize = report.findings.iter().map(|finding| finding.diagnostics.len()).sum();
    let warnings = match found + report.differences.len() {
        0 => String::new(),
        1 => ", with a warning".to_owned(),
        several => format!(", with {several} warnings"),
    };
    if report.ok {
        print(&format!("{}: ok{warnings}\n", report.file));
    }
}

impl Report {
    fn printed(&self) -> Printed<'_> {
        let found = self.findings.iter().flat_map(|finding| {
            finding.diagnostics.iter().map(|diagnostic| PrintedDiagnostic::of(diagnostic, &finding.source))
        });
        let plain = |severity: &str, code, message| PrintedDiagnostic {
            severity: severity.into(),
            code,
            message,
            line: None,
            column: None,
            related: None,
            help: None,
        };
        let unreadable = self.unreadable.iter().map(|message| plain("error", "file/unreadable", message));
        let differences = self.differences.iter().map(|message| plain("warning", "state/differs", message));
        let omitted = (self.omitted > 0).then_some(self.omitted);
        Printed {
            file: &self.file,
            ok: self.ok,
            diagnostics: found.chain(differences).chain(unreadable).collect(),
            omitted,
        }
    }
}

impl<'a> PrintedDiagnostic<'a> {
    fn of(diagnostic: &'a Diagnostic, source: &'a Source) -> Self {
        let position = diagnostic.position(source);
        let related = diagnostic.related.as_ref().map(|(span, message)| {
            let Position { line, column } = source.position(span.start);
            PrintedPlace { file: source.name_at(span.start), line, column, message }
        });
        PrintedDiagnostic {
            severity: diagnostic.severity.to_string(),
            code: diagnostic.code,
            message: &diagnostic.message,
            line: Some(position.line),
            column: Some(position.column),
            related,
            help: diagnostic.help.as_deref(),
        }
    }
}
