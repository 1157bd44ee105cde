//! Whole clusters: real processes, a real S3 server, kill −9.

mod connected;
mod faults;
mod kill9;
mod kill_apart;
mod object_store;
#[allow(dead_code)] // other programs use the rest of it
mod support;
