//! A model at work lends itself to code of the caller's own that it runs, in the thread in which it runs it.

use std::cell::RefCell;

use super::Model;

thread_local! {
    /// The models that this thread lends, the last first to come back.
    static LENT: RefCell<Vec<*const Model>> = const { RefCell::new(Vec::new()) };
}

/// Ends a loan, however the work ends.
struct Loan;

impl Drop for Loan {
    fn drop(&mut self) {
        LENT.with_borrow_mut(Vec::pop);
    }
}

impl Model {
    /// Does some work, during which this thread may read the model through [`Model::borrowed`].
    pub(crate) fn lend<V>(&self, work: impl FnOnce() -> V) -> V {
        LENT.with_borrow_mut(|lent| lent.push(self));
        let _loan = Loan;
        work()
    }

    /// Reads the model at an address, if this thread lends it just now: it computes with the parameters it has, and stays as it
    /// is.
    pub fn borrowed<V>(address: usize, read: impl FnOnce(&Self) -> V) -> Option<V> {
        let lent = LENT.with_borrow(|lent| lent.iter().copied().find(|model| model.addr() == address))?;
        // SAFETY: it is in the list, so `lend` is on this thread's stack with a shared borrow of it, and does not return before
        // `read` does.
        Some(read(unsafe { &*lent }))
    }
}
