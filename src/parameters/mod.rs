//! Flat parameters: their pieces and names, groups of them, and the rows of sparse tables that a step touches.

pub mod flat;
mod groups;
pub mod path;
pub mod touched;

use std::ops::Range;

pub use groups::{MatrixRates, PerGroup, Rates, Segment, Segments};
use path::Path;

/// Index of a parameter.
pub type ParamId = usize;
/// Index of a task.
pub type TaskId = usize;

/// Which tasks' gradients arrive at a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// One task's.
    One(TaskId),
    /// Each group its own task's: the groups are the tasks' in turn, equally many each.
    Own,
    /// Each column its own task's: heads that were fused into one product.
    Columns,
    /// All tasks'.
    All,
}

/// What a parameter is, for weight decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A weight matrix: decays.
    Weight,
    /// An embedding table: decays.
    Embedding,
    /// A bias: does not decay.
    Bias,
    /// Scale or shift of a normalisation: does not decay.
    Norm,
}

/// How a parameter starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// Uniform in plus or minus the bound.
    Uniform(f64),
    /// The same from few random bits, many times faster to draw: for tables of many rows, which are one piece.
    Coarse(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// The same, but that what is beyond three standard deviations is drawn again.
    Truncated(f64),
    /// 1 or -1.
    Signs,
    /// 1 or -1, or normal with a standard deviation of 1, and the same for columns that belong together.
    Lots {
        /// Whether it is normal.
        normal: bool,
        /// Numbers a row.
        width: usize,
        /// Which of a row's belong together.
        lots: Lots,
    },
    /// Uniform in plus or minus the bound, rows `[members, width]` of which all are the same.
    Alike {
        /// The bound.
        bound: f64,
        /// How many rows.
        members: usize,
        /// Numbers a row.
        width: usize,
    },
    /// The same number everywhere.
    Constant(f64),
    /// These numbers.
    Given(Vec<f64>),
}

/// Columns that belong together: `count` times `each` neighbours, from the first on; others stand alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lots {
    /// Where they begin.
    pub first: usize,
    /// How many belong together.
    pub each: usize,
    /// How many times.
    pub count: usize,
}

impl Lots {
    /// The first column of those that a column belongs to.
    pub fn leader(self, column: usize) -> usize {
        let Self { first, each, count } = self;
        let there = column >= first && column - first < each * count;
        if there { column - (column - first) % each } else { column }
    }
}

/// Which random numbers a parameter starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The parameter whose stream it takes: itself, mostly.
    pub stream: ParamId,
    /// Equal parts of it that start alike.
    pub copies: usize,
}

/// A learnable block of the flat parameters.
#[derive(Debug, Clone)]
pub struct Param {
    /// Shape of the whole block.
    pub shape: Vec<usize>,
    /// Groups outermost in the shape; 1 if it has none.
    pub groups: usize,
    /// Where it stands in the flat buffer; starts on a cache line.
    pub range: Range<usize>,
    /// What it is.
    pub role: Role,
    /// Rows and columns of the weight matrices that its pieces are, or consist of, if they are a hidden layer's: neither
    /// embeddings nor the last layers of heads are.
    pub matrix: Option<[usize; 2]>,
    /// How it starts.
    pub init: Init,
    /// From which random numbers.
    pub start: Start,
    /// How many numbers of each of its equal parts start at 0, the first ones.
    pub blank: usize,
    /// Which tasks' gradients arrive here.
    pub reach: Reach,
    /// Whether it is of one of equal networks side by side, a task each, that is a node by itself.
    pub side_by_side: bool,
    /// Whether a piece of it is not frozen.
    pub learns: bool,
    /// Whether it is a table of which a step touches a few rows: it stands behind all others and has no flat gradient.
    pub sparse: bool,
}

/// A named piece of a parameter or of the network's state, as `state_dict` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its path: `encoder.0.weight`.
    pub name: Path,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where it stands in the flat parameters, or in the flat state.
    pub range: Range<usize>,
    /// The parameter it belongs to; none for state.
    pub param: Option<ParamId>,
    /// Whether it stays as it is.
    pub frozen: bool,
}

/// A named part of the flat parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Its path: `encoder.0.weight`.
    pub path: Path,
    /// Where it lies in the flat buffers.
    pub range: Range<usize>,
    /// Whether weight decay and norms apply: not to biases and not to the parameters of norms.
    pub decays: bool,
    /// The only task that uses it; none if it is shared.
    pub task: Option<usize>,
    /// How many weight matrices of a hidden layer it consists of, their rows and columns; none if it is something else.
    pub matrices: Option<[usize; 3]>,
}

/// Size of the flat parameters, padding included.
pub fn size(params: &[Param]) -> usize {
    params.iter().map(|param| param.range.end).max().unwrap_or(0)
}

/// Size of the flat gradient: of all parameters but sparse tables, which stand behind them.
pub fn dense(params: &[Param]) -> usize {
    params.iter().filter(|param| !param.sparse).map(|param| param.range.end).max().unwrap_or(0)
}
