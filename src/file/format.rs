//! The number of the file format: what this version writes, and what it reads of what earlier ones wrote.
//!
//! Whoever changes what stands in a file, or what it means, raises [`NUMBER`] unless the number is newer than the last
//! release, adds a line to the table there, and either reads what lacks the change as what it meant (`serde(default)`, an
//! argument whose default is the old behaviour, [`Contents::number`](crate::file::Contents::number)) or raises
//! [`CHECKPOINT`]'s oldest number. Model files of every number open: those of each release are under `tests/files`.

/// The format that this version writes.
///
/// | number | since | what is new |
/// |--:|---|---|
/// | 0 | 0.1.0 | the number itself is not there |
/// | 1 | after 0.1.0 | a number; which arrays of callbacks belong to a checkpoint; a fingerprint of its data; scales of targets, units of columns; heads of single tasks; temperatures and thresholds of tasks; where batches from outside are, within an epoch too; embeddings of numbers |
pub const NUMBER: u32 = 1;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// What it calls itself.
    pub name: &'static str,
    /// The oldest number that this version still reads.
    pub oldest: u32,
}

/// Description and parameters.
pub const MODEL: Format = Format { name: "polytask model", oldest: 0 };

/// All that a run needs to go on with the same bits. Steps of two versions need not be the same steps: a checkpoint may be
/// refused by its number where a model file may not.
pub const CHECKPOINT: Format = Format { name: "polytask checkpoint", oldest: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ends_with_the_number() {
        let numbers =
            include_str!("format.rs").lines().filter_map(|line| line.strip_prefix("/// | ")?.split(' ').next());
        assert_eq!(numbers.filter_map(|number| number.parse().ok()).max(), Some(NUMBER));
    }
}
