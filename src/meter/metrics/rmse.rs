//! Root of the mean squared error.

use crate::label::Kind;
use crate::meter::column::Column;
use crate::meter::metric::Metric;

/// As users type it.
pub const METRIC: Metric =
    Metric { name: "rmse", kinds: &[Kind::Values], higher_is_better: false, ranks: false, value };

fn value(column: &Column) -> Option<f64> {
    Some((column.square / column.rows as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut column = Column::default();
        let cells = [(2.0, 1.0, true), (2.0, 2.0, true), (50.0, 7.0, false), (3.0, 4.0, true), (9.0, 9.0, true)];
        column.errors(cells.len(), |row| cells[row]);
        assert_eq!(METRIC.of(&column), Some(0.5_f64.sqrt()));
    }
}
