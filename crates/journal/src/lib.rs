//! The replicated log: what is acknowledged was fsynced on a majority, in one order, under one leader.
//!
//! Is:     [`Node`], a sans-IO consensus member over raft-rs; [`SegmentLog`], its log on preallocated files;
//!         [`LogWriter`], the thread that gives a batch one fdatasync; [`disk`], the few calls they need from a disk.
//! Owns:   the log directory, the term, the vote, the lease of the leader.
//! Never:  lets a type of raft-rs out; looks into an entry's payload; applies anything; opens a socket.
//!
//! ```text
//!  propose ─▶ Node ── AppendBatch ─▶ LogWriter ─▶ SegmentLog ─▶ Disk
//!              ▲ │                      │ one fdatasync
//!  step, tick ─┘ │◀─── persisted(seq) ──┘
//!                └─▶ Output: committed, reads, messages, role
//! ```
//! Why it is built so: `docs/design/0001-journal.md`. Byte layouts: `docs/formats/journal.md`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod disk;
mod entry;
mod error;
mod log;
mod membership;
mod node;
mod segment;
mod writer;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: testkit::fuzz::Metered = testkit::fuzz::Metered;

pub use entry::{AppendBatch, BatchSeq, Cut, EntryKind, HardState, LogEntry, MemberId, Recovered, TermRuns};
pub use error::Error;
pub use log::{JournalLog, LogReader, MemLog, conformance};
pub use membership::{Change, Membership, Seat};
pub use node::{
    Boot, Committed, Follower, MAX_VOTERS, Node, NodeConfig, Outgoing, Output, Refused, Role, RoleChange, SnapshotMark,
    SnapshotOffer,
};
pub use segment::{LogHead, NewStart, SegmentLog, SegmentOptions, StoredBatch, head, look};
pub use writer::{LogWriter, Pen, WriterStats};
