//! `serin dtab`: work with the language, and with the dtabs that a running Serin keeps.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serin_config::diagnostic::{Diagnostic, render};
use serin_config::dtab::{SyntaxError, SyntaxErrors, format_source};
use serin_config::source::Span;

use super::rollout::remote::RemoteArgs;
use super::run::source;
use super::{Output, failed, print};
use crate::control;

mod stored;

/// What follows `serin dtab`.
#[derive(Debug, Subcommand)]
pub(super) enum DtabCommand {
    /// The namespaces of the running Serin, one a line
    #[command(visible_alias = "ls", after_help = "Example:\n  serin dtab list")]
    List(ListArgs),
    /// The dtab of a namespace, with its version
    #[command(
        visible_alias = "cat",
        after_help = "Examples:\n  serin dtab get default\n  serin dtab get default --json > default.json"
    )]
    Get(GetArgs),
    /// Keep a dtab in a new namespace
    #[command(visible_alias = "new", after_help = "Example:\n  serin dtab create default default.dtab")]
    Create(WriteArgs),
    /// Replace the dtab of a namespace; one that is not there is made, unless a version is said
    #[command(
        visible_alias = "up",
        after_help = "Examples:\n  serin dtab update default default.dtab --version AAAAAAAAAAE=\n  serin dtab get default --json | sed s/v1/v2/ | serin dtab update default -"
    )]
    Update {
        #[command(flatten)]
        write: WriteArgs,
        /// Only if this is the version in force; that of a JSON input wins
        #[arg(long, value_name = "STAMP", help_heading = None::<&str>)]
        version: Option<String>,
    },
    /// Take a namespace away
    #[command(visible_aliases = ["del", "rm"], after_help = "Example:\n  serin dtab delete default")]
    Delete {
        /// The namespace
        name: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Print a dtab with its arrows under each other; comments stay
    Fmt {
        /// The dtab [default: standard input]
        file: Option<PathBuf>,
    },
}

/// `serin dtab list`.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// The same as -o json
    #[arg(long)]
    json: bool,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// `serin dtab get`.
#[derive(Debug, clap::Args)]
pub(super) struct GetArgs {
    /// The namespace
    name: String,
    /// The same as -o json
    #[arg(long)]
    json: bool,
    /// A dentry a line, arrows under each other, below a comment with the version; otherwise one line
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pretty: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// A namespace and what shall be in it.
#[derive(Debug, clap::Args)]
pub(super) struct WriteArgs {
    /// The namespace
    name: String,
    /// The dtab, or the JSON of `get --json`; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn dtab(command: DtabCommand) -> ExitCode {
    match command {
        DtabCommand::List(args) => stored::list(&args),
        DtabCommand::Get(args) => stored::get(&args),
        DtabCommand::Create(args) => stored::create(&args),
        DtabCommand::Update { write, version } => stored::update(&write, version),
        DtabCommand::Delete { name, remote } => stored::delete(&name, &remote),
        DtabCommand::Fmt { file } => format(file.as_deref()),
    }
}

/// Prints a dtab in its one form.
fn format(file: Option<&Path>) -> ExitCode {
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
