//! Share of wrong decisions.

use crate::label::Kind;
use crate::meter::column::Column;
use crate::meter::metric::Metric;

/// As users type it.
pub const METRIC: Metric =
    Metric { name: "error_rate", kinds: &[Kind::Classes, Kind::Binary], higher_is_better: false, ranks: false, value };

fn value(column: &Column) -> Option<f64> {
    Some(1.0 - column.right as f64 / column.rows as f64)
}
