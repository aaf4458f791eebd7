//! Which vectors of the processor our own loops use: said once, and the only place that chooses by it.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::bail;
use crate::error::Result;

/// What loops are compiled for; each level has all instructions of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What every processor of the kind has.
    None,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 with byte, word, double word and short vectors.
    Avx512,
    /// AVX-512 that multiplies bfloat16 numbers too.
    Avx512Bf16,
}

impl Level {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::None, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// As [`VARIABLE`] has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512_bf16",
        }
    }

    /// The highest that this processor has.
    pub fn of_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            macro_rules! has {
                ($($feature:tt),*) => { true $(&& std::arch::is_x86_feature_detected!($feature))* };
            }
            let avx2 = has!("avx2", "fma", "bmi1", "bmi2", "lzcnt", "popcnt", "fxsr");
            let avx512 = avx2 && has!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl");
            if avx512 && has!("avx512bf16") {
                return Self::Avx512Bf16;
            }
            if avx512 {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
        }
        Self::None
    }

    /// The highest that loops may use: the processor's, or less where [`VARIABLE`] says so.
    pub fn of_process() -> Result<Self> {
        let most = Self::of_processor();
        let Some(given) = std::env::var_os(VARIABLE) else { return Ok(most) };
        let Some(cap) = Self::ALL.into_iter().find(|level| given == level.name()) else {
            let names = Self::ALL.map(|level| format!("{:?}", level.name())).join(", ");
            bail!("`{VARIABLE}` should be one of {names}; got {given:?}");
        };
        Ok(cap.min(most))
    }
}

/// The environment variable that caps the level, for tests of what other processors run. It is read once.
pub const VARIABLE: &str = "POLYTASK_LEVEL";

/// 1 + the level; 0 before it was first asked for.
static CURRENT: AtomicU8 = AtomicU8::new(0);

/// The level at which loops run.
#[inline(always)]
pub fn level() -> Level {
    match CURRENT.load(Ordering::Relaxed) {
        1 => Level::None,
        2 => Level::Avx2,
        3 => Level::Avx512,
        4 => Level::Avx512Bf16,
        _ => first(),
    }
}

#[cold]
#[inline(never)]
fn first() -> Level {
    // Python asks before anything else, and makes an exception of it.
    let level = Level::of_process().unwrap_or_else(|error| panic!("{error}"));
    CURRENT.store(1 + level as u8, Ordering::Relaxed);
    level
}

/// Lets all loops of the process run at another level, if the processor has it: for tests that compare levels.
#[doc(hidden)]
pub fn switch(to: Level) {
    CURRENT.store(1 + to.min(Level::of_processor()) as u8, Ordering::Relaxed);
}

/// The level for loops that are written in `pulp`'s vectors.
#[inline(always)]
pub fn vectors() -> pulp::Arch {
    #[cfg(target_arch = "x86_64")]
    {
        match level() {
            Level::None => pulp::Arch::Scalar,
            // SAFETY: the processor has the level's instructions, which are those that the vectors ask for.
            Level::Avx2 => pulp::Arch::V3(unsafe { pulp::x86::V3::new_unchecked() }),
            // SAFETY: as above.
            Level::Avx512 | Level::Avx512Bf16 => pulp::Arch::V4(unsafe { pulp::x86::V4::new_unchecked() }),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    pulp::Arch::new()
}

crate::vectorised! {
/// Runs loops that come with what they work on; their `call` must be inlined.
pub fn run<L: pulp::NullaryFnOnce>(loops: L) -> L::Output {
    loops.call()
}
}

/// Compiles a function of loops for AVX-512 and AVX2 too, and chooses by the [`level`].
///
/// Loops belong into such functions as they are: a closure in them may be compiled on its own, without wide vectors. Each
/// argument is a name, or a pattern in brackets; generics are types with one bound each, or a type and a constant.
#[macro_export]
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$T:ident: $bound:path, const $N:ident: usize> $($rest:tt)*) => {
        $crate::vectorised!(@ [$(#[$meta])* $vis] $name [$T: $bound, const $N: usize] [$T, $N] $($rest)*);
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$($T:ident: $bound:path),+> $($rest:tt)*) => {
        $crate::vectorised!(@ [$(#[$meta])* $vis] $name [$($T: $bound),+] [$($T),+] $($rest)*);
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident $($rest:tt)*) => {
        $crate::vectorised!(@ [$(#[$meta])* $vis] $name [] [] $($rest)*);
    };
    (@ [$($before:tt)*] $name:ident [$($generics:tt)*] [$($used:tt)*]
        ($($argument:tt: $type:ty),* $(,)?) $(-> $output:ty)? $body:block) => {
        // What is expanded within `unsafe` are names of arguments and types.
        #[allow(clippy::macro_metavars_in_unsafe)]
        $($before)* fn $name<$($generics)*>($($argument: $type),*) $(-> $output)? {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::machine::level::Level;
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                fn avx2<$($generics)*>($($argument: $type),*) $(-> $output)? $body
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
                #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
                fn avx512<$($generics)*>($($argument: $type),*) $(-> $output)? $body
                // Apart from what chooses, which would have to make room for its variables first.
                #[inline(never)]
                fn none<$($generics)*>($($argument: $type),*) $(-> $output)? $body
                match $crate::machine::level::level() {
                    Level::None => none::<$($used)*>($($argument),*),
                    // SAFETY: the processor has the level's instructions.
                    Level::Avx2 => unsafe { avx2::<$($used)*>($($argument),*) },
                    // SAFETY: as above.
                    Level::Avx512 | Level::Avx512Bf16 => unsafe { avx512::<$($used)*>($($argument),*) },
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            $body
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_standard_library_and_of_pulp() {
        let most = Level::of_processor();
        assert_eq!(Level::ALL.map(|level| level as u8), [0, 1, 2, 3]);
        #[cfg(target_arch = "x86_64")]
        {
            assert_eq!(most >= Level::Avx2, pulp::x86::V3::is_available());
            assert_eq!(most >= Level::Avx512, pulp::x86::V4::is_available());
            assert_eq!(most == Level::Avx512Bf16, std::arch::is_x86_feature_detected!("avx512bf16"));
        }
        assert!(level() <= most && Level::of_process().unwrap() == level());
    }
}
