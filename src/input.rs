//! Inputs of a model: how many, and of which kinds.

use serde::{Deserialize, Serialize};

/// The code of an empty place in a bag.
pub const NOTHING: u32 = u32::MAX;

/// Number and kinds of a model's features.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inputs {
    /// Numeric features a row.
    pub numeric: usize,
    /// How each of them becomes several numbers, if it does.
    pub embed: Option<Embed>,
    /// The categorical features.
    pub categorical: Vec<Category>,
    /// Arrays with a name, as code of the caller's own takes them.
    pub arrays: Vec<ArrayInput>,
    /// Features of positions within rows.
    pub positions: Vec<PositionInputs>,
}

/// An array of one entry a row: an image, a row of token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayInput {
    /// What it is called.
    pub name: String,
    /// The shape of an entry.
    pub shape: Vec<usize>,
    /// What its numbers are.
    pub holds: Holds,
}

/// What the numbers of an array are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// Any that are finite.
    #[default]
    Numbers,
    /// Whole ones.
    Whole,
    /// 0 and 1.
    Truths,
}

impl ArrayInput {
    /// Numbers an entry.
    pub fn width(&self) -> usize {
        self.shape.iter().fold(1, |product, &size| product.saturating_mul(size))
    }
}

/// Features of the positions of one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionInputs {
    /// What the positions are called: tokens.
    pub name: String,
    /// Numeric features a position.
    pub numeric: usize,
    /// The categorical features.
    pub categorical: Vec<Category>,
    /// Width of each one's embedding.
    pub widths: Vec<usize>,
}

impl PositionInputs {
    /// What the numeric features are called.
    pub fn numbers(&self) -> String {
        format!("{}/numeric", self.name)
    }

    /// What the codes are called.
    pub fn codes(&self) -> String {
        format!("{}/categorical", self.name)
    }

    /// What any of its features are called.
    pub fn first(&self) -> String {
        if self.numeric > 0 { self.numbers() } else { self.codes() }
    }
}

/// How each numeric feature becomes several numbers (Gorishniy, Rubachev & Babenko, NeurIPS 2022).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Embed {
    /// Piecewise-linear.
    Piecewise {
        /// Numbers a feature.
        width: usize,
        /// Most bins of a feature.
        bins: usize,
        /// Whether there is a linear embedding beside, as which the whole begins.
        linear: bool,
        /// Whether what is piecewise-linear goes through a ReLU.
        activation: bool,
    },
    /// Cosines and sines.
    Periodic {
        /// Numbers a feature, the raw one not counted.
        width: usize,
        /// How many of each.
        frequencies: usize,
        /// Standard deviation of the first frequencies.
        scale: f64,
        /// Whether all features have one linear layer.
        lite: bool,
        /// Whether a ReLU comes last.
        activation: bool,
        /// Whether the number itself comes too.
        raw: bool,
    },
}

impl Embed {
    /// What so many features become, in numbers a row.
    pub fn width(self, features: usize) -> usize {
        let each = match self {
            Self::Piecewise { width, .. } => width,
            Self::Periodic { width, raw, .. } => width.saturating_add(usize::from(raw)),
        };
        each.saturating_mul(features)
    }
}

/// The columns of codes of categorical features.
pub fn columns(categorical: &[Category]) -> Vec<Codes> {
    let columns = |category: &Category| {
        let codes = Codes { count: category.categories, gaps: category.bag.is_some() };
        std::iter::repeat_n(codes, category.bag.map_or(1, |bag| bag.length))
    };
    categorical.iter().flat_map(columns).collect()
}

impl Inputs {
    /// The columns of codes.
    pub fn columns(&self) -> Vec<Codes> {
        columns(&self.categorical)
    }
}

/// A categorical feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Category {
    /// Number of categories.
    pub categories: usize,
    /// Its codes, if it has several or none a row.
    pub bag: Option<Bag>,
    /// Whether its table is sparse.
    pub sparse: bool,
    /// Whether code 0 stands for all that was not seen, which starts at 0.
    pub unseen: bool,
}

impl Category {
    /// One code a row, and a table like any other parameter.
    pub fn plain(categories: usize) -> Self {
        Self { categories, bag: None, sparse: false, unseen: false }
    }

    /// The convolution over its codes, if there is one.
    pub fn convolution(&self) -> Option<Convolution> {
        self.bag.and_then(Bag::convolution)
    }

    /// Numbers that become of it, with a table of so many a row.
    pub fn width(&self, of_table: usize) -> usize {
        self.convolution().map_or(of_table, |convolution| convolution.filters)
    }
}

/// A column of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codes {
    /// They count from 0 to below this.
    pub count: usize,
    /// Whether -1 stands for no code.
    pub gaps: bool,
}

/// A feature of several codes, or none: `length` columns, of which those that hold [`NOTHING`] do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bag {
    /// Most codes a row of the data has.
    pub length: usize,
    /// What becomes of their rows.
    pub combine: Combine,
}

impl Bag {
    /// The convolution over its codes, if there is one.
    pub fn convolution(self) -> Option<Convolution> {
        match self.combine {
            Combine::Convolution(convolution) => Some(convolution),
            Combine::Mean | Combine::Sum => None,
        }
    }
}

/// What becomes of the rows of a bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// Their mean; zeros if there is none.
    Mean,
    /// Their sum.
    Sum,
    /// The largest number of each filter of a convolution over them in their order.
    Convolution(Convolution),
}

/// A convolution over the rows of a bag in their order, of which each filter's largest number is kept (Ma & Hovy, ACL 2016).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convolution {
    /// Numbers that come of it.
    pub filters: usize,
    /// Places that a kernel covers, an odd number.
    pub width: usize,
    /// What each number goes through at the end.
    pub activation: Bend,
}

/// An activation that keeps the order of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bend {
    /// `max(x, 0)`.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}
