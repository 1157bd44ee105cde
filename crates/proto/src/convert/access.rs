//! `Access` of our internal service: what a worker asks leave for.

use super::WireError;
use crate::internal::Access;
use types::Right;

/// The right asked for. Errors: an unknown number.
pub fn from_wire(number: i32) -> Result<Right, WireError> {
    Ok(match super::known(number, "the access asked for")? {
        Access::Read => Right::READ,
        Access::Write => Right::WRITE,
    })
}

/// Write if `right` holds it, else read.
pub fn to_wire(right: Right) -> i32 {
    i32::from(if right.bits() & Right::WRITE.bits() != 0 { Access::Write } else { Access::Read })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_lead_back() {
        for right in [Right::READ, Right::WRITE] {
            assert_eq!(from_wire(to_wire(right)), Ok(right));
        }
        assert_eq!(to_wire(Right::READ.and(Right::WRITE)), 1);
        assert!(from_wire(2).is_err());
    }
}
