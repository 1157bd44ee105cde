//! What the stores know about keys: which families have a prefix, and where the applied index stands.

use bytes::Bytes;
use meta::{Change, Changes, Family, StoreError};
use types::LogIndex;

/// Length of the inode id that edges and loads begin with.
pub(crate) const PREFIX_BYTES: usize = 8;

/// Under this key of [`Family::State`] every commit leaves its index: a version byte, then the index, big endian.
pub const APPLIED_KEY: &[u8] = b"applied";
const APPLIED_VERSION: u8 = 1;

/// Whether the store writes this record by itself: it belongs to one database and its log, and is no part of the state.
pub fn is_own(family: Family, key: &[u8]) -> bool {
    (family == Family::State && key == APPLIED_KEY) || crate::live::is_derived(family, key)
}

/// Whether the family's keys begin with a directory's inode id.
pub(crate) fn is_prefixed(family: Family) -> bool {
    match family {
        Family::Edges | Family::Loads => true,
        Family::State
        | Family::Inodes
        | Family::Containers
        | Family::Operations
        | Family::Mounts
        | Family::Intents
        | Family::Detached
        | Family::Persists
        | Family::Workers
        | Family::Incomplete => false,
    }
}

/// The first eight bytes of `start`, if all keys in `[start, end)` begin with them.
pub(crate) fn common_prefix(start: &[u8], end: &[u8]) -> Option<u64> {
    let prefix = u64::from_be_bytes(*start.first_chunk::<PREFIX_BYTES>()?);
    let stays_below = match prefix.checked_add(1) {
        Some(next) => end <= next.to_be_bytes().as_slice(),
        None => true,
    };
    stays_below.then_some(prefix)
}

pub(crate) fn encode_applied(index: LogIndex) -> Bytes {
    let mut value = Vec::with_capacity(1 + size_of::<u64>());
    value.push(APPLIED_VERSION);
    value.extend_from_slice(&index.0.to_be_bytes());
    value.into()
}

/// Errors: `Corrupt` unless it is exactly what [`encode_applied`] wrote.
pub(crate) fn decode_applied(value: &[u8]) -> Result<LogIndex, StoreError> {
    match value.split_first() {
        Some((&APPLIED_VERSION, index)) => index.try_into().ok().map(|index| LogIndex(u64::from_be_bytes(index))),
        Some(_) | None => None,
    }
    .ok_or_else(|| crate::error::damaged(format_args!("the applied index of the database reads {value:02x?}")))
}

/// What both stores demand of a commit: our callers' promise, so broken only by our own bug.
pub(crate) fn assert_commit(changes: &Changes, applied: LogIndex) {
    assert!(changes.applied >= applied, "commit {} after {applied}", changes.applied);
    let is_ours = |change: &Change| change.family == Family::State && change.key == APPLIED_KEY;
    assert!(!changes.changes.iter().any(is_ours), "the applied index is written by the store alone");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_prefix_only_if_all_its_keys_do() {
        let id = |id: u64| id.to_be_bytes().to_vec();
        let named = |raw: u64, name: &str| [&id(raw)[..], name.as_bytes()].concat();
        assert_eq!(common_prefix(&id(7), &id(8)), Some(7));
        assert_eq!(common_prefix(&named(7, "a"), &named(7, "b")), Some(7));
        assert_eq!(common_prefix(&named(7, "a"), &named(8, "")), Some(7));
        assert_eq!(common_prefix(&id(7), &named(8, "a")), None);
        assert_eq!(common_prefix(&id(255), &[0, 0, 0, 0, 0, 0, 1]), Some(255));
        assert_eq!(common_prefix(&id(u64::MAX), &[255; 20]), Some(u64::MAX));
        assert_eq!(common_prefix(b"", &id(1)), None);
    }

    #[test]
    fn the_applied_index_leads_back_and_nothing_else_is_taken_for_it() {
        assert_eq!(&encode_applied(LogIndex(258))[..], [1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(decode_applied(&encode_applied(LogIndex(u64::MAX))).expect("just written"), LogIndex(u64::MAX));
        for bad in [&b""[..], &[1, 0], &[2, 0, 0, 0, 0, 0, 0, 0, 1], &[1; 10]] {
            assert_eq!(decode_applied(bad).expect_err("not ours").kind, types::ErrorKind::Corrupt);
        }
    }
}
