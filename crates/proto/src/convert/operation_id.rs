//! `FsOpPId`, two signed halves on the official wire and two unsigned ones on ours.

use super::{WireError, needed};
use crate::{admin, grpc::file::FsOpPId};
use types::OperationId;

/// Both halves must be there.
pub fn from_wire(id: &FsOpPId) -> Result<OperationId, WireError> {
    let high = needed(id.most_significant_bits, "the upper half of the operation id")?;
    let low = needed(id.least_significant_bits, "the lower half of the operation id")?;
    Ok(join(high.cast_unsigned(), low.cast_unsigned()))
}

/// Both halves, upper first.
pub fn to_wire(id: OperationId) -> FsOpPId {
    let (high, low) = split(id);
    FsOpPId { most_significant_bits: Some(high.cast_signed()), least_significant_bits: Some(low.cast_signed()) }
}

/// From our own service: every value is an id.
pub fn from_admin(id: admin::OperationId) -> OperationId {
    join(id.high, id.low)
}

/// For our own service.
pub fn to_admin(id: OperationId) -> admin::OperationId {
    let (high, low) = split(id);
    admin::OperationId { high, low }
}

fn join(high: u64, low: u64) -> OperationId {
    OperationId(u128::from(high) << 64 | u128::from(low))
}

fn split(id: OperationId) -> (u64, u64) {
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("masked to 64 bits");
    (half(id.0 >> 64), half(id.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_lead_back() {
        for id in [0, 1, u128::MAX, 1 << 127, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210].map(OperationId) {
            assert_eq!(from_wire(&to_wire(id)), Ok(id));
            assert_eq!(from_admin(to_admin(id)), id);
        }
        let wire = to_wire(OperationId(u128::MAX));
        assert_eq!((wire.most_significant_bits, wire.least_significant_bits), (Some(-1), Some(-1)));
        assert!(from_wire(&FsOpPId { most_significant_bits: Some(1), least_significant_bits: None }).is_err());
    }
}
