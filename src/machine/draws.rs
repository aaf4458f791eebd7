//! Numbers at random as tensors: the bits of [`random`](super::random), by operations that run on any device.

use tch::{Device, Kind, Tensor};

use super::random::{Stream, mix};

/// The draws of one node in one step. The step's number is a tensor, since a captured step counts on its device.
#[derive(Debug, Clone, Copy)]
pub struct Draws<'a> {
    /// The seed of the run.
    pub seed: u64,
    /// The step's number, `i64` without dimensions.
    pub number: &'a Tensor,
    /// Index of the node.
    pub node: u64,
}

impl Draws<'_> {
    /// The key of a stream, for [`coarse`] and [`uniform`]: that of `Stream::new(seed, &[stream, number, node])`.
    pub fn key(&self, stream: u64) -> Tensor {
        let before = Stream::new(self.seed, &[stream]).key();
        let key = mixed(&xor(&mixed(self.number), before));
        mixed(&xor(&key, mix(self.node)))
    }
}

/// So many numbers of 32 random bits each, `[count]` of `i64`.
pub fn coarse(key: &Tensor, count: usize) -> Tensor {
    let first = key.bitwise_and(low(u64::from(u32::MAX)));
    let second = shifted(key, 32);
    let x = wrapped(indices(count, key.device()) * 0x9e37_79b9_i64).bitwise_xor_tensor(&first);
    let x = wrapped(xor_shifted(&x, 16) * 0x21f0_aaad_i64);
    let x = wrapped(xor_shifted(&x, 15) + second);
    let x = wrapped(xor_shifted(&x, 15) * 0x735a_2d97_i64);
    xor_shifted(&x, 15)
}

/// So many numbers, uniform in `[0, 1)`, `[count]` of `f64`.
pub fn uniform(key: &Tensor, count: usize) -> Tensor {
    let bits = mixed(&(indices(count, key.device()) * (0xd134_2543_de82_ef95_u64 as i64) + key));
    shifted(&bits, 11).to_kind(Kind::Double) / (1_u64 << 53) as f64
}

/// The finaliser of SplitMix64, as [`mix`]: products and sums wrap around, and a shift brings zeros in.
fn mixed(x: &Tensor) -> Tensor {
    let x = x + low(0x9e37_79b9_7f4a_7c15);
    let x = xor_shifted(&x, 30) * (0xbf58_476d_1ce4_e5b9_u64 as i64);
    let x = xor_shifted(&x, 27) * (0x94d0_49bb_1331_11eb_u64 as i64);
    xor_shifted(&x, 31)
}

fn indices(count: usize, device: Device) -> Tensor {
    Tensor::arange(count as i64, (Kind::Int64, device))
}

/// A number of 64 bits as libtorch takes it.
fn low(bits: u64) -> i64 {
    bits as i64
}

/// The shift of numbers without a sign, though libtorch's have one.
fn shifted(x: &Tensor, by: u32) -> Tensor {
    x.bitwise_right_shift_tensor_scalar(i64::from(by)).bitwise_and(low(u64::MAX >> by))
}

fn xor_shifted(x: &Tensor, by: u32) -> Tensor {
    x.bitwise_xor_tensor(&shifted(x, by))
}

fn xor(x: &Tensor, bits: u64) -> Tensor {
    x.bitwise_xor(low(bits))
}

/// What is left of a number in 32 bits.
fn wrapped(x: Tensor) -> Tensor {
    x.bitwise_and(low(u64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::super::random;
    use super::*;

    #[test]
    fn tensors_have_the_bits_of_the_loops() {
        for (seed, number, node) in
            [(0, 0_i64, 0), (5, 3, 2), (u64::MAX, 1_i64 << 40, 77), (0x8000_0000_0000_0001, 9, 1)]
        {
            let count = Tensor::from(number);
            let draws = Draws { seed, number: &count, node };
            for stream in [2, 3] {
                let own = Stream::new(seed, &[stream, number as u64, node]);
                let key = draws.key(stream);
                let drawn = Vec::<i64>::try_from(coarse(&key, 1000)).unwrap();
                for (i, drawn) in drawn.into_iter().enumerate() {
                    assert_eq!(drawn, i64::from(random::coarse(own.halves(), i as u32)), "{seed} {i}");
                }
                let drawn = Vec::<f64>::try_from(uniform(&key, 1000)).unwrap();
                for (i, drawn) in drawn.into_iter().enumerate() {
                    assert_eq!(drawn, own.uniform(i as u64), "{seed} {i}");
                }
            }
        }
    }
}
