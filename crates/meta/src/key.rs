//! Keys of the records: fixed-width big-endian numbers, so that key order is number order, and names as they are.

use crate::store::StoreError;
use bytes::Bytes;
use types::{AgeMs, ContainerId, ErrorKind, InodeId, IntentId, MountId, Name, OperationId, WorkerId};

/// The inode of `/`.
pub const ROOT: InodeId = InodeId(1);
/// Where the edge of `/` stands: below an inode that never exists, with an empty name.
pub(crate) const ABOVE_ROOT: InodeId = InodeId(0);
/// The mount of `/`.
pub const ROOT_MOUNT: MountId = MountId(1);
/// The record with the counters, in [`crate::Family::State`].
pub const COUNTERS_KEY: &[u8] = b"counters";
/// The record of containers that were left out, in [`crate::Family::State`].
pub const LEFT_OUT_KEY: &[u8] = b"left-out";

/// The record of the times in which uses of files are noted, in [`crate::Family::State`].
pub(crate) const USES_KEY: &[u8] = b"use";
/// What was used stands under this, the number of the time, and the chunk of containers, in [`crate::Family::State`].
const USED_PREFIX: &[u8] = b"use/";

const ID_BYTES: usize = size_of::<u64>();

/// Of what was used of a chunk of containers in one time.
pub(crate) fn used_key(time: u64, chunk: u64) -> Bytes {
    [USED_PREFIX, &time.to_be_bytes(), &chunk.to_be_bytes()].concat().into()
}

pub(crate) fn is_used_key(key: &[u8]) -> bool {
    key.starts_with(USED_PREFIX)
}

/// The keys of all that was used before `time` began, `[start, end)`.
pub(crate) fn used_before(time: u64) -> (Bytes, Bytes) {
    (Bytes::from_static(USED_PREFIX), used_key(time, 0))
}

/// Of [`crate::Family::Inodes`], [`crate::Family::Detached`], and the session in [`crate::Family::Loads`].
pub fn inode_key(inode: InodeId) -> [u8; ID_BYTES] {
    inode.0.to_be_bytes()
}
/// Of [`crate::Family::Containers`] and [`crate::Family::Persists`].
pub fn container_key(container: ContainerId) -> [u8; ID_BYTES] {
    container.0.to_be_bytes()
}
pub fn mount_key(mount: MountId) -> [u8; ID_BYTES] {
    mount.0.to_be_bytes()
}
pub fn intent_key(intent: IntentId) -> [u8; ID_BYTES] {
    intent.0.to_be_bytes()
}
pub fn worker_key(worker: WorkerId) -> [u8; ID_BYTES] {
    worker.0.to_be_bytes()
}

/// Of [`crate::Family::Edges`], and of a name remembered in [`crate::Family::Loads`].
pub fn edge_key(directory: InodeId, name: &Name) -> Bytes {
    place_key(directory, Some(name))
}

/// As [`edge_key`]; no name stands for `/`.
pub(crate) fn place_key(directory: InodeId, name: Option<&Name>) -> Bytes {
    let name = name.map_or("", Name::as_str);
    let mut key = Vec::with_capacity(ID_BYTES + name.len());
    key.extend_from_slice(&directory.0.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    Bytes::from(key)
}

/// The keys of the names in `directory` that come after `after`, `[start, end)`.
pub fn edge_range(directory: InodeId, after: Option<&Name>) -> (Bytes, Bytes) {
    let mut start = place_key(directory, after).to_vec();
    start.push(0); // names hold no NUL: past the session itself, or past `after`
    (Bytes::from(start), place_key(InodeId(directory.0 + 1), None))
}

/// Of an outcome in [`crate::Family::Operations`].
pub fn operation_key(operation: OperationId) -> [u8; 17] {
    let mut key = [0; 17];
    key[1..].copy_from_slice(&operation.0.to_be_bytes());
    key
}

const OPERATION_AGE: u8 = 1;

/// Of the index by age in [`crate::Family::Operations`].
pub(crate) fn operation_age_key(age: AgeMs, operation: OperationId) -> [u8; 25] {
    let mut key = [OPERATION_AGE; 25];
    key[1..9].copy_from_slice(&age.0.to_be_bytes());
    key[9..].copy_from_slice(&operation.0.to_be_bytes());
    key
}

/// The index entries before `age`, `[start, end)`.
pub(crate) fn operation_age_range(before: AgeMs) -> ([u8; 25], [u8; 25]) {
    let zero = OperationId(0);
    (operation_age_key(AgeMs(0), zero), operation_age_key(before, zero))
}

/// Whether a key of [`crate::Family::Operations`] is one of the index by age.
pub(crate) fn is_operation_age_key(key: &[u8]) -> bool {
    key.first() == Some(&OPERATION_AGE)
}

/// The age and id in an index entry.
pub(crate) fn operation_age_of(key: &[u8]) -> Result<(AgeMs, OperationId), StoreError> {
    let parts = key.split_first_chunk::<9>().filter(|_| is_operation_age_key(key));
    let parts = parts.and_then(|(head, id)| Some((head, <[u8; 16]>::try_from(id).ok()?)));
    let (head, id) = parts.ok_or_else(|| damaged("operations", key))?;
    Ok((AgeMs(u64_of("operations", &head[1..])?), OperationId(u128::from_be_bytes(id))))
}

/// Of [`crate::Family::Incomplete`].
pub(crate) fn incomplete_key(opened: AgeMs, container: ContainerId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&opened.0.to_be_bytes());
    key[8..].copy_from_slice(&container.0.to_be_bytes());
    key
}

/// Its parts.
pub(crate) fn incomplete_of(key: &[u8]) -> Result<(AgeMs, ContainerId), StoreError> {
    let (age, container) = key.split_at_checked(ID_BYTES).ok_or_else(|| damaged("incomplete", key))?;
    Ok((AgeMs(u64_of("incomplete", age)?), ContainerId(u64_of("incomplete", container)?)))
}

/// The number a key, or a value that is an id, consists of.
pub(crate) fn u64_of(family: &'static str, bytes: &[u8]) -> Result<u64, StoreError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| damaged(family, bytes))
}

/// The directory and the name in an edge key. No name: `/`.
pub(crate) fn edge_of(key: &[u8]) -> Result<(InodeId, Option<Name>), StoreError> {
    let (directory, name) = key.split_at_checked(ID_BYTES).ok_or_else(|| damaged("edges", key))?;
    let directory = InodeId(u64_of("edges", directory)?);
    if name.is_empty() {
        return Ok((directory, None));
    }
    let name = std::str::from_utf8(name).ok().and_then(|name| Name::new(name).ok());
    Ok((directory, Some(name.ok_or_else(|| damaged("edges", key))?)))
}

/// A key or value that nobody of ours wrote.
pub(crate) fn damaged(family: &'static str, bytes: &[u8]) -> StoreError {
    StoreError { what: format!("read family {family}: {bytes:02x?} is not what it holds"), kind: ErrorKind::Corrupt }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers_and_lead_back() {
        assert!(inode_key(InodeId(255)) < inode_key(InodeId(256)));
        assert!(incomplete_key(AgeMs(1), ContainerId(9)) < incomplete_key(AgeMs(2), ContainerId(1)));
        assert_eq!(incomplete_of(&incomplete_key(AgeMs(7), ContainerId(8))).ok(), Some((AgeMs(7), ContainerId(8))));
        let operation = OperationId(u128::MAX - 3);
        let key = operation_age_key(AgeMs(5), operation);
        assert_eq!(operation_age_of(&key).ok(), Some((AgeMs(5), operation)));
        assert!(operation_age_of(&[&[7], &key[1..]].concat()).is_err(), "no other key is one of the index");
        let (start, end) = operation_age_range(AgeMs(6));
        assert!(start[..] <= key[..] && key[..] < end[..]);
        assert!(operation_key(operation)[..] < start[..], "outcomes and their index do not mix");
    }

    #[test]
    fn a_range_of_names_begins_after_the_one_given_and_ends_with_its_directory() {
        let name = |text: &str| Name::new(text).expect("a good name");
        let (start, end) = edge_range(InodeId(7), Some(&name("b")));
        assert!(edge_key(InodeId(7), &name("b")) < start && start < edge_key(InodeId(7), &name("b!")));
        assert!(edge_key(InodeId(7), &name("\u{10ffff}")) < end && end <= edge_key(InodeId(8), &name("a")));
        let (start, _) = edge_range(InodeId(7), None);
        assert!(inode_key(InodeId(7))[..] < start[..], "a session's own key is no name");
        assert_eq!(edge_of(&edge_key(InodeId(7), &name("b"))).ok(), Some((InodeId(7), Some(name("b")))));
    }
}
