//! The judge: a thread of its own that sees what the workers tell of rollouts, decides by `serin_rollout`, and moves the
//! shares. It does no IO.
//!
//! # Order
//! What lowers the canary's share is published first and written down afterwards; what raises it is durable first. A
//! raise that waits for the journal stops nothing: looks go on, and a rollback overtakes it. Alerts, hooks and metrics
//! hear of it after it is in force.
//!
//! # Looks and ticks
//! The workers wake the thread after an event of a canary; it looks at that rollout within [`LOOK_MS`] at most, and
//! within a few milliseconds usually. Everything under way is looked at every [`LOOK_MS`]. Once an interval a rollout
//! has a *round*: hooks and metric providers are asked, and when all have answered or their time is over, the state
//! machine gets its tick. Without a rollout the thread sleeps until somebody calls.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::Thread;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use serin_config::model::Config;
use serin_metrics::Metrics;
use serin_rollout::{Command, CommandError, Entry};
use tokio::sync::{broadcast, oneshot};

use crate::endpoints::EndpointTable;
use crate::evidence::Records;
use crate::outside::{Answered, Outside};
use crate::snapshot::World;
use crate::storage::{HistoryReader, Scribe, Written};

mod chronicle;
mod court;
mod own;
mod readiness;
mod rounds;
mod samples;
mod seat;
mod story;
pub mod view;
mod wanted;

pub(crate) use seat::is_other_traffic;
pub use seat::{LOOK_MS, Opening};
pub use view::{ArmView, EvidenceView, Told, View};

use chronicle::Chronicle;
use court::{Court, Doors};

/// Events that are kept for who comes late.
pub const RECENT_MAX: usize = 256;
/// Events that a slow listener may be behind before it misses some.
const LISTENER_MAX: usize = 1_024;
/// Messages to the thread that may wait.
const INBOX_MAX: usize = 4_096;
/// Between two tries to leave a command with a busy thread, and how many there are.
const BUSY_WAIT: Duration = Duration::from_millis(10);
const BUSY_TRIES: u32 = 100;
/// How long a configuration waits to be shown.
const ADOPT_WAIT: Duration = Duration::from_secs(2);
/// How long an end waits for the thread.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// What the judge needs of the process.
pub struct JudgeSeed {
    /// What it moves.
    pub world: Arc<World>,
    /// Where arms are asked for.
    pub endpoints: Arc<EndpointTable>,
    /// What the workers tell.
    pub records: Arc<Records>,
    /// What it counts in.
    pub metrics: Arc<Metrics>,
    /// Asks for the structure to be made again, where its arms are not those that a rollout wants. Must not block.
    pub assemble: Box<dyn Fn() + Send>,
}

impl fmt::Debug for JudgeSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JudgeSeed").finish_non_exhaustive()
    }
}

/// A configuration that was published, for the judge.
#[derive(Debug)]
pub struct Adoption {
    /// It.
    pub config: Arc<Config>,
    /// What journals say of rollouts that the configuration before did not have.
    pub openings: HashMap<Arc<str>, Opening>,
    /// The journals' writer, with the first configuration that needs one.
    pub scribe: Option<Scribe>,
    /// Reads journals beside their writer, likewise.
    pub reader: Option<HistoryReader>,
    /// The way outside, likewise.
    pub outside: Option<Outside>,
    /// Whether nothing outlives the process.
    pub memory: bool,
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandFailure {
    /// No rollout has this name.
    #[error("no rollout of this name")]
    Unknown {
        /// Those that have one.
        known: Vec<String>,
    },
    /// It means nothing now.
    #[error(transparent)]
    Refused(CommandError),
    /// The journal cannot be written, and without it the weight does not rise.
    #[error("not written down, so not done: {0}")]
    NotDurable(String),
    /// The file says `judge: off`: a person may set the weight, promote and abort.
    #[error("another process judges this rollout: here only weight, promote and abort mean something")]
    NotHere,
    /// Traffic would go to an arm without any endpoint, while the other one has some.
    #[error("it would send traffic to a version that has no endpoint")]
    NoEndpoint,
    /// Another revision than the one that the file names.
    #[error("the file names {canary}: another revision is begun by changing the file")]
    NotInFile {
        /// The file's revision.
        canary: String,
    },
    /// The process is about to end, or the thread does not keep up.
    #[error("the judge does not answer: the process is ending")]
    Gone,
}

/// Who waits for an answer to a command.
pub(crate) struct Reply(oneshot::Sender<Result<Arc<View>, CommandFailure>>);

impl Reply {
    fn send(self, answer: Result<Arc<View>, CommandFailure>) {
        // who asked may have gone
        let _gone = self.0.send(answer);
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

enum Message {
    Adopt(Box<Adoption>, SyncSender<()>),
    Command { name: Arc<str>, command: Command, who: String, why: String, reply: Reply },
    Written(Written),
    Answered(Answered),
    Stop(SyncSender<()>),
}

/// What the thread shows.
struct Shared {
    views: ArcSwap<Vec<Arc<View>>>,
    recent: ArcSwap<VecDeque<Arc<Told>>>,
    events: broadcast::Sender<Arc<Told>>,
    reader: ArcSwapOption<HistoryReader>,
}

/// The handle of the thread.
#[derive(Clone)]
pub struct Judge {
    shared: Arc<Shared>,
    inbox: SyncSender<Message>,
    thread: Thread,
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").field("rollouts", &self.shared.views.load().len()).finish_non_exhaustive()
    }
}

/// A thread that is not there yet, for the workers to wake.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<std::sync::OnceLock<Thread>>);

impl Waker {
    /// Wakes it, once it is there. Never blocks.
    pub fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// Starts the thread; it has no rollout yet. `waker`: what [`Records`] calls.
///
/// # Errors
/// The system has no thread left.
pub fn start(seed: JudgeSeed, waker: &Waker) -> std::io::Result<Judge> {
    let (inbox, received) = sync_channel(INBOX_MAX);
    let (events, _) = broadcast::channel(LISTENER_MAX);
    let shared = Arc::new(Shared {
        views: ArcSwap::default(),
        recent: ArcSwap::default(),
        events,
        reader: ArcSwapOption::empty(),
    });
    let JudgeSeed { world, endpoints, records, metrics, assemble } = seed;
    let doors = Doors { world, endpoints, records, metrics, assemble };
    let court_shared = Arc::clone(&shared);
    let world = Arc::clone(&doors.world);
    let chronicle = Chronicle::start(chronicle::log)?;
    let run = move |received: Receiver<Message>| {
        let life = AssertUnwindSafe(|| Court::new(doors, court_shared, chronicle).run(&received));
        // what it knew is gone, and what it published must not stay without a judge
        if std::panic::catch_unwind(life).is_err() {
            world.abandon_canaries();
            tracing::error!("the judge broke: canaries get nothing until the next start of the process");
        }
    };
    let thread = std::thread::Builder::new().name("serin-judge".into()).spawn(move || run(received))?.thread().clone();
    // only the first thread of a waker is woken
    let _first = waker.0.set(thread.clone());
    Ok(Judge { shared, inbox, thread })
}

impl Judge {
    /// All rollouts, sorted by name.
    pub fn views(&self) -> Arc<Vec<Arc<View>>> {
        self.shared.views.load_full()
    }

    /// The last [`RECENT_MAX`] things that happened, oldest first.
    pub fn recent(&self) -> Vec<Arc<Told>> {
        self.shared.recent.load().iter().cloned().collect()
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Told>> {
        self.shared.events.subscribe()
    }

    /// The last entries of a rollout's journal, at most `max`, oldest first. Reads from a disk: not for the request path.
    pub fn history(&self, name: &str, max: usize) -> Vec<Entry> {
        self.shared.reader.load_full().map_or_else(Vec::new, |reader| reader.history(name, max))
    }

    /// Does what a person asks, and answers when it is in force. `who` and `why` are recorded.
    ///
    /// # Errors
    /// See [`CommandFailure`]; then nothing has changed.
    pub async fn command(
        &self,
        name: &str,
        command: Command,
        who: &str,
        why: &str,
    ) -> Result<Arc<View>, CommandFailure> {
        let (reply, answer) = oneshot::channel();
        let (who, why) = (who.to_owned(), why.to_owned());
        let mut message = Message::Command { name: name.into(), command, who, why, reply: Reply(reply) };
        for _ in 0..BUSY_TRIES {
            match self.inbox.try_send(message) {
                Ok(()) => {
                    self.thread.unpark();
                    return answer.await.unwrap_or(Err(CommandFailure::Gone));
                }
                Err(TrySendError::Full(back)) => message = back,
                Err(TrySendError::Disconnected(_)) => return Err(CommandFailure::Gone),
            }
            tokio::time::sleep(BUSY_WAIT).await;
        }
        Err(CommandFailure::Gone)
    }

    /// Takes a configuration that was published, and comes back when its rollouts are shown: after moments, as the thread
    /// waits for nothing. Control thread only.
    pub fn adopt(&self, adoption: Adoption) {
        let (done, shown) = sync_channel(1);
        self.send(Message::Adopt(Box::new(adoption), done));
        if shown.recv_timeout(ADOPT_WAIT).is_err() {
            tracing::warn!("the judge is slow to take up the configuration");
        }
    }

    /// For [`Scribe::start`]: brings the journal's answers here.
    pub fn written(&self) -> Box<dyn Fn(Written) + Send> {
        let judge = self.clone();
        Box::new(move |written| judge.send(Message::Written(written)))
    }

    /// For [`Outside::start`]: brings answers from outside here.
    pub fn answered(&self) -> Box<dyn Fn(Answered) + Send + Sync> {
        let judge = self.clone();
        Box::new(move |answered| judge.send(Message::Answered(answered)))
    }

    /// Ends the thread: it writes down where every rollout stands, and waits for the journals, but not for ever.
    pub fn stop(&self) {
        let (done, ended) = sync_channel(1);
        self.send(Message::Stop(done));
        if ended.recv_timeout(STOP_WAIT).is_err() {
            tracing::warn!("the judge does not end");
        }
    }

    /// The thread takes what is in its inbox without ever waiting for a sender, so this waits for moments at most.
    fn send(&self, message: Message) {
        // a judge that is gone needs nothing
        let _gone = self.inbox.send(message);
        self.thread.unpark();
    }
}
