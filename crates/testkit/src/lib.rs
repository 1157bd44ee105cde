//! What tests, the demo and the benches stand on: an S3 server, a proxy that injects faults, a slow line, child processes, ports,
//! network namespaces, reproducible bytes, and the one way to wait.
//!
//! Is:     real servers and real processes under a test's control.
//! Owns:   whatever it started: a dropped handle leaves no process, port or thread behind.
//! Never:  part of the product; knows nothing of GooseFS.

mod background;
mod chance;
pub mod damage;
pub mod data;
mod eventually;
pub mod fuzz;
pub mod line;
pub mod mounts;
pub mod netns;
pub mod ports;
pub mod process;
pub mod proxy;
mod rounds;
pub mod s3;

pub use chance::Chance;
pub use eventually::{TimedOut, Verdict, eventually, eventually_async, try_eventually, try_eventually_async};
pub use rounds::rounds;
