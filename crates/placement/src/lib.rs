//! Chooses workers for a block by consistent hashing, with the official clients' hash.
//!
//! Is:     a pure function from (block, ring) to an ordered list of workers.
//! Owns:   nothing; the ring belongs to the caller.
//! Never:  talks to a worker, reads a clock, remembers an earlier answer.
//! Source: Karger et al., 1997, <https://doi.org/10.1145/258533.258660>

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod hash;
mod ring;

pub use ring::{MAX_ATTEMPTS, Member, Ring, VIRTUAL_NODES};
