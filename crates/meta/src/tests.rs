//! Histories over a plain map. Only [`world`] knows how entries are stamped and applied.

mod audit;
mod batches;
mod expiry;
mod fake_store;
mod files;
mod fuzz;
mod golden;
mod intents;
mod loads;
mod model;
mod mounts;
mod names;
mod operations;
mod permissions;
mod persists;
mod reads;
mod workers;
mod world;
