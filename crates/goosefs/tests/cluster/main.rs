//! Whole clusters: real processes, a real S3 server, kill −9.

mod kill9;
mod object_store;
mod support;
