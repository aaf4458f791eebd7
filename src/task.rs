//! A task: its name, loss, labels and weight.
