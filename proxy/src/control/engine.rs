//! The loop of the control thread: what happens goes into [`crate::world`], what that decides is done here.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use serin_metrics::Metrics;
use tokio::runtime::Builder;
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;
use tokio::time::{Interval, MissedTickBehavior, Sleep};

use super::folder::Files;
use super::reload::{Folders, Sockets};
use super::rollouts::Journals;
use super::signals::{self, Signals};
use super::teams::Teams;
use super::{ConfigSource, StartOptions, StartupError, setup};
use crate::admin::AdminHandle;
use crate::endpoints::EndpointTable;
use crate::judge::Judge;
use crate::resolve::Resolver;
use crate::snapshot::World;
use crate::world::{Control, Effect, Event, Stage, Status, Timer};

/// Between two looks at the worker threads while they serve.
const LOOK_SERVING: Duration = Duration::from_secs(1);
/// The same while they leave.
const LOOK_LEAVING: Duration = Duration::from_millis(10);

/// What a started proxy tells whoever started it.
#[derive(Clone)]
pub(super) struct Facts {
    pub(super) addresses: Vec<(String, SocketAddr)>,
    pub(super) admin: SocketAddr,
    pub(super) world: Arc<World>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) endpoints: Arc<EndpointTable>,
    pub(super) judge: Judge,
    pub(super) status: Arc<ArcSwap<Status>>,
}

/// The control thread from its first to its last moment. Returns the exit code.
pub(super) fn run(
    options: &StartOptions,
    commands: mpsc::Receiver<Event>,
    ready: &SyncSender<Result<Facts, StartupError>>,
) -> u8 {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => return give_up(ready, StartupError::System { what: "a runtime", cause }),
    };
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        // before anything that takes time: a signal that comes early is kept
        let signals = match options.signals.then(Signals::install).transpose() {
            Ok(signals) => signals,
            Err(cause) => return give_up(ready, StartupError::System { what: "signal handlers", cause }),
        };
        let mut engine = match setup::setup(options) {
            Ok(engine) => engine,
            Err(error) => return give_up(ready, error),
        };
        engine.watch();
        engine.log_ready();
        // nobody listens only if whoever started us is gone; then signals still end us
        let _nobody_listens = ready.send(Ok(engine.facts.clone()));
        let code = engine.serve(signals, commands).await;
        engine.facts.judge.stop();
        engine.admin.stop();
        engine.sockets.doors.stop();
        code
    })
}

fn give_up(ready: &SyncSender<Result<Facts, StartupError>>, error: StartupError) -> u8 {
    let _nobody_listens = ready.send(Err(error));
    1
}

/// Everything the control thread owns.
pub(super) struct Engine {
    pub(super) source: ConfigSource,
    pub(super) admin_override: Option<SocketAddr>,
    /// The files that serve.
    pub(super) serving: Files,
    /// The files as last read, if they were refused.
    pub(super) refused: Option<Files>,
    pub(super) teams: Teams,
    pub(super) control: Control,
    pub(super) facts: Facts,
    pub(super) resolver: Resolver,
    pub(super) sockets: Sockets,
    pub(super) journals: Journals,
    /// The judge wants the structure made again.
    pub(super) rearm: Arc<Notify>,
    pub(super) admin: AdminHandle,
    pub(super) workers: Vec<JoinHandle<()>>,
    pub(super) folders: Folders,
    /// Names of an earlier configuration still serve.
    pub(super) retiring: bool,
    timer: Option<(Timer, Pin<Box<Sleep>>)>,
    exit: Option<u8>,
}

impl Engine {
    #[expect(clippy::too_many_arguments, reason = "called once, by the function that makes all of these")]
    pub(super) fn new(
        options: &StartOptions,
        serving: Files,
        control: Control,
        facts: Facts,
        resolver: Resolver,
        sockets: Sockets,
        (journals, teams, rearm): (Journals, Teams, Arc<Notify>),
        admin: AdminHandle,
        workers: Vec<JoinHandle<()>>,
    ) -> Self {
        Self {
            source: options.source.clone(),
            admin_override: options.admin,
            serving,
            refused: None,
            teams,
            control,
            facts,
            resolver,
            sockets,
            journals,
            rearm,
            admin,
            workers,
            folders: Folders::default(),
            retiring: false,
            timer: None,
            exit: None,
        }
    }

    async fn serve(&mut self, mut signals: Option<Signals>, mut commands: mpsc::Receiver<Event>) -> u8 {
        let mut commands_open = true;
        let mut looks = looks(LOOK_SERVING);
        while self.exit.is_none() {
            let look = if self.control.status().stage == Stage::Serving { LOOK_SERVING } else { LOOK_LEAVING };
            if looks.period() != look {
                looks = self::looks(look);
            }
            let event = tokio::select! {
                signal = signals::next(&mut signals) => Some(Event::Signal(signal)),
                command = commands.recv(), if commands_open => {
                    commands_open = command.is_some();
                    command
                }
                () = self.folders.touched() => Some(Event::Touched),
                () = self.resolver.next() => None,
                timer = next_timer(&mut self.timer) => Some(Event::Timer(timer)),
                () = self.rearm.notified() => Some(Event::ArmsWanted),
                () = self.journals.dtabs_changed() => Some(Event::DtabsChanged),
                _ = looks.tick() => self.look_at_workers(),
            };
            if let Some(event) = event {
                self.handle(event);
            }
        }
        self.exit.unwrap_or(1)
    }

    /// Does all that follows from one event.
    fn handle(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if matches!(event, Event::Touched) {
                events.extend(self.resolver.fs_changed().map(Event::NamesChanged));
            }
            for effect in self.control.apply(event) {
                events.extend(self.perform(effect));
            }
        }
    }

    /// Does one thing; what comes of it is an event again.
    fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Assemble => self.assemble(),
            Effect::AssembleDtabs => self.assemble_dtabs(),
            Effect::Apply { config, revision } => return Some(self.apply(config, revision)),
            Effect::Enter(phase) => self.facts.world.enter(phase),
            Effect::Exit(code) => self.exit = Some(code),
            Effect::Note(note) => self.note(&note),
            Effect::PublishNames(names) => self.publish_names(&names),
            Effect::PublishWeights { split, weights } => self.publish_weights(split, &weights),
            Effect::Read { forced } => return self.read(forced),
            Effect::RetireNames => self.retire_names(),
            Effect::Show(status) => self.facts.status.store(Arc::new(status)),
            Effect::Wait(timer, delay) => self.timer = Some((timer, Box::pin(tokio::time::sleep(delay)))),
        }
        None
    }

    fn look_at_workers(&self) -> Option<Event> {
        let ended = self.workers.iter().filter(|worker| worker.is_finished()).count();
        let serving = matches!(self.control.status().stage, Stage::Serving | Stage::Leaving);
        match ended {
            0 => None,
            _ if serving => Some(Event::WorkerDied),
            _ if ended == self.workers.len() => Some(Event::WorkersGone),
            _ => None,
        }
    }
}

/// Regular looks, however much else happens.
fn looks(period: Duration) -> Interval {
    let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// The running timer's end, or never.
async fn next_timer(timer: &mut Option<(Timer, Pin<Box<Sleep>>)>) -> Timer {
    match timer {
        Some((which, sleep)) => {
            sleep.as_mut().await;
            let which = *which;
            *timer = None;
            which
        }
        None => std::future::pending().await,
    }
}
