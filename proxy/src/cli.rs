//! Arguments in, exit code out: 0 ok, 1 failed, 2 not understood.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use serin_config::closest;

use crate::{demo, logging};

mod dtab;
mod explain;
mod request_tests;
mod rollout;
mod run;
mod shares;
mod state;
mod validate;

const EXAMPLES: &str = "\
Examples:
  serin demo                       a good canary promoted, bad ones rolled back, in seconds
  serin run serin.yaml             serve a file, and follow its changes
  serin run config/                serve a folder: a main file, and one for each team
  serin run --to v1=http://127.0.0.1:8081 --to v2=http://127.0.0.1:8082@5%
  serin validate serin.yaml        every mistake, with line and caret
  serin explain serin.yaml -H 'Host: world'
  serin dtab update web web.dtab   keep a dtab in the running Serin; see serin dtab --help
  serin schema                     JSON Schema of the file, for editors
  serin rollout watch world        a canary as it goes; see serin rollout --help
  serin rollout simulate --canary 1% --baseline 0.1% --rps 100

Variables:
  SERIN_ADMIN=ip:port              admin address, instead of the file's
  SERIN_TOKEN=secret               what changes rollouts and dtabs, and opens admin to other machines
  SERIN_CONFIG=file                where rollout and dtab look for the admin address and the token
  SERIN_DNS=ip:port                DNS server, instead of the system's
  SERIN_LOG=filter                 info, debug, warn,serin=debug
  SERIN_LOG_FORMAT=auto|text|json  auto is text on a terminal";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  serin explain serin.yaml -H 'Host: world'
  serin explain serin.yaml --router outgoing --path /svc/world -o json
  serin explain serin.yaml -H 'Host: world' -H 'l5d-dtab: /host/world => /srv/world-v2'
  serin explain serin.yaml -H 'Host: world' --state state";

/// A proxy that routes HTTP/1.1, HTTP/2 and gRPC by dtabs, splits by weight, and judges canaries while it runs.
#[derive(Debug, Parser)]
#[command(
    name = "serin",
    version,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a configuration, and follow its changes. The default
    Run(RunArgs),
    /// Some versions of a service, a proxy and real requests: a split, an override, a reload, and rollouts
    Demo(DemoArgs),
    /// Check files: every mistake with its line, a caret and advice
    #[command(
        after_help = "Examples:\n  serin validate serin.yaml\n  serin validate serin.yaml --state state    # after a promotion: is the file behind?"
    )]
    Validate(ValidateArgs),
    /// Tell step by step where a request would go, from a file
    Explain(Box<ExplainArgs>),
    /// Work with the language, and with the dtabs that a running Serin keeps
    Dtab {
        #[command(subcommand)]
        command: dtab::DtabCommand,
    },
    /// See and steer rollouts; try a policy, or bring one along, before anything runs
    Rollout {
        #[command(subcommand)]
        command: Box<rollout::RolloutCommand>,
    },
    /// Print the JSON Schema of the file, for editors
    #[command(
        after_help = "Examples:\n  serin schema > serin.schema.json\n  # then, as the first line of a file, for editors with the YAML language server:\n  # yaml-language-server: $schema=serin.schema.json"
    )]
    Schema,
    /// Print what a shell needs to complete commands, options and files
    #[command(
        after_help = "Examples:\n  serin completions bash > ~/.local/share/bash-completion/completions/serin\n  serin completions zsh > ~/.zfunc/_serin\n  serin completions fish > ~/.config/fish/completions/serin.fish"
    )]
    Completions {
        /// For which shell
        shell: CompletedShell,
    },
    /// Print the version
    Version {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The configuration, or a folder of one main file and team files; `-` reads it from standard input, once
    /// [default: serin.yaml]
    file: Option<PathBuf>,
    /// Serve without a file: send this share of all requests there. Shares that are not given are even
    #[arg(long, value_name = "NAME=URL[@PERCENT]", conflicts_with = "file")]
    to: Vec<String>,
    /// Where to listen [default: 127.0.0.1:4140]
    #[arg(long, value_name = "ADDR", requires = "to")]
    listen: Option<std::net::SocketAddr>,
    /// Print the file that says the same, and end
    #[arg(long, requires = "to")]
    print_config: bool,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Leave it running, and print what to try
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct ValidateArgs {
    /// Configurations, or folders of them; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Also say where a file and the journals of this storage folder differ; Serin may run
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How to print what is found
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
#[command(
    after_help = EXPLAIN_EXAMPLES
)]
struct ExplainArgs {
    /// The configuration, or a folder; `-` is standard input
    file: PathBuf,
    /// Label of the router; not needed if there is only one
    #[arg(long, value_name = "LABEL")]
    router: Option<String>,
    /// The logical name, instead of a request that is identified
    #[arg(long, value_name = "/svc/NAME")]
    path: Option<String>,
    /// A header of the request; may come several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Method of the request
    #[arg(long, default_value = "GET")]
    method: String,
    /// Target of the request
    #[arg(long, default_value = "/", value_name = "/PATH")]
    uri: String,
    /// Address the request comes from
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    source: String,
    /// With the shares that the journals of this storage folder say, instead of none; Serin may run
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The shells that commands are completed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CompletedShell {
    Bash,
    Fish,
    Zsh,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) => run::run(&args),
        Command::Demo(DemoArgs { keep }) => match logging::init("error") {
            Ok(()) => ExitCode::from(demo::run(keep)),
            Err(error) => usage(&error),
        },
        Command::Validate(args) => validate::validate(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Dtab { command } => dtab::dtab(command),
        Command::Rollout { command } => rollout::rollout(*command),
        Command::Schema => print(serin_config::schema::SCHEMA),
        Command::Completions { shell } => completions(shell),
        Command::Version { output } => version(output),
    }
}

/// Help, version, or what is wrong with the arguments. A mistyped command is taken for a file by the parser, so it would
/// say something of files.
fn not_parsed(error: &clap::Error) -> ExitCode {
    let is_known = |word: &PathBuf| Cli::command().find_subcommand(word).is_some();
    let first = std::env::args_os().nth(1).map(PathBuf::from).filter(|word| !is_known(word));
    match (error.kind(), first) {
        (ErrorKind::ArgumentConflict | ErrorKind::UnknownArgument, Some(word)) if run::looks_like_a_command(&word) => {
            usage(&no_command(&word.display().to_string()))
        }
        _ => error.exit(),
    }
}

/// That a word is no command, and which one may be meant.
fn no_command(word: &str) -> String {
    let cli = Cli::command();
    let names = |command: &clap::Command| {
        let names = command.get_subcommands().map(|one| one.get_name().to_owned());
        names.collect::<Vec<_>>()
    };
    let near = closest(word, names(&cli).iter().map(String::as_str)).map(str::to_owned);
    let below = |parent: &clap::Command| {
        let known = parent.get_subcommands().any(|one| one.get_name() == word);
        known.then(|| format!("{} {word}", parent.get_name()))
    };
    let meant = cli.get_subcommands().find_map(below).or(near);
    let meant = meant.map_or_else(|| "see serin --help".to_owned(), |meant| format!("did you mean `serin {meant}`?"));
    format!("`{word}` is no command and no file\nhelp: {meant}")
}

fn version(output: Output) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    print(&match output {
        Output::Text => format!("serin {version}\n"),
        Output::Json => format!("{}\n", serde_json::json!({"name": "serin", "version": version})),
    })
}

fn completions(shell: CompletedShell) -> ExitCode {
    let shell = match shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Fish => Shell::Fish,
        CompletedShell::Zsh => Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "serin", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Results go to standard output. A reader that has gone away is no failure of ours.
fn print(text: &str) -> ExitCode {
    let _reader_has_gone = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// It was understood, and it failed.
fn failed(error: &dyn Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// It was not understood.
fn usage(error: &dyn Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
