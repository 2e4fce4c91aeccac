//! Shares of traffic and moments: whole numbers with a unit.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A share of traffic in parts per million, 0 to 1 000 000. The only unit for a share in this crate: whole percents
/// are too coarse for a first step of a busy service, and fractions do not add up exactly.
///
/// ```
/// use serin_rollout::Ppm;
/// assert_eq!("12.5%".parse::<Ppm>(), Ok(Ppm::new(125_000).unwrap()));
/// assert_eq!(Ppm::new(1).unwrap().to_string(), "0.0001%");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ppm(u32);

impl Ppm {
    /// Nothing.
    pub const ZERO: Ppm = Ppm(0);
    /// Everything.
    pub const WHOLE: Ppm = Ppm(PPM_WHOLE);

    /// A share, or `None` above the whole.
    #[must_use]
    pub const fn new(ppm: u32) -> Option<Ppm> {
        if ppm <= PPM_WHOLE { Some(Ppm(ppm)) } else { None }
    }

    /// A share of whole percents, or `None` above 100.
    #[must_use]
    pub const fn from_percent(percent: u32) -> Option<Ppm> {
        if percent <= 100 { Some(Ppm(percent * PPM_PERCENT)) } else { None }
    }

    /// The nearest share, whatever the number: below 0 is nothing, above the whole is the whole.
    #[must_use]
    pub const fn clamped(ppm: i64) -> Ppm {
        if ppm <= 0 {
            Ppm::ZERO
        } else if ppm >= PPM_WHOLE as i64 {
            Ppm::WHOLE
        } else {
            Ppm(ppm as u32)
        }
    }

    /// Parts per million.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The share as a fraction from 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(PPM_WHOLE)
    }

    /// What is left of the whole.
    #[must_use]
    pub const fn rest(self) -> Ppm {
        Ppm(PPM_WHOLE - self.0)
    }
}

/// Percent with as many decimals as are needed to read it back exactly.
impl fmt::Display for Ppm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / PPM_PERCENT, self.0 % PPM_PERCENT);
        if part == 0 {
            return write!(f, "{whole}%");
        }
        let decimals = format!("{part:04}");
        write!(f, "{whole}.{}%", decimals.trim_end_matches('0'))
    }
}

/// What [`Ppm`] prints; the percent sign may be left out.
impl FromStr for Ppm {
    type Err = PpmError;

    fn from_str(text: &str) -> Result<Ppm, PpmError> {
        let number = text.strip_suffix('%').unwrap_or(text);
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let legal = |digits: &str, max| (1..=max).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !legal(whole, 3) || !legal(decimals, 4) {
            return Err(PpmError);
        }
        let whole: u32 = whole.parse().map_err(|_| PpmError)?;
        let part: u32 = format!("{decimals:0<4}").parse().map_err(|_| PpmError)?;
        Ppm::new(whole * PPM_PERCENT + part).ok_or(PpmError)
    }
}

/// A share that cannot be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a share is a percentage from 0 to 100 with at most four decimals, as in 12.5%")]
pub struct PpmError;

/// A moment in milliseconds of one clock that does not run backwards; which one is the caller's affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampMs(pub u64);

impl TimestampMs {
    /// Milliseconds from `earlier` to this moment; 0 if it is not earlier at all.
    #[must_use]
    pub const fn since(self, earlier: TimestampMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `ms` milliseconds later.
    #[must_use]
    pub const fn plus(self, ms: u64) -> TimestampMs {
        TimestampMs(self.0.saturating_add(ms))
    }
}

const PPM_WHOLE: u32 = 1_000_000;
const PPM_PERCENT: u32 = 10_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_refused(text: &str) {
        assert_eq!(text.parse::<Ppm>(), Err(PpmError), "{text:?}");
    }

    #[test]
    fn shares_that_are_none_are_refused() {
        for text in ["", "%", "-1%", "100.0001%", "101", "1.23456", "1.", ".5", "1e2", "+1", "1 %", "٣%"] {
            check_refused(text);
        }
    }

    #[test]
    fn the_whole_and_one_part_more() {
        assert_eq!(Ppm::new(1_000_000), Some(Ppm::WHOLE));
        assert_eq!(Ppm::new(1_000_001), None);
        assert_eq!(Ppm::from_percent(101), None);
        assert_eq!((Ppm::clamped(-5), Ppm::clamped(i64::MAX)), (Ppm::ZERO, Ppm::WHOLE));
    }

    proptest! {
        #[test]
        fn display_then_parse_gives_back_the_share(ppm in 0..=1_000_000_u32) {
            let share = Ppm(ppm);
            prop_assert_eq!(share.to_string().parse::<Ppm>(), Ok(share));
            prop_assert_eq!(share.rest().rest(), share);
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".*") {
            let _ = text.parse::<Ppm>();
        }
    }
}
