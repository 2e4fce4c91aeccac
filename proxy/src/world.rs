//! PURE: what the control thread knows, and what it does about each thing that happens.
//!
//! ```text
//!            Stop, drain.delay > 0            DelayOver
//!  Serving ─────────────────────────▶ Leaving ──────────▶ Draining ──WorkersGone──▶ Over
//!     │                                  │                   │                        ▲
//!     │ Stop, drain.delay = 0            │ Stop              │ DeadlineOver, Stop     │
//!     ├──────────────────────────────────┼──────────────────▶│                        │
//!     │                                  └─────────▶ Cutting ◀┘                       │
//!     │                                                 └───WorkersGone, GraceOver────┤
//!     └──WorkerDied──────────────────────────────────────────────────────────────────▶┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use serin_config::dtab::{SplitId, Weight};
use serin_config::model::Config;

use crate::resolve::NameTable;
use crate::snapshot::Phase;

/// Time that names keep serving after a reload removed them: requests on the older snapshot are under way to them.
pub const NAMES_GRACE: Duration = Duration::from_secs(1);

/// Time that cut connections get to close before the process leaves without them.
pub const GRACE: Duration = Duration::from_secs(5);

/// Which part of its life the process is in, seen from the control thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Ready and accepting.
    Serving,
    /// Not ready any more, still accepting, so that load balancers can look away first (`drain.delayMs`).
    Leaving,
    /// Accepts no more; running requests finish (`drain.deadlineMs`).
    Draining,
    /// The deadline has passed: what runs is cut.
    Cutting,
    /// Nothing is left to do.
    Over,
}

impl Stage {
    /// The word for logs and `/readyz?verbose`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
            Self::Cutting => "cutting",
            Self::Over => "over",
        }
    }
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A rollout wants other arms than the structure in force has.
    ArmsWanted,
    /// A new configuration with its listeners is in force.
    Applied {
        /// It.
        config: Arc<Config>,
        /// See [`Status::revision`].
        revision: Arc<str>,
    },
    /// The file means this; nothing of it is in force yet.
    Accepted {
        /// It.
        config: Arc<Config>,
        /// See [`Status::revision`].
        revision: Arc<str>,
    },
    /// A stored dtab changed.
    DtabsChanged,
    /// The set of names that namers know changed.
    NamesChanged(Arc<NameTable>),
    /// The file, or what it needs of the system, cannot be used; the text says where and why.
    Rejected(Arc<str>),
    /// From a signal, or from the program that has Serin inside.
    Signal(Signal),
    /// A timer that an effect started ran out.
    Timer(Timer),
    /// Something in a watched folder moved.
    Touched,
    /// The file holds the bytes that serve already.
    Unchanged,
    /// Weights for one split, by branch as written.
    Weights {
        /// Of the structure in force.
        split: SplitId,
        /// One for each branch.
        weights: Arc<[Weight]>,
    },
    /// A worker thread ended that should not have.
    WorkerDied,
    /// All worker threads have ended.
    WorkersGone,
}

/// What a person or an orchestrator asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the file again even if its bytes are equal.
    Reload,
    /// SIGTERM or SIGINT: leave politely; the second one leaves at once.
    Stop,
}

/// What time brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// `drain.deadlineMs` after draining began.
    DeadlineOver,
    /// `drain.delayMs` after the stop.
    DelayOver,
    /// [`GRACE`] after cutting began.
    GraceOver,
    /// [`NAMES_GRACE`] after a configuration came into force.
    NamesOver,
}

/// What the control thread shall do. A list is done in its order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make the structure again from what it was made from.
    Assemble,
    /// The same, if a router uses a stored dtab that changed.
    AssembleDtabs,
    /// Bind what is new, assemble, publish; then report [`Event::Applied`] or [`Event::Rejected`].
    Apply {
        /// It.
        config: Arc<Config>,
        /// See [`Status::revision`].
        revision: Arc<str>,
    },
    /// Tell the workers.
    Enter(Phase),
    /// End the process with this code.
    Exit(u8),
    /// Put this answer into metrics and log.
    Note(Note),
    /// Publish the structure again over these names.
    PublishNames(Arc<NameTable>),
    /// Publish these weights over the structure in force.
    PublishWeights {
        /// Of the structure in force.
        split: SplitId,
        /// One for each branch.
        weights: Arc<[Weight]>,
    },
    /// Read the file. `forced`: even if its bytes are equal.
    Read {
        /// Apply equal bytes too.
        forced: bool,
    },
    /// Let go of names that the configuration before this one had.
    RetireNames,
    /// Show this on the admin pages.
    Show(Status),
    /// Report [`Event::Timer`] then.
    Wait(Timer, Duration),
}

/// How reading the file ended, or how the process goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It serves.
    Applied,
    /// It serves already.
    Unchanged,
    /// It has mistakes.
    Rejected(Arc<str>),
    /// The next stage began.
    Entered(Stage),
    /// Weights were given for a split that is not there, or not one for each branch.
    WeightsRefused,
}

/// What the admin pages show of the control thread.
#[derive(Clone, Debug)]
pub struct Status {
    /// Which part of its life.
    pub stage: Stage,
    /// The configuration that serves.
    pub config: Arc<Config>,
    /// A short fingerprint of the bytes that serve.
    pub revision: Arc<str>,
    /// The file as last read was refused, and this is why.
    pub rejected: Option<Arc<str>>,
}

impl Status {
    /// Should load balancers send here?
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Serving
    }
}

/// The reducer: the only place that decides.
#[derive(Debug)]
pub struct Control {
    status: Status,
}

impl Control {
    /// A process that serves this configuration.
    pub fn new(config: Arc<Config>, revision: Arc<str>) -> Self {
        Self { status: Status { stage: Stage::Serving, config, revision, rejected: None } }
    }

    /// One thing happened: what is to be done.
    pub fn apply(&mut self, event: Event) -> Vec<Effect> {
        match (self.status.stage, event) {
            (Stage::Over, _) => Vec::new(),
            (_, Event::WorkerDied) => self.enter(Stage::Over, [Effect::Exit(1)]),
            (_, Event::ArmsWanted) => vec![Effect::Assemble],
            (_, Event::DtabsChanged) => vec![Effect::AssembleDtabs],
            (_, Event::NamesChanged(names)) => vec![Effect::PublishNames(names)],
            (_, Event::Weights { split, weights }) => vec![Effect::PublishWeights { split, weights }],

            (Stage::Serving, Event::Touched) => vec![Effect::Read { forced: false }],
            (Stage::Serving, Event::Signal(Signal::Reload)) => vec![Effect::Read { forced: true }],
            (Stage::Serving, Event::Accepted { config, revision }) => vec![Effect::Apply { config, revision }],
            (Stage::Serving, Event::Applied { config, revision }) => self.applied(config, revision),
            (Stage::Serving, Event::Rejected(why)) => self.rejected(why),
            (Stage::Serving, Event::Unchanged) => self.unchanged(),
            (Stage::Serving, Event::Timer(Timer::NamesOver)) => vec![Effect::RetireNames],
            (Stage::Serving, Event::Signal(Signal::Stop)) => self.stop(),
            // who leaves takes no new configuration
            (
                _,
                Event::Touched
                | Event::Signal(Signal::Reload)
                | Event::Accepted { .. }
                | Event::Applied { .. }
                | Event::Rejected(_)
                | Event::Unchanged,
            ) => Vec::new(),

            (Stage::Leaving, Event::Timer(Timer::DelayOver)) => self.drain(),
            (Stage::Leaving | Stage::Draining, Event::Signal(Signal::Stop))
            | (Stage::Draining, Event::Timer(Timer::DeadlineOver)) => self.cut(),
            (Stage::Draining | Stage::Cutting, Event::WorkersGone)
            | (Stage::Cutting, Event::Timer(Timer::GraceOver)) => self.enter(Stage::Over, [Effect::Exit(0)]),

            // a timer of a stage that is behind us, a third signal, an end nobody waits for
            (_, Event::Timer(_) | Event::Signal(Signal::Stop) | Event::WorkersGone) => Vec::new(),
        }
    }

    /// What the admin pages show.
    pub fn status(&self) -> &Status {
        &self.status
    }

    fn applied(&mut self, config: Arc<Config>, revision: Arc<str>) -> Vec<Effect> {
        self.status = Status { config, revision, rejected: None, ..self.status };
        vec![Effect::Note(Note::Applied), self.show(), Effect::Wait(Timer::NamesOver, NAMES_GRACE)]
    }

    fn rejected(&mut self, why: Arc<str>) -> Vec<Effect> {
        self.status.rejected = Some(Arc::clone(&why));
        vec![Effect::Note(Note::Rejected(why)), self.show()]
    }

    /// Also after a rejection: the file was put back as it serves.
    fn unchanged(&mut self) -> Vec<Effect> {
        self.status.rejected = None;
        vec![Effect::Note(Note::Unchanged), self.show()]
    }

    fn stop(&mut self) -> Vec<Effect> {
        let delay = self.status.config.drain.delay;
        if delay.is_zero() {
            return self.drain();
        }
        self.enter(Stage::Leaving, [Effect::Wait(Timer::DelayOver, delay)])
    }

    fn drain(&mut self) -> Vec<Effect> {
        let deadline = self.status.config.drain.deadline;
        self.enter(Stage::Draining, [Effect::Enter(Phase::Draining), Effect::Wait(Timer::DeadlineOver, deadline)])
    }

    fn cut(&mut self) -> Vec<Effect> {
        self.enter(Stage::Cutting, [Effect::Enter(Phase::Cut), Effect::Wait(Timer::GraceOver, GRACE)])
    }

    /// Readiness is shown before anything else happens.
    fn enter<const N: usize>(&mut self, stage: Stage, then: [Effect; N]) -> Vec<Effect> {
        debug_assert_ne!(self.status.stage, stage, "a stage is entered once");
        self.status.stage = stage;
        [self.show(), Effect::Note(Note::Entered(stage))].into_iter().chain(then).collect()
    }

    fn show(&self) -> Effect {
        Effect::Show(self.status.clone())
    }
}

#[cfg(test)]
mod tests;
