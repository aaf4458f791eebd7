//! Memory on any device: slices for loops where it is the host's, tensors for formulas everywhere.

use std::borrow::Cow;
use std::cell::Cell as Slot;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{LazyLock, Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::bail;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout, as_i64, check_view, strides};
use crate::machine::real::{Cell, Real};

/// Where numbers are, and so how they are computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// In the host's memory: by loops; by libtorch's autograd where a component has none.
    Loops,
    /// On a device, by formulas alone. The processor is one too, which is how formulas are tried where there is no other.
    Formulas(Device),
}

impl Backend {
    /// Of a device's name: `cpu`, which means the one given for it, or `cuda` with a number; for tests also `loops` and
    /// `formulas`, on the processor.
    ///
    /// # Errors
    /// Another name; a device that libtorch does not find.
    pub fn of_device(name: &str, processor: Self) -> Result<Self> {
        let number = name.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or("0").parse::<usize>());
        match (name, number) {
            ("cpu", _) => Ok(processor),
            ("loops", _) => Ok(Self::Loops),
            ("formulas", _) => Ok(Self::Formulas(Device::Cpu)),
            (_, Some(Ok(number))) => match usize::try_from(tch::Cuda::device_count()) {
                Ok(count) if number < count => Ok(Self::Formulas(Device::Cuda(number))),
                Ok(count) if count > 0 => bail!("`device`: there is no {name:?}; torch finds {count} CUDA devices"),
                _ => bail!("`device`: there is no {name:?}; torch finds no CUDA device here"),
            },
            _ => bail!("`device` should be \"cpu\" or \"cuda\", with a number or without; got {name:?}"),
        }
    }

    /// The name of its device.
    pub fn device(self) -> String {
        match self {
            Self::Formulas(Device::Cuda(number)) => format!("cuda:{number}"),
            Self::Loops | Self::Formulas(_) => "cpu".to_owned(),
        }
    }

    /// Whether it works in the processor's memory.
    pub fn on_processor(self) -> bool {
        matches!(self, Self::Loops | Self::Formulas(Device::Cpu))
    }

    /// What the environment variable `POLYTASK_BACKEND` asks for, which is for tests: `formulas`, on the processor.
    pub fn asked() -> Self {
        static ASKED: LazyLock<bool> =
            LazyLock::new(|| std::env::var_os("POLYTASK_BACKEND").is_some_and(|name| name == "formulas"));
        if *ASKED { Self::Formulas(Device::Cpu) } else { Self::Loops }
    }
}

/// A tensor of a device with a layout. There is no slice of it, whatever the device.
#[derive(Debug)]
pub struct Away<T> {
    memory: Tensor,
    base: usize,
    layout: Layout,
    of: PhantomData<T>,
}

// SAFETY: there is no address here, only a tensor, whose handles libtorch counts atomically; who writes has the model, or the
// plan whose memory it is, to itself.
unsafe impl<T: Cell> Sync for Away<T> {}

/// Memory of the host or of a device. Only what is the host's gives slices.
#[derive(Debug)]
pub enum Storage<T> {
    /// For loops, and for formulas.
    Host(Buffer<T>),
    /// For formulas alone.
    Away(Away<T>),
}

impl<T: Cell> Away<T> {
    fn zeros(layout: Layout, device: Device) -> Result<Self> {
        let memory = Tensor::f_zeros([layout.len() as i64], (T::KIND, device))?;
        Ok(Self { memory, base: 0, layout, of: PhantomData })
    }

    fn part(&self, offset: usize, layout: Layout) -> Result<Self> {
        if offset.saturating_add(layout.len()) > self.layout.len() {
            bail!("a part of {layout:?} at {offset} leaves its memory of {} elements", self.layout.len());
        }
        Ok(Self { base: self.base + offset, layout, ..self.share() })
    }

    fn share(&self) -> Self {
        Self { memory: self.memory.shallow_clone(), ..*self }
    }

    fn view(&self, shape: &[usize], strides: &[usize], offset: usize) -> Result<Tensor> {
        check_view(shape, strides, offset, self.layout.len())?;
        Ok(self.memory.f_as_strided(as_i64(shape), as_i64(strides), (self.base + offset) as i64)?)
    }

    fn range(&self, range: &Range<usize>) -> Result<Tensor> {
        check_view(&[range.len()], &[1], range.start, self.layout.len())?;
        Ok(self.memory.f_narrow(0, (self.base + range.start) as i64, range.len() as i64)?)
    }
}

impl<T: Cell> Storage<T> {
    /// New memory, zeroed.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn zeros(layout: Layout, backend: Backend) -> Result<Self> {
        Ok(match backend {
            Backend::Loops => Self::Host(Buffer::zeros(layout)?),
            Backend::Formulas(device) => Self::Away(Away::zeros(layout, device)?),
        })
    }

    /// New flat memory with these numbers.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn of(numbers: &[T], backend: Backend) -> Result<Self> {
        let mut new = Self::zeros(Layout::flat(numbers.len()), backend)?;
        new.put(0, numbers)?;
        Ok(new)
    }

    /// New memory like this, zeroed.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn alike(&self) -> Result<Self> {
        Self::zeros(self.layout(), self.backend())
    }

    /// The same numbers for another backend. On the processor the memory stays the same, on another device it is new.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(crate) fn seen_by(&self, backend: Backend) -> Result<Self> {
        match (self, backend) {
            (Self::Host(buffer), Backend::Loops) => Ok(Self::Host(buffer.share())),
            (Self::Host(buffer), Backend::Formulas(Device::Cpu)) => {
                let memory = buffer.shaped(&[buffer.layout.len()])?;
                Ok(Self::Away(Away { memory, base: 0, layout: buffer.layout, of: PhantomData }))
            }
            _ => {
                let mut new = Self::zeros(self.layout(), backend)?;
                new.put(0, &self.numbers(0..self.layout().len())?)?;
                Ok(new)
            }
        }
    }

    /// Where it is.
    pub fn backend(&self) -> Backend {
        match self {
            Self::Host(_) => Backend::Loops,
            Self::Away(away) => Backend::Formulas(away.memory.device()),
        }
    }

    /// How it is laid out.
    pub fn layout(&self) -> Layout {
        match self {
            Self::Host(buffer) => buffer.layout,
            Self::Away(away) => away.layout,
        }
    }

    /// What loops work on, if it is the host's.
    pub fn host(&self) -> Option<&Buffer<T>> {
        match self {
            Self::Host(buffer) => Some(buffer),
            Self::Away(_) => None,
        }
    }

    /// The same, to write.
    pub fn host_mut(&mut self) -> Option<&mut Buffer<T>> {
        match self {
            Self::Host(buffer) => Some(buffer),
            Self::Away(_) => None,
        }
    }

    /// Another handle on the same memory.
    pub(crate) fn share(&self) -> Self {
        match self {
            Self::Host(buffer) => Self::Host(buffer.share()),
            Self::Away(away) => Self::Away(away.share()),
        }
    }

    /// Another handle on `layout.len()` elements of this memory, `offset` elements in.
    pub(crate) fn part(&self, offset: usize, layout: Layout) -> Result<Self> {
        Ok(match self {
            Self::Host(buffer) => Self::Host(buffer.part(offset, layout)?),
            Self::Away(away) => Self::Away(away.part(offset, layout)?),
        })
    }

    /// A tensor of the given shape and strides (in elements) over this memory, `offset` elements in.
    pub(crate) fn view(&self, shape: &[usize], strides: &[usize], offset: usize) -> Result<Tensor> {
        match self {
            Self::Host(buffer) => buffer.view(shape, strides, offset),
            Self::Away(away) => away.view(shape, strides, offset),
        }
    }

    /// A contiguous tensor of the given shape over the whole memory.
    pub(crate) fn shaped(&self, shape: &[usize]) -> Result<Tensor> {
        self.view(shape, &strides(shape), 0)
    }

    /// Some elements as a tensor `[count]`, which writes where it lies.
    pub(crate) fn range(&self, range: &Range<usize>) -> Result<Tensor> {
        match self {
            Self::Host(buffer) => buffer.view(&[range.len()], &[1], range.start),
            Self::Away(away) => away.range(range),
        }
    }

    /// Some elements for the host to read: where they are, or fetched from the device.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn numbers(&self, range: Range<usize>) -> Result<Cow<'_, [T]>> {
        match self {
            Self::Host(buffer) => Ok(Cow::Borrowed(&buffer.slice()[range])),
            Self::Away(away) => Ok(Cow::Owned(fetch(&away.range(&range)?)?)),
        }
    }

    /// All elements for the host to read.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn all(&self) -> Result<Cow<'_, [T]>> {
        self.numbers(0..self.layout().len())
    }

    /// Writes numbers of the host, from an element on.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn put(&mut self, start: usize, numbers: &[T]) -> Result<()> {
        match self {
            Self::Host(buffer) => buffer.slice_mut()[start..start + numbers.len()].copy_from_slice(numbers),
            // An input without columns has nothing to send.
            Self::Away(_) if numbers.is_empty() => {}
            Self::Away(away) => {
                cross(Way::Sent)?;
                away.range(&(start..start + numbers.len()))?.f_copy_(&Tensor::from_slice(numbers))?;
            }
        }
        Ok(())
    }

    /// Takes over the numbers of other memory of the same length.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn copy_from(&mut self, other: &Self) -> Result<()> {
        match (self, other) {
            (Self::Host(to), Self::Host(from)) => to.slice_mut().copy_from_slice(from.slice()),
            (to, from) => {
                let all = 0..to.layout().len();
                to.range(&all)?.f_copy_(&from.range(&all)?)?;
            }
        }
        Ok(())
    }

    /// Makes some elements zero.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn clear(&mut self, range: Range<usize>) -> Result<()> {
        match self {
            Self::Host(buffer) => buffer.slice_mut()[range].fill(T::ZERO),
            Self::Away(away) => drop(away.range(&range)?.f_zero_()?),
        }
        Ok(())
    }

    /// Makes all elements zero.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn clear_all(&mut self) -> Result<()> {
        self.clear(0..self.layout().len())
    }
}

impl<T: Real> Storage<T> {
    /// Adds numbers of the host to the first elements.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add(&mut self, numbers: &[T]) -> Result<()> {
        match self {
            Self::Host(buffer) => buffer.slice_mut().iter_mut().zip(numbers).for_each(|(x, &by)| *x += by),
            Self::Away(away) => {
                let by = send(numbers, away.memory.device())?;
                let _ = away.range(&(0..numbers.len()))?.f_add_(&by)?;
            }
        }
        Ok(())
    }

    /// Multiplies some elements.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn scale(&mut self, range: Range<usize>, factor: T) -> Result<()> {
        match self {
            Self::Host(buffer) => buffer.slice_mut()[range].iter_mut().for_each(|x| *x = *x * factor),
            Self::Away(away) => drop(away.range(&range)?.f_mul_scalar_(factor.wide())?),
        }
        Ok(())
    }

    /// Adds the squares of some elements to `sum`, in double precision.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub fn add_squares(&self, range: Range<usize>, sum: f64) -> Result<f64> {
        match self {
            Self::Host(buffer) => Ok(buffer.slice()[range].iter().fold(sum, |sum, &x| sum + x.wide().powi(2))),
            Self::Away(away) => Ok(sum + fetch::<f64>(&square_sum(&away.range(&range)?)?)?[0]),
        }
    }
}

/// The sum of the squares of a tensor's numbers, in double precision, without dimensions.
///
/// # Errors
/// What libtorch refuses.
pub fn square_sum(numbers: &Tensor) -> Result<Tensor> {
    Ok(numbers.f_to_kind(Kind::Double)?.f_square()?.f_sum(Kind::Double)?)
}

/// Which way numbers go between the host and a device.
#[derive(Debug, Clone, Copy)]
enum Way {
    Sent,
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
fn cross(way: Way) -> Result<()> {
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
    use super::*;

    #[test]
    fn the_host_and_a_device_do_the_same() {
        for backend in [Backend::Loops, Backend::Formulas(Device::Cpu)] {
            let mut memory = Storage::<f32>::of(&[1.0, 2.0, 3.0, 4.0], backend).unwrap();
            memory.scale(1..3, -2.0).unwrap();
            memory.clear(3..4).unwrap();
            memory.add(&[0.5]).unwrap();
            assert_eq!(memory.numbers(0..2).unwrap(), &[1.5, -4.0][..], "{backend:?}");
            memory.part(0, Layout::flat(2)).unwrap().put(0, &[9.0]).unwrap();
            assert_eq!(memory.all().unwrap(), &[9.0, -4.0, -6.0, 0.0][..], "{backend:?}");
            assert_eq!((memory.add_squares(1..3, 1.0).unwrap(), memory.backend()), (53.0, backend));
            let mut copy = Storage::zeros(Layout::flat(4), backend).unwrap();
            copy.copy_from(&memory).unwrap();
            memory.clear_all().unwrap();
            assert_eq!(copy.numbers(1..3).unwrap(), &[-4.0, -6.0][..]);
            assert!(memory.part(3, Layout::flat(2)).is_err() && memory.part(usize::MAX, Layout::flat(2)).is_err());
            let part = memory.part(1, Layout::flat(2)).unwrap();
            assert!(part.range(&(1..2)).is_ok() && part.range(&(1..3)).is_err());
            assert!(part.view(&[2], &[1], 0).is_ok() && part.view(&[2], &[1], 1).is_err());
            assert!(part.view(&[2, 1], &[2, 1], 0).is_err() && part.view(&[1], &[1], usize::MAX).is_err());
            assert_eq!(memory.host().is_some(), backend == Backend::Loops);
        }
    }

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

    #[test]
    fn a_device_that_is_the_processor_sees_the_memory_of_the_host() {
        let mut host = Storage::<f64>::of(&[1.0, 2.0], Backend::Loops).unwrap();
        let away = host.seen_by(Backend::Formulas(Device::Cpu)).unwrap();
        host.put(1, &[5.0]).unwrap();
        assert_eq!(away.all().unwrap(), &[1.0, 5.0][..]);
    }
}
