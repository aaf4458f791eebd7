//! Places for parameters and state in the flat buffers.

use super::{ALIGN, Builder};
use crate::network::node::Piece;
use crate::network::{Value, ValueId};
use crate::parameters::path::Path;
use crate::parameters::{Entry, Init, Param, ParamId, Reach, Role, Start};

/// Numbers a row of a linear layer's output and input.
#[derive(Clone, Copy)]
pub(super) struct LayerSize {
    pub width: usize,
    pub inner: usize,
}

impl Builder {
    /// Weight and bias of linear layers `[width, inner]`, one a path; `layers` of them read one of so many groups.
    pub(super) fn affine(
        &mut self,
        paths: &[String],
        groups: usize,
        layers: usize,
        size: LayerSize,
        start: Option<Init>,
    ) -> (ParamId, ParamId) {
        let LayerSize { width, inner } = size;
        let uniform = Init::Uniform(1.0 / (inner.max(1) as f64).sqrt());
        let (of_weight, of_bias) = match start {
            Some(start) => (start, Init::Constant(0.0)),
            None => (uniform.clone(), uniform),
        };
        let mut parameter = |name: &str, shape: &[usize], role, init| {
            let pieces = paths.iter().map(|path| (format!("{path}.{name}"), shape.to_vec())).collect();
            let whole: Vec<_> =
                [groups, layers.saturating_mul(width)].into_iter().chain(shape[1..].iter().copied()).collect();
            self.parameter(pieces, &whole, groups, role, init)
        };
        (
            parameter("weight", &[width, inner], Role::Weight, of_weight),
            parameter("bias", &[width], Role::Bias, of_bias),
        )
    }

    pub(super) fn norm_parameters(&mut self, paths: &[String], x: ValueId) -> (ParamId, ParamId) {
        let Value { groups, width, .. } = *self.value(x);
        let scale = self.grouped(paths, "weight", groups, &[width], Role::Norm, Init::Constant(1.0));
        let shift = self.grouped(paths, "bias", groups, &[width], Role::Norm, Init::Constant(0.0));
        (scale, shift)
    }

    pub(super) fn grouped(
        &mut self,
        paths: &[String],
        name: &str,
        groups: usize,
        shape: &[usize],
        role: Role,
        init: Init,
    ) -> ParamId {
        let pieces = paths.iter().map(|path| (format!("{path}.{name}"), shape.to_vec())).collect();
        let whole: Vec<_> = std::iter::once(groups).filter(|&g| g > 1).chain(shape.iter().copied()).collect();
        self.parameter(pieces, &whole, groups, role, init)
    }

    pub(super) fn parameter(
        &mut self,
        pieces: Vec<(String, Vec<usize>)>,
        shape: &[usize],
        groups: usize,
        role: Role,
        init: Init,
    ) -> ParamId {
        let id = self.net.params.len();
        let size = shape.iter().fold(1, |product: usize, &n| product.saturating_mul(n));
        self.wanted = self.wanted.saturating_add(size);
        let begin = self.end.next_multiple_of(ALIGN);
        let mut at = begin;
        let copies = if self.starting_alike { pieces.len() } else { 1 };
        let matrix = match pieces.first().map(|(_, shape)| shape.as_slice()) {
            Some(&[rows, columns]) if role == Role::Weight => Some([rows, columns]),
            _ => None,
        };
        for (name, shape) in pieces {
            // A model that is too large is refused later: until then its sizes must not overflow.
            let size = if self.full() { 0 } else { shape.iter().product::<usize>() };
            let range = at..at + size;
            at = range.end;
            self.net.entries.push(Entry { name: Path::new(&name), shape, range, param: Some(id), frozen: false });
        }
        self.end = at;
        // Reach is set when the node that uses the parameter is pushed.
        let start = Start { stream: id, copies };
        let shape = shape.to_vec();
        let range = begin..at;
        let reach = Reach::All;
        let (side_by_side, learns, sparse) = (false, true, false);
        let param =
            Param { shape, groups, range, role, matrix, init, start, reach, side_by_side, learns, sparse, blank: 0 };
        self.net.params.push(param);
        id
    }

    pub(super) fn state(&mut self, paths: &[String], name: &str, groups: usize, width: usize, start: f64) -> usize {
        let offset = self.net.state.len();
        self.wanted = self.wanted.saturating_add(groups.saturating_mul(width));
        if self.full() {
            return offset;
        }
        for (g, path) in paths.iter().enumerate().take(groups) {
            let range = offset + g * width..offset + (g + 1) * width;
            let name = Path::new(&format!("{path}.{name}"));
            self.state_entries.push(Entry { name, shape: vec![width], range, param: None, frozen: false });
        }
        self.net.state.resize(offset + groups * width, start);
        offset
    }

    /// State of any shape, from these numbers on.
    pub(super) fn piece_of_state(&mut self, path: &str, shape: Vec<usize>, start: &[f64]) -> Piece {
        let offset = self.net.state.len();
        let size = shape.iter().fold(1, |product: usize, &n| product.saturating_mul(n));
        self.wanted = self.wanted.saturating_add(size);
        if !self.full() {
            let entry = Entry {
                name: Path::new(path),
                shape: shape.clone(),
                range: offset..offset + size,
                param: None,
                frozen: false,
            };
            self.state_entries.push(entry);
            self.net.state.extend_from_slice(start);
            self.net.state.resize(offset + size, 0.0);
        }
        Piece { start: offset, shape }
    }

    /// Moves sparse tables behind all other parameters.
    pub(super) fn place_tables(&mut self) {
        let before: Vec<_> = self.net.params.iter().map(|param| param.range.start).collect();
        let mut end = 0_usize;
        for sparse in [false, true] {
            for param in self.net.params.iter_mut().filter(|param| param.sparse == sparse) {
                let begin = end.next_multiple_of(ALIGN);
                end = begin + param.range.len();
                param.range = begin..end;
            }
        }
        for entry in &mut self.net.entries {
            let Some(id) = entry.param else { continue };
            let from = before[id];
            let to = self.net.params[id].range.start;
            entry.range = entry.range.start - from + to..entry.range.end - from + to;
        }
    }
}
