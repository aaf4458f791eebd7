//! Area under the curve of true against false positives: the chance that a positive has a higher score than a negative, equal
//! ones counted half (Hanley & McNeil, Radiology 1982).

use crate::label::Kind;
use crate::meter::column::Column;
use crate::meter::metric::Metric;

/// As users type it.
pub const METRIC: Metric =
    Metric { name: "auroc", kinds: &[Kind::Classes, Kind::Binary], higher_is_better: true, ranks: true, value };

fn value(column: &Column) -> Option<f64> {
    let mut below = 0.0;
    let mut pairs = 0.0;
    let mut positives = 0.0;
    for [yes, no] in column.groups() {
        pairs += yes * (below + 0.5 * no);
        below += no;
        positives += yes;
    }
    (positives > 0.0 && below > 0.0).then(|| pairs / (positives * below))
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
        // sklearn.metrics.roc_auc_score([0, 0, 1, 0, 1], [0.2, 0.4, 0.4, 0.4, 0.9])
        assert!((METRIC.of(&column).unwrap() - 5.0 / 6.0).abs() < 1e-12);
        column.rows += 1;
        assert_eq!(METRIC.of(&column), None, "a row without a score");
    }
}
