//! Names in messages: all that there are, and the one that was meant.

/// Names in backticks, for error messages.
pub fn list(names: &[impl AsRef<str>]) -> String {
    match names {
        [] => "none".into(),
        _ => names.iter().map(|n| format!("`{}`", n.as_ref())).collect::<Vec<_>>().join(", "),
    }
}

/// `` did you mean `upgrad`?  `` for a name that none of these is but one is close to; nothing if none is, or if there is
/// no other to tell it from.
pub fn meant(name: &str, names: &[impl AsRef<str>]) -> String {
    if names.len() < 2 {
        return String::new();
    }
    let wrong: Vec<char> = name.to_lowercase().chars().take(LONGEST).collect();
    let near = |known: &str| {
        let known: Vec<char> = known.to_lowercase().chars().take(LONGEST).collect();
        let begun = wrong.len() >= 3 && known.starts_with(&wrong);
        let edits = if begun { 1 } else { edits(&wrong, &known) };
        (begun || 3 * edits <= wrong.len().max(known.len()) + 1).then_some(edits)
    };
    let close = names.iter().filter_map(|known| Some((near(known.as_ref())?, known.as_ref())));
    close.min_by_key(|(edits, _)| *edits).map_or_else(String::new, |(_, known)| format!("did you mean `{known}`? "))
}

/// Letters that `meant` looks at: no name is longer.
const LONGEST: usize = 100;

/// Letters to add, drop, change or swap with their neighbour until one word is the other.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before: [Vec<usize>; 2] = [Vec::new(), (0..=b.len()).collect()];
    for (i, &x) in a.iter().enumerate() {
        let [older, last] = &before;
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let swapped = i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y;
            let swap = if swapped { older[j - 1] + 1 } else { usize::MAX };
            row.push((last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1).min(swap));
        }
        let [_, last] = before;
        before = [last, row];
    }
    before[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let names = ["equal", "upgrad", "cagrad", "nash_mtl", "mgda", "mae", "average_precision"];
        for (wrong, right) in [
            ("upgrda", "upgrad"),
            ("UPGrad", "upgrad"),
            ("cagard", "cagrad"),
            ("nashmtl", "nash_mtl"),
            ("Nash-MTL", "nash_mtl"),
            ("mdga", "mgda"),
            ("eqal", "equal"),
            ("aver", "average_precision"),
            ("mea", "mae"),
        ] {
            assert_eq!(meant(wrong, &names), format!("did you mean `{right}`? "), "{wrong}");
        }
        for wrong in ["", "x", "gradnorm", "nonsense", &"upgrad".repeat(1000)] {
            assert_eq!(meant(wrong, &names), "", "{wrong}");
        }
        assert_eq!(meant("b", &["a", "c"]), "");
        assert_eq!(meant("gate", &["gates"]), "");
        assert_eq!(meant("a", &[] as &[&str]), "");
        assert_eq!(edits(&['a', 'b', 'c'], &['c', 'a']), 3);
        assert_eq!(edits(&['a', 'b', 'c', 'd'], &['b', 'a', 'd']), 2);
    }
}
