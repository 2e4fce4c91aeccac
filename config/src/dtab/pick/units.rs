//! Weights as whole numbers on a common scale.

use crate::dtab::Weight;

/// Weights become whole numbers, so that shares add up exactly: the largest one gets [`UNIT_BITS`] bits, smaller ones
/// the same scale, rounded down. Powers of two scale exactly, so equal weights stay equal and the ratio of whole
/// numbers stays what it is.
pub(super) fn units(weight: Weight, exponent: i32) -> u64 {
    let (mantissa, scale) = parts(weight);
    match scale.saturating_add(UNIT_BITS).saturating_sub(exponent) {
        shift @ 0..=63 => mantissa << shift, // below 2^UNIT_BITS, as the weight is below 2^exponent
        shift @ -63..=-1 => mantissa >> -shift,
        _ => 0,
    }
}

/// The smallest `e` with weight < 2^e; for weight 0 the smallest there is.
pub(super) fn exponent_above(weight: Weight) -> i32 {
    let (mantissa, scale) = parts(weight);
    match u64::BITS - mantissa.leading_zeros() {
        0 => i32::MIN,
        bits => scale + i32::try_from(bits).unwrap_or(i32::MAX),
    }
}

/// Mantissa and power of two: their product is the weight, exactly.
fn parts(weight: Weight) -> (u64, i32) {
    let bits = weight.get().to_bits();
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    match i32::try_from(bits >> FRACTION_BITS).unwrap_or(0) {
        0 => (fraction, 1 - EXPONENT_BIAS),
        exponent => (fraction | 1 << FRACTION_BITS, exponent - EXPONENT_BIAS),
    }
}

/// With 2^16 branches at most, all units of a union stay below 2^62.
const UNIT_BITS: i32 = 46;
const FRACTION_BITS: u32 = 52;
/// Of a mantissa that is a whole number.
const EXPONENT_BIAS: i32 = 1023 + 52;
