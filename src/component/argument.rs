//! Types of arguments: what each should be in words, its type in Python, and its check, in one place.

use std::ops::{Bound, RangeBounds};

use serde::{Deserialize, Serialize};

/// A type that an argument of a component may have. Serde says how it is read.
pub trait Argument: Serialize {
    /// What a value should be, as an error says it: "a finite number".
    fn words() -> String;

    /// The type in Python.
    fn python() -> String;

    /// Whether every number in it lies in a declared range; what has no numbers does.
    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        let _ = range;
        true
    }
}

/// A range in words.
pub fn said(range: &impl RangeBounds<f64>) -> String {
    let low = match range.start_bound() {
        Bound::Included(&f64::MIN_POSITIVE) => Some("above 0".to_owned()),
        Bound::Included(low) => Some(format!("at least {low}")),
        Bound::Excluded(low) => Some(format!("above {low}")),
        Bound::Unbounded => None,
    };
    let high = match range.end_bound() {
        Bound::Included(high) => Some(format!("at most {high}")),
        Bound::Excluded(high) => Some(format!("below {high}")),
        Bound::Unbounded => None,
    };
    let ends: Vec<String> = [low, high].into_iter().flatten().collect();
    if ends.is_empty() { "a number".into() } else { ends.join(" and ") }
}

impl Argument for f64 {
    fn words() -> String {
        "a finite number".into()
    }

    fn python() -> String {
        "float".into()
    }

    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.is_finite() && range.contains(self)
    }
}

/// Whole numbers.
macro_rules! whole {
    ($($kind:ty),+) => {
        $(impl Argument for $kind {
            fn words() -> String {
                "a whole number of at least 0".into()
            }

            fn python() -> String {
                "int".into()
            }

            fn within(&self, range: &impl RangeBounds<f64>) -> bool {
                range.contains(&(*self as f64))
            }
        })+
    };
}
whole!(usize, u64);

impl Argument for bool {
    fn words() -> String {
        "True or False".into()
    }

    fn python() -> String {
        "bool".into()
    }
}

impl Argument for String {
    fn words() -> String {
        "a string".into()
    }

    fn python() -> String {
        "str".into()
    }
}

impl Argument for Vec<String> {
    fn words() -> String {
        "a list of strings".into()
    }

    fn python() -> String {
        "Sequence[str]".into()
    }
}

impl Argument for [f64; 2] {
    fn words() -> String {
        "two finite numbers".into()
    }

    fn python() -> String {
        "Sequence[float]".into()
    }

    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.iter().all(|value| value.within(range))
    }
}

impl Argument for Vec<f64> {
    fn words() -> String {
        "a list of finite numbers".into()
    }

    fn python() -> String {
        "Sequence[float]".into()
    }

    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.iter().all(|value| value.within(range))
    }
}

impl Argument for Vec<Vec<f64>> {
    fn words() -> String {
        "a list of lists of finite numbers".into()
    }

    fn python() -> String {
        "Sequence[Sequence[float]]".into()
    }

    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.iter().all(|value| value.within(range))
    }
}

impl<T: Argument> Argument for Option<T> {
    fn words() -> String {
        format!("{} or None", T::words())
    }

    fn python() -> String {
        format!("{} | None", T::python())
    }

    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.as_ref().is_none_or(|value| value.within(range))
    }
}

/// Widths of layers: a list, or one number for one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct Sizes(pub Vec<usize>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(usize),
    Many(Vec<usize>),
}

impl From<OneOrMany> for Sizes {
    fn from(sizes: OneOrMany) -> Self {
        match sizes {
            OneOrMany::One(size) => Sizes(vec![size]),
            OneOrMany::Many(sizes) => Sizes(sizes),
        }
    }
}

impl Argument for Sizes {
    fn words() -> String {
        "a whole number of at least 1 or a list of them".into()
    }

    fn python() -> String {
        "int | Sequence[int]".into()
    }

    fn within(&self, range: &impl RangeBounds<f64>) -> bool {
        self.0.iter().all(|size| size.within(range))
    }
}

/// Makes an argument of an enum of plain words, all of which are listed: `choices!(Per: All, Layer)`.
#[macro_export]
macro_rules! choices {
    ($kind:ident: $($variant:ident),+ $(,)?) => {
        impl $crate::component::Argument for $kind {
            fn words() -> String {
                $crate::component::one_of(&[$($kind::$variant),+])
            }

            fn python() -> String {
                "str".into()
            }
        }

        // What is not listed does not compile.
        const _: fn($kind) = |word| match word {
            $($kind::$variant => (),)+
        };
    };
}

/// `"a", "b" or "c"`: these words as they are typed.
pub fn one_of(words: &[impl Serialize]) -> String {
    let typed = words.iter().map(|word| serde_json::to_string(word).unwrap_or_default());
    match typed.collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Size {
        Small,
        Large,
        #[serde(rename = "x-large")]
        Largest,
    }
    choices!(Size: Small, Large, Largest);

    #[test]
    fn a_type_says_what_it_takes() {
        assert_eq!(Size::words(), r#""small", "large" or "x-large""#);
        assert_eq!(Option::<Size>::words(), r#""small", "large" or "x-large" or None"#);
        assert_eq!([Size::python(), Option::<f64>::python()], ["str", "float | None"]);
        assert!(Size::Small.within(&(1.0..2.0)) && None::<f64>.within(&(1.0..2.0)));
        assert!(vec![1.0, 1.5].within(&(1.0..2.0)) && !vec![vec![1.0], vec![2.0]].within(&(1.0..2.0)));
        let words = [said(&(0.0..1.0)), said(&(1.0..)), said(&(0.5..=2e6)), said(&(f64::MIN_POSITIVE..))];
        assert_eq!(words, ["at least 0 and below 1", "at least 1", "at least 0.5 and at most 2000000", "above 0"]);
        assert!(!f64::NAN.within(&(..)) && Sizes(vec![3]).within(&(1.0..)) && !Sizes(vec![3, 0]).within(&(1.0..)));
    }
}
