//! Requests in flight on one worker: what must be undone or counted when a request ends, however it ends.
//!
//! A slot belongs to exactly one [`Ticket`]. The ticket travels with the request and then with its response body; when
//! it is finished or dropped, everything the request held is given back once. Slots are reused, so a request allocates
//! nothing here. One coarse tick for each worker looks after all deadlines, in place of a timer for each request.

mod blame;
mod watch;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};

use serin_config::model::Classifier;
use serin_metrics::{Class, RequestCells};

use crate::clock;
use crate::error::ProxyError;
use crate::ledger;
use crate::local::Watched;
use crate::pool::{Endpoint, Lease};
use crate::worker::Worker;

use blame::Blame;
pub use blame::{CALLERS_US, Limit};

/// How late a deadline may fire.
pub const TICK_MS: u64 = 10;

/// Splits of rollouts drawn for one request that are remembered; nested ones beyond it are routed but not recorded.
pub const DRAWS_MAX: usize = 4;

/// The deadlines of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Of the current attempt, to its response head.
    Attempt,
    /// Of the whole request.
    Total,
}

/// The counters of one set of labels on this worker. Behind an `Rc`, so that a request shares no reference count with
/// other cores.
#[derive(Debug)]
pub struct Series(pub Arc<RequestCells>);

impl Series {
    fn record(&self, class: Class, elapsed_us: u64) {
        self.0.record(class, elapsed_us);
    }
}

/// A counter of admitted requests of one listener.
#[derive(Debug)]
pub enum Gate {
    /// Of this worker alone: the share of a limit that nobody wrote.
    Local(Cell<u32>),
    /// Of all workers together: a limit that somebody wrote is meant as written.
    Shared(Arc<AtomicU32>),
}

impl Gate {
    /// Admits one more request unless `max` are in flight.
    pub fn enter(&self, max: u32) -> bool {
        match self {
            Self::Local(count) => {
                let admitted = count.get() < max;
                count.set(count.get() + u32::from(admitted));
                admitted
            }
            Self::Shared(count) => {
                let below = |count: u32| (count < max).then_some(count + 1);
                count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).is_ok()
            }
        }
    }

    /// Does it count over all workers.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    fn leave(&self) {
        match self {
            Self::Local(count) => {
                debug_assert!(count.get() > 0, "a request leaves a gate it never entered");
                count.set(count.get().saturating_sub(1));
            }
            Self::Shared(count) => {
                let before = count.fetch_sub(1, Ordering::Relaxed);
                debug_assert!(before > 0, "a request leaves a gate it never entered");
            }
        }
    }
}

/// All slots of one worker.
#[derive(Debug, Default)]
pub struct InFlight {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    /// Slots with a deadline: while it is 0 the tick sleeps.
    timed: Cell<u32>,
    /// Rollouts with requests that may pass an age: while there are none the tick sleeps.
    watched: RefCell<Vec<Rc<Watched>>>,
    tick: tokio::sync::Notify,
    copies: Cell<usize>,
}

#[derive(Debug, Default)]
struct Slot {
    live: bool,
    trusted: bool,
    /// It is the copy of a request: nobody waits for it.
    copy: bool,
    started_us: u64,
    series: Option<Rc<Series>>,
    /// How the service wants answers counted, if not as usual.
    classifier: Option<Rc<Classifier>>,
    lease: Option<Lease>,
    gate: Option<Rc<Gate>>,
    draws: [Option<(Rc<Watched>, ledger::Ticket)>; DRAWS_MAX],
    /// 0: none.
    attempt_us: u64,
    total_us: u64,
    /// Set by the tick, so that a request reads no clock to learn that it has time left.
    passed: Option<Deadline>,
    blame: Blame,
    waker: Option<Waker>,
}

impl InFlight {
    /// Opens a slot for a request that began now.
    pub fn open(worker: &Rc<Worker>, now_us: u64) -> Ticket {
        worker.shard.worker().requests_active.inc();
        Self::open_slot(worker, now_us, false)
    }

    /// Opens a slot for the copy of a request. It counts nowhere but in [`InFlight::copies`].
    pub fn open_copy(worker: &Rc<Worker>) -> Ticket {
        worker.in_flight.copies.set(worker.in_flight.copies.get() + 1);
        Self::open_slot(worker, worker.coarse_us.get(), true)
    }

    fn open_slot(worker: &Rc<Worker>, now_us: u64, copy: bool) -> Ticket {
        let this = &worker.in_flight;
        let mut slots = this.slots.borrow_mut();
        let key = this.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot::default());
            u32::try_from(slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut slots[key as usize];
        debug_assert!(!slot.live, "a free slot is in use");
        slot.live = true;
        slot.copy = copy;
        slot.started_us = now_us;
        worker.coarse_us.set(now_us);
        Ticket { worker: Rc::clone(worker), key, done: false }
    }

    /// Requests in flight, without copies.
    pub fn len(&self) -> usize {
        self.slots.borrow().len() - self.free.borrow().len() - self.copies.get()
    }

    /// Copies of requests in flight.
    pub fn copies(&self) -> usize {
        self.copies.get()
    }

    /// Is nothing in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes the requests whose deadline has passed and tells the ages of those that a rollout watches, every tick for
    /// as long as there are any.
    pub async fn run_ticks(worker: Rc<Worker>) {
        let this = &worker.in_flight;
        loop {
            if this.timed.get() == 0 && this.watched.borrow().is_empty() {
                this.tick.notified().await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(TICK_MS)).await;
            let now_us = clock::now_us();
            worker.coarse_us.set(now_us);
            if this.timed.get() > 0 {
                this.wake_expired(now_us);
            }
            this.tell_ages(now_us);
        }
    }

    fn tell_ages(&self, now_us: u64) {
        self.watched.borrow_mut().retain(|watched| {
            let waits = watched.ledger.borrow_mut().tick(now_us);
            watched.ticking.set(waits);
            waits
        });
    }

    fn wake_expired(&self, now_us: u64) {
        for slot in self.slots.borrow_mut().iter_mut() {
            slot.passed = expired(slot, now_us);
            if slot.passed.is_some()
                && let Some(waker) = slot.waker.take()
            {
                waker.wake();
            }
        }
    }

    fn with<R>(&self, key: u32, f: impl FnOnce(&mut Slot) -> R) -> R {
        f(&mut self.slots.borrow_mut()[key as usize])
    }

    fn recount(&self, before: bool, after: bool) {
        let timed = self.timed.get();
        match (before, after) {
            (false, true) => {
                self.timed.set(timed + 1);
                if timed == 0 {
                    self.tick.notify_one();
                }
            }
            (true, false) => self.timed.set(timed.saturating_sub(1)),
            _ => {}
        }
    }
}

fn timed(slot: &Slot) -> bool {
    slot.attempt_us != 0 || slot.total_us != 0
}

fn expired(slot: &Slot, now_us: u64) -> Option<Deadline> {
    let past = |at_us: u64| at_us != 0 && now_us >= at_us;
    if past(slot.total_us) {
        Some(Deadline::Total)
    } else if past(slot.attempt_us) {
        Some(Deadline::Attempt)
    } else {
        None
    }
}

/// The right to end one request. Dropping it says that nobody waits for the request any more.
#[derive(Debug)]
pub struct Ticket {
    worker: Rc<Worker>,
    key: u32,
    done: bool,
}

/// Names the slot of a request whose ticket somebody else holds. Valid as long as that ticket lives.
#[derive(Clone, Copy, Debug)]
pub struct Handle(u32);

impl Ticket {
    /// For code that fills in the slot but does not end the request.
    pub fn handle(&self) -> Handle {
        Handle(self.key)
    }

    /// Has the deadline of the whole request passed. Otherwise this task is woken when it does.
    pub fn is_past_total(&self, cx: &Context<'_>) -> bool {
        self.worker.in_flight.poll_deadline(self.handle(), cx) == Some(Deadline::Total)
    }

    /// What [`InFlight::late`] does.
    pub fn late(&self) -> ProxyError {
        self.worker.in_flight.late(self.handle())
    }

    /// The time as the worker last saw it.
    pub fn coarse_us(&self) -> u64 {
        self.worker.coarse_us.get()
    }

    /// What [`InFlight::said_late`] does.
    pub fn said_late(&self) {
        self.worker.in_flight.said_late(self.handle());
    }

    /// What [`InFlight::answered_call`] does.
    pub fn answered_call(&self) {
        self.worker.in_flight.answered_call(self.handle());
    }

    /// What [`InFlight::set_classifier`] said.
    pub fn classifier(&self) -> Option<Rc<Classifier>> {
        self.worker.in_flight.classifier(self.handle())
    }

    /// May its reader see `l5d-*` fields.
    pub fn is_trusted(&self) -> bool {
        self.worker.in_flight.is_trusted(self.handle())
    }

    /// The request is over.
    pub fn finish(mut self, class: Class) {
        self.end(class, None);
    }

    /// The request failed; `lost`: together with the upstream connection of this id.
    pub fn fail(mut self, lost: Option<u64>) {
        self.end(Class::Failure, lost);
    }

    fn end(&mut self, class: Class, lost: Option<u64>) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let now_us = clock::now_us();
        self.worker.coarse_us.set(now_us);
        let in_flight = &self.worker.in_flight;
        let slot = in_flight.with(self.key, |slot| {
            debug_assert!(slot.live, "a request ends twice");
            in_flight.recount(timed(slot), false);
            std::mem::take(slot)
        });
        in_flight.free.borrow_mut().push(self.key);
        if slot.copy {
            in_flight.copies.set(in_flight.copies.get().saturating_sub(1));
        } else {
            self.worker.shard.worker().requests_active.dec();
        }
        let excused = slot.blame.excused || (class == Class::Failure && slot.is_too_short(now_us));
        let class = if excused { Class::Ignored } else { class };
        if let Some(series) = slot.series {
            series.record(class, now_us.saturating_sub(slot.started_us));
        }
        let ejected = slot.lease.is_some_and(|lease| lease.end(class, &self.worker));
        if let Some(gate) = slot.gate {
            gate.leave();
        }
        for (watched, ticket) in slot.draws.into_iter().flatten() {
            let mut ledger = watched.ledger.borrow_mut();
            if ejected {
                // before the failure, which wakes the judge
                ledger.ejected(&ticket, now_us);
            }
            ledger.finish(ticket, class, lost, now_us);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(Class::Ignored, None);
    }
}

impl InFlight {
    /// Counts the request under these labels when it ends.
    pub fn set_series(&self, handle: Handle, series: Rc<Series>) {
        self.with(handle.0, |slot| slot.series = Some(series));
    }

    /// Its answer counts as this has it.
    pub fn set_classifier(&self, handle: Handle, classifier: &Rc<Classifier>) {
        self.with(handle.0, |slot| slot.classifier = Some(Rc::clone(classifier)));
    }

    /// How its answer counts; `None`: as usual.
    pub fn classifier(&self, handle: Handle) -> Option<Rc<Classifier>> {
        self.with(handle.0, |slot| slot.classifier.clone())
    }

    /// The request passed this gate.
    pub fn set_gate(&self, handle: Handle, gate: Rc<Gate>) {
        self.with(handle.0, |slot| slot.gate = Some(gate));
    }

    /// The current attempt holds this endpoint until it, or the request, ends. Returns the hold before it.
    pub fn set_lease(&self, handle: Handle, lease: Option<Lease>) -> Option<Lease> {
        self.with(handle.0, |slot| std::mem::replace(&mut slot.lease, lease))
    }

    /// The endpoint that the current attempt holds.
    pub fn endpoint(&self, handle: Handle) -> Option<Rc<Endpoint>> {
        self.with(handle.0, |slot| slot.lease.as_ref().map(|lease| Rc::clone(&lease.endpoint)))
    }

    /// The peer may see `l5d-*` fields and details of errors.
    pub fn set_trusted(&self, handle: Handle, trusted: bool) {
        self.with(handle.0, |slot| slot.trusted = trusted);
    }

    /// What [`InFlight::set_trusted`] said; nobody is trusted before.
    pub fn is_trusted(&self, handle: Handle) -> bool {
        self.with(handle.0, |slot| slot.trusted)
    }

    /// Sets a deadline in microseconds of the clock; 0 takes it away.
    pub fn set_deadline(&self, handle: Handle, which: Deadline, at_us: u64) {
        self.with(handle.0, |slot| {
            let before = timed(slot);
            match which {
                Deadline::Attempt => slot.attempt_us = at_us,
                Deadline::Total => slot.total_us = at_us,
            }
            slot.passed = None;
            self.recount(before, timed(slot));
        });
    }

    /// When the whole request must be over, in microseconds of the clock.
    pub fn deadline_us(&self, handle: Handle) -> Option<u64> {
        self.with(handle.0, |slot| (slot.total_us != 0).then_some(slot.total_us))
    }

    /// Has a deadline passed. Otherwise this task is woken when one does.
    pub fn poll_deadline(&self, handle: Handle, cx: &Context<'_>) -> Option<Deadline> {
        self.with(handle.0, |slot| {
            if !timed(slot) {
                return None;
            }
            if slot.passed.is_none() && !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                slot.waker = Some(cx.waker().clone());
            }
            slot.passed
        })
    }
}
