//! The official Rust clients, as users install them, against real processes: the crate `goosefs-sdk` and OpenDAL's
//! GooseFS service, every operation they offer.

mod opendal_service;
mod sdk;
#[allow(dead_code)] // the program it belongs to uses all of it
#[path = "../cluster/support.rs"]
mod support;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use support::Local;
use testkit::data::Data;

/// Block size of most files here: several blocks cost little.
const BLOCK: u64 = 64 << 10;
/// Lengths around a block's edges, and one of several blocks.
const SIZES: [u64; 6] = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17];
/// Names a path may hold that look like syntax somewhere.
const NAMES: [&str; 7] = [
    "with space",
    "ünïcödé",
    "日本語 と 🪿",
    "a+b&c=d%20#?;'\"",
    "..dots..",
    "~tilde!@$^*()[]{}|<>`",
    ".hidden,colon:back\\slash",
];

/// A cluster that tests running at the same time share; each works in a directory of its own. Its state goes when the
/// last of them ends.
struct Shared {
    local: Local,
    _dir: tempfile::TempDir,
}

fn shared() -> Arc<Shared> {
    static RUNNING: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = running.upgrade() {
        return shared;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let shared = Arc::new(Shared { local: Local::start(dir.path()), _dir: dir });
    *running = Arc::downgrade(&shared);
    shared
}

/// The first `bytes` bytes of a file made from `seed`.
fn content(seed: u64, bytes: u64) -> Vec<u8> {
    Data::new(seed).bytes(0, usize::try_from(bytes).expect("it fits into memory")).to_vec()
}
