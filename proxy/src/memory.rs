//! How much memory there is, and how many requests that bears.

use std::fs;

/// What a request may hold at its worst: a window of upload, a buffer of answer, heads in both directions.
const REQUEST_BYTES: u64 = 192 << 10;
/// The fewest and the most that are admitted, whatever the memory.
const REQUESTS_LEAST: u64 = 1000;
const REQUESTS_MOST: u64 = 100_000;
/// Where the amount is not known: 4 GiB.
const UNKNOWN: u64 = 4 << 30;

/// Requests in flight that half of this memory bears.
pub fn requests_of(memory_bytes: u64) -> u32 {
    let requests = (memory_bytes / 2 / REQUEST_BYTES).clamp(REQUESTS_LEAST, REQUESTS_MOST);
    u32::try_from(requests).unwrap_or(u32::MAX)
}

/// The memory of this machine, or of the container that the process is in, in octets.
pub fn available() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let container = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let container = container.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.into_iter().chain(container).min().unwrap_or(UNKNOWN)
}

/// `MemTotal` of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_memory_within_bounds() {
        let check = |mib: u64, requests: u32| assert_eq!(requests_of(mib << 20), requests, "{mib} MiB");
        check(0, 1000);
        check(512, 1365);
        check(4096, 10_922);
        check(1 << 20, 100_000);
    }

    #[test]
    fn the_total_is_read_in_kilobytes() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       8 kB\n"), Some(8192));
        assert_eq!(total("MemTotal: lots\n"), None);
        assert!(available() >= 1 << 20);
    }
}
