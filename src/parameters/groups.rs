//! Learning rates and weight decays per group of parameters, and the segments of the flat buffers they make.

use std::collections::BTreeMap;
use std::ops::{Range, RangeBounds};

use serde::{Deserialize, Serialize};

use crate::bail;
use crate::component::Argument;
use crate::error::Result;
use crate::parameters::Block;
use crate::parameters::path::{Path, instead};

/// The group of parameters that match no other.
const REST: &str = "default";

/// One number for all parameters, or numbers by the beginning of their paths.
///
/// `{"encoder": 1e-4, "heads.income": 1e-2, "default": 1e-3}`: the longest key that the path lies below wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerGroup {
    /// The same for all.
    All(f64),
    /// By path.
    Groups(BTreeMap<String, f64>),
}

impl PerGroup {
    /// The number for parameters that match no group.
    pub fn rest(&self, default: f64) -> f64 {
        match self {
            PerGroup::All(value) => *value,
            PerGroup::Groups(groups) => groups.get(REST).copied().unwrap_or(default),
        }
    }

    /// The number for a parameter.
    pub fn at(&self, path: &Path, default: f64) -> f64 {
        let PerGroup::Groups(groups) = self else { return self.rest(default) };
        let matching = groups.iter().filter(|(key, _)| path.below(key));
        matching.max_by_key(|(key, _)| key.len()).map_or_else(|| self.rest(default), |(_, value)| *value)
    }

    /// The groups that are named.
    fn keys(&self) -> impl Iterator<Item = &String> {
        let groups = match self {
            PerGroup::All(_) => None,
            PerGroup::Groups(groups) => Some(groups),
        };
        groups.into_iter().flat_map(BTreeMap::keys).filter(|key| *key != REST)
    }

    /// Refuses a key that matches no parameter.
    fn check(&self, argument: &str, blocks: &[&Block]) -> Result<()> {
        for key in self.keys() {
            refuse_unknown(argument, key, blocks)?;
        }
        Ok(())
    }
}

/// Refuses a path that no parameter lies below.
fn refuse_unknown(argument: &str, path: &str, blocks: &[&Block]) -> Result<()> {
    if !blocks.iter().any(|block| block.path.below(path)) {
        let instead = instead(path, blocks.iter().map(|block| &block.path));
        bail!("argument `{argument}`: no parameter is called {path:?}; {instead}");
    }
    Ok(())
}

impl Argument for PerGroup {
    fn words() -> String {
        "a number or {group: number}".into()
    }

    fn python() -> String {
        "float | Mapping[str, float]".into()
    }

    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        match self {
            PerGroup::All(value) => value.within(range),
            PerGroup::Groups(groups) => groups.values().all(|value| value.within(range)),
        }
    }
}

/// An optimizer's learning rates and weight decays.
#[derive(Debug, Clone, Copy)]
pub struct Rates<'a> {
    /// Learning rates.
    pub lr: &'a PerGroup,
    /// Weight decays.
    pub weight_decay: &'a PerGroup,
    /// Learning rate and weight decay of parameters that no group names.
    pub defaults: [f64; 2],
    /// Those of weight matrices of hidden layers, where they have a rule of their own.
    pub of_matrices: Option<MatrixRates<'a>>,
}

/// Learning rates of weight matrices of hidden layers, which are called `lr` then.
#[derive(Debug, Clone, Copy)]
pub struct MatrixRates<'a> {
    /// Learning rates.
    pub lr: &'a PerGroup,
    /// That of matrices that no group names.
    pub default: f64,
    /// What the learning rates of all other parameters are called.
    pub rest: &'static str,
    /// Paths below which matrices count as other parameters.
    pub exclude: &'a [String],
}

impl MatrixRates<'_> {
    /// How many matrices with a rule of their own a block consists of, their rows and columns.
    fn shape(&self, block: &Block) -> Option<[usize; 3]> {
        block.matrices.filter(|_| !self.exclude.iter().any(|path| block.path.below(path)))
    }

    /// Refuses a group of one kind of parameters that has none but the other.
    fn check(&self, rest: &PerGroup, blocks: &[&Block]) -> Result<()> {
        let none = |key: &str, are: bool| {
            !blocks.iter().any(|block| block.path.below(key) && self.shape(block).is_some() == are)
        };
        for path in self.exclude {
            refuse_unknown("exclude", path, blocks)?;
        }
        let other = self.rest;
        if let Some(key) = self.lr.keys().find(|key| none(key, true)) {
            bail!("argument `lr`: {key:?} has no weight matrix of a hidden layer; its learning rate is `{other}`");
        }
        if let Some(key) = rest.keys().find(|key| none(key, false)) {
            bail!(
                "argument `{other}`: {key:?} has weight matrices of hidden layers alone; their learning rate is `lr`"
            );
        }
        Ok(())
    }
}

/// Neighbouring parameters with one learning rate and one weight decay.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Where they lie in the flat buffers.
    pub range: Range<usize>,
    /// Learning rate of the coming step.
    pub lr: f64,
    /// Weight decay; 0 for biases and norms.
    pub weight_decay: f64,
}

impl Segment {
    fn of(rates: Rates<'_>, block: &Block) -> Self {
        let [lr, weight_decay] = rates.defaults;
        let decay = rates.weight_decay.at(&block.path, weight_decay);
        let weight_decay = if block.decays { decay } else { 0.0 };
        Self { range: block.range.clone(), lr: rates.lr.at(&block.path, lr), weight_decay }
    }

    /// Of matrices with a rule of their own; without the padding behind them.
    fn of_matrices(rates: Rates<'_>, own: MatrixRates<'_>, shape: [usize; 3], block: &Block) -> Self {
        let start = block.range.start;
        let range = start..start + shape.iter().product::<usize>();
        Self { range, lr: own.lr.at(&block.path, own.default), ..Self::of(rates, block) }
    }

    /// Whether it may go on with another one.
    fn goes_on_with(&self, next: &Self) -> bool {
        self.range.end == next.range.start && (self.lr, self.weight_decay) == (next.lr, next.weight_decay)
    }
}

/// The segments of a model's parameters under one optimizer.
#[derive(Debug, Clone)]
pub struct Segments {
    base: Vec<f64>,
    now: Vec<Segment>,
    /// How many equal matrices each of the first segments consists of, their rows and columns.
    matrices: Vec<[usize; 3]>,
    /// How many there are before those of sparse tables.
    dense: usize,
}

impl Segments {
    /// Segments of blocks in the order of the flat buffers, and one a sparse table.
    ///
    /// # Errors
    /// A group that matches no parameter.
    pub fn new(rates: Rates<'_>, blocks: &[Block], tables: &[Block]) -> Result<Self> {
        let all: Vec<_> = tables.iter().chain(blocks).collect();
        match rates.of_matrices {
            None => rates.lr.check("lr", &all)?,
            Some(own) => {
                own.lr.check("lr", &all)?;
                rates.lr.check(own.rest, &all)?;
                own.check(rates.lr, &all)?;
            }
        }
        rates.weight_decay.check("weight_decay", &all)?;
        Ok(Self::of(rates, blocks, tables))
    }

    /// Segments of some of a model's blocks, whose groups were checked with all of them.
    pub(crate) fn of(rates: Rates<'_>, blocks: &[Block], tables: &[Block]) -> Self {
        let mut now: Vec<Segment> = Vec::new();
        let mut matrices: Vec<[usize; 3]> = Vec::new();
        let own = |block: &Block| rates.of_matrices.and_then(|own| Some((own, own.shape(block)?)));
        for block in blocks {
            let Some((own, shape)) = own(block) else { continue };
            let segment = Segment::of_matrices(rates, own, shape, block);
            match (now.last_mut(), matrices.last_mut()) {
                (Some(last), Some(known)) if known[1..] == shape[1..] && last.goes_on_with(&segment) => {
                    last.range.end = segment.range.end;
                    known[0] += shape[0];
                }
                _ => {
                    now.push(segment);
                    matrices.push(shape);
                }
            }
        }
        for block in blocks.iter().filter(|block| own(block).is_none()) {
            let segment = Segment::of(rates, block);
            match now[matrices.len()..].last_mut() {
                Some(last) if last.goes_on_with(&segment) => last.range.end = segment.range.end,
                _ => now.push(segment),
            }
        }
        let dense = now.len();
        now.extend(tables.iter().map(|table| Segment::of(rates, table)));
        Self { base: now.iter().map(|segment| segment.lr).collect(), now, matrices, dense }
    }

    /// Whether nothing learns beside sparse tables.
    pub fn is_empty(&self) -> bool {
        self.dense == 0
    }

    /// How many equal matrices each of the first segments consists of, their rows and columns, where matrices have a rule of
    /// their own.
    pub fn matrices(&self) -> &[[usize; 3]] {
        &self.matrices
    }

    /// The segments, and those of sparse tables, with all learning rates times a schedule's factor.
    pub fn at(&mut self, factor: f64) -> (&[Segment], &[Segment]) {
        for (segment, base) in self.now.iter_mut().zip(&self.base) {
            segment.lr = base * factor;
        }
        self.now.split_at(self.dense)
    }

    /// The segments as they were asked for last.
    pub fn now(&self) -> &[Segment] {
        &self.now[..self.dense]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::build;
    use crate::parameters::path::part;
    use serde_json::json;

    fn blocks() -> Vec<Block> {
        let paths = [
            ("embedding.0", true),
            ("encoder.0.weight", true),
            ("encoder.0.bias", false),
            ("heads.a.weight", true),
            ("heads.ab.weight", true),
        ];
        let block = |(i, (path, decays)): (usize, &(&str, bool))| Block {
            path: Path::new(path),
            range: i * 10..i * 10 + 10,
            decays: *decays,
            task: None,
            matrices: (*decays && i > 0).then_some([1, 2, 5]),
        };
        paths.iter().enumerate().map(block).collect()
    }

    fn segments(description: serde_json::Value) -> Result<Vec<(Range<usize>, f64, f64)>> {
        let optimizer = build(&description)?;
        let mut segments = Segments::new(optimizer.rates(), &blocks(), &[])?;
        Ok(segments.at(2.0).0.iter().map(|s| (s.range.clone(), s.lr, s.weight_decay)).collect())
    }

    #[test]
    fn equal_neighbours_are_one_segment() {
        assert_eq!(segments(json!({"name": "adam", "lr": 0.5})).unwrap(), [(0..50, 1.0, 0.0)]);
    }

    #[test]
    fn biases_do_not_decay() {
        let got = segments(json!({"name": "sgd", "lr": 0.5, "weight_decay": 0.25})).unwrap();
        assert_eq!(got, [(0..20, 1.0, 0.25), (20..30, 1.0, 0.0), (30..50, 1.0, 0.25)]);
    }

    #[test]
    fn the_longest_group_wins_and_the_default_fills_in() {
        let got = segments(json!({"name": "adam", "lr": {"heads": 1.0, "heads.a": 2.0, "encoder": 3.0}})).unwrap();
        let lr: Vec<_> = got.iter().map(|(range, lr, _)| (range.clone(), *lr)).collect();
        assert_eq!(lr, [(0..10, 2e-3), (10..30, 6.0), (30..40, 4.0), (40..50, 2.0)]);
        let got = segments(json!({"name": "adam", "lr": {"heads": 1.0, "default": 3.0}})).unwrap();
        assert_eq!(got.iter().map(|s| s.1).collect::<Vec<_>>(), [6.0, 2.0]);
    }

    #[test]
    fn a_group_is_a_path_and_not_its_letters() {
        let block = |(i, task): (usize, &str)| Block {
            path: Path::new(&format!("heads.{}.weight", part(task))),
            range: i * 10..i * 10 + 10,
            decays: true,
            task: None,
            matrices: None,
        };
        let blocks: Vec<_> = ["SR", "SR.p53"].into_iter().enumerate().map(block).collect();
        let of = |lr: serde_json::Value| {
            let optimizer = build(&json!({"name": "sgd", "lr": lr})).unwrap();
            Segments::new(optimizer.rates(), &blocks, &[])
                .map(|mut all| all.at(1.0).0.iter().map(|s| s.lr).collect::<Vec<_>>())
        };
        assert_eq!(of(json!({"heads.SR": 1.0, "default": 2.0})).unwrap(), [1.0, 2.0]);
        assert_eq!(of(json!({"heads.SR.p53": 1.0, "heads": 2.0})).unwrap(), [2.0, 1.0]);
        assert!(of(json!({"heads.SR.p5": 1.0})).is_err());
    }

    #[test]
    fn a_table_is_a_segment_of_its_own() {
        let optimizer = build(&json!({"name": "adam", "lr": {"embedding": 0.5}})).unwrap();
        let mut segments = Segments::new(optimizer.rates(), &blocks()[1..4], &blocks()[..1]).unwrap();
        let (dense, tables) = segments.at(1.0);
        assert_eq!((dense.len(), dense[0].range.clone(), dense[0].lr), (1, 10..40, 1e-3));
        assert_eq!((tables.len(), tables[0].range.clone(), tables[0].lr), (1, 0..10, 0.5));
    }

    #[test]
    fn equal_matrices_side_by_side_are_one_segment_before_all_others() {
        let of = |description: serde_json::Value| -> Result<_> {
            let optimizer = build(&description)?;
            let mut segments = Segments::new(optimizer.rates(), &blocks(), &[])?;
            let all: Vec<_> = segments.at(2.0).0.iter().map(|s| (s.range.clone(), s.lr, s.weight_decay)).collect();
            Ok((segments.matrices().to_vec(), all))
        };
        let plain = json!({"name": "muon", "lr": 0.5, "adamw_lr": 0.25, "weight_decay": 0.125});
        let (matrices, all) = of(plain).unwrap();
        assert_eq!(matrices, [[1, 2, 5], [2, 2, 5]]);
        assert_eq!(all[..2], [(10..20, 1.0, 0.125), (30..50, 1.0, 0.125)]);
        assert_eq!(all[2..], [(0..10, 0.5, 0.125), (20..30, 0.5, 0.0)]);
        let (matrices, all) = of(json!({"name": "muon", "adamw_lr": 0.25, "exclude": ["heads.a"]})).unwrap();
        assert_eq!((matrices, all[2].0.clone(), all[2].1), (vec![[1, 2, 5]; 2], 0..10, 0.5));
        assert_eq!(all[3..], [(20..40, 0.5, 0.0)]);
        let (matrices, all) = of(json!({"name": "muon", "lr": {"heads.a": 0.5}})).unwrap();
        assert_eq!((matrices.len(), all[1].1, all[2].1), (3, 1.0, 0.04));
        let wrong = |description| of(description).unwrap_err().to_string();
        assert_eq!(
            wrong(json!({"name": "muon", "lr": {"embedding": 0.5}})),
            "argument `lr`: \"embedding\" has no weight matrix of a hidden layer; its learning rate is `adamw_lr`"
        );
        assert_eq!(
            wrong(json!({"name": "muon", "adamw_lr": {"heads": 0.5}})),
            "argument `adamw_lr`: \"heads\" has weight matrices of hidden layers alone; their learning rate is `lr`"
        );
        for (argument, given) in [("adamw_lr", json!({"head": 0.5})), ("exclude", json!(["head"]))] {
            let said = wrong(json!({"name": "muon", argument: given}));
            let expected = "no parameter is called \"head\"; did you mean `heads`?";
            assert!(said.starts_with(&format!("argument `{argument}`: {expected}")), "{said}");
        }
    }

    #[test]
    fn an_unknown_group_is_named() {
        let message = segments(json!({"name": "adam", "lr": {"encodr": 1.0}})).unwrap_err().to_string();
        assert_eq!(
            message,
            "argument `lr`: no parameter is called \"encodr\"; did you mean `encoder`? names begin with `embedding`, `encoder`, `heads`"
        );
    }
}
