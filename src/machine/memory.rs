//! Memory too large for caches: huge pages for it, and rows fetched before they are needed; and how much was taken.

use std::cell::Cell;
use std::ffi::c_void;

/// Bytes from which memory is worth huge pages.
const LARGE: usize = 64 << 20;

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// Bytes of buffers that this thread has made so far, whoever has them now.
pub(crate) fn taken() -> usize {
    TAKEN.get()
}

/// Takes notice of a buffer.
pub(crate) fn take(bytes: usize) {
    TAKEN.set(TAKEN.get().wrapping_add(bytes));
}

/// Asks the system for huge pages behind large memory, so that rows all over it do not miss the page tables too. Best
/// before the memory is first touched.
#[cfg(target_os = "linux")]
pub(crate) fn huge_pages<T>(memory: *mut T, count: usize) {
    unsafe extern "C" {
        fn madvise(address: *mut c_void, length: usize, advice: i32) -> i32;
    }
    const HUGE: i32 = 14;
    const PAGE: usize = 4096;
    let start = memory as usize;
    let end = memory as usize + count * size_of::<T>();
    let first = start.next_multiple_of(PAGE);
    let last = end - end % PAGE;
    if end - start >= LARGE {
        // SAFETY: whole pages of the caller's own memory, whose contents this advice does not change. Where it is refused,
        // pages stay small.
        unsafe { madvise(first as *mut c_void, last - first, HUGE) };
    }
}

/// Asks the system for huge pages behind large memory, where it has them.
#[cfg(not(target_os = "linux"))]
pub(crate) fn huge_pages<T>(memory: *mut T, count: usize) {
    let _ = (memory.cast::<c_void>(), count >= LARGE);
}

/// Equal numbers, in huge pages if there are many; zeros take no memory before they are written to.
pub fn filled(value: f32, count: usize) -> Vec<f32> {
    let mut numbers = vec![0.0; count];
    huge_pages(numbers.as_mut_ptr(), count);
    if value != 0.0 {
        numbers.fill(value);
    }
    numbers
}

/// Begins to load row `code` of a table into the cache; a code without a row is nothing.
#[inline(always)]
pub fn fetch<T>(table: &[T], code: u32, width: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(row) = table.get(code as usize * width..(code as usize + 1) * width) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let step = 64 / size_of::<T>();
        for k in (0..width).step_by(step) {
            // SAFETY: an address inside of the row; a prefetch has no effect but on caches.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().add(k).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (table, code, width);
}
