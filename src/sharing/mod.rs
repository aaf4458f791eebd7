//! Sharing schemes: which parameters serve which task.

use std::fmt::Debug;

use crate::bail;
use crate::component::{Described, Info, list};
use crate::encoder::Encoder;
use crate::error::Result;
use crate::head::Feature;
use crate::label::Labels;
use crate::network::builder::Builder;
use crate::network::{Output, ValueId};
use crate::parameters::path::part;
use crate::parameters::{Reach, TaskId};
use crate::task::Task;

/// What a scheme wires.
#[derive(Debug)]
pub struct Context<'a> {
    /// The model's features.
    pub x: ValueId,
    /// What turns features into a representation.
    pub encoder: &'a dyn Encoder,
    /// The tasks.
    pub tasks: &'a [Task],
}

impl Context<'_> {
    /// A path a task: `prefix.task`.
    pub fn paths(&self, prefix: &str) -> Vec<String> {
        self.tasks.iter().map(|task| format!("{prefix}.{}", part(&task.name))).collect()
    }

    /// Paths of so many networks a task: `prefix.task.0`, `prefix.task.1` ...
    ///
    /// # Errors
    /// As [`Builder::numbered`].
    pub fn numbered(&self, net: &Builder, prefix: &str, count: usize) -> Result<Vec<String>> {
        net.numbered_each(&self.paths(prefix), count)
    }

    /// How many of the encoder's stages a task reads, from the first on.
    pub fn reads(&self, task: TaskId) -> usize {
        self.tasks[task].at.map_or_else(|| self.encoder.stages(), |at| at + 1)
    }

    /// How many of the encoder's stages any task reads.
    pub fn stages(&self) -> usize {
        (0..self.tasks.len()).map(|task| self.reads(task)).max().unwrap_or(0)
    }

    /// Each task's features after the stages that it reads, where they are the groups of one value; `after` has that before the
    /// first stage, then those after each.
    pub fn features_after(&self, after: &[ValueId]) -> Vec<Feature> {
        (0..self.tasks.len()).map(|task| Feature { value: after[self.reads(task)], group: task }).collect()
    }

    /// Each task's features, where they are the groups of one value.
    pub fn features(&self, value: ValueId) -> Vec<Feature> {
        (0..self.tasks.len()).map(|group| Feature { value, group }).collect()
    }

    /// The tasks' names.
    pub fn names(&self) -> Vec<String> {
        self.tasks.iter().map(|task| task.name.clone()).collect()
    }
}

/// Wires encoders so that every head gets its features; never writes a backward.
pub trait Sharing: Debug + Send + Sync + Described {
    /// The features of each task's head.
    ///
    /// # Errors
    /// Sizes or tasks that cannot work.
    fn build(&self, net: &mut Builder, parts: &Context<'_>) -> Result<Vec<Feature>>;

    /// Whether a task may read the encoder after one of its stages instead of at its end.
    fn taps(&self) -> bool {
        false
    }

    /// Which tasks' gradients arrive at a task's head.
    fn head_reach(&self, task: TaskId, tasks: usize) -> Reach {
        let _ = tasks;
        Reach::One(task)
    }

    /// The tasks' raw outputs from those of their heads.
    ///
    /// # Errors
    /// Tasks that cannot work.
    fn outputs(&self, net: &mut Builder, heads: Vec<Output>, tasks: &[Task]) -> Result<Vec<Output>> {
        let _ = (net, tasks);
        Ok(heads)
    }
}

crate::family!(
    Sharing, "sharing":
    hard::Hard,
    soft::Soft,
    cross_stitch::CrossStitch,
    sluice::Sluice,
    nddr::Nddr,
    mmoe::Mmoe,
    omoe::Omoe,
    cgc::Cgc,
    ple::Ple,
    dselect_k::DselectK,
    ltb::Ltb,
    branched::Branched,
    esmm::Esmm,
    aitm::Aitm,
);

/// Refuses tasks that read the encoder after a stage that it has not, or of a scheme that has nothing there for a task.
///
/// # Errors
/// As said.
pub(crate) fn check_taps(parts: &Context<'_>, scheme: &dyn Sharing) -> Result<()> {
    let stages = parts.encoder.stages();
    for (task, at) in parts.tasks.iter().filter_map(|task| Some((task, task.at?))) {
        if at >= stages {
            let names: Vec<_> = (0..stages).map(|stage| format!("encoder.{stage}")).collect();
            bail!(
                "task `{}`: `at` should be a stage of the encoder, {}; got \"encoder.{at}\"",
                task.name,
                if names.is_empty() { "which has none".to_owned() } else { list(&names) }
            );
        }
        if !scheme.taps() {
            let name =
                |info: Info| build(&info.name.as_str().into()).ok().filter(|known| known.taps()).map(|_| info.name);
            let known: Vec<_> = infos().into_iter().filter_map(name).collect();
            bail!(
                "task `{}`: `at` needs a scheme that has a value of each task after each stage of the encoder, {}; got {}",
                task.name,
                list(&known),
                scheme.describe()["name"]
            );
        }
    }
    Ok(())
}

/// A mix `(to, from)` of so many that keeps `own` of each and takes the rest from the others in equal parts.
fn near_identity(count: usize, own: f64) -> impl Fn(usize, usize) -> f64 {
    move |to, from| match count {
        1 => 1.0,
        _ if to == from => own,
        _ => (1.0 - own) / (count - 1) as f64,
    }
}

/// Refuses tasks that are no steps of a funnel: one binary label each.
fn funnel(scheme: &str, tasks: &[Task]) -> Result<()> {
    match tasks.iter().find(|task| task.labels != Labels::Binary { columns: 1 } || task.width() != 1) {
        Some(task) => bail!(
            "`sharing`: {scheme} needs tasks with one binary label each, such as loss=\"binary_cross_entropy\"; task `{}` has \
             another",
            task.name
        ),
        None => Ok(()),
    }
}
