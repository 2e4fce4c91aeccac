//! Pace `interval`: Flagger's clock and counters, tick for tick.
//!
//! One tick goes down a list of questions and stops at the first that ends it. The order is behaviour: a rollback comes
//! at the tick *after* the last failed check, a promotion is not judged, a gate is asked where the chart says so. Pace
//! `evidence` mends all that; here it is kept, so that a pasted block runs as it always ran.
//!
//! ```text
//!  Initializing ─▶ Initialized ──new revision──▶ Waiting ──gate opens──▶ Progressing ◀──┐ newer revision
//!                    ▲    │                                               │  │  ▲   └───┤ (weight 0)
//!                    │    └── no gate, or open ───────────────────────────┘  │  │       │
//!  Succeeded ────────┤                    Failed ◀── rollback, in any ───────┤  └─ WaitingPromotion ◀─ gate closed
//!      ▲             └── Failed                      active phase            ▼                  │
//!      └───────────────── Finalising ◀──────────────────────────────── Promoting ◀─────────────┘
//! ```

use crate::event::{Cause, Event, Gate, Halt, HaltDetail, Limit};
use crate::plan::{Answer, HookKind, MetricSource, Plan};
use crate::state::{Phase, Revision, State};
use crate::{Metric, Ppm, Router};

/// How ready one side is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Not, and its time is over.
    Deadline,
    /// Ready.
    #[default]
    Ready,
    /// Not yet.
    Retriable,
}

/// One metric's value at a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// Nothing was measured.
    NoValues,
    /// The provider failed.
    ProviderError,
    /// A value; one that is not finite counts as none.
    Value(f64),
}

/// What the outside knows at a tick of pace `interval`.
#[derive(Clone, Debug)]
pub struct Tick<'a> {
    /// The revision that should run.
    pub target: &'a Revision,
    /// What the file calls primary. Another one than before ends whatever runs.
    pub origin: &'a Revision,
    /// Whether the canary is ready.
    pub canary: Readiness,
    /// Whether the primary is ready.
    pub primary: Readiness,
    /// The last answer of each hook, in the plan's order; one that is missing is pending.
    pub answers: &'a [Answer],
    /// A reading of each metric, in the plan's order; one that is missing has no values.
    pub readings: &'a [Reading],
    /// Promote without judging.
    pub skip_analysis: bool,
    /// Do nothing at all.
    pub suspended: bool,
}

/// What one tick did, before it becomes a [`crate::Decision`].
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) events: Vec<Event>,
    /// Hooks asked, as indices into the plan's list.
    pub(crate) asked: Vec<usize>,
    /// What exactly failed the check.
    pub(crate) detail: Option<HaltDetail>,
}

/// One tick of Flagger's clock. `frozen`: a person or the guard holds the weight, which Flagger does not know. Then
/// nothing begins, rises or ends well and no check is made, so none fails; what stops a run still stops it.
pub(crate) fn tick(plan: &Plan, state: &mut State, tick: &Tick<'_>, frozen: bool) -> Told {
    let mut run = Run { plan, state, tick, frozen, told: Told::default() };
    // The end of a tick is the first step that has nothing to hand on.
    let _ended = run.tick();
    run.told
}

struct Run<'a> {
    plan: &'a Plan,
    state: &'a mut State,
    tick: &'a Tick<'a>,
    frozen: bool,
    told: Told,
}

/// `None` ends the tick.
type Next = Option<()>;

impl Run<'_> {
    fn tick(&mut self) -> Next {
        if self.tick.suspended {
            self.tell(Event::Suspended);
            return None;
        }
        self.initialize()?;
        let changed = self.state.is_change(self.tick.target);
        if self.frozen && !self.state.phase.is_active() {
            return None;
        }
        if self.state.phase == Phase::RolledBack {
            // Recorded even where the tick then ends: a revision can be lost this way.
            self.state.applied = Some(self.tick.target.clone());
        }
        if !changed && !self.state.phase.is_active() && self.state.phase != Phase::Waiting {
            return None;
        }
        self.primary_ready()?;
        if !self.state.phase.is_active() {
            self.start();
            return None;
        }
        if matches!(self.state.phase, Phase::Progressing | Phase::WaitingPromotion) && changed {
            self.restart();
            return None;
        }
        self.canary_ready()?;
        if self.frozen && matches!(self.state.phase, Phase::Promoting | Phase::Finalising) {
            return None;
        }
        self.skip()?;
        match self.state.phase {
            Phase::Promoting => self.promotion_step(),
            Phase::Finalising => self.finish(),
            _ => self.analyse()?,
        }
        None
    }

    fn initialize(&mut self) -> Next {
        if self.state.phase != Phase::Initializing {
            return Some(());
        }
        match self.tick.primary {
            Readiness::Retriable if !self.tick.skip_analysis => self.tell(Event::Halt(Halt::PrimaryNotReady)),
            Readiness::Deadline if !self.tick.skip_analysis => {
                self.tell(Event::Halt(Halt::PrimaryNotReady));
                self.roll_back(Cause::Primary);
            }
            _ => {
                self.state.applied = Some(self.tick.target.clone());
                self.state.promoted = Some(self.tick.target.clone());
                self.state.serving = Some(self.tick.target.clone());
                self.state.phase = Phase::Initialized;
                self.tell(Event::Initialized);
            }
        }
        None
    }

    fn primary_ready(&mut self) -> Next {
        if self.tick.skip_analysis || self.tick.primary == Readiness::Ready {
            return Some(());
        }
        self.tell(Event::Halt(Halt::PrimaryNotReady));
        if self.tick.primary == Readiness::Deadline && !self.frozen {
            if matches!(self.state.phase, Phase::Promoting | Phase::Finalising) {
                self.state.route(Ppm::WHOLE, false);
                self.state.end(Phase::RolledBack);
                self.state.shown_weight = Ppm::WHOLE;
                self.tell(Event::PromotionFailed);
            } else {
                self.tell(Event::CompatHazard);
                self.roll_back(Cause::Primary);
            }
        }
        None
    }

    fn start(&mut self) {
        if !self.ask_all(HookKind::ConfirmRollout) {
            if self.state.phase != Phase::Waiting {
                self.state.phase = Phase::Waiting;
                self.tell(Event::Waiting(Gate::Rollout));
            }
            return;
        }
        if self.state.is_promoted() {
            // Where another pace promoted, the weight is still the whole: of the last canary, not of this one.
            self.state.route(Ppm::ZERO, false);
        } else if self.state.weight > Ppm::ZERO {
            self.tell(Event::CompatHazard);
        }
        self.state.begin(self.tick.target);
        self.tell(Event::NewRevision);
    }

    fn restart(&mut self) {
        self.state.route(Ppm::ZERO, false);
        self.state.begin(self.tick.target);
        self.state.shown_weight = Ppm::ZERO;
        self.tell(Event::Restart);
    }

    fn canary_ready(&mut self) -> Next {
        if self.tick.canary == Readiness::Ready {
            return Some(());
        }
        self.tell(Event::Halt(Halt::CanaryNotReady));
        if self.tick.canary == Readiness::Deadline {
            self.roll_back(Cause::Deadline);
        }
        None
    }

    fn skip(&mut self) -> Next {
        if !self.tick.skip_analysis || self.frozen {
            return Some(());
        }
        self.state.route(Ppm::ZERO, false);
        self.promote_spec();
        self.succeed(Event::Skipped);
        None
    }

    fn analyse(&mut self) -> Next {
        if self.rollback_asked() {
            self.roll_back(Cause::Hook);
            return None;
        }
        if self.state.failed_checks >= self.plan.failed_checks_max() {
            self.roll_back(Cause::Threshold);
            return None;
        }
        if self.frozen {
            return None;
        }
        self.check()?;
        if self.plan.router() == Router::None && self.plan.has_steps() {
            self.tell(Event::ForcedIterations);
        }
        if self.plan.is_ab() {
            self.round(true)
        } else if self.plan.iterations() > 0 {
            self.round(false)
        } else if self.plan.has_steps() {
            self.step()
        } else {
            self.tell(Event::StuckNoStep);
            None
        }
    }

    fn check(&mut self) -> Next {
        let mirrored = self.plan.mirror() && self.state.mirrored;
        if self.state.weight == Ppm::ZERO && self.state.iterations == 0 && !mirrored {
            self.tell(Event::Start);
            if !self.ask_all(HookKind::PreRollout) {
                return self.fail(Halt::PreRolloutHook);
            }
            return Some(());
        }
        if !self.ask_all(HookKind::Rollout) {
            return self.fail(Halt::RolloutHook);
        }
        let templated = |metric: &Metric| matches!(metric.source, MetricSource::Template | MetricSource::Unknown);
        for second in [false, true] {
            for (at, metric) in self.plan.metrics().iter().enumerate().filter(|(_, m)| templated(m) == second) {
                let reading = self.tick.readings.get(at).copied().unwrap_or(Reading::NoValues);
                if let Err((halt, detail)) = check_metric(metric, reading) {
                    self.told.detail = Some(detail);
                    return self.fail(halt);
                }
            }
        }
        Some(())
    }

    fn round(&mut self, ab: bool) -> Next {
        let rounds = self.plan.iterations();
        let shifts = self.plan.router() != Router::None;
        if rounds > self.state.iterations {
            if ab {
                self.state.route(Ppm::WHOLE, false);
            } else if shifts && self.plan.mirror() && self.plan.can_mirror() && !self.state.mirrored {
                self.state.route(Ppm::ZERO, true);
            }
            self.state.iterations += 1;
            self.tell(Event::Iteration);
            return None;
        }
        self.confirm_promotion()?;
        if !ab && rounds == self.state.iterations {
            if shifts {
                self.state.route(Ppm::WHOLE, false);
            }
            self.state.iterations += 1;
            self.tell(Event::Switch);
            return None;
        }
        self.promote();
        None
    }

    fn step(&mut self) -> Next {
        let Some(raise) = self.plan.raise(self.state.weight) else {
            self.tell(Event::StuckNoStep);
            return None;
        };
        if !self.state.mirrored
            && self.state.phase == Phase::Progressing
            && !self.ask_all(HookKind::ConfirmTrafficIncrease)
        {
            self.tell(Event::Waiting(Gate::TrafficIncrease));
            return None;
        }
        let weight = self.state.weight;
        if weight >= self.plan.weight_max() {
            self.confirm_promotion()?;
            self.promote();
            return None;
        }
        if self.plan.mirror() && weight == Ppm::ZERO && !self.state.mirrored {
            // A router that cannot copy stays as it is, and the rollout with it.
            self.state.route(Ppm::ZERO, self.plan.can_mirror());
        } else {
            self.state.route(Ppm::clamped(i64::from(weight.get()) + raise), false);
        }
        self.state.shown_weight = self.state.weight;
        self.tell(Event::Advance);
        None
    }

    fn confirm_promotion(&mut self) -> Next {
        if self.ask_all(HookKind::ConfirmPromotion) {
            return Some(());
        }
        let first = self.state.phase != Phase::WaitingPromotion;
        self.state.phase = Phase::WaitingPromotion;
        self.state.shown_weight = Ppm::ZERO;
        self.state.iterations = self.plan.iterations() - 1;
        self.tell(if first { Event::Waiting(Gate::Promotion) } else { Event::StillWaitingPromotion });
        None
    }

    fn promote(&mut self) {
        self.promote_spec();
        self.state.phase = Phase::Promoting;
        self.tell(Event::Promoting);
    }

    fn promotion_step(&mut self) {
        let step = self.plan.promotion_step();
        if self.plan.router() != Router::None && step > 0 {
            if self.state.weight == Ppm::ZERO {
                self.tell(Event::StuckPromotion);
                return;
            }
            self.state.route(Ppm::clamped(i64::from(self.state.weight.get()) - step), false);
            self.state.shown_weight = self.state.weight;
            self.tell(Event::PromotionStep);
            if self.state.weight > Ppm::ZERO {
                return;
            }
        } else if self.plan.router() != Router::None {
            self.state.route(Ppm::ZERO, false);
        }
        self.state.phase = Phase::Finalising;
        self.state.shown_weight = Ppm::ZERO;
        self.state.iterations = 0;
        self.tell(Event::Finalising);
    }

    fn finish(&mut self) {
        self.succeed(Event::Succeeded);
    }

    fn succeed(&mut self, event: Event) {
        let serving = self.state.serving.clone();
        self.state.promote();
        self.state.serving = serving; // what it was told to run, which may be newer
        let failed_checks = self.state.failed_checks;
        self.state.end(Phase::Promoted);
        // The counter keeps its last value until the next run.
        self.state.failed_checks = failed_checks;
        self.tell(event);
        self.post_rollout();
    }

    fn promote_spec(&mut self) {
        if self.state.dry.is_none() {
            self.state.serving = Some(self.tick.target.clone());
        }
    }

    fn roll_back(&mut self, cause: Cause) {
        self.state.route(Ppm::ZERO, false);
        self.state.end(Phase::RolledBack);
        self.tell(Event::Rollback(cause));
        self.post_rollout();
    }

    /// Asks in order and stops at the first that refuses; one that has not been told yet is no error.
    fn post_rollout(&mut self) {
        for at in 0..self.plan.hooks().len() {
            if self.plan.hooks()[at].kind == HookKind::PostRollout && self.ask(at) == Answer::Refused {
                return self.tell(Event::PostRolloutError);
            }
        }
    }

    fn fail(&mut self, halt: Halt) -> Next {
        self.state.failed_checks = self.state.failed_checks.saturating_add(1);
        self.tell(Event::Halt(halt));
        None
    }

    /// Whether every hook of a kind passes; asks in order and stops at the first that does not.
    fn ask_all(&mut self, kind: HookKind) -> bool {
        for at in 0..self.plan.hooks().len() {
            if self.plan.hooks()[at].kind == kind && self.ask(at) != Answer::Passed {
                self.told.detail = Some(HaltDetail::Hook { name: self.plan.hooks()[at].name.clone() });
                return false;
            }
        }
        true
    }

    /// Whether a rollback hook passes; asks in order and stops at the first that does.
    fn rollback_asked(&mut self) -> bool {
        (0..self.plan.hooks().len())
            .any(|at| self.plan.hooks()[at].kind == HookKind::Rollback && self.ask(at) == Answer::Passed)
    }

    fn ask(&mut self, at: usize) -> Answer {
        self.told.asked.push(at);
        self.tick.answers.get(at).copied().unwrap_or_default()
    }

    fn tell(&mut self, event: Event) {
        self.told.events.push(event);
    }
}

/// Whether one metric is as it should be, or what is wrong with it.
pub(crate) fn check_metric(metric: &Metric, reading: Reading) -> Result<(), (Halt, HaltDetail)> {
    let detail = |value, limit| HaltDetail::Metric { name: metric.name.clone(), value, limit };
    if metric.source == MetricSource::Unknown {
        return Err((Halt::NoTemplate, detail(None, None)));
    }
    let value = match reading {
        Reading::Value(value) if value.is_finite() => value,
        Reading::Value(_) | Reading::NoValues => return Err((Halt::NoValues, detail(None, None))),
        Reading::ProviderError => return Err((Halt::ProviderError, detail(None, None))),
    };
    let (value, halt, whole) = match metric.source {
        MetricSource::SuccessRate => (value, Halt::SuccessRate, false),
        MetricSource::Duration => (value.trunc(), Halt::Duration, true),
        _ => (value, Halt::Custom, false),
    };
    let end = |limit: f64| if whole { limit.trunc() } else { limit };
    let (min, max) = match metric.range {
        Some(range) => range,
        None if metric.source == MetricSource::SuccessRate => (Some(metric.threshold), None),
        None => (None, Some(metric.threshold)),
    };
    let under = min.map(end).filter(|min| value < *min).map(Limit::Min);
    let missed = under.or_else(|| max.map(end).filter(|max| value > *max).map(Limit::Max));
    missed.map_or(Ok(()), |limit| Err((halt, detail(Some(value), Some(limit)))))
}
