//! Hard sharing: one encoder for all tasks.

use super::Sharing;
use crate::encoder::Encoder;
use crate::error::Result;
use crate::network::ValueId;
use crate::network::builder::Builder;

crate::component! {
    /// Hard parameter sharing (Caruana, ICML 1993; Machine Learning 28, 1997): one encoder, one head per task.
    pub struct Hard = "Hard" {}
}

impl Sharing for Hard {
    fn build(&self, net: &mut Builder, x: ValueId, encoder: &dyn Encoder, tasks: usize) -> Result<Vec<ValueId>> {
        let representation = encoder.build(net, &["encoder".to_owned()], x)?;
        Ok(vec![representation; tasks])
    }
}
