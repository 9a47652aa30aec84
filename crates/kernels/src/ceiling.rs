//! What this processor can do at best: what a kernel's speed is a share of.
//!
//! Multiply-adds run on registers alone, without loads; reading adds up a slice and does nothing else.

use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Set;
use std::hint::black_box;

/// Numbers that are multiplied and added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// f32.
    F32,
    /// Pairs of bf16 into f32.
    Bf16,
    /// INT8 into INT32.
    Int8,
}

/// Operations (a multiply-add is two) of `rounds` rounds, each of which keeps the multiplier busy with independent work;
/// `None` where this instruction set has no instruction for these numbers.
pub fn multiply_adds(isa: Isa, numbers: Numbers, rounds: u64) -> Option<u64> {
    match (numbers, isa.0) {
        #[cfg(target_arch = "x86_64")]
        (Numbers::F32, Set::Avx512) => {
            // SAFETY: an `Isa` exists only for sets that this processor has.
            #[allow(unsafe_code)]
            black_box(unsafe { fused_avx512(rounds) });
            Some(rounds * 12 * 16 * 2)
        }
        #[cfg(target_arch = "x86_64")]
        (Numbers::F32, Set::Avx2) => {
            // SAFETY: as above.
            #[allow(unsafe_code)]
            black_box(unsafe { fused_avx2(rounds) });
            Some(rounds * 12 * 8 * 2)
        }
        (Numbers::F32, _) => {
            black_box(fused(rounds));
            Some(rounds * CHAINS as u64 * 2)
        }
        #[cfg(target_arch = "x86_64")]
        (Numbers::Int8, Set::Avx512) if is_x86_feature_detected!("avx512vnni") => {
            // SAFETY: detection found the instructions.
            #[allow(unsafe_code)]
            black_box(unsafe { dot_int8(rounds) });
            Some(rounds * CHAINS as u64 * 64 * 2)
        }
        #[cfg(target_arch = "x86_64")]
        (Numbers::Bf16, Set::Avx512) if is_x86_feature_detected!("avx512bf16") => {
            // SAFETY: detection found the instructions.
            #[allow(unsafe_code)]
            black_box(unsafe { dot_bf16(rounds) });
            Some(rounds * CHAINS as u64 * 32 * 2)
        }
        _ => None,
    }
}

/// One step of every chain, written out: sums that a loop goes through stay in memory instead of registers.
#[cfg(target_arch = "x86_64")]
macro_rules! each_sum {
    ($sums:ident, $sum:ident => $step:expr, $($at:literal)*) => {
        $({ let $sum = $sums[$at]; $sums[$at] = $step; })*
    };
}

/// Sums that do not wait for each other: more than the multiplier's latency times its units on today's processors.
const CHAINS: usize = 16;

/// Fused multiply-adds with whatever the compiler makes of it.
fn fused(rounds: u64) -> f32 {
    let (x, y) = (black_box(0.999f32), black_box(1e-3f32));
    let mut sums = [0.0f32; CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = *sum * x + y;
        }
    }
    sums.iter().sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fused_avx2(rounds: u64) -> f32 {
    use std::arch::x86_64::*;
    let (x, y) = (
        _mm256_set1_ps(black_box(0.999)),
        _mm256_set1_ps(black_box(1e-3)),
    );
    // Sixteen registers: twelve sums beside the two factors.
    let mut sums = [_mm256_setzero_ps(); 12];
    for _ in 0..rounds {
        each_sum!(sums, sum => _mm256_fmadd_ps(x, y, sum), 0 1 2 3 4 5 6 7 8 9 10 11);
    }
    let mut total = _mm256_setzero_ps();
    for sum in sums {
        total = _mm256_add_ps(total, sum);
    }
    _mm256_cvtss_f32(total)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn fused_avx512(rounds: u64) -> f32 {
    use std::arch::x86_64::*;
    let (x, y) = (
        _mm512_set1_ps(black_box(0.999)),
        _mm512_set1_ps(black_box(1e-3)),
    );
    let mut sums = [_mm512_setzero_ps(); 12];
    for _ in 0..rounds {
        each_sum!(sums, sum => _mm512_fmadd_ps(x, y, sum), 0 1 2 3 4 5 6 7 8 9 10 11);
    }
    let mut total = 0.0;
    for sum in sums {
        total += _mm512_reduce_add_ps(sum);
    }
    total
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot_int8(rounds: u64) -> i32 {
    use std::arch::x86_64::*;
    let (x, y) = (
        _mm512_set1_epi32(black_box(0x0102_0301)),
        _mm512_set1_epi32(black_box(0x01ff_0102)),
    );
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..rounds {
        each_sum!(sums, sum => _mm512_dpbusd_epi32(sum, x, y), 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    let mut total = 0i32;
    for sum in sums {
        total = total.wrapping_add(_mm512_reduce_add_epi32(sum));
    }
    total
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn dot_bf16(rounds: u64) -> f32 {
    use std::arch::x86_64::*;
    let one = _mm512_cvtne2ps_pbh(
        _mm512_set1_ps(black_box(0.01)),
        _mm512_set1_ps(black_box(0.02)),
    );
    let mut sums = [_mm512_setzero_ps(); CHAINS];
    for _ in 0..rounds {
        each_sum!(sums, sum => _mm512_dpbf16_ps(sum, one, one), 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    let mut total = 0.0;
    for sum in sums {
        total += _mm512_reduce_add_ps(sum);
    }
    total
}

/// The wrapping sum of all words: reads each of them once, in four streams as far as they go.
pub fn read(isa: Isa, words: &[u64]) -> u64 {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` exists only for sets that this processor has.
        #[allow(unsafe_code)]
        Set::Avx512 => unsafe { read_avx512(words) },
        _ => words.iter().fold(0, |sum, word| sum.wrapping_add(*word)),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn read_avx512(words: &[u64]) -> u64 {
    use std::arch::x86_64::*;
    const BLOCK: usize = 8;
    let blocks = words.len() / 4 / BLOCK;
    let mut sums = [_mm512_setzero_si512(); 4];
    for at in 0..blocks {
        for (stream, sum) in sums.iter_mut().enumerate() {
            // SAFETY: 4 * blocks * BLOCK words at most are in the slice.
            #[allow(unsafe_code)]
            let block = unsafe {
                _mm512_loadu_si512(words.as_ptr().add((stream * blocks + at) * BLOCK).cast())
            };
            *sum = _mm512_add_epi64(*sum, block);
        }
    }
    let mut total = 0u64;
    for sum in sums {
        total = total.wrapping_add(_mm512_reduce_add_epi64(sum) as u64);
    }
    let rest = words[4 * blocks * BLOCK..].iter();
    rest.fold(total, |sum, word| sum.wrapping_add(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_adds_every_word_once() {
        for length in [0, 1, 63, 64, 65, 1000] {
            let words: Vec<u64> = (0..length).map(|at| 1 << (at % 60)).collect();
            let expected = words.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
            for isa in Isa::available() {
                assert_eq!(read(isa, &words), expected, "{length} {}", isa.name());
            }
        }
    }

    #[test]
    fn operations_grow_with_the_rounds() {
        for isa in Isa::available() {
            for numbers in [Numbers::F32, Numbers::Bf16, Numbers::Int8] {
                let once = multiply_adds(isa, numbers, 1);
                let often = multiply_adds(isa, numbers, 7);
                assert_eq!(often, once.map(|operations| operations * 7), "{numbers:?}");
            }
            assert!(multiply_adds(isa, Numbers::F32, 1).is_some());
        }
    }
}
