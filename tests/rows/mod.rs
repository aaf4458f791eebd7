//! Rows for tests, owned by Rust.

use polytask::data::Data;
use polytask::data::array::Array;

/// One task's targets.
#[derive(Clone)]
pub enum Target {
    /// Class indices, -1 where missing.
    Classes(Vec<i64>),
    /// Numbers, so many a row, NaN where missing.
    Values(Vec<f32>, usize),
}

/// A data set of numeric features.
pub fn data(rows: usize, x: Vec<f32>, targets: Vec<Target>) -> Data {
    let columns = x.len() / rows;
    let array = |target| match target {
        Target::Classes(classes) => Some(Array::own(classes, 1)),
        Target::Values(values, columns) => Some(Array::own(values, columns)),
    };
    Data {
        rows,
        numeric: Some(Array::own(x, columns)),
        targets: targets.into_iter().map(array).collect(),
        ..Data::default()
    }
}
