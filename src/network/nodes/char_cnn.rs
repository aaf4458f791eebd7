//! A convolution over the codes of each position, such as the characters of a word, and the largest number of each filter.

mod loops;

use std::ops::Range;

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use self::loops::{Codes, Shape, add_back, convolve};
use super::concat::Pieces;
use crate::error::Result;
use crate::input::{Bend, Convolution, NOTHING};
use crate::machine::buffer::{Buffer, Layout, codes};
use crate::machine::parallel::{Disjoint, split};
use crate::machine::product::{Mode, Product};
use crate::machine::real::Real;
use crate::network::formula::{Computed, Operands};
use crate::network::node::{Kernel, MaybeKernel, Node, Prepares, by_loops};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{ParamGradient, Prepare};
use crate::network::{InputId, ValueId};
use crate::parameters::ParamId;

/// `y = [x, bend(bias + max over places i of sum over t of K_t table[code_(i + t - (width - 1) / 2)])]`, with zeros beyond the
/// first and the last place and where there is no code; the maximum is over places that have one, and a position that has
/// none at all has zeros.
///
/// Loops make the products of all characters with the kernel once a step, `[characters, width, filters]`, so that a place is a
/// sum of `width` rows of them: exactly the convolution, without a product a position.
#[derive(Debug)]
pub struct CharCnn {
    /// Numbers that come first.
    pub input: ValueId,
    /// The input that has the codes.
    pub codes: InputId,
    /// Its columns that are these.
    pub columns: Range<usize>,
    /// `[characters, embedding]`.
    pub table: ParamId,
    /// `[width, filters, embedding]`.
    pub weight: ParamId,
    /// `[filters]`.
    pub bias: ParamId,
    /// Sizes, and what comes after the maximum.
    pub convolution: Convolution,
    /// What it fills.
    pub output: ValueId,
}

impl Node for CharCnn {
    fn name(&self) -> &'static str {
        "CharCNN"
    }

    fn inputs(&self) -> Vec<ValueId> {
        vec![self.input]
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn attributes(&self) -> Option<Value> {
        let Range { start, end } = self.columns;
        Some(json!({"columns": [start, end], "activation": self.convolution.activation}))
    }

    fn codes(&self) -> Vec<InputId> {
        vec![self.codes]
    }

    fn formula(&self, given: &Operands<'_>) -> Result<Computed> {
        let x = given.input(0);
        let [table, weight, bias] = given.params else { unreachable!("a table, a kernel and a bias") };
        let (_, rows, _) = x.size3()?;
        let places = self.columns.len() as i64;
        let codes = given.codes(0).narrow(1, self.columns.start as i64, places);
        let there = codes.ne(i64::from(NOTHING));
        let embedded = table.index_select(0, &(codes * &there).reshape([-1])).reshape([rows, places, -1]);
        let embedded = embedded.where_self(&there.unsqueeze(2), &embedded.zeros_like()).transpose(1, 2);
        let radius = self.convolution.width as i64 / 2;
        let each = embedded.conv1d(&weight.permute([1, 2, 0]), Some(bias), 1, radius, 1, 1);
        let least = Tensor::full([], f64::NEG_INFINITY, (given.kind(), x.device()));
        let largest = each.where_self(&there.unsqueeze(1), &least).amax(2, false);
        let any = there.sum_dim_intlist(1_i64, true, Kind::Int64).gt(0);
        let largest = largest.where_self(&any, &largest.zeros_like());
        let bent = match self.convolution.activation {
            Bend::Relu => largest.relu(),
            Bend::Tanh => largest.tanh(),
        };
        Ok(Tensor::cat(&[x, &bent.unsqueeze(0)], 2).into())
    }

    fn params(&self) -> Vec<ParamId> {
        vec![self.table, self.weight, self.bias]
    }
}

struct CharCnnKernel<T> {
    x: Buffer<T>,
    y: Buffer<T>,
    codes: Buffer<i32>,
    shape: Shape,
    bias: Buffer<T>,
    /// What a character adds, `[characters, width * filters]`, and how it comes about.
    products: Buffer<T>,
    product: Product,
    /// Where each filter's largest number is, `[positions, filters]`.
    places: Vec<u32>,
    passes: PerPass<Backward<T>>,
}

/// The views of one pass.
struct Backward<T> {
    dy: Buffer<T>,
    numbers: Pieces<T>,
    /// The gradient of the products, `[lanes, characters, width * filters]`.
    products: Buffer<T>,
    /// Gradients of table and kernel, of those that learn, and the products that make them.
    weights: Vec<(ParamGradient<T>, Product)>,
    bias: ParamGradient<T>,
}

impl<T: Real> Prepares<T> for CharCnn {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<MaybeKernel> {
        let (x, y, codes) = (at.value(self.input), at.value(self.output), at.codes(self.codes));
        let Convolution { filters, width, activation } = self.convolution;
        let (table, weight) = (at.param(self.table)?, at.param(self.weight)?);
        let embedding = weight.layout.width / (width * filters);
        let characters = table.layout.width / embedding;
        let all = width * filters;
        let shape = Shape {
            filters,
            width,
            activation,
            first: x.layout.width,
            whole: y.layout.width,
            columns: [self.columns.start, self.columns.end],
            count: codes.layout.width,
        };
        let products = Buffer::zeros(Layout { groups: 1, rows: characters, lanes: 1, width: all })?;
        let of_table = || table.shaped(&[characters, embedding]);
        let turned = weight.view(&[embedding, all], &[1, embedding], 0)?;
        let product = Product::new(products.shaped(&[characters, all])?, of_table()?, turned)?;
        let passes = at.each_pass(|pass| {
            let dy = at.arriving(self.output, pass);
            let lanes = dy.layout.lanes;
            let products = Buffer::zeros(Layout { groups: 1, rows: lanes, lanes: characters, width: all })?;
            let mut weights = Vec::new();
            if at.learns(0) {
                let slab = at.param_gradient(0, pass)?;
                let out = slab.buffer.shaped(&[lanes * characters, embedding])?;
                let from = products.shaped(&[lanes * characters, all])?;
                weights.push((slab, Product::new(out, from, weight.shaped(&[all, embedding])?)?));
            }
            if at.learns(1) {
                let slab = at.param_gradient(1, pass)?;
                let out = slab.buffer.shaped(&[lanes, all, embedding])?;
                let from = products.view(&[lanes, all, characters], &[characters * all, 1, all], 0)?;
                let each = table.view(&[lanes, characters, embedding], &[0, embedding, 1], 0)?;
                weights.push((slab, Product::new(out, from, each)?));
            }
            let numbers = Pieces::new(at, self.output, &[0], pass);
            Ok(Backward { dy, numbers, products, weights, bias: at.param_gradient(2, pass)? })
        })?;
        let places = vec![0; y.layout.rows * filters];
        let bias = at.param(self.bias)?;
        by_loops(CharCnnKernel { x, y, codes, shape, bias, products, product, places, passes })
    }
}

impl<T: Real> Kernel for CharCnnKernel<T> {
    fn forward(&mut self, _: &Step<'_>) -> Result<()> {
        self.product.run(Mode::Write)?;
        let Shape { filters, whole, first, count, .. } = self.shape;
        let rows = self.y.layout.rows;
        let (x, bias, products) = (self.x.slice(), self.bias.slice(), self.products.slice());
        let all = codes(self.codes.slice());
        let y = Disjoint::new(self.y.slice_mut());
        let places = Disjoint::new(&mut self.places);
        let shape = self.shape;
        split(rows, rows * filters * shape.places(), &|_, range| {
            // SAFETY: each thread has positions of its own.
            let (y, places) = unsafe {
                (
                    y.part(range.start * whole..range.end * whole),
                    places.part(range.start * filters..range.end * filters),
                )
            };
            for (y, x) in y.chunks_exact_mut(whole).zip(x[range.start * first..].chunks(first.max(1))) {
                y[..first].copy_from_slice(&x[..first]);
            }
            let codes = Codes { shape, all: &all[range.start * count..range.end * count] };
            convolve(codes, products, bias, y, places);
        });
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let shape = self.shape;
        let Backward { dy, numbers, products, weights, bias } = self.passes.of(pass);
        numbers.give_back(step);
        let lanes = dy.layout.lanes;
        let (of_lane, filters) = (products.layout.len() / lanes, shape.filters);
        if bias.mode(step) == Mode::Write {
            bias.buffer.slice_mut().fill(T::ZERO);
        }
        let codes = Codes { shape, all: codes(self.codes.slice()) };
        let (dy, y, places) = (dy.slice(), self.y.slice(), &self.places);
        let of_products = Disjoint::new(products.slice_mut());
        let of_bias = Disjoint::new(bias.buffer.slice_mut());
        split(lanes, y.len() * lanes, &|_, range| {
            for lane in range {
                // SAFETY: each thread has lanes of its own.
                let (products, bias) = unsafe {
                    (
                        of_products.part(lane * of_lane..(lane + 1) * of_lane),
                        of_bias.part(lane * filters..(lane + 1) * filters),
                    )
                };
                products.fill(T::ZERO);
                add_back(codes, [lane, lanes], [dy, y], places, products, bias);
            }
        });
        weights.iter().try_for_each(|(slab, product)| product.run(slab.mode(step)))
    }
}
