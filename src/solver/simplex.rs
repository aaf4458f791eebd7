//! Projection on the probability simplex.

use crate::machine::lent::Lent;

/// The point of `{x >= 0, sum(x) = 1}` nearest to `point`, in place: `x_i = max(0, point_i - threshold)` with the
/// threshold found by sorting (Held, Wolfe & Crowder, Mathematical Programming, 1974).
pub fn project(point: &mut [f64]) {
    let mut sorted = Lent::from(&*point);
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let Some(&largest) = sorted.first() else { return };
    // Differences to the largest: adding 1 to huge numbers would lose it.
    let mut sum = -1.0;
    let mut threshold = 0.0;
    for (i, x) in sorted.iter().enumerate() {
        let x = x - largest;
        sum += x;
        let candidate = sum / (i + 1) as f64;
        if x <= candidate {
            break;
        }
        threshold = candidate;
    }
    point.iter_mut().for_each(|x| *x = (*x - largest - threshold).max(0.0));
    let sum: f64 = point.iter().sum();
    point.iter_mut().for_each(|x| *x /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::random::Stream;

    fn projected(point: &[f64]) -> Vec<f64> {
        let mut point = point.to_vec();
        project(&mut point);
        point
    }

    #[test]
    fn by_hand() {
        assert_eq!(projected(&[]), [0.0; 0]);
        assert_eq!(projected(&[-7.0]), [1.0]);
        assert_eq!(projected(&[0.25, 0.75]), [0.25, 0.75]);
        assert_eq!(projected(&[2.0, 0.0]), [1.0, 0.0]);
        assert_eq!(projected(&[1.0, 0.5, -3.0]), [0.75, 0.25, 0.0]);
        assert_eq!(projected(&[1e300, 1e300, 0.0]), [0.5, 0.5, 0.0]);
    }

    #[test]
    fn the_way_to_the_projection_is_normal_to_the_simplex() {
        for seed in 0..20 {
            let stream = Stream::new(seed, &[]);
            let point: Vec<f64> = (0..40).map(|i| stream.normal(i) * 0.2).collect();
            let x = projected(&point);
            assert!((x.iter().sum::<f64>() - 1.0).abs() < 1e-14);
            let threshold = (0..40).filter(|i| x[*i] > 0.0).map(|i| point[i] - x[i]).fold(f64::NAN, f64::max);
            for i in 0..40 {
                let gap = point[i] - x[i] - threshold;
                assert!(if x[i] > 0.0 { gap.abs() < 1e-14 } else { gap <= 1e-14 }, "{gap}");
            }
        }
    }
}
