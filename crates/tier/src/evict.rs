//! What leaves to make room.

mod lru;
mod plan;
mod policy;

pub use lru::Lru;
pub use plan::{Move, plan, plan_ahead};
pub use policy::{Policy, Slot};
