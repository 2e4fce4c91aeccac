//! The judge's thread: all rollouts, and the doors to the rest of the process. It never waits for anything but time and
//! its inbox.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use serin_config::model::{Config, Rollout};
use serin_metrics::Metrics;
use serin_rollout::{Event, EventRecord, TimestampMs};

use super::chronicle::{Chronicle, Line};
use super::readiness::{self, Presence};
use super::seat::{Act, Opening, Seat, Story};
use super::view::Told;
use super::{Adoption, CommandFailure, Message, RECENT_MAX, Reply, Shared};
use crate::clock;
use crate::endpoints::EndpointTable;
use crate::evidence::Records;
use crate::outside::Outside;
use crate::snapshot::{Structure, World};
use crate::storage::Scribe;

mod ask;
mod show;

/// Messages taken before the rollouts get their turn.
const MESSAGES_PER_PASS: usize = 256;
/// Between two pictures of rollouts that are under way.
const VIEWS_MS: u64 = 250;

/// What the judge needs of the process.
pub(super) struct Doors {
    pub(super) world: Arc<World>,
    pub(super) endpoints: Arc<EndpointTable>,
    pub(super) records: Arc<Records>,
    pub(super) metrics: Arc<Metrics>,
    /// Asks the control thread to make the structure again.
    pub(super) assemble: Box<dyn Fn() + Send>,
}

/// All rollouts.
pub(super) struct Court {
    doors: Doors,
    shared: Arc<Shared>,
    chronicle: Option<Chronicle>,
    scribe: Option<Scribe>,
    outside: Option<Outside>,
    config: Option<Arc<Config>>,
    seats: BTreeMap<Arc<str>, Seat>,
    /// Which rollout an evidence belongs to.
    owners: HashMap<u64, Arc<str>>,
    structure: Option<Arc<Structure>>,
    recent: VecDeque<Arc<Told>>,
    sequence: u64,
    shown_at: u64,
    /// Something that is shown has changed.
    stale: bool,
    /// Something was told since the last picture.
    told: bool,
    memory: bool,
}

impl Court {
    pub(super) fn new(doors: Doors, shared: Arc<Shared>, chronicle: Chronicle) -> Self {
        Self {
            doors,
            shared,
            chronicle: Some(chronicle),
            scribe: None,
            outside: None,
            config: None,
            seats: BTreeMap::new(),
            owners: HashMap::new(),
            structure: None,
            recent: VecDeque::new(),
            sequence: 0,
            shown_at: 0,
            stale: false,
            told: false,
            memory: false,
        }
    }

    /// The life of the thread.
    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            let now = clock::steady_ms();
            let mut more = true;
            for _ in 0..MESSAGES_PER_PASS {
                match inbox.try_recv() {
                    Ok(message) => {
                        if let Some(done) = self.take(message, now) {
                            return self.end(done);
                        }
                    }
                    Err(TryRecvError::Empty) => {
                        more = false;
                        break;
                    }
                    Err(TryRecvError::Disconnected) => return self.end(None),
                }
            }
            self.pass(clock::steady_ms());
            if more {
                continue;
            }
            match self.next(clock::steady_ms()) {
                None => std::thread::park(),
                Some(0) => {}
                Some(wait) => std::thread::park_timeout(std::time::Duration::from_millis(wait)),
            }
        }
    }

    /// One turn: who has something to do does it.
    pub(super) fn pass(&mut self, now: u64) {
        self.relink(now);
        if self.seats.is_empty() && !self.stale {
            self.doors.records.drain(&mut |_, _, _| {});
            return;
        }
        self.drain();
        self.look(now);
        self.tick(now);
        self.show(now);
    }

    /// Milliseconds until somebody has something to do; `None`: nobody has.
    pub(super) fn next(&self, now: u64) -> Option<u64> {
        let active = self.seats.values().any(Seat::is_active);
        let show = (active || self.stale).then_some(self.shown_at + if self.stale { 0 } else { VIEWS_MS });
        let seats = self.seats.values().filter_map(Seat::next);
        seats.chain(show).min().map(|at| at.saturating_sub(now))
    }

    fn take(&mut self, message: Message, now: u64) -> Option<Option<std::sync::mpsc::SyncSender<()>>> {
        match message {
            Message::Adopt(adoption, shown) => {
                self.adopt(*adoption, now);
                self.show(now);
                // nobody waits any more if this fails
                let _nobody_waits = shown.try_send(());
            }
            Message::Command { name, command, who, why, reply } => {
                let mut acts = Vec::new();
                self.read(&name);
                let presence = self.presence(&name, now);
                match self.seats.get_mut(&*name) {
                    Some(seat) if seat.leads_nowhere(&command, presence) => {
                        reply.send(Err(CommandFailure::NoEndpoint));
                    }
                    Some(seat) => seat.command(&command, (&who, &why), reply, now, &mut acts),
                    None => {
                        let known = self.seats.keys().map(ToString::to_string).collect();
                        reply.send(Err(CommandFailure::Unknown { known }));
                    }
                }
                self.perform(&name, acts, now);
            }
            Message::Written(written) => {
                let mut acts = Vec::new();
                if let Some(seat) = self.seats.get_mut(&written.rollout) {
                    seat.written(written.ticket, written.result, now, &mut acts);
                }
                self.perform(&written.rollout, acts, now);
            }
            Message::Answered(answered) => self.answered(answered, now),
            Message::Stop(done) => return Some(Some(done)),
        }
        None
    }

    /// Writes down where everybody stands, and waits for the journal: this is the end of the thread.
    fn end(&mut self, done: Option<std::sync::mpsc::SyncSender<()>>) {
        if let Some(scribe) = self.scribe.take() {
            let now = TimestampMs(clock::steady_ms());
            for seat in self.seats.values_mut() {
                if let Some(entry) = seat.last_words(now) {
                    scribe.write(Arc::clone(&seat.name), entry, u64::MAX);
                }
            }
            if !scribe.stop() {
                let text = "not every journal could be written: rollouts under way begin again at their first step";
                self.log(Line { rollout: "".into(), code: "unclean-end", text: text.into(), loud: true });
            }
        }
        // what is not read by now is not waited for
        let _all_written = self.chronicle.take().map(Chronicle::end);
        if let Some(done) = done {
            // nobody waits any more if this fails
            let _nobody_waits = done.try_send(());
        }
    }

    fn adopt(&mut self, adoption: Adoption, now: u64) {
        let Adoption { config, mut openings, scribe, reader, outside, memory } = adoption;
        if reader.is_some() {
            self.shared.reader.store(reader.map(Arc::new));
        }
        if let Some(scribe) = scribe {
            (self.scribe, self.memory) = (Some(scribe), memory);
        }
        self.outside = outside.or(self.outside.take());
        let removed: Vec<Arc<str>> =
            self.seats.keys().filter(|name| !config.rollouts.iter().any(|one| *one.name == ***name)).cloned().collect();
        for name in removed {
            self.remove(&name, now);
        }
        self.config = Some(Arc::clone(&config));
        for file in &config.rollouts {
            let name: Arc<str> = file.name.as_str().into();
            self.adopt_one(&name, file, openings.remove(&*name), now);
        }
        self.structure = None;
        self.relink(now);
        self.stale = true;
    }

    fn adopt_one(&mut self, name: &Arc<str>, file: &Rollout, opening: Option<Opening>, now: u64) {
        let mut acts = Vec::new();
        match (self.seats.get_mut(name), opening) {
            (Some(seat), _) => {
                if *seat.file != *file {
                    seat.take_file(Arc::new(file.clone()), now, &mut acts);
                }
            }
            (None, opening) => {
                let opening = opening
                    .unwrap_or_else(|| Opening::new(file, &crate::storage::Recovered::default(), TimestampMs(now)));
                let seat = Seat::new(Arc::new(file.clone()), opening, now, &mut acts);
                self.log_difference(&seat);
                self.seats.insert(Arc::clone(name), seat);
            }
        }
        self.perform(name, acts, now);
    }

    fn remove(&mut self, name: &Arc<str>, now: u64) {
        let Some(mut seat) = self.seats.remove(name) else { return };
        self.doors.world.publish_routing(name, None);
        let mut acts = Vec::new();
        seat.leave(now, &mut acts);
        for act in acts {
            match act {
                Act::Tell(story) => self.tell(name, story),
                Act::Answer(reply, answer) => answer_removed(reply, answer),
                _ => {}
            }
        }
        self.doors.metrics.rollouts().forget(name);
        self.stale = true;
    }

    /// Finds the splits of the structure in force.
    fn relink(&mut self, now: u64) {
        let structure = Arc::clone(&self.doors.world.load().structure);
        if self.structure.as_ref().is_some_and(|known| Arc::ptr_eq(known, &structure)) {
            return;
        }
        self.owners.clear();
        let mut all = Vec::new();
        for (name, seat) in &mut self.seats {
            let mut acts = Vec::new();
            let split = structure.rollout(name).map(|(_, split)| split);
            if let Some(split) = split {
                self.owners.insert(split.evidence.id(), Arc::clone(name));
            }
            seat.link(split.map(|split| (&split.arms, &split.evidence)), now, &mut acts);
            if !acts.is_empty() {
                all.push((Arc::clone(name), acts));
            }
        }
        self.structure = Some(structure);
        for (name, acts) in all {
            self.perform(&name, acts, now);
        }
    }

    /// Takes the events that were told.
    fn drain(&mut self) {
        let (seats, owners) = (&mut self.seats, &self.owners);
        self.doors.records.drain(&mut |evidence, record: EventRecord, times| {
            if let Some(seat) = owners.get(&evidence).and_then(|name| seats.get_mut(name)) {
                seat.observe(record, times);
            }
        });
    }

    /// Totals of one rollout, and then the events that belong to them.
    fn read(&mut self, name: &str) {
        if let Some(seat) = self.seats.get_mut(name) {
            seat.read();
            self.drain();
        }
    }

    /// Looks where there were events, or none for long. Totals are read before the events that belong to them are taken.
    fn look(&mut self, now: u64) {
        let due = |seat: &Seat| seat.next_look().is_some_and(|at| at <= now);
        let mut some = false;
        for seat in self.seats.values_mut().filter(|seat| due(seat)) {
            seat.read();
            some = true;
        }
        if some {
            self.drain();
            self.note_deserted(now);
        }
        let mut all = Vec::new();
        for (name, seat) in &mut self.seats {
            let mut acts = Vec::new();
            if seat.has_read() {
                seat.look(now, &mut acts);
            }
            if seat.next_journal().is_some_and(|at| at <= now) {
                seat.mind_journal(now, &mut acts);
            }
            if !acts.is_empty() {
                all.push((Arc::clone(name), acts));
            }
        }
        for (name, acts) in all {
            self.perform(&name, acts, now);
        }
    }

    /// Asks for the addresses of those whose canary has all of the traffic and is nowhere, or answers nobody.
    fn note_deserted(&mut self, now: u64) {
        let out = self.seats.iter().filter(|(_, seat)| seat.has_read() && seat.is_deserted(now));
        let out: Vec<Arc<str>> = out.map(|(name, _)| Arc::clone(name)).collect();
        for name in out {
            let presence = self.presence(&name, now);
            if let Some(seat) = self.seats.get_mut(&name) {
                seat.note_presence(presence, now);
            }
        }
    }

    fn tick(&mut self, now: u64) {
        let due: Vec<Arc<str>> =
            self.seats.iter().filter(|(_, seat)| seat.is_tick_due(now)).map(|(name, _)| Arc::clone(name)).collect();
        for name in due {
            let presence = self.presence(&name, now);
            self.read(&name);
            let mut acts = Vec::new();
            if let Some(seat) = self.seats.get_mut(&name) {
                seat.interval(presence, now, &mut acts);
            }
            self.perform(&name, acts, now);
        }
    }

    /// Has each arm of a rollout an address: canary, primary.
    fn presence(&mut self, name: &str, now: u64) -> [Presence; 2] {
        let (Some(seat), Some(structure)) = (self.seats.get_mut(name), &self.structure) else {
            return [Presence::Unknown; 2];
        };
        let [canary, primary] = seat.arm_paths().map(Clone::clone);
        let router = seat.file.router.clone();
        let mut known = [Presence::Unknown; 2];
        for (at, path) in [canary, primary].iter().enumerate() {
            let held = &mut seat.held[at];
            known[at] = readiness::presence(structure, &router, path, &self.doors.endpoints, held, now);
        }
        known
    }

    /// Does what a rollout wants done, in its order.
    fn perform(&mut self, name: &Arc<str>, acts: Vec<Act>, now: u64) {
        for act in acts {
            match act {
                Act::Publish(routing) if self.doors.world.routings().get(name) == Some(&routing) => {}
                Act::Publish(routing) => {
                    self.doors.world.publish_routing(name, Some(&routing));
                }
                Act::Write(entry, ticket) => match &self.scribe {
                    Some(scribe) => scribe.write(Arc::clone(name), *entry, ticket),
                    None => self.written_nowhere(name, ticket, now),
                },
                Act::AskHook(index, round) => self.ask_hook(name, index, round, now),
                Act::TellHook(index) => self.tell_hook(name, index),
                Act::AskMetric(index, round) => self.ask_metric(name, index, round),
                Act::Tell(story) => self.tell(name, story),
                Act::Answer(reply, answer) => self.answer(name, reply, answer, now),
                Act::Assemble => (self.doors.assemble)(),
            }
        }
    }

    /// Without a journal nothing outlives the process, and nothing waits for it.
    fn written_nowhere(&mut self, name: &Arc<str>, ticket: u64, now: u64) {
        let mut acts = Vec::new();
        if let Some(seat) = self.seats.get_mut(name) {
            seat.written(ticket, Ok(()), now, &mut acts);
        }
        self.perform(name, acts, now);
    }

    fn answer(&mut self, name: &str, reply: Reply, answer: Result<(), CommandFailure>, now: u64) {
        if let Some(seat) = self.seats.get_mut(name) {
            seat.stale = true;
        }
        // who asked finds it everywhere when the answer comes
        self.show(now);
        let views = self.shared.views.load();
        let view = || views.iter().find(|view| &*view.name == name).cloned().ok_or(CommandFailure::Gone);
        reply.send(answer.and_then(|()| view()));
    }

    /// Into the log, to who listens, and to alerts and hooks.
    fn tell(&mut self, name: &Arc<str>, story: Story) {
        self.sequence += 1;
        let (who, why) = story.by.clone().unzip();
        let told = Arc::new(Told {
            sequence: self.sequence,
            at_ms: story.at_ms,
            rollout: Arc::clone(name),
            code: story.code.to_owned(),
            text: story.text.clone(),
            kind: story.kind.to_owned(),
            weight_ppm: story.share.get(),
            score: story.score,
            who,
            why,
        });
        let loud = story.kind == "Warning";
        self.log(Line { rollout: Arc::clone(name), code: story.code, text: story.text.clone(), loud });
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(&told));
        self.told = true;
        let promoted = matches!(story.event, Some(Event::Skipped | Event::Succeeded));
        if let Some(seat) = self.seats.get(name).filter(|_| promoted) {
            self.log_difference(seat);
        }
        // nobody listens
        let _no_listener = self.shared.events.send(Arc::clone(&told));
        self.doors.metrics.rollouts().event(name, story.code);
        if let Some(seat) = self.seats.get_mut(name) {
            seat.last = Some(Arc::clone(&told));
            seat.stale = true;
        }
        self.spread(name, &story, &told);
    }

    /// After a promotion the file is behind the state: it should say the same before the state is lost.
    fn log_difference(&self, seat: &Seat) {
        let (proven, primary) = (&seat.published.proven, &seat.file.primary);
        if proven != primary {
            let text =
                format!("{proven} was promoted and serves, and the file says `primary: {primary}`: change it there");
            self.log(Line { rollout: Arc::clone(&seat.name), code: "file-behind", text, loud: false });
        }
    }

    fn log(&self, line: Line) {
        if let Some(chronicle) = &self.chronicle {
            chronicle.write(line);
        }
    }
}

fn answer_removed(reply: Reply, answer: Result<(), CommandFailure>) {
    reply.send(Err(answer.err().unwrap_or(CommandFailure::Gone)));
}
