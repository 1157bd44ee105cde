//! What a worker's cache holds, where the next block goes, and what leaves to make room.
//!
//! Is:     values in, values out: directories with their bytes, blocks with their class, plans of what to evict.
//! Owns:   the accounting of space and the order of eviction; the presence map of a block's pieces.
//! Never:  does IO, reads a clock, draws a random number. Recency is the order of calls.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod allocate;
mod directory;
mod error;
mod evict;
mod presence;
mod tiers;

pub use allocate::Allocator;
pub use directory::{Directory, DirectorySpec, Medium, Permille, Volatile, Watermarks};
pub use error::Full;
pub use evict::{Eviction, Move, plan, plan_ahead};
pub use presence::{MAX_PIECES, PIECE_BYTES, Presence, piece_count, piece_of};
pub use tiers::{Class, Held, Placed, Settings, Stage, Tiers};
