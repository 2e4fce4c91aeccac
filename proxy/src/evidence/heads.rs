//! How long response heads took: a histogram with fixed edges, written by one worker, read by the judge.

use std::sync::atomic::{AtomicU64, Ordering};

use serin_rollout::Ppm;

/// Edges in one doubling: neighbours are 9 to 12 % apart.
const PER_OCTAVE: u32 = 8;
/// The first edge is 2^8 us, near a quarter of a millisecond.
const FIRST_OCTAVE: u32 = 8;
/// The last edge is 2^27 us, a little over two minutes.
const LAST_OCTAVE: u32 = 27;
/// Buckets, with one below the first edge and one above the last.
pub const BUCKETS: usize = ((LAST_OCTAVE - FIRST_OCTAVE) * PER_OCTAVE) as usize + 2;

/// Times to response heads, by bucket. A bucket holds the times above the edge before it and up to its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadTimes {
    counts: [u64; BUCKETS],
}

/// The same, while one worker writes it.
#[derive(Debug)]
pub(super) struct Histogram {
    counts: [AtomicU64; BUCKETS],
}

impl Default for HeadTimes {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl HeadTimes {
    /// What came between `earlier` and this; readings of the same evidence only.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        counts.iter_mut().zip(earlier.counts).for_each(|(count, before)| *count = count.saturating_sub(before));
        Self { counts }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut counts = self.counts;
        counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count = count.saturating_add(more));
        Self { counts }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The least edge in microseconds that at least the fraction `q` (0 to 1) of all times do not exceed. `None`: there
    /// are none, or that many lie above the last edge.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let all = self.count();
        let wanted = (q.clamp(0.0, 1.0) * all as f64).ceil().max(1.0) as u64;
        let mut so_far = 0;
        let bucket = self.counts.iter().position(|count| {
            so_far += count;
            so_far >= wanted
        })?;
        edge_us(bucket)
    }

    /// The share of all times above this edge, rounded down; nothing if there are none. A moment between two edges
    /// counts as the lower one.
    #[must_use]
    pub fn share_above(&self, us: u64) -> Ppm {
        let all = u128::from(self.count());
        let below = bucket(us.saturating_add(1));
        let above: u64 = self.counts[below..].iter().sum();
        let ppm = (u128::from(above) * 1_000_000).checked_div(all).unwrap_or(0);
        Ppm::clamped(i64::try_from(ppm).unwrap_or(i64::MAX))
    }

    /// One more, for readers that have no worker.
    #[cfg(test)]
    pub(crate) fn record(&mut self, us: u64) {
        self.counts[bucket(us)] += 1;
    }
}

impl Histogram {
    /// One more; the only writer calls.
    pub(super) fn record(&self, us: u64) {
        let count = &self.counts[bucket(us)];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, sum: &mut HeadTimes) {
        for (sum, count) in sum.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
    }
}

/// The bucket of a time.
fn bucket(us: u64) -> usize {
    // an edge belongs to the bucket below it
    let below = us.saturating_sub(1);
    if below < 1 << FIRST_OCTAVE {
        return 0;
    }
    let octave = below.ilog2();
    if octave >= LAST_OCTAVE {
        return BUCKETS - 1;
    }
    let part = (below >> (octave - PER_OCTAVE.ilog2())) as u32 % PER_OCTAVE;
    ((octave - FIRST_OCTAVE) * PER_OCTAVE + part) as usize + 1
}

/// The greatest time in a bucket, in microseconds; `None` for the last one.
fn edge_us(bucket: usize) -> Option<u64> {
    if bucket >= BUCKETS - 1 {
        return None;
    }
    let at = bucket as u32;
    let (octave, part) = (FIRST_OCTAVE + at / PER_OCTAVE, u64::from(at % PER_OCTAVE));
    Some((1 << octave) + (part << (octave - PER_OCTAVE.ilog2())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn edges_rise_and_cover_a_quarter_of_a_millisecond_to_two_minutes() {
        let edges: Vec<u64> = (0..BUCKETS).filter_map(edge_us).collect();
        assert_eq!(edges.len(), BUCKETS - 1);
        assert!(edges.is_sorted_by(|a, b| a < b));
        assert_eq!((edges[0], edges[BUCKETS - 2]), (256, 1 << 27));
    }

    #[test]
    fn an_edge_belongs_to_the_bucket_below_it() {
        for at in 0..BUCKETS - 1 {
            let edge = edge_us(at).unwrap();
            assert_eq!((bucket(edge), bucket(edge + 1)), (at, at + 1), "edge {edge}");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn quantiles_and_shares_agree_on_edges() {
        let mut times = HeadTimes::default();
        (1..=1000_u64).for_each(|ms| times.record(ms * 1000));
        let p90 = times.quantile(0.9).unwrap();
        assert!((900_000..1_000_000).contains(&p90), "{p90}");
        assert_eq!(times.share_above(p90), Ppm::clamped(1_000_000 - i64::try_from(p90 / 1000 * 1000).unwrap()));
        assert_eq!(HeadTimes::default().quantile(0.5), None);
        assert_eq!(HeadTimes::default().share_above(0), Ppm::ZERO);
    }

    #[test]
    fn what_lies_above_the_last_edge_has_no_quantile() {
        let mut times = HeadTimes::default();
        times.record(u64::MAX);
        assert_eq!((times.count(), times.quantile(0.5)), (1, None));
        assert_eq!(times.share_above(1 << 27), Ppm::WHOLE);
    }

    #[test]
    fn only_what_came_since_is_left() {
        let mut times = HeadTimes::default();
        times.record(1_000);
        let earlier = times.clone();
        times.record(2_000_000);
        assert_eq!(times.since(&earlier).count(), 1);
        assert!(times.since(&earlier).quantile(0.5).unwrap() >= 2_000_000);
        assert_eq!(times.since(&earlier).plus(&earlier), times);
    }

    proptest! {
        #[test]
        fn a_time_lies_between_the_edges_of_its_bucket(us in 0_u64..1 << 30) {
            let at = bucket(us);
            prop_assert!(edge_us(at).is_none_or(|edge| us <= edge));
            prop_assert!(at == 0 || edge_us(at - 1).is_some_and(|edge| us > edge));
        }
    }
}
