//! What a weighting asks of every step of one model, found out before the first.

use std::ops::Range;

use crate::bail;
use crate::error::Result;
use crate::machine::half;
use crate::model::Model;
use crate::model::columns::Columns;
use crate::network::pass::{BUDGET, Purpose, Store};
use crate::parameters::TaskId;
use crate::weighting::evidence::{HALF, SINGLE};
use crate::weighting::modes::{At, Per, Precision};
use crate::weighting::{Claims, Needs, Weighting, called};

/// How steps are made.
#[derive(Debug, Clone)]
pub struct Requirements {
    /// What the weighting says of itself.
    pub claims: Claims,
    /// Where it looks at gradients.
    pub at: At,
    /// How far off cosines between gradients may be.
    pub rounding: f64,
    /// Whether it has weights a layer.
    pub per_layer: bool,
    /// Whether the whole Jacobian is put together in one piece.
    pub gathers: bool,
    /// What workspaces of its steps are for.
    pub purpose: Purpose,
    /// The shared parameters in a row of the Jacobian.
    pub columns: Columns,
    /// All parameters in such a row, for a weighting that looks beside the step; else empty.
    pub all: Columns,
    /// What of the flat parameters is one task's alone and stands in no row.
    pub heads: Vec<(TaskId, Range<usize>)>,
    /// The network's count of changes to what is frozen, as this has it.
    pub freezes: u64,
}

impl Requirements {
    /// Looks at weighting and model; `observes` says that gradients are wanted whatever the weighting needs.
    ///
    /// # Errors
    /// Combinations that cannot work, in words.
    pub fn new(weighting: &dyn Weighting, model: &Model, accumulate: usize, observes: bool) -> Result<Self> {
        let modes = weighting.modes();
        let net = &model.net;
        let claims = weighting.claims();
        let needs = claims.needs;
        let by_gradients = needs > Needs::Losses;
        let columns = Columns::of_shared(net);
        if by_gradients && columns.params.is_empty() && net.params.iter().any(|param| !param.learns) {
            bail!(
                "`weighting`: {} compares gradients of shared parameters; all of this model's are frozen: unfreeze some, or \
                 use a weighting from losses",
                called(weighting)
            );
        }
        if by_gradients && columns.params.is_empty() {
            bail!("`weighting`: {} compares gradients of shared parameters; this model has none", called(weighting));
        }
        if modes.at == At::Representation && !net.meets_at_representation() {
            bail!(
                "`weighting`: at=\"representation\" needs one value through which all tasks' gradients enter shared \
                 parameters; in this model they enter at several, or nothing before it learns"
            );
        }
        let halves = modes.gramian_precision == Precision::Bfloat16;
        if halves && accumulate > 1 {
            bail!(
                "`weighting`: gramian_precision=\"bfloat16\" does not keep gradients, which `accumulate` of {accumulate} \
                 has to add up; use \"float32\""
            );
        }
        let per_layer = modes.per == Per::Layer;
        let gathers = needs == Needs::Jacobian || accumulate > 1;
        let store = match () {
            () if gathers || per_layer => Store::Whole,
            () if halves && half::supported() => Store::Halves,
            () => Store::Within(BUDGET),
        };
        let purpose = match modes.at {
            _ if !by_gradients && !observes => Purpose::Train,
            At::Shared => Purpose::PerTask(store),
            At::Representation => {
                Purpose::Representation { lanes: needs == Needs::Jacobian || net.linear_heads().is_none() }
            }
        };
        let rounding = if matches!(purpose, Purpose::PerTask(Store::Halves)) { HALF } else { SINGLE };
        let all = if claims.validates { Columns::of_all(net) } else { Columns::default() };
        let in_row = |range: &Range<usize>| columns.params.iter().any(|column| column.flat.contains(&range.start));
        let of_a_task = net.learning().into_iter().filter_map(|block| Some((block.task?, block.range)));
        Ok(Self {
            claims,
            at: modes.at,
            rounding,
            per_layer,
            gathers,
            purpose,
            heads: of_a_task.filter(|(_, range)| !in_row(range)).collect(),
            columns,
            all,
            freezes: net.freezes,
        })
    }
}
