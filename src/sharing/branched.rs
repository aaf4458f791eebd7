//! Branching as the user says.

use serde::{Deserialize, Serialize};

use super::{Context, Sharing};
use crate::bail;
use crate::component::Argument;
use crate::component::{list, meant};
use crate::error::Result;
use crate::head::Feature;
use crate::network::builder::Builder;
use crate::parameters::Reach;
use crate::parameters::path::part;

/// For each layer, which tasks go together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Said", into = "Vec<Vec<Vec<String>>>")]
pub struct Branches(pub Vec<Vec<Vec<String>>>);

/// Groups for each layer, or the same for all.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Layers(Vec<Vec<Vec<String>>>),
    Groups(Vec<Vec<String>>),
}

impl From<Said> for Branches {
    fn from(said: Said) -> Self {
        match said {
            Said::Layers(layers) => Self(layers),
            Said::Groups(groups) => Self(vec![groups]),
        }
    }
}

impl From<Branches> for Vec<Vec<Vec<String>>> {
    fn from(branches: Branches) -> Self {
        branches.0
    }
}

impl Argument for Branches {
    fn words() -> String {
        "a list of lists of tasks, or one such list for each layer".into()
    }

    fn python() -> String {
        "Sequence[Sequence[str]] | Sequence[Sequence[Sequence[str]]]".into()
    }
}

crate::component! {
    /// Tasks share prefixes of the network, as given: `branches` says for each layer of the encoder which tasks go together
    /// (compare Vandenhende et al., Branched Multi-Task Networks, BMVC 2020).
    ///
    /// `[[["a", "b", "c"]], [["a", "b"], ["c"]]]`: all share the first layer, `a` and `b` the second. Tasks that have parted
    /// stay apart. Layers beyond the list go on as its last entry; without any entry all tasks share everything. Groups
    /// alone, `[["a", "b"], ["c"]]`, part in the first layer: that is what `pt.relatedness(...).groups()` gives.
    pub struct Branched = "Branched" {
        /// Lists of tasks that go together, or such lists for each layer.
        branches: Branches = Branches::default();
    }
    check: not_empty;
}

fn not_empty(scheme: &Branched) -> Result<()> {
    if let Some(layer) = scheme.branches.0.iter().position(|branches| branches.iter().all(Vec::is_empty)) {
        bail!("Branched: argument `branches` should name all tasks in every layer; layer {layer} names none");
    }
    Ok(())
}

impl Sharing for Branched {
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>> {
        let layers = self.read(&parts.names())?;
        let tasks = parts.tasks.len();
        let stages = parts.stages();
        if layers.len() > parts.encoder.stages() {
            let stages = parts.encoder.stages();
            bail!("Branched: argument `branches` has {} layers, but the encoder only {stages}", layers.len());
        }
        let mut x = parts.x;
        let mut before = vec![(0..tasks).collect::<Vec<_>>()];
        let feature = |value, branches: &[Vec<usize>], task| Feature { value, group: branch_of(task, branches) };
        let mut features: Vec<_> = (0..tasks).map(|task| feature(x, &before, task)).collect();
        for stage in 0..stages {
            let Some(now) = layers.get(stage).or(layers.last()) else {
                x = parts.encoder.stage(net, stage, &["encoder".to_owned()], x)?;
                let reading = (0..tasks).filter(|&task| parts.reads(task) > stage);
                reading.for_each(|task| features[task] = feature(x, &before, task));
                continue;
            };
            if let Some(branch) = now.iter().find(|branch| branch.iter().all(|&task| parts.reads(task) <= stage)) {
                bail!(
                    "Branched: nobody reads {}.{stage}, since `at` of {} is before it",
                    path(parts, branch),
                    list(&branch.iter().map(|&task| &parts.tasks[task].name).collect::<Vec<_>>())
                );
            }
            let reach = if now.len() == tasks && tasks > 1 { Reach::Own } else { Reach::All };
            let parents: Vec<_> = now.iter().map(|branch| branch_of(branch[0], &before)).collect();
            x = if before.len() == 1 {
                net.each(x, now.len(), reach)
            } else if parents.iter().copied().eq(0..before.len()) {
                net.each(x, 1, reach)
            } else {
                net.gather(&parents.iter().map(|&group| (x, group)).collect::<Vec<_>>(), reach)
            };
            let paths: Vec<_> = now.iter().map(|branch| path(parts, branch)).collect();
            x = parts.encoder.stage(net, stage, &paths, x)?;
            before.clone_from(now);
            let reading = (0..tasks).filter(|&task| parts.reads(task) > stage);
            reading.for_each(|task| features[task] = feature(x, &before, task));
        }
        Ok(features)
    }

    fn taps(&self) -> bool {
        true
    }
}

/// The branch that a task is in; each is in one.
fn branch_of(task: usize, branches: &[Vec<usize>]) -> usize {
    branches.iter().position(|branch| branch.contains(&task)).unwrap_or(0)
}

/// `encoder` for all tasks, `encoders.a+b` for some.
fn path(parts: &Context<'_>, branch: &[usize]) -> String {
    if branch.len() == parts.tasks.len() {
        return "encoder".to_owned();
    }
    let names: Vec<_> = branch.iter().map(|&task| parts.tasks[task].name.as_str()).collect();
    format!("encoders.{}", part(&names.join("+")))
}

impl Branched {
    /// Tasks by number, in their own order, each layer a refinement of the one before.
    fn read(&self, names: &[String]) -> Result<Vec<Vec<Vec<usize>>>> {
        let mut layers: Vec<Vec<Vec<usize>>> = Vec::new();
        for (layer, branches) in self.branches.0.iter().enumerate() {
            let mut read = Vec::new();
            for branch in branches.iter().filter(|branch| !branch.is_empty()) {
                let number = |name: &String| match names.iter().position(|known| known == name) {
                    Some(task) => Ok(task),
                    None => Err(crate::value_error!(
                        "Branched: argument `branches` names no task {name:?}; {}the tasks are {}",
                        meant(name, names),
                        list(names)
                    )),
                };
                let mut tasks = branch.iter().map(number).collect::<Result<Vec<_>>>()?;
                tasks.sort_unstable();
                read.push(tasks);
            }
            read.sort_unstable();
            let mut all: Vec<_> = read.iter().flatten().copied().collect();
            all.sort_unstable();
            if !all.iter().copied().eq(0..names.len()) {
                bail!(
                    "Branched: argument `branches` should name each of {} once in every layer; layer {layer} is {branches:?}",
                    list(names)
                );
            }
            let within = |branch: &Vec<usize>, wide: &Vec<usize>| branch.iter().all(|task| wide.contains(task));
            if let Some(last) = layers.last()
                && !read.iter().all(|branch| last.iter().any(|wide| within(branch, wide)))
            {
                bail!(
                    "Branched: argument `branches`: tasks that have parted stay apart, but meet again in layer {layer}"
                );
            }
            layers.push(read);
        }
        Ok(layers)
    }
}
