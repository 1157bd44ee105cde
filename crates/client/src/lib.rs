//! Access to a GooseFS cluster: the one read path and the one write path.
//!
//! Is:     metadata calls that survive a change of leader, readers and writers over blocks on workers.
//! Owns:   connections, the worker list and its ring, operation ids and deadlines.
//! Never:  keeps data or metadata of files beyond a call, talks to an under store, prints.

mod config;
mod error;
mod file_system;
mod link;
mod master;
mod op;
mod read;
mod status;
mod transport;
mod way;
mod workers;
mod write;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: testkit::fuzz::Metered = testkit::fuzz::Metered;

pub use config::{Auth, ClientConfig};
pub use error::Error;
pub use file_system::FileSystem;
pub use op::batch::ForPath;
pub use op::cluster::{LostStorage, MetricValue, Mount};
pub use op::free::Free;
pub use op::load::{Held, Loaded};
pub use op::make_directory::MakeDirectory;
pub use op::namespace::{NamespaceChange, NewNamespace};
pub use op::remove::Remove;
pub use op::set_attributes::SetAttributes;
pub use op::status::Freshness;
pub use proto::admin::{
    AuditFinding, AuditMetadataResponse as AuditReport, BackupResponse as Backup, MasterInfoResponse as MasterInfo,
    MetadataReportResponse as MetadataReport, Namespace, QuarantinedFile, SkippedKeysResponse as SkippedKeys,
};
pub use read::Reader;
pub use status::{BlockStatus, FileStatus, Location, WorkerState, WorkerStatus};
pub use way::Way;
pub use write::{WriteOptions, Writer};

/// What calls of this crate give back.
pub type Result<T> = std::result::Result<T, Error>;
