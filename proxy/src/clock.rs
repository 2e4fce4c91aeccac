//! The only reader of clocks. Everything else takes the time as an argument.

#![allow(clippy::disallowed_methods, reason = "this file is where clocks are read")]

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since the process first asked; never goes back. 64 bits last for half a million years.
#[inline]
pub fn now_us() -> u64 {
    u64::try_from(origin().elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds on the same scale as [`now_us`].
#[inline]
pub fn now_ms() -> u64 {
    now_us() / 1000
}

/// Milliseconds since 1970, for logs and gauges only: it may jump.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Nanoseconds since 1970, for deadlines that travel to other hosts: it may jump.
pub fn unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// Milliseconds since 1970 as they were when the process first asked, and steadily on from there: for what must neither
/// jump nor go back and still be read by people. On the scale of [`now_us`] by [`steady_ms_of`].
pub fn steady_ms() -> u64 {
    steady_ms_of(now_us())
}

/// A moment of [`now_us`] on the scale of [`steady_ms`].
pub fn steady_ms_of(us: u64) -> u64 {
    static ORIGIN_MS: OnceLock<u64> = OnceLock::new();
    let origin_ms = ORIGIN_MS.get_or_init(|| unix_ms().saturating_sub(now_ms()));
    origin_ms.saturating_add(us / 1000)
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}
