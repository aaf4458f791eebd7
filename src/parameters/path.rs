//! Paths of parameters: parts with dots between them, one of which may be a task's name with dots of its own.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;

use crate::component::{list, meant};

/// Stands for a dot of a part while a path is put together.
pub const WITHIN: char = '\u{1f}';

/// A name as one part of a path that is being put together.
pub fn part(name: &str) -> String {
    name.replace('.', &WITHIN.to_string())
}

/// A path that is being put together as people read it.
pub fn shown(path: &str) -> String {
    path.replace(WITHIN, ".")
}

/// A path as people read and type it, which knows where its parts end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    text: String,
    ends: Vec<usize>,
}

impl Path {
    /// What was put together with dots between parts.
    pub fn new(joined: &str) -> Self {
        Self::of(joined.split('.').map(shown))
    }

    /// Of parts.
    pub fn of(parts: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut path = Self { text: String::new(), ends: Vec::new() };
        for part in parts {
            if !path.ends.is_empty() {
                path.text.push('.');
            }
            path.text.push_str(part.as_ref());
            path.ends.push(path.text.len());
        }
        path
    }

    /// Its parts in order.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|end| end + 1));
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end])
    }

    /// Whether it is this path or lies below it: `heads.a` is above `heads.a.weight`, not above that of a task `a.b`.
    pub fn below(&self, above: &str) -> bool {
        self.text.starts_with(above) && self.ends.contains(&above.len())
    }

    /// What it lies directly below; itself if it is one part.
    pub fn parent(&self) -> &str {
        let above = self.ends.len().checked_sub(2).map_or(self.text.len(), |last| self.ends[last]);
        &self.text[..above]
    }
}

impl Deref for Path {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is said of a path that nothing is below: the one that may have been meant, and what all of them begin with.
pub fn instead<'a>(of: &str, paths: impl Iterator<Item = &'a Path>) -> String {
    let (mut known, mut above): (Vec<&str>, BTreeSet<&str>) = Default::default();
    for path in paths {
        above.extend(path.ends.iter().map(|&end| &path.text[..end]));
        let first = &path.text[..path.ends[0]];
        if !known.contains(&first) {
            known.push(first);
        }
    }
    let above: Vec<_> = above.into_iter().collect();
    format!("{}names begin with {}", meant(of, &above), list(&known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_its_parts_and_not_their_letters() {
        let [one, other] = ["SR", "SR.p53"].map(|task| Path::new(&format!("heads.{}.weight", part(task))));
        assert_eq!((&*one, &*other), ("heads.SR.weight", "heads.SR.p53.weight"));
        assert_eq!(other.parts().collect::<Vec<_>>(), ["heads", "SR.p53", "weight"]);
        assert_eq!((one.parent(), other.parent()), ("heads.SR", "heads.SR.p53"));
        for above in ["heads", "heads.SR", "heads.SR.weight"] {
            assert!(one.below(above), "{above}");
            assert_eq!(other.below(above), above == "heads", "{above}");
        }
        assert!(other.below("heads.SR.p53") && other.below("heads.SR.p53.weight"));
        for above in ["", "head", "heads.", "heads.SR.p", "heads.SR.p53.", "heads.SR.p53.weight.0"] {
            assert!(!other.below(above), "{above:?}");
        }
        assert_eq!(Path::new("encoder").parent(), "encoder");
        assert_eq!(Path::of(["heads", "SR.p53", "weight"]), other);
        let said = |wrong: &str| instead(wrong, [&one, &other].into_iter());
        assert_eq!(said("heds.SR.p53"), "did you mean `heads.SR.p53`? names begin with `heads`");
        assert_eq!(said("nonsense"), "names begin with `heads`");
    }
}
