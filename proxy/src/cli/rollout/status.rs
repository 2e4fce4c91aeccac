//! `serin rollout list|status|history`: what a running Serin says of its rollouts.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::super::{Output, failed, print};
use super::remote::{CallError, Remote, RemoteArgs, path_of};
use super::show;
use super::words::{Paint, share, span, time};
use crate::admin::HISTORY_MAX;
use crate::admin::desk::Past;
use crate::clock;
use crate::judge::View;

/// The rollout was rolled back.
const ROLLED_BACK: u8 = 3;
/// It was not over in time.
const TIMED_OUT: u8 = 4;
/// Between two looks while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct StatusArgs {
    /// The rollout
    name: String,
    /// Wait until it is promoted (exit code 0) or rolled back (3)
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this (exit code 4)
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time, requires = "wait")]
    timeout: u64,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct HistoryArgs {
    /// The rollout
    name: String,
    /// So many entries, the newest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=HISTORY_MAX as u64))]
    max: u64,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn list(args: &ListArgs) -> ExitCode {
    match Remote::find(&args.remote).get::<Vec<View>>("/api/v1/rollouts") {
        Ok(views) => shown(args.output, &views, |paint| show::list(&views, clock::unix_ms(), paint)),
        Err(error) => failed(&error),
    }
}

pub(super) fn history(args: &HistoryArgs) -> ExitCode {
    let path = format!("{}/history?max={}", path_of(&args.name), args.max);
    match Remote::find(&args.remote).get::<Vec<Past>>(&path) {
        Ok(entries) => shown(args.output, &entries, |paint| show::history(&entries, paint)),
        Err(error) => failed(&error),
    }
}

pub(super) fn status(args: &StatusArgs) -> ExitCode {
    let remote = Remote::find(&args.remote);
    let path = path_of(&args.name);
    let (view, code) = match remote.get::<View>(&path) {
        Ok(view) if args.wait => wait(&remote, &path, view, args.timeout),
        Ok(view) => (view, ExitCode::SUCCESS),
        Err(error) => return failed(&error),
    };
    shown(args.output, &view, |paint| show::status(&view, clock::unix_ms(), paint));
    code
}

/// Looks until the rollout is over. A Serin that starts anew in the meantime is waited for too.
fn wait(remote: &Remote, path: &str, mut view: View, timeout_ms: u64) -> (View, ExitCode) {
    let until_ms = clock::now_ms().saturating_add(timeout_ms);
    let mut said = String::new();
    loop {
        let now = format!("{} at {}{}", view.phase, share(view.weight_ppm), held(&view));
        if now != said {
            eprintln!("{}: {now}", view.name);
            said = now;
        }
        match &*view.phase {
            "promoted" => return (view, ExitCode::SUCCESS),
            "rolled-back" => return (view, ExitCode::from(ROLLED_BACK)),
            _ if clock::now_ms() >= until_ms => {
                eprintln!("error: not over after {}", span(timeout_ms));
                return (view, ExitCode::from(TIMED_OUT));
            }
            _ => std::thread::sleep(LOOK_EVERY),
        }
        match remote.get::<View>(path) {
            Ok(newer) => view = newer,
            // it may be on its way up again
            Err(CallError::Away { text, .. }) => said = text,
            Err(error) => {
                eprintln!("error: {error}");
                return (view, ExitCode::FAILURE);
            }
        }
    }
}

fn held(view: &View) -> String {
    let waiting = view.waiting.as_ref().map(|gate| format!(", waits for {gate}"));
    let paused = view.paused.then(|| ", paused".to_owned());
    let held = view.held.as_ref().map(|why| format!(", held: {why}"));
    paused.or(waiting).or(held).unwrap_or_default()
}

fn shown<T: Serialize>(output: Output, data: &T, text: impl FnOnce(Paint) -> String) -> ExitCode {
    print(&match output {
        Output::Text => text(Paint::of(console::user_attended())),
        // plain data: it always has a JSON form
        Output::Json => format!("{}\n", serde_json::to_string_pretty(data).unwrap_or_default()),
    })
}
