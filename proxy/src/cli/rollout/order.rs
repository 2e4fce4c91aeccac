//! `serin rollout start|pause|resume|promote|abort|undo|weight`: what a person wants of a rollout, recorded with who and why.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};
use serin_rollout::{Ppm, WORDS_MAX};

use super::super::{Output, failed, print};
use super::remote::{Remote, RemoteArgs, path_of};
use super::words::{Paint, share};
use crate::judge::View;

/// Whom, and why.
#[derive(Debug, Args)]
pub(in crate::cli) struct OrderArgs {
    /// The rollout
    pub(super) name: String,
    /// Kept in the journal and told with the event
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    why: String,
    /// How to print what came of it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// What only some orders need.
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub(super) revision: Option<String>,
    pub(super) weight: Option<Ppm>,
}

pub(super) fn order(action: &'static str, args: &OrderArgs, extra: Extra) -> ExitCode {
    let mut body = Map::new();
    body.insert("who".into(), json!(who()));
    body.insert("why".into(), json!(args.why));
    body.extend(extra.revision.map(|revision| ("revision".to_owned(), json!(revision))));
    body.extend(extra.weight.map(|weight| ("weight".to_owned(), json!(weight.to_string()))));
    let remote = Remote::find(&args.remote);
    let path = format!("{}/{action}", path_of(&args.name));
    let view: View = match remote.post(&path, &Value::Object(body)) {
        Ok(view) => view,
        Err(error) => return failed(&error),
    };
    print(&match args.output {
        Output::Text => {
            let paint = Paint::of(console::user_attended());
            let paused = if view.paused { ", paused" } else { "" };
            let line = format!("{}  {} at {}{paused}", view.name, paint.phase(&view.phase), share(view.weight_ppm));
            format!("{line}\n")
        }
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&view).unwrap_or_default()),
    })
}

/// `user@host`, as far as the environment knows.
fn who() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "somebody".to_owned());
    let file = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = variable("HOSTNAME").or_else(file).map(|host| host.trim().to_owned()).filter(|host| !host.is_empty());
    let who = host.map_or_else(|| user.clone(), |host| format!("{user}@{host}"));
    who.chars().take(WORDS_MAX).collect()
}
