//! A task: its name, loss, labels and weight.

use serde_json::{Value, json};

use crate::error::Result;
use crate::label::{Kind, Labels, Pairing};
use crate::loss::{Loss, Together};
use crate::parameters::path::WITHIN;
use crate::{bail, loss, value_error};

/// A task, as far as a weighting may know it.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// Its name.
    pub name: String,
    /// Whether its loss is that of a regression.
    pub regression: bool,
}

impl About {
    /// Tasks known by their names alone.
    pub fn named(names: &[&str]) -> Vec<Self> {
        names.iter().map(|&name| Self { name: name.to_owned(), regression: false }).collect()
    }
}

/// Classes or outputs of the largest task.
const MOST: u64 = 1 << 31;

/// A task of a model.
#[derive(Debug)]
pub struct Task {
    /// Its name, part of parameter paths and history columns.
    pub name: String,
    /// Its loss.
    pub loss: Box<dyn Loss>,
    /// Number of classes, for a loss over classes.
    pub classes: Option<usize>,
    /// Labels a row.
    pub outputs: usize,
    /// lambda: its factor in the objective.
    pub weight: f64,
    /// What its labels look like.
    pub labels: Labels,
    /// The positions that have a label each; none where rows have one.
    pub per: Option<String>,
    /// The stage of the encoder after which it is read, counted from 0; none where it is read at its end.
    pub at: Option<usize>,
    /// Where pairs of these positions have labels, how they are paired.
    pub pairing: Option<Pairing>,
}

impl Task {
    /// Reads `{"name", "loss", "classes", "outputs", "weight", "per", "at"}`; `custom` replaces the loss of a caller's own making.
    ///
    /// # Errors
    /// What is missing or out of range.
    pub fn read(description: &Value, custom: Option<Box<dyn Loss>>) -> Result<Self> {
        let name = description["name"].as_str().unwrap_or_default().to_owned();
        if name.is_empty() || name.contains(['/', WITHIN]) {
            bail!("a task needs a name without `/` and U+{:04X}; got {}", u32::from(WITHIN), description["name"]);
        }
        let number = |key: &str| match &description[key] {
            Value::Null => Ok(None),
            value => match value.as_u64().filter(|n| (1..=MOST).contains(n)) {
                Some(n) => Ok(Some(n as usize)),
                None => Err(value_error!("task `{name}`: `{key}` should be a whole number of 1..{MOST}; got {value}")),
            },
        };
        let classes = number("classes")?;
        let outputs = number("outputs")?.unwrap_or(1);
        let weight = description["weight"].as_f64().unwrap_or(1.0);
        if !(weight.is_finite() && weight >= 0.0) {
            bail!("task `{name}`: `weight` should be at least 0; got {weight}");
        }
        let loss = custom.map_or_else(|| loss::build(&description["loss"]), Ok);
        let within = |error| value_error!("task `{name}`: {error}");
        let loss = loss.map_err(within)?;
        let labels = loss.labels(classes, outputs).map_err(|error| value_error!("task `{name}`: {error}"))?;
        let per = match &description["per"] {
            Value::Null => None,
            Value::String(per) => Some(per.clone()),
            other => bail!("task `{name}`: `per` should be the name of positions; got {other}"),
        };
        if per.is_none() {
            let of = match loss.together() {
                Some(Together::Chain) => "neighbouring positions",
                Some(Together::List) => "a row's positions",
                Some(Together::Tree) => "pairs of positions",
                None => "",
            };
            if !of.is_empty() {
                bail!("task `{name}`: this loss judges labels of {of} together: say of which by `per`");
            }
        }
        let stage = |at: &str| at.strip_prefix("encoder.")?.parse::<u32>().ok();
        let at = match (&description["at"], description["at"].as_str().and_then(stage)) {
            (Value::Null, _) => None,
            (_, Some(stage)) => Some(stage as usize),
            (other, None) => {
                bail!("task `{name}`: `at` should be a stage of the encoder, such as \"encoder.0\"; got {other}")
            }
        };
        let pairing = match (&description["pairs"], loss.together()) {
            (Value::Null | Value::Bool(false), Some(Together::Tree)) => {
                bail!("task `{name}`: this loss is of pairs of positions: per=\"pair\" with tree=True")
            }
            (Value::Null | Value::Bool(false), _) => None,
            (Value::Bool(true), Some(Together::Tree)) => Some(Pairing::Tree),
            (Value::Bool(true), None) if per.is_some() && classes.is_some() => Some(Pairing::Free),
            (Value::Bool(true), _) => {
                bail!("task `{name}`: pairs of positions have kinds, one a pair: say of which positions by `per`")
            }
            (other, _) => bail!("task `{name}`: `pairs` should be true or false; got {other}"),
        };
        Ok(Self { name, loss, classes, outputs, weight, labels, per, at, pairing })
    }

    /// What a weighting may know of it.
    pub fn about(&self) -> About {
        let regression = self.labels.kind() == Kind::Values && self.loss.together().is_none();
        About { name: self.name.clone(), regression }
    }

    /// lambda over the total label weight: the factor on the gradient of its sum of losses; 0 without a label.
    pub fn scale(&self, label_weight: f64) -> f64 {
        if label_weight > 0.0 { self.weight / label_weight } else { 0.0 }
    }

    /// Raw outputs a row.
    pub fn width(&self) -> usize {
        self.loss.width(self.classes, self.outputs)
    }

    /// Predicted numbers a row.
    pub fn predicted_width(&self) -> usize {
        self.loss.predicted_width(self.classes, self.outputs)
    }

    /// The description with every default filled in.
    pub fn describe(&self) -> Value {
        let mut described = json!({"name": self.name, "loss": self.loss.describe(), "classes": self.classes,
                                   "outputs": self.outputs, "weight": self.weight});
        if let Some(per) = &self.per {
            described["per"] = json!(per);
        }
        if let Some(at) = self.at {
            described["at"] = json!(format!("encoder.{at}"));
        }
        if self.pairing.is_some() {
            described["pairs"] = json!(true);
        }
        described
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regression_has_counts_or_numbers() {
        for (loss, classes, regression) in [
            ("cross_entropy", Some(2), false),
            ("focal", Some(2), false),
            ("focal", None, false),
            ("binary_cross_entropy", None, false),
            ("poisson", None, true),
            ("huber", None, true),
            ("ranking", None, false),
        ] {
            let described = json!({"name": "a", "loss": loss, "classes": classes, "per": "items"});
            let task = Task::read(&described, None).unwrap();
            assert_eq!(task.about(), About { name: "a".to_owned(), regression }, "{loss}");
        }
    }
}
