//! The one door through which Python runs the core: without the GIL, without panics, errors as Python's own.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error::{Error, Result};
use crate::machine::threads;
use crate::model::Model;

/// Runs a core call without the GIL, and outside of torch's inference mode, whose tensors nobody may write to later: memory
/// made in a call is kept for the next.
pub fn run<R: Send>(py: Python<'_>, call: impl FnOnce() -> Result<R> + Send) -> PyResult<R> {
    static ENABLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if !ENABLED.import(py, "torch", "is_inference_mode_enabled")?.call0()?.is_truthy()? {
        return run_as_it_is(py, call);
    }
    let left = py.import("torch")?.call_method1("inference_mode", (false,))?;
    left.call_method0("__enter__")?;
    let done = run_as_it_is(py, call);
    left.call_method1("__exit__", (py.None(), py.None(), py.None()))?;
    done
}

fn run_as_it_is<R: Send>(py: Python<'_>, call: impl FnOnce() -> Result<R> + Send) -> PyResult<R> {
    match py.detach(|| catch_unwind(AssertUnwindSafe(call))) {
        Ok(done) => done.map_err(exception),
        Err(panic) => {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(PyRuntimeError::new_err(format!("a defect in polytask, please report it: {what}")))
        }
    }
}

/// A model that trainers share: several threads may read it side by side, one may change it.
pub struct Shared {
    model: RwLock<Box<Model>>,
    /// Of the model, which stays in its box.
    address: usize,
    /// Held by who changes the model, and by who waits for its readers in order to.
    changes: Mutex<()>,
}

impl Shared {
    /// Of a model that nobody else has.
    pub fn new(model: Model) -> Self {
        let model = Box::new(model);
        let address = (&raw const *model).addr();
        Self { model: RwLock::new(model), address, changes: Mutex::new(()) }
    }
}

/// Time between two looks at signals.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether a Ctrl-C waits for a moment at which nothing is half done.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Says whether a Ctrl-C waits, so that loops of the core look for it.
#[pyfunction]
pub fn interrupted(waits: bool) {
    INTERRUPTED.store(waits, Ordering::Relaxed);
}

/// Lets what the calling thread computes use so many threads from now on.
#[pyfunction]
pub fn keep_threads(count: usize) {
    threads::keep(count);
}

/// Lets Python's signal handlers run, and a Ctrl-C that waits end the call.
pub fn look(py: Python<'_>) -> PyResult<()> {
    py.check_signals()?;
    if INTERRUPTED.load(Ordering::Relaxed) {
        // Only Python knows whether it is meant for this thread.
        py.import("polytask.process.interrupts")?.call_method0("look")?;
    }
    Ok(())
}

/// A look for loops over batches, at most every 50 ms.
pub fn looks() -> impl FnMut() -> Result<()> {
    let mut looked = Instant::now();
    move || {
        if looked.elapsed() < PAUSE {
            return Ok(());
        }
        looked = Instant::now();
        Python::attach(look).map_err(foreign)
    }
}

/// The Python exception of an error.
pub fn exception(error: Error) -> PyErr {
    match error {
        Error::Value(what) => PyValueError::new_err(what),
        Error::Type(what) => PyTypeError::new_err(what),
        Error::File { path, source } => match source.raw_os_error() {
            // With a number Python chooses the subclass: FileNotFoundError, PermissionError ...
            Some(number) => PyOSError::new_err((number, reason(&source), path)),
            None => PyOSError::new_err(format!("{path}: {source}")),
        },
        error @ Error::Torch(_) => PyRuntimeError::new_err(error.to_string()),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        Error::Foreign(error) => match error.downcast::<PyErr>() {
            Ok(own) => *own,
            Err(other) => PyRuntimeError::new_err(other.to_string()),
        },
    }
}

/// What the operating system says, without the number that Python adds itself.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A Python error on its way through the core.
pub fn foreign(error: PyErr) -> Error {
    Error::Foreign(Box::new(error))
}

thread_local! {
    /// Models that this thread reads.
    static READS: RefCell<Vec<*const Shared>> = const { RefCell::new(Vec::new()) };
}

/// A model that is read, by this thread and perhaps by others.
pub struct Reading<'a> {
    model: RwLockReadGuard<'a, Box<Model>>,
    of: *const Shared,
}

impl std::ops::Deref for Reading<'_> {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.model
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        READS.with_borrow_mut(|reads| {
            if let Some(at) = reads.iter().rposition(|&of| of == self.of) {
                reads.swap_remove(at);
            }
        });
    }
}

/// A model that is changed; others have to do without it.
pub struct Changing<'a> {
    model: RwLockWriteGuard<'a, Box<Model>>,
    _alone: MutexGuard<'a, ()>,
}

impl std::ops::Deref for Changing<'_> {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.model
    }
}

impl std::ops::DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut Model {
        &mut self.model
    }
}

/// Reads a model, beside other threads that read it; while it is trained or changed it is busy, but for code of the caller's
/// own that this very call runs: such code sees the model as it is before the step.
pub fn look_into<V>(shared: &Shared, read: impl FnOnce(&Model) -> Result<V>) -> Result<V> {
    match self::read(shared) {
        Ok(reading) => read(&reading),
        Err(busy) => Model::borrowed(shared.address, read).unwrap_or(Err(busy)),
    }
}

/// A model to read, beside other threads that read it; while it is trained or changed it is busy.
fn read(shared: &Shared) -> Result<Reading<'_>> {
    let model = match shared.model.try_read() {
        Ok(model) => model,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => {
            return Err(crate::value_error!(
                "the model is busy: another call is still running, which trains, evaluates or changes it"
            ));
        }
    };
    let of = std::ptr::from_ref(shared);
    READS.with_borrow_mut(|reads| reads.push(of));
    Ok(Reading { model, of })
}

/// A model to train or change: waits for threads that read it, who come back soon, but for no other and not for itself.
pub fn write(shared: &Shared) -> Result<Changing<'_>> {
    // Held until the end, so that nobody waits for a training; and before the readers, who would wait for themselves.
    let alone = lock(&shared.changes, "model")?;
    if READS.with_borrow(|reads| reads.contains(&std::ptr::from_ref(shared))) {
        return Err(busy("model"));
    }
    Ok(Changing { model: shared.model.write().unwrap_or_else(PoisonError::into_inner), _alone: alone })
}

/// Takes a lock that nobody waits for: who calls back into a busy object gets an error instead of a deadlock.
pub fn lock<'a, T>(mutex: &'a Mutex<T>, what: &str) -> Result<MutexGuard<'a, T>> {
    match mutex.try_lock() {
        Ok(guard) => Ok(guard),
        // Every call leaves what it locks in a state that can be used.
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => Err(busy(what)),
    }
}

fn busy(what: &str) -> Error {
    crate::value_error!("the {what} is busy: another call is still running")
}
