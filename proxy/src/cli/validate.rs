//! `serin validate`: every mistake of every file.

use std::io::IsTerminal;
use std::process::ExitCode;

use serde::Serialize;
use serin_config::diagnostic::{Diagnostic, render};
use serin_config::source::Source;

use super::run::source;
use super::{Output, ValidateArgs, failed, print, state};
use crate::control;
use crate::storage::HistoryReader;

/// What was found in one file.
struct Report {
    file: String,
    /// `None`: it could not be read.
    source: Option<Source>,
    diagnostics: Vec<Diagnostic>,
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
    help: Option<&'a str>,
}

pub(super) fn validate(args: &ValidateArgs) -> ExitCode {
    let journals = match args.state.as_deref().map(state::journals).transpose() {
        Ok(journals) => journals,
        Err(error) => return failed(&error),
    };
    let reports: Vec<Report> = args.files.iter().map(|file| report(file, journals.as_ref())).collect();
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

fn report(file: &std::path::Path, journals: Option<&HistoryReader>) -> Report {
    let name = file.display().to_string();
    let empty = |source, unreadable| Report {
        file: name.clone(),
        source,
        diagnostics: Vec::new(),
        omitted: 0,
        unreadable,
        ok: false,
        differences: Vec::new(),
    };
    let text = source(file).and_then(|from| Ok(control::text(&from, control::load(&from)?)));
    let text = match text {
        Ok(text) => text,
        Err(error) => return empty(None, Some(error.to_string())),
    };
    match control::parse(&text) {
        Ok(loaded) => {
            let differences = journals.map(|journals| state::differences(&loaded.config, journals)).unwrap_or_default();
            Report { diagnostics: loaded.warnings, ok: true, differences, ..empty(Some(text), None) }
        }
        Err(mistakes) => {
            Report { omitted: mistakes.omitted(), diagnostics: mistakes.to_vec(), ..empty(Some(text), None) }
        }
    }
}

fn print_text(report: &Report) {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if let Some(source) = report.source.as_ref().filter(|_| !report.diagnostics.is_empty()) {
        eprintln!("{}", render(&report.diagnostics, source, color).trim_end());
    }
    if let Some(why) = &report.unreadable {
        eprintln!("error: {why}");
    }
    if report.omitted > 0 {
        eprintln!("and {} more", report.omitted);
    }
    report.differences.iter().for_each(|difference| eprintln!("warning: {difference}"));
    let warnings = match report.diagnostics.len() + report.differences.len() {
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
        let found = self.diagnostics.iter().map(|diagnostic| {
            let position = self.source.as_ref().map(|source| diagnostic.position(source));
            PrintedDiagnostic {
                severity: diagnostic.severity.to_string(),
                code: diagnostic.code,
                message: &diagnostic.message,
                line: position.map(|position| position.line),
                column: position.map(|position| position.column),
                help: diagnostic.help.as_deref(),
            }
        });
        let unreadable = self.unreadable.iter().map(|message| PrintedDiagnostic {
            severity: "error".into(),
            code: "file/unreadable",
            message,
            line: None,
            column: None,
            help: None,
        });
        let differences = self.differences.iter().map(|message| PrintedDiagnostic {
            severity: "warning".into(),
            code: "state/differs",
            message,
            line: None,
            column: None,
            help: None,
        });
        let omitted = (self.omitted > 0).then_some(self.omitted);
        Printed {
            file: &self.file,
            ok: self.ok,
            diagnostics: found.chain(differences).chain(unreadable).collect(),
            omitted,
        }
    }
}
