//! Floats of 16 bits (IEEE 754 binary16), which are read and never calculated with.

/// A number in half precision, by its bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Float16(pub u16);

/// What the exponents of `f32` and of these numbers differ by, in place.
const REBIAS: u32 = (127 - 15) << 23;
/// All bits of the exponent, in the place of `f32`.
const EXPONENT: u32 = 0x1f << 23;

impl Float16 {
    /// The same number in single precision, which holds them all.
    #[inline(always)]
    pub fn widened(self) -> f32 {
        let bits = u32::from(self.0 & 0x7fff) << 13;
        let exponent = bits & EXPONENT;
        let normal = bits + if exponent == EXPONENT { 2 * REBIAS } else { REBIAS };
        // Numbers below the least exponent: what is added to the least normal one, which needs no subnormal of `f32`.
        let least = f32::from_bits(REBIAS + (1 << 23));
        let small = f32::from_bits(bits + REBIAS + (1 << 23)) - least;
        let size = if exponent == 0 { small.to_bits() } else { normal };
        f32::from_bits(size | u32::from(self.0 & 0x8000) << 16)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};

    use super::Float16;

    #[test]
    fn every_number_widens_as_in_libtorch() {
        let all: Vec<i16> = (0..=u16::MAX).map(|bits| bits as i16).collect();
        let wide = Tensor::from_slice(&all).view_dtype(Kind::Half).to_kind(Kind::Float);
        let wide = Vec::<f32>::try_from(&wide).unwrap();
        for (bits, expected) in (0..=u16::MAX).zip(wide) {
            let found = Float16(bits).widened();
            assert!(found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()), "{bits:#x}");
        }
    }
}
