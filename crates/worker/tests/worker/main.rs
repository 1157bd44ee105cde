//! A whole worker over real sockets, with a master that a test controls and under stores in memory.

mod client;
mod cluster;
mod master;

mod link;
mod persist;
mod read;
mod store_write;
mod write;
