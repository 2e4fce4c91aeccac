//! What the tests stand on: the proxy as a process, scripted peers, clients that see every byte.

pub(crate) mod consul;
pub(crate) mod dns;
pub(crate) mod frames;
pub(crate) mod h2peer;
pub(crate) mod http1;
pub(crate) mod namerd;
pub(crate) mod outside;
pub(crate) mod ports;
pub(crate) mod registry;
pub(crate) mod rollouts;
pub(crate) mod scrape;
pub(crate) mod serin;
pub(crate) mod setup;
pub(crate) mod stored;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::time::{Duration, Instant};

pub(crate) use http1::{Client, Response};
pub(crate) use serin::Serin;
pub(crate) use setup::Setup;
pub(crate) use upstream::Upstream;

/// No single read or write of a test waits longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// So long a condition may take to hold: much longer than it does, since a machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// The one clock of this crate.
#[allow(clippy::disallowed_methods, reason = "tests stand outside the proxy and measure it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Polls until the condition holds; fails naming `what` when it does not in time.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(what, || condition().then_some(()));
}

/// Polls until there is a value; fails naming `what` when there is none in time.
pub(crate) fn eventually_some<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(POLL);
    }
}

/// Polls until a number has stood still for `quiet`; returns it.
pub(crate) fn standstill(what: &str, quiet: Duration, mut read: impl FnMut() -> u64) -> u64 {
    let end = now() + PATIENCE;
    let (mut last, mut since) = (read(), now());
    while now() - since < quiet {
        assert!(now() < end, "still moving after {PATIENCE:?}: {what}");
        std::thread::park_timeout(POLL);
        let next = read();
        if next != last {
            (last, since) = (next, now());
        }
    }
    last
}

const POLL: Duration = Duration::from_millis(5);
