//! Numbers that go between the host and a device: counted, refused among launches, and kept in places that stay.

use std::cell::Cell as Slot;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use super::real::Cell;
use crate::bail;
use crate::error::Result;

/// Which way numbers go between the host and a device.
#[derive(Debug, Clone, Copy)]
pub(in crate::machine) enum Way {
    /// To the device.
    Sent,
    /// To the host.
    Fetched,
}

thread_local! {
    static CROSSED: Slot<Crossings> = const { Slot::new(Crossings { sent: 0, fetched: 0 }) };
    static LAUNCHING: Slot<bool> = const { Slot::new(false) };
}

/// How often numbers went between the host and devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crossings {
    /// To a device.
    pub sent: u64,
    /// To the host.
    pub fetched: u64,
}

/// How often that was on this thread so far.
pub fn crossings() -> Crossings {
    CROSSED.get()
}

/// Before numbers go; refused among launches.
///
/// # Errors
/// It is among launches.
pub(in crate::machine) fn cross(way: Way) -> Result<()> {
    if LAUNCHING.get() {
        bail!("numbers are {way:?} among launches, which wait for nothing");
    }
    count(way);
    Ok(())
}

fn count(way: Way) {
    let Crossings { sent, fetched } = CROSSED.get();
    CROSSED.set(match way {
        Way::Sent => Crossings { sent: sent + 1, fetched },
        Way::Fetched => Crossings { sent, fetched: fetched + 1 },
    });
}

/// Does what only launches work on a device: no numbers go to it or come from it meanwhile, but constants the first time.
/// So it may be captured, and launched again without the host.
///
/// # Errors
/// Numbers that go all the same; what the work returns.
pub fn launching<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    let _before = Before(LAUNCHING.replace(true));
    work()
}

/// Does what may wait for a device, even among launches: code of the caller's own.
///
/// # Errors
/// What the work returns.
pub fn waiting<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    let _before = Before(LAUNCHING.replace(false));
    work()
}

/// Whether only launches were allowed before.
struct Before(bool);

impl Drop for Before {
    fn drop(&mut self) {
        LAUNCHING.set(self.0);
    }
}

/// Numbers of the host as a new tensor of a device, `[count]`.
///
/// # Errors
/// What libtorch refuses.
pub fn send<T: Cell>(numbers: &[T], device: Device) -> Result<Tensor> {
    cross(Way::Sent)?;
    Ok(Tensor::f_from_slice(numbers)?.f_to_device(device)?)
}

/// A tensor of numbers that never change, which is sent once to each device.
struct Constant {
    numbers: Vec<u64>,
    tensor: Tensor,
}

/// Numbers that never change as a tensor of a kind on a device, `[count]`; it is made the first time that anybody asks for
/// these numbers. Nobody may write to it.
///
/// # Errors
/// What libtorch refuses.
pub fn constant(numbers: &[f64], kind: Kind, device: Device) -> Result<Tensor> {
    static KNOWN: LazyLock<Mutex<HashMap<u64, Vec<Constant>>>> = LazyLock::new(Mutex::default);
    let bits = || numbers.iter().map(|number| number.to_bits());
    let mut hasher = DefaultHasher::new();
    bits().for_each(|number| number.hash(&mut hasher));
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let alike = known.entry(hasher.finish()).or_default();
    let is = |of: &&Constant| {
        (of.tensor.kind(), of.tensor.device()) == (kind, device) && of.numbers.iter().copied().eq(bits())
    };
    if let Some(of) = alike.iter().find(is) {
        return Ok(of.tensor.shallow_clone());
    }
    count(Way::Sent);
    let tensor = Tensor::f_from_slice(numbers)?.f_to_kind(kind)?.f_to_device(device)?;
    alike.push(Constant { numbers: bits().collect(), tensor: tensor.shallow_clone() });
    Ok(tensor)
}

/// Numbers of the host that change between launches, in a tensor that stays where it is, so that what is launched again
/// reads what was sent last.
#[derive(Debug, Default)]
pub struct Placed(Mutex<Option<(Vec<f64>, Tensor)>>);

impl Placed {
    /// The tensor `[count]` of `f64` that holds these numbers, which are sent if it does not yet.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn holding(&self, numbers: &[f64], device: Device) -> Result<Tensor> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some((known, tensor)) if known.len() == numbers.len() && tensor.device() == device => {
                if !known.iter().map(|x| x.to_bits()).eq(numbers.iter().map(|x| x.to_bits())) {
                    cross(Way::Sent)?;
                    tensor.f_copy_(&Tensor::f_from_slice(numbers)?)?;
                    known.copy_from_slice(numbers);
                }
                Ok(tensor.shallow_clone())
            }
            held => {
                let tensor = send(numbers, device)?;
                *held = Some((numbers.to_vec(), tensor.shallow_clone()));
                Ok(tensor)
            }
        }
    }

    /// What it holds.
    ///
    /// # Errors
    /// Nothing yet.
    pub fn held(&self) -> Result<Tensor> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((_, tensor)) => Ok(tensor.shallow_clone()),
            None => bail!("nothing was sent before it is launched with"),
        }
    }
}

/// A copy has a place of its own, once it needs one.
impl Clone for Placed {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// What it holds follows from numbers elsewhere.
impl PartialEq for Placed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A tensor's numbers, fetched from wherever it is.
///
/// # Errors
/// What libtorch refuses.
pub fn fetch<T: Cell>(tensor: &Tensor) -> Result<Vec<T>> {
    cross(Way::Fetched)?;
    let host = tensor.f_detach()?.f_to_kind(T::KIND)?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut numbers = vec![T::ZERO; host.numel()];
    host.f_copy_data(&mut numbers, host.numel())?;
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::super::buffer::Layout;
    use super::super::storage::{Backend, Storage};
    use super::*;

    #[test]
    fn what_crosses_is_counted_and_refused_among_launches() {
        let mut memory = Storage::<f64>::zeros(Layout::flat(2), Backend::Formulas(Device::Cpu)).unwrap();
        let before = crossings();
        let crossed = || (crossings().sent - before.sent, crossings().fetched - before.fetched);
        memory.put(0, &[3.0, 4.0]).unwrap();
        assert_eq!((memory.add_squares(0..2, 0.0).unwrap(), crossed()), (25.0, (1, 1)));
        let refused = launching(|| Ok([memory.put(0, &[1.0]).is_err(), memory.all().is_err()])).unwrap();
        assert_eq!((refused, crossed()), ([true; 2], (1, 1)));
        assert!(launching(|| waiting(|| memory.put(0, &[3.0]))).is_ok() && crossed() == (2, 1));
        assert!(launching::<()>(|| crate::bail!("work that fails")).is_err());
        // Afterwards all is as before, and a constant goes once, whoever asks for it.
        let of = |numbers: &[f64], kind| launching(|| constant(numbers, kind, Device::Cpu)).unwrap();
        for _ in 0..3 {
            assert_eq!(fetch::<i64>(&of(&[7.0, 123.0], Kind::Int64)).unwrap(), [7, 123]);
            assert_eq!(fetch::<f64>(&of(&[7.0, 123.0], Kind::Double)).unwrap(), [7.0, 123.0]);
            assert_eq!(fetch::<f64>(&of(&[7.0, -123.0], Kind::Double)).unwrap(), [7.0, -123.0]);
        }
        assert_eq!(crossed(), (2 + 3, 1 + 9));
        let mut host = Storage::<f64>::zeros(Layout::flat(2), Backend::Loops).unwrap();
        launching(|| host.put(0, &[1.0])).unwrap();
        assert_eq!(crossed(), (5, 10));
    }

    #[test]
    fn what_changes_stays_in_its_place() {
        let placed = Placed::default();
        let before = crossings().sent;
        let first = placed.holding(&[1.0, 2.0], Device::Cpu).unwrap();
        let again = launching(|| placed.holding(&[1.0, 2.0], Device::Cpu)).unwrap();
        assert!(launching(|| placed.holding(&[1.0, 3.0], Device::Cpu)).is_err());
        assert_eq!((first.data_ptr(), crossings().sent - before), (again.data_ptr(), 1));
        let changed = placed.holding(&[5.0, f64::NAN], Device::Cpu).unwrap();
        assert_eq!((first.data_ptr(), crossings().sent - before), (changed.data_ptr(), 2));
        assert_eq!(fetch::<f64>(&first).unwrap()[0], 5.0);
        drop(launching(|| placed.holding(&[5.0, f64::NAN], Device::Cpu)).unwrap());
        let copy = placed.clone().holding(&[5.0, f64::NAN], Device::Cpu).unwrap();
        assert_ne!(first.data_ptr(), copy.data_ptr());
    }
}
