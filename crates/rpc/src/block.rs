//! Block streams under the contract's gRPC method names, without tonic: tonic copies every message it sends and every
//! one it receives, and takes a client's reset for an orderly end, which a write must not.
//!
//! Is:     the 5-byte frames of gRPC over an HTTP/2 body, both ways.
//! Owns:   [`Requests`], messages from a client; [`BlockBody`], chunks to one.
//! Never:  copies a chunk on its way out, or holds more of it than the channel's capacity.

mod body;
mod requests;

pub use body::{BlockBody, BlockFeed, BlockSender, ClientGone, MAX_CHUNK_BYTES};
pub use requests::Requests;
