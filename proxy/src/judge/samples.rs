//! What the workers counted, as it was at a few moments of the past: for rates and windows.

use std::collections::VecDeque;

/// Moments kept of one series.
pub(crate) const SAMPLES_MAX: usize = 24;

/// Cumulative counts at moments that lie apart at least so many milliseconds.
#[derive(Debug)]
pub(crate) struct Samples<T> {
    spacing_ms: u64,
    list: VecDeque<(u64, T)>,
}

impl<T> Samples<T> {
    /// Samples that reach back over `window_ms` at least. The oldest is at most a tenth of it too old.
    pub(crate) fn over(window_ms: u64) -> Self {
        Self { spacing_ms: (window_ms / 10).max(1), list: VecDeque::new() }
    }

    /// Is it time for another one?
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        self.list.back().is_none_or(|(at, _)| now_ms.saturating_sub(*at) >= self.spacing_ms)
    }

    /// Keeps the counts of this moment, if it is time.
    pub(crate) fn push(&mut self, now_ms: u64, counts: impl FnOnce() -> T) {
        if !self.is_due(now_ms) {
            return;
        }
        if self.list.len() == SAMPLES_MAX {
            self.list.pop_front();
        }
        self.list.push_back((now_ms, counts()));
    }

    /// The newest sample that is at least `window_ms` old; where none is, the oldest there is.
    pub(crate) fn before(&self, now_ms: u64, window_ms: u64) -> Option<(u64, &T)> {
        let old = self.list.iter().rev().find(|(at, _)| now_ms.saturating_sub(*at) >= window_ms);
        old.or(self.list.front()).map(|(at, counts)| (*at, counts))
    }

    /// Forgets everything: what was counted before belongs to another run.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_at_the_newest_sample_that_is_old_enough() {
        let mut samples = Samples::over(1_000);
        assert_eq!(samples.before(0, 1_000), None);
        for now in 0..10_000_u64 {
            samples.push(now, || now);
            assert!(samples.list.len() <= SAMPLES_MAX);
        }
        let (at, _) = samples.before(9_999, 1_000).unwrap();
        assert!((8_899..=8_999).contains(&at), "{at}");
        assert_eq!(samples.before(9_999, 60_000).unwrap().0, 7_600, "the oldest of the most that are kept");
        samples.clear();
        assert_eq!(samples.before(9_999, 1), None);
    }
}
