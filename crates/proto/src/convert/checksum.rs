//! `ChecksumTypeProto` of a completed file.

use super::WireError;
use types::ChecksumKind;

/// None for an absent field: the client sent no checksum.
pub fn from_wire(number: Option<i32>) -> Result<Option<ChecksumKind>, WireError> {
    let Some(number) = number else { return Ok(None) };
    match u8::try_from(number).ok().and_then(ChecksumKind::from_number) {
        Some(kind) => Ok(Some(kind)),
        None => Err(WireError::UnknownNumber { what: "the checksum type", number: i64::from(number) }),
    }
}

/// The number of the official wire.
pub fn to_wire(kind: ChecksumKind) -> i32 {
    i32::from(kind.number())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::ChecksumTypeProto;

    #[test]
    fn numbers_lead_back_and_agree_with_the_schema() {
        for kind in ChecksumKind::ALL {
            assert_eq!(from_wire(Some(to_wire(kind))), Ok(Some(kind)));
        }
        assert_eq!(to_wire(ChecksumKind::Crc32c), i32::from(ChecksumTypeProto::ChecksumCrc32c));
        assert_eq!(to_wire(ChecksumKind::Crc32), i32::from(ChecksumTypeProto::ChecksumCrc32));
        assert_eq!(to_wire(ChecksumKind::Null), i32::from(ChecksumTypeProto::ChecksumNull));
        assert_eq!(from_wire(None), Ok(None));
        assert!(from_wire(Some(3)).is_err());
        assert!(from_wire(Some(256)).is_err());
    }
}
