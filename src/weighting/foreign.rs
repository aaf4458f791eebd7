//! A weighting that is code of the caller's own.

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::positive::Names;
use super::{Claims, Combination, Evidence, Needs, Weighting};
use crate::bail;
use crate::component::{Described, list};
use crate::error::Result;
use crate::task::About;

/// What descriptions call it.
pub(super) const NAME: &str = "custom";

/// Gives weights `[rows]` for what it is shown of a batch.
pub trait ForeignWeighting: Debug + Send + Sync {
    /// The tasks that have labels, by name, their losses `[rows]`, and the products of their gradients `[rows, rows]`
    /// where they are wanted.
    ///
    /// # Errors
    /// What that code raises.
    fn weigh(&self, tasks: &[&str], losses: &[f64], gramian: Option<&[f64]>) -> Result<Vec<f64>>;
}

/// Such a weighting in the core. What it learns stays on the other side.
#[derive(Debug, Clone)]
pub struct Foreign {
    /// The name of the function or class.
    class: String,
    needs: Needs,
    /// None where a description alone is known, as that of a checkpoint.
    code: Option<Arc<dyn ForeignWeighting>>,
    names: Names,
}

impl Foreign {
    /// Of a description `{"name": "custom", "class", "needs"}`.
    ///
    /// # Errors
    /// A description that is none.
    pub fn of(description: &Value, code: Option<Arc<dyn ForeignWeighting>>) -> Result<Self> {
        let [class, needs] = ["class", "needs"].map(|key| description[key].as_str());
        let needs = match needs {
            Some("losses") => Needs::Losses,
            Some("gramian") => Needs::Gramian,
            _ => bail!("a weighting of your own should need \"losses\" or \"gramian\"; got {}", description["needs"]),
        };
        let Some(class) = class else {
            bail!("a weighting of your own needs `class`, its name; got {}", description["class"]);
        };
        Ok(Self { class: class.to_owned(), needs, code, names: Names::default() })
    }

    /// The same of its parameters, if they are those of one.
    pub(super) fn read(name: &str, parameters: &Map<String, Value>) -> Option<Result<Box<dyn Weighting>>> {
        let description = Value::Object(parameters.clone());
        let own = name == NAME && parameters.contains_key("class");
        own.then(|| Self::of(&description, None).map(|own| Box::new(own) as Box<dyn Weighting>))
    }
}

impl Described for Foreign {
    fn describe(&self) -> Value {
        json!({"name": NAME, "class": self.class, "needs": self.needs})
    }
}

impl Weighting for Foreign {
    fn claims(&self) -> Claims {
        Claims { needs: self.needs, ..Claims::default() }
    }

    fn prepare(&mut self, tasks: &[About]) -> Result<()> {
        self.names = Names::of(tasks);
        Ok(())
    }

    fn weigh(&mut self, evidence: &mut dyn Evidence, into: &mut Combination) -> Result<()> {
        let tasks: Vec<_> = evidence.tasks().iter().map(|&task| self.names.get(task)).collect();
        if tasks.is_empty() {
            return Ok(());
        }
        let class = &self.class;
        let Some(code) = &self.code else {
            bail!("the weighting `{class}` was code of your own, which no file holds: pass it again, `weighting=`");
        };
        let losses = evidence.losses().to_vec();
        let moment = evidence.moment();
        let gramian = if self.needs == Needs::Gramian { Some(evidence.gramian()?) } else { None };
        let weights = code.weigh(&tasks, &losses, gramian)?;
        if weights.len() != tasks.len() {
            bail!(
                "`weighting`: `{class}` should give one weight a task, {} ({}); got {}",
                tasks.len(),
                list(&tasks),
                weights.len()
            );
        }
        // The model computes in single precision.
        if let Some(row) = weights.iter().position(|weight| !(*weight as f32).is_finite()) {
            let step = moment.step + 1;
            bail!("`weighting`: `{class}` gave a weight of {} for `{}` at step {step}", weights[row], tasks[row]);
        }
        into.weights = weights;
        Ok(())
    }

    fn anew(&self) -> Option<Box<dyn Weighting>> {
        Some(Box::new(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value_error;
    use crate::weighting::loss::tests::{about, given, weigh_given};
    use crate::weighting::{Given, Moment, build};

    /// Gives `[rows]` times the squared length, or the loss, and says who was shown.
    #[derive(Debug)]
    struct Code;

    impl ForeignWeighting for Code {
        fn weigh(&self, tasks: &[&str], losses: &[f64], gramian: Option<&[f64]>) -> Result<Vec<f64>> {
            let rows = tasks.len();
            match losses {
                [loss, ..] if *loss < 0.0 => Err(value_error!("it raised, of {}", tasks.join(" "))),
                [loss, ..] if *loss == 0.0 => Ok(vec![1.0; rows + 1]),
                _ => Ok((0..rows).map(|row| gramian.map_or(losses[row], |g| g[row * (rows + 1)])).collect()),
            }
        }
    }

    fn made(needs: &str) -> Foreign {
        let description = json!({"name": "custom", "class": "mine", "needs": needs});
        let mut own = Foreign::of(&description, Some(Arc::new(Code))).unwrap();
        own.prepare(&about(3)).unwrap();
        assert_eq!(own.describe(), description);
        own
    }

    #[test]
    fn it_sees_the_tasks_that_are_there() {
        assert_eq!(weigh_given(&mut made("losses"), &mut given(&[0, 2], &[3.0, 5.0])).unwrap(), [3.0, 5.0]);
        let mut evidence = Given { tasks: vec![1, 2], ..Given::gramian(&[4.0, 1.0, 1.0, 9.0]) };
        assert_eq!(weigh_given(&mut made("gramian"), &mut evidence).unwrap(), [4.0, 9.0]);
        assert_eq!(weigh_given(&mut made("losses"), &mut given(&[], &[])).unwrap(), [0.0; 0]);
    }

    #[test]
    fn what_it_should_not_give_is_named() {
        let message = |evidence: &mut Given| weigh_given(&mut made("losses"), evidence).unwrap_err().to_string();
        assert_eq!(message(&mut given(&[0, 2], &[-1.0, 1.0])), "it raised, of a c");
        assert_eq!(
            message(&mut given(&[0, 2], &[0.0, 1.0])),
            "`weighting`: `mine` should give one weight a task, 2 (`a`, `c`); got 3"
        );
        let mut evidence = given(&[0, 2], &[1.0, 1e300]);
        evidence.moment = Moment { step: 4, ..Moment::default() };
        let large = message(&mut evidence);
        assert!(large.starts_with("`weighting`: `mine` gave a weight of 1") && large.ends_with("for `c` at step 5"));
    }

    #[test]
    fn a_description_alone_weighs_nothing() {
        let mut known = build(&made("gramian").describe()).unwrap();
        assert_eq!(known.describe(), made("gramian").describe());
        known.prepare(&about(1)).unwrap();
        let error = weigh_given(&mut *known, &mut Given::gramian(&[1.0])).unwrap_err().to_string();
        assert!(error.contains("`mine` was code of your own"), "{error}");
        let again = made("losses").anew().unwrap();
        assert_eq!(again.claims().needs, Needs::Losses);
        for wrong in [json!({"name": "custom"}), json!("custom"), json!({"name": "custom", "class": "a", "needs": "b"})]
        {
            assert!(build(&wrong).is_err(), "{wrong}");
        }
    }
}
