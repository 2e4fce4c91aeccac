//! The control plane: one thread that reads the file, watches it, resolves names, and is the only writer of snapshots.
//!
//! [`start`] does everything that can fail before it returns: a [`Running`] proxy has read its file, bound every
//! listener and is ready. The loop behind it feeds [`crate::world`] with what happens and does what that decides.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use serin_config::dtab::{SplitId, Weight};
use serin_metrics::Metrics;
use tokio::sync::mpsc;

use crate::endpoints::EndpointTable;
use crate::judge::Judge;
use crate::resolve::DnsConfig;
use crate::snapshot::World;
use crate::world::{Event, Signal, Status};

mod doors;
mod engine;
mod folder;
mod reading;
mod reload;
mod rollouts;
mod setup;
mod signals;
mod sockets;
mod teams;

pub use folder::{FOLDER_ENTRIES_MAX, Files, MAIN_FILE};
pub(crate) use reading::read_capped;
pub use reading::{LastGood, Loaded, ReadError, load, main_text, parse, parse_files, read, text};
#[cfg(test)]
pub(crate) use sockets::admin as admin_socket;
pub use teams::{TeamBoard, TeamStatus};

/// Commands from outside that may wait for the control thread.
const COMMANDS_MAX: usize = 16;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// A file that is watched.
    File(PathBuf),
    /// A folder that is watched: one main file, and one for each team.
    Folder(PathBuf),
    /// A text that never changes, from standard input or made by a command.
    Text {
        /// What diagnostics call it.
        name: String,
        /// YAML.
        text: String,
    },
}

/// How to start.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The configuration.
    pub source: ConfigSource,
    /// Admin address that wins over the file.
    pub admin: Option<SocketAddr>,
    /// Bearer token that opens the admin pages to peers that are not on loopback.
    pub token: Option<String>,
    /// Which DNS servers to ask.
    pub dns: DnsConfig,
    /// React to SIGHUP, SIGINT and SIGTERM: for the program that is nothing but Serin.
    pub signals: bool,
}

impl StartOptions {
    /// Serin inside another program: no environment, no signals.
    pub fn embedded(source: ConfigSource) -> Self {
        Self { source, admin: None, token: None, dns: DnsConfig::default(), signals: false }
    }

    /// The program itself: `SERIN_ADMIN`, `SERIN_DNS` and `SERIN_TOKEN` count, and signals do.
    ///
    /// # Errors
    /// A variable is set to what means nothing.
    pub fn from_env(source: ConfigSource) -> Result<Self, StartupError> {
        let token = std::env::var("SERIN_TOKEN").ok().filter(|token| !token.is_empty());
        let dns = address("SERIN_DNS")?.map_or_else(DnsConfig::default, DnsConfig::server);
        Ok(Self { admin: address("SERIN_ADMIN")?, dns, token, signals: true, source })
    }
}

/// Why nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The file has mistakes; the text shows each with line and caret.
    #[error("{0}")]
    Config(String),
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An address is taken, or not ours.
    #[error("{0}")]
    Listen(String),
    /// `storage` cannot be used, and there are rollouts.
    #[error("cannot use `storage`: {0}")]
    Storage(#[from] crate::storage::StorageError),
    /// The system refuses a thread, a descriptor or a signal handler.
    #[error("the system refuses {what}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// An environment variable holds no `ip:port`.
    #[error("{name}=`{value}` is not an address: write ip:port, such as 127.0.0.1:9990")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it holds.
        value: String,
    },
}

impl StartupError {
    /// For `map_err`: the system refuses `what`.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::System { what, cause }
    }
}

/// A proxy that serves. Dropping it does not stop it; [`Running::stop`] does.
#[derive(Debug)]
pub struct Running {
    /// Label of the router and bound address of each listener, in the order of the file at the start.
    pub addresses: Vec<(String, SocketAddr)>,
    /// Bound address of the admin listener at the start.
    pub admin: SocketAddr,
    /// The snapshots.
    pub world: Arc<World>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The bound names.
    pub endpoints: Arc<EndpointTable>,
    /// Who judges the rollouts.
    pub judge: Judge,
    status: Arc<ArcSwap<Status>>,
    commands: mpsc::Sender<Event>,
    thread: JoinHandle<u8>,
}

impl Running {
    /// Asks for a polite end; the second call cuts what still runs.
    pub fn stop(&self) {
        self.command(Event::Signal(Signal::Stop));
    }

    /// Asks for the file to be read again even if its bytes are equal.
    pub fn reload(&self) {
        self.command(Event::Signal(Signal::Reload));
    }

    /// Asks for other weights of one split of the structure in force, by branch as written. Nothing else is rebuilt.
    pub fn set_weights(&self, split: SplitId, weights: &[Weight]) {
        self.command(Event::Weights { split, weights: weights.into() });
    }

    /// What the admin pages show.
    pub fn status(&self) -> Arc<Status> {
        self.status.load_full()
    }

    /// Waits for the end; 0 is a good one.
    pub fn wait(self) -> u8 {
        // a panicked control thread is no good end
        self.thread.join().unwrap_or(1)
    }

    fn command(&self, event: Event) {
        if self.commands.try_send(event).is_err() {
            tracing::warn!("the control thread does not keep up, or has ended: a command is lost");
        }
    }
}

/// Starts a proxy on threads of its own and returns once it is ready.
///
/// # Errors
/// Nothing is left running then.
pub fn start(options: StartOptions) -> Result<Running, StartupError> {
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    let (commands, received) = mpsc::channel(COMMANDS_MAX);
    let builder = std::thread::Builder::new().name("serin-control".into());
    let thread =
        builder.spawn(move || engine::run(&options, received, &ready)).map_err(StartupError::system("a thread"))?;
    let lost = || StartupError::System { what: "a control thread that lives", cause: std::io::ErrorKind::Other.into() };
    let facts = started.recv().map_err(|_| lost())??;
    let engine::Facts { addresses, admin, world, metrics, endpoints, judge, status } = facts;
    Ok(Running { addresses, admin, world, metrics, endpoints, judge, status, commands, thread })
}

fn address(name: &'static str) -> Result<Option<SocketAddr>, StartupError> {
    let Ok(value) = std::env::var(name) else { return Ok(None) };
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| StartupError::Variable { name, value })
}
