//! Ids: signed on the official wire, unsigned on ours, positive on both.

use super::WireError;
use types::{BlockId, ContainerId, FileId, WorkerId};

/// A block id of the official wire. Errors: not positive, or without a container.
pub fn block(raw: i64) -> Result<BlockId, WireError> {
    BlockId::from_wire(raw).ok_or(WireError::BadNumber {
        what: "block id",
        number: raw,
        rule: "block ids are positive and begin with the number of a container",
    })
}

/// A file id of the official wire. Errors: not positive, or without a container.
pub fn file(raw: i64) -> Result<FileId, WireError> {
    FileId::from_wire(raw).ok_or(WireError::BadNumber {
        what: "file id",
        number: raw,
        rule: "file ids are positive and begin with the number of a container",
    })
}

/// A block id in our internal messages.
pub fn internal_block(raw: u64) -> Result<BlockId, WireError> {
    block(raw.cast_signed())
}

/// A block id for our internal messages.
pub fn internal_block_to_wire(block: BlockId) -> u64 {
    block.to_wire().cast_unsigned()
}

/// A container in our internal messages.
pub fn container(raw: u64) -> Result<ContainerId, WireError> {
    if raw == 0 || raw > ContainerId::MAX.0 {
        let rule = "containers count from 1 and fit 39 bits";
        return Err(WireError::BadNumber { what: "container", number: raw.cast_signed(), rule });
    }
    Ok(ContainerId(raw))
}

/// A worker id of the official wire.
pub fn worker(raw: i64) -> Result<WorkerId, WireError> {
    match u64::try_from(raw) {
        Ok(id) if id > 0 => Ok(WorkerId(id)),
        Ok(_) | Err(_) => Err(WireError::BadNumber { what: "worker id", number: raw, rule: "worker ids are positive" }),
    }
}

/// A worker id for the official wire; ids fit 62 bits.
pub fn worker_to_wire(id: WorkerId) -> i64 {
    id.0.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_back() {
        let id = ContainerId(77).block(3).expect("a small index");
        assert_eq!(block(id.to_wire()), Ok(id));
        assert_eq!(internal_block(internal_block_to_wire(id)), Ok(id));
        assert_eq!(file(ContainerId(77).file().to_wire()), Ok(ContainerId(77).file()));
        assert_eq!(container(77), Ok(ContainerId(77)));
        assert_eq!(worker(worker_to_wire(WorkerId(9))), Ok(WorkerId(9)));
    }

    #[test]
    fn numbers_that_cannot_be_ids_are_refused() {
        assert!(block(0).is_err() && block(-5).is_err() && block(5).is_err());
        assert!(file(0).is_err());
        assert!(internal_block(u64::MAX).is_err());
        assert!(container(0).is_err() && container(u64::MAX).is_err());
        assert!(worker(0).is_err() && worker(-1).is_err());
    }
}
