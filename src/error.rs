//! The crate's one error type.

/// What can go wrong; the Python border turns each kind into one exception.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that is not acceptable: names the argument, what was expected and what came.
    #[error("{0}")]
    Value(String),
    /// A value of the wrong type: names the argument, what was expected and what came.
    #[error("{0}")]
    Type(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] tch::TchError),
    /// The caller asked to stop; the model is as after its last complete step.
    #[error("interrupted")]
    Interrupted,
    /// Code of the caller (a loss, a callback) failed.
    #[error("{0}")]
    Foreign(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The same, said of a file.
    pub fn within(self, file: &str) -> Self {
        match self {
            Self::Value(what) => Self::Value(format!("{file}: {what}")),
            Self::Type(what) => Self::Type(format!("{file}: {what}")),
            other => other,
        }
    }
}

/// A number in a message: one of many digits by the first and their count.
pub fn brief(x: f64) -> String {
    if x.is_finite() && x.abs() >= 1e16 { format!("{x:e}") } else { x.to_string() }
}

/// libtorch appends C++ frames to its messages; people need the first line.
fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// An [`Error::Value`] from format arguments.
#[macro_export]
macro_rules! value_error {
    ($($arg:tt)*) => { $crate::error::Error::Value(format!($($arg)*)) };
}

/// Returns an [`Error::Value`] from format arguments.
#[macro_export]
macro_rules! bail {
    ($($arg:tt)*) => { return Err($crate::value_error!($($arg)*)) };
}
