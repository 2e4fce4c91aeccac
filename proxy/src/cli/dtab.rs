//! `serin dtab`: work with the language alone.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use serin_config::diagnostic::{Diagnostic, render};
use serin_config::dtab::{SyntaxError, SyntaxErrors, format_source};
use serin_config::source::Span;

use super::run::source;
use super::{failed, print};
use crate::control;

/// Prints a dtab in its one form.
pub(super) fn format(file: Option<&Path>) -> ExitCode {
    let read = source(file.unwrap_or(Path::new("-"))).and_then(|from| Ok(control::text(&from, control::load(&from)?)));
    let text = match read {
        Ok(text) => text,
        Err(error) => return failed(&error),
    };
    match format_source(text.text()) {
        Ok(formatted) => print(&formatted),
        Err(errors) => {
            let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            eprintln!("{}", render(&diagnostics(&errors), &text, color).trim_end());
            ExitCode::FAILURE
        }
    }
}

fn diagnostics(errors: &SyntaxErrors) -> Vec<Diagnostic> {
    let diagnostic = |error: &SyntaxError| {
        let span = Span::new(error.span.start, error.span.end);
        Diagnostic::error("dtab/syntax", span, error.to_string()).maybe_help(error.hint())
    };
    errors.iter().map(diagnostic).collect()
}
