//! Memory on any device: slices for loops where it is the host's, tensors for formulas everywhere.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::LazyLock;

use tch::{Device, Kind, Tensor};

use crate::bail;
use crate::error::Result;
use crate::machine::buffer::{Buffer, Layout, as_i64, check_view, strides};
use crate::machine::crossing::{Way, cross, fetch, send};
use crate::machine::memory;
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
        memory::take(layout.len() * size_of::<T>());
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
    fn a_device_that_is_the_processor_sees_the_memory_of_the_host() {
        let mut host = Storage::<f64>::of(&[1.0, 2.0], Backend::Loops).unwrap();
        let away = host.seen_by(Backend::Formulas(Device::Cpu)).unwrap();
        host.put(1, &[5.0]).unwrap();
        assert_eq!(away.all().unwrap(), &[1.0, 5.0][..]);
    }
}
