//! What components are called in other libraries, for errors that say their names here.

/// Names there, in small letters without marks between them, and here.
const OURS: &[(&str, &str)] = &[
    // Weightings of LibMTL, of TorchJD, and of the code of Nash-MTL's paper.
    ("ew", "equal"),
    ("equalweighting", "equal"),
    ("sum", "equal"),
    ("ls", "equal"),
    ("uw", "uncertainty"),
    ("uncertaintyweighting", "uncertainty"),
    ("homoscedastic", "uncertainty"),
    ("constant", "static"),
    ("random", "rlw"),
    ("si", "scale_invariant"),
    // Sharing schemes.
    ("hps", "hard"),
    ("hardparametersharing", "hard"),
    ("sharedbottom", "hard"),
    ("softparametersharing", "soft"),
    ("moe", "mmoe"),
    // Losses of PyTorch, Keras and scikit-learn.
    ("ce", "cross_entropy"),
    ("celoss", "cross_entropy"),
    ("categoricalcrossentropy", "cross_entropy"),
    ("bce", "binary_cross_entropy"),
    ("bceloss", "binary_cross_entropy"),
    ("bcewithlogits", "binary_cross_entropy"),
    ("bcewithlogitsloss", "binary_cross_entropy"),
    ("logloss", "binary_cross_entropy"),
    ("mse", "mean_squared"),
    ("mseloss", "mean_squared"),
    ("l2", "mean_squared"),
    ("squarederror", "mean_squared"),
    ("mae", "mean_absolute"),
    ("l1", "mean_absolute"),
    ("l1loss", "mean_absolute"),
    ("absoluteerror", "mean_absolute"),
    ("smoothl1", "huber"),
    ("smoothl1loss", "huber"),
    ("pinball", "quantile"),
    // Schedules of PyTorch.
    ("cosineannealing", "cosine"),
    ("cosineannealinglr", "cosine"),
    ("reducelronplateau", "plateau"),
];

/// The one of these names that another library's name stands for.
pub fn ours<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let plain: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).take(40).collect();
    OURS.iter()
        .filter(|(theirs, _)| *theirs == plain)
        .find_map(|(_, ours)| names.iter().find(|name| *name == ours).copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{loss, sharing, weighting};

    #[test]
    fn every_name_here_is_one_that_there_is() {
        let infos = [weighting::infos(), sharing::infos(), loss::infos(), crate::schedule::infos()];
        let names: Vec<&str> = infos.iter().flatten().map(|info| info.name.as_str()).collect();
        for (theirs, here) in OURS {
            assert_eq!(ours(theirs, &names), Some(*here), "{theirs}");
        }
    }

    #[test]
    fn a_name_from_elsewhere_is_found_however_it_is_written() {
        assert_eq!(ours("UW", &["equal", "uncertainty"]), Some("uncertainty"));
        assert_eq!(ours("Hard-Parameter Sharing", &["hard"]), Some("hard"));
        assert_eq!(ours("HPS", &["equal", "uncertainty"]), None);
    }
}
