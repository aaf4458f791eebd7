//! Arrows go down: which room uses which, read from the imports of all files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The rooms from the ground up; those of one floor use none of each other.
const FLOORS: &[&[&str]] = &[
    &["error"],
    &["machine", "component", "file"],
    &["input", "label", "solver"],
    &["parameters"],
    &["loss", "optim", "schedule", "regularizer", "data", "network"],
    &["task"],
    &["meter", "weighting", "encoder", "head"],
    &["sharing"],
    &["model"],
    &["trainer"],
    &["python"],
];

/// The components of a module's path: `network::plan`.
type Module = Vec<String>;

/// An import: which module names which path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: Module,
    to: Module,
    named: String,
}

impl Arrow {
    fn shown(&self) -> String {
        format!("{} -> {} ({})", self.from.join("::"), self.to.join("::"), self.named)
    }
}

fn sources() -> BTreeMap<Module, String> {
    // A manifest for another torch lies in a folder beside it.
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("src"));
    let root = above.find(|folder| folder.is_dir()).unwrap();
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(module(path.strip_prefix(&root).unwrap()), fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn module(file: &Path) -> Module {
    let mut parts: Vec<_> = file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// The code of a file without comments and without its unit tests.
fn code(source: &str) -> String {
    let tests = source.find("\n#[cfg(test)]\nmod ").unwrap_or(source.len());
    let lines = source[..tests].lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths of `a::{b, c::d}`.
fn leaves(tree: &str) -> Vec<String> {
    let Some((head, inner)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_owned()];
    };
    let inner = &inner[..inner.rfind('}').unwrap()];
    let (mut parts, mut depth, mut part) = (Vec::new(), 0, String::new());
    for letter in inner.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(letter);
    }
    parts.push(part);
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| leaves(&format!("{}{}", head.trim(), part.trim()))).collect()
}

/// All paths that a file names: in its imports, and elsewhere from `crate` and `super`.
fn named(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = String::new();
    let mut at = code;
    while let Some(start) = find_use(at) {
        let end = start + at[start..].find(';').unwrap();
        rest.push_str(&at[..start]);
        let tree = at[start + 4..end].split_whitespace().collect::<Vec<_>>().join(" ");
        paths.extend(leaves(&tree));
        at = &at[end + 1..];
    }
    rest.push_str(at);
    for root in ["crate::", "super::"] {
        for (start, _) in rest.match_indices(root) {
            let inside = rest[..start].ends_with("super::") || rest[..start].ends_with(char::is_alphanumeric);
            let path: String =
                rest[start..].chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
            if !inside {
                paths.push(path.trim_end_matches(':').to_owned());
            }
        }
    }
    paths
}

fn find_use(code: &str) -> Option<usize> {
    let starts = code.match_indices("use ").map(|(start, _)| start);
    starts.into_iter().find(|&start| {
        let line = &code[..start];
        let line = line[line.rfind('\n').map_or(0, |at| at + 1)..].trim();
        line.is_empty() || line.starts_with("pub")
    })
}

/// The arrows between files; a file that declares others may name them, as the list of a family does.
fn arrows(sources: &BTreeMap<Module, String>) -> BTreeSet<Arrow> {
    let mut arrows = BTreeSet::new();
    for (me, source) in sources {
        let code = code(source);
        for named in named(&code) {
            let parts: Vec<String> = named.split("::").map(str::to_owned).collect();
            let ups = parts.iter().take_while(|part| *part == "super").count();
            let mut path: Module = match parts[0].as_str() {
                "crate" => parts[1..].to_vec(),
                "super" => [&me[..me.len().saturating_sub(ups)], &parts[ups..]].concat(),
                _ => [&me[..], &parts[..]].concat(),
            };
            while !path.is_empty() && !sources.contains_key(&path) {
                path.pop();
            }
            let declares = path.starts_with(me) && path.len() > me.len();
            if !path.is_empty() && path != *me && !me.is_empty() && !declares {
                arrows.insert(Arrow { from: me.clone(), to: path, named });
            }
        }
    }
    arrows
}

fn floor(room: &str) -> usize {
    let found = FLOORS.iter().position(|rooms| rooms.contains(&room));
    found.unwrap_or_else(|| panic!("the room `{room}` has no floor: see FLOORS"))
}

#[test]
fn no_room_uses_one_above_or_beside_it() {
    let sources = sources();
    let wrong = |arrow: &&Arrow| arrow.from[0] != arrow.to[0] && floor(&arrow.to[0]) >= floor(&arrow.from[0]);
    let found: Vec<_> = arrows(&sources).iter().filter(wrong).map(Arrow::shown).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_files_go_round_in_a_circle() {
    let arrows = arrows(&sources());
    let mut next: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for arrow in &arrows {
        next.entry(&arrow.from).or_default().insert(&arrow.to);
    }
    let reached = |from: &Module| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(module) = open.pop() {
            for &to in next.get(module).into_iter().flatten() {
                if seen.insert(to) {
                    open.push(to);
                }
            }
        }
        seen.contains(from)
    };
    let circles: Vec<_> = next.keys().filter(|from| reached(from)).map(|from| from.join("::")).collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn every_room_says_who_lives_there() {
    for (module, source) in sources() {
        assert!(source.starts_with("//! "), "{} has no first line of documentation", module.join("::"));
    }
}

#[test]
fn arrows_are_read_however_they_are_written() {
    let sources = [
        (vec!["a".to_owned()], "//! A.\n"),
        (vec!["a".to_owned(), "b".to_owned()], "//! B.\n"),
        (
            vec!["c".to_owned(), "d".to_owned()],
            "//! D.\nuse crate::{a::{b::X, Y as Z}};\npub(crate) use super::e;\nfn f() { crate::a::b::g(); super::super::a::h() }\n// crate::not::this\n",
        ),
        (vec!["c".to_owned(), "e".to_owned()], "//! E.\n"),
        (vec!["c".to_owned()], "//! C.\nmod d;\npub use d::D;\n#[cfg(test)]\nmod tests { use crate::a::b; }\n"),
    ];
    let sources = sources.map(|(module, source)| (module, source.to_owned())).into();
    let seen: BTreeSet<_> =
        arrows(&sources).iter().map(|arrow| format!("{}>{}", arrow.from.join("/"), arrow.to.join("/"))).collect();
    assert_eq!(seen, ["c/d>a", "c/d>a/b", "c/d>c/e"].map(str::to_owned).into());
}

#[test]
fn only_the_top_floor_knows_python() {
    let knows = |(module, source): (&Module, &String)| {
        let others = module.first().is_none_or(|room| room != "python");
        (others && code(source).contains("pyo3")).then(|| module.join("::"))
    };
    let found: Vec<_> = sources().iter().filter_map(knows).collect();
    assert!(found.is_empty(), "{found:?}");
}
