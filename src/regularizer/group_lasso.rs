//! Features that all tasks use, or none.

use tch::Tensor;

use super::{Penalty, Places, Regularizer, Stack, formula, rows};
use crate::component::Component;
use crate::error::Result;
use crate::machine::real::Real;

crate::component! {
    /// `R = sum over inputs k of |W_k|`, the length of all weights by which any task reads input `k` (the l2,1 norm:
    /// Yuan and Lin, Model Selection and Estimation in Regression with Grouped Variables, JRSS B 2006; over tasks:
    /// Argyriou, Evgeniou and Pontil, Convex Multi-Task Feature Learning, Machine Learning 2008): a feature is of use to
    /// several tasks or to none.
    ///
    /// It looks at weights `[out, in]` that all tasks have, such as heads of equal width, layer by layer, and groups them
    /// by the input, as Argyriou et al. do with the features as they are (they also turn them). It has no derivative
    /// where a whole group is 0; the gradient there is 0, as `L1`'s is. An optimizer by gradients makes groups small, not
    /// exactly 0.
    pub struct GroupLasso = "GroupLasso" {
        /// How much it counts in the objective.
        strength: f64 = 1e-3, in 0.0..;
        /// The weights it is about, by the beginning of their paths with `*` for the task: `"heads"`, `"heads.*.0"`;
        /// None for all that all tasks have.
        on: Option<String> = None;
    }
    state: Vec<f64>;
}

impl Regularizer for GroupLasso {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        all.common(Self::CLASS, self.on.as_deref())
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        let length = |stack: &Stack| {
            let squares = formula::stacked(stack, parameters).square();
            let squares = squares.sum_dim_intlist([0_i64, 1].as_slice(), false, parameters.kind());
            // A root has no derivative at 0; the length's is taken as 0.
            let some = squares.gt(0.0);
            let roots = squares.where_self(&some, &squares.ones_like()).sqrt();
            (roots * some.to_kind(parameters.kind())).sum(parameters.kind())
        };
        formula::sum_of(places.stacks.iter().map(length)) * self.strength
    }
}

impl<T: Real> Penalty<T> for GroupLasso {
    fn add(&mut self, places: &Places, parameters: &[T], mut gradient: Option<&mut [T]>) -> f64 {
        let mut total = 0.0;
        for stack in &places.stacks {
            let columns = &mut self.state;
            columns.clear();
            columns.resize(stack.matrix()[1], 0.0);
            rows::column_squares(stack, parameters, columns);
            columns.iter_mut().for_each(|square| *square = square.sqrt());
            total += columns.iter().sum::<f64>();
            if let Some(gradient) = gradient.as_mut() {
                for length in columns.iter_mut() {
                    *length = if *length > 0.0 { self.strength / *length } else { 0.0 };
                }
                rows::scale_columns(stack, columns, parameters, gradient);
            }
        }
        self.strength * total
    }
}

#[cfg(test)]
mod tests {
    use super::super::task_relation::tests::two_tasks;
    use super::*;

    #[test]
    fn by_hand() {
        let mut lasso = GroupLasso { strength: 2.0, ..GroupLasso::default() };
        let mut gradient = [1.0; 6];
        // Columns (3, 4), (0, 0) and (0, -2) of both tasks: lengths 5, 0 and 2.
        let value = lasso.add(&two_tasks(3), &[3.0, 0.0, 0.0, 4.0, 0.0, -2.0], Some(&mut gradient));
        assert_eq!(value, 14.0);
        let want = [2.2, 1.0, 1.0, 2.6, 1.0, -1.0];
        assert!(gradient.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-15), "{gradient:?}");
    }
}
