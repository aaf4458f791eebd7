//! What stands between the mathematics and the processor: memory, products, loops, threads, numbers at random.

pub mod buffer;
pub mod crossing;
pub mod draws;
pub mod foreign;
pub mod gram;
pub mod half;
pub mod lent;
pub mod level;
pub mod memory;
pub mod parallel;
pub mod product;
pub mod random;
pub mod real;
pub mod rows;
pub mod small;
pub mod storage;
pub mod threads;
