//! Weights that read the same input look at different things in it.

use tch::Tensor;

use super::{Penalty, Piece, Places, Regularizer, formula, rows};
use crate::bail;
use crate::component::Component;
use crate::error::Result;
use crate::machine::real::Real;

crate::component! {
    /// `R = sum over pairs of |A B^T|^2` (Frobenius) for a shared weight `A` and a task's own weight `B`, `[out, in]`,
    /// that read the same input (after the difference loss of Bousmalis et al., Domain Separation Networks, NIPS 2016):
    /// what tasks have of their own should not be what is shared.
    ///
    /// The paper multiplies the features of a batch, `|H_shared^T H_private|^2`. Here the weights that make them are
    /// multiplied: the same for linear layers over inputs of unit covariance, and free of the batch. Weights under two
    /// names of any kind may be compared, such as two subspaces of features: every pair of them that reads the same
    /// input, once.
    pub struct Orthogonality = "Orthogonality" {
        /// How much it counts in the objective.
        strength: f64 = 1e-3, in 0.0..;
        /// The first weights, by the beginning of their paths; None for all that all tasks use.
        shared: Option<String> = None;
        /// The second weights, by the beginning of their paths; None for all that one task uses alone, which includes
        /// the gates of a sharing scheme.
        private: Option<String> = None;
    }
}

impl Regularizer for Orthogonality {
    /// Pairs, one piece behind the other.
    fn choose(&mut self, all: &Places) -> Result<Places> {
        let shared = weights(all, "shared", self.shared.as_deref(), |piece| piece.task.is_none())?;
        let private = weights(all, "private", self.private.as_deref(), |piece| piece.task.is_some())?;
        let mut pairs: Vec<[&Piece; 2]> = Vec::new();
        for a in &shared {
            for b in private.iter().filter(|b| meet(a, b)) {
                let pair = if a.start < b.start { [a, b] } else { [b, a] };
                if !pairs.contains(&pair) {
                    pairs.push(pair);
                }
            }
        }
        if pairs.is_empty() {
            let name =
                |given: &Option<String>, other: &str| given.as_ref().map_or(other.into(), |on| format!("{on:?}"));
            let shared = name(&self.shared, "all tasks");
            let private = name(&self.private, "single tasks");
            bail!("Orthogonality: no weight of {shared} reads the same input as a weight of {private}");
        }
        let pieces = pairs.into_iter().flatten().cloned().collect();
        Ok(Places { pieces, stacks: Vec::new(), tasks: all.tasks })
    }

    fn formula(&self, places: &Places, parameters: &Tensor) -> Tensor {
        let (pairs, _) = places.pieces.as_chunks::<2>();
        let overlap = |[a, b]: &[Piece; 2]| {
            let product = formula::matrix(a, parameters).matmul(&formula::matrix(b, parameters).tr());
            product.square().sum(parameters.kind())
        };
        formula::sum_of(pairs.iter().map(overlap)) * self.strength
    }
}

/// The weights of a name, or of a kind.
fn weights(all: &Places, argument: &str, on: Option<&str>, kind: fn(&Piece) -> bool) -> Result<Vec<Piece>> {
    let named = all.weights(Orthogonality::CLASS, argument, on)?.pieces;
    Ok(named.into_iter().filter(|piece| on.is_some() || kind(piece)).collect())
}

/// Whether two weights read the same input.
fn meet(a: &Piece, b: &Piece) -> bool {
    a.start != b.start && a.reads.is_some() && a.reads == b.reads && a.matrix()[1] == b.matrix()[1]
}

impl<T: Real> Penalty<T> for Orthogonality {
    fn add(&mut self, places: &Places, parameters: &[T], mut gradient: Option<&mut [T]>) -> f64 {
        let (pairs, _) = places.pieces.as_chunks::<2>();
        let mut total = 0.0;
        for [a, b] in pairs {
            total += rows::overlap([a, b], self.strength, parameters, gradient.as_deref_mut());
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::path::Path;

    fn places() -> Places {
        let piece = |path: &str, start, task, reads| Piece {
            path: Path::new(path),
            start,
            shape: vec![1, 2],
            decays: true,
            task,
            reads: Some((reads, 0)),
        };
        let pieces = vec![
            piece("experts.shared.weight", 0, None, 0),
            piece("experts.a.weight", 2, Some(0), 0),
            piece("experts.b.weight", 4, Some(1), 0),
            piece("heads.a.weight", 6, Some(0), 3),
        ];
        Places::of(pieces, &["a", "b"])
    }

    fn pairs(shared: Option<&str>, private: Option<&str>) -> Result<Vec<String>> {
        let [shared, private] = [shared, private].map(|on| on.map(str::to_owned));
        let places = Orthogonality { shared, private, ..Orthogonality::default() }.choose(&places())?;
        Ok(places.pieces.into_iter().map(|piece| piece.path.to_string()).collect())
    }

    #[test]
    fn by_hand() {
        let mut apart = Orthogonality { strength: 0.5, ..Orthogonality::default() };
        let chosen = apart.choose(&places()).unwrap();
        let mut gradient = [0.0; 8];
        // Products 1 * 3 + 2 * 4 = 11 and 1 * 2 - 2 * 1 = 0.
        let value = apart.add(&chosen, &[1.0, 2.0, 3.0, 4.0, 2.0, -1.0, 9.0, 9.0], Some(&mut gradient));
        assert_eq!((value, gradient), (60.5, [33.0, 44.0, 11.0, 22.0, 0.0, 0.0, 0.0, 0.0]));
    }

    #[test]
    fn pairs_read_the_same_input() {
        let shared = "experts.shared.weight";
        let a = "experts.a.weight";
        let b = "experts.b.weight";
        assert_eq!(pairs(None, None).unwrap(), [shared, a, shared, b]);
        assert_eq!(pairs(Some("experts.a"), Some("experts.b")).unwrap(), [a, b]);
        assert_eq!(pairs(Some("experts"), Some("experts")).unwrap(), [shared, a, shared, b, a, b]);
        let message = pairs(None, Some("heads")).unwrap_err().to_string();
        assert_eq!(message, "Orthogonality: no weight of all tasks reads the same input as a weight of \"heads\"");
        let message = pairs(Some("expert"), None).unwrap_err().to_string();
        assert!(message.starts_with("Orthogonality: argument `shared`: no weight is called \"expert\""), "{message}");
    }
}
