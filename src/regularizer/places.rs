//! The parameters as regularizers see them: named pieces, and the stacks of those that correspond between tasks.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::bail;
use crate::component::{list, meant};
use crate::error::Result;
use crate::parameters::path::{Path, instead};

/// A weight or bias in the flat parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its path: `encoder.0.weight`.
    pub path: Path,
    /// Where it begins.
    pub start: usize,
    /// Its shape: `[out, in]`.
    pub shape: Vec<usize>,
    /// Whether penalties of size apply: not to biases and not to the parameters of norms.
    pub decays: bool,
    /// The only task that uses it; none if it is shared.
    pub task: Option<usize>,
    /// The value it is multiplied with, and the group of that.
    pub reads: Option<(usize, usize)>,
}

impl Piece {
    /// Where it lies.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.shape.iter().product::<usize>()
    }

    /// As a matrix `[rows, columns]`: outputs and inputs of a linear layer.
    pub fn matrix(&self) -> [usize; 2] {
        matrix(&self.shape)
    }
}

/// Weights of equal shape and name that all tasks have, one each: `heads.*.weight`.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// Their path, with `*` for the task's name.
    pub path: Path,
    /// Where each task's begins.
    pub starts: Vec<usize>,
    /// Numbers of one task.
    pub size: usize,
    /// The shape of one task's.
    pub shape: Vec<usize>,
}

impl Stack {
    /// Each task's as a matrix `[rows, columns]`.
    pub fn matrix(&self) -> [usize; 2] {
        matrix(&self.shape)
    }
}

fn matrix(shape: &[usize]) -> [usize; 2] {
    [shape.first().copied().unwrap_or(1), shape.iter().skip(1).product()]
}

/// Parameters of a model, all or those that one regularizer is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Places {
    /// Pieces of the flat parameters.
    pub pieces: Vec<Piece>,
    /// Weights that correspond between tasks.
    pub stacks: Vec<Stack>,
    /// Number of tasks.
    pub tasks: usize,
}

impl Places {
    /// Those of such pieces.
    pub fn of(pieces: Vec<Piece>, tasks: &[&str]) -> Self {
        let mut known = vec![BTreeMap::new(); tasks.len()];
        for piece in pieces.iter().filter(|piece| piece.decays) {
            if let Some(task) = piece.task {
                known[task].insert(&piece.path, piece);
            }
        }
        let first = pieces.iter().filter(|piece| piece.decays && piece.task == Some(0));
        let stacks = first.filter_map(|piece| stack(piece, tasks, &known)).collect();
        Self { stacks, tasks: tasks.len(), pieces }
    }

    /// The same without what lies in these ranges.
    pub fn without(&self, ranges: &[Range<usize>]) -> Self {
        let mut pieces = self.pieces.clone();
        pieces.retain(|piece| !ranges.iter().any(|range| range.contains(&piece.start)));
        Self { pieces, stacks: self.stacks.clone(), tasks: self.tasks }
    }

    /// The weights whose paths begin with `on`, or all.
    ///
    /// # Errors
    /// There are none of that name.
    pub fn weights(&self, class: &str, argument: &str, on: Option<&str>) -> Result<Self> {
        let weights: Vec<_> = self.pieces.iter().filter(|piece| piece.decays).collect();
        let mut pieces = Vec::new();
        for &piece in &weights {
            if on.is_none_or(|on| piece.path.below(on)) {
                pieces.push(piece.clone());
            }
        }
        if let Some(on) = on
            && pieces.is_empty()
        {
            let instead = instead(on, weights.iter().map(|piece| &piece.path));
            bail!("{class}: argument `{argument}`: no weight is called {on:?}; {instead}");
        }
        Ok(Self { pieces, stacks: Vec::new(), tasks: self.tasks })
    }

    /// The stacks whose paths begin with `on`, or all.
    ///
    /// # Errors
    /// There are none, or none of that name.
    pub fn common(&self, class: &str, on: Option<&str>) -> Result<Self> {
        if self.tasks < 2 {
            bail!("{class} compares tasks; this model has {}", self.tasks);
        }
        if self.stacks.is_empty() {
            bail!(
                "{class} compares the tasks' own parameters; this model has none that correspond: use \
                 sharing=pt.sharing.Soft() or heads of equal width"
            );
        }
        let mut stacks = self.stacks.clone();
        stacks.retain(|stack| on.is_none_or(|on| stack.path.below(on)));
        if stacks.is_empty() {
            let known: Vec<_> = self.stacks.iter().map(|stack| &*stack.path).collect();
            let on = on.unwrap_or_default();
            let meant = meant(on, &known);
            let known = list(&known);
            bail!("{class}: argument `on`: no weight that all tasks have is called {on:?}; {meant}there are {known}");
        }
        Ok(Self { pieces: Vec::new(), stacks, tasks: self.tasks })
    }
}

/// The stack that begins with this piece of the first task, if all others have their own.
fn stack(piece: &Piece, tasks: &[&str], known: &[BTreeMap<&Path, &Piece>]) -> Option<Stack> {
    let parts: Vec<_> = piece.path.parts().collect();
    let mut places = (0..parts.len()).filter(|&at| parts[at] == tasks[0]);
    places.find_map(|at| {
        let starts = starts(piece, &parts, at, tasks, known)?;
        let path = with_part(&parts, at, "*");
        Some(Stack { path, starts, size: piece.range().len(), shape: piece.shape.clone() })
    })
}

/// Where the tasks' own begin, whose paths have the task's name at this place; `None` if one has none of this shape.
fn starts(
    piece: &Piece,
    parts: &[&str],
    at: usize,
    tasks: &[&str],
    known: &[BTreeMap<&Path, &Piece>],
) -> Option<Vec<usize>> {
    let mut starts = Vec::with_capacity(tasks.len());
    for (name, own) in tasks.iter().zip(known) {
        let found = own.get(&with_part(parts, at, name))?;
        if found.shape != piece.shape {
            return None;
        }
        starts.push(found.start);
    }
    Some(starts)
}

fn with_part(parts: &[&str], at: usize, name: &str) -> Path {
    let mut parts = parts.to_vec();
    parts[at] = name;
    Path::of(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of two numbers, one behind the other.
    fn pieces(named: &[(&str, Option<usize>)]) -> Vec<Piece> {
        let piece = |(i, (path, task)): (usize, &(&str, Option<usize>))| Piece {
            path: Path::new(path),
            start: i * 16,
            shape: vec![1, 2],
            decays: !path.ends_with("bias"),
            task: *task,
            reads: None,
        };
        named.iter().enumerate().map(piece).collect()
    }

    fn stacks(named: &[(&str, Option<usize>)], tasks: &[&str]) -> Vec<(String, Vec<usize>)> {
        let places = Places::of(pieces(named), tasks);
        places.stacks.into_iter().map(|stack| (stack.path.to_string(), stack.starts)).collect()
    }

    #[test]
    fn what_all_tasks_have_is_a_stack() {
        let named = [
            ("encoder.0.weight", None),
            ("heads.a.weight", Some(0)),
            ("heads.a.bias", Some(0)),
            ("heads.b.0.weight", Some(1)),
            ("heads.b.weight", Some(1)),
            ("heads.b.bias", Some(1)),
        ];
        assert_eq!(stacks(&named, &["a", "b"]), [("heads.*.weight".to_owned(), vec![16, 64])]);
        assert_eq!(stacks(&named, &["a", "b", "c"]), []);
    }

    #[test]
    fn names_may_hold_dots_and_the_words_of_paths() {
        let named = [
            ("heads.heads.weight", Some(0)),
            ("heads.a\u{1f}b.weight", Some(1)),
            ("heads.weight.weight", Some(2)),
            ("encoders.heads.0.weight", Some(0)),
            ("encoders.a\u{1f}b.0.weight", Some(1)),
            ("encoders.weight.0.weight", Some(2)),
        ];
        let got = stacks(&named, &["heads", "a.b", "weight"]);
        let want = [("heads.*.weight", vec![0, 16, 32]), ("encoders.*.0.weight", vec![48, 64, 80])];
        assert_eq!(got, want.map(|(path, starts)| (path.to_owned(), starts)));
    }

    #[test]
    fn other_shapes_and_other_owners_do_not_correspond() {
        let named = [("heads.a.weight", Some(0)), ("heads.b.weight", Some(1))];
        let mut wide = pieces(&named);
        wide[1].shape = vec![2, 2];
        assert_eq!(Places::of(wide, &["a", "b"]).stacks, []);
        assert_eq!(stacks(&[named[0], ("heads.b.weight", None)], &["a", "b"]), []);
    }

    #[test]
    fn a_name_that_matches_nothing_is_answered_with_those_there_are() {
        let named = [("encoder.0.weight", None), ("heads.a.weight", Some(0)), ("heads.b.weight", Some(1))];
        let places = Places::of(pieces(&named), &["a", "b"]);
        assert_eq!(places.weights("L1", "on", Some("heads")).unwrap().pieces.len(), 2);
        assert_eq!(places.weights("L1", "on", None).unwrap().pieces.len(), 3);
        assert_eq!(places.common("TraceNorm", Some("heads")).unwrap().stacks.len(), 1);
        let message = places.weights("L1", "on", Some("head")).unwrap_err().to_string();
        assert_eq!(
            message,
            "L1: argument `on`: no weight is called \"head\"; did you mean `heads`? names begin with `encoder`, `heads`"
        );
        let message = places.common("TraceNorm", Some("encoder")).unwrap_err().to_string();
        assert!(message.ends_with("no weight that all tasks have is called \"encoder\"; there are `heads.*.weight`"));
        let alone = Places::of(pieces(&named[..2]), &["a"]);
        assert_eq!(
            alone.common("Pairwise", None).unwrap_err().to_string(),
            "Pairwise compares tasks; this model has 1"
        );
        let none = Places::of(pieces(&named[..2]), &["a", "b"]);
        assert!(none.common("Pairwise", None).unwrap_err().to_string().contains("use sharing=pt.sharing.Soft()"));
    }
}
