//! What people ask.

use serin_config::model::Judge as Mode;
use serin_rollout::{Command, Phase, Ppm, Readiness, Tick, TimestampMs};

use super::{Act, Seat, is_for_followers};
use crate::judge::readiness::Presence;
use crate::judge::wanted::path_of;
use crate::judge::{CommandFailure, Reply};

impl Seat {
    /// Does what a person asks. The answer comes when it is in force and the journal has it, or cannot have it:
    /// a fall is in force without it.
    pub(crate) fn command(&mut self, command: &Command, by: (&str, &str), reply: Reply, now: u64, acts: &mut Vec<Act>) {
        // what the workers counted until now belongs to what ran until now
        self.refresh(now, acts);
        let written = self.ticket;
        match self.obey(command, by, now, acts) {
            Err(failure) => acts.push(Act::Answer(reply, Err(failure))),
            Ok(()) => match &mut self.pending {
                Some(pending) => pending.replies.push(reply),
                // in force already: but who was told so must find it after a stop as well
                None if self.ticket > written => self.owed.push((self.ticket, now, reply)),
                None => acts.push(Act::Answer(reply, Ok(()))),
            },
        }
    }

    /// Would the command send traffic to an arm without any endpoint while the other one has some? `presence`: of the
    /// canary, of the primary.
    pub(crate) fn leads_nowhere(&self, command: &Command, presence: [Presence; 2]) -> bool {
        let [canary, primary] = presence;
        let no_canary = canary == Presence::None && primary == Presence::Some;
        let no_primary = primary == Presence::None && canary == Presence::Some;
        match command {
            Command::Promote => no_canary,
            Command::SetWeight(weight) => no_canary && *weight > Ppm::ZERO,
            Command::Undo if self.rollout.state().phase == Phase::Promoted => no_primary,
            Command::Undo => no_canary,
            // these end what runs, or send nothing anywhere
            Command::Abort | Command::Pause | Command::Resume | Command::Start(_) => false,
        }
    }

    fn obey(
        &mut self,
        command: &Command,
        by: (&str, &str),
        now: u64,
        acts: &mut Vec<Act>,
    ) -> Result<(), CommandFailure> {
        if let Command::Start(revision) = command
            && *revision != self.file.revision
        {
            return Err(CommandFailure::NotInFile { canary: self.file.revision.to_string() });
        }
        match self.file.judge {
            Mode::Here | Mode::DryRun => self.pass_on(command, by, now, acts),
            Mode::Off if is_for_followers(command) => self.follow(command, by, now, acts),
            Mode::Off => Err(CommandFailure::NotHere),
        }
    }

    fn pass_on(
        &mut self,
        command: &Command,
        by: (&str, &str),
        now: u64,
        acts: &mut Vec<Act>,
    ) -> Result<(), CommandFailure> {
        let decision = self.rollout.command(command, by.0, by.1, TimestampMs(now)).map_err(CommandFailure::Refused)?;
        self.settle(decision, Some(by), now, acts);
        Ok(())
    }

    /// Where nobody judges, a person moves the weight: the first word of theirs begins a run, a promotion needs no proof.
    fn follow(
        &mut self,
        command: &Command,
        by: (&str, &str),
        now: u64,
        acts: &mut Vec<Act>,
    ) -> Result<(), CommandFailure> {
        let idle = !self.rollout.state().phase.is_active()
            || self.rollout.state().applied.as_ref().and_then(path_of).as_ref() != Some(&self.file.canary);
        if idle && *command != Command::Abort {
            self.pass_on(&Command::Start(self.file.revision.clone()), by, now, acts)?;
        }
        if *command != Command::Promote {
            return self.pass_on(command, by, now, acts);
        }
        let (target, origin) = (self.file.revision.clone(), self.origin());
        let ready = Readiness::Ready;
        let tick = Tick {
            target: &target,
            origin: &origin,
            canary: ready,
            primary: ready,
            answers: &[],
            readings: &[],
            skip_analysis: true,
            suspended: false,
        };
        let mut decision = self.rollout.tick(&tick, TimestampMs(now));
        for entry in &mut decision.entries {
            entry.by = Some((by.0.to_owned(), by.1.to_owned()));
        }
        self.settle(decision, Some(by), now, acts);
        Ok(())
    }
}
