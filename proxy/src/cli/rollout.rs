//! `serin rollout`: ask and steer rollouts, and try a policy or bring one along before anything runs.

use std::process::ExitCode;

use clap::Subcommand;

mod simulate;

/// What follows `serin rollout`.
#[derive(Debug, Subcommand)]
pub(super) enum RolloutCommand {
    /// Try a policy on made-up traffic: how soon is a bad canary out, how long does a good one take
    Simulate(simulate::SimulateArgs),
}

pub(super) fn rollout(command: &RolloutCommand) -> ExitCode {
    match command {
        RolloutCommand::Simulate(args) => simulate::simulate(args),
    }
}
