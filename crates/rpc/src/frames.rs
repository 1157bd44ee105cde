//! Frames: calls of our own clients without HTTP, many at once on one connection.
//!
//! Is:     the protocol of `docs/design/0015-frames.md`: calls with one message and one answer, and notes without one, over a
//!         byte stream.
//! Owns:   the form of frames, who is at the other end of a connection, calls under way and their bounds.
//! Never:  knows what a method does; decides what a call may.

mod client;
mod server;
pub mod wire;

pub use client::{Frames, Watch};
pub use server::FrameService;
pub(crate) use server::serve;
pub(crate) use wire::PREFACE;

/// Versions of the protocol that this release speaks.
const OLDEST: u32 = 1;
const NEWEST: u32 = 1;
/// Calls under way on one connection. A client holds further ones back, a server reads no more until one has ended.
pub const MAX_CALLS: usize = 1024;
