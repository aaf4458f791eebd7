//! Loops of our own on libtorch's own threads.
//!
//! A second pool of threads beside libtorch's makes both slower: its threads wait actively. libtorch for the CPU runs on
//! GNU OpenMP, whose entry is in the process already; where it is not, loops run on the calling thread.

use std::ffi::{c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::threads::{find, told};

/// Numbers that a loop must touch before several threads pay.
pub const WORTH: usize = 1 << 18;

type Outlined = unsafe extern "C" fn(*mut c_void);

/// The entries of GNU OpenMP.
#[derive(Clone, Copy)]
struct OpenMp {
    parallel: unsafe extern "C" fn(Outlined, *mut c_void, c_uint, c_uint),
    thread: unsafe extern "C" fn() -> c_int,
    threads: unsafe extern "C" fn() -> c_int,
}

fn open_mp() -> Option<OpenMp> {
    static FOUND: OnceLock<Option<OpenMp>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let found = [c"GOMP_parallel", c"omp_get_thread_num", c"omp_get_num_threads"].map(find);
        if found.iter().any(|symbol| symbol.is_null()) {
            return None;
        }
        // SAFETY: these are the signatures of GNU OpenMP's interface, which has not changed since version 4.9.
        unsafe {
            Some(OpenMp {
                parallel: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Outlined, *mut c_void, c_uint, c_uint)>(
                    found[0],
                ),
                thread: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(found[1]),
                threads: std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(found[2]),
            })
        }
    })
}

/// Threads for a loop that touches so many numbers.
pub fn threads(numbers: usize) -> usize {
    match open_mp() {
        Some(_) if numbers >= WORTH => told(),
        _ => 1,
    }
}

struct Job<'a> {
    body: &'a (dyn Fn(usize, Range<usize>) + Sync),
    units: usize,
    open_mp: OpenMp,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

unsafe extern "C" fn outlined(job: *mut c_void) {
    // SAFETY: `split` hands over a job that lives until all threads are through.
    let job = unsafe { &*job.cast::<Job<'_>>() };
    // SAFETY: the functions take nothing and may be called anywhere.
    let (thread, threads) = unsafe { ((job.open_mp.thread)() as usize, ((job.open_mp.threads)() as usize).max(1)) };
    let range = job.units * thread / threads..job.units * (thread + 1) / threads;
    // A panic must not unwind through OpenMP's frames.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.body)(thread, range))) {
        *job.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
    }
}

/// Runs `body(thread, units)` over `0..units`, split between [`threads`] of them; each range is one thread's.
pub fn split(units: usize, numbers: usize, body: &(dyn Fn(usize, Range<usize>) + Sync)) {
    let wanted = threads(numbers).min(units.max(1));
    let open_mp = open_mp();
    let Some(open_mp) = open_mp.filter(|_| wanted > 1) else { return body(0, 0..units) };
    let job = Job { body, units, open_mp, panic: Mutex::new(None) };
    // SAFETY: the call returns when all threads are through with the job, which it only reads.
    unsafe { (open_mp.parallel)(outlined, std::ptr::from_ref(&job).cast_mut().cast(), wanted as c_uint, 0) };
    if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
}

/// A slice that several threads write to, each in places of its own.
#[derive(Debug)]
pub struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: threads only get at it through `Disjoint::part`, whose caller keeps parts apart.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Of a slice.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// No two parts that are in use at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "a part must lie within its slice");
        // SAFETY: within the slice, and by the caller's promise nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_done_once() {
        tch::set_num_threads(2);
        for units in [0, 1, 2, 3, 1000] {
            let mut done = vec![0u8; units];
            let places = Disjoint::new(&mut done);
            split(units, WORTH, &|_, range| {
                // SAFETY: ranges of different threads do not overlap.
                unsafe { places.part(range) }.iter_mut().for_each(|unit| *unit += 1);
            });
            assert!(done.iter().all(|&times| times == 1), "{units}");
        }
    }

    #[test]
    fn libtorch_brings_its_threads() {
        tch::set_num_threads(2);
        assert_eq!(threads(WORTH), 2);
        assert_eq!(threads(WORTH - 1), 1);
        let seen = Mutex::new(Vec::new());
        split(2, WORTH, &|thread, _| seen.lock().unwrap().push(thread));
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1]);
    }

    #[test]
    #[should_panic(expected = "in a thread")]
    fn a_panic_comes_back() {
        tch::set_num_threads(2);
        split(2, WORTH, &|thread, _| assert!(thread == 0, "in a thread"));
    }
}
