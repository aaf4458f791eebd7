//! The tasks' gradients at the representation: their Gramian, without computing them where heads are linear.

use std::ops::Range;

use tch::Tensor;

use super::{Network, ValueId};
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::crossing::{fetch, send};
use crate::machine::gram::{self, SUMMED};
use crate::machine::product::{Mode, Product};
use crate::machine::real::Real;
use crate::machine::storage::Storage;

/// The Gramian of linear heads over the representation: a row's gradient there is `sum_c dy_c W_c` over a task's columns, so
/// that products of two tasks' gradients are sums of `(W W^T) * (dY^T dY)` over the pair's columns.
#[derive(Debug)]
pub enum HeadProducts<T> {
    /// In the host's memory.
    Loops(Blocks<T>),
    /// On any device.
    Formula(HeadTensors),
}

/// Products block by block, and where they go.
#[derive(Debug)]
pub struct Blocks<T> {
    weights: (Vec<Product>, Buffer<T>),
    gradients: (Vec<Product>, Buffer<T>),
    columns: Vec<Range<usize>>,
}

/// What the formula reads of heads.
#[derive(Debug)]
pub struct HeadTensors {
    /// `[outputs, width]`.
    weight: Tensor,
    /// `[rows, outputs]`.
    dy: Tensor,
    /// 1 where an output is a task's, `[tasks, outputs]`.
    owners: Tensor,
}

impl<T: Real> HeadProducts<T> {
    /// The views, for heads that fill `outputs` by a weight `[outputs, width]` and whose gradients `dy` `[rows, outputs]` arrive.
    pub(crate) fn new(net: &Network, outputs: ValueId, weight: &Storage<T>, dy: &Storage<T>) -> Result<Self> {
        let Layout { rows, width: outer, .. } = dy.layout();
        let inner = net.values[net.representation].width;
        let columns = net.values[outputs].columns.clone();
        let weight = weight.shaped(&[outer, inner])?;
        let rows_of_dy = dy.shaped(&[rows, outer])?;
        if dy.host().is_some() {
            let square = Layout { groups: 1, rows: outer, lanes: 1, width: outer };
            let of_weights = Buffer::zeros(square)?;
            let of_gradients = Buffer::zeros(square)?;
            let weights = in_blocks(&of_weights.shaped(&[outer, outer])?, &weight)?;
            let gradients = in_blocks(&of_gradients.shaped(&[outer, outer])?, &rows_of_dy.f_transpose(0, 1)?)?;
            return Ok(Self::Loops(Blocks {
                weights: (weights, of_weights),
                gradients: (gradients, of_gradients),
                columns,
            }));
        }
        let mut owners = vec![0.0; columns.len() * outer];
        for (task, columns) in columns.iter().enumerate() {
            owners[task * outer..][columns.clone()].fill(1.0);
        }
        let owners = send(&owners, weight.device())?.f_reshape([columns.len() as i64, outer as i64])?;
        Ok(Self::Formula(HeadTensors { weight, dy: rows_of_dy, owners }))
    }

    /// Adds the Gramian `[tasks, tasks]`.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add_gramian(&self, into: &mut [f64]) -> Result<()> {
        match self {
            Self::Loops(blocks) => blocks.add_gramian(into),
            Self::Formula(operands) => {
                let gramian = fetch::<f64>(&operands.gramian()?)?;
                into.iter_mut().zip(gramian).for_each(|(sum, x)| *sum += x);
                Ok(())
            }
        }
    }
}

impl HeadTensors {
    /// The Gramian by tensor algebra, in double precision.
    fn gramian(&self) -> Result<Tensor> {
        let products = gram::formula(&self.weight)?.f_mul(&gram::formula(&self.dy.f_tr()?)?)?;
        Ok(self.owners.f_matmul(&products)?.f_matmul(&self.owners.f_tr()?)?)
    }
}

impl<T: Real> Blocks<T> {
    fn add_gramian(&self, into: &mut [f64]) -> Result<()> {
        for products in [&self.weights.0, &self.gradients.0] {
            for (block, product) in products.iter().enumerate() {
                product.run(if block == 0 { Mode::Write } else { Mode::Add })?;
            }
        }
        let w = self.weights.1.slice();
        let d = self.gradients.1.slice();
        let outer = self.weights.1.layout.width;
        let tasks = self.columns.len();
        for (s, one) in self.columns.iter().enumerate() {
            for (t, other) in self.columns.iter().enumerate().take(s + 1) {
                let mut product = 0.0;
                for c in one.clone() {
                    let places = other.clone().map(|k| c * outer + k);
                    product += places.map(|at| w[at].wide() * d[at].wide()).sum::<f64>();
                }
                into[s * tasks + t] += product;
                if t < s {
                    into[t * tasks + s] += product;
                }
            }
        }
        Ok(())
    }
}

/// `out = a a^T` for `a` `[outer, inner]`, in blocks of what is summed in single precision.
fn in_blocks(out: &Tensor, a: &Tensor) -> Result<Vec<Product>> {
    let inner = a.size()[1];
    let mut products = Vec::new();
    for from in (0..inner).step_by(SUMMED as usize) {
        let part = a.f_narrow(1, from, SUMMED.min(inner - from))?;
        products.push(Product::new(out.shallow_clone(), part.shallow_clone(), part.f_transpose(0, 1)?)?);
    }
    Ok(products)
}
