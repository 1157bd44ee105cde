//! The wire: messages and services of the official contract, of our own services, and conversions to `types`.
//!
//! Is:     generated code, re-exported under short names, and the conversions between messages and our words.
//! Owns:   the `.proto` files and the quirks of the official wire.
//! Never:  talks to anybody.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

#[allow(clippy::all, missing_docs, nonstandard_style)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/all.rs"));
}

mod calls;
pub mod convert;

pub use calls::{Calls, Unary};

/// Shared types of the official contract.
pub use generated::com::qcloud::cos::goosefs::grpc;
/// Option messages the official contract shares.
pub use generated::com::qcloud::cos::goosefs::proto as shared;
/// Between our workers and masters.
pub use generated::goosefs::internal::v1 as internal;
/// Our own services: for operators, and for what the official contract sends one by one.
pub use generated::goosefs::v1 as admin;
