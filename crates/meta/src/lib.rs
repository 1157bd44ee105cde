//! The namespace: a deterministic state machine over a key-value store, and the reads that users see.
//!
//! Is:     pure code. Same state and same entry give the same outcome, on every replica and in every replay.
//! Owns:   the meaning of every record and every log entry.
//! Never:  does IO of its own, reads a clock, draws a random number, waits. It reads through [`Read`] and writes into
//!         [`Changes`], which the caller commits together with the applied index.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod audit;
mod effect;
mod entry;
mod index;
mod invariants;
mod key;
mod namespace;
mod op;
mod permission;
mod read;
mod record;
mod reject;
mod step;
mod store;
mod txn;
mod uses;
mod walk;

#[cfg(test)]
mod tests;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: testkit::fuzz::Metered = testkit::fuzz::Metered;

#[cfg(any(test, feature = "test-support"))]
pub use audit::plant;
pub use audit::{Audit, Fault, Place};
pub use effect::{Applied, Done, Effect};
pub use entry::*;
pub use key::{
    COUNTERS_KEY, LEFT_OUT_KEY, ROOT, ROOT_MOUNT, container_key, edge_key, edge_range, inode_key, intent_key,
    mount_key, operation_key, worker_key,
};
pub use namespace::{Mended, Namespace};
pub use op::close_stream::{check_reaches_store, reaches_store};
pub use permission::{Authority, Caller};
pub use read::*;
pub use record::*;
pub use reject::Reject;
pub use store::{Change, Changes, Family, FamilyUsage, MemoryStore, Read, Store, StoreError, Usage};
pub use txn::{KEYS_END, after as key_after, for_each_between};
pub use uses::{USE_WORDS, UsePlace, UsedSince, is_as_loaded, uses};
pub use walk::{INNER_WRITE_TYPE, Resolved, Spot, resolve};
