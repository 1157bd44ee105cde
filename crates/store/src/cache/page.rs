//! Pages of directories.

use super::statistics::Kind;
use super::{CacheConfig, Held};
use bytes::{BufMut, Bytes, BytesMut};
use meta::Family;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Memory of one entry of a page besides its key and value: two slices.
const SLICES_BYTES: usize = 2 * size_of::<Bytes>();
/// Hashes of pages that were asked for once; each forgets another one.
const SEEN: usize = 8192;
const _: () = assert!(SEEN.is_power_of_two());
/// Pages get one part of so many of a cache's bounds.
const SHARE: usize = 8;

/// What a scan found while its directory had this version, in one buffer of its own.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) version: u64,
    pub(crate) entries: Arc<[(Bytes, Bytes)]>,
    bytes: usize,
}

impl Page {
    pub(crate) fn copy(version: u64, found: &[(Bytes, Bytes)]) -> Page {
        let bytes = found.iter().map(|(key, value)| key.len() + value.len()).sum();
        let mut buffer = BytesMut::with_capacity(bytes);
        let entries = found.iter().map(|(key, value)| {
            buffer.put_slice(key);
            let own_key = buffer.split();
            buffer.put_slice(value);
            (own_key.freeze(), buffer.split().freeze())
        });
        let entries = entries.collect();
        Page { version, entries, bytes: bytes + found.len() * SLICES_BYTES }
    }
}

/// A page with its key.
pub(crate) struct KeptPage {
    key: Box<[u8]>,
    family: Family,
    page: Page,
}

impl Held for Page {
    type Kept = KeptPage;

    fn keep(self, family: Family, key: &[u8]) -> KeptPage {
        KeptPage { key: key.into(), family, page: self }
    }
    fn family(kept: &KeptPage) -> Family {
        kept.family
    }
    fn key(kept: &KeptPage) -> &[u8] {
        &kept.key
    }
    fn give(kept: &KeptPage) -> Page {
        kept.page.clone()
    }
    fn bytes(kept: &KeptPage) -> usize {
        kept.key.len() + kept.page.bytes
    }
    fn entries(kept: &KeptPage) -> usize {
        // An empty one is one, too.
        kept.page.entries.len().max(1)
    }
    fn kind(_: Family) -> Kind {
        Kind::Listing
    }
}

impl CacheConfig {
    /// The bounds of records, and those of pages.
    pub(crate) fn parts(&self) -> (CacheConfig, CacheConfig) {
        let pages = self.share(1, SHARE);
        let (entries, bytes) = (self.entries - pages.entries, self.bytes - pages.bytes);
        (CacheConfig { entries, bytes, eviction: self.eviction }, pages)
    }
}

/// The key of a page: it differs whenever the scan does.
pub(crate) fn page_key(start: &[u8], end: &[u8], limit: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(start.len() + end.len() + 2 * size_of::<u64>());
    for number in [start.len(), limit] {
        key.extend_from_slice(&u64::try_from(number).expect("lengths fit 64 bits").to_be_bytes());
    }
    key.extend_from_slice(start);
    key.extend_from_slice(end);
    key
}

/// Which pages were asked for before, more or less: a fixed table of hashes.
pub(crate) struct Seen(Box<[AtomicU32]>);

impl Seen {
    pub(crate) fn new() -> Seen {
        Seen((0..SEEN).map(|_| AtomicU32::new(0)).collect())
    }

    /// Whether a page of this hash was asked for lately; from now on it was.
    pub(crate) fn again(&self, hash: u64) -> bool {
        let place = usize::try_from(hash & 0xFFFF_FFFF).expect("32 bits fit") & (SEEN - 1);
        let mark = u32::try_from(hash >> 32).expect("the upper half") | 1;
        self.0[place].swap(mark, Ordering::Relaxed) == mark
    }
}
