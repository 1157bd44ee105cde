//! Backups of the metadata: written while the cluster serves, read when a new one begins from it (docs/design/0010-backup.md).

mod archive;
mod restore;
mod write;

#[cfg(test)]
mod tests;

pub use restore::{Restored, format_from_backup};
pub use write::{Backups, Destination};
