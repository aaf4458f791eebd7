//! Vectors that a thread lends and takes back, so that what every step needs again is allocated once.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// A vector that goes back to its thread when it is dropped; the next one of about this length gets its memory.
pub struct Lent<T: Lendable>(Vec<T>);

/// Vectors that nobody uses, by the logarithm of their capacity.
pub type Shelves<T> = RefCell<[Vec<Vec<T>>; SHELVES]>;

/// Longer vectors are not kept.
const SHELVES: usize = 24;

/// Most vectors on a shelf, for those that grew elsewhere and would gather here.
const MOST: usize = 64;

/// What threads lend vectors of.
pub trait Lendable: Copy + Default + 'static {
    /// This thread's.
    fn shelves() -> &'static LocalKey<Shelves<Self>>;
}

macro_rules! lendable {
    ($($type:ty),+) => {
        $(impl Lendable for $type {
            fn shelves() -> &'static LocalKey<Shelves<Self>> {
                thread_local! {
                    static SHELVES_OF_THREAD: Shelves<$type> = const { RefCell::new([const { Vec::new() }; SHELVES]) };
                }
                &SHELVES_OF_THREAD
            }
        })+
    };
}

lendable!(f32, f64, usize, bool);

impl<T: Lendable> Lent<T> {
    /// An empty one with room for so many.
    pub fn with_capacity(count: usize) -> Self {
        // All on this shelf are long enough.
        let shelf = count.max(1).next_power_of_two().ilog2() as usize;
        let take = |shelves: &Shelves<T>| shelves.borrow_mut().get_mut(shelf).and_then(Vec::pop);
        let kept = T::shelves().try_with(take).ok().flatten();
        Self(kept.unwrap_or_else(|| Vec::with_capacity(1 << shelf)))
    }

    /// Emptied, with room for so many.
    pub fn emptied(&mut self, count: usize) -> &mut Vec<T> {
        if self.0.capacity() < count {
            *self = Self::with_capacity(count);
        }
        self.0.clear();
        &mut self.0
    }

    /// So many times the same.
    pub fn filled(value: T, count: usize) -> Self {
        let mut lent = Self::with_capacity(count);
        lent.0.resize(count, value);
        lent
    }

    /// Zeros.
    pub fn zeros(count: usize) -> Self {
        Self::filled(T::default(), count)
    }
}

impl<T: Lendable> Drop for Lent<T> {
    fn drop(&mut self) {
        let mut vector = std::mem::take(&mut self.0);
        if vector.capacity() == 0 {
            return;
        }
        vector.clear();
        let shelf = vector.capacity().ilog2() as usize;
        // At the end of a thread there is nothing to go back to.
        let _ = T::shelves().try_with(|shelves| {
            if let Some(shelf) = shelves.borrow_mut().get_mut(shelf).filter(|shelf| shelf.len() < MOST) {
                shelf.push(vector);
            }
        });
    }
}

impl<T: Lendable> FromIterator<T> for Lent<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items = items.into_iter();
        let (least, most) = items.size_hint();
        let mut lent = Self::with_capacity(most.unwrap_or(least));
        lent.0.extend(items);
        lent
    }
}

impl<T: Lendable> From<&[T]> for Lent<T> {
    fn from(numbers: &[T]) -> Self {
        let mut lent = Self::with_capacity(numbers.len());
        lent.0.extend_from_slice(numbers);
        lent
    }
}

impl<T: Lendable> Default for Lent<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Lendable> Clone for Lent<T> {
    fn clone(&self) -> Self {
        Self::from(&self[..])
    }
}

impl<T: Lendable> Deref for Lent<T> {
    type Target = Vec<T>;

    #[inline(always)]
    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: Lendable> DerefMut for Lent<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<'a, T: Lendable> IntoIterator for &'a Lent<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: Lendable + fmt::Debug> fmt::Debug for Lent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Lendable + PartialEq, O: AsRef<[T]>> PartialEq<O> for Lent<T> {
    fn eq(&self, other: &O) -> bool {
        self.0 == other.as_ref()
    }
}

impl<T: Lendable> AsRef<[T]> for Lent<T> {
    fn as_ref(&self) -> &[T] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_to_the_next_of_about_that_length() {
        let first = Lent::<f64>::filled(7.0, 100);
        let place = first.as_ptr();
        drop(first);
        let second = Lent::<f64>::zeros(120);
        let other = Lent::<f64>::zeros(120);
        assert_eq!(second.as_ptr(), place);
        assert_ne!(other.as_ptr(), place);
        assert_eq!(second, vec![0.0; 120]);
        let few: Lent<f64> = (0..90).map(f64::from).filter(|x| *x > 87.0).collect();
        assert_eq!((few.len(), few.capacity()), (2, 128));
        let mut empty = Lent::<usize>::default();
        assert_eq!(empty.capacity(), 0);
        empty.emptied(5).extend(0..5);
        let place = empty.as_ptr();
        assert!(empty.emptied(8).is_empty() && empty.as_ptr() == place);
    }

    #[test]
    fn what_grew_goes_to_where_it_fits() {
        let mut grown = Lent::<usize>::with_capacity(0);
        grown.extend(0..1000);
        let place = grown.as_ptr();
        let capacity = grown.capacity();
        drop(grown);
        let again = Lent::<usize>::zeros(1 << capacity.ilog2());
        assert_eq!((again.as_ptr(), again.capacity()), (place, capacity));
    }
}
