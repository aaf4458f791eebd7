//! Explained share of the variance; not defined for targets that do not differ.

use crate::label::Kind;
use crate::meter::column::Column;
use crate::meter::metric::Metric;

/// As users type it.
pub const METRIC: Metric = Metric { name: "r2", kinds: &[Kind::Values], higher_is_better: true, ranks: false, value };

fn value(column: &Column) -> Option<f64> {
    column.differ.then(|| 1.0 - column.square / column.spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut column = Column::default();
        let cells = [(2.0, 1.0, true), (2.0, 2.0, true), (50.0, 7.0, false), (3.0, 4.0, true), (9.0, 9.0, true)];
        column.errors(cells.len(), |row| cells[row]);
        // sklearn.metrics.r2_score([1, 2, 4, 9], [2, 2, 3, 9])
        assert!((METRIC.of(&column).unwrap() - (1.0 - 2.0 / 38.0)).abs() < 1e-12);
        let mut flat = Column::default();
        flat.errors(2, |row| (row as f64, 4.0, true));
        assert_eq!(METRIC.of(&flat), None);
    }
}
