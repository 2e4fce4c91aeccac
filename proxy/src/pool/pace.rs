//! How long a name takes to answer calls: less time than that proves nothing.

use std::cell::Cell;

/// A deadline of a caller's below this never counts against an upstream.
const FLOOR_MIN_US: u64 = 500_000;
/// One of this length always does: as long as an attempt may usually take.
const FLOOR_MAX_US: u64 = 60_000_000;
/// What counts as the slowest answer while none has come.
const UNKNOWN_US: u64 = 500_000;
/// The slowest answer is that of the current stretch of this length and of the one before.
const STRETCH_US: u64 = 60_000_000;

/// The slowest heads of answers to calls of late, for one name on one worker. While nothing is answered it stays as it was.
#[derive(Debug, Default)]
pub struct Pace(Cell<Stretches>);

#[derive(Clone, Copy, Debug, Default)]
struct Stretches {
    since_us: u64,
    slowest_us: u64,
    /// Of the stretch before.
    before_us: u64,
}

impl Pace {
    /// An answer took so long.
    pub fn note(&self, took_us: u64, now_us: u64) {
        let mut of = self.0.get();
        let took_us = took_us.max(1);
        if now_us.saturating_sub(of.since_us) < STRETCH_US {
            of.slowest_us = of.slowest_us.max(took_us);
        } else {
            of = Stretches { since_us: now_us, slowest_us: took_us, before_us: of.slowest_us };
        }
        self.0.set(of);
    }

    /// So much time, in microseconds, must a caller have left to the upstream for its end to say something of it: twice
    /// what the slowest answer took, at least half a second and at most a minute; a second while nothing was answered.
    pub fn floor_us(&self) -> u64 {
        let of = self.0.get();
        let slowest_us = match of.slowest_us.max(of.before_us) {
            0 => UNKNOWN_US,
            known_us => known_us,
        };
        slowest_us.saturating_mul(2).clamp(FLOOR_MIN_US, FLOOR_MAX_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn check(answers: &[(u64, u64)], floor_us: u64) {
        let pace = Pace::default();
        answers.iter().for_each(|&(took_us, now_us)| pace.note(took_us, now_us));
        assert_eq!(pace.floor_us(), floor_us, "{answers:?}");
    }

    #[test]
    fn it_is_twice_the_slowest_answer_within_its_bounds() {
        check(&[], SECOND);
        check(&[(0, 0)], FLOOR_MIN_US);
        check(&[(3 * SECOND, 0), (1, SECOND)], 6 * SECOND);
        check(&[(u64::MAX, 0)], FLOOR_MAX_US);
    }

    #[test]
    fn a_slow_answer_is_forgotten_after_two_stretches() {
        let slow = (3 * SECOND, 100 * SECOND);
        check(&[slow, (1, 159 * SECOND)], 6 * SECOND);
        check(&[slow, (1, 160 * SECOND), (1, 219 * SECOND)], 6 * SECOND);
        check(&[slow, (1, 160 * SECOND), (1, 220 * SECOND)], FLOOR_MIN_US);
    }
}
