//! What a training learned of how its tasks are related.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::{bail, value_error};

/// A covariance of tasks, of trace 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    /// Their names.
    pub tasks: Vec<String>,
    /// `[tasks, tasks]`, symmetric.
    pub matrix: Vec<f64>,
}

impl Relation {
    /// As JSON.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("names and numbers can be written")
    }

    /// Reads what [`Relation::text`] wrote.
    ///
    /// # Errors
    /// Something else was written.
    pub fn read(text: &str) -> Result<Self> {
        let relation: Self = serde_json::from_str(text).map_err(|error| value_error!("damaged relation ({error})"))?;
        if relation.matrix.len() != relation.tasks.len().pow(2) {
            bail!("damaged relation ({} numbers)", relation.matrix.len());
        }
        Ok(relation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let relation = Relation { tasks: vec!["a".into(), "b".into()], matrix: vec![0.1, 0.2, 0.2, 1.0 / 3.0] };
        assert_eq!(Relation::read(&relation.text()).unwrap(), relation);
        for text in ["", r#"{"tasks": ["a"], "matrix": [1.0, 2.0]}"#] {
            assert!(Relation::read(text).unwrap_err().to_string().contains("damaged relation"));
        }
    }
}
