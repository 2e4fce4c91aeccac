//! Latency buckets on atomics with one writer. Recording costs three loads and stores without a lock prefix and a
//! table look-up to find the bucket; there is nothing to allocate and nothing to wait for.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the latency buckets in microseconds, inclusive; one more bucket takes everything above.
///
/// From 5 ms on they are the advice of OpenTelemetry for HTTP durations; the two below are for what a proxy near its
/// upstream sees.
pub const BUCKET_BOUNDS_US: [u64; 16] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000,
    5_000_000, 7_500_000, 10_000_000,
];

/// How many buckets a histogram has, the unbounded one included.
pub const BUCKETS: usize = BUCKET_BOUNDS_US.len() + 1;

/// Longest duration that is recorded, in microseconds (about 12.7 days); a longer one counts as this long, so that one
/// nonsensical reading does not spoil the sum for the life of the process.
pub const ELAPSED_US_MAX: u64 = 1 << 40;

/// The bucket that takes `elapsed_us`: the first whose bound is not below it.
///
/// The bit length of the number leaves at most two bounds to compare with.
#[inline]
pub fn bucket_of(elapsed_us: u64) -> usize {
    let bits = (u64::BITS - elapsed_us.leading_zeros()) as usize;
    let mut bucket = usize::from(BUCKET_BY_BITS[bits]);
    while bucket < BUCKET_BOUNDS_US.len() && elapsed_us > BUCKET_BOUNDS_US[bucket] {
        bucket += 1;
    }
    bucket
}

/// One worker's histogram of one series. Only that worker writes; anybody may read.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Adds one observation. Two threads that record at once lose counts, and nothing worse.
    #[inline]
    pub(crate) fn record(&self, elapsed_us: u64) {
        let elapsed_us = elapsed_us.min(ELAPSED_US_MAX);
        add(&self.buckets[bucket_of(elapsed_us)], 1);
        add(&self.sum_us, elapsed_us);
    }

    /// The count of each bucket (not cumulative) and the sum in microseconds.
    pub(crate) fn read(&self) -> ([u64; BUCKETS], u64) {
        let mut counts = [0; BUCKETS];
        for (count, cell) in counts.iter_mut().zip(&self.buckets) {
            *count = cell.load(Ordering::Relaxed);
        }
        (counts, self.sum_us.load(Ordering::Relaxed))
    }
}

/// Adds to a cell that one thread writes: a load and a store, which cost a tenth of an atomic addition.
#[inline]
pub(crate) fn add(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// For each bit length, the bucket of the smallest number that long.
const BUCKET_BY_BITS: [u8; u64::BITS as usize + 1] = bucket_by_bits();

const fn bucket_by_bits() -> [u8; u64::BITS as usize + 1] {
    let mut table = [0; u64::BITS as usize + 1];
    let mut bits = 1;
    while bits < table.len() {
        let smallest = 1_u64 << (bits - 1);
        let mut bucket = 0;
        while bucket < BUCKET_BOUNDS_US.len() && BUCKET_BOUNDS_US[bucket] < smallest {
            bucket += 1;
        }
        table[bits] = bucket as u8;
        bits += 1;
    }
    table
}

const _: () = assert!(BUCKETS < u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_bucket(elapsed_us: u64, bucket: usize) {
        assert_eq!(bucket_of(elapsed_us), bucket, "{elapsed_us} us");
    }

    #[test]
    fn bounds_grow() {
        assert!(BUCKET_BOUNDS_US.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket_and_one_more_to_the_next() {
        check_bucket(0, 0);
        for (bucket, &bound) in BUCKET_BOUNDS_US.iter().enumerate() {
            check_bucket(bound, bucket);
            check_bucket(bound + 1, bucket + 1);
        }
        check_bucket(u64::MAX, BUCKETS - 1);
    }

    #[test]
    fn the_longest_duration_is_kept_and_a_longer_one_is_cut() {
        let histogram = Histogram::default();
        histogram.record(ELAPSED_US_MAX);
        histogram.record(ELAPSED_US_MAX + 1);
        histogram.record(u64::MAX);
        assert_eq!(histogram.read().1, 3 * ELAPSED_US_MAX);
    }

    proptest! {
        #[test]
        fn the_bucket_is_the_first_whose_bound_is_not_below(elapsed_us in prop_oneof![0..20_000_000_u64, any::<u64>()]) {
            let plain = BUCKET_BOUNDS_US.iter().take_while(|&&bound| bound < elapsed_us).count();
            prop_assert_eq!(bucket_of(elapsed_us), plain);
        }
    }
}
