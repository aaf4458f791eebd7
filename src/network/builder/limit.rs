//! How large a network may become: sizes are added up before anything is allocated for them.

use crate::error::Error;
use crate::value_error;

/// How large a network may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Numbers in all parameters and state.
    pub numbers: usize,
    /// Whether that is what a file holds; else it is an argument.
    pub of_file: bool,
}

impl Default for Limit {
    fn default() -> Self {
        Self { numbers: Self::NUMBERS, of_file: false }
    }
}

impl Limit {
    /// Numbers of the largest model that is built unless another limit is given: 32 GiB of `f32`.
    pub const NUMBERS: usize = 1 << 33;
    /// Names of the largest model: of its parameters, or of its experts, branches and tasks.
    pub(super) const NAMES: usize = 1 << 20;

    pub(super) fn error(self) -> Error {
        let Self { numbers, of_file } = self;
        if of_file {
            return value_error!("the model that the description asks for is larger than the file's {numbers} numbers");
        }
        value_error!(
            "the model would have more than {numbers} parameters: make its layers, inputs or categories smaller, or \
             `max_parameters` larger"
        )
    }
}
