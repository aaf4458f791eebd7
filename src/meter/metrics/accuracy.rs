//! Share of right decisions.

use crate::label::Kind;
use crate::meter::column::Column;
use crate::meter::metric::Metric;

/// As users type it.
pub const METRIC: Metric =
    Metric { name: "accuracy", kinds: &[Kind::Classes, Kind::Binary], higher_is_better: true, ranks: false, value };

fn value(column: &Column) -> Option<f64> {
    Some(column.right as f64 / column.rows as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let cells = [(0.9, 1.0, true), (0.1, 1.0, true), (0.2, 0.0, true), (0.6, 0.0, false), (0.5, 1.0, true)];
        let mut column = Column::default();
        assert_eq!(METRIC.of(&column), None, "of nothing");
        column.decide(cells.len(), cells.into_iter(), false);
        assert_eq!(METRIC.of(&column), Some(0.5));
    }
}
