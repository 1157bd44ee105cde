//! What leaves to make room.

mod epoch;
mod lrfu;
mod lru;
mod order;
mod plan;
mod policy;
mod s3fifo;
#[cfg(test)]
mod tests;
mod uses;

pub use plan::{Move, plan, plan_ahead};
pub use policy::Eviction;
pub(crate) use policy::{Gone, Policy};
