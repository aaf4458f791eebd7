//! The metrics that are counted here, each a file with one line.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::metric::Metric;

/// Declares the modules and their list.
macro_rules! metrics {
    ($($module:ident),+ $(,)?) => {
        $(pub mod $module;)+

        /// All metrics that are counted here.
        pub const ALL: &[&Metric] = &[$(&$module::METRIC),+];
    };
}

metrics! {
    accuracy,
    auroc,
    average_precision,
    mae,
    mse,
    rmse,
    r2,
}

/// The metric of a name.
pub fn find(name: &str) -> Option<&'static Metric> {
    ALL.iter().copied().find(|metric| metric.name == name)
}

/// Reads a list of names.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<&'static Metric>, D::Error> {
    let names: Vec<String> = Deserialize::deserialize(deserializer)?;
    let each = names.iter().map(|name| find(name).ok_or_else(|| D::Error::custom(format!("unknown metric {name:?}"))));
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_the_name_of_its_file() {
        for metric in ALL {
            let file = std::path::Path::new(file!()).with_file_name(format!("{}.rs", metric.name));
            assert!(file.exists(), "{}", file.display());
            assert_eq!(find(metric.name), Some(*metric));
        }
        assert_eq!(find("nonsense"), None);
    }
}
