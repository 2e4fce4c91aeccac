//! What a person may ask of a rollout.

use thiserror::Error;

use crate::event::Event;
use crate::interval::Told;
use crate::machine::{Pace, Rollout};
use crate::state::{Phase, Revision};
use crate::{Ppm, TimestampMs};

/// What a person asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// All traffic to the primary, now. This revision does not start again by itself.
    Abort,
    /// The weight rises no more; the guard stays on.
    Pause,
    /// All traffic to the canary, guarded for one interval, then promoted.
    Promote,
    /// The weight may move again; also confirms what a changed plan adds.
    Resume,
    /// The canary's share from now on.
    SetWeight(Ppm),
    /// Begin with this revision, from the first step; also one that was rolled back or promoted before.
    Start(Revision),
    /// Take back the last end: a run goes on where it was, a promotion goes back to the old primary.
    Undo,
}

/// Why a command means nothing now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CommandError {
    /// Nothing is promoted in a dry run.
    #[error("this is a dry run: it promotes nothing; set the weight, or end the dry run")]
    DryRun,
    /// No canary is under way.
    #[error("no canary is under way")]
    NothingRuns,
    /// Nothing has ended that could be taken back.
    #[error("nothing has ended that could be undone")]
    NothingToUndo,
    /// The primary is not set up.
    #[error("the primary is not set up yet")]
    NotInitialized,
    /// Nothing moves by itself here that could be paused.
    #[error("this process does not judge: it takes start, weight, promote, abort and undo")]
    Off,
    /// It would raise the weight.
    #[error("the journal cannot be written: a raise would not survive a stop")]
    Storage,
}

impl Rollout {
    /// Does it, and says what happened.
    pub(crate) fn obey(&mut self, command: &Command, now: TimestampMs) -> Result<Event, CommandError> {
        let runs = self.state.phase.is_active();
        match command {
            Command::Pause | Command::Resume if self.off => Err(CommandError::Off),
            Command::Promote if self.is_dry() => Err(CommandError::DryRun),
            Command::SetWeight(weight) if self.is_dry() && !self.state.is_promoted() => {
                self.state.dry = Some(*weight);
                Ok(Event::WeightSet)
            }
            Command::Promote if self.off && runs => {
                let mut told = Told::default();
                self.succeed(Event::Succeeded, &mut told); // nobody here would judge it
                Ok(Event::Succeeded)
            }
            Command::Pause => {
                self.paused = true;
                Ok(Event::Paused)
            }
            Command::Resume => {
                self.paused = false;
                self.ceiling = None;
                Ok(Event::Resumed)
            }
            Command::Abort if runs || self.state.phase == Phase::Waiting => {
                if self.state.phase == Phase::Waiting {
                    self.state.applied.clone_from(&self.desired); // what waited is what was given up
                }
                self.state.route(Ppm::ZERO, false);
                self.state.end(Phase::RolledBack);
                self.state.serving.clone_from(&self.state.promoted);
                self.state.dry = self.state.dry.map(|_| Ppm::ZERO);
                Ok(Event::Aborted)
            }
            Command::Promote if runs => {
                // By its clock pace `interval` gives the traffic back to a primary that has the new revision.
                let whole = matches!(self.pace, Pace::Evidence(_));
                self.state.phase = Phase::Promoting;
                if whole {
                    self.state.route(Ppm::WHOLE, false);
                } else {
                    self.state.serving.clone_from(&self.state.applied);
                }
                Ok(Event::Promoting)
            }
            Command::SetWeight(weight) if runs => {
                self.state.route(*weight, false);
                Ok(Event::WeightSet)
            }
            Command::Abort | Command::Promote | Command::SetWeight(_) => Err(CommandError::NothingRuns),
            Command::Start(_) if self.state.phase == Phase::Initializing => Err(CommandError::NotInitialized),
            Command::Start(revision) => {
                self.restart(revision, now);
                Ok(Event::Restart)
            }
            Command::Undo => self.undo(),
        }
    }

    fn undo(&mut self) -> Result<Event, CommandError> {
        if !self.state.phase.is_end() {
            return Err(CommandError::NothingToUndo);
        }
        let before = self.ended.take().ok_or(CommandError::NothingToUndo)?;
        let dry = self.state.dry;
        if self.state.phase == Phase::Promoted {
            self.state.route(Ppm::ZERO, false);
            self.state.promoted = before.promoted;
            self.state.serving = before.serving;
            self.state.end(Phase::RolledBack);
        } else {
            self.state = before;
        }
        self.state.dry = dry;
        Ok(Event::Undone)
    }
}
