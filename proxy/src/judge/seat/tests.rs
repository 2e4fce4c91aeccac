//! Seats on a stage: a clock that only tests move, real evidence, and a journal that does what a test says.

use serin_config::dtab::NameTree;
use serin_config::model::{Judge as Mode, Strategy, Webhook};
use serin_rollout::{Answer, Arm, EventRecord, Hook, HookKind, Kind, Pace, Phase, Policy, Settings, TimestampMs};
use tokio::sync::oneshot;

use super::*;
use crate::judge::View;
use crate::judge::readiness::Presence;
use crate::storage::Recovered;

mod adopting;
mod asking;
mod durable;
mod laws;
mod running;
mod turned;

const V1: &str = "/#/clusters/v1";
const V2: &str = "/#/clusters/v2";
const V3: &str = "/#/clusters/v3";

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn percent(percent: u32) -> Ppm {
    Ppm::from_percent(percent).unwrap()
}

fn settings() -> Settings {
    Settings { interval_ms: 1_000, ..Settings::default() }
}

fn file(settings: Settings) -> model::Rollout {
    let hooks = settings.hooks.iter().map(|hook| Webhook {
        url: format!("http://127.0.0.1:1/{}", hook.name),
        timeout: std::time::Duration::from_secs(10),
        retries: 0,
        unchecked_tls: false,
        mute_alert: false,
        metadata: Vec::new(),
    });
    model::Rollout {
        name: "world".into(),
        router: "out".into(),
        path: path("/host/world"),
        primary: path(V1),
        canary: path(V2),
        revision: V2.parse().unwrap(),
        fallback: NameTree::Fail,
        hooks: hooks.collect(),
        pace: Pace::Evidence(Policy::new(settings).unwrap()),
        strategy: Strategy::Weights,
        stickiness: None,
        affinity: None,
        on_unhealthy: None,
        judge: Mode::Here,
        suspend: false,
        skip_analysis: false,
        progress_deadline: std::time::Duration::from_secs(600),
        metrics: Vec::new(),
        alerts: Vec::new(),
    }
}

/// What the journal does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    /// Writes at once.
    Good,
    /// Refuses at once.
    Full,
    /// Says nothing.
    Hung,
}

type Asked = oneshot::Receiver<Result<Arc<View>, CommandFailure>>;

struct Stage {
    seat: Seat,
    evidence: Arc<SplitEvidence>,
    now: u64,
    disk: Disk,
    presence: [Presence; 2],
    /// What was published, newest last.
    published: Vec<(u64, Routing)>,
    /// The states that are on the disk.
    durable: Vec<State>,
    /// Written, and not answered yet.
    waiting: Vec<(u64, Entry)>,
    told: Vec<Story>,
    asked: Vec<(usize, u64)>,
    assembled: u32,
    /// Requests a second, and of which share of them each arm fails.
    rps: u64,
    fails: [f64; 2],
    owed: [f64; 4],
}

impl Stage {
    fn new(file: model::Rollout) -> Self {
        Self::recovered(file, &Recovered::default())
    }

    fn recovered(file: model::Rollout, recovered: &Recovered) -> Self {
        let now = 1_000_000;
        let opening = Opening::new(&file, recovered, TimestampMs(now));
        let mut acts = Vec::new();
        let seat = Seat::new(Arc::new(file), opening, now, &mut acts);
        let evidence = Arc::new(SplitEvidence::new(1));
        let mut stage = Self {
            seat,
            evidence,
            now,
            disk: Disk::Good,
            presence: [Presence::Some; 2],
            published: Vec::new(),
            durable: recovered.last.iter().map(|entry| entry.state.clone()).collect(),
            waiting: Vec::new(),
            told: Vec::new(),
            asked: Vec::new(),
            assembled: 0,
            rps: 1_000,
            fails: [0.0; 2],
            owed: [0.0; 4],
        };
        stage.perform(acts);
        stage.link();
        stage
    }

    /// The structure has the arms that were published.
    fn link(&mut self) {
        let mut acts = Vec::new();
        let arms = self.seat.published.arms.clone();
        self.seat.link(Some((&arms, &self.evidence)), self.now, &mut acts);
        self.perform(acts);
    }

    fn share(&self) -> Ppm {
        self.seat.published.share
    }

    fn phase(&self) -> Phase {
        self.seat.rollout.state().phase
    }

    fn codes(&self) -> Vec<&'static str> {
        self.told.iter().map(|story| story.code).collect()
    }

    #[track_caller]
    fn check_told(&self, code: &str) {
        assert!(self.codes().contains(&code), "{code} is not in {:?}", self.codes());
    }

    fn perform(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Publish(routing) => {
                    self.check_published(&routing);
                    self.published.push((self.now, routing));
                }
                Act::Write(entry, ticket) => match self.disk {
                    Disk::Good => {
                        self.durable.push(entry.state);
                        self.answer(ticket, Ok(()));
                    }
                    Disk::Full => self.answer(ticket, Err("no space left".into())),
                    Disk::Hung => self.waiting.push((ticket, *entry)),
                },
                Act::AskHook(index, round) => self.asked.push((index, round)),
                Act::TellHook(index) => self.asked.push((index, 0)),
                Act::AskMetric(..) => {}
                Act::Tell(story) => self.told.push(story),
                Act::Answer(reply, answer) => {
                    reply.send(answer.map(|()| Arc::new(self.seat.view(self.now, false))));
                }
                Act::Assemble => self.assembled += 1,
            }
        }
    }

    /// The law of laws: nothing is published that a stop would forget.
    #[track_caller]
    fn check_published(&self, to: &Routing) {
        let Some((_, from)) = self.published.last() else { return };
        if is_raise(from, to) {
            let durable = self.durable.last().map_or(Ppm::ZERO, |state| durable_share(state, &to.arms.canary));
            assert!(to.share <= durable, "published {} while {durable} is durable", to.share);
        }
    }

    fn answer(&mut self, ticket: u64, result: Result<(), String>) {
        let mut acts = Vec::new();
        self.seat.written(ticket, result, self.now, &mut acts);
        self.perform(acts);
    }

    /// The disk comes back: what waits is written.
    fn heal(&mut self) {
        self.disk = Disk::Good;
        for (ticket, entry) in std::mem::take(&mut self.waiting) {
            self.durable.push(entry.state);
            self.answer(ticket, Ok(()));
        }
    }

    /// Ten milliseconds of traffic, and what the thread does about them.
    fn turn(&mut self) {
        self.now += 10;
        let drawn = self.rps as f64 / 100.0;
        let share = self.share().fraction();
        for (at, (arm, part)) in [(Arm::Canary, share), (Arm::Primary, 1.0 - share)].into_iter().enumerate() {
            self.owed[at] += drawn * part;
            while self.owed[at] >= 1.0 {
                self.owed[at] -= 1.0;
                self.owed[2 + at] += self.fails[at];
                let failed = self.owed[2 + at] >= 1.0;
                self.owed[2 + at] -= if failed { 1.0 } else { 0.0 };
                self.request(arm, failed);
            }
        }
        let mut acts = Vec::new();
        if self.seat.next_look().is_some_and(|at| at <= self.now) {
            self.seat.read();
            self.seat.look(self.now, &mut acts);
        }
        if self.seat.next_journal().is_some_and(|at| at <= self.now) {
            self.seat.mind_journal(self.now, &mut acts);
        }
        if self.seat.is_tick_due(self.now) {
            self.seat.read();
            self.seat.interval(self.presence, self.now, &mut acts);
        }
        self.perform(acts);
    }

    fn request(&mut self, arm: Arm, failed: bool) {
        let tally = self.evidence.tally(0);
        tally.routed(arm, u64::MAX);
        tally.head(arm, 10_000);
        if failed {
            tally.failed(arm);
            self.event(arm, Kind::Failure);
        }
        self.evidence.tally(0).completed(arm);
    }

    fn event(&mut self, arm: Arm, kind: Kind) {
        let routed_at = TimestampMs(self.now);
        let record = EventRecord { arm, share: self.share(), routed_at, kind, key: None, randomised: true };
        self.seat.observe(record, 1);
    }

    /// Turns until this holds; how many milliseconds that took.
    #[track_caller]
    fn until(&mut self, what: &str, limit_s: u64, done: impl Fn(&Stage) -> bool) -> u64 {
        let from = self.now;
        while !done(self) {
            assert!(
                self.now - from < limit_s * 1_000,
                "no {what} within {limit_s} s: {:?}\n{:#?}",
                self.codes(),
                self.seat.rollout.state()
            );
            self.turn();
        }
        self.now - from
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.turn();
        }
    }

    fn command(&mut self, command: &Command) -> Asked {
        let (reply, asked) = oneshot::channel();
        let mut acts = Vec::new();
        self.seat.command(command, ("ann", "because"), Reply(reply), self.now, &mut acts);
        self.perform(acts);
        asked
    }

    fn take_file(&mut self, file: model::Rollout) {
        let mut acts = Vec::new();
        self.seat.take_file(Arc::new(file), self.now, &mut acts);
        self.perform(acts);
    }
}

/// What this state allows a name: all, if it was promoted last.
fn durable_share(state: &State, canary: &Path) -> Ppm {
    let promoted = state.promoted.as_ref().and_then(wanted::path_of);
    if promoted.as_ref() == Some(canary) { Ppm::WHOLE } else { state.canary_share() }
}

/// What was answered to a command; it must have been.
#[track_caller]
fn answered(mut asked: Asked) -> Result<Arc<View>, CommandFailure> {
    asked.try_recv().expect("no answer yet")
}

#[track_caller]
fn check_silent(asked: &mut Asked) {
    assert!(matches!(asked.try_recv(), Err(oneshot::error::TryRecvError::Empty)), "answered too early");
}
