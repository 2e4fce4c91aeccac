//! What a worker knows of each of its downstream connections, and what it asks of them.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::HeaderValue;
use serin_config::model::Limits;

use crate::body::Body;
use crate::clock;
use crate::floods::{Budgets, Flood, Floods};
use crate::local::Local;
use crate::worker::Worker;

mod active;
mod line;

pub use active::Active;
use line::Line;

/// Without a request before the connection gives up its buffers.
const PARK_US: u64 = 250_000;
/// An idle connection that was asked to close is let alone for so many sweeps.
const CLOSING_SWEEPS_MAX: u8 = 2;
/// A new connection that has sent nothing yet is waited for so long in a drain: its request may be on the way.
const DRAIN_FRESH_US: u64 = 1_000_000;

/// One downstream connection.
#[derive(Debug)]
pub struct Link {
    /// Id of its listener.
    pub listener: u64,
    /// Who it comes from.
    pub peer: SocketAddr,
    /// Its address as `X-Forwarded-For` has it.
    pub peer_text: HeaderValue,
    seen: RefCell<(Rc<Local>, usize)>,
    host: RefCell<Option<HeaderValue>>,
    /// Requests and streams that are not over.
    active: Cell<u32>,
    served: Cell<u32>,
    /// When it was accepted, and then when its last request ended.
    idle_since_us: Cell<u64>,
    octets: Cell<u64>,
    /// Of them, those that belong to requests that were read.
    octets_used: Cell<u64>,
    /// When a sweep first saw an unfinished head; 0: none.
    head_since_us: Cell<u64>,
    /// Since when its socket takes nothing; 0: no sweep has seen it yet.
    blocked_since_us: Cell<Option<u64>>,
    /// An answer has begun, and hyper may hold octets of it.
    unflushed: Cell<bool>,
    /// Octets written, and how many had been when the newest request began.
    written: Cell<u64>,
    written_before: Cell<u64>,
    /// The first line of the newest HTTP/1 request.
    line: RefCell<Line>,
    /// What the newest HTTP/1 request is like.
    request: Cell<RequestState>,
    unread: Cell<bool>,
    /// The answer that switched protocols.
    switched: RefCell<Option<Box<Body>>>,
    tunnelled: Cell<bool>,
    reader_waits: Cell<bool>,
    /// Sweeps that saw it idle since it was asked to close.
    closing_sweeps: Cell<u8>,
    http2: Cell<bool>,
    /// What its HTTP/2 frames cost; nothing is there for HTTP/1.1.
    floods: RefCell<Option<Box<Floods>>>,
    spent: Cell<bool>,
    ask: Cell<Ask>,
    waker: RefCell<Option<Waker>>,
}

/// What an HTTP/1 request is like.
#[derive(Clone, Copy, Debug, Default)]
struct RequestState {
    uploading: bool,
    http_1_0: bool,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The request has not been read to its end.
    Early,
    /// So many octets went to the client.
    Written(u64),
    /// None. `may_ask`: an interim response would be understood.
    Unwritten {
        /// Not by HTTP/1.0.
        may_ask: bool,
    },
}

/// What is asked of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ask {
    /// Nothing.
    #[default]
    Nothing,
    /// Let go of buffers if idle.
    Park,
    /// End when the current requests are done.
    Close,
    /// End: the head took too long.
    Timeout,
    /// End at once: the peer takes none of what it asked for.
    Abort,
}

impl Link {
    /// A connection that was accepted now.
    pub fn new(listener: u64, peer: SocketAddr, seen: (Rc<Local>, usize), worker: &Worker) -> Rc<Self> {
        Rc::new(Self {
            listener,
            peer,
            peer_text: worker.address_text(peer.ip()),
            seen: RefCell::new(seen),
            host: RefCell::default(),
            active: Cell::new(0),
            served: Cell::new(0),
            idle_since_us: Cell::new(clock::now_us()),
            octets: Cell::new(0),
            octets_used: Cell::new(0),
            head_since_us: Cell::new(0),
            blocked_since_us: Cell::new(None),
            unflushed: Cell::new(false),
            written: Cell::new(0),
            written_before: Cell::new(0),
            line: RefCell::default(),
            request: Cell::default(),
            unread: Cell::new(false),
            switched: RefCell::default(),
            tunnelled: Cell::new(false),
            reader_waits: Cell::new(false),
            closing_sweeps: Cell::new(0),
            http2: Cell::new(false),
            floods: RefCell::default(),
            spent: Cell::new(false),
            ask: Cell::default(),
            waker: RefCell::default(),
        })
    }

    /// The snapshot that a request beginning now sees. A connection whose listener was removed keeps the last one that
    /// had it.
    pub fn fix_snapshot(&self, worker: &Worker) -> (Rc<Local>, usize) {
        let current = worker.current();
        let mut seen = self.seen.borrow_mut();
        if seen.0.snapshot.version != current.snapshot.version
            && let Some(server) = current.shape.server(self.listener)
        {
            *seen = (current, server);
        }
        (Rc::clone(&seen.0), seen.1)
    }

    /// One of the limits of its listener.
    pub fn limit<R>(&self, read: impl FnOnce(&Limits) -> R) -> R {
        let seen = self.seen.borrow();
        read(&seen.0.shape.structure.servers[seen.1].server.limits)
    }

    /// This host as a field value. A connection mostly asks for one host: that value is kept and shared.
    pub fn host_value(&self, host: &[u8]) -> Option<HeaderValue> {
        let mut kept = self.host.borrow_mut();
        if kept.as_ref().is_none_or(|kept| kept.as_bytes() != host) {
            *kept = HeaderValue::from_bytes(host).ok();
        }
        kept.clone()
    }

    /// A request begins.
    pub fn begin(self: &Rc<Self>, worker: &Rc<Worker>) -> Active {
        self.active.set(self.active.get() + 1);
        self.unflushed.set(true);
        self.served.set(self.served.get().saturating_add(1));
        self.octets_used.set(self.octets.get());
        self.written_before.set(self.written.get());
        self.head_since_us.set(0);
        if self.ask.get() == Ask::Park {
            self.ask.set(Ask::Nothing);
        }
        Active(Rc::clone(self), Rc::clone(worker))
    }

    /// Says of the request that has begun whether its body is still to come, and whether it is of HTTP/1.0.
    pub fn note_request(&self, uploading: bool, http_1_0: bool) {
        self.request.set(RequestState { uploading, http_1_0 });
    }

    /// The body of the request has come to its end.
    pub fn note_uploaded(&self) {
        self.request.set(RequestState { uploading: false, ..self.request.get() });
    }

    /// Is the answer to an HTTP/1 request still due, at least in part: hyper may hold the last of one whose body has ended.
    pub fn owes_answer(&self) -> bool {
        (!self.is_idle() || self.is_blocked()) && !self.http2.get() && !self.tunnelled.get()
    }

    /// It is a tunnel from now on: each direction ends on its own.
    pub fn set_tunnelled(&self) {
        self.tunnelled.set(true);
    }

    /// Does somebody wait for more of the request's body than there is.
    pub fn set_reader_waits(&self, waits: bool) {
        self.reader_waits.set(waits);
    }

    /// Does it speak HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2.get()
    }

    /// Did the last request come over HTTP/1.0.
    pub fn is_http_1_0(&self) -> bool {
        self.request.get().http_1_0
    }

    /// No octet of an answer is on its way.
    pub fn note_flushed(&self) {
        self.unflushed.set(false);
    }

    /// Is all that was answered written.
    pub fn is_flushed(&self) -> bool {
        !self.unflushed.get()
    }

    /// So many octets that came behind a request belong to the next one: a head that has begun.
    pub fn put_back(&self, count: usize) {
        self.octets_used.set(self.octets_used.get().saturating_sub(count as u64));
        self.head_since_us.set(0);
    }

    /// What of that answer has been written.
    pub fn answer(&self) -> Answer {
        // what came whole may lie there until somebody reads it
        if self.request.get().uploading && self.reader_waits.get() {
            return Answer::Early;
        }
        let written = self.written.get() - self.written_before.get();
        if written > 0 || self.blocked_since_us.get().is_some() {
            return Answer::Written(written);
        }
        Answer::Unwritten { may_ask: !self.request.get().http_1_0 }
    }

    /// Octets came in.
    pub fn note_read(&self, count: usize) {
        self.octets.set(self.octets.get() + count as u64);
    }

    /// It speaks HTTP/2: from here its frames are counted.
    pub fn count_frames(&self, budgets: Budgets) {
        *self.floods.borrow_mut() = Some(Box::new(Floods::of_client(budgets, clock::now_us())));
    }

    /// These octets of HTTP/2 came in. `false`: there was too much that serves nothing, and nothing more is to be read.
    pub fn note_frames(&self, octets: &[u8]) -> bool {
        self.floods.borrow_mut().as_mut().is_none_or(|floods| floods.read(octets, clock::now_us()).is_ok())
    }

    /// A stream ended: with an answer, or reset before it had one. The connection's task looks at what that means.
    pub fn note_stream(&self, answered: bool) {
        let mut floods = self.floods.borrow_mut();
        let Some(floods) = floods.as_mut() else { return };
        if answered {
            floods.answered();
        } else if floods.reset(clock::now_us()).is_err() {
            self.wake();
        }
    }

    /// Of what its HTTP/2 frames were too much, if they were.
    pub fn flood(&self) -> Option<Flood> {
        self.floods.borrow().as_ref().and_then(|floods| floods.flood())
    }

    /// Requests and streams under way.
    pub fn active(&self) -> u32 {
        self.active.get()
    }

    /// The request under way is its last one.
    pub fn spend(&self) {
        self.spent.set(true);
    }

    /// The caller's body was not read to its end: what is left of it is still to come.
    pub fn note_unread(&self) {
        self.unread.set(true);
    }

    /// The answer that is being sent switches protocols; its body is the tunnel.
    pub fn switch(&self, body: Body) {
        *self.switched.borrow_mut() = Some(Box::new(body));
    }

    /// The body given to [`Link::switch`].
    pub fn take_switched(&self) -> Option<Box<Body>> {
        self.switched.borrow_mut().take()
    }

    /// Did [`Link::note_unread`] happen.
    pub fn has_unread(&self) -> bool {
        self.unread.get()
    }

    /// Has it carried as many requests as it may.
    pub fn is_spent(&self) -> bool {
        self.spent.get() || self.served.get() >= self.limit(|limits| limits.requests_per_connection_max)
    }

    /// Requests that have begun on it.
    pub fn served(&self) -> u32 {
        self.served.get()
    }

    /// Traffic is back.
    pub fn unpark(&self) {
        if self.ask.get() == Ask::Park {
            self.ask.set(Ask::Nothing);
        }
    }

    /// It speaks HTTP/2: frames between requests are no unfinished head.
    pub fn set_http2(&self) {
        self.http2.set(true);
    }

    /// Asks it to end after the request that is under way or to come.
    pub fn close(&self) {
        self.ask(Ask::Close);
    }

    /// Has it answered anything yet.
    pub fn has_served(&self) -> bool {
        self.served.get() > 0
    }

    /// Has it served, and waits for another request: closing it now hurts nobody. Since when.
    pub(super) fn spare_since_us(&self) -> Option<u64> {
        let spare = self.is_idle() && self.has_served() && matches!(self.ask.get(), Ask::Nothing | Ask::Park);
        spare.then(|| self.idle_since_us.get())
    }

    /// Is no request under way.
    pub fn is_idle(&self) -> bool {
        self.active.get() == 0
    }

    /// What is asked of it. Its task is woken when that changes.
    pub fn poll_ask(&self, cx: &Context<'_>) -> Ask {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.ask.get()
    }

    /// Is it to close without another request.
    pub fn poll_closing(&self, cx: &Context<'_>) -> bool {
        match self.poll_ask(cx) {
            Ask::Nothing | Ask::Park => false,
            Ask::Close => self.has_served(),
            Ask::Timeout | Ask::Abort => true,
        }
    }

    pub(super) fn ask(&self, ask: Ask) {
        if self.ask.get() != ask {
            self.ask.set(ask);
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Has a frame that is not complete, or a header block, been so for too long. Between streams it is an unfinished head
    /// or less; beside streams that run it may be a slow upload.
    fn is_head_late(&self, now_us: u64, head_us: u64) -> bool {
        let block = |floods: &Floods| floods.is_within_block() || (self.is_idle() && floods.is_within());
        if !self.floods.borrow().as_ref().is_some_and(|floods| block(floods)) {
            self.head_since_us.set(0);
            return false;
        }
        let since_us = self.head_since_us.get();
        if since_us == 0 {
            self.head_since_us.set(now_us.max(1));
        }
        since_us != 0 && now_us.saturating_sub(since_us) > head_us
    }

    pub(super) fn sweep(&self, now_us: u64, draining: bool) {
        if self.ask.get() == Ask::Abort {
            return;
        }
        let (head_us, idle_us_max, stall_us) =
            self.limit(|limits| (limits.head_timeout, limits.idle_timeout, limits.stall_timeout));
        if self.is_stalled(now_us, micros(stall_us)) {
            return self.ask(Ask::Abort);
        }
        if self.http2.get() && self.is_head_late(now_us, micros(head_us)) {
            return self.ask(Ask::Timeout);
        }
        if !self.is_idle() || self.is_blocked() || self.ask.get() == Ask::Timeout {
            self.closing_sweeps.set(0);
            return;
        }
        if self.must_go() {
            return self.ask(Ask::Timeout);
        }
        let (head_us, idle_us_max) = (micros(head_us), micros(idle_us_max));
        let idle_us = now_us.saturating_sub(self.idle_since_us.get());
        if self.http2.get() {
            if idle_us > idle_us_max {
                self.ask(Ask::Close);
            }
        } else if self.octets.get() > self.octets_used.get() {
            let since_us = self.head_since_us.get();
            if since_us == 0 {
                self.head_since_us.set(now_us.max(1));
            } else if now_us.saturating_sub(since_us) > head_us {
                self.ask(Ask::Timeout);
            }
        } else if !self.has_served() {
            // even when it is to close: its first request may be on the way, and it will be answered
            let closing = draining || self.ask.get() == Ask::Close;
            if idle_us > if closing { DRAIN_FRESH_US } else { head_us } {
                self.ask(Ask::Timeout);
            }
        } else if idle_us > idle_us_max {
            self.ask(Ask::Close);
        } else if idle_us > PARK_US && self.ask.get() == Ask::Nothing {
            self.ask(Ask::Park);
        }
    }

    /// Was it asked to close some sweeps ago, and does nothing but wait. A peer that does not answer the PING of a GOAWAY, or
    /// sends what is no request, is not waited for. One whose first request may be on the way has times of its own.
    fn must_go(&self) -> bool {
        let begins = !self.http2.get() && (!self.has_served() || self.octets.get() > self.octets_used.get());
        if self.ask.get() != Ask::Close || begins {
            self.closing_sweeps.set(0);
            return false;
        }
        self.closing_sweeps.set(self.closing_sweeps.get().saturating_add(1));
        self.closing_sweeps.get() > CLOSING_SWEEPS_MAX
    }

    /// The socket took octets, or none although there were some.
    pub fn note_written(&self, written: &Poll<io::Result<usize>>) {
        match (written.is_pending(), self.blocked_since_us.get()) {
            (true, None) => self.blocked_since_us.set(Some(0)),
            (false, Some(_)) => self.blocked_since_us.set(None),
            _ => {}
        }
        if let Poll::Ready(Ok(count)) = written {
            self.written.set(self.written.get() + *count as u64);
        }
        if let Poll::Ready(Ok(count)) = written
            && let Some(floods) = &mut *self.floods.borrow_mut()
        {
            floods.wrote(*count);
        }
    }

    /// Does its socket take nothing at the moment.
    pub fn is_blocked(&self) -> bool {
        self.blocked_since_us.get().is_some()
    }

    /// Has the socket taken nothing for so long, as far as sweeps have seen.
    fn is_stalled(&self, now_us: u64, stall_us: u64) -> bool {
        match self.blocked_since_us.get() {
            None => false,
            Some(0) => {
                self.blocked_since_us.set(Some(now_us.max(1)));
                false
            }
            Some(since_us) => now_us.saturating_sub(since_us) > stall_us,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
