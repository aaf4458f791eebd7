//! Area under the curve of precision against recall, in steps: the mean over positives of the precision at their score.

use crate::label::Kind;
use crate::meter::column::Column;
use crate::meter::metric::Metric;

/// As users type it.
pub const METRIC: Metric = Metric {
    name: "average_precision",
    kinds: &[Kind::Classes, Kind::Binary],
    higher_is_better: true,
    ranks: true,
    value,
};

fn value(column: &Column) -> Option<f64> {
    let mut found = 0.0;
    let mut seen = 0.0;
    let mut sum = 0.0;
    for [yes, no] in column.groups().rev() {
        found += yes;
        seen += yes + no;
        sum += yes * found / seen;
    }
    (found > 0.0).then(|| sum / found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut column = Column::default();
        for (p, positive) in [(0.2, false), (0.4, false), (0.4, true), (0.4, false), (0.9, true)] {
            column.score(p, positive);
            column.rows += 1;
        }
        // sklearn.metrics.average_precision_score([0, 0, 1, 0, 1], [0.2, 0.4, 0.4, 0.4, 0.9])
        assert!((METRIC.of(&column).unwrap() - 0.75).abs() < 1e-12);
    }
}
