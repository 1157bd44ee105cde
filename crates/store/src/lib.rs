//! Where metadata live: two databases behind [`meta::Store`], and the way readers look at them while one writer applies.
//!
//! Is:     [`RocksStore`] on disk, [`HeapStore`] in memory with the same crash rules, and [`Published`] in front of
//!         either: consistent reads without waiting for a batch, a clean cache of records and pages, and which containers
//!         live.
//! Owns:   the files of the database directory, the memory of its caches, the versions readers check.
//! Never:  looks into a record, decides what to write, keeps a log of its own (the journal is the log).

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod cache;
mod durable;
mod error;
mod heap;
mod key;
mod live;
mod marker;
mod mix;
mod published;
mod rocks;

#[cfg(any(test, feature = "test-support"))]
pub mod conformance;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: testkit::fuzz::Metered = testkit::fuzz::Metered;

pub use cache::{CacheConfig, CacheStatistics, Eviction, KindStatistics, Lru, Policy, Random, S3Fifo};
pub use heap::{DirDisk, HeapDisk, HeapStore, MemoryDisk};
pub use key::{APPLIED_KEY, is_own};
pub use live::{forget_live, live_drift};
pub use published::{Latest, Published, PublishedStatistics, Tracked};
pub use rocks::{Compression, Filter, Gap, Repaired, RocksConfig, RocksStore, Tables};
