//! `serin rollout`: ask and steer rollouts, and try a policy or bring one along before anything runs.

use std::process::ExitCode;

use clap::Subcommand;
use serin_rollout::Ppm;

use self::order::{Extra, OrderArgs, order};

mod import;
mod order;
pub(super) mod remote;
mod show;
mod simulate;
mod status;
mod watch;
mod words;

const EXIT_CODES: &str = "\
Examples:
  serin rollout status world
  serin rollout status world --wait --timeout 30m && echo promoted

Exit codes: 0 ok, promoted; 1 failed; 2 not understood; 3 rolled back; 4 timed out";

/// What follows `serin rollout`.
#[derive(Debug, Subcommand)]
pub(super) enum RolloutCommand {
    /// All rollouts of the running Serin, one a line
    #[command(after_help = "Examples:\n  serin rollout list\n  serin rollout list --admin 10.0.0.7:9990 -o json")]
    List(status::ListArgs),
    /// Where a rollout stands, why, and what to do next
    #[command(after_help = EXIT_CODES)]
    Status(status::StatusArgs),
    /// A rollout as it goes: its weight, both arms, the evidence, what happens. Until Ctrl-C
    Watch(watch::WatchArgs),
    /// Begin with the canary of the file, from the first step; also one that was rolled back or promoted before
    #[command(
        after_help = "Examples:\n  serin rollout start world --why 'the disk was full, not the canary'\n  serin rollout start world --revision /srv/world-v2@r7"
    )]
    Start {
        #[command(flatten)]
        order: OrderArgs,
        /// The revision to judge [default: the one of the file]
        #[arg(long, help_heading = None::<&str>)]
        revision: Option<String>,
    },
    /// The weight rises no more; the guard stays on
    #[command(after_help = "Example:\n  serin rollout pause world --why 'lunch'")]
    Pause(OrderArgs),
    /// The weight may move again
    #[command(after_help = "Example:\n  serin rollout resume world")]
    Resume(OrderArgs),
    /// All traffic to the canary, guarded for one interval, then promoted
    #[command(after_help = "Example:\n  serin rollout promote world --why 'hotfix'")]
    Promote(OrderArgs),
    /// All traffic to the primary, now. This revision does not start again by itself
    #[command(after_help = "Example:\n  serin rollout abort world --why 'wrong build'")]
    Abort(OrderArgs),
    /// Take back the last end: a run goes on where it was, a promotion goes back to the old primary
    #[command(after_help = "Example:\n  serin rollout undo world --why 'mails are missing'")]
    Undo(OrderArgs),
    /// The canary's share from now on
    #[command(
        after_help = "Examples:\n  serin rollout weight world 10%\n  serin rollout weight world 0.5% --why 'careful'"
    )]
    Weight {
        #[command(flatten)]
        order: OrderArgs,
        /// From 0 to 100%, with up to four decimals
        #[arg(help_heading = None::<&str>)]
        weight: Ppm,
    },
    /// What happened to a rollout, from its journal
    #[command(after_help = "Examples:\n  serin rollout history world\n  serin rollout history world --max 10 -o json")]
    History(status::HistoryArgs),
    /// Try a policy on made-up traffic: how soon is a bad canary out, how long does a good one take
    Simulate(simulate::SimulateArgs),
    /// Turn a Canary of Flagger's, with its templates and providers, into a part of a configuration
    Import(import::ImportArgs),
}

pub(super) fn rollout(command: RolloutCommand) -> ExitCode {
    let none = Extra::default();
    match command {
        RolloutCommand::List(args) => status::list(&args),
        RolloutCommand::Status(args) => status::status(&args),
        RolloutCommand::Watch(args) => watch::watch(&args),
        RolloutCommand::Start { order: args, revision } => order("start", &args, Extra { revision, ..none }),
        RolloutCommand::Pause(args) => order("pause", &args, none),
        RolloutCommand::Resume(args) => order("resume", &args, none),
        RolloutCommand::Promote(args) => order("promote", &args, none),
        RolloutCommand::Abort(args) => order("abort", &args, none),
        RolloutCommand::Undo(args) => order("undo", &args, none),
        RolloutCommand::Weight { order: args, weight } => {
            order("weight", &args, Extra { weight: Some(weight), ..none })
        }
        RolloutCommand::History(args) => status::history(&args),
        RolloutCommand::Import(args) => import::import(&args),
        RolloutCommand::Simulate(args) => simulate::simulate(&args),
    }
}
