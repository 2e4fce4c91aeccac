//! Users of the demo: many small clients at once, each with a connection and little patience. What they saw is what is
//! told.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::Client;
use crate::clock;

/// Users at once.
const USERS: u32 = 16;
/// How long a user waits for an answer: longer than a busy machine makes them wait for a good one.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two requests of one user.
const PAUSE: Duration = Duration::from_millis(8);

/// What all users together saw so far.
#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    sent: AtomicU64,
    failed: AtomicU64,
    /// When the first and the last failure was seen, microseconds of the clock; 0: none yet.
    first_failure_us: AtomicU64,
    last_failure_us: AtomicU64,
}

/// The users, until they are sent home.
pub(super) struct Crowd {
    seen: Arc<Seen>,
    users: Vec<JoinHandle<()>>,
}

/// What they saw between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) sent: u64,
    /// Answered with an error, or not in time.
    pub(super) failed: u64,
    pub(super) first_failure_us: Option<u64>,
    pub(super) last_failure_us: Option<u64>,
}

impl Sight {
    /// Both, one after the other.
    pub(super) fn and(self, later: Self) -> Self {
        Self {
            sent: self.sent + later.sent,
            failed: self.failed + later.failed,
            first_failure_us: self.first_failure_us.or(later.first_failure_us),
            last_failure_us: later.last_failure_us.or(self.last_failure_us),
        }
    }
}

impl Crowd {
    /// Sends them to `proxy`.
    pub(super) fn start(proxy: SocketAddr) -> io::Result<Self> {
        let seen = Arc::new(Seen::default());
        let user = |number: u32| {
            let seen = Arc::clone(&seen);
            std::thread::Builder::new().name(format!("demo-user-{number}")).spawn(move || visit(proxy, &seen))
        };
        let users = (0..USERS).map(user).collect::<io::Result<_>>()?;
        Ok(Self { seen, users })
    }

    /// What they saw since the last call.
    pub(super) fn take(&self) -> Sight {
        let moment = |cell: &AtomicU64| Some(cell.swap(0, Ordering::Relaxed)).filter(|us| *us > 0);
        Sight {
            sent: self.seen.sent.swap(0, Ordering::Relaxed),
            failed: self.seen.failed.swap(0, Ordering::Relaxed),
            first_failure_us: moment(&self.seen.first_failure_us),
            last_failure_us: moment(&self.seen.last_failure_us),
        }
    }

    /// Requests and failures since the last [`Crowd::take`], for a line that moves.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.seen.sent.load(Ordering::Relaxed), self.seen.failed.load(Ordering::Relaxed))
    }

    pub(super) fn stop(self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        // a user that panicked has already failed the demo by what it did not see
        self.users.into_iter().for_each(|user| drop(user.join()));
    }
}

fn visit(proxy: SocketAddr, seen: &Seen) {
    let mut client = Client::impatient(proxy, PATIENCE);
    while !seen.stop.load(Ordering::Relaxed) {
        let well = client.get("world", "/", &[]).is_ok_and(|answer| answer.status == 200);
        seen.sent.fetch_add(1, Ordering::Relaxed);
        if !well {
            let now_us = clock::now_us();
            seen.failed.fetch_add(1, Ordering::Relaxed);
            // only the first one stays
            let _kept = seen.first_failure_us.compare_exchange(0, now_us, Ordering::Relaxed, Ordering::Relaxed);
            seen.last_failure_us.fetch_max(now_us, Ordering::Relaxed);
        }
        std::thread::sleep(PAUSE);
    }
}
