//! Which endpoint of a cluster takes a request: the cheaper of two drawn at random, or the next in turn.
//!
//! Loads, health and the draw are arguments, so the choice is a pure function: the same draw chooses the same endpoint.
//! Nothing is allocated and nothing is kept between choices.
//!
//! Weights differ rarely. Where they do, endpoints of one weight form a group; groups are drawn by weight times number of
//! endpoints, and the two are drawn within the group (Linkerd 1's rule).

use std::time::Duration;

/// Pairs drawn before all endpoints are looked at.
pub const EFFORT_MAX: usize = 5;

/// What is known of an endpoint at the moment of choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// What one more request costs there: requests it works on for this worker, or the time that they take.
    pub cost: u64,
    /// Share relative to the other endpoints. 0, and what is not a positive number, is never drawn: such an
    /// endpoint serves when no other is usable, or when all weights are like that.
    pub weight: f64,
    /// Whether it may be chosen: not ejected, not draining.
    pub usable: bool,
}

/// How one is chosen of endpoints that are worth the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// The cheaper of two drawn by chance.
    Pairs,
    /// The first that is usable from this one on.
    Turn(usize),
}

/// Chooses among `len` endpoints. `loads` is asked about indices below `len`; `draw` is uniform over `u64`. `None`: none is
/// usable. A group without a usable endpoint gives its share to the least loaded endpoint of all.
///
/// All weights are looked at first; who knows them to be equal calls [`pick_even`].
pub fn pick(loads: impl Fn(usize) -> Load, len: usize, draw: u64, within: Within) -> Option<usize> {
    let weight = |index| legal(loads(index).weight);
    if (1..len).all(|index| weight(index) == weight(0)) {
        return pick_even(&loads, len, draw, within);
    }
    let total: f64 = (0..len).map(weight).sum();
    let chosen = weight(at_point(weight, len, fraction(draw) * total));
    // The draw has chosen the group, so its high bits say nothing new within it.
    let inner = mix(draw);
    let members = (0..len).filter(|&index| weight(index) == chosen).count();
    let member = |rank| (0..len).filter(|&index| weight(index) == chosen).nth(rank).unwrap_or(0);
    try_within(|rank| loads(member(rank)), members, inner, within)
        .map(member)
        .or_else(|| least_loaded(|index| only_if(loads(index), weight(index) == chosen), len, inner))
        .or_else(|| least_loaded(|index| only_if(loads(index), weight(index) > 0.0), len, inner))
        .or_else(|| least_loaded(&loads, len, inner))
}

/// [`pick`] for endpoints of equal weight: weights are not looked at. Two looks where the two are usable.
///
/// Where neither is, two others are drawn, [`EFFORT_MAX`] times at most; then all are looked at, and the least loaded
/// usable one serves.
pub fn pick_even(loads: impl Fn(usize) -> Load, len: usize, draw: u64, within: Within) -> Option<usize> {
    try_within(&loads, len, draw, within).or_else(|| least_loaded(&loads, len, draw))
}

fn try_within(loads: impl Fn(usize) -> Load, len: usize, draw: u64, within: Within) -> Option<usize> {
    match within {
        Within::Pairs => try_pairs(loads, len, draw),
        Within::Turn(turn) => (0..len).map(|step| (turn % len + step) % len).find(|&index| loads(index).usable),
    }
}

/// Draws pairs until one has a usable endpoint.
fn try_pairs(loads: impl Fn(usize) -> Load, len: usize, draw: u64) -> Option<usize> {
    if len < 2 {
        return (len == 1 && loads(0).usable).then_some(0);
    }
    let mut draw = draw;
    for _ in 0..EFFORT_MAX {
        let first = below(draw, len);
        draw = mix(draw);
        let second = (first + 1 + below(draw, len - 1)) % len; // never the first one again
        draw = mix(draw);
        let (one, other) = (loads(first), loads(second));
        match (one.usable, other.usable) {
            (true, true) if other.cost < one.cost => return Some(second),
            (true, _) => return Some(first),
            (false, true) => return Some(second),
            (false, false) => {}
        }
    }
    None
}

/// Looks at all endpoints, from a random one on so that equals take turns.
fn least_loaded(loads: impl Fn(usize) -> Load, len: usize, draw: u64) -> Option<usize> {
    let start = if len == 0 { 0 } else { below(mix(!draw), len) };
    let from_start = (start..len).chain(0..start);
    from_start.filter(|&index| loads(index).usable).min_by_key(|&index| loads(index).cost)
}

/// The endpoint on whose weight `point` falls, the weights laid end to end.
fn at_point(weight: impl Fn(usize) -> f64, len: usize, point: f64) -> usize {
    let mut reached = 0.0;
    let mut last = 0; // rounding may leave the point behind the end: then it is the last one with a weight
    for index in (0..len).filter(|&index| weight(index) > 0.0) {
        last = index;
        reached += weight(index);
        if reached > point {
            break;
        }
    }
    last
}

fn legal(weight: f64) -> f64 {
    if weight > 0.0 { weight.min(WEIGHT_MAX) } else { 0.0 } // also for what is not a number
}

fn only_if(load: Load, condition: bool) -> Load {
    Load { usable: load.usable && condition, ..load }
}

/// `draw` scaled to `0.0..1.0`; exact, since 53 bits fit.
fn fraction(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

/// `draw` scaled to `0..len`; `len` is not 0.
fn below(draw: u64, len: usize) -> usize {
    ((u128::from(draw) * len as u128) >> 64) as usize
}

/// A draw from a draw: the output function of SplitMix64, so every step of it is uniform again.
fn mix(draw: u64) -> u64 {
    let mut mixed = draw.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// How long requests take at an endpoint: a mean that jumps up at once and comes down slowly, so that one that became
/// slow is avoided before many requests have found out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ewma {
    mean_us: f64,
    at_us: u64,
    decay_us: f64,
}

impl Ewma {
    /// Nothing is known.
    pub fn new(decay: Duration) -> Self {
        Self { mean_us: 0.0, at_us: 0, decay_us: (decay.as_micros() as f64).max(1.0) }
    }

    /// A request took so long.
    #[must_use]
    pub fn observe(self, took_us: u64, now_us: u64) -> Self {
        let (took_us, kept) = (took_us as f64, self.kept(now_us));
        let mean_us = if took_us > self.mean_us { took_us } else { self.mean_us * kept + took_us * (1.0 - kept) };
        Self { mean_us, at_us: now_us.max(self.at_us), ..self }
    }

    /// What one more request costs beside those in flight. What was measured fades, so that a slow endpoint is tried
    /// again; one that nothing is known of gets one request, and no more before it has answered.
    pub fn cost(&self, in_flight: u32, now_us: u64) -> u64 {
        let mean_us = self.mean_us * self.kept(now_us);
        match in_flight {
            0 => mean_us as u64,
            waiting if mean_us < 1.0 => UNKNOWN_COST.saturating_add(u64::from(waiting)),
            waiting => (mean_us * (f64::from(waiting) + 1.0)) as u64,
        }
    }

    /// How much of the past counts still.
    fn kept(&self, now_us: u64) -> f64 {
        (-(now_us.saturating_sub(self.at_us) as f64) / self.decay_us).exp()
    }
}

/// Of an endpoint that has a request and has never answered one.
const UNKNOWN_COST: u64 = u64::MAX / 2;

/// Larger weights count as this one, so that a sum of them stays finite.
const WEIGHT_MAX: f64 = 1e100;

#[cfg(test)]
mod tests;
