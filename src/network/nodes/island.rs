//! What is not worth a node: one node whose forward runs under libtorch's autograd.

use std::fmt::Debug;
use std::sync::Arc;

use tch::Tensor;

use crate::bail;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout};
use crate::machine::product::Mode;
use crate::machine::real::Real;
use crate::network::ValueId;
use crate::network::node::{Kernel, Node, Prepares};
use crate::network::pass::{Pass, PerPass, Step};
use crate::network::prepare::{InputGradient, ParamGradient, Prepare};
use crate::parameters::{Init, ParamId};

/// A differentiable function of tensors with parameters of its own.
pub trait Module: Debug + Send + Sync {
    /// Numbers a row of the output.
    fn width(&self) -> usize;
    /// Name, shape and start of each parameter.
    fn parameters(&self) -> Vec<(String, Vec<usize>, Init)>;
    /// From inputs `[rows, width]` and parameters to `[rows, self.width()]`.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    fn forward(&self, inputs: &[Tensor], parameters: &[Tensor], training: bool) -> Result<Tensor>;
}

/// A [`Module`] as a node; costs what autograd costs, everything around it stays static.
#[derive(Debug)]
pub struct Island {
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it fills.
    pub output: ValueId,
    /// Its parameters.
    pub params: Vec<ParamId>,
    /// The function.
    pub module: Arc<dyn Module>,
}

struct IslandKernel<T> {
    module: Arc<dyn Module>,
    inputs: Vec<Tensor>,
    params: Vec<Tensor>,
    /// Whether a gradient is wanted, of each input and each parameter.
    wanted: Vec<bool>,
    y: Buffer<T>,
    /// The output, and the inputs and parameters whose gradients are wanted.
    graph: Option<(Tensor, Vec<Tensor>)>,
    passes: PerPass<Backward<T>>,
}

struct Backward<T> {
    dy: Buffer<T>,
    /// Which lane of an input's gradient a lane of `dy` goes to, where the input has more.
    lane: usize,
    inputs: Vec<Option<InputGradient<T>>>,
    /// Of those that learn.
    params: Vec<ParamGradient<T>>,
}

impl Node for Island {
    fn name(&self) -> &'static str {
        "Island"
    }

    fn inputs(&self) -> Vec<ValueId> {
        self.inputs.clone()
    }

    fn output(&self) -> ValueId {
        self.output
    }

    fn params(&self) -> Vec<ParamId> {
        self.params.clone()
    }
}

impl<T: Real> Prepares<T> for Island {
    fn prepare(&self, at: &Prepare<'_, T>) -> Result<Box<dyn Kernel>> {
        let lane = match at.net.values[self.output].reach {
            crate::parameters::Reach::One(task) => task,
            _ => 0,
        };
        let learning: Vec<_> = (0..self.inputs.len()).filter(|&k| at.net.values[self.inputs[k]].learns).collect();
        let params = (0..self.params.len()).filter(|&k| at.learns(k));
        let passes = at.each_pass(|pass| {
            Ok(Backward {
                dy: at.arriving(self.output, pass),
                lane,
                inputs: learning.iter().map(|&k| at.leaving(k, pass)).collect(),
                params: params.clone().map(|k| at.param_gradient(k, pass)).collect::<Result<_>>()?,
            })
        })?;
        let mut inputs = Vec::with_capacity(self.inputs.len());
        let mut wanted = Vec::new();
        for &id in &self.inputs {
            let value = &at.net.values[id];
            inputs.push(at.value(id).shaped(&[at.rows, value.width])?);
            wanted.push(value.learns);
        }
        let mut params = Vec::with_capacity(self.params.len());
        for &id in &self.params {
            let param = &at.net.params[id];
            params.push(at.param(id)?.shaped(&param.shape)?);
            wanted.push(param.learns);
        }
        Ok(Box::new(IslandKernel {
            module: self.module.clone(),
            wanted,
            inputs,
            params,
            y: at.value(self.output),
            graph: None,
            passes,
        }))
    }
}

impl<T: Real> Kernel for IslandKernel<T> {
    fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        let mut leaves = Vec::with_capacity(self.wanted.len());
        for (tensor, &wanted) in self.inputs.iter().chain(&self.params).zip(&self.wanted) {
            leaves.push(tensor.f_detach()?.f_set_requires_grad(wanted)?);
        }
        let (inputs, params) = leaves.split_at(self.inputs.len());
        // Batch statistics and masks come from this one forward, so all lanes share them.
        let output = tch::with_grad(|| self.module.forward(inputs, params, step.training))?;
        let shape = [self.y.layout.rows, self.y.layout.width];
        if output.size() != shape.map(|n| n as i64) || output.kind() != T::KIND {
            bail!(
                "an island's forward should give {shape:?} of {:?}; got {:?} of {:?}",
                T::KIND,
                output.size(),
                output.kind()
            );
        }
        self.y.shaped(&shape)?.f_copy_(&output.f_detach()?)?;
        leaves.retain(Tensor::requires_grad);
        self.graph = Some((output, leaves));
        Ok(())
    }

    fn backward(&mut self, step: &Step<'_>, pass: Pass) -> Result<()> {
        let Some((output, leaves)) = &self.graph else { bail!("a backward needs a forward before it") };
        let back = self.passes.of(pass);
        let Layout { rows, lanes, width, .. } = back.dy.layout;
        for lane in 0..lanes {
            let seed = back.dy.view(&[rows, width], &[lanes * width, 1], lane * width)?;
            let gradients = tch::with_grad(|| -> Result<Vec<Tensor>> {
                let along = output.f_mul(&seed)?.f_sum(T::KIND)?;
                Ok(Tensor::f_run_backward(&[along], leaves, true, false)?)
            })?;
            back.store(step, lane, &gradients)?;
        }
        Ok(())
    }
}

impl<T: Real> Backward<T> {
    fn store(&self, step: &Step<'_>, lane: usize, gradients: &[Tensor]) -> Result<()> {
        let (inputs, params) = gradients.split_at(self.inputs.len());
        for (dx, gradient) in self.inputs.iter().zip(inputs) {
            let Some(dx) = dx else { continue };
            let Layout { rows, lanes, width, .. } = dx.buffer.layout;
            let lane = if lanes == self.dy.layout.lanes { lane } else { self.lane };
            let to = dx.buffer.view(&[rows, width], &[lanes * width, 1], lane * width)?;
            if dx.is_weighed(step) {
                put(to, &gradient.f_mul_scalar(step.weight::<f64>(self.lane))?, dx.mode)?;
            } else {
                put(to, gradient, dx.mode)?;
            }
        }
        for (slab, gradient) in self.params.iter().zip(params) {
            let width = slab.buffer.layout.width;
            let to = slab.buffer.view(&[width], &[1], lane * width)?;
            put(to, &gradient.f_reshape([width as i64])?, slab.mode(step))?;
        }
        Ok(())
    }
}

fn put(mut to: Tensor, gradient: &Tensor, mode: Mode) -> Result<()> {
    match mode {
        Mode::Write => to.f_copy_(gradient)?,
        Mode::Add => drop(to.f_add_(gradient)?),
    }
    Ok(())
}
