//! The element types of the core.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// Rows that a block kernel treats at once: one AVX-512 register of `f32`.
pub const LANES: usize = 16;

/// What memory of libtorch holds: numbers, or codes and places.
pub trait Cell: tch::kind::Element + Copy + Send + Sync + Debug + Default + 'static {}

impl Cell for f32 {}
impl Cell for f64 {}
impl Cell for i32 {}
impl Cell for i64 {}

/// `f32` for training, `f64` for checks against autograd.
///
/// The transcendental functions of `f32` are branch-free so that loops over them vectorise.
pub trait Real:
    Cell
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
{
    /// 1.
    const ONE: Self;
    /// Minus infinity.
    const LOWEST: Self;
    /// The nearest value.
    fn of(value: f64) -> Self;
    /// As `f64`.
    fn wide(self) -> f64;
    /// e to the power of `self`.
    fn exp(self) -> Self;
    /// Natural logarithm of a positive, normal number.
    fn ln(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// Cosine and sine of so many turns, of `2 pi` times the number.
    fn turned(self) -> [Self; 2];
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// The larger of two numbers.
    fn max(self, other: Self) -> Self;
    /// The smaller of two numbers.
    fn min(self, other: Self) -> Self;
    /// Whether it is NaN.
    fn is_nan(self) -> bool;

    /// `1 / (1 + exp(-x))`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp())
    }

    /// `ln(1 + exp(x))` without overflow.
    #[inline(always)]
    fn softplus(self) -> Self {
        self.max(Self::ZERO) + (Self::ONE + (-self.abs()).exp()).ln()
    }
}

impl Real for f64 {
    const ONE: f64 = 1.0;
    const LOWEST: f64 = f64::NEG_INFINITY;
    #[inline(always)]
    fn of(value: f64) -> f64 {
        value
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    fn ln(self) -> f64 {
        f64::ln(self)
    }
    fn tanh(self) -> f64 {
        f64::tanh(self)
    }
    fn erf(self) -> f64 {
        libm::erf(self)
    }
    fn turned(self) -> [f64; 2] {
        let angle = (self - self.round()) * std::f64::consts::TAU;
        [angle.cos(), angle.sin()]
    }
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    fn abs(self) -> f64 {
        f64::abs(self)
    }
    fn max(self, other: f64) -> f64 {
        f64::max(self, other)
    }
    fn min(self, other: f64) -> f64 {
        f64::min(self, other)
    }
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }
}

impl Real for f32 {
    const ONE: f32 = 1.0;
    const LOWEST: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn of(value: f64) -> f32 {
        value as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    /// Range reduction to `|r| <= ln(2)/2` and a polynomial of degree 6; relative error below 2e-7.
    #[inline(always)]
    fn exp(self) -> f32 {
        const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
        let x = self;
        let x = if x > 88.5 { 88.5 } else { x };
        let x = if x < -87.0 { -87.0 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + SHIFT;
        let n = shifted - SHIFT;
        let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
        let mut p = 1.388_889e-3;
        p = p * r + 8.333_334e-3;
        p = p * r + 4.166_666_6e-2;
        p = p * r + 1.666_666_7e-1;
        p = p * r + 0.5;
        p = p * r + 1.0;
        p = p * r + 1.0;
        p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
    }

    /// Mantissa in `[sqrt(1/2), sqrt(2))`, then a series in `(m - 1) / (m + 1)`; relative error below 3e-7.
    #[inline(always)]
    fn ln(self) -> f32 {
        let bits = self.to_bits().wrapping_sub(0x3f35_04f3);
        let e = (bits as i32) >> 23;
        let m = f32::from_bits((bits & 0x007f_ffff) + 0x3f35_04f3);
        let s = (m - 1.0) / (m + 1.0);
        let z = s * s;
        let p = ((0.222_222_2 * z + 0.285_714_3) * z + 0.4) * z + 0.666_666_7;
        let e = e as f32;
        e * 0.693_359_4 + (s * z * p + (s + s) - e * 2.121_944_4e-4)
    }

    #[inline(always)]
    fn tanh(self) -> f32 {
        let a = self.abs();
        let z = self * self;
        let small = self
            + self
                * z
                * ((((-5.704_988_7e-3 * z + 2.063_909e-2) * z - 5.373_971_6e-2) * z + 1.333_144_2e-1) * z
                    - 3.333_328e-1);
        let large = (1.0 - 2.0 / (Real::exp(a + a) + 1.0)).copysign(self);
        if a < 0.625 { small } else { large }
    }

    /// Series below 0.5, Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7) above.
    #[inline(always)]
    fn erf(self) -> f32 {
        let a = self.abs();
        let z = self * self;
        let small = self
            * (std::f32::consts::FRAC_2_SQRT_PI
                + z * (-0.376_126_4
                    + z * (0.112_837_92 + z * (-2.686_617e-2 + z * (5.223_977_6e-3 - z * 8.548_327e-4)))));
        let t = 1.0 / (1.0 + 0.327_591_1 * a);
        let p = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
        let large = (1.0 - p * Real::exp(-z)).copysign(self);
        if a < 0.5 { small } else { large }
    }

    /// Whole turns and then quarter turns off, which is exact, and polynomials within an eighth of a turn to both sides;
    /// absolute error below 2e-7.
    #[inline(always)]
    fn turned(self) -> [f32; 2] {
        const WHOLE: f32 = 8_388_608.0; // 2^23: from there on there are whole numbers alone
        const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer
        let a = self.abs();
        let turns = (a + WHOLE) - WHOLE;
        let quarters = 4.0 * if a < WHOLE { a - turns } else { 0.0 * a };
        let shifted = quarters + SHIFT;
        let r = (quarters - (shifted - SHIFT)) * std::f32::consts::FRAC_PI_2;
        let z = r * r;
        let sin = r + r * z * ((-1.951_529_6e-4 * z + 8.332_161e-3) * z - 1.666_665_5e-1);
        let cos = 1.0 - 0.5 * z + z * z * ((2.443_315_7e-5 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2);
        let quarter = shifted.to_bits() & 3;
        let odd = quarter & 1 == 1;
        let (c, s) = (if odd { sin } else { cos }, if odd { cos } else { sin });
        let of_c = ((quarter + 1) & 2) << 30;
        let of_s = ((quarter & 2) << 30) ^ (self.to_bits() & 0x8000_0000);
        [f32::from_bits(c.to_bits() ^ of_c), f32::from_bits(s.to_bits() ^ of_s)]
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::abs(self)
    }
    #[inline(always)]
    fn max(self, other: f32) -> f32 {
        if self > other { self } else { other }
    }
    #[inline(always)]
    fn min(self, other: f32) -> f32 {
        if self < other { self } else { other }
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest relative error of `got` over `count` points of `[from, to]`.
    fn worst(from: f32, to: f32, got: impl Fn(f32) -> f32, want: impl Fn(f64) -> f64) -> f64 {
        (0..=100_000)
            .map(|i| from + (to - from) * i as f32 / 100_000.0)
            .map(|x| (f64::from(got(x)) - want(f64::from(x))).abs() / want(f64::from(x)).abs().max(1e-3))
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_and_ln_are_accurate_to_single_precision() {
        assert!(worst(-86.0, 88.0, Real::exp, f64::exp) < 1e-6);
        assert!(worst(1e-3, 10.0, Real::ln, f64::ln) < 1e-6);
        assert!(worst(1.0, 1e30, Real::ln, f64::ln) < 1e-6);
    }

    #[test]
    fn tanh_and_erf_are_accurate_to_single_precision() {
        assert!(worst(-10.0, 10.0, Real::tanh, f64::tanh) < 2e-6);
        assert!(worst(-5.0, 5.0, Real::erf, libm::erf) < 2e-6);
    }

    #[test]
    fn turns_are_accurate_to_single_precision() {
        let exact = |x: f32, k: usize| Real::turned(f64::from(x))[k];
        for i in -100_000..=100_000 {
            for x in [i as f32 / 25_000.0, i as f32 * 0.37] {
                for (k, got) in Real::turned(x).into_iter().enumerate() {
                    assert!((f64::from(got) - exact(x, k)).abs() < 3e-7, "{x}: {got}");
                }
            }
        }
        assert_eq!(Real::turned(1e30_f32), [1.0, 0.0]);
        assert!(Real::turned(f32::INFINITY)[0].is_nan() && Real::turned(f32::NAN)[1].is_nan());
    }

    #[test]
    fn softplus_and_sigmoid_do_not_overflow() {
        assert_eq!(Real::softplus(1000.0_f32), 1000.0);
        assert!(Real::softplus(-80.0_f32) < 1e-30);
        assert!(Real::sigmoid(-1000.0_f32) < 1e-37 && Real::sigmoid(1000.0_f32) == 1.0);
    }
}
