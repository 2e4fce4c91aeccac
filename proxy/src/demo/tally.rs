//! PURE: who answered, and is that what the weights say.

use std::ops::RangeInclusive;

use super::DemoError;
use super::client::Answer;

/// Standard deviations that count as chance: a right split fails one demo in five hundred million.
const SIGMAS: f64 = 6.0;

/// Answers by version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) v1: u32,
    pub(super) v2: u32,
}

impl Tally {
    pub(super) fn count(&mut self, answer: &Answer) -> Result<(), DemoError> {
        match answer.body.trim_end() {
            "hello from world-v1" => self.v1 += 1,
            "hello from world-v2" => self.v2 += 1,
            other => return Err(DemoError::Claim(format!("nobody we know answered: {other}"))),
        }
        Ok(())
    }

    pub(super) fn sum(&self) -> u32 {
        self.v1 + self.v2
    }

    /// The counts of `v1` that `share` percent allows, with this one among them.
    pub(super) fn check(&self, share: u32) -> Result<RangeInclusive<u32>, DemoError> {
        let allowed = allowed(self.sum(), share);
        if allowed.contains(&self.v1) {
            return Ok(allowed);
        }
        let (low, high) = allowed.into_inner();
        Err(DemoError::Claim(format!("{} of {} went to world-v1; chance allows {low} to {high}", self.v1, self.sum())))
    }
}

/// [`SIGMAS`] standard deviations of a binomial distribution around its mean.
fn allowed(sum: u32, share: u32) -> RangeInclusive<u32> {
    let (n, p) = (f64::from(sum), f64::from(share) / 100.0);
    let (mean, off) = (n * p, SIGMAS * (n * p * (1.0 - p)).sqrt());
    // within 0..=sum, so the casts lose nothing but the fraction
    let low = (mean - off).max(0.0).ceil() as u32;
    let high = (mean + off).min(n).floor() as u32;
    low..=high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_allowed(v1: u32, v2: u32, share: u32, holds: bool) {
        assert_eq!(Tally { v1, v2 }.check(share).is_ok(), holds);
    }

    #[test]
    fn chance_is_allowed_and_a_wrong_split_is_not() {
        check_allowed(900, 100, 90, true);
        check_allowed(850, 150, 90, true);
        check_allowed(840, 160, 90, false);
        check_allowed(500, 500, 90, false);
        check_allowed(1000, 0, 100, true);
        check_allowed(999, 1, 100, false);
    }
}
