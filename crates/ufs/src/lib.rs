//! Under stores: where the data of a namespace finally rest.
//!
//! Is:     one trait, [`UnderStore`], over a local directory, S3-compatible stores, COS and memory; one wrapper,
//!         [`Layered`], that adds timeouts, retries, concurrency limits and metrics to any of them.
//! Owns:   the connections to a store, its unfinished writes, its cursors of half-read listings.
//! Never:  caches data or metadata, decides what a namespace shows, prints a credential, or takes a failure for an
//!         empty answer.

mod capability;
#[cfg(feature = "test-support")]
pub mod conformance;
mod error;
#[cfg(feature = "test-support")]
pub mod fault;
mod key;
mod layered;
mod local;
mod memory;
mod object;
mod open;
mod property;
mod read_only;
mod store;
mod uri;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: testkit::fuzz::Metered = testkit::fuzz::Metered;

pub use capability::{Capabilities, Precision};
pub use error::{Failure, UfsError, Verb};
pub use key::{Key, KeyError, RESERVED_PREFIX};
pub use layered::{BUCKET_COUNT, LATENCY_BOUNDS_US, LayerOptions, Layered, Metrics, VerbCounts};
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use object::{CosOptions, Credential, ObjectStore, PART_BYTES_MIN, S3Options};
pub use open::open;
pub use property::{Property, is_secret, known_properties};
pub use read_only::ReadOnly;
pub use store::{
    Attributes, Condition, LIST_LIMIT_MAX, ObjectInfo, ObjectKind, Page, PageToken, ReadStream, Removal,
    SKIPPED_SAMPLES, Skipped, SkippedKey, UnderStore, WriteOptions, Writer,
};
pub use uri::{Scheme, StoreUri};
