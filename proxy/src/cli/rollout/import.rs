//! `serin rollout import`: Flagger's objects as a part of a configuration.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serin_config::diagnostic::render;
use serin_config::flagger::{Imported, Wishes, import as convert};
use serin_config::source::Source;

use super::super::run::source;
use super::super::{failed, print};
use super::words::Paint;
use crate::control;

const EXAMPLES: &str = "\
Examples:
  serin rollout import canary.yaml >> serin.yaml
  serin rollout import canary.yaml template.yaml --router gateway --canary /srv/world-v2
  kubectl get canary,metrictemplate,alertprovider -o yaml | serin rollout import -

What cannot be carried over is told with its line.

Exit codes: 0 all that matters came along, perhaps with warnings; 2 not understood;
1 something that decides about verdict or traffic did not";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct ImportArgs {
    /// Files with Canary, MetricTemplate and AlertProvider objects; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Label of the router whose traffic is moved
    #[arg(long, value_name = "LABEL", default_value = "outgoing")]
    router: String,
    /// The dentry prefix it shall own [default: /host/<service>]
    #[arg(long, value_name = "/PATH")]
    path: Option<String>,
    /// The name of the old version [default: /srv/<service>-primary]
    #[arg(long, value_name = "/NAME")]
    primary: Option<String>,
    /// The name of the new version [default: /srv/<service>-canary]
    #[arg(long, value_name = "/NAME")]
    canary: Option<String>,
}

pub(super) fn import(args: &ImportArgs) -> ExitCode {
    let mut sources = Vec::with_capacity(args.files.len());
    for file in &args.files {
        match source(file).and_then(|from| Ok(control::text(&from, control::load(&from)?))) {
            Ok(text) => sources.push(text),
            Err(error) => return failed(&error),
        }
    }
    let ImportArgs { router, path, primary, canary, .. } = args;
    let wishes =
        Wishes { router: router.clone(), path: path.clone(), primary: primary.clone(), canary: canary.clone() };
    let imported = convert(&sources, &wishes);
    tell(&sources, &imported);
    print(&imported.text);
    if imported.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Everything that is to be known, on standard error: the text is for a file.
fn tell(sources: &[Source], imported: &Imported) {
    let Paint(color) = Paint::of(std::io::stderr().is_terminal());
    for (source, findings) in sources.iter().zip(&imported.findings) {
        if !findings.is_empty() {
            eprintln!("{}\n", render(findings, source, color).trim_end());
        }
    }
    if imported.omitted > 0 {
        eprintln!("and {} more", imported.omitted);
    }
}
