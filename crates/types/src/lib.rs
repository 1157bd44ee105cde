//! The words every crate speaks: ids, names and paths, principals and rights, write types, times, error kinds.
//!
//! Is:     plain values with checked constructors.
//! Owns:   nothing.
//! Never:  does IO, reads a clock, knows a wire format or a database.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod clock;
mod error;
mod fingerprint;
#[cfg(test)]
mod fuzz;
mod id;
mod path;
mod patience;
mod policy;
mod principal;
mod secret;
mod time;
mod timings;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: testkit::fuzz::Metered = testkit::fuzz::Metered;

pub use clock::{Clock, Entropy};
pub use error::{ErrorKind, remedy, sentence};
pub use fingerprint::Fingerprint;
pub use id::{
    Attempt, BlockId, ClusterId, ContainerId, DirIndex, FileId, Incarnation, InodeId, IntentId, LoadId, LogIndex,
    MountId, OperationId, Ordinal, SessionEpoch, Term, WorkerId,
};
pub use path::{GfsPath, MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES, Name, PathError};
pub use patience::Patience;
pub use policy::{ChecksumKind, LoadMetadata, PersistenceState, ReadPolicy, WriteType};
pub use principal::{Mode, Principal, Proof, Right};
pub use secret::Secret;
pub use time::{AgeMs, Monotonic, UnixMs};
pub use timings::Timings;
