//! From numbers to whole ones, the same way everywhere.

use crate::rows::ROUND;

/// A block whose largest magnitude is below this counts as zeros: a factor that brings it to the limit would not be finite.
pub(crate) const LEAST: f32 = 1e-30;

/// What numbers are multiplied by to reach the limit, and what the whole numbers are multiplied by to go back.
#[inline(always)]
pub(crate) fn factor_and_scale(largest: f32, limit: f32) -> (f32, f32) {
    if largest < LEAST {
        return (0.0, 0.0);
    }
    let finite = largest < f32::INFINITY;
    (
        if finite { limit / largest } else { 0.0 },
        if finite { largest / limit } else { f32::NAN },
    )
}

/// The largest magnitude; what is not a number is larger than all. As bits, whose order is that of magnitudes and whose maximum
/// does not depend on the order of comparisons.
#[inline(always)]
pub(crate) fn largest_magnitude(x: &[f32]) -> f32 {
    let mut largest = 0;
    for value in x {
        largest = (value.to_bits() & 0x7fff_ffff).max(largest);
    }
    f32::from_bits(largest)
}

/// The nearest whole number, ties to the even one, of a magnitude below 2²²: it stands in the low bits of a sum with 1.5 · 2²³.
#[inline(always)]
pub(crate) fn rounded(x: f32) -> i32 {
    ((x + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32)
}
