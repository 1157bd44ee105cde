//! The master: owns the namespace, the log, block locations and the duties of the leader.
//!
//! Is:     a sans-IO core ([`core::Core`]: events in, actions out) and a thin driver of threads, sockets and timers.
//! Owns:   which request becomes which log entry, what the leader does about intents, persists, loads and workers.
//! Never:  moves block data; lets an acknowledgement leave before its entry is durable and applied.

mod audits;
mod backup;
mod census;
mod compaction;
mod config;
pub mod core;
mod driver;
mod error;
mod format;
mod fsck;
mod holds;
mod install;
mod locations;
mod metrics;
mod pauses;
mod peers;
mod read_journal;
mod record_file;
mod registry;
mod repair;
#[cfg(feature = "test-support")]
pub mod rig;
mod room;
mod server;
mod shared;
mod skipped;
mod stores;
mod uploads;
mod uses;
mod waits;
mod web;
mod wire;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: testkit::fuzz::Metered = testkit::fuzz::Metered;

pub use backup::{Restored, format_from_backup};
pub use config::{GroupConfig, MasterConfig, Metastore};
pub use core::{ExpiryConfig, WalkConfig};
pub use error::Error;
pub use format::{format, format_to_join};
pub use fsck::{Altered, AlteredRecord, Finding, Fsck};
pub use read_journal::{JournalFilter, JournalLine, read_journal};
pub use repair::{RepairedMetastore, repair_metastore};
pub use server::{Ended, Master};
pub use store::{CacheConfig, Eviction};
