//! Raises wait for the journal; nothing else does.

use serin_rollout::{Entry, TimestampMs};

use super::{Act, Durability, Seat, WRITE_MS_MAX, raises};
use crate::judge::CommandFailure;

/// A write that takes longer than this holds the weight until it is done: shorter than any dwell.
const SLOW_WRITE_MS: u64 = 500;
/// Between two tries to write what could not be written.
const RETRY_MS: u64 = 2_000;

impl Seat {
    /// Hands entries to the journal, each with a ticket of its own.
    pub(super) fn write(&mut self, entries: Vec<Entry>, acts: &mut Vec<Act>) {
        for entry in entries {
            self.ticket += 1;
            self.newest = Some(entry.clone());
            acts.push(Act::Write(Box::new(entry), self.ticket));
        }
    }

    /// The journal answered.
    pub(crate) fn written(&mut self, ticket: u64, result: Result<(), String>, now: u64, acts: &mut Vec<Act>) {
        self.pay(|owed, _| owed <= ticket, acts);
        match result {
            Ok(()) => self.durable(ticket, now, acts),
            Err(why) => self.not_durable(ticket, why, now, acts),
        }
    }

    /// Answers those who wait for the journal with what is in force.
    fn pay(&mut self, is_due: impl Fn(u64, u64) -> bool, acts: &mut Vec<Act>) {
        let due = self.owed.extract_if(.., |(ticket, since, _)| is_due(*ticket, *since));
        acts.extend(due.map(|(_, _, reply)| Act::Answer(reply, Ok(()))));
    }

    fn durable(&mut self, ticket: u64, now: u64, acts: &mut Vec<Act>) {
        if let Some(pending) = self.pending.take_if(|pending| pending.ticket <= ticket) {
            self.publish(pending.routing, now, acts);
            acts.extend(pending.stories.into_iter().map(Act::Tell));
            acts.extend(pending.post.into_iter().map(Act::TellHook));
            acts.extend(pending.replies.into_iter().map(|reply| Act::Answer(reply, Ok(()))));
        }
        if ticket == self.ticket && self.durability != Durability::Good {
            self.durability = Durability::Good;
            if !self.is_active() {
                let text = format!("Released {} the journal can be written again", self.name);
                acts.push(self.note("storage:good", text, "Normal", now));
            }
        }
        if self.pending.is_none() && self.durability == Durability::Good {
            self.rollout.set_storage(true);
        }
    }

    fn not_durable(&mut self, ticket: u64, why: String, now: u64, acts: &mut Vec<Act>) {
        if let Some(pending) = self.pending.take_if(|pending| pending.ticket <= ticket) {
            let failure = || CommandFailure::NotDurable(why.clone());
            acts.extend(pending.replies.into_iter().map(|reply| Act::Answer(reply, Err(failure()))));
            self.fail_durability(why, now, acts);
            // what else happened meanwhile did happen
            acts.extend(pending.stories.into_iter().filter(|story| !raises(story.event)).map(Act::Tell));
            let decision = self.rollout.withdraw(&pending.before, TimestampMs(now));
            return self.settle(decision, None, now, acts);
        }
        self.fail_durability(why, now, acts);
    }

    /// From now on nothing rises, until the journal took what it got. A rollout under way tells of it itself.
    fn fail_durability(&mut self, why: String, now: u64, acts: &mut Vec<Act>) {
        self.retry_at = now + RETRY_MS;
        self.stale = true;
        self.rollout.set_storage(false);
        if self.durability == Durability::Good && !self.is_active() {
            let text = format!("Halt {} advancement the journal cannot be written: {why}", self.name);
            acts.push(self.note("storage:failing", text, "Warning", now));
        }
        self.durability = Durability::Failing(why);
    }

    /// A raise that waits long for a slow disk must not be followed by another one before anybody was routed by it.
    pub(super) fn freeze_slow_write(&mut self, now: u64) {
        if self.pending.as_ref().is_some_and(|pending| now.saturating_sub(pending.since_ms) >= SLOW_WRITE_MS) {
            self.rollout.set_storage(false);
        }
    }

    /// The journal's last entry before a clean end: where it stands, with the evidence so far.
    pub(crate) fn last_words(&mut self, now: TimestampMs) -> Option<Entry> {
        if let Some(pending) = self.pending.take() {
            // what was never in force must not be there after a restart
            let _told_to_nobody = self.rollout.withdraw(&pending.before, now);
        } else if !self.rollout.state().phase.is_active() && self.newest.is_none() {
            return None; // the journal says all of it
        }
        Some(self.rollout.checkpoint(now))
    }

    /// The rollout is no more: nobody waits for it any longer.
    pub(crate) fn leave(&mut self, now: u64, acts: &mut Vec<Act>) {
        self.pay(|_, _| true, acts);
        if let Some(pending) = self.pending.take() {
            acts.extend(pending.replies.into_iter().map(|reply| Act::Answer(reply, Err(CommandFailure::Gone))));
        }
        if let Some(evidence) = &self.evidence {
            evidence.set_slow(None);
        }
        let text = format!("Terminated {} the file has it no more", self.name);
        acts.push(self.note("removed", text, "Normal", now));
    }

    /// What time brings: a write that is not answered is given up, one that failed is tried again.
    pub(crate) fn mind_journal(&mut self, now: u64, acts: &mut Vec<Act>) {
        self.pay(|_, since| now.saturating_sub(since) >= WRITE_MS_MAX, acts);
        if let Some(pending) = &self.pending
            && now.saturating_sub(pending.since_ms) >= WRITE_MS_MAX
        {
            let ticket = pending.ticket;
            self.not_durable(ticket, format!("no answer within {WRITE_MS_MAX} ms"), now, acts);
        }
        if self.durability != Durability::Good && now >= self.retry_at {
            self.retry_at = now + RETRY_MS;
            // as it stands now: what was withdrawn must not become durable after all
            let entry = self.newest.clone().map(|newest| Entry { state: self.state.clone(), ..newest });
            self.write(entry.into_iter().collect(), acts);
        }
    }

    /// The moment at which [`Seat::mind_journal`] has something to do.
    pub(crate) fn next_journal(&self) -> Option<u64> {
        let gives_up = self.pending.as_ref().map(|pending| pending.since_ms + WRITE_MS_MAX);
        let retries = (self.durability != Durability::Good).then_some(self.retry_at);
        let owed = self.owed.iter().map(|(_, since, _)| since + WRITE_MS_MAX);
        gives_up.into_iter().chain(retries).chain(owed).min()
    }
}
