//! Running scores that stay honest however often one looks.
//!
//! Each score starts at 1 and, if the canary is harmless, is not expected to grow: so it ever reaches 1/alpha with
//! probability at most alpha (Ville 1939), whatever the moment of looking. Sums weighted by stakes, products of
//! successive pieces and the lesser of two such scores are such scores again.
//!
//! * [`Absolute`]: failures against a budget, a mixture of likelihood ratios (Wald 1945; Robbins 1970).
//! * [`Attribution`]: failures against those of the other arm, by who had them alone (Lindon and Malek 2022).
//!
//! Everything is added up in logarithms.

/// The most alternatives one mixture has.
pub(crate) const TERMS_MAX: usize = 24;

/// Alternatives of one mixture: what one event, and one request without, adds to the logarithm of each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Absolute {
    hit: [f64; TERMS_MAX],
    miss: [f64; TERMS_MAX],
    terms: usize,
    budget: f64,
}

impl Absolute {
    /// Evidence that a rate is above `budget`: alternatives at 2, 4, 8 … times the budget below 60 %, and 90 %.
    /// `budget` is above 0 and at most one half, which the policy sees to.
    pub(crate) fn above(budget: f64) -> Absolute {
        let mut rates = Terms::default();
        let mut rate = 2.0 * budget;
        while rate < 0.6 {
            rates.push(rate);
            rate *= 2.0;
        }
        rates.push(0.9);
        Absolute::new(budget, &rates)
    }

    /// Evidence that a rate is above `budget`, which may be large: alternatives at multiples of its odds.
    pub(crate) fn above_by_odds(budget: f64) -> Absolute {
        let odds = budget / (1.0 - budget);
        let mut rates = Terms::default();
        for ratio in [1.25, 1.6, 2.0, 4.0, 8.0, 20.0, 60.0] {
            rates.push(odds * ratio / (1.0 + odds * ratio));
        }
        Absolute::new(budget, &rates)
    }

    /// Evidence that a rate is below `limit`: alternatives at a half, a quarter … of it.
    pub(crate) fn below(limit: f64) -> Absolute {
        let mut rates = Terms::default();
        for halvings in 1..=7 {
            rates.push(limit / f64::from(1_u32 << halvings));
        }
        Absolute::new(limit, &rates)
    }

    fn new(budget: f64, rates: &Terms) -> Absolute {
        let mut it = Absolute { hit: [0.0; TERMS_MAX], miss: [0.0; TERMS_MAX], terms: rates.len, budget };
        for (at, rate) in rates.as_slice().iter().enumerate() {
            it.hit[at] = (rate / budget).ln();
            it.miss[at] = ((1.0 - rate) / (1.0 - budget)).ln();
        }
        it
    }

    /// Whether `events` are no more than the budget allows: then a score of "above" is at most 1.
    pub(crate) fn allows(&self, events: u64, requests: u64) -> bool {
        events as f64 <= self.budget * requests as f64
    }

    /// So many requests without an event say that the budget is kept again: among as many of an arm that is over it by
    /// far there are several. At most a thousand, however small the budget is.
    pub(crate) fn requests_to_tell(&self) -> u64 {
        ((1.0 / self.budget).ceil() as u64).min(REQUESTS_TO_TELL_MAX)
    }

    /// The logarithm of the score after `events` in `requests`. More events than requests count as so many requests.
    pub(crate) fn ln_score(&self, events: u64, requests: u64) -> f64 {
        let (hits, misses) = (events as f64, requests.saturating_sub(events) as f64);
        let mut terms = Terms::default();
        for at in 0..self.terms {
            terms.push(hits * self.hit[at] + misses * self.miss[at]);
        }
        ln_mean_exp(terms.as_slice())
    }
}

const REQUESTS_TO_TELL_MAX: u64 = 1_000;

/// What one event of the accused arm, or of the other, adds to the logarithm of each alternative, for one share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Attribution {
    pub(crate) accused: [f64; RATIOS_MAX],
    pub(crate) other: [f64; RATIOS_MAX],
}

/// The most ratios of one attribution test.
pub(crate) const RATIOS_MAX: usize = 6;

impl Attribution {
    /// The accused arm got `share` of the requests and may have events `tolerance` times as often. Alternatives: it
    /// has them `tolerance` x each of `ratios` times as often. Where there is no other arm nothing can be told.
    pub(crate) fn new(share: f64, tolerance: f64, ratios: &[f64]) -> Attribution {
        let mut it = Attribution { accused: [0.0; RATIOS_MAX], other: [0.0; RATIOS_MAX] };
        if share <= 0.0 || share >= 1.0 {
            return it;
        }
        let chance = |times: f64| share * times / (share * times + 1.0 - share);
        let harmless = chance(tolerance);
        for (at, ratio) in ratios.iter().enumerate().take(RATIOS_MAX) {
            let guilty = chance(tolerance * ratio);
            it.accused[at] = (guilty / harmless).ln();
            it.other[at] = ((1.0 - guilty) / (1.0 - harmless)).ln();
        }
        it
    }
}

/// The logarithm of the mean of the exponentials; 0 for none, as a score nobody bet on.
pub(crate) fn ln_mean_exp(terms: &[f64]) -> f64 {
    let most = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !most.is_finite() {
        return 0.0;
    }
    let sum: f64 = terms.iter().map(|term| (term - most).exp()).sum();
    most + (sum / terms.len() as f64).ln()
}

/// A few numbers on the stack.
#[derive(Default)]
struct Terms {
    values: [f64; TERMS_MAX],
    len: usize,
}

impl Terms {
    fn push(&mut self, value: f64) {
        debug_assert!(self.len < TERMS_MAX, "a mixture outgrew its place");
        if self.len < TERMS_MAX {
            self.values[self.len] = value;
            self.len += 1;
        }
    }

    fn as_slice(&self) -> &[f64] {
        &self.values[..self.len]
    }
}

#[cfg(test)]
mod tests;
