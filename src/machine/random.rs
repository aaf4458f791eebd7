//! Counter-based randomness: the same (seed, stream, index) gives the same number, in any order, on any thread count.

/// A stream of random numbers, addressed by index.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    key: u64,
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
#[inline(always)]
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Stream {
    /// The stream of a seed and a path of numbers (what for, which step, which node ...).
    pub fn new(seed: u64, path: &[u64]) -> Self {
        Self { key: path.iter().fold(mix(seed), |key, &part| mix(key ^ mix(part))) }
    }

    /// A stream of its own for one of many parts.
    pub fn part(self, index: u64) -> Self {
        Self { key: mix(self.bits(index)) }
    }

    /// Which stream it is.
    pub fn key(self) -> u64 {
        self.key
    }

    /// 64 random bits.
    #[inline(always)]
    pub fn bits(self, index: u64) -> u64 {
        mix(self.key.wrapping_add(index.wrapping_mul(0xd134_2543_de82_ef95)))
    }

    /// Uniform in `[0, 1)`.
    pub fn uniform(self, index: u64) -> f64 {
        (self.bits(index) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box & Muller, 1958).
    pub fn normal(self, index: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * index)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * index + 1)).cos()
    }

    /// Halves of the key, for [`coarse`].
    pub fn halves(self) -> [u32; 2] {
        [self.key as u32, (self.key >> 32) as u32]
    }
}

/// 32 random bits from 32-bit arithmetic alone, for loops that vectorise: two rounds of a multiply-xorshift hash.
#[inline(always)]
pub fn coarse(key: [u32; 2], index: u32) -> u32 {
    let x = index.wrapping_mul(0x9e37_79b9) ^ key[0];
    let x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad);
    let x = (x ^ (x >> 15)).wrapping_add(key[1]);
    let x = (x ^ (x >> 15)).wrapping_mul(0x735a_2d97);
    x ^ (x >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_uniform_and_differ() {
        let a = Stream::new(1, &[2, 3]);
        let b = Stream::new(1, &[3, 2]);
        let n = 100_000;
        let mean = |s: Stream| (0..n).map(|i| s.uniform(i)).sum::<f64>() / n as f64;
        assert!((mean(a) - 0.5).abs() < 5e-3 && (mean(b) - 0.5).abs() < 5e-3);
        let both = (0..n).map(|i| (a.uniform(i) - 0.5) * (b.uniform(i) - 0.5)).sum::<f64>() / n as f64;
        assert!(both.abs() < 2e-3);
    }

    #[test]
    fn normal_numbers_have_unit_variance() {
        let s = Stream::new(7, &[]);
        let n = 100_000;
        let square = (0..n).map(|i| s.normal(i).powi(2)).sum::<f64>() / n as f64;
        assert!((square - 1.0).abs() < 2e-2);
    }

    #[test]
    fn coarse_bits_are_balanced_and_uncorrelated_between_neighbours_and_keys() {
        let key = Stream::new(5, &[1]).halves();
        let other = Stream::new(5, &[2]).halves();
        let n = 1 << 17;
        let bit = |key, i: u32| f64::from(coarse(key, i) >> 31) - 0.5;
        let mean = |f: &dyn Fn(u32) -> f64| (0..n).map(f).sum::<f64>() / f64::from(n);
        assert!(mean(&|i| bit(key, i)).abs() < 5e-3);
        assert!(mean(&|i| bit(key, i) * bit(key, i + 1)).abs() < 3e-3);
        assert!(mean(&|i| bit(key, i) * bit(other, i)).abs() < 3e-3);
    }
}
