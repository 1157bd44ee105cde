//! The worker: keeps blocks on its disks, serves and stores them, fetches what is missing from under stores.
//!
//! Is:     one role: the official BlockWorker service, a link to the masters, a loop that decides.
//! Owns:   the block store, the memory budget of data in flight, who may read what for how long.
//! Never:  trusts a client's word about a store, a length or a write type; serves a byte whose checksum fails.
//! See:    `docs/design/0006-worker-store.md`, `docs/formats/blocks.md`.

mod assembly;
mod budget;
mod config;
mod core;
mod dial;
mod driver;
mod error;
mod fetch;
mod grpc;
mod master_link;
mod metrics;
mod mounts;
mod peers;
mod persist;
mod read;
mod recent;
mod report;
mod resolve;
#[cfg(feature = "test-support")]
pub mod rig;
mod store;
mod web;
mod worker;
mod write;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: testkit::fuzz::Metered = testkit::fuzz::Metered;

pub use config::{DirectoryConfig, WorkerConfig};
pub use error::WorkerError;
pub use metrics::Metrics;
pub use store::io::memory::{Fault, MemoryIo, On};
pub use store::io::real::RealIo;
pub use store::io::{BlockFile, BlockIo, DirectoryLock, Found, Space};
pub use tier::{Allocator, Eviction, Medium, Permille, Volatile, Watermarks};
pub use worker::{Env, Worker};
