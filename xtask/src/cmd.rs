//! The commands, one file each.

pub mod bench;
pub mod bench_long;
pub mod demo;
pub mod fuzz;
pub mod lint;
pub mod nightly;
pub mod sim;
pub mod test;
pub mod tidy;
