//! Sharing schemes: which parameters serve which task.
