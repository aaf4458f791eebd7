//! Tasks stay near those they are said to be related to.

use tch::Tensor;

use super::{Penalty, Places, Regularizer, formula, rows};
use crate::bail;
use crate::component::Component;
use crate::error::Result;
use crate::machine::real::Real;

crate::component! {
    /// `R = tr(W L W^T) = sum over pairs of tasks of A_st |w_s - w_t|^2` for a given relation `A`, with its Laplacian
    /// `L = diag(A 1) - A` and columns `w_t` of `W`, all that task `t` has of its own (Evgeniou, Micchelli and Pontil,
    /// Learning Multiple Tasks with Kernel Methods, JMLR 2005).
    pub struct GraphLaplacian = "GraphLaplacian" {
        /// How much it counts in the objective.
        strength: f64 = 1e-3, in 0.0..;
        /// How strongly each pair is related, `[tasks, tasks]`: symmetric, at least 0, the diagonal without meaning;
        /// None for 1 everywhere.
        relation: Option<Vec<Vec<f64>>> = None, in 0.0..;
        /// The weights it is about, by the beginning of their paths with `*` for the task: `"heads"`, `"heads.*.0"`;
        /// None for all that all tasks have.
        on: Option<String> = None;
    }
    check: symmetric;
    state: Vec<f64>;
}

fn symmetric(graph: &GraphLaplacian) -> Result<()> {
    let relation = graph.relation.as_deref().unwrap_or_default();
    if let Some(row) = relation.iter().find(|row| row.len() != relation.len()) {
        bail!(
            "GraphLaplacian: argument `relation` should be square; got {} rows and one of {}",
            relation.len(),
            row.len()
        );
    }
    for (i, row) in relation.iter().enumerate() {
        if let Some(j) = (0..i).find(|&j| row[j] != relation[j][i]) {
            let here = row[j];
            let there = relation[j][i];
            bail!(
                "GraphLaplacian: argument `relation` should be symmetric; got {here} at [{i}, {j}] and {there} at [{j}, {i}]"
            );
        }
    }
    Ok(())
}

impl Regularizer for GraphLaplacian {
    fn choose(&mut self, all: &Places) -> Result<Places> {
        let places = all.common(Self::CLASS, self.on.as_deref())?;
        let tasks = places.tasks;
        let given = self.relation.as_ref();
        if let Some(relation) = given.filter(|relation| relation.len() != tasks) {
            bail!(
                "GraphLaplacian: argument `relation` should have a row for each of {tasks} tasks; got {}",
                relation.len()
            );
        }
        let relation = given.map_or_else(|| vec![1.0; tasks * tasks], |rows| rows.concat());
        self.state = relation.iter().map(|related| self.strength * related).collect();
        Ok(places)
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        let n = places.tasks;
        let mut laplacian: Vec<_> = self.state.iter().map(|related| -related).collect();
        for task in 0..n {
            laplacian[task * (n + 1)] = 0.0;
            laplacian[task * (n + 1)] = -laplacian[task * n..][..n].iter().sum::<f64>();
        }
        let rows = formula::rows(places, parameters);
        formula::form(&rows, &formula::square(&laplacian, n, &rows))
    }
}

impl<T: Real> Penalty<T> for GraphLaplacian {
    fn add(&mut self, places: &Places, parameters: &[T], mut gradient: Option<&mut [T]>) -> f64 {
        let mut total = 0.0;
        for stack in &places.stacks {
            total += rows::distances(stack, &self.state, parameters, gradient.as_deref_mut());
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::super::task_relation::tests::two_tasks;
    use super::*;

    #[test]
    fn by_hand() {
        let relation = Some(vec![vec![7.0, 3.0], vec![3.0, 7.0]]);
        let mut graph = GraphLaplacian { strength: 0.5, relation, ..GraphLaplacian::default() };
        let places = graph.choose(&two_tasks(2)).unwrap();
        let mut gradient = [0.0; 4];
        // The only difference is (2, 2), and counts 3 / 2.
        let value = graph.add(&places, &[3.0, 1.0, 1.0, -1.0], Some(&mut gradient));
        assert_eq!((value, gradient), (12.0, [6.0, 6.0, -6.0, -6.0]));
    }

    #[test]
    fn a_relation_that_does_not_fit_is_refused() {
        let graph = |relation| GraphLaplacian { relation: Some(relation), ..GraphLaplacian::default() };
        let message = |relation| graph(relation).check_ranges().unwrap_err().to_string();
        assert!(message(vec![vec![0.0, 1.0]]).ends_with("should be square; got 1 rows and one of 2"));
        assert!(message(vec![vec![0.0, 1.0], vec![2.0, 0.0]]).ends_with("got 2 at [1, 0] and 1 at [0, 1]"));
        assert!(message(vec![vec![-1.0]]).contains("argument `relation` should be at least 0"));
        let wrong = graph(vec![vec![0.0; 3]; 3]).choose(&two_tasks(2)).unwrap_err();
        assert!(wrong.to_string().ends_with("should have a row for each of 2 tasks; got 3"));
    }
}
