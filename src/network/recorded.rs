//! A node's formula, run forward under libtorch's autograd and recorded for the backwards that follow.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::Network;
use super::fed::FedTensors;
use super::formula::{Computed, Operands};
use super::node::Node;
use super::pass::Step;
use super::positions::PlaceTensors;
use crate::bail;
use crate::error::Result;
use crate::machine::buffer::Layout;
use crate::machine::draws::Draws;
use crate::machine::foreign::Received;
use crate::machine::real::Real;
use crate::machine::storage::Storage;

/// A node's formula in one plan.
pub(super) struct Recorded<T> {
    node: Arc<dyn Node>,
    index: u64,
    inputs: Vec<Tensor>,
    params: Vec<Tensor>,
    codes: Vec<Tensor>,
    places: Vec<PlaceTensors>,
    within: Option<PlaceTensors>,
    /// Whether a gradient is wanted, of each input and each parameter.
    wanted: Vec<bool>,
    state: Storage<T>,
    frozen: Vec<usize>,
    fed: FedTensors,
    y: Storage<T>,
    /// Of the last forward, while training.
    terms: Vec<Tensor>,
    graph: Option<Graph>,
}

/// What a node's function reads and writes in one plan.
pub(super) struct Given<T> {
    /// `[groups, rows, width]` each.
    pub inputs: Vec<Tensor>,
    /// In shapes of their own.
    pub params: Vec<Tensor>,
    /// `[rows, columns]` each.
    pub codes: Vec<Tensor>,
    /// Of a node along an axis of positions.
    pub places: Vec<PlaceTensors>,
    /// Where positions of the output are, if it is of positions.
    pub within: Option<PlaceTensors>,
    /// Whether a gradient is wanted, of each input and each parameter.
    pub wanted: Vec<bool>,
    /// The flat state of the network.
    pub state: Storage<T>,
    /// What changes from step to step.
    pub fed: FedTensors,
    /// The output.
    pub y: Storage<T>,
}

/// What the last forward leaves for the backward.
struct Graph {
    output: Tensor,
    terms: Vec<Tensor>,
    /// The inputs and parameters whose gradients are wanted.
    leaves: Vec<Tensor>,
}

impl<T: Real> Recorded<T> {
    /// Over these inputs `[groups, rows, width]` and parameters, in the order of `wanted`, to `y`.
    pub fn new(net: &Network, index: usize, operands: Given<T>) -> Self {
        let Given { inputs, params, codes, places, within, wanted, state, fed, y } = operands;
        Self {
            node: net.ops[index].clone(),
            index: index as u64,
            inputs,
            params,
            codes,
            places,
            within,
            wanted,
            state,
            frozen: net.frozen_state(),
            fed,
            y,
            terms: Vec::new(),
            graph: None,
        }
    }

    /// Fills the output and new state.
    pub fn forward(&mut self, step: &Step<'_>) -> Result<()> {
        let mut leaves = Vec::with_capacity(self.wanted.len());
        for (tensor, &wanted) in self.inputs.iter().chain(&self.params).zip(&self.wanted) {
            // Not `detach`: looks beside a step move parameters and bring them back, which autograd would take amiss.
            leaves.push(tensor.f_data()?.f_set_requires_grad(wanted)?);
        }
        let (inputs, params) = leaves.split_at(self.inputs.len());
        let Layout { groups, rows, width, .. } = self.y.layout();
        let state = self.state.shaped(&[self.state.layout().len()])?.f_detach()?;
        let given = Operands {
            inputs,
            params,
            codes: &self.codes,
            places: &self.places,
            within: self.within.as_ref(),
            state: &state,
            frozen: &self.frozen,
            draws: Draws { seed: step.seed, number: &self.fed.number, node: self.index },
            training: step.training,
            share: &self.fed.share,
        };
        // Batch statistics and masks come from this one forward, so all lanes share them.
        let Computed { output, terms, state } = tch::with_grad(|| self.node.formula(&given))?;
        self.y.shaped(&[groups, rows, width])?.f_copy_(&output.f_detach()?)?;
        for (start, new) in state {
            let len = new.numel();
            self.state.view(&[len], &[1], start)?.f_copy_(&new)?;
        }
        self.terms.clear();
        for term in terms.iter().filter(|_| step.training) {
            self.terms.push(term.f_detach()?.f_sum(Kind::Double)?);
        }
        leaves.retain(Tensor::requires_grad);
        self.graph = Some(Graph { output, terms, leaves });
        Ok(())
    }

    /// The terms that the last forward gave.
    pub fn terms(&self) -> &[Tensor] {
        &self.terms
    }

    /// The gradients that are wanted along one of the output, and along the terms by factors on each group's, `[groups]`
    /// or one for all.
    pub fn along(&self, seed: &Tensor, factors: &Tensor, training: bool) -> Result<Vec<Received>> {
        let Some(Graph { output, terms, leaves }) = &self.graph else { bail!("a backward needs a forward before it") };
        tch::with_grad(|| {
            let mut along = output.f_mul(seed)?.f_sum(output.kind())?;
            for term in terms.iter().filter(|_| training) {
                along = along.f_add(&term.f_mul(&factors.f_to_kind(term.kind())?)?.f_sum(term.kind())?)?;
            }
            // What takes no part keeps its place in the graph by a zero.
            for leaf in leaves {
                along = along.f_add(&leaf.f_narrow(0, 0, 0)?.f_sum(leaf.kind())?)?;
            }
            let gradients = Tensor::f_run_backward(&[along], leaves, true, false)?;
            Ok(gradients.into_iter().map(Received::from).collect())
        })
    }
}
