//! How a weight's scale is written in 16 bits.

use crate::matmul::from_bf16;

/// A format of scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleFormat {
    /// The upper half of an f32.
    #[default]
    Bf16,
    /// Half precision, finite: blocks of GGUF keep their scales so.
    F16,
}

/// What the bits of an f16, shifted to where those of an f32 begin, are too small by: the exponents begin 112 apart. The
/// product is exact, of subnormal numbers too.
pub(super) const F16_FACTOR: f32 = f32::from_bits((127 + 112) << 23);
/// Bits of an f16 without its sign, and its sign.
pub(super) const F16_BITS: [i32; 2] = [0x7fff, 0x8000];

impl ScaleFormat {
    /// The number that these bits stand for.
    #[inline(always)]
    pub fn number(self, bits: u16) -> f32 {
        match self {
            ScaleFormat::Bf16 => from_bf16(bits),
            ScaleFormat::F16 => {
                let [magnitude, sign] = F16_BITS.map(|mask| u32::from(bits) & mask as u32);
                let magnitude = f32::from_bits(magnitude << 13) * F16_FACTOR;
                f32::from_bits(magnitude.to_bits() | sign << 16)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_f16_is_the_number_that_it_means() {
        for bits in 0..=u16::MAX {
            let (negative, exponent) = (bits >> 15 == 1, i32::from(bits >> 10 & 31));
            let fraction = f64::from(bits & 1023);
            // By the definition of IEEE 754.
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-24),
                31 => continue,
                _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
            };
            let expected = if negative { -magnitude } else { magnitude } as f32;
            let found = ScaleFormat::F16.number(bits);
            assert_eq!(found.to_bits(), expected.to_bits(), "{bits:04x}");
        }
    }
}
