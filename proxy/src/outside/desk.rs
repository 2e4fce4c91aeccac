//! The loop of the thread: takes jobs, keeps one of each lane running.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serin_rollout::{Answer, Reading};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};

use super::alert::{Outcome, Recent};
use super::aws::Aws;
use super::http::Clients;
use super::{Answered, Counters, Job, JobKind, LANES_MAX, WAITING_MAX, alert, hook};
use crate::clock;

/// How long is waited between tries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    pub(super) retry_wait_min: Duration,
    pub(super) retry_wait_max: Duration,
}

/// Flagger's waits.
impl Default for Tuning {
    fn default() -> Self {
        Self { retry_wait_min: Duration::from_secs(1), retry_wait_max: Duration::from_secs(30) }
    }
}

/// What the loop knows.
pub(super) struct Desk {
    lanes: HashMap<Lane, VecDeque<Job>>,
    running: JoinSet<()>,
    lane_of: HashMap<Id, Lane>,
    cx: Arc<Context>,
}

/// What every job uses.
pub(super) struct Context {
    clients: Arc<Clients>,
    aws: Aws,
    tuning: Tuning,
    recent: Recent,
    told: Box<dyn Fn(Answered) + Send + Sync>,
    counts: Arc<Counters>,
}

/// One thing at a time for each of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Alert(String),
    Event(String),
    Hook(Arc<str>, usize),
    Metric(Arc<str>, usize),
}

impl Desk {
    pub(super) fn new(
        tuning: Tuning,
        told: Box<dyn Fn(Answered) + Send + Sync>,
        counts: Arc<Counters>,
    ) -> io::Result<Self> {
        let clients = Arc::new(Clients::new());
        let aws = Aws::new(Arc::clone(&clients));
        let cx = Context { clients, aws, tuning, recent: Recent::default(), told, counts };
        Ok(Self { lanes: HashMap::new(), running: JoinSet::new(), lane_of: HashMap::new(), cx: Arc::new(cx) })
    }

    /// Until nobody holds the other end of `jobs`.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        loop {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => self.take(job),
                    None => return,
                },
                Some(ended) = self.running.join_next_with_id() => {
                    self.next(match ended {
                        Ok((id, ())) => id,
                        Err(error) => error.id(),
                    });
                }
            }
        }
    }

    fn take(&mut self, job: Job) {
        let lane = job.lane();
        let Some(waiting) = self.lanes.get_mut(&lane) else {
            if self.lanes.len() == LANES_MAX {
                return self.cx.turn_away(job);
            }
            self.lanes.insert(lane.clone(), VecDeque::new());
            return self.start(lane, job);
        };
        if waiting.len() == job.waiting_max() {
            // Its asker has gone on to a newer round, or there is too much to tell: what is newest matters most.
            waiting.pop_front();
            self.cx.counts.of(job.kind()).dropped.fetch_add(1, Ordering::Relaxed);
        }
        waiting.push_back(job);
    }

    fn start(&mut self, lane: Lane, job: Job) {
        let cx = Arc::clone(&self.cx);
        let task = self.running.spawn(async move { cx.work(job).await });
        self.lane_of.insert(task.id(), lane);
    }

    /// The job of this task is over: the lane's next one, or the end of the lane.
    fn next(&mut self, ended: Id) {
        let Some(lane) = self.lane_of.remove(&ended) else { return };
        match self.lanes.get_mut(&lane).and_then(VecDeque::pop_front) {
            Some(job) => self.start(lane, job),
            None => {
                self.lanes.remove(&lane);
            }
        }
    }
}

impl Context {
    async fn work(&self, job: Job) {
        let began = clock::now_ms();
        let kind = job.kind();
        let done = match job {
            Job::Hook { ticket, hook, name, kind, payload } => {
                let (answer, why) = hook::ask(&self.clients, &self.tuning, &hook, hook::body(&payload, &hook)).await;
                tracing::debug!(rollout = %ticket.rollout, hook = name, ?kind, ?answer, why, "hook answered");
                let took_ms = clock::now_ms().saturating_sub(began);
                (self.told)(Answered::Hook { ticket, answer, why, took_ms });
                true
            }
            Job::Metric { ticket, source } => {
                let (reading, why) = source.ask(&self.clients, &self.aws, clock::unix_ms()).await;
                tracing::debug!(rollout = %ticket.rollout, metric = ticket.index, ?reading, why, "metric answered");
                let took_ms = clock::now_ms().saturating_sub(began);
                (self.told)(Answered::Metric { ticket, reading, why, took_ms });
                reading != Reading::ProviderError
            }
            Job::Alert { provider, least, alert } => {
                match alert::tell(&self.clients, &self.tuning, &self.recent, &provider, least, &alert).await {
                    Outcome::Sent => true,
                    Outcome::Failed => false,
                    Outcome::NotSent => return,
                }
            }
            Job::Event { hook, payload } => {
                let body = hook::event_body(&payload, &hook);
                let (answer, why) = hook::ask(&self.clients, &self.tuning, &hook, body).await;
                if answer != Answer::Passed {
                    tracing::warn!(rollout = payload.hook.name, why, "event hook failed");
                }
                answer == Answer::Passed
            }
        };
        let counter = self.counts.of(kind);
        let counter = if done { &counter.done } else { &counter.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// No lane is left for it.
    fn turn_away(&self, job: Job) {
        self.counts.of(job.kind()).dropped.fetch_add(1, Ordering::Relaxed);
        let why = format!("not asked: {LANES_MAX} others are being asked");
        match job {
            Job::Hook { ticket, .. } => {
                (self.told)(Answered::Hook { ticket, answer: Answer::Pending, why, took_ms: 0 })
            }
            Job::Metric { ticket, .. } => {
                (self.told)(Answered::Metric { ticket, reading: Reading::ProviderError, why, took_ms: 0 });
            }
            Job::Alert { provider, .. } => tracing::warn!(provider = provider.name, why, "alert lost"),
            Job::Event { payload, .. } => tracing::warn!(rollout = payload.hook.name, why, "event hook failed"),
        }
    }
}

impl Job {
    /// Its kind.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Alert { .. } => JobKind::Alert,
            Self::Hook { .. } => JobKind::Hook,
            Self::Metric { .. } => JobKind::Metric,
            Self::Event { .. } => JobKind::Event,
        }
    }

    fn lane(&self) -> Lane {
        match self {
            Self::Alert { provider, .. } => Lane::Alert(provider.name.clone()),
            Self::Metric { ticket, .. } => Lane::Metric(Arc::clone(&ticket.rollout), ticket.index),
            Self::Hook { ticket, .. } => Lane::Hook(Arc::clone(&ticket.rollout), ticket.index),
            Self::Event { hook, .. } => Lane::Event(hook.url.clone()),
        }
    }

    fn waiting_max(&self) -> usize {
        match self {
            Self::Hook { .. } | Self::Metric { .. } => 1,
            Self::Alert { .. } | Self::Event { .. } => WAITING_MAX,
        }
    }
}
