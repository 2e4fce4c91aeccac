//! Numbers that look random and follow from a seed.

/// A generator: the same seed gives the same numbers on every machine.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        let mut rng = Rng(seed ^ 0x5eed_0000_0000_0000);
        rng.next();
        rng
    }

    /// 64 bits: a counter, well mixed (Steele, Lea and Flood 2014).
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to below `bound`; 0 for 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// How many of independent events came, where `mean` come on average.
    pub(super) fn poisson(&mut self, mean: f64) -> u64 {
        if mean > POISSON_EXACT_MAX {
            let near = mean + mean.sqrt() * self.normal() + 0.5;
            return near.max(0.0) as u64;
        }
        let floor = (-mean).exp();
        let (mut product, mut count) = (self.unit(), 0);
        while product > floor {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// How many of `n` succeed.
    pub(super) fn binomial(&mut self, n: u64, probability: f64) -> u64 {
        if n <= BINOMIAL_EXACT_MAX {
            return (0..n).filter(|_| self.chance(probability)).count() as u64;
        }
        let mean = n as f64 * probability;
        if mean < POISSON_EXACT_MAX {
            return self.poisson(mean).min(n);
        }
        let near = mean + (mean * (1.0 - probability)).sqrt() * self.normal() + 0.5;
        (near.max(0.0) as u64).min(n)
    }

    /// 1 or more, `mean` on average.
    pub(super) fn geometric(&mut self, mean: f64) -> u64 {
        let mut count = 1;
        while count < CLUSTER_MAX && self.chance(1.0 - 1.0 / mean.max(1.0)) {
            count += 1;
        }
        count
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

const POISSON_EXACT_MAX: f64 = 50.0;
const BINOMIAL_EXACT_MAX: u64 = 32;
const CLUSTER_MAX: u64 = 1_000;
