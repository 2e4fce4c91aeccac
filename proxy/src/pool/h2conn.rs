//! An HTTP/2 connection and the streams that are open on it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::PingPong;
use h2::client::SendRequest;
use serin_metrics::Shard;
use tokio::task::AbortHandle;

use super::pulse::{Look, Pulse};
use super::{Conn, Endpoint};
use crate::clock;
use crate::error::{Fault, ProxyError};
use crate::evidence::lost_id;
use crate::floods::Budgets;
use crate::retry::Replay;
use crate::worker::Worker;

/// An endpoint that speaks no HTTP/2 is asked for it again after this time.
const NO_H2_US: u64 = 10_000_000;

/// Why HTTP/2 did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// The connection was closed.
    Lost,
    /// The peer answered with octets that are no HTTP/2.
    Other,
    /// Nothing came.
    Silent,
}

/// A connection that takes streams.
#[derive(Clone, Debug)]
pub(super) struct H2 {
    pub(super) send: SendRequest<Bytes>,
    streams: Rc<Streams>,
}

/// Streams open on a connection; with none it counts as idle.
#[derive(Debug)]
pub(super) struct Streams {
    id: u64,
    /// When it was made, in microseconds of the clock.
    born_us: u64,
    open: Cell<usize>,
    /// A request has put the names of its fields into the compression table.
    named: Cell<bool>,
    closed: Cell<bool>,
    /// It ended because what came was no HTTP/2.
    other: Cell<bool>,
    /// When a sweep first saw it idle, in microseconds; 0: it is not.
    idle_since_us: Cell<u64>,
    shard: Arc<Shard>,
    endpoint: Weak<Endpoint>,
    pulse: Rc<Pulse>,
    /// After so much silence it is asked whether it is still there, and after as much again it is closed.
    ping_after_us: u64,
    /// `None`: a PING is on its way.
    ping: RefCell<Option<PingPong>>,
    driver: RefCell<Option<AbortHandle>>,
    /// Streams that had to be reset for what the origin did.
    provoked: Cell<u32>,
    /// So many of them, and no more are opened: h2 ends a connection with all its streams at twice as many, and never forgets.
    provoked_max: u32,
}

/// Drives a connection for as long as this is held.
struct Driven(Rc<Streams>);

/// One stream on an HTTP/2 connection: the right to open it, and then its place in the count.
#[derive(Debug)]
pub struct H2Lease {
    /// Opens it.
    pub send: SendRequest<Bytes>,
    /// Held as long as the stream may be open.
    pub place: H2Place,
}

/// A stream that counts as open until this is dropped.
#[derive(Debug)]
pub struct H2Place(Rc<Streams>);

impl H2 {
    /// A connection without a stream. Its socket has been counted as active until now.
    fn new(
        send: SendRequest<Bytes>,
        endpoint: &Rc<Endpoint>,
        shard: Arc<Shard>,
        born_us: u64,
        pulse: Rc<Pulse>,
    ) -> Self {
        let streams = Rc::new(Streams {
            id: lost_id(),
            born_us,
            open: Cell::new(0),
            named: Cell::new(false),
            closed: Cell::new(false),
            other: Cell::new(false),
            idle_since_us: Cell::new(0),
            shard,
            endpoint: Rc::downgrade(endpoint),
            pulse,
            ping_after_us: u64::try_from(endpoint.limits.ping_after.as_micros()).unwrap_or(u64::MAX),
            ping: RefCell::default(),
            driver: RefCell::default(),
            provoked: Cell::new(0),
            provoked_max: endpoint.limits.h2.provoked_resets_max.div_ceil(2),
        });
        streams.set_idle(true);
        Self { send, streams }
    }

    /// When it was made, in microseconds of the clock.
    pub(super) fn born_us(&self) -> u64 {
        self.streams.born_us
    }

    pub(super) fn open(&self) -> usize {
        self.streams.open.get()
    }

    /// Has it been without a stream for longer than `max_us`, as far as sweeps have seen.
    pub(super) fn is_stale(&self, now_us: u64, max_us: u64) -> bool {
        let since_us = &self.streams.idle_since_us;
        if self.open() > 0 {
            since_us.set(0);
        } else if since_us.get() == 0 {
            since_us.set(now_us.max(1));
        }
        since_us.get() != 0 && now_us.saturating_sub(since_us.get()) > max_us
    }

    pub(super) fn has_room(&self) -> bool {
        !self.is_doubted() && !self.is_spent() && self.open() < self.send.current_max_send_streams()
    }

    /// An attempt got no answer, and nothing has been heard since it began.
    pub(super) fn is_doubted(&self) -> bool {
        self.streams.pulse.is_doubted()
    }

    /// So many malformed answers came on it that those still to come might end it: what is open on it goes on, and it closes.
    fn is_spent(&self) -> bool {
        self.streams.provoked.get() >= self.streams.provoked_max
    }

    /// No stream will be opened on it any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_spent() || self.is_doubted() && self.open() == 0 && !self.streams.pulse.is_asked()
    }

    /// Does it take no more streams at all.
    pub(super) fn is_dead(&mut self) -> bool {
        // this handle opens no streams itself: one that waited would lose its waker here
        matches!(self.send.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    pub(super) fn lease(&self) -> H2Lease {
        let open = self.open();
        self.streams.idle_since_us.set(0);
        if open == 0 {
            self.streams.set_idle(false);
        }
        self.streams.open.set(open + 1);
        self.streams.pulse.expect();
        H2Lease { send: self.send.clone(), place: H2Place(Rc::clone(&self.streams)) }
    }
}

impl Streams {
    /// Is it still to be looked at. Asks an origin that has been silent for too long, gives up one that does not answer.
    pub(super) fn look(self: &Rc<Self>, now_us: u64) -> bool {
        match self.pulse.look(now_us, self.open.get() > 0, self.ping_after_us) {
            Look::Wait => {}
            Look::Ask => self.ask(now_us),
            Look::Lost => {
                if let Some(endpoint) = self.endpoint.upgrade() {
                    tracing::warn!(endpoint = %endpoint.address, "the origin is silent: its connection is closed");
                }
                // its streams see a connection that broke
                self.driver.borrow().iter().for_each(AbortHandle::abort);
                return false;
            }
        }
        !self.closed.get()
    }

    fn ask(self: &Rc<Self>, now_us: u64) {
        self.pulse.asked(now_us);
        let Some(mut ping) = self.ping.borrow_mut().take() else { return };
        let streams = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            if ping.ping(h2::Ping::opaque()).await.is_ok()
                && let Some(streams) = streams.upgrade()
            {
                streams.ping.replace(Some(ping));
            }
        });
    }

    /// The socket is gone and has left the count of active ones.
    pub(super) fn close(&self) {
        if self.open.get() == 0 {
            self.set_idle(false);
        }
        self.closed.set(true);
    }

    fn set_idle(&self, idle: bool) {
        if self.closed.get() {
            return;
        }
        let cells = self.shard.worker();
        if idle {
            cells.upstream_connections_active.dec();
            cells.upstream_connections_idle.inc();
        } else {
            cells.upstream_connections_idle.dec();
            cells.upstream_connections_active.inc();
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.close();
        if let Some(endpoint) = self.0.endpoint.upgrade() {
            endpoint.drop_dead_h2();
        }
    }
}

impl H2Place {
    /// It had to be reset for what the origin did.
    pub fn provoked(&self) {
        self.0.provoked.set(self.0.provoked.get().saturating_add(1));
    }

    /// Changes whenever something comes on the connection.
    pub fn heard(&self) -> u64 {
        self.0.pulse.heard()
    }

    /// The origin owed this stream an answer and did not give it in time. If it has said nothing else since
    /// [`H2Place::heard`] was `heard`, the connection takes no more streams until it does, and a PING asks at once.
    pub fn doubt(&self, heard: u64) {
        if self.0.pulse.doubt(heard) {
            let now_us = clock::now_us();
            if self.0.pulse.may_ask(now_us) {
                self.0.ask(now_us);
            }
        }
    }

    /// Is this the request that puts the names of its fields into the connection's compression table: the first one, and no
    /// other, because h2 compares a value with all that the table has under its name.
    pub fn names_fields(&self) -> bool {
        !self.0.named.replace(true)
    }

    /// Which connection it is on, should it be lost.
    pub fn connection(&self) -> u64 {
        self.0.id
    }
}

impl Drop for H2Place {
    fn drop(&mut self) {
        let open = self.0.open.get();
        debug_assert!(open > 0, "more streams ended than began");
        self.0.open.set(open.saturating_sub(1));
        if open == 1 {
            self.0.set_idle(true);
        }
    }
}

impl Endpoint {
    /// A free stream on a connection that stands.
    pub fn free_h2(&self) -> Option<H2Lease> {
        self.h2.borrow().iter().find(|h2| h2.has_room()).map(H2::lease)
    }

    /// A free stream, on a new connection if need be. Rare, and its future is large: the callers box it.
    pub async fn open_h2(self: &Rc<Self>, worker: &Worker, timeout: Duration) -> Result<H2Lease, Fault> {
        let connected = Cell::new(false);
        let opening = async {
            let _dialling = self.dialling.lock().await;
            if let Some(free) = self.free_h2() {
                return Ok(free);
            }
            if self.h2.borrow().len() >= self.limits.h2_connections_max as usize {
                return self.least_h2();
            }
            if clock::now_us() < self.no_h2_until_us.get() {
                return Err(Fault::own(ProxyError::NoHttp2));
            }
            let conn = self.dial(worker, timeout).await?;
            connected.set(true);
            let made = handshake(self, worker, conn).await.map_err(|broken| self.no_h2(broken, closed()))?;
            self.spoken.note_http2();
            Ok(made.lease())
        };
        // the wait for another's dial is part of it, or waits behind a dead endpoint would add up
        tokio::time::timeout(timeout, opening).await.unwrap_or_else(|_| {
            let timed_out = Fault::upstream(Replay::Always, ProxyError::ConnectTimeout);
            Err(if connected.get() { self.no_h2(Broken::Silent, timed_out) } else { timed_out })
        })
    }

    /// HTTP/2 did not come about on a connection that stood. Where only the caller says that its request is a call, that is
    /// no fault of an endpoint that speaks HTTP/1.1: anybody may say so. It is one of a name that has spoken HTTP/2, or
    /// where nothing is known of it and it does not say by its octets that it speaks something else.
    fn no_h2(&self, broken: Broken, fault: Fault) -> Fault {
        let other = broken == Broken::Other || self.spoken.http1();
        if !self.auto || self.spoken.http2() || !other {
            return fault;
        }
        self.no_h2_until_us.set(clock::now_us().saturating_add(NO_H2_US));
        Fault::own(ProxyError::NoHttp2)
    }

    /// Is there an HTTP/2 connection already.
    pub fn has_h2(&self) -> bool {
        !self.h2.borrow().is_empty()
    }

    /// Forgets HTTP/2 connections that take no more streams.
    pub fn drop_dead_h2(&self) {
        self.h2.borrow_mut().retain_mut(|h2| !h2.is_dead());
    }

    fn least_h2(&self) -> Result<H2Lease, Fault> {
        let connections = self.h2.borrow();
        let least = connections.iter().min_by_key(|h2| (h2.is_doubted() || h2.is_spent(), h2.open()));
        least.map(H2::lease).ok_or_else(closed)
    }
}

fn closed() -> Fault {
    Fault::upstream(Replay::Always, ProxyError::UpstreamClosed)
}

/// Opens HTTP/2 and waits until the origin's SETTINGS are known (a PING comes back after them), so that no more streams
/// are opened than it allows.
async fn handshake(endpoint: &Rc<Endpoint>, worker: &Worker, mut conn: Conn) -> Result<H2, Broken> {
    let limits = &endpoint.limits;
    let pulse = Rc::<Pulse>::default();
    conn.count_frames(Budgets::from(&limits.h2), Rc::clone(&pulse));
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(limits.h2.stream_window_bytes)
        .initial_connection_window_size(limits.h2.connection_window_bytes)
        .max_frame_size(limits.h2.frame_bytes_max)
        .header_table_size(limits.h2.header_table_bytes)
        .max_header_list_size(limits.head_bytes_max)
        .max_send_buffer_size(limits.h2.send_buffer_bytes_max as usize)
        .max_local_error_reset_streams(Some(limits.h2.provoked_resets_max as usize))
        .enable_push(false);
    let (shard, born_us) = (Arc::clone(conn.shard()), conn.born_us);
    let (send, mut connection) = builder.handshake::<_, Bytes>(conn).await.map_err(|_| Broken::Lost)?;
    let made = H2::new(send, endpoint, shard, born_us, pulse);
    let ping = connection.ping_pong();
    let driven = Driven(Rc::clone(&made.streams));
    let driver = tokio::task::spawn_local(async move {
        // dropped behind the connection: its handles know then that it is gone
        let driven = driven;
        // why it ended is seen by its streams
        if connection.await.is_err_and(|error| error.is_go_away() && error.is_library()) {
            driven.0.other.set(true);
        }
    });
    made.streams.driver.replace(Some(driver.abort_handle()));
    if let Some(mut ping) = ping {
        let broken = |_| if made.streams.other.get() { Broken::Other } else { Broken::Lost };
        ping.ping(h2::Ping::opaque()).await.map_err(broken)?;
        made.streams.ping.replace(Some(ping));
    }
    worker.pulses.add(&made.streams);
    if !endpoint.retired.get() {
        endpoint.h2.borrow_mut().push(made.clone());
    }
    Ok(made)
}
