//! How many threads the loops of a call may use, and how long the threads of this process waited for a processor.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Threads that loops on the calling thread may use, as libtorch was told.
pub fn told() -> usize {
    tch::get_num_threads().max(1) as usize
}

/// A number of threads for loops on the calling thread, until this goes; then it is what it was.
///
/// libtorch keeps the number it was told for the process, and OpenMP and MKL theirs for each thread. Only the latter two are
/// touched, so that other threads, and threads that begin meanwhile, have what libtorch was told.
#[derive(Debug)]
pub struct Held {
    told: usize,
    now: usize,
    /// What MKL had been told for this thread; 0 for nothing.
    mkl: Option<c_int>,
    /// The numbers belong to the thread.
    _here: PhantomData<*const ()>,
}

impl Held {
    /// Lets loops use so many threads.
    pub fn new(count: usize) -> Self {
        let told = told();
        let mut held = Self { told, now: told, mkl: None, _here: PhantomData };
        held.set(count);
        held
    }

    /// Lets them use another number.
    pub fn set(&mut self, count: usize) {
        if count == self.now {
            return;
        }
        self.now = count;
        match own() {
            Some(own) => {
                let before = own.set(count as c_int, count as c_int);
                self.mkl = self.mkl.or(before);
            }
            None => tch::set_num_threads(count as i32),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match own() {
            Some(own) => {
                if let Some(before) = self.mkl {
                    own.set(self.told as c_int, before);
                }
            }
            None if self.now != self.told => tch::set_num_threads(self.told as i32),
            None => {}
        }
    }
}

/// Lets loops on the calling thread use so many threads from now on, where the thread has a number of its own.
pub fn keep(count: usize) {
    if own().is_some() {
        std::mem::forget(Held::new(count));
    }
}

/// The entries of OpenMP and MKL that set a thread's own number.
#[derive(Clone, Copy)]
struct Own {
    open_mp: unsafe extern "C" fn(c_int),
    /// Gives what it was before.
    mkl: Option<unsafe extern "C" fn(c_int) -> c_int>,
}

impl Own {
    /// Gives what MKL had been told before; 0 where there is no MKL.
    fn set(self, open_mp: c_int, mkl: c_int) -> Option<c_int> {
        // SAFETY: the functions take any number and may be called by any thread.
        unsafe {
            (self.open_mp)(open_mp);
            Some(self.mkl.map_or(0, |set| set(mkl)))
        }
    }
}

/// None where libtorch has to be told, for want of these entries.
fn own() -> Option<Own> {
    static FOUND: OnceLock<Option<Own>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let open_mp = find(c"omp_set_num_threads");
        let mkl = find(c"MKL_Set_Num_Threads_Local");
        // MKL's names in small letters are Fortran's, which take addresses.
        // libtorch for x86 multiplies by MKL, which would go on with what it was told.
        if open_mp.is_null() || (mkl.is_null() && cfg!(target_arch = "x86_64")) {
            return None;
        }
        // SAFETY: these are the signatures of OpenMP's and of MKL's function of the name.
        unsafe {
            Some(Own {
                open_mp: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int)>(open_mp),
                mkl: (!mkl.is_null())
                    .then(|| std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> c_int>(mkl)),
            })
        }
    })
}

/// A function of libtorch's library or of what came with it; null if there is none.
#[cfg(target_os = "linux")]
pub(super) fn find(name: &CStr) -> *mut c_void {
    unsafe extern "C" {
        fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
        fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    }
    const LAZY: c_int = 1;
    const LOADED_ALREADY: c_int = 4;
    // SAFETY: names end in 0. Nothing is loaded: a library that is not there gives a null handle, and that asks for the symbol
    // among all that the process has loaded globally.
    unsafe { dlsym(dlopen(c"libtorch_cpu.so".as_ptr(), LAZY | LOADED_ALREADY), name.as_ptr()) }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn find(_: &CStr) -> *mut c_void {
    std::ptr::null_mut()
}

/// Seconds so far that threads of this process were ready to run and had no processor, and that a virtual machine had none.
/// None where the system does not say.
pub fn waited() -> Option<f64> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        // A thread may have ended since.
        let said = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).unwrap_or_default();
        nanoseconds += said.split(' ').nth(1).and_then(|field| field.parse().ok()).unwrap_or(0.0);
    }
    let of_all = std::fs::read_to_string("/proc/stat").ok()?;
    // The eighth number of the first line, in hundredths of a second.
    let stolen = of_all.split_whitespace().nth(8).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Some(nanoseconds / 1e9 + stolen / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_held_and_put_back() {
        std::thread::spawn(|| {
            // A thread asks the process for its number once, at first.
            told();
            tch::set_num_threads(3);
            {
                let mut held = Held::new(1);
                assert_eq!(told(), 1);
                held.set(2);
                assert_eq!(told(), 2);
                held.set(3);
                assert_eq!(told(), 3);
                held.set(2);
            }
            assert_eq!(told(), 3);
        })
        .join()
        .unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_number_is_kept_by_its_thread() {
        std::thread::spawn(|| {
            told();
            tch::set_num_threads(2);
            keep(1);
            assert!(told() == 1 && std::thread::spawn(told).join().unwrap() > 1);
        })
        .join()
        .unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn other_threads_have_what_they_had() {
        std::thread::spawn(|| {
            told();
            tch::set_num_threads(2);
            let _held = Held::new(1);
            // Other tests may tell libtorch another number meanwhile, but none tells it one.
            assert!(told() == 1 && std::thread::spawn(told).join().unwrap() > 1);
        })
        .join()
        .unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_has_no_processor_waits() {
        let before = waited().expect("Linux says");
        let threads = 4 * std::thread::available_parallelism().unwrap().get();
        let spin = || {
            let start = std::time::Instant::now();
            while start.elapsed().as_secs_f64() < 0.2 {
                std::hint::spin_loop();
            }
            waited()
        };
        let most = std::thread::scope(|scope| {
            let each: Vec<_> = (0..threads).map(|_| scope.spawn(spin)).collect();
            each.into_iter().filter_map(|thread| thread.join().unwrap()).fold(0.0, f64::max)
        });
        assert!(most - before > 0.1, "{} s", most - before);
    }
}
