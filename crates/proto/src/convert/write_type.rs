//! `WritePType`, and the `write_policy` of our own service, which counts alike.

use super::WireError;
use types::WriteType;

/// None for 0 and for an absent field: the namespace's policy decides.
pub fn from_wire(number: Option<i32>) -> Result<Option<WriteType>, WireError> {
    match number {
        None | Some(0) => Ok(None),
        Some(number) => WriteType::from_number(number)
            .map(Some)
            .ok_or(WireError::UnknownNumber { what: "the write type", number: i64::from(number) }),
    }
}

/// 0 for None.
pub fn to_wire(kind: Option<WriteType>) -> i32 {
    kind.map_or(0, WriteType::number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::file::WritePType;

    #[test]
    fn numbers_lead_back_and_agree_with_the_schema() {
        for kind in WriteType::ALL.map(Some).into_iter().chain([None]) {
            assert_eq!(from_wire(Some(to_wire(kind))), Ok(kind));
        }
        for kind in WriteType::ALL {
            let member = WritePType::try_from(to_wire(Some(kind))).expect("in the schema");
            assert_eq!(member.as_str_name(), kind.name());
        }
        assert_eq!(from_wire(None), Ok(None));
        assert!(from_wire(Some(7)).is_err());
        assert!(from_wire(Some(-1)).is_err());
    }
}
