//! What one worker knows of the requests of one rollout: which are open on which arm since when, and what is to be told
//! of each.
//!
//! ```text
//!   slab      [0: canary, routed 5] [1: free] [2: primary, 6] [3: canary, 9] ...
//!   canary    oldest ─▶ 0 ⇄ 3 ◀─ newest         free ─▶ 1
//!                       ▲   ▲
//!              slow99 ──┘   └── slow50          all before a cursor have reached its age
//! ```
//!
//! **What is told, once each.** A *failure*: at once when the first attempt fails, whether or not another follows, or at
//! the end by its class. A *slow* event: when the request has waited longer than an age of the evidence for its response
//! head, finished or not; a tick looks every 10 ms, and a head, a failure or an abort between two ticks tells exactly
//! what it passed. An end of class Ignored tells no failure.
//!
//! **Requests that say nothing of their age.** The response head of a call may wait for the last octet of the request. So
//! a request whose length is not known when it is routed says nothing of its age while it is still being sent: an age
//! that passes in that time is never told. Streams in both directions and upgrades therefore count for failure only, as
//! guarded services want, and a call of one message counts like any other. That a *server* streams cannot be known
//! before its head: it counts with the time to it.
//!
//! **Open, overdue, settled.** A request is open until it ends, so that what is told of it is counted in order. Past the
//! slow99 age (past [`OVERDUE_US`], while there are no ages) a request without a head is *overdue* until its head comes
//! or it ends: counted by its share, and out of the order. Past the same age (past [`SETTLED_US`], while there are no
//! ages) one whose head has come, or that is still being sent, is *settled*: it holds nothing back any more, or one long
//! download would stop all judgement; should it fail after all, that is told out of order.
//!
//! Starting and finishing cost a few writes each. Nothing is allocated once the slab has grown to the number of requests
//! in flight, at most [`IN_FLIGHT_MAX`]; a tick costs what passes an age in it, not what is in flight.

mod calls;
mod order;

use std::sync::Arc;

use serin_metrics::Class;
use serin_rollout::{Arm, Key, Kind, Ppm};

use crate::evidence::{Record, Records, Slow, SplitEvidence, Tally, lost_id};

/// Requests in flight that one ledger counts. Those beyond are routed, and nothing is told of them.
pub const IN_FLIGHT_MAX: usize = 65_536;
/// Without ages: a request that waits longer for its head is overdue. As long as an attempt may usually take.
pub const OVERDUE_US: u64 = 60_000_000;
/// Without ages: a request whose head has come holds nothing back any longer.
pub const SETTLED_US: u64 = 10_000_000;

const KINDS: [Kind; 3] = [Kind::Slow50, Kind::Slow90, Kind::Slow99];
/// Ages with a cursor each: the three slow ones, settled, overdue.
const STAGES: usize = 5;
const SETTLED: usize = 3;
const OVERDUE: usize = 4;
/// The primary first: a canary event wakes the judge, who then finds what happened beside it.
const ARMS: [Arm; 2] = [Arm::Primary, Arm::Canary];

/// One worker's book of one split.
#[derive(Debug)]
pub struct Ledger {
    evidence: Arc<SplitEvidence>,
    teller: Teller,
    slab: Vec<Entry>,
    /// First free entry; free entries are chained by `newer`.
    free: Option<u32>,
    lists: [List; 2],
    slow: Slow,
    ages_us: [u64; STAGES],
}

/// Where a worker tells what it saw.
#[derive(Clone, Debug)]
pub struct Teller {
    /// The rings of all workers.
    pub records: Arc<Records>,
    /// Which worker it is.
    pub worker: usize,
}

/// The right to finish one request, once. Whoever holds it must finish it, however the request ends: a ticket that is
/// dropped leaves its request open for ever.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a request that is started must be finished"]
pub struct Ticket(u32);

/// How a request came to its arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// The arm that the weights chose.
    pub arm: Arm,
    /// The arm could not serve, and the request goes to the other one.
    pub redistributed: bool,
    /// The canary's share in force.
    pub share: Ppm,
    /// The hash of its user's key, if it was drawn by one.
    pub session: Option<u64>,
    /// Whether chance drew it, for itself or for its user.
    pub randomised: bool,
    /// It is still being sent, and nobody knows for how long.
    pub streams: bool,
}

/// Why an arm has nobody who can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// It has no endpoint.
    Absent,
    /// Its endpoints are ejected, all of them.
    Ejected,
    /// Its name is not resolved yet.
    Pending,
}

#[derive(Debug)]
struct Entry {
    drawn: Drawn,
    routed_us: u64,
    /// Ages in force when it was routed.
    slow: u64,
    /// The slow kinds that are told, or never will be, as bits.
    passed: u8,
    /// Its head came, or what stands for it.
    head: bool,
    /// It waits for a connection to be made: that is no answer time.
    dialling: bool,
    /// Its outcome is told, and it counts as completed.
    told: bool,
    place: Place,
    older: Option<u32>,
    newer: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In nobody's way: settled, told, or free.
    Apart,
    /// In the list of its arm.
    Listed,
    /// Counted as overdue.
    Overdue,
}

#[derive(Clone, Debug, Default)]
struct List {
    oldest: Option<u32>,
    newest: Option<u32>,
    len: usize,
    /// For each age the oldest request that has not reached it.
    cursors: [Option<u32>; STAGES],
    /// The arm is out: draws that it cannot serve count as one event, by this key.
    outage: Option<u64>,
}

impl Entry {
    /// Does it say nothing of its age now.
    fn is_silent(&self) -> bool {
        self.drawn.streams || self.dialling
    }
}

impl Ledger {
    /// An empty book. No other one of this worker may write to the same evidence.
    #[must_use]
    pub fn new(evidence: Arc<SplitEvidence>, teller: Teller) -> Self {
        let slow = evidence.slow();
        let ages_us = stages(slow);
        Self { evidence, teller, slab: Vec::new(), free: None, lists: Default::default(), slow, ages_us }
    }

    /// The evidence that it writes to.
    #[must_use]
    pub fn evidence(&self) -> &Arc<SplitEvidence> {
        &self.evidence
    }

    /// A request was drawn. `now_us` is the worker's clock; one that ran backwards counts as having stood still. `None`:
    /// there are [`IN_FLIGHT_MAX`] already.
    ///
    /// A draw that its arm could not serve is told at once. As long as the arm is out all of them are one event: they
    /// say only that it is out, and a canary whose one endpoint was ejected by bad luck must not look as if a hundred
    /// users had met a failure of its own.
    pub fn start(&mut self, drawn: Drawn, now_us: u64) -> Option<Ticket> {
        self.read_ages();
        let newest_us = self.list(drawn.arm).newest.map_or(0, |newest| self.slab[newest as usize].routed_us);
        let entry = Entry {
            drawn,
            routed_us: now_us.max(newest_us),
            slow: self.slow.version,
            passed: 0,
            head: false,
            dialling: false,
            told: false,
            place: Place::Apart,
            older: None,
            newer: None,
        };
        let at = self.take_entry(entry)?;
        if drawn.redistributed {
            self.tally().routed(drawn.arm, self.oldest_us(drawn.arm));
            self.unserved(&Ticket(at));
        } else {
            self.link(at);
            self.tally().routed(drawn.arm, self.oldest_us(drawn.arm));
        }
        Some(Ticket(at))
    }

    /// Nobody could serve the request on its arm: that is a failure of the arm, told now.
    pub fn unserved(&mut self, ticket: &Ticket) {
        let arm = self.slab[ticket.0 as usize].drawn.arm;
        let key = *self.list_mut(arm).outage.get_or_insert_with(lost_id);
        self.slab[ticket.0 as usize].head = true; // it says nothing of its age
        self.tell_failure(ticket.0, Some(Key::Connection(key)));
    }

    /// The arm could serve a draw: if it was out, that is over.
    pub fn served(&mut self, arm: Arm) {
        self.list_mut(arm).outage = None;
        self.tally().health(arm).present();
    }

    /// A draw found that the arm has nobody who can serve.
    pub fn out(&mut self, arm: Arm, out: Out, now_us: u64) {
        let health = self.tally().health(arm);
        match out {
            Out::Absent => health.absent(now_us),
            Out::Ejected => health.ejected(now_us),
            Out::Pending => {}
        }
    }

    /// The request is sent: from now on it says something of its age.
    pub fn sent(&mut self, ticket: &Ticket, now_us: u64) {
        let ages_us = self.ages_us;
        let entry = &mut self.slab[ticket.0 as usize];
        if std::mem::replace(&mut entry.drawn.streams, false) {
            let us = now_us.saturating_sub(entry.routed_us);
            (0..KINDS.len()).filter(|&stage| us > ages_us[stage]).for_each(|stage| entry.passed |= 1 << stage);
        }
    }

    /// The request waits for a connection that is made for it. An arm that gets little traffic makes one for a larger part
    /// of its requests, which says nothing of how fast it answers.
    pub fn dialling(&mut self, ticket: &Ticket) {
        self.slab[ticket.0 as usize].dialling = true;
    }

    /// The connection stands: the request is sent now, and its age and its place in the order count from here.
    pub fn dialled(&mut self, ticket: &Ticket, now_us: u64) {
        let at = ticket.0;
        let entry = &mut self.slab[at as usize];
        if !std::mem::replace(&mut entry.dialling, false) || entry.told || entry.head {
            return;
        }
        self.leave(at);
        let arm = self.slab[at as usize].drawn.arm;
        let newest_us = self.list(arm).newest.map_or(0, |newest| self.slab[newest as usize].routed_us);
        self.slab[at as usize].routed_us = now_us.max(newest_us);
        self.link(at);
        self.tally().set_oldest(arm, self.oldest_us(arm));
    }

    /// The response head of the request came.
    pub fn head(&mut self, ticket: &Ticket, now_us: u64) {
        self.waited(ticket.0, true, now_us);
        let entry = &self.slab[ticket.0 as usize];
        let settled = now_us.saturating_sub(entry.routed_us) > self.ages_us[SETTLED];
        if entry.place == Place::Overdue || (entry.place == Place::Listed && settled) {
            self.leave(ticket.0);
        }
    }

    /// The first attempt of the request failed. `lost`: with the connection of this id. Whatever follows does not count.
    pub fn fail(&mut self, ticket: &Ticket, lost: Option<u64>, now_us: u64) {
        if self.slab[ticket.0 as usize].told {
            return;
        }
        self.waited(ticket.0, true, now_us);
        let entry = &self.slab[ticket.0 as usize];
        self.tally().health(entry.drawn.arm).failed(entry.routed_us);
        let session = entry.drawn.session.map(Key::Session);
        self.tell_failure(ticket.0, session.or(lost.map(Key::Connection)));
    }

    /// The request goes on as if its arm had not been drawn: whatever follows says nothing of it.
    pub fn excuse(&mut self, ticket: &Ticket) {
        let entry = &mut self.slab[ticket.0 as usize];
        if !std::mem::replace(&mut entry.told, true) {
            entry.head = true;
            let arm = entry.drawn.arm;
            self.tally().abandoned(arm);
            self.leave(ticket.0);
        }
    }

    /// An endpoint that the request was sent to was ejected.
    pub fn ejected(&self, ticket: &Ticket, now_us: u64) {
        self.tally().health(self.serving(ticket)).ejected(now_us);
    }

    /// The request has ended. `lost`: with the connection of this id.
    pub fn finish(&mut self, ticket: Ticket, class: Class, lost: Option<u64>, now_us: u64) {
        let (at, serving) = (ticket.0, self.serving(&ticket));
        let entry = &self.slab[at as usize];
        let (told, routed_us) = (entry.told, entry.routed_us);
        let health = self.tally().health(serving);
        match class {
            Class::Success => health.succeeded(routed_us),
            Class::Failure if told && entry.drawn.redistributed => health.failed(routed_us),
            Class::Failure | Class::Ignored => {}
        }
        if !told && class == Class::Failure {
            self.fail(&ticket, lost, now_us);
        } else if !told {
            self.waited(at, class == Class::Success, now_us);
            let entry = &mut self.slab[at as usize];
            entry.told = true;
            let arm = entry.drawn.arm;
            // who went away before the end has not seen that it ends well
            match class {
                Class::Success => self.tally().completed(arm),
                Class::Failure | Class::Ignored => self.tally().abandoned(arm),
            }
        }
        self.leave(at);
        let free = self.free.replace(at);
        self.slab[at as usize].newer = free;
    }

    /// The arm whose endpoint has the request.
    #[must_use]
    pub fn serving(&self, ticket: &Ticket) -> Arm {
        let drawn = &self.slab[ticket.0 as usize].drawn;
        if drawn.redistributed { drawn.arm.other() } else { drawn.arm }
    }

    /// The request goes to the other arm from here on.
    pub fn moved(&mut self, ticket: &Ticket) {
        self.excuse(ticket);
        let drawn = &mut self.slab[ticket.0 as usize].drawn;
        drawn.redistributed = !drawn.redistributed;
    }

    /// Tells what has passed an age by now. Whether there is anything that may still do so.
    pub fn tick(&mut self, now_us: u64) -> bool {
        self.read_ages();
        for arm in ARMS {
            for stage in 0..STAGES {
                self.advance(arm, stage, now_us);
            }
        }
        self.is_waiting()
    }

    /// Is there a request that may still pass an age.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.lists.iter().any(|list| list.oldest.is_some())
    }

    /// Moves a cursor up to the first request that has not reached its age.
    fn advance(&mut self, arm: Arm, stage: usize, now_us: u64) {
        let mut slow: Option<Record> = None;
        while let Some(at) = self.list(arm).cursors[stage] {
            let entry = &self.slab[at as usize];
            if now_us.saturating_sub(entry.routed_us) <= self.ages_us[stage] {
                break;
            }
            let (newer, answered) = (entry.newer, entry.head || entry.is_silent());
            self.list_mut(arm).cursors[stage] = newer;
            match stage {
                SETTLED if answered => self.leave(at),
                SETTLED => {}
                OVERDUE => self.overdue(at),
                _ => {
                    let Some(record) = self.pass(at, stage) else { continue };
                    match &mut slow {
                        Some(run) if is_alike(run, &record) => run.times += 1,
                        _ => slow.replace(record).into_iter().for_each(|run| self.tell(run)),
                    }
                }
            }
        }
        slow.into_iter().for_each(|run| self.tell(run));
    }

    /// The wait for a head is over: what it passed is told. `answered`: by the arm, not by a caller who went away.
    fn waited(&mut self, at: u32, answered: bool, now_us: u64) {
        let entry = &self.slab[at as usize];
        if !entry.head && !entry.is_silent() {
            let (arm, us) = (entry.drawn.arm, now_us.saturating_sub(entry.routed_us));
            if answered {
                self.tally().head(arm, us);
            }
            for stage in 0..KINDS.len() {
                if us > self.ages_us[stage]
                    && let Some(record) = self.pass(at, stage)
                {
                    self.tell(record);
                }
            }
        }
        self.slab[at as usize].head = true;
    }

    /// A request passes an age: the event, if it is one.
    fn pass(&mut self, at: u32, stage: usize) -> Option<Record> {
        let version = self.slow.version;
        let entry = &mut self.slab[at as usize];
        let before = entry.passed;
        if !entry.dialling {
            entry.passed |= 1 << stage;
        }
        let counts = before & (1 << stage) == 0 && !entry.head && !entry.is_silent() && entry.slow == version;
        let key = entry.drawn.session.map(Key::Session);
        counts.then(|| self.record(at, KINDS[stage], key))
    }

    /// A request without a head becomes overdue, unless there is no room for its share: then it stays open.
    fn overdue(&mut self, at: u32) {
        let entry = &self.slab[at as usize];
        let (arm, share, routed_us) = (entry.drawn.arm, entry.drawn.share, entry.routed_us);
        debug_assert!(!entry.head && !entry.is_silent(), "settled is not later than overdue");
        if self.tally().add_overdue(arm, share, routed_us).is_ok() {
            self.leave(at);
            self.slab[at as usize].place = Place::Overdue;
        }
    }

    /// The outcome of the request: told before it is counted, and counted before it leaves the order.
    fn tell_failure(&mut self, at: u32, key: Option<Key>) {
        if std::mem::replace(&mut self.slab[at as usize].told, true) {
            return;
        }
        let arm = self.slab[at as usize].drawn.arm;
        self.tell(self.record(at, Kind::Failure, key));
        self.tally().completed(arm);
        self.tally().failed(arm);
        self.leave(at);
    }

    fn record(&self, at: u32, kind: Kind, key: Option<Key>) -> Record {
        let Entry { drawn, routed_us, .. } = &self.slab[at as usize];
        Record {
            evidence: self.evidence.id(),
            arm: drawn.arm,
            share: drawn.share,
            routed_us: *routed_us,
            kind,
            key,
            randomised: drawn.randomised,
            times: 1,
        }
    }

    fn tell(&self, record: Record) {
        self.teller.records.tell(self.teller.worker, record);
    }

    fn tally(&self) -> &Tally {
        self.evidence.tally(self.teller.worker)
    }

    /// Other ages may be in force: then everybody is looked at again, once.
    fn read_ages(&mut self) {
        if self.evidence.slow_version() == self.slow.version {
            return;
        }
        self.slow = self.evidence.slow();
        self.ages_us = stages(self.slow);
        self.lists.iter_mut().for_each(|list| list.cursors = [list.oldest; STAGES]);
    }
}

/// Equal but for what nobody asks, and without a key: told as one.
fn is_alike(run: &Record, record: &Record) -> bool {
    run.key.is_none()
        && *run == Record { times: run.times, routed_us: run.routed_us, ..*record }
        && run.times < u32::MAX
}

fn stages(slow: Slow) -> [u64; STAGES] {
    match slow.ages_us {
        Some([slow50, slow90, slow99]) => [slow50, slow90, slow99, slow99, slow99],
        None => [u64::MAX, u64::MAX, u64::MAX, SETTLED_US, OVERDUE_US],
    }
}

const _: () = assert!(IN_FLIGHT_MAX <= u32::MAX as usize && SETTLED_US <= OVERDUE_US);

#[cfg(test)]
mod tests;
