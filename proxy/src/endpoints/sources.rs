//! How many new names each source has made lately.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::TableLimits;

/// One fixed window for each source. The map is bounded: when it is full of live windows, new sources share one.
#[derive(Default)]
pub(super) struct Sources {
    windows: DashMap<IpAddr, Window>,
    swept_at_ms: AtomicU64,
}

struct Window {
    start_ms: u64,
    count: u32,
}

impl Sources {
    /// Counts a new name. `false`: the source has had its share of this window.
    pub(super) fn admit(&self, source: IpAddr, now_ms: u64, limits: &TableLimits) -> bool {
        let mut key = network(source);
        if self.windows.len() >= limits.sources_max && !self.windows.contains_key(&key) {
            self.sweep(now_ms, limits.window_ms);
            if self.windows.len() >= limits.sources_max {
                key = SHARED;
            }
        }
        let mut window = self.windows.entry(key).or_insert(Window { start_ms: now_ms, count: 0 });
        if now_ms.saturating_sub(window.start_ms) >= limits.window_ms {
            *window = Window { start_ms: now_ms, count: 0 };
        }
        if window.count >= limits.new_names_max {
            return false;
        }
        window.count += 1;
        true
    }

    /// Forgets windows that are over, at most once a window: a flood of sources must not buy a sweep each.
    fn sweep(&self, now_ms: u64, window_ms: u64) {
        let swept_at_ms = self.swept_at_ms.load(Ordering::Relaxed);
        if swept_at_ms != 0 && now_ms.saturating_sub(swept_at_ms) < window_ms {
            return;
        }
        self.swept_at_ms.store(now_ms.max(1), Ordering::Relaxed);
        self.windows.retain(|_, window| now_ms.saturating_sub(window.start_ms) < window_ms);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }
}

/// An IPv6 host owns its /64, so that is what counts as one source.
pub(crate) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

/// The window of sources beyond the map's bound; no peer has this address.
const SHARED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
