//! Totals of a series and the difference between two moments. Pure: it neither knows atomics nor a clock.

use crate::histogram::BUCKETS;

/// How a response is judged; the label `class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The upstream or Serin failed the request.
    Failure,
    /// Says nothing about the upstream: the downstream went away before an answer was due.
    Ignored,
    /// Served as it should be.
    Success,
}

impl Class {
    /// Every class, in the order in which they are printed.
    pub const ALL: [Self; 3] = [Self::Failure, Self::Ignored, Self::Success];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Ignored => "ignored",
            Self::Success => "success",
        }
    }
}

/// What was counted since the series began: requests per class, latencies per bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests of class [`Class::Failure`].
    pub failure: u64,
    /// Requests of class [`Class::Ignored`].
    pub ignored: u64,
    /// Requests of class [`Class::Success`].
    pub success: u64,
    /// Requests per latency bucket, not cumulative; the bounds are [`crate::BUCKET_BOUNDS_US`].
    pub buckets: [u64; BUCKETS],
    /// All latencies together, in microseconds; wraps around at 2^64.
    pub sum_us: u64,
}

impl Totals {
    /// The requests of one class.
    pub const fn of(&self, class: Class) -> u64 {
        match class {
            Class::Failure => self.failure,
            Class::Ignored => self.ignored,
            Class::Success => self.success,
        }
    }

    /// The requests of all classes.
    pub const fn requests(&self) -> u64 {
        self.failure.wrapping_add(self.ignored).wrapping_add(self.success)
    }

    /// How many latencies were recorded: the sum of all buckets.
    pub fn observations(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, &count| sum.wrapping_add(count))
    }

    /// Both together: how shards become one series.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.combine(other, u64::wrapping_add)
    }

    /// What was counted from `earlier` to now.
    ///
    /// A series that went away and came back counts from zero again. Where any count is below its earlier value, that
    /// has happened, and all of now is new.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if self.restarted_since(earlier) { *self } else { self.combine(earlier, u64::wrapping_sub) }
    }

    fn restarted_since(&self, earlier: &Self) -> bool {
        let fell = |class: Class| self.of(class) < earlier.of(class);
        Class::ALL.into_iter().any(fell) || self.buckets.iter().zip(&earlier.buckets).any(|(now, then)| now < then)
    }

    fn combine(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        let mut buckets = self.buckets;
        for (count, &theirs) in buckets.iter_mut().zip(&other.buckets) {
            *count = with(*count, theirs);
        }
        Self {
            failure: with(self.failure, other.failure),
            ignored: with(self.ignored, other.ignored),
            success: with(self.success, other.success),
            buckets,
            sum_us: with(self.sum_us, other.sum_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn totals(failure: u64, success: u64, bucket: usize) -> Totals {
        let mut buckets = [0; BUCKETS];
        buckets[bucket] = failure + success;
        Totals { failure, ignored: 0, success, buckets, sum_us: 10 * (failure + success) }
    }

    #[track_caller]
    fn check_since(now: Totals, earlier: Totals, expected: Totals) {
        assert_eq!(now.since(&earlier), expected);
    }

    #[test]
    fn nothing_happened_between_equal_moments() {
        check_since(totals(3, 4, 2), totals(3, 4, 2), Totals::default());
    }

    #[test]
    fn a_series_that_began_again_counts_whole() {
        check_since(totals(1, 9, 2), totals(2, 4, 2), totals(1, 9, 2));
        check_since(totals(2, 9, 1), totals(2, 4, 2), totals(2, 9, 1));
    }

    fn arb_totals() -> impl Strategy<Value = Totals> {
        let count = 0..1_u64 << 40;
        (count.clone(), count.clone(), count.clone(), proptest::array::uniform17(count.clone()), count).prop_map(
            |(failure, ignored, success, buckets, sum_us)| Totals { failure, ignored, success, buckets, sum_us },
        )
    }

    proptest! {
        #[test]
        fn what_is_added_is_the_difference(earlier in arb_totals(), more in arb_totals()) {
            prop_assert_eq!(earlier.plus(&more).since(&earlier), more);
        }

        #[test]
        fn requests_are_the_sum_of_classes(totals in arb_totals()) {
            let sum: u64 = Class::ALL.into_iter().map(|class| totals.of(class)).sum();
            prop_assert_eq!(totals.requests(), sum);
        }
    }
}
