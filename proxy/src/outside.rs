//! Whom rollouts ask and tell beyond this process: webhooks, metric providers, alert providers.
//!
//! # A thread of its own
//! One thread with a runtime and HTTP clients of its own does all of it, so that nothing out there can delay the judge, a
//! worker or the control thread. What is to be done is handed over by [`Outside::submit`], which never waits; answers
//! come back through the callback given to [`Outside::start`].
//!
//! # Lanes
//! Each hook and each metric of a rollout, each alert provider and each address told of events has a lane: one job of a
//! lane runs at a time, so a peer that hangs holds up only itself. Of asks that wait in a lane only the newest is kept;
//! of alerts and events the newest [`WAITING_MAX`]. What is thrown away is counted in [`Outside::counts`].
//!
//! # Careful with peers
//! Every try has a deadline, and no answer is read beyond [`BODY_OCTETS_MAX`]. Redirects are not followed: a login page
//! behind one must not open a gate. Compressed answers are not asked for. No HTTP proxy of the environment is used.
//! What is told of a failure names no secret: addresses lose user, query, and, for alert providers, the path.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serin_config::model::{AlertProvider, Config, Credentials, MetricKind, MetricTemplate, Webhook};
use serin_rollout::event::Severity;
use serin_rollout::{Answer, HookKind, Reading};
use tokio::sync::mpsc;

mod alert;
#[cfg(feature = "aws")]
mod aws;
#[cfg(not(feature = "aws"))]
#[path = "outside/aws_off.rs"]
mod aws;
mod date;
mod desk;
mod hook;
mod http;
mod query;
mod secret;
mod tls;

#[cfg(test)]
mod tests;

pub use alert::{ALERT_REPEAT_AFTER_MS, ALERT_RETRIES, ALERT_TIMEOUT, AlertMessage};
pub use hook::{EventPayload, HookPayload, checksum};
pub use http::BODY_OCTETS_MAX;
pub use query::{QUERY_TIMEOUT, Query};

use desk::{Desk, Tuning};

/// Jobs handed over and not yet looked at.
pub const QUEUE_MAX: usize = 1024;
/// Lanes with work at one moment.
pub const LANES_MAX: usize = 1024;
/// Alerts or events that wait in one lane.
pub const WAITING_MAX: usize = 64;

/// The handle of the thread. The thread ends soon after the last handle is gone; what runs then is abandoned.
#[derive(Clone, Debug)]
pub struct Outside {
    queue: mpsc::Sender<Job>,
    counts: Arc<Counters>,
}

/// Something to be done out there.
#[derive(Clone, Debug)]
pub enum Job {
    /// A hook is asked; [`Answered::Hook`] says what it said.
    Hook {
        /// Who asks.
        ticket: Ticket,
        /// Whom.
        hook: Arc<Webhook>,
        /// The hook's name, for logs.
        name: String,
        /// When it is asked.
        kind: HookKind,
        /// What it is told.
        payload: HookPayload,
    },
    /// A metric provider is asked; [`Answered::Metric`] says what it said.
    Metric {
        /// Who asks.
        ticket: Ticket,
        /// What, and whom.
        source: Arc<Query>,
    },
    /// An alert provider is told; nothing comes back.
    Alert {
        /// Whom.
        provider: Arc<AlertProvider>,
        /// The least that it wants to hear; what is below is not sent (an alertmanager still learns that trouble is over).
        least: Severity,
        /// What.
        alert: AlertMessage,
    },
    /// A hook of kind `event` is told; nothing comes back.
    Event {
        /// Whom.
        hook: Arc<Webhook>,
        /// What it is told.
        payload: EventPayload,
    },
}

/// Who asked, so that the answer finds its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The rollout's name.
    pub rollout: Arc<str>,
    /// Counts the asker's rounds; an answer to an old one is of no use any more.
    pub round: u64,
    /// Which hook or metric of the rollout, in the plan's order.
    pub index: usize,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Answered {
    /// From a hook, after all its tries.
    Hook {
        /// Of the ask.
        ticket: Ticket,
        /// Every 2xx passes; all else, silence included, refuses. Pending: it was not asked, for lack of room.
        answer: Answer,
        /// Status and the beginning of the answer, or what went wrong; one line of at most [`WHY_OCTETS_MAX`].
        why: String,
        /// From the first try to the end of the last, milliseconds.
        took_ms: u64,
    },
    /// From a metric provider.
    Metric {
        /// Of the ask.
        ticket: Ticket,
        /// What was measured.
        reading: Reading,
        /// What went wrong, or where the value comes from; one line of at most [`WHY_OCTETS_MAX`].
        why: String,
        /// Milliseconds.
        took_ms: u64,
    },
}

/// Why this build cannot do what a legal configuration asks of the outside; `None`: it can.
pub fn refusal(config: &Config) -> Option<String> {
    let signed = |template: &MetricTemplate| {
        template.kind == MetricKind::CloudWatch || template.credentials == Credentials::SigV4
    };
    let template =
        config.metric_templates.iter().find(|template| signed(template)).filter(|_| !cfg!(feature = "aws"))?;
    Some(format!("metric template `{}` cannot be asked: {WITHOUT_AWS}", template.name))
}

const WITHOUT_AWS: &str = "this Serin was built without the feature `aws`, so it cannot sign requests for Amazon";

/// Longest text that goes with an answer.
pub const WHY_OCTETS_MAX: usize = 1024;

/// Kinds of jobs, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants of Job")]
pub enum JobKind {
    Alert,
    Event,
    Hook,
    Metric,
}

/// Totals of one kind of job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Done, and the peer took it: a hook that refuses has answered too.
    pub done: u64,
    /// Given up after the last try.
    pub failed: u64,
    /// Never tried: something was full, or something newer took its place.
    pub dropped: u64,
}

impl Outside {
    /// Starts the thread. `told` is called on it with each answer and must not block.
    ///
    /// # Errors
    /// The thread, its runtime or the HTTP client cannot be made.
    pub fn start(told: Box<dyn Fn(Answered) + Send + Sync>) -> io::Result<Self> {
        Self::start_with(Tuning::default(), told)
    }

    fn start_with(tuning: Tuning, told: Box<dyn Fn(Answered) + Send + Sync>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()?;
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let counts = Arc::new(Counters::default());
        let desk = Desk::new(tuning, told, Arc::clone(&counts))?;
        std::thread::Builder::new().name("outside".into()).spawn(move || {
            runtime.block_on(desk.run(jobs));
            // A file that hangs must not keep the thread.
            runtime.shutdown_background();
        })?;
        Ok(Self { queue, counts })
    }

    /// Hands a job over. Never blocks. `false`: the queue is full or the thread is gone; the job is lost, and counted.
    pub fn submit(&self, job: Job) -> bool {
        let kind = job.kind();
        let taken = self.queue.try_send(job).is_ok();
        if !taken {
            self.counts.of(kind).dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// [`Self::counts`] of every kind, as metrics have them: kind, result, total.
    pub fn totals(&self) -> Vec<(&'static str, &'static str, u64)> {
        let of = |kind: JobKind| {
            let Counts { done, failed, dropped } = self.counts(kind);
            [("done", done), ("failed", failed), ("dropped", dropped)]
                .map(|(result, total)| (kind.as_str(), result, total))
        };
        JobKind::ALL.into_iter().flat_map(of).collect()
    }

    /// What became of the jobs of one kind since the start.
    pub fn counts(&self, kind: JobKind) -> Counts {
        let of = self.counts.of(kind);
        Counts {
            done: of.done.load(Ordering::Relaxed),
            failed: of.failed.load(Ordering::Relaxed),
            dropped: of.dropped.load(Ordering::Relaxed),
        }
    }
}

impl JobKind {
    /// Every kind, in declaration order.
    pub const ALL: [Self; 4] = [Self::Alert, Self::Event, Self::Hook, Self::Metric];

    /// A label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Event => "event",
            Self::Hook => "hook",
            Self::Metric => "metric",
        }
    }
}

/// Reading a secret from a file is all that blocks.
const BLOCKING_THREADS_MAX: usize = 16;

#[derive(Debug, Default)]
struct Counters([Counter; JobKind::ALL.len()]);

#[derive(Debug, Default)]
struct Counter {
    done: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    fn of(&self, kind: JobKind) -> &Counter {
        &self.0[kind as usize]
    }
}
